# SPDX-License-Identifier: GPL-2.0-or-later
"""The language of filters, such as `tcp.dport == 22 && ip.ttl < 40`: names, grammar, and what is wrong with a text.

docs/filters.md says what a filter means. Here a text becomes a tree of expressions.py. What a tree is then turned into
has places of its own: rows and masks (mask.py), SQL (sql/where.py), C for the prefilter (prefilter/predicate.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Literal, NamedTuple

from nflowlevel.errors import NflowError
from nflowlevel.records.expressions import (
    MOST,
    MOST_DEPTH,
    Brackets,
    Computed,
    Field,
    Item,
    Logic,
    Member,
    Number,
    Operation,
    Pattern,
    Sign,
    Value,
    bounds_of,
    bounds_of_sign,
    fields_of,
)
from nflowlevel.records.flow import FLOW
from nflowlevel.records.keys import BY_NAME, Key
from nflowlevel.records.keys import LEAST as LEAST_OF_TYPE
from nflowlevel.records.keys import MOST as MOST_OF_TYPE
from nflowlevel.records.networks import Network, networks
from nflowlevel.records.packet import PACKET
from nflowlevel.records.sums import SUM
from nflowlevel.records.types import RecordType

#: Longer ones, and deeper ones, are nothing that a person has written.
_MOST_CHARACTERS, _MOST_PARENTHESES = 8192, 64


class FilterError(NflowError, ValueError):
    """A filter is wrong: `reason`, and `position` where in the text; the message shows the place."""

    _what = "filter"

    def __init__(self, reason: str, text: str, position: int) -> None:
        self.reason, self.text, self.position = reason, text, position
        start = text.rfind("\n", 0, position) + 1
        line = text[start:].partition("\n")[0]
        caret = "".join(character if character == "\t" else " " for character in text[start:position]) + "^"
        super().__init__(f"{self._what}: {reason}\n    {line}\n    {caret}")


# -- names ------------------------------------------------------------------------------------------------------------


#: All kinds of records.
TYPES: tuple[RecordType, ...] = (PACKET, FLOW, SUM)

#: Numbers of 64 bits are taken to have so many in computations, so that these fit into 64 bits with a sign.
_EXACT = 2**53 - 1
#: The bounds of numbers by their type. A bool of ulogd2's may be a small number.
_BOUNDS = {name: (max(LEAST_OF_TYPE[name], -_EXACT - 1), min(most, _EXACT)) for name, most in MOST_OF_TYPE.items()}
_BOUNDS["bool"] = _BOUNDS["uint8"]


@cache
def field_of(name: str, type_: RecordType = PACKET, added: tuple[Key, ...] = ()) -> Field:
    """Return the field that a name means in records of a type that may have columns `added` to them.

    KeyError where nothing has that name. TypeError, which says why, where these records have no such key, or it is
    nothing that a filter can look at.
    """
    columns = {key.name: key for key in added}
    try:
        found = type_.own.find(name, columns)
    except KeyError:
        if foreign := _foreign(name, type_, columns):
            raise TypeError(foreign) from None
        raise
    if found in columns:
        return _field(name, found, [columns[found]], type_)
    return _field(name, found, [type_.by_name[each] for each in type_.own.keys_of(found)], type_)


def _field(name: str, found: str, keys: list[Key], type_: RecordType) -> Field:
    """Return the field of a key, or of several that share a name."""
    key, names = keys[0], tuple(key.name for key in keys)
    if key.kind in ("addr", "addr4", "addrnumber"):
        # As text, as a number or neither: it is the same address; but NAT's holds for other records than the reply's.
        own = [
            each
            for each in type_.by_name.values()
            if each.field == key.field
            and each.type == "ipaddr"
            and (each.valid is key.valid or "addrnumber" in (each.kind, key.kind))
        ]
        # IP2HBIN's numbers are of that type, too, and stand before the keys of flows.
        same = [each.name for each in own if each.kind != "addrnumber"]
        return Field(same[0], "address", keys=(same[0],)) if same else Field(found, "address", keys=names)
    if key.type == "raw":
        raise TypeError(f"'{name}' is bytes, and filters cannot compare bytes")
    if key.type == "double":
        raise TypeError(f"'{name}' is a number with a fraction, and filters cannot compare fractions")
    if key.type not in _BOUNDS:
        return Field(found, "text", keys=names)
    least, most = zip(*(_BOUNDS[each.type] for each in keys), strict=True)
    return Field(found, "number", max(most), names, min(least))


def field_of_column(name: str, column: str, values: Sequence[object], type_: RecordType) -> Field:
    """Return the field of a column that was added by a name alone: its values say what it is.

    TypeError where a filter cannot compare them.
    """
    kinds = {type(value) for value in values} - {type(None)}
    known = type_.by_name.get(column) or BY_NAME.get(column)
    if all(hasattr(kind, "__index__") for kind in kinds):
        if known and (not kinds or known.type in _BOUNDS):
            return _field(name, column, [known], type_)
        return Field(column, "number" if kinds else "any", _EXACT, (column,), -_EXACT)
    if kinds == {str}:
        address = known is not None and known.kind in ("addr", "addr4")
        return Field(column, "address" if address else "text", keys=(column,))
    held = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise TypeError(f"'{name}' holds values of type {held}; a filter compares whole numbers, or texts")


def _foreign(name: str, type_: RecordType, columns: Collection[str]) -> str:
    """Return that records of a type lack a key that others have; empty: none has it."""
    for other in TYPES:
        if name in other.own:
            owner = f"of {other.name}s"
            break
    else:
        found = next((key for key in BY_NAME.values() if name in (key.name, key.name.replace(".", "_"))), None)
        if found is None:
            return ""
        owner = f"of records of {found.plugin}"
    hint = type_.own.nearest(name, columns)
    return f"{type_.name}s do not have '{name}': it is a key {owner}{hint}"


# -- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filter:
    """A filter that has been read."""

    text: str
    root: Computed

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields it looks at, each once, in the order of the text."""
        return tuple(dict.fromkeys(fields_of(self.root)))


