# SPDX-License-Identifier: GPL-2.0-or-later
"""Several groups read as one: what is shown of their packets, in the order of time.

The kernel queues each packet at once, but two groups are read one after the other, and so are processors. So a line
is held for a moment, until nothing earlier can come.
"""

from __future__ import annotations

import heapq
import os
import select
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from nflowlevel.readers.group import Group
from nflowlevel.records.batch import Batch
from nflowlevel.records.packetrow import Packet

#: How long a line waits for earlier ones of other groups.
_HOLD_SECS = 0.1
#: Of one group no more is read at a time while others wait.
_BATCHES_IN_TURN = 16


class Line(NamedTuple):
    """What is shown of a packet, and its time in microseconds since 1970."""

    usecs: int
    text: str


def _time_of(packet: Packet) -> int:
    return packet.oob_time_sec * 1_000_000 + packet.oob_time_usec


class _Held(NamedTuple):
    usecs: int
    number: int
    came: float
    text: str


class Follow:
    """Reads groups until `stop`. `show` makes the lines of a batch, none of packets that are not to be shown."""

    def __init__(
        self, groups: Sequence[Group], show: Callable[[Batch], Sequence[Line]], hold_secs: float = _HOLD_SECS
    ) -> None:
        self._groups = groups
        self._show = show
        # One group has its packets in order.
        self._hold_secs = hold_secs if len(groups) > 1 else 0.0
        self._held: list[_Held] = []
        self._number = 0
        #: Up to when each group has been read.
        self._reached: dict[Group, int] = {}
        self._stopping = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping

    def stop(self) -> None:
        """End the iteration; what the kernel has queued still comes. Signal handlers may call it."""
        self._stopping = True
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def lines(self, quiet_secs: float) -> Iterator[list[str]]:
        """Yield lines in order, several at a time; none where nothing came for `quiet_secs`."""
        poll = select.poll()
        for descriptor in (*(group.fileno() for group in self._groups), self._wake):
            poll.register(descriptor, select.POLLIN)
        last = time.monotonic()
        while not self._stopping:
            if not any(group.more for group in self._groups):
                poll.poll(1000 * max(0.0, self._due(last + quiet_secs) - time.monotonic()))
            for group in self._groups:
                for batch in islice(iter(group.receive, None), _BATCHES_IN_TURN):
                    if not batch:
                        break
                    self._hold(batch)
                    self._reached[group] = _time_of(batch[-1])
            found, now = self._ripe(), time.monotonic()
            if found or now >= last + quiet_secs:
                yield found
                last = time.monotonic()
            if not self._stopping and (pause := max(group.pause for group in self._groups)):
                time.sleep(pause)
        for group in self._groups:
            for batch in group.drain():
                self._hold(batch)
        # Those of one group are in order, and sorting keeps that.
        yield [held.text for held in sorted(self._held, key=lambda held: held[:2])]
        self._held = []

    def _hold(self, batch: Batch) -> None:
        came = time.monotonic()
        if not self._hold_secs:
            self._held += [_Held(0, 0, came, line.text) for line in self._show(batch)]
            return
        for line in self._show(batch):
            self._number += 1
            heapq.heappush(self._held, _Held(line.usecs, self._number, came, line.text))

    def _due(self, otherwise: float) -> float:
        """Return when the first of what is held has waited long enough."""
        return min((held.came + self._hold_secs for held in self._held), default=otherwise)

    def _ripe(self) -> list[str]:
        """Return what has waited long enough, and what is earlier than that: the clock may have been set meanwhile."""
        if not self._hold_secs:
            found = [held.text for held in self._held]
            self._held.clear()
            return found
        long_ago = time.monotonic() - self._hold_secs
        last = max((held.usecs for held in self._held if held.came <= long_ago), default=-1)
        # In a flood a group may be behind: what waits in it is earlier than what is held of the others.
        last = min([last, *(self._reached.get(group, 0) for group in self._groups if group.more)])
        found = []
        while self._held and self._held[0].usecs <= last:
            found.append(heapq.heappop(self._held).text)
        return found

    def close(self) -> None:
        """Give up what `stop` needs; the groups belong to whoever opened them. It may be called more than once."""
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1
