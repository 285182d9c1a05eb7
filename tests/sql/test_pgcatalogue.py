# SPDX-License-Identifier: GPL-2.0-or-later
"""What PostgreSQL's catalogue says about the names of options, with a real server."""

from __future__ import annotations

import pytest

from nflowlevel.sql.columns import Column
from nflowlevel.sql.pgcatalogue import parse_name
from tests.fix_pgsql import Open, session
from tests.fix_postgres import PostgresDatabase, postgres, postgres_db

__all__ = ["postgres", "postgres_db", "session"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("t", (None, "t", "t")),
        (" T ", (None, "t", "T")),
        ("S.T", ("s", "t", "T")),
        ('"S"."T"', ("S", "T", "T")),
        ('S."a ""b"".c"', ("s", 'a "b".c', 'a "b".c')),
        ("Ünd_1$", (None, "Ünd_1$", "Ünd_1$")),
        ("my-table", (None, "my-table", "my-table")),
        ("a.b.c", (None, "a.b.c", "a.b.c")),
        ('"open', (None, '"open', '"open')),
        ("1st", (None, "1st", "1st")),
    ],
)
def test_names(text: str, meant: tuple[str | None, str, str]) -> None:
    assert parse_name(text) == meant


def test_columns_are_the_catalogues(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute(
        "create domain port as integer",
        "create table t (_id bigserial primary key, gone text, oob_prefix varchar(32), oob_time timestamptz,"
        " code char(3), n bigint generated always as identity, twice int generated always as (1 + 1) stored,"
        " p port, free text, many inet[], at timestamp default now(), amount numeric(20,3))",
        "alter table t drop column gone",
    )
    one = session()
    one.database.connect()
    assert one.database.columns() == [
        Column("_id", "bigint", None, True),
        Column("oob_prefix", "character varying", 32),
        Column("oob_time", "timestamp with time zone"),
        Column("code", "character", 3),
        Column("n", "bigint", None, True),
        Column("twice", "integer", None, True),
        Column("p", "integer"),
        Column("free", "text"),
        Column("many", "inet[]"),
        Column("at", "timestamp without time zone"),
        Column("amount", "numeric"),
    ]


def test_columns_of_the_shipped_view(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.load_shipped("full")
    one = session(table="ulog")
    one.database.connect()
    columns = one.database.columns()
    assert [column.name for column in columns][:3] == ["_id", "oob_time_sec", "oob_time_usec"]
    assert len(columns) == 60
    assert {column.type for column in columns} == {
        *("bigint", "integer", "smallint", "boolean"),
        *("inet", "macaddr", "character varying"),
    }


@pytest.mark.parametrize(
    ("created", "table", "schema"),
    [
        ("t", "T", "public"),
        ("t", "public.t", "other"),
        ("other.t", "t", "other"),
        ("other.t", "Other.T", "public"),
        ('"Mixed Case"', '"Mixed Case"', "public"),
        ('"Mixed-Case"', "Mixed-Case", "public"),
        ('"MixedCase"', "MixedCase", "public"),
        ('other."a ""b"" c"', 'other."a ""b"" c"', "public"),
        ('"Ünder$1"', '"Ünder$1"', "public"),
        ("Ünder$1", "Ünder$1", "public"),
    ],
)
def test_tables_are_found_as_sql_finds_them(
    postgres_db: PostgresDatabase, session: Open, created: str, table: str, schema: str
) -> None:
    postgres_db.execute("create schema other", f"create table {created} (oob_mark bigint)")
    one = session(table=table, schema=schema).open()
    one.write({"oob.mark": "7"})
    assert postgres_db.rows(f"select * from {created}") == [(7,)]
    assert postgres_db.count(f"{schema}.nflowlevel_ledger") == 1


def test_a_folded_name_comes_before_an_exact_one(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute('create table "T" (oob_mark bigint)', "create table t (oob_mark bigint)")
    session(table="T").open().write({"oob.mark": "7"})
    assert (postgres_db.count('"T"'), postgres_db.count("t")) == (0, 1)
