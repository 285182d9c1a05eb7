# SPDX-License-Identifier: GPL-2.0-or-later
"""A database that does what a test tells it to: what a server cannot be made to do at a given moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nflowlevel.records.keys import BY_NAME
from nflowlevel.spool.rows import Rows
from nflowlevel.spool.sink import Moved, Refused, Sink
from nflowlevel.sql import copytext
from nflowlevel.sql.columns import Column
from nflowlevel.sql.database import Database
from nflowlevel.sql.options import STATEMENT_ROWS, SQLOptions
from nflowlevel.sql.sink import TableSink
from tests.fix_sink import Place

#: The layout of its rows, when its stack has these keys: the order of its columns.
ITEMS = ("oob.mark", "oob.prefix")
MEMBERS = [(name, BY_NAME[name]) for name in ("oob.prefix", "oob.mark")]


class Server(Place):
    """What outlives a connection: the table, the ledger, and what goes wrong."""

    opening = ("connect", "columns", "prepare", "ledger", "tend")
    layout = ITEMS

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []
        self.ledger: dict[str, int] = {}
        self.columns = [Column("_id", "bigint"), Column("oob_mark", "bigint"), Column("oob_prefix", "text")]

    def options(self, **given: Any) -> SQLOptions:
        """Return what a writer is told."""
        if backlog := given.pop("backlog", 0):
            given["backlog_oneshot_requests"] = backlog // STATEMENT_ROWS
        return SQLOptions(table="t", **given)

    def sink(self) -> Sink:
        """Return a connection, as a sink."""
        return TableSink(Scripted(self), MEMBERS, self.options())

    def text(self, *marks: int) -> bytes:
        """Return rows with these marks, in the layout of `layout`."""
        return "".join(f"{mark}\tp\n" for mark in marks).encode()

    def arrive(self, writer: str, to: int, *marks: int) -> None:
        """Have a transaction of an earlier connection arrive."""
        self.rows += marks
        self.ledger[writer] = to

    def mark_of(self, values: Mapping[str, Any]) -> int:
        """Return the mark of a row in the dead-letter file."""
        return int(values["oob.mark"])


class Scripted(Database):
    """A connection to it."""

    dialect = "sqlite3"
    shown = "scripted database"

    def __init__(self, server: Server) -> None:
        self.server = server

    def connect(self) -> None:
        self.server.call("connect")

    def columns(self) -> list[Column]:
        self.server.call("columns")
        return self.server.columns

    def prepare(self, columns: Sequence[Column]) -> None:
        self.server.call("prepare")

    def ledger(self, writer: str) -> int | None:
        self.server.call("ledger")
        return self.server.ledger.setdefault(writer, 0) if self.server.has_ledger else None

    def write(self, rows: Rows, writer: str, before: int | None) -> None:
        self.server.call("write")
        server = self.server
        assert rows.layout == ITEMS
        with server.lock:
            if server.has_ledger and server.ledger[writer] != before:
                raise Moved("the ledger has moved")
            server.largest = max(server.largest, rows.count)
            marks = [int(mark or 0) for mark in copytext.columns(rows)[0]]
            if any(map(server.refuses, marks)):
                raise Refused("out of range", "22003")
            server.rows += marks
            server.ledger[writer] = rows.last
        server.after_commit()

    def tend(self) -> None:
        self.server.call("tend")

    def skip(self, number: int, writer: str, before: int) -> None:
        self.server.call("skip")
        with self.server.lock:
            if self.server.ledger[writer] != before:
                raise Moved("the ledger has moved")
            self.server.ledger[writer] = number

    def run(self, script: str) -> None:
        self.server.call("run")

    def abort(self) -> None:
        self.server.aborted.set()

    def close(self) -> None:
        self.server.calls.append("close")
