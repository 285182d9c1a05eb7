# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows as text on their way to a database: PostgreSQL's COPY text format, in UTF-8.

Fields are separated by a tab, `\\N` is null, every row ends with a newline. Backslash, tab, newline and kin within a
value are written as backslash and a letter, so a newline byte always ends a row and a tab byte a field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

#: The keys of a row's fields, in their order; `oob.time` is seconds and microseconds together.
Layout: TypeAlias = tuple[str, ...]

_NULL = "\\N"
_PIECE_ROWS = 500
_LETTERS = {"\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v"}
_ESCAPES = str.maketrans({char: "\\" + letter for char, letter in _LETTERS.items()})
_CHARS = {letter: char for char, letter in _LETTERS.items()}
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(slots=True, frozen=True)
class Rows:
    """Some rows of one layout; they are numbered without a gap, `first` is the number of the first one."""

    layout: Layout
    first: int
    count: int
    data: bytes

    @property
    def last(self) -> int:
        """The number of the last row."""
        return self.first + self.count - 1

    def split(self, count: int) -> tuple[Rows, Rows]:
        """Return the first `count` rows, and the rest."""
        end = self._end_of(count)
        return (
            Rows(self.layout, self.first, count, self.data[:end]),
            Rows(self.layout, self.first + count, self.count - count, self.data[end:]),
        )

    def cut(self, max_rows: int, max_bytes: int) -> tuple[Rows, Rows]:
        """Return as many of the first rows as keep the limits, but at least one, and the rest."""
        end = self.data.rfind(b"\n", 0, max(0, max_bytes)) + 1
        return self.split(max(1, min(max_rows, self.data.count(b"\n", 0, end))))

    def after(self, number: int) -> Rows | None:
        """Return the rows with numbers above `number`."""
        if number < self.first:
            return self
        return self.split(number - self.first + 1)[1] if number < self.last else None

    def _end_of(self, count: int) -> int:
        """Return where the first `count` rows end in the data."""
        # find() steps from newline to newline faster than count() or split() pass them; from the nearer end.
        if count <= self.count // 2:
            end = 0
            for _ in range(count):
                end = self.data.index(b"\n", end) + 1
            return end
        end = len(self.data)
        for _ in range(self.count - count):
            end = self.data.rindex(b"\n", 0, end - 1) + 1
        return end

    def columns(self) -> list[list[str | None]]:
        """Return the values of each field of the layout, unescaped; None is null."""
        # What is no UTF-8 becomes U+FFFD: a row nobody can read would block all rows behind it.
        fields = self.data.decode("utf-8", "replace").replace("\n", "\t").split("\t")
        width = len(self.layout)
        return [_unescaped(fields[place : self.count * width : width]) for place in range(width)]

    def dicts(self) -> list[dict[str, str]]:
        """Return each row by key, without nulls."""
        return [
            {key: value for key, value in zip(self.layout, row, strict=True) if value is not None}
            for row in zip(*self.columns(), strict=True)
        ]

    def select(self, layout: Layout) -> Rows:
        """Return the rows with other columns, or in another order; a key they lack is null."""
        if layout == self.layout:
            return self
        places = {key: place for place, key in enumerate(self.layout)}
        wanted = [places.get(key) for key in layout]
        # In pieces: each field is an object for a moment, and of wide rows these are many times what is selected.
        data = b"".join([_selected(piece, len(self.layout), wanted) for piece in self._pieces()])
        return Rows(layout, self.first, self.count, data)

    def _pieces(self) -> Iterator[bytes]:
        """Yield the data in pieces of whole rows."""
        start = 0
        for done in range(0, self.count, _PIECE_ROWS):
            end = start
            for _ in range(min(_PIECE_ROWS, self.count - done)):
                end = self.data.index(b"\n", end) + 1
            yield self.data[start:end]
            start = end


def joined(parts: Sequence[Rows]) -> Rows:
    """Return neighbours of one layout as one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    for left, right in pairwise(parts):
        if not follows(left, right):
            raise ValueError(f"rows {left.first}..{left.last} and {right.first}..{right.last} are no neighbours")
    count = parts[-1].last - first.first + 1
    return Rows(first.layout, first.first, count, b"".join([part.data for part in parts]))


def follows(left: Rows, right: Rows) -> bool:
    """Tell whether `right` begins where `left` ends, with the same layout."""
    return left.first + left.count == right.first and left.layout == right.layout


def escape(value: str | None) -> str:
    """Return a value as a field."""
    return _NULL if value is None else value.translate(_ESCAPES)


def unescape(field: str) -> str | None:
    """Return the value of a field."""
    if "\\" not in field:
        return field
    return None if field == _NULL else _ESCAPED.sub(lambda found: _CHARS.get(found[1], found[1]), field)


def _selected(data: bytes, width: int, wanted: Sequence[int | None]) -> bytes:
    """Return whole rows with the fields at the places `wanted`, nulls for None."""
    fields = data.replace(b"\n", b"\t").split(b"\t")
    count = len(fields) // width
    nulls = [_NULL.encode()] * count
    columns = [nulls if place is None else fields[place : count * width : width] for place in wanted]
    lines = [b"\t".join(row) for row in zip(*columns, strict=True)] if columns else [b""] * count
    return b"\n".join([*lines, b""])


def _unescaped(column: list[str]) -> list[str | None]:
    """Unescape a column; one without any backslash is returned as it is."""
    # Most columns of a wide table are null in all rows of a batch, or in none.
    nulls = column.count(_NULL)
    if nulls == len(column):
        return [None] * nulls
    together = "".join(column)
    if "\\" not in together:
        return column  # type: ignore[return-value]  # nobody else has this list
    if nulls == together.count("\\"):
        return [None if field == _NULL else field for field in column]
    return [unescape(field) for field in column]
