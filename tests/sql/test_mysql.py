# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows reach a real MariaDB as they are, each once: forms, types, what it refuses, and connections that break."""

from __future__ import annotations

import contextlib
import datetime
import gc
import ipaddress
import logging
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pymysql
import pytest

from nflowlevel.errors import NotSupported
from nflowlevel.outputs.mysql import MYSQLOptions
from nflowlevel.records.keys import BY_NAME
from nflowlevel.records.render import CopyPlan
from nflowlevel.spool.rows import Rows
from nflowlevel.spool.sink import Moved, Refused, Unavailable
from nflowlevel.sql import copytext, mysql
from nflowlevel.sql.columns import INTEGER_BITS, Column, match, plan_members
from nflowlevel.sql.copytext import escape
from nflowlevel.sql.database import schema
from nflowlevel.sql.mysql import MySQLDatabase
from nflowlevel.sql.options import statement
from tests.corpus import frames
from tests.fix_decoder import decode
from tests.fix_mariadb import MariaDB, MariaDBDatabase, mariadb, mariadb_db
from tests.fix_proxy import Proxy
from tests.fix_server import PASSWORD
from tests.messages import message_of

__all__ = ["mariadb", "mariadb_db"]

WRITER = "test-writer"
MEMBERS = tuple(BY_NAME.items())

Row = Mapping[str, str | None]


class Session:
    """A database under test as the writer's thread uses it, and the number of the last row that it has stored."""

    def __init__(self, options: MYSQLOptions) -> None:
        self.options = options
        self.database = MySQLDatabase(options)
        self.number = 0
        self.at: int | None = None
        self.columns: list[Column] = []

    def open(self) -> Session:
        """Connect, and prepare the statement; again after an error."""
        self.database.connect()
        arguments = statement(self.options.procedure, self.options.table).form in ("select", "call")
        self.columns = match(self.database.columns(), MEMBERS, arguments=arguments)
        self.database.prepare(self.columns)
        self.at = self.database.ledger(WRITER)
        return self

    @property
    def layout(self) -> tuple[str, ...]:
        return tuple(column.item for column in self.columns if column.item)

    def rows(self, *values: Row) -> Rows:
        """Return rows with the next numbers."""
        unknown = {key for row in values for key in row} - set(self.layout)
        assert not unknown, "no column for them"
        lines = ["\t".join(escape(row.get(item)) for item in self.layout) + "\n" for row in values]
        return Rows(self.layout, self.number + 1, len(values), "".join(lines).encode())

    def write(self, *values: Row) -> None:
        """Store rows, all or none."""
        rows = self.rows(*values)
        self.database.write(rows, WRITER, self.at)
        self.done(rows)

    def done(self, rows: Rows) -> None:
        self.number = rows.last
        self.at = None if self.at is None else rows.last


Make = Callable[..., Session]


@pytest.fixture
def make(mariadb_db: MariaDBDatabase) -> Iterator[Make]:
    """Make sessions with the fresh database; table `t` unless said otherwise."""
    with contextlib.ExitStack() as sessions:

        def made(**more: Any) -> Session:
            session = Session(options_for(mariadb_db, **more))
            sessions.callback(session.database.close)
            return session

        yield made


def options_for(database: MariaDBDatabase, **more: Any) -> MYSQLOptions:
    settings = {"host": database.host, "port": database.port, "user": database.user, "pass_": database.password}
    return MYSQLOptions(**{"db": database.name, "table": "t", "timeout": 20, **settings, **more})


def texts(database: MariaDBDatabase, column: str = "oob_prefix", table: str = "t") -> list[Any]:
    return [value for (value,) in database.rows(f"select {column} from {table} order by id")]


PREFIXES = "create table t (id int auto_increment primary key, oob_prefix varchar(32) character set utf8mb4, "
PREFIXES_ONLY = PREFIXES.rstrip(", ") + ")"


# -- the shipped schemas ----------------------------------------------------------------------------------------------


def row(words: str, more: Row | None = None) -> Row:
    """Return a row given as `key=value …`."""
    return {**dict(word.split("=") for word in words.split()), **(more or {})}


COMMON = row(
    "oob.time.sec=1795460084 oob.time.usec=190524 oob.hook=1 oob.mark=0 oob.in=eth0 oob.out= oob.family=2 "
    "oob.protocol=2048 raw.label=7 raw.type=1 ip.tos=0 ip.ttl=64 ip.totlen=60 ip.ihl=5 ip.csum=2616 ip.id=1 "
    "ip.fragoff=0 ip.saddr.bin=0x00000000000000000000ffff0a4d0002 ip.daddr.bin=0x00000000000000000000ffff0a4d0001 "
    "mac.saddr.str=02:77:00:00:00:02 mac.daddr.str=02:77:00:00:00:01",
    {"oob.prefix": "in: "},
)
TCP = row(
    "ip.protocol=6 tcp.sport=65535 tcp.dport=80 tcp.seq=4294967295 tcp.ackseq=0 tcp.window=64240 tcp.urgp=0 "
    "tcp.urg=0 tcp.ack=0 tcp.psh=0 tcp.rst=0 tcp.syn=1 tcp.fin=0",
    COMMON,
)
UDP = row("ip.protocol=17 udp.sport=53 udp.dport=65535 udp.len=65535", {**COMMON, "oob.mark": "4294967295"})
#: IPv6 without oob.protocol: the shipped schemas' column for it cannot hold 0x86dd.
ICMP6 = row(
    "oob.time.sec=4294967295 oob.family=10 ip.protocol=58 ip6.payloadlen=65535 ip6.priority=15 ip6.hoplimit=255 "
    "ip6.flowlabel=1048575 icmpv6.type=128 icmpv6.code=0 icmpv6.echoid=65535 icmpv6.echoseq=6 icmpv6.csum=65535 "
    "ip.saddr.bin=0xfd770000000000000000000000000002 ip.daddr.bin=0xfd770000000000000000000000000001 "
    "raw.type=65535 mac.str=02:77",
    {"oob.prefix": "\U0001f525 'x\\"},
)
SCTP = row("ip.protocol=132 sctp.sport=1 sctp.dport=65535 sctp.csum=4294967295")


