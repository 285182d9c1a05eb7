# SPDX-License-Identifier: GPL-2.0-or-later
"""Records that are printed: columns in which none of them has a value are left out, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

import nflowlevel as nfl
from nflowlevel.analytics.answer import SHOWN_ROWS
from nflowlevel.analytics.log import Log
from tests.fix_logs import log_file, record


@pytest.fixture
def log(tmp_path: Path) -> Log:
    # The last one is not shown, so what only it has is not, either.
    found = [record(n, src_ip="192.0.2.1") for n in range(SHOWN_ROWS)] + [record(99, oob__prefix="seen by nobody")]
    return nfl.read(log_file(tmp_path / "a.json", [{**each, "icmp.type": None} for each in found]))


def test_only_columns_with_values_are_shown(log: Log) -> None:
    answer = log.records()
    head = repr(answer).splitlines()[0].split()
    assert head[:5] == ["us", "oob_prefix", "src_ip", "src_port", "dest_ip"]
    assert "sec" not in head
    assert not {"icmp_type", "arp_operation", "oob_uid"} & set(head)
    assert len(head) == len(set(head)) < 30
    assert repr(answer).splitlines()[-1] == f"… the first {SHOWN_ROWS} rows; .rows() and .df() have all"
    # All of it is in the answer.
    assert answer.columns == log.columns
    assert len(answer.rows()[0]) == len(log.columns)


def test_html_has_the_same_columns(log: Log) -> None:
    page = log.records().to_html()
    assert "<th>src_ip</th>" in page
    assert "icmp_type" not in page
    assert log.records()._repr_html_() == page


def test_columns_that_were_asked_for(log: Log) -> None:
    assert repr(log.records("sec", "src_ip", limit=1)).splitlines()[0].split() == ["sec", "src_ip"]


def test_without_records(log: Log) -> None:
    assert repr(log.where(src_ip="203.0.113.9").records("src_ip", "dest_ip")) == "src_ip  dest_ip\n(no rows)"


def test_evidence_is_records(log: Log) -> None:
    found = log.find("top_sources").evidence(0)
    assert "arp_operation" in found.columns
    assert "arp_operation" not in repr(found)
