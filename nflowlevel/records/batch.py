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

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from struct import Struct
from typing import TYPE_CHECKING, Any, NoReturn, Self, overload

from nflowlevel.binding._lib import ffi
from nflowlevel.binding.buffers import Lease, RecordArray
from nflowlevel.binding.interfaces import NO_NAMES, NameTable
from nflowlevel.records.arrow import arrow_table
from nflowlevel.records.fields import FORMATS, TEXT_KINDS, Layout, fields_of, find_key, numpy
from nflowlevel.records.keys import PRINT, PRINT_FLOW, Condition, Key
from nflowlevel.records.packet import PACKET
from nflowlevel.records.render import Printed, Records
from nflowlevel.records.row import COLUMNS, shown
from nflowlevel.records.types import RecordType
from nflowlevel.stats import html_table

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from nflowlevel.records.filters import Filter
    from nflowlevel.records.packetrow import Packet
#: What a notebook shows of packets, and of how many.
_NOTEBOOK_KEYS = ("oob.prefix", "oob.in", "oob.out", "ip.saddr", "ip.daddr", "ip.protocol", "tcp.sport", "tcp.dport",
                  "udp.sport", "udp.dport", "icmp.type", "icmpv6.type", "raw.pktlen")  # fmt: skip
_NOTEBOOK_ROWS = 20


class Column:
    """A column that Python adds to a batch: a value or None for each of its records, and its key if known."""

    __slots__ = ("key", "values")

    def __init__(self, values: Sequence[int | float | str | None], key: Key | None = None) -> None:
        self.values = values
        self.key = key


