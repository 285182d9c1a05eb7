# SPDX-License-Identifier: GPL-2.0-or-later
"""Render records by a plan: lines, rows for a database, one column as text. The loops are in _cdefs/render.c.

A plan is made once per stack. What C follows is made of it when the first batch of a record type comes; from then on
only columns that Python added change from batch to batch.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.binding.interfaces import NameTable
from nflowlevel.records.keys import AS_NUMBER, PRINT, PRINT_FLOW, PRINT_NAT, TIME, FlowCondition, Key
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

_ELEMENT_KINDS = {
    "word": lib.NFL_WORD,
    "set": lib.NFL_U32_SET,
    "hex4": lib.NFL_HEX16,
    "long": lib.NFL_U64_LONG,
    "flow": lib.NFL_FLOW_ELEMENT,
}

#: As the same and as a number: a column may ask for either.
_ADDRESS_KINDS = ("addr", "addr4")

#: Values that ulogd2's text outputs have no form for.
_WITHOUT_FORM = ("raw", "rawstr")

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
        usec = _NO_FRACTION if usec is None else usec
        names = self.names
        values = (self.records, stride, self.count, self.rows, self.data, names.array, len(names), usec, second)
        self._as_c = ffi.new(_BATCH, values)
        return self._as_c


class Printed:
    """The column `print` of packets and flows: no values, but what C makes of their records where it renders them.

    `key` says which text it is: PRINT, PRINT_FLOW or PRINT_NAT.
    """

    __slots__ = ("_batch", "key", "kind", "valid")

    def __init__(self, batch: Records, key: Key) -> None:
        self.key: Key | None = key
        #: How C makes the text, and the bit that says which records have one.
        self.kind, self.valid = _PRINTED[key]
        self._batch = batch

    @property
    def values(self) -> list[str | None]:
        """The texts, by record number; None for records that have none, or are not in the batch."""
        batch = self._batch
        column = ffi.new("struct nfl_column *", {"kind": self.kind, "valid": self.valid})
        texts = [text or None for text in _texts(column, batch, "replace")]
        if batch.rows == ffi.NULL:
            return texts
        rows = ffi.unpack(batch.rows, batch.count)
        spread: list[str | None] = [None] * (max(rows, default=-1) + 1)
        for row, text in zip(rows, texts, strict=True):
            spread[row] = text
        return spread


#: Bit 0 of `valid` is always set.
_PRINTED: dict[Key, tuple[int, int]] = {
    PRINT: (lib.NFL_PRINT, 0),
    PRINT_FLOW: (lib.NFL_PRINT_FLOW, 0),
    PRINT_NAT: (lib.NFL_PRINT_NAT, FlowCondition.NAT.value),
}
#: What a line of a log is, by how C makes its text.
_LOG_TEXTS: dict[int, int] = {
    lib.NFL_PRINT: lib.NFL_LOG_PACKET,
    lib.NFL_PRINT_FLOW: lib.NFL_LOG_FLOW,
    lib.NFL_PRINT_NAT: lib.NFL_LOG_NAT,
}


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
        plan["clock"] = lib.NFL_CLOCK_USEC if len(type_.time) > 1 else lib.NFL_CLOCK_NS
        plan["whole"] = type_.whole_seconds.value if type_.whole_seconds else 0
        plan["time"], plan["time_usec"] = type_.offset_of(type_.time[0]), type_.offset_of(type_.time[-1])
    return plan


class _LinePlan(_Plan):
    """Lines: what JSON and the forms of ulogd2's other outputs share."""

    #: What Python adds must be in each batch.
    _needed = True

    def __init__(self, members: Sequence[tuple[str, Key]]) -> None:
        super().__init__(members)
        self._grow(_FIRST_OUT_BYTES)

    def _grow(self, size: int) -> None:
        self._size = size
        self._out: CData = _uninitialised("char[]", size)
        self._view = memoryview(ffi.buffer(self._out))

    def _make_form(self, type_: RecordType | None) -> _Form:
        lines, texts = self._lines(), []
        fixed = _TIMESTAMP_BYTES + _LINE_END_BYTES
        for name in ("head", "tail", "foot"):
            text = lines.get(name, b"")
            texts.append(made := ffi.new("char[]", text))
            lines |= {name: made, f"{name}_length": len(text)}
            fixed += len(text)
        made = []
        for number, (name, key) in enumerate(self._members):
            column = {"kind": lib.NFL_ROW_NONE, **self._column(number, name, key, type_)}
            label, after = column["label"], column.get("after", b"")
            texts += [text := ffi.new("char[]", label.ljust(lib.NFL_LABEL_BYTES)), behind := ffi.new("char[]", after)]
            made.append(
                {**column, "label": text, "label_length": len(label), "after": behind, "after_length": len(after)}
            )
            fixed += len(label) + len(after) + _VALUE_BYTES
        columns = ffi.new("struct nfl_column[]", made)
        plan = ffi.new("struct nfl_lines *", {"plan": _head(columns, fixed, type_), **lines})
        return _Form(columns, self._filled(type_, needed=self._needed), plan, texts)

    @abstractmethod
    def _lines(self) -> dict[str, Any]:
        """Return the fields of `struct nfl_lines` that a form sets; texts as bytes."""

    @abstractmethod
    def _column(self, number: int, name: str, key: Key, type_: RecordType | None) -> dict[str, Any]:
        """Return the fields of a member's `struct nfl_column`; texts as bytes."""

    def render(self, batch: Records, added: Mapping[str, AddedColumn]) -> Iterator[tuple[memoryview, int]]:
        """Yield (lines, number of records); usually once. A memoryview is good until the next is asked for.

        A key of another record type is left out. KeyError: a column that Python adds is missing from `added`.
        """
        form, rows = self.form(batch.type), batch.as_c()
        kept, first = form.fill(added), 0
        while first < batch.count:
            size = lib.nfl_lines_render(form.plan, rows, first, self._out, self._size, self._done)
            done = self._done[0]
            if (done < batch.count and self._size < _MOST_OUT_BYTES) or not size:
                # Most batches are alike: a buffer that holds this one whole will hold the next ones too.
                self._grow(self._size * 2)
                continue
            yield self._view[:size], done - first
            first = done
        del kept


