# SPDX-License-Identifier: GPL-2.0-or-later
"""A predicate over the fields of a packet, such as `tcp.dport == 22 && ip.ttl < 40`, as the C that bcc compiles.

It is one expression of C without side effects: fields, numbers, and the operators that compute, compare and connect.
A field is called as its key. Addresses and networks stand beside == and !=: `ip.saddr == 10.1.0.0/16`; elsewhere
ip.saddr is IPv4's as a number, 10.0.0.1 being 0x0a000001.

A packet that lacks a field does not meet the condition that looks at it, be it == or !=. A condition is what stands
between && and ||: `tcp.dport != 22` holds for TCP to other ports only, `!(tcp.dport == 22)` for UDP as well.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nflowlevel.errors import NflowError, nearest
from nflowlevel.prefilter.conditions import Network, networks

#: Longer ones, and deeper ones, are nothing that a person has written.
_MOST_CHARACTERS, _MOST_DEPTH = 8192, 64


class PredicateError(NflowError, ValueError):
    """A predicate is wrong: `reason`, and `position` where in the text; the message shows the place."""

    def __init__(self, reason: str, text: str, position: int) -> None:
        self.reason, self.text, self.position = reason, text, position
        start = text.rfind("\n", 0, position) + 1
        line = text[start:].partition("\n")[0]
        caret = "".join(character if character == "\t" else " " for character in text[start:position]) + "^"
        super().__init__(f"predicate: {reason}\n    {line}\n    {caret}")


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


# -- reading ----------------------------------------------------------------------------------------------------------


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


@dataclass(frozen=True)
class _Group:
    """What stands between parentheses."""

    opening: _Token
    inside: list[_Node]
    closing: _Token


_Node = _Token | _Group

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<address>
        (?: \d+\.\d+\.\d+\.\d+ | [0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:]*(?:\d+\.\d+\.\d+\.\d+)? ) (?:/\d+)? (?![\w.:]) )
    | (?P<number> (?:0[xX][0-9A-Fa-f]+|\d+)[uUlL]* (?![\w.]) )
    | (?P<name> [A-Za-z_]\w*(?:\.\w+)* )
    | (?P<logical> && | \|\| )
    | (?P<operator> << | >> | <= | >= | == | != | [-+*/%&|^~!<>] )
    | (?P<open> \( ) | (?P<close> \) )""",
    re.VERBOSE | re.ASCII,
)
#: What stands where C has something else, and what is meant.
_MEANT = {"=": "==", "and": "&&", "or": "||", "not": "!"}


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            meant = f" — did you mean '{_MEANT[text[at]]}'?" if text[at] in _MEANT else ""
            reason = f"{text[at]!r} has no place in an expression of fields, numbers and operators{meant}"
            raise PredicateError(reason, text, at)
        kind = match.lastgroup or ""
        if kind == "name":
            _check_name(match[0], text, at)
        if kind != "space":
            yield _Token(kind, match[0], at)
        at = match.end()


def _check_name(name: str, text: str, at: int) -> None:
    if name in FIELDS:
        return
    meant = f" — did you mean '{_MEANT[name.lower()]}'?" if name.lower() in _MEANT else nearest(name.lower(), FIELDS)
    raise PredicateError(f"{name!r} is no field{meant or '; there are ' + ', '.join(FIELDS)}", text, at)


def _tree(text: str) -> list[_Node]:
    """Return the text as tokens and groups of tokens."""
    levels: list[list[_Node]] = [[]]
    opened: list[_Token] = []
    for token in _tokens(text):
        if token.kind == "open":
            opened.append(token)
            levels.append([])
            if len(opened) > _MOST_DEPTH:
                raise PredicateError(f"more than {_MOST_DEPTH} parentheses within one another", text, token.at)
        elif token.kind == "close":
            if not opened:
                raise PredicateError("a parenthesis that was not opened", text, token.at)
            group = _Group(opened.pop(), levels.pop(), token)
            levels[-1].append(group)
        else:
            levels[-1].append(token)
    if opened:
        raise PredicateError("a parenthesis that is not closed", text, opened[-1].at)
    return levels[0]


# -- writing ----------------------------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """A piece of C, and the place in the predicate that it stands for."""

    code: str
    at: int


