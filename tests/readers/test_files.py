# SPDX-License-Identifier: GPL-2.0-or-later
"""Capture files: the same records as a group's, of every link type and format; what is cut or wrong is reported."""

from __future__ import annotations

import contextlib
import errno
import gzip
import importlib
import io
import itertools
import os
import random
import re
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nflowlevel as nfl
from nflowlevel.binding._lib import lib
from nflowlevel.binding.buffers import DATA_BYTES
from nflowlevel.errors import CaptureError, NflowError, NotSupported
from nflowlevel.readers.files import LINK_TYPES, NOT_IN_CAPTURES, Capture, read_pcap
from nflowlevel.records.keys import PACKET_KEYS
from tests import captures, oracle
from tests.captures import NATIVE, NOW_NS, OTHER, Captured, pcap, pcapng, udp_packets
from tests.corpus import ARP, IPV4, IPV6, Frame, by_name, frames
from tests.fix_decoder import LABEL, decode, difference
from tests.fix_group import run_python
from tests.fix_interrupt import interrupt_everywhere
from tests.messages import FULL, message_of

TIME = (NOW_NS // 10**9, NOW_NS % 10**9 // 1000)

FORMATS = {
    f"{kind.__name__}-{'nano' if nano else 'micro'}-{'native' if order == NATIVE else 'other'}": (kind, order, nano)
    for kind, order, nano in itertools.product((pcap, pcapng), (NATIVE, OTHER), (False, True))
}


def read(data: bytes, **options: Any) -> list[dict[str, Any]]:
    """Return all keys of all packets of a file."""
    with read_pcap(io.BytesIO(data), label=LABEL, **options) as packets:
        return [keys for batch in packets.batches() for keys in batch.to_dicts()]


def group_says(messages: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return what a group's packets would hold."""
    return decode(messages, now=TIME).batch.to_dicts()


def assert_equal(got: Sequence[dict[str, Any]], want: Sequence[dict[str, Any]], without: Iterable[str] = ()) -> None:
    assert len(got) == len(want)
    for number, (one, other) in enumerate(zip(got, want, strict=True)):
        left = {name: value for name, value in other.items() if name not in without}
        assert one == left, f"packet {number}: {difference(one, left)}"


# -- the corpus as each link type -------------------------------------------------------------------------------------


def family_of(frame: Frame) -> int:
    return {IPV4: 2, IPV6: 10, ARP: 3}.get(frame.ethertype if len(frame.tags) < 2 else 0, 7)


def kernel_message(frame: Frame, **more: Any) -> bytes:
    """What the kernel would send: of a tagged frame without the outermost tag, which only a bridge shows beside it."""
    return message_of(frame, 7 if frame.tags else None, **more)


def in_network_families(frame_list: Sequence[Frame], **more: Any) -> list[dict[str, Any]]:
    """What the group says, `oob.family` being that of the packet."""
    made = group_says([kernel_message(frame, **more) for frame in frame_list])
    for keys, frame in zip(made, frame_list, strict=True):
        keys["oob.family"] = family_of(frame)
        if frame.ethertype < 0x600:
            keys["oob.protocol"] = captures.kernel_protocol(frame)
    return made


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("snaplen", [262144, 68, 34, 15])
def test_ethernet(name: str, snaplen: int) -> None:
    kind, order, nano = FORMATS[name]
    packets = [Captured(frame.wire()).cut(snaplen) for frame in frames()]
    got = read(kind(packets, captures.ETHERNET, order=order, nano=nano))
    cut = [
        Frame(f.name, f.family, f.ethertype, f.payload[: max(0, snaplen - len(f.l2header()))], f.valid, f.tags)
        for f in frames()
        if len(f.l2header()) <= snaplen
    ]
    if snaplen < 26:
        # Of some frames not even the tags are there, and what stands beside them is not in the corpus.
        rest = [keys for frame, keys in zip(frames(), got, strict=True) if len(frame.l2header()) <= snaplen]
        assert len(rest) == len(cut) < len(got)
        got = rest
    want = in_network_families(cut)
    _with_interface(want, kind)
    assert_equal(got, want, NOT_IN_CAPTURES)


#: How a file says that frames have their checksum behind them: with so many bytes, for so many that are told.
_TOLD: dict[str, Callable[[Sequence[Captured], str], bytes]] = {
    "pcap": lambda packets, order: pcap(packets, captures.ETHERNET | 1 << 26 | 2 << 28, order=order),
    "if_fcslen in bits": lambda packets, order: _fcs_section(packets, order, 32),
    "if_fcslen in bytes": lambda packets, order: _fcs_section(packets, order, 4),
    # Each packet may say it, against what its interface says.
    "flags": lambda packets, order: _fcs_section([replace(p, flags=1 | 4 << 5) for p in packets], order, 16),
    "simple": lambda packets, order: (
        captures.section(order)
        + captures.interface(captures.ETHERNET, order=order, name=b"eth7", snaplen=len(packets[0].data), fcslen=32)
        + b"".join(captures.simple_block(p, order=order) for p in packets)
    ),
}


def _fcs_section(packets: Sequence[Captured], order: str, fcslen: int) -> bytes:
    head = captures.section(order) + captures.interface(captures.ETHERNET, order=order, name=b"eth7", fcslen=fcslen)
    return head + b"".join(captures.packet_block(p, order=order) for p in packets)


@pytest.mark.parametrize("order", [NATIVE, OTHER])
@pytest.mark.parametrize("told", _TOLD)
def test_the_checksum_of_frames_is_no_part_of_them(told: str, order: str) -> None:
    """The driver has taken it off before Netfilter sees a packet; what is left of it by a snaplen goes, too."""
    fcs = b"\xde\xad\xbe\xef"
    chosen = frames()[:1] if told == "simple" else frames()
    without = read(pcapng([Captured(frame.wire()) for frame in chosen], captures.ETHERNET, order=order))
    if told == "pcap":
        without = read(pcap([Captured(frame.wire()) for frame in chosen], captures.ETHERNET, order=order))
    for left in range(5):
        packets = [Captured(frame.wire() + fcs[:left], original=len(frame.wire()) + 4) for frame in chosen]
        with read_pcap(io.BytesIO(_TOLD[told](packets, order)), label=LABEL) as capture:
            got = [packet.to_dict() for packet in capture]
            assert capture.stats.snapped == 0, "all of the packets is there"
        if told == "simple":
            got[0].update({name: without[0][name] for name in ("oob.time.sec", "oob.time.usec")})
        assert_equal(got, without)


@pytest.mark.parametrize(
    ("linktype", "fcs"),
    [
        (captures.ETHERNET | 2 << 28, 0),  # it is not known: the bit that says so is not set
        (captures.ETHERNET | 1 << 26, 0),
        (captures.ETHERNET | 1 << 26 | 1 << 28, 2),
        (captures.ETHERNET | 1 << 26 | 15 << 28, 30),
        (captures.RAW | 1 << 26 | 2 << 28, 0),  # no frames of Ethernet
    ],
)
def test_how_long_the_checksum_is(linktype: int, fcs: int) -> None:
    frame = by_name("udp4")
    data = (frame.payload if linktype & 0xFFFF == captures.RAW else frame.wire()) + bytes(40)
    (keys,) = read(pcap([Captured(data)], linktype))
    assert keys["raw.pktlen"] == len(frame.payload) + 40 - fcs


def test_a_frame_that_is_nothing_but_checksum() -> None:
    linktype = captures.ETHERNET | 1 << 26 | 2 << 28
    frame = by_name("udp4")
    data = pcap([Captured(b"abc"), Captured(b"", original=2), Captured(frame.wire() + b"fcs!", original=1)], linktype)
    with read_pcap(io.BytesIO(data)) as capture:
        (packet,) = capture
        assert bytes(packet.payload or b"") == frame.payload
        assert (capture.stats.malformed, capture.stats.snapped) == (2, 0)


def _with_interface(want: list[dict[str, Any]], kind: Any) -> None:
    for keys in want:
        if kind is pcapng:
            keys.update({"oob.ifindex_in": 1, "oob.in": "eth7"})


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("linktype", "made"), [(captures.SLL, captures.cooked), (captures.SLL2, captures.cooked2)])
def test_linux_cooked(name: str, linktype: int, made: Any) -> None:
    kind, order, nano = FORMATS[name]
    got = read(kind([Captured(made(frame)) for frame in frames()], linktype, order=order, nano=nano))
    want = in_network_families(frames(), hwheader=None)
    if linktype == captures.SLL2:
        for keys in want:
            # The kernel's number; no name.
            keys.update({"oob.ifindex_in": 2})
    else:
        _with_interface(want, kind)
    assert_equal(got, want, NOT_IN_CAPTURES)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("linktype", [captures.IPV4, captures.IPV6])
@pytest.mark.parametrize("snaplen", [262144, 60, 20, 0])
def test_ip(name: str, linktype: int, snaplen: int) -> None:
    kind, order, nano = FORMATS[name]
    family = 2 if linktype == captures.IPV4 else 10
    chosen = [frame for frame in frames() if frame.family == family]
    got = read(kind([Captured(f.payload).cut(snaplen) for f in chosen], linktype, order=order, nano=nano))
    cut = [Frame(f.name, family, f.ethertype, f.payload[:snaplen]) for f in chosen]
    want = in_network_families(cut, hwheader=None, hwaddr=None)
    _with_interface(want, kind)
    assert_equal(got, want, NOT_IN_CAPTURES)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("linktype", [captures.RAW, captures.DLT_RAW, captures.DLT_RAW_OPENBSD])
def test_raw_ip_is_told_by_its_first_byte(name: str, linktype: int) -> None:
    kind, order, nano = FORMATS[name]
    got = read(kind([Captured(f.payload) for f in frames()], linktype, order=order, nano=nano))
    want = []
    for frame in frames():
        version = frame.payload[0] >> 4 if frame.payload else 0
        seen = Frame(frame.name, {4: 2, 6: 10}.get(version, 0), {4: IPV4, 6: IPV6}.get(version, 0), frame.payload)
        (keys,) = group_says([message_of(seen, hwheader=None, hwaddr=None)])
        if version not in (4, 6):
            del keys["oob.protocol"]
        want.append(keys)
    _with_interface(want, kind)
    assert_equal(got, want, NOT_IN_CAPTURES)


@pytest.mark.parametrize("name", FORMATS)
def test_nflog_has_all_that_the_kernel_said(name: str) -> None:
    kind, order, nano = FORMATS[name]
    messages = [message_of(frame) for frame in frames()]
    messages += [message_of(frame, oracle.BRIDGE, **FULL) for frame in frames()]
    messages += [
        oracle.build_message(b"", hwaddr=b""),
        oracle.build_message(None),
        oracle.build_message(b"abc", time=(0, 7)),
    ]
    packets = [Captured(captures.nflog(message, order)) for message in messages]
    got = read(kind(packets, captures.NFLOG, order=order, nano=nano))
    want = [keys for at in range(0, len(messages), 1000) for keys in group_says(messages[at : at + 1000])]
    unnamed = ("oob.in", "oob.out", "oob.physin", "oob.physout")
    for keys in want:
        # The file does not say what the kernel's numbers mean.
        keys.update({name: "" for name in unnamed if name in keys})
    assert_equal(got, want)


@pytest.mark.parametrize("order", [NATIVE, OTHER])
def test_nflog_cut_by_snaplen(order: str) -> None:
    frame = by_name("tcp4-data")
    whole_one = captures.nflog(message_of(frame, prefix=b"cut me", mark=5), order)
    (all_keys,) = read(pcap([Captured(whole_one)], captures.NFLOG, order=order))
    packets = [Captured(whole_one).cut(length) for length in range(len(whole_one))]
    found = []
    with read_pcap(io.BytesIO(pcap(packets, captures.NFLOG, order=order)), label=LABEL) as opened:
        found = [keys for batch in opened.batches() for keys in batch.to_dicts()]
        assert (opened.stats.malformed, opened.stats.snapped) == (4, len(packets) - 4)
    assert len(found) == len(packets) - 4
    payload = [keys["raw.pkt"] for keys in found if "raw.pkt" in keys]
    assert payload == [frame.payload[:length] for length in range(len(payload))]
    assert len(payload) > 50
    for keys in found:
        for key in ("oob.prefix", "oob.mark", "oob.hook", "ip.saddr", "raw.mac"):
            assert keys.get(key) in (None, 0, all_keys[key])
    assert [keys for keys in found if keys.get("tcp.dport") == 80]


def test_which_keys_a_capture_has() -> None:
    """`NOT_IN_CAPTURES` is neither too long nor too short: the others all come from some file."""
    seen: set[str] = set()
    for linktype, made in ((captures.ETHERNET, Frame.wire), (captures.SLL2, captures.cooked2)):
        packets = [Captured(made(frame), flags=flags) for frame in frames() for flags in (1, 2)]
        head = captures.section() + captures.interface(linktype, name=b"eth7")
        data = head + b"".join(map(captures.packet_block, packets))
        seen.update(name for keys in read(data) for name in keys)
    assert PACKET_KEYS.keys() - seen == NOT_IN_CAPTURES


# -- pcapng -----------------------------------------------------------------------------------------------------------


def test_interfaces_have_names_and_directions() -> None:
    one = udp_packets(1)[0].data
    data = captures.section() + captures.interface(captures.RAW, name="Büro".encode())
    data += captures.interface(captures.RAW) + captures.interface(captures.RAW, name=b"out\0\0")
    for number, flags in ((0, None), (1, captures.INBOUND), (2, captures.OUTBOUND), (0, 0), (2, 0xFFFFFFFF)):
        data += captures.packet_block(Captured(one, flags=flags, interface=number))
        data += captures.packet_block(Captured(one, flags=flags, interface=number), old=True)
    with read_pcap(io.BytesIO(data)) as packets:
        (batch,) = packets.batches()
        rows = batch.rows("oob.ifindex_in", "oob.in", "oob.ifindex_out", "oob.out")
    wanted = [
        (1, "Büro", None, ""), (2, "", None, ""), (None, "", 3, "out"), (1, "Büro", None, ""),
        (3, "out", None, ""),
    ]  # fmt: skip
    assert rows == [row for row in wanted for _ in range(2)]


@pytest.mark.parametrize(
    ("tsresol", "units"),
    [(None, 10**6), (0, 1), (3, 10**3), (6, 10**6), (9, 10**9), (12, 10**12), (0x80 | 10, 2**10), (0x80 | 20, 2**20)],
)
@pytest.mark.parametrize("tsoffset", [None, 3600, -3600])
@pytest.mark.parametrize("order", [NATIVE, OTHER])
def test_time_stamps(tsresol: int | None, units: int, tsoffset: int | None, order: str) -> None:
    ns = 4_000_000_123_456_789 if units > 10**9 else NOW_NS
    packet = Captured(udp_packets(1)[0].data, ns)
    data = captures.section(order)
    data += captures.interface(captures.RAW, order=order, tsresol=tsresol, tsoffset=tsoffset)
    data += captures.packet_block(packet, units, order=order)
    (keys,) = read(data)
    stamp = ns * units // 10**9
    seconds, rest = divmod(stamp, units)
    assert keys["oob.time.sec"] == seconds + (tsoffset or 0)
    assert keys["oob.time.usec"] == rest * 10**6 // units


def test_a_fraction_of_more_than_a_second_is_carried() -> None:
    """Broken tools write them."""
    head = pcap([], captures.RAW)
    (keys,) = read(head + struct.pack("=IIII", 5, 2_500_000, 1, 1) + b"\x45")
    assert (keys["oob.time.sec"], keys["oob.time.usec"]) == (7, 500_000)


def test_simple_packets_have_no_time_and_the_snaplen_of_the_interface() -> None:
    data = udp_packets(1, size=43)[0].data
    made = captures.section() + captures.interface(captures.RAW, snaplen=40)
    made += captures.simple_block(Captured(data[:40], original=71)) + captures.simple_block(Captured(data[:39]))
    with read_pcap(io.BytesIO(made)) as packets:
        (batch,) = packets.batches()
        assert batch.rows("raw.pktlen", "oob.time.sec") == [(40, 0), (39, 0)]
        assert packets.stats.snapped == 1


def test_sections_of_either_order_in_one_file() -> None:
    packets = udp_packets(3)
    parts = [
        pcapng([packets[n]], captures.RAW, order=order) for n, order in enumerate((NATIVE, OTHER, NATIVE))
    ]  # fmt: skip
    with read_pcap(io.BytesIO(b"".join(parts))) as opened:
        rows = [row for batch in opened.batches() for row in batch.rows("udp.sport", "oob.ifindex_in", "oob.in")]
    assert rows == [(1, 1, "eth7"), (2, 2, "eth7"), (3, 3, "eth7")]


def test_numbers_of_the_kernel_and_of_the_file_have_not_the_same_names() -> None:
    data = captures.section() + captures.interface(captures.RAW, name=b"eth7")
    data += captures.interface(captures.SLL2, name=b"any")
    raw, cooked = udp_packets(1)[0].data, captures.cooked2(by_name("udp4"), ifindex=1)
    for body, number in ((raw, 0), (raw, 0), (cooked, 1), (raw, 0), (cooked, 1), (cooked[:3], 1), (raw, 0)):
        data += captures.packet_block(Captured(body, interface=number))
    with read_pcap(io.BytesIO(data)) as opened:
        rows = [batch.rows("oob.ifindex_in", "oob.in") for batch in opened.batches()]
        assert opened.stats.malformed == 1
    assert rows == [[(1, "eth7")] * 2, [(1, "")], [(1, "eth7")], [(1, "")], [(1, "eth7")]]


def test_a_wrong_packet_of_the_other_kind_at_the_beginning() -> None:
    data = captures.section() + captures.interface(captures.RAW, name=b"eth7") + captures.interface(captures.SLL2)
    for body, number in ((b"cut", 1), (udp_packets(1)[0].data, 0)):
        data += captures.packet_block(Captured(body, interface=number))
    with read_pcap(io.BytesIO(data)) as opened:
        assert [batch.rows("oob.ifindex_in", "oob.in") for batch in opened.batches()] == [[(1, "eth7")]]


@pytest.mark.parametrize(
    ("options", "index"),
    [
        (captures.option(2, struct.pack("=I", 2)), (None, 1)),
        (captures.option(1, b"x") + captures.option(2, struct.pack("=I", 2)), (None, 1)),
        (captures.option(0, b"") + captures.option(2, struct.pack("=I", 2)), (1, None)),  # behind the end
        (struct.pack("=HHI", 2, 5, 2), (1, None)),  # longer than the block
        (struct.pack("=HHI", 2, 3, 2), (1, None)),  # too short to be flags
        (struct.pack("=HHI", 1, 0xFFFF, 2), (1, None)),
    ],
)
def test_options_of_a_packet(options: bytes, index: tuple[int | None, int | None]) -> None:
    packet = udp_packets(1)[0].data
    head = struct.pack("=IIIII", 0, 0, 0, len(packet), len(packet))
    data = captures.section() + captures.interface(captures.RAW) + captures.block(6, head + packet + options)
    (keys,) = read(data)
    assert (keys.get("oob.ifindex_in"), keys.get("oob.ifindex_out")) == index


@pytest.mark.parametrize("kind", range(6))
def test_packets_that_a_cooked_capture_saw_leave(kind: int) -> None:
    """Kinds 0 to 3 came in, for whomever; 4 was sent by this machine."""
    one, two = bytearray(captures.cooked(by_name("udp4"))), bytearray(captures.cooked2(by_name("udp4"), ifindex=7))
    one[1], two[10] = kind, kind
    data = captures.section() + captures.interface(captures.SLL, name=b"any")
    (first,) = read(data + captures.packet_block(Captured(bytes(one))))
    (second,) = read(pcap([Captured(bytes(two))], captures.SLL2))
    for keys, index in ((first, 1), (second, 7)):
        ways = keys.get("oob.ifindex_in"), keys.get("oob.ifindex_out")
        assert ways == ((None, index) if kind == 4 else (index, None))


@pytest.mark.parametrize("arphrd", [824, 803, 770])
def test_cooked_packets_whose_protocol_is_no_ethertype(arphrd: int) -> None:
    """Of netlink it is a family: IPv4's EtherType there does not make an IPv4 packet of it."""
    one, two = bytearray(captures.cooked(by_name("udp4"))), bytearray(captures.cooked2(by_name("udp4")))
    one[2:4] = two[8:10] = struct.pack(">H", arphrd)
    for data, linktype in ((one, captures.SLL), (two, captures.SLL2)):
        (keys,) = read(pcap([Captured(bytes(data))], linktype))
        assert keys["oob.family"] == 0
        assert keys["raw.pkt"] == by_name("udp4").payload
        assert keys.keys().isdisjoint(("oob.protocol", "ip.saddr"))


def test_packets_of_an_unknown_link_type_are_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    packet = udp_packets(1)[0].data
    data = captures.section() + captures.interface(147, name=b"usb0") + captures.interface(captures.RAW)
    data += b"".join(captures.packet_block(Captured(packet, interface=n)) for n in (0, 1, 0))
    with read_pcap(io.BytesIO(data)) as opened:
        assert len(list(opened)) == 1
        assert (opened.stats.received, opened.stats.foreign) == (1, 2)
    assert "link type 147 (interface 0 'usb0') are left out" in caplog.text


def test_many_interfaces() -> None:
    data = captures.section()
    for number in range(300):
        data += captures.interface(captures.RAW, name=b"if%d" % number)
        data += captures.packet_block(Captured(udp_packets(1)[0].data, interface=number))
    with read_pcap(io.BytesIO(data)) as opened:
        names = [name for batch in opened.batches() for name in batch.values("oob.in")]
    assert names == [f"if{number}" for number in range(300)]


def test_a_long_block_is_passed_over() -> None:
    """Name resolutions and secrets may be longer than a buffer."""
    packets = udp_packets(2)
    head = captures.section() + captures.interface(captures.RAW)
    data = (
        head
        + captures.packet_block(packets[0])
        + captures.block(4, bytes(DATA_BYTES * 3))
        + captures.packet_block(packets[1])
    )
    assert [keys["udp.sport"] for keys in read(data)] == [1, 2]


# -- many packets, and how they come ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pcap, pcapng])
def test_many_packets(kind: Any) -> None:
    packets = udp_packets(100_003)
    with read_pcap(io.BytesIO(kind(packets, captures.RAW))) as opened:
        batches = list(opened.batches())
        assert opened.at_end
        assert not list(opened.batches(timeout=0.1))
        assert opened.stats.received == 100_003
    ports = [port for batch in batches for port in batch.values("udp.sport")]
    assert ports == [1 + n % 60000 for n in range(100_003)]
    assert len(batches) < 100
    times = [sec * 10**6 + usec for batch in batches for sec, usec in batch.rows("oob.time.sec", "oob.time.usec")]
    assert times == [packet.ns // 1000 for packet in packets]


def test_more_packets_than_a_batch_has_room_for() -> None:
    """Empty packets are so small that the records are full before the buffer is."""
    packets = [Captured(b"", NOW_NS + n * 1000) for n in range(50_000)]
    with read_pcap(io.BytesIO(pcap(packets, captures.IPV4))) as opened:
        times = [usec for batch in opened.batches() for usec in batch.values("oob.time.usec")]
    assert times == [packet.ns // 1000 % 10**6 for packet in packets]


@pytest.mark.parametrize("kind", [pcap, pcapng])
def test_large_packets(kind: Any) -> None:
    sizes = [65_535, 262_144, 1, 262_144, 262_143, 0, 100_000]
    packets = [Captured(bytes([n]) * size) for n, size in enumerate(sizes)]
    with read_pcap(io.BytesIO(kind(packets, captures.IPV4))) as opened:
        payloads = [bytes(payload) for batch in opened.batches() for payload in batch.values("raw.pkt")]
    assert payloads == [packet.data for packet in packets]


class Dribble:
    """A source that gives only a few bytes at a time, and knows only `read`."""

    def __init__(self, data: bytes, seed: int) -> None:
        self._file, self._random = io.BytesIO(data), random.Random(seed)

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._random.choice((1, 2, 3, 7, 16, 17, 100, 5000))))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", FORMATS)
def test_however_the_bytes_come(name: str, seed: int) -> None:
    kind, order, nano = FORMATS[name]
    packets = [Captured(frame.wire()) for frame in frames()[seed::17]]
    data = kind(packets, captures.ETHERNET, order=order, nano=nano)
    with read_pcap(Dribble(data, seed), label=LABEL) as opened:
        assert [keys for batch in opened.batches() for keys in batch.to_dicts()] == read(data)
        assert opened.stats.bytes == len(data)


def test_a_pipe_is_read_as_it_fills() -> None:
    reading, writing = os.pipe()
    packets = udp_packets(3)
    data = pcap(packets, captures.RAW)
    size = 16 + len(packets[0].data)
    with open(reading, "rb", 0) as source, open(writing, "wb", 0) as sink:
        sink.write(data[: -2 * size])
        with read_pcap(source) as opened:
            assert [packet.sport for packet in opened.receive()] == [1]
            sink.write(data[-2 * size : -size])
            assert [packet.sport for packet in opened.receive()] == [2]
            sink.write(data[-size:])
            sink.close()
            assert [packet.sport for packet in opened] == [3]


class Failing:
    """A source that fails now and then, and works again."""

    def __init__(self, data: bytes) -> None:
        self._file, self._calls = io.BytesIO(data), 0

    def readinto(self, view: memoryview) -> int:
        self._calls += 1
        if self._calls % 3 == 0:
            raise OSError(errno.EIO, "a fault of the test's")
        return self._file.readinto(view[:50])

    def read(self, size: int, /) -> bytes:
        raise AssertionError("it has readinto")


@pytest.mark.parametrize("kind", [pcap, pcapng])
def test_after_a_failure_it_goes_on_where_it_was(kind: Any) -> None:
    faults, ports = 0, []
    with read_pcap(_Late(Failing(kind(udp_packets(30, size=111), captures.RAW)))) as opened:
        while not opened.at_end:
            try:
                ports += opened.receive().values("udp.sport")
            except OSError:
                faults += 1
    assert ports == list(range(1, 31))
    assert faults > 10


class _Late:
    """Faults begin after the file header."""

    def __init__(self, source: Failing) -> None:
        self._source = source
        self._head = bytearray(24)
        assert source.readinto(memoryview(self._head)) == 24

    def readinto(self, view: memoryview) -> int:
        if self._head:
            got = min(len(view), len(self._head))
            view[:got] = self._head[:got]
            del self._head[:got]
            return got
        return self._source.readinto(view)

    def read(self, size: int, /) -> bytes:
        raise AssertionError("it has readinto")


def test_a_source_that_does_not_wait() -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    with open(reading, "rb", 0) as source, open(writing, "wb", 0) as sink:
        data = pcap(udp_packets(2), captures.RAW)
        sink.write(data[:-10])
        with read_pcap(source) as opened:
            assert len(opened.receive()) == 1
            with pytest.raises(BlockingIOError, match="no data yet"):
                opened.receive()
            sink.write(data[-10:])
            assert [packet.sport for packet in opened.receive()] == [2]


def test_sources(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(udp_packets(2), captures.RAW))
    with path.open("rb") as buffered, path.open("rb", 0) as raw:
        for source in (path, str(path), buffered, raw, io.BytesIO(path.read_bytes()), Dribble(path.read_bytes(), 1)):
            with nfl.read_pcap(source) as packets:
                assert [packet.sport for packet in packets] == [1, 2], source
        assert not buffered.closed
        assert not raw.closed
    done = subprocess.run(
        [sys.executable, "-c", "import nflowlevel as nfl; print([p.sport for p in nfl.read_pcap('-')])"],
        input=path.read_bytes(), capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == b"[1, 2]\n"


def test_what_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="source must be a path or a binary file object, not int"):
        read_pcap(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="mode 'rb'"):
        read_pcap(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        read_pcap(tmp_path / "none")
    with pytest.raises(ValueError, match="label must be 0 to 255, not 256"):
        read_pcap(io.BytesIO(), label=256)


def test_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(udp_packets(2), captures.RAW))
    before = len(os.listdir("/proc/self/fd"))
    with read_pcap(path) as packets:
        batch = packets.receive()
    assert len(os.listdir("/proc/self/fd")) == before
    packets.close()
    for use in (packets.receive, lambda: next(packets.batches()), lambda: next(iter(packets))):
        with pytest.raises(ValueError, match=f"^capture {path} is closed; open it again with read_pcap$"):
            use()
    assert batch.values("udp.sport") == [1, 2]
    assert repr(batch) == f"<Batch of 2 packets, file {path}>"
    assert repr(batch[:1]) == f"<Batch of 1 packet, file {path}>"
    with pytest.raises(CaptureError):
        read_pcap("/dev/null")
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("compressed", [False, True])
def test_close_ends_a_thread_that_waits_for_a_pipe(tmp_path: Path, compressed: bool) -> None:
    """The pipe has the beginning of a capture, then nothing comes."""
    os.mkfifo(tmp_path / "pipe")
    data = pcap(udp_packets(2), captures.RAW)
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        os.write(writer, gzip.compress(data) if compressed else data)
        packets = read_pcap(tmp_path / "pipe")
        ended: list[object] = []
        reader = threading.Thread(target=lambda: ended.append([len(batch) for batch in packets.batches()]), daemon=True)
        reader.start()
        while packets.stats.received < 2:
            time.sleep(0.001)
        packets.close()
        reader.join(10)
        assert not reader.is_alive()
        assert ended == [[2]]
    finally:
        os.close(writer)


def test_interrupts(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng.gz"
    path.write_bytes(gzip.compress(pcap(udp_packets(2), captures.RAW)))

    def use() -> None:
        with read_pcap(path) as packets:
            batch = packets.receive()
            assert batch.values("udp.sport") == [1, 2]

    interrupt_everywhere(use, least=100)


def test_stop_from_another_thread() -> None:
    with read_pcap(io.BytesIO(pcap(udp_packets(50_000), captures.RAW))) as opened:
        batches = opened.batches()
        first = next(batches)
        thread = threading.Thread(target=opened.stop)
        thread.start()
        thread.join()
        assert not list(batches)
        assert 0 < len(first) < 50_000
        assert not opened.at_end


def test_packets_that_are_kept_meet_a_ceiling() -> None:
    with read_pcap(io.BytesIO(pcap(udp_packets(100_000), captures.RAW)), max_held_bytes=8 << 20) as opened:
        with pytest.raises(NflowError, match="are held"):
            list(opened.batches())
        rest = sum(len(batch) for batch in opened.batches())
        assert rest < 100_000
        assert opened.at_end


def test_a_batch_is_not_overwritten_by_the_next() -> None:
    with read_pcap(io.BytesIO(pcap(udp_packets(20_000), captures.RAW))) as opened:
        first = opened.receive()
        before = first.to_dicts()[:100]
        while opened.receive():
            pass
    assert first.to_dicts()[:100] == before


def test_what_it_says_of_itself() -> None:
    source = io.BytesIO(pcap(udp_packets(3), captures.RAW))
    with read_pcap(source) as opened:
        list(opened)
        assert repr(opened) == "<Capture <BytesIO>: received 3, bytes 276>"


def test_the_daemon_does_not_pay_for_it() -> None:
    code = "import sys, nflowlevel.daemon.main; print('nflowlevel.readers.files' in sys.modules)"
    assert run_python(code).stdout == "False\n"


# -- compressed -------------------------------------------------------------------------------------------------------


def test_gzip(tmp_path: Path) -> None:
    packets = udp_packets(30_000)
    data = pcapng(packets, captures.RAW)
    path = tmp_path / "x.pcapng.gz"
    members = [gzip.compress(data[:1000]), gzip.compress(b""), gzip.compress(data[1000:])]
    for made in (gzip.compress(data), b"".join(members), b"".join(members) + bytes(512)):
        path.write_bytes(made)
        for source in (path, io.BytesIO(made)):
            with read_pcap(source) as opened:
                assert [packet.sport for packet in opened] == [1 + n for n in range(30_000)]
                assert opened.stats.bytes == len(data)


@pytest.mark.parametrize("left", [0.001, 0.3, 0.99])
def test_gzip_that_is_cut(left: float) -> None:
    packets = [Captured(random.Random(n).randbytes(200)) for n in range(3000)]
    data = pcap(packets, captures.IPV4)
    made = gzip.compress(data)
    with read_pcap(io.BytesIO(made[: int(len(made) * left)])) as opened:
        found = []
        with pytest.raises(CaptureError, match="the compressed data ends too early") as caught:
            found += [bytes(payload) for batch in opened.batches() for payload in batch.values("raw.pkt")]
        assert caught.value.packets == opened.stats.received
        assert opened.stats.received > 3000 * left - 5
        assert opened.stats.broken == 1


def test_gzip_that_is_damaged() -> None:
    made = bytearray(gzip.compress(pcap(udp_packets(100_000), captures.RAW), 1))
    made[len(made) // 2 : len(made) // 2 + 50] = bytes(50)
    with read_pcap(io.BytesIO(made), strict=False) as opened:
        assert 1000 < len([None for _ in opened]) < 100_000
        assert opened.error
    with pytest.raises(CaptureError, match="the compressed data is damaged"):
        read_pcap(io.BytesIO(b"\x1f\x8b" + bytes(100)))


def test_zstd_without_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(NotSupported, match="python3-zstandard"):
        read_pcap(io.BytesIO(b"\x28\xb5\x2f\xfd" + bytes(100)))


def test_zstd() -> None:
    zstandard = pytest.importorskip("zstandard")
    packets = udp_packets(30_000)
    data = pcap(packets, captures.RAW)
    edge = 24 + 84 * 10_000
    made = zstandard.compress(data[:edge]) + zstandard.compress(data[edge:])
    with read_pcap(io.BytesIO(made)) as opened:
        assert [packet.sport for packet in opened] == [1 + n for n in range(30_000)]
    # Also where the end of what can be read is no packet's middle.
    for broken, what in (
        (made[:-1], "ends too early"),
        (made[: made.index(b"\x28\xb5\x2f\xfd", 4) + 9], "ends too early|middle of a packet"),
        (made[:-1] + bytes([made[-1] ^ 0xFF]) + b"garbage", "is damaged|ends too early|middle of a packet"),
        (made + b"garbage", "is damaged"),
    ):
        with read_pcap(io.BytesIO(broken), strict=False) as opened:
            assert len(list(opened)) >= 9000
            assert opened.error
            assert re.search(what, str(opened.error))


def test_what_a_few_compressed_bytes_may_become_is_limited() -> None:
    """A zero of a megabyte takes a thousand bytes or less."""
    data = pcap([], captures.RAW) + struct.pack("=IIII", 0, 0, 262144, 262144) + bytes(262144)
    bomb = data + (struct.pack("=IIII", 0, 0, 262144, 262144) + bytes(262144)) * 400
    compressed = [gzip.compress(bomb, 9)]
    with contextlib.suppress(ImportError):
        compressed.append(importlib.import_module("zstandard").compress(bomb))
    for made in compressed:
        assert len(made) < 300_000
        tracemalloc.start()
        with read_pcap(io.BytesIO(made)) as opened:
            assert sum(map(len, opened.batches())) == 401
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
        tracemalloc.stop()


# -- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pcap, pcapng])
def test_a_file_that_is_cut_in_the_middle_of_a_packet(kind: Any) -> None:
    packets = udp_packets(3)
    data = kind(packets, captures.RAW)
    # Where each packet ends.
    edges = [data.index(packet.data) - (16 if kind is pcap else 28) for packet in packets]
    ends = [*edges[1:], edges[2] + edges[1] - edges[0]]
    for end in range(edges[0], ends[2] + 1):
        before = sum(e <= end for e in ends)
        begins = [edges[0], *ends][before]
        with read_pcap(io.BytesIO(data[:end])) as opened:
            ports = []
            if end == begins:
                ports += [packet.sport for packet in opened]
                assert opened.error is None
            else:
                ports += [packet.sport for packet in (opened.receive() if before else ())]
                with pytest.raises(CaptureError) as caught:
                    opened.receive()
                error = caught.value
                assert (error.at, error.packets, error.file) == (begins, before, "<BytesIO>")
                what = f"begins at byte {begins}; {before} packets came before"
                assert str(error) == f"read <BytesIO>: it ends in the middle of a packet or block, which {what}"
                assert opened.stats.broken == 1
            assert ports == list(range(1, before + 1))
            assert opened.at_end
            assert not opened.receive()


def test_not_strict(caplog: pytest.LogCaptureFixture) -> None:
    data = pcap(udp_packets(3), captures.RAW)[:-1]
    with read_pcap(io.BytesIO(data), strict=False) as opened:
        assert len(list(opened)) == 2
        assert opened.stats.broken == 1
        assert opened.error
        assert str(opened.error) in caplog.text


def test_a_file_cut_in_a_block_that_is_passed_over() -> None:
    data = captures.section() + captures.interface(captures.RAW) + captures.packet_block(udp_packets(1)[0])
    data += captures.block(4, bytes(DATA_BYTES * 2))[:-1]
    with read_pcap(io.BytesIO(data)) as opened, pytest.raises(CaptureError, match="1 packets came before"):
        list(opened)


def _pcap_of_length(length: int) -> bytes:
    return pcap(udp_packets(1), captures.RAW) + struct.pack("=IIII", 0, 0, length, length) + bytes(100)


@pytest.mark.parametrize("length", [262_145, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_packet_that_is_too_long(length: int) -> None:
    with (
        read_pcap(io.BytesIO(_pcap_of_length(length))) as opened,
        pytest.raises(CaptureError, match=r"an impossible length stands at byte 108; 1 packets came before"),
    ):
        list(opened)


_HEAD = captures.section() + captures.interface(captures.RAW)
_GOOD = captures.packet_block(udp_packets(1)[0])


@pytest.mark.parametrize(
    ("tail", "what"),
    [
        (struct.pack("=III", 6, 11, 11) + bytes(100), "an impossible length"),
        (struct.pack("=III", 6, 0, 0) + bytes(100), "an impossible length"),
        (struct.pack("=III", 6, 4096 * 1024, 0) + bytes(100), "an impossible length"),
        (struct.pack("=III", 6, 33, 0) + bytes(100), "an impossible length"),
        (_GOOD[:-4] + bytes(4), "an impossible length"),
        (captures.block(0x0BAD, b"1234")[:-4] + bytes(4), "an impossible length"),
        (struct.pack("=III", 1, 16, 0) + bytes(4), "a block with the impossible length 16"),
        (struct.pack("=III", 1, 0xFFFFFFFC, 0) + bytes(4), "a block with the impossible length 4294967292"),
        (captures.interface(1)[:-4] + bytes(4), "whose two lengths differ"),
        (captures.interface(1, tsresol=20), "too fine for 64 bits"),
        (captures.interface(1, tsresol=0xFF), "too fine for 64 bits"),
        (struct.pack("=III", 0x0A0D0D0A, 28, 0x11223344) + bytes(100), "without a byte order"),
        (captures.block(0x0A0D0D0A, struct.pack("=IHHq", 0x1A2B3C4D, 2, 0, -1)), "a section of pcapng version 2"),
        (captures.section()[:8], "in the middle of a packet or block"),
        (captures.section()[:-1], "in the middle of a packet or block"),
        (captures.interface(1)[:-1], "in the middle of a packet or block"),
    ],
)
def test_damaged_pcapng(tail: bytes, what: str) -> None:
    """What came before is whole; then it is said where it is wrong."""
    with read_pcap(io.BytesIO(_HEAD + _GOOD + tail)) as opened:
        assert len(opened.receive()) == 1
        with pytest.raises(CaptureError, match=what) as caught:
            opened.receive()
        assert (caught.value.at, caught.value.packets) == (len(_HEAD + _GOOD), 1)


def test_packets_that_are_wrong_in_good_blocks_are_left_out() -> None:
    packet = udp_packets(1)[0]
    data = captures.section() + captures.simple_block(packet) + captures.packet_block(packet)
    data += captures.interface(captures.ETHERNET)
    data += captures.packet_block(Captured(packet.data, interface=1))
    data += captures.packet_block(Captured(packet.data, interface=0xFFFFFFFF))
    data += captures.packet_block(Captured(packet.data, interface=0xFFFF), old=True)
    data += captures.packet_block(Captured(packet.data[:13]))
    data += captures.block(6, bytes(12)) + captures.block(2, b"") + captures.block(3, b"")
    long = bytearray(captures.packet_block(packet))
    long[20:24] = struct.pack("=I", len(packet.data) + 1000)
    data += bytes(long) + captures.block(3, struct.pack("=I", 5) + b"1234")
    data += captures.packet_block(packet)
    with read_pcap(io.BytesIO(data)) as opened:
        assert len(list(opened)) == 1
        assert opened.stats.malformed == 11


def test_no_more_interfaces_than_can_be_told_apart() -> None:
    one = captures.block(1, struct.pack("=HxxI", captures.RAW, 0))
    opened = read_pcap(io.BytesIO(captures.section() + one * 65_537))
    with pytest.raises(CaptureError, match="beyond the limit of 65536"):
        opened.receive()


def test_what_is_no_capture() -> None:
    modified = b"\x34\xcd\xb2\xa1" + bytes(100)
    for data, what in (
        (b"", "it is empty"),
        (b"\xd4\xc3\xb2", "not a capture"),
        (b"GIF89a" + bytes(100), "not a capture .* begins with the bytes 47 49 46 38"),
        (modified, r"'modified' pcap format \(a1b2cd34\).*editcap"),
        (bytes(reversed(modified[:4])) + bytes(100), "'modified'"),
        (pcap([], captures.RAW)[:23], "in the middle of the file header"),
        (pcap([], 147), r"link type 147 is not supported; Ethernet \(1\), raw IP \(12, 14, 101\)"),
        (gzip.compress(b""), "it is empty"),
    ):
        with pytest.raises(CaptureError, match=what):
            read_pcap(io.BytesIO(data))
    old = bytearray(pcap([], captures.RAW))
    old[4:6] = struct.pack("=H", 543)
    with pytest.raises(CaptureError, match=r"version 543.4 of pcap"):
        read_pcap(io.BytesIO(old))


def test_a_capture_without_packets() -> None:
    for data in (pcap([], captures.RAW), captures.section(), pcapng([], captures.RAW)):
        with read_pcap(io.BytesIO(data)) as opened:
            assert not opened.receive()
            assert (opened.at_end, opened.error) == (True, None)


def test_frame_checksums_are_no_part_of_the_link_type() -> None:
    data = bytearray(pcap(udp_packets(1), captures.RAW))
    data[20:24] = struct.pack("=I", 0x2400_0000 | captures.RAW)
    assert len(read(bytes(data))) == 1


@pytest.mark.parametrize("name", FORMATS)
def test_any_bytes(name: str) -> None:
    """Whatever stands in a file, it ends or is refused, and what was read can be looked at."""
    kind, order, nano = FORMATS[name]
    chance = random.Random(name)
    packets = [Captured(frame.wire(), flags=chance.choice((None, 1, 2))) for frame in frames()[:60]]
    good = kind(packets, captures.ETHERNET, order=order, nano=nano)
    for _ in range(300):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 8)):
            at = chance.randrange(4, len(data))
            data[at : at + chance.choice((1, 2, 4))] = chance.randbytes(chance.choice((0, 1, 2, 4, 8)))
        try:
            with read_pcap(io.BytesIO(data), strict=False) as opened:
                for batch in opened.batches():
                    batch.to_dicts()
        except CaptureError:
            pass


def test_link_types_are_named() -> None:
    known = {getattr(lib, name) for name in dir(lib) if name.startswith("NFL_LINK_")}
    assert known == set(LINK_TYPES)
    assert Capture is nfl.Capture
