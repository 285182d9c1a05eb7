# SPDX-License-Identifier: GPL-2.0-or-later
"""Read capture files as a group is read: `with nfl.read_pcap("x.pcapng.gz") as packets: for packet in packets: ...`.

pcap and pcapng, of either byte order, compressed or not. Ethernet, raw IP, NFLOG (what `tcpdump -i nflog:1` writes) and
Linux cooked captures (`tcpdump -i any`). Neither root nor a kernel is needed.

The file is read into the same buffers that a group receives into and decoded there, in C (_cdefs/capture.c). It is not
mapped: a file that another process shortens would then end this one (SIGBUS).

What a capture cannot say, its packets do not have:

- `NOT_IN_CAPTURES` lists the keys that only captures of link type NFLOG have. They hold what the kernel said.
- `oob.family` of the others is that of the packet: 2 IPv4, 10 IPv6, 3 ARP, else 7; 0 where nothing says what it is.
- `oob.mark` of the others is 0, and time stamps are cut to microseconds.
- The checksum of Ethernet frames (FCS) is left out where the file says that it has them, as drivers do it.
- The link-layer header is there for Ethernet only, Linux cooked captures have the sender's address. A VLAN tag is taken
  off the packet and becomes the `vlan` keys, as the kernel does it.
- Interfaces of pcapng are numbered from 1 on, through the whole file, and have the names the file gives them. Packets
  that do not tell their direction came in. Captures of link types NFLOG and SLL2 have the kernel's numbers of the
  machine that made them, without names; other pcap files have none.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Protocol, TypeAlias

from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.binding.alarm import Alarm
from nflowlevel.binding.buffers import DATA_BYTES, RECORD_BYTES, ROOM_RECORDS, BufferPool, Slot
from nflowlevel.binding.descriptor import Descriptor
from nflowlevel.binding.interfaces import NO_NAMES, NameTable
from nflowlevel.errors import CaptureError
from nflowlevel.logs import log
from nflowlevel.readers.arguments import HeldBytes, Label, Seconds, checked
from nflowlevel.readers.compressed import Cut, ReadInto, decompressing, is_compressed
from nflowlevel.records.batch import Batch
from nflowlevel.records.packetrow import Packet
from nflowlevel.stats import CaptureStats, take_over

#: Keys that packets of link types other than NFLOG never have: they belong to rules and sockets.
NOT_IN_CAPTURES = frozenset(
    (
        "ct",
        "oob.gid",
        "oob.hook",
        "oob.physindev",
        "oob.physin",
        "oob.physoutdev",
        "oob.physout",
        "oob.prefix",
        "oob.seq.global",
        "oob.seq.local",
        "oob.uid",
        "raw.l2hdr",
    )
)

#: The link types that can be read, by number.
LINK_TYPES: dict[int, str] = {
    lib.NFL_LINK_ETHERNET: "Ethernet",
    lib.NFL_LINK_DLT_RAW: "raw IP",
    lib.NFL_LINK_DLT_RAW_OPENBSD: "raw IP",
    lib.NFL_LINK_RAW: "raw IP",
    lib.NFL_LINK_SLL: "Linux cooked",
    lib.NFL_LINK_IPV4: "IPv4",
    lib.NFL_LINK_IPV6: "IPv6",
    lib.NFL_LINK_NFLOG: "NFLOG",
    lib.NFL_LINK_SLL2: "Linux cooked v2",
}

#: What is read at once. Larger pieces only leave the processor's caches.
_PIECE_BYTES = 256 << 10
_MAX_INTERFACES = 1 << 16

_PCAP_MAGIC = {0xA1B2C3D4: 10**6, 0xA1B23C4D: 10**9}
_MODIFIED_PCAP_MAGIC = 0xA1B2CD34
_PCAP_HEAD_BYTES = 24
_SECTION_TYPE, _SECTION_MAGIC = 0x0A0D0D0A, 0x1A2B3C4D
_SECTION_MIN, _INTERFACE_MIN = 28, 20
_PCAP_FCS_KNOWN = 1 << 26
_OPTION_NAME, _OPTION_TSRESOL, _OPTION_FCSLEN, _OPTION_TSOFFSET = 2, 9, 13, 14


class Readable(Protocol):
    """A file object: bytes come from `read`."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end."""


