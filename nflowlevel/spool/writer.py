# SPDX-License-Identifier: GPL-2.0-or-later
"""The thread of one output: takes rows from the feed and brings them into its sink, whatever happens to that.

It connects with growing pauses, asks which layout is wanted, and writes what waits at once, as much as waits. Rows that
the sink refuses are found by halving, and put into the dead-letter file; the others arrive. After each connect the
ledger says what is in already, so nothing has to be known about how the last connection ended.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nflowlevel.binding.privileges import Worker
from nflowlevel.delivery.backoff import Backoff
from nflowlevel.logs import NOTICE, Limited, log
from nflowlevel.spool.sink import Moved, Refused, Unavailable

if TYPE_CHECKING:
    from nflowlevel.spool.deadletter import DeadLetters
    from nflowlevel.spool.feed import Feed, SpoolStats
    from nflowlevel.spool.options import SpoolOptions
    from nflowlevel.spool.rows import Layout, Rows
    from nflowlevel.spool.sink import Sink

_CONNECT_SECS = 10
#: An attempt to connect that the sink does not end in time is ended for it.
_GRACE_SECS = 5.0
#: How long the thread sleeps at most without looking for orders.
_PATIENCE_SECS = 5.0
_MOMENT_SECS = 0.01

_TEND_SECS = 86_400.0
_LINGER_SECS = 0.05

#: With so many rows waiting there is nothing to wait for.
_FEW_ROWS = 1_000
#: Rows, and bytes, of one write.
_MOST_ROWS = 10_000
_MOST_BYTES = 8 << 20


class Writer:
    """Brings the rows of `feed` into `sink`.

    `numbered_from` is the first number that rows of this run can have; `identity` names the writer in the ledger.
    """

    def __init__(
        self,
        sink: Sink,
        feed: Feed,
        options: SpoolOptions,
        *,
        identity: str,
        numbered_from: int,
        dead_letters: DeadLetters,
        stats: SpoolStats,
    ) -> None:
        self._sink, self._feed, self._options = sink, feed, options
        self._identity, self._numbered_from = identity, numbered_from
        self._dead_letters, self._stats = dead_letters, stats
        self._limited = Limited()
        self._state = f"connecting to {sink.shown}"
        self._at: int | None = None
        self._tend_at = self._stored_at = 0.0
        self._has_connected = False
        self._failure = ""
        self._has_stored = False
        self._rows_limit = _MOST_ROWS
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
        with self._at_most(self._options.timeout):
            self._sink.prepare()
            self._at = self._read_ledger()
            self._tend_at = 0.0
        self._has_connected = True
        self._state = f"connected to {self._sink.shown}"
        # Said again after each failure of another kind, but not at each turn of one that comes back.
        self._limited(NOTICE, f"connected after {self._failure}", f"connected to {self._sink.shown}")

    def _read_ledger(self) -> int | None:
        at = self._sink.last(self._identity)
        if at is not None and not self._has_connected and at >= self._numbered_from:
            # Only a spool's directory that was set back (a restored backup) can bring this about.
            log.error(
                "%s: the ledger is ahead of the spool, so the spool is an old copy; using another name in the ledger",
                self._sink.shown,
            )
            self._identity = str(uuid.uuid4())
            at = self._sink.last(self._identity)
        if at is not None and (found := self._feed.done(at)):
            log.log(NOTICE, "%s: rows that had arrived before the connection broke: %d", self._sink.shown, found)
        return at

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
                self._store(rows if rows.layout == self.layout else self._sink.fit(rows))
            elif stopping and not self._stats.pending:
                return

    def _linger(self) -> None:
        """Let rows gather while few of them wait: a write costs as much as hundreds of rows."""
        if self._stats.pending < _FEW_ROWS:
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

    def _store(self, rows: Rows) -> None:
        """Bring the rows in; those that are refused, found by halving, into the dead-letter file."""
        parts = [rows]
        while parts:
            part = parts.pop()
            try:
                self._store_whole(part)
            except Refused as error:
                if part.count > 1:
                    first, rest = part.split(part.count // 2)
                    parts += [rest, first]
                else:
                    self._bury(part, error)

    def _store_whole(self, rows: Rows) -> None:
        self._broke_off = False
        try:
            with self._at_most(self._options.timeout):
                self._sink.write(rows, self._identity, self._at)
        except Unavailable:
            if self._broke_off:  # perhaps it was too much for the time allowed
                self._rows_limit = max(1, rows.count // 2)
            raise
        if self._at is not None:
            self._at = rows.last
        self._feed.done(rows.last)
        self._has_stored = True
        self._stored_at = time.monotonic()
        self._rows_limit = min(self._rows_limit * 2, _MOST_ROWS)

    def _bury(self, row: Rows, error: Refused) -> None:
        self._dead_letters.write(row, error, self._sink.into)
        if self._at is not None:
            with self._at_most(self._options.timeout):
                self._sink.skip(row.first, self._identity, self._at)
            self._at = row.first
        self._feed.refused(row.first, f"{error} ({error.code}); see {self._dead_letters.path}")

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
