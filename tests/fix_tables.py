# SPDX-License-Identifier: GPL-2.0-or-later
"""Databases as the options of an output name them, at the addresses where Debian's servers are, with tables in them."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.fix_mariadb import MariaDB
from tests.fix_netns import Netns
from tests.fix_postgres import Postgres
from tests.fix_receivers import Forwarder
from tests.fix_server import shipped_schema

#: Tables that a configuration may name and that no shipped schema has.
_TABLES = {
    "packets": "oob_time_sec bigint, oob_prefix varchar(64), oob_in varchar(32), ip_saddr_str varchar(45),"
    " ip_daddr_str varchar(45), ip_protocol int, udp_sport int, udp_dport int, tcp_sport int, tcp_dport int",
    "accounting": "sum_name varchar(64), sum_pkts bigint, sum_bytes bigint",
    "prefixes": "oob_prefix varchar(128), raw_label int",
}


@dataclass
class Servers:
    """Database servers, each started when a configuration first asks for it."""

    postgres: Callable[[], Postgres]
    mariadb: Callable[[], MariaDB]


def _schema_of(kind: Literal["pgsql", "mysql"], options: Any) -> tuple[str, str]:
    """Return the script that makes what an output fills, and the table or view to look at afterwards."""
    if options.table in _TABLES:
        return f"create table {options.table} ({_TABLES[options.table]});", options.table
    # The view for flows shows none of them: ulogd2's function leaves `state` empty.
    seen = "ulog2_ct" if options.table == "conntrack" else options.table
    flat = "-flat" if options.procedure.upper() == "INSERT" else ""
    return shipped_schema(f"{kind}-ulogd2{flat}.sql"), seen


@contextlib.contextmanager
def postgres(server: Postgres, options: Any, netns: Netns, run: Path) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Have a database as a PGSQL output names it; yields a function that returns its rows."""
    import psycopg.conninfo

    given: dict[str, Any] = {"dbname": options.db, "user": options.user, "password": options.pass_}
    if options.connstring:
        given |= psycopg.conninfo.conninfo_to_dict(options.connstring)
    database, user = str(given["dbname"]), str(given["user"])
    script, table = _schema_of("pgsql", options)
    with server.admin() as admin:
        admin.execute(f"create role {user} login password '{given['password']}'".encode())
        admin.execute(f"create database {database} owner {user} template template0".encode())
    (run / "postgresql").mkdir(exist_ok=True)
    place = server.socket_directory / f".s.PGSQL.{server.port}"
    (run / "postgresql/.s.PGSQL.5432").symlink_to(place)
    try:
        with server.admin(database) as admin:
            if options.schema != "public":
                admin.execute(f"create schema {options.schema} authorization {user}".encode())
            admin.execute(f"set role {user}; set search_path to {options.schema}".encode())
            # Meta-commands of psql stand in no shipped schema.
            admin.execute(script.encode())
        with Forwarder(netns, int(given.get("port") or 5432), place):
            yield lambda: _rows_of_postgres(server, database, f"{options.schema}.{table}")
    finally:
        with server.admin() as admin:
            admin.execute(f"drop database {database} with (force)".encode())
            admin.execute(f"drop role {user}".encode())


def _rows_of_postgres(server: Postgres, database: str, table: str) -> list[dict[str, Any]]:
    with server.admin(database) as admin:
        cursor = admin.execute(f"select * from {table}".encode())
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]


@contextlib.contextmanager
def mariadb(server: MariaDB, options: Any, run: Path) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Have a database as a MYSQL output names it, at the socket where Debian has it; yields a function for its rows."""
    script, table = _schema_of("mysql", options)
    with server.admin() as admin, admin.cursor() as cursor:
        cursor.execute(f"create database {options.db}")
        cursor.execute("create user %s@localhost identified by %s", (options.user, options.pass_))
        cursor.execute(f"grant all on {options.db}.* to {options.user}@localhost")
    (run / "mysqld").mkdir(exist_ok=True)
    (run / "mysqld/mysqld.sock").symlink_to(server.socket)
    try:
        server.run(
            shutil.which("mariadb") or "mariadb",
            "--no-defaults",
            f"--socket={server.socket}",
            f"--user={options.user}",
            f"--password={options.pass_}",
            options.db,
            input=script.encode(),
        )
        yield lambda: _rows_of_mariadb(server, options.db, table)
    finally:
        with server.admin() as admin, admin.cursor() as cursor:
            cursor.execute(f"drop database {options.db}")
            cursor.execute("drop user %s@localhost", (options.user,))


def _rows_of_mariadb(server: MariaDB, database: str, table: str) -> list[dict[str, Any]]:
    with server.admin(database) as admin, admin.cursor() as cursor:
        cursor.execute(f"select * from {table}")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def make_sqlite(path: Path, table: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        if table in _TABLES:
            database.execute(f"create table if not exists {table} ({_TABLES[table]})")
        else:
            shipped = Path("/usr/share/doc/ulogd2/sqlite3.table").read_text()
            wanted = re.search(rf"CREATE TABLE {table} \(.*?\);", shipped, re.DOTALL)
            assert wanted, f"neither the tests nor ulogd2 have a table {table}"
            database.execute(wanted[0].replace("CREATE TABLE", "create table if not exists"))
        database.commit()


def rows_of_sqlite(path: Path, table: str) -> list[dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(f"select * from {table}")]
