# SPDX-License-Identifier: GPL-2.0-or-later
"""The schemas of our own, in real databases: columns are keys, types hold all of their values, partitions work."""

from __future__ import annotations

import datetime
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

import nflowlevel
from nflowlevel.records.keys import BY_NAME, Key
from tests.fix_mariadb import MariaDBDatabase, mariadb, mariadb_db
from tests.fix_postgres import PostgresDatabase, postgres, postgres_db

__all__ = ["mariadb", "mariadb_db", "postgres", "postgres_db"]

SCHEMAS = Path(nflowlevel.__file__).parent / "sql" / "schema"

TABLES = ("packets", "flows", "sums")

#: Columns that are not the key of their name.
NO_KEY = {"oob_time", "_id"}

#: The longest texts that there are: a prefix of nft, an interface, addresses, `family.table.name` of a counter.
TEXTS = {
    "oob_prefix": "p" * 127,
    "sum_name": ".".join(("bridge", "t" * 255, "n" * 255)),
    "mac_saddr_str": "00:11:22:33:44:55:66:77",
    "mac_daddr_str": "ff:ff:ff:ff:ff:ff",
    "ip_saddr_str": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "ip_daddr_str": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe",
    "arp_saddr_str": "255.255.255.254",
    "arp_daddr_str": "255.255.255.255",
    "orig_ip_saddr_str": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0",
    "orig_ip_daddr_str": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff1",
    "reply_ip_saddr_str": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff2",
    "reply_ip_daddr_str": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff3",
    "nat_saddr_str": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff4",
    "nat_daddr_str": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff5",
    "ct_helper": "h" * 15,
    "community_id": "1:" + "x" * 28,
    "oob_in": "interface-name1",
    "oob_out": "interface-name2",
    "oob_physin": "interface-name3",
    "oob_physout": "ünterface-name",
}
GREATEST = {"bool": 1, "uint8": 2**8 - 1, "uint16": 2**16 - 1, "uint32": 2**32 - 1, "uint64": 2**64 - 1}

#: SQLite has no integers above this, nor have fast ones of PostgreSQL; no flow counts that far.
SQLITE_GREATEST = 2**63 - 1

TIME = "2026-11-24 23:59:59.999999"


class Loaded(NamedTuple):
    """A database with our schema in it, and how to talk to it."""

    dialect: str
    load: Callable[[str], None]
    execute: Callable[..., None]
    rows: Callable[[str], list[tuple[Any, ...]]]
    columns: Callable[[str], list[str]]


def text_of(name: str) -> str:
    return (SCHEMAS / name).read_text()


def _information(rows: Callable[[str], list[tuple[Any, ...]]], schema: str) -> Callable[[str], list[str]]:
    query = (
        "select column_name from information_schema.columns where table_name = '{}' and table_schema = '{}' "
        "order by ordinal_position"
    )
    return lambda table: [name for (name,) in rows(query.format(table, schema))]


def _with_arguments(connect: Callable[[], Any]) -> Callable[..., None]:
    def execute(statement: str, arguments: tuple[object, ...] = ()) -> None:
        with connect() as connection:
            with connection.cursor() as cursor:
                cursor.execute(statement, arguments or None)
            connection.commit()

    return execute


def _pgsql(database: PostgresDatabase) -> Loaded:
    columns = _information(database.rows, "public")
    return Loaded("pgsql", database.load, _with_arguments(database.connect), database.rows, columns)


def _mysql(database: MariaDBDatabase) -> Loaded:
    columns = _information(database.rows, database.name)
    return Loaded("mysql", database.load, _with_arguments(database.connect), database.rows, columns)


def _sqlite3(connection: sqlite3.Connection) -> Loaded:
    def load(script: str) -> None:
        connection.executescript(f"BEGIN;\n{script}\nCOMMIT;")

    def execute(statement: str, arguments: tuple[object, ...] = ()) -> None:
        connection.execute(statement.replace("%s", "?"), arguments)

    def rows(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query).fetchall()

    def columns(table: str) -> list[str]:
        return [name for (name,) in rows(f"select name from pragma_table_info('{table}') order by cid")]

    return Loaded("sqlite3", load, execute, rows, columns)


@pytest.fixture(params=["pgsql", "mysql", "sqlite3"])
def loaded(request: pytest.FixtureRequest) -> Iterator[Loaded]:
    if request.param == "sqlite3":
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            made = _sqlite3(connection)
            made.load(text_of("sqlite3.sql"))
            yield made
        return
    made = (
        _pgsql(request.getfixturevalue("postgres_db"))
        if request.param == "pgsql"
        else _mysql(request.getfixturevalue("mariadb_db"))
    )
    made.load(text_of(f"{request.param}.sql"))
    yield made


