# SPDX-License-Identifier: GPL-2.0-or-later
"""ulogd2's tables in a real PostgreSQL, with data in them, hold what they refused once the statements have run."""

from __future__ import annotations

from typing import Any

import pytest

from nflowlevel.records.keys import AS_NUMBER, published_by
from nflowlevel.spool.sink import Refused
from nflowlevel.sql.columns import match
from nflowlevel.sql.widen import Widening
from tests.fix_pgsql import MEMBERS, Open, Session, session
from tests.fix_postgres import PostgresDatabase, postgres, postgres_db

__all__ = ["postgres", "postgres_db", "session"]

_BASE = {
    "oob.time.sec": "1795460084",
    "oob.family": "2",
    "oob.prefix": "old",
    "oob.mark": "7",
    "raw.type": "1",
    "ip.saddr.str": "10.0.0.1",
    "ip.daddr.str": "10.0.0.2",
    "ip.totlen": "60",
    "oob.protocol": "2048",
    "mac.saddr.str": "52:54:00:12:34:56",
    "mac.daddr.str": "52:54:00:ab:cd:ef",
}
_UDP = {**_BASE, "ip.protocol": "17", "udp.sport": "1", "udp.dport": "2", "udp.len": "40"}
_SIX = {"oob.family": "10", "ip.saddr.str": "fd77::1", "ip.daddr.str": "fd77::2", "oob.protocol": "34525"}
#: What the shipped tables refuse (D-SC1), each in a row of its own.
_REFUSED = [
    {**_UDP, "oob.prefix": "x" * 127},
    {**_UDP, "oob.mark": "4294967295"},
    {**_UDP, "ip.totlen": "65535", "udp.len": "65535"},
    {**_UDP, "oob.time.sec": "4294967295"},
    {**_BASE, **_SIX, "ip.protocol": "132", "sctp.sport": "1", "sctp.dport": "2", "sctp.csum": "4294967295"},
    {**_BASE, "ip.protocol": "1", "icmp.type": "5", "icmp.code": "1", f"icmp.gateway{AS_NUMBER}": "4278190081"},
    {**_BASE, "ip.protocol": "1", "icmp.type": "3", "icmp.code": "4", "icmp.fragmtu": "65535"},
]
_FORMS = [
    ("flat", "ulog2", "INSERT"),
    ("flat", "ulog", "INSERT"),
    ("flat", "ulog", "insert into ulog2"),
    ("full", "ulog", "INSERT_PACKET_FULL"),
]


def widening(one: Session) -> Widening:
    return one.database.widening(one.database.columns(), one.members)


def script(found: Widening) -> str:
    return "\n".join(found.statements) + "\n"


def views(database: PostgresDatabase) -> list[tuple[Any, ...]]:
    """Return all that is known of views, in the order of their names."""
    return database.rows(
        "select c.relname, pg_get_viewdef(c.oid), c.reloptions, pg_get_userbyid(c.relowner), obj_description(c.oid),"
        " array(select g::text from unnest(c.relacl) g order by 1),"
        " array(select a.attname || coalesce(a.attacl::text, '') || coalesce(col_description(c.oid, a.attnum), '')"
        "  from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 order by a.attnum),"
        " array(select pg_get_triggerdef(t.oid) from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal),"
        " array(select pg_get_ruledef(r.oid) from pg_rewrite r where r.ev_class = c.oid order by 1),"
        " array(select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef d where d.adrelid = c.oid)"
        " from pg_class c where c.relkind = 'v' and c.relnamespace = 'public'::regnamespace order by 1"
    )


def routines(database: PostgresDatabase) -> list[tuple[Any, ...]]:
    """Return what is known of functions but for their arguments, in the order of their names."""
    return database.rows(
        "select p.proname, p.prosrc, p.provolatile::text, p.prosecdef, p.proconfig, pg_get_userbyid(p.proowner),"
        " array(select g::text from unnest(p.proacl) g order by 1), obj_description(p.oid)"
        " from pg_proc p where p.pronamespace = 'public'::regnamespace order by 1, 2"
    )


