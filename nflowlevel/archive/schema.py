# SPDX-License-Identifier: GPL-2.0-or-later
"""What a logged record looks like as a row: one relation for each kind of record, made from the catalogue of keys.

The relations are `packets`, `flows` and `sums`. A column has the name of the record's JSON member, with `_` for each
`.`: `src_ip`, `dest_port`, `tcp_window`, `oob_prefix`. So SQL needs no quotes. Each relation begins with three columns
that it shares with the others: `sec` and `us` are the time of the record since 1970, in seconds and in microseconds,
and `dvc` is the firewall's name. The time is the record's own (`oob.time.*`; of a flow, its end); where it has none, it
is that of its line (`timestamp`). A time without a zone is UTC: ulogd2 leaves the zone out where it is zero.

What JSON has no form for has no column: raw bytes, and addresses that are not text (IP2STR makes text of them). A
member that no key declares, such as the column of somebody's own plugin, has one only if its key is given to
`Relation.with_keys`.

`json_columns` and `Relation.select` make rows of JSON lines in DuckDB:

    SELECT {PACKETS.select()} FROM read_json('ulogd.json', format='newline_delimited', columns={json_columns(PACKETS)})
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from nflowlevel.errors import choice, nearest
from nflowlevel.records.flow import FLOW_TERMS
from nflowlevel.records.keys import CATALOGUE, LEAST, MOST, Key, added_key

#: Texts in Parquet. Only where a part of a file (a row group) has so many bytes of a column, one of them may be long.
LARGE_TYPES: Final = ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
LARGE_BYTES: Final = 16 << 20


class Column(NamedTuple):
    """One column of a relation."""

    name: str
    members: tuple[str, ...]
    """The members of JSON objects that its value comes from: the first that is there."""
    keys: tuple[str, ...]
    """The keys that its value comes from: of a record, at most one holds. Empty: the value is in no key (`dvc`)."""
    type: str
    """DuckDB's type, which is also that of Parquet: UTINYINT, USMALLINT, UINTEGER, UBIGINT, BIGINT, VARCHAR …"""
    meaning: str

    @property
    def spark(self) -> str:
        """Spark's type for the same values: as it has no unsigned numbers, it reads them as the next larger type."""
        return _SPARK[self.type]


_TYPES = {
    "bool": "UTINYINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "string": "VARCHAR",
}
#: The smallest and the largest number of each type.
LIMITS: dict[str, tuple[float, float]] = {
    **{_TYPES[type_]: (LEAST[type_], most) for type_, most in MOST.items() if type_ != "bool"},
    "DOUBLE": (-math.inf, math.inf),
}
#: From narrow to wide: of two types for one column, the later one holds the values of both.
_WIDTH = (
    "UTINYINT",
    "TINYINT",
    "USMALLINT",
    "SMALLINT",
    "UINTEGER",
    "INTEGER",
    "UBIGINT",
    "BIGINT",
    "DOUBLE",
    "VARCHAR",
)
_SPARK = {
    "UTINYINT": "SMALLINT",
    "USMALLINT": "INT",
    "UINTEGER": "BIGINT",
    "UBIGINT": "DECIMAL(20,0)",
    "TINYINT": "TINYINT",
    "SMALLINT": "SMALLINT",
    "INTEGER": "INT",
    "BIGINT": "BIGINT",
    "DOUBLE": "DOUBLE",
    "VARCHAR": "STRING",
}

#: The time of a line: JSON's names for it.
_STAMPS = ("timestamp", "@timestamp")
#: JSON's name for `raw.label` where `boolean_label` is on, and what it says for 0 and for any other value.
ACTION, _BLOCKED, _ALLOWED = "action", "blocked", "allowed"
_LABEL = "raw.label"

#: The keys with the time of a record, by relation, without `.sec` and `.usec`.
_CLOCKS = {"packets": "oob.time", "flows": "flow.end", "sums": "oob.time"}
#: Which relation a key belongs to, by the class of its condition. Columns of plugins say nothing by it: see _PLUGINS.
_CONDITIONS = {
    "PacketCondition": "packets",
    "ReportedCondition": "packets",
    "FlowCondition": "flows",
    "SumCondition": "sums",
}
#: The plugins whose keys are in no record of C, and read something else than packets.
_PLUGINS = {"NFTCOUNTER": "sums", "NFCT": "flows"}
#: Conditions of keys that every record of their kind has.
_ALWAYS = ("ALWAYS", "GIVEN")


