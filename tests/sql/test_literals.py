# SPDX-License-Identifier: GPL-2.0-or-later
"""Literals: DuckDB reads each as the value that it was made of, whatever is in it; names are names or refused."""

from __future__ import annotations

import math
from contextlib import closing

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nflowlevel.sql.literals import identifier, literal

TEXTS = ("", "a", "it's", "a\\'b", "\\", "${spark.x}", "a\nb\r\0\x7f", "é😀", "-- x", "' || (SELECT 1) || '", "'" * 50)
NUMBERS = (0, 1, -1, 2**63 - 1, -(2**63) + 1, 0.1, -1e300, 1e-300, math.inf, -math.inf)


def back(value: object) -> object:
    """Return what DuckDB makes of a value."""
    with closing(duckdb.connect()) as connection:
        return connection.execute(f"SELECT {literal(value)}").fetchall()[0][0]


@pytest.mark.parametrize("value", [*TEXTS, *NUMBERS, None])
def test_a_value_comes_back(value: object) -> None:
    assert back(value) == value


def test_no_number_and_truth() -> None:
    assert math.isnan(back(math.nan))  # type: ignore[arg-type]
    assert (back(True), back(False)) == (1, 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=20))
def test_any_text_comes_back(texts: list[str]) -> None:
    with closing(duckdb.connect()) as connection:
        found = connection.execute(f"SELECT [{', '.join(map(literal, texts))}]").fetchall()[0][0]
    assert found == texts


@given(st.text())
def test_what_engines_read_differently_is_outside_of_quotes(text: str) -> None:
    try:
        made = literal(text)
    except ValueError:
        assert any("\ud800" <= character <= "\udfff" for character in text)
        return
    assert not set(made) & {"\\", "$", "\n", "\0"}


@pytest.mark.parametrize("value", [2**63, -(2**63), "\ud800"])
def test_what_has_no_literal(value: object) -> None:
    with pytest.raises(ValueError, match=r"more than 64 bits|not Unicode"):
        literal(value)


def test_what_is_no_value() -> None:
    with pytest.raises(TypeError, match="cannot ask for a value of type bytes"):
        literal(b"x")


@pytest.mark.parametrize("name", ["", "1a", "a b", 'a"', "a;", "é", "a" * 64, "a\n"])
def test_names(name: str) -> None:
    assert identifier("src_ip") == "src_ip"
    with pytest.raises(ValueError, match="is not a name"):
        identifier(name)
