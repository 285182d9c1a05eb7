# SPDX-License-Identifier: GPL-2.0-or-later
"""beacon: the model, beacons in an ordinary network, and whom it accuses there without reason."""

from __future__ import annotations

import itertools
import random
import statistics

import pytest
from hypothesis import strategies as st

from tests.fix_detectors import (
    BALANCER,
    MONITORING,
    SMALL_MONITORING,
    Record,
    Row,
    accused,
    agrees,
    findings,
    grouped,
    is_syn,
    logs,
    packet,
    row,
)


def regular(times: list[int]) -> tuple[float, float]:
    """Return the mean of the gaps and their deviation in seconds."""
    gaps = [(after - before) / 1e6 for before, after in itertools.pairwise(sorted(times))]
    return statistics.fmean(gaps), statistics.stdev(gaps)


def model(records: list[Record]) -> list[Row]:
    rows = []
    for (source, dest, port), group in grouped(filter(is_syn, records), "src_ip", "dest_ip", "dest_port").items():
        if len(group) < 4:
            continue
        mean, deviation = regular([r["us"] for r in group])
        if mean >= 1 and deviation <= 0.6 * mean:
            more = {
                "mean_secs": pytest.approx(mean, abs=0.0006),
                "jitter": pytest.approx(100 * deviation / mean, abs=0.006),
            }
            rows.append(row(group, src=source, dest=dest, port=port, **more))
    many = {source for (source,), found in grouped(rows, "src_ip").items() if len(found) > 2}
    return [each for each in rows if each["src_ip"] not in many]


def test_it_agrees_with_the_model_on_random_logs() -> None:
    some: st.SearchStrategy[list[Record]] = st.one_of(logs(), logs(port=(80,)))
    agrees("beacon", model, log=some, gaps=3, every=1, jitter=60, targets=2)


def beacon(count: int, every: float, spread: float, source: str = "10.0.4.7") -> list[Record]:
    choose = random.Random(5)
    times = (1000 + n * every + choose.gauss(0, spread * every) for n in range(count))
    return [packet(at, source, "203.0.113.66", 8443) for at in times]


_FALSE = [SMALL_MONITORING] * 2 + [BALANCER] * 3


def test_beacons_are_found_and_the_clients_that_are_regular_by_design() -> None:
    """Bound: one finding for each service that is asked regularly by a source that so asks at most five: here five."""
    (found,) = [each for each in findings("beacon", beacon(150, 300, 0.02)) if each["src_ip"] == "10.0.4.7"]
    assert found["count"] == 150
    assert found["mean_secs"] == pytest.approx(300, rel=0.01)
    assert found["jitter"] == pytest.approx(2 * 2**0.5, abs=0.6)  # a gap has the deviation of two times
    assert accused("beacon", beacon(150, 300, 0.02)) == [*_FALSE[:2], *_FALSE[2:], "10.0.4.7"]
    assert MONITORING not in accused("beacon")


def test_what_is_irregular_rare_or_quick_is_not_found() -> None:
    for innocent in (beacon(150, 300, 0.2), beacon(100, 300, 0.01), beacon(150, 9, 0.01)):
        assert accused("beacon", innocent) == _FALSE


def test_a_backup_once_a_day_is_not_found_in_a_week() -> None:
    assert accused("beacon", [packet(86_400 * day + 7200, "10.0.4.8", "10.0.2.9", 22) for day in range(7)]) == _FALSE