def key_of(column: str) -> Key:
    """Return the key whose name the column has, with `.` for `_`."""
    (key,) = [key for name, key in BY_NAME.items() if name.replace(".", "_") == column]
    return key


def stored(loaded: Loaded, table: str, row: dict[str, object]) -> tuple[Any, ...]:
    """Store a row and return it as it is in the database."""
    places = ", ".join(["%s"] * len(row))
    loaded.execute(f"insert into {table} ({', '.join(row)}) values ({places})", tuple(row.values()))
    names = [f"host({name})" if is_inet(loaded, name) else name for name in row]
    (found,) = loaded.rows(f"select {', '.join(names)} from {table}")
    return found


def is_inet(loaded: Loaded, column: str) -> object:
    return loaded.dialect == "pgsql" and re.fullmatch(r".*[sd]addr_str", column) and not column.startswith("mac_")


# -- all databases ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(path.name for path in SCHEMAS.glob("*.sql")))
def test_a_file_says_what_it_is(name: str) -> None:
    first, second, *_ = text_of(name).splitlines()
    assert first == "-- SPDX-License-Identifier: GPL-2.0-or-later"
    assert re.match(r"-- [A-Z]", second)
    assert not [line for line in text_of(name).splitlines() if len(line) > 120]


def test_each_database_has_its_schema_and_its_ledger() -> None:
    dialects = ("mysql", "pgsql", "sqlite3")
    expected = sorted(f"{dialect}{part}.sql" for dialect in dialects for part in ("", "-ledger"))
    assert sorted(path.name for path in SCHEMAS.iterdir()) == expected


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_a_key(loaded: Loaded, table: str) -> None:
    names = {name.replace(".", "_") for name in BY_NAME} | NO_KEY
    assert not set(loaded.columns(table)) - names


@pytest.mark.parametrize("table", TABLES)
def test_all_databases_have_the_same_columns(loaded: Loaded, table: str) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        other = _sqlite3(connection)
        other.load(text_of("sqlite3.sql"))
        assert set(loaded.columns(table)) - {"_id"} == set(other.columns(table))


def test_packets_have_all_that_logemu_prints(loaded: Loaded) -> None:
    needed = (
        "oob_prefix oob_in oob_out mac_saddr_str mac_daddr_str ip_saddr_str ip_daddr_str ip_totlen ip_tos ip_ttl ip_id "
        "ip_fragoff ip_protocol ip6_payloadlen ip6_hoplimit tcp_sport tcp_dport tcp_seq tcp_ackseq tcp_window tcp_urg "
        "tcp_ack tcp_psh tcp_rst tcp_syn tcp_fin udp_sport udp_dport icmp_type icmp_code icmp_echoid icmp_echoseq "
        "icmpv6_type icmpv6_code ahesp_spi oob_uid oob_gid oob_mark raw_label"
    )
    assert set(needed.split()) <= set(loaded.columns("packets"))


@pytest.mark.parametrize("table", TABLES)
def test_types_hold_the_greatest_values(loaded: Loaded, table: str) -> None:
    row: dict[str, object] = {"oob_time": TIME + ("+00" if loaded.dialect == "pgsql" else "")}
    for column in loaded.columns(table):
        if column not in NO_KEY:
            key = key_of(column)
            greatest = key.most if table == "flows" else GREATEST.get(key.type)
            row[column] = TEXTS[column] if key.type == "string" else greatest
            if key.type == "bool" and loaded.dialect == "pgsql":
                row[column] = True
            if key.type == "uint64" and (loaded.dialect == "sqlite3" or table == "flows"):
                row[column] = SQLITE_GREATEST
    time, *found = stored(loaded, table, row)
    assert found == list(row.values())[1:]
    assert str(time) == str(row["oob_time"]) + (":00" if loaded.dialect == "pgsql" else "")


def test_types_hold_nothing_at_all(loaded: Loaded) -> None:
    for table in TABLES:
        loaded.execute(f"insert into {table} (oob_time) values (null)")
        assert loaded.rows(f"select count(*) from {table}") == [(1,)]


def test_types_hold_what_ends_a_field_and_what_is_no_ascii(loaded: Loaded) -> None:
    nasty = "tab\t nl\n back\\slash 'quote\" ünïcode 🔥"
    assert stored(loaded, "packets", {"oob_prefix": nasty}) == (nasty,)


