# SPDX-License-Identifier: GPL-2.0-or-later
"""The reference decoder: what every key of a packet log must be, in plain Python.

It shares nothing with the decoder in C, and clarity goes before speed: one function per header, each taking a slice
and returning a dict. `decode()` gives the keys of the NFLOG input and of BASE; `derive()` those of the filters IP2STR,
HWHDR and IFINDEX. Addresses and other byte strings are `bytes` in network order, `derive()`'s texts are `str`, all else
is `int`. A key that is not valid for a packet is not in the dict.

`build_message()` makes the netlink messages that `decode()` takes; `split()` cuts a datagram into them.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum

from tests.netlink import attribute, netlink

Value = int | bytes | str
Keys = dict[str, Value]

PACKET_MESSAGE = 0x0400
INET, ARP, NETDEV, BRIDGE, INET6 = 2, 3, 5, 7, 10
ETH_IPV4, ETH_ARP, ETH_VLAN, ETH_IPV6, ETH_QINQ = 0x0800, 0x0806, 0x8100, 0x86DD, 0x88A8
NETDEV_EGRESS = 1


class Attribute(IntEnum):
    """Attributes of a packet message (NFULA_*)."""

    PACKET_HDR = 1
    MARK = 2
    TIMESTAMP = 3
    INDEV = 4
    OUTDEV = 5
    PHYSINDEV = 6
    PHYSOUTDEV = 7
    HWADDR = 8
    PAYLOAD = 9
    PREFIX = 10
    UID = 11
    SEQ = 12
    SEQ_GLOBAL = 13
    GID = 14
    HWTYPE = 15
    HWHEADER = 16
    HWLEN = 17
    CT = 18
    CT_INFO = 19
    VLAN = 20
    L2HDR = 21


VLAN_PROTO, VLAN_TCI = 1, 2

#: An attribute with fewer bytes than this counts as absent.
_SIZES: dict[int, int] = {
    Attribute.PACKET_HDR: 4,
    Attribute.MARK: 4,
    Attribute.TIMESTAMP: 16,
    Attribute.INDEV: 4,
    Attribute.OUTDEV: 4,
    Attribute.PHYSINDEV: 4,
    Attribute.PHYSOUTDEV: 4,
    Attribute.HWADDR: 12,
    Attribute.UID: 4,
    Attribute.SEQ: 4,
    Attribute.SEQ_GLOBAL: 4,
    Attribute.GID: 4,
    Attribute.HWTYPE: 2,
    Attribute.HWLEN: 2,
}
_VLAN_SIZES = {VLAN_PROTO: 2, VLAN_TCI: 2}


def be16(data: bytes, at: int = 0) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def be32(data: bytes, at: int = 0) -> int:
    return int.from_bytes(data[at : at + 4], "big")


# -- netlink ----------------------------------------------------------------------------------------------------------


def split(datagram: bytes) -> list[bytes]:
    """Cut a datagram into its netlink messages, headers included; what cannot be one ends the list."""
    messages = []
    while len(datagram) >= 16:
        (length,) = struct.unpack_from("=I", datagram)
        if not 16 <= length <= len(datagram):
            break
        messages.append(datagram[:length])
        datagram = datagram[(length + 3) & ~3 :]
    return messages


class Malformed(Exception):
    """A length that cannot be."""


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and payload of each attribute; raise Malformed where one has an impossible length."""
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if not 4 <= length <= len(data):
            raise Malformed
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]


def decode(message: bytes, *, now: tuple[int, int] = (0, 0), label: int = 0) -> Keys | None:
    """Return the valid keys of one netlink message; None when it is malformed or not a logged packet.

    `now` is the time of reception, used where the kernel sent none; `label` the value of `numeric_label`.
    """
    if len(message) < 20:
        return None
    length, kind = struct.unpack_from("=IH", message)
    if not 20 <= length <= len(message) or kind != PACKET_MESSAGE:
        return None
    family = message[16]
    attrs: dict[int, bytes] = {}
    vlan: Keys = {}
    try:
        for attr, data in attributes(message[20:length]):
            if len(data) >= _SIZES.get(attr, 0):
                attrs[attr] = data
            if attr == Attribute.VLAN:
                vlan = _vlan_attribute(data) or vlan
    except Malformed:
        return None
    keys = _metadata(family, attrs, now) | vlan
    keys["raw.label"] = label
    if "raw.pkt" in keys:
        keys |= _base(family, keys)
    return keys


