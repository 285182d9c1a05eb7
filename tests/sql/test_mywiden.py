# SPDX-License-Identifier: GPL-2.0-or-later
"""ulogd2's tables in a real MariaDB, with data in them, hold what they refused once the statements have run."""

from __future__ import annotations

from typing import Any

import pytest

from nflowlevel.spool.sink import Refused
from nflowlevel.sql.widen import Widening
from tests.fix_mariadb import MariaDB, MariaDBDatabase, mariadb, mariadb_db
from tests.sql.test_mysql import COMMON, FORMS, ICMP6, MEMBERS, SCTP, TCP, UDP, Make, Row, Session, make, shown

__all__ = ["make", "mariadb", "mariadb_db"]

#: What the shipped tables refuse, each in a row of its own; 34525 is IPv6.
_REFUSED: list[Row] = [
    {**ICMP6, "oob.protocol": "34525", "raw.type": "1", "mac.saddr.str": "a", "mac.daddr.str": "b"},
    {**TCP, "oob.prefix": "\U0001f525" * 127},
    {**UDP, "oob.prefix": "x" * 127, "oob.mark": "4294967295"},
    {**ICMP6, "ip6.fragoff": "65535"},
]
_FULL_REFUSED: list[Row] = [*_REFUSED, {**COMMON, **SCTP, "oob.prefix": "sctp"}]


def widening(session: Session) -> Widening:
    return session.database.widening(session.database.columns(), MEMBERS)


def script(found: Widening) -> str:
    return "\n".join(found.statements) + "\n"


def state(database: MariaDBDatabase) -> list[tuple[Any, ...]]:
    """Return what the statements must not change: all of columns and routines but types, and rights."""
    return [
        *database.rows(
            "select table_name, column_name, column_default, is_nullable, extra, column_comment, collation_name "
            "from information_schema.columns where table_schema = database() order by table_name, ordinal_position"
        ),
        *database.rows(
            "select routine_name, routine_type, security_type, definer, is_deterministic, sql_data_access, "
            "routine_comment, sql_mode, replace(routine_definition, '\r', '') from information_schema.routines "
            "where routine_schema = database() order by routine_name"
        ),
        *database.rows(
            "select routine_name, user, host, proc_priv from mysql.procs_priv where db = database() order by 1, 2, 3"
        ),
    ]


@pytest.mark.parametrize(("which", "table", "procedure"), FORMS)
def test_what_was_refused_is_stored(
    mariadb: MariaDB, mariadb_db: MariaDBDatabase, make: Make, which: str, table: str, procedure: str
) -> None:
    mariadb_db.load_shipped(which)
    if which == "full":
        mariadb_db.rows(f"grant execute on function {mariadb_db.name}.INSERT_PACKET_FULL to ulog@'127.0.0.1'")
    # Its routines were made by ulog@localhost, who alone sees their text.
    more = {"table": table, "procedure": procedure, "host": str(mariadb.socket), "port": 0}
    session = make(**more).open()
    session.write(TCP, UDP)
    refused = _FULL_REFUSED if which == "full" else _REFUSED
    for row in refused:
        with pytest.raises(Refused):
            session.write(row)
    before, before_rows = state(mariadb_db), mariadb_db.rows("select * from ulog order by _id")
    found = widening(session)
    assert not found.remarks
    assert bool(found.problems) == (which == "full")
    assert state(mariadb_db) == before
    session.database.close()

    mariadb_db.load(script(found))
    assert state(mariadb_db) == before
    assert mariadb_db.rows("select * from ulog order by _id") == before_rows
    session = make(**more).open()
    session.write(*refused)
    names = ", ".join(column.name for column in session.columns)
    stored = mariadb_db.rows(f"select {names} from ulog order by _id")[len(before_rows) :]
    for row, got in zip(refused, stored, strict=True):
        wanted = {column.item: shown(column, row.get(column.item)) for column in session.columns}
        kept = dict(zip(session.layout, got, strict=True))
        if which == "full":
            wanted, kept = (
                {k: v for k, v in one.items() if k not in ("raw.type", "mac.str")} for one in (wanted, kept)
            )
            if row.get("raw.type") != "1":
                kept |= {k: wanted[k] for k in ("mac.saddr.str", "mac.daddr.str", "oob.protocol")}
        assert kept == wanted
    assert widening(session) == Widening([], [], [])


