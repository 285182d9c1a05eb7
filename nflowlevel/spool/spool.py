# SPDX-License-Identifier: GPL-2.0-or-later
"""Spool: rows that wait on disk, because memory cannot hold them or the program has to stop.

- What `append` acknowledged is in the kernel's hands: a kill loses none of it; a power failure the last second or so.
- The numbers of rows ascend for ever (claim.py), so one number tells what is done, and rows come back in the order of
  their numbers, not of their arrival here.
- What cannot be read does not block the rest; it is counted, and its file kept beside as `*.damaged`.

One thread appends, one takes; the disk work of the second never holds up the first.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import logging
import os
import sys
import threading
import time

from nflowlevel.binding.privileges import Worker
from nflowlevel.errors import OutputError
from nflowlevel.logs import Limited, log
from nflowlevel.spool import segment
from nflowlevel.spool.claim import SpoolDirectory, reason
from nflowlevel.spool.ring import Ring
from nflowlevel.spool.rows import Rows, joined
from nflowlevel.spool.runs import Runs
from nflowlevel.spool.segment import Growing, Segment

#: A segment is given back to the file system as a whole: the smaller, the sooner.
_SEGMENT_BYTES = 4 << 20
#: A small spool has this many segments all the same.
_LEAST_SEGMENTS = 8
#: How much is at stake in a power failure.
_SYNC_SECS = 1.0
#: How long a stop waits for the last fdatasync.
_LAST_SYNC_SECS = 3.0

#: So many files that are none of ours are told one by one.
_MOST_TOLD = 20

#: With these the segment can be written on once the cause is gone.
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Spool:
    """Rows on disk in `directory`, in files of at most `max_bytes` together; see above."""

    def __init__(self, directory: str | os.PathLike[str], max_bytes: int, *, retry_secs: float = 1.0) -> None:
        self.directory, self.max_bytes = os.fspath(directory), max_bytes
        self._retry_secs = retry_secs
        #: Rows waiting; bytes of the files that hold them.
        self.rows = self.bytes = 0
        #: Rows that waited and could not be read any more; fdatasync calls that failed.
        self.lost = self.sync_errors = 0
        self._lost_rows: list[tuple[int, int]] = []
        #: Rows that waited without having been counted, as the name of their file did not tell of them.
        self.found = 0
        #: Files in the directory that were none of ours, or damaged, and got another name.
        self.set_aside = 0
        self._told = 0
        #: Whether `max_bytes` is reached: nothing is taken until a segment is done, so that the gap is one gap.
        self.full = False
        #: Why the disk did not take the last rows.
        self.problem = ""
        #: The directory's name, a UUID: who wrote the rows that are older than its runs.
        self.id = ""
        self._limited = Limited()
        self._segment_bytes = max(1, min(_SEGMENT_BYTES, max_bytes // _LEAST_SEGMENTS))

        # `_lock` guards what both threads use. Whoever takes or closes holds `_taking` before it.
        self._lock = threading.Lock()
        self._taking = threading.Lock()
        self._closed = True
        self._claim: SpoolDirectory | None = None
        self._syncing = _Syncing(self)
        self._segments: list[Segment] = []
        self._growing: Growing | None = None
        self._retry_at = 0.0

        # The taker's: all rows up to `_read_to` are in `_loaded`, or done, or lost.
        self._loaded = Ring(sys.maxsize)
        self._read_to = 0
        self._reading: Segment | None = None
        self._offset = 0

    def open(self) -> None:
        """Claim the directory and find what an earlier run left. OutputError where waiting cannot help."""
        try:
            self._claim = claim = SpoolDirectory(self.directory)
            reserved = claim.load().value
            self.set_aside += claim.set_aside
            self._told = 0
            self._segments = found = segment.find(claim.where, reserved=reserved, said=self._say_aside)
            if self._told > _MOST_TOLD:
                log.error("spool %s: %d more were set aside: *.damaged", self.directory, self._told - _MOST_TOLD)
            waiting = [max(each.first, claim.position + 1) for each in found if each.last > claim.position]
            claim.start(max((each.last for each in found), default=0), min(waiting, default=None))
        except (OSError, OutputError) as error:
            self._release()
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"open the spool {self.directory}: {reason(error)}", retryable=False) from error
        self.id, self._read_to, self._closed = claim.id, claim.position, False
        self.rows = sum(each.rows_between(self._read_to, each.last) for each in self._segments)
        self.bytes = sum(each.size for each in self._segments)
        for each in self._detach():
            self._remove(each)
        if self.rows:
            log.info("spool %s: rows of an earlier run are waiting: %d", self.directory, self.rows)

    @property
    def runs(self) -> Runs:
        """Which run each number belongs to."""
        assert self._claim, "the spool is not open"
        return self._claim.runs

    @property
    def first(self) -> int | None:
        """The number of the oldest row waiting (or thought to wait: it may turn out to be lost)."""
        with self._taking, self._lock:
            if self._loaded.first is not None:
                return self._loaded.first
            found = self._after(self._read_to)
            return max(found.first, self._read_to + 1) if found else None

    def number(self, count: int) -> int:
        """Return the first of `count` numbers that were never used, nor will be again."""
        assert self._claim, "the spool is not open"
        if self._claim.low:
            self._syncing.wanted()
        return self._claim.number(count)

    def append(self, rows: Rows, *, at_once: bool = False) -> bool:
        """Write rows; when this returns True a kill cannot lose them. False: see `full`, `problem`.

        Rows may come in another order than their numbers, as long as none comes between those of one segment. After an
        error the disk is left alone for a moment, unless `at_once`.
        """
        with self._lock:
            if self._closed or self.full or (self._retry_at and not at_once and time.monotonic() < self._retry_at):
                return False
            record = segment.record(rows)
            size = sum(map(len, record))
            if self.bytes + size > self.max_bytes:
                self.full = self.rows > 0
                self.problem = ""
                return False
            try:
                self._growing_for(rows).append(rows, record)
            except OSError as error:
                self._refused(error)
                return False
            self.rows += rows.count
            self.bytes += size
            self.problem = ""
            self._retry_at = 0.0
        self._syncing.wanted()
        return True

    def take(self, max_rows: int, max_bytes: int) -> Rows | None:
        """Return the oldest rows; the same again until they are done. None if nothing waits, or nothing can be read."""
        with self._taking:
            if self._closed:
                return None
            while self._wants_more(max_rows, max_bytes) and self._load():
                pass
            parts = self._loaded.take(max_rows, max_bytes)
        return joined(parts) if parts else None

    def done(self, number: int) -> tuple[int, int]:
        """Forget the rows up to `number`; return how many rows and (of what was loaded) bytes they were."""
        with self._taking:
            if self._closed:
                return 0, 0
            rows, size = self._loaded.done(number)
            with self._lock:
                number = min(number, self._segments[-1].last) if self._segments else 0
                if number > self._read_to:
                    rows += sum(each.rows_between(self._read_to, number) for each in self._segments)
                    self._read_to = number
                self.rows -= rows
                finished = self._detach()
            if rows or finished:
                self._store_position()
            for each in finished:
                self._remove(each)
        return rows, size

    def take_lost(self) -> list[tuple[int, int]]:
        """Return which rows were lost since the last call: the first one's number, and how many."""
        with self._lock:
            found, self._lost_rows = self._lost_rows, []
        return found

    def close(self) -> None:
        """Give back the directory; what waits stays there. A second call is idle, a late `take` finds nothing."""
        with self._taking, self._lock:
            if self._closed:
                return
            self._closed = True
            self._complete()
            self._loaded.clear()
        self._syncing.close()
        self._release()

    def sync(self) -> None:
        """Bring what was written to the disk, and reserve numbers when they get few; the syncing thread's work."""
        fds = []
        try:
            with self._lock:
                claim = self._claim
                if self._growing:
                    fds.append(os.dup(self._growing.fd))
            for fd in fds:
                os.fdatasync(fd)
            if claim:
                claim.reserve() if claim.low and not self._closed else claim.sync()
        except OSError as error:
            self.sync_errors += 1
            self._limited(logging.ERROR, "sync", f"sync the spool {self.directory}: {reason(error)}")
        finally:
            for fd in fds:
                os.close(fd)

    def _say_aside(self, path: str, why: str) -> None:
        self.set_aside += 1
        self._told += 1
        if self._told <= _MOST_TOLD:
            log.error("spool %s: %s was set aside: %s", self.directory, os.path.basename(path), why)

    def _release(self) -> None:
        if self._claim:
            self._claim.close()

    # Appending; all with the lock held

    def _growing_for(self, rows: Rows) -> Growing:
        """Return the segment to which rows are to be appended."""
        growing = self._growing
        if growing and not growing.torn:
            so_far = growing.segment
            if so_far.last + 1 == rows.first and so_far.size < self._segment_bytes:
                return growing
        self._complete()
        assert self._claim, "the spool is not open"
        self._growing = growing = Growing(self._claim.where, rows.first)
        bisect.insort(self._segments, growing.segment, key=lambda each: each.first)
        return growing

    def _complete(self) -> None:
        """Finish the segment that is growing."""
        growing, self._growing = self._growing, None
        if not growing:
            return
        with contextlib.suppress(OSError):  # what fails here is made good by the next start
            if growing.segment.size:
                growing.complete()
            else:
                self._segments.remove(growing.segment)
                os.unlink(growing.segment.path)
        self._syncing.retire(growing.fd)

    def _refused(self, error: OSError) -> None:
        self.problem = reason(error)
        self._retry_at = time.monotonic() + self._retry_secs
        self._limited(logging.ERROR, "append", f"write the spool {self.directory}: {self.problem}; rows are dropped")
        if error.errno not in _FULL:
            self._complete()

    # Taking; all with `_taking` held

    def _wants_more(self, max_rows: int, max_bytes: int) -> bool:
        loaded = self._loaded
        if loaded.rows >= max_rows or loaded.bytes >= max_bytes:
            return False
        with self._lock:
            following = self._after(self._read_to)
            # Beyond a gap nothing can be joined, and rows that belong into it may still come.
            return following is not None and (not loaded.rows or following.first <= self._read_to + 1)

    def _load(self) -> bool:
        """Read the segment of the next rows, as far as it is written; False if that has to be tried again later."""
        with self._lock:
            reading = self._after(self._read_to)
            if not reading:
                return False
            last, size = reading.last, reading.size
            beyond = self._room_behind(reading)
        offset = self._offset if reading is self._reading else 0
        try:
            data = reading.read(offset, size)
        except OSError as error:
            what = f"read {reading.path}: {reason(error)}"
            self._limited(logging.ERROR, "read", what)
            if error.errno in segment.FOR_NOW:
                return False
            data = b""
        self._reading, self._offset = reading, size
        self._keep(reading, data, last, beyond)
        return True

    def _room_behind(self, reading: Segment) -> int:
        """Return up to which number a segment may have more rows than its name says: not another one's, nor ours."""
        assert self._claim
        if self._growing and self._growing.segment is reading:
            return reading.last
        own = self._claim.runs.own.first - 1
        if reading.last > own:
            return reading.last
        place = bisect.bisect_right(self._segments, reading.last, key=lambda each: each.first)
        return min(own, self._segments[place].first - 1) if place < len(self._segments) else own

    def _keep(self, reading: Segment, data: bytes, last: int, beyond: int) -> None:
        """Hold the rows read, and count those up to `last` that should have been among them, and those `beyond` it."""
        expected = max(self._read_to + 1, reading.first)
        found, gaps = 0, []
        for _, rows in segment.records(data):
            wanted = rows.after(expected - 1)
            if wanted and wanted.last <= beyond:
                # Numbers behind `last` were never counted.
                gaps.append((expected, min(wanted.first - 1, max(last, expected - 1)) + 1 - expected))
                found += max(0, wanted.last - max(last, wanted.first - 1))
                expected = wanted.last + 1
                self._loaded.put(wanted)
        gaps.append((expected, max(0, last + 1 - expected)))
        lost = sum(count for _, count in gaps)
        with self._lock:
            self._read_to = max(last, expected - 1)
            if found:  # otherwise the other thread may have appended to it
                reading.last = self._read_to
            self.lost += lost
            self._lost_rows += [gap for gap in gaps if gap[1]]
            self.found += found
            self.rows += found - lost
        if lost:
            reading.damaged = True
            log.error("spool %s: rows of %s that cannot be read, lost: %d", self.directory, reading.path, lost)
        if found:
            reading.damaged = True
            log.error("spool %s: rows of %s that its name does not tell of: %d", self.directory, reading.path, found)

    def _after(self, number: int) -> Segment | None:
        """Return the first segment with rows above `number`."""
        place = bisect.bisect_right(self._segments, number, key=lambda each: each.last)
        return self._segments[place] if place < len(self._segments) else None

    def _oldest(self) -> int:
        """Return the number below which nothing waits."""
        return self._loaded.first or self._read_to + 1

    def _detach(self) -> list[Segment]:
        """Strike the segments of which nothing waits off the list, and return them."""
        count = bisect.bisect_left(self._segments, self._oldest(), key=lambda each: each.last)
        finished = self._segments[:count]
        del self._segments[:count]
        for each in finished:
            self.full = False
            self.bytes -= each.size
            if self._growing and self._growing.segment is each:
                os.close(self._growing.fd)  # not left to the other thread: the file is to free its space at once
                self._growing = None
        return finished

    def _remove(self, finished: Segment) -> None:
        if finished.damaged:
            finished.set_aside()
            self.set_aside += 1
            return
        try:
            os.unlink(finished.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._limited(logging.ERROR, "remove", f"remove {finished.path}: {reason(error)}")

    def _store_position(self) -> None:
        assert self._claim
        try:
            self._claim.store(self._oldest() - 1)
        except OSError as error:
            what = f"write the position of the spool {self.directory}: {reason(error)}; rows may come twice"
            self._limited(logging.ERROR, "position", what)


class _Syncing:
    """A thread that syncs a spool about once a second while it is written, and files that are handed over."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._changed = threading.Condition()
        self._wanted = self._stop = False
        self._retired: list[int] = []
        self._thread: threading.Thread | None = None

    def wanted(self) -> None:
        """Have the spool synced within a second."""
        if not self._wanted:
            with self._changed:
                self._wanted = True
                self._start_or_notify()

    def retire(self, fd: int) -> None:
        """Sync a file a last time, and close it."""
        with self._changed:
            self._retired.append(fd)
            self._start_or_notify()

    def close(self) -> None:
        """Wait for what was asked for, but not for ever."""
        with self._changed:
            self._stop = True
            self._changed.notify()
        if self._thread:
            self._thread.join(_LAST_SYNC_SECS)
            if self._thread.is_alive():
                log.error("spool %s: the last fdatasync is not finished; the stop does not wait", self._spool.directory)

    def _start_or_notify(self) -> None:
        if not self._thread:
            self._thread = Worker(self._run, f"sync {self._spool.directory}")
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        stop = False
        while not stop:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._retired or self._stop)
                self._changed.wait_for(lambda: self._stop, _SYNC_SECS)
                self._wanted = False
                retired, self._retired = self._retired, []
                stop = self._stop
            for fd in retired:
                with contextlib.suppress(OSError):
                    os.fdatasync(fd)
                os.close(fd)
            self._spool.sync()
