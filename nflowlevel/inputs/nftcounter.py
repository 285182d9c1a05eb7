# SPDX-License-Identifier: GPL-2.0-or-later
"""NFTCOUNTER: the named counters and quotas of nftables, read every `pollinterval` seconds.

A rule that says `counter name "http"` counts into an object of its table; all such objects of all families and tables
of the namespace are read, those that count nothing included. `sum.name` is `family.table.name`, for instance
`inet.filter.http`; `sum.pkts` and `sum.bytes` are what was counted. A quota has no packets: its record carries the
bytes used in `sum.bytes` and what it allows in `sum.limit`.

The first poll comes one interval after the start and SIGUSR2 makes one at once; polls keep to a grid of the monotonic
clock, so they do not drift. At stop there is none: what was counted stays in the kernel.

With `zerocounter` a record carries what was counted since the last poll, and the counter is set to 0 in the same step:
no packet is counted twice or not at all, also where `nft reset counters` would lose some. It is off by default, because
whoever reads the counters with nft besides would find them zeroed. Quotas are never reset, they would let more through.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from nflowlevel.binding.nftables import NamedObjects
from nflowlevel.options import Options
from nflowlevel.plugin.contract import Input
from nflowlevel.plugin.schedule import Schedule
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import Key
from nflowlevel.stats import Counters, counter


class NFTCOUNTEROptions(Options, frozen=True, kw_only=True):
    """Options of NFTCOUNTER."""

    pollinterval: Annotated[int, Meta(ge=1, description="Seconds from poll to poll.")]
    zerocounter: Annotated[bool, Meta(description="Read what was counted since the last poll, and zero it.")] = False
    timestamp: Annotated[
        bool, Meta(description="Publish `oob.time.sec` and `oob.time.usec`: the time of the poll.")
    ] = False
    network_namespace_path: Annotated[
        str, Meta(description="Network namespace to read in: a path or a name; empty: the daemon's own.")
    ] = ""


class NFTCOUNTERStats(Counters):
    """What was read."""

    received = counter("records", "Counters and quotas read.", always=True)
    polls = counter("polls", "Times they were read.", always=True)
    missed = counter("polls", "Times they should have been read, but the daemon was busy or the kernel refused.")


class NFTCOUNTER(Input[NFTCOUNTEROptions]):
    """The NFTCOUNTER plugin; see the module."""

    name = "NFTCOUNTER"
    Options = NFTCOUNTEROptions
    provides = "sum"

    def __init__(self, instance: str, options: NFTCOUNTEROptions) -> None:
        super().__init__(instance, options)
        self._stats = NFTCOUNTERStats()
        self._objects: NamedObjects | None = None
        self._schedule = Schedule(options.pollinterval)

    def published(self) -> tuple[Key, ...]:
        """The time is published only where it was asked for."""
        return tuple(
            key for key in super().published() if self.options.timestamp or not key.name.startswith("oob.time")
        )

    def open(self) -> None:
        """Make sure that the kernel lets us read; an error stops the stack."""
        objects = NamedObjects(self.options.network_namespace_path or None)
        try:
            objects.read()
        except BaseException:
            objects.close()
            raise
        self._objects = objects
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
        assert self._objects is not None, "NFTCOUNTER is used before open()"
        missed = self._schedule.due()
        if missed is None:
            return Batch(None, 0)
        self._stats.missed += missed
        now = time.time_ns()
        try:
            objects = self._objects.take() if self.options.zerocounter else self._objects.read()
        except BaseException:
            self._stats.missed += 1
            raise
        self._stats.polls += 1
        self._stats.received += len(objects)
        columns: dict[str, list[int | float | str | None]] = {
            "sum.name": [each.path for each in objects],
            "sum.pkts": [each.packets for each in objects],
            "sum.bytes": [each.bytes for each in objects],
            "sum.limit": [each.limit for each in objects],
        }
        seconds, usec = now // 10**9, now // 1000 % 10**6
        if self.options.timestamp:
            columns["oob.time.sec"] = [seconds] * len(objects)
            columns["oob.time.usec"] = [usec] * len(objects)
        return Batch.of_columns(columns, time=(seconds, usec))

    def drain(self) -> Iterator[Batch]:
        """Nothing: what was counted since the last poll stays in the kernel."""
        return iter(())

    @property
    def stats(self) -> NFTCOUNTERStats:
        """What was read."""
        return self._stats

    def close(self, timeout: float = 1.0) -> None:
        """Close the socket."""
        if self._objects:
            self._objects.close()
            self._objects = None
