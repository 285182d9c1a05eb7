# SPDX-License-Identifier: GPL-2.0-or-later
"""What a connection to a database has to do, and the schemas that are ours.

A `Database` is one dialect and one connection. It says what is wrong in two words that the writer acts upon: `Refused`,
this row will never go in; `Unavailable`, try again later. It never formats a value into a statement.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from nflowlevel.spool.rows import Rows
    from nflowlevel.sql.columns import Column, Members
    from nflowlevel.sql.widen import Widening

_SCHEMAS = Path(__file__).parent / "schema"


@cache
def schema(name: str) -> str:
    """Return the text of a file of `nflowlevel/sql/schema/`: `pgsql.sql`, `pgsql-ledger.sql` and so on."""
    return (_SCHEMAS / name).read_text()


class Database(ABC):
    """One connection of one output. One thread uses it; only `abort` may be called by another.

    Every method raises `Unavailable` when the connection is not or no longer usable, with a message that says what was
    tried and what the database said, never a password.
    """

    #: Whose statements it speaks, and whose files of nflowlevel/sql/schema/ are its own: pgsql, mysql or sqlite3.
    dialect: ClassVar[str]
    #: For messages: kind, database, host; no password.
    shown: str
    #: Whether each row is a transaction of its own, since not all can be undone.
    by_row = False

    def load(self) -> None:
        """Import and read what `connect` and the others need; ImportError without the driver."""
        schema(f"{self.dialect}-ledger.sql")

    @abstractmethod
    def connect(self) -> None:
        """Connect, within the time allowed. A connection that is open is closed first."""

    @abstractmethod
    def columns(self) -> list[Column]:
        """Return the columns of the option `table`, in order."""

    def widening(self, columns: Sequence[Column], members: Members) -> Widening:
        """Return the statements that make all fit which a stack with these members stores into these columns.

        It changes nothing. In a database whose columns hold any value of their kind there is nothing to say.
        """
        from nflowlevel.sql.widen import Widening  # no daemon needs it

        return Widening()

    @abstractmethod
    def prepare(self, columns: Sequence[Column]) -> None:
        """Make the statement for these columns: each either has an `item` of the layout or gets a null."""

    @abstractmethod
    def ledger(self, writer: str) -> int | None:
        """Return the number of this writer's last row that is in; 0 for none yet, None where no ledger can be had.

        It makes the table and the entry where they are missing and it may; Moved where somebody else does this moment.
        """

    @abstractmethod
    def write(self, rows: Rows, writer: str, before: int | None) -> None:
        """Store the rows, all or none, in one transaction that also moves the ledger from `before` to `rows.last`.

        The layout is that of the prepared columns' items, in their order, without the empty ones. With `before` None
        there is no ledger. Raises Refused, Moved or Unavailable.
        """

    def tend(self) -> None:  # noqa: B027  # most have nothing to tend
        """Do what a schema of ours needs once a day, such as partitions for the days to come; it may not hurt others.

        It is called between two transactions, after connecting and then daily. Raises Unavailable.
        """

    @abstractmethod
    def skip(self, number: int, writer: str, before: int) -> None:
        """Move the ledger alone: the row of that number is in the dead-letter file. Raises Moved or Unavailable."""

    @abstractmethod
    def run(self, script: str) -> None:
        """Run a script of several statements, in one transaction where the database can; `sql init` needs it."""

    @abstractmethod
    def abort(self) -> None:
        """Break the connection, so that whoever waits for an answer gets an error. Any thread; never raises."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection; may be called again. Never raises."""
