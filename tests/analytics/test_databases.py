# SPDX-License-Identifier: GPL-2.0-or-later
"""SQL tables as lines of JSON: our own and ulogd2's, as each database has its values."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from nflowlevel.analytics.databases import database_lines, sqlite_lines
from nflowlevel.analytics.log import Log
from nflowlevel.analytics.reading import read
from tests.fix_logs import START
from tests.fix_postgres import PostgresDatabase, postgres, postgres_db

__all__ = ["postgres", "postgres_db"]

SCHEMA = Path(__file__).parents[2] / "nflowlevel" / "sql" / "schema"


def objects(chunks: Iterator[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for chunk in chunks for line in chunk.splitlines()]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A file of SQLite with our tables: a packet and a sum."""
    path = tmp_path / "it's 100% a log?.db"
    connection = sqlite3.connect(path)
    connection.executescript((SCHEMA / "sqlite3.sql").read_text())
    connection.execute(
        "INSERT INTO packets (oob_time, oob_prefix, ip_saddr_str, ip_protocol, tcp_sport, tcp_dport, tcp_syn, tcp_ack,"
        " tcp_rst) VALUES ('2026-11-24 08:30:00.000250', 'DROP', '192.0.2.66', 6, 6000, 22, 1, 0, 0)"
    )
    connection.execute("INSERT INTO sums (oob_time, sum_name, sum_pkts) VALUES ('2026-11-24 08:30:00', 'web', 7)")
    connection.commit()
    connection.close()
    return path


def test_our_tables_of_sqlite(database: Path) -> None:
    packet, total = objects(sqlite_lines(str(database)))
    assert packet == {
        "oob.time.sec": START,
        "oob.time.usec": 250,
        "oob.prefix": "DROP",
        "src_ip": "192.0.2.66",
        "ip.protocol": 6,
        "src_port": 6000,
        "dest_port": 22,
        "tcp.syn": 1,
        "tcp.ack": 0,
        "tcp.rst": 0,
    }
    assert total == {"oob.time.sec": START, "oob.time.usec": 0, "sum.name": "web", "sum.pkts": 7}


def test_a_log_of_sqlite_by_path_and_by_url(database: Path) -> None:
    for source in (database, "sqlite://" + str(database).replace("%", "%25").replace("?", "%3F")):
        log = read(source)
        assert log.syn.count("src_ip", "dest_port").rows() == [("192.0.2.66", 22, 1)]
        assert log.sums.count("sum_name").rows() == [("web", 1)]
        assert log.newest == START * 10**6 + 250
        assert log.damaged.count == 0


def test_a_table_of_ulogd2_and_one_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ulogd.sqlite3db"
    connection = sqlite3.connect(path)
    columns = "oob_prefix, oob_time_sec, oob_time_usec, ip_saddr, ip_saddr_bin, ip_hdaddr"
    connection.execute(f"CREATE TABLE ulog_pkt ({columns})")
    values = (b"\xff", START, 5, 3221225985, bytes(10) + b"\xff\xff\xc0\x00\x02\x42", 3325256711)
    connection.execute("INSERT INTO ulog_pkt VALUES (?, ?, ?, ?, ?, ?)", values)
    connection.execute('CREATE TABLE "my ""table" (oob_time_sec, dest_port, tcp_dport)')
    connection.execute('INSERT INTO "my ""table" VALUES (1, 2, 3)')
    connection.commit()
    connection.close()
    (found,) = objects(sqlite_lines(str(path)))
    # A number in `ip_saddr` may be in either order of bytes, so nothing is made of it.
    assert found == {
        "oob.prefix": "\ufffd",
        "oob.time.sec": START,
        "oob.time.usec": 5,
        "src_ip": "192.0.2.66",
        "dest_ip": "198.51.100.7",
    }
    assert objects(database_lines(f'sqlite://{path}?table=my+"table')) == [{"oob.time.sec": 1, "dest_port": 3}]


def test_what_cannot_be_read(tmp_path: Path, database: Path) -> None:
    path = tmp_path / "x.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (a)")
    connection.execute("CREATE TABLE packets_old (a, oob_time)")
    connection.commit()
    with pytest.raises(
        ValueError, match=re.escape("no table of a log is there; name it with ?table=…; available: other")
    ):
        list(sqlite_lines(str(path)))
    with pytest.raises(ValueError, match="there is no table 'x'; available: other, packets_old"):
        list(sqlite_lines(str(path), "x"))
    with pytest.raises(ValueError, match="'other' has no time"):
        list(sqlite_lines(str(path), "other"))
    connection.close()
    with pytest.raises(ValueError, match="a path follows three slashes"):
        list(database_lines("sqlite://x.db"))
    assert not (tmp_path / "absent.db").exists()
    with pytest.raises(sqlite3.OperationalError):
        list(sqlite_lines(str(tmp_path / "absent.db")))


def url_of(database: PostgresDatabase) -> str:
    parameters = database.parameters
    return (
        f"postgresql://{parameters['user']}:{quote(parameters['password'], safe='')}@/{parameters['dbname']}"
        f"?host={parameters['host']}&port={parameters['port']}"
    )


def log_of(database: PostgresDatabase, more: str = "") -> Log:
    return read(url_of(database) + more)


def test_our_tables_of_postgresql(postgres_db: PostgresDatabase) -> None:
    postgres_db.load((SCHEMA / "pgsql.sql").read_text())
    postgres_db.execute(
        "INSERT INTO packets (oob_time, ip_saddr_str, ip_protocol, tcp_dport, tcp_syn, tcp_ack, tcp_rst, oob_prefix)"
        " SELECT timestamptz '2026-11-24 09:30:00.00025+01' + n * interval '1 second', '2001:db8::1', 6, 22, true,"
        " false, false, 'x' FROM generate_series(0, 20000) AS n",
        "INSERT INTO sums (oob_time, sum_name, sum_bytes) VALUES ('2026-11-24 08:30:00Z', 'web', 18446744073709551615)",
    )
    log = log_of(postgres_db)
    assert log.syn.count("src_ip", "dest_port").rows() == [("2001:db8::1", 22, 20001)]
    assert log.records("us", limit=1).value() == START * 10**6 + 250
    assert log.sums.records("sum_bytes").rows() == [(2**64 - 1,)]
    assert log.damaged.count == 0


@pytest.mark.parametrize("schema", ["flat", "full"])
def test_tables_of_ulogd2_of_postgresql(postgres_db: PostgresDatabase, schema: str) -> None:
    postgres_db.load_shipped(schema)
    postgres_db.execute(
        "INSERT INTO ulog2 (oob_time_sec, oob_time_usec, ip_saddr_str, ip_protocol, oob_prefix)"
        f" VALUES ({START}, 250, '192.0.2.66', 6, 'x')"
    )
    for log in (log_of(postgres_db), log_of(postgres_db, "&table=ulog2")):
        assert log.count("src_ip", "ip_protocol").rows() == [("192.0.2.66", 6, 1)]
        assert log.newest == START * 10**6 + 250


def test_a_password_is_in_no_message(postgres_db: PostgresDatabase) -> None:
    with pytest.raises(ValueError, match="no table of a log is there") as caught:
        log_of(postgres_db)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://me:pass word@host/x", "postgresql://me:word@%zz/x"])
def test_a_wrong_url_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="is no URL that PostgreSQL takes") as caught:
        list(database_lines(url))
    assert "word" not in str(caught.value)
