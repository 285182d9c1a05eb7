# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares a table with the stack that fills it: what is not stored, what stays empty, what does not fit.

A database refuses a value that its column cannot hold, and with it the row, which then lies in the dead-letter file: an
administrator wants to know before. The rules are about what packets can carry (`Key.most` and `Key.longest`), not about
the width of a key's type: no interface has an index above 2^31, and a rule's prefix has 127 characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from nflowlevel.records.keys import AS_NUMBER, MOST, TIME, TIME_KEY, AddedCondition, Key, PacketCondition
from nflowlevel.sql.columns import INTEGER_BITS, NUMBERS, Column, Members, match

_ADDRESS_BYTES = 16
_MOST_ADDRESS = MOST["uint32"]

_ADDRESS_KINDS = frozenset(("addr", "addr4", "addrbin", "addrnumber"))
_BINARY = frozenset(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "bytea"))
_BOOLEAN = ("boolean", "bool")
#: Where a column of 64 bits ends no counter gets: 9 exabytes.
_WIDE = (1 << 63) - 1


class Comparison(NamedTuple):
    """A table beside a stack."""

    stored: list[Column]
    """The columns that are filled."""
    without_column: list[str]
    """Keys that are not stored."""
    without_key: list[str]
    """Columns that stay empty: nothing of the stack fills them."""
    problems: list[str]
    """What would be refused, or stored as something else."""
    remarks: list[str]
    """What one should know, and need not mend."""


def compare(columns: Sequence[Column], members: Members) -> Comparison:
    """Return what becomes of the stack's keys in these columns: of the table, or of a procedure's arguments."""
    stored = match(columns, members, arguments=False)
    keys = {TIME: TIME_KEY, **dict(members)}
    problems, remarks = [], []
    for column in stored:
        key = keys[column.item.removesuffix(AS_NUMBER)]
        problems += misfits(column, key)
        remarks += [f"{_described(column)}: {why}" for why in _remarks(column, key)]
    filled = {column.name for column in stored}
    return Comparison(
        stored,
        [name for name, key in members if not _is_stored(name, key, stored, keys)],
        [column.name for column in _own(columns) if column.name not in filled and not column.automatic],
        problems,
        remarks,
    )


def misfits(column: Column, key: Key, where: str = "") -> list[str]:
    """Return what a column, or an argument of a routine, cannot hold of a key, with its name and type."""
    return [f"{where}{_described(column)}: {why}" for why in _problems(column, key)]


def _own(columns: Sequence[Column]) -> Sequence[Column]:
    """Leave out the table's own number."""
    return columns[1:] if columns and columns[0].name.startswith("_") else columns


def _described(column: Column) -> str:
    size = f"({column.size})" if column.size is not None else ""
    return f"{column.name} {column.type}{size}"


def _is_stored(name: str, key: Key, stored: Sequence[Column], keys: Mapping[str, Key]) -> bool:
    """Tell whether a key is in the table: by itself, or an address in another form, or the time as one value."""
    items = {column.item.removesuffix(AS_NUMBER) for column in stored}
    if name in items or (TIME in items and name in (f"{TIME}.sec", f"{TIME}.usec")):
        return True
    others = (keys[item] for item in items)
    return any(other.field == key.field and {key.kind, other.kind} <= _ADDRESS_KINDS for other in others)


def column_for(key: Key, dialect: str) -> str:
    """Return the narrowest of the database's types that holds what a filter adds under this key."""
    if key.type == "string":
        return "text"
    if key.type == "double":
        return "double precision"
    most = key.most or 0
    if dialect == "sqlite3":
        return "integer"
    fitting = (type_ for type_ in ("smallint", "integer", "bigint") if most <= _limit(type_))
    return next(fitting, "numeric(20)")


def statements(columns: Sequence[Column], members: Members, table: str, dialect: str) -> list[str]:
    """Return a statement for each column that the table lacks to store what filters add to the records of a stack."""
    present = {column.name.lower() for column in columns}
    return [
        f"ALTER TABLE {table} ADD COLUMN {name} {column_for(key, dialect)}; -- {key.meaning}"
        for name, key in ((name.replace(".", "_"), key) for name, key in members)
        if isinstance(key.valid, AddedCondition) and not key.plugin and name.lower() not in present
    ]


