# SPDX-License-Identifier: GPL-2.0-or-later
"""blocked_sweep: the model, a refused sweep in an ordinary network, and whom it accuses there without reason."""

from __future__ import annotations

from tests.fix_detectors import PROXY, Record, Row, accused, agrees, findings, packet, sliding_model, udp


def model(records: list[Record]) -> list[Row]:
    blocked = [r for r in records if r["raw_label"] == 0 and r["ip_protocol"] in (6, 17)]
    return sliding_model(blocked, ("src_ip", "dest_port", "ip_protocol"), "dest_ip", "hosts", 2, 20, 2)


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("blocked_sweep", model, hosts=2, within=20)


def test_refused_sweeps_by_tcp_and_udp_are_found() -> None:
    """Bound: one finding for each client whose rule is missing, here an inventory; the proxy, which may, is quiet."""
    tcp = [packet(40_000 + n, "198.18.0.1", f"10.0.1.{n}", 445, raw_label=0) for n in range(10)]
    by_udp = [udp(50_000 + n, "198.18.0.2", f"10.0.1.{n}", 161, raw_label=0) for n in range(10)]
    found = accused("blocked_sweep", tcp + by_udp)
    assert found == ["10.0.0.44", "198.18.0.1", "198.18.0.2"]
    assert PROXY not in found


def test_what_was_let_through_does_not_count() -> None:
    sweep = [packet(40_000 + n, "198.18.0.1", f"10.0.1.{n}", 445, raw_label=int(n == 4)) for n in range(10)]
    assert "198.18.0.1" not in [found["src_ip"] for found in findings("blocked_sweep", sweep)]
