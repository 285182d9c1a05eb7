# SPDX-License-Identifier: GPL-2.0-or-later
"""What comes in now: counted over the last seconds, bounded, and looked through by detectors."""

from __future__ import annotations

import json

import pytest

from nflowlevel.analytics import live as module
from nflowlevel.analytics.live import Live
from tests.fix_logs import record


def _line(**members: object) -> bytes:
    return json.dumps(members).encode()


def test_the_busiest() -> None:
    live = Live(10)
    live.add([_line(src_ip="192.0.2.1", dest_port=22) for _ in range(3)], 100.0)
    live.add(
        [_line(src_ip="192.0.2.2", dest_port=22, **{"raw.label": 0}), _line(src_ip="192.0.2.2", action="blocked")], 101
    )
    assert live.top("sources", 5, 101.0) == [("192.0.2.1", 3), ("192.0.2.2", 2)]
    assert live.top("ports", 5, 101.0) == [(22, 4)]
    assert live.top("sources", 1, 101.0) == [("192.0.2.1", 3)]
    assert live.rate(101.0) == (0.5, 0.2)
    assert live.records == 5


def test_what_is_old_is_forgotten() -> None:
    live = Live(10)
    live.add([_line(src_ip="192.0.2.1")], 100.0)
    live.add([_line(src_ip="192.0.2.2")], 105.0)
    assert live.top("sources", 5, 110.0) == [("192.0.2.2", 1)]
    assert live.top("sources", 5, 115.0) == []
    assert live.rate(115.0) == (0.0, 0.0)


def test_flows_too() -> None:
    live = Live()
    live.add([_line(**{"orig.ip.saddr.str": "192.0.2.1", "orig.l4.dport": 443})], 1)
    assert (live.top("sources", 5, 1), live.top("ports", 5, 1)) == ([("192.0.2.1", 1)], [(443, 1)])


@pytest.mark.parametrize("line", [b"", b"{", b"[1]", b"\xff", b'"text"', b"{}" * 2])
def test_what_is_no_record_is_counted(line: bytes) -> None:
    live = Live()
    live.add([line, _line(src_ip="192.0.2.1")], 1)
    assert (live.damaged, live.records) == (1, 1)


def test_countries() -> None:
    live = Live(10)
    live.add([_line(src_ip=source) for source in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1", "10.0.0.1")], 100)
    known = {"192.0.2.1": "NL", "192.0.2.2": "CN", "192.0.2.3": "CN", "10.0.0.1": None}
    assert live.countries(5, 101.0, lambda addresses: {each: known[each] for each in addresses}) == [
        ("CN", 2), ("NL", 2),
    ]  # fmt: skip
    assert live.countries(1, 101.0, lambda addresses: {"192.0.2.1": "NL"}) == [("NL", 2)]
    assert live.countries(5, 120.0, lambda addresses: {}) == []


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_VALUES", 10)
    live = Live()
    live.add([_line(src_ip=f"192.0.2.{number}") for number in range(100)], 1)
    live.add([_line(src_ip="192.0.2.1")], 1)
    assert len(live.top("sources", 100, 1)) == 10
    assert live.top("sources", 1, 1) == [("192.0.2.1", 2)]
    assert live.rate(1)[0] == pytest.approx(101 / 60)


def test_a_scan_is_found() -> None:
    live = Live()
    scan = [record(port // 20, src_ip="203.0.113.9", dest_port=port) for port in range(1, 300)]
    live.add([json.dumps(each).encode() for each in scan], 1)
    (found,) = [each for each in live.findings() if each.detector == "port_scan"]
    assert (found.src_ip, found.dest_ip) == ("203.0.113.9", "198.51.100.7")
    assert found.count >= 100


def test_nothing_is_found_in_nothing() -> None:
    assert Live().findings() == []
