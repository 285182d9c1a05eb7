# SPDX-License-Identifier: GPL-2.0-or-later
"""The oracle decodes by the rules: what is said here is written by hand, or comes from tshark or the kernel."""

from __future__ import annotations

import collections
import shutil
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.corpus import DADDR4, DADDR6, DST_MAC, SADDR4, SADDR6, SRC_MAC, Frame, by_name, frames
from tests.fix_netns import Pair, mac_bytes
from tests.fix_nflog import NflogReader
from tests.netlink import attribute
from tests.oracle import BRIDGE, INET, INET6, NETDEV, Attribute, Keys, build_message, decode, derive, split

_IP4 = {"ip.saddr": SADDR4, "ip.daddr": DADDR4, "ip.tos": 0, "ip.ttl": 64, "ip.ihl": 5, "ip.id": 1, "ip.fragoff": 0}
_IP6 = {"ip.saddr": SADDR6, "ip.daddr": DADDR6, "ip6.priority": 0, "ip6.flowlabel": 0, "ip6.hoplimit": 64}
_UDP = {"udp.sport": 5000, "udp.dport": 53, "udp.len": 15}
_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg")


def base(frame: Frame, family: int | None = None, **meta: Any) -> Keys:
    """Return the keys of BASE for a frame."""
    family = frame.family if family is None else family
    protocol = frame.tags[0][0] if frame.tags else frame.ethertype
    payload = frame.wire()[14:] if family == BRIDGE else frame.payload
    keys = decode(build_message(payload, family=family, protocol=protocol, **meta))
    assert keys is not None
    return {name: value for name, value in keys.items() if not name.startswith(("raw.", "oob."))}


def without_checksums(keys: Keys) -> Keys:
    return {name: value for name, value in keys.items() if not name.endswith(".csum")}


# -- the packet -------------------------------------------------------------------------------------------------------

