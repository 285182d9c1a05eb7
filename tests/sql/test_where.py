# SPDX-License-Identifier: GPL-2.0-or-later
"""Filters as SQL: the table of cases on four databases and in every form of addresses, and what is refused."""

from __future__ import annotations

import ipaddress
import random
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

import pytest

from nflowlevel.records.filters import FilterError, parse
from nflowlevel.records.keys import BY_NAME
from nflowlevel.records.sums import SUM
from nflowlevel.sql.where import DIALECTS, Column, Condition, Dialect, Expression, Form, where
from tests.fix_filters import ADDED, CASES, REFUSED, Case, Maker, Row, meant, packets, refused
from tests.fix_mariadb import MariaDBDatabase, mariadb, mariadb_db
from tests.fix_postgres import PostgresDatabase, postgres, postgres_db

__all__ = ["mariadb", "mariadb_db", "postgres", "postgres_db"]

#: The keys that the cases look at.
KEYS = tuple(
    dict.fromkeys(key for case in CASES for field in parse(case.text, added=ADDED).fields for key in field.keys)
)
TYPES = {key.name: key.type for key in (*BY_NAME.values(), *ADDED)}
ADDRESSES = {"ip.saddr", "ip.daddr", "arp.saddr", "icmp.gateway"}


class Table(NamedTuple):
    """A table `packets` with the corpus: how a dialect declares it, and in which form it has addresses."""

    dialect: Dialect
    form: Form = "text"
    booleans: bool = False

    def name_of(self, key: str) -> str:
        """Return the name of a key's column: where it can be quoted, one that has to be."""
        return key.replace(".", "_") if self.dialect == "common" else f"{key} 100%"

    def type_of(self, key: str) -> str:
        """Return the type of a key's column."""
        if key in ADDRESSES:
            blob = {"postgresql": "bytea", "mysql": "binary(16)"}.get(self.dialect, "blob")
            text = {"mysql": "varchar(45) character set ascii"}.get(self.dialect, "text")
            return {"inet": "inet", "bytes": blob, "number": "bigint"}.get(self.form, text)
        if self.booleans and TYPES[key] == "bool":
            return "boolean"
        if TYPES[key] == "string":
            return {"mysql": "varchar(200) character set utf8mb4"}.get(self.dialect, "text")
        # MySQL subtracts numbers without a sign as such, unless it is told.
        return {"mysql": "bigint unsigned"}.get(self.dialect, "bigint") if TYPES[key] == "uint32" else "integer"

    @property
    def columns(self) -> dict[str, Column]:
        """What `where` is told of it."""
        return {
            key: Column(
                self.name_of(key),
                "boolean" if self.type_of(key) == "boolean" else self.form if key in ADDRESSES else None,
            )
            for key in KEYS
        }

    def create(self) -> str:
        """Return the statement that makes it."""
        quote = "`" if self.dialect == "mysql" else '"'
        columns = ", ".join(f"{quote}{self.name_of(key)}{quote} {self.type_of(key)}" for key in KEYS)
        return f"create table packets ({quote}row{quote} integer, {columns})"

    def insert(self) -> str:
        """Return the statement for a row."""
        mark = "%s" if self.dialect in ("postgresql", "mysql") else "?"
        return f"insert into packets values ({', '.join([mark] * (1 + len(KEYS)))})"

    def values(self, rows: tuple[Row, ...]) -> list[list[Any]]:
        """Return what its columns have of the rows."""
        return [[number, *(self._value(key, row[key]) for key in KEYS)] for number, row in enumerate(rows)]

    def _value(self, key: str, value: Any) -> Any:
        if value is None:
            return None
        if self.type_of(key) == "boolean":
            return bool(value)
        if key not in ADDRESSES or self.form in ("text", "inet"):
            return value
        address = ipaddress.ip_address(value)
        if self.form == "number":
            return int(address) if address.version == 4 else None
        return ipaddress.ip_address(f"::ffff:{value}").packed if address.version == 4 else address.packed

    @property
    def _of_text(self) -> set[str]:
        """How cases name what compares addresses as text."""
        return {"duckdb" if self.dialect == "common" else self.dialect}

    def refuses(self, case: Case) -> bool:
        """Tell whether it cannot have a case."""
        return bool(case.refused_by & ({self.form} | (self._of_text if self.form == "text" else set())))


def check(table: Table, ask: Callable[[Condition], list[int]]) -> None:
    """Ask all cases; one that the table cannot have is refused."""
    _, _, rows = packets()
    if table.form == "number":
        rows = tuple(Row({k: v for k, v in row.items() if k not in ADDRESSES or ":" not in v}) for row in rows)
    if table.form == "bytes":
        # There a mapped address is an IPv4 address.
        rows = tuple(
            Row({k: v.removeprefix("::ffff:") if k in ADDRESSES else v for k, v in row.items()}) for row in rows
        )
    asked = 0
    for case in CASES:
        if table.refuses(case):
            with pytest.raises(FilterError):
                where(case.text, table.columns, table.dialect, added=ADDED)
        else:
            condition = where(case.text, table.columns, table.dialect, added=ADDED)
            assert ask(condition) == meant(case, rows), f"{case.text}\n{condition}"
            asked += 1
    assert asked > 50
    if table.form != "bytes":
        check_random(table, ask)


