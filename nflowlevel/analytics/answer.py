# SPDX-License-Identifier: GPL-2.0-or-later
"""An answer: a query and, when it is looked at, its rows."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from typing import Any

from nflowlevel.analytics.columns import per_second
from nflowlevel.analytics.engine import Engine
from nflowlevel.analytics.plot import MOST_BARS, Picture, bars, spans
from nflowlevel.errors import printable

#: Rows that are shown.
SHOWN_ROWS = 40
_MOST_CHARACTERS = 60
#: Characters of a time with microseconds.
_EXACT = 26
#: Spans of time that are drawn.
_MOST_SPANS = 2000


class Answer:
    """An answer to a question. The query runs when its rows are asked for, and each time they are."""

    def __init__(self, engine: Engine, sql: str, title: str = "") -> None:
        self._engine = engine
        #: The query. Where it is asked again the relations are those of the log.
        self.sql = sql
        self.title = title

    @property
    def relation(self) -> Any:
        """The query as the engine's own object: a DuckDBPyRelation, or a DataFrame of Spark."""
        return self._engine.relation(self.sql)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return self._engine.columns(self.relation)

    def rows(self, most: int | None = None) -> list[tuple[Any, ...]]:
        """Return the rows, or the first `most` of them."""
        return self._engine.fetch(self.sql) if most is None else self._engine.rows(self.relation, most)

    def dicts(self) -> list[dict[str, Any]]:
        """Return the rows, each with the names of the columns."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows()]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows())

    def value(self) -> Any:
        """Return the first value of the first row; None where there is none."""
        return next((row[0] for row in self.rows(1)), None)

    def df(self) -> Any:
        """Return the rows as a DataFrame of pandas."""
        return self._engine.df(self.relation)

    def arrow(self) -> Any:
        """Return the rows as a table of Arrow."""
        return self._engine.arrow(self.relation)

    def plot(self) -> Picture:
        """Return the rows as bars for a notebook, as long as the column `n` or `count` says, or the last number.

        Rows with a column `time` are drawn over time. ValueError: nothing in the answer is a number.
        """
        rows = self.rows(_MOST_SPANS)
        counted = self._counted(rows)
        names = [name for name in self.columns if name != counted]
        place = self.columns.index(counted)
        values = [float(row[place] or 0) for row in rows]
        if self.columns[0] == "time" and len(names) == 1:
            starts = [float(row[0]) for row in rows]
            length = min((after - before for before, after in pairwise(starts)), default=1.0)
            return spans(self.title or counted, [shown("time", row[0]) for row in rows], starts, values, length)
        labels = [
            " · ".join(shown(name, row[self.columns.index(name)]) or "-" for name in names) for row in rows[:MOST_BARS]
        ]
        return bars(self.title or counted, labels, values[:MOST_BARS])

    def _counted(self, rows: list[tuple[Any, ...]]) -> str:
        numbers = [name for name, number in zip(self.columns, _numbers(rows), strict=True) if number] if rows else []
        for name in ("n", "count", *reversed(numbers)):
            if name in self.columns:
                return name
        raise ValueError(f"nothing in the answer is a number; its columns are {', '.join(self.columns)}")

    # -- to look at --------------------------------------------------------------------------------------------------

    @cached_property
    def _head(self) -> list[tuple[Any, ...]]:
        return self.rows(SHOWN_ROWS + 1)

    def _shown(self) -> list[list[str]]:
        columns = [_even(name, [row[at] for row in self._head[:SHOWN_ROWS]]) for at, name in enumerate(self.columns)]
        return [list(row) for row in zip(*columns, strict=True)]

    @property
    def _rest(self) -> str:
        return f"… the first {SHOWN_ROWS} rows; .rows() and .df() have all" if len(self._head) > SHOWN_ROWS else ""

    def __repr__(self) -> str:
        cells = self._shown()
        right = _numbers(self._head)
        widths = [max(map(len, column)) for column in zip(self.columns, *cells, strict=True)]
        lines = [
            "  ".join(
                f"{cell:>{width}}" if is_number else f"{cell:<{width}}"
                for cell, width, is_number in zip(row, widths, right or [False] * len(widths), strict=True)
            ).rstrip()
            for row in (list(self.columns), *cells)
        ]
        return "\n".join([*lines, *([self._rest] if self._rest else []), *([] if cells else ["(no rows)"])])

    def to_html(self) -> str:
        """Return a table of HTML, without style and script."""
        right = _numbers(self._head) or [False] * len(self.columns)
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>"
            + "".join(
                f'<td style="text-align:right">{html.escape(cell)}</td>' if number else f"<td>{html.escape(cell)}</td>"
                for cell, number in zip(row, right, strict=True)
            )
            + "</tr>"
            for row in self._shown()
        )
        rest = f"<caption>{html.escape(self._rest)}</caption>" if self._rest else ""
        return f"<table>{rest}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    _repr_html_ = to_html


def shown(name: str, value: Any) -> str:
    """Return a value as people read it: times in UTC, and nothing that moves a cursor."""
    if value is None:
        return ""
    if (units := per_second(name, value)) is not None:
        try:
            return written(value * 10**6 // units)
        except (OverflowError, ValueError):
            return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(value), _MOST_CHARACTERS)


def _even(name: str, values: Sequence[Any]) -> list[str]:
    """Return the values of a column as they are shown: no value is a `-`, and times are equally long."""
    cells = ["-" if value is None else shown(name, value) for value in values]
    if any(per_second(name, value) is not None for value in values):
        length = max(map(len, cells))
        if length == _EXACT:
            return [f"{cell}.000000" if len(cell) == _EXACT - 7 else cell for cell in cells]
    return cells


def written(us: int) -> str:
    """Return microseconds since 1970 as time of UTC; without a fraction where it is 0."""
    seconds, fraction = divmod(us, 10**6)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{text}.{fraction:06}" if fraction else text


def _numbers(rows: Sequence[tuple[Any, ...]]) -> list[bool]:
    """Return for each column whether it has numbers."""
    return [
        all(isinstance(value, (int, float)) or value is None for value in column) for column in zip(*rows, strict=True)
    ]
