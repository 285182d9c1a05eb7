# SPDX-License-Identifier: GPL-2.0-or-later
"""first_seen: the model, and that it never shows more than it says."""

from __future__ import annotations

from tests.fix_detectors import BEGIN, DAY, Record, Row, agrees, findings, grouped, logs, packet, row


def model(records: list[Record]) -> list[Row]:
    firsts: list[Record] = []
    for group in grouped(records, "src_ip").values():
        day = min(r["sec"] for r in group) // DAY * DAY
        firsts += [r | {"day": day} for r in group if r["sec"] // DAY * DAY == day]
    return [
        row(group, sources=len({r["src_ip"] for r in group}), day=day)
        for (day,), group in grouped(firsts, "day").items()
    ]


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("first_seen", model, log=logs(span=4.0 * DAY))


def test_new_sources_count_on_their_first_day_only() -> None:
    """Bound: it suspects nobody, and shows a row a day."""
    before = {each["day"]: each["sources"] for each in findings("first_seen")}
    new = [packet(day * DAY + n, f"198.18.0.{n}", "10.0.1.1", 80) for day in (1, 2) for n in range(7)]
    after = {each["day"]: each["sources"] for each in findings("first_seen", new)}
    assert after[BEGIN + DAY] == before[BEGIN + DAY] + 7
    assert {day: n for day, n in after.items() if day != BEGIN + DAY} == {
        day: n for day, n in before.items() if day != BEGIN + DAY
    }
