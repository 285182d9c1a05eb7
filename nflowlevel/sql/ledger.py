# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger: a table with one entry for each writer, the number of its last row that is in.

Each transaction that stores rows also moves the writer's entry from the number of the row before them to the number of
the last of them. It is moved first, and only from the number that is known: the row lock makes us wait for a
transaction of an earlier connection that still runs, and then see it (`Moved`).

The statements are the same in all databases but for quotes, placeholders and locks; the table itself is made by
`schema/*-ledger.sql`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from nflowlevel.spool.sink import Moved

#: The table's name.
LEDGER = "nflowlevel_ledger"


class Cursor(Protocol):
    """What is needed of a driver's cursor (PEP 249)."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed."""

    def fetchone(self) -> Any:
        """Return the next row of the result, None at the end."""


#: Executes a statement with its values within the transaction that is open, and returns the cursor.
Execute: TypeAlias = Callable[[str, tuple[object, ...]], Cursor]


class Ledger:
    """The statements of one dialect about `table`, where values go into `slot`; names as they have to be written.

    `lock` ends the SELECT, where it is to wait for a transaction of an earlier connection. `insert` and `known` begin
    and end the INSERT, where an entry that somebody else has made this moment is to be no error.
    """

    def __init__(
        self,
        slot: str,
        *,
        table: str = LEDGER,
        row: str = "row",
        lock: str = "",
        insert: str = "INSERT",
        known: str = "",
    ) -> None:
        self._ask = f"SELECT {row} FROM {table} WHERE writer = {slot}{lock}"
        self._enter = f"{insert} INTO {table} (writer, {row}) VALUES ({slot}, 0){known}"
        self._move = (
            f"UPDATE {table} SET {row} = {slot}, updated = CURRENT_TIMESTAMP WHERE writer = {slot} AND {row} = {slot}"
        )

    def last(self, execute: Execute, writer: str) -> int:
        """Return the number in the writer's entry; one that is missing is made, with 0.

        Moved: somebody else has made it this moment.
        """
        found = execute(self._ask, (writer,)).fetchone()
        if found is None:
            if execute(self._enter, (writer,)).rowcount != 1:
                raise Moved(f"the ledger's entry of {writer} was made this moment")
            return 0
        return int(found[0])

    def move(self, execute: Execute, writer: str, before: int, to: int) -> None:
        """Move the writer's entry from one number to another; Moved where it is not there, or not at `before`."""
        if execute(self._move, (to, writer, before)).rowcount != 1:
            raise Moved(f"the ledger's entry of {writer} is not at row {before}")
