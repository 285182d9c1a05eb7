# SPDX-License-Identifier: GPL-2.0-or-later
"""new_services: the model, a back door in an ordinary network, and which service it accuses without reason."""

from __future__ import annotations

from tests.fix_detectors import (
    DAY,
    SECOND,
    SELDOM,
    Record,
    Row,
    accused,
    agrees,
    distinct,
    findings,
    grouped,
    logs,
    packet,
    row,
    the_one,
)


def model(records: list[Record]) -> list[Row]:
    answers = [r for r in records if (r["tcp_syn"], r["tcp_ack"], r["tcp_rst"]) == (1, 1, 0)]
    begin = min((r["us"] for r in records), default=0)
    return [
        row(group, src=the_one(group, "dest_ip"), dest=host, port=port, clients=distinct(group, "dest_ip"))
        for (host, port), group in grouped(answers, "src_ip", "src_port").items()
        if min(r["us"] for r in group) >= begin + 20 * SECOND and distinct(group, "dest_ip") >= 1
    ]


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("new_services", model, log=logs(flags=(("s", "sa"),)), known=20, clients=1)


def answers(clients: int, at: float) -> list[Record]:
    return [packet(at + n, "10.0.1.1", f"198.18.0.{n}", 50_000, src_port=31337, tcp_ack=1) for n in range(clients)]


def test_a_back_door_is_found_and_a_service_that_is_used_seldom_with_it() -> None:
    """Bound: one finding for each service that is first used after the first day, here one."""
    found = findings("new_services", answers(3, 1.5 * DAY))
    assert [(each["dest_ip"], each["dest_port"]) for each in found] == [("10.0.1.1", 31337), (SELDOM, 9100)]
    assert found[0]["clients"] == 3


def test_what_was_there_before_or_has_one_client_is_not_found() -> None:
    for innocent in (answers(1, 1.5 * DAY), answers(3, 0.5 * DAY) + answers(3, 2 * DAY)):
        assert accused("new_services", innocent, column="dest_ip") == [SELDOM]
