# SPDX-License-Identifier: GPL-2.0-or-later
"""dns_beacon: the model, beacons in an ordinary network, and whom it accuses there without reason."""

from __future__ import annotations

import itertools
import random
import statistics

import pytest

from tests.fix_detectors import (
    ROUTER,
    SECOND,
    Record,
    Row,
    accused,
    agrees,
    distinct,
    findings,
    grouped,
    logs,
    row,
    udp,
)


def lookups(times: list[int], pause: int) -> list[int]:
    """Return the beginnings of look-ups."""
    times = sorted(times)
    return times[:1] + [after for before, after in itertools.pairwise(times) if after - before >= pause * SECOND]


def model(records: list[Record]) -> list[Row]:
    rows = []
    asked = [r for r in records if r["ip_protocol"] == 17 and r["dest_port"] in (53, 5353)]
    users = {server: distinct(group, "src_ip") for server, group in grouped(asked, "dest_ip", "dest_port").items()}
    for (source, dest, port), group in grouped(asked, "src_ip", "dest_ip", "dest_port").items():
        begins = lookups([r["us"] for r in group], 2)
        gaps = [(after - before) / 1e6 for before, after in itertools.pairwise(begins)]
        if users[dest, port] > 2 or len(gaps) < 3:
            continue
        mean, deviation = statistics.fmean(gaps), statistics.stdev(gaps)
        if mean >= 3 and deviation <= 0.6 * mean:
            more = {
                "mean_secs": pytest.approx(mean, abs=0.0006),
                "jitter": pytest.approx(100 * deviation / mean, abs=0.006),
            }
            rows.append(row(group, src=source, dest=dest, port=port, count=len(begins), packets=len(group), **more))
    return rows


def test_it_agrees_with_the_model_on_random_logs() -> None:
    log = logs(span=300.0, port=(53, 5353))
    agrees("dns_beacon", model, log=log, gaps=3, every=3, jitter=60, pause=2, sources=2, examples=200)


def beacon(count: int, spread: float, server: str = "203.0.113.66", source: str = "10.0.4.7") -> list[Record]:
    choose = random.Random(5)
    times = [1000 + n * 60 + choose.gauss(0, spread * 60) for n in range(count)]
    # Each look-up is two packets (A and AAAA), and some are sent again.
    return [udp(at + after, source, server, 53) for n, at in enumerate(times) for after in (0, 0.001, 1.5)[: 2 + n % 2]]


def test_a_beacon_is_found_though_a_look_up_is_several_packets_and_a_router_with_it() -> None:
    """Bound: one finding for each host with a resolver of its own that it asks regularly, here one."""
    assert accused("dns_beacon", beacon(150, 0.02)) == [ROUTER, "10.0.4.7"]
    (found,) = [each for each in findings("dns_beacon", beacon(150, 0.02)) if each["src_ip"] == "10.0.4.7"]
    assert (found["count"], found["packets"], found["dest_ip"]) == (150, 375, "203.0.113.66")


def test_the_resolver_of_all_and_irregular_look_ups_are_not_found() -> None:
    assert accused("dns_beacon", beacon(150, 0.3)) == [ROUTER]
    shared = [udp(500, f"10.0.4.{n}", "203.0.113.66", 53) for n in range(20, 24)]
    assert accused("dns_beacon", beacon(150, 0.02) + shared) == [ROUTER]
