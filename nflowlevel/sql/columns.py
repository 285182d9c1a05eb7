# SPDX-License-Identifier: GPL-2.0-or-later
"""Which column takes which key of a stack, and what rows look like for that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nflowlevel.records.keys import AS_NUMBER, TIME, TIME_KEY, Key, added_key

if TYPE_CHECKING:
    from nflowlevel.spool.rows import Layout


class Column(NamedTuple):
    """A column as the database has it, and the item of a row's layout that fills it."""

    name: str
    type: str
    """The database's name of the type, in lower case, without a length."""
    size: int | None = None
    """Characters (or bytes) that a text column holds, where that is limited."""
    automatic: bool = False
    """The database fills it itself: a sequence, an identity, a generated column."""
    item: str = ""
    """What of the layout goes into it; empty: nothing of this stack does."""


#: Types that hold whole numbers, in all databases, and how many bits of them, with the sign.
INTEGER_BITS: Mapping[str, tuple[int, bool]] = {
    "tinyint": (8, True),
    "tinyint unsigned": (8, False),
    "smallint": (16, True),
    "smallint unsigned": (16, False),
    "mediumint": (24, True),
    "mediumint unsigned": (24, False),
    "int": (32, True),
    "int unsigned": (32, False),
    "integer": (32, True),
    "bigint": (64, True),
    "bigint unsigned": (64, False),
}
#: Types in which an address is stored as a number.
NUMBERS = frozenset((*INTEGER_BITS, "numeric", "decimal", "real", "double precision", "double", "float"))

Members = Sequence[tuple[str, Key]]


def match(columns: Iterable[Column], members: Members, *, arguments: bool) -> list[Column]:
    """Return the columns that are written, each with the item that fills it.

    A `.` of a key is a `_` of a column; case does not count. A first column whose name begins with `_` is the table's
    own number and left out, as one is that the database fills by itself and no key does. With `arguments` (the columns
    are a procedure's) those without a key stay, for a null each.
    """
    keys = {name.replace(".", "_").lower(): (name, key) for name, key in members}
    written = []
    for number, column in enumerate(columns):
        if number == 0 and column.name.startswith("_"):
            continue
        item = _item(column, keys.get(column.name.lower()))
        if item or (arguments and not column.automatic):
            written.append(column._replace(item=item))
    return written


def _item(column: Column, found: tuple[str, Key] | None) -> str:
    if column.name.lower() == TIME.replace(".", "_") and not found:
        return TIME
    if not found:
        return ""
    name, key = found
    if key.kind in ("addr", "addr4") and key.type == "ipaddr" and column.type in NUMBERS:
        return name + AS_NUMBER
    return name


def all_items(members: Members) -> Layout:
    """Return a layout of everything a stack has: for rows whose table is not known yet."""
    items = [TIME]
    for name, key in members:
        items.append(name)
        if key.kind in ("addr", "addr4") and key.type == "ipaddr":
            items.append(name + AS_NUMBER)
    return tuple(items)


def plan_members(layout: Layout, members: Members) -> list[tuple[str, Key]]:
    """Return what a renderer needs for the layout: each item with its key. An item no key has is a column of nulls."""
    keys = {TIME: TIME_KEY, **dict(members)}
    return [(item, keys.get(item.removesuffix(AS_NUMBER)) or _null(item)) for item in layout]


def _null(item: str) -> Key:
    return added_key(item, "string", "Nothing of the stack.")
