# SPDX-License-Identifier: GPL-2.0-or-later
"""How each key is read out of a record: as a number, an address, a text, a column. Worked out once a key."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from nflowlevel.binding.buffers import DATA_BYTES, RECORD_BYTES
from nflowlevel.errors import NotSupported, nearest
from nflowlevel.records.keys import BY_NAME, Key
from nflowlevel.records.render import TextColumn, field_size, offset_of, valid_bit
from nflowlevel.records.terms import NAMES

if TYPE_CHECKING:
    import numpy as np

#: Formats of the struct module, and their sizes.
FORMATS = {"u8": "B", "u16": "H", "u32": "I"}
ITEM_BYTES = {"B": 1, "H": 2, "I": 4, "Q": 8}

_ADDRESS_BYTES = {"addr": 16, "addr4": 4}
TEXT_KINDS = frozenset(("text", "mac", "macbytes", "ifname", "addr", "addr4", "addrbin"))

#: Where nfl_record.valid lies, as 64-bit words from the start of a slot.
VALID_AT = (DATA_BYTES + offset_of("valid")) // 8

#: The names that several keys share in a record, such as src_port.
CIM: dict[str, tuple[str, ...]] = NAMES.joined

#: The keys that a packet's record can hold.
PACKET_KEYS: dict[str, Key] = {name: key for name, key in BY_NAME.items() if key.kind != "column"}


class Layout(NamedTuple):
    """How a key is read."""

    key: Key
    bit: int
    """Its mask in nfl_record.valid."""
    format: str
    """Of a number: its format; of address bytes: `B`."""
    start: int
    """Of a number: items of that format from the slot's start to the first record's field; else bytes."""
    step: int
    """Items from record to record."""
    width: int
    """Bytes of an address, 0 for a number."""


@cache
def layout_of(name: str) -> Layout:
    """Return how the key of that name is read; KeyError as `find_key`."""
    key = find_key(name)
    format_ = FORMATS.get(key.kind, "B")
    size = ITEM_BYTES[format_]
    width = field_size(key.field) if key.kind == "fixed" else _ADDRESS_BYTES.get(key.kind, 0)
    return Layout(
        key, 1 << valid_bit(key), format_, (DATA_BYTES + offset_of(key.field)) // size, RECORD_BYTES // size, width
    )


@cache
def text_column(name: str) -> TextColumn:
    """Return what renders the key of that name as text."""
    return TextColumn(find_key(name))


@cache
def row_struct(names: tuple[str, ...]) -> tuple[int, Struct, Callable[[Any], Any] | None] | None:
    """A struct format that reads these keys of a record at once: their masks joined, the format, and what puts them
    into the order asked for; None where some are no plain numbers.
    """
    if any(name in CIM or find_key(name).kind not in FORMATS for name in names) or len(set(names)) < len(names):
        return None
    layouts = [layout_of(name) for name in names]
    ordered = sorted(layouts, key=lambda layout: offset_of(layout.key.field))
    if len({layout.key.field for layout in layouts}) < len(layouts):
        return None
    text, at = "=", 0
    for layout in ordered:
        offset = offset_of(layout.key.field)
        text += f"{offset - at}x{layout.format}"
        at = offset + ITEM_BYTES[layout.format]
    places = [ordered.index(layout) for layout in layouts]
    in_order = places == list(range(len(places)))
    mask = 0
    for layout in layouts:
        mask |= layout.bit
    return mask, Struct(f"{text}{RECORD_BYTES - at}x"), None if in_order else itemgetter(*places)


@cache
def numpy() -> Any:
    """NumPy, imported when the first column is asked for: the daemon never pays for it."""
    try:
        import numpy as found
    except ImportError:
        needed = "python3-numpy of the distribution, or pip install 'nflowlevel[columns]'"
        raise NotSupported("a column as NumPy array", found="no NumPy", needed=needed) from None
    return found


#: Keys whose column is a field of the records, as they are asked for.
columns_of_records: dict[str, str] = {}


@cache
def record_array() -> tuple[Callable[..., np.ndarray[Any, Any]], np.dtype[Any]]:
    """What makes an array, and `struct nfl_record` as NumPy sees it."""
    layout = {"valid": ("Q", offset_of("valid"))}
    for name, key in PACKET_KEYS.items():
        where = layout_of(name)
        if key.kind in FORMATS or where.width:
            layout[key.field] = (f"({where.width},)B" if where.width else where.format, offset_of(key.field))
    names = list(layout)
    formats, offsets = zip(*layout.values(), strict=True)
    np_ = numpy()
    return np_.ndarray, np_.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": RECORD_BYTES})


@cache
def find_key(name: str) -> Key:
    """Return the key of that name; KeyError with the nearest known one."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise KeyError(f"no key '{name}'{nearest(name, BY_NAME)}; docs/keys.md lists them") from None
