# SPDX-License-Identifier: GPL-2.0-or-later
"""A table beside a stack: what the columns of ulogd2's schemas cannot hold, and what columns just can."""

from __future__ import annotations

import pytest

from nflowlevel.records.keys import BY_NAME, CATALOGUE, Key, added_key
from nflowlevel.sql.check import Comparison, compare, statements
from nflowlevel.sql.columns import Column

_PACKETS = tuple((key.name, key) for key in CATALOGUE if key.plugin in ("NFLOG", "BASE", "IFINDEX", "IP2STR", "HWHDR"))


def _compared(*columns: Column, names: tuple[str, ...] = ()) -> Comparison:
    return compare(columns, [(name, BY_NAME[name]) for name in names] if names else _PACKETS)


def _problems(column: Column, key: str) -> list[str]:
    return _compared(column, names=(key,)).problems


#: What ulogd2's shipped schemas get wrong (spec, D-SC1 and its kin): type, size, key, and what is said.
_TOO_NARROW = {
    "prefix": ("character varying", 32, "oob.prefix", "oob.prefix has up to 127 characters"),
    "mark": ("integer", None, "oob.mark", "oob.mark goes up to 4294967295, the column to 2147483647"),
    "SCTP checksum": ("smallint", None, "sctp.csum", "sctp.csum goes up to 4294967295, the column to 32767"),
    "UDP length": ("smallint", None, "udp.len", "udp.len goes up to 65535, the column to 32767"),
    "IP length": ("smallint", None, "ip.totlen", "ip.totlen goes up to 65535, the column to 32767"),
    "EtherType": ("smallint", None, "oob.protocol", "oob.protocol goes up to 65535, the column to 32767"),
    "redirect": ("integer", None, "icmp.gateway", "icmp.gateway goes up to 4294967295, the column to 2147483647"),
    "counter": ("integer", None, "sum.pkts", "sum.pkts goes up to 18446744073709551615, the column to 2147483647"),
    "name": ("varchar", 30, "sum.name", "sum.name has up to 31 characters"),
    "IPv6": ("varchar", 15, "ip.saddr.str", "ip.saddr.str has up to 39 characters"),
    "IPv4 as a number": ("integer", None, "ip.hsaddr", "ip.hsaddr goes up to 4294967295, the column to 2147483647"),
    "IPv6 in bytes": ("binary", 4, "ip.saddr.bin", "ip.saddr.bin has up to 16 bytes"),
    "bytes as text": ("varchar", 10, "raw.mac.saddr", "raw.mac.saddr has up to 18 characters"),
    "interface": ("varchar", 8, "oob.in", "oob.in has up to 15 characters"),
    "hardware header": ("varchar", 40, "mac.str", "mac.str has up to 41 characters"),
    "hardware address": ("varchar", 17, "mac.saddr.str", "mac.saddr.str has up to 23 characters"),
    "text": ("integer", None, "ip.saddr.str", "ip.saddr.str is not a number"),
    "reserved bits": ("boolean", None, "tcp.res1", "tcp.res1 goes up to 15"),
    "digits": ("varchar", 2, "ip.protocol", "ip.protocol has up to 3 digits"),
    "ttl": ("tinyint", None, "ip.ttl", "ip.ttl goes up to 255, the column to 127"),
}


@pytest.mark.parametrize("name", _TOO_NARROW)
def test_what_does_not_fit(name: str) -> None:
    type_, size, key, said = _TOO_NARROW[name]
    column = Column(key.replace(".", "_"), type_, size)
    (problem,) = _problems(column, key)
    assert problem.endswith(f": {said}")
    assert problem.startswith(f"{column.name} {type_}")


#: The narrowest columns that hold the same.
_JUST_WIDE_ENOUGH = {
    "prefix": ("character varying", 127, "oob.prefix"),
    "mark": ("int unsigned", None, "oob.mark"),
    "sctp": ("bigint", None, "sctp.csum"),
    "port": ("smallint unsigned", None, "tcp.dport"),
    "port, signed": ("mediumint", None, "tcp.dport"),
    "counter": ("bigint", None, "sum.bytes"),
    "name": ("varchar", 31, "sum.name"),
    "text without limit": ("text", None, "oob.prefix"),
    "IPv6": ("varchar", 39, "ip.saddr.str"),
    "IPv6 in bytes": ("binary", 16, "ip.saddr.bin"),
    "IPv4 as a number": ("int unsigned", None, "ip.hsaddr"),
    "address in bytes": ("binary", 16, "ip.saddr"),
    "redirect": ("bigint", None, "icmp.gateway"),
    "index": ("integer", None, "oob.ifindex_in"),
    "flow label": ("mediumint", None, "ip6.flowlabel"),
    "flag": ("boolean", None, "tcp.syn"),
    "flag in MySQL": ("tinyint", None, "tcp.res1"),
    "inet": ("inet", None, "ip.saddr.str"),
    "digits": ("varchar", 3, "ip.protocol"),
}


@pytest.mark.parametrize("name", _JUST_WIDE_ENOUGH)
def test_what_just_fits(name: str) -> None:
    type_, size, key = _JUST_WIDE_ENOUGH[name]
    assert _problems(Column(key.replace(".", "_"), type_, size), key) == []


