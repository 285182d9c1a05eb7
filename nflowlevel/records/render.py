# SPDX-License-Identifier: GPL-2.0-or-later
"""Render records by a plan: lines of JSON, rows for a database, one column as text. The loops are in _cdefs/render.c.

A plan is made once per stack; only columns that Python added change from batch to batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.binding.interfaces import NameTable
from nflowlevel.records.keys import Key

_RECORD_FIELDS: dict[str, CData] = dict(ffi.typeof("struct nfl_record").fields)
_OFFSETS: dict[str, int] = {name: field.offset for name, field in _RECORD_FIELDS.items()}

_KINDS: dict[str, int] = {
    "u8": lib.NFL_U8,
    "u16": lib.NFL_U16,
    "u32": lib.NFL_U32,
    "text": lib.NFL_BYTES_TEXT,
    "addr": lib.NFL_ADDR,
    "addr4": lib.NFL_ADDR4,
    "mac": lib.NFL_MAC,
    "macbytes": lib.NFL_MAC_BYTES,
    "ifname": lib.NFL_IFNAME,
    "addrbin": lib.NFL_ADDR_BIN,
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

_NO_FRACTION = 0xFFFFFFFF

_uninitialised = ffi.new_allocator(should_clear_after_alloc=False)


def offset_of(field: str) -> int:
    """Return where a field lies in `struct nfl_record`, in bytes."""
    return _OFFSETS[field]


def field_size(field: str) -> int:
    """Return how many bytes of `struct nfl_record` a field takes."""
    return int(ffi.sizeof(_RECORD_FIELDS[field].type))


def valid_bit(key: Key) -> int:
    """Return the number of the bit in nfl_record.valid that says `key` holds."""
    return int(getattr(lib, f"NFL_VALID_{key.valid}"))


class AddedColumn(Protocol):
    """A column that Python computed: a value or None for each record of the batch, by record number."""

    @property
    def values(self) -> Sequence[int | float | str | None]:
        """The values."""


@dataclass(slots=True)
class Records:
    """What is rendered: `count` rows of `records`, those named in `rows` (uint32_t *) or the first ones.

    Where `records` is NULL all columns are added ones, and `time` is the time of all rows: seconds, and microseconds or
    None.
    """

    records: CData
    data: CData
    rows: CData
    count: int
    names: NameTable
    time: tuple[int, int | None] = (0, None)


def _column(key: Key, kind: int, label_length: int = 0) -> dict[str, object]:
    column: dict[str, object] = {
        "label": ffi.NULL,
        "label_length": label_length,
        "kind": kind,
        "valid": valid_bit(key),
        "field": _OFFSETS[key.field],
    }
    if key.kind in ("text", "mac", "macbytes"):
        column["field2"] = _OFFSETS[key.field + "_len"]
    elif key.kind == "bytes":
        length = "raw_pktlen" if key.field == "raw_pkt" else key.field + "_len"
        column["field2"], column["width"] = _OFFSETS[length], field_size(length)
    elif key.kind == "fixed":
        # The hardware address of a netlink attribute has a length of its own; those of ARP are always whole.
        column["field2"] = _OFFSETS["raw_mac_addrlen"] if key.field == "raw_mac_saddr" else 0
        column["width"] = field_size(key.field)
    return column


class JSONPlan:
    """Lines of JSON with these members, in this order.

    `members` are (name, key); a key given as a text is a column that Python adds to the batch under that name. Members
    named in `actions` say "blocked" for 0 and "allowed" for anything else. `head` and `tail` are the constant text
    before and after the timestamp.
    """

    def __init__(
        self,
        members: Sequence[tuple[str, Key | str]],
        *,
        head: str,
        tail: str,
        timestamp: bool,
        actions: frozenset[str],
    ) -> None:
        self._keep: list[object] = []
        self._added: list[tuple[int, str]] = []
        columns = []
        fixed = _TIMESTAMP_BYTES + _LINE_END_BYTES + len(head.encode()) + len(tail.encode())
        for number, (name, key) in enumerate(members):
            label = f", {json.dumps(name, ensure_ascii=False)}: ".encode()
            if isinstance(key, str) or key.kind == "column":
                column: dict[str, object] = {"label_length": len(label), "kind": lib.NFL_ROW_INT}
                self._added.append((number, key if isinstance(key, str) else key.name))
            else:
                column = _column(key, _KINDS[key.kind], len(label))
                if name in actions:
                    column["kind"] = lib.NFL_ACTION
            column["label"] = self._text(label.ljust(lib.NFL_LABEL_BYTES))
            columns.append(column)
            fixed += len(label) + _VALUE_BYTES
        self._columns = ffi.new("struct nfl_column[]", columns)
        self._plan = ffi.new(
            "struct nfl_json *",
            {
                "head": self._text(head.encode()),
                "head_length": len(head.encode()),
                "timestamp": timestamp,
                "tail": self._text(tail.encode()),
                "tail_length": len(tail.encode()),
                "columns": self._columns,
                "count": len(columns),
                "fixed_size": fixed,
                "second": -1,
            },
        )
        self._done = ffi.new("uint32_t *")
        self._grow(_FIRST_OUT_BYTES)

    def _text(self, text: bytes) -> CData:
        made = ffi.new("char[]", text)
        self._keep.append(made)
        return made

    def _grow(self, size: int) -> None:
        self._size = size
        self._out: CData = _uninitialised("char[]", size)
        self._view = memoryview(ffi.buffer(self._out))

    def render(self, batch: Records, added: Mapping[str, AddedColumn]) -> Iterator[tuple[memoryview, int]]:
        """Yield (lines, number of lines); usually once. A memoryview is good until the next is asked for.

        KeyError: a column that Python adds is missing from `added`.
        """
        plan = self._plan
        plan.ifnames, plan.ifname_count = batch.names.array, len(batch.names)
        second, usec = batch.time
        plan.batch_second, plan.batch_usec = second, _NO_FRACTION if usec is None else usec
        kept = [_fill(self._columns[number], added[name]) for number, name in self._added]
        first = 0
        while first < batch.count:
            size = lib.nfl_json_render(
                plan, batch.records, batch.data, batch.rows, first, batch.count, self._out, self._size, self._done
            )
            done = self._done[0]
            if (done < batch.count and self._size < _MOST_OUT_BYTES) or not size:
                # Most batches are alike: a buffer that holds this one whole will hold the next ones too.
                self._grow(self._size * 2)
                continue
            yield self._view[:size], done - first
            first = done
        del kept


#: The name under which a row's time of reception is asked for: oob.time.sec and oob.time.usec together.
TIME = "oob.time"
#: What stands behind the name of a key whose address is wanted as a number.
AS_NUMBER = ":number"


class CopyPlan:
    """Rows in the text format of PostgreSQL's COPY, with these fields in this order: at least one.

    `members` are (name, key). A key given as a text is a column that Python adds to the batch under that name; a record
    without it has no value. The name `oob.time` stands for the time, whatever the key; a name that ends in `:number`
    asks for an IPv4 address as a number in host order.
    """

    def __init__(self, members: Sequence[tuple[str, Key | str]]) -> None:
        self._added: list[tuple[int, str]] = []
        columns = []
        for number, (name, key) in enumerate(members):
            if name == TIME:
                columns.append({"kind": lib.NFL_TIME})
            elif isinstance(key, str) or key.kind == "column":
                columns.append({"kind": lib.NFL_ROW_INT})
                self._added.append((number, key if isinstance(key, str) else key.name))
            else:
                columns.append(_column(key, _copy_kind(name, key)))
        self._columns = ffi.new("struct nfl_column[]", columns)
        fixed = len(columns) * (_VALUE_BYTES + 1)
        self._plan = ffi.new(
            "struct nfl_copy *",
            {"columns": self._columns, "count": len(columns), "fixed_size": fixed, "second": -1},
        )
        self._done = ffi.new("uint32_t *")
        self._size = max(_FIRST_OUT_BYTES, 2 * fixed)
        self._out: CData = _uninitialised("char[]", self._size)

    def render(self, batch: Records, added: Mapping[str, AddedColumn]) -> Iterator[tuple[bytes, int]]:
        """Yield (rows, number of rows); usually once. The bytes are the caller's to keep."""
        plan = self._plan
        plan.ifnames, plan.ifname_count = batch.names.array, len(batch.names)
        second, usec = batch.time
        plan.batch_second, plan.batch_usec = second, usec or 0
        kept = [_fill(self._columns[number], added.get(name, _Nothing(batch))) for number, name in self._added]
        first = 0
        while first < batch.count:
            size = lib.nfl_copy_render(
                plan, batch.records, batch.data, batch.rows, first, batch.count, self._out, self._size, self._done
            )
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


