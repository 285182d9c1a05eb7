# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection to PostgreSQL that breaks at each point of a transaction: afterwards each row is stored once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator

import pytest

from nflowlevel.errors import OutputError
from nflowlevel.outputs.pgsql import PGSQLOptions
from nflowlevel.records.keys import BY_NAME
from nflowlevel.spool.rows import Rows
from nflowlevel.spool.sink import Moved, Unavailable
from nflowlevel.sql.columns import match
from nflowlevel.sql.pgsql import PGDatabase
from tests.fix_postgres import Postgres, PostgresDatabase, postgres, postgres_db
from tests.fix_proxy import How, Proxy, Side, When

__all__ = ["postgres", "postgres_db"]

PATIENCE = 30.0
WRITER = "tests"
#: A prime number of rows, and more bytes than one message between client and server has.
ROWS, PREFIX = 101, "x" * 997

#: Ways to store rows that differ in what passes between client and server: the option procedure, and words of a
#: transaction in the order in which they pass.
_WAYS = {
    "copy": ("INSERT", (b"BEGIN", b"UPDATE", b"COPY", b"COMMIT")),
    "staged": ("add", (b"BEGIN", b"UPDATE", b"COPY", b"SELECT count", b"COMMIT")),
    "each": ('INSERT INTO "t" AS "t x"', (b"BEGIN", b"UPDATE", PREFIX.encode(), b"COMMIT")),
}


class Writing:
    """What a writer does: a batch is repeated until the ledger says that it is in."""

    def __init__(self, options: PGSQLOptions) -> None:
        self.database = PGDatabase(options)
        self.at = 0
        self.layout: tuple[str, ...] = ()
        self.connect()

    def connect(self) -> None:
        self.database.connect()
        members = [(name, BY_NAME[name]) for name in ("oob.mark", "oob.prefix")]
        columns = match(self.database.columns(), members, arguments=self.database._options.procedure == "add")
        self.layout = tuple(column.item for column in columns)
        self.database.prepare(columns)
        at = self.database.ledger(WRITER)
        assert at is not None
        self.at = at

    def write(self) -> None:
        """Write the next batch, once."""
        first = self.at + 1
        data = "".join(f"{number}\t{PREFIX}\n" for number in range(first, first + ROWS))
        rows = Rows(self.layout, first, ROWS, data.encode())
        self.database.write(rows, WRITER, self.at)
        self.at = rows.last

    def write_until_in(self) -> int:
        """Write the next batch, and again after each break, until it is in; return how many attempts were made."""
        wanted = self.at + ROWS
        for attempts in itertools.count(1):
            try:
                self.write()
            except Unavailable:
                self.connect()
            if self.at == wanted:
                return attempts
            assert attempts < 4
        raise AssertionError


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    with Proxy(postgres.port) as proxy:
        yield proxy


Begin = Callable[[str], Writing]


@pytest.fixture
def begin(postgres_db: PostgresDatabase, proxy: Proxy) -> Iterator[Begin]:
    """Make the table and a first batch in it, through the proxy."""
    begun: list[Writing] = []

    def make(way: str) -> Writing:
        postgres_db.execute(
            "create table t (oob_mark bigint, oob_prefix text)",
            "create function add(bigint, text) returns void language sql as 'insert into t values ($1, $2)'",
        )
        begun.append(
            Writing(
                PGSQLOptions(
                    table="t",
                    procedure=_WAYS[way][0],
                    db=postgres_db.name,
                    user=postgres_db.user,
                    pass_=postgres_db.password,
                    host=proxy.host,
                    port=proxy.port,
                )
            )
        )
        begun[-1].write()
        return begun[-1]

    yield make
    for writing in begun:
        writing.database.close()


def _write_in_thread(writing: Writing) -> tuple[threading.Thread, list[OutputError]]:
    """Begin to write the next batch; what is raised comes into the list."""
    raised: list[OutputError] = []

    def write() -> None:
        try:
            writing.write()
        except OutputError as error:
            raised.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    return thread, raised


def _rows_are_in_once(database: PostgresDatabase, last: int) -> None:
    assert database.rows("select array_agg(oob_mark order by oob_mark) from t") == [(list(range(1, last + 1)),)]
    assert database.rows("select row from nflowlevel_ledger") == [(last,)]


@pytest.mark.parametrize("way", _WAYS)
def test_cut_at_each_statement(postgres_db: PostgresDatabase, proxy: Proxy, begin: Begin, way: str) -> None:
    writing = begin(way)
    whens: tuple[When, ...] = ("before", "after", "answer")
    hows: tuple[How, ...] = ("close", "reset")
    for word, when, how in itertools.product(_WAYS[way][1], whens, hows):
        proxy.cut_at(word, when, how=how)
        writing.write_until_in()
        assert proxy.fired, f"nothing was cut {when} {word!r}"
        writing.write()
    cuts = len(_WAYS[way][1]) * len(whens) * len(hows)
    _rows_are_in_once(postgres_db, (1 + 2 * cuts) * ROWS)


