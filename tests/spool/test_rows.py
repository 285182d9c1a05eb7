# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of any lines: what goes in comes out, however the rows were cut and joined, and numbers stay with their rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.spool.rows import Rows, joined
from tests.fix_rows import numbers, rows_of

#: Any bytes but the one that ends a row.
_LINE = st.binary(max_size=6).map(lambda line: line.replace(b"\n", b"\t"))


@st.composite
def tables(draw: st.DrawFn) -> tuple[Rows, list[bytes]]:
    values = draw(st.lists(_LINE, min_size=1, max_size=8))
    data = b"".join(line + b"\n" for line in values)
    return Rows(("any", "thing"), draw(st.integers(1, 1 << 60)), len(values), data), values


def values_of(rows: Rows) -> list[bytes]:
    return rows.data.split(b"\n")[:-1]


@given(tables(), st.data())
def test_rows_are_split_and_joined(table: tuple[Rows, list[bytes]], data: st.DataObject) -> None:
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


@given(tables(), st.integers(1, 10), st.integers(0, 60))
def test_cut_keeps_the_limits_but_makes_progress(
    table: tuple[Rows, list[bytes]], max_rows: int, max_bytes: int
) -> None:
    rows, _ = table
    head, rest = rows.cut(max_rows, max_bytes)
    assert head.data + rest.data == rows.data
    assert head.count + rest.count == rows.count
    assert head.data.count(b"\n") == head.count >= 1
    assert head.count <= max_rows
    assert head.count == 1 or len(head.data) <= max_bytes
    if rest.count and head.count < max_rows:
        assert len(head.data) + len(rest.split(1)[0].data) > max_bytes, "one more would have fitted"


def test_rows_after_a_number() -> None:
    rows = rows_of(10, 5)
    assert rows.last == 14
    assert rows.after(9) is rows
    assert numbers(rows.after(10)) == [11, 12, 13, 14]
    assert numbers(rows.after(13)) == [14]
    assert rows.after(14) is None
    assert rows.after(99) is None


def test_only_neighbours_are_joined() -> None:
    with pytest.raises(ValueError, match="not adjacent"):
        joined([rows_of(1, 2), rows_of(4, 2)])
    with pytest.raises(ValueError, match="not adjacent"):
        joined([rows_of(1, 2), rows_of(3, 2, layout=("a", "b", "c"))])
