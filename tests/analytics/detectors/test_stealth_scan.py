# SPDX-License-Identifier: GPL-2.0-or-later
"""stealth_scan: the model, scans of each kind in an ordinary network, and whom it must not accuse there."""

from __future__ import annotations

from tests.fix_detectors import FLAGS, Record, Row, agrees, distinct, findings, grouped, packet, row


def kind_of(record: Record) -> str | None:
    flags = {flag for flag in FLAGS if record[f"tcp_{flag}"]}
    if not flags:
        return "null"
    if {"syn", "fin"} <= flags:
        return "syn+fin"
    if "fin" not in flags or "ack" in flags:
        return None
    if {"psh", "urg"} <= flags:
        return "xmas"
    return None if "rst" in flags else "fin"


def model(records: list[Record]) -> list[Row]:
    kinds = [r | {"kind": kind_of(r)} for r in records if r["ip_protocol"] == 6]
    return [
        row(group, src=source, dest=dest, kind=kind, ports=distinct(group, "dest_port"))
        for (source, dest, kind), group in grouped(kinds, "src_ip", "dest_ip", "kind").items()
        if distinct(group, "dest_port") >= 2
    ]


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("stealth_scan", model, ports=2)


def test_each_kind_is_found_and_nobody_else() -> None:
    """Bound: nobody; a stack sends no such packet, and a broken middlebox not to twenty ports."""
    kinds = {
        "null": {},
        "fin": {"tcp_fin": 1},
        "xmas": {"tcp_fin": 1, "tcp_psh": 1, "tcp_urg": 1},
        "syn+fin": {"tcp_syn": 1, "tcp_fin": 1},
    }
    scans = [
        packet(1000.0 * n + port, f"198.18.0.{n}", "10.0.1.1", port, **({"tcp_syn": 0} | flags))
        for n, flags in enumerate(kinds.values())
        for port in range(20)
    ]
    broken = [packet(9000 + n, "10.0.0.99", "10.0.1.1", n, tcp_syn=0) for n in range(19)]
    found = findings("stealth_scan", scans + broken)
    assert [(each["src_ip"], each["kind"]) for each in found] == [
        (f"198.18.0.{n}", kind) for n, kind in enumerate(kinds)
    ]


def test_a_connection_that_ends_is_not_found() -> None:
    ends = [packet(1000 + port, "10.0.0.99", "10.0.1.1", port, tcp_syn=0, tcp_fin=1, tcp_ack=1) for port in range(50)]
    assert findings("stealth_scan", ends) == []
