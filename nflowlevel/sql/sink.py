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
    from nflowlevel.spool.rows import Layout, Rows
    from nflowlevel.sql.columns import Column, Members
    from nflowlevel.sql.database import Database
    from nflowlevel.sql.options import SQLOptions


class TableSink(Sink):
    """What `procedure` does with `table` in a database, for a stack with these members. Rows are COPY text."""

    def __init__(self, database: Database, members: Members, options: SQLOptions) -> None:
        self._database, self._members, self._table = database, members, options.table
        self._statement = statement(options.procedure, options.table)
        self.layout = all_items(members)
        #: The columns that are written, and the items that the database's statement is made for.
        self._columns: list[Column] = []
        self._prepared: Layout = ()

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
        columns = match(database.columns(), self._members, arguments=self._takes_all)
        layout = tuple(column.item for column in columns if column.item)
        if not layout:
            raise Unavailable(
                f"table {self._table} of {database.shown} has no column for any key of this stack — "
                "`nflowlevel sql check` lists both"
            )
        database.prepare(columns)
        self._columns, self._prepared = columns, layout
        self.layout = layout

    @property
    def _takes_all(self) -> bool:
        """Whether the columns are arguments, of which each needs a value."""
        return self._statement.form in ("select", "call")

    def last(self, writer: str) -> int | None:
        """Return the number in the writer's entry of the table `nflowlevel_ledger`."""
        return self._database.ledger(writer)

    def fit(self, rows: Rows) -> Rows:
        """Take what the table has columns for.

        A column that was added since the rows were rendered keeps its default, as one without a key does.
        """
        copytext.check(rows)
        items = tuple(item for item in self.layout if self._takes_all or item in rows.layout)
        return copytext.select(rows, items or self.layout)

    def write(self, rows: Rows, writer: str, before: int | None) -> None:
        """Store the rows in one transaction."""
        copytext.check(rows)
        if rows.layout != self._prepared:
            self._prepared = ()
            self._database.prepare(
                [column for column in self._columns if not column.item or column.item in rows.layout]
            )
            self._prepared = rows.layout
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