def shown(column: Column, text: str | None) -> Any:
    """Return what a column must hold of a row's text."""
    if text is None:
        return None
    if column.type == "binary":
        return bytes.fromhex(text[2:])
    return int(text) if column.type in INTEGER_BITS else text


FORMS = [
    ("flat", "ulog2", "INSERT"),
    ("flat", "ulog", "INSERT"),
    ("flat", "ulog", "insert into ulog2"),
    ("full", "ulog", "INSERT_PACKET_FULL"),
]


@pytest.mark.parametrize(("which", "table", "procedure"), FORMS)
def test_shipped_schemas_take_our_rows(
    make: Make, mariadb_db: MariaDBDatabase, which: str, table: str, procedure: str
) -> None:
    mariadb_db.load_shipped(which)
    session = make(table=table, procedure=procedure).open()
    assert len(session.columns) == 59, "all but the row's own number"
    assert all(column.item for column in session.columns)
    samples: list[Row] = [TCP, UDP, ICMP6, SCTP]
    kept = samples
    if which == "full":
        # An argument of one of its procedures is a smallint; where there are addresses the link's type is not stored.
        samples[3] = {**SCTP, "sctp.csum": "65535"}
        kept = [{key: value for key, value in row.items() if (key, value) != ("raw.type", "1")} for row in samples]
    session.write(*samples)
    names = ", ".join(column.name for column in session.columns)
    for row, got in zip(kept, mariadb_db.rows(f"select {names} from ulog order by _id"), strict=True):
        wanted = {column.item: shown(column, row.get(column.item)) for column in session.columns}
        assert dict(zip(session.layout, got, strict=True)) == wanted


def limits(mariadb_db: MariaDBDatabase, table: str, procedure: str) -> dict[str, tuple[str, int]]:
    """Return what each column (or argument, by its place) can hold at most: type, and size of a text."""
    query = "select column_type, character_maximum_length from information_schema.columns where table_schema = %s "
    query += "and table_name = %s and column_name not in ('_id') order by ordinal_position"
    names = (mariadb_db.name, table)
    if procedure != "INSERT":
        query = "select dtd_identifier, character_maximum_length from information_schema.parameters "
        query += "where specific_schema = %s and specific_name = %s and ordinal_position > 0 order by ordinal_position"
        names = (mariadb_db.name, procedure)
    found = mariadb_db.rows(query, *names)
    columns = [name for (name, *_) in mariadb_db.rows(f"show columns from {table}") if name != "_id"]
    return {column: (kind, size) for column, (kind, size) in zip(columns, found, strict=True)}


def most(kind: str, size: int) -> tuple[str, str]:
    """Return the largest value of a type, and one that is too large."""
    if kind.startswith("binary"):
        return "0x" + "ff" * 16, "0x" + "ff" * 17
    if kind.startswith("varchar"):
        return "\U0001f525" * size, "\U0001f525" * (size + 1)
    bits, signed = INTEGER_BITS[kind.partition("(")[0] + (" unsigned" if "unsigned" in kind else "")]
    return str(2 ** (bits - signed) - 1), str(2 ** (bits - signed))


#: Arguments that only some protocols store, behind narrower ones than they have themselves, or that have to fit others.
_NOT_ALONE = {"sctp_csum", "raw_type"}


@pytest.mark.parametrize(("which", "table", "procedure"), [FORMS[0], FORMS[3]])
def test_shipped_schemas_hold_what_fits_and_refuse_what_does_not(
    make: Make, mariadb_db: MariaDBDatabase, which: str, table: str, procedure: str
) -> None:
    """One value too large for each column in turn: that row is refused, and the next one arrives."""
    mariadb_db.load_shipped(which)
    session = make(table=table, procedure=procedure).open()
    extremes = {name: most(*limit) for name, limit in limits(mariadb_db, table, procedure).items()}
    largest: dict[str, str] = {}
    for column in session.columns:
        fits, too_large = extremes[column.name]
        if column.name == "mac_str" and which == "full":
            fits = fits[:255]  # the argument holds one more than the table
        with pytest.raises(Refused) as refused:
            session.write({column.item: too_large})
        assert refused.value.code in ("1264", "1406"), column.name
        session.write({column.item: fits})
        largest[column.item] = fits
    session.write(largest)
    names = ", ".join(column.name for column in session.columns)
    stored = mariadb_db.rows(f"select {names} from ulog order by _id")
    assert len(stored) == len(session.columns) + 1
    if which == "flat":
        assert stored[-1] == tuple(shown(column, largest[column.item]) for column in session.columns)
    for place, column in enumerate(session.columns):
        if which == "flat" or (column.name.startswith(("oob_", "ip")) and column.name != "oob_protocol"):
            assert stored[place][place] == shown(column, largest[column.item])


def test_shipped_flows(make: Make, mariadb_db: MariaDBDatabase) -> None:
    """INSERT_CT has an argument for each column of a view, each of them a key of flows; what a flow lacks is a null."""
    mariadb_db.load_shipped("full")
    session = make(table="conntrack", procedure="INSERT_CT").open()
    assert len(session.columns) == 22
    assert "" not in [column.item for column in session.columns]
    session.write({"oob.family": "10"}, {})
    assert mariadb_db.rows("select oob_family, orig_ip_saddr, orig_bytes from ulog2_ct order by _ct_id") == [
        (10, None, None),
        (None, None, None),
    ]


# -- forms ------------------------------------------------------------------------------------------------------------

