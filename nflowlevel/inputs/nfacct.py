# SPDX-License-Identifier: GPL-2.0-or-later
"""NFACCT: the kernel's accounting objects (`nfacct add`, `iptables -m nfacct`), read every `pollinterval` seconds.

A record per object and poll, also of those that counted nothing: `sum.name`, `sum.pkts`, `sum.bytes`. The first poll
comes one interval after the start, SIGUSR2 makes one at once. Polls keep to a grid of the monotonic clock: they do
not drift, and one that was missed, because the daemon was busy or stopped, is not made up.

With `zerocounter`, the default, a record carries what was counted since the last poll, and the kernel's counters are
set to 0 as they are read. From then on these counts exist only here, so this is what becomes of them:

- Nothing is lost on the way from the kernel, also where its own dump would lose objects (accounting/objects.py). It
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

from nflowlevel.accounting.events import QuotaEvents
from nflowlevel.accounting.objects import Accounting
from nflowlevel.accounting.table import CounterTable
from nflowlevel.logs import NOTICE, Limited, log
from nflowlevel.options import printable
from nflowlevel.plugin.polling import PollingInput, PollingOptions, PollingStats, ZeroCounter
from nflowlevel.records.batch import Batch
from nflowlevel.stats import counter

#: Quotas reached at the same time that are named one by one.
_FEW_EVENTS = 10


class NFACCTOptions(PollingOptions, frozen=True, kw_only=True):
    """Options of NFACCT; names as in ulogd.conf."""

    zerocounter: ZeroCounter = True


class NFACCTStats(PollingStats):
    """What was read."""

    received = counter("records", "Accounting objects read.", always=True)
    errors = counter("polls", "Times the kernel refused, or gave up half-way; what it had zeroed is delivered.")
    recovered = counter(
        "records", "Objects caught by the kernel's lossy dump: packets of some milliseconds may be missing."
    )
    malformed = counter("messages", "Netlink messages that could not be decoded: their counts are lost.")
    quotas = counter("events", "Objects that reached their quota.")
    quotas_lost = counter("events", "Notifications of that which came too fast.")


class NFACCT(PollingInput[NFACCTOptions]):
    """The NFACCT plugin; see the module."""

    name = "NFACCT"
    Options = NFACCTOptions
    Stats = NFACCTStats
    _stats: NFACCTStats
    _accounting: Accounting | None = None
    _events: QuotaEvents | None = None

    def __init__(self, instance: str, options: NFACCTOptions) -> None:
        super().__init__(instance, options)
        self._limited = Limited()

    def start(self) -> None:
        """Open the sockets and read all once."""
        self._accounting = Accounting(self.netns)
        self._accounting.dump()
        self._events = self._accounting.quota_events()

    def fileno(self) -> int:
        """Return the descriptor that is readable when an object has reached its quota."""
        assert self._events is not None, "NFACCT is used before open()"
        return self._events.fileno()

    def receive(self) -> Batch:
        """Poll, if it is time to; log the quotas that were reached."""
        self._log_quotas()
        return super().receive()

    def poll(self) -> Batch:
        """Read the accounting objects."""
        assert self._accounting is not None, "NFACCT is used before open()"
        now = time.time_ns()
        table = self._accounting.dump_and_zero() if self.options.zerocounter else self._accounting.dump()
        self._account(table)
        asked = self.options.timestamp
        time_ = (now // 10**9, now // 1000 % 10**6 if asked else None)
        return table.batch(time_, stamp=asked)

    def _account(self, table: CounterTable) -> None:
        """Count what was read, and say what went wrong."""
        stats = self._stats
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
            text = f"{self}: {table.recovered} objects may lack packets that arrived during the poll: {why}"
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

    def close(self, timeout: float = 1.0) -> None:
        """Close the sockets; the objects stay."""
        if self._events:
            self._events.close()
            self._events = None
        if self._accounting:
            self._accounting.close()
            self._accounting = None
