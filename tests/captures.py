# SPDX-License-Identifier: GPL-2.0-or-later
"""Capture files made by hand: pcap and pcapng of any byte order and resolution, and the corpus as each link type."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tests.corpus import Frame

ETHERNET, DLT_RAW, DLT_RAW_OPENBSD, RAW, SLL, IPV4, IPV6, NFLOG, SLL2 = 1, 12, 14, 101, 113, 228, 229, 239, 276
NATIVE = "<" if sys.byteorder == "little" else ">"
OTHER = ">" if NATIVE == "<" else "<"

#: 2026-11-27, nanoseconds since 1970.
NOW_NS = 1_795_000_000_123_456_789

INBOUND, OUTBOUND = 1, 2


@dataclass(frozen=True)
class Captured:
    """A packet of a capture: `data` as it stands in the file, `original` bytes on the wire (None: as many)."""

    data: bytes
    ns: int = NOW_NS
    original: int | None = None
    flags: int | None = None
    interface: int = 0

    @property
    def wire(self) -> int:
        return len(self.data) if self.original is None else self.original

    def cut(self, snaplen: int) -> Captured:
        """Return what a capture with that snaplen has of it."""
        return Captured(self.data[:snaplen], self.ns, self.wire, self.flags, self.interface)


def pcap(
    packets: Iterable[Captured], linktype: int, *, order: str = NATIVE, nano: bool = False, snaplen: int = 262144
) -> bytes:
    """Return a pcap file."""
    head = struct.pack(order + "IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, snaplen, linktype)
    return head + b"".join(
        struct.pack(
            order + "IIII", p.ns // 10**9, p.ns % 10**9 // (1 if nano else 1000), len(p.data), p.wire
        ) + p.data
        for p in packets
    )  # fmt: skip


def block(kind: int, body: bytes, order: str = NATIVE) -> bytes:
    """Return a block of pcapng."""
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, 12 + len(body)) + body + struct.pack(order + "I", 12 + len(body))


def option(code: int, value: bytes, order: str = NATIVE) -> bytes:
    """Return an option of a block; none ends the list."""
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str = NATIVE) -> bytes:
    """Return a section header."""
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1) + option(1, b"a comment", order), order)


def interface(
    linktype: int,
    *,
    order: str = NATIVE,
    name: bytes | None = None,
    snaplen: int = 0,
    tsresol: int | None = None,
    tsoffset: int | None = None,
    fcslen: int | None = None,
) -> bytes:
    """Return an interface description."""
    options = option(1, b"any comment", order)
    if name is not None:
        options += option(2, name, order)
    if tsresol is not None:
        options += option(9, bytes([tsresol]), order)
    if fcslen is not None:
        options += option(13, bytes([fcslen]), order)
    if tsoffset is not None:
        options += option(14, struct.pack(order + "q", tsoffset), order)
    return block(1, struct.pack(order + "HxxI", linktype, snaplen) + options + option(0, b""), order)


def packet_block(packet: Captured, units: int = 10**6, *, order: str = NATIVE, old: bool = False) -> bytes:
    """Return an Enhanced Packet Block, or an obsolete Packet Block."""
    stamp = packet.ns * units // 10**9
    head = struct.pack(order + "HH", packet.interface, 3) if old else struct.pack(order + "I", packet.interface)
    head += struct.pack(order + "IIII", stamp >> 32, stamp & 0xFFFFFFFF, len(packet.data), packet.wire)
    options = b""
    if packet.flags is not None:
        options = option(1, b"odd comment", order) + option(2, struct.pack(order + "I", packet.flags), order)
        options += option(0, b"")
    return block(2 if old else 6, head + packet.data + bytes(-len(packet.data) % 4) + options, order)


def simple_block(packet: Captured, *, order: str = NATIVE) -> bytes:
    """Return a Simple Packet Block."""
    return block(3, struct.pack(order + "I", packet.wire) + packet.data, order)


def pcapng(packets: Iterable[Captured], linktype: int, *, order: str = NATIVE, nano: bool = False) -> bytes:
    """Return a pcapng file of one section and one interface, eth7, with blocks between that mean nothing to us."""
    head = section(order) + interface(linktype, order=order, name=b"eth7", tsresol=9 if nano else None)
    noise = block(5, struct.pack(order + "III", 0, 1, 2), order) + block(0x0BAD, b"custom!", order)
    return head + noise + b"".join(packet_block(p, 10**9 if nano else 10**6, order=order) for p in packets) + noise


# -- link types -------------------------------------------------------------------------------------------------------


def kernel_protocol(frame: Frame) -> int:
    """Return what the kernel calls a frame's protocol; where it has a length instead, 802.2 or Novell's 802.3."""
    if frame.ethertype >= 0x600:
        return frame.ethertype
    return 1 if frame.payload[:2] == b"\xff\xff" else 4


def cooked(frame: Frame) -> bytes:
    """Return a frame as a Linux cooked capture has it: the tags stand where the packet begins."""
    header = frame.l2header() if frame.tags else replace(frame, ethertype=kernel_protocol(frame)).l2header()
    return struct.pack(">HHH8s", 0, 1, 6, header[6:12] + b"\0\0") + header[12:] + frame.payload


def cooked2(frame: Frame, ifindex: int = 2) -> bytes:
    """Return a frame as a Linux cooked capture of version 2 has it."""
    header = frame.l2header() if frame.tags else replace(frame, ethertype=kernel_protocol(frame)).l2header()
    head = header[12:14] + struct.pack(">HIHBB8s", 0, ifindex, 1, 0, 6, header[6:12] + b"\0\0")
    return head + header[14:] + frame.payload


def nflog(message: bytes, order: str = NATIVE) -> bytes:
    """Return a netlink message of nfnetlink_log as a capture of link type NFLOG has it."""
    (length,) = struct.unpack_from("=I", message)
    return message[16:20] + _attributes(message[20:length], order)


def _attributes(data: bytes, order: str) -> bytes:
    made = b""
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        value = data[4:length]
        if kind & 0x3FFF == 20:
            value = _attributes(value, order)
        made += struct.pack(order + "HH", length, kind) + value + data[length : (length + 3) & ~3]
        data = data[(length + 3) & ~3 :]
    return made


def udp_packets(count: int, size: int = 40) -> Sequence[Captured]:
    """Return raw IPv4 UDP packets from port 1, 2, … on, a microsecond apart."""
    ends = socket.inet_aton("10.0.0.1") + socket.inet_aton("10.0.0.2")
    head = struct.pack(">BBHHHBBH", 0x45, 0, 28 + size, 0, 0, 64, 17, 0) + ends
    return [
        Captured(head + struct.pack(">HHHH", 1 + n % 60000, 9, 8 + size, 0) + bytes(size), NOW_NS + n * 1000)
        for n in range(count)
    ]
