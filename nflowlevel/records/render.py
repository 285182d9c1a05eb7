# SPDX-License-Identifier: GPL-2.0-or-later
"""Render records by a plan: lines of JSON, rows for a database, one column as text. The loops are in _cdefs/render.c.

A plan is made once per stack. What C follows is made of it when the first batch of a record type comes; from then on
only columns that Python added change from batch to batch.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.binding.interfaces import NameTable
from nflowlevel.records.keys import AS_NUMBER, TIME, Key
from nflowlevel.records.types import RecordType

_KINDS: dict[str, int] = {
    "u8": lib.NFL_U8,
    "u16": lib.NFL_U16,
    "u32": lib.NFL_U32,
    "u64": lib.NFL_U64,
    "text": lib.NFL_BYTES_TEXT,
    "chars": lib.NFL_CHARS,
    "addr": lib.NFL_ADDR,
    "addr4": lib.NFL_ADDR4,
    "mac": lib.NFL_MAC,
    "macbytes": lib.NFL_MAC_BYTES,
    "ifname": lib.NFL_IFNAME,
    "addrbin": lib.NFL_ADDR_BIN,
    "addrnumber": lib.NFL_ADDR_NUMBER,
}

#: As the same and as a number: a column may ask for either.
_ADDRESS_KINDS = ("addr", "addr4")

#: No number, address, hardware address or interface name is longer as JSON; a label may be copied as a whole.
_VALUE_BYTES = 6 * 32 + 2 + lib.NFL_LABEL_BYTES
_TIMESTAMP_BYTES = 40
_LINE_END_BYTES = 2
#: A first guess at the room for a column's texts; one that does not hold them is filled again.
_TEXT_BYTES_PER_ROW = 48
_LEAST_TEXT_BYTES = 512
#: A buffer for lines starts with the first size and grows up to the second to hold a batch in one piece; only a line
#: longer than that makes a larger one.
_FIRST_OUT_BYTES = 1 << 18
_MOST_OUT_BYTES = 1 << 22

_BATCH = ffi.typeof("struct nfl_batch *")
_uninitialised = ffi.new_allocator(should_clear_after_alloc=False)


class AddedColumn(Protocol):
    """A column that Python computed: a value or None for each record of the batch, by record number."""

    @property
    def values(self) -> Sequence[int | float | str | None]:
        """The values."""


@dataclass(slots=True)
class Records:
    """What is rendered: `count` rows of `records`, those named in `rows` (uint32_t *) or the first ones.

    Where `type` is None there are no records: all columns are added ones. `time` is the time of all rows that have none
    of their own: seconds, and microseconds or None.
    """

    type: RecordType | None
    records: CData
    data: CData
    rows: CData
    count: int
    names: NameTable
    time: tuple[int, int | None] = (0, None)
    _as_c: CData | None = None

    def as_c(self) -> CData:
        """Return it as `struct nfl_batch *`; good while this and the batch are kept."""
        if self._as_c is not None:
            return self._as_c
        stride = self.type.stride if self.type else 0
        second, usec = self.time
        usec = lib.NFL_NO_FRACTION if usec is None else usec
        names = self.names
        values = (self.records, stride, self.count, self.rows, self.data, names.array, len(names), usec, second)
        self._as_c = ffi.new(_BATCH, values)
        return self._as_c


def _column(key: Key, type_: RecordType, kind: int) -> dict[str, object]:
    """Return a column that lies in the record."""
    return {
        "kind": kind,
        "valid": key.valid.value,
        "six": type_.six.value if type_.six else 0,
        "field": type_.offset_of(key.field),
        "field2": type_.offset_of(key.length) if key.length else 0,
        "width": type_.field_size(key.length if key.kind == "bytes" else key.field),
    }


class _Form:
    """A plan for one record type: what C follows, and the columns in it that Python fills for each batch."""

    __slots__ = ("_columns", "_filled", "_keep", "plan")

    def __init__(self, columns: CData, filled: list[tuple[int, str, bool]], plan: CData, keep: object) -> None:
        self.plan = plan
        self._columns = columns
        #: Number of the column, its name, and whether a batch without it is an error.
        self._filled = filled
        self._keep = keep

    def fill(self, added: Mapping[str, AddedColumn]) -> list[object]:
        """Point the columns at what Python added; the result has to live until the rendering is over."""
        kept = []
        for number, name, needed in self._filled:
            if needed or name in added:
                kept.append(_fill(self._columns[number], added[name]))
            else:
                self._columns[number].kind = lib.NFL_ROW_NONE
        return kept


class _Plan(ABC):
    """Members, and the forms that were made of them, by record type; None is for rows without records."""

    def __init__(self, members: Sequence[tuple[str, Key]]) -> None:
        self._members = tuple(members)
        self._forms: dict[RecordType | None, _Form] = {}
        self._done = ffi.new("uint32_t *")

    def form(self, type_: RecordType | None) -> _Form:
        """Return what C follows for records of that type."""
        try:
            return self._forms[type_]
        except KeyError:
            form = self._forms[type_] = self._make_form(type_)
            return form

    @abstractmethod
    def _make_form(self, type_: RecordType | None) -> _Form:
        """Make it."""

    def _filled(self, type_: RecordType | None, *, needed: bool) -> list[tuple[int, str, bool]]:
        """Return the columns that are in no record of that type; `needed`: those that are in no record at all must be
        in the batch."""
        return [
            (number, key.name, needed and key.kind == "column")
            for number, (name, key) in enumerate(self._members)
            if name != TIME and (type_ is None or key not in type_)
        ]


def _head(columns: CData, fixed: int, type_: RecordType | None) -> dict[str, object]:
    """Return the fields of `struct nfl_plan`."""
    plan: dict[str, object] = {"columns": columns, "count": len(columns), "fixed_size": fixed, "second": -1}
    if type_ and type_.time:
        usec = lib.NFL_CLOCK_MAYBE_USEC if type_.whole_seconds else lib.NFL_CLOCK_USEC
        plan["clock"] = usec if len(type_.time) > 1 else lib.NFL_CLOCK_NS
        plan["time"], plan["time_usec"] = type_.offset_of(type_.time[0]), type_.offset_of(type_.time[-1])
    return plan


class JSONPlan(_Plan):
    """Lines of JSON with these members, in this order.

    `members` are (name, key); a key of kind `column` is one that Python adds to the batch under the key's name. Members
    named in `actions` say "blocked" for 0 and "allowed" for anything else. `head` and `tail` are the constant text
    before and after the timestamp.
    """

    def __init__(
        self,
        members: Sequence[tuple[str, Key]],
        *,
        head: str,
        tail: str,
        timestamp: bool,
        actions: frozenset[str],
    ) -> None:
        super().__init__(members)
        self._head, self._tail, self._timestamp, self._actions = head.encode(), tail.encode(), timestamp, actions
        self._grow(_FIRST_OUT_BYTES)

    def _make_form(self, type_: RecordType | None) -> _Form:
        fixed = _TIMESTAMP_BYTES + _LINE_END_BYTES + len(self._head) + len(self._tail)
        keep = [head := ffi.new("char[]", self._head), tail := ffi.new("char[]", self._tail)]
        made = []
        for name, key in self._members:
            label = f", {json.dumps(name, ensure_ascii=False)}: ".encode()
            text = ffi.new("char[]", label.ljust(lib.NFL_LABEL_BYTES))
            keep.append(text)
            column: dict[str, object] = {"kind": lib.NFL_ROW_NONE}
            if type_ and key in type_:
                column = _column(key, type_, lib.NFL_ACTION if name in self._actions else _KINDS[key.kind])
            made.append({"label": text, "label_length": len(label), **column})
            fixed += len(label) + _VALUE_BYTES
        columns = ffi.new("struct nfl_column[]", made)
        plan = {
            "plan": _head(columns, fixed, type_),
            "head": head,
            "head_length": len(self._head),
            "timestamp": self._timestamp,
            "tail": tail,
            "tail_length": len(self._tail),
        }
        return _Form(columns, self._filled(type_, needed=True), ffi.new("struct nfl_json *", plan), keep)

    def _grow(self, size: int) -> None:
        self._size = size
        self._out: CData = _uninitialised("char[]", size)
        self._view = memoryview(ffi.buffer(self._out))

    def render(self, batch: Records, added: Mapping[str, AddedColumn]) -> Iterator[tuple[memoryview, int]]:
        """Yield (lines, number of lines); usually once. A memoryview is good until the next is asked for.

        A key of another record type is left out. KeyError: a column that Python adds is missing from `added`.
        """
        form, rows = self.form(batch.type), batch.as_c()
        kept, first = form.fill(added), 0
        while first < batch.count:
            size = lib.nfl_json_render(form.plan, rows, first, self._out, self._size, self._done)
            done = self._done[0]
            if (done < batch.count and self._size < _MOST_OUT_BYTES) or not size:
                # Most batches are alike: a buffer that holds this one whole will hold the next ones too.
                self._grow(self._size * 2)
                continue
            yield self._view[:size], done - first
            first = done
        del kept


class CopyPlan(_Plan):
    """Rows in the text format of PostgreSQL's COPY, with these fields in this order: at least one.

    `members` are (name, key). A key of kind `column` is one that Python adds to the batch under the key's name. A
    record without it has no value there, as it has none of another record type's keys. The name `oob.time` stands for
    the time, whatever the key; a name that ends in `:number` asks for an IPv4 address as a number in host order.
    """

    def __init__(self, members: Sequence[tuple[str, Key]]) -> None:
        super().__init__(members)
        self._fixed = len(self._members) * (_VALUE_BYTES + 1)
        self._size = max(_FIRST_OUT_BYTES, 2 * self._fixed)
        self._out: CData = _uninitialised("char[]", self._size)

    def _make_form(self, type_: RecordType | None) -> _Form:
        made: list[dict[str, object]] = []
        for name, key in self._members:
            if name == TIME:
                made.append({"kind": lib.NFL_TIME})
            elif type_ and key in type_:
                made.append(_column(key, type_, _copy_kind(name, key)))
            else:
                made.append({"kind": lib.NFL_ROW_NONE})
        columns = ffi.new("struct nfl_column[]", made)
        plan = ffi.new("struct nfl_plan *", _head(columns, self._fixed, type_))
        return _Form(columns, self._filled(type_, needed=False), plan, None)

    def render(self, batch: Records, added: Mapping[str, AddedColumn]) -> Iterator[tuple[bytes, int]]:
        """Yield (rows, number of rows); usually once. The bytes are the caller's to keep."""
        form, rows = self.form(batch.type), batch.as_c()
        kept, first = form.fill(added), 0
        while first < batch.count:
            size = lib.nfl_copy_render(form.plan, rows, first, self._out, self._size, self._done)
            done = self._done[0]
            if (done < batch.count and self._size < _MOST_OUT_BYTES) or not size:
                self._size *= 2
                self._out = _uninitialised("char[]", self._size)
                continue
            yield bytes(ffi.buffer(self._out, size)), done - first
            first = done
        del kept


