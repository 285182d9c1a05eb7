# SPDX-License-Identifier: GPL-2.0-or-later
"""What all databases share: options, statement forms, which column takes which key, and what a connection has to do.

A `Database` is one dialect and one connection. It says what is wrong in two words that the writer acts upon: `Refused`,
this row will never go in; `Unavailable`, try again later. It never formats a value into a statement.

Exactly once: where the database has the ledger table, each transaction that stores rows also moves the writer's entry
in it from the number of the row before them to the number of the last of them. After a broken connection it tells what
is in. It is moved first, and only from the number we know: the row lock makes us wait for a transaction of an
earlier connection that still runs, and then see it (`Moved`).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from msgspec import Meta

from nflowlevel.options import Options
from nflowlevel.records.keys import AS_NUMBER, TIME, TIME_KEY, Key, added_key

if TYPE_CHECKING:
    from nflowlevel.spool.rows import Layout, Rows

#: ulogd2's values that mean a default of ours, where there is no queue at all in ulogd2.
DEFAULT_RING_SIZE = 100_000


class SQLOptions(Options, frozen=True, kw_only=True):
    """Options of all SQL outputs; names as in ulogd.conf."""

    table: Annotated[str, Meta(min_length=1, description="Table or view whose columns say which keys are stored.")]
    procedure: Annotated[
        str,
        Meta(
            min_length=1,
            description="`INSERT`: into the table; `INSERT INTO name`: into another table with these columns; "
            "`CALL name`: a procedure; anything else: a function, called by SELECT.",
        ),
    ] = "INSERT"
    reconnect: Annotated[
        int,
        Meta(
            ge=0,
            description="Longest pause between attempts to connect, in seconds; 0: after a failure SIGHUP only.",
        ),
    ] = 2
    connect_timeout: Annotated[int, Meta(ge=0, description="Seconds an attempt to connect may take; 0: ten.")] = 0
    timeout: Annotated[
        int, Meta(ge=1, description="Seconds a transaction may take before the connection is given up as hung.")
    ] = 60
    ring_buffer_size: Annotated[
        int, Meta(ge=0, description="Events held in memory for the database's thread; 0: 100000.")
    ] = 0
    backlog_memcap: Annotated[
        int, Meta(ge=0, description="Bytes of events held in memory beyond the ring while the database is away.")
    ] = 0
    backlog_oneshot_requests: Annotated[
        int, Meta(ge=0, description="Statements of the backlog that go into one transaction when it is replayed.")
    ] = 10
    when_full: Annotated[
        Literal["spool", "drop_newest", "drop_oldest"],
        Meta(description="What becomes of events that memory has no room for: to disk, or dropped and counted."),
    ] = "spool"
    spool_directory: Annotated[
        str, Meta(min_length=1, description="Where the spool is: a directory in it, named after the instance.")
    ] = "/var/spool/nflowlevel"
    spool_max_bytes: Annotated[int, Meta(ge=1, description="Most disk space that the spool takes.")] = 4 << 30
    dead_letter_file: Annotated[
        str, Meta(description="File for rows that the database refuses; empty: refused.jsonl in the spool's directory.")
    ] = ""


# -- statements -------------------------------------------------------------------------------------------------------


class Statement(NamedTuple):
    """What `procedure` asks for."""

    form: Literal["insert", "text", "call", "select"]
    """insert: into `target`; text: `target` is the beginning of a statement that the columns and values end."""
    target: str
    """The table's or the procedure's name, as written."""


_INTO = re.compile(r"INSERT\s+INTO\s+(\S+)\s*", re.IGNORECASE)


def statement(procedure: str, table: str) -> Statement:
    """Return which statement an output's `procedure` means (spec: INSERT, INSERT INTO …, CALL …, a function)."""
    words = procedure.strip()
    first, _, rest = words.partition(" ")
    if words.upper() == "INSERT":
        return Statement("insert", table)
    if first.upper() == "INSERT":
        into = _INTO.fullmatch(words)
        return Statement("insert", into[1]) if into else Statement("text", words)
    if first.upper() == "CALL" and rest:
        return Statement("call", rest.strip())
    return Statement("select", words)


# -- columns ----------------------------------------------------------------------------------------------------------


