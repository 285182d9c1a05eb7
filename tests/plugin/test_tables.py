# SPDX-License-Identifier: GPL-2.0-or-later
"""The base of the SQL outputs: from a batch to rows in the table, its life, and its spool under another user."""

from __future__ import annotations

import ipaddress
import os
import pwd
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.errors import OutputError
from nflowlevel.filters.communityid import COMMUNITYID, COMMUNITYIDOptions
from nflowlevel.filters.ip2bin import IP2BIN
from nflowlevel.filters.ip2str import IP2STR
from nflowlevel.filters.nat import NAT, NATOptions
from nflowlevel.outputs.mysql import MYSQL, MYSQLOptions
from nflowlevel.outputs.pgsql import PGSQL, PGSQLOptions
from nflowlevel.outputs.sqlite3 import SQLITE3, SQLITE3Options
from nflowlevel.plugin.contract import NoOptions
from nflowlevel.plugin.tables import SQLOutput
from nflowlevel.records.keys import BY_NAME
from nflowlevel.spool.sink import Unavailable
from nflowlevel.sql.database import Database, schema
from nflowlevel.sql.options import SQLOptions
from tests.fix_daemon import Daemon, config, log_rule
from tests.fix_database import ITEMS, Scripted, Server
from tests.fix_lines import wait_for
from tests.fix_mariadb import MariaDBDatabase, mariadb, mariadb_db
from tests.fix_netns import Pair
from tests.fix_plugins import batch_of
from tests.fix_postgres import PostgresDatabase, postgres, postgres_db
from tests.fix_sqlite import rows_of
from tests.flows import DNAT, ICMP, ICMPV6, NEW, NOW, SNAT, TCP6, FlowOf, deliver, flow_batch
from tests.oracle import build_message

__all__ = ["mariadb", "mariadb_db", "postgres", "postgres_db"]

_MEMBERS = tuple((name, BY_NAME[name]) for name in ("oob.prefix", "oob.mark", "ip.saddr"))


class Scripts(SQLOutput[SQLOptions]):
    """An output into a scripted database."""

    name = "SCRIPTS"
    Options = SQLOptions
    server: Server

    def database(self) -> Database:
        return Scripted(self.server)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def output(tmp_path: Path, server: Server) -> Iterator[Scripts]:
    made = Scripts("db1", SQLOptions(table="t", spool_directory=str(tmp_path)))
    made.server = server
    made.bind(_MEMBERS)
    yield made
    made.close(0.0)


def marked(*marks: int) -> list[bytes]:
    return [build_message(b"", mark=mark, prefix=b"p") for mark in marks]


def test_a_batch_becomes_rows(output: Scripts, server: Server) -> None:
    output.open()
    output.write(batch_of(*marked(1, 2, 3)))
    wait_for(lambda: output.stats.written == 3)
    assert server.rows == [1, 2, 3]
    assert "connected to scripted database" in output.state


def test_rows_from_before_the_columns_were_known(output: Scripts, server: Server) -> None:
    """They carry everything the stack has, and what the table wants is taken from that."""
    server.before = lambda call: (_ for _ in ()).throw(Unavailable("away")) if call == "connect" else None
    output.open()
    output.write(batch_of(*marked(1, 2)))
    wait_for(lambda: output.stats.errors)
    server.before = lambda call: None
    wait_for(lambda: output.stats.written == 2)
    output.write(batch_of(*marked(3)))
    wait_for(lambda: output.stats.written == 3)
    assert server.rows == [1, 2, 3]


def test_selected_packets_only(output: Scripts, server: Server) -> None:
    output.open()
    output.write(batch_of(*marked(1, 2, 3)).select([0, 2]))
    output.write(batch_of(*marked(4)).select([]))
    wait_for(lambda: output.stats.written == 2)
    assert server.rows == [1, 3]


def test_it_may_be_opened_again(output: Scripts, server: Server) -> None:
    for number in (1, 2):
        output.open()
        output.write(batch_of(*marked(number)))
        output.close()
        output.close()
        assert output.state == "closed scripted database"
    assert server.rows == [1, 2]


def test_the_spool_of_another_process(output: Scripts, tmp_path: Path) -> None:
    output.open()
    other = Scripts("db1", output.options)
    other.server = output.server
    with pytest.raises(OutputError, match=rf"process {os.getpid()} uses it"):
        other.open()