def translate(text: str) -> list[Piece]:
    """Return a predicate as C, in pieces; PredicateError where it is wrong as far as can be seen without a compiler."""
    if len(text) > _MOST_CHARACTERS:
        raise PredicateError(f"longer than {_MOST_CHARACTERS} characters", text, _MOST_CHARACTERS)
    nodes = _tree(text)
    if not nodes:
        raise PredicateError("there is none", text, len(text))
    return [*_Writer(text).connected(nodes), Piece("", len(text.rstrip()))]


class _Writer:
    def __init__(self, text: str) -> None:
        self._text = text

    def connected(self, nodes: Sequence[_Node]) -> Iterator[Piece]:
        """Yield conditions with && and || between them."""
        condition: list[_Node] = []
        for node in nodes:
            if isinstance(node, _Token) and node.kind == "logical":
                yield from self._condition(condition)
                yield Piece(node.text, node.at)
                condition = []
            else:
                condition.append(node)
        yield from self._condition(condition)

    def _condition(self, nodes: Sequence[_Node]) -> Iterator[Piece]:
        """Yield a condition, which holds only where the packet has all its fields."""
        negations = 0
        while negations < len(nodes) and getattr(nodes[negations], "text", "") == "!":
            negations += 1
        if len(nodes) != negations + 1:
            negations = 0  # !a == b is (!a) == b, as in C
        for sign in nodes[:negations]:
            yield Piece("!", _at(sign))
        rest = nodes[negations:]
        if len(rest) == 1 and isinstance(rest[0], _Group):
            yield from self._group(rest[0], list(self.connected(rest[0].inside)))
            return
        needs: dict[str, None] = {}
        pieces = list(self._computed(rest, needs))
        if not needs or not pieces:
            yield from pieces
            return
        known = " && ".join(f"({need})" for need in needs)
        yield Piece(f"({known} && (", pieces[0].at)
        yield from pieces
        yield Piece("))", _end(rest[-1]))

    def _computed(self, nodes: Sequence[_Node], needs: dict[str, None]) -> Iterator[Piece]:
        """Yield what has no && and || outside of parentheses; adds to `needs` when a packet has its fields."""
        left = list(nodes)
        while left:
            node = left.pop(0)
            if isinstance(node, _Group):
                inside = self.connected(node.inside) if _connects(node) else self._computed(node.inside, needs)
                yield from self._group(node, list(inside))
            elif node.kind == "name":
                if len(left) > 1 and _is(left[0], "==", "!=") and _is_address(left[1]):
                    yield self._within(node, left.pop(0), left.pop(0), needs)
                else:
                    needs[FIELDS[node.text].known] = None
                    yield Piece(FIELDS[node.text].value, node.at)
            elif node.kind == "address":
                raise PredicateError(self._misplaced(node), self._text, node.at)
            else:
                yield Piece(node.text, node.at)

    def _group(self, group: _Group, inside: list[Piece]) -> list[Piece]:
        return [Piece("(", group.opening.at), *inside, Piece(")", group.closing.at)]

    def _within(self, field: _Token, sign: _Node, address: _Node, needs: dict[str, None]) -> Piece:
        """Return the comparison of an address with an address or a network."""
        assert isinstance(sign, _Token)
        assert isinstance(address, _Token)
        if field.text not in _ADDRESSES:
            raise PredicateError(f"{field.text!r} is no address", self._text, field.at)
        try:
            (network,) = networks(address.text)
        except ValueError as error:
            raise PredicateError(str(error).removeprefix("networks: "), self._text, address.at) from None
        needs[_IP4 if network.version == 4 else _IP6] = None
        return Piece(f"{'!' if sign.text == '!=' else ''}({_equal(_ADDRESSES[field.text], network)})", field.at)

    def _misplaced(self, node: _Token) -> str:
        return f"{node.text!r} has to stand behind ip.saddr or ip.daddr and == or !="


def _equal(words: str, network: Network) -> str:
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


def _at(node: _Node) -> int:
    return node.at if isinstance(node, _Token) else node.opening.at


def _end(node: _Node) -> int:
    return node.at + len(node.text) if isinstance(node, _Token) else node.closing.at + 1


def _is(node: _Node, *texts: str) -> bool:
    return isinstance(node, _Token) and node.text in texts


def _is_address(node: _Node) -> bool:
    return isinstance(node, _Token) and node.kind == "address"


def _connects(group: _Group) -> bool:
    """Tell whether conditions are connected somewhere within."""
    return any(_connects(node) if isinstance(node, _Group) else node.kind == "logical" for node in group.inside)