class Batch:
    """Packets that were received together. Iterating and indexing give packets; a slice gives a smaller batch.

    `column` and `valid` give one key of all packets as NumPy arrays, `rows` gives tuples of several keys, and `values`
    one key as a list. All are faster than going packet by packet.

    Name a key as in docs/keys.md (`ip.saddr`), as the attribute of a packet (`saddr`, `tcp_dport`) or as in JSON
    (`src_ip`). An unknown name raises a KeyError that suggests the nearest known one. A key that only other types of
    records have is None for every packet. If `type` is another one, the batch consists of such records, not of packets.
    """

    __slots__ = (
        "_added",
        "_cache",
        "_count",
        "_find_names",
        "_layouts",
        "_lease",
        "_names",
        "_raw",
        "_rows",
        "_rows_array",
        "_table",
        "_time",
        "_valid_all",
        "_valid_any",
        "file",
        "group",
        "type",
    )

    def __init__(
        self,
        lease: Lease | RecordArray | None,
        count: int,
        *,
        group: int = 0,
        file: str = "",
        valid_any: int = 0,
        valid_all: int = 0,
        find_names: Callable[[], NameTable] | None = None,
        type: RecordType = PACKET,
        time: tuple[int, int | None] = (0, None),
    ) -> None:
        #: The group that they were logged to; 0 if none is known.
        self.group = group
        #: Name of the capture file that they were read from, or "".
        self.file = file
        #: What kind of records they are.
        self.type = type
        self._layouts = fields_of(type)
        self._lease = lease
        self._count = count
        self._valid_any = valid_any
        self._valid_all = valid_all
        self._find_names = find_names
        self._names: NameTable | None = None
        self._rows: list[int] | None = None
        self._rows_array = ffi.NULL
        self._table: Any = None
        self._raw: Records | None = None
        self._time = time
        self._added: dict[str, Column | Printed] = {}
        self._cache: dict[str, list[Any]] = {}

    @classmethod
    def of_columns(
        cls,
        columns: Mapping[str, Sequence[int | float | str | None]] | Mapping[Key, Sequence[int | float | str | None]],
        *,
        time: tuple[int, int | None],
        group: int = 0,
        type: RecordType = COLUMNS,
    ) -> Batch:
        """Return a batch of records that are nothing but columns: values by name or key, all of the same length.

        `time` is their time: seconds since 1970, and microseconds or None. With a `type` the rows are its rows, and its
        further keys are None. Raises ValueError if the lengths differ.
        """
        count = len(next(iter(columns.values()), ()))
        batch = cls(None, count, group=group, type=type, time=time)
        for key, values in columns.items():
            batch.add(key, values)
        return batch

    # -- packets -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Packet]:
        return map(self.type.row, repeat(self, self._count), range(self._count))

    @overload
    def __getitem__(self, index: int) -> Packet: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Packet | Self:
        if isinstance(index, slice):
            return self.select(range(self._count)[index])
        try:
            row = range(self._count)[index]
        except IndexError:
            raise IndexError(self._lacks(index)) from None
        except TypeError:
            key = f"; batch.values({index!r}) gives a key of all of them" if isinstance(index, str) else ""
            what = f"batch[…] takes a number or a slice, not {type(index).__name__}{key}"
            raise TypeError(what) from None
        packet: Packet = self.type.row(self, row)
        return packet

    def _lacks(self, row: int) -> str:
        """Return that there is no such row."""
        has = f"has {self._count}, 0 to {self._count - 1}" if self._count else "is empty"
        return f"there is no {self.type.name} {row}: the batch {has}"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a batch cannot be pickled: it holds the receive buffer. Pickle list(batch), its packets with all their "
            "values, or batch.to_dicts(…) or batch.to_arrow(…); batch.copy() is a second batch over the same memory"
        )

    def __copy__(self) -> Batch:
        return self.copy()

    def __repr__(self) -> str:
        what = self.type.name
        source = f", file {self.file}" if self.file else f", group {self.group}" if self.type is PACKET else ""
        return f"<Batch of {self._count} {what}{'' if self._count == 1 else 's'}{source}>"

    def _repr_html_(self) -> str:
        """Return the first packets as a table, for notebooks."""
        names = self._all_keys()
        if self.type is PACKET:
            names = tuple(name for name in names if name in _NOTEBOOK_KEYS or name in self._added)
        few = self[:_NOTEBOOK_ROWS]
        columns = [(name, few.values(name)) for name in names]
        columns = [(name, values) for name, values in columns if any(value is not None for value in values)]
        rows = [[row, *(shown(values[row]) for _, values in columns)] for row in range(len(few))]
        more = f", the first {len(few)} of them" if len(few) < self._count else ""
        return html_table(("", *(name for name, _ in columns)), rows, caption=f"{self!r}{more}")

    # -- rows and columns ----------------------------------------------------------------------------------------

    def rows(self, *keys: str) -> list[tuple[Any, ...]]:
        """Return a tuple of these keys for each packet; None for keys that the packet lacks."""
        if not keys:
            return [()] * self._count
        found = tuple(map(self._find, keys)) if self._added else self.type.names.find_all(keys)
        if self._rows is None and self._lease and self._added.keys().isdisjoint(found):
            fast = self._layouts.row_struct(found)
            if fast and fast[0] & self._valid_all == fast[0] and len(keys) > 1:
                _, struct, reorder = fast
                tuples = struct.iter_unpack(self._lease.cast("B")[: self._count * struct.size])
                return list(map(reorder, tuples) if reorder else tuples)
        return list(zip(*map(self.values, found), strict=True))

    def _find(self, name: str) -> str:
        """Return the key, the shared name or the added column that a name means."""
        return self.type.names.find(name, self._added)

    def values(self, key: str) -> list[Any]:
        """Return one key of each packet; None if the packet lacks it.

        Numbers are int, addresses and texts str, hardware addresses bytes; raw.pkt and other pieces of the buffer are
        memoryviews. `src_port`, `dest_port`, `src_ip` and `dest_ip` give whichever of their keys the packet has.
        """
        try:
            return self._cache[key]
        except KeyError:
            values = self._cache[key] = self._make_values(key)
            return values

    def _make_values(self, key: str) -> list[Any]:
        name = self._find(key)
        if name != key:
            return self.values(name)
        if name in self._added:
            return self._selected(self._added[name].values)
        if name in self.type.cim:
            return self._joined(self.type.cim[name])
        if not self._layouts.holds(name):
            return [None] * self._count
        layout = self._layouts.layout_of(name)
        if not self._valid_any & layout.bit or self._lease is None:
            return [None] * self._count
        kind = layout.key.kind
        if kind in FORMATS:
            values = self._numbers(layout.format, layout.start, layout.step)
        elif kind in TEXT_KINDS:
            if kind == "ifname":
                _ = self.names
            values = self._layouts.text_column(name).render(self.raw)
        elif kind == "fixed":
            values = self._fixed(layout)
        elif kind == "addrnumber":
            values = self._address_numbers(self._layouts.number_of_address(name))
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

    def _field(self, field: str) -> list[Any]:
        return self._numbers(*self._layouts.number_at(field))

    def _valid_words(self) -> list[int]:
        return self._field("valid")

    def _selected(self, values: Sequence[Any]) -> list[Any]:
        return list(values) if self._rows is None else [values[row] for row in self._rows]

    def _fixed(self, layout: Layout) -> list[bytes]:
        assert self._lease is not None
        records, start, step = self._lease.cast("B"), layout.start, layout.step
        length, most = layout.key.length, layout.width
        widths = [min(width, most) for width in self._field(length)] if length else [most] * self._count
        rows = range(self._count) if self._rows is None else self._rows
        return [
            bytes(records[(at := start + row * step) : at + width]) for row, width in zip(rows, widths, strict=True)
        ]

    def _address_numbers(self, one: Struct) -> list[int]:
        assert self._lease is not None
        records = self._lease.cast("B")[: self._total * one.size]
        return self._selected([number for (number,) in one.iter_unpack(records)])

    def _pieces(self, key: Key) -> list[memoryview]:
        assert self._lease is not None
        memory = self._lease.memory
        places = zip(self._field(key.field), self._field(key.length), strict=True)
        return [memory[at : at + length] for at, length in places]

    def column(self, key: str) -> np.ndarray[Any, Any]:
        """Return one key of all packets as a read-only NumPy array.

        Numbers are a view of the records, of shape (n,), without a copy. Addresses are bytes in network order, of shape
        (n, 16) or (n, 4); IPv4 addresses take the first 4 of 16. Hardware addresses have shape (n, 6) or (n, 8). If a
        packet lacks the key (see `valid`), its value is 0. Texts are an array of objects. The numbers of IP2HBIN
        and columns of a batch that was selected from another are copies. Raises TypeError for pieces of the buffer such
        as raw.pkt, which have no column; use `values` for them.
        """
        field = self._layouts.columns.get(key)
        if field is None or self._rows is not None or self._added or self._lease is None:
            return self._other_column(key)
        # The short way, for what is asked most: every call costs what a packet may.
        if self._table is None:
            ndarray, dtype = self._layouts.record_array
            self._table = ndarray(self._count, dtype, self._lease.cast("B"))
        column: np.ndarray[Any, Any] = self._table[field]
        return column

    def _other_column(self, key: str) -> np.ndarray[Any, Any]:
        """`column` of what was not asked for before, of selected packets, of added values."""
        name = self._find(key)
        if name not in self._added and name not in self.type.cim and not self._layouts.holds(name):
            # Of another type of records: it holds nowhere.
            kind = find_key(name, self.type).kind
            nothing: np.ndarray[Any, Any] = numpy().full(
                self._count, *((0, FORMATS[kind]) if kind in FORMATS else (None,))
            )
            return nothing
        if self._is_list(name):
            joined: np.ndarray[Any, Any] = numpy().array(self.values(name))
            return joined
        layout = self._layouts.layout_of(name)
        if layout.key.kind == "addrnumber":
            octets = numpy().ascontiguousarray(self._fields(layout.key.field)[:, :4])
            numbers: np.ndarray[Any, Any] = octets.view(">u4")[:, 0] * self.valid(name)
            return numbers.astype(numpy().uint32)
        if layout.key.kind in FORMATS or layout.key.kind == "fixed" or layout.key.type == "ipaddr":
            self._layouts.columns[key] = layout.key.field
            return self._fields(layout.key.field)
        if layout.key.kind == "bytes":
            raise TypeError(
                f"{key} is a piece of the receive buffer, and its length differs from packet to packet: "
                f"use batch.values('{key}')"
            )
        texts: np.ndarray[Any, Any] = numpy().array(self.values(key), dtype=object)
        return texts

    def valid(self, key: str | Condition) -> np.ndarray[Any, Any]:
        """Return for each packet whether it has `key`, or meets a condition of its type, as a NumPy array of bool."""
        mask: np.ndarray[Any, Any]
        if not isinstance(key, str):
            mask = (self._fields("valid") & numpy().uint64(1 << key.value)).astype(bool)
            return mask
        name = self._find(key)
        if self._is_list(name):
            mask = numpy().array([value is not None for value in self.values(name)], dtype=bool)
        else:
            mask = (self._fields("valid") & numpy().uint64(self._layouts.layout_of(name).bit)).astype(bool)
        return mask

    def always(self, key: str) -> bool:
        """Whether it is known without looking that each packet has `key`, as a field of its record."""
        name = self._find(key)
        return not self._is_list(name) and bool(self._valid_all & self._layouts.layout_of(name).bit)

    def joined_texts(self, key: str) -> bytes:
        """Return a text key of the type, such as an address, of each packet in one piece, with a NUL behind each.

        It is empty where the packet lacks it, see `valid`.
        """
        if not self._layouts.holds(key) or self._lease is None:
            return bytes(self._count)
        return self._layouts.text_column(key).joined(self.raw)

    def _is_list(self, key: str) -> bool:
        """Whether the key's values are no field of the records."""
        return key in self._added or key in self.type.cim or not self._layouts.holds(key)

    def has(self, key: str) -> bool:
        """Whether packets of this batch can have `key`, named as in docs/keys.md: decoded from the packet, or added.

        `valid` tells which packets have it.
        """
        return key in self._added or (self._lease is not None and key in self.type.by_name)

    def may_have(self, key: str, numbers: Iterable[int]) -> bool:
        """Whether a packet may have one of these numbers as this key, which is one of the type's.

        It is quick, so that who looks for few packets need not look at each: False is sure, True is not.
        """
        layout = self._layouts.layout_of(key)
        if self._lease is None or not self._valid_any & layout.bit:
            return False
        packed = self._lease.cast(layout.format)[layout.start : layout.start + self._total * layout.step : layout.step]
        data = packed.tobytes()
        return any(number.to_bytes(packed.itemsize, sys.byteorder) in data for number in numbers)

    def _fields(self, field: str) -> np.ndarray[Any, Any]:
        """One field of all records as NumPy sees it."""
        column: np.ndarray[Any, Any] = (self._table if self._table is not None else self._make_table())[field]
        return column if self._rows is None else column[self._rows]

    def _make_table(self) -> np.ndarray[Any, Any]:
        ndarray, dtype = self._layouts.record_array
        if self._lease is None:
            self._table = numpy().zeros(self._total, dtype)
        else:
            # Positional: shape, dtype, buffer.
            self._table = ndarray((self._total,), dtype, self._lease.cast("B"))
        made: np.ndarray[Any, Any] = self._table
        return made

    def _all_keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.type.by_name, *self._added)))

    def to_dicts(self, *keys: str) -> list[dict[str, Any]]:
        """Return a dict for each packet, with those of `keys` (or of all keys) that it has; the values are copies."""
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
        """Return a pyarrow Table with a column for each of `keys` (or for all); null for keys that a packet lacks.

        A column has the type that its key declares, whatever the batch holds. So tables with the same keys have one
        schema, even those of empty batches. A column that was added by name alone has the type of its values.
        """
        return arrow_table(self, keys or self._all_keys(), self._added)

    # -- for filters and outputs ---------------------------------------------------------------------------------

    def select(self, rows: Sequence[int]) -> Self:
        """Return a batch of some packets, by their ascending numbers in this one, in the same memory.

        IndexError if this batch has no such packet.
        """
        # "All hold" is true of a part as well; "some hold" makes values() ask each record.
        chosen = self.copy()
        chosen._count = len(rows)
        known = range(self._count) if self._rows is None else self._rows
        try:
            chosen._rows = [known[row] for row in rows]
        except IndexError:
            raise IndexError(self._lacks(next(row for row in rows if not -self._count <= row < self._count))) from None
        chosen._rows_array = ffi.new("uint32_t[]", chosen._rows)
        return chosen

    def where(self, filter_: str | Filter) -> Self:
        """Return a batch of the packets that match a filter such as `tcp.dport == 22 && ip.ttl < 40`.

        They stay in the same memory. docs/filters.md describes the language; FilterError says where a filter is wrong.
        """
        from nflowlevel.records.mask import selected  # the daemon never filters so

        return self.select(selected(filter_, self))

    def copy(self) -> Self:
        """Return the same packets as a new batch: columns added to one do not appear in the other."""
        twin = type(self)(
            self._lease,
            self._count,
            group=self.group,
            file=self.file,
            valid_any=self._valid_any,
            valid_all=self._valid_all,
            find_names=self._find_names,
            type=self.type,
            time=self._time,
        )
        twin._rows, twin._rows_array, twin._names = self._rows, self._rows_array, self._names
        twin._added = dict(self._added)
        return twin

    def add(self, key: str | Key, values: Sequence[int | float | str | None]) -> None:
        """Add a column, or replace the one of the same name. `values` has a value or None for each packet.

        A name alone leaves the type of a new column open. A key that a filter declares in `adds` fixes the type, so
        that all Arrow tables have one schema. Raises ValueError if there are more or fewer values than packets.
        """
        name, declared = (key, None) if isinstance(key, str) else (key.name, key)
        if len(values) != self._count:
            raise ValueError(f"add {name}: there must be a value for each of {self._count} packets, not {len(values)}")
        if self._rows is not None:
            # Outputs find an added value by its record's number.
            spread: list[int | float | str | None] = [None] * self._total
            for row, value in zip(self._rows, values, strict=True):
                spread[row] = value
            values = spread
        self._added[name] = Column(values, declared)
        # Other names may mean the same column.
        self._cache.clear()

    def add_print(self) -> None:
        """Add the key `print`: each packet or flow as one line of text, as PRINTPKT or PRINTFLOW writes it.

        A newline ends it. It costs nothing until it is asked for. Other records have no such text.
        """
        _ = self.names
        self.add_printed(PRINT_FLOW if self.type.of_flows else PRINT)

    def add_printed(self, key: Key) -> None:
        """Add a text that C makes of the records when it is asked for: PRINT, PRINT_FLOW or PRINT_NAT.

        Records of another kind than the text's have none.
        """
        if self._lease is None or not (self.type.of_packets if key is PRINT else self.type.of_flows):
            self.add(key, [None] * self._count)
            return
        self._added[key.name] = Printed(self.raw, key)
        self._cache.clear()

    def rows_with(self, condition: Condition) -> list[int]:
        """Return the numbers of the rows that meet a condition; none where it is one of another type of records."""
        bit = 1 << condition.value
        if self._lease is None or not self._valid_any & bit or not self.type.has_condition(condition):
            return []
        if self._valid_all & bit:
            return list(range(self._count))
        return [row for row, valid in enumerate(self._valid_words()) if valid & bit]

    @property
    def added(self) -> dict[str, Column | Printed]:
        """The columns that were added, by name."""
        return self._added

    @property
    def names(self) -> NameTable:
        """Names of the interfaces, as they were when first asked for."""
        if self._names is None:
            self._names = self._find_names() if self._find_names else NO_NAMES
        return self._names

    @names.setter
    def names(self, table: NameTable) -> None:
        self._names = table

    @property
    def raw(self) -> Records:
        """What the renderer in C reads; valid as long as the batch exists."""
        lease, rows, names = self._lease, self._rows_array, self._names or NO_NAMES
        if self._raw is None or self._raw.names is not names:
            if lease is None:
                self._raw = Records(None, ffi.NULL, ffi.NULL, rows, self._count, names, self._time)
            else:
                self._raw = Records(self.type, lease.records, lease.data, rows, self._count, names, self._time)
        return self._raw
