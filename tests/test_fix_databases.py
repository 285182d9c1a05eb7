# SPDX-License-Identifier: GPL-2.0-or-later
"""The database fixtures themselves: what outage tests rely on is true of the private servers and of the proxy."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

from tests.fix_mariadb import MariaDB, MariaDBDatabase, mariadb, mariadb_db
from tests.fix_netns import Netns
from tests.fix_postgres import Postgres, PostgresDatabase, postgres, postgres_db
from tests.fix_proxy import Proxy
from tests.fix_server import PASSWORD, Server, processes_in

__all__ = ["mariadb", "mariadb_db", "postgres", "postgres_db"]

_LOST = (psycopg.OperationalError, pymysql.err.OperationalError)


@pytest.fixture(params=["postgres_db", "mariadb_db"])
def database(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def table(database: Any) -> Any:
    """Return a connection to a database with an empty table."""
    database.execute("create table t (n bigint primary key)")
    connection = database.connect()
    connection.autocommit = False if isinstance(database, PostgresDatabase) else connection.autocommit
    return connection


def insert(connection: Any, number: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("insert into t values (%s)", (number,))


# -- both servers -----------------------------------------------------------------------------------------------------


def test_a_password_lets_in_and_a_wrong_one_does_not(database: Any) -> None:
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("select 23")
        assert cursor.fetchone() == (23,)
    with pytest.raises(_LOST):
        database.connect(password=PASSWORD[:-1])


def test_a_database_is_fresh_and_belongs_to_the_user(database: Any) -> None:
    with table(database) as connection:
        insert(connection, 1)
        connection.commit()
    assert database.rows("select * from t") == [(1,)]
    assert database.count("t") == 1
    others = type(database)(database.server)
    try:
        with pytest.raises((psycopg.errors.UndefinedTable, pymysql.err.ProgrammingError)):
            others.count("t")
    finally:
        others.drop()


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_what_was_committed_survives_a_stop(database: Any, mode: str) -> None:
    with table(database) as connection:
        insert(connection, 1)
        connection.commit()
        insert(connection, 2)
        database.server.stop(mode)
        with pytest.raises(_LOST):
            insert(connection, 3)
        with pytest.raises(_LOST):
            database.connect()
    database.server.start()
    assert database.rows("select n from t") == [(1,)]
    with database.connect():
        pass


def test_a_paused_server_accepts_and_never_answers(database: Any) -> None:
    connection = table(database)
    database.server.pause()
    # PyMySQL's connect_timeout ends when the kernel has accepted.
    timeout = {"connect_timeout": 2} if isinstance(database, PostgresDatabase) else {"read_timeout": 1}
    with pytest.raises((TimeoutError, *_LOST)):
        database.connect(**timeout)
    done = threading.Event()

    def late() -> None:
        insert(connection, 1)
        connection.commit()
        done.set()

    thread = threading.Thread(target=late)
    thread.start()
    assert not done.wait(0.2)
    database.server.resume()
    thread.join()
    assert database.count("t") == 1
    connection.close()


def test_a_refused_user_loses_its_sessions_and_comes_in_again(database: Any) -> None:
    with table(database) as connection:
        database.server.refuse()
        with pytest.raises(_LOST):
            insert(connection, 1)
        with pytest.raises(_LOST):
            database.connect()
        assert database.count("t") == 0
    database.server.admit()
    with database.connect():
        pass


def test_a_test_gets_a_whole_server_whatever_happened_to_it(database: Any) -> None:
    server = database.server
    server.refuse()
    server.pause()
    server.restore()
    with database.connect():
        pass
    server.stop("kill")
    server.restore()
    with database.connect():
        pass
    server.signal_all(signal.SIGKILL)
    server.restore()
    with database.connect():
        pass


def test_a_full_disk_is_an_error_as_long_as_it_is_full(database: Any) -> None:
    database.execute("create table t (n bigint, v varchar(2000))")
    database.server.fill(20 << 20)
    rows, refused = [(1, "x" * 1500)] * 500, []
    with database.connect() as connection, connection.cursor() as cursor:
        for _ in range(40):
            try:
                cursor.executemany("insert into t values (%s, %s)", rows)
            except (psycopg.Error, pymysql.err.OperationalError) as error:
                refused.append(error.sqlstate if isinstance(error, psycopg.Error) else error.args[0])
                connection.rollback()
            connection.commit()
        assert set(refused) == {"53100" if isinstance(database, PostgresDatabase) else 1114}
        assert database.count("t") == (40 - len(refused)) * len(rows)
        database.server.make_room()
        cursor.executemany("insert into t values (%s, %s)", rows)
        connection.commit()
    assert database.count("t") == (41 - len(refused)) * len(rows)


def test_the_killed_sessions_are_counted(database: Any) -> None:
    connections = [database.connect() for _ in range(3)]
    assert database.server.kill_backends() == 3
    for connection in connections:
        with pytest.raises(_LOST), connection.cursor() as cursor:
            cursor.execute("select 1")
        connection.close()
    database.server.restore()
    with database.connect():
        pass


@pytest.mark.parametrize("which", ["flat", "full"])
def test_the_shipped_schemas_load(database: Any, which: str) -> None:
    database.load_shipped(which)
    assert database.rows("select version from _format") == [({"flat": 1, "full": 6}[which],)]
    assert database.count("ulog2") == 0


def test_the_time_zone_is_not_utc(database: Any) -> None:
    query = "select extract(hour from now() - (now() at time zone 'utc'))"
    if isinstance(database, MariaDBDatabase):
        query = "select hour(timediff(now(), utc_timestamp()))"
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(query)
        assert int(cursor.fetchone()[0]) == 5


# -- PostgreSQL alone -------------------------------------------------------------------------------------------------


def test_a_killed_backend_restarts_all_of_postgres(postgres_db: PostgresDatabase) -> None:
    server = postgres_db.server
    with server.admin() as bystander, postgres_db.connect():
        server.kill_backends()
        server.wait_for(lambda: lost(bystander), "PostgreSQL ends the other sessions")
    server.wait_ready()
    assert "all server processes terminated; reinitializing" in server.log


def test_paused_backends_hang_while_new_ones_are_served(postgres_db: PostgresDatabase) -> None:
    server = postgres_db.server
    connection = table(postgres_db)
    assert server.pause_backends() == 1
    with postgres_db.connect() as other:
        other.execute("insert into t values (2)")
    assert postgres_db.rows("select n from t") == [(2,)]
    server.resume()
    insert(connection, 1)
    connection.commit()
    connection.close()
    assert postgres_db.count("t") == 2


def lost(connection: psycopg.Connection[Any]) -> bool:
    try:
        connection.execute("select 1")
    except psycopg.OperationalError:
        return True
    return False


# -- their end --------------------------------------------------------------------------------------------------------

_LEAVE = """if True:
    import os
    from tests.{module} import {name}
    server = {name}(fast=True)
    server.start()
    {then}
    print(server.directory, flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(("module", "name"), [("fix_postgres", "Postgres"), ("fix_mariadb", "MariaDB")])
@pytest.mark.parametrize("then", ["", "server.pause()"])
def test_a_killed_test_run_leaves_nothing_for_long(module: str, name: str, then: str) -> None:
    root = str(Path(__file__).parent.parent)
    code = _LEAVE.format(module=module, name=name, then=then)
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    directory = Path(done.stdout.strip())
    assert directory.is_dir()
    lock = directory / "data" / "postmaster.pid"
    segment = lock.read_text().splitlines()[6].split()[1] if lock.exists() else "none"
    # Any server of a later run clears what it finds.
    server = Postgres(fast=True)
    try:
        assert not directory.exists()
        assert not processes_in(directory)
        assert segment not in [line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()]
    finally:
        server.close()


@pytest.mark.parametrize("kind", [Postgres, MariaDB])
def test_close_leaves_nothing(kind: Callable[..., Server]) -> None:
    server = kind(fast=True)
    server.start()
    directory = server.directory
    assert processes_in(directory)
    server.close()
    server.close()
    assert not processes_in(directory)
    assert not directory.exists()


def test_a_server_that_cannot_start_says_why() -> None:
    server = Postgres(settings={"shared_buffers": "nonsense"})
    try:
        with pytest.raises(AssertionError, match='invalid value for parameter "shared_buffers"'):
            server.start()
    finally:
        server.close()


# -- the proxy --------------------------------------------------------------------------------------------------------


class Echo:
    """A server that keeps what it got, and answers each piece with itself in brackets."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.got: list[bytes] = []
        self.ended = threading.Semaphore(0)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        number = len(self.got)
        self.got.append(b"")
        with connection:
            while data := connection.recv(65536):
                self.got[number] += data
                connection.sendall(b"<" + data + b">")
        self.ended.release()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


def client(proxy: Proxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=20)


def asked(connection: socket.socket, data: bytes) -> bytes:
    """Return all that comes back until the whole answer has come or the stream ends."""
    connection.sendall(data)
    return received(connection, len(data) + 2)


def received(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := connection.recv(65536)):
        data += more
    return data


def test_the_proxy_passes_bytes_both_ways(echo: Echo) -> None:
    with Proxy(echo.port) as proxy, client(proxy) as first, client(proxy) as second:
        assert asked(first, b"one") == b"<one>"
        assert asked(second, b"two") == b"<two>"
        assert proxy.passed == {"up": 6, "down": 10}
        assert proxy.accepted == 2


@pytest.mark.parametrize(
    ("when", "got"), [("before", b"begin "), ("after", b"begin COMMIT;"), ("answer", b"begin COMMIT;")]
)
def test_the_proxy_cuts_at_a_token(echo: Echo, when: Any, got: bytes) -> None:
    with Proxy(echo.port) as proxy, client(proxy) as connection:
        proxy.cut_at(b"COMMIT", when)
        assert asked(connection, b"begin COMMIT;") == b""
        proxy.wait_fired()
        assert echo.ended.acquire(timeout=20)
        assert echo.got == [got]
        with client(proxy) as again:
            assert asked(again, b"COMMIT;") == b"<COMMIT;>"


def test_the_proxy_finds_a_token_in_pieces_and_counts_it(echo: Echo) -> None:
    with Proxy(echo.port) as proxy, client(proxy) as connection:
        proxy.cut_at(b"COMMIT", "after", occurrence=2)
        assert asked(connection, b"COMM") == b"<COMM>"
        assert asked(connection, b"IT COM") == b"<IT COM>"
        assert not proxy.fired
        assert asked(connection, b"MIT and more") == b""
        proxy.wait_fired()
        assert echo.ended.acquire(timeout=20)
        assert echo.got == [b"COMMIT COMMIT and more"]


def test_the_proxy_cuts_before_an_answer_that_it_knows(echo: Echo) -> None:
    with Proxy(echo.port) as proxy, client(proxy) as connection:
        proxy.cut_at(b"<two", side="down")
        assert asked(connection, b"one") == b"<one>"
        assert asked(connection, b"two") == b""
        assert echo.ended.acquire(timeout=20)
        assert echo.got == [b"onetwo"]


@pytest.mark.parametrize("count", range(8))
def test_the_proxy_cuts_after_any_number_of_bytes(echo: Echo, count: int) -> None:
    with Proxy(echo.port) as proxy, client(proxy) as connection:
        assert asked(connection, b"first") == b"<first>"
        proxy.cut_after(count, "up")
        assert asked(connection, b"second!") == b""
        assert echo.ended.acquire(timeout=20)
        assert echo.got == [b"first" + b"second!"[:count]]
        with client(proxy) as again:
            proxy.cut_after(count, "down")
            assert asked(again, b"seconds") == b"<seconds>"[:count]


def test_the_proxy_resets(echo: Echo) -> None:
    with Proxy(echo.port) as proxy, client(proxy) as connection:
        proxy.cut_at(b"x", how="reset")
        with pytest.raises(ConnectionResetError):
            asked(connection, b"x")


def test_the_proxy_refuses_and_forwards_again(echo: Echo) -> None:
    with Proxy(echo.port) as proxy, client(proxy) as kept:
        assert asked(kept, b"x") == b"<x>"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            client(proxy)
        assert asked(kept, b"kept") == b"<kept>"
        proxy.forward()
        with client(proxy) as connection:
            assert asked(connection, b"x") == b"<x>"


def test_the_proxy_stalls_and_forwards_again(echo: Echo) -> None:
    with Proxy(echo.port) as proxy, client(proxy) as old:
        assert asked(old, b"a") == b"<a>"
        proxy.stall()
        with client(proxy) as new:
            for connection in (old, new):
                connection.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    asked(connection, b"b")
                connection.settimeout(20)
            assert echo.got == [b"a"]
            proxy.forward()
            assert received(old, 3) == b"<b>"
            assert received(new, 3) == b"<b>"


def test_what_a_client_sent_before_it_left_a_stalled_proxy_never_arrives(echo: Echo) -> None:
    with Proxy(echo.port) as proxy:
        with client(proxy) as connection:
            assert asked(connection, b"a") == b"<a>"
            proxy.stall()
            connection.sendall(b"b")
        assert echo.ended.acquire(timeout=20)
        assert echo.got == [b"a"]


def test_what_a_stalled_connection_holds_arrives_late(echo: Echo) -> None:
    with Proxy(echo.port) as proxy:
        with client(proxy) as connection:
            proxy.cut_at(b"COMMIT", how="stall")
            connection.sendall(b"begin COMMIT")
            proxy.wait_fired()
            connection.sendall(b" more")
        # The client has gone, and the server has not been told.
        assert not echo.ended.acquire(timeout=0.1)
        assert echo.got == [b"begin "]
        proxy.release()
        assert echo.ended.acquire(timeout=20)
        assert echo.got == [b"begin COMMIT more"]


def test_a_stalled_connection_hears_nothing_and_ends_with_the_proxy(echo: Echo) -> None:
    with Proxy(echo.port) as proxy:
        connection = client(proxy)
        proxy.cut_at(b"x", "answer", how="stall")
        connection.settimeout(0.1)
        connection.sendall(b"x")
        proxy.wait_fired()
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(20)
    assert connection.recv(1) == b""
    connection.close()
    assert echo.ended.acquire(timeout=20)
    assert echo.got == [b"x"]


def test_the_proxy_accepts_inside_a_namespace(echo: Echo, netns: Netns) -> None:
    with Proxy(echo.port, netns=netns) as proxy:
        with netns.enter():
            connection = client(proxy)
        with connection:
            assert asked(connection, b"x") == b"<x>"


def test_the_proxy_leaves_no_thread_and_no_descriptor(echo: Echo) -> None:
    before = {thread for thread in threading.enumerate() if thread.name.startswith("proxy")}
    descriptors = len(os.listdir("/proc/self/fd"))
    for how in ("close", "reset", "stall"):
        with Proxy(echo.port) as proxy, client(proxy) as connection:
            proxy.cut_at(b"x", how=how)
            connection.sendall(b"x")
            proxy.wait_fired()
        assert echo.ended.acquire(timeout=20)
    assert {thread for thread in threading.enumerate() if thread.name.startswith("proxy")} == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


# -- the proxy before the databases -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("when", "rows"), [("before", 0), ("after", 1), ("answer", 1)])
def test_a_commit_is_cut_where_the_proxy_says(database: Any, when: Any, rows: int) -> None:
    database.execute("create table t (n bigint primary key)")
    with Proxy(database.port) as proxy:
        connection = database.connect(port=proxy.port)
        insert(connection, 1)
        proxy.cut_at(b"COMMIT", when)
        with pytest.raises(_LOST):
            connection.commit()
        connection.close()
    database.server.wait_for(lambda: database.count("t") == rows, "the server has read the end of the connection")
    database.server.restart()
    assert database.count("t") == rows


def test_a_commit_may_arrive_after_its_client_has_given_up(database: Any) -> None:
    database.execute("create table t (n bigint primary key)")
    with Proxy(database.port) as proxy:
        connection = database.connect(port=proxy.port)
        insert(connection, 1)
        proxy.cut_at(b"COMMIT", how="stall")

        def commit() -> None:
            with pytest.raises(_LOST):
                connection.commit()

        thread = threading.Thread(target=commit)
        thread.start()
        proxy.wait_fired()
        assert database.count("t") == 0
        proxy.release()
        thread.join()
        connection.close()
        database.server.wait_for(lambda: database.count("t") == 1, "the late COMMIT has arrived")
