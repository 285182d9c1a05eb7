# SPDX-License-Identifier: GPL-2.0-or-later
"""A sink: the place that rows are brought to, such as a database, a broker or an HTTP server, as the writer uses it.

A sink is one connection. It says what is wrong in three words that the writer acts upon: `Refused`, this row will never
go in; `Unavailable`, try again later; `Moved`, some rows are in already.

Exactly once: where a sink has a ledger, each write that brings rows in also moves the writer's entry in it from the
number of the row before them to the number of the last of them. After a broken connection the entry tells what is in.
It is moved first, and only from the number that the writer knows. A sink without a ledger takes a write whose answer
was lost a second time. A writer is a run (runs.py): each start has an entry of its own, and moves those of earlier runs
whose rows it found waiting.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nflowlevel.errors import OutputError

if TYPE_CHECKING:
    from nflowlevel.spool.rows import Layout, Rows


class Refused(OutputError):
    """It will never take this row (or one of these): `code` is its SQLSTATE or number."""

    def __init__(self, message: str, code: str) -> None:
        self.code = code
        super().__init__(message, retryable=False)


class Unavailable(OutputError):
    """It cannot take anything now: away, full, locked, the table missing, permission denied."""


class Moved(OutputError):
    """The writer's entry in the ledger is not where it was left: an earlier transaction has arrived after all."""


class Sink(ABC):
    """One connection of one output. The writer's thread uses it; only `abort` and `layout` are for other threads too.

    Every method raises `Unavailable` when the connection is not or no longer usable, with a message that says what was
    tried and what the other side said, never a password.
    """

    #: What rows should look like from now on. `prepare` may change it; before that it has all that could be wanted.
    layout: Layout

    #: So many rows are worth a write: with fewer there is a short wait for more. What it refuses is found by halving.
    worth: int = 1000

    @property
    def by_row(self) -> bool:
        """Whether a write may end with some of its first rows in, and the ledger moved as far."""
        return False

    @property
    @abstractmethod
    def shown(self) -> str:
        """For messages: kind, name, host; no password."""

    @property
    @abstractmethod
    def into(self) -> str:
        """Where within it rows go, for dead letters: a table, a topic, a path."""

    @abstractmethod
    def connect(self) -> None:
        """Connect, within the time allowed. A connection that is open is closed first."""

    @abstractmethod
    def prepare(self) -> None:
        """Find out what rows have to look like, and set `layout`; called after each connect."""

    def last(self, writer: str) -> int | None:
        """Return the number of this writer's last row that is in; 0 for none yet, None where no ledger can be had.

        It makes the ledger and the entry where they are missing and it may; Moved where somebody else makes the entry
        this moment. By default there is none.
        """
        return None

    @abstractmethod
    def fit(self, rows: Rows) -> Rows:
        """Return rows of another layout, of an earlier run or from before `prepare`, in the layout wanted now.

        Raises Refused where one of them is no row of its layout.
        """

    @abstractmethod
    def write(self, rows: Rows, writer: str, before: int | None) -> None:
        """Bring the rows in, all or none, and move the ledger from `before` to `rows.last` with them.

        With `before` None there is no ledger. Raises Refused, where none of the rows may be in; Moved; or Unavailable,
        where the ledger tells what is in.
        """

    def skip(self, number: int, writer: str, before: int) -> None:
        """Move the ledger alone: the row of that number is in the dead-letter file. Raises Moved or Unavailable.

        It is called where `last` returns a number.
        """
        raise NotImplementedError(f"{type(self).__name__} has a ledger, and has to say how it is moved")

    def tend(self) -> None:  # noqa: B027  # most have nothing to tend
        """Do what is needed once a day; it is called between two writes, after connecting and then daily."""

    @abstractmethod
    def describe(self, rows: Rows) -> Sequence[Mapping[str, object]]:
        """Return what is in each row, by name, as JSON can have it: for the dead-letter file."""

    @abstractmethod
    def abort(self) -> None:
        """Break the connection, so that the thread that waits for an answer gets an error. Never raises."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection; may be called again. Never raises."""
