# SPDX-License-Identifier: GPL-2.0-or-later
"""Row: one record of a batch, whatever kind it is, and `Kept`: one that was copied out of its batch.

A row is its batch and a number: it costs little, and holds the receive buffer. A copy (`copy.copy`, `copy.deepcopy`,
`pickle`) holds the values themselves, so it can be sent to another process or kept forever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from nflowlevel.records.terms import NAMES
from nflowlevel.stats import html_table


class Columns(Protocol):
    """What a row looks into: the batch that it is a row of."""

    _cache: dict[str, list[Any]]

    def values(self, key: str) -> list[Any]:
        """Return one key of each row."""

    def select(self, rows: Sequence[int]) -> Columns:
        """Return some of the rows."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the keys that hold, of each row."""


class Row(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One record of a batch."""

    _batch: Columns
    _row: int

    def get(self, key: str) -> Any:
        """Return the value of a key, by any of its names; None if the record lacks it, KeyError for an unknown name."""
        return self._batch.values(key)[self._row]

    def to_dict(self) -> dict[str, Any]:
        """Return all keys that this record has, by name; parts of the packet are bytes."""
        return self._batch.select([self._row]).to_dicts()[0]

    def __copy__(self) -> Row:
        return type(self)(Kept(self.to_dict()), 0)

    def __deepcopy__(self, memo: dict[int, Any]) -> Row:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.to_dict())

    def _repr_html_(self) -> str:
        """Return the keys that hold as a table, for notebooks."""
        rows = [(name, shown(value)) for name, value in self.to_dict().items()]
        return html_table(("key", "value"), rows, caption=repr(self))


def _restored(kind: type[Row], values: Mapping[str, Any]) -> Row:
    return kind(Kept(values), 0)


class Kept:
    """The values of one record, without a receive buffer: what a row that was copied out of its batch looks into."""

    __slots__ = ("_cache", "_values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        self._cache: dict[str, list[Any]] = {}

    def values(self, key: str) -> list[Any]:
        """Return the value of a key, in a list; KeyError as Batch.values."""
        try:
            return self._cache[key]
        except KeyError:
            found = NAMES.find(key, self._values)
            names = NAMES.joined.get(found, (found,)) if found not in self._values else (found,)
            value = next((self._value(name) for name in names if name in self._values), None)
            made = self._cache[key] = [value]
            return made

    def _value(self, name: str) -> Any:
        """Return a value as a batch gives it: pieces of the packet are memoryviews."""
        value, key = self._values[name], NAMES.keys.get(name)
        return memoryview(value) if key and key.kind == "bytes" and isinstance(value, bytes) else value

    def select(self, rows: Sequence[int]) -> Kept:
        """Return the same: there is one row."""
        return self

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the keys that hold."""
        return [dict(self._values)]


def shown(value: object) -> str:
    """Return a value for people: bytes in hex digits, and a text without what a terminal or a page would act on."""
    if value is None:
        return ""
    if isinstance(value, bytes | memoryview):
        hexed = bytes(value[:_SHOWN_BYTES]).hex(" ")
        return hexed + (f" … ({len(value)} bytes)" if len(value) > _SHOWN_BYTES else "")
    text = str(value)
    return text if text.isprintable() else repr(text)[1:-1]


_SHOWN_BYTES = 32
