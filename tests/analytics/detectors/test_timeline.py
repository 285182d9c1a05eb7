# SPDX-License-Identifier: GPL-2.0-or-later
"""timeline: the model, and the article's host minute by minute."""

from __future__ import annotations

from tests.fix_detectors import BEGIN, Record, Row, agrees, findings, grouped, is_syn, packet, row, the_one

_KEYS = ("src_ip", "minute", "src_port", "dest_port", "tcp_window", "ip_ttl")


def model(records: list[Record]) -> list[Row]:
    syns = [r | {"minute": r["sec"] // 60 * 60} for r in records if is_syn(r)]
    chosen = {r["src_ip"] for r in syns if r["tcp_window"] == 16384 and r["src_port"] == 6000}
    groups = grouped((r for r in syns if r["src_ip"] in chosen), *_KEYS)
    rows = []
    for key in sorted(groups)[:4]:
        source, minute, own, port, window, ttl = key
        group = groups[key]
        more = {"minute": minute, "src_port": own, "tcp_window": window, "ip_ttl": ttl}
        rows.append(row(group, src=source, dest=the_one(group, "dest_ip"), port=port, **more))
    return rows


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("timeline", model, most=4)


def test_a_host_is_shown_with_scan_pause_and_brute_force() -> None:
    """Bound: it suspects nobody, and shows nothing of a network without such a tool."""
    assert findings("timeline") == []
    scan = [packet(6000 + n, "198.18.0.1", f"10.0.1.{n}", 22, src_port=6000, tcp_window=16384) for n in range(5)]
    brute = [packet(9000 + n, "198.18.0.1", "10.0.1.3", 22, src_port=50_000, ip_ttl=110) for n in range(3)]
    found = findings("timeline", scan + brute)
    assert [(each["minute"] - BEGIN, each["count"], each["tcp_window"], each["ip_ttl"]) for each in found] == [
        (6000, 5, 16384, 63),
        (9000, 3, 64240, 110),
    ]