NUMBERS = (
    "tcp.dport",
    "tcp.sport",
    "ip.ttl",
    "raw.pktlen",
    "tcp.ack",
    "tcp.syn",
    "udp.dport",
    "oob.mark",
    "ip.protocol",
)


def check_random(table: Table, ask: Callable[[Condition], list[int]]) -> None:
    """Compare random filters with what they mean in Python."""
    rows = packets()[2]
    maker = Maker(random.Random(len(table.dialect)), NUMBERS)
    asked = 0
    while asked < (300 if table.dialect == "sqlite" else 60):
        text, holds = maker.condition()
        try:
            condition = where(text, table.columns, table.dialect, added=ADDED)
        except FilterError as error:
            if not refused(error):
                raise
            continue
        assert ask(condition) == [number for number, row in enumerate(rows) if holds(row)], f"{text}\n{condition}"
        asked += 1


_SELECT = 'select "row" from packets where {} order by 1'
_COMMON = "select row from packets where {} order by 1"


@pytest.mark.parametrize("form", ["text", "bytes", "number"])
def test_sqlite(form: Form) -> None:
    table = Table("sqlite", form)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(table.create())
        connection.executemany(table.insert(), table.values(packets()[2]))
        check(table, lambda c: [row for (row,) in connection.execute(_SELECT.format(c.text), c.parameters)])


@pytest.mark.parametrize("form", ["text", "bytes", "number"])
@pytest.mark.parametrize("booleans", [False, True])
def test_duckdb(form: Form, booleans: bool) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed (pip install duckdb)")
    table = Table("duckdb", form, booleans)
    with closing(duckdb.connect()) as connection:
        connection.execute(table.create())
        connection.executemany(table.insert(), table.values(packets()[2]))
        check(table, lambda c: [row for (row,) in connection.execute(_SELECT.format(c.text), c.parameters).fetchall()])


@pytest.mark.parametrize("form", ["text", "number"])
@pytest.mark.parametrize("booleans", [False, True])
def test_what_engines_share_on_duckdb(form: Form, booleans: bool) -> None:
    """Spark is asked by tests/analytics/test_cluster.py."""
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed (pip install duckdb)")
    table = Table("common", form, booleans)
    with closing(duckdb.connect()) as connection:
        connection.execute(table.create())
        connection.executemany(table.insert(), table.values(packets()[2]))

        def ask(condition: Condition) -> list[int]:
            assert not condition.parameters
            return [row for (row,) in connection.execute(_COMMON.format(condition.text)).fetchall()]

        check(table, ask)


def test_what_engines_do_not_share_is_refused() -> None:
    with pytest.raises(FilterError, match="too large for all engines to agree") as caught:
        where("(tcp.seq << 30) / 3 == 1", {"tcp.seq": "tcp_seq"}, "common")
    assert caught.value.position == 16
    with pytest.raises(FilterError, match="stored as bytes, which have no literal"):
        where("ip.saddr == 10.0.0.0/8", {"ip.saddr": Column("src", "bytes")}, "common")
    with pytest.raises(FilterError, match="too long"):
        where("(" * 30 + "ip.ttl" + " ^ 1)" * 30 + " == 1", {"ip.ttl": "ip_ttl"}, "common")
    with pytest.raises(ValueError, match="'a b' is not a name"):
        where("tcp.dport == 1", {"tcp.dport": "a b"}, "common")


@pytest.mark.parametrize("form", ["inet", "text", "bytes", "number"])
def test_postgresql(postgres_db: PostgresDatabase, form: Form) -> None:
    table = Table("postgresql", form, booleans=form == "inet")
    with postgres_db.connect() as connection, connection.cursor() as cursor:
        cursor.execute(table.create())  # type: ignore[arg-type]
        cursor.executemany(table.insert(), table.values(packets()[2]))  # type: ignore[arg-type]
        check(table, lambda c: [row for (row,) in cursor.execute(_SELECT.format(c.text), c.parameters)])  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["text", "bytes", "number"])
def test_mysql(mariadb_db: MariaDBDatabase, form: Form) -> None:
    table = Table("mysql", form, booleans=True)
    with mariadb_db.connect(charset="utf8mb4") as connection, connection.cursor() as cursor:

        def ask(condition: Condition) -> list[int]:
            cursor.execute(_SELECT.replace('"', "`").format(condition.text), condition.parameters)
            return [row for (row,) in cursor.fetchall()]

        cursor.execute(table.create())
        cursor.executemany(table.insert(), table.values(packets()[2]))
        check(table, ask)


# -- its text ---------------------------------------------------------------------------------------------------------


def sql(text: str, dialect: Dialect = "sqlite", **columns: str | Column | Expression) -> Condition:
    names = {"tcp_dport": "port", "src_ip": "source", "ip_ttl": 't"l', "oob_prefix": "prefix", **columns}
    return where(text, names, dialect)