def _metadata(family: int, attrs: dict[int, bytes], now: tuple[int, int]) -> Keys:
    """Return the keys of the NFLOG input: everything but the packet's own contents."""

    keys: Keys = {"raw.pktcount": 1, "oob.family": family, "oob.mark": 0}
    if (payload := attrs.get(Attribute.PAYLOAD)) is not None:
        keys |= {"raw.pkt": payload, "raw.pktlen": len(payload)}
    if (prefix := attrs.get(Attribute.PREFIX)) is not None:
        keys["oob.prefix"] = prefix.partition(b"\0")[0]

    sec, usec = struct.unpack_from(">QQ", attrs.get(Attribute.TIMESTAMP, bytes(16)))
    if sec == 0:
        sec, usec = now
    keys |= {"oob.time.sec": sec & 0xFFFFFFFF, "oob.time.usec": usec & 0xFFFFFFFF}

    if header := attrs.get(Attribute.PACKET_HDR):
        keys |= {"oob.protocol": be16(header), "oob.hook": header[2]}
    for kind, name in (
        (Attribute.MARK, "oob.mark"),
        (Attribute.SEQ, "oob.seq.local"),
        (Attribute.SEQ_GLOBAL, "oob.seq.global"),
        (Attribute.UID, "oob.uid"),
        (Attribute.GID, "oob.gid"),
    ):
        if kind in attrs:
            keys[name] = be32(attrs[kind])
    for kind, name in (
        (Attribute.INDEV, "oob.ifindex_in"),
        (Attribute.OUTDEV, "oob.ifindex_out"),
        (Attribute.PHYSINDEV, "oob.physindev"),
        (Attribute.PHYSOUTDEV, "oob.physoutdev"),
    ):
        if index := be32(attrs.get(kind, b"")):
            keys[name] = index

    hwlen, hwtype = (be16(attrs.get(kind, b"")) for kind in (Attribute.HWLEN, Attribute.HWTYPE))
    if mac := attrs.get(Attribute.HWHEADER, b"")[:hwlen]:
        keys |= {"raw.mac": mac, "raw.mac_len": len(mac), "raw.type": hwtype}
    hwaddr = attrs.get(Attribute.HWADDR, b"")
    if addrlen := min(be16(hwaddr), 8):
        keys |= {"raw.mac.saddr": hwaddr[4 : 4 + addrlen], "raw.mac.addrlen": addrlen}
    for kind, name in ((Attribute.L2HDR, "raw.l2hdr"), (Attribute.CT, "ct")):
        if kind in attrs:
            keys[name] = attrs[kind]
    return keys


def _vlan_attribute(nested: bytes) -> Keys:
    """Return the VLAN keys of NFULA_VLAN, if it holds both of its members; what follows them is not looked at."""
    found: dict[int, bytes] = {}
    with contextlib.suppress(Malformed):
        for kind, data in attributes(nested):
            if len(data) >= _VLAN_SIZES.get(kind, 0):
                found[kind] = data
    if not found.keys() >= _VLAN_SIZES.keys():
        return {}
    return _vlan(be16(found[VLAN_PROTO]), be16(found[VLAN_TCI]))


def _vlan(protocol: int, tci: int) -> Keys:
    return {"vlan.protocol": protocol, "vlan.id": tci & 0x0FFF, "vlan.priority": tci >> 13}


# -- what is in the packet ------------------------------------------------------------------------------------------