@pytest.mark.parametrize(("which", "table", "procedure"), _FORMS)
def test_what_was_refused_is_stored(
    postgres_db: PostgresDatabase, session: Open, which: str, table: str, procedure: str
) -> None:
    postgres_db.load_shipped(which)
    one = session(table=table, procedure=procedure).open()
    one.write(_UDP, _UDP)
    for row in _REFUSED:
        with pytest.raises(Refused):
            one.write(row)
    before = postgres_db.rows("select * from ulog order by _id")
    before_views, before_routines = views(postgres_db), routines(postgres_db)
    found = widening(one)
    assert not found.remarks
    assert bool(found.problems) == (which == "full")
    # Looking has changed nothing.
    assert (views(postgres_db), routines(postgres_db)) == (before_views, before_routines)
    one.database.close()

    postgres_db.load(script(found))
    assert (views(postgres_db), routines(postgres_db)) == (before_views, before_routines)
    assert postgres_db.rows("select * from ulog order by _id") == before
    one = session(table=table, procedure=procedure).open()
    one.write(*_REFUSED)
    names = [column.name for column in match(one.database.columns(), MEMBERS, arguments=False)]
    # The link's type is not stored where there are addresses.
    items = [item for item in one.layout if not (which == "full" and item == "raw.type")]
    shown = ", ".join(f"{name}::text" for name, item in zip(names, one.layout, strict=True) if item in items)
    stored = postgres_db.rows(f"select {shown} from ulog order by _id")[len(before) :]
    wanted = [{**row} for row in _REFUSED]
    for row, values in zip(wanted, stored, strict=True):
        got = {item: value for item, value in zip(items, values, strict=True) if value is not None}
        got = {item: value.removesuffix("/32").removesuffix("/128") for item, value in got.items()}
        assert got == {item: value for item, value in row.items() if item in items}
    assert widening(one) == Widening([], [], [])