def test_a_tunnels_hardware_address_is_held(loaded: Loaded) -> None:
    assert stored(loaded, "packets", {"mac_saddr_str": "0a:4d:00:01"}) == ("0a:4d:00:01",)


def test_loading_again_is_harmless(loaded: Loaded) -> None:
    loaded.execute("insert into packets (oob_mark) values (7)")
    loaded.execute("insert into sums (sum_name) values ('n')")
    before = loaded.columns("packets"), loaded.columns("sums")
    for _ in range(2):
        loaded.load(text_of(f"{loaded.dialect}.sql"))
    assert loaded.rows("select oob_mark from packets") == [(7,)]
    assert loaded.rows("select sum_name from sums") == [("n",)]
    assert (loaded.columns("packets"), loaded.columns("sums")) == before


def test_the_ledger_holds_one_row_for_each_writer(loaded: Loaded) -> None:
    for _ in range(2):
        loaded.load(text_of(f"{loaded.dialect}-ledger.sql"))
    quoted = "`row`" if loaded.dialect == "mysql" else "row"
    insert = f"insert into nflowlevel_ledger (writer, {quoted}) values (%s, %s)"
    writer = "0d8f1c5e-5b9e-4c62-9a56-0e3b7d3a2f11"
    loaded.execute(insert, (writer, 2**63 - 1))
    with pytest.raises(Exception, match=r"(?i)duplicate|unique"):
        loaded.execute(insert, (writer, 1))
    assert loaded.rows(f"select writer, {quoted} from nflowlevel_ledger") == [(writer, 2**63 - 1)]
    loaded.load(text_of(f"{loaded.dialect}-ledger.sql"))
    assert loaded.rows("select updated is not null from nflowlevel_ledger") == [(1,)]


# -- partitions of PostgreSQL -----------------------------------------------------------------------------------------


@pytest.fixture
def own(postgres_db: PostgresDatabase) -> PostgresDatabase:
    """A database with our schema, made in one transaction by one statement as `nflowlevel sql init` does."""
    postgres_db.execute(text_of("pgsql.sql"))
    return postgres_db


def insert_at(database: PostgresDatabase, *times: str) -> None:
    for table in TABLES:
        database.execute(*(f"insert into {table} (oob_time) values ('{time}')" for time in times))


def places(database: PostgresDatabase, table: str = "packets") -> dict[str, int]:
    """Return how many rows each partition has that has any."""
    return dict(database.rows(f"select tableoid::regclass::text, count(*) from {table} group by 1"))


def partitions(database: PostgresDatabase, table: str) -> set[str]:
    return {name for (name,) in database.rows(f"select relid::text from pg_partition_tree('{table}') where isleaf")}


def today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


def day(offset: int) -> datetime.date:
    return today() + datetime.timedelta(offset)


@pytest.mark.parametrize("table", TABLES)
def test_partitions_are_made_ahead(own: PostgresDatabase, table: str) -> None:
    begin = today()
    made = partitions(own, table)
    # A test that runs at midnight UTC has partitions from either day on.
    days = {f"{table}_{begin + datetime.timedelta(n):%Y%m%d}" for n in range(30)}
    assert len(made) == 31
    assert f"{table}_default" in made
    assert len(days & made) >= 29
    own.rows("select nflowlevel_make_partitions(33)")
    assert len(partitions(own, table)) in (34, 35)


@pytest.mark.parametrize("table", TABLES)
def test_rows_go_where_their_day_is(own: PostgresDatabase, table: str) -> None:
    a, b = day(1), day(2)
    insert_at(
        own, f"{a} 00:00+00", f"{a} 23:59:59.999999+00", f"{b} 00:00+00", "2000-01-01 00:00+00", "2106-02-07 06:28+00"
    )
    expected = {f"{table}_{a:%Y%m%d}": 2, f"{table}_{b:%Y%m%d}": 1, f"{table}_default": 2}
    assert places(own, table) == expected


def test_rows_of_the_default_partition_move_into_a_new_one(own: PostgresDatabase) -> None:
    late = day(40)
    insert_at(own, f"{late} 12:00+00", f"{day(41)} 00:00+00", "2000-01-01 00:00+00")
    assert places(own) == {"packets_default": 3}
    assert own.value("select nflowlevel_make_partitions(41)") in range(30, 34)
    assert places(own) == {f"packets_{late:%Y%m%d}": 1, "packets_default": 2}
    assert places(own, "sums") == {f"sums_{late:%Y%m%d}": 1, "sums_default": 2}


