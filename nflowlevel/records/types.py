# SPDX-License-Identifier: GPL-2.0-or-later
"""RecordType: one kind of record, how it lies in memory and which keys it has. Batches and renderers work for any.

A record is a C struct that begins with `uint64_t valid`, as `struct nfl_any` of _cdefs/record.h says. The types are
declared where a row of theirs is: `PACKET` in packet.py, `SUM` in sums.py. A name means what it means in the batch's
own type: `oob.time.sec` of a sum lies elsewhere than that of a packet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from importlib import import_module
from typing import Any, Final

from nflowlevel.binding._lib import CData, ffi
from nflowlevel.records.keys import BY_NAME, Condition, Key
from nflowlevel.records.names import Names

#: A bit of 64 has to say what holds.
_MOST_CONDITIONS = 64
_WORD_BYTES = 8


class RecordType:
    """A kind of record.

    `struct` is the C type, as cffi has it, and `begins` the struct that it begins with, if it does with one. `keys` are
    all keys that lie in it, `row` returns what makes one row of a batch from the batch and a number; it is called when
    the first row is asked for. `six` is the condition that
    says the addresses (kinds addr and addrbin) are IPv6. `time` names the fields with the record's time: seconds and
    microseconds of 32 bits each, or nanoseconds since 1970 of 64 bits; empty: records have the time of their batch.
    `whole_seconds` is the condition that says that only the second is known. `terms` are further names of keys, each an
    attribute of a row.

    ValueError: a key whose field the struct does not have, or not in that size.
    """

    def __init__(
        self,
        name: str,
        *,
        struct: CData,
        begins: CData | None = None,
        keys: Iterable[Key],
        row: Callable[[], Callable[[Any, int], Any]],
        six: Condition | None = None,
        time: tuple[()] | tuple[str] | tuple[str, str] = (),
        whole_seconds: Condition | None = None,
        terms: Mapping[str, str] | None = None,
    ) -> None:
        self.name: Final = name
        self._find_row: Final = row
        self.six: Final = six
        self.time: Final = time
        self.whole_seconds: Final = whole_seconds
        self.terms: Final[Mapping[str, str]] = terms or {}
        #: Bytes from record to record.
        self.stride: Final = int(ffi.sizeof(struct))
        #: Whether its records begin as packets do, or are packets.
        self.of_packets: Final[bool] = (begins or struct) is ffi.typeof("struct nfl_record")
        #: Whether its records are flows.
        self.of_flows: Final[bool] = struct is ffi.typeof("struct nfl_flow")
        self._fields: dict[str, CData] = dict(struct.fields) | dict(begins.fields if begins else ())
        self._keys: Final = frozenset(keys)
        #: The keys by name: of a name that several plugins publish, the first.
        self.by_name: Final[dict[str, Key]] = {}
        for key in keys:
            self.by_name.setdefault(key.name, key)
            self._check(key)
        if self.offset_of("valid") or self.field_size("valid") != _WORD_BYTES or self.stride % _WORD_BYTES:
            raise ValueError(
                f"record type {name}: a record begins with uint64_t valid and is a multiple of 8 bytes long"
            )
        for field in time:
            self.offset_of(field)
        _TYPES[name] = self

    def _check(self, key: Key) -> None:
        size, wanted = self.field_size(key.field), _BYTES.get(key.kind)
        if wanted and size != wanted:
            raise ValueError(
                f"record type {self.name}: {key.name} ({key.kind}) takes {wanted} bytes, {key.field} has {size}"
            )
        if key.length:
            self.offset_of(key.length)
        if key.kind in _MAYBE_SIX and self.six is None:
            raise ValueError(f"record type {self.name}: {key.name} may be IPv6, so `six` has to say when")
        if not 0 <= key.valid.value < _MOST_CONDITIONS:
            raise ValueError(f"record type {self.name}: no bit of 64 for condition {key.valid}")

    def has_condition(self, condition: Condition) -> bool:
        """Tell whether a condition is one of this type's, and not of another type with the same number."""
        return isinstance(condition, tuple({type(key.valid) for key in self._keys}))

    def __contains__(self, key: object) -> bool:
        """Whether this very key lies in the record; another type may have one of the same name."""
        return key in self._keys

    def offset_of(self, field: str) -> int:
        """Return where a field lies in the record, in bytes; ValueError where there is none."""
        return int(self._field(field).offset)

    def field_size(self, field: str) -> int:
        """Return how many bytes of the record a field takes; ValueError where there is none."""
        return int(ffi.sizeof(self._field(field).type))

    def _field(self, field: str) -> CData:
        try:
            return self._fields[field]
        except KeyError:
            raise ValueError(f"record type {self.name}: no field '{field}'") from None

    @cached_property
    def row(self) -> Callable[[Any, int], Any]:
        """What makes one row of a batch from the batch and a number."""
        return self._find_row()

    @cached_property
    def cim(self) -> dict[str, tuple[str, ...]]:
        """The names that several keys share in a record, such as src_port: at most one of them holds."""
        shared: dict[str, tuple[str, ...]] = {}
        for key in self.by_name.values():
            if key.cim:
                shared[key.cim] = (*shared.get(key.cim, ()), key.name)
        return shared

    @cached_property
    def own(self) -> Names:
        """The names of the type's own keys."""
        return Names(self.by_name, self.terms)

    @cached_property
    def names(self) -> Names:
        """All names that batches of the type understand: its own keys come before those of other types."""
        return Names({**BY_NAME, **self.by_name}, self.terms, self.cim)

    def __repr__(self) -> str:
        return f"<RecordType {self.name}>"

    def __reduce__(self) -> tuple[Callable[[str, str], RecordType], tuple[str, str]]:
        """Be the same object after `copy` and `pickle`."""
        return declared_type, (self._find_row.__module__, self.name)


#: Those that were made, by name.
_TYPES: dict[str, RecordType] = {}


def declared_type(module: str, name: str) -> RecordType:
    """Return the record type of that name, which a module declares; ValueError where it does not."""
    import_module(module)
    try:
        return _TYPES[name]
    except KeyError:
        raise ValueError(f"{module} declares no record type '{name}'") from None


_BYTES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "addr": 16, "addrbin": 16, "addr4": 4, "ifname": 4}
_BYTES |= dict.fromkeys(("bytes", "text", "macbytes"), 4)
_MAYBE_SIX = frozenset(("addr", "addrbin"))
