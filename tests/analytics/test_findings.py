# SPDX-License-Identifier: GPL-2.0-or-later
"""Findings of a log: the article's attacker, what is narrowed, and the records behind a finding."""

from __future__ import annotations

from pathlib import Path

import pytest

from nflowlevel.analytics.log import Log
from nflowlevel.analytics.reading import read
from tests.fix_logs import log_file, record

ATTACKER = "192.0.2.66"
SCAN = [record(n, dest_ip=f"198.51.100.{n}") for n in range(20)]
BRUTE = [record(600 + n, src_port=40_000 + n, tcp__window=5840, ip__ttl=47, dest_ip="198.51.100.7") for n in range(30)]
OTHERS = [record(n * 7, src_ip="203.0.113.9", src_port=50_000 + n, dest_port=443, tcp__window=64240) for n in range(50)]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """A scan, a pause, and a brute force with another window, among others."""
    return read(log_file(tmp_path / "log.json", [*SCAN, *BRUTE, *OTHERS]))


def test_the_attacker_of_the_article(log: Log) -> None:
    found = log.find("scan_then_brute", within="1h")
    assert [each["src_ip"] for each in found.dicts()] == [ATTACKER]
    assert found.columns[:2] == ("finding", "severity")
    assert found.detector.name == "scan_then_brute"
    assert log.find("scan_then_brute", within="1m").rows() == []


def test_the_records_behind(log: Log) -> None:
    found = log.find("brute_force")
    behind = found.evidence()
    assert {each["src_ip"] for each in behind.dicts()} == {ATTACKER}
    assert len(behind.rows()) >= len(BRUTE)
    with pytest.raises(IndexError, match="brute_force has 1 finding; there is no number 1"):
        found.evidence(1)
    with pytest.raises(IndexError, match="from 0 on"):
        found.evidence(-1)


def test_only_what_is_narrowed_is_searched(log: Log) -> None:
    assert log.exclude(src_ip=ATTACKER).find("scan_then_brute").rows() == []
    assert log.where(src_ip=f"{ATTACKER}/32").find("scan_then_brute").rows() != []
    assert log.last("5m").find("brute_force").rows() != []
    assert log.last("5m").find("scan_then_brute").rows() == []
    narrowed = log.last("5m").find("brute_force")
    assert all(each["tcp_window"] == 5840 for each in narrowed.evidence().dicts())


def test_nothing_says_which_time_may_find_something(log: Log) -> None:
    told = 'within is 1m, and the log spans 10m: within="4m" may find what is slower'
    found = log.find("scan_then_brute", within="1m")
    assert found.advice() == told
    assert repr(found).endswith(f"\n(no rows)\n({told})")
    assert log.find("scan_then_brute", within="1h").advice() == ""
    assert "(" not in repr(log.find("scan_then_brute", within="1h"))
    assert log.last("30s").find("scan_then_brute", within="1m").advice() == ""
    assert repr(log.find("beacon")).endswith("\n(no rows)")
    assert log.where(src_ip="192.0.2.250").find("scan_then_brute").advice() == ""


def test_unknown_names(log: Log) -> None:
    with pytest.raises(ValueError, match="did you mean 'beacon'"):
        log.find("becon")
    with pytest.raises(TypeError, match="within"):
        log.find("scan_then_brute", withn="1h")
