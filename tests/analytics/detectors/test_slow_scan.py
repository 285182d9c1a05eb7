# SPDX-License-Identifier: GPL-2.0-or-later
"""slow_scan: the model, a slow scan in an ordinary network, and whom it must not accuse there."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fix_detectors import (
    BEGIN,
    DAY,
    GATEWAY,
    Record,
    Row,
    accused,
    agrees,
    distinct,
    findings,
    grouped,
    is_syn,
    logs,
    packet,
    row,
)


def model(records: list[Record]) -> list[Row]:
    days = [r | {"day": r["sec"] // DAY * DAY} for r in records if is_syn(r)]
    return [
        row(group, src=source, day=day, ports=distinct(group, "dest_port"), hosts=distinct(group, "dest_ip"))
        for (source, day), group in grouped(days, "src_ip", "day").items()
        if distinct(group, "dest_port") >= 3
    ]


def test_it_agrees_with_the_model_on_random_logs() -> None:
    spans: st.SearchStrategy[list[Record]] = st.one_of(logs(span=3 * DAY), logs())
    agrees("slow_scan", model, log=spans, ports=3)


def test_a_port_every_twenty_minutes_is_found_and_nobody_else() -> None:
    """Bound: one finding a day for a gateway that uses more than 60 services; ours uses forty, so nobody."""
    scan = [packet(n * 1200, "198.18.0.1", f"10.0.1.{n}", 1 + n) for n in range(60)]
    (found,) = findings("slow_scan", scan)
    assert (found["src_ip"], found["ports"], found["hosts"], found["day"]) == ("198.18.0.1", 60, 60, BEGIN)
    assert GATEWAY not in accused("slow_scan")


def test_a_busy_gateway_is_found_once_a_day() -> None:
    busy = [packet(n * 1000, GATEWAY, "203.0.113.1", 7000 + n % 65) for n in range(200)]
    assert accused("slow_scan", busy) == [GATEWAY, GATEWAY, GATEWAY]
