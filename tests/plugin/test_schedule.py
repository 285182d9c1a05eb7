# SPDX-License-Identifier: GPL-2.0-or-later
"""When an input polls: the grid holds, what was missed is told, a poll out of turn changes neither."""

from __future__ import annotations

import pytest

from nflowlevel.plugin import schedule
from nflowlevel.plugin.schedule import Schedule


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(schedule, "time", made)
    return made


@pytest.fixture
def every_10(clock: Clock) -> Schedule:
    made = Schedule(10)
    made.start()
    return made


def test_the_first_poll_is_due_after_one_interval(every_10: Schedule, clock: Clock) -> None:
    assert every_10.deadline == 110
    clock.now = 109.999
    assert every_10.due() is None
    clock.now = 110
    assert every_10.due() == 0
    assert every_10.deadline == 120
    assert every_10.due() is None


def test_a_late_poll_keeps_the_grid(every_10: Schedule, clock: Clock) -> None:
    clock.now = 113
    assert (every_10.due(), every_10.deadline) == (0, 120)


@pytest.mark.parametrize(("now", "missed", "following"), [(119.9, 0, 120), (120, 1, 130), (155, 4, 160)])
def test_missed_polls_are_told(every_10: Schedule, clock: Clock, now: float, missed: int, following: float) -> None:
    clock.now = now
    assert (every_10.due(), every_10.deadline) == (missed, following)


def test_a_poll_out_of_turn(every_10: Schedule, clock: Clock) -> None:
    clock.now = 103
    every_10.ask()
    assert every_10.deadline == 0
    assert every_10.due() == 0
    assert (every_10.deadline, every_10.due()) == (110, None)


def test_asked_when_one_is_due_is_one_poll(every_10: Schedule, clock: Clock) -> None:
    clock.now = 110
    every_10.ask()
    assert (every_10.due(), every_10.due()) == (0, None)


def test_starting_again_forgets_what_was_asked(every_10: Schedule, clock: Clock) -> None:
    every_10.ask()
    clock.now = 200
    every_10.start()
    assert (every_10.deadline, every_10.due()) == (210, None)
