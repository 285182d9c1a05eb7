# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures: well-formed, with their numbers as text, and nothing of others that is not escaped."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from nflowlevel.analytics.drawing import bars, cut, moment, series

_HOSTILE = '"><script>&\x1b[0m'


def _texts(figure: str) -> str:
    return " ".join(ElementTree.fromstring(figure.replace("class=wide", 'class="wide"')).itertext())


def test_bars() -> None:
    figure = bars('Ports <&">', [(22, 1000), (None, 500), (_HOSTILE, 1)], frozenset((22,)))
    said = _texts(figure)
    assert "22: 1,000" in said
    assert "(none): 500" in said
    assert "<script>" in said
    assert "<script>" not in figure
    assert "\x1b" not in figure
    widths = [
        float(part.split('"')[0])
        for part in figure.split('<rect x="180" y="')[1:]
        for part in part.split('width="')[1:2]
    ]
    assert widths == [250.0, 125.0, 1.0]
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


def test_texts_are_cut() -> None:
    assert cut("x" * 24) == "x" * 24
    assert cut("x" * 25) == "x" * 23 + "…"
    assert moment(86_399) == "1970-01-01 23:59:59"