_TCP = {"tcp.sport": 40000, "tcp.dport": 80, "tcp.seq": 0x01020304, "tcp.ackseq": 0, "tcp.window": 64240}
_TCP |= {"tcp.offset": 5, "tcp.reserved": 0, "tcp.res1": 0, "tcp.res2": 0} | {f"tcp.{flag}": 0 for flag in _FLAGS}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("udp4", _IP4 | _UDP | {"ip.protocol": 17, "ip.totlen": 35}),
        ("tcp4-syn", _IP4 | _TCP | {"ip.protocol": 6, "ip.totlen": 40, "tcp.syn": 1}),
        (
            "tcp4-all",
            _IP4
            | _TCP
            | {"ip.protocol": 6, "ip.totlen": 40, "tcp.res2": 3, "tcp.urgp": 77}
            | {f"tcp.{flag}": 1 for flag in _FLAGS},
        ),
        (
            "tcp4-reserved-15",
            _IP4 | _TCP | {"ip.protocol": 6, "ip.totlen": 40, "tcp.ack": 1, "tcp.reserved": 15, "tcp.res1": 15},
        ),
        (
            "udplite4-12",
            _IP4 | {"ip.protocol": 136, "ip.totlen": 35, "udp.sport": 5000, "udp.dport": 53, "udplite.coverage": 12},
        ),
        (
            "icmp-unreachable-4",
            _IP4 | {"ip.protocol": 1, "ip.totlen": 56, "icmp.type": 3, "icmp.code": 4, "icmp.fragmtu": 1400},
        ),
        ("icmp-unreachable-3", _IP4 | {"ip.protocol": 1, "ip.totlen": 56, "icmp.type": 3, "icmp.code": 3}),
        (
            "icmp-redirect-1",
            _IP4
            | {"ip.protocol": 1, "ip.totlen": 56, "icmp.type": 5, "icmp.code": 1}
            | {"icmp.gateway": bytes([10, 77, 0, 254])},
        ),
        (
            "icmp-echo-request-code-5",
            _IP4
            | {"ip.protocol": 1, "ip.totlen": 28, "icmp.type": 8, "icmp.code": 5}
            | {"icmp.echoid": 0x1234, "icmp.echoseq": 7},
        ),
        (
            "sctp4-bare",
            _IP4 | {"ip.protocol": 132, "ip.totlen": 32, "sctp.sport": 36412, "sctp.dport": 36412},
        ),
        ("esp4", _IP4 | {"ip.protocol": 50, "ip.totlen": 60, "ahesp.spi": 0xA1B2C3D4}),
        ("ah4-tcp", _IP4 | {"ip.protocol": 51, "ip.totlen": 64, "ahesp.spi": 0x11223344}),
        ("ip4-header-only-tcp", _IP4 | {"ip.protocol": 6, "ip.totlen": 20}),
        ("frag4-udp-last", _IP4 | {"ip.protocol": 17, "ip.totlen": 36, "ip.id": 99, "ip.fragoff": 8}),
        ("padded4-tiny-tcp", _IP4 | {"ip.protocol": 6, "ip.totlen": 32}),
        ("wrong4-ihl-4", _IP4 | {"ip.protocol": 6, "ip.totlen": 40, "ip.ihl": 4}),
        ("wrong4-totlen-19", _IP4 | {"ip.protocol": 6, "ip.totlen": 19}),
        ("wrong4-totlen-0", _IP4 | _TCP | {"ip.protocol": 6, "ip.totlen": 0, "tcp.syn": 1}),
        ("wrong4-version-6", {}),
        ("udp6", _IP6 | _UDP | {"ip6.payloadlen": 15, "ip6.nexthdr": 17, "ip.protocol": 17}),
        (
            "ip6-class-and-flow",
            _IP6
            | _UDP
            | {"ip6.payloadlen": 15, "ip6.nexthdr": 17, "ip.protocol": 17}
            | {"ip6.priority": 0x5A, "ip6.flowlabel": 0x12345},
        ),
        (
            "ext6-chain-all",
            _IP6
            | _TCP
            | {"ip6.payloadlen": 52, "ip6.nexthdr": 6, "ip.protocol": 6, "tcp.syn": 1}
            | {"ip6.fragoff": 0, "ip6.fragid": 0xABCD},
        ),
        (
            "ext6-chain-ah",
            _IP6 | _UDP | {"ip6.payloadlen": 55, "ip6.nexthdr": 17, "ip.protocol": 17, "ahesp.spi": 0x11223344},
        ),
        ("ext6-mobility-17", _IP6 | _UDP | {"ip6.payloadlen": 23, "ip6.nexthdr": 17, "ip.protocol": 17}),
        ("ext6-mobility-none-data", _IP6 | {"ip6.payloadlen": 16, "ip6.nexthdr": 135, "ip.protocol": 135}),
        ("ext6-hop-none", _IP6 | {"ip6.payloadlen": 8, "ip6.nexthdr": 59, "ip.protocol": 59}),
        ("esp6", _IP6 | {"ip6.payloadlen": 40, "ip6.nexthdr": 50, "ip.protocol": 50, "ahesp.spi": 0xA1B2C3D4}),
        ("frag6-later-17", _IP6 | {"ip6.payloadlen": 32, "ip6.nexthdr": 17, "ip6.fragoff": 1448, "ip6.fragid": 0xABCD}),
        ("cut-chain6-55", _IP6 | {"ip6.payloadlen": 36, "ip6.nexthdr": 44}),
        ("cut-ah6-63", _IP6 | {"ip6.payloadlen": 44, "ip6.nexthdr": 51}),
        ("padded6-extension", _IP6 | {"ip6.payloadlen": 8, "ip6.nexthdr": 17, "ip.protocol": 17}),
        (
            "icmpv6-echo-128",
            _IP6
            | {"ip6.payloadlen": 16, "ip6.nexthdr": 58, "ip.protocol": 58, "icmpv6.type": 128, "icmpv6.code": 0}
            | {"icmpv6.echoid": 0x4321, "icmpv6.echoseq": 9},
        ),
        ("icmp-over-ipv6", _IP6 | {"ip6.payloadlen": 8, "ip6.nexthdr": 1, "ip.protocol": 1}),
        (
            "arp-request",
            {"arp.hwtype": 1, "arp.protocoltype": 0x0800, "arp.operation": 1}
            | {"arp.shwaddr": SRC_MAC, "arp.saddr": SADDR4, "arp.dhwaddr": bytes(6), "arp.daddr": DADDR4},
        ),
        ("arp-cut-8", {"arp.hwtype": 1, "arp.protocoltype": 0x0800, "arp.operation": 1}),
        ("arp-hlen-8", {"arp.hwtype": 1, "arp.protocoltype": 0x0800, "arp.operation": 1}),
        ("arp-cut-7", {}),
        (
            "vlan-qinq-ip4",
            _IP4
            | _UDP
            | {"ip.protocol": 17, "ip.totlen": 35}
            | {"vlan.protocol": 0x88A8, "vlan.id": 200, "vlan.priority": 0},
        ),
        ("vlan-three-ip4", {"vlan.protocol": 0x88A8, "vlan.id": 1, "vlan.priority": 0}),
        ("vlan-qinq-cut", {"vlan.protocol": 0x88A8, "vlan.id": 200, "vlan.priority": 0}),
        ("ether-experimental", {}),
    ],
)
def test_packet(name: str, expected: Keys) -> None:
    assert without_checksums(base(by_name(name))) == expected


