# SPDX-License-Identifier: GPL-2.0-or-later
"""What a filter is once it has been read: a typed tree, in which every number has known bounds.

Numbers are whole numbers and never wrap: a node whose bounds do not fit into 64 bits with a sign cannot be made. So C,
columns and SQL compute the same without asking each other about types.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from nflowlevel.records.networks import Network

#: Bounds of every number in a filter. The same on both sides, so that a sign may always be changed.
LEAST, MOST = -(2**63) + 1, 2**63 - 1

#: Deeper trees are nothing that a person has written, and a function that walks through them must not run out of stack.
MOST_DEPTH = 100


@dataclass(frozen=True)
class Field:
    """A field that a filter may look at."""

    name: str
    """Its key, or the name that several keys share, such as `src_port`."""
    type: Literal["number", "address", "text", "any"]
    """`any` is a column of which nothing is known: it was added by a name alone, and no record has a value."""
    most: int = 0
    """The largest value that a number can have."""
    keys: tuple[str, ...] = ()
    """The keys that the name stands for; at most one of them holds in a record."""
    least: int = 0
    """Of a number: the smallest that it can be."""


@dataclass(frozen=True)
class Node:
    """A part of a filter; it begins at `at` of the text and ends before `end`."""

    at: int
    end: int


@dataclass(frozen=True)
class Computed(Node):
    """A part that has a number as its value: a condition is 0 or 1."""

    low: int
    high: int
    depth: int


@dataclass(frozen=True)
class Number(Computed):
    """A number as it stands in the text."""

    text: str


@dataclass(frozen=True)
class Value(Computed):
    """A field as a number; an address is IPv4's, 10.0.0.1 being 0x0a000001, and IPv6 has none."""

    field: Field


@dataclass(frozen=True)
class Sign(Computed):
    """One of ! ~ - + before a number."""

    operator: str
    operand: Computed


@dataclass(frozen=True)
class Operation(Computed):
    """Two numbers, and what computes or compares them."""

    operator: str
    operator_at: int
    left: Computed
    right: Computed


@dataclass(frozen=True)
class Brackets(Computed):
    """What stands between parentheses."""

    inside: Computed


@dataclass(frozen=True)
class Logic(Computed):
    """Conditions with && between all of them, or || between all of them."""

    operator: str
    parts: tuple[Computed, ...]
    operators_at: tuple[int, ...]


@dataclass(frozen=True)
class Pattern:
    """A text in which `*` stands for any characters, and `?` for one."""

    text: str


#: What a field may be among; a text is one that is equal.
Item: TypeAlias = range | Network | str | Pattern


@dataclass(frozen=True)
class Member(Computed):
    """A field among items: ranges of numbers, networks, or texts. With `negated`, a field that is none of them."""

    field: Field
    items: tuple[Item, ...]
    negated: bool

    @property
    def versions(self) -> tuple[int, ...]:
        """Of addresses: the versions that its networks have; an address of another is neither in nor outside."""
        return tuple(sorted({item.version for item in self.items if isinstance(item, Network)}))


def fields_of(node: Computed) -> Iterator[Field]:
    """Yield the fields that are looked at, each as often as it stands there."""
    match node:
        case Value() | Member():
            yield node.field
        case Sign():
            yield from fields_of(node.operand)
        case Operation():
            yield from fields_of(node.left)
            yield from fields_of(node.right)
        case Brackets():
            yield from fields_of(node.inside)
        case Logic():
            for part in node.parts:
                yield from fields_of(part)


# -- bounds -----------------------------------------------------------------------------------------------------------

Bounds: TypeAlias = tuple[int, int]

COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


def divided(left: int, right: int) -> int:
    """Return a quotient as C has it, rounded toward 0."""
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def remainder(left: int, right: int) -> int:
    """Return a remainder as C has it, with the sign of what is divided."""
    return left - right * divided(left, right)


#: What each operator does with two numbers.
COMPUTE: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": divided,
    "%": remainder,
    "<<": operator.lshift,
    ">>": operator.rshift,
    "&": operator.and_,
    "^": operator.xor,
    "|": operator.or_,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def bounds_of_sign(sign: str, low: int, high: int) -> Bounds:
    """Return the bounds of a number with a sign before it; ValueError where they do not fit."""
    match sign:
        case "!":
            return 0, 1
        case "~":
            return _fitting(-high - 1, -low - 1)
        case "-":
            return -high, -low
    return low, high


def bounds_of(operator_: str, left: Bounds, right: Bounds) -> Bounds:
    """Return the bounds of what an operator makes of numbers with these bounds; ValueError where it must not."""
    if operator_ in COMPARISONS:
        return 0, 1
    if operator_ in ("/", "%") and right == (0, 0):
        raise ValueError("a division by 0")
    if operator_ in ("<<", ">>"):
        if left[0] < 0:
            raise ValueError(f"the left side of {operator_} may be negative")
        if right[0] < 0 or right[1] > 63:
            raise ValueError(f"the right side of {operator_} must be 0 to 63")
    if left[0] == left[1] and right[0] == right[1]:
        exact = COMPUTE[operator_](left[0], right[0])
        return _fitting(exact, exact)
    return _fitting(*_bounds(operator_, left, right))


def _bounds(operator_: str, left: Bounds, right: Bounds) -> Bounds:
    positive = left[0] >= 0 and right[0] >= 0
    match operator_:
        case "+" | "*" | "<<" | ">>":
            corners = [COMPUTE[operator_](a, b) for a in left for b in right]
            return min(corners), max(corners)
        case "-":
            return left[0] - right[1], left[1] - right[0]
        case "/":
            most = max(map(abs, left))
            return (0, left[1] // max(right[0], 1)) if positive else (-most, most)
        case "%":
            most = min(max(map(abs, right)) - 1, max(map(abs, left)))
            return 0 if left[0] >= 0 else -most, 0 if left[1] <= 0 else most
        case "&" if left[0] >= 0 or right[0] >= 0:
            return 0, min(bounds[1] for bounds in (left, right) if bounds[0] >= 0)
    # The narrowest word that holds all four bounds.
    bits = max((bound if bound >= 0 else ~bound).bit_length() for bound in (*left, *right))
    return 0 if positive else -(1 << bits), (1 << bits) - 1


def _fitting(low: int, high: int) -> Bounds:
    if low < LEAST or high > MOST:
        raise ValueError("the result may need more than 64 bits")
    return low, high