class JSONPlan(_LinePlan):
    """Lines of JSON with these members, in this order.

    `members` are (name, key); a key of kind `column` is one that Python adds to the batch under the key's name. Members
    named in `actions` say "blocked" for 0 and "allowed" for anything else; those named in `protocols` say a protocol's
    name. `head` and `tail` are the constant text before and after the timestamp.
    """

    def __init__(
        self,
        members: Sequence[tuple[str, Key]],
        *,
        head: str,
        tail: str,
        timestamp: bool,
        actions: frozenset[str],
        protocols: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(members)
        self._head, self._tail, self._timestamp = head.encode(), tail.encode(), timestamp
        self._actions, self._protocols = actions, protocols

    def _lines(self) -> dict[str, Any]:
        return {"form": lib.NFL_JSON, "head": self._head, "tail": self._tail, "timestamp": self._timestamp}

    def _column(self, number: int, name: str, key: Key, type_: RecordType | None) -> dict[str, Any]:
        label = f", {json.dumps(name, ensure_ascii=False)}: ".encode()
        if not type_ or key not in type_:
            return {"label": label}
        kind = _KINDS[key.kind]
        if name in self._actions:
            kind = lib.NFL_ACTION
        elif name in self._protocols:
            kind = lib.NFL_PROTOCOL
        return {"label": label, **_column(key, type_, kind)}


class ItemPlan(_LinePlan):
    """Items `name=value` of these members, in this order, with a separator behind each: a comma or a newline.

    Behind the last item of a record stands a newline in its place. Texts have backslash escapes: a backslash doubled,
    newline, carriage return and tab are written with the letters n, r and t, other control characters and a separator
    with x and two hex digits; all other bytes are as they are. A member whose key has raw bytes, or whose name is in
    `words`, has the value `default`. Each record begins with `head`.
    """

    def __init__(
        self, members: Sequence[tuple[str, Key]], *, separator: bytes, head: bytes = b"", words: Container[str] = ()
    ) -> None:
        super().__init__(members)
        self._separator, self._head, self._words = separator, head, words

    def begin_with(self, head: bytes) -> None:
        """Let records begin with this text from now on; it is as long as the one before."""
        if head != self._head:
            assert len(head) == len(self._head), f"{head!r} is not as long as {self._head!r}"
            self._head = head
            for form in self._forms.values():
                ffi.memmove(form.plan.head, head, len(head))

    def _lines(self) -> dict[str, Any]:
        return {"form": lib.NFL_ITEMS, "head": self._head, "separator": self._separator}

    def _filled(self, type_: RecordType | None, *, needed: bool) -> list[tuple[int, str, bool]]:
        filled = super()._filled(type_, needed=needed)
        return [column for column in filled if self._members[column[0]][0] not in self._words]

    def _column(self, number: int, name: str, key: Key, type_: RecordType | None) -> dict[str, Any]:
        label = f"{name}=".encode()
        if not type_ or key not in type_:
            return {"label": label}
        if name in self._words or key.type in _WITHOUT_FORM:
            return {"label": label + b"default", "kind": lib.NFL_WORD, "valid": key.valid.value}
        return {"label": label, **_column(key, type_, _KINDS[key.kind])}


class Part(NamedTuple):
    """A part of an element of XML: the value of a key between two texts, and both only where the record has the key."""

    before: str
    key: Key
    after: str
    form: str = ""
    """Empty: as the key is. `word`: no value. `set`: a number, if it is not 0. `hex4`: a number as 4 hex digits. `hex`:
    bytes as hex digits. `long`: a number with 20 digits. `when`: the local time of the record, an element for each part
    of it. `flow`: the elements of a flow, whatever the key."""


class XMLPlan(_LinePlan):
    """An element for each record, on a line of its own, with these parts in this order.

    In texts, `&`, `<`, a `>` behind `]]`, newline and carriage return are written as references; what XML 1.0 cannot
    hold, and what is not UTF-8, becomes U+FFFD.
    """

    _needed = False

    def __init__(self, element: str, parts: Sequence[Part]) -> None:
        super().__init__([(TIME if part.form == "when" else part.before, part.key) for part in parts])
        self._element = element
        self._parts = parts

    def _lines(self) -> dict[str, Any]:
        return {"form": lib.NFL_XML, "head": f"<{self._element}>".encode(), "foot": f"</{self._element}>\n".encode()}

    def _column(self, number: int, name: str, key: Key, type_: RecordType | None) -> dict[str, Any]:
        part = self._parts[number]
        texts = {"label": part.before.encode(), "after": part.after.encode()}
        if part.form == "when":
            return {**texts, "kind": lib.NFL_WHEN}
        if not type_ or key not in type_:
            return {**texts, "width": part.form == "long"}
        if part.form == "hex":
            kind = lib.NFL_BYTES_HEX if key.kind == "bytes" else lib.NFL_FIXED_HEX
        else:
            kind = _ELEMENT_KINDS[part.form] if part.form else _KINDS[key.kind]
        return {**texts, **_column(key, type_, kind)}


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


class LogPlan:
    """Lines of a log: the record's time as `Mmm dd hh:mm:ss`, local time, between two constant texts, then `print`."""

    #: What may stand at each place of a time's text.
    TIME = (
        *(b"ADFJMNOS", b"aceopu", b"bcglnprtvy", b" ", b" 123", b"0123456789", b" "),
        *(b"012", b"0123456789", b":", b"012345", b"0123456789", b":", b"0123456", b"0123456789"),
    )

    def __init__(self, *, before: str = "", after: str) -> None:
        # Bytes of a configuration or a host's name that are not UTF-8 come as surrogates.
        self._before, self._after = _encoded(before), _encoded(after)
        keep = self._keep = [ffi.new("char[]", self._before), ffi.new("char[]", self._after)]
        lengths = len(self._before), len(self._after)
        self._log = ffi.new("struct nfl_log *", (keep[0], keep[1], *lengths, -1))
        self._done = ffi.new("uint32_t *")
        self._grow(_FIRST_OUT_BYTES)

    def _grow(self, size: int) -> None:
        self._size = size
        self._out: CData = _uninitialised("char[]", size)
        self._view = memoryview(ffi.buffer(self._out))

    def render(self, records: Records, text: Printed | None = None) -> Iterator[tuple[memoryview, int]]:
        """Yield (lines, number of lines) of a text, by default that of PRINTPKT or PRINTFLOW; usually once.

        A memoryview is good until the next is asked for.
        """
        of_flows = records.type is not None and records.type.of_flows
        own = lib.NFL_LOG_FLOW if of_flows else lib.NFL_LOG_PACKET
        return self._render(records, _LOG_TEXTS[text.kind] if text else own)

    def accounts(self, flows: Records) -> Iterator[tuple[memoryview, int]]:
        """Yield the lines of NACCT in the same way: without a time, and none for a flow that is new."""
        return self._render(flows, lib.NFL_LOG_ACCOUNT)

    def _render(self, records: Records, text: int) -> Iterator[tuple[memoryview, int]]:
        self._log.text = text
        rows, first = records.as_c(), 0
        while first < records.count:
            size = lib.nfl_log_render(self._log, rows, first, self._out, self._size, self._done)
            done = self._done[0]
            if (done < records.count and self._size < _MOST_OUT_BYTES) or done == first:
                self._grow(self._size * 2)
                continue
            if size:
                yield self._view[:size], self._log.lines
            first = done

    def lines(self, texts: Sequence[str | None], seconds: Sequence[int | None]) -> tuple[bytes, int]:
        """Return the lines of texts that somebody else than PRINTPKT made, and their number; None is no line."""
        made = [self._line(text, second) for text, second in zip(texts, seconds, strict=True) if text is not None]
        return b"".join(made), len(made)

    def _line(self, text: str, second: int | None) -> bytes:
        local = time.localtime(second)
        when = f"{_MONTHS[local.tm_mon - 1]} {local.tm_mday:2} {local.tm_hour:02}:{local.tm_min:02}:{local.tm_sec:02}"
        body = _encoded(text.removesuffix("\n").translate(_ESCAPED))
        return self._before + when.encode() + self._after + body + b"\n"


#: Not those of strftime(3): that has the locale's.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
#: As _cdefs/print.c writes control characters.
_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F) if code != ord("\t")}