def _relation_of(key: Key) -> str:
    condition = type(key.valid).__name__
    return _PLUGINS.get(key.plugin) or _CONDITIONS.get(condition, "packets")


def _member(key: Key) -> str:
    """Return the name of the key's member in JSON."""
    return key.cim or key.name


def _wider(one: str, other: str) -> str:
    return max(one, other, key=_WIDTH.index)


class Relation:
    """The columns of one kind of record, in their order. `name` is `packets`, `flows` or `sums`."""

    def __init__(self, name: str, keys: Iterable[Key]) -> None:
        self.name: Final = name
        self._keys: Final = tuple(keys)
        clock = _CLOCKS[name]
        #: The members of JSON with the record's time: seconds, and microseconds of the same second.
        self.clock: Final = (f"{clock}.sec", f"{clock}.usec")
        columns = {column.name: column for column in self._common()}
        for key in self._keys:
            if key.type in _TYPES and not (key.name in self.clock and clock == "oob.time"):
                self._add(columns, key)
        #: The columns by name.
        self.by_name: Final[Mapping[str, Column]] = columns
        #: The columns in their order.
        self.columns: Final = tuple(columns.values())
        self._meant = {name: column for column in self.columns for name in self._names(column)}
        if name == "flows":
            # A flow has ports and counts of two directions: without a direction, those of the original one are meant.
            told = {term: self._meant[key] for term, key in FLOW_TERMS.items() if key in self._meant}
            self._meant = {**told, **self._meant}

    def _common(self) -> Iterator[Column]:
        yield Column(
            "sec", (self.clock[0], *_STAMPS), (self.clock[0],), "BIGINT", "Seconds since 1970: the record's time."
        )
        yield Column("us", (*self.clock, *_STAMPS), self.clock, "BIGINT", "Microseconds since 1970: the record's time.")
        yield Column("dvc", ("dvc",), (), "VARCHAR", "Name of the firewall that logged it (`device` of JSON).")

    def _add(self, columns: dict[str, Column], key: Key) -> None:
        """Add the key's column, or the key to the column that it shares."""
        member = _member(key)
        name, type_ = member.replace(".", "_"), _TYPES[key.type]
        members = (member, ACTION) if key.name == _LABEL else (member,)
        before = columns.get(name)
        if before is None:
            columns[name] = Column(name, members, (key.name,), type_, key.meaning)
        else:
            keys = dict.fromkeys((*before.keys, key.name))
            columns[name] = before._replace(keys=tuple(keys), type=_wider(before.type, type_))

    @staticmethod
    def _names(column: Column) -> Iterator[str]:
        """Yield the names that mean a column: a key that shares its column with others is not the same as it."""
        yield column.name
        if column.name not in ("sec", "us"):
            yield from column.members[:1]
        if len(column.keys) == 1:
            yield column.keys[0]
            yield column.keys[0].replace(".", "_")

    def with_keys(self, keys: Iterable[Key]) -> Relation:
        """Return the relation with the columns of further keys, such as those of a plugin's `adds`."""
        return Relation(self.name, (*self._keys, *keys))

    def __contains__(self, name: object) -> bool:
        return name in self._meant

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __repr__(self) -> str:
        return f"<Relation {self.name}>"

    def find(self, name: str) -> Column:
        """Return the column that a name means: its own, that of its member of JSON, or that of its key.

        KeyError with the nearest column. A key that shares its column with others (`tcp.dport`, in `dest_port`) does
        not mean it: the column has the ports of UDP, too.
        """
        try:
            return self._meant[name]
        except KeyError:
            pass
        hint = self._hint(name)
        hint = f" — did you mean '{hint}'?" if hint else nearest(name, self._meant)
        raise KeyError(f"unknown column '{name}' of {self.name}{hint or '; docs/keys.md lists the keys'}") from None

    def _hint(self, name: str) -> str:
        """Return the column that holds what a key has in another form, or together with other keys."""
        dotted = {key.name.replace(".", "_"): key.name for key in self._keys}.get(name, name)
        for column in self.columns:
            if dotted in column.keys or f"{dotted}.str" in column.keys:
                return column.name
        return ""

    # -- from JSON ----------------------------------------------------------------------------------------------------

    @property
    def json_types(self) -> dict[str, str]:
        """The members that rows are made of, with DuckDB's type for each."""
        types: dict[str, str] = {}
        for column in self.columns:
            types |= dict.fromkeys(column.members, column.type)
        return (
            types
            | dict.fromkeys((*_STAMPS, ACTION), "VARCHAR")
            | {self.clock[0]: "UINTEGER", self.clock[1]: "UINTEGER"}
        )

    def select(self) -> str:
        """Return the expressions, with commas between them, that make this relation's row of a JSON object's members.

        They are DuckDB's SQL, over what read_json returns with `json_columns`. `sec` and `us` are NULL where neither
        the record nor its line has a time.
        """
        return ", ".join(f"{self._expression(column)} AS {column.name}" for column in self.columns)

    def time(self) -> str:
        """Return the expression for the microseconds of a JSON object's time (`us`)."""
        second, fraction = map(_quoted, self.clock)
        # Text says a zone from its 20th character on, behind the seconds. A zone that is not there is UTC's.
        stamp = f"coalesce({', '.join(map(_quoted, _STAMPS))})"
        zoned = f"CASE WHEN regexp_matches(substr({stamp}, 20), '[-+Z]') THEN {stamp} ELSE {stamp} || 'Z' END"
        written = f"epoch_us(TRY_CAST({zoned} AS TIMESTAMPTZ))"
        return f"CASE WHEN {second} > 0 THEN {second}::BIGINT * 1000000 + coalesce({fraction}, 0) ELSE {written} END"

    def _expression(self, column: Column) -> str:
        if column.name == "us":
            return self.time()
        if column.name == "sec":
            return f"({self.time()}) // 1000000"
        value = _quoted(column.members[0])
        if ACTION in column.members:
            action = _quoted(ACTION)
            return (
                f"CASE WHEN {value} IS NOT NULL THEN {value} WHEN {action} = '{_BLOCKED}' THEN 0 "
                f"WHEN {action} = '{_ALLOWED}' THEN 1 END::{column.type}"
            )
        return value

    @property
    def marks(self) -> tuple[str, ...]:
        """The members that all records of this relation have and no record of another one."""
        others = {_member(key) for key in CATALOGUE if _relation_of(key) != self.name}
        own = [key for key in self._keys if key.type in _TYPES and _member(key) not in others]
        return tuple(dict.fromkeys(_member(key) for key in own if key.valid.name in _ALWAYS))


