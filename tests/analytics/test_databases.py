# SPDX-License-Identifier: GPL-2.0-or-later
"""SQL tables as lines of JSON: our own and ulogd2's, as each database has its values."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from nflowlevel.analytics.databases import database_lines, sqlite_lines
from nflowlevel.analytics.log import Log
from nflowlevel.analytics.reading import read
from nflowlevel.errors import NotSupported
from tests.fix_logs import START
from tests.fix_mariadb import MariaDBDatabase, mariadb, mariadb_db
from tests.fix_postgres import PostgresDatabase, postgres, postgres_db

__all__ = ["mariadb", "mariadb_db", "postgres", "postgres_db"]

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
    with pytest.raises(FileNotFoundError) as missing:
        list(sqlite_lines(str(tmp_path / "absent.db")))
    assert missing.value.filename == str(tmp_path / "absent.db")
    assert not (tmp_path / "absent.db").exists()


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


# -- MySQL and MariaDB ------------------------------------------------------------------------------------------------


def mysql_url(database: MariaDBDatabase, scheme: str = "mysql") -> str:
    user, password = database.user, quote(database.password, safe="")
    return f"{scheme}://{user}:{password}@{database.host}:{database.port}/{database.name}"


def test_our_tables_of_mysql(mariadb_db: MariaDBDatabase) -> None:
    mariadb_db.load((SCHEMA / "mysql.sql").read_text())
    mariadb_db.execute(
        "INSERT INTO packets (oob_time, ip_saddr_str, ip_protocol, tcp_dport, tcp_syn, tcp_ack, tcp_rst, oob_prefix)"
        " SELECT timestamp '2026-11-24 08:30:00.00025' + interval seq second, '2001:db8::1', 6, 22, true, false, false,"
        " 'x%s' FROM seq_0_to_20000",
        "INSERT INTO sums (oob_time, sum_name, sum_bytes)"
        " VALUES ('2026-11-24 08:30:00', 'w\u20acb', 18446744073709551615)",
    )
    for scheme in ("mysql", "mariadb"):
        with read(mysql_url(mariadb_db, scheme)) as log:
            assert log.syn.count("src_ip", "dest_port", "oob_prefix").rows() == [("2001:db8::1", 22, "x%s", 20001)]
            assert log.records("us", limit=1).value() == START * 10**6 + 250
            assert log.sums.records("sum_name", "sum_bytes").rows() == [("w\u20acb", 2**64 - 1)]
            assert log.damaged.count == 0


@pytest.mark.parametrize("schema", ["flat", "full"])
def test_tables_of_ulogd2_of_mysql(mariadb_db: MariaDBDatabase, schema: str) -> None:
    mariadb_db.load_shipped(schema)
    column = "ip_saddr" if schema == "full" else "ip_saddr_bin"
    mariadb_db.execute(
        f"INSERT INTO ulog2 (oob_time_sec, oob_time_usec, {column}, ip_protocol, oob_prefix)"
        f" VALUES ({START}, 250, x'00000000000000000000ffffc0000242', 6, 'x')",
        "INSERT INTO ulog2_ct (flow_start_sec, flow_end_sec, orig_ip_saddr, orig_ip_protocol)"
        f" VALUES ({START}, {START}, x'20010db8000000000000000000000001', 6)",
    )
    for more in ("", "?table=ulog2"):
        with read(mysql_url(mariadb_db) + more) as log:
            assert log.count("src_ip", "ip_protocol").rows() == [("192.0.2.66", 6, 1)]
            assert log.newest == START * 10**6 + 250
    with read(mysql_url(mariadb_db) + "?table=ulog2_ct") as log:
        assert log.flows.count("src_ip").rows() == [("2001:db8::1", 1)]


def test_rows_of_mysql_come_one_block_after_the_other(mariadb_db: MariaDBDatabase) -> None:
    """The first block is there while the server still has most of the rows."""
    mariadb_db.execute(
        "CREATE TABLE packets (oob_time datetime(6), oob_prefix varchar(255))",
        "INSERT INTO packets SELECT timestamp '2026-11-24 08:30:00' + interval seq second, repeat('x', 250)"
        " FROM seq_1_to_60000",
    )
    tracemalloc.start()
    try:
        sizes = [chunk.count(b"\n") for chunk in database_lines(mysql_url(mariadb_db))]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes == [10_000] * 6
    assert most < 60_000 * 250  # less than the texts alone


def test_a_password_of_mysqls_is_in_a_file(mariadb_db: MariaDBDatabase, tmp_path: Path) -> None:
    """And the connection goes by the socket."""
    mariadb_db.load((SCHEMA / "mysql.sql").read_text())
    mariadb_db.execute("INSERT INTO sums (oob_time, sum_name) VALUES ('2026-11-24 08:30:00', 'web')")
    (tmp_path / "my.cnf").write_text(f'[client]\nuser={mariadb_db.user}\npassword="{mariadb_db.password}"\n')
    url = f"mysql:///{mariadb_db.name}?socket={mariadb_db.server.socket}&option_file={tmp_path / 'my.cnf'}"
    with read(url) as log:
        assert log.sums.count("sum_name").rows() == [("web", 1)]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("?table=none", "there is no table 'none'; available: none"),
        ("", "no table of a log is there; name it with"),
        ("?ssl=1", "unknown option 'ssl'; available: socket, option_file, table"),
        ("/x", "a URL of MySQL's is mysql://user@host:port/database"),
    ],
)
def test_what_cannot_be_read_of_mysql(mariadb_db: MariaDBDatabase, more: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        read(mysql_url(mariadb_db) + more)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://me:word@host:port/x", "mysql://me:word@host", "mysql://me:word@host/"])
def test_a_wrong_url_of_mysqls_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="a URL of MySQL's is") as caught:
        list(database_lines(url))
    assert "word" not in str(caught.value)


def test_without_pymysql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(NotSupported, match=r"pip install 'nflowlevel\[mysql\]'"):
        list(database_lines("mysql://host/x"))
