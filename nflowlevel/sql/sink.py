# SPDX-License-Identifier: GPL-2.0-or-later
"""A table of a database as a sink: the table's columns say which keys of the stack rows have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nflowlevel.spool.sink import Sink, Unavailable
from nflowlevel.sql import copytext
from nflowlevel.sql.columns import all_items, match
from nflowlevel.sql.options import statement

if TYPE_CHECKING:
    from nflowlevel.spool.rows import Rows
    from nflowlevel.sql.columns import Members
    from nflowlevel.sql.database import Database
    from nflowlevel.sql.options import SQLOptions


class TableSink(Sink):
    """What `procedure` does with `table` in a database, for a stack with these members. Rows are COPY text."""

    def __init__(self, database: Database, members: Members, options: SQLOptions) -> None:
        self._database, self._members, self._table = database, members, options.table
        self._statement = statement(options.procedure, options.table)
        self.layout = all_items(members)

    @property
    def by_row(self) -> bool:
        """Whether the tables have no transactions."""
        return self._database.by_row

    @property
    def shown(self) -> str:
        """Kind, database and host."""
        return self._database.shown

    @property
    def into(self) -> str:
        """The table, procedure or function."""
        return self._statement.target

    def connect(self) -> None:
        """Connect to the database."""
        self._database.connect()

    def prepare(self) -> None:
        """Read which columns there are, and have the statement made for them."""
        database = self._database
        arguments = self._statement.form in ("select", "call")
        columns = match(database.columns(), self._members, arguments=arguments)
        layout = tuple(column.item for column in columns if column.item)
        if not layout:
            raise Unavailable(
                f"table {self._table} of {database.shown} has no column for any key of this stack — "
                "`nflowlevel sql check` lists both"
            )
        database.prepare(columns)
        self.layout = layout

    def last(self, writer: str) -> int | None:
        """Return the number in the writer's entry of the table `nflowlevel_ledger`."""
        return self._database.ledger(writer)

    def fit(self, rows: Rows) -> Rows:
        """Take what the table has columns for."""
        return copytext.select(rows, self.layout)

    def write(self, rows: Rows, writer: str, before: int | None) -> None:
        """Store the rows in one transaction."""
        self._database.write(rows, writer, before)

    def skip(self, number: int, writer: str, before: int) -> None:
        """Move the writer's entry alone."""
        self._database.skip(number, writer, before)

    def tend(self) -> None:
        """Make partitions and the like."""
        self._database.tend()

    def describe(self, rows: Rows) -> Sequence[Mapping[str, object]]:
        """Return the values of each row by key, without nulls."""
        return copytext.dicts(rows)

    def abort(self) -> None:
        """Break the connection."""
        self._database.abort()

    def close(self) -> None:
        """Close the connection."""
        self._database.close()
