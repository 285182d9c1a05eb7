# SPDX-License-Identifier: GPL-2.0-or-later
"""What `where` is told, as a condition of SQL that every engine understands: keywords, and filters as text.

    where(tcp_window=16384, dest_port=[22, 23], src_ip="192.0.2.0/24")     where("tcp.dport == 22 && ip.ttl < 40")

A value of a keyword is a number, a text, an address or network, None (no value), a `range`, or a list, tuple or set of
those, any of which may hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TypeAlias

from nflowlevel.archive.schema import Column, Relation
from nflowlevel.errors import printable
from nflowlevel.records.filters import FilterError, field_of
from nflowlevel.records.flow import FLOW
from nflowlevel.records.networks import networks
from nflowlevel.records.packet import PACKET
from nflowlevel.records.sums import SUM
from nflowlevel.records.types import RecordType
from nflowlevel.sql import where as sql_where
from nflowlevel.sql.addresstext import text_of
from nflowlevel.sql.literals import literal

One: TypeAlias = "int | float | str | range | None"
Given: TypeAlias = "One | list[One] | tuple[One, ...] | set[One] | frozenset[One]"
Moment: TypeAlias = "int | float | str | datetime"
Duration: TypeAlias = "int | float | str | timedelta"

_TYPES: dict[str, RecordType] = {"packets": PACKET, "flows": FLOW, "sums": SUM}
#: Whose ports a column has that several protocols share.
_PROTOCOLS = {"tcp": (6,), "udp": (17, 136), "sctp": (132,)}
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_EQUAL = re.compile(r"(\w+) = ([0-9]+|'[^'\\]*')")
_DURATION = re.compile(r"\s*([0-9]{1,9})\s*(s|m|min|h|d|w)\s*")


def conditions(relation: Relation, text: str | None, values: Mapping[str, Given]) -> Iterator[str]:
    """Yield a condition for a filter's text and for each keyword; KeyError or FilterError where one is wrong."""
    if text is not None:
        yield of_filter(relation, text)
    for name, value in values.items():
        yield of_value(relation, relation.find(name), value)


def of_filter(relation: Relation, text: str) -> str:
    """Return a filter as a condition; FilterError where it is wrong or looks at what the relation has no column for."""
    type_ = _TYPES.get(relation.name, PACKET)
    return sql_where.where(text, _fields(relation, type_), "common", type=type_).text


@cache
def _fields(relation: Relation, type_: RecordType) -> Mapping[str, sql_where.Column | sql_where.Expression]:
    """Return where a relation has the fields of filters."""
    found: dict[str, sql_where.Column | sql_where.Expression] = {}
    for column in relation:
        names = column.keys if len(column.keys) == 1 else (*column.keys, *column.members[:1])
        for name in names:
            try:
                field = field_of(name, type_)
            except (KeyError, TypeError):
                continue  # no field of filters
            shared = len(column.keys) > 1 and name in column.keys
            if shared and (protocols := _PROTOCOLS.get(name.partition(".")[0])):
                test = f"ip_protocol IN ({', '.join(map(str, protocols))})"
                found[field.name] = sql_where.Expression(f"CASE WHEN {test} THEN {column.name} END")
            elif not shared:
                found[field.name] = sql_where.Column(column.name, "text" if field.type == "address" else None)
    return found


def is_address(relation: Relation, name: str) -> bool:
    """Tell whether a column has addresses."""
    column, type_ = relation.by_name.get(name), _TYPES.get(relation.name, PACKET)
    try:
        return column is not None and any(field_of(key, type_).type == "address" for key in column.keys)
    except (KeyError, TypeError):
        return False


def of_value(relation: Relation, column: Column, value: Given) -> str:
    """Return the condition that a column has a value, or one of several."""
    several = value if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    singles: list[str] = []
    tests: list[str] = []
    for each in several:
        test = _test(relation, column, each)
        if test is None:
            singles.append(_single(column, each))
        else:
            tests.append(test)
    if len(singles) == 1:
        tests.insert(0, f"{column.name} = {singles[0]}")
    elif singles:
        tests.insert(0, f"{column.name} IN ({', '.join(sorted(set(singles)))})")
    if not tests:
        return "1 = 0"
    return tests[0] if len(tests) == 1 else f"({' OR '.join(tests)})"