def _copy_kind(name: str, key: Key) -> int:
    if key.kind in ("bytes", "fixed"):
        return int(lib.NFL_BYTES_HEX if key.kind == "bytes" else lib.NFL_FIXED_HEX)
    if name.endswith(AS_NUMBER) and key.kind in _ADDRESS_KINDS:
        return int(lib.NFL_ADDR_NUMBER)
    return _KINDS[key.kind]


def _fill(column: CData, added: AddedColumn) -> object:
    """Point a plan's column at what Python added; the result has to live until the rendering is over."""
    values = added.values
    if isinstance(values, list) and values.count(None) == len(values):  # quick, where few packets have it
        column.kind = lib.NFL_ROW_NONE
        return None
    column.present = present = ffi.new("uint8_t[]", [value is not None for value in values])
    if any(isinstance(value, str) for value in values):
        texts = [_encoded("" if value is None else str(value)) for value in values]
        starts = accumulate(map(len, texts), initial=0)
        column.kind = lib.NFL_ROW_TEXT
        column.values = spans = ffi.new("struct nfl_span[]", list(zip(starts, map(len, texts), strict=False)))
        column.blob = blob = ffi.new("char[]", b"".join(texts))
        return present, spans, blob
    numbers = [0 if value is None or isinstance(value, str) else value for value in values]
    if any(isinstance(value, float) for value in values):
        column.kind, array = lib.NFL_ROW_FLOAT, "double[]"
    elif any(value < 0 for value in numbers):
        column.kind, array = lib.NFL_ROW_INT, "int64_t[]"
    else:
        column.kind, array = lib.NFL_ROW_UINT, "uint64_t[]"
    column.values = made = ffi.new(array, numbers)
    return present, made


