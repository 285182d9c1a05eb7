# SPDX-License-Identifier: GPL-2.0-or-later
"""Some columns of all packets as a table of DuckDB's own, for questions that count them again and again.

Texts are numbers there (an ENUM, in the order of the texts), which are grouped many times faster. A condition meets the
texts themselves, in the types of the relation: it holds for the same packets.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

from nflowlevel.analytics.engine import DuckDB, Held
from nflowlevel.analytics.store import Store
from nflowlevel.archive import engine
from nflowlevel.archive.schema import PACKETS

#: The most that a packet takes, measured and rounded up: 29 bytes in the file, 42 where nothing can be compressed.
PACKET_BYTES = 48
#: A column with more different texts than this keeps them: each query would carry the list of them.
_MOST_TEXTS = 1 << 18
#: A store may have had one before.
_numbers = count(1)


class Brief:
    """Columns of the packets that a store has now. Errors of DuckDB are its own."""

    def __init__(self, store: Store, names: Iterable[str]) -> None:
        self._store, self._state = store, store.state
        self._table = f"read.brief_{next(_numbers)}"
        wanted = {PACKETS.find(name).name for name in ("us", *names)}
        columns = [column for column in PACKETS if column.name in wanted]
        self._names = [column.name for column in columns]
        cursor = store.cursor()
        # All of it, or nothing where it is interrupted or the disk is full.
        cursor.execute("BEGIN")
        texts = (column.name for column in columns if column.type == "VARCHAR")
        self._coded = {name for name in texts if self._code(cursor, name)}
        values = (f"{name}::{self._table}_{name} AS {name}" if name in self._coded else name for name in self._names)
        cursor.execute(f"CREATE TABLE {self._table} AS SELECT {', '.join(values)} FROM packets")
        cursor.execute("COMMIT")

    def _code(self, cursor: Any, name: str) -> bool:
        """Make the type for a column of texts; False: it has too many of them."""
        texts = f"texts_{name}"
        cursor.execute(f"CREATE TEMP TABLE {texts} AS SELECT DISTINCT {name} FROM packets WHERE {name} IS NOT NULL")
        (found,) = cursor.execute(f"SELECT COUNT(*) FROM {texts}").fetchone()
        if found > _MOST_TEXTS:
            return False
        cursor.execute(f"CREATE TYPE {self._table}_{name} AS ENUM (SELECT {name} FROM {texts} ORDER BY {name})")
        return True

    def engine(self, where: str) -> DuckDB | None:
        """Return an engine whose packets are those of a WHERE clause, for one thread.

        None: the clause needs columns that are not here, or the store's records are not those of then.
        """
        if self._store.state != self._state:
            return None
        plain = (
            f"{name} AS coded_{name}, {name}::VARCHAR AS {name}" if name in self._coded else name
            for name in self._names
        )
        shown = (f"coded_{name} AS {name}" if name in self._coded else name for name in self._names)
        cursor = self._store.cursor()
        try:
            cursor.execute(
                f"CREATE TEMP VIEW packets AS SELECT {', '.join(shown)} "
                f"FROM (SELECT {', '.join(plain)} FROM {self._table}) AS packets{where}"
            )
        except engine.duckdb().BinderException:
            return None
        return Held(self._store, cursor)
