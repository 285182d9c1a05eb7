# SPDX-License-Identifier: GPL-2.0-or-later
"""A table as a sink: the layout follows the table's columns, and what dead letters say of a row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.outputs.mysql import MYSQLOptions
from nflowlevel.outputs.pgsql import PGSQLOptions
from nflowlevel.outputs.sqlite3 import SQLITE3Options
from nflowlevel.spool.rows import Rows
from nflowlevel.sql.columns import Column
from nflowlevel.sql.mysql import MySQLDatabase
from nflowlevel.sql.options import SQLOptions
from nflowlevel.sql.pgsql import PGDatabase
from nflowlevel.sql.sink import TableSink
from nflowlevel.sql.sqlite import SQLiteDatabase
from tests.fix_database import ITEMS, MEMBERS, Scripted, Server
from tests.fix_mariadb import mariadb, mariadb_db
from tests.fix_postgres import postgres, postgres_db
from tests.fix_sqlite import execute, rows_of
from tests.spool.test_writer import Bench

__all__ = ["mariadb", "mariadb_db", "postgres", "postgres_db"]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def bench(tmp_path: Path, server: Server) -> Iterator[Bench]:
    made = Bench(tmp_path, server)
    yield made
    made.writer.close(0.0)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def test_other_columns_after_a_reconnect(bench: Bench, server: Server) -> None:
    bench.writer.open()
    until(lambda: bench.writer.layout == ITEMS)
    server.columns = [Column("oob_prefix", "text")]
    bench.writer.reopen()
    until(lambda: bench.writer.layout == ("oob.prefix",))
    bench.close()


def test_a_table_without_a_column_for_any_key(bench: Bench, server: Server) -> None:
    server.columns = [Column("id", "bigint")]
    bench.writer.open()
    until(lambda: bench.stats.errors > 0)
    assert "no column for any key" in bench.writer.state
    server.columns = [Column("oob_mark", "bigint"), Column("oob_prefix", "text")]
    bench.put(1)
    until(lambda: bench.stats.written == 1)
    bench.close()


def test_where_rows_go_and_what_is_in_them(server: Server) -> None:
    sink = TableSink(Scripted(server), MEMBERS, SQLOptions(table="t", procedure="CALL add_packet"))
    assert (sink.shown, sink.into) == ("scripted database", "add_packet")
    assert sink.layout == ("oob.time", "oob.prefix", "oob.mark"), "whatever a table may ask for"
    sink.connect()
    sink.prepare()
    assert sink.layout[:] == ITEMS
    early = Rows(("oob.prefix", "oob.mark", "more"), 7, 2, b"p\t1\tx\n\\N\t2\ty\n")
    rows = sink.fit(early)
    assert rows == Rows(ITEMS, 7, 2, b"1\tp\n2\t\\N\n")
    assert sink.describe(rows) == [{"oob.mark": "1", "oob.prefix": "p"}, {"oob.mark": "2"}]


def test_arguments_that_no_key_has_are_kept_for_a_procedure_only(server: Server) -> None:
    class Noting(Scripted):
        def prepare(self, columns: object) -> None:
            found.append([column.item for column in columns])  # type: ignore[attr-defined]

    found: list[list[str]] = []
    server.columns.append(Column("username", "text"))
    for procedure in ("INSERT", "add_packet"):
        sink = TableSink(Noting(server), MEMBERS, SQLOptions(table="t", procedure=procedure))
        sink.prepare()
        assert sink.layout == ITEMS
    assert found == [[*ITEMS], [*ITEMS, ""]]


@dataclass
class Table:
    """A sink for the table `t` of a real database, and how to get at it."""

    sink: TableSink
    execute: Callable[[str], object]
    rows: Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(params=["postgresql", "mariadb", "sqlite"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Table]:
    options: PGSQLOptions | MYSQLOptions | SQLITE3Options
    if request.param == "sqlite":
        path = tmp_path / "t.db"
        options = SQLITE3Options(db=str(path), table="t")
        sink = TableSink(SQLiteDatabase(options), MEMBERS, options)
        made = Table(sink, lambda text: execute(path, text), lambda text: rows_of(path, text))
    else:
        db = request.getfixturevalue("postgres_db" if request.param == "postgresql" else "mariadb_db")
        login = {"db": db.name, "user": db.user, "pass_": db.password, "host": db.host, "port": db.port, "table": "t"}
        if request.param == "postgresql":
            options = PGSQLOptions(**login)
            sink = TableSink(PGDatabase(options), MEMBERS, options)
        else:
            options = MYSQLOptions(**login)
            sink = TableSink(MySQLDatabase(options), MEMBERS, options)
        made = Table(sink, db.execute, db.rows)
    yield made
    made.sink.close()


def test_a_column_added_since_rows_were_rendered_keeps_its_default(table: Table) -> None:
    table.execute("create table t (oob_prefix varchar(40))")
    sink = table.sink
    sink.connect()
    sink.prepare()
    at = sink.last("me")
    waiting = Rows(sink.layout, 1, 3, b"a\nb\nc\n")
    table.execute("alter table t add column oob_mark bigint not null default 7")
    sink.connect()
    sink.prepare()
    assert sink.layout == ("oob.prefix", "oob.mark")
    sink.write(sink.fit(waiting), "me", at)
    sink.write(Rows(sink.layout, 4, 2, b"d\t8\ne\t9\n"), "me", 3)
    sink.write(sink.fit(Rows(("oob.prefix",), 6, 1, b"f\n")), "me", 5)
    expected = [("a", 7), ("b", 7), ("c", 7), ("d", 8), ("e", 9), ("f", 7)]
    assert table.rows("select oob_prefix, oob_mark from t order by oob_prefix") == expected


def test_an_argument_that_rows_lack_is_null(server: Server) -> None:
    sink = TableSink(Scripted(server), MEMBERS, SQLOptions(table="t", procedure="add_packet"))
    sink.prepare()
    assert sink.fit(Rows(("oob.mark",), 1, 1, b"5\n")).data.count(b"\\N") == len(sink.layout) - 1