def _encoded(text: str) -> bytes:
    """UTF-8 of a text; surrogates are bytes that could not be decoded (PEP 383) or, if they cannot be that, U+FFFD."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-32", "surrogatepass").decode("utf-32", "replace").encode()


class TextColumn:
    """One key of a record type as text: an address, a name, a prefix. Never changed: threads may share it."""

    def __init__(self, key: Key, type_: RecordType) -> None:
        self._column = ffi.new("struct nfl_column *", _column(key, type_, _KINDS[key.kind]))
        # Names in a record are given back to the kernel as they are; what came from outside need not be text.
        self._errors = "surrogateescape" if key.kind == "chars" else "replace"

    def render(self, batch: Records) -> list[str]:
        """Return a text for each row; empty where the key does not hold."""
        rows, done = batch.as_c(), ffi.new("uint32_t *")
        first, size = 0, max(_LEAST_TEXT_BYTES, _TEXT_BYTES_PER_ROW * batch.count)
        out, texts = _uninitialised("char[]", size), list[str]()
        while first < batch.count:
            used = lib.nfl_text_render(self._column, rows, first, out, size, done)
            if used:
                texts += bytes(ffi.buffer(out, used - 1)).decode("utf-8", self._errors).split("\0")
                first = done[0]
            else:
                size *= 2
                out = _uninitialised("char[]", size)
        return texts