ROUTINES = """
create table t (id int auto_increment primary key, oob_prefix varchar(32), nobody text default 'set', ip_ttl int);
create table `od``d` like t;
create table `50%` like t;
delimiter //
create procedure p(prefix varchar(32), nobody text, ttl int) begin
  insert into t (oob_prefix, nobody, ip_ttl) values (prefix, nobody, ttl); select 'a result';
  if ttl = 255 then signal sqlstate '45000' set message_text = 'after a result'; end if; select 'another'; end//
create function f(prefix varchar(32), nobody text, ttl int) returns int begin
  insert into t (oob_prefix, nobody, ip_ttl) values (prefix, nobody, ttl); return if(ttl = 2, null, ttl); end//
"""


@pytest.mark.parametrize(
    ("procedure", "table", "into"),
    [
        ("INSERT", "t", "t"),
        ("insert", "`t`", "t"),
        ("INSERT INTO `od``d`", "t", "`od``d`"),
        ("INSERT IGNORE INTO t", "t", "t"),
        ("INSERT IGNORE INTO `50%`", "t", "`50%`"),
        ("INSERT", "DB.t", "t"),
        ("INSERT", "`DB`.`od``d`", "`od``d`"),
        ("INSERT", "50%", "`50%`"),
        ("CALL p", "t", "t"),
        ("call DB.p", "t", "t"),
        ("f", "t", "t"),
        ("DB.f", "t", "t"),
    ],
)
def test_forms(make: Make, mariadb_db: MariaDBDatabase, procedure: str, table: str, into: str) -> None:
    mariadb_db.load(ROUTINES)
    session = make(
        procedure=procedure.replace("DB", mariadb_db.name), table=table.replace("DB", mariadb_db.name)
    ).open()
    values: list[Row] = [{"oob.prefix": f"%s {number} 'x", "ip.ttl": str(number)} for number in range(211)]
    session.write(*values[:210])
    session.write(values[210])
    # What no key fills keeps its default; an argument is a null.
    nobody = None if procedure.startswith(("CALL", "call", "f", "DB")) else "set"
    stored = mariadb_db.rows(f"select oob_prefix, nobody, ip_ttl from {into} order by id")
    assert stored == [(f"%s {number} 'x", nobody, number) for number in range(211)]
    assert session.database.ledger(WRITER) == 211


@pytest.mark.parametrize("procedure", ["INSERT", "CALL p", "f"])
def test_a_refused_row_leaves_nothing_of_its_batch(make: Make, mariadb_db: MariaDBDatabase, procedure: str) -> None:
    mariadb_db.load(ROUTINES)
    session = make(procedure=procedure).open()
    session.write({"oob.prefix": "first"})
    good: list[Row] = [{"oob.prefix": str(number)} for number in range(1, 1300)]
    with pytest.raises(Refused) as refused:
        session.write(*good, {"oob.prefix": "x" * 33}, *good)
    assert refused.value.code == "1406"
    assert "oob_prefix" in str(refused.value) or "prefix" in str(refused.value)
    assert texts(mariadb_db) == ["first"]
    assert session.database.ledger(WRITER) == 1
    session.write(*good)
    assert texts(mariadb_db) == ["first", *map(str, range(1, 1300))]


def test_an_error_after_a_result_is_not_overlooked(make: Make, mariadb_db: MariaDBDatabase) -> None:
    mariadb_db.load(ROUTINES)
    session = make(procedure="CALL p").open()
    for values in ([{"ip.ttl": "1"}, {"ip.ttl": "255"}], [{"ip.ttl": "255"}, {"ip.ttl": "1"}]):
        with pytest.raises(Refused, match="after a result"):
            session.write(*values)
    assert mariadb_db.count("t") == 0
    session.write({"ip.ttl": "1"})
    assert mariadb_db.count("t") == 1


