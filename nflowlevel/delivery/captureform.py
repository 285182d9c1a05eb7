# SPDX-License-Identifier: GPL-2.0-or-later
"""CaptureForm: files of pcap and pcapng, as they are appended to: their heads, their interfaces, where they end.

pcap has a head of 24 bytes, and it does not matter who writes the records behind it. pcapng has sections, with
interfaces that are numbered within them, so it has one writer. tshark 4.0 takes the names of all packets from the first
section. So a file that is opened again goes on with its section and its numbers, unless it is too large to look for
them.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, Literal

from nflowlevel.binding._lib import ffi, lib

if TYPE_CHECKING:
    from nflowlevel.delivery.framing import Framing

LinkType = Literal["raw", "nflog", "ethernet"]
Format = Literal["pcap", "pcapng"]

LINK_TYPES: dict[LinkType, int] = {
    "raw": lib.NFL_LINK_RAW,
    "nflog": lib.NFL_LINK_NFLOG,
    "ethernet": lib.NFL_LINK_ETHERNET,
}
_NAMES = {lib.NFL_LINK_DLT_RAW: "raw", **{number: name for name, number in LINK_TYPES.items()}}

#: Begins the head of a pcap file: magic number, version 2.4, zone and accuracy, which nobody uses, snaplen, link type.
_PCAP_HEAD = struct.Struct("=IHHiIII")
_MAGIC, _NANO_MAGIC = 0xA1B2C3D4, 0xA1B23C4D
_VERSION = (2, 4)
#: What ulogd2 says. More than the kernel gives of a packet, but a head or attributes may stand before it.
_SNAPLEN_RAW, _SNAPLEN = 65536, 262144
#: The upper bits of the field say how long a checksum is.
_LINK_TYPE_BITS = 0x03FFFFFF

_SECTION, _SECTION_MAGIC, _INTERFACE = 0x0A0D0D0A, 0x1A2B3C4D, 1
_BLOCK_HEAD = struct.Struct("=II")
_INTERFACE_TYPE = struct.pack("=I", _INTERFACE)
_APPLICATION, _NAME, _DESCRIPTION, _RESOLUTION = 4, 2, 3, 9
_MICROSECONDS = 6
#: With more interfaces the descriptions are thrown away: containers come and go, and each new file describes all.
_MANY_INTERFACES = 1024
#: `described` counts interfaces, and with this the times that they were thrown away.
_GENERATION = 1 << 32
#: So that a section of ours is known again.
_WRITER = b"nflowlevel"

#: Files up to this size are looked through from their beginning, of longer ones the end: pcap, and pcapng, where this
#: finds the interfaces.
_SMALL_BYTES, _SMALL_BLOCKS_BYTES = 8 << 20, 256 << 20
_END_BYTES = 2 << 20
_PIECE_BYTES = 4 << 20
_NOT_FOUND = 0xFFFFFFFF


class CaptureForm:
    """The form of a capture file, and the interfaces that are described in it (pcapng)."""

    def __init__(self, format_: Format, link_type: LinkType, *, has_one_writer: bool = False) -> None:
        """`has_one_writer` also where the format does not need it."""
        self.blocks = format_ == "pcapng"
        self.link_type = LINK_TYPES[link_type]
        if self.blocks and link_type == "raw":
            # libpcap 1.10 refuses a second interface of 101: it compares it with its own number of the first, 12.
            self.link_type = lib.NFL_LINK_DLT_RAW
        self.snaplen = _SNAPLEN if self.blocks or link_type != "raw" else _SNAPLEN_RAW
        self.has_one_writer = self.blocks or has_one_writer
        self._head = _PCAP_HEAD.pack(_MAGIC, *_VERSION, 0, 0, self.snaplen, self.link_type)
        self.framing: Framing = Records(self)
        #: Descriptions of the interfaces, by their number in a section.
        self._interfaces: list[bytes] = []
        self._numbers: dict[tuple[object, int, str], int] = {}
        #: How many interfaces the file describes that was looked at last; -1: not known, or others than we do.
        self._told = -1
        #: It changes when interfaces get other numbers.
        self.generation = -1
        self.forget()

    # -- what stands before the records --------------------------------------------------------------------------

    @property
    def described(self) -> int:
        """How many interfaces there are to describe, and since when."""
        return self.generation * _GENERATION + len(self._interfaces)

    @property
    def is_crowded(self) -> bool:
        """Whether to call `forget` when nothing waits for the file."""
        return len(self._interfaces) > _MANY_INTERFACES

    def forget(self) -> None:
        """Number the interfaces anew, in a new section; what was rendered before must have been written."""
        self.generation += 1
        self._interfaces.clear()
        self._numbers.clear()
        if self.blocks:
            # A file without any description has no link type either, and cannot be opened.
            self.number_of(None, 0, "")

    def number_of(self, place: object, index: int, name: str) -> int:
        """Return the number of an interface in each section from now on.

        `place` tells the kernel's indexes of one network namespace from those of another; index 0 stands for none.
        """
        key = (place, index, name) if index else (None, 0, "")
        if key not in self._numbers:
            block = self._interface(place, index, name)
            if block not in self._interfaces:
                self._interfaces.append(block)
            self._numbers[key] = self._interfaces.index(block)
        return self._numbers[key]

    def _interface(self, place: object, index: int, name: str) -> bytes:
        options = _option(_RESOLUTION, bytes((_MICROSECONDS,)))
        if name:
            options += _option(_NAME, name.encode("utf-8", "replace"))
        where = f" in network namespace {place}" if place else ""
        what = f"interface {index} of the kernel{where}" if index else "no interface is known"
        options += _option(_DESCRIPTION, what.encode()) + _option(0, b"")
        return _block(_INTERFACE, struct.pack("=HHI", self.link_type, 0, self.snaplen) + options)

    def prelude(self, described: int, *, is_empty: bool) -> bytes:
        """Return the head of a file, or a new section; then what was not described yet."""
        if not self.blocks:
            return self._head if is_empty else b""
        if described < 0 and not is_empty and self._told >= 0:
            return b"".join(self._interfaces[self._told :])
        generation, known = divmod(described, _GENERATION)
        if generation != self.generation:
            return self._section() + b"".join(self._interfaces)
        return b"".join(self._interfaces[known:])

    def _section(self) -> bytes:
        options = _option(_APPLICATION, _WRITER) + _option(0, b"")
        return _block(_SECTION, struct.pack("=IHHq", _SECTION_MAGIC, 1, 0, -1) + options)

    # -- where a file ends ---------------------------------------------------------------------------------------

    def whole(self, reader: int, size: int) -> int:
        """Return where the last whole record ends; OSError for a file of another kind, or one that is damaged."""
        self._told = -1
        start = self._start(reader, size)
        if not start:
            return 0
        is_small = size <= (_SMALL_BLOCKS_BYTES if self.blocks else _SMALL_BYTES)
        end = _NOT_FOUND if is_small else self._from_the_end(reader, size)
        if end == _NOT_FOUND:
            end = self._from_the_start(reader, start, size)
        return end

    def _start(self, reader: int, size: int) -> int:
        """Return where the first record begins, 0 where not even the head is whole; OSError for what is not ours."""
        if self.blocks:
            return self._start_of_blocks(reader, size)
        found = os.pread(reader, len(self._head), 0)
        if len(found) < len(self._head):
            if self._head.startswith(found.rstrip(b"\0")):
                return 0
            raise _foreign("it is no capture file")
        magic, major, minor, _, _, snaplen, link_type = _PCAP_HEAD.unpack(found)
        if magic != _MAGIC:
            raise _foreign(_kind(magic))
        if (major, minor) != _VERSION:
            raise _foreign(f"it is a capture of version {major}.{minor}")
        if snaplen > _SNAPLEN:
            raise _foreign(f"it is a capture with a snaplen of {snaplen}")
        self._check_link_type(link_type & _LINK_TYPE_BITS)
        return len(self._head)

    def _start_of_blocks(self, reader: int, size: int) -> int:
        section = self._section()
        found = os.pread(reader, len(section), 0)
        if len(found) < len(section) and section.startswith(found.rstrip(b"\0")):
            return 0
        if found != section:
            magic = int.from_bytes(found[:4], "little" if _IS_LITTLE else "big")
            known = "it is a capture of pcapng that another program wrote" if magic == _SECTION else _kind(magic)
            raise _foreign(known)
        # The first interface tells for all.
        head = os.pread(reader, 10, len(section))
        if len(head) == 10 and head[:4] == _INTERFACE_TYPE:
            self._check_link_type(struct.unpack("=H", head[8:])[0])
        return len(section)

    def _check_link_type(self, found: int) -> None:
        if found != self.link_type:
            name = _NAMES.get(found, "another")
            raise _foreign(
                f"it is a capture of link type {found} ({name}), not of {self.link_type} ({_NAMES[self.link_type]})"
            )

    def _from_the_end(self, reader: int, size: int) -> int:
        """Return where the last whole record ends by the last bytes alone; _NOT_FOUND where they can be read in two
        ways: packets may hold what looks like records."""
        start = max(0, size - _END_BYTES) & ~3  # blocks are at multiples of 4
        tail = os.pread(reader, size - start, start)
        ends = ffi.new("uint32_t[]", len(tail) + 1)
        window = lib.NFL_CAPTURE_BLOCK_MAX if self.blocks else self.snaplen + 16
        found = lib.nfl_capture_last(self.blocks, self.snaplen, tail, len(tail), window, ends)
        return _NOT_FOUND if found == _NOT_FOUND else start + int(found)

    def _from_the_start(self, reader: int, start: int, size: int) -> int:
        """Return where the last whole record ends; OSError where there is none in the middle of the file."""
        packets, broken = ffi.new("uint64_t *"), ffi.new("uint8_t *")
        places = ffi.new("uint32_t[]", _MANY_INTERFACES) if self.blocks else ffi.NULL
        room = len(places) if self.blocks else 0
        count = ffi.new("uint32_t *")
        interfaces: list[bytes] | None = []
        at = start
        while at < size:
            piece = os.pread(reader, min(_PIECE_BYTES, size - at), at)
            count[0] = 0
            used = lib.nfl_capture_follow(
                self.blocks, self.snaplen, piece, len(piece), packets, broken, places, room, count
            )
            if interfaces is not None:
                found = [_block_at(piece, places[number]) for number in range(min(count[0], room))]
                # Of several sections the numbers do not count through the file.
                is_one = count[0] <= room and all(block[:4] == _INTERFACE_TYPE for block in found)
                interfaces = [*interfaces, *found] if is_one else None
            at += used
            if broken[0] and not _is_blank(reader, at, size):
                raise _foreign(f"it is damaged at byte {at}, after {packets[0]} packets")
            if broken[0] or not used:
                break
        self._adopt(interfaces)
        return at

    def _adopt(self, interfaces: list[bytes] | None) -> None:
        """Go on with the numbers that a file has, where they are none but ours."""
        if not interfaces:
            return
        known, told = self._interfaces, len(interfaces)
        if known == interfaces[: len(known)]:
            known += interfaces[len(known) :]
        if known[:told] == interfaces:
            self._told = told


class Records:
    """The framing of records that wait for a file of that form."""

    joins = True

    def __init__(self, form: CaptureForm) -> None:
        self._form = form
        self._broken = ffi.new("uint8_t *")

    def before(self, data: bytearray, position: int) -> tuple[int, int]:
        """Return how many packets, and how many bytes of them, end at or before `position`."""
        packets = ffi.new("uint64_t *")
        with ffi.from_buffer(data) as whole:
            end = lib.nfl_capture_follow(
                self._form.blocks, self._form.snaplen, whole, position, packets, self._broken, ffi.NULL, 0, ffi.NULL
            )
        return int(packets[0]), int(end)

    def after(self, data: bytearray, position: int) -> int:
        """Return where the first record ends that does so at or after `position`, or the end of the data."""
        end = self.before(data, position)[1]
        while end < position:
            size = int.from_bytes(data[end + 4 : end + 8], _ORDER) if self._form.blocks else 0
            end += size or 16 + int.from_bytes(data[end + 8 : end + 12], _ORDER)
        return min(end, len(data))

    def datagram(self, data: bytearray, offset: int) -> int:
        """Return the end of the data: no captures go by datagram."""
        return len(data)


_ORDER: Literal["little", "big"] = "little" if struct.pack("=H", 1) == b"\1\0" else "big"
_IS_LITTLE = _ORDER == "little"


def _block_at(data: bytes, at: int) -> bytes:
    return data[at : at + _BLOCK_HEAD.unpack_from(data, at)[1]]


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    size = 12 + len(body)
    return _BLOCK_HEAD.pack(kind, size) + body + struct.pack("=I", size)


def _is_blank(reader: int, at: int, size: int) -> bool:
    """Tell whether nothing but zeros follows, as a power failure may leave it."""
    while at < size:
        piece = os.pread(reader, _PIECE_BYTES, at)
        if piece.strip(b"\0"):
            return False
        at += len(piece) or size
    return True


def _kind(magic: int) -> str:
    """Say what a file is that begins so."""
    swapped = int.from_bytes(magic.to_bytes(4, "little"), "big")
    if magic == _NANO_MAGIC:
        return "it is a capture with nanoseconds"
    if swapped in (_MAGIC, _NANO_MAGIC):
        return "it is a capture of the other byte order"
    if magic == _SECTION:
        return "it is a capture of format pcapng"
    if magic == _MAGIC:
        return "it is a capture of format pcap"
    return "it is no capture file"


def _foreign(what: str) -> OSError:
    return OSError(errno.EINVAL, f"{what}; move it away, or name another file")
