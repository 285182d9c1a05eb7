# SPDX-License-Identifier: GPL-2.0-or-later
"""Who logs a group into a database: nflowlevel's daemon and ulogd2, each with the same stack, and what they log into.

PostgreSQL is a private cluster with fsync and synchronous_commit on and Debian's other settings; both daemons come by
its socket, which has nothing to do with network namespaces. Each run has a fresh database, or a fresh file of SQLite.

How many rows are in is asked without reading the table: nflowlevel's ledger and the sequence of ulogd2's table say it
at once. The table is counted when all is over.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.contenders import daemon
from bench.netns import GROUP, Field
from bench.running import Running
from nflowlevel.spool.claim import BLOCK
from tests import fix_postgres, fix_server

OURS, ULOGD2 = "nflowlevel", "ulogd2"
SCHEMAS = Path(__file__).resolve().parent.parent / "nflowlevel" / "sql" / "schema"

#: What the tests' cluster has otherwise than Debian's.
_DEBIAN = {"shared_buffers": "128MB", "max_connections": "100", "jit": "on", "log_line_prefix": "%m [%p] %q%u@%d "}
_LOOK_SECS = 0.02
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

#: The table of ulogd2's sqlite3.table for packets; each name is one of its keys.
_ULOGD2_SQLITE = (
    "raw_pktlen", "raw_pktcount", "oob_prefix", "oob_time_sec", "oob_time_usec", "oob_mark", "oob_hook", "oob_uid",
    "oob_gid",
)  # fmt: skip

#: A run's numbers begin with a block.
_LEDGER = f"select coalesce(sum(row % {BLOCK} + 1), 0) from nflowlevel_ledger where row > 0"

_PLUGINS = ("inppkt_NFLOG", "raw2packet_BASE", "filter_IFINDEX", "filter_IP2STR", "filter_HWHDR")


class Store(ABC):
    """A database for one run of one contender, empty; `close` removes it."""

    plugin: str

    @abstractmethod
    def options(self) -> dict[str, str]:
        """Return the options of the output's section, those of both daemons."""

    @abstractmethod
    def progress(self, contender: str) -> int:
        """Return how many rows are in, at no cost that matters."""

    @abstractmethod
    def rows(self) -> int:
        """Count the rows."""

    @abstractmethod
    def cpu_ns(self) -> int:
        """Return the CPU time of the database's own processes; 0 where it has none."""

    @abstractmethod
    def close(self) -> None:
        """Remove it."""


@contextlib.contextmanager
def postgresql() -> Iterator[fix_postgres.Postgres]:
    """A private cluster for the block; RuntimeError where PostgreSQL is not installed."""
    if why := fix_postgres.missing():
        raise RuntimeError(why)
    with failing():
        server = fix_postgres.Postgres(settings=_DEBIAN)
    try:
        # ulogd2 does not quote the password in what it gives to libpq.
        (server.directory / "data" / "pg_hba.conf").write_text("local all all trust\n")
        with failing():
            server.start()
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def failing() -> Iterator[None]:
    """Have what the server, or the tests' helpers around it, complain about be the RuntimeError of a run."""
    import psycopg

    try:
        yield
    except (AssertionError, psycopg.Error, pytest.skip.Exception) as error:
        raise RuntimeError(str(error)) from error


class PostgresStore(Store):
    """A fresh database: ulogd2's schema `flat` or `full`, or our `own`."""

    plugin = "PGSQL"

    def __init__(self, server: fix_postgres.Postgres, schema: str) -> None:
        self.schema, self._server = schema, server
        self._database = fix_postgres.PostgresDatabase(server)
        self._load(schema)
        with server.admin() as connection:
            connection.execute("checkpoint")
        self.table = "packets" if schema == "own" else "ulog2"
        self._probe = contextlib.ExitStack()
        self._connection = self._probe.enter_context(server.admin(self._database.name))

    def _load(self, schema: str) -> None:
        if schema == "own":
            self._database.load("".join((SCHEMAS / name).read_text() for name in ("pgsql.sql", "pgsql-ledger.sql")))
        else:
            self._database.load_shipped(schema)
            # Our daemon makes it by itself; it is here so that it can be asked from the beginning.
            self._database.load((SCHEMAS / "pgsql-ledger.sql").read_text())

    def options(self) -> dict[str, str]:
        """Return where it is, and how rows get in."""
        full = self.schema == "full"
        return {
            "db": self._database.name,
            "host": str(self._server.socket_directory),
            "port": str(self._server.port),
            "user": self._database.user,
            "table": "ulog" if full else self.table,
            "procedure": "INSERT_PACKET_FULL" if full else "INSERT",
        }

    def progress(self, contender: str) -> int:
        """Ask the ledger or the sequence."""
        sequence = "select case when is_called then last_value else 0 end from ulog2__id_seq"
        return self._value(_LEDGER if contender == OURS else sequence)

    def rows(self) -> int:
        """Count the rows."""
        return self._value(f"select count(*) from {self.table}")

    def _value(self, query: str) -> int:
        found = self._connection.execute(query.encode()).fetchone()
        assert found
        return int(found[0])

    def cpu_ns(self) -> int:
        """Return the CPU time of the whole cluster: the processes that run and those that have ended."""
        postmaster = (self._server.directory / "data" / "postmaster.pid").read_text().split()[0]
        ticks = 0
        for pid in fix_server.processes_in(self._server.directory):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                # After the name, which may contain blanks: utime is field 14 of proc(5), cutime field 16.
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15] if str(pid) == postmaster else fields[11:13]))
        return ticks * _TICK_NS

    def dump(self, path: Path) -> None:
        """Write the rows to a file of the server's user, as COPY text, without what the database fills by itself."""
        self._connection.execute(f"copy (select {self._columns()} from {self.table}) to '{path}'".encode())

    def copy(self, path: Path) -> float:
        """Let psql's \\copy bring the rows of such a file in; return the seconds it took."""
        script = f"\\copy {self.table} ({self._columns()}) from '{path}'\n"
        before = time.monotonic()
        self._database.load(script)
        return time.monotonic() - before

    def _columns(self) -> str:
        found = self._connection.execute(
            "select string_agg(column_name, ', ' order by ordinal_position) from information_schema.columns "
            "where table_name = %s and coalesce(column_default, '') !~ 'nextval|now'",
            (self.table,),
        ).fetchone()
        assert found
        return str(found[0])

    def close(self) -> None:
        """Drop the database."""
        self._probe.close()
        self._database.drop()


