# SPDX-License-Identifier: GPL-2.0-or-later
"""protocol_scan: the model, a scan in an ordinary network, and whom it must not accuse there."""

from __future__ import annotations

from tests.fix_detectors import Record, Row, agrees, findings, packet, sliding_model


def model(records: list[Record]) -> list[Row]:
    return sliding_model(records, ("src_ip", "dest_ip"), "ip_protocol", "protocols", 3, 20, 2)


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("protocol_scan", model, protocols=3, within=20)


def test_a_scan_is_found_and_nobody_else() -> None:
    """Bound: nobody; two routers that speak eight protocols are let off."""
    scan = [packet(40_000 + n, "198.18.0.1", "10.0.1.1", None, ip_protocol=100 + n) for n in range(20)]
    routers = [
        packet(50_000 + n, "10.0.0.2", "10.0.0.3", None, ip_protocol=protocol)
        for n, protocol in enumerate((1, 6, 17, 47, 50, 89, 103, 112))
    ]
    (found,) = findings("protocol_scan", scan + routers)
    assert (found["src_ip"], found["dest_ip"], found["protocols"]) == ("198.18.0.1", "10.0.1.1", 20)
