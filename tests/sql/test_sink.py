# SPDX-License-Identifier: GPL-2.0-or-later
"""A table as a sink: the layout follows the table's columns, and what dead letters say of a row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.outputs.mysql import MYSQLOptions
from nflowlevel.outputs.pgsql import PGSQLOptions
from nflowlevel.outputs.sqlite3 import SQLITE3Options
from nflowlevel.records.keys import BY_NAME
from nflowlevel.spool.deadletter import DeadLetters
from nflowlevel.spool.feed import Feed, SpoolStats
from nflowlevel.spool.ring import Ring
from nflowlevel.spool.rows import Rows
from nflowlevel.spool.sink import Refused
from nflowlevel.spool.spool import Spool
from nflowlevel.spool.writer import Writer
from nflowlevel.sql.columns import Column
from nflowlevel.sql.mysql import MySQLDatabase
from nflowlevel.sql.options import SQLOptions
from nflowlevel.sql.pgsql import PGDatabase
from nflowlevel.sql.sink import TableSink
from nflowlevel.sql.sqlite import SQLiteDatabase
from tests.fix_database import ITEMS, MEMBERS, Scripted, Server
from tests.fix_lines import wait_for
from tests.fix_mariadb import mariadb, mariadb_db
from tests.fix_postgres import PostgresDatabase, postgres, postgres_db
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


def test_other_columns_after_a_reconnect(bench: Bench, server: Server) -> None:
    bench.writer.open()
    wait_for(lambda: bench.writer.layout == ITEMS)
    server.columns = [Column("oob_prefix", "text")]
    bench.writer.reopen()
    wait_for(lambda: bench.writer.layout == ("oob.prefix",))
    bench.close()


def test_a_table_without_a_column_for_any_key(bench: Bench, server: Server) -> None:
    server.columns = [Column("id", "bigint")]
    bench.writer.open()
    wait_for(lambda: bench.stats.errors > 0)
    assert "no column for any key" in bench.writer.state
    server.columns = [Column("oob_mark", "bigint"), Column("oob_prefix", "text")]
    bench.put(1)
    wait_for(lambda: bench.stats.written == 1)
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


#: What stands in a spool's file instead of a row of LAYOUT, with good checksums, and what is not taken of it.
PLANTED = {
    "few": (b"only one\n", [b"only one"]),
    "many": (b"1\tp\t3\n", [b"1\tp\t3"]),
    "none": (b"\n", [b""]),
    "as many together": (b"1\n2\tp\t3\n", [b"1", b"2\tp\t3"]),
    "end of copy": (b"\\.\t\\.\n", [b"\\.\t\\."]),
    "end of copy at the end": (b"1\tp\\.\n", [b"1\tp\\."]),
    "backslash before a point": (b"1\tp\\\\.\n", []),
}
LAYOUT = ("oob.mark", "oob.prefix")


def plant(spool: Spool, *parts: bytes) -> None:
    """Leave a segment of which each part is a record."""
    spool.open()
    for data in parts:
        count = data.count(b"\n")
        assert spool.append(Rows(LAYOUT, spool.number(count), count, data))
    spool.close()


def drain(table: Table, spool: Spool, letters: Path, *, least: int) -> SpoolStats:
    """Have a writer bring what is in the spool into the table; its account when so many rows are decided."""
    stats = SpoolStats()
    feed = Feed(Ring(1000, 0), spool, "spool", stats)
    feed.open()
    runs = spool.runs
    writer = Writer(
        table.sink,
        feed,
        SQLOptions(table="t"),
        runs=runs,
        dead_letters=DeadLetters(letters, runs.own.name, table.sink.describe),
        stats=stats,
    )
    writer.open()
    try:
        wait_for(lambda: stats.written + stats.dropped["refused"] >= least or stats.errors > 0)
    finally:
        writer.close(5.0)
        feed.close()
    return stats


@pytest.mark.parametrize("columns", ["oob_mark bigint, oob_prefix varchar(40)", "oob_prefix varchar(40)"])
@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_row_is_refused_and_the_others_arrive(
    table: Table, tmp_path: Path, planted: str, columns: str
) -> None:
    data, refused = PLANTED[planted]
    table.execute(f"create table t ({columns})")
    spool = Spool(tmp_path / "spool", 1 << 30)
    plant(spool, b"7\ta\n8\tb\n", data, b"9\tc\n")
    count = 3 + data.count(b"\n")
    stats = drain(table, spool, tmp_path / "refused.jsonl", least=count)
    assert (stats.errors, stats.pending, stats.dropped["refused"]) == (0, 0, len(refused))
    found = sorted(row[0] for row in table.rows("select oob_prefix from t"))
    assert found == sorted(["a", "b", "c"] + (["p\\."] if not refused else []))
    letters = tmp_path / "refused.jsonl"
    lines = [json.loads(line) for line in letters.read_text().splitlines()] if refused else []
    assert [line["code"] for line in lines] == ["malformed"] * len(refused)
    assert all("was not written by nflowlevel" in line["reason"] for line in lines)
    if "end" not in planted:
        assert [line["values"] for line in lines] == [{"row": row.decode()} for row in refused]


def test_a_value_that_is_none_of_its_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    execute(path, "create table t (oob_prefix text, raw_mac blob)")
    options = SQLITE3Options(db=str(path), table="t")
    members = [("oob.prefix", BY_NAME["oob.prefix"]), ("raw.mac", BY_NAME["raw.mac"])]
    sink = TableSink(SQLiteDatabase(options), members, options)
    sink.connect()
    sink.prepare()
    with pytest.raises(Refused, match="not one of its key") as refused:
        sink.write(Rows(sink.layout, 1, 1, b"p\t\\\\xzz\n"), "me", sink.last("me"))
    assert refused.value.code == "malformed"
    sink.close()


def test_a_nul_byte_is_refused_by_every_way_into_postgresql(postgres_db: PostgresDatabase) -> None:
    db = postgres_db
    login = {"db": db.name, "user": db.user, "pass_": db.password, "host": db.host, "port": db.port}
    db.execute("create table t (oob_mark bigint, oob_prefix text)")
    for more in ("int", "text"):  # of two meanings none can be chosen beforehand: each row is a statement of its own
        db.execute(f"create function f({more}, text) returns void language sql as $$ select $$")
    for procedure in ("INSERT", "f"):
        options = PGSQLOptions(**login, table="t", procedure=procedure)
        sink = TableSink(PGDatabase(options), MEMBERS, options)
        sink.connect()
        sink.prepare()
        with pytest.raises(Refused):
            sink.write(Rows(sink.layout, 1, 1, b"1\ta\0b\n"), "me", sink.last("me"))
        sink.close()