Source: TypeAlias = "str | os.PathLike[str] | Readable"


class _Closed(Exception):
    """Another thread closes the file that is read."""


class Capture:
    """An open capture file. Iterate over it for packets or over `batches()`, or call `receive` until `at_end`.

    Any thread may call `stop`, which ends the iteration after the current batch, or `close`, which ends it at once. A
    thread that waits for a pipe is woken by `close`; not where you gave a file object: its reading is not ours.
    """

    @checked
    def __init__(
        self, source: Source, *, strict: bool = True, label: Label = 0, max_held_bytes: HeldBytes = 1 << 30
    ) -> None:
        #: What ended the reading too early, once that has happened; also with `strict=False`.
        self.error: CaptureError | None = None
        self.strict = strict
        self._pool = BufferPool(max_held_bytes)
        self._state: CData = ffi.new("struct nfl_capture *", {"label": label})
        self._position: CData = ffi.new("uint64_t *")
        self._interfaces: CData = ffi.new("struct nfl_interface[]", 1)
        self._names: dict[int, str] = {}
        self._table = NO_NAMES
        self._numbered = 0
        self._rest = b""
        self._rest_is_whole = False
        self._skip = self._bytes = self._broken = 0
        self._stopping = self._over = self._closed = False
        self._alarm = Alarm()
        self._readinto, self.name, self._close = _open(source, self._alarm)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    # -- reading -------------------------------------------------------------------------------------------------

    def receive(self) -> Batch:
        """Return the next packets; an empty batch only at the end.

        Raises CaptureError if the file is cut or damaged, once all packets before that point were returned (with
        `strict=False` the file ends there instead), OSError if reading fails, NflowError if packets you keep hold too
        many buffers, and ValueError after `close`.
        """
        with self._alarm.lock:
            self._check_open()
            return self._receive()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"capture {self.name} is closed; open it again with read_pcap")

    def _receive(self) -> Batch:
        if self._over:
            return Batch(None, 0, file=self.name)
        slot = self._pool.take()
        state = self._state
        state.valid_any, state.valid_all, state.named = 0, 2**64 - 1, 0
        try:
            count, used = self._fill(slot)
        except CaptureError as error:
            self._pool.put(slot)
            self._end(error)
            return Batch(None, 0, file=self.name)
        except _Closed:
            self._pool.put(slot)
            return Batch(None, 0, file=self.name)
        except BaseException:
            self._pool.put(slot)
            raise
        if not count:
            self._pool.put(slot)
            self._over = True
            return Batch(None, 0, file=self.name)
        return Batch(
            self._pool.lease(slot, used + count * RECORD_BYTES),
            count,
            file=self.name,
            valid_any=state.valid_any,
            valid_all=state.valid_all,
            find_names=None if state.kernel_indexes else self._find_names,
        )

    @property
    def at_end(self) -> bool:
        """Whether everything that can be read of the file has been read."""
        return self._over

    @checked
    def batches(self, timeout: Seconds | None = None) -> Iterator[Batch]:
        """Yield batches to the end of the file, or until `stop`; raises the errors of `receive`.

        timeout: ignored, because a file never waits; it lets code for groups read files too.
        """
        if self._stopping:
            return
        batch = self.receive()
        while batch:
            yield batch
            with self._alarm.lock:
                if self._stopping or self._alarm.rung:  # closed meanwhile: this is the end, not a mistake
                    return
                batch = self.receive()

    def __iter__(self) -> Iterator[Packet]:
        for batch in self.batches():
            yield from batch

    def stop(self) -> None:
        """End the iteration after the current batch, whichever thread runs it."""
        self._stopping = True

    def _end(self, error: CaptureError) -> None:
        self._over = True
        self._broken = 1
        self.error = error
        if self.strict:
            raise error
        log.warning("%s", error)

    def _fill(self, slot: Slot) -> tuple[int, int]:
        """Read a piece of the file into a slot and decode it; the number of records and of bytes, no record at the end.

        What lies behind them, mostly the beginning of a packet, is kept for the next slot.
        """
        state, position = self._state, self._position
        view = memoryview(ffi.buffer(slot.data, DATA_BYTES))
        have, at, count = len(self._rest), 0, 0
        view[:have] = self._rest
        needed = have if self._rest_is_whole else have + 1
        while True:
            if needed > have:
                try:
                    got = self._read(view[have : max(needed, _PIECE_BYTES)])
                except BaseException:
                    # A caller that was interrupted, or knows that it may work again, continues from here.
                    self._rest, self._rest_is_whole = bytes(view[:have]), False
                    raise
                if not got:
                    if have or self._skip:
                        raise self._error(
                            "it ends in the middle of a packet or block, which begins", self._bytes - have
                        )
                    return 0, 0
                have += got
            position[0] = at
            count += lib.nfl_capture_decode(
                state, slot.data, position, have, slot.records + count, ROOM_RECORDS - count
            )
            self._skip, at, stop, wanted = max(0, position[0] - have), min(position[0], have), state.stop, state.wanted
            try:
                if stop == lib.NFL_CAPTURE_BLOCK:
                    size = self._read_block(view[at:have], self._bytes - (have - at))
                    if at + size <= have:
                        at += size
                        needed = have
                        continue
                    stop, wanted = lib.NFL_CAPTURE_MORE, size
                elif stop == lib.NFL_CAPTURE_BROKEN:
                    raise self._error("an impossible length stands", self._bytes - (have - at))
            except CaptureError:
                # It will be found again by the next call, which has nothing else to return.
                if not count:
                    raise
            self._rest = bytes(view[at:have])
            self._rest_is_whole = stop != lib.NFL_CAPTURE_MORE
            if count:
                return count, have
            if stop == lib.NFL_CAPTURE_NAMES:
                # Packets that came to nothing were of the other kind.
                state.named = 0
            have, at = len(self._rest), 0
            view[:have] = self._rest
            needed = have if self._rest_is_whole else max(wanted, have + 1)

    def _read(self, view: memoryview) -> int:
        """Read what is there into the view, after what has to be passed over; 0 at the end."""
        try:
            while self._skip:
                got = self._readinto(view[: self._skip])
                if not got:
                    return 0
                self._skip -= got
                self._bytes += got
            got = self._readinto(view)
        except Cut as cut:
            raise self._error(f"{cut}, after {self._bytes} bytes: a packet may begin", self._bytes) from None
        self._bytes += got
        return got

    def _error(self, what: str, at: int) -> CaptureError:
        packets = self._state.received
        message = f"{what} at byte {at}; {packets} packets came before"
        return CaptureError(message, file=self.name, at=at, packets=packets)

    # -- file formats --------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Find out what it is."""
        head = self._exactly(4)
        if is_compressed(head):
            self._readinto = decompressing(head, self._readinto)
            self._bytes = 0
            head = self._exactly(4)
        if not head:
            raise CaptureError("it is empty", file=self.name)
        if len(head) == 4:
            for order in "<>":
                (magic,) = struct.unpack(order + "I", head)
                if magic in _PCAP_MAGIC:
                    return self._begin_pcap(order, _PCAP_MAGIC[magic])
                if magic == _MODIFIED_PCAP_MAGIC:
                    what = "it has the 'modified' pcap format (a1b2cd34), which is not supported"
                    raise CaptureError(f"{what}; convert it: editcap -F pcap IN OUT", file=self.name)
                if magic == _SECTION_TYPE:
                    self._state.blocks = 1
                    self._rest = head
                    return None
        raise CaptureError(
            f"it is not a capture (pcap or pcapng): it begins with the bytes {head.hex(' ')}", file=self.name
        )

    def _begin_pcap(self, order: str, units: int) -> None:
        head = self._exactly(_PCAP_HEAD_BYTES - 4)
        if len(head) < _PCAP_HEAD_BYTES - 4:
            raise self._error("it ends in the middle of the file header, which begins", 0)
        major, minor, _, _, snaplen, linktype = struct.unpack(order + "HHiIII", head)
        if major != 2:
            raise CaptureError(f"version {major}.{minor} of pcap is not supported, only 2", file=self.name)
        # Above the link type stands whether it is known how long the frames' checksums are, and their 16-bit words.
        fcs = (linktype >> 28) * 2 if linktype & _PCAP_FCS_KNOWN else 0
        linktype &= 0xFFFF
        if linktype not in LINK_TYPES:
            raise CaptureError(f"link type {linktype} is not supported; {_supported()} are", file=self.name)
        self._state.swapped = order != _NATIVE
        self._interfaces[0] = {"linktype": linktype, "snaplen": snaplen, "units": units, "fcs": fcs}
        self._state.interfaces, self._state.interface_count = self._interfaces, 1

    def _exactly(self, size: int) -> bytes:
        """Read so many bytes, or fewer at the end."""
        found = bytearray(size)
        have = 0
        while have < size and (got := self._read(memoryview(found)[have:])):
            have += got
        return bytes(found[:have])

    def _read_block(self, block: memoryview, at: int) -> int:
        """Take in the section header or interface description that begins here; return how many bytes it has.

        Where not all of them are there, nothing was done: it is to be called again with that many.
        """
        order, least = _OTHER if self._state.swapped else _NATIVE, _INTERFACE_MIN
        (kind,) = struct.unpack_from("=I", block)
        if kind == _SECTION_TYPE:
            known = [o for o in "<>" if struct.unpack_from(o + "I", block, 8)[0] == _SECTION_MAGIC]
            if not known:
                raise self._error("a section header without a byte order begins", at)
            order, least = known[0], _SECTION_MIN
        (size,) = struct.unpack_from(order + "I", block, 4)
        if size < least or size % 4 or size > lib.NFL_CAPTURE_BLOCK_MAX:
            raise self._error(f"a block with the impossible length {size} begins", at)
        if size > len(block):
            return int(size)
        if struct.unpack_from(order + "I", block, size - 4)[0] != size:
            raise self._error("a block whose two lengths differ begins", at)
        if kind == _SECTION_TYPE:
            self._begin_section(order, struct.unpack_from(order + "H", block, 12)[0], at)
        else:
            self._add_interface(order, block[:size], at)
        return int(size)

    def _begin_section(self, order: str, version: int, at: int) -> None:
        if version != 1:
            raise self._error(f"a section of pcapng version {version} (only 1 is supported) begins", at)
        self._state.swapped = order != _NATIVE
        self._state.interface_count = 0

    def _add_interface(self, order: str, block: memoryview, at: int) -> None:
        count = self._state.interface_count
        if self._numbered == _MAX_INTERFACES:
            raise self._error(f"an interface beyond the limit of {_MAX_INTERFACES} begins", at)
        if count == len(self._interfaces):
            grown = ffi.new("struct nfl_interface[]", 2 * count)
            ffi.memmove(grown, self._interfaces, ffi.sizeof(self._interfaces))
            self._interfaces = grown
        linktype, snaplen = struct.unpack_from(order + "HxxI", block, 8)
        name, units, offset, fcs = "", 10**6, 0, 0
        for code, value in _options(order, block[16:-4]):
            if code == _OPTION_NAME:
                name = bytes(value).split(b"\0")[0].decode("utf-8", "surrogateescape")
            elif code == _OPTION_TSRESOL and value:
                units = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
            elif code == _OPTION_TSOFFSET and len(value) >= 8:
                (offset,) = struct.unpack_from(order + "q", value)
            elif code == _OPTION_FCSLEN and value:
                # In bits; some write bytes, which no whole number of bytes is as bits.
                fcs = value[0] // 8 if value[0] % 8 == 0 else value[0]
        if units >= 2**64:
            raise self._error("an interface whose time stamps are too fine for 64 bits begins", at)
        if linktype not in LINK_TYPES:
            what = f"packets of link type {linktype} (interface {count} '{name}') are left out"
            log.warning("read %s: %s; %s are supported", self.name, what, _supported())
        self._numbered += 1
        if name:
            self._names[self._numbered] = name
        self._interfaces[count] = {
            "linktype": linktype, "snaplen": snaplen, "index": self._numbered, "units": units, "offset": offset,
            "fcs": fcs,
        }  # fmt: skip
        self._state.interfaces, self._state.interface_count = self._interfaces, count + 1

    def _find_names(self) -> NameTable:
        # Numbers are given once in a file: names that were added since harm no batch.
        if len(self._table) != len(self._names):
            self._table = NameTable(dict(self._names))
        return self._table

    # -- surroundings --------------------------------------------------------------------------------------------

    @property
    def stats(self) -> CaptureStats:
        """What was read so far, and what could not be."""
        stats = CaptureStats()
        take_over(stats, self._state)
        stats.broken, stats.bytes = self._broken, self._bytes
        return stats

    def close(self) -> None:
        """Close the file, unless a file object was given; batches stay readable.

        It may be called again, and from any thread: an iteration ends. Afterwards `receive` raises ValueError.
        """
        self._over = True
        self._alarm.ring()
        with self._alarm.lock:
            self._closed = True
            self._close()
            self._alarm.close()

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Capture {self.name}: {self.stats}>"


