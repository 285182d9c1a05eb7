# SPDX-License-Identifier: GPL-2.0-or-later
"""A filter as an SQL condition for DuckDB, PostgreSQL, SQLite and MySQL or MariaDB: text with placeholders, and values.

The dialect `common` is what DuckDB and Spark both understand. Its values stand in the text, as literals (literals.py):
such a text is shown, kept and sent to a cluster as it is.

    condition = where("tcp.dport == 22 && src_ip == 10.0.0.0/8", {"tcp.dport": "tcp_dport", "src_ip": "src"}, "sqlite")
    connection.execute(f"SELECT count(*) FROM packets WHERE {condition.text}", condition.parameters)

`columns` says in which column a field is. NULL is a field that a record lacks. Values of a filter come as parameters
only, and names of columns are quoted. Where it matters whether a condition is NULL or false, under a `!`, it is false.

An address is stored in one of four forms: `inet` (PostgreSQL's type), `text` (as inet_ntop writes it), `bytes` (16 of
them, IPv4 as ::ffff:a.b.c.d, as IP2BIN gives them) or `number` (IPv4 only).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from nflowlevel.records.expressions import (
    COMPARISONS,
    Brackets,
    Computed,
    Field,
    Logic,
    Member,
    Node,
    Number,
    Operation,
    Pattern,
    Sign,
    Value,
    fields_of,
)
from nflowlevel.records.filters import Filter, FilterError, field_of, parse
from nflowlevel.records.keys import Key
from nflowlevel.records.networks import BITS, Network
from nflowlevel.records.packet import PACKET
from nflowlevel.records.types import RecordType
from nflowlevel.sql import addresstext
from nflowlevel.sql.fragment import Fragment, Parameter, joined
from nflowlevel.sql.literals import identifier, literal

Dialect: TypeAlias = Literal["duckdb", "postgresql", "sqlite", "mysql", "common"]
Form: TypeAlias = Literal["inet", "text", "bytes", "number", "boolean"]

DIALECTS: tuple[Dialect, ...] = ("duckdb", "postgresql", "sqlite", "mysql", "common")

_MAPPED = 0xFFFF << 32
_LAST_MAPPED = _MAPPED | 0xFFFF_FFFF


class Column(NamedTuple):
    """A column by its name, which is quoted, and the form of what is in it.

    `form` is for addresses (else PostgreSQL's is `inet`, all others' `text`) and for numbers that are `boolean`.
    """

    name: str
    form: Form | None = None


class Expression(NamedTuple):
    """An SQL expression in the place of a column. It is taken as it stands: never make one from what a user typed.

    A percent sign in it is doubled for PostgreSQL and MySQL.
    """

    sql: str
    form: Form | None = None


class Condition(NamedTuple):
    """What stands behind WHERE, with a placeholder for each parameter.

    These are `?` for DuckDB and SQLite, `%s` for PostgreSQL (psycopg) and MySQL (PyMySQL). `common` has none.
    """

    text: str
    parameters: tuple[Parameter, ...]


def where(
    filter_: Filter | str,
    columns: Mapping[str, str | Column | Expression],
    dialect: Dialect,
    *,
    type: RecordType = PACKET,
    added: Sequence[Key] = (),
) -> Condition:
    """Return a filter as SQL. `columns`: a column for each field that the table has, by any of the field's names.

    `type` says which records the table has; `added` are the keys of further columns, such as those that a filter adds.

    FilterError where the filter is wrong, looks at a field that the table lacks, or asks for what the dialect cannot
    do; ValueError for an unknown dialect or name.
    """
    if dialect not in _SYNTAX:
        raise ValueError(f"unknown dialect {dialect!r}; available: {', '.join(_SYNTAX)}")
    keys = tuple(added)
    parsed = parse(filter_ if isinstance(filter_, str) else filter_.text, type, keys)
    known: dict[str, Column | Expression] = {}
    for name, column in columns.items():
        try:
            known[field_of(name, type, keys).name] = Column(column) if isinstance(column, str) else column
        except TypeError as error:
            raise ValueError(f"columns: {error}") from None
        except KeyError:
            raise ValueError(
                f"columns: unknown field {name!r}{type.own.nearest(name, [key.name for key in keys])}"
            ) from None
    fragment = _Writer(parsed.text, known, _SYNTAX[dialect]).condition(parsed.root, told=False)
    if dialect == "common":
        return Condition(_with_literals(fragment), ())
    return Condition(fragment.text.replace("\0", _SYNTAX[dialect].placeholder), fragment.parameters)


def _with_literals(fragment: Fragment) -> str:
    """Return the text with each parameter as a literal in its place."""
    first, *others = fragment.text.split("\0")
    return first + "".join(literal(value) + text for value, text in zip(fragment.parameters, others, strict=True))


# -- dialects ---------------------------------------------------------------------------------------------------------


def _plain(operator: str) -> Callable[[str, str], str]:
    return lambda left, right: f"({left} {operator} {right})"


def _signed(operator: str) -> Callable[[str, str], str]:
    """MySQL computes these without signs."""
    return lambda left, right: f"CAST(({left} {operator} {right}) AS SIGNED)"


@dataclass(frozen=True)
class _Syntax:
    """What differs from dialect to dialect."""

    name: Dialect
    placeholder: str
    quote: str
    whole: str
    """What makes a number of 64 bits of a column."""
    operators: Mapping[str, Callable[[str, str], str]]
    equal_text: str
    """A text and a text; upper and lower case differ, and blanks at the end count."""
    like: str
    address: Form

    def identifier(self, name: str) -> str:
        """Return a name in quotes."""
        if "\0" in name:
            raise ValueError(f"columns: {name!r} is not a name")
        if self.name == "common":
            return identifier(name)
        quoted = self.quote + name.replace(self.quote, 2 * self.quote) + self.quote
        return quoted.replace("%", "%%") if self.placeholder == "%s" else quoted


_COMMON = {operator: _plain(operator) for operator in ("+", "-", "*", "&", "|", "<<", ">>", "%", "/")}


def _exclusive_or(left: str, right: str) -> str:
    """Where there is none: what stands for it has both sides twice."""
    return f"(({left} | {right}) - ({left} & {right}))"


def _power(number: str) -> str:
    return f"CAST(power(2, {number}) AS BIGINT)"


def _quotient(left: str, rest: str, right: str) -> str:
    """Where a slash divides doubles: without the rest the quotient is whole, and what it lacks is less than a half."""
    return f"CAST(round(({left} - {rest}) / {right}) AS BIGINT)"


#: Quotients up to this are right where doubles are divided.
_MOST_QUOTIENT = 2**50
_MOST_SHIFT = 62
#: A longer text is nothing that a person asked for.
_MOST_CHARACTERS = 100_000

_SYNTAX: dict[str, _Syntax] = {
    "duckdb": _Syntax(
        "duckdb",
        "?",
        '"',
        "CAST({} AS BIGINT)",
        {**_COMMON, "/": _plain("//"), "^": lambda left, right: f"xor({left}, {right})"},
        "{} = {}",
        "{} LIKE {} ESCAPE '!'",
        "text",
    ),
    "postgresql": _Syntax(
        "postgresql",
        "%s",
        '"',
        "CAST({} AS BIGINT)",
        {
            **_COMMON,
            "%": lambda left, right: f"MOD({left}, {right})",
            "^": _plain("#"),
            "<<": lambda left, right: f"({left} << CAST({right} AS INTEGER))",
            ">>": lambda left, right: f"({left} >> CAST({right} AS INTEGER))",
        },
        "{} = {}",
        "{} LIKE {} ESCAPE '!'",
        "inet",
    ),
    "sqlite": _Syntax(
        "sqlite",
        "?",
        '"',
        "{}",
        {**_COMMON, "^": _exclusive_or},
        "{} = {} COLLATE BINARY",
        "{} GLOB {}",
        "text",
    ),
    "common": _Syntax(
        "common",
        "",
        "",
        "CAST({} AS BIGINT)",
        {
            **_COMMON,
            "^": _exclusive_or,
            # A slash gives fractions, and not all have shifts.
            "/": lambda left, right: _quotient(left, f"{left} % {right}", right),
            "<<": lambda left, right: f"({left} * {_power(right)})",
            ">>": lambda left, right: _quotient(
                left, f"({left} % {_power(right)} + {_power(right)}) % {_power(right)}", _power(right)
            ),
        },
        "{} = {}",
        "{} LIKE {} ESCAPE '!'",
        "text",
    ),
    "mysql": _Syntax(
        "mysql",
        "%s",
        "`",
        "CAST({} AS SIGNED)",
        {
            **_COMMON,
            **{operator: _signed(operator) for operator in ("&", "|", "^", "<<", ">>")},
            "/": _plain("DIV"),
            "%": lambda left, right: f"MOD({left}, {right})",
        },
        "CAST(CONVERT({} USING utf8mb4) AS BINARY) = CAST({} AS BINARY)",
        "CONVERT({} USING utf8mb4) COLLATE utf8mb4_bin LIKE {} ESCAPE '!'",
        "text",
    ),
}
#: Operators of SQL that are written differently.
_SQL_COMPARISONS = {"==": "=", "!=": "<>"}


# -- writing ----------------------------------------------------------------------------------------------------------


class _Writer:
    def __init__(self, text: str, columns: Mapping[str, Column | Expression], syntax: _Syntax) -> None:
        self._text, self._columns, self._syntax = text, columns, syntax

    # -- conditions ----------------------------------------------------------------------------------------------

    def condition(self, node: Computed, *, told: bool) -> Fragment:
        """Return a condition. `told`: it is true or false; else it may be NULL in the place of false."""
        match node:
            case Logic():
                word = " AND " if node.operator == "&&" else " OR "
                return joined(word, (self.condition(part, told=told) for part in node.parts)).bracketed()
            case Sign(operator="!"):
                return self.condition(node.operand, told=True).within("NOT {}")
            case Brackets():
                return self.condition(node.inside, told=told)
        test = self._test(node)
        if not told and not any(map(_is_condition, _inner(node))):
            return test
        needs = list(dict.fromkeys(self._needs(node)))
        return joined(" AND ", [*needs, test]).bracketed() if needs else test

    def _needs(self, node: Computed) -> Iterator[Fragment]:
        """Yield what must be so that a number has a value; not for conditions within, which have theirs."""
        match node:
            case Value():
                yield self._field(node.field, node).within("{} IS NOT NULL")
            case Member() if node.field.type == "address":
                yield self._column(node.field, node)[0].within("{} IS NOT NULL")
                yield self._of_version(node)
            case Member():
                yield self._column(node.field, node)[0].within("{} IS NOT NULL")
            case Operation() if node.operator in ("/", "%") and node.right.low <= 0 <= node.right.high:
                for part in (node.left, node.right):
                    yield from self._needs(part)
                yield self._number(node.right).within("{} <> 0")
            case _:
                for part in _parts(node):
                    yield from self._needs(part)

    def _test(self, node: Computed) -> Fragment:
        """Return a condition that is NULL where the record lacks what it looks at."""
        match node:
            case Operation(operator=operator) if operator in COMPARISONS:
                # Without a function around a column an index serves.
                sides = (self._side(node.left), self._side(node.right))
                return joined(f" {_SQL_COMPARISONS.get(operator, operator)} ", sides).bracketed()
            case Member():
                return self._member(node)
        return self._side(node).within("({} <> 0)")

    def _side(self, node: Computed) -> Fragment:
        return self._field(node.field, node) if isinstance(node, Value) else self._number(node)

    # -- numbers -------------------------------------------------------------------------------------------------

    def _number(self, node: Computed) -> Fragment:
        if node.low == node.high and not any(fields_of(node)):
            return Fragment("\0", (node.low,))
        match node:
            case Number():
                return Fragment("\0", (node.low,))
            case Value():
                return self._whole(self._field(node.field, node))
            case Brackets():
                return self._as_number(node.inside) if isinstance(node.inside, Logic) else self._number(node.inside)
            case Sign(operator="-"):
                return self._number(node.operand).within("(0 - {})")
            case Sign(operator="~"):
                return self._number(node.operand).within("(-1 - {})")
            case Sign(operator="+"):
                return self._number(node.operand)
            case Sign():
                return self._whole(self._number(node.operand).within("CASE WHEN {} = 0 THEN 1 ELSE 0 END"))
            case Operation() if node.operator not in COMPARISONS:
                left, right = self._number(node.left), self._number(node.right)
                if node.operator in ("/", "%"):
                    right = right.within("NULLIF({}, 0)")
                if self._syntax.name == "common":
                    self._refuse_inexact(node)
                    # What stands for an operator has its sides more than once, in any order.
                    left, right = Fragment(_with_literals(left)), Fragment(_with_literals(right))
                text = self._syntax.operators[node.operator](left.text, right.text)
                if len(text) > _MOST_CHARACTERS:
                    raise FilterError("as SQL this would be too long", self._text, node.operator_at)
                twice = self._syntax.name == "sqlite" and node.operator == "^"
                return Fragment(text, (left.parameters + right.parameters) * (2 if twice else 1))
        return self._as_number(node)

    def _refuse_inexact(self, node: Operation) -> None:
        """Refuse what not all engines would compute alike."""
        most = max(-node.low, node.high)
        if (node.operator in ("/", ">>") and most > _MOST_QUOTIENT) or (
            node.operator in ("<<", ">>") and node.right.high > _MOST_SHIFT
        ):
            reason = f"the result of {node.operator!r} may be too large for all engines to agree on it"
            raise FilterError(reason, self._text, node.operator_at)

    def _as_number(self, node: Computed) -> Fragment:
        """Return a condition as 1 or 0. Where it would be NULL the condition around it does not hold."""
        test = self.condition(node, told=True) if isinstance(node, Logic) else self._test(node)
        return self._whole(test.within("CASE WHEN {} THEN 1 ELSE 0 END"))

    def _whole(self, number: Fragment) -> Fragment:
        """Return a number in 64 bits: databases compute in the types of what they are given."""
        return number.within(self._syntax.whole)

    # -- fields --------------------------------------------------------------------------------------------------

    def _error(self, reason: str, node: Node) -> FilterError:
        return FilterError(reason, self._text, node.at)

    def _column(self, field: Field, node: Node) -> tuple[Fragment, Form | None]:
        """Return a field's column; of a name that several keys share, whichever of theirs is not NULL."""
        names = (field.name,) if field.name in self._columns else field.keys
        missing = [name for name in names if name not in self._columns]
        if missing:
            lacks = f"the table has no column for {' or '.join(map(repr, missing))}"
            raise self._error(f"{lacks}; available: {', '.join(self._columns) or 'none'}", node)
        found = [self._columns[name] for name in names]
        texts = [self._syntax.identifier(each.name) if isinstance(each, Column) else f"({each.sql})" for each in found]
        return Fragment(texts[0] if len(texts) == 1 else f"COALESCE({', '.join(texts)})"), found[0].form

    def _field(self, field: Field, node: Node) -> Fragment:
        """Return a field as a number."""
        column, form = self._column(field, node)
        if field.type == "address":
            return self._ip4(column, form or self._syntax.address, field, node)
        return column.within("CASE {0} WHEN TRUE THEN 1 WHEN FALSE THEN 0 END") if form == "boolean" else column

    def _ip4(self, column: Fragment, form: Form, field: Field, node: Node) -> Fragment:
        name = column.text
        if form == "number":
            return column
        if self._syntax.name == "postgresql" and form in ("inet", "text"):
            inet = f"CAST({name} AS inet)" if form == "text" else name
            return Fragment(f"CASE family({inet}) WHEN 4 THEN {inet} - inet '0.0.0.0' END")
        if form == "text" and self._syntax.name == "mysql":
            return Fragment(f"INET_ATON({name})")
        if form == "text" and self._syntax.name in ("duckdb", "common"):
            return Fragment(addresstext.number_in_duckdb(name))
        reason = f"{field.name!r} is stored as {form}, and {self._syntax.name} cannot compute with that"
        raise self._error(f"{reason}; compare it with a network", node)

    # -- sets ----------------------------------------------------------------------------------------------------

    def _member(self, node: Member) -> Fragment:
        if node.field.type == "address":
            return self._address(node)
        of_numbers = node.field.type == "number"
        column = self._field(node.field, node) if of_numbers else self._column(node.field, node)[0]
        tests: list[Fragment] = []
        singles = [item[0] for item in node.items if isinstance(item, range) and len(item) == 1]
        if singles:
            marks = ", ".join("\0" for _ in singles)
            tests.append(Fragment(f"{column.text} IN ({marks})", (*column.parameters, *singles)))
        for item in node.items:
            if isinstance(item, range) and len(item) > 1:
                tests.append(Fragment(f"{column.text} BETWEEN \0 AND \0", (*column.parameters, item[0], item[-1])))
            elif isinstance(item, str):
                tests.append(Fragment(self._syntax.equal_text.format(column.text, "\0"), (item,)))
            elif isinstance(item, Pattern):
                pattern = _glob(item.text) if self._syntax.name == "sqlite" else _like(item.text)
                tests.append(Fragment(self._syntax.like.format(column.text, "\0"), (pattern,)))
        found = joined(" OR ", tests).bracketed()
        return found.within("NOT {}") if node.negated else found

    def _address(self, node: Member) -> Fragment:
        if self._syntax.name == "common" and self._column(node.field, node)[1] == "bytes":
            raise self._error(f"{node.field.name!r} is stored as bytes, which have no literal in all engines", node)
        tests = (self._within(node, item) for item in node.items if isinstance(item, Network))
        found = joined(" OR ", tests).bracketed()
        return joined(" AND ", [self._of_version(node), found.within("NOT {}")]).bracketed() if node.negated else found

    def _of_version(self, node: Member) -> Fragment:
        """Return the test whether an address has a version that the networks have."""
        column, form = self._column(node.field, node)
        name, form = column.text, form or self._syntax.address
        if form == "number":
            return Fragment(f"{name} IS NOT NULL")
        four, six = {
            "inet": (f"family({name}) = 4", f"family({name}) = 6"),
            "bytes": (_MAPPED_BETWEEN.format(name), f"NOT {_MAPPED_BETWEEN.format(name)}"),
            "text": self._versions_of_text(name),
        }[form]
        parameters = (_bytes(_MAPPED), _bytes(_LAST_MAPPED)) if form == "bytes" else ()
        return joined(
            " OR ", [Fragment(four if version == 4 else six, parameters) for version in node.versions]
        ).bracketed()

    def _versions_of_text(self, name: str) -> tuple[str, str]:
        match self._syntax.name:
            case "postgresql":
                return f"family(CAST({name} AS inet)) = 4", f"family(CAST({name} AS inet)) = 6"
            case "mysql":
                return f"LENGTH(INET6_ATON({name})) = 4", f"LENGTH(INET6_ATON({name})) = 16"
        return f"instr({name}, ':') = 0", f"instr({name}, ':') > 0"

    def _within(self, node: Member, network: Network) -> Fragment:
        """Return the test of an address against a network."""
        column, form = self._column(node.field, node)
        name, form = column.text, form or self._syntax.address
        if form == "number":
            if network.version == 6:
                raise self._error(f"{node.field.name!r} is stored as a number, so it cannot be an IPv6 address", node)
            return Fragment(f"{name} BETWEEN \0 AND \0", (network.address, network.last))
        if form == "bytes":
            return self._within_bytes(name, node, network)
        if self._syntax.name == "postgresql":
            inet = f"CAST({name} AS inet)" if form == "text" else name
            return Fragment(f"{inet} <<= CAST(\0 AS inet)", (addresstext.text_of(network),))
        if form == "inet":
            raise self._error(f"{node.field.name!r} is stored as inet, which {self._syntax.name} does not have", node)
        if self._syntax.name == "mysql":
            size = BITS[network.version] // 8
            ends = (network.address.to_bytes(size, "big"), network.last.to_bytes(size, "big"))
            number = f"INET6_ATON({name})"
            return Fragment(f"(LENGTH({number}) = {size} AND {number} BETWEEN \0 AND \0)", ends)
        try:
            return addresstext.within(name, network, duckdb=self._syntax.name != "sqlite")
        except ValueError as error:
            raise self._error(f"{error}, and {self._syntax.name} compares addresses as text", node) from None

    def _within_bytes(self, name: str, node: Member, network: Network) -> Fragment:
        mapped = _MAPPED if network.version == 4 else 0
        first, last = network.address | mapped, network.last | mapped
        test = Fragment(f"{name} BETWEEN \0 AND \0", (_bytes(first), _bytes(last)))
        if network.version == 4 or last < _MAPPED or first > _LAST_MAPPED:
            return test
        if first >= _MAPPED and last <= _LAST_MAPPED:
            raise self._error(
                f"{node.field.name!r} is stored as bytes, where this network stands for IPv4 addresses", node
            )
        others = Fragment(f"NOT {_MAPPED_BETWEEN.format(name)}", (_bytes(_MAPPED), _bytes(_LAST_MAPPED)))
        return joined(" AND ", [test, others]).bracketed()


_MAPPED_BETWEEN = "({} BETWEEN \0 AND \0)"


def _bytes(address: int) -> bytes:
    return address.to_bytes(16, "big")


def _parts(node: Computed) -> Iterable[Computed]:
    """Return what a number is computed of; of conditions within, nothing."""
    match node:
        case Sign():
            return (node.operand,)
        case Operation():
            return node.left, node.right
        case Brackets():
            return () if isinstance(node.inside, Logic) else (node.inside,)
    return ()


def _inner(node: Computed) -> Iterator[Computed]:
    """Yield all that a number is computed of, itself not."""
    for part in _parts(node):
        yield part
        yield from _inner(part)


def _is_condition(node: Computed) -> bool:
    """Tell whether a part of a number is a condition that may be NULL, which CASE would make false."""
    match node:
        case Member() | Sign(operator="!"):
            return True
        case Operation():
            return node.operator in COMPARISONS
    return False


def _glob(pattern: str) -> str:
    return pattern.replace("[", "[[]")


def _like(pattern: str) -> str:
    for character in "!%_":
        pattern = pattern.replace(character, "!" + character)
    return pattern.replace("*", "%").replace("?", "_")