class Column(NamedTuple):
    """A column as the database has it, and the item of a row's layout that fills it."""

    name: str
    type: str
    """The database's name of the type, in lower case, without a length."""
    size: int | None = None
    """Characters (or bytes) that a text column holds, where that is limited."""
    automatic: bool = False
    """The database fills it itself: a sequence, an identity, a generated column."""
    item: str = ""
    """What of the layout goes into it; empty: nothing of this stack does."""


#: Types that hold whole numbers, in all databases, and how many bits of them, with the sign.
INTEGER_BITS: Mapping[str, tuple[int, bool]] = {
    "tinyint": (8, True),
    "tinyint unsigned": (8, False),
    "smallint": (16, True),
    "smallint unsigned": (16, False),
    "mediumint": (24, True),
    "mediumint unsigned": (24, False),
    "int": (32, True),
    "int unsigned": (32, False),
    "integer": (32, True),
    "bigint": (64, True),
    "bigint unsigned": (64, False),
}
#: Types in which an address is stored as a number.
NUMBERS = frozenset((*INTEGER_BITS, "numeric", "decimal", "real", "double precision", "double", "float"))

Members = Sequence[tuple[str, Key]]


def match(columns: Iterable[Column], members: Members, *, arguments: bool) -> list[Column]:
    """Return the columns that are written, each with the item that fills it.

    A `.` of a key is a `_` of a column; case does not count. A first column whose name begins with `_` is the table's
    own number and left out, as one is that the database fills by itself and no key does. With `arguments` (the columns
    are a procedure's) those without a key stay, for a null each.
    """
    keys = {name.replace(".", "_").lower(): (name, key) for name, key in members}
    written = []
    for number, column in enumerate(columns):
        if number == 0 and column.name.startswith("_"):
            continue
        item = _item(column, keys.get(column.name.lower()))
        if item or (arguments and not column.automatic):
            written.append(column._replace(item=item))
    return written


def _item(column: Column, found: tuple[str, Key] | None) -> str:
    if column.name.lower() == TIME.replace(".", "_") and not found:
        return TIME
    if not found:
        return ""
    name, key = found
    if key.kind in ("addr", "addr4") and key.type == "ipaddr" and column.type in NUMBERS:
        return name + AS_NUMBER
    return name


def all_items(members: Members) -> Layout:
    """Return a layout of everything a stack has: for rows whose table is not known yet."""
    items = [TIME]
    for name, key in members:
        items.append(name)
        if key.kind in ("addr", "addr4") and key.type == "ipaddr":
            items.append(name + AS_NUMBER)
    return tuple(items)


def plan_members(layout: Layout, members: Members) -> list[tuple[str, Key]]:
    """Return what a renderer needs for the layout: each item with its key. An item no key has is a column of nulls."""
    keys = {TIME: TIME_KEY, **dict(members)}
    return [(item, keys.get(item.removesuffix(AS_NUMBER)) or _null(item)) for item in layout]


def _null(item: str) -> Key:
    return added_key(item, "string", "Nothing of the stack.")


# -- schemas ----------------------------------------------------------------------------------------------------------


_SCHEMAS = Path(__file__).parent / "schema"


@cache
def schema(name: str) -> str:
    """Return the text of a file of `nflowlevel/sql/schema/`: `pgsql.sql`, `pgsql-ledger.sql` and so on."""
    return (_SCHEMAS / name).read_text()


# -- connections ------------------------------------------------------------------------------------------------------


class Database(ABC):
    """One connection of one output. One thread uses it; only `abort` may be called by another.

    Every method raises `Unavailable` when the connection is not or no longer usable, with a message that says what was
    tried and what the database said, never a password.
    """

    #: Whose statements it speaks, and whose files of nflowlevel/sql/schema/ are its own: pgsql, mysql or sqlite3.
    dialect: ClassVar[str]
    #: For messages: kind, database, host; no password.
    shown: str

    @abstractmethod
    def connect(self) -> None:
        """Connect, within the time allowed. A connection that is open is closed first."""

    @abstractmethod
    def columns(self) -> list[Column]:
        """Return the columns of the option `table`, in order."""

    @abstractmethod
    def prepare(self, columns: Sequence[Column]) -> None:
        """Make the statement for these columns: each either has an `item` of the layout or gets a null."""

    @abstractmethod
    def ledger(self, writer: str) -> int | None:
        """Return the number of this writer's last row that is in; 0 for none yet, None where no ledger can be had.

        It makes the table and the entry where they are missing and it may.
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
