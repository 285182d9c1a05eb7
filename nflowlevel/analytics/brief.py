# SPDX-License-Identifier: GPL-2.0-or-later
"""Some columns of all packets as a table of DuckDB's own, for questions that count them again and again.

It may be of a span of time only, and answers what is asked of that one. Texts are numbers there (numbered.py), which
are grouped many times faster; a table for each column has them. A condition that looks at one text is tried on that
table, and becomes one of numbers: it holds for the same packets.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Any

from nflowlevel.analytics.conditions import during
from nflowlevel.analytics.engine import DuckDB
from nflowlevel.analytics.numbered import Numbered
from nflowlevel.analytics.store import WHOLE, Span, Store
from nflowlevel.archive import engine
from nflowlevel.archive.schema import PACKETS

#: The most that a packet takes, measured and rounded up: 34 bytes in the file, 42 where nothing can be compressed.
PACKET_BYTES = 48
#: Packets that are written at a time: between two such parts, it waits for those who ask.
_PART = 500_000
#: Columns that have no more combinations than these are counted together.
_MOST_COMBINED = 5000
#: More texts than these are not few.
_MOST_FEW = 64
#: More numbers than these are a table.
_MOST_LISTED = 100
#: A store may have had one before.
_numbers = count(1)
_LITERAL = re.compile(r"'[^']*'")
_COLUMN = re.compile(rf"\b(?:{'|'.join(column.name for column in PACKETS)})\b")


class Brief:
    """Columns of the packets that a store has now, of a span of time. Errors of DuckDB are its own.

    `pause` is called now and then while it is made: it may wait for what is more urgent.
    """

    def __init__(
        self, store: Store, names: Iterable[str], pause: Callable[[], None] | None = None, span: Span = WHOLE
    ) -> None:
        self._store, self._state = store, store.state
        self.span = span
        self._table = f"read.brief_{next(_numbers)}"
        wanted = {PACKETS.find(name).name for name in ("us", *names)}
        columns = [column for column in PACKETS if column.name in wanted]
        self._names = [column.name for column in columns]
        #: The table of each column's texts.
        self.texts = {column.name: f"{self._table}_{column.name}" for column in columns if column.type == "VARCHAR"}
        self._few: dict[tuple[str, ...], tuple[str, ...]] = {}
        try:
            self._make(pause or (lambda: None))
        except BaseException:
            # It was interrupted, or the disk is full: nothing of it stays.
            with contextlib.suppress(engine.duckdb().Error):
                for table in (self._table, *self.texts.values()):
                    store.cursor().execute(f"DROP TABLE IF EXISTS {table}")
            raise

    def _make(self, pause: Callable[[], None]) -> None:
        for name, table in self.texts.items():
            pause()
            self._store.cursor("packets", self.span).execute(
                f"CREATE TABLE {table} AS SELECT text, (ROW_NUMBER() OVER (ORDER BY text))::UINTEGER AS number "
                f"FROM (SELECT DISTINCT {name} AS text FROM packets{_where(self.span)}) AS texts WHERE text IS NOT NULL"
            )
        shown = (f"of_{name}.number AS {name}" if name in self.texts else f"chosen.{name}" for name in self._names)
        joined = (
            f" LEFT JOIN {table} AS of_{name} ON of_{name}.text = chosen.{name}" for name, table in self.texts.items()
        )
        rows = f"SELECT {', '.join(shown)} FROM (SELECT * FROM packets{{where}}) AS chosen{''.join(joined)}"
        cursor = self._store.cursor("packets", self.span)
        cursor.execute(f"CREATE TABLE {self._table} AS {rows.format(where=' WHERE 1 = 0')}")
        for span, where in self._parts():
            pause()
            cursor = self._store.cursor("packets", span)
            cursor.execute(f"INSERT INTO {self._table} {rows.format(where=where)}")

    def _parts(self) -> Iterator[tuple[Span, str]]:
        """Yield spans of time with the WHERE of their packets: all of them, in parts of about the same time."""
        text = f"SELECT COUNT(*), COUNT(us), MIN(us), MAX(us) FROM packets{_where(self.span)}"
        packets, timed, first, last = self._store.cursor("packets", self.span).execute(text).fetchall()[0]
        if timed < packets:
            yield WHOLE, " WHERE us IS NULL"
        if timed:
            length = (last - first) // (packets // _PART + 1) + 1
            for begin in range(first, last + 1, length):
                part = Span(begin, min(begin + length, last + 1))
                yield part, _where(part)

    @property
    def is_current(self) -> bool:
        """Whether the store's records are those of then."""
        return self._store.state == self._state

    def few(self, *names: str) -> tuple[str, ...]:
        """Return those of some columns that have few values, if they have few combinations: to count them together."""
        if names not in self._few:
            found = [name for name in names if self._has_few(name)]
            listed = ", ".join(found or ["NULL"])
            text = f"SELECT COUNT(*) FROM (SELECT DISTINCT {listed} FROM {self._table}) AS found"
            (combined,) = self._store.cursor().execute(text).fetchall()[0]
            self._few[names] = tuple(found) if combined <= _MOST_COMBINED else ()
        return self._few[names]

    def _has_few(self, name: str) -> bool:
        if name not in self.texts:
            return PACKETS.find(name).type == "UTINYINT"
        (texts,) = self._store.cursor().execute(f"SELECT COUNT(*) FROM {self.texts[name]}").fetchall()[0]
        return bool(texts <= _MOST_FEW)

    def engine(self, conditions: Sequence[str], span: Span = WHOLE) -> DuckDB | None:
        """Return an engine whose packets are those for which all conditions hold, for one thread.

        `span` has all their times. None: they may be others than those that are here, or need other columns, or the
        store's records are not those of then.
        """
        if not self.span.covers(span) or not self.is_current:
            return None
        cursor = self._store.cursor()
        joined: set[str] = set()
        try:
            tests = [self._test(cursor, place, condition, joined) for place, condition in enumerate(conditions)]
            plain = (name if name not in self.texts else f"{name} AS number_of_{name}" for name in self._names)
            # What several columns decide meets the texts themselves.
            texts = "".join(f", of_{name}.text AS {name}" for name in joined)
            joins = "".join(
                f" LEFT JOIN {self.texts[name]} AS of_{name} ON of_{name}.number = numbered.number_of_{name}"
                for name in joined
            )
            inner = f"SELECT numbered.*{texts} FROM (SELECT {', '.join(plain)} FROM {self._table}) AS numbered{joins}"
            shown = (f"number_of_{name} AS {name}" if name in self.texts else name for name in self._names)
            where = f" WHERE {' AND '.join(tests)}" if tests else ""
            cursor.execute(f"CREATE TEMP VIEW packets AS SELECT {', '.join(shown)} FROM ({inner}) AS packets{where}")
        except engine.duckdb().BinderException:
            return None
        return Numbered(self._store, cursor, self.texts)

    def _test(self, cursor: Any, place: int, condition: str, joined: set[str]) -> str:
        """Return a condition as numbers have it; it adds the columns whose texts have to be joined for it."""
        found = set(_COLUMN.findall(_LITERAL.sub("''", condition)))
        texts = found & self.texts.keys()
        if not texts:
            return condition
        if len(found) > 1:
            joined |= texts
            return condition
        (name,) = found
        holds = f"coalesce(({condition}), false)"
        of_none, held, others = cursor.execute(
            f"SELECT (SELECT {holds} FROM (SELECT NULL::VARCHAR AS {name}) AS none), "
            f"COUNT(*) FILTER (WHERE {holds}), COUNT(*) FILTER (WHERE NOT {holds}) "
            f"FROM (SELECT text AS {name} FROM {self.texts[name]}) AS texts"
        ).fetchall()[0]
        return self._among(cursor, place, name, holds, of_none=of_none, is_in=held <= others, size=min(held, others))

    def _among(self, cursor: Any, place: int, name: str, holds: str, *, of_none: bool, is_in: bool, size: int) -> str:
        """Return the condition that a number is one of those of texts, or none of those of the others."""
        column = f"number_of_{name}"
        query = (
            f"SELECT number FROM (SELECT text AS {name}, number FROM {self.texts[name]}) AS texts "
            f"WHERE {holds if is_in else f'NOT {holds}'}"
        )
        if not size:
            test = "1 = 0" if is_in else f"{column} IS NOT NULL"
        elif size > _MOST_LISTED:
            cursor.execute(f"CREATE TEMP TABLE chosen_{place} AS {query}")
            test = f"{column} {'IN' if is_in else 'NOT IN'} (SELECT number FROM temp.chosen_{place})"
        else:
            numbers = [str(number) for (number,) in cursor.execute(query).fetchall()]
            if size > 1:
                test = f"{column} {'IN' if is_in else 'NOT IN'} ({', '.join(numbers)})"
            elif is_in:
                test = f"{column} = {numbers[0]}"
            elif of_none:
                return f"{column} IS DISTINCT FROM {numbers[0]}"
            else:
                test = f"{column} <> {numbers[0]}"
        return f"({test} OR {column} IS NULL)" if of_none else test


def _where(span: Span) -> str:
    test = during(*span)
    return f" WHERE {test}" if test else ""