def test_all_that_belongs_to_a_view_comes_back(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.load_shipped("full")
    postgres_db.execute(
        'create view "my ""view""" with (security_barrier = true) as select oob_mark as "a b", oob_prefix from ulog',
        'create view above as select "a b" + 1 as c, count(*) from "my ""view""" group by 1',
        "comment on view ulog is 'it''s'",
        "comment on column ulog.oob_mark is 'of iptables'",
        "alter view ulog alter column oob_prefix set default 'none'",
        "grant select, insert on ulog to public",
        "grant select (oob_mark) on view_tcp to pg_monitor with grant option",
        "create function f() returns trigger language plpgsql as 'begin return new; end'",
        "create trigger t instead of insert on view_udp for each row execute function f()",
        "create rule r as on update to view_icmp do instead nothing",
        "comment on function insert_packet_full is 'all'",
        "revoke execute on function insert_sctp from public",
        "grant execute on function insert_sctp to pg_monitor",
        "alter function insert_icmp security definer",
        "alter function insert_ip_packet_full set work_mem = '1MB'",
    )
    before = views(postgres_db), routines(postgres_db)
    one = session(table="ulog", procedure="INSERT_PACKET_FULL").open()
    found = widening(one)
    one.database.close()
    postgres_db.load(script(found))
    assert (views(postgres_db), routines(postgres_db)) == before
    assert "ulog2" in found.statements[0]
    assert "is rewritten, and locked meanwhile: rows wait in the daemon" in found.statements[0]


def test_accounting(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.load_shipped("full")
    members = [(key.name, key) for key in published_by("NFACCT")]
    one = session(table="nfacct", procedure="INSERT_NFACCT", members=members).open()
    big = {"sum.name": "x", "sum.pkts": "2147483648", "sum.bytes": "9223372036854775807", "oob.time.sec": "4294967295"}
    with pytest.raises(Refused):
        one.write(big)
    found = widening(one)
    one.database.close()
    postgres_db.load(script(found))
    one = session(table="nfacct", procedure="INSERT_NFACCT", members=members).open()
    one.write(big)
    assert postgres_db.rows("select * from nfacct") == [("x", 2**31, 2**63 - 1, 2**32 - 1, None)]
    # There is one function of the name, and one meaning of a call.
    assert postgres_db.rows("select count(*) from pg_proc where proname = 'insert_nfacct'") == [(1,)]


def test_a_longer_text_rewrites_nothing(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute("create table t (oob_prefix varchar(32), oob_mark bigint)", "insert into t values ('a', 1)")
    one = session().open()
    found = widening(one)
    one.database.close()
    node = "select relfilenode::bigint from pg_class where relname = 't'"
    before = postgres_db.rows(node)
    assert "is locked for a moment" in found.statements[0]
    postgres_db.load(script(found))
    assert postgres_db.rows(node) == before
    assert postgres_db.rows("select * from t") == [("a", 1)]


def test_a_procedure_and_names_that_need_quotes(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.execute(
        'create schema "My logs"',
        'create table "My logs"."T" (oob_prefix varchar(3), oob_mark smallint)',
        'create view "My logs"."V" as select oob_prefix, oob_mark as "oob_MARK" from "My logs"."T"',
        'create procedure "My logs"."put it"("a b" varchar(3), inout m smallint default 3) language plpgsql as '
        '$$ begin insert into "T" values ($1, m); end $$',
    )
    options: dict[str, Any] = {"schema": "My logs", "table": "V", "procedure": 'CALL "My logs"."put it"'}
    one = session(**options).open()
    found = widening(one)
    # INOUT: its meaning for a caller is more than a type.
    assert found.remarks == ['"My logs"."put it" has arguments of a kind that is not understood: change it by hand']
    one.database.close()
    postgres_db.execute('drop procedure "My logs"."put it"')
    postgres_db.execute(
        'create procedure "My logs"."put it"("a b" varchar(3), m smallint default 3) language plpgsql as '
        '$$ begin insert into "My logs"."T" values ($1, m); end $$'
    )
    one = session(**options).open()
    found = widening(one)
    assert not found.remarks
    one.database.close()
    postgres_db.load(script(found))
    one = session(**options).open()
    one.write({"oob.prefix": "x" * 127, "oob.mark": "4294967295"})
    assert postgres_db.rows('select * from "My logs"."T"') == [("x" * 127, 2**32 - 1)]


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (("create view v as select oob_mark + 1 as oob_mark from t",), "oob_mark is computed by the view v: change"),
        (
            ("create materialized view m as select * from t", "create view v as select * from t"),
            "the materialized view public.m uses what is to be changed: drop it first",
        ),
        (("create view v as select null::text as oob_prefix, 1::boolean as oob_mark",), "change the column by hand"),
    ],
)
def test_what_no_statement_does(
    postgres_db: PostgresDatabase, session: Open, statements: tuple[str, ...], said: str
) -> None:
    postgres_db.execute("create table t (oob_mark integer)", *statements)
    one = session(table="v")
    one.database.connect()
    found = widening(one)
    assert not found.statements
    assert said in found.remarks[0]


def test_a_user_who_may_only_insert(postgres_db: PostgresDatabase, session: Open) -> None:
    postgres_db.load_shipped("flat")
    # The owner's rights are taken away: the statements come from the catalogue alone.
    postgres_db.execute("revoke all on ulog, ulog2 from ulog", "grant insert on ulog to ulog")
    one = session(table="ulog")
    one.database.connect()
    found = widening(one)
    assert any(text.startswith("ALTER TABLE public.ulog2") for text in found.statements)


def test_several_functions_of_a_name(postgres_db: PostgresDatabase, session: Open) -> None:
    body = "language sql as 'select 1'"
    postgres_db.execute(
        "create table t (oob_mark bigint)",
        f"create function f(a integer) returns integer {body}",
        f"create function f(a text) returns integer {body}",
    )
    one = session(procedure="f")
    one.database.connect()
    assert widening(one).remarks == ["f is not one function with so many arguments: change it by hand"]
