# SPDX-License-Identifier: GPL-2.0-or-later
"""Scanner: plain lines of JSON become columns, in C, which DuckDB reads by Arrow's C stream interface.

Lines as JSON outputs write them are plain: flat, whole numbers, ASCII without escapes, with the record's time. All
others are handed back as they are, for DuckDB's own reader of JSON, which takes several times as long. So what is a
record, and what is damaged, is decided in one place.

The columns stay here until they are cleared. To have DuckDB keep them, in a table, takes as long as to write a file.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any, Final

from nflowlevel.archive.schema import ACTION, Column, Relation
from nflowlevel.binding._lib import CData, ffi, lib

#: Rows of a batch.
ROWS = 65_536

_KINDS = {
    "UTINYINT": (lib.NFL_SCAN_U8, b"C", 1),
    "USMALLINT": (lib.NFL_SCAN_U16, b"S", 2),
    "UINTEGER": (lib.NFL_SCAN_U32, b"I", 4),
    "UBIGINT": (lib.NFL_SCAN_U64, b"L", 8),
    "VARCHAR": (lib.NFL_SCAN_TEXT, b"vu", 16),
}
_TYPES = {
    lib.NFL_SCAN_U8: "uint8_t *",
    lib.NFL_SCAN_U16: "uint16_t *",
    lib.NFL_SCAN_U32: "uint32_t *",
    lib.NFL_SCAN_U64: "uint64_t *",
}
#: A text of so many bytes lies in its view.
_SHORT = 12
_NULLABLE = 2
_uninitialised = ffi.new_allocator(should_clear_after_alloc=False)
_LEAST_TABLE = 64

_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.restype = ctypes.py_object
_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


class _Batch:
    """Memory for the columns of up to `ROWS` rows, and for their longer texts. What has no value is not looked at."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        kinds = [_KINDS[column.type] for column in columns]
        self._keep: list[Any] = []
        self._bits = [self._new("uint8_t[]", ROWS // 8) for _ in columns]
        self.values: Final = [_uninitialised("uint64_t[]", ROWS * width // 8) for _, _, width in kinds]
        found = [(bits, ffi.cast("uint8_t *", values)) for bits, values in zip(self._bits, self.values, strict=True)]
        self.columns: Final = self._new("struct nfl_scan_column[]", found)
        self.sec: Final = _uninitialised("int64_t[]", ROWS)
        self.us: Final = _uninitialised("int64_t[]", ROWS)
        #: The texts, and as Arrow wants it, how long they are together.
        self.texts: CData = ffi.NULL
        self._size = self._new("int64_t[]", 1)
        self._arrays = self._new("struct ArrowArray[]", len(columns) + 2)
        self._texts_of: list[CData] = []
        for array, values in zip(self._arrays[0:2], (self.sec, self.us), strict=True):
            self._describe(array, [ffi.NULL, values])
        for number, (bits, values) in enumerate(zip(self._bits, self.values, strict=True)):
            array = self._arrays[number + 2]
            array.null_count = -1
            if kinds[number][0] == lib.NFL_SCAN_TEXT:
                self._describe(array, [bits, values, ffi.NULL, self._size])
                self._texts_of.append(array.buffers)
            else:
                self._describe(array, [bits, values])
        self.array: Final = self._new("struct ArrowArray *")
        self.array.n_children = len(columns) + 2
        self.array.children = self._new("struct ArrowArray *[]", [self._arrays + n for n in range(len(columns) + 2)])
        self._describe(self.array, [ffi.NULL])
        self.rows = 0

    def _new(self, type_: str, value: Any = None) -> CData:
        made = ffi.new(type_, value)
        self._keep.append(made)
        return made

    def _describe(self, array: CData, buffers: list[CData]) -> None:
        array.buffers, array.n_buffers = self._new("const void *[]", buffers), len(buffers)

    def clear(self, room: int) -> None:
        """Forget the rows; have room for so many bytes of texts."""
        if self._size[0] < room:
            # Not touched before it is used: what is not used costs nothing.
            self.texts, self._size[0] = _uninitialised("char[]", room), room
            for buffers in self._texts_of:
                buffers[2] = self.texts
        for bits in self._bits:
            ffi.memmove(bits, _NO_BITS, ROWS // 8)

    def first(self, number: int, kind: int) -> int | str:
        """Return the value of a column in the first row."""
        if kind != lib.NFL_SCAN_TEXT:
            return int(ffi.cast(_TYPES[kind], self.values[number])[0])
        length, _, _, at = ffi.cast("uint32_t *", self.values[number])[0:4]
        text = (
            ffi.buffer(self.texts + at, length)
            if length > _SHORT
            else ffi.buffer(self.columns[number].values + 4, length)
        )
        return bytes(text).decode("ascii")

    def fill(self, rows: int) -> None:
        """Say how many rows it has."""
        self.rows = self.array.length = rows
        for array in self._arrays:
            array.length = rows


class Scanner:
    """Reads lines into columns of `relation`, whose records have their time in the members `clock`.

    A line with a member of `others` is another relation's, and handed back. DuckDB can read the rows of all lines that
    were scanned from this object, one query at a time, until `clear`.
    """

    def __init__(self, relation: Relation, others: Iterable[str]) -> None:
        self._keep: list[Any] = []
        #: The columns that are read. What JSON has as another type than these is handed back line by line.
        self.columns: Final = tuple(column for column in relation.columns[2:] if column.type in _KINDS)
        members: dict[str, tuple[int, int]] = dict.fromkeys(relation.json_types, (lib.NFL_SCAN_NONE, 0))
        for number, column in enumerate(self.columns):
            members[column.members[0]] = (_KINDS[column.type][0], number)
            if ACTION in column.members:
                members[ACTION] = (lib.NFL_SCAN_ACTION, number)
        odd = (column.members[0] for column in relation.columns[2:] if column.type not in _KINDS)
        members |= dict.fromkeys((*odd, *others), (lib.NFL_SCAN_ODD, 0))
        second, fraction = relation.clock
        members |= {second: (lib.NFL_SCAN_SEC, 0), fraction: (lib.NFL_SCAN_USEC, 0)}
        self._odd = self._new("struct nfl_scan_line[]", ROWS)
        self._scan = self._plan(members)
        self._table = self._arrow()
        self._batches: list[_Batch] = []
        self._spare: list[_Batch] = []
        #: By the column's name: the value that all rows have; None: they have several, or some have none.
        self._found: dict[str, int | str | None] = {}
        #: How many rows there are.
        self.rows = 0
        #: The memory that they take, nearly.
        self.held_bytes = 0

    def _new(self, type_: str, value: Any = None) -> CData:
        made = ffi.new(type_, value)
        self._keep.append(made)
        return made

    def _plan(self, members: dict[str, tuple[int, int]]) -> CData:
        """Return the struct that C follows."""
        size = _LEAST_TABLE
        while size < 2 * len(members):
            size *= 2
        table = self._new("uint32_t[]", [0xFFFFFFFF] * size)
        made = self._new("struct nfl_scan_member[]", len(members) + 1)
        for number, (name, (kind, column)) in enumerate(members.items()):
            text = name.encode()
            entry = made[number]
            entry.name, entry.length = self._new("char[]", text), len(text)
            entry.kind, entry.column, entry.next = kind, column, number + 1
            at = lib.nfl_scan_hash(entry.name, len(text)) & (size - 1)
            while table[at] != 0xFFFFFFFF:
                at = (at + 1) & (size - 1)
            table[at] = number
        plan = self._new("struct nfl_scan *")
        plan.members, plan.count, plan.mask, plan.table = made, len(members), size - 1, table
        plan.columns_count, plan.room = len(self.columns), ROWS
        plan.odd, plan.odd_room = self._odd, ROWS
        return plan

    def _arrow(self) -> CData:
        """Return the table, as Arrow has it, that the columns make."""
        formats = [("sec", b"l"), ("us", b"l"), *((column.name, _KINDS[column.type][1]) for column in self.columns)]
        table = self._new("struct nfl_arrow *")
        schemas = self._new("struct ArrowSchema[]", len(formats))
        for number, (name, form) in enumerate(formats):
            schemas[number].format, schemas[number].name = self._new("char[]", form), self._new("char[]", name.encode())
            schemas[number].flags = _NULLABLE
        table.schema.format, table.schema.name = self._new("char[]", b"+s"), self._new("char[]", b"")
        table.schema.n_children = len(formats)
        table.schema.children = self._new("struct ArrowSchema *[]", [schemas + n for n in range(len(formats))])
        return table

    def filled(self) -> list[str]:
        """Return the names of the columns, behind the time, that have a value in any row."""
        return [column.name for column in self.columns if column.name in self._found]

    def constants(self) -> dict[str, int | str]:
        """Return the columns, behind the time, that have one value in all rows."""
        return {name: value for name, value in self._found.items() if value is not None}

    def scan(self, lines: bytes | memoryview, start: int) -> tuple[int, bytes]:
        """Read lines from byte `start` on; return where it stopped, and the lines that are not plain.

        It stops at the end, or after `ROWS` rows or lines that are not plain: call it again from there.
        """
        size = len(lines) - start
        batch = self._spare.pop() if self._spare else _Batch(self.columns)
        batch.clear(size)
        plan, data = self._scan, ffi.from_buffer("char[]", lines) + start
        plan.columns, plan.sec, plan.us = batch.columns, batch.sec, batch.us
        plan.texts, plan.texts_room = batch.texts, size
        size = lib.nfl_scan_lines(plan, data, size)
        if plan.rows:
            batch.fill(plan.rows)
            self._add(batch, plan.texts_used)
        else:
            self._spare.append(batch)
        odd = (self._odd[number] for number in range(plan.odds))
        left = b"".join(lines[start + line.start : start + line.start + line.length] for line in odd)
        return start + size, left

    def _add(self, batch: _Batch, texts_bytes: int) -> None:
        self._batches.append(batch)
        values: dict[str, int | str | None] = {}
        held = batch.rows * 16 + texts_bytes + len(self.columns) * len(_NO_BITS)
        for number, column in enumerate(self.columns):
            kind, _, width = _KINDS[column.type]
            state = lib.nfl_scan_state(batch.columns + number, width, batch.rows)
            if state != lib.NFL_SCAN_EMPTY:
                values[column.name] = batch.first(number, kind) if state == lib.NFL_SCAN_SAME else None
                held += batch.rows * width
        if self.rows:
            before = self._found
            values = {
                name: values[name] if name in values and values[name] == before.get(name) else None
                for name in {**before, **values}
            }
        self._found = values
        self.rows += batch.rows
        self.held_bytes += held

    def clear(self) -> None:
        """Forget the rows. Their memory is used again."""
        self._spare += self._batches
        self._batches, self._found = [], {}
        self.rows = self.held_bytes = 0

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        """Return the rows as a stream of Arrow's: DuckDB calls it."""
        stream = ffi.new("struct ArrowArrayStream *")
        arrays = ffi.new("struct ArrowArray *[]", [batch.array for batch in self._batches])
        self._stream = stream, arrays
        self._table.arrays, self._table.count = arrays, len(self._batches)
        lib.nfl_arrow_stream(stream, self._table)
        return _capsule(int(ffi.cast("uintptr_t", stream)), b"arrow_array_stream", None)


_NO_BITS = bytes(ROWS // 8)