def test_a_hung_connection_is_looked_for_while_rows_wait(output: Scripts, server: Server) -> None:
    def hangs(call: str) -> None:
        if call == "write":
            assert server.aborted.wait(20)
            raise Unavailable("broken off")

    assert output.deadline is None
    output.open()
    wait_for(lambda: "connected" in output.state)
    assert output.deadline is None
    server.before = hangs
    output.write(batch_of(*marked(1)))
    wait_for(lambda: "write" in server.calls)
    at = output.deadline
    assert at is not None
    assert at > time.monotonic() + 10, "the time allowed"
    output.retry()
    assert server.aborted.is_set()


def test_without_a_spool_what_cannot_be_stored_is_dropped(tmp_path: Path, server: Server) -> None:
    output = Scripts("db1", SQLOptions(table="t", spool_directory=str(tmp_path / "no"), when_full="drop_newest"))
    output.server = server
    output.bind(_MEMBERS)
    server.before = lambda call: (_ for _ in ()).throw(Unavailable("away")) if call == "connect" else None
    output.open()
    output.write(batch_of(*marked(1, 2)))
    output.close(0.1)
    assert output.stats.dropped["stop"] == 2
    assert not (tmp_path / "no").exists()


def test_layout_follows_the_table(output: Scripts, server: Server) -> None:
    output.open()
    wait_for(lambda: output._writer is not None and output._writer.layout == ITEMS)


def test_the_spool_goes_with_the_daemon_to_its_user(pair: Pair, open_to_all: Path) -> None:
    pair.fw.nft(log_rule(1))
    nobody = pwd.getpwnam("nobody")
    # Nobody may not write there: the rows have to wait in the spool.
    section = f"db={open_to_all}/no/log.sqlite\nspool_directory={open_to_all}/spool\nring_buffer_size=10"
    text = config("n:NFLOG,b:BASE,d:SQLITE3", n=f"group=1\nnetwork_namespace_path={pair.fw.path}", d=section)
    with Daemon(open_to_all, text, "-u", "nobody") as daemon:
        pair.send_udp(1009)
        daemon.says("rows waiting")
        wait_for(lambda: pair.fw.counter("c") == 1009)
        daemon.stop()
        assert "pending 1009" in daemon.stderr
        assert "spooled 1009" in daemon.stderr
    assert {path.stat().st_uid for path in (open_to_all / "spool" / "d").iterdir()} == {nobody.pw_uid}


# -- flows, in real databases -----------------------------------------------------------------------------------------

_FLOWS = (SNAT, DNAT, ICMP, TCP6, ICMPV6)
_PATIENCE = 60.0


def store(output: SQLOutput[Any], *flows: FlowOf, by: Any = IP2STR) -> None:
    """Send flows through all filters into a database; fail unless all are stored."""
    filters = (by("i", NoOptions()), NAT("n", NATOptions()), COMMUNITYID("c", COMMUNITYIDOptions()))
    stack = deliver(flow_batch(*flows), *filters, output, patience=_PATIENCE)
    stats = stack.output.stats
    assert (stats.written, sum(stats.dropped.values())) == (len(flows), 0), str(stats)


def pgsql(database: PostgresDatabase, tmp_path: Path, **options: Any) -> PGSQL:
    """Return an output into PostgreSQL."""
    return PGSQL("p", PGSQLOptions(connstring=database.conninfo, spool_directory=str(tmp_path / "spool"), **options))


def mysql(database: MariaDBDatabase, tmp_path: Path, **options: Any) -> MYSQL:
    """Return an output into MariaDB."""
    access = {"db": database.name, "user": database.user, "pass_": database.password, "host": database.host}
    spool = str(tmp_path / "spool")
    return MYSQL("m", MYSQLOptions(**access, port=database.port, spool_directory=spool, **options))


_QUERY = (
    "SELECT orig_ip_saddr_str, orig_l4_sport, reply_ip_daddr_str, reply_l4_dport, nat_saddr_str, nat_sport, "
    "nat_daddr_str, nat_dport, nat_event, orig_raw_pktlen, reply_raw_pktlen, icmp_type, icmpv6_type, flow_start_sec, "
    "flow_end_sec, ct_mark, ct_zone, community_id IS NOT NULL FROM flows"
)
_TIMES = NOW - 10, NOW - 3
_ADDRESS = ipaddress.IPv4Address | ipaddress.IPv6Address
_STORED = {
    ("10.0.0.5", 51234, *("198.51.100.7", 40001) * 2, None, None, 5, 1234, 56789, None, None, *_TIMES, 0, 0, 1),
    ("203.0.113.9", 33333, "203.0.113.9", 33333, None, None, "10.0.0.5", 80, 5, 180, 120, None, None, *_TIMES, 7, 3, 1),
    ("10.0.0.5", None, "10.0.0.5", None, None, None, None, None, None, 168, 168, 8, None, *_TIMES, 0, 0, 1),
    ("fd00::5", 40000, "fd00::5", 40000, None, None, None, None, None, 500, 2**40, None, None, *_TIMES, 0, 0, 1),
    ("fd00::5", None, "fd00::5", None, None, None, None, None, None, 180, 120, None, 128, *_TIMES, 0, 0, 1),
}  # fmt: skip


