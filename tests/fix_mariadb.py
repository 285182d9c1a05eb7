# SPDX-License-Identifier: GPL-2.0-or-later
"""A private MariaDB server (Debian: mariadb-server) with a fresh database for each test, and the outages it can have.

    def test_it(mariadb, mariadb_db):
        mariadb_db.load_shipped("flat")
        ...                                     # pymysql.connect(**mariadb_db.parameters)
        mariadb.stop("kill")                    # an outage
        mariadb.start()
        assert mariadb_db.count("ulog2") == 23

`ulog` logs in with a password, at 127.0.0.1 and at the socket. The helpers come in as root by the socket. The server's
time zone is far from UTC.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fix_server import PASSWORD, PATIENCE, USER, Database, Server, lend, shared, shipped_schema

if TYPE_CHECKING:
    import pymysql

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

_SETTINGS = {
    "bind-address": "127.0.0.1",
    "max-connections": "40",
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "8M",
    "innodb-flush-log-at-trx-commit": "1",
    "character-set-server": "utf8mb4",
    "default-time-zone": "+05:30",
    "skip-name-resolve": "1",
}
_FAST = {"innodb-flush-log-at-trx-commit": "0", "innodb-flush-method": "nosync"}


def missing() -> str:
    """Return a sentence saying what is not installed, or an empty string."""
    for name in ("mariadbd", "mariadb-install-db", "mariadb"):
        if shutil.which(name, path=_PATH) is None:
            return f"{name} is not installed (Debian: mariadb-server)"
    return ""


class MariaDB(Server):
    """A server of its own. `settings` are options of mariadbd that differ from the tests' usual ones."""

    kind = "mariadb"
    system_user = "mysql"
    ends_at_once = signal.SIGKILL

    def __init__(self, *, fast: bool = False, settings: dict[str, str] | None = None) -> None:
        if missing():
            pytest.skip(missing())
        self._settings = {**_SETTINGS, **(_FAST if fast else {}), **(settings or {})}
        super().__init__(fast=fast)

    @property
    def socket(self) -> Path:
        """Its Unix socket."""
        return self.directory / "socket"

    def _create(self) -> None:
        self.run(
            _program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={self.directory}/data",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--innodb-log-file-size=8M",
        )

    def _command(self) -> list[str]:
        options = {**self._settings, "port": str(self.port), "socket": str(self.socket)}
        options |= {"pid-file": str(self.directory / "pid"), "tmpdir": str(self.directory)}
        options["datadir"] = str(self.directory / "data")
        return [_program("mariadbd"), "--no-defaults", *(f"--{name}={value}" for name, value in options.items())]

    def _prepare(self) -> None:
        with self.admin() as connection, connection.cursor() as cursor:
            for host in ("127.0.0.1", "localhost"):
                cursor.execute("create user %s@%s identified by %s", (USER, host, PASSWORD))

    def ready(self) -> bool:
        """Tell whether it lets root in."""
        import pymysql

        try:
            with self.admin():
                return True
        except (OSError, pymysql.err.OperationalError):
            return False

    @contextlib.contextmanager
    def admin(self, database: str | None = None) -> Iterator[pymysql.Connection[Any]]:
        """Connect as root, each statement its own transaction."""
        import pymysql

        # PyMySQL leaves its Unix socket open where nobody listens; one that is given to it is ours to close.
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(self.socket))
            connection = pymysql.Connection(
                user="root", database=database, autocommit=True, read_timeout=PATIENCE, defer_connect=True
            )
            connection.connect(sock)
            with connection:
                yield connection

    def sessions(self) -> list[int]:
        """Return the ids of the sessions of `ulog`."""
        with self.admin() as connection, connection.cursor() as cursor:
            cursor.execute("select id from information_schema.processlist where user = %s order by 1", (USER,))
            return [number for (number,) in cursor.fetchall()]

    def kill_backends(self) -> int:
        """Kill the server as by kill -9, and return how many sessions `ulog` had: they are threads of it. Start it."""
        sessions = len(self.sessions())
        self.stop("kill")
        return sessions

    def terminate_backends(self) -> int:
        """End the sessions of `ulog` as an administrator does, and return how many."""
        import pymysql

        sessions = self.sessions()
        with self.admin() as connection, connection.cursor() as cursor:
            for number in sessions:
                # 1094: it has ended by itself.
                with contextlib.suppress(pymysql.err.OperationalError):
                    cursor.execute("kill %s", (number,))
        return len(sessions)

    def refuse(self) -> None:
        """Refuse `ulog` from now on (error 4151, the account is locked) and end its sessions."""
        self._alter("account lock")
        self.terminate_backends()

    def admit(self) -> None:
        """Let `ulog` in again."""
        self._alter("account unlock")

    def _alter(self, how: str) -> None:
        with self.admin() as connection, connection.cursor() as cursor:
            for host in ("127.0.0.1", "localhost"):
                cursor.execute(f"alter user {USER}@'{host}' {how}")

    def restore(self) -> None:
        """Undo what a test did to it."""
        super().restore()
        self.admit()


class MariaDBDatabase(Database):
    """A fresh database of a server; all rights on it are with `ulog`."""

    def __init__(self, server: MariaDB) -> None:
        super().__init__(server)
        self.server = server
        with server.admin() as connection, connection.cursor() as cursor:
            cursor.execute(f"create database {self.name}")
            for host in ("127.0.0.1", "localhost"):
                cursor.execute(f"grant all on {self.name}.* to {USER}@'{host}'")

    @property
    def parameters(self) -> dict[str, Any]:
        """What pymysql.connect takes."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "database": self.name,
        }

    def connect(self, **more: Any) -> pymysql.Connection[Any]:
        """Connect as `ulog`, with its password."""
        import pymysql

        return pymysql.connect(**{**self.parameters, **more})

    def rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query, asked by root."""
        with self.server.admin(self.name) as connection, connection.cursor() as cursor:
            cursor.execute(query, arguments or None)
            return list(cursor.fetchall())

    def execute(self, *statements: str) -> None:
        """Execute statements as `ulog`."""
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    def load(self, script: str) -> None:
        """Run a script of the command mariadb as `ulog`."""
        self.server.run(
            _program("mariadb"),
            "--no-defaults",
            f"--socket={self.server.socket}",
            f"--user={USER}",
            f"--password={PASSWORD}",
            "--default-character-set=utf8mb4",
            self.name,
            input=script.encode(),
        )

    def load_shipped(self, which: str) -> None:
        """Load ulogd2's own schema: `flat` or `full`."""
        self.load(shipped_schema({"flat": "mysql-ulogd2-flat.sql", "full": "mysql-ulogd2.sql"}[which]))

    def drop(self) -> None:
        """Drop it, and the rights on it; sessions of `ulog` end first, for one of them may hold a lock."""
        self.server.terminate_backends()
        with self.server.admin() as connection, connection.cursor() as cursor:
            cursor.execute(f"drop database {self.name}")
            for host in ("127.0.0.1", "localhost"):
                cursor.execute(f"revoke all on {self.name}.* from {USER}@'{host}'")


def _program(name: str) -> str:
    path = shutil.which(name, path=_PATH)
    assert path
    return path


@pytest.fixture
def mariadb(request: pytest.FixtureRequest) -> Iterator[MariaDB]:
    """The run's server, whole again after each test."""
    yield from lend(shared(request.config, MariaDB))


@pytest.fixture
def mariadb_db(mariadb: MariaDB) -> Iterator[MariaDBDatabase]:
    """A fresh database of the run's server."""
    database = MariaDBDatabase(mariadb)
    try:
        yield database
    finally:
        mariadb.restore()
        database.drop()
