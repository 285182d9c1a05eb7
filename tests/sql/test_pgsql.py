# SPDX-License-Identifier: GPL-2.0-or-later
"""PGSQL against a real server: what is refused and what is waited for, the ledger, connections, options."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.errors import NotSupported, OutputError
from nflowlevel.logs import log
from nflowlevel.outputs.pgsql import PGSQLOptions
from nflowlevel.spool.sink import Moved, Refused, Unavailable
from nflowlevel.sql.columns import Column
from nflowlevel.sql.database import schema
from nflowlevel.sql.pgsql import PGDatabase, is_of_a_row
from tests.fix_pgsql import WRITER, Open, as_superuser, session
from tests.fix_postgres import Postgres, PostgresDatabase, postgres, postgres_db

__all__ = ["postgres", "postgres_db", "session"]

PATIENCE = 30.0


# -- refused rows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "code", "says"),
    [
        ({"oob.mark": "2147483648"}, "22003", r'value "2147483648" is out of range.*column oob_mark'),
        ({"oob.prefix": "x" * 33}, "22001", r"too long for type character varying\(32\).*column oob_prefix"),
        ({"ip.saddr.str": "10.0.0"}, "22P02", r'invalid input syntax for type inet: "10.0.0"'),
        ({"oob.mark": "6"}, "23505", "duplicate key.*t_oob_mark_key"),
        ({"oob.hook": "7"}, "23514", "check constraint.*t_oob_hook_check"),
        ({"oob.family": "9"}, "P0001", "no such family"),
        ({"oob.family": "8"}, "U0001", "a code of my own"),
        ({"oob.family": "7"}, "20000", "case not found"),
        ({"oob.family": "6"}, "21000", "more than one row"),
        ({"ip.ttl": "4"}, "23503", "foreign key"),
        ({"raw.mac": "z" * 3000 + "".join(map(chr, range(0x4E00, 0x6000)))}, "54000", "index row"),
    ],
)
def test_a_refused_row_leaves_nothing_behind(
    postgres_db: PostgresDatabase, session: Open, row: dict[str, str], code: str, says: str
) -> None:
    postgres_db.execute(
        "create table o (n int primary key)",
        "create table t (oob_mark int unique, oob_prefix varchar(32), ip_saddr_str inet, oob_family int,"
        " oob_hook int check (oob_hook < 5), ip_ttl int references o deferrable initially deferred, raw_mac text)",
        "create index on t (raw_mac)",
        """create function f() returns trigger language plpgsql as $$ begin
            if new.oob_family = 9 then raise exception E'no such\\nfamily'; end if;
            if new.oob_family = 8 then raise 'a code of my own' using errcode = 'U0001'; end if;
            case new.oob_family when 7 then case 1 when 2 then null; end case; else null; end case;
            if new.oob_family = 6 then new.oob_mark = (select * from generate_series(1, 2)); end if;
            return new; end $$""",
        "create trigger t before insert on t for each row execute function f()",
    )
    one = session().open()
    one.write({"oob.mark": "6"})
    with pytest.raises(Refused, match=says) as refused:
        one.write({"oob.mark": "1"}, row, {"oob.mark": "2"})
    assert refused.value.code == code
    assert not refused.value.retryable
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 350
    assert postgres_db.count("t") == 1
    assert one.database.ledger(WRITER) == one.at == 1
    one.write({"oob.mark": "3"})
    one.database.skip(3, WRITER, 2)
    assert one.database.ledger(WRITER) == 3
    assert postgres_db.rows("select oob_mark from t") == [(6,), (3,)]


def test_a_reason_does_not_repeat_the_row(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute("create table t (oob_mark int not null, oob_prefix text)")
    with pytest.raises(Refused, match='null value in column "oob_mark"') as refused:
        session().open().write({"oob.prefix": "a secret of the row"})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "code", ["21000", "22003", "22P02", "23505", "38000", "44000", "P0001", "20000", "54000", "U0001", "99999", "45000"]
)
def test_codes_of_a_row(code: str) -> None:
    assert is_of_a_row(code)


@pytest.mark.parametrize(
    "code",
    [
        *(
            "",
            "00000",
            "08006",
            "0A000",
            "25006",
            "25P02",
            "28P01",
            "2D000",
            "3D000",
            "3F000",
            "40001",
            "40P01",
            "42501",
        ),
        *(
            "42P01",
            "42703",
            "53100",
            "53300",
            "54001",
            "54011",
            "55P03",
            "57014",
            "57P01",
            "58030",
            "F0000",
            "HV000",
            "XX000",
        ),
    ],
)
def test_codes_that_are_not_of_a_row(code: str) -> None:
    assert not is_of_a_row(code)


# -- what stands in the way -------------------------------------------------------------------------------------------


def test_a_missing_table_is_named_and_what_to_do(session: Open) -> None:
    with pytest.raises(Unavailable, match=r"no table or view t in schema public — create it \(`nflowlevel sql init`"):
        session().open()


def test_without_permission_to_insert(postgres: Postgres, postgres_db: PostgresDatabase, session: Open) -> None:
    as_superuser(postgres, postgres_db, "create table t (oob_mark int)")
    with pytest.raises(Unavailable, match=r"no permission to insert into public\.t — GRANT .* to ulog"):
        session().open()
    as_superuser(postgres, postgres_db, f"grant insert on t to {postgres_db.user}")
    session().open().write({"oob.mark": "1"})
    assert postgres_db.count("t") == 1


def test_without_permission_in_a_function(postgres: Postgres, postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute("create table t (oob_mark int)")
    as_superuser(
        postgres,
        postgres_db,
        "create table u (n int)",
        "create function f(int) returns void language sql as 'insert into u values ($1)'",
    )
    one = session(procedure="f").open()
    with pytest.raises(Unavailable, match=r"permission denied for table u \(42501\) — grant it"):
        one.write({"oob.mark": "1"})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("drop table t", "42P01.*sql init"),
        ("alter table t drop column oob_mark", "42703.*sql check"),
        ("alter role {user} in database {name} set default_transaction_read_only = on", "25006.*primary"),
        ("alter role {user} in database {name} set statement_timeout = 50", "57014"),
    ],
)
def test_what_has_to_be_mended_is_waited_for(
    postgres: Postgres, postgres_db: PostgresDatabase, session: Open, change: str, says: str
) -> None:
    postgres_db.execute("create table t (oob_mark int)")
    postgres_db.execute(
        "create function f() returns trigger language plpgsql as $$begin perform pg_sleep(0.1); return new; end$$",
        "create trigger t before insert on t for each row execute function f()",
    )
    one = session().open()
    one.write({"oob.mark": "1"})
    as_superuser(postgres, postgres_db, change.format(user=postgres_db.user, name=postgres_db.name))
    if change.startswith("alter role"):
        one.database.connect()
        one.database.prepare([Column("oob_mark", "integer", item="oob.mark")])
    with pytest.raises(Unavailable, match=says):
        one.write({"oob.mark": "2"})


# -- the ledger -------------------------------------------------------------------------------------------------------


def test_the_ledger_is_made_and_moves_with_the_rows(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute("create table t (oob_mark int)")
    one = session().open()
    assert one.at == 0
    one.write({"oob.mark": "1"}, {"oob.mark": "2"})
    other = session().open()
    assert other.at == 2
    assert other.database.ledger("another") == 0
    assert postgres_db.rows("select writer, row, updated is not null from nflowlevel_ledger order by 1") == [
        ("another", 0, True),
        (WRITER, 2, True),
    ]


def test_an_entry_that_has_moved_is_told_from_trouble(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute("create table t (oob_mark int)")
    one, late = session().open(), session().open()
    late.write({"oob.mark": "1"})
    with pytest.raises(Moved):
        one.write({"oob.mark": "1"})
    with pytest.raises(Moved):
        one.database.skip(1, WRITER, 0)
    assert postgres_db.count("t") == 1
    assert one.database.ledger(WRITER) == 1
    one.database.skip(2, WRITER, 1)
    assert one.database.ledger(WRITER) == 2


def test_without_a_ledger_rows_are_stored_and_it_is_said_once(
    postgres: Postgres, postgres_db: PostgresDatabase, session: Open, caplog: pytest.LogCaptureFixture
) -> None:
    as_superuser(
        postgres,
        postgres_db,
        "create table t (oob_mark int)",
        "grant insert on t to ulog",
        "revoke create on schema public from public",
    )
    with postgres.admin(postgres_db.name) as admin:
        admin.execute(f"alter database {postgres_db.name} owner to postgres".encode())
    with caplog.at_level(logging.WARNING):
        one = session().open()
        assert one.at is None
        one.write({"oob.mark": "1"}, {"oob.mark": "2"})
        assert one.database.ledger(WRITER) is None
    assert postgres_db.count("t") == 2
    (record,) = caplog.records
    assert "may be stored twice — `nflowlevel sql init` makes the table" in record.getMessage()
    assert postgres_db.password not in record.getMessage()


@pytest.mark.parametrize("granted", ["select", "select, update", "select, insert"])
def test_a_ledger_that_may_not_be_written_is_none(
    postgres: Postgres, postgres_db: PostgresDatabase, session: Open, granted: str
) -> None:
    as_superuser(
        postgres, postgres_db, "create table t (oob_mark int)", schema("pgsql-ledger.sql"),
        "grant insert on t to ulog", f"grant {granted} on nflowlevel_ledger to ulog",
    )  # fmt: skip
    one = session().open()
    assert one.at is None
    one.write({"oob.mark": "1"})
    assert postgres_db.count("t") == 1


def test_an_entry_that_is_there_needs_no_permission_to_insert(
    postgres: Postgres, postgres_db: PostgresDatabase, session: Open
) -> None:
    as_superuser(
        postgres, postgres_db, "create table t (oob_mark int)", schema("pgsql-ledger.sql"),
        f"insert into nflowlevel_ledger values ('{WRITER}', 5)",
        "grant insert on t to ulog", "grant select, update on nflowlevel_ledger to ulog",
    )  # fmt: skip
    one = session().open()
    one.write({"oob.mark": "1"})
    assert one.at == one.database.ledger(WRITER) == 6


def test_scripts_run_in_the_options_schema(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute("create schema other")
    one = session(schema="other")
    one.database.connect()
    one.database.run("create table t (oob_mark int); insert into t values (100 % 7);")
    assert postgres_db.rows("select * from other.t") == [(2,)]
    with pytest.raises(OutputError, match="does not exist"):
        one.database.run("insert into t values (3); select * from nothing")
    assert postgres_db.count("other.t") == 1


# -- connections ------------------------------------------------------------------------------------------------------


def test_there_is_one_connection_and_it_is_closed(
    postgres: Postgres, postgres_db: PostgresDatabase, session: Open
) -> None:
    postgres_db.execute("create table t (oob_mark int)")
    one = session().open()
    for _ in range(3):
        one.database.connect()
    # The server ends a session some time after the client has closed the connection.
    postgres.wait_for(lambda: len(postgres.backends()) == 1, "one connection")
    one.database.close()
    one.database.close()
    postgres.wait_for(lambda: not postgres.backends(), "no connection")
    for call in (one.database.columns, lambda: one.database.ledger(WRITER), lambda: one.write({"oob.mark": "1"})):
        with pytest.raises(Unavailable, match="not connected"):
            call()


def test_the_session_says_who_it_is_and_leaves_no_transaction_open(
    postgres_db: PostgresDatabase, session: Open
) -> None:
    postgres_db.execute("create table t (oob_mark int)")
    one = session().open()
    asked = "select application_name, state from pg_stat_activity where usename = 'ulog'"
    assert postgres_db.rows(asked) == [("nflowlevel", "idle")]
    with pytest.raises(Refused):
        one.write({"oob.mark": "x"})
    assert postgres_db.rows(asked) == [("nflowlevel", "idle")]
    assert one.database._connection is not None
    assert one.database._connection.info.get_parameters()["keepalives_idle"] == "30"
    assert one.database._connection.info.encoding == "utf-8"


def test_a_chatty_trigger_does_not_block(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute(
        "create table t (oob_prefix text)",
        "create function f() returns trigger language plpgsql as "
        "$$begin for i in 1..20 loop raise warning '%', new.oob_prefix; end loop; return null; end$$",
        "create trigger t before insert on t for each row execute function f()",
    )
    one = session().open()
    # Both sides send more than a connection holds. Better a failure than a test that hangs.
    guard = threading.Timer(PATIENCE, one.database.abort)
    guard.start()
    one.write(*[{"oob.prefix": "x" * 10_000}] * 2_000)
    guard.cancel()
    assert one.at == 2_000


def test_wrong_password(postgres_db: PostgresDatabase, session: Open) -> None:
    one = session(pass_="not the password")
    with pytest.raises(Unavailable, match=r"connect to PostgreSQL .*password authentication failed") as failed:
        one.open()
    assert "not the password" not in str(failed.value) + one.database.shown
    assert failed.value.retryable


_PASSWORD = "pass-word'of \\tests"


@pytest.mark.parametrize(
    "connstring",
    [
        "host={host} port={port} dbname=nothing user={user} password='pass-word\\'of \\\\tests'",
        "postgresql://{user}:pass-word'of%20%5Ctests@{host}:{port}/nothing",
        # Written wrongly: libpq takes a part of the password for something else, and says so.
        "postgresql://{user}:pass-word'of/tests@{host}:{port}/nothing",
        "postgresql://{user}:pass-word'of?tests@{host}:{port}/nothing",
        "postgresql://{user}:pass-word'of %5%tests@{host}:{port}/nothing",
        "postgresql://{user}:pass-word'of@tests@{host}:{port}/nothing",
        "host={host} port={port} dbname=nothing user={user} password=pass-word'of tests",
        "host={host} port={port} dbname=nothing user={user} password='pass-word\\'of tests",
        'host={host} port={port} dbname=nothing password=pass "word"tests of user={user}',
        "host={host} tests=pass-word",
    ],
)
def test_no_password_of_a_connstring_is_ever_shown(
    postgres_db: PostgresDatabase, session: Open, connstring: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"host": postgres_db.host, "port": postgres_db.port, "user": postgres_db.user}
    with caplog.at_level(logging.DEBUG):
        one = session(connstring=connstring.format(**given))
        with pytest.raises(Unavailable) as failed:
            one.open()
    everything = f"{failed.value} {failed.value!r} {one.database.shown} {caplog.text} {failed.value.__cause__}"
    for part in ("pass-word", "tests", 'word"tests', _PASSWORD):
        assert part not in everything.replace("password", ""), everything


def test_connstring_replaces_the_other_options(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute("create table t (oob_mark int)")
    one = session(connstring=postgres_db.conninfo, host="nowhere.invalid", db="nothing", user="nobody", pass_="no")
    one.open().write({"oob.mark": "1"})
    assert postgres_db.count("t") == 1
    assert (
        one.database.shown == f"PostgreSQL dbname={postgres_db.name} user=ulog host=127.0.0.1 port={postgres_db.port}"
    )


def test_what_is_not_given_is_left_to_libpq(
    postgres_db: PostgresDatabase, session: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    postgres_db.execute("create table t (oob_mark int)")
    nothing = {"db": "", "user": "", "pass_": "", "host": "", "port": 0}
    passwords = tmp_path / "pgpass"
    quoted = _PASSWORD.replace("\\", "\\\\")
    passwords.write_text(f"{postgres_db.host}:{postgres_db.port}:*:{postgres_db.user}:{quoted}\n")
    passwords.chmod(0o600)
    services = tmp_path / "services"
    services.write_text(
        f"[logs]\nhost={postgres_db.host}\nport={postgres_db.port}\ndbname={postgres_db.name}\nuser={postgres_db.user}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    session(connstring="service=logs").open().write({"oob.mark": "1"})
    monkeypatch.setenv("PGSERVICE", "logs")
    session(**nothing).open().write({"oob.mark": "2"})
    monkeypatch.delenv("PGSERVICE")
    for name, value in (("HOST", postgres_db.host), ("PORT", postgres_db.port), ("DATABASE", postgres_db.name)):
        monkeypatch.setenv(f"PG{name}", str(value))
    monkeypatch.setenv("PGUSER", postgres_db.user)
    monkeypatch.setenv("PGAPPNAME", "of the environment")
    one = session(**nothing).open()
    one.write({"oob.mark": "3"})
    assert postgres_db.rows("select oob_mark from t") == [(1,), (2,), (3,)]
    assert one.database.shown == "PostgreSQL"
    assert ("of the environment",) in postgres_db.rows("select application_name from pg_stat_activity")


@pytest.mark.parametrize(
    ("options", "environment", "secs"),
    [
        ({}, {}, 10),
        ({"connect_timeout": 4}, {"PGCONNECT_TIMEOUT": "7"}, 4),
        ({}, {"PGCONNECT_TIMEOUT": "7"}, None),
        ({"connstring": "connect_timeout=3"}, {"PGCONNECT_TIMEOUT": "7"}, "3"),
        ({"connstring": "connect_timeout=3", "connect_timeout": 4}, {}, 4),
    ],
)
def test_how_long_an_attempt_to_connect_may_take(
    options: dict[str, Any], environment: dict[str, str], secs: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    database = PGDatabase(PGSQLOptions(table="t", **options))
    # What is not passed libpq takes from the environment.
    assert database._parameters().get("connect_timeout") == secs


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(NotSupported, match=r"needed: psycopg 3 \(Debian: python3-psycopg; pip: nflowlevel\[pgsql\]\)"):
        PGDatabase(PGSQLOptions(table="t")).connect()


def test_a_server_that_never_answers_is_given_up(session: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one = session(port=silent.getsockname()[1], connect_timeout=2)
        with pytest.raises(Unavailable, match="timeout"):
            one.open()


def test_a_server_that_is_not_there(session: Open) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match=r"connect to PostgreSQL dbname=.*Connection refused"):
            session(port=unused.getsockname()[1]).open()


def test_bytes_that_are_no_text_in_an_option(session: Open) -> None:
    with pytest.raises(Unavailable, match="connect to PostgreSQL"):
        session(pass_=b"\xff".decode("utf-8", "surrogateescape")).open()


def test_abort_wakes_whoever_waits_for_an_answer(
    postgres: Postgres, postgres_db: PostgresDatabase, session: Open
) -> None:
    postgres_db.execute("create table t (oob_mark int)")
    one = session().open()
    failures: list[Exception] = []

    def write() -> None:
        try:
            one.write({"oob.mark": "1"})
        except Unavailable as error:
            failures.append(error)

    postgres.pause_backends()
    thread = threading.Thread(target=write)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    one.database.abort()
    thread.join(PATIENCE)
    assert len(failures) == 1
    postgres.resume()
    one.open().write({"oob.mark": "1"})
    assert postgres_db.count("t") == 1


def test_abort_while_connecting_leaves_no_connection(
    postgres: Postgres, postgres_db: PostgresDatabase, session: Open
) -> None:
    postgres_db.execute("create table t (oob_mark int)")
    one = session()
    failures: list[Exception] = []

    def connect() -> None:
        try:
            one.open()
        except Unavailable as error:
            failures.append(error)

    postgres.pause()
    thread = threading.Thread(target=connect)
    thread.start()
    thread.join(0.3)
    one.database.abort()
    postgres.resume()
    thread.join(PATIENCE)
    assert [str(error) for error in failures] == [f"connect to {one.database.shown}: broken off"]
    postgres.wait_for(lambda: not postgres.backends(), "no connection")


def test_abort_without_a_connection_does_nothing(session: Open) -> None:
    one = session()
    one.database.abort()
    one.database.close()
    one.database.abort()


def test_a_new_connection_ends_the_session_before_it(
    postgres: Postgres, postgres_db: PostgresDatabase, session: Open
) -> None:
    postgres_db.execute("create table t (oob_mark int)")
    one = session().open()
    lost = one.database._connection
    assert lost is not None
    # As after a break that the server has not heard of: it waits for the rest of a transaction, and holds the entry.
    lost.execute("UPDATE nflowlevel_ledger SET row = 7")
    one.database._connection = None
    one.open().write({"oob.mark": "1"})
    assert one.at == 1
    assert len(postgres.backends()) == 1
    lost.close()


# -- our own schema ---------------------------------------------------------------------------------------------------


def test_it_makes_partitions_of_days_to_come(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.load(schema("pgsql.sql"))
    partitions = "select count(*) from pg_inherits where inhparent = 'packets'::regclass"
    before = postgres_db.value(partitions)
    postgres_db.execute("drop table packets_" + _day(7), "drop table packets_" + _day(8))
    database = session(table="packets").database
    database.connect()
    database.tend()
    assert postgres_db.value(partitions) == before
    database.close()


def test_without_the_right_to_make_partitions_rows_go_in(
    postgres: Postgres,
    postgres_db: PostgresDatabase,
    session: Open,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.INFO, "nflowlevel")
    with postgres.admin(postgres_db.name) as admin:
        admin.execute(f"create schema other; set search_path = other; {schema('pgsql.sql')}".encode())
        admin.execute("grant usage on schema other to ulog; grant insert, select on other.packets to ulog")
        admin.execute("drop table other.packets_" + _day(7))
    database = session(table="packets", schema="other").database
    database.connect()
    database.tend()
    assert "go into the default partition" in caplog.text
    assert database.columns()
    database.close()


def test_a_schema_without_partitions_is_left_alone(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.load_shipped("flat")
    database = session(table="ulog2").database
    database.connect()
    database.tend()
    database.close()


def test_a_lost_connection_is_said(postgres: Postgres, session: Open) -> None:
    database = session(table="packets").database
    database.connect()
    postgres.terminate_backends()
    with pytest.raises(Unavailable):
        database.tend()
    database.close()


def _day(ahead: int) -> str:
    return time.strftime("%Y%m%d", time.gmtime(time.time() + 86_400 * ahead))
