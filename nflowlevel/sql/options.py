# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said about a database in a configuration: the options that all have, and the statement that they ask for."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple, Protocol

from msgspec import Meta

from nflowlevel.spool.options import SpoolOptions

#: ulogd2 raises smaller numbers of backlog_oneshot_requests to this one.
_LEAST_ONESHOT = 3
#: Rows of what `backlog_oneshot_requests` calls a statement.
STATEMENT_ROWS = 1_000


class SQLOptions(SpoolOptions, frozen=True, kw_only=True):
    """Options of all SQL outputs; names as in ulogd.conf."""

    table: Annotated[str, Meta(min_length=1, description="Table or view; its columns say which keys are stored.")]
    procedure: Annotated[
        str,
        Meta(
            min_length=1,
            description="`INSERT`: into the table; `INSERT INTO name`: into another table with these columns; "
            "`CALL name`: a procedure; anything else: a function, called by SELECT.",
        ),
    ] = "INSERT"
    backlog_oneshot_requests: Annotated[
        int, Meta(ge=0, description="Statements per transaction when the backlog is replayed.")
    ] = 10

    @property
    def backlog_rows(self) -> int:
        """How many rows go into one transaction while the backlog is replayed."""
        return STATEMENT_ROWS * max(self.backlog_oneshot_requests, _LEAST_ONESHOT)


class Access(Protocol):
    """Those options that a connection has to know; each dialect adds how it gets in."""

    @property
    def table(self) -> str:
        """Table or view; its columns say which keys are stored."""

    @property
    def procedure(self) -> str:
        """What is done with a row: see `statement`."""

    @property
    def connect_timeout(self) -> int:
        """Seconds an attempt to connect may take; 0: ten."""

    @property
    def timeout(self) -> int:
        """Seconds a transaction may take."""


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
