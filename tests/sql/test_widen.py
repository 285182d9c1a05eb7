# SPDX-License-Identifier: GPL-2.0-or-later
"""Which columns and arguments need a wider type, and which."""

from __future__ import annotations

import pytest

from nflowlevel.records.keys import BY_NAME, TIME
from nflowlevel.sql.bodies import Body
from nflowlevel.sql.columns import Column
from nflowlevel.sql.widen import Change, arguments, changes, size

_MEMBERS = [*BY_NAME.items()]


@pytest.mark.parametrize(
    ("name", "type_", "length", "wide"),
    [
        # MySQL.
        ("oob_protocol", "smallint", None, "integer"),
        ("oob_mark", "smallint unsigned", None, "int unsigned"),
        ("oob_mark", "int", None, "bigint"),
        ("ip_totlen", "tinyint unsigned", None, "smallint unsigned"),
        ("sum_bytes", "int unsigned", None, "bigint unsigned"),
        ("oob_prefix", "varchar", 32, "varchar(127)"),
        ("oob_prefix", "char", 32, "varchar(127)"),
        # PostgreSQL.
        ("oob_mark", "integer", None, "bigint"),
        ("udp_len", "smallint", None, "integer"),
        ("sum_bytes", "integer", None, "bigint"),
        ("oob_prefix", "character varying", 32, "varchar(127)"),
        ("oob_mark", "character varying", 3, "varchar(10)"),
    ],
)
def test_a_column_that_is_too_narrow(name: str, type_: str, length: int | None, wide: str) -> None:
    assert changes([Column(name, type_, length)], _MEMBERS) == ([Change(name, wide)], [])


@pytest.mark.parametrize(
    ("name", "type_", "length"),
    [
        ("oob_mark", "bigint", None),
        ("oob_mark", "int unsigned", None),
        ("oob_prefix", "varchar", 127),
        ("oob_prefix", "text", None),
        ("sum_bytes", "bigint", None),
        ("site", "tinyint", None),
        ("tcp_syn", "boolean", None),
    ],
)
def test_a_column_that_fits(name: str, type_: str, length: int | None) -> None:
    assert changes([Column(name, type_, length)], _MEMBERS) == ([], [])


@pytest.mark.parametrize(
    ("name", "type_", "length", "said"),
    [
        ("oob_prefix", "integer", None, "oob_prefix integer: oob.prefix is not a number: change the column by hand"),
        ("oob_mark", "boolean", None, "oob_mark boolean: oob.mark goes up to 4294967295: change the column by hand"),
        ("ip_saddr", "binary", 4, "ip_saddr binary(4): ip.saddr has up to 16 bytes: change the column by hand"),
    ],
)
def test_a_column_of_another_kind(name: str, type_: str, length: int | None, said: str) -> None:
    assert changes([Column(name, type_, length)], _MEMBERS) == ([], [said])


def test_a_time_in_a_number_is_for_a_hand() -> None:
    found, remarks = changes([Column(TIME.replace(".", "_"), "integer")], _MEMBERS)
    assert not found
    assert "is a date and time, not a number" in remarks[0]


def test_arguments_are_followed() -> None:
    bodies = {
        "outer": Body("OUTER", ["m", "p", "n"], "inner(p, m)"),
        "inner": Body("INNER", ["prefix", "mark"], ""),
    }
    types = {
        "outer": [Column("m", "int"), Column("p", "varchar", 200), Column("n", "tinyint")],
        "inner": [Column("prefix", "varchar", 32), Column("mark", "bigint")],
    }
    found = arguments(bodies["outer"], ["oob.mark", "oob.prefix", ""], bodies, types, _MEMBERS)
    assert found.changes == {"inner": {0: "varchar(127)"}, "outer": {0: "bigint"}}
    assert list(found.changes) == ["inner", "outer"]
    assert found.problems == [
        "argument 1 of INNER, prefix varchar(32): oob.prefix has up to 127 characters",
        "argument 1 of OUTER, m int: oob.mark goes up to 4294967295, the column to 2147483647",
    ]
    assert not found.remarks
    types["inner"][0] = Column("prefix", "int")
    found = arguments(bodies["outer"], ["oob.mark", "oob.prefix", ""], bodies, types, _MEMBERS)
    assert found.remarks == ["argument 1 of INNER, prefix int: oob.prefix is not a number: change it by hand"]


@pytest.mark.parametrize(
    ("rows", "octets", "text"),
    [
        (-1, 0, "about 0 rows, 0 bytes"),
        (999.4, 8192, "about 999 rows, 8 kB"),
        (1_234_567, 240_000_000, "about 1,234,567 rows, 240 MB"),
        (3e9, 5 * 10**15, "about 3,000,000,000 rows, 5000 TB"),
    ],
)
def test_sizes(rows: float, octets: int, text: str) -> None:
    assert size(rows, octets) == text
