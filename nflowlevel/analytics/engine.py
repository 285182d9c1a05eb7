# SPDX-License-Identifier: GPL-2.0-or-later
"""What answers a query: DuckDB over a store, or Spark over an archive. The text of the query is the same for both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from nflowlevel.analytics.databases import without_password
from nflowlevel.analytics.objectstore import SCHEMES
from nflowlevel.analytics.store import WHOLE, Span, Store
from nflowlevel.errors import NotSupported, printable

_OBJECT_STORES = tuple(f"{scheme}://" for scheme in SCHEMES)


class Engine(Protocol):
    """What a log needs of it. `relation` is the engine's own object for a query that has not run yet."""

    name: str

    def within(self, first: int | None, behind: int | None) -> Engine:
        """Return an engine for queries that ask for no records outside of these times, in µs; None: no bound."""

    @property
    def whole(self) -> Engine:
        """The engine for all times."""

    def relation(self, text: str) -> Any:
        """Return the engine's own object for a query."""

    def columns(self, relation: Any) -> tuple[str, ...]:
        """Return the names of its columns."""

    def rows(self, relation: Any, most: int | None = None) -> list[tuple[Any, ...]]:
        """Return its rows, or the first of them."""

    def fetch(self, text: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""

    def df(self, relation: Any) -> Any:
        """Return it as a DataFrame of pandas."""

    def arrow(self, relation: Any) -> Any:
        """Return it as a table of Arrow."""

    def remember(self, table: str, columns: dict[str, str], rows: Sequence[Sequence[Any]]) -> None:
        """Add rows to a table that queries may name."""


class DuckDB:
    """Queries to a store."""

    name = "duckdb"

    def __init__(self, store: Store, span: Span = WHOLE) -> None:
        self.store, self.span = store, span

    def within(self, first: int | None, behind: int | None) -> DuckDB:
        """Return an engine for queries that ask for no records outside of these times."""
        return DuckDB(self.store, self.span.within(first, behind))

    @property
    def whole(self) -> DuckDB:
        """The engine for all times."""
        return DuckDB(self.store)

    def held(self, relation: str, text: str) -> DuckDB:
        """Return an engine whose relation has the rows of a query and no others, in memory. One thread asks it."""
        cursor = self._cursor(text)
        cursor.execute(f"CREATE TEMP TABLE held AS {text}")
        cursor.execute(f"DROP VIEW IF EXISTS temp.{relation}")
        cursor.execute(f"ALTER TABLE temp.held RENAME TO {relation}")
        return Held(self.store, cursor)

    def relation(self, text: str) -> Any:
        """Return DuckDB's relation; NotSupported where a part of the log is not on this machine."""
        return self._cursor(text).sql(text)

    def fetch(self, text: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query; NotSupported as above. A relation would be planned twice."""
        found: list[tuple[Any, ...]] = self._cursor(text).execute(text).fetchall()
        return found

    def _cursor(self, text: str) -> Any:
        open_remote(self.store)
        return self.store.cursor(text, self.span)

    def columns(self, relation: Any) -> tuple[str, ...]:
        """Return the names of its columns."""
        return tuple(relation.columns)

    def rows(self, relation: Any, most: int | None = None) -> list[tuple[Any, ...]]:
        """Return its rows, or the first of them."""
        found: list[tuple[Any, ...]] = (relation if most is None else relation.limit(most)).fetchall()
        return found

    def df(self, relation: Any) -> Any:
        """Return it as a DataFrame of pandas."""
        _needs("pandas", "pip install pandas")
        return relation.df()

    def arrow(self, relation: Any) -> Any:
        """Return it as a table of Arrow."""
        _needs("pyarrow", "pip install 'nflowlevel[columns]'")
        return relation.to_arrow_table()

    def remember(self, table: str, columns: dict[str, str], rows: Sequence[Sequence[Any]]) -> None:
        """Add rows to a table that queries may name."""
        self.store.remember(table, columns, rows)


def open_remote(store: Store) -> None:
    """Let DuckDB see the archives in object stores. NotSupported: one is in a store that only Spark reads."""
    if other := next((url for url in store.remote if not url.startswith(_OBJECT_STORES)), None):
        needed = "a copy of the archive here, or Spark: log.on(spark), nflowlevel find --spark"
        found = "DuckDB, which reads files of this machine and of object stores like S3"
        raise NotSupported(f"asking {printable(without_password(other), None)}", found=found, needed=needed)
    store.open_remote()


class Held(DuckDB):
    """Queries to the rows that a connection has under the name of a relation. One thread asks it."""

    def __init__(self, store: Store, cursor: Any) -> None:
        super().__init__(store)
        self._held = cursor

    def within(self, first: int | None, behind: int | None) -> DuckDB:
        """Return itself: no file is opened that could be left out."""
        return self

    def _cursor(self, text: str) -> Any:
        return self._held


def _needs(module: str, command: str) -> None:
    import importlib

    try:
        importlib.import_module(module)
    except ImportError:
        raise NotSupported(f"an answer by {module}", found=f"no {module}", needed=command) from None
