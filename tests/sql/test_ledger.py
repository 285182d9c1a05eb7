# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger's statements, in a database of their own; in each dialect they are tested with its connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from nflowlevel.spool.sink import Moved
from nflowlevel.sql.database import schema
from nflowlevel.sql.ledger import LEDGER, Cursor, Ledger


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        made.executescript(schema("sqlite3-ledger.sql"))
        yield made


def entries(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute(f"SELECT writer, row FROM {LEDGER}").fetchall())


def test_a_writer_that_is_new_gets_an_entry(connection: sqlite3.Connection) -> None:
    ledger = Ledger("?")
    assert ledger.last(connection.execute, "a") == 0
    assert ledger.last(connection.execute, "a") == 0
    assert entries(connection) == {"a": 0}


def test_an_entry_moves_alone_and_says_when(connection: sqlite3.Connection) -> None:
    ledger = Ledger("?")
    for writer in ("a", "b"):
        ledger.last(connection.execute, writer)
    connection.execute(f"UPDATE {LEDGER} SET updated = 'long ago'")
    ledger.move(connection.execute, "a", 0, 23)
    ledger.move(connection.execute, "a", 23, 1 << 60)
    assert ledger.last(connection.execute, "a") == 1 << 60
    assert entries(connection) == {"a": 1 << 60, "b": 0}
    found = dict(connection.execute(f"SELECT writer, updated FROM {LEDGER}").fetchall())
    assert (found["a"] == "long ago", found["b"] == "long ago") == (False, True)


@pytest.mark.parametrize(("writer", "before"), [("a", 6), ("a", 8), ("b", 7), ("b", 0)])
def test_an_entry_that_is_elsewhere_is_left_there(connection: sqlite3.Connection, writer: str, before: int) -> None:
    ledger = Ledger("?")
    ledger.last(connection.execute, "a")
    ledger.move(connection.execute, "a", 0, 7)
    with pytest.raises(Moved, match=f"entry of {writer} is not at row {before}"):
        ledger.move(connection.execute, writer, before, 9)
    assert entries(connection) == {"a": 7}


def test_names_and_slots_are_those_of_the_dialect() -> None:
    class Nothing:
        rowcount = 1

        def fetchone(self) -> None:
            return None

    def execute(text: str, values: tuple[object, ...]) -> Cursor:
        said.append((text, values))
        return Nothing()

    said: list[tuple[str, tuple[object, ...]]] = []
    ledger = Ledger("%s", table='"s"."l"', row="`row`", lock=" FOR UPDATE")
    assert ledger.last(execute, "w") == 0
    ledger.move(execute, "w", 3, 5)
    assert said == [
        ('SELECT `row` FROM "s"."l" WHERE writer = %s FOR UPDATE', ("w",)),
        ('INSERT INTO "s"."l" (writer, `row`) VALUES (%s, 0)', ("w",)),
        (
            'UPDATE "s"."l" SET `row` = %s, updated = CURRENT_TIMESTAMP WHERE writer = %s AND `row` = %s',
            (5, "w", 3),
        ),
    ]
