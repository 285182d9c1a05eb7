# SPDX-License-Identifier: GPL-2.0-or-later
"""Which column takes which key, and what rows look like for that."""

from __future__ import annotations

from nflowlevel.records.keys import BY_NAME, TIME_KEY, Key, added_key, published_by
from nflowlevel.sql.columns import Column, all_items, match, plan_members

_MEMBERS: list[tuple[str, Key]] = [
    (key.name, key) for plugin in ("NFLOG", "BASE", "IFINDEX", "IP2STR", "IP2BIN") for key in published_by(plugin)
]
_GEO = added_key("geo.country_code", "string", "Country of the source address.")
_MEMBERS.append((_GEO.name, _GEO))


def items(*columns: Column | tuple[str, str], arguments: bool = False) -> dict[str, str]:
    made = [column if isinstance(column, Column) else Column(*column) for column in columns]
    return {column.name: column.item for column in match(made, _MEMBERS, arguments=arguments)}


def test_a_dot_of_a_key_is_an_underscore_of_a_column() -> None:
    assert items(("oob_time_sec", "integer"), ("IP_SADDR_STR", "inet"), ("raw_mac_len", "integer")) == {
        "oob_time_sec": "oob.time.sec",
        "IP_SADDR_STR": "ip.saddr.str",
        "raw_mac_len": "raw.mac_len",
    }


def test_keys_with_underscores_have_columns_too() -> None:
    assert items(("oob_ifindex_in", "bigint"), ("geo_country_code", "text")) == {
        "oob_ifindex_in": "oob.ifindex_in",
        "geo_country_code": "geo.country_code",
    }


def test_the_tables_own_number_is_left_out() -> None:
    assert items(("_id", "bigint"), ("oob_mark", "integer")) == {"oob_mark": "oob.mark"}
    assert items(Column("id", "int", automatic=True), ("oob_mark", "integer")) == {"oob_mark": "oob.mark"}
    assert items(("oob_mark", "integer"), ("_id", "bigint")) == {"oob_mark": "oob.mark"}


def test_columns_without_a_key_are_arguments_all_the_same() -> None:
    columns = [Column("_id", "bigint"), Column("oob_mark", "integer"), Column("username", "text")]
    assert items(*columns) == {"oob_mark": "oob.mark"}
    assert items(*columns, arguments=True) == {"oob_mark": "oob.mark", "username": ""}


def test_addresses_in_columns_of_numbers() -> None:
    assert items(("ip_saddr", "inet"), ("ip_daddr", "bigint"), ("icmp_gateway", "integer"), ("arp_saddr", "text")) == {
        "ip_saddr": "ip.saddr",
        "ip_daddr": "ip.daddr:number",
        "icmp_gateway": "icmp.gateway:number",
        "arp_saddr": "arp.saddr",
    }
    assert items(("ip_saddr_bin", "binary"), ("ip_saddr_str", "int unsigned")) == {
        "ip_saddr_bin": "ip.saddr.bin",
        "ip_saddr_str": "ip.saddr.str",
    }


def test_oob_time_is_the_time() -> None:
    assert items(("oob_time", "timestamp with time zone")) == {"oob_time": "oob.time"}


def test_all_items_render_whatever_a_table_asks_for() -> None:
    layout = all_items(_MEMBERS)
    columns = [Column(name.replace(".", "_"), type_) for name, _ in _MEMBERS for type_ in ("text", "bigint")]
    assert {column.item for column in match(columns, _MEMBERS, arguments=False)} | {"oob.time"} == set(layout)


def test_plan_members() -> None:
    layout = ("oob.time", "ip.saddr:number", "geo.country_code", "of.another.run")
    assert plan_members(layout, _MEMBERS) == [
        ("oob.time", TIME_KEY),
        ("ip.saddr:number", BY_NAME["ip.saddr"]),
        ("geo.country_code", _GEO),
        ("of.another.run", added_key("of.another.run", "string", "Nothing of the stack.")),
    ]
