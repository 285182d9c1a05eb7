# SPDX-License-Identifier: GPL-2.0-or-later
"""Each way to store rows in PostgreSQL, with a real server: what arrives, in which order, and what is refused."""

from __future__ import annotations

import pytest

from nflowlevel.records.keys import Key, added_key, published_by
from nflowlevel.spool.sink import Refused, Unavailable
from nflowlevel.sql.columns import Column, match
from tests.fix_pgsql import MEMBERS, Open, forbid_temporary, session
from tests.fix_postgres import Postgres, PostgresDatabase, postgres, postgres_db

__all__ = ["postgres", "postgres_db", "session"]


# -- INSERT -----------------------------------------------------------------------------------------------------------

#: The largest and the least that each type of the shipped schemas holds, as rows have them and as they are read back.
_EXTREMES: dict[str, list[tuple[str, str]]] = {
    "bigint": [("9223372036854775807", "9223372036854775807"), ("-9223372036854775808", "-9223372036854775808")],
    "integer": [("2147483647", "2147483647"), ("-2147483648", "-2147483648")],
    "smallint": [("32767", "32767"), ("-32768", "-32768")],
    "boolean": [("1", "true"), ("0", "false")],
    "inet": [("255.255.255.255", "255.255.255.255/32"), ("fe80::ffff:10.1.2.3", "fe80::ffff:a01:203/128")],
    "macaddr": [("ff:ff:ff:ff:ff:ff", "ff:ff:ff:ff:ff:ff"), ("52:54:00:12:34:56", "52:54:00:12:34:56")],
}


def _extreme(column: Column, which: int) -> tuple[str, str]:
    if column.type == "character varying":
        text = ("\\N\t\n\r\b\f\v'\"$%é€😀" * 20)[: column.size] if which else "x" * (column.size or 0)
        return text, text
    return _EXTREMES[column.type][which]


@pytest.mark.parametrize("which", [0, 1])
def test_every_column_of_the_flat_schema(postgres_db: PostgresDatabase, session: Open, which: int) -> None:
    postgres_db.load_shipped("flat")
    one = session(table="ulog2").open()
    columns = [column for column in match(one.database.columns(), MEMBERS, arguments=False) if column.item]
    assert len(columns) == 59
    values = {column.item: _extreme(column, which) for column in columns}
    one.write({item: given for item, (given, _) in values.items()}, {})
    shown = ", ".join(f"{column.name}::text" for column in columns)
    full, empty = postgres_db.rows(f"select {shown} from ulog2 order by _id")
    assert dict(zip((column.item for column in columns), full, strict=True)) == {k: v for k, (_, v) in values.items()}
    assert set(empty) == {None}


