# SPDX-License-Identifier: GPL-2.0-or-later
"""A segment: one file of the spool, to which records are appended, each with its checksums.

A record is a head, the layout as a JSON list of key names, and rows as text: it can be read without what stands before
it, and by a version that knows other keys. Within a segment the rows are numbered without a gap; the file's name tells
the numbers: `<first>.rows` while it grows, `<first>-<last>.rows` when it is complete.

A name is believed as long as nothing contradicts it; otherwise what is in the file counts. Whatever else has such a
name is set aside, without being opened if it is no regular file.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
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

#: Numbers are below that.
NUMBERS = 1 << 62
#: So much more than what is known to be reserved a number may be: the file that says it may come from a backup.
_SLACK = 1 << 52
#: No segment of ours is larger: none grows beyond a few MiB but by its last record, which was in memory.
_MOST_BYTES = 256 << 20
_MOST_ROWS = 1 << 24
#: What looks like a record and is none may cost so much, in bytes looked at, besides the size of the file: a file that
#: somebody has filled with heads of records would hold up the start for hours.
_MOST_FALSE_BYTES = 64 << 20
#: What a look at a head costs, in bytes of checksums.
_HEAD_COSTS = 512

#: All files that a start has to look through may have so many bytes together: as many as the largest one.
_MOST_LOOKED_AT = _MOST_BYTES
#: So much each of them counts at least.
_LEAST_COST = 64 << 10
#: So many files get another name at one start.
_MOST_RENAMED = 1_000
_NO_NAME = "no segment has such a name"

#: With these a file can be looked at later; it is not the file's fault.
FOR_NOW = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


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
                file = open(path, "rb", buffering=0, opener=_opened)  # noqa: SIM115
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
            self.path = aside(self.path)


def aside(path: str) -> str:
    """Give what is at the path, whatever it is, a name that the spool does not look at, and return that."""
    names = itertools.chain([f"{path}.damaged"], (f"{path}.damaged.{number}" for number in itertools.count(1)))
    free = next(name for name in names if not os.path.lexists(name))
    os.rename(path, free)
    return free


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
    """Yield every intact record and where it ends; damaged ones are passed over, but not any number of them."""
    start, patience = 0, _MOST_FALSE_BYTES + len(data)
    while 0 <= start <= len(data) - _HEAD.size and patience >= 0:
        size = _size_at(data, start)
        found = _record_at(data, start) if size else None
        if found:
            yield found
            start = found[0]
        else:
            patience -= _HEAD_COSTS + size
            start = data.find(MAGIC, start + 1)


def find(
    directory: str, *, reserved: int = 0, said: Callable[[str, str], None] = lambda path, why: None
) -> list[Segment]:
    """Return the segments of a directory, oldest first, of which no two have rows of the same numbers.

    One that was growing is completed, a torn end cut off. What is no segment is set aside, and `said` is told which
    path it had and why. Numbers are known to be `reserved` up to there; 0: that is not known.

    However many files somebody has put there, and however large: a start looks through no more than `_MOST_LOOKED_AT`
    bytes of what does not begin as its name says, the smallest files first, and renames at most `_MOST_RENAMED`.
    """
    search = _Search(min(NUMBERS, reserved + _SLACK) if reserved else NUMBERS, said)
    found = []
    doubtful: list[tuple[bool, Segment]] = []
    for name in sorted(os.listdir(directory)):
        if name.endswith(".rows"):
            path = os.path.join(directory, name)
            with search.setting_aside(path):
                segment = search.named(path, name)
                if segment:
                    begins = _begins_with(segment.read(0, _HEAD.size), segment.first)
                    if begins and search.is_plausible(segment):
                        found.append(segment)
                    else:
                        doubtful.append((begins, segment))
    doubtful.sort(key=lambda each: (not each[0], each[1].size, each[1].first))
    for _, segment in doubtful:
        with search.setting_aside(segment.path):
            if looked_through := search.look_through(segment):
                found.append(looked_through)
    return search.without_overlaps(found)


class _NotOurs(Exception):
    """It is no segment, or one without an intact row."""


class _Search:
    """What a start does with the files that it finds, and how much of that it does."""

    def __init__(self, limit: int, said: Callable[[str, str], None]) -> None:
        self._limit, self._said = limit, said
        self._bytes_left = _MOST_LOOKED_AT
        self._names_left = _MOST_RENAMED

    @contextlib.contextmanager
    def setting_aside(self, path: str) -> Iterator[None]:
        """Set the file aside if what is done with it says that it is not ours, or that it cannot be read."""
        try:
            yield
        except FileNotFoundError:
            pass
        except _NotOurs as error:
            self._set_aside(path, str(error))
        except OSError as error:
            if error.errno in FOR_NOW:
                raise
            self._set_aside(path, f"it cannot be read: {error.strerror}")

    def _set_aside(self, path: str, why: str) -> None:
        if self._names_left:
            self._names_left -= 1
            try:
                aside(path)
            except OSError as error:
                why += f"; it cannot be renamed: {error.strerror}"
        else:
            why += "; so are many others: it keeps its name, and is not used"
        self._said(path, why)

    def named(self, path: str, name: str) -> Segment | None:
        """Return the segment that the file is by its name."""
        matched = _NAME.fullmatch(name)
        if not matched and not self._names_left:
            self._set_aside(path, _NO_NAME)
            return None
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            raise _NotOurs("it is not a regular file")
        if not matched:
            raise _NotOurs(_NO_NAME)
        if status.st_size > _MOST_BYTES:
            raise _NotOurs("it is larger than any segment")
        first = int(matched[1], 16)
        return Segment(path, first, int(matched[2], 16) if matched[2] else first - 1, status.st_size)

    def is_plausible(self, segment: Segment) -> bool:
        """Tell whether a complete segment can have such a name."""
        return segment.first <= segment.last < self._limit and segment.last - segment.first < _MOST_ROWS

    def look_through(self, segment: Segment) -> Segment | None:
        """Return what is in the file; None where a crash has left nothing."""
        if "-" not in os.path.basename(segment.path):
            return segment if self._recover(segment) else None
        plausible = self.is_plausible(segment)
        try:
            begins, ends = self._contents(segment)
        except _TooMuch:
            raise
        except _NotOurs:
            if not plausible:
                raise
            return segment  # rot: its rows will be counted as lost
        if not (plausible and segment.first <= begins <= ends <= segment.last):
            _correct(segment, begins, ends)
        return segment

    def _read(self, segment: Segment) -> bytes:
        """Return the whole file, unless too much was read already."""
        cost = max(segment.size, _LEAST_COST)
        if cost > self._bytes_left:
            raise _TooMuch("with all that is damaged here it is too much to look through at one start")
        self._bytes_left -= cost
        return segment.read(0, segment.size)

    def _contents(self, segment: Segment) -> tuple[int, int]:
        """Return the first and the last number of the intact rows."""
        return self._numbers(segment, self._read(segment))

    def _numbers(self, segment: Segment, data: bytes) -> tuple[int, int]:
        spans = [(rows.first, rows.last) for _, rows in records(data) if rows.last < self._limit]
        if not spans:
            raise _NotOurs("no row in it is intact")
        first, last = min(spans)[0], max(last for _, last in spans)
        if last - first >= segment.size:
            raise _NotOurs("its rows do not belong together")
        return first, last

    def without_overlaps(self, found: list[Segment]) -> list[Segment]:
        """Return the segments in order; where two have the same numbers, by name or in truth, each number once."""
        found.sort(key=_order)
        suspects, longest = [], None
        for each in found:
            if longest and each.first <= longest.last:
                suspects += [longest, each]
            longest = each if longest is None or each.last > longest.last else longest
        for each in dict.fromkeys(suspects):
            try:
                first, last = self._contents(each)
            except (OSError, _NotOurs) as error:
                found.remove(each)
                self._set_aside(each.path, str(error))
            else:
                if (first, last) != (each.first, each.last):
                    _correct(each, first, last)
        found.sort(key=_order)
        kept: list[Segment] = []
        for each in found:
            end = kept[-1].last if kept else 0
            if each.last <= end:
                self._set_aside(each.path, "other segments have the same rows")
                continue
            if each.first <= end:
                log.error("%s has rows that another segment has: those up to %d are passed over", each.path, end)
                each.first, each.damaged = end + 1, True
            kept.append(each)
        return kept

    def _recover(self, segment: Segment) -> bool:
        """Find out what is in a segment whose writer did not complete it; False if nothing is."""
        data = self._read(segment)
        intact = [(end, rows) for end, rows in records(data) if rows.last < self._limit]
        if not intact:
            # The first record is cut off, or is zeros where a power failure overtook the data: never waited for.
            if _is_cut_off(data):
                os.unlink(segment.path)
                return False
            raise _NotOurs("no row in it is intact")
        end = intact[-1][0]
        first, last = self._numbers(segment, data)
        if first != segment.first:
            _correct(segment, first, last)
        segment.last = last
        if end < len(data):
            log.error("%s ended in a torn record (a crash?): its %d bytes were cut off", segment.path, len(data) - end)
            _cut(segment.path, end)
            segment.size = end
        path = os.path.join(os.path.dirname(segment.path), _name(segment.first, segment.last))
        if not os.path.lexists(path):  # else it is looked at once more where segments overlap
            segment.rename(path)
        return True


class _TooMuch(_NotOurs):
    """It was not looked through."""


def _begins_with(head: bytes, first: int) -> bool:
    if len(head) < _HEAD.size or head[:4] != MAGIC or _HEAD.unpack(head)[1] != zlib.crc32(head[_CHECKED_FROM:]):
        return False
    return bool(_HEAD.unpack(head)[-1] == first)


def _correct(segment: Segment, first: int, last: int) -> None:
    """Believe what is in the file, not its name; it is kept when its rows are done."""
    log.error("%s has rows %d to %d, not what its name says: they are used", segment.path, first, last)
    segment.first, segment.last, segment.damaged = first, last, True


def _order(segment: Segment) -> tuple[int, int, bool]:
    """Of two with the same rows the one whose name is right comes first, and stays."""
    return segment.first, -segment.last, segment.damaged


def _cut(path: str, size: int) -> None:
    """Cut off the end, unless the file has another name somewhere."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if os.fstat(fd).st_nlink == 1:
            os.ftruncate(fd, size)
    finally:
        os.close(fd)