def test_who_may_not_see_the_routines_is_told(make: Make, mariadb_db: MariaDBDatabase) -> None:
    mariadb_db.load_shipped("full")
    found = widening(make(table="ulog", procedure="INSERT_PACKET_FULL").open())
    (remark,) = found.remarks
    assert remark.startswith("INSERT_PACKET_FULL, and what it calls: only ulog@localhost, who made it, sees its text")
    assert any(problem.startswith("argument 4 of INSERT_PACKET_FULL, _oob_prefix") for problem in found.problems)
    assert any(text.startswith("ALTER TABLE") for text in found.statements)


def test_all_that_belongs_to_a_column_stays(make: Make, mariadb_db: MariaDBDatabase) -> None:
    mariadb_db.execute(
        "create table `t ``x` (id int auto_increment primary key, "
        "oob_mark smallint not null default 5 comment 'it''s, a',"
        " `oob_PREFIX` varchar(3) character set latin1 collate latin1_bin default 'a,b' check (oob_prefix <> ''),"
        " unique key (oob_mark))",
        "insert into `t ``x` (oob_mark, oob_prefix) values (-3, 'abc')",
        "create view `v %s` as select b.oob_mark, oob_prefix from `t ``x` b",
        "create view w as select * from `v %s` where oob_mark < 9",
    )
    session = make(table="w").open()
    before = state(mariadb_db)
    found = widening(session)
    session.database.close()
    assert not found.remarks
    mariadb_db.load(script(found))
    assert state(mariadb_db) == before
    assert mariadb_db.rows("select oob_mark, oob_prefix from w") == [(-3, "abc")]
    session = make(table="w").open()
    session.write({"oob.mark": "4294967295", "oob.prefix": "x" * 127})
    assert mariadb_db.rows("select max(oob_mark), max(oob_prefix) from `t ``x`") == [(2**32 - 1, "x" * 127)]
    assert widening(session) == Widening([], [], [])


def test_a_computed_column(make: Make, mariadb_db: MariaDBDatabase) -> None:
    mariadb_db.execute(
        "create table t (oob_mark smallint)",
        "create view v as select cast('x' as char(3)) as oob_prefix, oob_mark from t",
    )
    session = make(table="v")
    session.database.connect()
    found = widening(session)
    assert found.remarks == ["oob_prefix is computed by the view v: change the view by hand"]
    assert [text.partition("`t`")[0] for text in found.statements if not text.startswith("--")] == [
        f"ALTER TABLE `{mariadb_db.name}`."
    ]


def test_a_function_as_it_is_written(make: Make, mariadb: MariaDB, mariadb_db: MariaDBDatabase) -> None:
    mariadb_db.load("""
create table t (oob_mark int unsigned, oob_prefix varchar(200));
set sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES';
delimiter //
create procedure "put (it"(in "a, b" smallint (5) /* , ( */ unsigned zerofill, oob_prefix
  varchar( 3 ) charset latin1) comment 'a; b'
begin
  insert into t values ("a, b", oob_prefix); -- $$
end//
""")
    more = {"table": "t", "procedure": "CALL `put (it`", "host": str(mariadb.socket), "port": 0}
    session = make(**more).open()
    before = state(mariadb_db)
    found = widening(session)
    session.database.close()
    assert not found.remarks
    mariadb_db.load(script(found))
    assert state(mariadb_db) == before
    session = make(**more).open()
    session.write({"oob.mark": "4294967295", "oob.prefix": "x" * 127})
    assert mariadb_db.rows("select * from t") == [(2**32 - 1, "x" * 127)]
