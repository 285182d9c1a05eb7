# SPDX-License-Identifier: GPL-2.0-or-later
"""How each key is read out of a record: as a number, an address, a text, a column. Worked out once a key and type."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from nflowlevel.errors import NotSupported, nearest
from nflowlevel.records.keys import BY_NAME, CIM, Key
from nflowlevel.records.render import TextColumn
from nflowlevel.records.types import RecordType

if TYPE_CHECKING:
    import numpy as np

#: Formats of the struct module, and their sizes.
FORMATS = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}
ITEM_BYTES = {"B": 1, "H": 2, "I": 4, "Q": 8}
_FORMAT_OF = {size: format_ for format_, size in ITEM_BYTES.items()}

_ADDRESS_BYTES = {"addr": 16, "addr4": 4}
TEXT_KINDS = frozenset(("text", "chars", "mac", "macbytes", "ifname", "addr", "addr4", "addrbin"))


class Layout(NamedTuple):
    """How a key is read."""

    key: Key
    bit: int
    """Its mask in the record's `valid`."""
    format: str
    """The format of a number; `B` for the bytes of an address."""
    start: int
    """Distance of the field from the first record's start: for a number in items of that format, else in bytes."""
    step: int
    """Items from record to record."""
    width: int
    """Bytes of an address, 0 for a number."""


class Fields:
    """How the keys of one record type are read; `fields_of` has the one of each type."""

    def __init__(self, type_: RecordType) -> None:
        self.type = type_
        #: Keys whose column is a field of the records, as they are asked for.
        self.columns: dict[str, str] = {}
        self._layouts: dict[str, Layout] = {}
        self._texts: dict[str, TextColumn] = {}
        self._structs: dict[tuple[str, ...], tuple[int, Struct, Callable[[Any], Any] | None] | None] = {}

    def holds(self, name: str) -> bool:
        """Whether records have a field for the key of that name; KeyError where there is no such key in any type."""
        if name in self.type.by_name:
            return True
        find_key(name, self.type)
        return False

    def layout_of(self, name: str) -> Layout:
        """Return how the key of that name is read; the records must have it."""
        layout = self._layouts.get(name)
        if layout is None:
            layout = self._layouts[name] = self._layout(self.type.by_name[name])
        return layout

    def _layout(self, key: Key) -> Layout:
        format_ = FORMATS.get(key.kind, "B")
        size, offset = ITEM_BYTES[format_], self.type.offset_of(key.field)
        width = self.type.field_size(key.field) if key.kind == "fixed" else _ADDRESS_BYTES.get(key.kind, 0)
        return Layout(key, 1 << key.valid.value, format_, offset // size, self.type.stride // size, width)

    def number_at(self, field: str) -> tuple[str, int, int]:
        """Return format, start and step of a number that need not be a key: a length, the valid word."""
        size = self.type.field_size(field)
        return _FORMAT_OF[size], self.type.offset_of(field) // size, self.type.stride // size

    @cached_property
    def valid_at(self) -> int:
        """Where the valid word lies, in 64-bit words from the record's start."""
        return self.type.offset_of("valid") // ITEM_BYTES["Q"]

    def number_of_address(self, name: str) -> Struct:
        """Return what reads an IPv4 address out of a record as a number in host order."""
        offset = self.type.offset_of(self.type.by_name[name].field)
        return Struct(f">{offset}xI{self.type.stride - offset - ITEM_BYTES['I']}x")

    def text_column(self, name: str) -> TextColumn:
        """Return what renders the key of that name as text."""
        column = self._texts.get(name)
        if column is None:
            column = self._texts[name] = TextColumn(self.type.by_name[name], self.type)
        return column

    def row_struct(self, names: tuple[str, ...]) -> tuple[int, Struct, Callable[[Any], Any] | None] | None:
        """A struct format that reads these keys of a record at once: their masks joined, the format, and what puts them
        into the order asked for; None where some are no plain numbers.
        """
        try:
            return self._structs[names]
        except KeyError:
            made = self._structs[names] = self._row_struct(names)
            return made

    def _row_struct(self, names: tuple[str, ...]) -> tuple[int, Struct, Callable[[Any], Any] | None] | None:
        if not all(self.holds(name) for name in names) or len(set(names)) < len(names):
            return None
        layouts = [self.layout_of(name) for name in names]
        if any(layout.key.kind not in FORMATS for layout in layouts):
            return None
        ordered = sorted(layouts, key=lambda layout: self.type.offset_of(layout.key.field))
        if len({layout.key.field for layout in layouts}) < len(layouts):
            return None
        text, at = "=", 0
        for layout in ordered:
            offset = self.type.offset_of(layout.key.field)
            text += f"{offset - at}x{layout.format}"
            at = offset + ITEM_BYTES[layout.format]
        places = [ordered.index(layout) for layout in layouts]
        in_order = places == list(range(len(places)))
        mask = 0
        for layout in layouts:
            mask |= layout.bit
        return mask, Struct(f"{text}{self.type.stride - at}x"), None if in_order else itemgetter(*places)

    @cached_property
    def record_array(self) -> tuple[Callable[..., np.ndarray[Any, Any]], np.dtype[Any]]:
        """What makes an array, and the C struct as NumPy sees it."""
        layout = {"valid": ("Q", self.type.offset_of("valid"))}
        for name, key in self.type.by_name.items():
            where = self.layout_of(name)
            if key.kind in FORMATS or where.width:
                form = f"({where.width},)B" if where.width else where.format
                layout[key.field] = (form, self.type.offset_of(key.field))
        names = list(layout)
        formats, offsets = zip(*layout.values(), strict=True)
        np_ = numpy()
        described = {"names": names, "formats": formats, "offsets": offsets, "itemsize": self.type.stride}
        return np_.ndarray, np_.dtype(described)


@cache
def fields_of(type_: RecordType) -> Fields:
    """Return how the keys of a record type are read."""
    return Fields(type_)


def find_key(name: str, type_: RecordType) -> Key:
    """Return the key of that name: the type's own, else that of another type; KeyError with the nearest known one."""
    key = type_.by_name.get(name) or BY_NAME.get(name)
    if key is None:
        if name in CIM:
            return BY_NAME[CIM[name][0]]
        hint = nearest(name, {**BY_NAME, **type_.by_name}) or "; docs/keys.md lists them"
        raise KeyError(f"unknown key '{name}'{hint}")
    return key


@cache
def numpy() -> Any:
    """NumPy, imported when the first column is asked for: the daemon never pays for it."""
    try:
        import numpy as found
    except ImportError:
        needed = "python3-numpy of the distribution, or pip install 'nflowlevel[columns]'"
        raise NotSupported("a column as NumPy array", found="no NumPy", needed=needed) from None
    return found