def test_every_number_fits_where_its_type_does_and_no_limit_is_beyond_it() -> None:
    wide = {"uint8": "tinyint unsigned", "uint16": "smallint unsigned", "uint32": "int unsigned"}
    for key in CATALOGUE:
        if key.type in wide:
            assert compare([Column("c", wide[key.type])], [("c", key)]).problems == [], key.name


def test_a_time_is_no_number() -> None:
    assert _problems(Column("oob_time", "bigint"), "oob.prefix") == [
        "oob_time bigint: oob.time is a date and time, not a number"
    ]
    assert _problems(Column("oob_time", "timestamp with time zone"), "oob.prefix") == []


def test_keys_without_a_column() -> None:
    columns = [Column("oob_prefix", "text"), Column("OOB_TIME_SEC", "bigint")]
    compared = _compared(*columns, names=("oob.prefix", "oob.time.sec", "oob.time.usec", "tcp.seq"))
    assert compared.without_column == ["oob.time.usec", "tcp.seq"]
    assert [column.item for column in compared.stored] == ["oob.prefix", "oob.time.sec"]


def test_the_time_as_one_value_stands_for_both_keys() -> None:
    assert _compared(Column("oob_time", "text"), names=("oob.time.sec", "oob.time.usec")).without_column == []


def test_an_address_in_another_form_is_stored() -> None:
    names = ("ip.saddr", "ip.daddr", "ip.saddr.str", "ip.daddr.str", "ip.saddr.bin", "ip.daddr.bin", "ip.hsaddr")
    compared = _compared(Column("ip_saddr_str", "inet"), Column("ip_daddr", "binary", 16), names=names)
    assert compared.without_column == []
    # The name of an interface does not stand for its index.
    assert _compared(Column("oob_in", "text"), names=("oob.in", "oob.ifindex_in")).without_column == ["oob.ifindex_in"]


def test_columns_without_a_key() -> None:
    compared = _compared(
        Column("_id", "bigint", automatic=True),
        Column("oob_prefix", "text"),
        Column("site", "text"),
        Column("stored_at", "timestamp", automatic=True),
        Column("_note", "text"),
    )
    assert compared.without_key == ["site", "_note"]


def test_what_a_plugin_of_somebody_adds_is_compared_by_its_type() -> None:
    def compared(type_: str, column: str, size: int | None = None, **more: int) -> list[str]:
        key = added_key("my.key", type_, "A test's.", **more)
        made = compare([Column("my_key", column, size)], [("my.key", key)])
        assert (made.remarks, made.without_column) == ([], [])
        return [problem.partition(": ")[2] for problem in made.problems]

    assert compared("uint8", "smallint") == []
    assert compared("uint16", "smallint") == ["my.key goes up to 65535, the column to 32767"]
    assert compared("uint16", "smallint", most=1000) == []
    assert compared("int16", "smallint") == []
    assert compared("bool", "boolean") == []
    assert compared("string", "integer") == ["my.key is not a number"]
    assert compared("string", "varchar", 10) == [], "nobody knows how long it gets"
    assert compared("string", "varchar", 1, longest=2) == ["my.key has up to 2 characters"]
    assert compared("double", "integer") == ["my.key is a number with a fraction"]
    assert compared("double", "double precision") == compared("double", "text") == []


@pytest.mark.parametrize("type_", ["uint8", "int16", "uint16", "uint32", "int64", "uint64", "bool", "double", "string"])
@pytest.mark.parametrize("dialect", ["pgsql", "mysql", "sqlite3"])
def test_a_column_for_what_a_filter_adds_holds_it(type_: str, dialect: str) -> None:
    key = added_key("my.key", type_, "A test's.")
    (statement,) = statements(
        [Column("other", "text")], [("my.key", key), ("oob.mark", BY_NAME["oob.mark"])], "t", dialect
    )
    column = statement.removeprefix("ALTER TABLE t ADD COLUMN my_key ").removesuffix("; -- A test's.")
    if dialect != "sqlite3":  # whose columns hold anything
        assert compare([Column("my_key", column)], [("my.key", key)]).problems == []
    assert statements([Column("MY_KEY", column)], [("my.key", key)], "t", dialect) == []


def test_remarks_are_no_problems() -> None:
    compared = _compared(Column("ip_saddr", "bigint"), Column("sum_bytes", "bigint"), names=("ip.saddr", "sum.bytes"))
    assert compared.problems == []
    assert compared.remarks == [
        "ip_saddr bigint: ip.saddr as a number holds IPv4 only; it is empty for IPv6 packets",
        "sum_bytes bigint: sum.bytes above 9223372036854775807 does not fit, but no counter gets that far",
    ]


def test_names_of_nftables_are_longer_than_those_of_nfacct() -> None:
    nft = next(key for key in CATALOGUE if (key.plugin, key.name) == ("NFTCOUNTER", "sum.name"))
    assert isinstance(nft, Key)
    (problem,) = compare([Column("sum_name", "varchar", 128)], [("sum.name", nft)]).problems
    assert problem == "sum_name varchar(128): sum.name has up to 518 characters"
