# SPDX-License-Identifier: GPL-2.0-or-later
"""A table as a sink: the layout follows the table's columns, and what dead letters say of a row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nflowlevel.spool.rows import Rows
from nflowlevel.sql.columns import Column
from nflowlevel.sql.options import SQLOptions
from nflowlevel.sql.sink import TableSink
from tests.fix_database import ITEMS, MEMBERS, Scripted, Server
from tests.spool.test_writer import Bench


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