def network(family: int, meta: Mapping[str, Value]) -> tuple[int, bytes, Keys]:
    """Return the ethertype and the bytes of the network header that BASE looks at, and the keys of tags before it."""
    packet, ethertype = meta["raw.pkt"], meta.get("oob.protocol", 0)
    assert isinstance(packet, bytes)
    assert isinstance(ethertype, int)
    if family in (INET, INET6, ARP):
        return {INET: ETH_IPV4, INET6: ETH_IPV6, ARP: ETH_ARP}[family], packet, {}
    if family not in (BRIDGE, NETDEV):
        return 0, b"", {}
    if family == NETDEV and meta.get("oob.hook") == NETDEV_EGRESS and "raw.l2hdr" in meta and len(packet) >= 14:
        # At egress the packet already has the link header that will be sent, on devices that have one.
        ethertype, packet = be16(packet, 12), packet[14:]
    keys: Keys = {}
    for _ in range(2):
        if ethertype in (ETH_VLAN, ETH_QINQ) and len(packet) >= 4:
            if "vlan.id" not in meta and not keys:
                keys = _vlan(ethertype, be16(packet))
            ethertype, packet = be16(packet, 2), packet[4:]
    return ethertype, packet, keys


def _base(family: int, meta: Keys) -> Keys:
    """Return the keys of BASE."""
    ethertype, packet, keys = network(family, meta)
    decoder = {ETH_IPV4: _ipv4, ETH_IPV6: _ipv6, ETH_ARP: _arp}.get(ethertype)
    return keys | decoder(packet) if decoder else keys


def _ipv4(packet: bytes) -> Keys:
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return {}
    totlen, fragoff, protocol = be16(packet, 2), be16(packet, 6), packet[9]
    keys: Keys = {
        "ip.ihl": packet[0] & 0xF,
        "ip.tos": packet[1],
        "ip.totlen": totlen,
        "ip.id": be16(packet, 4),
        "ip.fragoff": fragoff,
        "ip.ttl": packet[8],
        "ip.protocol": protocol,
        "ip.csum": be16(packet, 10),
        "ip.saddr": packet[12:16],
        "ip.daddr": packet[16:20],
    }
    header = (packet[0] & 0xF) * 4
    first = fragoff & 0x1FFF == 0
    if header >= 20 and header <= len(packet) and first and (totlen == 0 or totlen >= header):
        end = totlen or len(packet)  # a GSO packet of 64 KiB and more has no length
        keys |= _layer4(protocol, packet[header:end], INET)
    return keys


#: IPv6 headers that are followed by another one.
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION, MOBILITY, HIP, SHIM6 = 0, 43, 44, 51, 60, 135, 139, 140
NO_NEXT_HEADER = 59
_WALKED = {HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION, MOBILITY, HIP, SHIM6}


def _ipv6(packet: bytes) -> Keys:
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return {}
    first_word, payloadlen = be32(packet), be16(packet, 4)
    keys: Keys = {
        "ip6.priority": first_word >> 20 & 0xFF,
        "ip6.flowlabel": first_word & 0xFFFFF,
        "ip6.payloadlen": payloadlen,
        "ip6.hoplimit": packet[7],
        "ip.saddr": packet[8:24],
        "ip.daddr": packet[24:40],
    }
    data = packet[40 : 40 + payloadlen] if payloadlen else packet[40:]
    number = packet[6]
    while number in _WALKED:
        keys["ip6.nexthdr"] = number
        if number in (MOBILITY, HIP, SHIM6) and data[:1] == bytes([NO_NEXT_HEADER]):
            break  # it is the packet's own protocol, not something before another one
        if len(data) < 8:
            return keys
        length = {FRAGMENT: 8, AUTHENTICATION: (data[1] + 2) * 4}.get(number, (data[1] + 1) * 8)
        if length > len(data):
            return keys
        if number == AUTHENTICATION:
            keys["ahesp.spi"] = be32(data, 4)
        if number == FRAGMENT:
            offset = be16(data, 2) & 0xFFF8
            keys |= {"ip6.fragoff": offset, "ip6.fragid": be32(data, 4)}
            if offset:
                keys["ip6.nexthdr"] = data[0]
                return keys
        number, data = data[0], data[length:]
    keys |= {"ip6.nexthdr": number, "ip.protocol": number}
    return keys | _layer4(number, data, INET6)


def _arp(packet: bytes) -> Keys:
    if len(packet) < 8:
        return {}
    keys: Keys = {"arp.hwtype": be16(packet), "arp.protocoltype": be16(packet, 2), "arp.operation": be16(packet, 6)}
    if len(packet) >= 28 and packet[2:6] == bytes([0x08, 0x00, 6, 4]):
        keys |= {
            "arp.shwaddr": packet[8:14],
            "arp.saddr": packet[14:18],
            "arp.dhwaddr": packet[18:24],
            "arp.daddr": packet[24:28],
        }
    return keys