def test_many_rows_go_in_one_statement(make: Make, mariadb_db: MariaDBDatabase) -> None:
    mariadb_db.load(ROUTINES)
    for procedure, what, per_statement in (("INSERT", "Com_insert", 500), ("f", "Com_select", 100)):
        session = make(procedure=procedure).open()
        session.number = session.at or 0
        before = statements(session, what)
        session.write(*[{"ip.ttl": "1"}] * 1_201)
        assert statements(session, what) - before == -(-1_201 // per_statement)
    assert mariadb_db.count("t") == 2_402


def statements(session: Session, name: str) -> int:
    assert session.database._connection
    with session.database._connection.cursor() as cursor:
        cursor.execute("show session status like %s", (name,))
        ((_, value),) = cursor.fetchall()
    return int(value)


def test_statements_keep_the_servers_limit(make: Make, mariadb: MariaDB, mariadb_db: MariaDBDatabase) -> None:
    mariadb_db.execute("create table t (id int auto_increment primary key, oob_prefix longtext, raw_pkt longblob)")
    with global_setting(mariadb, "max_allowed_packet", 16 * 1024):
        session = make().open()
    values: list[Row] = [{"oob.prefix": "'" * (number % 3000), "raw.pkt": r"\x00ff"} for number in range(1, 3001, 7)]
    session.write(*values)
    assert texts(mariadb_db) == [row["oob.prefix"] for row in values]
    # The server ends a connection that sends too much, so all that is allowed must pass, and nothing more be tried.
    with contextlib.suppress(Refused):
        for size in range(8_000, 8_300):
            session.write({"oob.prefix": "é" * size})
    assert size < 8_299
    with pytest.raises(Refused, match="max_allowed_packet") as refused:
        session.write({"oob.prefix": "é" * size})
    assert refused.value.code == "1153"
    session.write({"oob.prefix": "small"})
    assert texts(mariadb_db)[-1] == "small"


@contextlib.contextmanager
def global_setting(server: MariaDB, name: str, value: object) -> Iterator[None]:
    """Change a setting that sessions begin with."""
    with server.admin() as connection, connection.cursor() as cursor:
        cursor.execute(f"select @@global.{name}")
        ((before,),) = cursor.fetchall()
        cursor.execute(f"set global {name} = %s", (value,))
        try:
            yield
        finally:
            cursor.execute(f"set global {name} = %s", (before,))


# -- values -----------------------------------------------------------------------------------------------------------

TEXTS = [
    "plain",
    "",
    " blanks ",
    'it\'s "quoted" `back`',
    "back\\slash \\' \\\\ \\n \\N",
    "tab\tnewline\nreturn\rbell\b\v\f end",
    "%s %d %% %(x)s {0}",
    "-- ; /* */ # comment",
    "NULL",
    "\0 zero",
    "\x1a\x7f\x01",
    "ünïcödé",
    "\U0001f525\U0001f9d1\u200d\U0001f692 fire",
    "\u202eright to left \u0627\u0644",
    "e\u0301 \ufeff \ufffd \ufffe",
    "\U0010ffff",
    "0x41",
    "\\x41",
]


@pytest.mark.parametrize("sql_mode", ["STRICT_TRANS_TABLES", "", "NO_BACKSLASH_ESCAPES,ANSI_QUOTES", "TRADITIONAL"])
def test_texts_arrive_as_they_are(make: Make, mariadb: MariaDB, mariadb_db: MariaDBDatabase, sql_mode: str) -> None:
    mariadb_db.execute(PREFIXES + "oob_in varbinary(64), oob_out blob)")
    with global_setting(mariadb, "sql_mode", sql_mode):
        session = make().open()
    session.write(*({"oob.prefix": text, "oob.in": text, "oob.out": text} for text in TEXTS), {})
    assert texts(mariadb_db) == [*TEXTS, None]
    for column in ("oob_in", "oob_out"):
        assert texts(mariadb_db, column) == [*(text.encode() for text in TEXTS), None]


@pytest.mark.parametrize("sql_mode", ["", "ANSI_QUOTES"])
def test_nothing_is_cut_to_fit(make: Make, mariadb: MariaDB, mariadb_db: MariaDBDatabase, sql_mode: str) -> None:
    """Also where the server is not strict: what is cut in silence is lost in silence."""
    mariadb_db.execute(PREFIXES + "oob_mark int, oob_in varchar(9) character set latin1) engine=innodb")
    with global_setting(mariadb, "sql_mode", sql_mode):
        session = make().open()
    for values in ({"oob.mark": "2147483648"}, {"oob.prefix": "x" * 33}, {"oob.in": "\u2603"}, {"oob.in": "Ä" * 10}):
        with pytest.raises(Refused):
            session.write(values)
    session.write({"oob.mark": "2147483647", "oob.prefix": "x" * 32, "oob.in": "Ä" * 9})
    assert mariadb_db.rows("select oob_mark, oob_prefix, oob_in from t") == [(2147483647, "x" * 32, "Ä" * 9)]


INSTANT = "2026-11-23 23:59:59.999999"


@pytest.mark.parametrize(
    ("column", "key", "text", "value"),
    [
        ("oob_time datetime(6)", "oob.time", INSTANT + "+00", datetime.datetime.fromisoformat(INSTANT)),
        ("oob_time varchar(40)", "oob.time", INSTANT + "+00", INSTANT),
        ("ip_saddr binary(16)", "ip.saddr", "10.77.0.2", bytes(10) + b"\xff\xff\x0a\x4d\x00\x02"),
        ("ip_saddr binary(16)", "ip.saddr", "fd77::2", ipaddress.ip_address("fd77::2").packed),
        ("ip_saddr_str binary(16)", "ip.saddr.str", "::ffff:1.2.3.4", bytes(10) + b"\xff\xff\1\2\3\4"),
        ("ip_saddr_str varbinary(50)", "ip.saddr.str", "10.77.0.2", b"10.77.0.2"),
        ("ip_saddr int unsigned", "ip.saddr:number", "4294967295", 2**32 - 1),
        ("ip_saddr varchar(45)", "ip.saddr", "fd77::2", "fd77::2"),
        ("ip_saddr inet6", "ip.saddr", "fd77::2", "fd77::2"),
        ("ip_saddr inet6", "ip.saddr", "10.77.0.2", "::ffff:10.77.0.2"),
        ("ip_saddr inet4", "ip.saddr", "10.77.0.2", "10.77.0.2"),
        ("ip_saddr_bin inet6", "ip.saddr.bin", "0x" + "00" * 10 + "ffff0a4d0002", "::ffff:10.77.0.2"),
        (
            "ip_saddr_bin varbinary(16)",
            "ip.saddr.bin",
            "0x" + "00" * 10 + "ffff0a4d0002",
            bytes(10) + b"\xff\xff\nM\0\2",
        ),
        ("ip_saddr_bin varchar(40)", "ip.saddr.bin", "0x" + "00" * 16, "0x" + "00" * 16),
        ("raw_pkt longblob", "raw.pkt", r"\x" + bytes(range(256)).hex(), bytes(range(256))),
        ("raw_pkt blob", "raw.pkt", r"\x", b""),
        ("raw_pkt text", "raw.pkt", r"\x00ff", r"\x00ff"),
        ("arp_shwaddr binary(6)", "arp.shwaddr", r"\x0277000000ff", b"\x02w\0\0\0\xff"),
        ("tcp_syn boolean", "tcp.syn", "1", 1),
        ("tcp_syn bit(1)", "tcp.syn", "1", b"\1"),
        ("tcp_syn bit(1)", "tcp.syn", "0", b"\0"),
        ("tcp_syn enum('0','1')", "tcp.syn", "1", "1"),
        ("sum_bytes bigint unsigned", "sum.bytes", "18446744073709551615", 2**64 - 1),
        ("sum_bytes decimal(20)", "sum.bytes", "18446744073709551615", 2**64 - 1),
        ("sum_bytes varchar(20)", "sum.bytes", "18446744073709551615", str(2**64 - 1)),
        ("oob_mark mediumint unsigned", "oob.mark", "16777215", 2**24 - 1),
    ],
)
def test_values(make: Make, mariadb_db: MariaDBDatabase, column: str, key: str, text: str, value: object) -> None:
    name = column.split()[0]
    mariadb_db.execute(f"create table t (id int auto_increment primary key, {column})")
    session = make().open()
    session.write({key: text}, {key: None})
    assert texts(mariadb_db, name) == [value, None]
    # The same in a batch without any value.
    session.write({}, {})
    assert texts(mariadb_db, name)[2:] == [None, None]


def test_a_timestamp_is_the_instant(make: Make, mariadb_db: MariaDBDatabase) -> None:
    """The server's own zone is far from UTC."""
    mariadb_db.execute("create table t (id int auto_increment primary key, oob_time timestamp(6) null)")
    make().open().write({"oob.time": "2026-11-23 23:40:13.123456+00"})
    assert mariadb_db.value("select unix_timestamp(oob_time) from t") == Decimal("1795477213.123456")


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        ("bigint(20) unsigned not null auto_increment primary key", Column("c", "bigint unsigned", None, True)),
        ("int(10) unsigned zerofill", Column("c", "int unsigned")),
        ("varchar(32)", Column("c", "varchar", 32)),
        ("varbinary(16)", Column("c", "varbinary", 16)),
        ("text", Column("c", "text", 65535)),
        ("int generated always as (1) stored", Column("c", "int", None, True)),
        ("int generated always as (1) virtual", Column("c", "int", None, True)),
        ("timestamp not null default current_timestamp on update current_timestamp", Column("c", "timestamp")),
        ("inet6", Column("c", "inet6")),
        ("double", Column("c", "double")),
    ],
)
def test_columns(make: Make, mariadb_db: MariaDBDatabase, kind: str, column: Column) -> None:
    mariadb_db.execute(f"create table t (c {kind}, other int)")
    session = make()
    session.database.connect()
    assert session.database.columns() == [column, Column("other", "int")]


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "values", "code"),
    [
        ("oob_mark int not null", {}, "1048"),
        ("oob_mark int unique", {"oob.mark": "7"}, "1062"),
        ("oob_mark int references other(id), foreign key (oob_mark) references other(id)", {"oob.mark": "8"}, "1452"),
        ("oob_mark int, check (oob_mark <> 9)", {"oob.mark": "9"}, "4025"),
        ("oob_mark int", {"oob.mark": "4294967295"}, "1264"),
        ("oob_mark enum('a')", {"oob.mark": "1000"}, "1265"),
        ("oob_mark date", {"oob.mark": "1"}, "1292"),
        ("oob_mark inet4", {"oob.mark": "1"}, "1292"),
        ("oob_prefix varchar(3)", {"oob.prefix": "four"}, "1406"),
        ("oob_prefix int", {"oob.prefix": "four"}, "1366"),
        ("oob_prefix varchar(9) character set utf8mb3", {"oob.prefix": "\U0001f525"}, "1366"),
        ("oob_prefix text, check (json_valid(oob_prefix))", {"oob.prefix": "{"}, "4025"),
        ("oob_mark int) partition by list (oob_mark) (partition p values in (7)", {"oob.mark": "6"}, "1526"),
    ],
)
def test_refused(make: Make, mariadb_db: MariaDBDatabase, table: str, values: Row, code: str) -> None:
    mariadb_db.execute("create table other (id int primary key)", "insert into other values (7)")
    mariadb_db.execute(f"create table t ({table})")
    session = make().open()
    fits = {"oob.mark": "7"} if "oob.mark" in session.layout else {"oob.prefix": "7"}
    if "date" in table or "enum" in table or "inet4" in table:
        fits = {}
    elif "json_valid" not in table:
        session.write(fits)
    with pytest.raises(Refused) as refused:
        session.write(values)
    assert refused.value.code == code
    assert not refused.value.retryable
    stored = mariadb_db.count("t")
    if code == "1062":
        fits = {}
    session.write(fits)
    assert mariadb_db.count("t") == stored + 1


