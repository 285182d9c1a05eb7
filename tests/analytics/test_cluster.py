# SPDX-License-Identifier: GPL-2.0-or-later
"""Spark in DuckDB's place: the same text has the same rows, also of hostile values and paths."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.analytics.answer import Answer
from nflowlevel.analytics.captured import capture_lines
from nflowlevel.analytics.cluster import Spark, session
from nflowlevel.analytics.log import Log
from nflowlevel.analytics.reading import read
from nflowlevel.archive.layout import path_of
from nflowlevel.archive.schema import PACKETS
from nflowlevel.errors import NotSupported
from nflowlevel.records.filters import parse
from nflowlevel.records.packet import PACKET
from nflowlevel.sql.where import where
from tests import fix_spark
from tests.analytics.test_eve import CAPTURE, EVE
from tests.analytics.test_log import RECORDS
from tests.fix_filters import ADDED, CASES
from tests.fix_logs import START, log_file, parquet_file, record

HOSTILE = "'; DROP TABLE packets; -- \\ ${spark.app.name} \n é \u202e %_!"
MORE = [
    record(500, oob__prefix=HOSTILE, src_ip="2001:db8::1"),
    record(501, oob__prefix=None, src_ip=None, tcp__window=None),
    record(502, src_ip="8.8.8.8", ip__ttl=0, ip__totlen=65535, tcp__seq=2**32 - 1),
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """A session of Spark in a Java of this process's own."""
    pytest.importorskip("pyspark", reason="pyspark is not installed (pip install 'nflowlevel[spark]')")
    with fix_spark.session("local[1]") as made:
        yield made