@lru_cache(maxsize=256)
def parse(text: str, type_: RecordType = PACKET, added: tuple[Key, ...] = ()) -> Filter:
    """Return a filter for records of a type that may have columns `added` to them; FilterError where it is wrong."""
    return parse_with(text, lambda name, at: find_field(text, name, at, type_, added))


def parse_with(text: str, find: Callable[[str, int], Field]) -> Filter:
    """Return a filter whose fields are found by `find`, which raises FilterError for a name that is none."""
    if len(text) > _MOST_CHARACTERS:
        raise FilterError(f"longer than {_MOST_CHARACTERS} characters", text, _MOST_CHARACTERS)
    return Filter(text, _Parser(text, find).read())


def find_field(
    text: str, name: str, at: int, type_: RecordType, added: tuple[Key, ...], others: Collection[str] = ()
) -> Field:
    """Return what `field_of` does; FilterError with the place where it raises. `others` are to be suggested as well."""
    try:
        return field_of(name, type_, added)
    except TypeError as error:
        raise FilterError(str(error), text, at) from None
    except KeyError:
        columns = [*others, *(key.name for key in added)]
        reason = no_field(name, type_.own.nearest(name, columns) or type_.own.nearest(name.lower(), columns))
        raise FilterError(reason, text, at) from None


#: What stands where the language has something else, and what is meant.
_MEANT = {"=": "==", "and": "&&", "or": "||", "not": "!"}


def no_field(name: str, hint: str) -> str:
    """Return that a name is no field, and what is meant: an operator, or what `hint` says."""
    meant = f" — did you mean '{_MEANT[name.lower()]}'?" if name.lower() in _MEANT else hint
    return f"unknown field {name!r}{meant or '; docs/keys.md lists them'}"


class _Token(NamedTuple):
    kind: str
    text: str
    at: int

    @property
    def end(self) -> int:
        return self.at + len(self.text)


