# SPDX-License-Identifier: GPL-2.0-or-later
"""Batches as Arrow tables. The type of a column is what its key declares, never what one batch happens to hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from nflowlevel.errors import NotSupported
from nflowlevel.records.fields import FORMATS, TEXT_KINDS, numpy
from nflowlevel.records.keys import Key
from nflowlevel.records.types import RecordType

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

#: ulogd2's type of a key → the name of Arrow's. A flag is a number, as in JSON; an address is text.
_TYPES = {"uint8": "uint8", "bool": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
          "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64", "double": "float64",
          "ipaddr": "string", "string": "string", "rawstr": "string", "raw": "binary"}  # fmt: skip

#: A column of texts has no more in one piece.
_MOST_TEXT_BYTES = 2**31 - 1


class Added(Protocol):
    """A column that was added."""

    key: Key | None


class Columns(Protocol):
    """What a table is made of: a batch."""

    type: RecordType

    def values(self, key: str) -> list[Any]:
        """Return one key of each row."""

    def column(self, key: str) -> np.ndarray[Any, Any]:
        """Return one key as NumPy array."""

    def valid(self, key: str) -> np.ndarray[Any, Any]:
        """Return for each row whether the key holds."""

    def always(self, key: str) -> bool:
        """Whether the key holds for each row; False where that is not known."""

    def joined_texts(self, key: str) -> bytes:
        """Return one text key of each row in one piece, with a NUL behind each."""


def arrow_table(batch: Columns, names: Sequence[str], added: Mapping[str, Added]) -> pa.Table:
    """Return a table with a column for each name, in this order.

    TypeError where an added column that stands in the place of a key has values that the key's type cannot have.
    """
    pa = _arrow()
    return pa.Table.from_arrays([_column(pa, batch, name, added) for name in names], list(names))


def _column(pa: Any, batch: Columns, name: str, added: Mapping[str, Added]) -> pa.Array:
    names = batch.type.names
    found = names.find(name, added)
    key = added[found].key if found in added else names.keys[names.keys_of(found)[0]]
    key = key or names.keys.get(found)
    if key is None:
        # It was added under a name of its own, without a type.
        return pa.array(batch.values(found))
    if key is batch.type.by_name.get(found) and found not in added:
        if key.kind in FORMATS:
            return pa.array(batch.column(found), mask=None if batch.always(found) else ~batch.valid(found))
        if key.type == "ipaddr" and key.kind in TEXT_KINDS:
            texts = batch.joined_texts(found)
            if len(texts) <= _MOST_TEXT_BYTES:
                return _addresses(pa, texts, None if batch.always(found) else batch.valid(found))
    values = batch.values(found)
    type_ = "uint32" if key.kind == "addrnumber" else _TYPES[key.type]
    if key.type == "raw":
        values = [None if value is None else bytes(value) for value in values]
    elif type_ == "string":
        # Names of the kernel's are bytes; those that are no UTF-8 are surrogates in Python, which Arrow refuses.
        values = [
            v.encode("utf-8", "replace").decode() if isinstance(v, str) and not v.isascii() else v for v in values
        ]
    try:
        return pa.array(values, getattr(pa, type_)())
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise TypeError(f"{name}: the column that was added does not fit the key's type {key.type}: {error}") from None


def _addresses(pa: Any, joined: bytes, valid: np.ndarray[Any, Any] | None) -> pa.Array:
    """Return texts that have a NUL behind each as a column, without making a text of Python's of each."""
    np = numpy()
    texts = np.frombuffer(joined, np.uint8)
    within = texts != 0
    ends = np.flatnonzero(~within)
    offsets = np.zeros(len(ends) + 1, np.int32)
    offsets[1:] = ends - np.arange(len(ends))
    present = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(texts[within]), present)


def _arrow() -> Any:
    """pyarrow, imported when the first table is asked for."""
    try:
        import pyarrow
    except ImportError:
        needed = "pip install 'nflowlevel[columns]'"
        raise NotSupported("a batch as Arrow table", found="no pyarrow", needed=needed) from None
    return pyarrow