# -- what would hold it ------------------------------------------------------------------------------------------------

#: Types of whole numbers from which a wider one is chosen: of the same sign, so that what a column has stays.
_SIGNED = ("smallint", "integer", "bigint")
_UNSIGNED = ("smallint unsigned", "int unsigned", "bigint unsigned")
#: Types of texts with a limit: what a longer one is called.
_TEXTS = {"varchar": "varchar", "character varying": "varchar", "char": "varchar", "character": "varchar"}
_MOST_CHARACTERS = 16_383


def wider(column: Column, key: Key) -> str:
    """Return a type for the column that holds all values of a key and all that the column has.

    Empty: it holds them already, or no wider type of its kind would: the key is of another kind than the column.
    """
    if not [*_problems(column, key)] or column.item == TIME or column.type in _BOOLEAN:
        return ""
    if column.type in INTEGER_BITS:
        if key.type == "double":
            return "double precision"
        most = _most(column, key)
        types = _UNSIGNED if column.type.endswith("unsigned") else _SIGNED
        return "" if most is None else next((type_ for type_ in types if most <= _limit(type_)), types[-1])
    most = _most(column, key)
    length = len(str(most)) if most is not None else _length(column, key)[0]
    if length is None or column.type in NUMBERS or length > _MOST_CHARACTERS:
        return ""
    if column.type == "varbinary":
        return f"varbinary({length})"
    return f"{_TEXTS[column.type]}({length})" if column.type in _TEXTS else ""


# -- what does not fit ------------------------------------------------------------------------------------------------


def _problems(column: Column, key: Key) -> Iterator[str]:
    """Yield what the column cannot hold."""
    if column.item == TIME:
        if column.type in NUMBERS:
            yield f"{TIME} is a date and time, not a number"
        return
    if key.type == "double":
        if column.type in INTEGER_BITS or column.type in _BOOLEAN:
            yield f"{key.name} is a number with a fraction"
        return
    most = _most(column, key)
    if most is None:
        yield from _problems_of_text(column, key)
    elif column.type in _BOOLEAN:
        if most > 1:
            yield f"{key.name} goes up to {most}"
    elif column.type in INTEGER_BITS:
        limit = _limit(column.type)
        if most > limit and limit < _WIDE:
            yield f"{key.name} goes up to {most}, the column to {limit}"
    elif column.size is not None and column.type not in NUMBERS and len(str(most)) > column.size:
        yield f"{key.name} has up to {len(str(most))} digits"


def _problems_of_text(column: Column, key: Key) -> Iterator[str]:
    if column.type in NUMBERS:
        yield f"{key.name} is not a number"
    elif column.size is not None:
        length, unit = _length(column, key)
        if length is not None and length > column.size:
            yield f"{key.name} has up to {length} {unit}"


def _remarks(column: Column, key: Key) -> Iterator[str]:
    if (column.item.endswith(AS_NUMBER) and key.kind == "addr") or (
        key.valid is PacketCondition.IP4 and key.kind == "addrnumber"
    ):
        yield f"{key.name} as a number holds IPv4 only; it is empty for IPv6 packets"
    most = _most(column, key)
    if most is not None and column.type in INTEGER_BITS and most > _limit(column.type) >= _WIDE:
        yield f"{key.name} above {_limit(column.type)} does not fit, but no counter gets that far"


def _limit(type_: str) -> int:
    bits, signed = INTEGER_BITS[type_]
    return (1 << bits - signed) - 1


def _most(column: Column, key: Key) -> int | None:
    """Return the largest number that the key can have; None where it is no number."""
    return _MOST_ADDRESS if column.item.endswith(AS_NUMBER) else key.most


def _length(column: Column, key: Key) -> tuple[int | None, str]:
    """Return how many bytes or characters a text or raw key can have in this column, as far as that is known."""
    if key.type in ("raw", "rawstr"):
        if column.type in _BINARY or key.longest is None:
            return key.longest, "bytes"
        return 2 + 2 * key.longest, "characters"
    if column.type in _BINARY and key.type == "ipaddr":
        return _ADDRESS_BYTES, "bytes"
    return key.longest, "characters"
