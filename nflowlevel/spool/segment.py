# SPDX-License-Identifier: GPL-2.0-or-later
"""A segment: one file of the spool, to which records are appended, each with its checksums.

A record is a head, the layout as a JSON list of key names, and rows as text: it can be read without what stands before
it, and by a version that knows other keys. Within a segment the rows are numbered without a gap; the file's name tells
the numbers: `<first>.rows` while it grows, `<first>-<last>.rows` when it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from nflowlevel.logs import log
from nflowlevel.spool.rows import Layout, Rows

#: Begins each record; the digit is the version of the format.
MAGIC = b"NFR1"

#: Magic; checksum of the rest of the head; checksum, then sizes of layout and rows; number of rows, and of the first.
_HEAD = struct.Struct("<4sIIIIIQ")
_CHECKED_FROM = 8

_NAME = re.compile(r"([0-9a-f]{16})(?:-([0-9a-f]{16}))?\.rows")


@dataclass(slots=True, eq=False)
class Segment:
    """Where a segment is, and what is in it."""

    path: str
    first: int
    last: int
    size: int
    #: Part of it cannot be read.
    damaged: bool = False

    def rows_between(self, above: int, to: int) -> int:
        """Return how many of its rows have numbers above `above`, up to `to`."""
        return max(0, min(self.last, to) - max(self.first - 1, above))

    def read(self, offset: int, size: int) -> bytes:
        """Return the bytes from `offset` up to `size`, or what is there of them."""
        while True:
            path = self.path
            try:
                file = open(path, "rb", buffering=0)  # noqa: SIM115
            except FileNotFoundError:
                if path == self.path:
                    raise
                continue  # the other thread completed and renamed it
            with file:
                return os.pread(file.fileno(), size - offset, offset)

    def rename(self, path: str) -> None:
        """Give the file another name."""
        os.rename(self.path, path)
        self.path = path

    def set_aside(self) -> None:
        """Keep the file for somebody who wants to look what can be saved of it; the spool does not touch it again."""
        self.damaged = True
        with contextlib.suppress(OSError):
            self.rename(f"{self.path}.damaged")


class Growing:
    """A segment being written, by one thread."""

    def __init__(self, directory: str, first: int) -> None:
        path = os.path.join(directory, _name(first))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self.fd = os.open(path, flags, 0o600)
        self.segment = Segment(path, first, first - 1, 0)
        #: A partial record is at its end that could not be taken back: nothing may follow.
        self.torn = False

    def append(self, rows: Rows, parts: list[bytes]) -> None:
        """Write the next rows, as their `record`. After an OSError nothing of them is in the file."""
        if not os.fstat(self.fd).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "the spool was deleted while in use")
        size = sum(map(len, parts))
        try:
            written = os.writev(self.fd, parts)
            while written < size:  # what stopped it says so now
                written += os.write(self.fd, b"".join(parts)[written:])
        except OSError:
            self._take_back()
            raise
        self.segment.last = rows.last
        self.segment.size += size

    def complete(self) -> None:
        """Give the file its final name; the descriptor stays open, for a last sync."""
        directory = os.path.dirname(self.segment.path)
        self.segment.rename(os.path.join(directory, _name(self.segment.first, self.segment.last)))

    def _take_back(self) -> None:
        try:
            os.ftruncate(self.fd, self.segment.size)
        except OSError:
            self.torn = True


def record(rows: Rows) -> list[bytes]:
    """Return the bytes of a record, in parts."""
    layout = _packed(rows.layout)
    body = zlib.crc32(rows.data, zlib.crc32(layout))
    head = _HEAD.pack(MAGIC, 0, body, len(layout), len(rows.data), rows.count, rows.first)
    check = zlib.crc32(memoryview(head)[_CHECKED_FROM:])
    return [MAGIC, check.to_bytes(4, "little"), head[_CHECKED_FROM:], layout, rows.data]


def records(data: bytes) -> Iterator[tuple[int, Rows]]:
    """Yield every intact record and where it ends; damaged ones are passed over."""
    start = 0
    while 0 <= start <= len(data) - _HEAD.size:
        found = _record_at(data, start)
        if found:
            yield found
            start = found[0]
        else:
            start = data.find(MAGIC, start + 1)


def find(directory: str) -> list[Segment]:
    """Return the segments of a directory, oldest first; one that was growing is completed, a torn end cut off."""
    found = []
    for name in sorted(os.listdir(directory)):
        if matched := _NAME.fullmatch(name):
            path = os.path.join(directory, name)
            first, last = int(matched[1], 16), int(matched[2] or "0", 16)
            segment = Segment(path, first, last, os.stat(path).st_size)
            if matched[2] or _recover(segment):
                found.append(segment)
    return found


def _recover(segment: Segment) -> bool:
    """Find out what is in a segment whose writer did not complete it; False if nothing is."""
    data = segment.read(0, segment.size)
    intact = list(records(data))
    if not intact:
        # The first record is cut off, or is zeros where a power failure overtook the data: never waited for.
        os.unlink(segment.path) if _is_cut_off(data) else segment.set_aside()
        return False
    end, newest = intact[-1]
    segment.last = newest.last
    if end < len(data):
        log.error("%s ended in a torn record (a crash?): its %d bytes were cut off", segment.path, len(data) - end)
        os.truncate(segment.path, end)
        segment.size = end
    segment.rename(os.path.join(os.path.dirname(segment.path), _name(segment.first, segment.last)))
    return True


def _is_cut_off(data: bytes) -> bool:
    if len(data) < _HEAD.size or not data.strip(b"\0"):
        return True
    layout_size, data_size = _HEAD.unpack_from(data)[3:5]
    return bool(len(data) < _HEAD.size + layout_size + data_size)


def _record_at(data: bytes, start: int) -> tuple[int, Rows] | None:
    magic, check, body, layout_size, data_size, count, first = _HEAD.unpack_from(data, start)
    middle = start + _HEAD.size
    end = middle + layout_size + data_size
    if magic != MAGIC or end > len(data) or check != zlib.crc32(data[start + _CHECKED_FROM : middle]):
        return None
    layout, text = data[middle : middle + layout_size], data[middle + layout_size : end]
    if body != zlib.crc32(text, zlib.crc32(layout)):
        return None
    return end, Rows(_unpacked(layout), first, count, text)


@lru_cache(64)
def _packed(layout: Layout) -> bytes:
    return json.dumps(layout, ensure_ascii=False, separators=(",", ":")).encode()


@lru_cache(64)
def _unpacked(layout: bytes) -> Layout:
    return tuple(json.loads(layout))


def _name(first: int, last: int | None = None) -> str:
    return f"{first:016x}.rows" if last is None else f"{first:016x}-{last:016x}.rows"