@pytest.mark.parametrize(
    ("name", "checksum"),
    [("wrong4-checksum", {"ip.csum": 0xDEAD}), ("udp4-bad-checksum", {"udp.csum": 0x1234, "ip.csum": 0x662D})],
)
def test_checksums_are_those_of_the_packet(name: str, checksum: Keys) -> None:
    assert base(by_name(name)).items() >= checksum.items()


@pytest.mark.parametrize("family", [BRIDGE, NETDEV])
def test_bridge_and_netdev_decode_by_ethertype(family: int) -> None:
    for frame in frames():
        if frame.family in (INET, INET6, oracle.ARP):
            assert base(frame, family) == base(frame)


def test_tag_taken_off_by_the_kernel_comes_before_one_in_the_payload() -> None:
    frame = Frame("", BRIDGE, 0x0800, by_name("udp4").payload, tags=((0x8100, 100),))
    keys = base(frame, vlan=(0x88A8, 5 << 13 | 200))
    assert keys.items() >= {"vlan.protocol": 0x88A8, "vlan.id": 200, "vlan.priority": 5, "udp.dport": 53}.items()


def test_egress_of_a_device_has_the_link_header_in_the_payload() -> None:
    for name in ("udp4", "tcp6-syn", "arp-request", "vlan-q-ip6", "vlan-qinq-ip4"):
        frame = by_name(name)
        wire = frame.wire()
        egress = decode(build_message(wire, family=NETDEV, hook=1, protocol=frame.ethertype, l2hdr=wire[:14]))
        assert egress is not None
        assert egress.items() >= base(frame).items()
    # At ingress the same bytes are no IP packet.
    ingress = decode(build_message(by_name("udp4").wire(), family=NETDEV, hook=0))
    assert ingress is not None
    assert "ip.ttl" not in ingress


# -- the message ------------------------------------------------------------------------------------------------------


