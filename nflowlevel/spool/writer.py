# SPDX-License-Identifier: GPL-2.0-or-later
"""The thread of one output: takes rows from the feed and brings them into its sink, whatever happens to that.

It connects with growing pauses, asks which layout is wanted, and writes what waits at once, as much as waits. Rows that
the sink refuses are found by halving, and put into the dead-letter file; the others arrive. After each connect the
ledger says what is in already, so nothing has to be known about how the last connection ended.

An entry of the ledger has the name of a run (runs.py). Only this process gives out numbers of its own run, so after a
break its entry is where it was left, or where a write in doubt has moved it; elsewhere it was moved by somebody else.

Rows of earlier runs may be in copies of the spool as well. Who inherits rows moves the entry of their run, as long as
they follow without a gap: so what is below it is in. Before that he raises a mark, an entry of its own, by which the
run, should it still be alive, knows that it was an heir. Behind a gap another copy may have rows that he has not: he
closes the entry (a negative number), and whoever has rows behind it goes on under another name. So in the worst case a
row of which there are several copies comes twice; none is lost.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nflowlevel.binding.privileges import Worker
from nflowlevel.delivery.backoff import Backoff
from nflowlevel.logs import NOTICE, Limited, log
from nflowlevel.spool.options import DEFAULT_RING_SIZE
from nflowlevel.spool.sink import Moved, Refused, Unavailable

if TYPE_CHECKING:
    from nflowlevel.spool.deadletter import DeadLetters
    from nflowlevel.spool.feed import Feed, SpoolStats
    from nflowlevel.spool.options import SpoolOptions
    from nflowlevel.spool.rows import Layout, Rows
    from nflowlevel.spool.runs import Run, Runs
    from nflowlevel.spool.sink import Sink

_CONNECT_SECS = 10
#: An attempt to connect that the sink does not end in time is ended for it.
_GRACE_SECS = 5.0
#: How long the thread sleeps at most without looking for orders.
_PATIENCE_SECS = 5.0
_MOMENT_SECS = 0.01

_TEND_SECS = 86_400.0
_LINGER_SECS = 0.05

#: With so many rows waiting, or a part of the ring, there is nothing to wait for.
_FEW_ROWS, _FEW_OF_RING = 5_000, 4
#: Rows, and bytes, of one write.
_MOST_ROWS = 10_000
_MOST_BYTES = 8 << 20


#: What is added to the name of a run, for the mark of those who inherited rows of it: the highest number of such a row.
_HEIRS = "+heirs"

_TAKEN = (
    "%s: the ledger's entry of this run is at row %d, and was left at row %d: another process has its name there (a "
    "machine cloned while it ran?); this one takes another name, and its rows are kept"
)
_CLOSED = (
    "%s: another copy of this spool has brought in rows of a run of which rows are here too: what is in both copies "
    "may come twice"
)


@dataclass(slots=True)
class _Entry:
    """A run's entry in the ledger, as far as this process knows it."""

    #: Where it was seen last, or where a write that was answered has moved it.
    known: int = 0
    #: Where writes would have moved it that were not answered since.
    doubts: set[int] = field(default_factory=set)


