# SPDX-License-Identifier: GPL-2.0-or-later
"""NFACCT: the kernel's accounting objects (`nfacct add`, `iptables -m nfacct`), read every `pollinterval` seconds.

Each poll makes one record per object (`sum.name`, `sum.pkts`, `sum.bytes`), even for objects that counted nothing. The
first poll comes one interval after the start; SIGUSR2 triggers one at once. Polls follow a fixed grid of the monotonic
clock, so they do not drift. A poll that was missed because the daemon was busy or stopped is not made up for.

With `zerocounter`, the default, a record carries what was counted since the last poll, and the kernel's counters are
set to 0 as they are read. From then on only the daemon has these counts. It treats them as follows:

- Nothing is lost on the way from the kernel, even where the kernel's own dump would lose objects
  (accounting/objects.py). This takes a new socket for each poll of more than about 350 objects. If none can be opened,
  a few objects may miss the packets of the moment of the poll; `recovered` counts these objects.
- An output whose target is unavailable keeps them, like all records, up to its own limit (`max_pending_bytes` in the
  outputs that write lines; a record takes about 100 bytes). The output drops what does not fit, and what its target
  did not accept before the daemon had to stop. Its statistics count both.
- There is no last poll at stop: what was counted since the previous poll stays in the kernel, and the next start
  delivers it. If its network namespace is deleted, there is one, and the next namespace of that name is followed.
- A process that is killed between poll and delivery loses the counts it held: those of one poll, or those that were
  waiting for a target.

Without `zerocounter` a record carries everything that was counted since the object was created, and a lost record costs
no counts. Use this for objects with a quota: setting an object to 0 restarts its quota.

The log names each object as soon as it reaches its quota.
"""

from __future__ import annotations

import logging
import time

from nflowlevel.accounting.events import QuotaEvents
from nflowlevel.accounting.objects import Accounting
from nflowlevel.accounting.table import CounterTable
from nflowlevel.binding.netns import of_socket
from nflowlevel.logs import NOTICE, Limited, log
from nflowlevel.options import printable
from nflowlevel.plugin.polling import PollingInput, PollingOptions, PollingStats, ZeroCounter
from nflowlevel.records.batch import Batch
from nflowlevel.stats import FOREIGN, counter

#: Quotas reached at the same time that are named one by one.
_FEW_EVENTS = 10


class NFACCTOptions(PollingOptions, frozen=True, kw_only=True):
    """Options of NFACCT; names as in ulogd.conf."""

    zerocounter: ZeroCounter = True


class NFACCTStats(PollingStats):
    """What was read."""

    received = counter("records", "Accounting objects read.", always=True)
    errors = counter("polls", "Polls that the kernel refused or broke off; what it had zeroed by then is delivered.")
    recovered = counter(
        "records", "Objects that the kernel's dump had lost; packets of a few milliseconds may be missing."
    )
    malformed = counter("messages", "Netlink messages that could not be decoded; what they told is lost.")
    foreign = FOREIGN
    quotas = counter("events", "Objects that reached their quota.")
    quotas_lost = counter("events", "Notifications about quotas that came too fast to be read.")


class NFACCT(PollingInput[NFACCTOptions]):
    """The NFACCT plugin; see the module."""

    name = "NFACCT"
    Options = NFACCTOptions
    Stats = NFACCTStats
    _stats: NFACCTStats
    _accounting: Accounting | None = None
    _events: QuotaEvents | None = None
    #: What `_events` had counted of these when it was last looked.
    _seen: tuple[int, int, int] = (0, 0, 0)

    def __init__(self, instance: str, options: NFACCTOptions) -> None:
        super().__init__(instance, options)
        self._limited = Limited()

    def start(self) -> None:
        """Open the sockets and read all once."""
        self._accounting = Accounting(self.netns)
        self._accounting.dump()
        self._events, self._seen = self._accounting.quota_events(), (0, 0, 0)
        self.place = of_socket(self._events.fileno()) if self.netns else None

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
        return table.batch(self.time_of(now), stamp=self.options.timestamp)

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
        seen = self._events.lost, self._events.malformed, self._events.foreign
        lost, malformed, foreign = (now - before for now, before in zip(seen, self._seen, strict=True))
        self._seen = seen
        self._stats.malformed += malformed
        self._stats.foreign += foreign
        self._stats.quotas_lost += lost
        if lost:
            text = f"{self}: {self._stats.quotas_lost} notifications of reached quotas were lost so far"
            self._limited(NOTICE, "quotas", text)

    def close(self, timeout: float = 1.0) -> None:
        """Close the sockets; the objects stay."""
        if self._events:
            self._events.close()
            self._events = None
        if self._accounting:
            self._accounting.close()
            self._accounting = None
