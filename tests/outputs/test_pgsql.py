# SPDX-License-Identifier: GPL-2.0-or-later
"""PGSQL: its options, and that it has its database. The connection: tests/sql/test_pgsql.py."""

from __future__ import annotations

import pytest

from nflowlevel.options import ConfigErrors, Value, convert
from nflowlevel.outputs.pgsql import PGSQL, PGSQLOptions
from nflowlevel.sql.pgsql import PGDatabase


def test_options_are_ulogds() -> None:
    given = {
        "db": "ulogd2",
        "host": "localhost",
        "user": "ulog",
        "pass": "x",
        "port": "5432",
        "schema": "s",
        "table": "ulog",
        "procedure": "INSERT_PACKET_FULL",
        "reconnect": "3",
        "connect_timeout": "4",
        "backlog_memcap": "1",
        "backlog_oneshot_requests": "5",
        "ring_buffer_size": "6",
        "connstring": "service=x",
    }
    values = {name: Value(text, number) for number, (name, text) in enumerate(given.items())}
    options = convert(PGSQLOptions, values, plugin="PGSQL", instance="p")
    assert (options.pass_, options.port, options.schema, options.connstring) == ("x", 5432, "s", "service=x")
    only = convert(PGSQLOptions, {"table": Value("t", 1)}, plugin="PGSQL", instance="p")
    assert (only.procedure, only.schema, only.db, only.port) == ("INSERT", "public", "", 0)
    with pytest.raises(ConfigErrors, match="table is mandatory"):
        convert(PGSQLOptions, {}, plugin="PGSQL", instance="p")


def test_the_plugin_has_this_database() -> None:
    plugin = PGSQL("p", PGSQLOptions(table="t", db="x", pass_="secret"))
    database = plugin.database()
    assert isinstance(database, PGDatabase)
    assert database.shown == "PostgreSQL dbname=x"
    assert PGDatabase(PGSQLOptions(table="t", connstring="password=secret")).shown == "PostgreSQL (connstring)"
