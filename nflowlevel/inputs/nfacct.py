# SPDX-License-Identifier: GPL-2.0-or-later
"""NFACCT: the kernel's accounting objects (`nfacct add`, `iptables -m nfacct`), read every `pollinterval` seconds.

A record per object and poll, also of those that counted nothing: `sum.name`, `sum.pkts`, `sum.bytes`. The first poll
comes one interval after the start, SIGUSR2 makes one at once. Polls keep to a grid of the monotonic clock: they do
not drift, and one that was missed, because the daemon was busy or stopped, is not made up.

With `zerocounter`, the default, a record carries what was counted since the last poll, and the kernel's counters are
set to 0 as they are read. From then on these counts exist only here, so this is what becomes of them:

- Nothing is lost on the way from the kernel, also where its own dump would lose objects (nflowlevel/accounting.py). It
  takes a new socket for each poll of more than some 350 objects. A daemon that has become an ordinary user (`-u`)
  cannot open one in another namespace: then packets of the moment of the poll may be missing, of a few objects,
  counted in `recovered`.
- An output whose target is away keeps them, as it keeps all records, up to its own bound (`max_pending_bytes` of
  those that write lines, some 100 bytes a record). What does not fit, and what its target did not take before the
  daemon had to stop, is dropped and counted in the output's statistics.
- At stop there is no last poll: what was counted since the last one stays in the kernel, and the next start delivers
  it.
- A process that is killed between poll and delivery loses what it held: that of one poll, or what waited for a
  target.

Without `zerocounter` a record carries all that was counted since the object was made, and a record that is lost costs
no counts. Objects with a quota want that: setting one to 0 starts its quota anew.

Objects that reach their quota are named in the log at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from nflowlevel.accounting.objects import Accounting, CounterTable, QuotaEvents
from nflowlevel.logs import NOTICE, Limited, log
from nflowlevel.options import Options, printable
from nflowlevel.plugin.contract import Input
from nflowlevel.plugin.schedule import Schedule
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import Key
from nflowlevel.stats import Counters, counter

#: Quotas reached at the same time that are named one by one.
_FEW_EVENTS = 10


class NFACCTOptions(Options, frozen=True, kw_only=True):
    """Options of NFACCT; names as in ulogd.conf."""

    pollinterval: Annotated[int, Meta(ge=1, description="Seconds from poll to poll.")]
    zerocounter: Annotated[bool, Meta(description="Read what was counted since the last poll, and zero it.")] = True
    timestamp: Annotated[bool, Meta(description="Publish `oob.time.sec` and `oob.time.usec`: when it was polled.")] = (
        False
    )
    network_namespace_path: Annotated[
        str, Meta(description="Network namespace to read in: a path or a name; empty: the daemon's own.")
    ] = ""


class NFACCTStats(Counters):
    """What was read."""

    received = counter("records", "Accounting objects read.", always=True)
    polls = counter("polls", "Times they were read.", always=True)
    missed = counter("polls", "Times they should have been read, but the daemon was busy or stopped.")
    errors = counter("polls", "Times the kernel refused, or gave up half-way; what it had zeroed is delivered.")
    recovered = counter(
        "records", "Objects caught by the kernel's lossy dump: packets of some milliseconds may be missing."
    )
    malformed = counter("messages", "Netlink messages that could not be decoded: their counts are lost.")
    quotas = counter("events", "Objects that reached their quota.")
    quotas_lost = counter("events", "Notifications of that which came too fast.")


class NFACCT(Input[NFACCTOptions]):
    """The NFACCT plugin; see the module."""

    name = "NFACCT"
    Options = NFACCTOptions
    provides = "sum"

    def __init__(self, instance: str, options: NFACCTOptions) -> None:
        super().__init__(instance, options)
        self._stats = NFACCTStats()
        self._limited = Limited()
        self._accounting: Accounting | None = None
        self._events: QuotaEvents | None = None
        self._schedule = Schedule(options.pollinterval)

    def published(self) -> tuple[Key, ...]:
        """The time is published only where it was asked for."""
        asked = self.options.timestamp
        return tuple(key for key in super().published() if asked or not key.name.startswith("oob.time."))

    def open(self) -> None:
        """Make sure that the kernel lets us read; an error stops the stack."""
        netns = self.options.network_namespace_path or None
        self.close()
        try:
            self._accounting = Accounting(netns)
            self._accounting.dump()
            self._events = self._accounting.quota_events()
        except BaseException:
            self.close()
            raise
        self._schedule.start()

    # -- when ----------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return the descriptor that is readable when an object has reached its quota."""
        assert self._events is not None, "NFACCT is used before open()"
        return self._events.fileno()

    @property
    def deadline(self) -> float | None:
        """When the next poll is due."""
        return self._schedule.deadline

    def poll_now(self) -> None:
        """Poll when the loop comes round next; the grid of the others stays."""
        self._schedule.ask()

    # -- what ----------------------------------------------------------------------------------------------------

    def receive(self) -> Batch:
        """Poll, if it is time to; log the quotas that were reached."""
        self._log_quotas()
        missed = self._schedule.due()
        if missed is None:
            return Batch(None, 0)
        self._stats.missed += missed
        return self._poll()

    def _poll(self) -> Batch:
        assert self._accounting is not None, "NFACCT is used before open()"
        now = time.time_ns()
        try:
            table = self._accounting.dump_and_zero() if self.options.zerocounter else self._accounting.dump()
        except BaseException:
            self._stats.errors += 1
            raise
        self._account(table)
        asked = self.options.timestamp
        time_ = (now // 10**9, now // 1000 % 10**6 if asked else None)
        return table.batch(time_, stamp=asked)

    def _account(self, table: CounterTable) -> None:
        """Count what was read, and say what went wrong."""
        stats = self._stats
        stats.polls += 1
        stats.received += len(table)
        stats.recovered += table.recovered
        stats.malformed += table.malformed
        stats.errors += bool(table.error)
        if table.error:
            rest = "the others keep their counts for the next poll"
            text = f"{self}: the kernel gave {len(table)} objects, then {table.error}; {rest}"
            self._limited(logging.ERROR, "error", text)
        if table.malformed:
            text = f"{self}: {table.malformed} messages of the kernel could not be decoded, their counts are lost"
            self._limited(logging.ERROR, "malformed", text)
        if table.recovered:
            why = "objects came or went meanwhile, or no socket can be opened in that namespace any more"
            text = f"{self}: of {table.recovered} objects packets of the moment of the poll may be missing: {why}"
            self._limited(NOTICE, "recovered", text)

    def _log_quotas(self) -> None:
        assert self._events is not None, "NFACCT is used before open()"
        reached = self._events.receive()
        self._stats.quotas += len(reached)
        for each in reached[:_FEW_EVENTS]:
            counted = f"{each.packets} packets, {each.bytes} bytes"
            log.log(
                NOTICE, "%s: '%s' has reached its quota of %d %s: %s",
                self, printable(each.name), each.quota, each.quota_unit, counted,
            )  # fmt: skip
        if len(reached) > _FEW_EVENTS:
            log.log(NOTICE, "%s: %d more objects have reached their quota", self, len(reached) - _FEW_EVENTS)
        lost = self._events.lost
        if lost > self._stats.quotas_lost:
            self._stats.quotas_lost = lost
            self._limited(NOTICE, "quotas", f"{self}: {lost} notifications of reached quotas were lost so far")

    def drain(self) -> Iterator[Batch]:
        """Nothing: what was counted since the last poll stays in the kernel."""
        return iter(())

    @property
    def stats(self) -> NFACCTStats:
        """What was read."""
        return self._stats

    def close(self, timeout: float = 1.0) -> None:
        """Close the sockets; the objects stay."""
        if self._events:
            self._events.close()
            self._events = None
        if self._accounting:
            self._accounting.close()
            self._accounting = None
