# SPDX-License-Identifier: GPL-2.0-or-later
"""A filter over records: the numbers of the rows it selects, and with NumPy a mask of a batch.

Both walk through the tree once and compute a whole column at each node. A value that a record lacks is None in a list;
beside an array stands a second one, which says where there is a value.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from nflowlevel.errors import NotSupported
from nflowlevel.records.expressions import (
    COMPUTE,
    LEAST,
    MOST,
    Brackets,
    Computed,
    Field,
    Logic,
    Member,
    Number,
    Operation,
    Pattern,
    Sign,
    Value,
)
from nflowlevel.records.fields import numpy
from nflowlevel.records.filters import Filter, FilterError, field_of_column, find_field, parse, parse_with
from nflowlevel.records.keys import Condition, Key
from nflowlevel.records.networks import BITS, Network
from nflowlevel.records.packet import PACKET
from nflowlevel.records.types import RecordType

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, Any]


class Added(Protocol):
    """A column that was added to a batch."""

    @property
    def key(self) -> Key | None:
        """Its key, if it was declared."""


class Columns(Protocol):
    """What a filter looks at of a batch."""

    def __len__(self) -> int: ...

    @property
    def type(self) -> RecordType:
        """What kind of records it has."""

    @property
    def added(self) -> Mapping[str, Added]:
        """The columns that are not fields of the records."""

    def values(self, key: str) -> list[Any]:
        """Return one key of each record, None where it does not hold."""

    def column(self, key: str) -> Array:
        """Return the same as an array."""

    def valid(self, key: str | Condition) -> Array:
        """Return where the key holds, or a condition."""


def selected(filter_: Filter | str, batch: Columns) -> list[int]:
    """Return the numbers of the rows that a filter selects, ascending; by NumPy where it is installed.

    FilterError where the filter is wrong, or looks at what records of the batch do not have.
    """
    try:
        numpy()
    except NotSupported:
        return rows(filter_, batch)
    chosen: list[int] = mask(filter_, batch).nonzero()[0].tolist()
    return chosen


def _read(filter_: Filter | str, batch: Columns) -> Filter:
    """Return a filter as it is to be read for a batch: its type of records, and the columns that were added to it."""
    text = filter_ if isinstance(filter_, str) else filter_.text
    type_, added = batch.type, batch.added
    declared = tuple(column.key for column in added.values() if column.key)
    if len(declared) == len(added):
        return parse(text, type_, declared)

    def find(name: str, at: int) -> Field:
        try:
            column = type_.own.find(name, added)
        except KeyError:
            column = ""
        if column not in added or added[column].key:
            return find_field(text, name, at, type_, declared, added)
        try:
            return field_of_column(name, column, batch.values(column), type_)
        except TypeError as error:
            raise FilterError(str(error), text, at) from None

    return parse_with(text, find)


# -- lists ------------------------------------------------------------------------------------------------------------


def rows(
    filter_: Filter | str,
    records: Columns | Sequence[Mapping[str, Any]],
    *,
    type: RecordType = PACKET,
    added: Sequence[Key] = (),
) -> list[int]:
    """Return the numbers of the rows that a filter selects, without NumPy.

    `records` are a batch, or dicts such as `Batch.to_dicts` and JSON lines have: keys by any of their names. A batch
    knows what it holds; of dicts `type` says which records they are, and `added` has the keys of further members.
    """
    if isinstance(records, Sequence):
        text = filter_ if isinstance(filter_, str) else filter_.text
        parsed = parse(text, type, tuple(added))
        find: Callable[[Field], list[Any]] = lambda field: _of_dicts(field, records, type)  # noqa: E731
    else:
        parsed = _read(filter_, records)
        find = lambda field: _first(map(records.values, field.keys))  # noqa: E731
    return [row for row, holds in enumerate(_Lists(len(records), find).condition(parsed.root)) if holds]


def holds(
    filter_: Filter | str, record: Mapping[str, Any], *, type: RecordType = PACKET, added: Sequence[Key] = ()
) -> bool:
    """Tell whether a filter selects one record: a dict such as `Packet.to_dict` and a line of JSON have.

    `type` and `added` as for `rows`.
    """
    return bool(rows(filter_, [record], type=type, added=added))


def _of_dicts(field: Field, records: Sequence[Mapping[str, Any]], type_: RecordType) -> list[Any]:
    names = _spellings(field, type_)
    return [next((record[name] for name in names if record.get(name) is not None), None) for record in records]


@cache
def _spellings(field: Field, type_: RecordType) -> tuple[str, ...]:
    """Return the names that a field may have in a dict."""
    names = [field.name, *field.keys]
    for key in field.keys:
        known = type_.by_name.get(key)
        same = [
            each for each in type_.by_name.values() if known and (each.field, each.valid) == (known.field, known.valid)
        ]
        names += [name for each in same if each.type == "string" for name in (each.name, each.cim)]
    return tuple(dict.fromkeys(filter(None, names)))


def _first(columns: Iterable[list[Any]]) -> list[Any]:
    """Return what holds of several columns, of which at most one does."""
    first, *others = columns
    for column in others:
        first = [other if value is None else value for value, other in zip(first, column, strict=True)]
    return first


_Numbers: TypeAlias = list[int | None]


class _Lists:
    """The rows as lists: a number or None for each."""

    def __init__(self, count: int, find: Callable[[Field], list[Any]]) -> None:
        self._count, self._find = count, find

    def condition(self, node: Computed) -> list[bool]:
        """Return where a condition holds."""
        match node:
            case Logic():
                connect = all if node.operator == "&&" else any
                return list(map(connect, zip(*map(self.condition, node.parts), strict=True)))
            case Sign(operator="!"):
                return [not holds for holds in self.condition(node.operand)]
            case Brackets():
                return self.condition(node.inside)
        return [bool(value) for value in self._number(node)]

    def _number(self, node: Computed) -> _Numbers:
        match node:
            case Number():
                return [node.low] * self._count
            case Value():
                values = self._find(node.field)
                return list(map(_as_ip4, values)) if node.field.type == "address" else values
            case Member():
                return self._member(node)
            case Sign():
                return [None if value is None else _SIGNS[node.operator](value) for value in self._number(node.operand)]
            case Brackets():
                inside = node.inside
                return (
                    [int(holds) for holds in self.condition(inside)]
                    if isinstance(inside, Logic)
                    else self._number(inside)
                )
            case Operation():
                compute = COMPUTE[node.operator]
                divides = node.operator in ("/", "%")
                return [
                    None if a is None or b is None or (divides and not b) else int(compute(a, b))
                    for a, b in zip(self._number(node.left), self._number(node.right), strict=True)
                ]
        raise TypeError(node)

    def _member(self, node: Member) -> _Numbers:
        return _tested(node, self._find(node.field))


_SIGNS: dict[str, Callable[[int], int]] = {
    "!": lambda value: int(not value),
    "~": lambda value: ~value,
    "-": lambda value: -value,
    "+": lambda value: value,
}


@lru_cache(maxsize=4096)
def _address(text: str) -> tuple[int, int]:
    """Return an address as version and number."""
    version, family = (6, socket.AF_INET6) if ":" in text else (4, socket.AF_INET)
    return version, int.from_bytes(socket.inet_pton(family, text), "big")


def _as_ip4(text: str | None) -> int | None:
    if text is None:
        return None
    version, number = _address(text)
    return number if version == 4 else None


def _tested(node: Member, values: list[Any]) -> _Numbers:
    """Return for each value whether it is among the items. There are many of each value: it is tested once."""
    test = _tester(node)
    results: dict[Any, int | None] = {value: None if value is None else test(value) for value in set(values)}
    return [results[value] for value in values]


@lru_cache(maxsize=64)
def _tester(node: Member) -> Callable[[Any], int | None]:
    """Return what tells of a value whether it is among the items; None where that cannot be asked."""
    if node.field.type == "address":
        return _address_tester(node)
    if node.field.type == "text":
        patterns = [re.compile(_regular(item.text), re.DOTALL) for item in node.items if isinstance(item, Pattern)]
        texts = {item for item in node.items if isinstance(item, str)}
        return lambda value: (value in texts or any(each.fullmatch(value) for each in patterns)) != node.negated
    ranges = [item for item in node.items if isinstance(item, range)]
    return lambda value: any(value in each for each in ranges) != node.negated


def _address_tester(node: Member) -> Callable[[str], int | None]:
    def test(text: str) -> int | None:
        version, number = _address(text)
        if version not in node.versions:
            return None
        return any(net.version == version and net.address <= number <= net.last for net in networks) != node.negated

    networks = [item for item in node.items if isinstance(item, Network)]
    return test


def _regular(pattern: str) -> str:
    """Return a pattern as regular expression."""
    return "".join({"*": ".*", "?": "."}.get(character) or re.escape(character) for character in pattern)


# -- columns ----------------------------------------------------------------------------------------------------------


def mask(filter_: Filter | str, batch: Columns) -> Array:
    """Return for each row of a batch whether a filter selects it: a NumPy array of bool.

    FilterError where the filter is wrong, or looks at what records of the batch do not have; NotSupported without
    NumPy.
    """
    return _Arrays(batch).condition(_read(filter_, batch).root)


class _Arrays:
    """The rows as arrays: numbers with 64 bits, and whether a row has them (None: all have)."""

    def __init__(self, batch: Columns) -> None:
        self._batch, self._np = batch, numpy()

    def condition(self, node: Computed) -> Array:
        """Return where a condition holds."""
        match node:
            case Logic():
                first, *others = map(self.condition, node.parts)
                for other in others:
                    first = first & other if node.operator == "&&" else first | other
                return first
            case Sign(operator="!"):
                return ~self.condition(node.operand)
            case Brackets():
                return self.condition(node.inside)
        value, known = self._number(node)
        value = self._np.broadcast_to(value, len(self._batch))
        return _both(value != 0, known)

    def _number(self, node: Computed) -> tuple[Any, Array | None]:
        match node:
            case Number():
                return self._np.int64(node.low), None
            case Value():
                return self._field(node.field)
            case Member():
                return self._member(node)
            case Sign():
                value, known = self._number(node.operand)
                return (value == 0) * self._np.int64(1) if node.operator == "!" else _SIGNS[node.operator](value), known
            case Brackets():
                inside = node.inside
                if isinstance(inside, Logic):
                    return self.condition(inside).astype(self._np.int64), None
                return self._number(inside)
            case Operation():
                (left, left_known), (right, right_known) = self._number(node.left), self._number(node.right)
                known = left_known if right_known is None else _both(right_known, left_known)
                if node.operator in ("/", "%"):
                    known = _both(right != 0, known)
                    right = self._np.where(right == 0, 1, right)
                    quotient = abs(left) // abs(right) * self._np.where((left < 0) == (right < 0), 1, -1)
                    return (quotient if node.operator == "/" else left - right * quotient), known
                result: Any = COMPUTE[node.operator](left, right)
                return result * self._np.int64(1) if result.dtype == bool else result, known
        raise TypeError(node)

    def _field(self, field: Field) -> tuple[Array, Array | None]:
        """Return a field as numbers, and where it holds."""
        np_ = self._np
        if field.type == "address":
            return self._ip4(field.name)
        if any(self._is_list(key) for key in field.keys):
            values = _first(map(self._batch.values, field.keys))
            known = np_.array([value is not None for value in values], dtype=bool)
            return np_.array(
                [0 if value is None else max(LEAST, min(value, MOST)) for value in values], np_.int64
            ), known
        first, *others = field.keys
        numbers, known = self._batch.column(first).astype(np_.int64), self._batch.valid(first)
        for key in others:
            holds = self._batch.valid(key)
            numbers, known = np_.where(holds, self._batch.column(key), numbers), known | holds
        return numbers, known

    def _is_list(self, key: str) -> bool:
        return key in self._batch.added or key not in self._batch.type.by_name

    def _ip4(self, key: str) -> tuple[Array, Array]:
        np_ = self._np
        if not self._is_bytes(key):
            numbers = [_as_ip4(text) for text in self._batch.values(key)]
            known = np_.array([number is not None for number in numbers], dtype=bool)
            return np_.array([number or 0 for number in numbers], np_.int64), known
        octets = np_.ascontiguousarray(self._batch.column(key)[:, :4])
        known = self._of_version(key, 4)
        return np_.where(known, octets.view(">u4")[:, 0], 0).astype(np_.int64), known

    def _of_version(self, key: str, version: int) -> Array:
        """Return where an address of the records has this version."""
        known, six = self._batch.valid(key), self._batch.type.six
        if six is None or self._batch.type.by_name[key].kind == "addr4":
            return known if version == 4 else ~known & known
        return known & (~self._batch.valid(six) if version == 4 else self._batch.valid(six))

    def _member(self, node: Member) -> tuple[Array, Array | None]:
        np_ = self._np
        if node.field.type == "number":
            numbers, known = self._field(node.field)
            inside = np_.zeros(len(numbers), bool)
            for item in node.items:
                assert isinstance(item, range)
                inside |= (numbers >= item[0]) & (numbers <= item[-1])
            return (inside != node.negated) * np_.int64(1), known
        if node.field.type == "address" and self._is_bytes(node.field.name):
            return self._networks(node)
        found = _tested(node, _first(map(self._batch.values, node.field.keys)))
        known = np_.array([each is not None for each in found], dtype=bool)
        return np_.array([bool(each) for each in found], np_.int64), known

    def _is_bytes(self, name: str) -> bool:
        """Whether an address lies in the records as such, and not only as a text of them."""
        return not self._is_list(name) and self._batch.type.by_name[name].type == "ipaddr"

    def _networks(self, node: Member) -> tuple[Array, Array]:
        key, np_ = node.field.name, self._np
        octets = self._batch.column(key)
        of_version = {version: self._of_version(key, version) for version in node.versions}
        inside = np_.zeros(len(octets), bool)
        for item in node.items:
            assert isinstance(item, Network)
            inside |= of_version[item.version] & self._within(octets, item)
        known, *others = of_version.values()
        for other in others:
            known = known | other
        return (inside != node.negated) * np_.int64(1), known

    def _within(self, octets: Array, network: Network) -> Array:
        """Return where bytes begin as a network does."""
        size = BITS[network.version] // 8
        begins = network.address.to_bytes(size, "big")
        whole, rest = divmod(network.length, 8)
        found: Array = (octets[:, :whole] == self._np.frombuffer(begins[:whole], self._np.uint8)).all(axis=1)
        if rest:
            found &= octets[:, whole] >> (8 - rest) == begins[whole] >> (8 - rest)
        return found


def _both(first: Array, second: Array | None) -> Array:
    return first if second is None else first & second
