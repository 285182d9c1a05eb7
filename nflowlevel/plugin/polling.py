# SPDX-License-Identifier: GPL-2.0-or-later
"""The base of inputs that poll: counters of the kernel, read at intervals and when somebody asks (SIGUSR2).

A subclass opens what it reads and reads it; when, what was missed and what failed is kept here. Polls keep to a grid of
the monotonic clock. What was counted since the last poll stays in the kernel when the daemon stops.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, ClassVar, TypeVar

from msgspec import Meta

from nflowlevel.options import NetnsPath, Options
from nflowlevel.plugin.kernel import KernelInput
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import Key
from nflowlevel.records.sums import SUM
from nflowlevel.stats import Counters, counter

#: The option `zerocounter`, for plugins that have a default for it.
ZeroCounter = Annotated[bool, Meta(description="Read what was counted since the last poll, and set it to zero.")]


class PollingOptions(Options, frozen=True, kw_only=True):
    """When and where to poll; names as in ulogd.conf. A plugin's own options derive from it."""

    pollinterval: Annotated[int, Meta(ge=1, description="Seconds between two polls.")]
    zerocounter: ZeroCounter
    timestamp: Annotated[
        bool, Meta(description="Publish the time of the poll as `oob.time.sec` and `oob.time.usec`.")
    ] = False
    network_namespace_path: NetnsPath = ""


class PollingStats(Counters):
    """What was read."""

    received = counter("records", "Counters read.", always=True)
    polls = counter("polls", "Polls that were made.", always=True)
    missed = counter("polls", "Polls that were due while the daemon was busy or stopped.")
    errors = counter("polls", "Polls that the kernel refused.")


SomePolling = TypeVar("SomePolling", bound=PollingOptions)


class PollingInput(KernelInput[SomePolling]):
    """An input that reads counters every `pollinterval` seconds."""

    provides = "sum"
    records = SUM
    #: Its counters, where it has more of them.
    Stats: ClassVar[type[PollingStats]] = PollingStats

    def __init__(self, instance: str, options: SomePolling) -> None:
        super().__init__(instance, options, options.network_namespace_path)
        self._stats = self.Stats()
        self._schedule = Schedule(options.pollinterval)

    def published(self) -> tuple[Key, ...]:
        """The time is published only where it was asked for."""
        asked = self.options.timestamp
        return tuple(key for key in super().published() if asked or not key.name.startswith("oob.time."))

    @property
    def deltas(self) -> bool:
        """Whether the kernel's counters are zeroed as they are read."""
        return self.options.zerocounter

    # -- for the subclass ----------------------------------------------------------------------------------------

    @abstractmethod
    def start(self) -> None:
        """Open what is read, in `netns`, and make sure that the kernel lets us; an error stops the stack."""

    @abstractmethod
    def poll(self) -> Batch:
        """Return a record for each counter, as it is now."""

    def time_of(self, now: int) -> tuple[int, int | None]:
        """Return the time of a poll at `now` (ns since 1970) for its batch: seconds, and µs where time is published.

        Without the option, ulogd2's accounting records have a time in whole seconds.
        """
        return now // 10**9, now // 1000 % 10**6 if self.options.timestamp else None

    # -- for the loop --------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open what is read; the first poll is due in one interval."""
        self.close()
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        self._schedule.start()

    def fileno(self) -> int:
        """There is nothing to wait for but the time."""
        return -1

    @property
    def deadline(self) -> float | None:
        """When the next poll is due."""
        return self._schedule.deadline

    def poll_now(self) -> None:
        """Poll when the loop comes round next; the grid of the others stays."""
        self._schedule.ask()

    def receive(self) -> Batch:
        """Poll, if it is time to."""
        missed = self._schedule.due()
        if missed is None:
            return Batch(None, 0)
        self._stats.missed += missed
        try:
            batch = self.poll()
        except BaseException:
            self._stats.errors += 1
            raise
        self._stats.polls += 1
        self._stats.received += len(batch)
        return batch

    def leave(self) -> Iterator[Batch]:
        """Poll for the last time: the counters end with their namespace."""
        self._schedule.ask()
        yield self.receive()

    def drain(self) -> Iterator[Batch]:
        """Nothing: what was counted since the last poll stays in the kernel."""
        return iter(())

    @property
    def stats(self) -> PollingStats:
        """What was read."""
        return self._stats


class Schedule:
    """Every `secs` seconds from `start` on. A poll out of turn leaves the grid of the others as it is."""

    def __init__(self, secs: float) -> None:
        self._secs = secs
        self._next = 0.0
        self._asked = False

    def start(self) -> None:
        """Begin: the first poll is due in one interval."""
        self._next = time.monotonic() + self._secs
        self._asked = False

    @property
    def deadline(self) -> float:
        """When the next poll is due (time.monotonic); 0 for at once."""
        return 0.0 if self._asked else self._next

    def ask(self) -> None:
        """Have a poll out of turn."""
        self._asked = True

    def due(self) -> int | None:
        """Return None as long as no poll is due, else how many were missed; the next one is one interval later."""
        asked, self._asked = self._asked, False
        late = time.monotonic() - self._next
        if late < 0:
            return 0 if asked else None
        missed = int(late // self._secs)
        self._next += (missed + 1) * self._secs
        return missed