def test_a_commit_whose_answer_is_lost_is_known_to_be_in(
    postgres_db: PostgresDatabase, proxy: Proxy, begin: Begin
) -> None:
    writing = begin("copy")
    proxy.cut_at(b"COMMIT", "answer")
    with pytest.raises(Unavailable):
        writing.write()
    writing.connect()
    assert writing.at == 2 * ROWS
    _rows_are_in_once(postgres_db, 2 * ROWS)


def test_a_commit_that_did_not_pass_is_known_not_to_be_in(
    postgres_db: PostgresDatabase, proxy: Proxy, begin: Begin
) -> None:
    writing = begin("copy")
    proxy.cut_at(b"COMMIT", "before")
    with pytest.raises(Unavailable):
        writing.write()
    writing.connect()
    assert writing.at == ROWS
    _rows_are_in_once(postgres_db, ROWS)


@pytest.mark.parametrize("side", ["up", "down"])
@pytest.mark.parametrize("way", _WAYS)
def test_cut_after_so_many_bytes(
    postgres_db: PostgresDatabase, proxy: Proxy, begin: Begin, way: str, side: Side
) -> None:
    writing = begin(way)
    proxy.count()
    writing.write()
    passed = proxy.passed[side]
    # Densely where statements are, at the beginning and the end; every few kilobytes where rows are.
    places = {*range(0, min(passed, 240), 13), *range(0, passed, 9973), *range(max(0, passed - 60), passed, 7)}
    attempts = 0
    for place in sorted(places):
        proxy.cut_after(place, side)
        attempts += writing.write_until_in()
        assert proxy.fired, f"nothing was cut after {place} of {passed} bytes"
        proxy.disarm()
    assert attempts > len(places)
    _rows_are_in_once(postgres_db, (2 + len(places)) * ROWS)


@pytest.mark.parametrize(("way", "word"), [(way, word) for way, (_, words) in _WAYS.items() for word in words])
def test_a_stalled_network_is_aborted_and_what_it_held_comes_too_late(
    postgres_db: PostgresDatabase, proxy: Proxy, begin: Begin, way: str, word: bytes
) -> None:
    writing = begin(way)
    proxy.cut_at(word, "before", how="stall")
    thread, raised = _write_in_thread(writing)
    proxy.wait_fired()
    writing.database.abort()
    thread.join(PATIENCE)
    assert [type(error) for error in raised] == [Unavailable]
    # The server still waits for the rest of the transaction, which holds the ledger's entry: it is ended. Better a
    # failure than a test that hangs.
    guard = threading.Timer(PATIENCE, writing.database.abort)
    guard.start()
    writing.connect()
    guard.cancel()
    proxy.release()
    writing.write()
    _rows_are_in_once(postgres_db, 2 * ROWS)


def test_a_commit_that_arrives_late_is_waited_for(postgres_db: PostgresDatabase, proxy: Proxy, begin: Begin) -> None:
    writing = begin("copy")
    proxy.cut_at(b"COMMIT", "before", how="stall")
    thread, raised = _write_in_thread(writing)
    proxy.wait_fired()
    writing.database.abort()
    thread.join(PATIENCE)
    assert [type(error) for error in raised] == [Unavailable]
    # As after a restart of the daemon: nobody knows the session that is still in the transaction.
    writing.database._session = None
    connecting = threading.Thread(target=writing.connect)
    connecting.start()
    waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
    postgres_db.server.wait_for(lambda: postgres_db.value(waits) == 1, "the new session waits for the old one")
    proxy.release()
    connecting.join(PATIENCE)
    assert writing.at == 2 * ROWS
    _rows_are_in_once(postgres_db, 2 * ROWS)


def test_an_entry_that_moves_while_its_lock_is_waited_for(
    postgres_db: PostgresDatabase, proxy: Proxy, begin: Begin
) -> None:
    writing = begin("copy")
    other = postgres_db.connect()
    other.execute("UPDATE nflowlevel_ledger SET row = row + 7")
    thread, raised = _write_in_thread(writing)
    waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
    postgres_db.server.wait_for(lambda: postgres_db.value(waits) == 1, "the batch waits for the other transaction")
    other.commit()
    other.close()
    thread.join(PATIENCE)
    assert [type(error) for error in raised] == [Moved]
    assert writing.database.ledger(WRITER) == ROWS + 7
    assert postgres_db.count("t") == ROWS


@pytest.mark.parametrize("outage", ["terminate", "kill", "restart"])
def test_the_server_goes_and_comes_back(
    postgres: Postgres, postgres_db: PostgresDatabase, proxy: Proxy, begin: Begin, outage: str
) -> None:
    writing = begin("copy")
    if outage == "terminate":
        postgres.terminate_backends()
    elif outage == "kill":
        postgres.kill_backends()
    else:
        postgres.restart("immediate")
    with pytest.raises(Unavailable):
        writing.write()
    with pytest.raises(Unavailable):
        writing.write()
    postgres.wait_for(lambda: _connects(writing), "the server takes connections again")
    writing.write()
    _rows_are_in_once(postgres_db, 2 * ROWS)


def _connects(writing: Writing) -> bool:
    try:
        writing.connect()
    except Unavailable:
        return False
    return True