def test_an_index_serves() -> None:
    """Where NULL and false are the same, nothing stands around a column."""
    assert sql("tcp.dport == 22 && ip.ttl < 40") == ('(("port" = ?) AND ("t""l" < ?))', (22, 40))
    assert sql("tcp.dport in {22, 80-90}", "postgresql") == (
        '("port" IN (%s) OR "port" BETWEEN %s AND %s)',
        (22, 80, 90),
    )
    assert sql("saddr == 10.1.0.0/16").parameters == ("10.1.", "10.1/")
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute('create table packets (port integer, source text, "t""l" integer, prefix text)')
        for column in ("port", "source", "prefix"):
            connection.execute(f"create index {column}s on packets ({column})")
        for text in ("tcp.dport == 22 && ip.ttl < 40", "src_ip == 10.1.0.0/16", 'prefix == "x"'):
            condition = sql(text)
            plan = connection.execute(
                f"explain query plan select * from packets where {condition.text}", condition.parameters
            )
            assert "USING INDEX" in plan.fetchone()[3], text


def test_null_is_asked_for_under_a_negation() -> None:
    assert sql("!(tcp.dport == 22)").text == 'NOT ("port" IS NOT NULL AND ("port" = ?))'


def test_values_are_parameters_and_names_are_quoted() -> None:
    text = "'; drop table packets; --"
    for dialect in DIALECTS[:4]:
        condition = sql(f'prefix == "{text}" || prefix ~ "{text}*"', dialect, oob_prefix='a"`%b')
        assert "drop" not in condition.text
        assert [value.rstrip("*%") for value in condition.parameters if isinstance(value, str)] == [text, text]
        assert {"mysql": '`a"``%%b`', "postgresql": '"a""`%%b"'}.get(dialect, '"a""`%b"') in condition.text
    with pytest.raises(ValueError, match="is not a name"):
        sql("tcp.dport", tcp_dport="a\0b")


def test_an_expression_is_taken_as_it_stands() -> None:
    derived = Expression("CASE WHEN protocol = 6 THEN dest_port END")
    assert sql("dport in {22}", dest_port=derived).text == f"(({derived.sql}) IN (?))"
    assert sql("dport in {22}", dest_port="p").text == '("p" IN (?))'


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        (
            "1 && tcp.window",
            5,
            "the table has no column for 'tcp.window'; available: tcp.dport, ip.saddr, ",
        ),
        ("sport == 1", 0, "no column for 'tcp.sport' or 'udp.sport' or 'sctp.sport'"),
        ("1 || dport == 1", 5, "no column for 'udp.dport' or 'sctp.dport'"),
        ("ip.saddr >> 24 == 10", 0, "'ip.saddr' is stored as text, and sqlite cannot compute with that"),
        (
            "1 && ip.saddr == 2001:db8::/80",
            5,
            "2001:db8::/80 depends on how many groups its '::' stands for, and sqlite",
        ),
        ("ip.saddr == 2001:0:0:5::/64", 0, "depends on how many groups"),
        ("tcp.dprt == 1", 0, "did you mean 'tcp.dport'"),
    ],
)
def test_what_is_refused(text: str, place: int, reason: str) -> None:
    with pytest.raises(FilterError, match=re.escape(reason)) as caught:
        sql(text)
    assert caught.value.position == place


def test_forms_that_an_address_cannot_have() -> None:
    with pytest.raises(FilterError, match="stored as inet, which duckdb does not have"):
        sql("ip.saddr == 10.0.0.0/8", "duckdb", src_ip=Column("source", "inet"))
    with pytest.raises(FilterError, match="stored as a number, so it cannot be an IPv6 address"):
        sql("ip.saddr == fd00::/8", src_ip=Column("source", "number"))
    with pytest.raises(FilterError, match="stored as bytes, where this network stands for IPv4 addresses"):
        sql("ip.saddr == ::ffff:10.0.0.0/104", src_ip=Column("source", "bytes"))


def test_wrong_arguments() -> None:
    with pytest.raises(
        ValueError, match="unknown dialect 'oracle'; available: duckdb, postgresql, sqlite, common, mysql"
    ):
        where("1", {}, "oracle")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"columns: unknown field 'tcp.dprt' — did you mean 'tcp.dport'"):
        where("1", {"tcp.dprt": "x"}, "sqlite")
    with pytest.raises(ValueError, match=r"columns: 'raw\.pkt' is bytes, and filters cannot compare bytes"):
        where("1", {"raw.pkt": "x"}, "sqlite")
    with pytest.raises(ValueError, match=r"columns: packets do not have 'sum\.pkts': it is a key of sums"):
        where("1", {"sum.pkts": "x"}, "sqlite")
    assert where("packets > 3", {"sum.pkts": "x"}, "sqlite", type=SUM).text == '("x" > ?)'


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_what_packets_do_not_have(text: str, reason: str) -> None:
    with pytest.raises(FilterError, match=re.escape(reason)):
        sql(text, tcp_dport="port")