@pytest.mark.parametrize(("number", "code"), [("", "1644"), (", mysql_errno = 5001", "5001")])
def test_refused_by_a_trigger(make: Make, mariadb_db: MariaDBDatabase, number: str, code: str) -> None:
    if number and not hasattr(pymysql.err.Error(), "sqlstate"):
        pytest.skip(
            f"PyMySQL {pymysql.__version__} does not tell the SQLSTATE: there a trigger must not choose a number"
        )
    mariadb_db.execute(
        PREFIXES_ONLY,
        "create trigger no before insert on t for each row if new.oob_prefix = 'no' then "
        f"signal sqlstate '45000' set message_text = 'not this one'{number}; end if",
    )
    session = make().open()
    with pytest.raises(Refused, match="not this one") as refused:
        session.write({"oob.prefix": "yes"}, {"oob.prefix": "no"})
    assert refused.value.code == code
    session.write({"oob.prefix": "yes"})
    assert texts(mariadb_db) == ["yes"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("drop table t", ["1146", "nflowlevel sql init"]),
        ("alter table t drop column oob_prefix", ["1054"]),
        ("alter table t add column new int not null", ["1364"]),
        ("drop function f", ["1305"]),
        ("drop table nflowlevel_ledger", ["1146", "nflowlevel_ledger"]),
    ],
)
def test_what_can_be_mended_is_waited_for(
    make: Make, mariadb_db: MariaDBDatabase, change: str, words: Sequence[str]
) -> None:
    mariadb_db.load(ROUTINES)
    session = make(procedure="f" if "function" in change else "INSERT").open()
    mariadb_db.execute(change)
    with pytest.raises(Unavailable) as error:
        session.write({"oob.prefix": "x"})
    for word in [*words, mariadb_db.name]:
        assert word in str(error.value)
    assert error.value.retryable