def test_every_attribute() -> None:
    message = build_message(
        b"\x15\x16",
        family=BRIDGE,
        group=7,
        protocol=0x88B5,
        hook=4,
        prefix=b"gr\xfcn",
        mark=0xDEADBEEF,
        time=(2**32 + 5, 999_999),
        indev=1,
        outdev=2,
        physindev=3,
        physoutdev=2**31,
        hwheader=bytes(range(14)),
        hwtype=1,
        hwaddr=bytes.fromhex("0a0b0c0d0e0f"),
        uid=1000,
        gid=2**32 - 2,
        seq=23,
        seq_global=42,
        vlan=(0x8100, 0xB064),
        l2hdr=b"l2",
        ct=b"ct",
    )
    assert decode(message, label=200) == {
        "raw.pkt": b"\x15\x16",
        "raw.pktlen": 2,
        "raw.pktcount": 1,
        "raw.label": 200,
        "raw.mac": bytes(range(14)),
        "raw.mac_len": 14,
        "raw.type": 1,
        "raw.mac.saddr": bytes.fromhex("0a0b0c0d0e0f"),
        "raw.mac.addrlen": 6,
        "raw.l2hdr": b"l2",
        "ct": b"ct",
        "oob.family": 7,
        "oob.protocol": 0x88B5,
        "oob.hook": 4,
        "oob.prefix": b"gr\xfcn",
        "oob.mark": 0xDEADBEEF,
        "oob.time.sec": 5,
        "oob.time.usec": 999_999,
        "oob.ifindex_in": 1,
        "oob.ifindex_out": 2,
        "oob.physindev": 3,
        "oob.physoutdev": 2**31,
        "oob.uid": 1000,
        "oob.gid": 2**32 - 2,
        "oob.seq.local": 23,
        "oob.seq.global": 42,
        "vlan.protocol": 0x8100,
        "vlan.id": 100,
        "vlan.priority": 5,
    }


def test_what_is_valid_without_any_attribute() -> None:
    assert decode(build_message(family=INET6, protocol=None), now=(11, 12), label=3) == {
        "raw.pktcount": 1,
        "raw.label": 3,
        "oob.family": 10,
        "oob.mark": 0,
        "oob.time.sec": 11,
        "oob.time.usec": 12,
    }


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ([(Attribute.MARK, b"\0\0\1")], {"oob.mark": 0}),
        ([(Attribute.MARK, b"\0\0\0\7"), (Attribute.MARK, b"\0\0\1")], {"oob.mark": 7}),
        ([(Attribute.MARK, b"\0\0\0\7"), (Attribute.MARK, b"\0\0\0\x09")], {"oob.mark": 9}),
        ([(Attribute.MARK, b"\0\0\0\7and more")], {"oob.mark": 7}),
        ([(Attribute.MARK | 0x8000, b"\0\0\0\7")], {"oob.mark": 7}),
        ([(Attribute.TIMESTAMP, bytes(7) + b"\5" + bytes(7))], {"oob.time.sec": 11, "oob.time.usec": 12}),
        ([(Attribute.TIMESTAMP, struct.pack(">QQ", 0, 9))], {"oob.time.sec": 11, "oob.time.usec": 12}),
        ([(Attribute.INDEV, bytes(4))], {"oob.ifindex_in": None}),
        ([(Attribute.INDEV, b"\0\0\0\5"), (Attribute.INDEV, bytes(4))], {"oob.ifindex_in": None}),
        ([(Attribute.PREFIX, b"\0")], {"oob.prefix": b""}),
        ([(Attribute.PREFIX, b"ab\0cd\0")], {"oob.prefix": b"ab"}),
        ([(Attribute.PREFIX, b"unended")], {"oob.prefix": b"unended"}),
        ([(Attribute.PAYLOAD, b"")], {"raw.pkt": b"", "raw.pktlen": 0}),
        ([(Attribute.HWHEADER, bytes(14))], {"raw.mac": None, "raw.type": None}),
        ([(Attribute.HWHEADER, b"12345678"), (Attribute.HWLEN, b"\0\3")], {"raw.mac": b"123", "raw.type": 0}),
        (
            [(Attribute.HWHEADER, b"1234"), (Attribute.HWLEN, b"\0\x0e"), (Attribute.HWTYPE, b"\3\4")],
            {"raw.mac_len": 4},
        ),
        ([(Attribute.HWADDR, b"\0\6\0\0abcdefg")], {"raw.mac.saddr": None}),
        ([(Attribute.HWADDR, b"\0\0\0\0abcdefgh")], {"raw.mac.saddr": None, "raw.mac.addrlen": None}),
        ([(Attribute.HWADDR, b"\1\0\0\0abcdefgh")], {"raw.mac.saddr": b"abcdefgh", "raw.mac.addrlen": 8}),
        ([(Attribute.VLAN, attribute(oracle.VLAN_TCI, b"\0\5"))], {"vlan.id": None}),
        ([(Attribute.PACKET_HDR, b"\x08\0\1")], {"oob.hook": None, "oob.protocol": None}),
    ],
)
def test_attributes_that_are_odd(extra: list[tuple[int, bytes]], expected: dict[str, Any]) -> None:
    keys = decode(build_message(protocol=None, extra=extra), now=(11, 12))
    assert keys is not None
    assert {name: keys.get(name) for name in expected} == expected