def test_values_survive_as_they_are(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute("create table t (oob_prefix text, raw_pkt bytea, oob_time timestamptz, ip_saddr bigint)")
    one = session().open()
    odd = [
        *("", "\\", "\\N", "\\.", "a\tb\nc\rd\be\ff\vg", "\x01\x1f\x7f", "'; drop table t; --", "%s %(x)s {}"),
        *("é€😀\u202e\ufeff\ufffd", "x" * 3_000_000),
    ]
    one.write(*({"oob.prefix": text} for text in odd))
    assert [row[0] for row in postgres_db.rows("select oob_prefix from t")] == odd
    moment = "2026-11-23 23:40:13.123456+00"
    one.write({"raw.pkt": "\\x00ff5c09", "oob.time": moment, "ip.saddr:number": "4294967295"})
    assert postgres_db.rows(
        "select raw_pkt, oob_time at time zone 'UTC' = timestamp '2026-11-23 23:40:13.123456', ip_saddr "
        "from t where oob_prefix is null"
    ) == [(b"\x00\xff\x5c\x09", True, 4294967295)]


def test_defaults_and_numbers_of_the_table_are_its_own(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute(
        "create table t (_id bigserial, oob_mark int, note text default 'mine', n int generated always as identity)"
    )
    session().open().write({"oob.mark": "1"}, {"oob.mark": "2"})
    assert postgres_db.rows("select * from t") == [(1, 1, "mine", 1), (2, 2, "mine", 2)]


def test_insert_into_another_table(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute(
        "create schema s", "create table t (oob_mark int)", "create table s.u (oob_mark text, more int)"
    )
    session(procedure="insert into S.U").open().write({"oob.mark": "12"})
    assert postgres_db.rows("select * from s.u") == [("12", None)]
    assert postgres_db.count("t") == 0


#: Targets that COPY does not fill, or fills past what the table wants done.
_TARGETS = {
    "view": ("create table u (oob_mark int, ip_saddr_str inet)", "create view t as select * from u"),
    "trigger": (
        "create table u (oob_mark int, ip_saddr_str inet)",
        "create view t as select oob_mark, ip_saddr_str from u union select 1, null where false",
        "create function f() returns trigger language plpgsql as "
        "$$begin insert into u values (new.oob_mark, new.ip_saddr_str); return new; end$$",
        "create trigger t instead of insert on t for each row execute function f()",
    ),
    "rule": (
        "create table t (oob_mark int, ip_saddr_str inet)",
        "create table u (like t)",
        "create rule r as on insert to t do instead insert into u values (new.*)",
    ),
    "row security": (
        "create table u (oob_mark int, ip_saddr_str inet)",
        "alter table u enable row level security, force row level security",
        "create policy p on u using (true) with check (oob_mark < 100)",
        "create view t as select * from u",
    ),
    "partitions": (
        "create table t (oob_mark int, ip_saddr_str inet) partition by range (oob_mark)",
        "create table u partition of t for values from (0) to (1000)",
    ),
}


@pytest.mark.parametrize("temporary", [True, False])
@pytest.mark.parametrize("target", _TARGETS)
def test_insert_into_what_is_no_plain_table(
    postgres: Postgres, postgres_db: PostgresDatabase, session: Open, target: str, temporary: bool
) -> None:
    postgres_db.execute(*_TARGETS[target])
    if not temporary:
        forbid_temporary(postgres, postgres_db)
    one = session(table="u" if target == "row security" else "t").open()
    one.write({"oob.mark": "1", "ip.saddr.str": "10.0.0.1"}, {"oob.mark": "2"})
    one.write({"oob.mark": "3", "ip.saddr.str": "::1"})
    assert postgres_db.rows("select oob_mark, host(ip_saddr_str) from u") == [(1, "10.0.0.1"), (2, None), (3, "::1")]
    with pytest.raises(Refused):
        one.write({"oob.mark": "99"}, {"oob.mark": "2147483648"})
    one.write({"oob.mark": "4"})
    assert postgres_db.count("u") == 4


def test_a_statement_of_the_users_own(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute(
        'create table "my table" (oob_mark int, oob_prefix text)', "create table t (oob_mark int, oob_prefix text)"
    )
    one = session(procedure='INSERT INTO "my table" as "100%"').open()
    one.write({"oob.mark": "1", "oob.prefix": "\\N\t'"}, {})
    assert postgres_db.rows('select * from "my table"') == [(1, "\\N\t'"), (None, None)]
    with pytest.raises(Refused, match="out of range"):
        one.write({"oob.mark": "1"}, {"oob.mark": "2147483648"}, {"oob.mark": "3"})
    one.write({"oob.mark": "5"})
    assert postgres_db.rows('select oob_mark from "my table"') == [(1,), (None,), (5,)]


# -- functions and procedures -----------------------------------------------------------------------------------------

_PROTOCOLS = {
    "6": {
        "tcp.sport": "65535",
        "tcp.dport": "22",
        "tcp.seq": "4294967295",
        "tcp.ackseq": "1",
        "tcp.window": "64240",
        "tcp.urg": "0",
        "tcp.urgp": "0",
        "tcp.ack": "1",
        "tcp.psh": "0",
        "tcp.rst": "1",
        "tcp.syn": "1",
        "tcp.fin": "0",
    },
    "17": {"udp.sport": "53", "udp.dport": "65535", "udp.len": "32767"},
    "132": {"sctp.sport": "1", "sctp.dport": "65535", "sctp.csum": "32767"},
    "1": {
        "icmp.type": "8",
        "icmp.code": "0",
        "icmp.echoid": "65535",
        "icmp.echoseq": "65535",
        "icmp.gateway:number": "2147483647",
        "icmp.fragmtu": "1500",
    },
    "58": {
        "icmpv6.type": "128",
        "icmpv6.code": "0",
        "icmpv6.echoid": "65535",
        "icmpv6.echoseq": "1",
        "icmpv6.csum": "65535",
    },
}

_PACKET = {
    "oob.time.sec": "2147483647",
    "oob.time.usec": "999999",
    "oob.hook": "1",
    "oob.prefix": "tab\tand 'quote' é😀",
    "oob.mark": "2147483647",
    "oob.in": "eth0",
    "oob.family": "2",
    "ip.saddr.str": "10.77.0.2",
    "ip.daddr.str": "fe80::1",
    "ip.ttl": "255",
    "ip6.flowlabel": "1048575",
    "ip6.fragid": "4294967295",
    "raw.type": "1",
    "mac.str": "52:54:00:12:34:56:52:54:00:ab:cd:ef:08:00",
    "mac.saddr.str": "52:54:00:12:34:56",
    "mac.daddr.str": "52:54:00:ab:cd:ef",
    "oob.protocol": "2048",
    "raw.label": "255",
}


@pytest.mark.parametrize("temporary", [True, False])
def test_insert_packet_full(postgres: Postgres, postgres_db: PostgresDatabase, session: Open, temporary: bool) -> None:
    postgres_db.load_shipped("full")
    if not temporary:
        forbid_temporary(postgres, postgres_db)
    one = session(table="ulog", procedure="INSERT_PACKET_FULL").open()
    packets = [{**_PACKET, "ip.protocol": protocol, **own} for protocol, own in _PROTOCOLS.items()]
    one.write(*packets, {})
    one.write(packets[0])
    # The link's type and header are stored where it is not Ethernet.
    names = [item for item in one.layout if item not in ("raw.type", "mac.str")]
    shown = ", ".join(name.removesuffix(":number").replace(".", "_") + "::text" for name in names)
    found = postgres_db.rows(f"select {shown} from ulog order by _id")
    words = {"true": "1", "false": "0"}
    stored = [
        {
            k: words.get(v, v.removesuffix("/32").removesuffix("/128"))
            for k, v in zip(names, row, strict=True)
            if v is not None
        }
        for row in found
    ]
    expected = [{name: packet[name] for name in names if name in packet} for packet in [*packets, {}, packets[0]]]
    assert stored == expected
    assert postgres_db.count("mac") == 1
    assert postgres_db.count("hwhdr") == 1


def test_insert_packet_full_refuses_one_row(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.load_shipped("full")
    one = session(table="ulog", procedure="INSERT_PACKET_FULL").open()
    udp = {**_PACKET, "ip.protocol": "17", **_PROTOCOLS["17"]}
    with pytest.raises(Refused, match="smallint out of range") as refused:
        one.write(udp, {**udp, "udp.len": "32768"})
    assert refused.value.code == "22003"
    with pytest.raises(Refused, match="too long"):
        one.write({**udp, "oob.prefix": "x" * 33})
    one.write(udp)
    assert [postgres_db.count(table) for table in ("ulog2", "udp")] == [1, 1]


_FLOW_NAMES = (
    *("oob.family", "orig.ip.saddr.str", "orig.ip.daddr.str", "orig.ip.protocol", "orig.l4.sport", "orig.l4.dport"),
    *("orig.raw.pktlen", "orig.raw.pktcount", "reply.ip.saddr.str", "reply.ip.daddr.str", "reply.ip.protocol"),
    *("reply.l4.sport", "reply.l4.dport", "reply.raw.pktlen", "reply.raw.pktcount", "icmp.code", "icmp.type"),
    *("ct.mark", "flow.start.sec", "flow.start.usec", "flow.end.sec", "flow.end.usec", "ct.event"),
)
_FLOW_MEMBERS: list[tuple[str, Key]] = [(name, added_key(name, "string", "Of a flow.")) for name in _FLOW_NAMES]
_FLOW = {
    "oob.family": "2",
    "orig.ip.saddr.str": "10.0.0.1",
    "orig.ip.daddr.str": "10.0.0.2",
    "orig.ip.protocol": "6",
    "orig.l4.sport": "40000",
    "orig.l4.dport": "443",
    "ct.mark": "4294967295",
    "reply.ip.saddr.str": "10.0.0.2",
    "reply.ip.daddr.str": "10.0.0.1",
    "reply.ip.protocol": "6",
    "reply.l4.sport": "443",
    "reply.l4.dport": "40000",
}


@pytest.mark.parametrize("schema", ["flat", "full"])
def test_insert_ct(postgres_db: PostgresDatabase, session: Open, schema: str) -> None:
    postgres_db.load_shipped(schema)
    one = session(table="ulog2_ct", procedure="INSERT_CT", members=_FLOW_MEMBERS).open()
    assert one.layout == _FLOW_NAMES
    one.write({**_FLOW, "ct.event": "1"}, {**_FLOW, "ct.event": "4", "orig.raw.pktlen": "9223372036854775807"})
    assert postgres_db.rows(
        "select host(orig_ip_saddr_str), host(reply_ip_saddr_str), ct_mark, ct_event, orig_raw_pktlen from ulog2_ct"
    ) == [("10.0.0.1", "10.0.0.2", 2**32 - 1, 1, None), ("10.0.0.1", "10.0.0.2", 2**32 - 1, 4, 2**63 - 1)]


def test_insert_or_replace_ct_sees_the_rows_before_in_the_batch(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.load_shipped("full")
    one = session(table="ulog2_ct", procedure="INSERT_OR_REPLACE_CT", members=_FLOW_MEMBERS).open()
    one.write(
        {**_FLOW, "ct.event": "1"}, {**_FLOW, "ct.event": "4", "orig.raw.pktcount": "7"}, {**_FLOW, "ct.event": "1"}
    )
    assert postgres_db.rows("select ct_event, orig_raw_pktcount from ulog2_ct order by _ct_id") == [(4, 7), (1, None)]


def test_insert_nfacct_returns_nothing(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.load_shipped("full")
    members = [(key.name, key) for key in published_by("NFACCT")]
    one = session(table="nfacct", procedure="INSERT_NFACCT", members=members).open()
    assert one.layout == tuple(name for name, _ in members)
    counters = {"sum.pkts": "1", "sum.bytes": "2147483647", "oob.time.sec": "3", "oob.time.usec": "4"}
    one.write({"sum.name": "http", **counters}, {"sum.name": "dns", **counters})
    with pytest.raises(Refused, match="unique_acct") as refused:
        one.write({"sum.name": "http", **counters})
    assert refused.value.code == "23505"
    assert postgres_db.rows("select * from nfacct") == [("http", 1, 2**31 - 1, 3, 4), ("dns", 1, 2**31 - 1, 3, 4)]


#: Functions for a table t (oob_mark int, oob_prefix text, nobody text): head and last words of each.
_FUNCTIONS = {
    "plain": ("(mark int, prefix text, x text) returns int", "return 1;"),
    "default": ("(mark int, prefix text, x text, y int default 5) returns void", ""),
    "set": ("(mark int, prefix text, x text) returns setof int", "return next 1; return next 2;"),
    "record": ("(mark int, prefix text, x text, out a int, out b int)", "a = 1;"),
    "both ways": ("(mark int, prefix text, inout x text)", ""),
    "any": ("(mark int, prefix text, x anyelement) returns int", "return 1;"),
    "variadic": ("(mark int, prefix text, variadic words text[]) returns int", "return 1;"),
}


@pytest.mark.parametrize("kind", _FUNCTIONS)
def test_functions_of_all_sorts(postgres_db: PostgresDatabase, session: Open, kind: str) -> None:
    postgres_db.execute(
        "create table t (oob_mark int, oob_prefix text, nobody text)", "create table u (oob_mark int, oob_prefix text)"
    )
    head, last = _FUNCTIONS[kind]
    body = f"begin insert into u values (mark, prefix); {last} end"
    postgres_db.execute(f"create function f{head} language plpgsql as $${body}$$")
    one = session(procedure="F").open()
    if kind == "any":
        # All arguments have no type of their own where calls are made one by one: neither have they in ulogd2.
        with pytest.raises(Unavailable, match="could not determine polymorphic type"):
            one.write({"oob.mark": "1"})
        return
    one.write({"oob.mark": "1", "oob.prefix": "a"}, {"oob.mark": "2"}, {"oob.mark": "3", "oob.prefix": "%s"})
    assert postgres_db.rows("select * from u") == [(1, "a"), (2, None), (3, "%s")]
    with pytest.raises(Refused):
        one.write({"oob.mark": "4"}, {"oob.mark": "x"})
    one.write({"oob.mark": "5"})
    assert postgres_db.count("u") == 4


def test_a_name_with_several_meanings_is_left_to_the_server(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute("create table t (oob_mark int)", "create table u (sort text, mark text)")
    for sort in ("int", "inet"):
        postgres_db.execute(
            f"create function f(mark {sort}) returns void language sql "
            f"as $$insert into u values ('{sort}', mark::text)$$"
        )
    one = session(procedure="f").open()
    with pytest.raises(Unavailable, match=r"not unique.*42725"):
        one.write({"oob.mark": "1"})
    postgres_db.execute("drop function f(inet)")
    one.write({"oob.mark": "2"})
    assert postgres_db.rows("select * from u") == [("int", "2")]


@pytest.mark.parametrize("temporary", [True, False])
def test_procedures(postgres: Postgres, postgres_db: PostgresDatabase, session: Open, temporary: bool) -> None:
    postgres_db.execute(
        "create table t (oob_mark int, nobody int, \"odd $nflowlevel$ 'name'\" text, oob_prefix varchar(3))",
        "create table u (oob_mark int, oob_prefix text)",
        "create procedure Add(mark int, n int, o text, prefix varchar) language sql "
        "as 'insert into u values (mark, prefix)'",
    )
    members = [*MEMBERS, ("odd $nflowlevel$ 'name'", added_key("odd", "string", "A test's."))]
    if not temporary:
        forbid_temporary(postgres, postgres_db)
    one = session(procedure="call ADD", members=members).open()
    one.write({"oob.mark": "1", "oob.prefix": "abcd"}, {"oob.mark": "2", "odd $nflowlevel$ 'name'": "x"})
    assert postgres_db.rows("select * from u") == [(1, "abcd"), (2, None)]
    with pytest.raises(Refused, match="invalid input syntax"):
        one.write({"oob.mark": "x"})


def test_procedures_with_results_are_called_one_by_one(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute(
        "create table t (oob_mark int, nobody int)",
        "create table u (oob_mark int)",
        "create procedure add(mark int, inout n int) language plpgsql "
        "as $$ begin insert into u values (mark); n = 1; end $$",
    )
    session(procedure="CALL add").open().write({"oob.mark": "1"}, {"oob.mark": "2"})
    assert postgres_db.rows("select * from u") == [(1,), (2,)]


@pytest.mark.parametrize(
    ("procedure", "schema"),
    [("f", "s"), ("s.f", "public"), ("S.F", "s"), ('s."F"', "public"), ('"F"', "s"), ("s.f", "s")],
)
def test_functions_are_found_as_sql_finds_them(
    postgres_db: PostgresDatabase, session: Open, procedure: str, schema: str
) -> None:
    postgres_db.execute(
        "create schema s", f"create table {schema}.t (oob_mark int)", "create table public.u (which text)"
    )
    for name in ("f", '"F"'):
        postgres_db.execute(
            f"create function s.{name}(int) returns void language sql as $$insert into public.u values ('{name}')$$"
        )
    session(procedure=procedure, schema=schema).open().write({"oob.mark": "1"})
    assert postgres_db.rows("select which from public.u") == [('"F"' if '"' in procedure else "f",)]


def test_a_function_made_with_capitals_is_found(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute("create table t (oob_mark int)", "create table u (n int)")
    postgres_db.execute('create function "AddIt"(int) returns void language sql as $$insert into u values ($1)$$')
    session(procedure="AddIt").open().write({"oob.mark": "1"})
    assert postgres_db.count("u") == 1


@pytest.mark.parametrize(
    ("procedure", "says"),
    [
        ("g", r"no function g in the search path — create it"),
        ("CALL g", r"no procedure g in the search path"),
        ("p", r"p is a procedure — write procedure=\"CALL p\""),
        ("CALL f", r"f is a function — write procedure=\"f\""),
        ("f", r"f takes 2 or 4 to 5 arguments, but the option table has 1 columns"),
        ("CALL p", r"p takes 0 arguments, but the option table has 1 columns"),
    ],
)
def test_what_cannot_be_called_is_said_at_once(
    postgres_db: PostgresDatabase, session: Open, procedure: str, says: str
) -> None:
    postgres_db.execute(
        "create table t (oob_mark int)",
        "create function f(int, int) returns int language sql as 'select 1'",
        "create function f(int, int, int, int, int default 2) returns int language sql as 'select 1'",
        "create procedure p() language sql as 'select 1'",
    )
    with pytest.raises(Unavailable, match=says):
        session(procedure=procedure).open()