_NATIVE, _OTHER = ("<", ">") if sys.byteorder == "little" else (">", "<")


def _supported() -> str:
    names: dict[str, list[str]] = {}
    for number, name in LINK_TYPES.items():
        names.setdefault(name, []).append(str(number))
    return ", ".join(f"{name} ({', '.join(numbers)})" for name, numbers in names.items())


def _options(order: str, data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield code and value of each option of a block, up to the first that does not fit."""
    while len(data) >= 4:
        code, length = struct.unpack_from(order + "HH", data)
        if not code or length > len(data) - 4:
            return
        yield code, data[4 : 4 + length]
        data = data[4 + (length + 3 & ~3) :]


# -- where bytes come from --------------------------------------------------------------------------------------------


#: Fills a part of a buffer and says how much; 0 at the end.
def _open(source: Source, alarm: Alarm) -> tuple[ReadInto, str, Callable[[], None]]:
    """Return how to read the source, its name, and what closes it. `alarm` ends the waiting for a pipe."""
    if source == "-":  # it stays open
        return _of_file(0, alarm), "standard input", lambda: None
    if isinstance(source, str | bytes | os.PathLike):
        file = Descriptor.opened(os.fsdecode(source), os.O_RDONLY)
        return _of_file(file.fd, alarm), os.fsdecode(source), file.close
    if not hasattr(source, "read"):
        raise TypeError(f"read_pcap: source must be a path or a binary file object, not {type(source).__name__}")
    if isinstance(source, io.TextIOBase):
        raise TypeError("read_pcap: the file is open as text; open it with mode 'rb'")
    return _of_object(source), str(getattr(source, "name", f"<{type(source).__name__}>")), lambda: None


def _of_file(fd: int, alarm: Alarm) -> ReadInto:
    # Unbuffered: the pieces that are read are large.
    method = _of_object(open(fd, "rb", 0, closefd=False))  # noqa: SIM115
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return method

    def read(view: memoryview) -> int:
        alarm.wait(fd)
        if alarm.rung:
            raise _Closed
        return method(view)

    return read


def _of_object(file: Any) -> ReadInto:
    # What is there is enough: a pipe may be silent for a while.
    for name in ("readinto1", "readinto"):
        if method := getattr(file, name, None):
            return functools.partial(_blocking, method)

    def read(view: memoryview) -> int:
        data = file.read(len(view))
        view[: len(data)] = data
        return len(data)

    return read


def _blocking(method: Callable[[memoryview], int | None], view: memoryview) -> int:
    got = method(view)
    if got is None:
        raise BlockingIOError(errno.EAGAIN, "read_pcap: no data yet, and the file object is non-blocking")
    return got


@checked
def read_pcap(source: Source, *, strict: bool = True, label: Label = 0, max_held_bytes: HeldBytes = 1 << 30) -> Capture:
    """Open a capture file and read its packets like those of a group: iterate over it, or over its `batches()`.

    source: a path, `-` for standard input, or a binary file object, which stays open. The format is pcap or pcapng; it
        may be compressed by gzip, xz or bzip2, or by zstd if the module zstandard is installed.
    strict: whether a file that is damaged, or ends in the middle of a packet, raises CaptureError after the packets
        before that point. Otherwise the fault is only logged, counted (`stats.broken`) and kept (`error`).
    label: value of `raw.label` for each packet, 0 to 255.
    max_held_bytes: most bytes of receive buffers that the packets, memoryviews and columns you keep may hold.

    Raises OSError if the file cannot be opened, CaptureError if it is not a capture or its link type is not supported
    (`nflowlevel.readers.files.LINK_TYPES`), NotSupported for zstd without that module, TypeError for an unknown option
    or a value of the wrong type, and ValueError for a value that is not allowed.
    """
    return Capture(source, strict=strict, label=label, max_held_bytes=max_held_bytes)
