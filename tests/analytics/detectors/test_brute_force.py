# SPDX-License-Identifier: GPL-2.0-or-later
"""brute_force: the model, an attack in an ordinary network, and whom it accuses there without reason."""

from __future__ import annotations

from tests.fix_detectors import (
    ANSIBLE,
    MONITORING,
    Record,
    Row,
    accused,
    agrees,
    findings,
    is_syn,
    logs,
    packet,
    sliding_model,
)


def model(records: list[Record]) -> list[Row]:
    logins = [r for r in records if is_syn(r) and r["dest_port"] in (22, 23)]

    def enough(window: list[Record]) -> bool:
        return len(window) >= 4

    return sliding_model(logins, ("src_ip", "dest_ip", "dest_port"), "src_port", "ports", 2, 20, 5, enough)


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("brute_force", model, log=logs(span=100.0, port=(22, 23)), attempts=4, ports=2, logins=[22, 23], within=20)


def guesses(count: int, every: float, port: int = 22) -> list[Record]:
    return [packet(40_000 + n * every, "198.18.0.1", "10.0.1.1", port, src_port=40_000 + n) for n in range(count)]


def test_guesses_are_found_and_configuration_by_ssh_with_them() -> None:
    """Bound: one finding for each program that logs in again and again, here one; monitoring is not."""
    assert accused("brute_force", guesses(40, 5)) == [ANSIBLE, "198.18.0.1"]
    assert MONITORING not in accused("brute_force")
    assert accused("brute_force", guesses(40, 60)) == [ANSIBLE]


def test_other_ports_are_named_by_the_parameter() -> None:
    found = findings("brute_force", guesses(40, 5, 2222), logins="2222")
    assert [(each["src_ip"], each["dest_port"], each["ports"]) for each in found] == [("198.18.0.1", 2222, 40)]
