# SPDX-License-Identifier: GPL-2.0-or-later
"""Ring: rows that wait in memory, oldest first, bounded; it costs the memory of what is in it.

What was taken stays in front until it is done, and is what the next `take` gets again: the one who writes it may fail
and simply take once more. The owner holds a lock around every call; none of them waits, nor does work per row but where
a chunk has to be split.
"""

from __future__ import annotations

import sys
from collections import deque
from itertools import islice

from nflowlevel.spool.rows import Rows, follows


class Ring:
    """Room for `size` rows of `max_bytes` in all, and for `extra_bytes` of rows beyond them."""

    def __init__(self, size: int, extra_bytes: int = 0, max_bytes: int = sys.maxsize) -> None:
        self.size, self.extra_bytes, self.max_bytes = size, extra_bytes, max_bytes
        #: What is held.
        self.rows = self.bytes = 0
        self._taken: deque[Rows] = deque()
        self._waiting: deque[Rows] = deque()

    @property
    def first(self) -> int | None:
        """The number of the oldest row."""
        oldest = self._taken or self._waiting
        return oldest[0].first if oldest else None

    @property
    def first_waiting(self) -> int | None:
        """The number of the oldest row that is not taken."""
        return self._waiting[0].first if self._waiting else None

    def put(self, rows: Rows) -> Rows | None:
        """Hold what there is room for; return the rest."""
        room = self._room(rows)
        if room >= rows.count:
            self._append(rows)
            return None
        if room <= 0:
            return rows
        head, rest = rows.split(room)
        self._append(head)
        return rest

    def push(self, rows: Rows) -> int:
        """Hold the newest of all rows; return how many older ones were dropped for that, none of them taken."""
        over = rows.count - max(0, self._room(rows))
        if over <= 0:
            self._append(rows)
            return 0
        missing = over - self._drop(over)
        if missing < rows.count:
            self._append(rows.split(missing)[1] if missing else rows)
        return over

    def take(self, max_rows: int, max_bytes: int) -> list[Rows]:
        """Return the oldest rows, neighbours of one layout, at least one row if any is held."""
        if self._taken:
            return _head(self._taken, max_rows, max_bytes)
        if not self._waiting:
            return []
        parts = _head(self._waiting, max_rows, max_bytes)
        for _ in parts:
            self._taken.append(self._waiting.popleft())
        return parts

    def done(self, number: int) -> tuple[int, int]:
        """Remove the rows up to `number`; return how many rows and bytes they were."""
        rows, size = self.rows, self.bytes
        for chunks in (self._taken, self._waiting):
            while chunks and chunks[0].first <= number:
                self._remove_from(chunks, number - chunks[0].first + 1)
        return rows - self.rows, size - self.bytes

    def clear(self) -> list[Rows]:
        """Remove and return everything."""
        parts = [*self._taken, *self._waiting]
        self._taken.clear()
        self._waiting.clear()
        self.rows = self.bytes = 0
        return parts

    def _room(self, rows: Rows) -> int:
        """Return how many more rows there is room for, if they are like `rows`; below 0 if there are too many."""
        room = self.size - self.rows
        size = len(rows.data)
        if room >= rows.count and self.bytes + size <= self.max_bytes:
            return room
        # What rows take is known by the mean only: it saves a second account of each chunk.
        mean = (self.bytes + size) / (self.rows + rows.count)
        return min(room, int((self.max_bytes - self.bytes) / mean)) + int(self.extra_bytes / mean)

    def _append(self, rows: Rows) -> None:
        self._waiting.append(rows)
        self.rows += rows.count
        self.bytes += len(rows.data)

    def _drop(self, count: int) -> int:
        """Drop the oldest rows that are not taken, at most `count`; return how many that were."""
        before = self.rows
        while self._waiting and (left := count - before + self.rows):
            self._remove_from(self._waiting, left)
        return before - self.rows

    def _remove_from(self, chunks: deque[Rows], count: int) -> None:
        """Remove up to `count` rows of the first chunk."""
        chunk = chunks[0]
        if count >= chunk.count:
            chunks.popleft()
            self.rows -= chunk.count
            self.bytes -= len(chunk.data)
            return
        chunks[0] = chunk.split(count)[1]
        self.rows -= count
        self.bytes -= len(chunk.data) - len(chunks[0].data)


def _head(chunks: deque[Rows], max_rows: int, max_bytes: int) -> list[Rows]:
    """Return whole chunks from the left that keep the limits; a first one that does not is split where it lies."""
    first = chunks[0]
    rows, size = first.count, len(first.data)
    if first.count > 1 and (rows > max_rows or size > max_bytes):
        first, rest = first.cut(max_rows, max_bytes)
        chunks[0] = first
        if rest.count:
            chunks.insert(1, rest)
        return [first]
    parts = [first]
    for chunk in islice(chunks, 1, None):
        rows, size = rows + chunk.count, size + len(chunk.data)
        if rows > max_rows or size > max_bytes or not follows(parts[-1], chunk):
            break
        parts.append(chunk)
    return parts
