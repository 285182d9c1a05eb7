# SPDX-License-Identifier: GPL-2.0-or-later
"""A private PostgreSQL cluster (Debian: postgresql) with a fresh database for each test, and the outages it can have.

    def test_it(postgres, postgres_db):
        postgres_db.load_shipped("flat")
        ...                                     # conninfo: postgres_db.conninfo
        postgres.stop("immediate")              # an outage
        postgres.start()
        assert postgres_db.count("ulog2") == 23

`ulog` logs in with a password (SCRAM), at 127.0.0.1 and at the socket. The helpers come in as the superuser by the
socket, so that they do not count as connections of `ulog` and work while it is refused. The server's time zone is far
from UTC.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fix_server import PASSWORD, USER, Database, Server, lend, shared, shipped_schema

if TYPE_CHECKING:
    import psycopg

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "40",
    "shared_buffers": "64MB",
    "timezone": "Asia/Kolkata",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "jit": "off",
}
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

_ACCESS = """\
local all postgres                trust
local all all                     scram-sha-256
host  all all      127.0.0.1/32   scram-sha-256
"""


def missing() -> str:
    """Return a sentence saying what is not installed, or an empty string."""
    return "" if _BINARIES else "PostgreSQL is not installed (Debian: postgresql)"


class Postgres(Server):
    """A cluster of its own. `settings` are lines of postgresql.conf that differ from the tests' usual ones."""

    kind = "postgresql"
    system_user = "postgres"
    ends_at_once = signal.SIGQUIT

    def __init__(self, *, fast: bool = False, settings: dict[str, str] | None = None) -> None:
        if missing():
            pytest.skip(missing())
        self._settings = {**_SETTINGS, **(_FAST if fast else {}), **(settings or {})}
        super().__init__(fast=fast)

    @property
    def socket_directory(self) -> Path:
        """Where its socket is: the `host` of a connection without TCP."""
        return self.directory

    def _create(self) -> None:
        self.run(
            str(_BINARIES[-1] / "initdb"),
            "--pgdata=data",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--auth=trust",
        )
        data = self.directory / "data"
        (data / "pg_hba.conf").write_text(_ACCESS)
        settings = {**self._settings, "port": str(self.port), "unix_socket_directories": str(self.directory)}
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def _command(self) -> list[str]:
        return [str(_BINARIES[-1] / "postgres"), "-D", "data"]

    def _prepare(self) -> None:
        with self.admin() as connection:
            connection.execute(f"create role {USER} login password '{PASSWORD.replace(chr(39), chr(39) * 2)}'")

    def ready(self) -> bool:
        """Tell whether it lets the superuser in."""
        import psycopg

        try:
            with self.admin():
                return True
        except psycopg.OperationalError:
            return False

    def _stop_signal(self, mode: str) -> signal.Signals:
        return {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]

    @contextlib.contextmanager
    def admin(self, database: str = "postgres", **options: str) -> Iterator[psycopg.Connection[Any]]:
        """Connect as the superuser, each statement its own transaction; `options` are settings of the session."""
        import psycopg

        with psycopg.connect(
            host=str(self.socket_directory),
            port=self.port,
            user="postgres",
            dbname=database,
            autocommit=True,
            connect_timeout=5,
            options=" ".join(f"-c {name}={value}" for name, value in options.items()),
        ) as connection:
            yield connection

    def backends(self) -> list[int]:
        """Return the process ids of the backends that serve `ulog`."""
        with self.admin() as connection:
            found = connection.execute("select pid from pg_stat_activity where usename = %s order by 1", (USER,))
            return [pid for (pid,) in found]

    def kill_backends(self) -> int:
        """Kill the backends that serve `ulog` as by kill -9, and return how many; PostgreSQL then restarts all."""
        pids = self.backends()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def terminate_backends(self) -> int:
        """End the sessions of `ulog` as an administrator does, and return how many."""
        with self.admin() as connection:
            found = connection.execute(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = %s", (USER,)
            )
            return int(next(found)[0])

    def pause_backends(self) -> int:
        """Stop the backends that serve `ulog` as they are: their connections hang, new ones are served."""
        pids = self.backends()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        return len(pids)

    def refuse(self) -> None:
        """Refuse `ulog` from now on ("too many connections", SQLSTATE 53300) and end its sessions."""
        with self.admin() as connection:
            connection.execute(f"alter role {USER} connection limit 0")
        self.terminate_backends()

    def admit(self) -> None:
        """Let `ulog` in again."""
        with self.admin() as connection:
            connection.execute(f"alter role {USER} connection limit -1")

    def restore(self) -> None:
        """Undo what a test did to it."""
        super().restore()
        self.admit()


class PostgresDatabase(Database):
    """A fresh database of a cluster, owned by `ulog`."""

    def __init__(self, server: Postgres) -> None:
        super().__init__(server)
        self.server = server
        with server.admin() as connection:
            connection.execute(f"create database {self.name} owner {USER} template template0")

    @property
    def parameters(self) -> dict[str, Any]:
        """What psycopg.connect takes."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.name,
        }

    @property
    def conninfo(self) -> str:
        """The same as a connection string."""
        import psycopg.conninfo

        return psycopg.conninfo.make_conninfo(**self.parameters)

    def connect(self, **more: Any) -> psycopg.Connection[Any]:
        """Connect as `ulog`, with its password."""
        import psycopg

        return psycopg.connect(**{**self.parameters, **more})

    def rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query, asked by the superuser; times come as UTC."""
        with self.server.admin(self.name, timezone="UTC") as connection:
            return connection.execute(query.encode(), arguments or None).fetchall()

    def execute(self, *statements: str) -> None:
        """Execute statements as `ulog`, in one transaction."""
        with self.server.admin(self.name, role=USER) as connection, connection.transaction():
            for statement in statements:
                connection.execute(statement.encode())

    def load(self, script: str) -> None:
        """Run a script of psql as `ulog`."""
        self.server.run(
            str(_BINARIES[-1] / "psql"),
            f"postgresql:///{self.name}?host={self.server.socket_directory}&port={self.port}&user=postgres"
            f"&options=-crole%3D{USER}%20-cclient_min_messages%3Dwarning",
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            input=script.encode(),
        )

    def load_shipped(self, which: str) -> None:
        """Load ulogd2's own schema: `flat` or `full`."""
        self.load(shipped_schema({"flat": "pgsql-ulogd2-flat.sql", "full": "pgsql-ulogd2.sql"}[which]))

    def drop(self) -> None:
        """Drop it, whoever is connected."""
        with self.server.admin() as connection:
            connection.execute(f"drop database {self.name} with (force)")


@pytest.fixture
def postgres(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """The run's cluster, whole again after each test."""
    yield from lend(shared(request.config, Postgres))


@pytest.fixture
def postgres_db(postgres: Postgres) -> Iterator[PostgresDatabase]:
    """A fresh database of the run's cluster."""
    database = PostgresDatabase(postgres)
    try:
        yield database
    finally:
        postgres.restore()
        database.drop()
