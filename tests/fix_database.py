# SPDX-License-Identifier: GPL-2.0-or-later
"""A database that does what a test tells it to: what a server cannot be made to do at a given moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from nflowlevel.spool.rows import Rows
from nflowlevel.spool.sink import Moved, Refused
from nflowlevel.sql.database import Column, Database

#: The layout of its rows, when its stack has these keys: the order of its columns.
ITEMS = ("oob.mark", "oob.prefix")


class Server:
    """What outlives a connection: the table, the ledger, and what goes wrong."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.ledger: dict[str, int] = {}
        self.has_ledger = True
        self.calls: list[str] = []
        #: Called with the name of a call before it does anything; what it raises, the call raises.
        self.before: Callable[[str], None] = lambda call: None
        #: The same, after a transaction is in.
        self.after_commit: Callable[[], None] = lambda: None
        self.refuses: Callable[[int], bool] = lambda mark: False
        self.largest = 0
        self.columns = [Column("_id", "bigint"), Column("oob_mark", "bigint"), Column("oob_prefix", "text")]
        self.aborted = threading.Event()


class Scripted(Database):
    """A connection to it."""

    dialect = "sqlite3"
    shown = "scripted database"

    def __init__(self, server: Server) -> None:
        self.server = server

    def _call(self, name: str) -> None:
        self.server.calls.append(name)
        self.server.before(name)

    def connect(self) -> None:
        self._call("connect")

    def columns(self) -> list[Column]:
        self._call("columns")
        return self.server.columns

    def prepare(self, columns: Sequence[Column]) -> None:
        self._call("prepare")

    def ledger(self, writer: str) -> int | None:
        self._call("ledger")
        return self.server.ledger.setdefault(writer, 0) if self.server.has_ledger else None

    def write(self, rows: Rows, writer: str, before: int | None) -> None:
        self._call("write")
        server = self.server
        assert rows.layout == ITEMS
        if server.has_ledger and server.ledger[writer] != before:
            raise Moved("the ledger has moved")
        server.largest = max(server.largest, rows.count)
        marks = [int(mark or 0) for mark in rows.columns()[0]]
        if any(map(server.refuses, marks)):
            raise Refused("out of range", "22003")
        server.rows += marks
        server.ledger[writer] = rows.last
        server.after_commit()

    def tend(self) -> None:
        self._call("tend")

    def skip(self, number: int, writer: str, before: int) -> None:
        self._call("skip")
        assert self.server.ledger[writer] == before
        self.server.ledger[writer] = number

    def run(self, script: str) -> None:
        self._call("run")

    def abort(self) -> None:
        self.server.aborted.set()

    def close(self) -> None:
        self.server.calls.append("close")
