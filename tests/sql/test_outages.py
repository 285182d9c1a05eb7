# SPDX-License-Identifier: GPL-2.0-or-later
"""The outage matrix: the real daemon, real packets, a real server, and what can happen to a server.

In each case: rows in the table + rows in the dead-letter file = packets the rule logged, none twice, in order.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import psycopg
import pymysql
import pytest

from tests.fix_daemon import Daemon, Flood, config, wait_for
from tests.fix_mariadb import MariaDB, MariaDBDatabase, mariadb, mariadb_db
from tests.fix_netns import Pair
from tests.fix_outage import RATE, arrived, buried, logging, outage, spooled_at_kill
from tests.fix_postgres import Postgres, PostgresDatabase, postgres, postgres_db
from tests.fix_server import Database, Server

__all__ = ["logging", "mariadb", "mariadb_db", "postgres", "postgres_db"]

#: Every so many-th packet is one that the table refuses, where a test wants that.
_BAD = 1009

_COLUMNS = "(oob_seq_local bigint not null, oob_prefix varchar(40), udp_len integer, udp_dport integer"


class Outages(Protocol):
    """What both servers can do."""

    def kill_backends(self) -> int: ...
    def terminate_backends(self) -> int: ...
    def refuse(self) -> None: ...
    def admit(self) -> None: ...


class Target:
    """A server, a database in it with a table `log`, and the section of the configuration that leads there."""

    def __init__(self, server: Server, database: Database, plugin: str, directory: Path) -> None:
        self.server, self.database, self.plugin, self.directory = server, database, plugin, directory
        self.spool = directory / "spool"

    @property
    def outages(self) -> Outages:
        assert isinstance(self.server, Postgres | MariaDB)
        return self.server

    def create(self, constraint: str = "") -> None:
        self.database.execute(f"create table log {_COLUMNS}{constraint})")

    def section(self, *lines: str) -> str:
        database = self.database
        return "\n".join(
            [
                *(f"db={database.name}", f"host={database.host}", f"port={database.port}", f"user={database.user}"),
                *(f'pass="{database.password}"', "table=log", "procedure=INSERT", f"spool_directory={self.spool}"),
                *lines,
            ]
        )

    def config(self, pair: Pair, *lines: str) -> str:
        source = f"group=1\nseq_local=1\nnetwork_namespace_path={pair.fw.path}"
        return config(f"n:NFLOG,b:BASE,d:{self.plugin}", n=source, d=self.section(*lines))

    def count(self) -> int:
        """Return how many rows are in; -1 while the server recovers from what a test did to it."""
        try:
            return self.database.count("log")
        except (psycopg.OperationalError, pymysql.OperationalError, ConnectionRefusedError):
            return -1

    def stored(self) -> list[int]:
        return [number for (number,) in self.database.rows("select oob_seq_local from log order by 1")]

    def buried(self) -> list[int]:
        return sorted(map(int, buried(self.spool, "oob.seq.local")))

    def await_all(self, pair: Pair, daemon: Daemon) -> int:
        """Wait until every packet the rule logged is in the table or the file; each is there once."""
        logged = pair.fw.counter("c")
        wait_for(
            lambda: self.count() + len(self.buried()) >= logged,
            f"{logged} rows",
            lambda: f"{self.count()} rows\n{daemon.stderr[-2000:]}",
        )
        assert sorted([*self.stored(), *self.buried()]) == list(range(logged))
        return logged


@pytest.fixture(params=["postgresql", "mariadb"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        database: Database = request.getfixturevalue("postgres_db")
        assert isinstance(database, PostgresDatabase)
        yield Target(server, database, "PGSQL", tmp_path)
    else:
        server, database = request.getfixturevalue("mariadb"), request.getfixturevalue("mariadb_db")
        assert isinstance(database, MariaDBDatabase)
        yield Target(server, database, "MYSQL", tmp_path)


def test_undisturbed(target: Target, logging: Pair, tmp_path: Path) -> None:
    target.create()
    with Daemon(tmp_path, target.config(logging)) as daemon:
        logging.send_udp(4999)
        assert target.await_all(logging, daemon) == 4999
        row = target.database.rows("select oob_prefix, udp_len, udp_dport from log where oob_seq_local = 7")
        assert row == [("pfx: ", 28, 9)]
        assert target.database.password not in daemon.stderr


def test_the_server_is_stopped_and_started(target: Target, logging: Pair, tmp_path: Path) -> None:
    target.create()
    with Daemon(tmp_path, target.config(logging)) as daemon:
        with Flood(logging, RATE) as flood:
            arrived(target, 1000)
            target.server.stop()
            outage(flood)
            target.server.start()
            arrived(target, flood.sent)
        target.await_all(logging, daemon)


def test_it_is_killed(target: Target, logging: Pair, tmp_path: Path) -> None:
    target.create()
    with Daemon(tmp_path, target.config(logging)) as daemon:
        with Flood(logging, RATE) as flood:
            arrived(target, 1000)
            target.server.restart("kill")
            arrived(target, flood.sent)
        target.await_all(logging, daemon)


def test_the_backend_is_killed(target: Target, logging: Pair, tmp_path: Path) -> None:
    target.create()
    with Daemon(tmp_path, target.config(logging)) as daemon:
        with Flood(logging, RATE) as flood:
            for _ in range(5):
                arrived(target, flood.sent)
                target.outages.kill_backends()
                target.server.start()  # MariaDB's sessions are threads: all of it is gone
                arrived(target, flood.sent)
        target.await_all(logging, daemon)


def test_it_hangs_and_goes_on(target: Target, logging: Pair, tmp_path: Path) -> None:
    target.create()
    with Daemon(tmp_path, target.config(logging)) as daemon:
        with Flood(logging, RATE) as flood:
            arrived(target, 1000)
            target.server.pause()
            outage(flood)
            target.server.resume()
            arrived(target, flood.sent)
        target.await_all(logging, daemon)


def test_it_hangs_for_longer_than_a_transaction_may_take(target: Target, logging: Pair, tmp_path: Path) -> None:
    target.create()
    with Daemon(tmp_path, target.config(logging, "timeout=1", "connect_timeout=1")) as daemon:
        with Flood(logging, RATE) as flood:
            arrived(target, 1000)
            target.server.pause()
            daemon.says("rows waiting")
            outage(flood)
            target.server.resume()
            arrived(target, flood.sent)
        target.await_all(logging, daemon)


def test_it_refuses_for_a_time(target: Target, logging: Pair, tmp_path: Path) -> None:
    target.create()
    with Daemon(tmp_path, target.config(logging)) as daemon:
        with Flood(logging, RATE) as flood:
            arrived(target, 1000)
            target.outages.refuse()
            outage(flood)
            target.outages.admit()
            arrived(target, flood.sent)
        target.await_all(logging, daemon)


def test_it_is_down_at_the_start(target: Target, logging: Pair, tmp_path: Path) -> None:
    target.create()
    target.server.stop()
    with Daemon(tmp_path, target.config(logging, "ring_buffer_size=500")) as daemon:
        daemon.says("rows waiting")
        logging.send_udp(2003)
        daemon.reload()
        logging.send_udp(1009)
        wait_for(lambda: logging.fw.counter("c") == 3012, "packets")
        target.server.start()
        # Without another packet.
        assert target.await_all(logging, daemon) == 3012
        assert target.database.password not in daemon.stderr


def test_the_table_is_missing_at_the_start(target: Target, logging: Pair, tmp_path: Path) -> None:
    with Daemon(tmp_path, target.config(logging)) as daemon:
        logging.send_udp(503)
        daemon.says("nflowlevel sql init")
        target.create()
        assert target.await_all(logging, daemon) == 503


def test_rows_that_the_table_refuses(target: Target, logging: Pair, tmp_path: Path) -> None:
    target.create(f", check (oob_seq_local % {_BAD} <> 7)")
    with Daemon(tmp_path, target.config(logging)) as daemon:
        logging.send_udp(20_011)
        logged = target.await_all(logging, daemon)
        assert target.buried() == list(range(7, logged, _BAD))
        daemon.says("refused a row")


def test_stopped_with_a_full_ring(target: Target, logging: Pair, tmp_path: Path) -> None:
    target.create()
    with Daemon(tmp_path, target.config(logging)) as daemon:
        target.server.pause()
        logging.send_udp(30_011)
        wait_for(lambda: logging.fw.counter("c") == 30_011, "packets")
        daemon.stop()
        assert "pending 30011" in daemon.stderr or "spooled" in daemon.stderr
    target.server.resume()
    with Daemon(tmp_path, target.config(logging)) as daemon:
        target.await_all(logging, daemon)


def test_killed_with_a_spool(target: Target, logging: Pair, tmp_path: Path) -> None:
    target.create()
    target.server.stop()
    small = "ring_buffer_size=100"
    with Daemon(tmp_path, target.config(logging, small)) as daemon:
        spooled = spooled_at_kill(logging, daemon, target.spool, tmp_path)
    target.server.start()
    with Daemon(tmp_path, target.config(logging, small)):
        arrived(target, spooled)
    stored = target.stored()
    assert len(stored) == len(set(stored)) == spooled
    assert stored == list(range(stored[0], stored[0] + spooled)), "nothing of the spool is missing"


def test_killed_while_it_stores(target: Target, logging: Pair, tmp_path: Path) -> None:
    target.create()
    with Daemon(tmp_path, target.config(logging)) as daemon, Flood(logging, 4 * RATE):
        arrived(target, 5000)
        daemon.send(signal.SIGKILL)
        daemon.wait()
    # The kernel begins a new group at 0: what the first daemon stored gets numbers of its own.
    target.database.execute("update log set oob_seq_local = oob_seq_local + 1000000000")
    before = target.database.count("log")
    with Daemon(tmp_path, target.config(logging)):
        logging.send_udp(997)
        arrived(target, before + 997)
    stored = target.stored()
    assert len(stored) == len(set(stored)) == before + 997
