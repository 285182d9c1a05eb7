# SPDX-License-Identifier: GPL-2.0-or-later
"""distributed_brute_force: the model, an attack in an ordinary network, and which service it accuses without reason."""

from __future__ import annotations

from tests.fix_detectors import (
    SECOND,
    Record,
    Row,
    agrees,
    findings,
    grouped,
    is_syn,
    packet,
    row,
    windows,
)


def model(records: list[Record]) -> list[Row]:
    rows = []
    logins = [r for r in records if is_syn(r) and r["dest_port"] in (22, 23)]
    for (dest, port), group in grouped(logins, "dest_ip", "dest_port").items():
        good = []
        for window in windows(group, 40, 4):
            few = [each for each in grouped(window, "src_ip").values() if 2 <= len(each) <= 5]
            if len(few) >= 2:
                good.append(few)
        if good:
            counted = [record for few in good for each in few for record in each]
            most = max(sum(map(len, few)) for few in good)
            rows.append(row(counted, dest=dest, port=port, count=most, sources=max(map(len, good))))
    return rows


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("distributed_brute_force", model, sources=2, least=2, most=5, logins="22,23", within=40)


def guesses(sources: int, each: int, at: float = 40_000) -> list[Record]:
    return [
        packet(at + 60 * n + 7 * source, f"198.18.0.{source}", "10.0.1.1", 22, src_port=40_000 + n)
        for source in range(sources)
        for n in range(each)
    ]


def test_many_sources_with_few_guesses_each_are_found_and_nobody_else() -> None:
    """Bound: one finding for each service that more than twenty people use at once; our jump host has eighteen."""
    (found,) = findings("distributed_brute_force", guesses(30, 5))
    assert (found["src_ip"], found["dest_ip"], found["dest_port"]) == (None, "10.0.1.1", 22)
    assert (found["sources"], found["count"]) == (30, 150)
    assert (found["last"] - found["first"]) == (60 * 4 + 7 * 29) * SECOND
    assert findings("distributed_brute_force", guesses(19, 5)) == []
    assert findings("distributed_brute_force", guesses(30, 2)) == []


def test_a_busy_jump_host_is_one_finding() -> None:
    found = findings("distributed_brute_force", sources=18)
    assert [(each["dest_ip"], each["dest_port"]) for each in found] == [("10.0.1.22", 22)]