def test_flows_in_our_table_of_postgresql(postgres_db: PostgresDatabase, tmp_path: Path) -> None:
    postgres_db.load(schema("pgsql.sql"))
    store(pgsql(postgres_db, tmp_path, table="flows"), *_FLOWS)
    rows = postgres_db.rows(_QUERY)
    assert {tuple(str(each) if isinstance(each, _ADDRESS) else each for each in row) for row in rows} == _STORED
    ((found,),) = postgres_db.rows("SELECT count(*) FROM flows WHERE reply_ip_daddr_str = '198.51.100.7'")
    assert found == 1
    ((at,),) = postgres_db.rows("SELECT DISTINCT extract(epoch FROM oob_time)::bigint FROM flows")
    assert at == NOW


def test_flows_in_our_table_of_mariadb(mariadb_db: MariaDBDatabase, tmp_path: Path) -> None:
    mariadb_db.load(schema("mysql.sql"))
    store(mysql(mariadb_db, tmp_path, table="flows"), *_FLOWS)
    assert set(mariadb_db.rows(_QUERY)) == _STORED


def test_flows_in_our_table_of_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    options = SQLITE3Options(db=str(path), table="flows", spool_directory=str(tmp_path / "spool"))
    store(SQLITE3("s", options), *_FLOWS)
    assert set(rows_of(path, _QUERY)) == _STORED


def test_the_functions_of_ulogd2s_schema_for_postgresql(postgres_db: PostgresDatabase, tmp_path: Path) -> None:
    """INSERT_CT has a row for each record; INSERT_OR_REPLACE_CT completes the row of a flow that began."""
    postgres_db.load_shipped("full")
    store(pgsql(postgres_db, tmp_path / "1", table="ulog2_ct", procedure="INSERT_CT"), *_FLOWS)
    query = (
        "SELECT host(orig_ip_saddr_str), host(reply_ip_daddr_str), reply_l4_dport, reply_raw_pktlen, icmp_type, "
        "ct_event FROM ulog2_ct"
    )
    assert set(postgres_db.rows(query)) == {
        ("10.0.0.5", "198.51.100.7", 40001, 56789, None, 4),
        ("203.0.113.9", "203.0.113.9", 33333, 120, None, 4),
        ("10.0.0.5", "10.0.0.5", None, 168, 8, 4),
        ("fd00::5", "fd00::5", 40000, 2**40, None, 4),
        ("fd00::5", "fd00::5", None, 120, None, 4),
    }
    postgres_db.execute("DELETE FROM ulog2_ct")
    began = [replace(flow, event=NEW) for flow in (SNAT, ICMP, TCP6)]
    replacing = {"table": "ulog2_ct", "procedure": "INSERT_OR_REPLACE_CT"}
    store(pgsql(postgres_db, tmp_path / "2", **replacing), *began)
    assert {event for *_, event in postgres_db.rows(query)} == {NEW}
    store(pgsql(postgres_db, tmp_path / "3", **replacing), SNAT, ICMP, TCP6)
    assert set(postgres_db.rows(query)) == {
        ("10.0.0.5", "198.51.100.7", 40001, 56789, None, 4),
        ("10.0.0.5", "10.0.0.5", None, 168, 8, 4),
        ("fd00::5", "fd00::5", 40000, 2**40, None, 4),
    }


def test_the_function_of_ulogd2s_schema_for_mysql(mariadb_db: MariaDBDatabase, tmp_path: Path) -> None:
    mariadb_db.load_shipped("full")
    store(mysql(mariadb_db, tmp_path, table="conntrack", procedure="INSERT_CT"), *_FLOWS, by=IP2BIN)
    columns = "hex(orig_ip_saddr), hex(reply_ip_daddr), reply_l4_dport, reply_bytes, icmp_type"
    four, six = "0" * 20 + "FFFF", "FD00" + "0" * 27 + "5"
    assert set(mariadb_db.rows(f"SELECT {columns} FROM ulog2_ct")) == {
        (four + "0A000005", four + "C6336407", 40001, 56789, None),
        (four + "CB007109", four + "CB007109", 33333, 120, None),
        (four + "0A000005", four + "0A000005", None, 168, 8),
        (six, six, 40000, 2**40, None),
        (six, six, None, 120, None),
    }
