# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection to PostgreSQL under test, with what its writer would keep of it.

def test_it(postgres_db, session):
    postgres_db.execute("create table t (oob_mark int)")
    one = session(table="t").open()
    one.write({"oob.mark": "1"}, {})
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from nflowlevel.outputs.pgsql import PGSQLOptions
from nflowlevel.records.keys import Key, published_by
from nflowlevel.spool.rows import Rows
from nflowlevel.sql.columns import match
from nflowlevel.sql.copytext import escape
from nflowlevel.sql.options import statement
from nflowlevel.sql.pgsql import PGDatabase
from tests.fix_postgres import Postgres, PostgresDatabase

WRITER = "tests"

_PLUGINS = ("NFLOG", "BASE", "IFINDEX", "IP2STR", "HWHDR")
MEMBERS: list[tuple[str, Key]] = [(key.name, key) for plugin in _PLUGINS for key in published_by(plugin)]


class Session:
    """A connection under test, and what its writer would keep."""

    def __init__(self, options: PGSQLOptions, members: Sequence[tuple[str, Key]] = MEMBERS) -> None:
        self.database = PGDatabase(options)
        self.options, self.members = options, members
        self.layout: tuple[str, ...] = ()
        self.at: int | None = None

    def open(self) -> Session:
        database = self.database
        database.connect()
        form = statement(self.options.procedure, self.options.table).form
        columns = match(database.columns(), self.members, arguments=form in ("select", "call"))
        self.layout = tuple(column.item for column in columns if column.item)
        database.prepare(columns)
        self.at = database.ledger(WRITER)
        return self

    def rows(self, *values: dict[str, str], first: int | None = None) -> Rows:
        """Make rows of what keys have; what is not given is null."""
        unknown = {key for row in values for key in row} - set(self.layout)
        assert not unknown, f"the table has no column for {unknown}"
        lines = ["\t".join(escape(row.get(item)) for item in self.layout) for row in values]
        start = (self.at or 0) + 1 if first is None else first
        return Rows(self.layout, start, len(values), "".join(line + "\n" for line in lines).encode())

    def write(self, *values: dict[str, str]) -> None:
        rows = self.rows(*values)
        self.database.write(rows, WRITER, self.at)
        if self.at is not None:
            self.at = rows.last


Open = Callable[..., Session]


@pytest.fixture
def session(postgres_db: PostgresDatabase) -> Iterator[Open]:
    """Make sessions of the test's database; options that are not given are right."""
    opened: list[Session] = []

    def make(*, members: Sequence[tuple[str, Key]] = MEMBERS, **options: Any) -> Session:
        if not options.get("connstring"):
            right = {"db": postgres_db.name, "user": postgres_db.user, "pass_": postgres_db.password}
            options = {**right, "host": postgres_db.host, "port": postgres_db.port, **options}
        opened.append(Session(PGSQLOptions(**{"table": "t", **options}), members))
        return opened[-1]

    yield make
    for one in opened:
        one.database.close()


def forbid_temporary(postgres: Postgres, database: PostgresDatabase) -> None:
    """Let `ulog` make tables, but no temporary ones."""
    as_superuser(
        postgres,
        database,
        f"revoke temporary on database {database.name} from public",
        f"alter database {database.name} owner to postgres",
        f"grant create on schema public to {database.user}",
    )


def as_superuser(postgres: Postgres, database: PostgresDatabase, *statements: str) -> None:
    """Execute statements that `ulog` may not execute."""
    with postgres.admin(database.name) as admin:
        for one in statements:
            admin.execute(one.encode())