# -- layer 4 ----------------------------------------------------------------------------------------------------------


def _layer4(protocol: int, data: bytes, family: int) -> Keys:
    """Return the transport header's keys; a header that is not there in full has none."""
    match protocol:
        case 6 if len(data) >= 20:
            return _tcp(data)
        case 17 if len(data) >= 8:
            return _ports("udp", data) | {"udp.len": be16(data, 4), "udp.csum": be16(data, 6)}
        case 136 if len(data) >= 8:
            return _ports("udp", data) | {"udplite.coverage": be16(data, 4), "udp.csum": be16(data, 6)}
        case 1 if family == INET and len(data) >= 8:
            return _icmp(data)
        case 58 if family == INET6 and len(data) >= 8:
            return _icmpv6(data)
        case 132 if len(data) >= 12:
            return _ports("sctp", data) | {"sctp.csum": be32(data, 8)}
        case 50 if len(data) >= 8:
            return {"ahesp.spi": be32(data)}
        case 51 if family == INET and len(data) >= 12:
            return {"ahesp.spi": be32(data, 4)}
    return {}


def _ports(name: str, data: bytes) -> Keys:
    return {f"{name}.sport": be16(data), f"{name}.dport": be16(data, 2)}


def _tcp(data: bytes) -> Keys:
    flags = data[13]
    keys = _ports("tcp", data) | {
        "tcp.seq": be32(data, 4),
        "tcp.ackseq": be32(data, 8),
        "tcp.offset": data[12] >> 4,
        "tcp.reserved": data[12] & 0xF,
        "tcp.res1": data[12] & 0xF,
        "tcp.res2": flags >> 6,
        "tcp.window": be16(data, 14),
        "tcp.csum": be16(data, 16),
    }
    for bit, name in enumerate(("fin", "syn", "rst", "psh", "ack", "urg")):
        keys[f"tcp.{name}"] = flags >> bit & 1
    if keys["tcp.urg"]:
        keys["tcp.urgp"] = be16(data, 18)
    return keys


def _icmp(data: bytes) -> Keys:
    kind, code = data[0], data[1]
    keys: Keys = {"icmp.type": kind, "icmp.code": code, "icmp.csum": be16(data, 2)}
    if kind in (0, 8):
        keys |= {"icmp.echoid": be16(data, 4), "icmp.echoseq": be16(data, 6)}
    elif kind in (5, 12):
        keys["icmp.gateway"] = data[4:8]
    elif (kind, code) == (3, 4):
        keys["icmp.fragmtu"] = be16(data, 6)
    return keys


def _icmpv6(data: bytes) -> Keys:
    keys: Keys = {"icmpv6.type": data[0], "icmpv6.code": data[1], "icmpv6.csum": be16(data, 2)}
    if data[0] in (128, 129):
        keys |= {"icmpv6.echoid": be16(data, 4), "icmpv6.echoseq": be16(data, 6)}
    return keys


# -- what the filters add ---------------------------------------------------------------------------------------------


def derive(keys: Mapping[str, Value], names: Mapping[int, str]) -> dict[str, Value]:
    """Return what IP2STR, IP2BIN, IP2HBIN, HWHDR and IFINDEX add to a packet's keys; `names` are of the interfaces.

    HWHDR's new values of keys that exist already are called `HWHDR:raw.type` and `HWHDR:oob.protocol`.
    """
    added: Keys = {}
    for name in ("ip.saddr", "ip.daddr", "arp.saddr", "arp.daddr"):
        if isinstance(address := keys.get(name), bytes):
            added[f"{name}.str"] = socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
            if len(address) == 4:
                added[name.replace(".", ".h")] = int.from_bytes(address, "big")
            if name.startswith("ip."):
                added[f"{name}.bin"] = (
                    "0x" + (address if len(address) == 16 else b"\0" * 10 + b"\xff\xff" + address).hex()
                )
    for name, index in (
        ("oob.in", keys.get("oob.ifindex_in", 0)),
        ("oob.out", keys.get("oob.ifindex_out", 0)),
        ("oob.physin", keys.get("oob.physindev")),
        ("oob.physout", keys.get("oob.physoutdev")),
    ):
        if isinstance(index, int):
            added[name] = names.get(index, "") if index else ""
    return added | _hardware_header(keys)


