# SPDX-License-Identifier: GPL-2.0-or-later
"""heavy_hitters: the model, and that it never shows more than it says."""

from __future__ import annotations

from tests.fix_detectors import HOUR, Record, Row, agrees, findings, grouped, logs, row


def size_of(group: list[Record]) -> int | None:
    sizes = [r["ip_totlen"] for r in group if r["ip_totlen"] is not None]
    return sum(sizes) if sizes else None


def model(records: list[Record]) -> list[Row]:
    rows = []
    hours = [r | {"hour": r["sec"] // HOUR * HOUR} for r in records]
    for (hour,), of_hour in grouped(hours, "hour").items():
        sources = grouped(of_hour, "src_ip").items()
        for place, ((source,), group) in enumerate(sorted(sources, key=lambda item: (-len(item[1]), item[0]))[:2], 1):
            rows.append(row(group, src=source, hour=hour, place=place, bytes=size_of(group)))
    return rows


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("heavy_hitters", model, log=logs(span=20_000.0), top=2)


def test_it_suspects_nobody_and_shows_at_most_ten_an_hour() -> None:
    """Bound: it suspects nobody, and shows at most ten sources an hour."""
    found = findings("heavy_hitters")
    assert {each["severity"] for each in found} == {"info"}
    assert len(found) <= 10 * 60
    assert [each["place"] for each in found[:10]] == [*range(1, 11)]
