# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures: well-formed, with their numbers as text, and nothing of others that is not escaped."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from nflowlevel.analytics.drawing import bars, cut, moment, series
from nflowlevel.analytics.traffic import step_of

_DAY, _TODAY = 86_400, 1_795_509_000
_HOSTILE = '"><script>&\x1b[0m'


def _texts(figure: str) -> str:
    return " ".join(ElementTree.fromstring(figure).itertext())


def test_bars() -> None:
    figure = bars('Ports <&">', [(22, 1000), (None, 500), (_HOSTILE, 1)], frozenset((22,)))
    said = _texts(figure)
    assert "22: 1,000" in said
    assert "(none): 500" in said
    assert "<script>" in said
    assert "<script>" not in figure
    assert "\x1b" not in figure
    widths = [
        float(part.split('%"')[0])
        for part in figure.split('<rect x="0" y="')[1:]
        for part in part.split('width="')[1:2]
    ]
    assert widths == [100.0, 50.0, 0.4]
    assert figure.count('class="blocked"') == 1


def test_no_bars() -> None:
    assert "<svg" in bars("Nothing", [])


def test_a_series() -> None:
    figure = series("Over time", [(0, 3, 1, 0), (3600, 0, 0, 2)], 3600)
    said = _texts(figure)
    assert "1970-01-01 00:00:00: 3 allowed, 1 blocked" in said
    assert "2 neither" in said
    assert [figure.count(f'class="{kind}"') for kind in ("allowed", "blocked", "other")] == [1, 1, 1]
    assert series("Nothing", [], 1) == ""


@pytest.mark.parametrize(("days", "labels"), [(1, "06:00"), (7, "03 Jan"), (60, "15 Jan")])
def test_the_axis_has_few_labels(days: int, labels: str) -> None:
    figure = series("x", [(0, 1, 0, 0), (days * 86_400 - 3600, 1, 0, 0)], 3600)
    assert 2 <= figure.count('class="date"') <= 12
    assert labels in figure


@pytest.mark.parametrize(
    ("first", "end", "labels"),
    [
        (0, 100 * _DAY, ["Jan 1970", "Feb 1970", "Mar 1970", "Apr 1970"]),
        (_TODAY - 700 * _DAY, _TODAY, ["Jan 2025", "Nov 2026"]),
        (_TODAY - 5 * 366 * _DAY, _TODAY, ["Jan 2022", "Jul 2026"]),
        (0, 2**32, ["1980", "2000", "2100"]),
        (0, 253_402_300_799, ["2000", "9000"]),
        (-(10**10), 10**11, ["2000", "5000"]),
    ],
)
def test_the_axis_of_months_and_years_has_few_labels(first: int, end: int, labels: list[str]) -> None:
    step = step_of(first, end)
    drawn = re.findall(r'class="date">([^<]*)<', series("x", [(first, 1, 0, 0), (end - step, 1, 0, 0)], step))
    assert 1 <= len(drawn) <= 14
    assert {*labels} <= {*drawn}


def test_what_is_no_time_of_a_calendar() -> None:
    assert moment(10**18) == "1000000000000000000"
    assert str(-(10**15)) in series("x", [(-(10**15), 1, 0, 0)], 1)


def test_texts_are_cut() -> None:
    assert cut("x" * 24) == "x" * 24
    assert cut("x" * 25) == "x" * 23 + "…"
    assert moment(86_399) == "1970-01-01 23:59:59"