class Writer:
    """Brings the rows of `feed` into `sink`; `runs` tells whose they are."""

    def __init__(
        self,
        sink: Sink,
        feed: Feed,
        options: SpoolOptions,
        *,
        runs: Runs,
        dead_letters: DeadLetters,
        stats: SpoolStats,
    ) -> None:
        self._sink, self._feed, self._options = sink, feed, options
        self._runs = runs
        self._dead_letters, self._stats = dead_letters, stats
        self._limited = Limited()
        self._state = f"connecting to {sink.shown}"
        #: What the ledger said since connecting, by the name of the run; None: there is no ledger.
        self._read: dict[str, int | None] = {}
        #: Of which runs it is settled, since connecting, what is in, and where their entries are.
        self._at: dict[str, int | None] = {}
        self._entries: dict[str, _Entry] = {}
        #: The names that only this process has.
        self._mine = {runs.own.name}
        self._tend_at = self._stored_at = 0.0
        self._failure = ""
        self._has_stored = False
        self._rows_limit = _MOST_ROWS
        self._few = min(_FEW_ROWS, (options.ring_buffer_size or DEFAULT_RING_SIZE) // _FEW_OF_RING)
        self._orders = threading.Condition()
        self._stop_at: float | None = None
        self._reconnect = False
        #: When the call that the thread is in has taken too long; the loop looks at it.
        self.hung_at: float | None = None
        self._broke_off = False
        self._thread = Worker(self._run, f"writer {sink.shown}")

    @property
    def layout(self) -> Layout:
        """What rows should look like from now on: it changes with the sink."""
        return self._sink.layout

    @property
    def state(self) -> str:
        """How the sink is, in a few words for the status."""
        return self._state

    def open(self) -> None:
        """Start the thread; a sink that is away is waited for."""
        self._thread.start()

    def reopen(self) -> None:
        """Connect anew, also after `reconnect=0` gave up."""
        with self._orders:
            self._reconnect = True
            self._orders.notify()
        self._feed.wake()

    def break_hung(self, now: float) -> None:
        """Break the connection if the call that the thread is in takes too long."""
        hung_at = self.hung_at
        if hung_at is not None and hung_at <= now:
            self.hung_at, self._broke_off = None, True
            self._sink.abort()

    def close(self, timeout: float) -> None:
        """Have what waits stored, for at most `timeout` seconds. What is left stays in the feed."""
        with self._orders:
            self._stop_at = time.monotonic() + timeout
            self._orders.notify()
        self._feed.wake()
        if not self._thread.ident:
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._sink.abort()
            self._thread.join(0.3)
        self._remember_doubts()

    def _remember_doubts(self) -> None:
        """Let the next run count what is found to have arrived after all."""
        for name, entry in list(self._entries.items()):
            run = self._runs.of(max(entry.doubts, default=0))
            if entry.doubts and run.name == name:
                with contextlib.suppress(OSError):  # then nobody counts it
                    self._runs.remember(run, max(entry.doubts))

    # Below: the thread

    def _run(self) -> None:
        backoff = Backoff(self._options.reconnect)
        while True:
            failure = self._attempt()
            stop_at = self._stop_at
            if stop_at is not None and (failure or not self._stats.pending or time.monotonic() >= stop_at):
                break
            if self._has_stored or not failure:
                backoff.reset()
            if failure:
                self._failed(failure)
                self._sleep(backoff.pause() if self._options.reconnect else None)
        self._dead_letters.close()
        self._state = f"closed {self._sink.shown}"

    def _attempt(self) -> str:
        """Connect, and serve the connection until it ends; return what ended it, or nothing where that was an order."""
        self._has_stored = False
        try:
            self._connect()
            self._serve()
        except Moved:
            pass  # connecting again reads the ledger
        except Unavailable as error:
            return str(error)
        except Exception as error:  # a mistake of ours must not silence the output for ever
            log.debug("full traceback", exc_info=True)
            return f"{self._sink.shown}: {type(error).__name__}: {error}"
        finally:
            self._sink.close()
        return ""

    def _connect(self) -> None:
        self._reconnect = False
        self._dead_letters.close()  # SIGHUP: it may have been moved away
        with self._at_most((self._options.connect_timeout or _CONNECT_SECS) + _GRACE_SECS):
            self._sink.connect()
        self._read.clear()
        self._at.clear()
        with self._at_most(self._options.timeout):
            self._sink.prepare()
            self._read[self._runs.own.name] = self._sink.last(self._runs.own.name)
            self._tend_at = 0.0
        self._state = f"connected to {self._sink.shown}"
        # Said again after each failure of another kind, but not at each turn of one that comes back.
        self._limited(NOTICE, f"connected after {self._failure}", f"connected to {self._sink.shown}")

    def _settle(self, run: Run) -> bool:
        """Find out, once after connecting, what of a run is in; True if that changed what waits, or the run's name."""
        name = run.name
        if name in self._at:
            return False
        with self._at_most(self._options.timeout):
            found = self._read.pop(name) if name in self._read else self._sink.last(name)
            if found is None:
                self._at[name] = None
                return False
            at = found if found >= 0 else ~found
            entry = self._entries.setdefault(name, _Entry()) if name in self._mine else self._entries.get(name)
            if entry is None:
                ours = self._inherit(run, at) and at == run.doubt
            else:
                ours = at <= entry.known or self._is_in_doubt(entry, at)
                if not ours and name in self._mine and not self._has_heir(run, at):
                    log.error(_TAKEN, self._sink.shown, at, entry.known)
                    self._rename(run)
                    return True
        if entry is None or at != entry.known:
            self._entries[name] = _Entry(at)
        # Else what is in doubt may still arrive.
        self._at[name] = at
        struck = self._strike(at, ours=ours)
        if found < 0:
            log.warning(_CLOSED, self._sink.shown)
            self._rename(run)
        return struck or found < 0

    def _leave(self, run: Run, rows: Rows) -> bool:
        """Give inherited rows another name where others may have rows between those that are in and these."""
        at = self._at[run.name]
        if at is None or run.name in self._mine or rows.first <= max(at + 1, run.first):
            return False
        with self._at_most(self._options.timeout):
            self._sink.skip(~at, run.name, at)
        self._rename(run)
        return True

    def _is_in_doubt(self, entry: _Entry, at: int) -> bool:
        """Tell whether a write of ours that was not answered has moved an entry there."""
        return at in entry.doubts or (self._sink.by_row and at <= max(entry.doubts, default=0))

    def _strike(self, at: int, *, ours: bool) -> bool:
        """Have the rows up to `at` not wait any more; whether there were any."""
        if found := self._feed.done(at) if ours else self._feed.found(at):
            whose = "before the connection broke" if ours else "from an earlier run or another copy of the spool"
            log.log(NOTICE, "%s: rows that had arrived %s: %d", self._sink.shown, whose, found)
        return found > 0

    def _inherit(self, run: Run, at: int) -> bool:
        """Raise the mark of a run's heirs before its entry is moved; True for the first of all who do."""
        name = run.name + _HEIRS
        mark = self._sink.last(name) or 0
        wanted = max(at, min(run.last, self._runs.inherited))
        if mark < wanted:
            self._sink.skip(wanted, name, mark)
        return not mark

    def _has_heir(self, run: Run, at: int) -> bool:
        """Tell whether somebody inherited rows of this run, up to `at` at least, while it is alive."""
        return (self._sink.last(run.name + _HEIRS) or 0) >= at

    def _rename(self, run: Run) -> None:
        try:
            self._runs.rename(run)
        except OSError as error:
            raise Unavailable(f"take another name for the ledger: {error.strerror} — make room on the disk") from error
        self._mine.add(run.name)

    def _serve(self) -> None:
        """Store what comes until an order or an error ends it."""
        while not self._reconnect:
            stopping = self._stop_at is not None
            if self._stop_at is not None and time.monotonic() >= self._stop_at:
                return
            self._tend()
            if not stopping:
                self._linger()
            rows = self._feed.take(self._most_rows(), _MOST_BYTES, _MOMENT_SECS if stopping else _PATIENCE_SECS)
            if rows is not None:
                run = self._runs.of(rows.first)
                if not self._settle(run) and not self._leave(run, rows):
                    if rows.last > run.last:
                        rows, _ = rows.split(run.last - rows.first + 1)
                    self._store(rows, run.name)
            elif stopping and not self._stats.pending:
                return

    def _linger(self) -> None:
        """Let rows gather while few of them wait: a write costs as much as hundreds of rows."""
        if self._stats.pending < self._few:
            with self._orders:
                left = self._stored_at + _LINGER_SECS - time.monotonic()
                self._orders.wait_for(lambda: self._reconnect or self._stop_at is not None, max(0.0, left))

    def _tend(self) -> None:
        if self._tend_at <= time.monotonic():
            self._tend_at = time.monotonic() + _TEND_SECS
            with self._at_most(self._options.timeout):
                self._sink.tend()

    def _most_rows(self) -> int:
        if not self._stats.spooled:
            return self._rows_limit
        return min(self._rows_limit, self._options.backlog_rows)

    def _store(self, rows: Rows, writer: str) -> None:
        """Bring the rows in; those that are refused, found by halving, into the dead-letter file."""
        parts = [rows]
        while parts:
            part = parts.pop()
            try:
                self._store_whole(part, writer)
            except Refused as error:
                if part.count > 1:
                    first, rest = part.split(part.count // 2)
                    parts += [rest, first]
                else:
                    self._bury(part, error, writer)

    def _store_whole(self, rows: Rows, writer: str) -> None:
        self._broke_off = False
        try:
            fitting = rows if rows.layout == self.layout else self._sink.fit(rows)
            with self._at_most(self._options.timeout), self._moving(writer, rows.last):
                self._sink.write(fitting, writer, self._at[writer])
        except Unavailable:
            if self._broke_off:  # perhaps it was too much for the time allowed
                self._rows_limit = max(1, rows.count // 2)
            raise
        self._feed.done(rows.last)
        self._has_stored = True
        self._stored_at = time.monotonic()
        self._rows_limit = min(self._rows_limit * 2, _MOST_ROWS)

    def _bury(self, row: Rows, error: Refused, writer: str) -> None:
        self._dead_letters.sign(writer)
        self._dead_letters.write(row, error, self._sink.into)
        before = self._at[writer]
        if before is not None:
            with self._at_most(self._options.timeout), self._moving(writer, row.first):
                self._sink.skip(row.first, writer, before)
        self._feed.refused(row.first, f"{error} ({error.code}); see {self._dead_letters.path}")

    @contextlib.contextmanager
    def _moving(self, writer: str, to: int) -> Iterator[None]:
        """Keep account of an entry that is moved: where it is afterwards, or where it may be."""
        if self._at[writer] is None:
            yield
            return
        entry = self._entries[writer]
        was_in_doubt = to in entry.doubts
        entry.doubts.add(to)
        try:
            yield
        except (Refused, Moved) as error:  # nothing of it is in
            if not was_in_doubt and not (self._sink.by_row and isinstance(error, Refused)):
                entry.doubts.discard(to)
            raise
        entry.known = self._at[writer] = to
        entry.doubts.clear()

    @contextlib.contextmanager
    def _at_most(self, secs: float) -> Iterator[None]:
        """Let the loop break the connection when what is done here takes longer."""
        self.hung_at = time.monotonic() + secs
        try:
            yield
        finally:
            self.hung_at = None

    def _failed(self, message: str) -> None:
        self._stats.errors += 1
        self._failure = message
        self._state = f"connecting to {self._sink.shown} ({message})"
        again = "trying again" if self._options.reconnect else "reconnect=0: only SIGHUP makes another attempt"
        self._limited(logging.ERROR, message, f"{message}; rows waiting: {self._stats.pending}, {again}")

    def _sleep(self, seconds: float | None) -> None:
        """Pause, but not when there is an order; None: until there is one."""
        with self._orders:
            self._orders.wait_for(lambda: self._reconnect or self._stop_at is not None, seconds)
        self._stats.retries += 1