def _hardware_header(keys: Mapping[str, Value]) -> Keys:
    header, source = keys.get("raw.mac", b""), keys.get("raw.mac.saddr", b"")
    assert isinstance(header, bytes)
    assert isinstance(source, bytes)
    ethernet = keys.get("raw.type") == 1 and len(header) >= 14
    added: Keys = {}
    if "oob.protocol" in keys:
        added["HWHDR:oob.protocol"] = be16(header, 12) if ethernet else keys["oob.protocol"]
    if header:
        added |= {"HWHDR:raw.type": keys["raw.type"], "mac.str": header.hex(":")}
    elif source:
        added["HWHDR:raw.type"] = 65535
    if ethernet:
        added["mac.daddr.str"] = header[0:6].hex(":")
        source = source or header[6:12]
    if source:
        added["mac.saddr.str"] = source.hex(":")
    return added


# -- synthetic messages -----------------------------------------------------------------------------------------------


def build_message(
    payload: bytes | None = None,
    *,
    family: int = INET,
    group: int = 0,
    protocol: int | None = ETH_IPV4,
    hook: int = 1,
    prefix: bytes | None = None,
    mark: int | None = None,
    time: tuple[int, int] | None = None,
    indev: int | None = None,
    outdev: int | None = None,
    physindev: int | None = None,
    physoutdev: int | None = None,
    hwheader: bytes | None = None,
    hwtype: int | None = 1,
    hwaddr: bytes | None = None,
    uid: int | None = None,
    gid: int | None = None,
    seq: int | None = None,
    seq_global: int | None = None,
    vlan: tuple[int, int] | None = None,
    l2hdr: bytes | None = None,
    ct: bytes | None = None,
    extra: Iterable[tuple[int, bytes]] = (),
) -> bytes:
    """Return a packet message as nfnetlink_log would send it; None leaves an attribute out, `extra` go last.

    `vlan` is (ethertype, tci); `hwtype` and the header's length accompany `hwheader`.
    """
    a = Attribute
    parts: list[tuple[int, bytes | None]] = [
        (a.PACKET_HDR, None if protocol is None else struct.pack(">HBx", protocol, hook)),
        (a.PREFIX, None if prefix is None else prefix + b"\0"),
        (a.INDEV, _u32(indev)),
        (a.OUTDEV, _u32(outdev)),
        (a.PHYSINDEV, _u32(physindev)),
        (a.PHYSOUTDEV, _u32(physoutdev)),
        (a.MARK, _u32(mark)),
        (a.HWTYPE, None if hwheader is None or hwtype is None else struct.pack(">H", hwtype)),
        (a.HWLEN, None if hwheader is None else struct.pack(">H", len(hwheader))),
        (a.HWHEADER, hwheader),
        (a.HWADDR, None if hwaddr is None else struct.pack(">Hxx8s", len(hwaddr), hwaddr)),
        (a.TIMESTAMP, None if time is None else struct.pack(">QQ", *time)),
        (a.UID, _u32(uid)),
        (a.GID, _u32(gid)),
        (a.SEQ, _u32(seq)),
        (a.SEQ_GLOBAL, _u32(seq_global)),
        (a.CT, ct),
        (a.VLAN, None if vlan is None else _nested_vlan(*vlan)),
        (a.L2HDR, l2hdr),
        (a.PAYLOAD, payload),
        *extra,
    ]
    body = b"".join(attribute(kind, data) for kind, data in parts if data is not None)
    return netlink(PACKET_MESSAGE, struct.pack(">BBH", family, 0, group) + body)


def _u32(value: int | None) -> bytes | None:
    return None if value is None else struct.pack(">I", value)


def _nested_vlan(protocol: int, tci: int) -> bytes:
    return attribute(VLAN_PROTO, struct.pack(">H", protocol)) + attribute(VLAN_TCI, struct.pack(">H", tci))