def _quoted(member: str) -> str:
    return '"' + member.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _declared(name: str) -> Relation:
    return Relation(name, (key for key in CATALOGUE if _relation_of(key) == name))


#: The options of a TCP header. Captures have them, and lines of the kernel's LOG target with `--log-tcp-options`.
TCP_OPTIONS: Final = added_key("tcp.options", "string", "Options of the TCP header as hex digits.", longest=80)

PACKETS: Final = _declared("packets").with_keys((TCP_OPTIONS,))
FLOWS: Final = _declared("flows")
SUMS: Final = _declared("sums")
#: The relations by name.
RELATIONS: Final[Mapping[str, Relation]] = {found.name: found for found in (PACKETS, FLOWS, SUMS)}


def relation(name: str) -> Relation:
    """Return the relation of that name; ValueError where there is none."""
    try:
        return RELATIONS[name]
    except KeyError:
        raise ValueError(f"unknown relation '{name}'{choice(name, RELATIONS)}") from None


def json_columns(*relations: Relation) -> str:
    """Return the value of read_json's `columns`: all members that rows of these relations are made of.

    Where relations have a member in different types, it has the wider one here.
    """
    types: dict[str, str] = {}
    for found in relations:
        for member, type_ in found.json_types.items():
            types[member] = _wider(types.get(member, type_), type_)
    return "{" + ", ".join(f"{_text(member)}: {_text(type_)}" for member, type_ in types.items()) + "}"


def json_kind() -> str:
    """Return the expression that says whose row a JSON object makes: `packets`, `flows` or `sums`.

    It is DuckDB's SQL, over what read_json returns with `json_columns` of all relations. What has no member of another
    relation's own counts as a packet.
    """
    whens = "".join(
        f"WHEN coalesce({', '.join(f'{_quoted(mark)}::VARCHAR' for mark in found.marks)}) IS NOT NULL "
        f"THEN {_text(found.name)} "
        for found in (SUMS, FLOWS)
        if found.marks
    )
    return f"CASE {whens}ELSE {_text(PACKETS.name)} END"
