# SPDX-License-Identifier: GPL-2.0-or-later
"""Several groups as one: order of time, what is held for it, silence, and the end; with groups that only seem so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import pytest

from nflowlevel.cli.follow import Follow, Line
from nflowlevel.readers.group import Group


class Packet(NamedTuple):
    usecs: int

    @property
    def oob_time_sec(self) -> int:
        return self.usecs // 1_000_000

    @property
    def oob_time_usec(self) -> int:
        return self.usecs % 1_000_000


class Waiting:
    """A group in which batches wait: their times. It is readable while there are some."""

    pause = 0.0

    def __init__(self, *batches: list[int]) -> None:
        self._batches = [[Packet(usecs) for usecs in batch] for batch in batches]
        self._eventfd = os.eventfd(1 if batches else 0, os.EFD_NONBLOCK)
        self.more = False
        self.closed_fd = False

    def fileno(self) -> int:
        return self._eventfd

    def receive(self) -> list[Packet]:
        if self._batches:
            return self._batches.pop(0)
        if not self.closed_fd:
            os.eventfd_write(self._eventfd, 1)
            os.eventfd_read(self._eventfd)
        return []

    def drain(self) -> Iterator[list[Packet]]:
        while batch := self.receive():
            yield batch

    def add(self, *batches: list[int]) -> None:
        self._batches += [[Packet(usecs) for usecs in batch] for batch in batches]
        os.eventfd_write(self._eventfd, 1)

    def close(self) -> None:
        self.closed_fd = True
        os.close(self._eventfd)


@pytest.fixture
def follow() -> Iterator[Any]:
    """Makes one that shows a packet's time."""
    made: list[Any] = []

    def make(*groups: Waiting, hold_secs: float = 0.02) -> Follow:
        follow = Follow(
            cast("list[Group]", list(groups)),
            lambda batch: [Line(packet.usecs, str(packet.usecs)) for packet in cast("list[Packet]", batch)],
            hold_secs,
        )
        made.extend((follow, *groups))
        return follow

    yield make
    for each in made:
        each.close()


def test_two_groups_come_in_order(follow: Any) -> None:
    lines = follow(Waiting([10, 30], [50]), Waiting([20], [40, 60])).lines(60)
    assert next(lines) == ["10", "20", "30", "40", "50", "60"]


def test_a_line_waits_for_an_earlier_one(follow: Any) -> None:
    first, second = Waiting([30]), Waiting()
    found: list[str] = []
    made = follow(first, second, hold_secs=0.05)
    real = made._hold

    def late(batch: Any) -> None:
        """When the later packet has been read the earlier one comes to the other group."""
        real(batch)
        if batch[0].usecs == 30:
            second.add([20])

    made._hold = late
    for lines in made.lines(60):
        found += lines
        if len(found) == 2:
            made.stop()
    assert found == ["20", "30"]


def test_one_that_is_behind_is_waited_for(follow: Any) -> None:
    """In a flood what waits in a group is older than what has been held of another."""
    behind, other = Waiting(), Waiting([90])
    behind.more = True
    made = follow(behind, other, hold_secs=0.0)
    assert made._hold_secs == 0.0
    made._hold_secs = 1e-9
    made._hold([Packet(95)])
    assert made._ripe() == []
    made._reached[cast("Group", behind)] = 95
    assert made._ripe() == ["95"]


def test_a_clock_that_is_set_holds_nothing_back(follow: Any) -> None:
    """Not the time of a packet is waited for but that it was received so long ago."""
    made = follow(Waiting([2**60, 5]), Waiting())
    assert next(made.lines(60)) == ["5", str(2**60)]


def test_one_group_comes_as_it_is_and_at_once(follow: Any) -> None:
    made = follow(Waiting([30, 10, 20]), hold_secs=3600)
    assert next(made.lines(60)) == ["30", "10", "20"]


def test_silence(follow: Any) -> None:
    group = Waiting()
    lines = follow(group, Waiting()).lines(0.01)
    assert next(lines) == []
    group.add([7])
    assert [found for found in (next(lines) for _ in range(5)) if found] == [["7"]]
    assert next(lines) == []


def test_the_end_brings_what_is_left(follow: Any) -> None:
    first, second = Waiting([40, 10]), Waiting([30])
    made = follow(first, second, hold_secs=3600)
    assert not made.stopping
    made.stop()
    assert made.stopping
    assert list(made.lines(60)) == [["10", "30", "40"]]
    made.close()
    made.stop()
