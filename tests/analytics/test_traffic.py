# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets over time: each is in one span, as allowed, blocked or neither."""

from __future__ import annotations

from pathlib import Path

import pytest

import nflowlevel as nfl
from nflowlevel.analytics.traffic import step_of, traffic
from tests.fix_logs import START, log_file, record


@pytest.mark.parametrize(("span", "step"), [(0, 1), (199, 1), (200, 5), (86_400, 600), (30 * 86_400, 43_200)])
def test_the_bars_are_not_too_many(span: int, step: int) -> None:
    assert step_of(START, START + span) == step


@pytest.mark.parametrize("years", [4, 30, 136, 8000, 10**6])
def test_the_bars_of_wrong_clocks_are_not_too_many(years: int) -> None:
    span = years * 365 * 86_400
    assert 20 <= span // step_of(0, span) < 200


def test_each_packet_is_in_one_span(tmp_path: Path) -> None:
    labels = (0, 1, 2, None)
    records = [record(number * 40, raw__label=labels[number % 4]) for number in range(8)]
    log = nfl.read(log_file(tmp_path / "ulogd.json", records))
    first = START - START % 60
    assert traffic(log, 60) == [
        (first, 1, 1, 0),
        (first + 60, 1, 0, 0),
        (first + 120, 0, 1, 1),
        (first + 180, 1, 0, 0),
        (first + 240, 1, 0, 1),
    ]
