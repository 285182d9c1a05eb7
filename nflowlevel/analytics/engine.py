# SPDX-License-Identifier: GPL-2.0-or-later
"""What answers a query: DuckDB over a store, or Spark over an archive. The text of the query is the same for both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from nflowlevel.errors import NotSupported, printable

if TYPE_CHECKING:
    from nflowlevel.analytics.store import Store


class Engine(Protocol):
    """What a log needs of it. `relation` is the engine's own object for a query that has not run yet."""

    name: str

    def relation(self, text: str) -> Any:
        """Return the engine's own object for a query."""

    def columns(self, relation: Any) -> tuple[str, ...]:
        """Return the names of its columns."""

    def rows(self, relation: Any, most: int | None = None) -> list[tuple[Any, ...]]:
        """Return its rows, or the first of them."""

    def df(self, relation: Any) -> Any:
        """Return it as a DataFrame of pandas."""

    def arrow(self, relation: Any) -> Any:
        """Return it as a table of Arrow."""

    def remember(self, table: str, columns: dict[str, str], rows: Sequence[Sequence[Any]]) -> None:
        """Add rows to a table that queries may name."""


class DuckDB:
    """Queries to a store."""

    name = "duckdb"

    def __init__(self, store: Store) -> None:
        self.store = store

    def relation(self, text: str) -> Any:
        """Return DuckDB's relation; NotSupported where a part of the log is not on this machine."""
        if self.store.remote:
            needed = "a copy of the archive here, or Spark: log.on(spark), nflowlevel find --spark"
            found = "DuckDB, which reads files of this machine only"
            raise NotSupported(f"asking {printable(self.store.remote[0])}", found=found, needed=needed)
        return self.store.cursor().sql(text)

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


def _needs(module: str, command: str) -> None:
    import importlib

    try:
        importlib.import_module(module)
    except ImportError:
        raise NotSupported(f"an answer by {module}", found=f"no {module}", needed=command) from None
