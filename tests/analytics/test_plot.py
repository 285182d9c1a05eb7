# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures: well-formed, in proportion, and text in them is only text."""

from __future__ import annotations

from xml.etree import ElementTree

from nflowlevel.analytics.plot import Picture, bars, spans

SVG = "{http://www.w3.org/2000/svg}"


def rectangles(picture: Picture) -> list[dict[str, float]]:
    root = ElementTree.fromstring(picture.svg)
    return [{name: float(value) for name, value in each.attrib.items()} for each in root.iter(f"{SVG}rect")]


def test_bars_are_in_proportion() -> None:
    drawn = rectangles(bars("x", ["a", "b", "c"], [100, 50, 0]))
    assert [each["width"] / drawn[0]["width"] for each in drawn] == [1.0, 0.5, 0.0]
    assert len({each["y"] for each in drawn}) == 3


def test_spans_are_where_their_time_is() -> None:
    drawn = rectangles(spans("x", ["a", "b", "c"], [0, 10, 30], [4, 2, 1], 10))
    assert [each["x"] for each in drawn] == [0, 180, 540]
    assert [each["height"] for each in drawn] == [160, 80, 40]
    assert all(each["y"] + each["height"] == 160 for each in drawn)


def test_text_is_only_text() -> None:
    hostile = "</title><script>alert(1)</script>&\"'"
    for picture in (bars(hostile, [hostile], [1]), spans(hostile, [hostile], [0], [1], 1)):
        assert "<script" not in picture.svg
        assert hostile in "".join(ElementTree.fromstring(picture.svg).itertext())
        assert picture._repr_svg_() == picture._repr_html_() == picture.svg


def test_nothing() -> None:
    assert rectangles(bars("x", [], [])) == rectangles(spans("x", [], [], [], 60)) == []
    assert "characters of SVG" in repr(bars("x", [], []))
