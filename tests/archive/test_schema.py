# SPDX-License-Identifier: GPL-2.0-or-later
"""Relations: their columns follow the keys, and rows of JSON lines are those that the lines say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from nflowlevel.archive.schema import FLOWS, PACKETS, RELATIONS, SUMS, Column, json_columns, json_kind, relation
from nflowlevel.outputs.json import JSON, JSONOptions
from nflowlevel.records.keys import CATALOGUE, PacketCondition, added_key


def rows(tmp_path: Path, *objects: dict[str, Any] | str, of: str = "packets") -> list[dict[str, Any]]:
    """Return the rows that DuckDB makes of JSON objects; what is NULL is left out."""
    path = tmp_path / "log.json"
    path.write_text("".join((found if isinstance(found, str) else json.dumps(found)) + "\n" for found in objects))
    wanted = relation(of)
    made = duckdb.connect().execute(
        f"SELECT {wanted.select()} FROM read_json(?, format='newline_delimited', columns={json_columns(wanted)})",
        [str(path)],
    )
    names = [column[0] for column in made.description or ()]
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None} for row in made.fetchall()
    ]


def test_every_member_that_json_writes_has_its_column() -> None:
    output = JSON("j", JSONOptions())
    for key in CATALOGUE:
        if isinstance(key.valid, PacketCondition) and not key.name.startswith("oob.time."):
            label = output._label(key.name, key)
            shown = key.type not in ("raw", "rawstr", "ipaddr")
            assert (label.replace(".", "_") in PACKETS.by_name) == shown or not shown, key


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tcp_window", Column("tcp_window", ("tcp.window",), ("tcp.window",), "USMALLINT", "TCP window, not scaled.")),
        ("src_ip", Column("src_ip", ("src_ip",), ("ip.saddr.str",), "VARCHAR", "Source address as text.")),
    ],
)
def test_columns_have_the_names_of_json(name: str, expected: Column) -> None:
    assert PACKETS.by_name[name] == expected


def test_a_column_that_keys_share_names_all_of_them() -> None:
    assert PACKETS.by_name["dest_port"].keys == ("tcp.dport", "udp.dport", "sctp.dport")
    assert PACKETS.by_name["tcp_syn"].type == "UTINYINT"
    assert PACKETS.by_name["oob_mark"].type == "UINTEGER"
    assert SUMS.by_name["sum_bytes"].type == "UBIGINT"
    assert SUMS.by_name["sum_bytes"].spark == "DECIMAL(20,0)"


def test_what_json_cannot_hold_has_no_column() -> None:
    assert not {"raw_mac", "ip_saddr", "ip_saddr_bin", "ip_hsaddr", "ct", "icmp_gateway"} & set(PACKETS.by_name)


@pytest.mark.parametrize("name", RELATIONS)
def test_every_name_is_sql_without_quotes_and_every_type_is_spark_s(name: str) -> None:
    columns = relation(name).columns
    made = ", ".join(f"{column.name} {column.type}" for column in columns)
    found = duckdb.connect()
    found.execute(f"CREATE TABLE t ({made})")
    assert not found.execute("SELECT " + ", ".join(column.name for column in columns) + " FROM t").fetchall()
    assert all(column.spark for column in columns)
    assert [column.name for column in columns[:3]] == ["sec", "us", "dvc"]


@pytest.mark.parametrize("name", ["tcp_window", "tcp.window"])
def test_a_name_may_be_that_of_the_column_or_of_the_key(name: str) -> None:
    assert PACKETS.find(name).name == "tcp_window"
    assert name in PACKETS


@pytest.mark.parametrize(("name", "column"), [("ip.saddr.str", "src_ip"), ("ip_saddr_str", "src_ip"), ("sec", "sec")])
def test_a_key_of_one_column_means_it(name: str, column: str) -> None:
    assert PACKETS.find(name).name == column


@pytest.mark.parametrize(
    ("name", "hint"),
    [("tcp.dport", "dest_port"), ("ip.saddr", "src_ip"), ("ip_daddr", "dest_ip"), ("tcp_windw", "tcp_window")],
)
def test_an_unknown_name_is_told_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(KeyError, match=rf"unknown column '{name}' of packets — did you mean '{hint}'\?"):
        PACKETS.find(name)


def test_an_unknown_relation_is_told_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown relation 'packet' — did you mean 'packets'"):
        relation("packet")


def test_a_row_of_json(tmp_path: Path) -> None:
    line = {
        "timestamp": "2026-11-23T18:54:44.190524+0100",
        "dvc": "fw",
        "oob.time.sec": 1795460084,
        "oob.time.usec": 190524,
        "oob.prefix": "in: ",
        "raw.label": 0,
        "src_ip": "192.0.2.1",
        "dest_port": 65535,
        "tcp.syn": 1,
        "third.party": "is in no column",
    }
    assert rows(tmp_path, line) == [
        {
            "sec": 1795460084,
            "us": 1795460084190524,
            "dvc": "fw",
            "oob_prefix": "in: ",
            "raw_label": 0,
            "src_ip": "192.0.2.1",
            "dest_port": 65535,
            "tcp_syn": 1,
        }
    ]


@pytest.mark.parametrize("member", ["timestamp", "@timestamp"])
@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2026-11-23T18:54:44.190524", 1795460084190524),
        ("2026-11-23T18:54:44", 1795460084000000),
        ("2026-11-23T18:54:44.190524+0100", 1795456484190524),
        ("2026-11-23T18:54:44+01:00", 1795456484000000),
        ("2026-11-23T18:54:44.5-0530", 1795479884500000),
        ("2026-11-23T18:54:44Z", 1795460084000000),
        ("yesterday", None),
    ],
)
def test_the_time_of_a_line_counts_where_the_record_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str, text: str, us: int | None
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    expected = {} if us is None else {"sec": us // 1_000_000, "us": us}
    assert rows(tmp_path, {member: text}, {member: text, "oob.time.sec": 0}) == [expected, expected]


def test_a_record_without_microseconds_has_whole_seconds(tmp_path: Path) -> None:
    assert rows(tmp_path, {"oob.time.sec": 5}) == [{"sec": 5, "us": 5_000_000}]


def test_the_label_and_the_action_are_one_column(tmp_path: Path) -> None:
    made = rows(tmp_path, {"action": "blocked"}, {"action": "allowed"}, {"raw.label": 7}, {"action": "?"}, {"dvc": "x"})
    assert [row.get("raw_label") for row in made] == [0, 1, 7, None, None]


def test_a_plugin_s_own_column(tmp_path: Path) -> None:
    wanted = PACKETS.with_keys([added_key("geo.asn", "uint32", "Number of the sender's network.")])
    path = tmp_path / "log.json"
    path.write_text('{"geo.asn": 64496}\n')
    sql = f"SELECT geo_asn FROM (SELECT {wanted.select()} FROM read_json(?, columns={json_columns(wanted)}))"
    assert duckdb.connect().execute(sql, [str(path)]).fetchall() == [(64496,)]
    assert "geo_asn" not in PACKETS


def test_objects_tell_their_relation(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    lines: list[dict[str, Any]] = [{"sum.name": "http", "sum.pkts": 2**64 - 1}, {"oob.prefix": "x"}]
    # Without IP2STR a flow has no address.
    lines += [{"ct.id": 7}, {"orig.ip.protocol": 6, "timestamp": "2026-11-23T00:00:00Z"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    columns = json_columns(*RELATIONS.values())
    found = duckdb.connect().execute(f"SELECT {json_kind()} FROM read_json(?, columns={columns})", [str(path)])
    assert [row[0] for row in found.fetchall()] == ["sums", "packets", "flows", "flows"]
    assert {"ct.id", "orig.ip.protocol"} <= set(FLOWS.marks)
    assert "sum.name" in SUMS.marks


def test_sums_have_their_time_and_name(tmp_path: Path) -> None:
    line = {
        "timestamp": "2026-11-23T18:54:44+0000",
        "dvc": "fw",
        "sum.name": "http",
        "sum.pkts": 2**64 - 1,
        "sum.bytes": 1,
    }
    expected = {"sec": 1795460084, "us": 1795460084000000, "dvc": "fw"}
    expected |= {"sum_name": "http", "sum_pkts": 2**64 - 1, "sum_bytes": 1}
    assert rows(tmp_path, line, of="sums") == [expected]
