# SPDX-License-Identifier: GPL-2.0-or-later
"""A filter as the C that bcc compiles before a prefilter's rules: the fields of the BPF program, and each one's C.

The language is that of all filters (records/filters.py, docs/filters.md). Each piece of C knows its place in the text,
so that what the compiler says is shown there. C computes in its own types where these hold every number that may come
up, as they nearly always do; else in 64 bits with a sign.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

from nflowlevel.errors import choice
from nflowlevel.records import expressions
from nflowlevel.records.expressions import (
    COMPARISONS,
    Brackets,
    Computed,
    Logic,
    Member,
    Number,
    Operation,
    Sign,
    Value,
)
from nflowlevel.records.filters import FilterError, field_of, no_field, parse_with
from nflowlevel.records.networks import Network


class PredicateError(FilterError):
    """A filter cannot be a predicate: `reason`, and `position` where in the text; the message shows the place."""


# -- fields -----------------------------------------------------------------------------------------------------------


class Field(NamedTuple):
    """A field as C: its value, and when a packet has it."""

    value: str
    known: str


_IP4, _IP6 = "p->flow.family == 4", "p->flow.family == 6"
_PORTS = "p->known & NFL_KNOWN_PORTS && "
_OF_PORTS = {
    "tcp": _PORTS + "p->flow.protocol == PROTO_TCP",
    "udp": _PORTS + "(p->flow.protocol == PROTO_UDP || p->flow.protocol == PROTO_UDPLITE)",
    "sctp": _PORTS + "p->flow.protocol == PROTO_SCTP",
}
_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg")
_ADDRESSES = {"ip.saddr": "p->flow.saddr", "ip.daddr": "p->flow.daddr"}

#: All fields there are: of what the program reads of a packet, by the names that ulogd2's keys have.
FIELDS: dict[str, Field] = {
    **{name: Field(f"be32({words}[3])", _IP4) for name, words in _ADDRESSES.items()},
    "ip.ttl": Field("p->ttl", _IP4),
    "ip6.hoplimit": Field("p->ttl", _IP6),
    "ip.protocol": Field("p->flow.protocol", "p->known & NFL_KNOWN_PROTOCOL"),
    **{
        f"{name}.{port}": Field(f"p->flow.{port}", known)
        for name, known in _OF_PORTS.items()
        for port in ("sport", "dport")
    },
    **{
        f"tcp.{flag}": Field(f"(p->tcp_flags >> {bit} & 1)", "p->known & NFL_KNOWN_FLAGS")
        for bit, flag in enumerate(_FLAGS)
    },
    "tcp.res2": Field("(p->tcp_flags >> 6)", "p->known & NFL_KNOWN_FLAGS"),
    **{
        f"{name}.{part}": Field(f"p->icmp_{part}", f"p->known & NFL_KNOWN_ICMP && {family}")
        for name, family in (("icmp", _IP4), ("icmpv6", _IP6))
        for part in ("type", "code")
    },
    "oob.family": Field("(p->flow.family == 4 ? 2 : 10)", "p->flow.family"),
    "raw.pktlen": Field("p->length", "1"),
}

#: What a name means that several keys share.
_SHARED = {
    f"{name}_port": Field(f"p->flow.{port}", "p->known & NFL_KNOWN_PORTS")
    for name, port in (("src", "sport"), ("dest", "dport"))
}

#: The fields that C has with 32 bits and no sign; all others become an int.
_UNSIGNED = ("ip.saddr", "ip.daddr", "raw.pktlen")


def has(name: str) -> bool:
    """Tell whether the BPF program has the field of that key, or shared name."""
    return name in FIELDS or name in _SHARED


# -- writing ----------------------------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """A piece of C, and the place in the predicate that it stands for."""

    code: str
    at: int


def translate(text: str) -> list[Piece]:
    """Return a predicate as C, in pieces; PredicateError where it is wrong."""
    try:
        root = parse_with(text, lambda name, at: _find(text, name, at)).root
        return [*_Writer(text).condition(root), Piece("", len(text.rstrip()))]
    except FilterError as error:
        raise PredicateError(error.reason, text, error.position) from None


def _find(text: str, name: str, at: int) -> expressions.Field:
    try:
        field = field_of(name)
    except KeyError:
        hint = choice(name.lower(), FIELDS)
        raise FilterError(no_field(name, hint), text, at) from None
    except TypeError as error:
        raise FilterError(f"{error}; available: {', '.join(FIELDS)}", text, at) from None
    if not has(field.name):
        reason = f"{name!r} is not a field of prefilters; available: {', '.join(FIELDS)}"
        raise FilterError(reason, text, at)
    return field


class _Writer:
    def __init__(self, text: str) -> None:
        self._text = text
        self._wide = False

    def condition(self, node: Computed) -> Iterator[Piece]:
        """Yield a condition, which holds only where the packet has all its fields."""
        match node:
            case Logic():
                for number, part in enumerate(node.parts):
                    if number:
                        yield Piece(node.operator, node.operators_at[number - 1])
                    yield from self.condition(part)
            case Sign(operator="!"):
                yield Piece("!", node.at)
                yield from self.condition(node.operand)
            case Brackets():
                yield Piece("(", node.at)
                yield from self.condition(node.inside)
                yield Piece(")", node.end - 1)
            case _:
                yield from self._computed_condition(node)

    def _computed_condition(self, node: Computed) -> Iterator[Piece]:
        outer, self._wide = self._wide, _type_of(node) is None
        needs = dict.fromkeys(self._needs(node))
        pieces = list(self._value(node))
        self._wide = outer
        if not needs:
            yield from pieces
            return
        known = " && ".join(f"({need})" for need in needs)
        yield Piece(f"({known} && (", pieces[0].at)
        yield from pieces
        yield Piece("))", node.end)

    def _needs(self, node: Computed) -> Iterator[str]:
        """Yield what must be so that a number has a value; not for conditions within, which have theirs."""
        match node:
            case Value():
                yield _c(node.field).known
            case Member() if node.field.type == "address":
                yield " || ".join({4: _IP4, 6: _IP6}[version] for version in node.versions)
            case Member():
                yield _c(node.field).known
            case Sign():
                yield from self._needs(node.operand)
            case Brackets():
                if not isinstance(node.inside, Logic):
                    yield from self._needs(node.inside)
            case Operation():
                yield from self._needs(node.left)
                yield from self._needs(node.right)
                if node.operator in ("/", "%") and node.right.low <= 0 <= node.right.high:
                    yield f"({' '.join(piece.code for piece in self._value(node.right))}) != 0"

    def _value(self, node: Computed) -> Iterator[Piece]:
        match node:
            case Number():
                yield Piece(f"{node.low}LL" if self._wide else node.text, node.at)
            case Value():
                value = _c(node.field).value
                yield Piece(f"(long long){value}" if self._wide else value, node.at)
            case Member():
                tests = " || ".join(_equal(node, item) for item in node.items)
                yield Piece(f"{'!' if node.negated else ''}({tests})", node.at)
            case Sign():
                yield Piece(node.operator, node.at)
                yield from self._value(node.operand)
            case Brackets():
                yield Piece("(", node.at)
                yield from self.condition(node.inside) if isinstance(node.inside, Logic) else self._value(node.inside)
                yield Piece(")", node.end - 1)
            case Operation(operator="/" | "%"):
                yield from self._division(node)
            case Operation():
                yield from self._value(node.left)
                yield Piece(node.operator, node.operator_at)
                yield from self._value(node.right)
            case _:
                raise TypeError(node)

    def _division(self, node: Operation) -> Iterator[Piece]:
        """Yield a division without signs: BPF has no other."""
        if node.left.low < 0 or node.right.low < 0:
            reason = f"a prefilter cannot divide negative numbers, and one side of {node.operator} may be negative"
            raise FilterError(reason, self._text, node.operator_at)
        unsigned = "(unsigned long long)("
        yield Piece(f"(long long)({unsigned}", node.at)
        yield from self._value(node.left)
        yield Piece(f"){node.operator}{unsigned}", node.operator_at)
        yield from self._value(node.right)
        yield Piece("))", node.end)


def _c(field: expressions.Field) -> Field:
    return FIELDS.get(field.name) or _SHARED[field.name]


#: A type of C: its bits, and whether it has a sign.
_Type = tuple[int, bool]
_INT, _UINT, _LONG = (32, True), (32, False), (64, True)


def _holds(type_: _Type, node: Computed) -> bool:
    bits, signed = type_
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return low <= node.low and node.high <= high


def _type_of(node: Computed) -> _Type | None:
    """Return the type that C computes a number in; None where that does not hold each number that may come up."""
    match node:
        case Number():
            return _type_of_number(node)
        case Value():
            return _UINT if node.field.name in _UNSIGNED else _INT
        case Sign():
            inside = _type_of(node.operand)
            if inside is None or node.operator == "!":
                return inside and _INT
            return inside if _holds(inside, node) else None
        case Brackets():
            return _INT if isinstance(node.inside, Logic) else _type_of(node.inside)
        case Operation():
            return _type_of_operation(node)
    return _INT


def _type_of_number(node: Number) -> _Type | None:
    digits = node.text.lower().rstrip("ul")
    suffix = node.text.lower()[len(digits) :]
    if "u" not in suffix and "l" not in suffix and _holds(_INT, node):
        return _INT
    if "l" not in suffix and ("u" in suffix or digits[0] == "0") and _holds(_UINT, node):
        return _UINT
    return None if "u" in suffix else _LONG


def _type_of_operation(node: Operation) -> _Type | None:
    left, right = _type_of(node.left), _type_of(node.right)
    if left is None or right is None or node.operator in ("/", "%"):
        return None
    if node.operator in ("<<", ">>"):
        return left if node.right.high < left[0] and _holds(left, node) else None
    # The wider one; of two that are as wide, the one without a sign.
    common = max(left, right, key=lambda type_: (type_[0], not type_[1]))
    if not (_holds(common, node.left) and _holds(common, node.right)):
        return None
    if node.operator in COMPARISONS:
        return _INT
    return common if _holds(common, node) else None


def _equal(node: Member, item: expressions.Item) -> str:
    """Return the test of a field against an item of its set."""
    if isinstance(item, Network):
        test = _within(_ADDRESSES[node.field.name], item)
        return f"({_IP4 if item.version == 4 else _IP6} && {test})" if len(node.versions) > 1 else test
    assert isinstance(item, range)
    value = _c(node.field).value
    return f"{value} == {item[0]}" if len(item) == 1 else f"({value} >= {item[0]} && {value} <= {item[-1]})"


def _within(words: str, network: Network) -> str:
    """Return the test of an address against a network as C, word by word as they lie in memory."""
    count = 1 if network.version == 4 else 4
    mask = (1 << 32 * count) - (1 << 32 * count - network.length)
    first = 3 if network.version == 4 else 0
    tests = [
        f"({words}[{first + number}] & {_word(mask, number, count):#x}u) == {_word(network.address, number, count):#x}u"
        for number in range(count)
        if _word(mask, number, count)
    ]
    return " && ".join(tests) or "1"


def _word(address: int, number: int, count: int) -> int:
    """Return a word of an address as the machine reads it from memory."""
    start = 4 * number
    return int.from_bytes(address.to_bytes(4 * count, "big")[start : start + 4], sys.byteorder)
