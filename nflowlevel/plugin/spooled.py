# SPDX-License-Identifier: GPL-2.0-or-later
"""The base of outputs whose rows wait in memory and on disk until a thread has brought each of them in once.

    receive loop: batch ─▶ rows as text (C) ─▶ ring ─▶ writer's thread ─▶ sink
                                                 ╰──▶ spool (disk) ──▲    ╰──▶ dead-letter file

A plugin adds its options, its `Sink`, and how a batch becomes rows.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from nflowlevel.plugin.contract import ANY_KEYS, DataType, Finding, Member, Output
from nflowlevel.spool.deadletter import DeadLetters
from nflowlevel.spool.feed import Feed, SpoolStats
from nflowlevel.spool.options import DEFAULT_RING_SIZE, SpoolOptions
from nflowlevel.spool.ring import Ring
from nflowlevel.spool.runs import Runs
from nflowlevel.spool.spool import Spool
from nflowlevel.spool.writer import Writer

if TYPE_CHECKING:
    from nflowlevel.records.batch import Batch
    from nflowlevel.records.keys import Key
    from nflowlevel.spool.rows import Layout
    from nflowlevel.spool.sink import Sink

SomeSpooled = TypeVar("SomeSpooled", bound=SpoolOptions)

_DEAD_LETTERS = "refused.jsonl"

#: Rows can be large, with the whole packet in them: however many the ring may hold, it takes no more memory.
_RING_BYTES = 64 << 20

#: The thread may begin to wait for the sink while the loop sleeps, so it does not sleep longer while rows wait.
_LOOK_SECS = 5.0


class SpooledOutput(Output[SomeSpooled]):
    """An output with ring, spool, writer and dead letters."""

    consumes: ClassVar[tuple[str, ...]] = ANY_KEYS
    # Of raw packets there is what the kernel says: Debian's ulogd.conf has such a stack for SQLITE3, without BASE.
    accepts: ClassVar[frozenset[DataType]] = frozenset(("raw", "packet", "flow", "sum"))

    def __init__(self, instance: str, options: SomeSpooled) -> None:
        super().__init__(instance, options)
        self.members: tuple[Member, ...] = ()
        #: What rows can have in this life of the output: the keys of all stacks that end in it.
        self._all: tuple[Member, ...] = ()
        self._stats = SpoolStats()
        self._feed: Feed | None = None
        self._writer: Writer | None = None

    @abstractmethod
    def sink(self) -> Sink:
        """Return where rows of `members` go, not connected yet. The members are those of all stacks that end here."""

    @abstractmethod
    def render(self, batch: Batch, layout: Layout) -> Iterable[tuple[bytes, int]]:
        """Yield (rows, number of rows) of a batch, in a layout that the sink has asked for; each row is a line.

        `members` are those of the batch's stack. Where other stacks have further keys, the batch has them too, as
        columns without values.
        """

    def layout_of(self, batch: Batch, wanted: Layout) -> Layout:
        """Return the layout that a batch's rows are to have; by default the one that the sink wants."""
        return wanted

    def bind(self, members: tuple[Member, ...]) -> None:
        """Learn which keys there are."""
        self.members = members

    def agrees(self, one: Key, other: Key) -> bool:
        """Tell whether one field of a row can have both: two numbers, or two texts."""
        return _form(one) == _form(other)

    def completed(self, batch: Batch) -> Batch:
        """Return a batch with the keys that only other stacks have, as columns without values."""
        if self._all is self.members:
            return batch
        own = dict(self.members)
        lacking = [name for name, _ in self._all if name not in own]
        if lacking:
            batch = batch.copy()
            for name in lacking:
                batch.add(name, [None] * len(batch))
        return batch

    @property
    def directory(self) -> Path:
        """Where what has to outlive the process is: spool and refused rows."""
        return Path(self.options.spool_directory, self.instance)

    def open(self) -> None:
        """Open the spool and start the thread; OutputError where the spool cannot be used."""
        options = self.options
        self._all = self.members
        with self._stats.lock:
            # What the last life left in the spool is found there again.
            self._stats.records -= self._stats.pending
            self._stats.pending = 0
        spool = Spool(self.directory, options.spool_max_bytes) if options.when_full == "spool" else None
        ring = Ring(options.ring_buffer_size or DEFAULT_RING_SIZE, options.backlog_memcap, _RING_BYTES)
        feed = Feed(ring, spool, options.when_full, self._stats, name=f"{self}")
        feed.open()
        if spool:
            runs = spool.runs
        else:
            runs = Runs()
            runs.begin(1)
        dead_letters = Path(options.dead_letter_file) if options.dead_letter_file else self.directory / _DEAD_LETTERS
        sink = self.sink()
        self._feed = feed
        self._writer = Writer(
            sink,
            feed,
            options,
            runs=runs,
            dead_letters=DeadLetters(dead_letters, runs.own.name, sink.describe),
            stats=self._stats,
        )
        self._writer.open()

    def write(self, batch: Batch) -> None:
        """Render the batch's rows and queue them; never waits."""
        if not batch:
            return
        if self._writer is None or self._feed is None:
            self._stats.records += len(batch)
            self._stats.drop("stop", len(batch))
            return
        layout = self.layout_of(batch, self._writer.layout)
        for data, count in self.render(self.completed(batch), layout):
            self._feed.put(layout, count, data)

    def reopen(self) -> None:
        """Connect anew."""
        if self._writer and self._feed:
            self._writer.reopen()

    @property
    def deadline(self) -> float | None:
        """When to look whether the thread has been in one call for too long."""
        if self._writer is None or self._feed is None or not self._stats.pending:
            return None
        hung_at = self._writer.hung_at
        return time.monotonic() + _LOOK_SECS if hung_at is None else hung_at

    def retry(self) -> None:
        """Break a connection that hangs."""
        if self._writer and (hung_at := self._writer.hung_at) is not None:
            self._writer.break_hung(hung_at)

    @property
    def stats(self) -> SpoolStats:
        """Rows in, taken, waiting, dropped."""
        return self._stats

    @property
    def state(self) -> str:
        """Where rows go, and how that is."""
        return self._writer.state if self._writer else "not opened yet"

    def needs(self) -> Iterator[Finding]:
        """The directory of spool and refused rows."""
        from nflowlevel.plugin import reach

        yield from reach.directory(str(self.directory))

    def directories(self) -> Iterator[str]:
        """Yield the one of spool and refused rows."""
        yield str(self.directory)

    def close(self, timeout: float = 1.0) -> None:
        """Have what waits brought in, as far as it goes in time; the rest stays in the spool for the next start."""
        if self._writer and self._feed:
            self._writer.close(timeout)
            self._feed.close()
            self._feed = None


def _form(key: Key) -> tuple[str, bool]:
    """Return what its values are in a row; of an address also whether it can be had as a number."""
    return "number" if key.most is not None else key.type, key.type == "ipaddr" and key.kind == "column"