def test_old_days_are_dropped(own: PostgresDatabase) -> None:
    for offset in (-91, -90, -89):
        for table in TABLES:
            own.execute(
                f"create table {table}_{day(offset):%Y%m%d} partition of {table} "
                f"for values from ('{day(offset)} 00:00+00') to ('{day(offset + 1)} 00:00+00')"
            )
    insert_at(own, *(f"{day(offset)} 12:00+00" for offset in (-200, -91, -90, -89, 0)))
    assert own.value("select nflowlevel_drop_partitions(90)") == len(TABLES)
    assert set(places(own)) == {f"packets_{day(offset):%Y%m%d}" for offset in (-90, -89, 0)}
    assert own.count("sums") == 3
    assert own.value("select nflowlevel_drop_partitions(90)") == 0


def test_partitions_are_made_while_rows_are_stored(own: PostgresDatabase) -> None:
    with own.connect() as writer:
        writer.execute("insert into packets (oob_time) values (now())")
        with own.connect(options="-c lock_timeout=5000") as other:
            other.execute("select nflowlevel_make_partitions(32)")
        writer.execute("insert into packets (oob_time) values (now())")
    assert own.count("packets") == 2
    assert f"packets_{day(30):%Y%m%d}" in partitions(own, "packets")


def test_functions_work_from_everywhere(own: PostgresDatabase) -> None:
    with own.connect(options="-c search_path=pg_catalog -c timezone=Pacific/Auckland") as other:
        other.execute("select public.nflowlevel_make_partitions(31)")
        other.execute("select public.nflowlevel_drop_partitions(1)")
    bound = own.value(f"select pg_get_expr(relpartbound, oid) from pg_class where relname = 'packets_{day(30):%Y%m%d}'")
    assert bound == f"FOR VALUES FROM ('{day(30)} 00:00:00+00') TO ('{day(31)} 00:00:00+00')"


def test_columns_may_be_added_and_dropped(own: PostgresDatabase) -> None:
    own.execute(
        "alter table packets drop column arp_saddr_str, add column ip_csum integer default 23",
        "alter table packets add column low_port boolean generated always as (tcp_dport < 1024) stored",
    )
    insert_at(own, f"{day(35)} 12:00+00")
    own.rows("select nflowlevel_make_partitions(40)")
    assert places(own) == {f"packets_{day(35):%Y%m%d}": 1}
    own.execute(f"insert into packets (oob_time, tcp_dport) values ('{day(36)} 12:00+00', 443)")
    assert own.rows("select low_port, ip_csum from packets order by oob_time") == [(None, 23), (True, 23)]


def test_every_partition_has_the_index(own: PostgresDatabase) -> None:
    own.rows("select nflowlevel_make_partitions(31)")
    found = own.rows("select tablename, indexdef from pg_indexes where tablename ~ '^(packets|flows|sums)_'")
    assert {name for name, _ in found} == set().union(*(partitions(own, table) for table in TABLES))
    for name, definition in found:
        assert "USING brin (oob_time" in definition
        assert "pages_per_range='32'" in definition
        assert ("inet_bloom_ops" in definition) == (not name.startswith("sums"))


def test_the_index_finds_an_address(own: PostgresDatabase) -> None:
    own.execute(
        "insert into packets (oob_time, ip_saddr_str, oob_prefix) select now(), '10.0.0.0'::inet + n, repeat('p', 100) "
        "from generate_series(1, 20000) as n"
    )
    own.rows(
        "select sum(brin_summarize_new_values(indexrelid)) from pg_index where indrelid in "
        "(select distinct tableoid from packets)"
    )
    with own.connect(options="-c enable_seqscan=off") as connection:
        plan = connection.execute("explain (analyze, costs off) select * from packets where ip_saddr_str = '10.0.3.7'")
        lines = [line for (line,) in plan]
    blocks = [int(match[1]) for line in lines if (match := re.search(r"Heap Blocks: lossy=(\d+)", line))]
    pages = own.value("select sum(pg_relation_size(relid)) / 8192 from pg_partition_tree('packets') where isleaf")
    assert 0 < sum(blocks) < pages / 3, "\n".join(lines)


def test_two_makers_at_once_do_not_hinder_each_other(own: PostgresDatabase) -> None:
    failures: list[psycopg.Error] = []

    def make() -> None:
        try:
            with own.connect() as connection:
                connection.execute("select nflowlevel_make_partitions(45)")
        except psycopg.Error as error:
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
