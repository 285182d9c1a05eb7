# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows as COPY text: what goes in as values comes out as the same values, however the rows were cut and joined."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.spool.rows import Rows, joined
from nflowlevel.sql import copytext
from nflowlevel.sql.copytext import escape, unescape
from tests.fix_rows import LAYOUT, rows_of

Row = tuple[str | None, ...]

_TEXT = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["\\N", "N", "a\tb", "\n", "\\", "\\\\n"])
_VALUE = st.none() | _TEXT


@st.composite
def tables(draw: st.DrawFn) -> tuple[Rows, list[Row]]:
    width = draw(st.integers(1, 4))
    values = draw(st.lists(st.tuples(*[_VALUE] * width), min_size=1, max_size=8))
    data = "".join("\t".join(map(escape, row)) + "\n" for row in values).encode()
    return Rows(tuple(f"k{n}" for n in range(width)), draw(st.integers(1, 1 << 60)), len(values), data), values


def values_of(rows: Rows) -> list[Row]:
    return list(zip(*copytext.columns(rows), strict=True))


@given(tables())
def test_values_come_out_as_they_went_in(table: tuple[Rows, list[Row]]) -> None:
    rows, values = table
    assert values_of(rows) == values
    assert copytext.dicts(rows) == [{f"k{n}": v for n, v in enumerate(row) if v is not None} for row in values]
    assert rows.data.count(b"\n") == rows.count


@given(tables(), st.data())
def test_values_survive_splitting_and_joining(table: tuple[Rows, list[Row]], data: st.DataObject) -> None:
    rows, values = table
    count = data.draw(st.integers(0, rows.count))
    head, rest = rows.split(count)
    assert (head.first, head.count, rest.first, rest.count) == (
        rows.first,
        count,
        rows.first + count,
        len(values) - count,
    )
    assert head.data + rest.data == rows.data
    if 0 < count < rows.count:
        assert values_of(head) == values[:count]
        assert values_of(rest) == values[count:]
        assert joined([head, rest]) == rows


@given(tables(), st.data())
def test_select_takes_other_columns(table: tuple[Rows, list[Row]], data: st.DataObject) -> None:
    rows, values = table
    layout = tuple(data.draw(st.lists(st.sampled_from([*rows.layout, "other"]), min_size=1, max_size=5)))
    selected = copytext.select(rows, layout)
    assert (selected.layout, selected.first, selected.count) == (layout, rows.first, rows.count)
    by_key = [dict(zip(rows.layout, row, strict=True)) for row in values]
    assert values_of(selected) == [tuple(row.get(key) for key in layout) for row in by_key]


def test_select_of_the_same_layout_costs_nothing() -> None:
    rows = rows_of(1, 3)
    assert copytext.select(rows, LAYOUT) is rows


def test_select_of_nothing_keeps_the_rows() -> None:
    assert copytext.select(rows_of(1, 3), ()) == Rows((), 1, 3, b"\n\n\n")


@pytest.mark.parametrize(
    ("value", "field"),
    [(None, "\\N"), ("\\N", "\\\\N"), ("", ""), ("a\tb\nc\rd", "a\\tb\\nc\\rd"), ("\b\f\v", "\\b\\f\\v"), ("é", "é")],
)
def test_fields_are_those_of_copy(value: str | None, field: str) -> None:
    assert escape(value) == field
    assert unescape(field) == value


def test_a_backslash_before_any_other_character_is_nothing() -> None:
    assert unescape("\\x\\.") == "x."


def test_what_is_no_utf8_does_not_block() -> None:
    assert copytext.columns(Rows(("a",), 1, 1, b"x\xff\n")) == [["x\ufffd"]]


def test_rows_of_one_column_stay_as_many() -> None:
    rows = Rows(("a",), 1, 2, b"x\ny\n")
    assert copytext.select(rows, ("b", "a")) == Rows(("b", "a"), 1, 2, b"\\N\tx\n\\N\ty\n")
