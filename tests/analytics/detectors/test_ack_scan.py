# SPDX-License-Identifier: GPL-2.0-or-later
"""ack_scan: the model, a scan in an ordinary network, and whom it must not accuse there."""

from __future__ import annotations

from tests.fix_detectors import Record, Row, agrees, distinct, findings, packet, sliding_model


def model(records: list[Record]) -> list[Row]:
    acks = [r for r in records if r["tcp_ack"] == 1 and not (r["tcp_syn"] or r["tcp_rst"] or r["tcp_fin"])]

    def few(window: list[Record]) -> bool:
        return len(window) <= 2 * distinct(window, "dest_port")

    rows = sliding_model(acks, ("src_ip", "dest_ip"), "dest_port", "ports", 2, 20, 2, few)
    opened = {frozenset((r["src_ip"], r["dest_ip"])) for r in records if r["tcp_syn"] == 1}
    return [each for each in rows if frozenset((each["src_ip"], each["dest_ip"])) not in opened]


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("ack_scan", model, ports=2, tries=2, within=20)


def acks(source: str, dest: str, at: float = 40_000) -> list[Record]:
    return [packet(at + n / 10, source, dest, 1000 + n, tcp_syn=0, tcp_ack=1) for n in range(60)]


def test_a_scan_is_found_and_nobody_else() -> None:
    """Bound: nobody, also not the servers whose answers are logged, if the log has the beginning of connections."""
    (found,) = findings("ack_scan", acks("198.18.0.1", "10.0.1.1"))
    assert (found["src_ip"], found["dest_ip"], found["ports"]) == ("198.18.0.1", "10.0.1.1", 60)


def test_a_syn_in_either_direction_says_that_there_were_connections() -> None:
    for ends in (("10.0.0.98", "10.0.0.99"), ("10.0.0.99", "10.0.0.98")):
        assert findings("ack_scan", [*acks("10.0.0.98", "10.0.0.99"), packet(1, *ends, 80)]) == []


def test_a_log_that_begins_in_the_middle_is_one_finding_for_a_pair() -> None:
    assert len(findings("ack_scan", acks("10.0.0.98", "10.0.0.99", 0) + acks("10.0.0.98", "10.0.0.99", 300))) == 1
