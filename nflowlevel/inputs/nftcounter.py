# SPDX-License-Identifier: GPL-2.0-or-later
"""NFTCOUNTER: the named counters and quotas of nftables, read every `pollinterval` seconds.

A rule that says `counter name "http"` counts into an object of its table. The plugin reads all such objects in all
families and tables of the namespace, including those that count nothing. `sum.name` is `family.table.name`, for
example `inet.filter.http`; `sum.pkts` and `sum.bytes` are what was counted. A quota does not count packets: its record
has the bytes used in `sum.bytes` and the bytes allowed in `sum.limit`.

The first poll comes one interval after the start; SIGUSR2 triggers one at once. Polls follow a fixed grid of the
monotonic clock, so they do not drift. There is no poll at stop: the counts stay in the kernel. If the network namespace
is deleted, there is a last poll, and the next namespace of that name is followed.

With `zerocounter` a record carries what was counted since the last poll, and the counter is set to 0 in the same step.
No packet is counted twice or missed, even where `nft reset counters` would lose some. It is off by default because
anyone who also reads the counters with nft would find them zeroed. Quotas are never reset: that would let more through.
"""

from __future__ import annotations

import time
from itertools import repeat

from nflowlevel.binding.netns import of_socket
from nflowlevel.binding.nftables import NamedObjects
from nflowlevel.plugin.polling import PollingInput, PollingOptions, PollingStats, ZeroCounter
from nflowlevel.records.batch import Batch
from nflowlevel.records.sums import SUM
from nflowlevel.stats import counter


class NFTCOUNTEROptions(PollingOptions, frozen=True, kw_only=True):
    """Options of NFTCOUNTER."""

    zerocounter: ZeroCounter = False


class NFTCOUNTERStats(PollingStats):
    """What was read."""

    received = counter("records", "Counters and quotas read.", always=True)


class NFTCOUNTER(PollingInput[NFTCOUNTEROptions]):
    """The NFTCOUNTER plugin; see the module."""

    name = "NFTCOUNTER"
    Options = NFTCOUNTEROptions
    Stats = NFTCOUNTERStats
    _objects: NamedObjects | None = None

    def start(self) -> None:
        """Open a socket and read all once."""
        self._objects = NamedObjects(self.netns)
        self._objects.read()
        self.place = of_socket(self._objects.fileno()) if self.netns else None

    def poll(self) -> Batch:
        """Read counters and quotas."""
        assert self._objects is not None, "NFTCOUNTER is used before open()"
        now = time.time_ns()
        objects = self._objects.take() if self.options.zerocounter else self._objects.read()
        seconds, usec = now // 10**9, now // 1000 % 10**6
        rows = [(each.path, each.packets, each.bytes, each.limit, seconds, usec) for each in objects]
        # The time is published where it was asked for.
        columns = dict(zip(self.published(), zip(*rows, strict=True) if rows else repeat(()), strict=False))
        return Batch.of_columns(columns, time=(seconds, usec), type=SUM)

    def close(self, timeout: float = 1.0) -> None:
        """Close the socket."""
        if self._objects:
            self._objects.close()
            self._objects = None
