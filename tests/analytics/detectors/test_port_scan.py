# SPDX-License-Identifier: GPL-2.0-or-later
"""port_scan: the model, a scan in an ordinary network, and whom it must not accuse there."""

from __future__ import annotations

from tests.fix_detectors import Record, Row, agrees, findings, is_syn, packet, sliding_model, us


def model(records: list[Record]) -> list[Row]:
    return sliding_model([r for r in records if is_syn(r)], ("src_ip", "dest_ip"), "dest_port", "ports", 3, 20, 2)


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("port_scan", model, ports=3, within=20)


def test_a_scan_is_found_and_nobody_else() -> None:
    """Bound: nobody of the ordinary network, that is no proxy, no gateway and no monitoring."""
    scan = [packet(40_000 + n / 10, "198.18.0.1", "10.0.1.1", 1 + n) for n in range(150)]
    (found,) = findings("port_scan", scan)
    assert (found["src_ip"], found["dest_ip"], found["dest_port"]) == ("198.18.0.1", "10.0.1.1", None)
    assert (found["ports"], found["count"]) == (150, 150)
    assert (found["first"], found["last"]) == (us(40_000), us(40_014.9))


def test_a_window_that_slides_sees_a_scan_across_the_border_of_two_minutes() -> None:
    scan = [packet(60 * 100 - 15 + n * 0.3, "198.18.0.1", "10.0.1.1", 1 + n) for n in range(100)]
    assert len(findings("port_scan", scan)) == 1
    assert not findings("port_scan", scan[:99])
