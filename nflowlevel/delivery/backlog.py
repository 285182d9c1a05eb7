# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines that wait in memory until their target takes them, or are counted as dropped."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from nflowlevel.delivery.framing import LINES

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from nflowlevel.delivery.framing import Framing
    from nflowlevel.stats import OutputStats

#: Small batches that wait are joined up to this size: a daemon that writes line by line is not one write per line late.
_JOIN_BYTES = 64 << 10


class Chunk:
    """Some complete lines and how many records they are (0: lines already counted, sent once more)."""

    __slots__ = ("data", "records")

    def __init__(self, data: bytearray, records: int) -> None:
        self.data, self.records = data, records

    def cut_before(self, position: int, framing: Framing = LINES) -> tuple[int, int]:
        """Remove the records that end at or before `position`; return how many records and bytes they were."""
        records, size = framing.before(self.data, position)
        records = min(records, self.records)
        del self.data[:size]
        self.records -= records
        return records, size


class Backlog:
    """Lines that wait, oldest first; keeps the `pending`, `written` and `dropped` of `stats` true to them.

    A chunk taken is still pending until it is `done`, lost or given back. When `max_bytes` wait, new lines are refused
    rather than old ones dropped: what is in the target then ends cleanly where the gap begins. Two threads may use it.
    """

    def __init__(self, max_bytes: int, stats: OutputStats, framing: Framing = LINES) -> None:
        self._max_bytes, self._stats, self.framing = max_bytes, stats, framing
        self._chunks: deque[Chunk] = deque()
        self._closed = False

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def has_room(self, size: int) -> bool:
        """Tell whether `size` bytes may be put: always when nothing else waits, however small the limit."""
        return not self._stats.pending_bytes or self._stats.pending_bytes + size <= self._max_bytes

    def put(self, data: Buffer, records: int, *, anyway: bool = False) -> bool:
        """Keep a copy of the lines; False if there is no room (unless `anyway`): they are counted as dropped."""
        size = memoryview(data).nbytes
        stats = self._stats
        with stats.lock:
            if not (anyway or self.has_room(size)):
                stats.drop("full", records)
                return False
            stats.pending += records
            stats.pending_bytes += size
            if self.framing.joins and self._chunks and len(self._chunks[-1].data) + size <= _JOIN_BYTES:
                self._chunks[-1].data += data
                self._chunks[-1].records += records
            else:
                self._chunks.append(Chunk(bytearray(data), records))
        return True

    def take(self) -> Chunk | None:
        """Remove and return the oldest chunk; it stays pending."""
        with self._stats.lock:
            return self._chunks.popleft() if self._chunks else None

    def give_back(self, chunk: Chunk) -> None:
        """Put a chunk taken, or what is left of it, back in front."""
        with self._stats.lock:
            if chunk.data and not self._closed:
                self._chunks.appendleft(chunk)

    def again(self, data: bytearray) -> None:
        """Put lines in front that were counted as written before and have to be sent once more."""
        with self._stats.lock:
            self._stats.pending_bytes += len(data)
            self.give_back(Chunk(data, 0))

    def done(self, records: int, size: int) -> None:
        """Count lines of a chunk taken as written."""
        stats = self._stats
        with stats.lock:
            if self._closed:
                return
            stats.pending -= records
            stats.pending_bytes -= size
            stats.written += records
            stats.bytes += size

    def lose(self, reason: str, records: int, size: int, *, after: int = 0) -> None:
        """Count lines of a chunk taken as dropped; `after` older records are pending, and stay so."""
        with self._stats.lock:
            if self._closed:
                return
            self._stats.pending -= records
            self._stats.pending_bytes -= size
            self._stats.drop(reason, records, after=after)

    def doubt(self, records: int) -> None:
        """Count lines that were counted as written as perhaps lost."""
        with self._stats.lock:
            if not self._closed:
                self._stats.maybe_lost += records

    def close(self, reason: str) -> int:
        """Drop everything pending, also what is taken at the moment; return how many records that were.

        What was to be sent once more, and is not now, may be lost.

        Nothing is counted any more after this, whatever a thread that is late still does.
        """
        with self._stats.lock:
            records = self._stats.pending
            whole = sum(self.framing.before(chunk.data, len(chunk.data))[0] for chunk in self._chunks)
            self.doubt(max(0, whole - sum(chunk.records for chunk in self._chunks)))
            self._chunks.clear()
            self.lose(reason, records, self._stats.pending_bytes)
            self._closed = True
            return records
