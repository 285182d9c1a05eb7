# SPDX-License-Identifier: GPL-2.0-or-later
"""Statements that make a table, and what lies between the output and it, hold what packets carry.

The columns that a statement names may be those of a view, or the arguments of a function: then the table is behind it,
and the arguments have types of their own. `pgwiden.py` and `mywiden.py` find them in their databases' catalogues. All
data stay: a column only gets a wider type of its own kind. Nothing is executed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nflowlevel.records.keys import AS_NUMBER, TIME, TIME_KEY, Key
from nflowlevel.sql.bodies import Body, carried
from nflowlevel.sql.check import misfits, wider
from nflowlevel.sql.columns import Column, Members, match

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class Widening(NamedTuple):
    """What is to be done so that all fits."""

    statements: Sequence[str] = ()
    """In their order, each ended; lines of comments too."""
    problems: Sequence[str] = ()
    """What else does not fit: arguments, and columns of a table that is not the one which the option names."""
    remarks: Sequence[str] = ()
    """What no statement here does."""


class Change(NamedTuple):
    """A column or an argument that gets a wider type."""

    name: str
    type: str


def keys_of(members: Members) -> Mapping[str, Key]:
    """Return the keys of a stack by the items of a layout."""
    return {TIME: TIME_KEY, **dict(members)}


def changes(columns: Sequence[Column], members: Members) -> tuple[list[Change], list[str]]:
    """Return which of a table's columns need a wider type, and what cannot be helped that way."""
    keys = keys_of(members)
    found, remarks = [], []
    for column in match(columns, members, arguments=False):
        key = keys[column.item.removesuffix(AS_NUMBER)]
        if type_ := wider(column, key):
            found.append(Change(column.name, type_))
        else:
            remarks += [f"{why}: change the column by hand" for why in misfits(column, key)]
    return found, remarks


class Arguments(NamedTuple):
    """What a function's or procedure's arguments need."""

    changes: Mapping[str, Mapping[int, str]]
    """By the routine's name in lower case, those it calls first: the new type of each argument, numbered from 0."""
    problems: list[str]
    remarks: list[str]


def arguments(
    start: Body,
    items: Sequence[str],
    bodies: Mapping[str, Body],
    types: Mapping[str, Sequence[Column]],
    members: Members,
) -> Arguments:
    """Return what becomes of the arguments of a routine, and of those that it calls.

    `items` fill the arguments of `start`; `types` are the arguments of all routines by their names in lower case.
    """
    keys = keys_of(members)
    found: dict[str, dict[int, str]] = {}
    problems, remarks = [], []
    for name, given in carried(start, items, bodies).items():
        of_routine: dict[int, str] = {}
        for at, (column, item) in enumerate(zip(types[name], given, strict=False)):
            if not item:
                continue
            column = column._replace(item=item)
            key = keys[item.removesuffix(AS_NUMBER)]
            told = misfits(column, key, f"argument {at + 1} of {bodies[name].name}, ")
            problems += told
            if type_ := wider(column, key):
                of_routine[at] = type_
            else:
                remarks += [f"{why}: change it by hand" for why in told]
        if of_routine:
            found[name] = of_routine
    return Arguments(found, problems, remarks)


def size(rows: float, octets: int) -> str:
    """Return how big a table is: `about 1,200,000 rows, 240 MB`."""
    unit, number = 0, float(octets)
    while number >= 1000 and unit < len(_UNITS) - 1:
        unit, number = unit + 1, number / 1000
    return f"about {max(0, round(rows)):,} rows, {number:.0f} {_UNITS[unit]}"
