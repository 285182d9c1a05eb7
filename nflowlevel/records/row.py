# SPDX-License-Identifier: GPL-2.0-or-later
"""Row: one record of a batch, whatever kind it is, and `Kept`: one that was copied out of its batch.

A row is its batch and a number: it costs little, and holds the receive buffer. A copy (`copy.copy`, `copy.deepcopy`,
`pickle`) holds the values themselves, so it can be sent to another process or kept forever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from nflowlevel.binding._lib import ffi
from nflowlevel.records.types import RecordType
from nflowlevel.stats import html_table


class Columns(Protocol):
    """What a row looks into: the batch that it is a row of."""

    _cache: dict[str, list[Any]]
    type: RecordType

    @property
    def added(self) -> Mapping[str, Any]:
        """What it has beside the keys of its type, by name."""

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
        kind, type_, values = self.__reduce__()[1]
        return _restored(kind, type_, values)

    def __deepcopy__(self, memo: dict[int, Any]) -> Row:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        # What was added is known by name, also where it has no value.
        values = dict.fromkeys(self._batch.added) | self.to_dict()
        return _restored, (type(self), self._batch.type, values)

    def _repr_html_(self) -> str:
        """Return the keys that hold as a table, for notebooks."""
        rows = [(name, shown(value)) for name, value in self.to_dict().items()]
        return html_table(("key", "value"), rows, caption=repr(self))


def _restored(kind: type[Row], type_: RecordType, values: Mapping[str, Any]) -> Row:
    return kind(Kept(type_, values), 0)


class Kept:
    """The values of one record, without a receive buffer: what a row that was copied out of its batch looks into.

    Its `type` is that of the batch: a name means the same key as there.
    """

    __slots__ = ("_cache", "_values", "type")

    def __init__(self, type_: RecordType, values: Mapping[str, Any]) -> None:
        self.type = type_
        self._values = dict(values)
        self._cache: dict[str, list[Any]] = {}

    def values(self, key: str) -> list[Any]:
        """Return the value of a key, in a list; KeyError as Batch.values."""
        try:
            return self._cache[key]
        except KeyError:
            names = self._keys_of(key)
            value = next((self._value(name) for name in names if self._values.get(name) is not None), None)
            made = self._cache[key] = [value]
            return made

    def _keys_of(self, name: str) -> tuple[str, ...]:
        """Return the keys that a name may stand for; KeyError as Batch.values."""
        found = self.type.names.find(name, self._values)
        return (found,) if found in self._values else self.type.names.keys_of(found)

    def _value(self, name: str) -> Any:
        """Return a value as a batch gives it: pieces of the packet are memoryviews."""
        value, key = self._values[name], self.type.names.keys.get(name)
        return memoryview(value) if key and key.kind == "bytes" and isinstance(value, bytes) else value

    @property
    def added(self) -> Mapping[str, Any]:
        """The values."""
        return self._values

    def select(self, rows: Sequence[int]) -> Kept:
        """Return the same: there is one row."""
        return self

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the keys that hold."""
        return [{name: value for name, value in self._values.items() if value is not None}]


#: Records that are nothing but the columns of their batch.
COLUMNS = RecordType("record", struct=ffi.typeof("struct nfl_any"), keys=(), row=lambda: Row)


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
