# SPDX-License-Identifier: GPL-2.0-or-later
"""Batch: what was received at one time.

Nothing is copied out of the receive buffer until somebody asks for it:

- `batch.column("tcp.window")` is a NumPy view over the records; `batch.valid(...)` says where the key holds,
- `batch.rows("ip.saddr", "tcp.dport")` gives tuples of chosen keys, `batch.values(key)` one key as a list,
- `for packet in batch` gives packets; `packet.payload` is a memoryview into the receive buffer.

Invariants:
- Whatever is taken from a batch holds the receive buffer (binding/buffers.py): it stays readable when batch and group
  are gone.
- A batch never changes, but for columns that filters add; `select` makes a new one over the same memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

from nflowlevel.binding._lib import ffi
from nflowlevel.binding.buffers import DATA_BYTES, RECORD_BYTES, Lease
from nflowlevel.binding.interfaces import NO_NAMES, NameTable
from nflowlevel.records.fields import (
    CIM,
    FORMATS,
    ITEM_BYTES,
    PACKET_KEYS,
    TEXT_KINDS,
    VALID_AT,
    Layout,
    columns_of_records,
    find_key,
    layout_of,
    numpy,
    record_array,
    row_struct,
    text_column,
)
from nflowlevel.records.keys import BY_NAME, Key
from nflowlevel.records.packet import Packet
from nflowlevel.records.render import Records, offset_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from nflowlevel.records.filters import Filter


class Column:
    """A column that Python adds to a batch: a value or None for each of its records."""

    __slots__ = ("values",)

    def __init__(self, values: Sequence[int | float | str | None]) -> None:
        self.values = values


class Batch:
    """Packets received together. `len`, iteration and indexing give packets; see the module for the faster ways.

    Keys are named as in docs/keys.md. An unknown key is a KeyError with the nearest known name.
    """

    __slots__ = (
        "_added",
        "_cache",
        "_count",
        "_find_names",
        "_lease",
        "_names",
        "_rows",
        "_rows_array",
        "_table",
        "_time",
        "_valid_all",
        "_valid_any",
        "group",
    )

    def __init__(
        self,
        lease: Lease | None,
        count: int,
        *,
        group: int = 0,
        valid_any: int = 0,
        valid_all: int = 0,
        find_names: Callable[[], NameTable] | None = None,
    ) -> None:
        self.group = group
        self._lease = lease
        self._count = count
        self._valid_any = valid_any
        self._valid_all = valid_all
        self._find_names = find_names
        self._names: NameTable | None = None
        self._rows: list[int] | None = None
        self._rows_array = ffi.NULL
        self._table: Any = None
        self._time: tuple[int, int | None] = (0, None)
        self._added: dict[str, Column] = {}
        self._cache: dict[str, list[Any]] = {}

    @classmethod
    def of_columns(
        cls, columns: Mapping[str, Sequence[int | float | str | None]], *, time: tuple[int, int | None], group: int = 0
    ) -> Batch:
        """Return a batch of records that are no packets, such as counters: values by key, all of the same length.

        `time` is their time: seconds since 1970, and microseconds or None. ValueError where the lengths differ.
        """
        count = len(next(iter(columns.values()), ()))
        batch = cls(None, count, group=group)
        batch._time = time
        for key, values in columns.items():
            batch.add(key, values)
        return batch

    # -- packets -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Packet]:
        return map(Packet, repeat(self, self._count), range(self._count))

    def __getitem__(self, index: int) -> Packet:
        return Packet(self, range(self._count)[index])

    def __repr__(self) -> str:
        return f"<Batch of {self._count} packets, group {self.group}>"

    # -- rows and columns ----------------------------------------------------------------------------------------

    def rows(self, *keys: str) -> list[tuple[Any, ...]]:
        """Return a tuple of these keys for each packet; None where a key does not hold."""
        if not keys:
            return [()] * self._count
        if self._rows is None and self._lease and self._added.keys().isdisjoint(keys) and CIM.keys().isdisjoint(keys):
            fast = row_struct(keys)
            if fast and fast[0] & self._valid_all == fast[0] and len(keys) > 1:
                _, struct, reorder = fast
                tuples = struct.iter_unpack(self._lease.memory[DATA_BYTES : DATA_BYTES + self._count * RECORD_BYTES])
                return list(map(reorder, tuples) if reorder else tuples)
        return list(zip(*map(self.values, keys), strict=True))

    def values(self, key: str) -> list[Any]:
        """Return one key of each packet; None where it does not hold.

        Numbers are int, addresses and texts str, hardware addresses bytes, raw.pkt and other pieces of the buffer
        memoryviews. `src_port`, `dest_port`, `src_ip` and `dest_ip` give whichever of their keys holds.
        """
        try:
            return self._cache[key]
        except KeyError:
            values = self._cache[key] = self._make_values(key)
            return values

    def _make_values(self, name: str) -> list[Any]:
        if name in self._added:
            return self._selected(self._added[name].values)
        if name in CIM:
            return self._joined(CIM[name])
        if find_key(name).kind == "column":
            return [None] * self._count
        layout = layout_of(name)
        if not self._valid_any & layout.bit or self._lease is None:
            return [None] * self._count
        kind = layout.key.kind
        if kind in FORMATS:
            values = self._numbers(layout.format, layout.start, layout.step)
        elif kind in TEXT_KINDS:
            if kind == "ifname":
                _ = self.names
            values = text_column(name).render(self.raw)
        elif kind == "fixed":
            values = self._fixed(layout)
        else:
            values = self._pieces(layout.key)
        if self._valid_all & layout.bit:
            return values
        bit = layout.bit
        return [value if valid & bit else None for value, valid in zip(values, self._valid_words(), strict=True)]

    def _joined(self, names: Iterable[str]) -> list[Any]:
        """The keys of one CIM name: at most one of them holds for a packet."""
        columns = [values for values in map(self.values, names) if any(value is not None for value in values)]
        if len(columns) < 2:
            return columns[0] if columns else [None] * self._count
        return [next((value for value in row if value is not None), None) for row in zip(*columns, strict=True)]

    @property
    def _total(self) -> int:
        """Records that have to be looked at to see all selected ones."""
        return self._count if self._rows is None else max(self._rows, default=-1) + 1

    def _numbers(self, format_: str, start: int, step: int) -> list[Any]:
        assert self._lease is not None
        numbers = self._lease.cast(format_)[start : start + self._total * step : step].tolist()
        return numbers if self._rows is None else [numbers[row] for row in self._rows]

    def _field(self, format_: str, field: str) -> list[Any]:
        size = ITEM_BYTES[format_]
        return self._numbers(format_, (DATA_BYTES + offset_of(field)) // size, RECORD_BYTES // size)

    def _valid_words(self) -> list[int]:
        return self._numbers("Q", VALID_AT, RECORD_BYTES // 8)

    def _selected(self, values: Sequence[Any]) -> list[Any]:
        return list(values) if self._rows is None else [values[row] for row in self._rows]

    def _fixed(self, layout: Layout) -> list[bytes]:
        assert self._lease is not None
        memory, start, step = self._lease.memory, layout.start, layout.step
        widths = (
            self._field("H", "raw_mac_addrlen") if layout.key.name == "raw.mac.saddr" else [layout.width] * self._count
        )
        rows = range(self._count) if self._rows is None else self._rows
        return [bytes(memory[(at := start + row * step) : at + width]) for row, width in zip(rows, widths, strict=True)]

    def _pieces(self, key: Key) -> list[memoryview]:
        assert self._lease is not None
        memory = self._lease.memory
        lengths = self._field("I", "raw_pktlen") if key.name == "raw.pkt" else self._field("H", key.field + "_len")
        return [memory[at : at + length] for at, length in zip(self._field("I", key.field), lengths, strict=True)]

    def column(self, key: str) -> np.ndarray[Any, Any]:
        """Return one key of all packets as a read-only NumPy array.

        Numbers are a view over the records, shape (n,), nothing copied; addresses a view of shape (n, 16) or (n, 4) of
        bytes in network order (IPv4 in the first 4 of 16); hardware addresses (n, 6) or (n, 8). Where the key does not
        hold (see `valid`) the value is 0. Texts are an array of objects. A batch that was selected from another copies.
        TypeError: pieces of the buffer such as raw.pkt have no column; take `values`.
        """
        field = columns_of_records.get(key)
        if field is None or self._rows is not None or self._added or self._lease is None:
            return self._other_column(key)
        # The short way, for what is asked most: every call costs what a packet may.
        if self._table is None:
            ndarray, dtype = record_array()
            self._table = ndarray(self._count, dtype, self._lease.memory, DATA_BYTES)
        column: np.ndarray[Any, Any] = self._table[field]
        return column

    def _other_column(self, key: str) -> np.ndarray[Any, Any]:
        """`column` of what was not asked for before, of selected packets, of added values."""
        if self._is_list(key):
            joined: np.ndarray[Any, Any] = numpy().array(self.values(key))
            return joined
        layout = layout_of(key)
        if layout.key.kind in FORMATS or layout.key.kind == "fixed" or layout.key.type == "ipaddr":
            columns_of_records[key] = layout.key.field
            return self._fields(layout.key.field)
        if layout.key.kind == "bytes":
            raise TypeError(
                f"{key} is a piece of the receive buffer, of another length in each packet: take batch.values('{key}')"
            )
        texts: np.ndarray[Any, Any] = numpy().array(self.values(key), dtype=object)
        return texts

    def valid(self, key: str) -> np.ndarray[Any, Any]:
        """Return for each packet whether `key` holds: a NumPy array of bool."""
        mask: np.ndarray[Any, Any]
        if self._is_list(key):
            mask = numpy().array([value is not None for value in self.values(key)], dtype=bool)
        else:
            mask = (self._fields("valid") & numpy().uint64(layout_of(key).bit)).astype(bool)
        return mask

    def _is_list(self, key: str) -> bool:
        """Whether the key's values are no field of the records."""
        return key in self._added or key in CIM or find_key(key).kind == "column"

    def _fields(self, field: str) -> np.ndarray[Any, Any]:
        """One field of all records as NumPy sees it."""
        column: np.ndarray[Any, Any] = (self._table if self._table is not None else self._make_table())[field]
        return column if self._rows is None else column[self._rows]

    def _make_table(self) -> np.ndarray[Any, Any]:
        ndarray, dtype = record_array()
        if self._lease is None:
            self._table = numpy().zeros(self._total, dtype)
        else:
            # Positional: shape, dtype, buffer, offset.
            self._table = ndarray((self._total,), dtype, self._lease.memory, DATA_BYTES)
        made: np.ndarray[Any, Any] = self._table
        return made

    def _all_keys(self) -> tuple[str, ...]:
        return (*(PACKET_KEYS if self._lease else ()), *self._added)

    def to_dicts(self, *keys: str) -> list[dict[str, Any]]:
        """Return a dict for each packet, with the keys that hold for it (of `keys`, or of all); nothing in it is
        shared."""
        names = keys or self._all_keys()
        columns = [(name, self.values(name)) for name in names]
        return [
            {
                name: bytes(value) if isinstance(value, memoryview) else value
                for name, values in columns
                if (value := values[row]) is not None
            }
            for row in range(self._count)
        ]

    def to_arrow(self, *keys: str) -> pa.Table:
        """Return a pyarrow Table with a column for each of `keys` (or for all); null where a key does not hold."""
        import pyarrow as pa

        names = keys or self._all_keys()
        return pa.table({name: self._arrow(name) for name in names})

    def _arrow(self, name: str) -> pa.Array:
        import pyarrow as pa

        if self._is_list(name):
            wide = name in BY_NAME and BY_NAME[name].type == "uint64"
            return pa.array(self.values(name), pa.uint64() if wide else None)
        key = find_key(name)
        if key.kind in FORMATS:
            return pa.array(self.column(name), mask=~self.valid(name))
        if key.kind in TEXT_KINDS:
            return pa.array(self.values(name), pa.string())
        return pa.array([None if value is None else bytes(value) for value in self.values(name)], pa.binary())

    # -- for filters and outputs ---------------------------------------------------------------------------------

    def select(self, rows: Sequence[int]) -> Batch:
        """Return a batch of these packets (their numbers in this one, ascending), over the same memory.

        IndexError where this batch has no such packet: there is memory behind the last one.
        """
        # "All hold" is true of a part as well; "some hold" makes values() ask each record.
        chosen = self.copy()
        chosen._count = len(rows)
        known = range(self._count) if self._rows is None else self._rows
        chosen._rows = [known[row] for row in rows]
        chosen._rows_array = ffi.new("uint32_t[]", chosen._rows)
        return chosen

    def where(self, filter_: str | Filter) -> Batch:
        """Return a batch of the packets that a filter selects, such as `tcp.dport == 22 && ip.ttl < 40`, over the same
        memory.

        docs/filters.md has the language; FilterError says where a filter is wrong.
        """
        from nflowlevel.records.mask import selected  # the daemon never filters so

        return self.select(selected(filter_, self))

    def copy(self) -> Batch:
        """Return the same packets as a batch of their own: what is added to it does not show in this one."""
        twin = Batch(
            self._lease,
            self._count,
            group=self.group,
            valid_any=self._valid_any,
            valid_all=self._valid_all,
            find_names=self._find_names,
        )
        twin._time = self._time
        twin._rows, twin._rows_array, twin._names = self._rows, self._rows_array, self._names
        twin._added = dict(self._added)
        return twin

    def add(self, key: str, values: Sequence[int | float | str | None]) -> None:
        """Add a column, or put it in the place of one of the same name: a value or None for each packet."""
        if len(values) != self._count:
            raise ValueError(f"add {key}: {len(values)} values for {self._count} packets")
        if self._rows is not None:
            # Outputs find an added value by its record's number.
            spread: list[int | float | str | None] = [None] * self._total
            for row, value in zip(self._rows, values, strict=True):
                spread[row] = value
            values = spread
        self._added[key] = Column(values)
        self._cache.pop(key, None)

    @property
    def added(self) -> dict[str, Column]:
        """The columns that were added, by name."""
        return self._added

    @property
    def names(self) -> NameTable:
        """Names of the interfaces as they were when they were first asked for."""
        if self._names is None:
            self._names = self._find_names() if self._find_names else NO_NAMES
        return self._names

    @names.setter
    def names(self, table: NameTable) -> None:
        self._names = table

    @property
    def raw(self) -> Records:
        """What the renderer in C reads; good while the batch is kept."""
        if self._lease is None:
            return Records(ffi.NULL, ffi.NULL, self._rows_array, self._count, NO_NAMES, self._time)
        return Records(self._lease.records, self._lease.data, self._rows_array, self._count, self._names or NO_NAMES)