def test_a_table_that_is_not_there(make: Make) -> None:
    session = make(table="nowhere")
    session.database.connect()
    with pytest.raises(Unavailable, match=r"table nowhere of MySQL .* does not exist.*sql init"):
        session.database.columns()


def test_a_full_table(make: Make, mariadb: MariaDB, mariadb_db: MariaDBDatabase) -> None:
    mariadb_db.execute("set session max_heap_table_size = 16384", PREFIXES_ONLY + " engine=memory")
    session = make().open()
    with pytest.raises(Unavailable, match=r"is full.*1114.*make room"):
        session.write(*[{"oob.prefix": "x"}] * 10_000)


def test_a_lock_is_not_waited_for_for_ever(make: Make, mariadb: MariaDB, mariadb_db: MariaDBDatabase) -> None:
    mariadb_db.execute(PREFIXES_ONLY)
    with global_setting(mariadb, "innodb_lock_wait_timeout", 2):
        # A statement may take longer than connecting.
        session = make(connect_timeout=1).open()
    with mariadb.admin(mariadb_db.name) as connection, connection.cursor() as cursor:
        cursor.execute("begin")
        cursor.execute("select * from nflowlevel_ledger for update")
        with pytest.raises(Unavailable, match="1205"):
            session.write({"oob.prefix": "x"})
        cursor.execute("rollback")
    session.write({"oob.prefix": "x"})
    assert texts(mariadb_db) == ["x"]


# -- the ledger -------------------------------------------------------------------------------------------------------


def test_the_ledger_moves_with_the_rows(make: Make, mariadb_db: MariaDBDatabase) -> None:
    mariadb_db.execute(PREFIXES_ONLY)
    session = make().open()
    assert session.at == 0
    session.write({"oob.prefix": "1"}, {"oob.prefix": "2"})
    assert make().open().at == 2
    session.database.skip(3, WRITER, 2)
    assert session.database.ledger(WRITER) == 3
    assert session.database.ledger("another") == 0
    assert mariadb_db.rows("select writer, `row` from nflowlevel_ledger order by writer") == [
        ("another", 0),
        (WRITER, 3),
    ]


def test_a_ledger_that_has_moved_stops_the_write(make: Make, mariadb_db: MariaDBDatabase) -> None:
    mariadb_db.execute(PREFIXES_ONLY)
    session = make().open()
    mariadb_db.execute("update nflowlevel_ledger set `row` = 5")
    with pytest.raises(Moved):
        session.write({"oob.prefix": "x"})
    with pytest.raises(Moved):
        session.database.skip(1, WRITER, 0)
    assert texts(mariadb_db) == []
    assert session.database.ledger(WRITER) == 5
    session.number = session.at = 5
    session.write({"oob.prefix": "x"})
    assert texts(mariadb_db) == ["x"]


