# SPDX-License-Identifier: GPL-2.0-or-later
"""A log is narrowed and counted; the same by steps as by plain Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from nflowlevel.analytics.log import Log
from nflowlevel.analytics.reading import read
from tests.fix_logs import START, hourly_files, log_file, parquet_file, record

ODD = [record(n, src_port=6000, dest_port=(22, 23)[n % 2], src_ip=f"192.0.2.{n % 5}") for n in range(60)]
USUAL = [record(100 + n, tcp__window=64240, src_port=40000 + n, src_ip="203.0.113.9", dest_port=443) for n in range(40)]
ANSWERS = [record(200 + n, tcp__window=1000, tcp__ack=1) for n in range(3)]
RESETS = [record(300, tcp__rst=1, oob__prefix=None)]
UDP = [record(400, ip__protocol=17, tcp__syn=None, tcp__ack=None, tcp__rst=None, tcp__window=None, dest_port=53)]
RECORDS = [*ODD, *USUAL, *ANSWERS, *RESETS, *UDP]


@pytest.fixture(params=["lines", "archive", "both"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Log:
    """The same log as lines, as an archive, and half of it as each."""
    half = len(RECORDS) // 2
    match request.param:
        case "lines":
            sources = [log_file(tmp_path / "a.json", RECORDS)]
        case "archive":
            sources = [parquet_file(tmp_path / "a.parquet", RECORDS)]
        case _:
            sources = [
                parquet_file(tmp_path / "a.parquet", RECORDS[:half]),
                log_file(tmp_path / "b.json", RECORDS[half:]),
            ]
    return read(*sources)


def test_the_histogram_of_windows(log: Log) -> None:
    answer = log.syn.count("tcp_window")
    assert answer.columns == ("tcp_window", "n")
    assert answer.rows() == [(16384, 60), (64240, 40)]
    assert log.count().value() == len(RECORDS)


def test_narrowing(log: Log) -> None:
    odd = log.syn.where(tcp_window=16384)
    assert odd.count("dest_port").rows() == [(22, 30), (23, 30)]
    assert odd.where(src_ip="192.0.2.0/31").count("src_ip").rows() == [("192.0.2.0", 12), ("192.0.2.1", 12)]
    assert log.exclude(dest_port=[22, 23]).count("dest_port").rows() == [(443, 40), (53, 1)]
    assert log.where(tcp_window=None).count().value() == 1
    assert log.exclude(tcp_window=16384).count().value() == len(RECORDS) - len(ODD) - len(RESETS)
    assert log.where(src_port=range(40_000, 40_010)).count().value() == 10
    assert log.where("tcp.dport == 443 && ip.ttl < 65").count().value() == 40
    assert log.where("tcp.dport == 53").count().value() == 0
    assert log.where("udp.dport == 53").count().value() == 1
    assert log.where("!(tcp.dport == 443)").count().value() == len(RECORDS) - 40


def test_time_counts_back_from_the_newest_record(log: Log) -> None:
    assert log.last("1s").count().value() == 1
    assert log.last("101s").count().value() == 2
    assert log.last(10, until=START + 10).count().value() == 10
    assert log.between(START + 100, START + 110).count("dest_port").rows() == [(443, 10)]
    assert log.between("2026-11-24T08:30", None).count().value() == len(RECORDS)
    assert log.syn.last("1s").count().value() == 0


def test_sql_is_within_what_was_narrowed(log: Log) -> None:
    odd = log.syn.where(tcp_window=16384)
    assert odd.sql("SELECT COUNT(*) AS n FROM packets").value() == 60
    with_own = "-- mine\nWITH few AS (SELECT * FROM packets WHERE dest_port = 22) SELECT COUNT(*) AS n FROM few;"
    assert odd.sql(with_own).value() == 30
    assert log.sql("SELECT COUNT(*) AS n FROM packets").sql == "SELECT COUNT(*) AS n FROM packets"


def test_an_unknown_name_is_told_with_the_nearest(log: Log) -> None:
    with pytest.raises(KeyError, match="did you mean 'tcp_window'"):
        log.count("tcp_windw")
    count: Any = log.count  # what a type checker would refuse
    with pytest.raises(TypeError, match=r"^count takes names of columns, .*, not 10$"):
        count("tcp_window", 10)
    with pytest.raises(TypeError, match=r"^count takes names of columns, .*, not \['tcp_window'\]$"):
        count(["tcp_window"])
    with pytest.raises(TypeError, match=r"^a number of rows must be an int, not '5'$"):
        count("tcp_window", top="5")
    with pytest.raises(KeyError, match="did you mean 'dest_port'"):
        log.where(tcp_dport=22)


def test_a_detector_looks_at_the_records_of_the_log(log: Log) -> None:
    found = log.find("fixed_port", attempts=6)
    assert {row["src_ip"] for row in found.dicts()} == {f"192.0.2.{n}" for n in range(5)}
    assert {row["src_ip"] for row in log.where(src_ip="192.0.2.0/31").find("fixed_port", attempts=6).dicts()} == {
        "192.0.2.0",
        "192.0.2.1",
    }
    assert log.find("fixed_port").rows() == []
    assert log.sql(found.sql).rows() == found.rows()
    with pytest.raises(ValueError, match=r"^unknown detector 'beakon' — did you mean 'beacon'\?$"):
        log.find("beakon")
    with pytest.raises(TypeError, match=r"^fixed_port: unknown option 'attempt' — did you mean 'attempts'\?$"):
        log.find("fixed_port", attempt=13)


def test_a_time_opens_only_the_files_that_have_records_in_it(tmp_path: Path) -> None:
    paths = hourly_files(tmp_path)
    with read(tmp_path) as log:
        newest = log.newest
        last = log.last("1h")
        paths[0].unlink()
        assert last.count().value() == 2
        assert last.sql("SELECT COUNT(*) AS n FROM packets").rows() == [(2,)]
        assert log.between(START + 3600, START + 7200).records("sec").rows() == [(START + 3600,), (START + 3660,)]
        assert log.between(START + 3660).between(None, START + 3661).count().value() == 1
        assert log.between(START + 9000).count().value() == 0
        with pytest.raises(duckdb.Error):
            log.between(START + 60, START + 3600).count().value()
    assert newest == (START + 7260) * 10**6 + 250


@pytest.mark.parametrize("said", [7200, 7300, 9999])
def test_the_newest_record_is_looked_for_where_it_can_be(tmp_path: Path, said: int) -> None:
    """Only in the files whose names say so; in all where none of these has it: a name may say more than there is."""
    paths = hourly_files(tmp_path, (3599, 7000, said))
    with read(tmp_path) as log:
        assert log._store is not None
        assert log._store.last_second == START + said
        assert log.newest == (START + 7260) * 10**6 + 250
        paths[0].unlink()
        if said == 7200:
            assert log.newest == (START + 7260) * 10**6 + 250
        else:
            with pytest.raises(duckdb.Error):
                str(log.newest)
    with read(log_file(tmp_path / "a.json", [record(1)])) as log:
        assert log._store is not None
        assert log._store.last_second is None
        assert log.newest == (START + 1) * 10**6 + 250


def test_the_newest_record_is_that_of_the_whole_log(log: Log) -> None:
    assert log.between(None, START + 1).newest == log.newest


def test_records_that_are_held(log: Log) -> None:
    chosen = log.between(START, START + 3600).syn
    held = chosen.held("us", "src_ip", "tcp_window")
    assert held.count("tcp_window").rows() == chosen.count("tcp_window").rows()
    assert held.records("src_ip").rows() == chosen.records("src_ip").rows()
    assert held.count().value() == chosen.count().value() < log.count().value()
    first = chosen.records("us", limit=1).value() / 10**6
    assert held.between(first, first + 1).count().value() == chosen.between(first, first + 1).count().value() > 0
    assert held.between(first + 1).count().value() == chosen.between(first + 1).count().value() < chosen.count().value()
    assert log.count().value() > 0


def test_what_is_in_memory_stays_as_it_is(log: Log) -> None:
    syn = log.syn
    wanted = syn.count("src_ip").rows()
    for held in (syn.held("us", "src_ip"), syn.numbered("us", "src_ip")):
        assert held.held("us", "src_ip").count("src_ip").rows() == wanted
        assert held.numbered("us", "src_ip").count("src_ip").rows() == wanted
        assert held.brief("us", "src_ip") is None
    brief = log.brief("us", "src_ip")
    assert brief is not None
    assert syn.held("us", "src_ip").asked(brief).count("src_ip").rows() == wanted
    assert log.asked(brief).count("src_ip").rows() != wanted
