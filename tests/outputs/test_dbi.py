# SPDX-License-Identifier: GPL-2.0-or-later
"""DBI is the right one of the other outputs, with the options of ulogd.conf."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.errors import ConfigError
from nflowlevel.options import Value, convert
from nflowlevel.outputs.dbi import DBI, DBIOptions
from nflowlevel.outputs.mysql import MYSQLOptions
from nflowlevel.outputs.pgsql import PGSQLOptions
from nflowlevel.outputs.sqlite3 import SQLITE3Options
from nflowlevel.plugin.contract import check_plugin
from nflowlevel.records.keys import BY_NAME
from nflowlevel.sql.options import SQLOptions
from tests.fix_lines import check, wait_for
from tests.fix_mariadb import MariaDBDatabase, mariadb, mariadb_db
from tests.fix_plugins import batch_of
from tests.fix_postgres import PostgresDatabase, postgres, postgres_db

__all__ = ["mariadb", "mariadb_db", "postgres", "postgres_db"]

#: As a section of ulogd.conf has them, but for the values of options that all databases have.
SECTION: dict[str, Any] = {
    "db": "/nulog",
    "user": "nupik",
    "pass_": "changeme",
    "host": "localhost",
    "port": 999,
    "schema": "logs",
}
SHARED: dict[str, Any] = {
    "table": "ulog",
    "procedure": "INSERT INTO x",
    "reconnect": 7,
    "connect_timeout": 8,
    "timeout": 9,
}
SHARED |= {"ring_buffer_size": 10, "backlog_memcap": 11, "backlog_oneshot_requests": 12, "when_full": "drop_oldest"}
SHARED |= {"spool_directory": "/nowhere", "spool_max_bytes": 13, "dead_letter_file": "/dead"}


@pytest.mark.parametrize(
    ("dbtype", "wanted"),
    [
        ("pgsql", PGSQLOptions(**SECTION, **SHARED)),
        ("mysql", MYSQLOptions(**{name: SECTION[name] for name in SECTION if name != "schema"}, **SHARED)),
        ("sqlite3", SQLITE3Options(db="/nulog", **SHARED)),
    ],
)
def test_the_section_becomes_that_of_the_other_plugin(dbtype: str, wanted: SQLOptions) -> None:
    assert set(SHARED) == set(SQLOptions.__struct_fields__), "all that is shared is passed on"
    plugin = DBI("dbi1", DBIOptions(dbtype=dbtype, **SECTION, **SHARED))
    assert plugin._output.options == wanted
    assert plugin._output.name == type(wanted).__name__.removesuffix("Options")
    assert plugin.database().shown == plugin._output.database().shown
    assert plugin.database().dialect == dbtype


@pytest.mark.parametrize("dbtype", ["pgsql", "mysql", "sqlite3"])
def test_only_what_says_where_is_mandatory(dbtype: str) -> None:
    options = DBIOptions(dbtype=dbtype, db="/nulog", table="ulog")
    plugin = DBI("dbi1", options)
    assert all(getattr(plugin._output.options, name) == getattr(options, name) for name in SHARED)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"dbtype": "oracle"}, "dbtype=oracle: no output supports it; available: pgsql, mysql, sqlite3"),
        ({"dbtype": "sqlite3"}, "db=nulog: libdbi keeps such files in a directory of its own; give the full path"),
        ({"dbtype": "sqlite3", "db": "/nulog", "procedure": "CALL x"}, "SQLite has no procedures"),
        ({}, "dbtype is mandatory"),
    ],
)
def test_what_cannot_be_mapped_is_refused_at_once(section: dict[str, str], said: str) -> None:
    given = {"db": "nulog", "table": "ulog", "pass": "changeme", **section}
    values = {name: Value(text, 1) for name, text in given.items()}
    with pytest.raises(ConfigError) as error:
        convert(DBIOptions, values, plugin="DBI", instance="dbi1")
    assert said in str(error.value)
    assert "changeme" not in str(error.value)


def test_it_is_a_plugin() -> None:
    check_plugin(DBI)


def test_rows_arrive_in_sqlite(tmp_path: Path) -> None:
    file = tmp_path / "nulog.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("create table ulog (oob_prefix text)")
    store(DBIOptions(dbtype="sqlite3", db=str(file), table="ulog", spool_directory=str(tmp_path)))
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("select oob_prefix, count(*) from ulog").fetchall() == [("p", 23)]


def test_rows_arrive_in_mysql(mariadb_db: MariaDBDatabase, tmp_path: Path) -> None:
    mariadb_db.execute("create table ulog (oob_prefix text)")
    store(options("mysql", mariadb_db, tmp_path))
    assert mariadb_db.rows("select oob_prefix, count(*) from ulog group by 1") == [("p", 23)]


def test_rows_arrive_in_postgresql(postgres_db: PostgresDatabase, tmp_path: Path) -> None:
    postgres_db.execute("create table ulog (oob_prefix text)")
    store(options("pgsql", postgres_db, tmp_path))
    assert postgres_db.rows("select oob_prefix, count(*) from ulog group by 1") == [("p", 23)]


def options(dbtype: str, database: Any, spool: Path) -> DBIOptions:
    where = {"host": database.host, "port": database.port, "user": database.user, "pass_": database.password}
    return DBIOptions(dbtype=dbtype, db=database.name, table="ulog", spool_directory=str(spool), **where)


def store(given: DBIOptions) -> None:
    """Send a batch through a stack's end, as the daemon does."""
    plugin = DBI("dbi1", given)
    plugin.bind((("oob.prefix", BY_NAME["oob.prefix"]),))
    plugin.open()
    plugin.write(batch_of(count=23))
    wait_for(lambda: plugin.stats.written == 23, [plugin.stats])
    assert plugin.state.startswith("connected to ")
    plugin.reopen()
    assert plugin.deadline is None
    plugin.retry()
    plugin.close(5)
    plugin.close()
    check(plugin.stats)