def test_messages_that_are_refused() -> None:
    message = build_message(b"packet")
    assert decode(message) is not None
    assert decode(message[:19]) is None
    assert decode(message[:-1]) is None, "shorter than it says"
    assert decode(struct.pack("=I", 19) + message[4:]) is None
    assert decode(message[:4] + struct.pack("=H", 0x0401) + message[6:]) is None, "another type"
    assert decode(message + b"more") == decode(message)
    for length in (0, 3, 255):
        broken = message + struct.pack("=HH", length, Attribute.MARK) + bytes(4)
        assert decode(struct.pack("=I", len(broken)) + broken[4:]) is None
    for trailing in range(1, 4):
        longer = message + bytes(trailing)
        assert decode(struct.pack("=I", len(longer)) + longer[4:]) == decode(message)


def test_split() -> None:
    one, two = build_message(b"12345"), build_message(b"1234")
    assert split(one + two) == [one, two]
    odd = struct.pack("=I", len(one) - 3) + one[4:-3]
    assert split(odd + bytes(3) + two) == [odd, two]
    assert split(one + two[:-1]) == [one]
    assert split(one + bytes(16)) == [one]
    assert split(b"") == []


# -- the filters ------------------------------------------------------------------------------------------------------


def test_derived_addresses_and_names() -> None:
    keys = base(by_name("ip6-from-mapped"))
    texts = {"ip.saddr.str": "::ffff:10.77.0.2", "ip.daddr.str": "fd77::1"}
    texts |= {"ip.saddr.bin": "0x" + "0" * 20 + "ffff0a4d0002", "ip.daddr.bin": "0xfd77" + "0" * 27 + "1"}
    assert derive(keys, {}) == texts | {"oob.in": "", "oob.out": ""}
    assert derive({"oob.ifindex_in": 3, "oob.ifindex_out": 4}, {3: "va"}) == {"oob.in": "va", "oob.out": ""}
    ports = derive({"oob.physindev": 3, "oob.physoutdev": 4}, {3: "pa"})
    assert (ports["oob.physin"], ports["oob.physout"]) == ("pa", "")
    arp = derive(base(by_name("arp-request")), {})
    assert (arp["arp.saddr.str"], arp["arp.daddr.str"]) == ("10.77.0.2", "10.77.0.1")


_HEADER = DST_MAC + SRC_MAC + b"\x86\xdd"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {}),
        ({"oob.protocol": 0x0800}, {"HWHDR:oob.protocol": 0x0800}),
        (
            {"oob.protocol": 0x0800, "raw.mac": _HEADER, "raw.mac_len": 14, "raw.type": 1},
            {"HWHDR:oob.protocol": 0x86DD, "HWHDR:raw.type": 1, "mac.str": _HEADER.hex(":")}
            | {"mac.saddr.str": "02:77:00:00:00:02", "mac.daddr.str": "02:77:00:00:00:01"},
        ),
        (
            {"oob.protocol": 0x0800, "raw.mac": _HEADER, "raw.mac_len": 14, "raw.type": 772},
            {"HWHDR:oob.protocol": 0x0800, "HWHDR:raw.type": 772, "mac.str": _HEADER.hex(":")},
        ),
        (
            {"raw.mac": _HEADER[:13], "raw.mac_len": 13, "raw.type": 1, "raw.mac.saddr": b"\1\2", "raw.mac.addrlen": 2},
            {"HWHDR:raw.type": 1, "mac.str": _HEADER[:13].hex(":"), "mac.saddr.str": "01:02"},
        ),
        (
            {"raw.mac.saddr": bytes.fromhex("0a0b0c0d0e0f"), "raw.mac.addrlen": 6},
            {"HWHDR:raw.type": 65535, "mac.saddr.str": "0a:0b:0c:0d:0e:0f"},
        ),
    ],
)
def test_hardware_header(keys: Keys, expected: Keys) -> None:
    assert derive(keys, {}) == expected | {"oob.in": "", "oob.out": ""}