class SQLiteStore(Store):
    """A file, as each of the two makes it by default: ours is the daemon's, ulogd2's is that of its sqlite3.table."""

    plugin = "SQLITE3"

    def __init__(self, contender: str, directory: Path) -> None:
        self._path = directory / "packets.db"
        self.table = "packets" if contender == OURS else "ulog_pkt"
        if contender == ULOGD2:
            with contextlib.closing(sqlite3.connect(self._path)) as connection:
                columns = ", ".join(f"{name} integer" if name != "oob_prefix" else name for name in _ULOGD2_SQLITE)
                connection.execute(f"create table {self.table} ({columns})")

    def options(self) -> dict[str, str]:
        """Return where it is."""
        return {"db": str(self._path), "table": self.table}

    def progress(self, contender: str) -> int:
        """Ask the ledger or the last row's number: both are found on one page."""
        if contender == OURS:
            return self._value(_LEDGER)
        return self._value(f"select max(rowid) from {self.table}")

    def rows(self) -> int:
        """Count the rows."""
        return self._value(f"select count(*) from {self.table}")

    def _value(self, query: str) -> int:
        with contextlib.closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as connection:
            try:
                return int(connection.execute(query).fetchone()[0] or 0)
            except sqlite3.OperationalError as error:
                if re.search("no such table|locked|unable to open", str(error)):
                    return 0
                raise

    def cpu_ns(self) -> int:
        """Return 0: it works in the daemon."""
        return 0

    def close(self) -> None:
        """Do nothing: the directory is the run's."""


def configuration(contender: str, store: Store, directory: Path, log_options: Mapping[str, int]) -> Path:
    """Write the configuration of a run and return its path; the two daemons' differ in the place of our spool."""
    options = store.options() | ({"spool_directory": f"{directory}/spool"} if contender == OURS else {})
    file = directory / "ulogd.conf"
    file.write_text(
        f'[global]\nlogfile="{directory}/daemon.log"\nloglevel=5\n'
        + "".join(f'plugin="{path}"\n' for path in plugin_files(store.plugin))
        + f"stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,mac1:HWHDR,sql1:{store.plugin}\n\n"
        f"[log1]\ngroup={GROUP}\nnumeric_label=1\n"
        + "".join(f"{name}={value}\n" for name, value in log_options.items())
        + "\n[sql1]\n"
        + "".join(
            f'{name}="{value}"\n' if not value.isdigit() else f"{name}={value}\n" for name, value in options.items()
        )
    )
    return file


def command(contender: str, file: Path) -> list[str]:
    """Return the command line of a contender."""
    return [*daemon(contender), "-c", str(file)]


def plugin_files(output: str) -> list[str]:
    """Return ulogd2's plugins for the stack, as far as they are installed."""
    directories = [*Path("/usr/lib").glob("*/ulogd"), Path("/usr/lib/ulogd"), Path("/usr/local/lib/ulogd")]
    files = (directory / f"ulogd_{name}.so" for directory in directories for name in (*_PLUGINS, f"output_{output}"))
    return [str(file) for file in files if file.exists()]


def ulogd2_missing(output: str) -> str:
    """Return why ulogd2 cannot take part, or an empty string."""
    if not Path(daemon(ULOGD2)[0]).exists():
        return "ulogd2 is not installed (Debian package ulogd2)"
    if len(plugin_files(output)) <= len(_PLUGINS):
        return f"ulogd2 lacks its output {output} (Debian package ulogd2-{output.lower()})"
    return ""


@dataclass(frozen=True)
class Arrival:
    """How many rows had come at the end, and when the last of them did (time.monotonic)."""

    rows: int
    at: float


def arrive(process: Running, store: Store, contender: str, rows: int, patience_secs: float) -> Arrival:
    """Wait until so many rows are in, or none has come for a while."""
    seen, seen_at = store.progress(contender), time.monotonic()
    while seen < rows and time.monotonic() - seen_at < patience_secs:
        if process.child.poll() is not None:
            raise RuntimeError(f"{process.child.args!r} ended with status {process.child.returncode}")
        time.sleep(_LOOK_SECS)
        if (now := store.progress(contender)) != seen:
            seen, seen_at = now, time.monotonic()
    return Arrival(seen, seen_at)


def counted(field: Field, count: int) -> int:
    """Return how many packets the rule has logged once they are all through."""
    for _ in range(100):
        if (packets := field.counted()) >= count:
            return packets
        time.sleep(_LOOK_SECS)
    raise RuntimeError(f"the rule counted {packets} of {count} packets")


def problems(directory: Path) -> str:
    """Return the last lines of a daemon's log that tell of errors."""
    log = directory / "daemon.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "; ".join([line for line in lines if re.search("error|refused|fail|lost", line, re.IGNORECASE)][-3:])
