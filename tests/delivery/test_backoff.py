# SPDX-License-Identifier: GPL-2.0-or-later
"""Pauses between attempts: how they grow, where they stop growing, when they begin anew."""

from __future__ import annotations

from nflowlevel.delivery.backoff import Backoff


def test_each_pause_is_twice_the_one_before_up_to_the_longest() -> None:
    backoff = Backoff(1.0)
    assert [backoff.pause() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_what_worked_begins_anew() -> None:
    backoff = Backoff(5.0)
    for _ in range(3):
        backoff.pause()
    backoff.reset()
    assert [backoff.pause() for _ in range(2)] == [0.1, 0.2]


def test_another_first_pause() -> None:
    backoff = Backoff(0.05, first=0.02)
    assert [backoff.pause() for _ in range(3)] == [0.02, 0.04, 0.05]
