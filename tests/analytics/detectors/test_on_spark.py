# SPDX-License-Identifier: GPL-2.0-or-later
"""Spark in DuckDB's place: each detector has the same rows in the same order, on this machine and on a cluster."""

from __future__ import annotations

import json
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.packets import PLANTED, parts, write_archive
from nflowlevel import cli
from nflowlevel.analytics.registry import find_detector, names
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
        assert cli.main([*words, "--spark", "local[2]"]) == 0
        assert capsys.readouterr().out == here
    assert len({json.loads(line)["src_ip"] for line in here.splitlines()}) == PLANTED["fixed_port"]


@pytest.mark.slow
def test_all_have_the_same_rows_on_a_cluster_of_a_master_and_two_workers(tmp_path: Path) -> None:
    with cluster(tmp_path) as master, session(master) as spark:
        executors = spark.sparkContext._jsc.sc().getExecutorMemoryStatus().size() - 1
        _compare(spark, tmp_path, names())
        executors = max(executors, spark.sparkContext._jsc.sc().getExecutorMemoryStatus().size() - 1)
        assert spark.sparkContext.master == master
        assert executors == 2