class _Nothing:
    """The column of a batch that lacks it."""

    def __init__(self, batch: Records) -> None:
        rows = batch.count if batch.rows == ffi.NULL else 1 + max(batch.rows[i] for i in range(batch.count))
        self.values: Sequence[None] = [None] * rows


def _fill(column: CData, added: AddedColumn) -> object:
    """Point a plan's column at what Python added; the result has to live until the rendering is over."""
    values = added.values
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
    """One key as text: addresses, hardware addresses, names, prefixes. Never changed: threads may share it."""

    def __init__(self, key: Key) -> None:
        self._column = ffi.new("struct nfl_column *", _column(key, _KINDS[key.kind]))

    def render(self, batch: Records) -> list[str]:
        """Return a text for each row; empty where the key does not hold."""
        names, done = batch.names, ffi.new("uint32_t *")
        first, size = 0, max(_LEAST_TEXT_BYTES, _TEXT_BYTES_PER_ROW * batch.count)
        out, texts = _uninitialised("char[]", size), list[str]()
        while first < batch.count:
            used = lib.nfl_text_render(
                self._column,
                names.array,
                len(names),
                batch.records,
                batch.data,
                batch.rows,
                first,
                batch.count,
                out,
                size,
                done,
            )
            if used:
                texts += bytes(ffi.buffer(out, used - 1)).decode("utf-8", "replace").split("\0")
                first = done[0]
            else:
                size *= 2
                out = _uninitialised("char[]", size)
        return texts