def _opened(path: str, flags: int) -> int:
    """Open a regular file, and nothing else; never wait."""
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file")
    return fd


def _is_cut_off(data: bytes) -> bool:
    if len(data) < _HEAD.size or not data.strip(b"\0"):
        return True
    magic, check, _, layout_size, data_size = _HEAD.unpack_from(data)[:5]
    is_head = magic == MAGIC and check == zlib.crc32(data[_CHECKED_FROM : _HEAD.size])
    return bool(is_head and len(data) < _HEAD.size + layout_size + data_size)


def _size_at(data: bytes, start: int) -> int:
    """Return the size of the record that begins there by its head, which is intact; else 0."""
    magic, check, _, layout_size, data_size, _, _ = _HEAD.unpack_from(data, start)
    size = int(_HEAD.size + layout_size + data_size)
    is_head = (
        magic == MAGIC
        and size <= len(data) - start
        and check == zlib.crc32(data[start + _CHECKED_FROM : start + _HEAD.size])
    )
    return size if is_head else 0


def _record_at(data: bytes, start: int) -> tuple[int, Rows] | None:
    """Return the record whose head is intact there, and where it ends; None where the rest is damaged."""
    _, _, body, layout_size, data_size, count, first = _HEAD.unpack_from(data, start)
    middle = start + _HEAD.size
    end = middle + layout_size + data_size
    layout, text = data[middle : middle + layout_size], data[middle + layout_size : end]
    if body != zlib.crc32(text, zlib.crc32(layout)):
        return None
    names = _unpacked(layout)
    # The rest holds where we wrote it; a checksum says that it is as it was written, not by whom.
    if not names or not first or not count or not text.endswith(b"\n") or text.count(b"\n") != count:
        return None
    return end, Rows(names, first, count, text)


@lru_cache(64)
def _packed(layout: Layout) -> bytes:
    return json.dumps(layout, ensure_ascii=False, separators=(",", ":")).encode()


@lru_cache(64)
def _unpacked(layout: bytes) -> Layout:
    """Return the names; none where it is no list of names."""
    try:
        names = json.loads(layout)
    except (ValueError, RecursionError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _name(first: int, last: int | None = None) -> str:
    return f"{first:016x}.rows" if last is None else f"{first:016x}-{last:016x}.rows"