_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<address>
        (?: \d+\.\d+\.\d+\.\d+ | [0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:]*(?:\d+\.\d+\.\d+\.\d+)? ) (?:/\d+)? (?![\w.:]) )
    | (?P<number> (?:0[xX][0-9A-Fa-f]+|\d+)[uUlL]* (?![\w.]) )
    | (?P<string> "(?:[^"\\\n]|\\["\\])*" )
    | (?P<among> in\b(?!\.) | not\s+in\b(?!\.) )
    | (?P<name> [A-Za-z_]\w*(?:\.\w+)* )
    | (?P<logical> && | \|\| )
    | (?P<operator> << | >> | <= | >= | == | != | [-+*/%&|^~!<>] )
    | (?P<open> \( ) | (?P<close> \) )
    | (?P<set> [{},] )""",
    re.VERBOSE | re.ASCII,
)

#: Operators between two operands, the stronger ones with the larger number, as in C.
_STRENGTH = {
    **dict.fromkeys(("*", "/", "%"), 8),
    **dict.fromkeys(("+", "-"), 7),
    **dict.fromkeys(("<<", ">>"), 6),
    **dict.fromkeys(("<", "<=", ">", ">="), 5),
    **dict.fromkeys(("==", "!="), 4),
    "&": 3,
    "^": 2,
    "|": 1,
}
_SIGNS = ("!", "~", "-", "+")
_DECIMAL, _OCTAL, _HEX = re.compile(r"0|[1-9]\d*"), re.compile(r"0[0-7]+"), re.compile(r"0[xX][0-9A-Fa-f]+")


def _tokens(text: str) -> Iterator[_Token]:
    """Yield the tokens as far as there are some; what is none has the kind `other`."""
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            yield _Token("other", text[at], at)
            return
        if match.lastgroup != "space":
            yield _Token(match.lastgroup or "", match[0], at)
        at = match.end()


class _Parser:
    def __init__(self, text: str, find: Callable[[str, int], Field]) -> None:
        self._text, self._find = text, find
        end = _Token("", "", len(text))
        self._tokens = [*_tokens(text), end, end]
        self._number_of_next = 0
        self._opened: list[_Token] = []

    def read(self) -> Computed:
        """Return the whole text as a tree."""
        if not self._next.kind:
            raise self._error("it is empty", len(self._text))
        root = self._logic()
        if self._next.text == ")":
            raise self._error("this parenthesis was not opened", self._next.at)
        if self._next.kind:
            raise self._no_operator()
        return root

    # -- tokens --------------------------------------------------------------------------------------------------

    @property
    def _next(self) -> _Token:
        return self._tokens[self._number_of_next]

    @property
    def _before(self) -> _Token:
        return self._tokens[self._number_of_next - 1] if self._number_of_next else _Token("", "", 0)

    def _take(self) -> _Token:
        token = self._next
        self._number_of_next += 1
        return token

    def _takes(self, *texts: str) -> bool:
        """Take the next token where it is one of these."""
        found = self._next.kind not in ("", "string") and self._next.text in texts
        if found:
            self._take()
        return found

    def _error(self, reason: str, at: int) -> FilterError:
        return FilterError(reason, self._text, at)

    def _misplaced(self, token: _Token) -> FilterError:
        """Say that a token is none of the language's, or stands where it must not."""
        if token.kind == "string":
            reason = f"{token.text} is not allowed where a number is expected"
        else:
            meant = f" — did you mean '{_MEANT[token.text]}'?" if token.text in _MEANT else ""
            reason = f"{token.text!r} is not allowed in an expression of fields, numbers and operators{meant}"
        return self._error(reason, token.at)

    def _no_operator(self) -> FilterError:
        token = self._next
        if token.kind == "name":
            self._find(token.text, token.at)  # of what is no name either, that is said
        if token.kind == "among":
            return self._error(f"{token.text!r} must follow a field", token.at)
        if token.kind in ("other", "set"):
            return self._misplaced(token)
        return self._error(f"expected an operator before {token.text!r}", token.at)

    # -- grammar -------------------------------------------------------------------------------------------------

    def _logic(self, operators: tuple[str, ...] = ("||", "&&")) -> Computed:
        """Read conditions with || between them, or && between them, or a single one."""
        operator, *inner = operators
        parts, places = [], []
        while True:
            parts.append(self._logic(tuple(inner)) if inner else self._operation(1))
            if not self._takes(operator):
                break
            places.append(self._before.at)
        if not places:
            return parts[0]
        return Logic(
            parts[0].at, parts[-1].end, 0, 1, self._deeper(parts[0].at, *parts), operator, tuple(parts), tuple(places)
        )

    def _operation(self, least: int) -> Computed:
        """Read operands with operators between them that are as strong as `least` or stronger."""
        left = self._operand()
        while (strength := _STRENGTH.get(self._next.text, 0) if self._next.kind == "operator" else 0) >= least:
            sign = self._take()
            if strength > _STRENGTH["=="] and isinstance(left, Member):
                raise self._unclear(sign)
            left = self._joined(left, sign, self._operation(strength + 1))
        return left

    def _joined(self, left: Computed, sign: _Token, right: Computed) -> Operation:
        depth = self._deeper(sign.at, left, right)
        try:
            low, high = bounds_of(sign.text, (left.low, left.high), (right.low, right.high))
        except ValueError as error:
            raise self._error(str(error), sign.at) from None
        return Operation(left.at, right.end, low, high, depth, sign.text, sign.at, left, right)

    def _deeper(self, at: int, *nodes: Computed) -> int:
        depth = 1 + max(node.depth for node in nodes)
        if depth > MOST_DEPTH:
            raise self._error(f"more than {MOST_DEPTH} operators that depend on one another", at)
        return depth

    def _operand(self) -> Computed:
        signs: list[_Token] = []
        while self._next.kind == "operator" and self._next.text in _SIGNS:
            signs.append(self._take())
        operand = self._primary()
        for sign in reversed(signs):
            depth = self._deeper(sign.at, operand)
            try:
                low, high = bounds_of_sign(sign.text, operand.low, operand.high)
            except ValueError as error:
                raise self._error(str(error), sign.at) from None
            operand = Sign(sign.at, operand.end, low, high, depth, sign.text, operand)
        return operand

    def _primary(self) -> Computed:
        before, token = self._before, self._next
        match token.kind:
            case "number":
                return self._number(self._take())
            case "name":
                # A name that is none is said before what stands around it.
                field = self._find(token.text, token.at)
                return self._of_field(field, self._take(), before)
            case "open":
                return self._brackets(self._take())
            case "address":
                reason = f"{token.text!r} must follow ip.saddr or ip.daddr and == or !=, or be in a set after 'in'"
                raise self._error(reason, token.at)
            case "other" | "string" | "set":
                raise self._misplaced(token)
            case "among":
                raise self._error(f"{token.text!r} must follow a field", token.at)
        if token.text == ")" and not self._opened:
            raise self._error("this parenthesis was not opened", token.at)
        if not token.kind and self._opened:
            raise self._error("this parenthesis is not closed", self._opened[-1].at)
        raise self._error("a field, a number or an address is missing here", before.end)

    def _brackets(self, opening: _Token) -> Brackets:
        self._opened.append(opening)
        if len(self._opened) > _MOST_PARENTHESES:
            raise self._error(f"more than {_MOST_PARENTHESES} nested parentheses", opening.at)
        inside = self._logic()
        if self._next.text != ")":
            if self._next.kind:
                raise self._no_operator()
            raise self._error("this parenthesis is not closed", opening.at)
        closing = self._take()
        self._opened.pop()
        return Brackets(opening.at, closing.end, inside.low, inside.high, self._deeper(opening.at, inside), inside)

    def _number(self, token: _Token) -> Number:
        digits = token.text.rstrip("uUlL")
        if _OCTAL.fullmatch(digits):
            number = int(digits, 8)
        elif _HEX.fullmatch(digits) or _DECIMAL.fullmatch(digits):
            number = int(digits, 0)
        else:
            raise self._error(f"{token.text!r} is not a number: a number that begins with 0 is octal", token.at)
        if number > MOST:
            raise self._error("integer literal is too large: a number has at most 63 bits", token.at)
        return Number(token.at, token.end, number, number, 1, token.text)

    # -- fields --------------------------------------------------------------------------------------------------

    def _of_field(self, field: Field, name: _Token, before: _Token) -> Computed:
        """Return a field, with what stands behind it where that belongs to the field: a network, a text, a set."""
        sign, operand = self._next, self._tokens[self._number_of_next + 1]
        if field.type == "any":
            field = replace(field, type=self._type_meant())
        compared = sign.text in ("==", "!=")
        if compared and operand.kind == "address" and field.type == "number":
            raise self._error(f"{name.text!r} is not an address", name.at)
        if sign.kind != "among" and sign.text != "~":
            if field.type == "text" and not compared:
                raise self._error(f"{name.text!r} is text: compare it by ==, !=, ~ or in", name.at)
            if field.type == "text" and operand.kind != "string":
                raise self._error(f"{name.text!r} is text: compare it with a text in double quotes", operand.at)
            if not compared or field.type == "number" or operand.kind not in ("address", "string"):
                low, most = (0, 0xFFFF_FFFF) if field.type == "address" else (field.least, field.most)
                return Value(name.at, name.end, low, most, 1, field)
        if before.kind == "operator" and (before.text in _SIGNS or _STRENGTH[before.text] >= _STRENGTH["=="]):
            raise self._unclear(before)
        self._take()
        if sign.kind == "among":
            items = self._set(field)
        elif sign.text == "~":
            items = (self._pattern(field, name),)
        else:
            items = (self._item(field),)
        negated = sign.text == "!=" or sign.text.startswith("not")
        return Member(name.at, self._before.end, 0, 1, 1, field, items, negated)

    def _type_meant(self) -> Literal["number", "address", "text"]:
        """Return what the field before the next token has to be for what stands behind it."""
        first = next((token for token in self._tokens[self._number_of_next + 1 :] if token.text != "{"), self._next)
        if self._next.text == "~" or first.kind == "string":
            return "text"
        return "address" if first.kind == "address" else "number"

    def _unclear(self, sign: _Token) -> FilterError:
        return self._error(f"{sign.text!r} needs parentheses around the comparison beside it", sign.at)

    def _set(self, field: Field) -> tuple[Item, ...]:
        if not self._takes("{"):
            raise self._error("expected a set such as {22, 80, 8000-8100}", self._next.at)
        items = [self._item(field)]
        while self._takes(","):
            items.append(self._item(field))
        if not self._takes("}"):
            raise self._error("expected ',' or '}'", self._next.at)
        return tuple(items)

    def _item(self, field: Field) -> Item:
        token = self._next
        match field.type, token.kind:
            case "number", "number":
                return self._range(self._number(self._take()))
            case "text", "string":
                return self._string(self._take())
            case "address", "address":
                return self._network(self._take().text, token)
            case "address", "string":
                return self._network(self._string(self._take()), token)
        wanted = {
            "number": "a number, or a range such as 8000-8100",
            "text": "a text in double quotes",
            "address": "an address, or a network such as 10.0.0.0/8",
        }
        raise self._error(f"expected {wanted[field.type]}: that is what {field.name!r} is compared with", token.at)

    def _range(self, first: Number) -> range:
        if not self._takes("-"):
            return range(first.low, first.low + 1)
        if self._next.kind != "number":
            raise self._error("expected the end of the range", self._next.at)
        last = self._number(self._take())
        if last.low < first.low:
            raise self._error("this range ends before it begins", first.at)
        return range(first.low, last.low + 1)

    def _network(self, text: str, token: _Token) -> Network:
        try:
            found = networks(text)
        except ValueError as error:
            raise self._error(str(error).removeprefix("networks: "), token.at) from None
        if len(found) != 1:
            raise self._error(f"{token.text} is not an address or a network", token.at)
        return found[0]

    def _pattern(self, field: Field, name: _Token) -> Pattern:
        if field.type != "text":
            raise self._error(f"{name.text!r} is not text, and ~ compares text", name.at)
        if self._next.kind != "string":
            raise self._error('expected a text in double quotes, such as "SSH*"', self._next.at)
        return Pattern(self._string(self._take()))

    def _string(self, token: _Token) -> str:
        return re.sub(r"\\(.)", r"\1", token.text[1:-1])
