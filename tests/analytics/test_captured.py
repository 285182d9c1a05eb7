# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures as lines of JSON: the same members as the output JSON; what is cut is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nflowlevel.analytics.captured import capture_lines
from nflowlevel.errors import CaptureError
from tests.captures import NOW_NS, pcap, udp_packets


def test_the_packets_of_a_capture(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(udp_packets(3), 101))
    damage: list[str] = []
    found = [json.loads(line) for lines in capture_lines(str(path), damage.append) for line in lines.splitlines()]
    assert [(each["src_ip"], each["src_port"], each["dest_port"], each["ip.protocol"]) for each in found] == [
        ("10.0.0.1", port, 9, 17) for port in (1, 2, 3)
    ]
    assert found[2]["oob.time.sec"] * 10**6 + found[2]["oob.time.usec"] == NOW_NS // 1000 + 2
    assert not damage


def test_a_capture_that_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(udp_packets(3), 101)[:-5])
    damage: list[str] = []
    assert sum(lines.count(b"\n") for lines in capture_lines(str(path), damage.append)) == 2
    assert len(damage) == 1
    assert "2 packets came before" in damage[0]


def test_no_capture(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(b"no capture")
    with pytest.raises(CaptureError):
        list(capture_lines(str(path), print))