def _test(relation: Relation, column: Column, value: One) -> str | None:
    """Return the condition for a value that is not simply equal; None: it is."""
    name = column.name
    if value is None:
        return f"{name} IS NULL"
    if isinstance(value, range):
        return _in_range(column, value)
    if isinstance(value, str) and is_address(relation, column.name):
        if "/" not in value:
            return f"{name} = {literal(_address(name, value))}"
        try:
            return of_filter(relation, f"{name} == {value}")
        except FilterError as error:
            raise ValueError(f"{name}: {error.reason}") from None
    return None


def _address(name: str, text: str) -> str:
    """Return an address as records have it."""
    try:
        (network,) = networks(text)
    except ValueError:
        raise ValueError(f"{name} is an address; '{printable(text)}' is none") from None
    return text_of(network)


def _in_range(column: Column, value: range) -> str:
    if column.type == "VARCHAR":
        raise TypeError(f"{column.name} is text, and a range has numbers")
    if abs(value.step) != 1:
        raise ValueError(f"{column.name}: a range must have the step 1, not {value.step}")
    if not value:
        return "1 = 0"
    low, high = min(value[0], value[-1]), max(value[0], value[-1])
    return f"{column.name} BETWEEN {literal(low)} AND {literal(high)}"


def _single(column: Column, value: object) -> str:
    """Return a value as the column's engine compares it: a text with texts, a number with numbers."""
    if not isinstance(value, (str, bool, float)) and hasattr(value, "__index__"):
        value = value.__index__()
    if column.type == "VARCHAR" and not isinstance(value, str):
        raise TypeError(f"{column.name} is text; {value!r} is a {type(value).__name__}")
    if column.type != "VARCHAR" and isinstance(value, str):
        text = value
        try:
            value = int(text, 0)
        except ValueError:
            raise TypeError(f"{column.name} is a number; '{printable(text)}' is none") from None
    return literal(value)


def excluding(found: Iterable[str]) -> str:
    """Return the condition that not all of these hold; it holds for what has no value, too."""
    text = " AND ".join(found)
    # A comparison, which DuckDB makes of many values at once, takes half of the time.
    single = _EQUAL.fullmatch(text)
    return f"{single[1]} IS DISTINCT FROM {single[2]}" if single else f"({text}) IS NOT TRUE"


# -- time --------------------------------------------------------------------------------------------------------------


def seconds(duration: Duration) -> float:
    """Return the seconds of a duration: a number, a timedelta, or text such as 90s, 5m, 1h, 7d, 2w."""
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if isinstance(duration, str):
        found = _DURATION.fullmatch(duration)
        if not found:
            told = "a number of seconds, or text such as 90s, 5m, 1h or 7d"
            raise ValueError(f"a duration must be {told}, not '{printable(duration)}'")
        return int(found[1]) * _UNITS[found[2]]
    return duration


def moment(given: Moment) -> int:
    """Return microseconds since 1970 of a time: seconds, a datetime, or text of ISO 8601. Without a zone it is UTC."""
    if isinstance(given, str):
        text = given
        try:
            given = datetime.fromisoformat(text)
        except ValueError:
            told = "2026-11-24, 2026-11-24T08:30 or with a zone"
            raise ValueError(f"a time must be written as {told}, not '{printable(text)}'") from None
    if isinstance(given, datetime):
        given = given if given.tzinfo else given.replace(tzinfo=UTC)
        whole = given - datetime(1970, 1, 1, tzinfo=UTC)
        return (whole.days * 86400 + whole.seconds) * 10**6 + whole.microseconds
    return round(given * 10**6)


def during(first: int | None, behind: int | None) -> str:
    """Return the condition that a time is at `first` or later and before `behind`, in microseconds; empty: none."""
    bounds = (("us >=", first), ("us <", behind))
    tests = (f"{test} {literal(bound)}" for test, bound in bounds if bound is not None)
    return " AND ".join(tests)
