# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows as text on their way to a database: PostgreSQL's COPY text format, in UTF-8.

Fields are separated by a tab, `\\N` is null, every row ends with a newline. Backslash, tab, newline and kin within a
value are written as backslash and a letter, so a newline byte always ends a row and a tab byte a field. The fields are
those of the layout; `oob.time` is seconds and microseconds together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from nflowlevel.spool.rows import Layout, Rows
from nflowlevel.spool.sink import Refused

_T = TypeVar("_T")

_NULL = "\\N"
_PIECE_ROWS = 500
_LETTERS = {"\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v"}
_ESCAPES = str.maketrans({char: "\\" + letter for char, letter in _LETTERS.items()})
_CHARS = {letter: char for char, letter in _LETTERS.items()}
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
#: What ends a COPY before its end: PostgreSQL would pass over all rows behind it, and say that it has taken them.
_END_OF_COPY = re.compile(rb"(?<!\\)(?:\\\\)*\\\.")
#: The code of a row that is refused here, before the database sees it.
_MALFORMED = "malformed"
#: The name under which a dead letter has the text of such a row.
_TEXT = "row"


def check(rows: Rows) -> None:
    """Raise Refused where a row is not what we write: a file of the spool may have been made by somebody else.

    Each row must have as many fields as the layout; otherwise it would be blamed on its neighbours, or mixed with them.
    """
    tabs = max(0, len(rows.layout) - 1)
    for line in rows.data.split(b"\n")[:-1]:
        if line.count(b"\t") != tabs:
            found, wanted = line.count(b"\t") + 1, tabs + 1
            raise Refused(
                f"the row has {found} fields, and its layout {wanted}: it was not written by nflowlevel", _MALFORMED
            )
    if b"\\." in rows.data and _END_OF_COPY.search(rows.data):
        raise Refused("the row has a mark that ends a COPY: it was not written by nflowlevel", _MALFORMED)


def converted(values: Sequence[str | None], convert: Callable[[str], _T]) -> list[_T | None]:
    """Return a column of other values; Refused where one cannot be converted: it is not what we write."""
    try:
        return [None if value is None else convert(value) for value in values]
    except (ValueError, OSError) as error:
        raise Refused(f"a value of the row is not one of its key: {error}", _MALFORMED) from None


def columns(rows: Rows) -> list[list[str | None]]:
    """Return the values of each field of the layout, unescaped; None is null."""
    # Bytes that are not UTF-8 become U+FFFD: a row that nobody can read would block all rows behind it.
    fields = rows.data.decode("utf-8", "replace").replace("\n", "\t").split("\t")
    width = len(rows.layout)
    return [_unescaped(fields[place : rows.count * width : width]) for place in range(width)]


def dicts(rows: Rows) -> list[dict[str, str]]:
    """Return each row by key, without nulls; the text of one that has not as many fields as the layout."""
    return [_dict(rows.layout, line) for line in rows.data.decode("utf-8", "replace").split("\n")[:-1]]


def select(rows: Rows, layout: Layout) -> Rows:
    """Return the rows with other columns, or in another order; a key they lack is null."""
    if layout == rows.layout:
        return rows
    places = {key: place for place, key in enumerate(rows.layout)}
    wanted = [places.get(key) for key in layout]
    # In pieces: each field is an object for a moment, and of wide rows these are many times what is selected.
    data = b"".join([_selected(piece, len(rows.layout), wanted) for piece in _pieces(rows)])
    return Rows(layout, rows.first, rows.count, data)


def escape(value: str | None) -> str:
    """Return a value as a field."""
    return _NULL if value is None else value.translate(_ESCAPES)


def unescape(field: str) -> str | None:
    """Return the value of a field."""
    if "\\" not in field:
        return field
    return None if field == _NULL else _ESCAPED.sub(lambda found: _CHARS.get(found[1], found[1]), field)


def _dict(layout: Layout, line: str) -> dict[str, str]:
    fields = line.split("\t")
    if len(fields) != len(layout):
        return {_TEXT: line}
    return {key: value for key, field in zip(layout, fields, strict=True) if (value := unescape(field)) is not None}


def _pieces(rows: Rows) -> Iterator[bytes]:
    """Yield the data in pieces of whole rows."""
    start = 0
    for done in range(0, rows.count, _PIECE_ROWS):
        end = start
        for _ in range(min(_PIECE_ROWS, rows.count - done)):
            end = rows.data.index(b"\n", end) + 1
        yield rows.data[start:end]
        start = end


def _selected(data: bytes, width: int, wanted: Sequence[int | None]) -> bytes:
    """Return whole rows with the fields at the places `wanted`, nulls for None."""
    fields = data.replace(b"\n", b"\t").split(b"\t")
    count = len(fields) // width - (width == 1)  # what follows the last newline counts as a field here
    nulls = [_NULL.encode()] * count
    taken = [nulls if place is None else fields[place : count * width : width] for place in wanted]
    lines = [b"\t".join(row) for row in zip(*taken, strict=True)] if taken else [b""] * count
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