# -- robustness -------------------------------------------------------------------------------------------------------


def test_truncated_packets_have_no_keys_the_whole_has_not() -> None:
    # What a header says does not change; only which header is the last one reached depends on the rest.
    of_the_last = ("ip6.nexthdr", "ip6.fragoff", "ip6.fragid", "ahesp.spi")
    for frame in frames():
        whole = base(frame)
        for length in range(len(frame.payload)):
            cut = base(Frame("", frame.family, frame.ethertype, frame.payload[:length], tags=frame.tags))
            assert {item for item in cut.items() if item[0] not in of_the_last} <= whole.items(), (frame.name, length)


@given(st.sampled_from(frames()), st.sampled_from([2, 3, 5, 7, 10, 12]), st.data())
def test_mutated_messages_never_raise(frame: Frame, family: int, data: st.DataObject) -> None:
    message = bytearray(build_message(frame.payload, family=family, protocol=frame.ethertype, hwheader=bytes(14)))
    for _ in range(data.draw(st.integers(0, 8))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    for part in split(bytes(message)):
        keys = decode(part)
        if keys is not None:
            derive(keys, {})


def test_corpus() -> None:
    assert len(frames()) >= 300
    assert len({frame.name for frame in frames()}) == len(frames())
    assert by_name("vlan-q-ip4").wire()[12:20] == bytes.fromhex("8100 0064 0800 4500")


# -- other people's opinion -------------------------------------------------------------------------------------------

#: Our keys and tshark's fields of the same meaning and unit.
_FIELDS = {
    "ip.tos": "ip.dsfield",
    "ip.ttl": "ip.ttl",
    "ip.totlen": "ip.len",
    "ip.id": "ip.id",
    "ip.csum": "ip.checksum",
    "ip6.priority": "ipv6.tclass",
    "ip6.flowlabel": "ipv6.flow",
    "ip6.payloadlen": "ipv6.plen",
    "ip6.hoplimit": "ipv6.hlim",
    "ip6.fragid": "ipv6.fraghdr.ident",
    "tcp.sport": "tcp.srcport",
    "tcp.dport": "tcp.dstport",
    "tcp.seq": "tcp.seq_raw",
    "tcp.ackseq": "tcp.ack_raw",
    "tcp.window": "tcp.window_size_value",
    "tcp.csum": "tcp.checksum",
    "udp.sport": "udp.srcport",
    "udp.dport": "udp.dstport",
    "udp.len": "udp.length",
    "udp.csum": "udp.checksum",
    "udplite.coverage": "udp.checksum_coverage",
    "icmp.type": "icmp.type",
    "icmp.code": "icmp.code",
    "icmp.csum": "icmp.checksum",
    "icmp.echoid": "icmp.ident",
    "icmp.echoseq": "icmp.seq",
    "icmp.fragmtu": "icmp.mtu",
    "icmpv6.type": "icmpv6.type",
    "icmpv6.code": "icmpv6.code",
    "icmpv6.csum": "icmpv6.checksum",
    "sctp.sport": "sctp.srcport",
    "sctp.dport": "sctp.dstport",
    "sctp.csum": "sctp.checksum",
    "arp.hwtype": "arp.hw.type",
    "arp.protocoltype": "arp.proto.type",
    "arp.operation": "arp.opcode",
    "vlan.id": "vlan.id",
    "vlan.priority": "vlan.priority",
}


def test_tshark_agrees(tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    # Of two fragment headers tshark shows the first, we (as ulogd2) the last; an 802.1ad tag has other fields there.
    chosen = [frame for frame in frames() if frame.valid or (frame.tags and frame.tags[0][0] == oracle.ETH_VLAN)]
    chosen.remove(by_name("frag6-twice"))
    capture = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for frame in chosen:
        capture += struct.pack("<IIII", 0, 0, len(frame.wire()), len(frame.wire())) + frame.wire()
    (tmp_path / "corpus.pcap").write_bytes(capture)
    options = ["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-E", "occurrence=f", "-T", "fields"]
    fields = [argument for field in _FIELDS.values() for argument in ("-e", field)]
    command = ["tshark", "-n", "-r", str(tmp_path / "corpus.pcap"), *options, *fields]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    compared: collections.Counter[str] = collections.Counter()
    for frame, line in zip(chosen, output, strict=True):
        keys = base(frame, vlan=frame.tags[0]) if frame.tags else base(frame)
        for name, text in zip(_FIELDS, line.split("\t"), strict=True):
            # Inside ICMP errors and tunnels tshark decodes on; a field of ours that it lacks, it calls bogus.
            if name in keys and text:
                assert keys[name] == int(text, 0), (frame.name, name)
                compared[name] += 1
    assert compared.keys() == _FIELDS.keys()
    assert compared.total() > 2000


@pytest.mark.kernel
def test_messages_of_the_kernel(pair: Pair) -> None:
    pair.fw.nft(
        "table inet t {\n counter logged { }\n chain c {\n type filter hook input priority 0\n"
        ' udp dport 9 meta mark set 7 counter name logged log prefix "twenty-three" group 5\n }\n}\n'
    )
    with NflogReader(pair.fw, 5) as reader:
        pair.send_udp(23, size=11, source=pair.PEER6, source_port=4000)
        messages = reader.messages(23)
        assert reader.rest() == []
    assert pair.fw.counter("logged") == 23
    header = mac_bytes(pair.FW_MAC) + mac_bytes(pair.PEER_MAC) + b"\x86\xdd"
    expected = {
        "raw.pktlen": 59,
        "raw.pktcount": 1,
        "raw.label": 0,
        "raw.mac": header,
        "raw.mac_len": 14,
        "raw.type": 1,
        "raw.mac.saddr": mac_bytes(pair.PEER_MAC),
        "raw.mac.addrlen": 6,
        "oob.family": INET6,
        "oob.protocol": 0x86DD,
        "oob.hook": 1,
        "oob.prefix": b"twenty-three",
        "oob.mark": 7,
        "oob.ifindex_in": pair.fw.index("va"),
        "ip.saddr": socket.inet_pton(socket.AF_INET6, pair.PEER6),
        "ip.daddr": socket.inet_pton(socket.AF_INET6, pair.FW6),
        "ip6.priority": 0,
        "ip6.payloadlen": 19,
        "ip6.hoplimit": 64,
        "ip6.nexthdr": 17,
        "ip.protocol": 17,
        "udp.sport": 4000,
        "udp.dport": 9,
        "udp.len": 19,
    }
    for number, message in enumerate(messages):
        keys = decode(message)
        assert keys is not None
        packet = keys.pop("raw.pkt")
        assert isinstance(packet, bytes)
        assert packet[48:] == bytes(range(11))
        # The kernel chooses the time, the flow label and (by offload) the checksum.
        for name in ("oob.time.sec", "oob.time.usec", "ip6.flowlabel", "udp.csum"):
            assert isinstance(keys.pop(name), int)
        assert keys == expected | {"oob.seq.local": number, "oob.seq.global": number + 1}
