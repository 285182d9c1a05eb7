# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers: rows, names, tables for people, in which nothing that was logged can do any harm."""

from __future__ import annotations

from typing import Any

import pytest

from nflowlevel.analytics.answer import Answer, shown, written


class Fixed:
    """An engine that has one answer, and counts how often it was asked for."""

    name = "fixed"

    def __init__(self, columns: tuple[str, ...], *rows: tuple[Any, ...]) -> None:
        self._columns, self._rows = columns, list(rows)

    def relation(self, text: str) -> Any:
        return text

    def columns(self, relation: Any) -> tuple[str, ...]:
        return self._columns

    def rows(self, relation: Any, most: int | None = None) -> list[tuple[Any, ...]]:
        return self._rows[:most]

    def fetch(self, text: str) -> list[tuple[Any, ...]]:
        return self.rows(self.relation(text))

    def within(self, first: int | None, behind: int | None) -> Any:
        raise AssertionError

    @property
    def whole(self) -> Any:
        return self

    def df(self, relation: Any) -> Any:
        return ("df", relation)

    def arrow(self, relation: Any) -> Any:
        return ("arrow", relation)

    def remember(self, table: str, columns: dict[str, str], rows: Any) -> None:
        raise AssertionError


def answer(columns: tuple[str, ...], *rows: tuple[Any, ...]) -> Answer:
    return Answer(Fixed(columns, *rows), "SELECT 1")


def test_rows() -> None:
    found = answer(("a", "n"), ("x", 1), ("y", 2))
    assert found.rows() == [("x", 1), ("y", 2)]
    assert found.rows(1) == [("x", 1)]
    assert found.dicts() == [{"a": "x", "n": 1}, {"a": "y", "n": 2}]
    assert list(found) == found.rows()
    assert found.value() == "x"
    assert answer(("n",)).value() is None
    assert (found.df(), found.arrow(), found.relation) == (("df", "SELECT 1"), ("arrow", "SELECT 1"), "SELECT 1")


def test_a_table() -> None:
    found = answer(("name", "n"), ("x", 1), ("yyyyy", 1000), (None, None))
    assert repr(found).splitlines() == ["name      n", "x         1", "yyyyy  1000", "-         -"]
    assert repr(answer(("name", "n"))) == "name  n\n(no rows)"
    long = answer(("n",), *((number,) for number in range(100)))
    assert repr(long).splitlines()[-1] == "… the first 40 rows; .rows() and .df() have all"
    assert len(repr(long).splitlines()) == 42


def test_times_of_a_column_are_equally_long() -> None:
    found = answer(("us", "n"), (1_795_392_000_000_000, 1), (1_795_392_000_150_000, 2), (None, 3))
    assert repr(found).splitlines()[1:] == [
        "2026-11-23 00:00:00.000000  1",
        "2026-11-23 00:00:00.150000  2",
        "                         -  3",
    ]
    assert repr(answer(("us",), (1_795_392_000_000_000,))).splitlines()[1:] == ["2026-11-23 00:00:00"]


def test_html_is_only_text() -> None:
    found = answer(("<b>", "n"), ("<script>alert(1)</script>", 5), ('"&', None))
    assert found.to_html() == found._repr_html_()
    assert "<script>" not in found.to_html()
    assert "<th>&lt;b&gt;</th>" in found.to_html()
    assert '<td style="text-align:right">5</td>' in found.to_html()


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("x", None, ""),
        ("x", "a\x1b[2J\nb", "a\\x1b[2J\\nb"),
        ("x", "y" * 100, "y" * 60 + "…"),
        ("x", 0.1234567, "0.123457"),
        ("us", 1_795_509_000_000_250, "2026-11-24 08:30:00.000250"),
        ("sec", 1_795_509_000, "2026-11-24 08:30:00"),
        ("first", 1_795_509_000_000_000, "2026-11-24 08:30:00"),
        ("us", 10**30, str(10**30)),
        ("us", "x", "x"),
        ("count", 1_795_509_000, "1795509000"),
    ],
)
def test_values(name: str, value: Any, text: str) -> None:
    assert shown(name, value) == text


def test_times() -> None:
    assert written(-1) == "1969-12-31 23:59:59.999999"


def test_a_picture() -> None:
    assert "x · 5</text>" in answer(("a", "b", "n"), ("x", 5, 2)).plot().svg
    over_time = answer(("time", "n"), (1_795_509_000, 1), (1_795_509_060, 2), (1_795_509_300, 3)).plot().svg
    assert over_time.count("<rect") == 3
    assert "<title>2026-11-24 08:31:00: 2</title>" in over_time
    assert answer(("n",)).plot().svg.count("<rect") == 0
    with pytest.raises(ValueError, match="nothing in the answer is a number; its columns are a"):
        answer(("a",), ("x",)).plot()