def test_without_the_right_to_a_ledger_rows_arrive_all_the_same(
    make: Make, mariadb: MariaDB, mariadb_db: MariaDBDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    mariadb_db.execute(PREFIXES_ONLY)
    with mariadb.admin() as connection, connection.cursor() as cursor:
        cursor.execute("create user poor@'127.0.0.1'")
        cursor.execute(f"grant select, insert on {mariadb_db.name}.t to poor@'127.0.0.1'")
        try:
            session = make(user="poor", pass_="").open()
            assert session.at is None
            session.open()
            assert len([record for record in caplog.records if "may come twice" in record.message]) == 1
            session.write({"oob.prefix": "x"})
            session.database.close()
        finally:
            cursor.execute("drop user poor@'127.0.0.1'")
    assert texts(mariadb_db) == ["x"]


# -- connections that break -------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(mariadb: MariaDB) -> Iterator[Proxy]:
    with Proxy(mariadb.port) as proxy:
        yield proxy


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("when", ["before", "after", "answer"])
@pytest.mark.parametrize("token", [b"UPDATE", b"INSERT", b"COMMIT"])
def test_each_row_once_wherever_the_connection_is_cut(
    make: Make, mariadb_db: MariaDBDatabase, proxy: Proxy, token: bytes, when: Any, how: Any
) -> None:
    mariadb_db.execute(PREFIXES_ONLY)
    session = make(port=proxy.port).open()
    session.write({"oob.prefix": "0"})
    rows = session.rows(*({"oob.prefix": str(number)} for number in range(1, 24)))
    proxy.cut_at(token, when, how=how)
    with pytest.raises(Unavailable, match=r"Lost connection|gone away"):
        session.database.write(rows, WRITER, session.at)
    proxy.wait_fired()
    store_again(session, rows)
    assert texts(mariadb_db) == [str(number) for number in range(24)]


def store_again(session: Session, rows: Rows) -> None:
    """Do what the writer does after an error: connect, ask the ledger, store what is not in."""
    for _ in range(3):
        session.open()
        assert session.at is not None
        rest = rows.after(session.at)
        try:
            if rest:
                session.database.write(rest, WRITER, session.at)
        except Moved:
            continue
        return
    pytest.fail("the ledger moves for ever")


def test_a_transaction_that_the_network_swallowed_is_ended_by_the_server(
    make: Make, mariadb_db: MariaDBDatabase, proxy: Proxy
) -> None:
    """Its lock on the ledger would keep us waiting until the server finds out that the client has gone: hours."""
    mariadb_db.execute(PREFIXES_ONLY)
    session = make(port=proxy.port, timeout=4).open()
    rows = session.rows({"oob.prefix": "x"})
    proxy.cut_at(b"COMMIT", "before", how="stall")
    with pytest.raises(Unavailable, match="timed out"):
        session.database.write(rows, WRITER, session.at)
    session = make().open()
    session.database.write(rows, WRITER, session.at)
    proxy.release()
    assert texts(mariadb_db) == ["x"]


def test_a_server_that_hangs_is_given_up(make: Make, mariadb: MariaDB, mariadb_db: MariaDBDatabase) -> None:
    mariadb_db.execute(PREFIXES_ONLY)
    session = make(timeout=4).open()
    mariadb.pause()
    with pytest.raises(Unavailable, match="timed out"):
        session.write({"oob.prefix": "x"})
    mariadb.resume()
    store_again(session, session.rows({"oob.prefix": "x"}))
    assert texts(mariadb_db) == ["x"]


def test_a_server_that_accepts_and_never_answers(make: Make, proxy: Proxy) -> None:
    proxy.stall()
    session = make(port=proxy.port, connect_timeout=1, timeout=600)
    with pytest.raises(Unavailable, match=r"connect to MySQL .*timed out"):
        session.database.connect()


@pytest.mark.parametrize("state", ["connecting", "writing"])
def test_abort_ends_a_wait(make: Make, mariadb: MariaDB, mariadb_db: MariaDBDatabase, state: str) -> None:
    mariadb_db.execute(PREFIXES_ONLY)
    session = make(timeout=600, connect_timeout=600)
    if state == "writing":
        session.open()
    mariadb.pause()
    failures: list[Exception] = []
    started = threading.Event()

    def waits() -> None:
        started.set()
        try:
            session.database.connect() if state == "connecting" else session.write({"oob.prefix": "x"})
        except Unavailable as error:
            failures.append(error)

    thread = threading.Thread(target=waits)
    thread.start()
    started.wait()
    while thread.is_alive():  # it may not have come to wait yet
        session.database.abort()
        thread.join(0.05)
    assert len(failures) == 1
    mariadb.resume()
    store_again(session, session.open().rows({"oob.prefix": "x"}))
    assert texts(mariadb_db) == ["x"]


def test_the_session_was_ended_by_an_administrator(make: Make, mariadb: MariaDB, mariadb_db: MariaDBDatabase) -> None:
    mariadb_db.execute(PREFIXES_ONLY)
    session = make().open()
    mariadb.terminate_backends()
    rows = session.rows({"oob.prefix": "x"})
    with pytest.raises(Unavailable):
        session.database.write(rows, WRITER, session.at)
    store_again(session, rows)
    assert texts(mariadb_db) == ["x"]


def test_close_and_abort_never_raise(make: Make, mariadb: MariaDB, mariadb_db: MariaDBDatabase) -> None:
    mariadb_db.execute(PREFIXES_ONLY)
    session = make()
    session.database.abort()
    session.database.close()
    session.open()
    mariadb.stop("kill")
    session.database.abort()
    session.database.close()
    session.database.close()
    session.database.abort()
    with pytest.raises(Unavailable, match="not connected"):
        session.write({"oob.prefix": "x"})
    mariadb.start()


# -- logging in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"pass_": PASSWORD + "é€"}, ["1045", "Access denied", "check user and pass"]),
        ({"user": "nobody"}, ["1045"]),
        ({"db": "nowhere"}, ["nowhere"]),
        ({"host": "/nowhere/socket", "port": 0}, ["2003", "/nowhere/socket", "is it running"]),
        ({"port": 1}, ["2003", "is it running"]),
        ({"host": "nowhere.invalid"}, ["2003"]),
        ({"option_file": "/nowhere/my.cnf"}, ["cannot read option_file /nowhere/my.cnf"]),
    ],
)
def test_why_it_cannot_connect(make: Make, more: Mapping[str, Any], words: Sequence[str]) -> None:
    session = make(**more)
    said = why_not(session)
    for word in [*words, "connect to MySQL"]:
        assert word in said
    for secret in (PASSWORD, PASSWORD.encode("unicode_escape").decode(), repr(PASSWORD)[1:-1]):
        assert secret not in said + session.database.shown


def why_not(session: Session) -> str:
    """Return all that the failure to connect says."""
    try:
        session.database.connect()
    except Unavailable as error:
        said = f"{error} {error.__cause__!r}"
    with warnings.catch_warnings():
        # PyMySQL leaves a Unix socket that nobody answers to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return said


def test_a_server_that_is_none(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        session = make(port=other.getsockname()[1])

        def answer() -> None:
            client, _ = other.accept()
            with client:
                client.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unavailable, match="connect to MySQL"):
            session.database.connect()
        thread.join()


def test_localhost_is_the_unix_socket(make: Make, mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql, "_SOCKETS", ("/nowhere/socket", str(mariadb.socket)))
    for host in ("localhost", "", str(mariadb.socket)):
        session = make(host=host, port=0)
        session.database.connect()
        assert session.database._connection
        assert "UNIX" in session.database._connection.host_info
    for host in ("localhost", ""):
        session = make(host=host)
        session.database.connect()
        assert session.database._connection
        assert str(mariadb.port) in session.database._connection.host_info


def test_an_option_file_says_what_the_options_do_not(
    make: Make, mariadb: MariaDB, mariadb_db: MariaDBDatabase, tmp_path: Path
) -> None:
    secret = "in the file"
    file = tmp_path / "my.cnf"
    file.write_text(f"[client]\nuser = filed\npassword = {secret}\nsocket = {mariadb.socket}\n")
    with mariadb.admin() as connection, connection.cursor() as cursor:
        cursor.execute("create user filed@localhost identified by %s", (secret,))
        cursor.execute(f"grant all on {mariadb_db.name}.* to filed@localhost")
        try:
            session = make(option_file=str(file), host="", port=0, user="", pass_="")
            session.database.connect()
            assert session.database._connection
            assert "UNIX" in session.database._connection.host_info
            session.database.close()
        finally:
            cursor.execute("drop user filed@localhost")


