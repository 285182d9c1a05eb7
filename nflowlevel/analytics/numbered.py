# SPDX-License-Identifier: GPL-2.0-or-later
"""Records in memory whose addresses are numbers: what is grouped by them takes half of the time that texts take.

A number is the place of an address among all of them, in the order of their texts. So whatever counts, compares and
orders addresses has the same answer; its columns `src_ip` and `dest_ip` are texts again when rows are fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nflowlevel.analytics.engine import DuckDB, Held
from nflowlevel.analytics.store import Store
from nflowlevel.errors import NotSupported

#: The columns that are numbers, and whose rows are texts again.
ADDRESSES = ("src_ip", "dest_ip")
#: An empty text of the detectors (detector.py). Beside numbers, it would make texts of them.
_EMPTY = "NULLIF('', '')"
#: For more texts than this, all of them are fetched.
_MOST_LISTED = 1000


class Numbered(Held):
    """Queries to records with numbers for addresses. One thread asks it, for rows."""

    @classmethod
    def made(cls, engine: DuckDB, relation: str, text: str, columns: Sequence[str]) -> Numbered:
        """Return one whose relation has the rows of a query with these columns, and no others."""
        found = [name for name in ADDRESSES if name in columns]
        # A connection of its own, whose tables go with it.
        cursor = engine._cursor(text)
        asked = [f"SELECT DISTINCT {name} AS text FROM ({text}) AS {relation}" for name in found]
        texts = " UNION ".join(asked or ["SELECT '' AS text"])
        cursor.execute(
            "CREATE TEMP TABLE texts AS SELECT text, (ROW_NUMBER() OVER (ORDER BY text))::UINTEGER AS number "
            f"FROM ({texts}) AS texts WHERE text IS NOT NULL"
        )
        shown = (f"of_{name}.number AS {name}" if name in found else f"chosen.{name}" for name in columns)
        joined = "".join(f" LEFT JOIN texts AS of_{name} ON of_{name}.text = chosen.{name}" for name in found)
        cursor.execute(f"CREATE TEMP TABLE numbered AS SELECT {', '.join(shown)} FROM ({text}) AS chosen{joined}")
        cursor.execute(f"DROP VIEW IF EXISTS temp.{relation}")
        cursor.execute(f"ALTER TABLE temp.numbered RENAME TO {relation}")
        return cls(engine.store, cursor, dict.fromkeys(found, "temp.texts"))

    def __init__(self, store: Store, cursor: Any, texts: Mapping[str, str]) -> None:
        super().__init__(store, cursor)
        #: The table with `number` and `text` of each column that is numbers.
        self._texts = texts

    def relation(self, text: str) -> Any:
        """Return DuckDB's relation, with numbers in it."""
        return super().relation(_prepared(text))

    def fetch(self, text: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query, with texts."""
        cursor = self._held.execute(_prepared(text))
        names = [column for column, *_ in cursor.description]
        return self._with_texts(names, cursor.fetchall())

    def rows(self, relation: Any, most: int | None = None) -> list[tuple[Any, ...]]:
        """Return its rows, or the first of them, with texts."""
        return self._with_texts(relation.columns, super().rows(relation, most))

    def df(self, relation: Any) -> Any:
        """Raise NotSupported: there are rows only."""
        raise NotSupported("a DataFrame of numbered records", found="numbers for addresses", needed="log.held")

    def arrow(self, relation: Any) -> Any:
        """Raise NotSupported: there are rows only."""
        raise NotSupported("a table of numbered records", found="numbers for addresses", needed="log.held")

    def _with_texts(self, names: Iterable[str], rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        tables = {place: self._texts[name] for place, name in enumerate(names) if name in self._texts}
        shown = {place: self._text_of(table, {row[place] for row in rows} - {None}) for place, table in tables.items()}
        if not shown:
            return rows
        return [
            tuple(shown[place].get(value) if place in shown else value for place, value in enumerate(row))
            for row in rows
        ]

    def _text_of(self, table: str, numbers: set[int]) -> dict[int, str]:
        if not numbers:
            return {}
        where = f" WHERE number IN ({', '.join(map(str, numbers))})" if len(numbers) <= _MOST_LISTED else ""
        return dict(self._held.execute(f"SELECT number, text FROM {table}{where}").fetchall())


def _prepared(text: str) -> str:
    return text.replace(_EMPTY, "NULL")
