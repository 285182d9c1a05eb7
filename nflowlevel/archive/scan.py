# SPDX-License-Identifier: GPL-2.0-or-later
"""Scanner: plain lines of JSON become columns, in C, which DuckDB reads by Arrow's C stream interface.

Lines as JSON outputs write them are plain: flat, whole numbers, ASCII without escapes, with the record's time. All
others are handed back as they are, for DuckDB's own reader of JSON, which takes several times as long. So what is a
record, and what is damaged, is decided in one place.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any, Final

from nflowlevel.archive.schema import ACTION, Relation
from nflowlevel.binding._lib import CData, ffi, lib

#: Rows that are handed over at a time.
ROWS = 65_536

_KINDS = {
    "UTINYINT": (lib.NFL_SCAN_U8, b"C", 1),
    "USMALLINT": (lib.NFL_SCAN_U16, b"S", 2),
    "UINTEGER": (lib.NFL_SCAN_U32, b"I", 4),
    "UBIGINT": (lib.NFL_SCAN_U64, b"L", 8),
    "VARCHAR": (lib.NFL_SCAN_TEXT, b"vu", 16),
}
_NULLABLE = 2
_uninitialised = ffi.new_allocator(should_clear_after_alloc=False)
_LEAST_TABLE = 64

_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.restype = ctypes.py_object
_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


class Scanner:
    """Reads lines into columns of `relation`, whose records have their time in the members `clock`.

    A line with a member of `others` is another relation's, and handed back. After `scan`, DuckDB can read `rows` rows
    from this object, until the next `scan`.
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
        self._bits = [self._new("uint8_t[]", ROWS // 8) for _ in self.columns]
        # What has no value is not looked at.
        self._values = [_uninitialised("uint64_t[]", ROWS * _KINDS[column.type][2] // 8) for column in self.columns]
        self._sec, self._us = self._new("int64_t[]", ROWS), self._new("int64_t[]", ROWS)
        self._odd = self._new("struct nfl_scan_line[]", ROWS)
        self._scan = self._plan(members)
        self._views = self._new("int64_t[]", [0])
        self._table = self._arrow()
        self._data: CData = ffi.NULL

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
        columns = self._new(
            "struct nfl_scan_column[]",
            [(bits, ffi.cast("uint8_t *", values)) for bits, values in zip(self._bits, self._values, strict=True)],
        )
        plan = self._new("struct nfl_scan *")
        plan.members, plan.count, plan.mask, plan.table = made, len(members), size - 1, table
        plan.columns, plan.columns_count = columns, len(self.columns)
        plan.sec, plan.us, plan.room = self._sec, self._us, ROWS
        plan.odd, plan.odd_room = self._odd, ROWS
        return plan

    def _arrow(self) -> CData:
        """Return the table, as Arrow has it, that the columns make."""
        formats = [("sec", b"l"), ("us", b"l"), *((column.name, _KINDS[column.type][1]) for column in self.columns)]
        table = self._new("struct nfl_arrow *")
        schemas = self._new("struct ArrowSchema[]", len(formats))
        self._arrays = self._new("struct ArrowArray[]", len(formats))
        for number, (name, form) in enumerate(formats):
            schemas[number].format, schemas[number].name = self._new("char[]", form), self._new("char[]", name.encode())
            schemas[number].flags = _NULLABLE
            array = self._arrays[number]
            if number < 2:
                buffers = [ffi.NULL, (self._sec, self._us)[number]]
            else:
                buffers = [self._bits[number - 2], self._values[number - 2]]
            if form == b"vu":
                # The lines themselves, and how long they are: set for each block.
                buffers += [ffi.NULL, self._views]
            array.buffers = self._new("const void *[]", buffers)
            array.n_buffers, array.null_count = len(buffers), -1 if number > 1 else 0
        table.schema.format, table.schema.name = self._new("char[]", b"+s"), self._new("char[]", b"")
        table.schema.n_children = table.array.n_children = len(formats)
        table.schema.children = self._new("struct ArrowSchema *[]", [schemas + n for n in range(len(formats))])
        table.array.children = self._new("struct ArrowArray *[]", [self._arrays + n for n in range(len(formats))])
        table.array.buffers = self._new("const void *[]", [ffi.NULL])
        table.array.n_buffers = 1
        return table

    @property
    def rows(self) -> int:
        """How many rows the last `scan` made."""
        return int(self._scan.rows)

    def filled(self) -> list[str]:
        """Return the names of the columns, behind the time, that have a value in any row."""
        size = (self.rows + 7) // 8
        bits = zip(self.columns, self._bits, strict=True)
        return [column.name for column, valid in bits if any(ffi.buffer(valid, size)[:])]

    def scan(self, lines: bytes | memoryview, start: int) -> tuple[int, bytes]:
        """Read lines from byte `start` on; return where it stopped, and the lines that are not plain.

        It stops at the end, or after `ROWS` rows or lines that are not plain: call it again from there.
        """
        self._data = data = ffi.from_buffer("char[]", lines)
        for bits in self._bits:
            ffi.memmove(bits, _NO_BITS, ROWS // 8)
        size = lib.nfl_scan_lines(self._scan, data + start, len(lines) - start)
        rows = self.rows
        self._table.array.length = rows
        self._views[0] = len(lines) - start
        for number in range(len(self.columns) + 2):
            array = self._arrays[number]
            array.length = rows
            if array.n_buffers == 4:  # bits, views, the lines, how long they are
                array.buffers[2] = data + start
        odd = (self._odd[number] for number in range(self._scan.odds))
        left = b"".join(lines[start + line.start : start + line.start + line.length] for line in odd)
        return start + size, left

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        """Return the rows as a stream of Arrow's: DuckDB calls it."""
        stream = ffi.new("struct ArrowArrayStream *")
        self._stream = stream
        lib.nfl_arrow_stream(stream, self._table)
        return _capsule(int(ffi.cast("uintptr_t", stream)), b"arrow_array_stream", None)


_NO_BITS = bytes(ROWS // 8)