@pytest.mark.parametrize("text", [f"password={PASSWORD}\n", f"[client\npassword={PASSWORD}\n", "[client]\nport=x\n"])
def test_an_option_file_that_is_none(make: Make, tmp_path: Path, text: str) -> None:
    file = tmp_path / "my.cnf"
    file.write_text(text)
    session = make(option_file=str(file), host="", port=0, user="", pass_="")
    said = why_not(session)
    assert "connect to MySQL" in said
    assert "must be like a my.cnf" in said or "'x'" in said
    assert PASSWORD not in said


def test_without_pymysql_it_says_what_to_install(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql.connections", None)
    with pytest.raises(NotSupported, match="python3-pymysql"):
        make().database.connect()


# -- tables without transactions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["MyISAM", "Aria"])
@pytest.mark.parametrize("ledger", [True, False])
def test_without_transactions_no_row_comes_twice_because_of_another(
    make: Make, mariadb_db: MariaDBDatabase, caplog: pytest.LogCaptureFixture, engine: str, ledger: bool
) -> None:
    caplog.set_level(logging.INFO)
    mariadb_db.execute(f"{PREFIXES_ONLY} engine={engine}")
    session = make().open()
    session.open()
    said = [record.message for record in caplog.records if f"t ({engine}) without transactions" in record.message]
    assert len(said) == 1, "once, not at each connect"
    if not ledger:
        session.at = None
    values: list[Row] = [{"oob.prefix": str(number) if number % 7 else "x" * 33} for number in range(1, 24)]
    store_by_halves(session, session.rows(*values))
    assert texts(mariadb_db) == [str(number) for number in range(1, 24) if number % 7]
    if ledger:
        assert session.database.ledger(WRITER) == 23


def store_by_halves(session: Session, rows: Rows) -> None:
    """Store what goes in, as the writer does."""
    try:
        session.database.write(rows, WRITER, session.at)
        session.done(rows)
    except Refused:
        if rows.count > 1:
            for part in rows.split(rows.count // 2):
                store_by_halves(session, part)
            return
        if session.at is not None:
            session.database.skip(rows.first, WRITER, session.at)
        session.done(rows)


def test_behind_a_function_any_table_may_be_meant(
    make: Make, mariadb_db: MariaDBDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    mariadb_db.load(ROUTINES)
    mariadb_db.execute("create table archive (id int) engine=myisam")
    make().open()
    assert "without transactions" not in caplog.text, "INSERT does not touch the archive"
    session = make(procedure="f").open()
    assert "archive (MyISAM) without transactions" in caplog.text
    # What f does can be undone after all: what is counted as stored must be committed.
    values: list[Row] = [{"oob.prefix": str(number) if number != 5 else "x" * 33} for number in range(1, 8)]
    store_by_halves(session, session.rows(*values))
    assert texts(mariadb_db) == ["1", "2", "3", "4", "6", "7"]


@pytest.mark.parametrize("when", ["before", "after", "answer"])
@pytest.mark.parametrize("token", [b"UPDATE", b"INSERT", b"COMMIT"])
def test_without_transactions_one_row_at_most_comes_twice(
    make: Make, mariadb_db: MariaDBDatabase, proxy: Proxy, token: bytes, when: Any
) -> None:
    mariadb_db.execute(f"{PREFIXES_ONLY} engine=myisam")
    session = make(port=proxy.port).open()
    rows = session.rows(*({"oob.prefix": str(number)} for number in range(23)))
    proxy.cut_at(token, when, occurrence=12)
    with pytest.raises(Unavailable):
        session.database.write(rows, WRITER, session.at)
    store_again(session, rows)
    wanted = [str(number) for number in range(23)]
    twice = (token == b"COMMIT" and when == "before") or (token == b"INSERT" and when != "before")
    assert texts(mariadb_db) == [*wanted[:12], *wanted[11 if twice else 12 :]]


# -- the script of `sql init` -----------------------------------------------------------------------------------------


def test_run_executes_each_statement(make: Make, mariadb_db: MariaDBDatabase) -> None:
    session = make()
    session.database.connect()
    session.database.run(
        "-- a comment; with one\ncreate table a (x text default 'a;b');\n\n  -- another\n"
        "create table b (\n  y int\n);\ninsert into b values\n(1), (2);"
    )
    assert mariadb_db.count("b") == 2
    assert mariadb_db.count("a") == 0
    with pytest.raises(Unavailable, match="create tables in MySQL"):
        session.database.run("create table b (y int);")


def test_our_own_schema_takes_all_that_packets_have(make: Make, mariadb_db: MariaDBDatabase) -> None:
    """Every message of the samples, of any protocol and with odd names: nothing is refused, every value is there."""
    session = make(table="packets")
    session.database.connect()
    session.database.run(schema("mysql.sql") + schema("mysql-ledger.sql"))
    session.database.run(schema("mysql.sql") + schema("mysql-ledger.sql"))
    session.open()
    plan = CopyPlan(plan_members(session.layout, MEMBERS))
    batch = decode([message_of(frame, prefix="\U0001f525 '\\".encode()) for frame in frames()]).batch
    ((data, count),) = plan.render(batch.raw, batch.added)
    rows = Rows(session.layout, 1, count, data)
    session.database.write(rows, WRITER, 0)
    for column, wanted in zip(session.columns, copytext.columns(rows), strict=True):
        stored = mariadb_db.rows(f"select cast({column.name} as char) from packets order by _id")
        if column.item == "oob.time":
            wanted = [None if text is None else text.removesuffix("+00") for text in wanted]
        assert [text for (text,) in stored] == wanted, column.name
