# SPDX-License-Identifier: GPL-2.0-or-later
"""sweep: the model, a sweep in an ordinary network, and whom it accuses there without reason."""

from __future__ import annotations

from tests.fix_detectors import BACKUP, PROXY, Record, Row, accused, agrees, distinct, is_syn, packet, sliding_model


def model(records: list[Record]) -> list[Row]:
    syns = [r for r in records if is_syn(r)]

    def few(window: list[Record]) -> bool:
        return len(window) <= 2 * distinct(window, "dest_ip")

    return sliding_model(syns, ("src_ip", "dest_port"), "dest_ip", "hosts", 2, 20, 2, few)


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("sweep", model, hosts=2, tries=2, within=20)


def test_a_sweep_is_found_and_a_proxy_and_a_backup_with_it() -> None:
    """Bound: one finding for each busy client and port, here the proxy's two ports and the backup."""
    sweep = [packet(40_000 + n, "198.18.0.1", f"10.0.1.{n}", 445) for n in range(20)]
    assert accused("sweep", sweep) == [BACKUP, PROXY, PROXY, "198.18.0.1"]


def test_who_comes_back_to_his_servers_is_not_found() -> None:
    assert "10.0.0.99" not in accused(
        "sweep", [packet(40_000 + n / 10, "10.0.0.99", f"10.0.1.{n % 16}", 443) for n in range(33)]
    )
    assert "10.0.0.99" in accused(
        "sweep", [packet(40_000 + n / 10, "10.0.0.99", f"10.0.1.{n % 16}", 443) for n in range(32)]
    )
