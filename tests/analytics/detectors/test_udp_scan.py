# SPDX-License-Identifier: GPL-2.0-or-later
"""udp_scan: the model, a scan in an ordinary network, and whom it must not accuse there."""

from __future__ import annotations

from tests.fix_detectors import RESOLVER, TRACER, Record, Row, accused, agrees, findings, sliding_model, udp


def model(records: list[Record]) -> list[Row]:
    asked = [
        r
        for r in records
        if r["ip_protocol"] == 17 and r["dest_port"] < 32768 and r["src_port"] not in (53, 123, 161, 443)
    ]
    return sliding_model(asked, ("src_ip", "dest_ip"), "dest_port", "ports", 3, 20, 2)


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("udp_scan", model, ports=3, within=20)


def test_a_scan_is_found_and_nobody_else() -> None:
    """Bound: nobody, neither the resolver that answers to sixty ports nor traceroute."""
    scan = [udp(40_000 + n / 2, "198.18.0.1", "10.0.1.1", 1 + n) for n in range(60)]
    (found,) = findings("udp_scan", scan)
    assert (found["src_ip"], found["dest_ip"], found["ports"]) == ("198.18.0.1", "10.0.1.1", 60)


def test_answers_and_traceroute_are_let_off_by_parameters_only() -> None:
    found = [each["src_ip"] for each in findings("udp_scan", services=9, below=65536)]
    assert RESOLVER in found
    assert TRACER in found
    assert accused("udp_scan") == []