@pytest.fixture(scope="module")
def logs(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Log, Log]]:
    """A log on DuckDB and the same on Spark; the path of its file is nothing but a path."""
    directory = tmp_path_factory.mktemp("it's {a,b} [x] * \\")
    here = read(parquet_file(directory / "a?.parquet", [*RECORDS, *MORE]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield here, here.on(spark)
    here.close()


QUESTIONS: list[Callable[[Log], Answer]] = [
    lambda log: log.syn.count("tcp_window"),
    lambda log: log.count("src_ip", "oob_prefix"),
    lambda log: log.last("101s").count("dest_port", every="1m"),
    lambda log: log.between("2026-11-24", "2026-11-25").count(),
    lambda log: log.where(oob_prefix=HOSTILE).count("src_ip"),
    lambda log: log.exclude(oob_prefix=HOSTILE).count(),
    lambda log: log.exclude(tcp_window=16384).count("tcp_window"),
    lambda log: log.where(src_ip="192.0.2.0/30").count("src_ip", top=3),
    lambda log: log.where(src_ip="2001:db8::/32").count("src_ip"),
    lambda log: log.where(dest_port=[22, range(50, 60), None]).count("dest_port"),
    lambda log: log.where("tcp.dport == 22 && !(ip.ttl / 3 == 21) || tcp.seq >> 3 == 5 || (ip.ttl ^ 3) == 67").count(),
    lambda log: log.syn.sql("WITH a AS (SELECT dest_port FROM packets) SELECT COUNT(*) AS n FROM a"),
    lambda log: log.count("src_ip", geo="country"),
    lambda log: log.records("us", "src_ip", limit=5),
    lambda log: log.find("top_sources"),
    lambda log: log.syn.find("scan_then_brute", within="1h"),
    lambda log: log.sums.count("sum_name"),
]


@pytest.mark.parametrize("number", range(len(QUESTIONS)))
@pytest.mark.filterwarnings("ignore")
def test_the_same_text_has_the_same_rows(logs: tuple[Log, Log], number: int) -> None:
    here, there = (QUESTIONS[number](log) for log in logs)
    assert here.sql == there.sql
    assert here.columns == there.columns
    assert here.rows() == there.rows()


@pytest.fixture(scope="module")
def joined(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Log, Log, Path]]:
    """What Suricata saw, as a log on DuckDB and on Spark; and sshd's lines of it."""
    directory = tmp_path_factory.mktemp("joined")
    auth = directory / "auth.log"
    auth.write_text(
        "2026-11-27T12:00:04Z fw sshd[7]: Failed password for root from 192.0.2.66 port 6000 ssh2\n"
        "2026-11-27T12:00:33Z fw sshd[7]: message repeated 2 times: [ Failed password for invalid user a b' from "
        "192.0.2.66 port 40023 ssh2]\n"
    )
    packets = [json.loads(line) for chunk in capture_lines(CAPTURE, pytest.fail) for line in chunk.splitlines()]
    here = read(parquet_file(directory / "a.parquet", packets))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield here, here.on(spark), auth
    here.close()


JOINS: list[tuple[int, Callable[[Log, Path], Answer]]] = [
    (32, lambda log, auth: log.host("192.0.2.66", eve=EVE, auth=auth)),
    (6, lambda log, auth: log.host("2001:db8::66", eve=EVE, every="1m")),
    (0, lambda log, auth: log.host("203.0.113.1", eve=EVE, auth=auth)),
    (11, lambda log, auth: log.alerts(EVE)),
    (2, lambda log, auth: log.logins(auth)),
    (1, lambda log, auth: log.systems()),
]


@pytest.mark.parametrize("number", range(len(JOINS)))
@pytest.mark.filterwarnings("ignore")
def test_joins_with_other_logs_have_the_same_rows(joined: tuple[Log, Log, Path], number: int) -> None:
    *logs, auth = joined
    least, ask = JOINS[number]
    here, there = (ask(log, auth) for log in logs)
    assert here.columns == there.columns
    rows = here.rows()
    assert there.rows() == rows
    assert len(rows) >= least


@pytest.mark.filterwarnings("ignore")
def test_filters_mean_the_same(logs: tuple[Log, Log]) -> None:
    """All cases of the language whose fields the relation has; in one query, as each takes a second there."""
    columns = {
        key: column.name for column in PACKETS for key in column.keys if len(column.keys) == 1 and key in PACKET.by_name
    }
    texts = []
    for case in CASES:
        names = {key for field in parse(case.text, added=ADDED).fields for key in field.keys}
        if names <= columns.keys() and "duckdb" not in case.refused_by:
            texts.append(where(case.text, columns, "common", added=ADDED).text)
    assert len(texts) > 20
    listed = ", ".join(f"SUM(CASE WHEN {text} THEN 1 ELSE 0 END) AS c{number}" for number, text in enumerate(texts))
    here, there = (log.sql(f"SELECT {listed} FROM packets").rows() for log in logs)
    assert here == there


def test_what_cannot_be_asked_there(spark: Any, tmp_path: Path) -> None:
    log = read(log_file(tmp_path / "x.json", [record()]))
    with pytest.raises(NotSupported, match="only archives: nflowlevel compact"):
        log.on(spark)


@pytest.mark.filterwarnings("ignore")
def test_an_archive_elsewhere(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "kind=packets").mkdir()
    parquet_file(tmp_path / "kind=packets" / "a.parquet", [record()])
    engine = Spark(spark, {}, [f"file://{tmp_path}/"])
    assert Log(engine).count("src_ip").rows() == [("192.0.2.66", 1)]
    assert Log(engine).sums.count().value() == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dvc", ["007", "2026-11-24", "a/b é", "", "x" * 300])
def test_names_of_directories_hide_no_column(spark: Any, tmp_path: Path, dvc: str) -> None:
    """Spark makes columns of directories such as dvc=007, and numbers of what is in them."""
    path = tmp_path / path_of("packets", dvc, START, START + 1, "ab", 0, 0)
    path.parent.mkdir(parents=True)
    parquet_file(path, [record(dvc=dvc)])
    for engine in (Spark(spark, {}, [f"file://{tmp_path}"]), Spark(spark, {"packets": [str(path)]})):
        assert Log(engine).count("dvc").rows() == [(dvc, 1)]


@pytest.mark.filterwarnings("ignore")
def test_options_in_a_url_are_for_duckdb(spark: Any) -> None:
    with pytest.raises(NotSupported, match=r"^reading s3://b/x by Spark .*spark\.hadoop\.fs\.s3a\.endpoint"):
        Spark(spark, {}, ["s3://b/x?endpoint=http://h"])


@pytest.mark.filterwarnings("ignore")
def test_what_amazon_calls_s3_is_s3a_for_spark(spark: Any) -> None:
    settings = spark.sparkContext._jsc.hadoopConfiguration()
    engine = Spark(spark, {})
    assert [engine._for_hadoop(f"{scheme}://b/x/") for scheme in ("s3", "s3n", "s3a", "gs")] == [
        "s3a://b/x", "s3a://b/x", "s3a://b/x", "gs://b/x",
    ]  # fmt: skip
    settings.set("fs.s3.impl", "a.service.of.its.own")
    try:
        assert engine._for_hadoop("s3://b/x") == "s3://b/x"
    finally:
        settings.unset("fs.s3.impl")


@pytest.mark.parametrize("scheme", ["s3", "s3a"])
def test_a_store_that_spark_has_no_library_for(spark: Any, scheme: str) -> None:
    with pytest.raises(NotSupported, match=rf"found no file system for {scheme}://; needed: .*hadoop-aws"):
        Spark(spark, {}, [f"{scheme}://bucket/archive"])


def test_without_pyspark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(NotSupported, match=r"pip install 'nflowlevel\[spark\]' and a Java runtime"):
        session("local[1]")