def _copy_kind(name: str, key: Key) -> int:
    if key.kind in ("bytes", "fixed"):
        return int(lib.NFL_BYTES_HEX if key.kind == "bytes" else lib.NFL_FIXED_HEX)
    if name.endswith(AS_NUMBER) and key.kind in _ADDRESS_KINDS:
        return int(lib.NFL_ADDR_NUMBER)
    return _KINDS[key.kind]


def _fill(column: CData, added: AddedColumn) -> object:
    """Point a plan's column at what Python added; the result has to live until the rendering is over."""
    if isinstance(added, Printed):
        column.kind, column.valid = added.kind, added.valid
        return None
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
        return _texts(self._column, batch, self._errors)

    def joined(self, batch: Records) -> bytes:
        """Return the texts in one piece, each with a NUL behind it."""
        return b"".join(block[:] for block in _blocks(self._column, batch))


def _texts(column: CData, batch: Records, errors: str) -> list[str]:
    """Return a column's text for each row."""
    texts = list[str]()
    for block in _blocks(column, batch):
        texts += block[:-1].decode("utf-8", errors).split("\0")
    return texts


def _blocks(column: CData, batch: Records) -> Iterator[CData]:
    """Yield the texts of rows as a buffer, each with a NUL behind it; the buffer is good until the next one."""
    rows, done = batch.as_c(), ffi.new("uint32_t *")
    first, size = 0, max(_LEAST_TEXT_BYTES, _TEXT_BYTES_PER_ROW * batch.count)
    out = _uninitialised("char[]", size)
    while first < batch.count:
        used = lib.nfl_text_render(column, rows, first, out, size, done)
        if used:
            yield ffi.buffer(out, used)
            first = done[0]
        else:
            size *= 2
            out = _uninitialised("char[]", size)
