# SPDX-License-Identifier: GPL-2.0-or-later
"""Feed: from the receive loop to one writer's thread: the ring and the spool as one queue, in the order of arrival.

- One thread puts and never waits for the other. One takes; what it took stays in front until it is done, or refused.
- Rows have ascending numbers, so the oldest row is in front wherever it lies: what memory cannot hold goes to disk, and
  when the disk is nearly drained and the ring is empty new rows go to the ring again. Whoever has the lower number is
  taken first.
- At every moment records == written + pending + sum(dropped): each row is counted where its fate is decided.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import ClassVar

from nflowlevel.logs import Limited, log
from nflowlevel.spool.options import WhenFull
from nflowlevel.spool.ring import Ring
from nflowlevel.spool.rows import Layout, Rows, joined
from nflowlevel.spool.spool import Spool
from nflowlevel.stats import OutputStats, Turns, counter

#: How long a spool that cannot be read for the moment is left alone.
_PAUSE_SECS = 1.0

_WHY = {
    "ring_full": "the ring in memory is full",
    "spool_full": "the ring in memory is full, and the spool reached spool_max_bytes",
    "spool_error": "the ring in memory is full, and the spool cannot be written",
}


class SpoolStats(OutputStats):
    """What became of the records given to an output with a spool."""

    says_whose: ClassVar[bool] = True
    reasons: ClassVar[Mapping[str, str]] = {
        "ring_full": "The ring in memory was full, and `when_full` says to drop.",
        "spool_full": "The ring was full, and the spool had reached `spool_max_bytes`.",
        "spool_error": "The ring was full and the spool could not be written, or its contents could not be read.",
        "refused": "The target refused the row itself; the dead-letter file has it, with the reason.",
        "stop": "The target had not accepted the row when the daemon had to stop, and no spool could keep it.",
    }

    pending = counter("records", "Records waiting for the target, in memory or spooled.", gauge=True, always=True)
    spooled = counter("records", "Records of `pending` that wait on disk.", gauge=True)
    spooled_bytes = counter("bytes", "Size of the spool's files.", gauge=True)
    set_aside = counter("files", "Files in the spool's directory that are not its own, or damaged: kept as *.damaged.")


class Feed:
    """The queue; see above. `name` is the output's, for messages."""

    def __init__(
        self, ring: Ring, spool: Spool | None, when_full: WhenFull, stats: SpoolStats, *, name: str = "output"
    ) -> None:
        self._ring, self._spool, self._when_full, self._stats, self._name = ring, spool, when_full, stats, name
        self._changed = threading.Condition(stats.lock)
        self._limited = Limited()
        self._next = 1
        self._spilling = False
        self._woken = False
        self._closed = False
        #: Which numbers are whose, where several stacks give rows.
        self._turns = Turns()
        self._found = 0

    def open(self) -> None:
        """Open the spool; what an earlier run left in it is pending again."""
        if not self._spool:
            return
        self._spool.open()
        with self._changed:
            self._stats.records += self._spool.rows
            self._stats.pending += self._spool.rows
            self._gauge()

    # The producer's

    def put(self, layout: Layout, count: int, data: bytes) -> None:
        """Queue `count` rows, or count them as dropped; never waits for the sink."""
        if not count:
            return
        rows = Rows(layout, self._number(count), count, data)
        with self._changed:
            self._stats.records += count
            if self._stats.giver:
                self._turns.begin(rows.first)
                self._turns.add(rows.last + 1, self._stats.giver)
            self._stats.pending += count
            if self._closed:
                self._drop("stop", rows.first, count)
                return
            rest = self._keep(rows)
            self._stats.pending_bytes = self._ring.bytes
            self._changed.notify()
        if rest:
            self._spill(rest)

    def _number(self, count: int) -> int:
        if self._spool:
            return self._spool.number(count)
        first, self._next = self._next, self._next + count
        return first

    def _keep(self, rows: Rows) -> Rows | None:
        """Put rows into the ring, or drop some; return those for the spool."""
        if self._when_full == "drop_oldest":
            # What goes are the oldest rows that are not taken, and of the new ones what is still too much.
            oldest = self._ring.first_waiting or rows.first
            self._refuse("ring_full", oldest, self._ring.push(rows))
            return None
        self._spilling = self._spilling and not self._may_stop_spilling()
        rest = rows if self._spilling else self._ring.put(rows)
        if rest and (self._when_full == "drop_newest" or not self._spool):
            self._refuse("ring_full", rest.first, rest.count)
            return None
        return rest

    def _may_stop_spilling(self) -> bool:
        """Tell whether the ring may be used again: a few rows in the spool do not matter, they are taken first.

        To wait until nothing is in the spool would mean, while packets keep coming, to use the disk for ever.
        """
        waiting = self._spool.rows if self._spool else 0
        return not waiting or (not self._ring.rows and waiting <= self._ring.size // 2)

    def _spill(self, rows: Rows) -> None:
        """Put rows into the spool; if it takes none, into what room the ring has again: the numbers keep the order."""
        assert self._spool
        kept = self._spool.append(rows)
        with self._changed:
            self._spilling = True
            if not kept and (rest := self._ring.put(rows)):
                self._refuse(self._why_not(), rest.first, rest.count)
            self._gauge()
            self._changed.notify()

    def _refuse(self, reason: str, first: int, count: int) -> None:
        """Drop rows for which there is no room."""
        if count:
            self._drop(reason, first, count)
            self._limited(logging.ERROR, reason, f"{self._name}: {_WHY[reason]}: rows are dropped")

    def _why_not(self) -> str:
        return "spool_error" if self._spool and self._spool.problem else "spool_full"

    # The consumer's

    def take(self, max_rows: int, max_bytes: int, timeout: float) -> Rows | None:
        """Return the oldest rows, at least one, neighbours of one layout; the same again until they are done.

        None if nothing came within `timeout` seconds, after `wake`, and after `close`.
        """
        end = time.monotonic() + timeout
        while True:
            with self._changed:
                self._changed.wait_for(self._has_news, max(0.0, end - time.monotonic()))
                if self._woken or self._closed or not self._waits():
                    self._woken = False
                    return None
                parts = [] if self._spool_is_first() else self._ring.take(max_rows, max_bytes)
            if parts:
                return joined(parts)
            if rows := self._take_from_spool(max_rows, max_bytes, end):
                return rows
            if time.monotonic() >= end:
                return None

    def done(self, number: int) -> int:
        """Count all rows up to `number` as written, wherever they wait; return how many they were."""
        return self._finish(number, 0)

    def found(self, number: int) -> int:
        """Take all rows up to `number` off the account: somebody else has brought them in; return how many they were.

        They were inherited, and the other one, with another copy of the spool or before this run, counts them.
        """
        return self._finish(number, 0, ours=False)

    def refused(self, number: int, reason: str) -> None:
        """Count the oldest row, `number`, as refused; it is in the dead-letter file."""
        self._limited(logging.ERROR, "refused", f"{self._name} refused a row; it is in the dead-letter file: {reason}")
        self._finish(number, 1)

    def wake(self) -> None:
        """Have `take` return at once."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def _waits(self) -> bool:
        return bool(self._ring.rows or (self._spool and self._spool.rows))

    def _has_news(self) -> bool:
        return self._woken or self._closed or self._waits()

    def _spool_is_first(self) -> bool:
        if not self._spool or not self._spool.rows:
            return False
        in_ring, in_spool = self._ring.first, self._spool.first
        return in_spool is not None and (in_ring is None or in_spool < in_ring)

    def _take_from_spool(self, max_rows: int, max_bytes: int, end: float) -> Rows | None:
        if not self._spool:
            return None
        rows = self._spool.take(max_rows, max_bytes)
        with self._changed:
            self._gauge()
            if not rows and self._spool.rows:  # it cannot be read for now: not again and again without a pause
                pause = min(_PAUSE_SECS, end - time.monotonic())
                self._changed.wait_for(lambda: self._woken or self._closed, max(0.0, pause))
        return rows

    def _finish(self, number: int, refused: int, *, ours: bool = True) -> int:
        """Remove the rows up to `number`; all but the last `refused` of them are written, by us or by somebody else."""
        in_spool, spool_bytes = self._spool.done(number) if self._spool else (0, 0)
        with self._changed:
            in_ring, ring_bytes = self._ring.done(number)
            rows = in_ring + in_spool
            refused = min(refused, rows)
            self._drop("refused", number, refused)
            self._stats.pending -= rows - refused
            if ours:
                self._stats.written += rows - refused
                self._stats.bytes += ring_bytes + spool_bytes
            else:
                self._stats.records -= rows
            self._gauge()
            self._turns.forget(number + 1)
        return rows

    # Both

    def close(self) -> None:
        """Move what is in the ring to the spool, or drop it, and close the spool; nothing changes after that."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            parts = self._ring.clear()
            self._changed.notify()
        self._save(parts)
        if self._spool:
            self._spool.close()
        with self._changed:
            self._gauge()

    def _save(self, parts: list[Rows]) -> None:
        """Put the rows of the ring into the spool: their numbers bring them back in order."""
        dropped: list[tuple[str, Rows]] = []
        for rows in parts:
            if not self._spool or self._when_full != "spool":
                dropped.append(("stop", rows))
            elif not self._spool.append(rows, at_once=True):
                dropped.append((self._why_not(), rows))
        with self._changed:
            for reason, rows in dropped:
                self._drop(reason, rows.first, rows.count)
        if dropped:
            count = sum(rows.count for _, rows in dropped)
            log.error("%s: rows that were not written before the stop, dropped: %d", self._name, count)

    def _drop(self, reason: str, first: int, count: int) -> None:
        if count:
            self._stats.pending -= count
            self._stats.drop(reason, count, self._turns.of(first, count))

    def _gauge(self) -> None:
        """Show what is where, and count what the spool lost."""
        self._stats.pending_bytes = self._ring.bytes
        if not self._spool:
            return
        self._stats.sync_errors = self._spool.sync_errors
        self._stats.spooled, self._stats.spooled_bytes = self._spool.rows, self._spool.bytes
        self._stats.set_aside = self._spool.set_aside
        found, self._found = self._spool.found - self._found, self._spool.found
        self._stats.records += found
        self._stats.pending += found
        for first, count in self._spool.take_lost():
            self._drop("spool_error", first, count)
