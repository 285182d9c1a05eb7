# SPDX-License-Identifier: GPL-2.0-or-later
"""Spark in DuckDB's place: each detector has the same rows in the same order, on this machine and on a cluster."""

from __future__ import annotations

import json
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import nflowlevel as nfl
from bench.packets import PLANTED, parts, write_archive
from nflowlevel import cli
from nflowlevel.analytics.registry import find_detector, names
from nflowlevel.archive.layout import path_of
from tests.fix_detectors import DAY, FLOWS, Engine, Row, flow, ordinary_flows
from tests.fix_spark import cluster, session

#: What engines might do in different ways: windows that slide and a join; functions of windows and numbers with a dot.
_FEW = ("scan_then_brute", "beacon")
_RECORDS, _DAYS = 60_000, 2.5


def _attacked(directory: Path) -> tuple[Path, Path, Engine]:
    """Return Parquet files of packets and flows with attacks of all kinds in them, and DuckDB with the same."""
    packets = pa.concat_tables([table for _, table in parts(_RECORDS, _DAYS)])
    theft = [flow(1.5 * DAY + n, "10.0.4.7", "198.18.0.1", 443, 10**8, 10) for n in range(10)]
    flows = pa.concat_tables([ordinary_flows(), pa.Table.from_pylist(theft, FLOWS)])
    pq.write_table(packets, directory / "packets.parquet")
    pq.write_table(flows, directory / "flows.parquet")
    return directory / "packets.parquet", directory / "flows.parquet", Engine(packets, flows)


def _archive_of_differing_files(directory: Path, days: float) -> Path:
    """Return an archive like those that compaction makes: files go without the columns that none of their rows has.

    No file has the columns of ICMP, ARP and such. Those of TCP are in the files of TCP alone, which have others first.
    """
    archive = directory / "differing"
    write_archive(archive, _RECORDS, days)
    for path in sorted(archive.glob("kind=packets/*/*/*.parquet")):
        table = pq.read_table(path)
        is_tcp = pc.equal(table["ip_protocol"], 6)
        others = table.filter(pc.invert(is_tcp))
        others = others.drop_columns([name for name in others.column_names if name.startswith("tcp_")])
        pq.write_table(table.filter(is_tcp).select(sorted(table.column_names, reverse=True)), path)
        pq.write_table(others, path.with_name(path.name.replace("-0.parquet", "-1.parquet")))
    theft = [flow(1.5 * DAY + n, "10.0.4.7", "198.18.0.1", 443, 10**8, 10) for n in range(10)]
    flows = pa.concat_tables([ordinary_flows(), pa.Table.from_pylist(theft, FLOWS)])
    for number, dropped in enumerate((["reply_raw_pktlen"], ["orig_l4_sport", "orig_ip_protocol"])):
        part = flows.filter(pc.equal(pc.bit_wise_and(flows["sec"], 1), number)).sort_by("us")
        first = part["sec"][0].as_py()
        path = archive / path_of("flows", "fw1", first, first + 1, "ab", 0, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(part.drop_columns(dropped), path)
    return archive


def _without(archive: Path, directory: Path, begins: str) -> Path:
    """Return an archive in which no file has the columns whose names begin so."""
    copy = directory / f"without {begins}"
    for path in archive.rglob("*.parquet"):
        made = copy / path.relative_to(archive)
        made.parent.mkdir(parents=True, exist_ok=True)
        table = pq.read_table(path)
        pq.write_table(table.drop_columns([name for name in table.column_names if name.startswith(begins)]), made)
    return copy


def _compare_archive(spark: Any, archive: Path, detectors: tuple[str, ...]) -> dict[str, int]:
    """Compare the findings in an archive; return how many each detector had."""
    found = {}
    with warnings.catch_warnings(), nfl.read(archive) as here:
        warnings.simplefilter("ignore")
        there = here.on(spark)
        for name in ("SELECT * FROM packets ORDER BY us, src_port LIMIT 1000", "SELECT COUNT(*) AS n FROM sums"):
            assert there.sql(name).rows() == here.sql(name).rows()
        for name in detectors:
            rows = here.find(name).dicts()
            assert there.find(name).dicts() == rows, name
            found[name] = len(rows)
    return found


def _rows(spark: Any, name: str) -> list[Row]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = [row.asDict() for row in spark.sql(find_detector(name).sql()).collect()]
    # The sum of numbers of 64 bits.
    return [{name: int(v) if isinstance(v, Decimal) else v for name, v in row.items()} for row in rows]


def _compare(spark: Any, directory: Path, detectors: tuple[str, ...]) -> None:
    packets, flows, duckdb = _attacked(directory)
    for path in (packets, flows):
        spark.read.parquet(str(path)).createOrReplaceTempView(path.stem)
    for name in detectors:
        expected = duckdb.find(name)
        assert len(expected) >= PLANTED.get(name, 1), name
        assert _rows(spark, name) == expected, name


def test_a_few_have_the_same_rows_on_spark_and_the_command_asks_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "archive"
    write_archive(archive, _RECORDS, 0.1)
    words = ["find", "fixed_port", str(archive), "--json"]
    assert cli.main(words) == 0
    here = capsys.readouterr().out
    with session("local[2]") as spark:
        _compare(spark, tmp_path, _FEW)
        differing = _archive_of_differing_files(tmp_path, 0.1)
        found = _compare_archive(spark, differing, ("fixed_port", "udp_scan"))
        assert found == {"fixed_port": PLANTED["fixed_port"], "udp_scan": PLANTED["udp_scan"]}
        assert _compare_archive(spark, _without(differing, tmp_path, "tcp_"), ("fixed_port",)) == {"fixed_port": 0}
        assert cli.main([*words, "--spark", "local[2]"]) == 0
        assert capsys.readouterr().out == here
    assert len({json.loads(line)["src_ip"] for line in here.splitlines()}) == PLANTED["fixed_port"]


@pytest.mark.slow
def test_all_have_the_same_rows_on_a_cluster_of_a_master_and_two_workers(tmp_path: Path) -> None:
    with cluster(tmp_path) as master, session(master) as spark:
        executors = spark.sparkContext._jsc.sc().getExecutorMemoryStatus().size() - 1
        differing = _archive_of_differing_files(tmp_path, _DAYS)
        found = _compare_archive(spark, differing, names())
        assert {name: count for name, count in found.items() if count < PLANTED.get(name, 1)} == {}
        _compare_archive(spark, _without(differing, tmp_path, "tcp_"), names())
        executors = max(executors, spark.sparkContext._jsc.sc().getExecutorMemoryStatus().size() - 1)
        assert spark.sparkContext.master == master
        assert executors == 2
