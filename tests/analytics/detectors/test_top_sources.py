# SPDX-License-Identifier: GPL-2.0-or-later
"""top_sources: the model, and that it never shows more than it says."""

from __future__ import annotations

from tests.fix_detectors import MONITORING, Record, Row, agrees, distinct, findings, grouped, row, the_one


def model(records: list[Record]) -> list[Row]:
    rows = [
        row(
            group,
            src=source,
            dest=the_one(group, "dest_ip"),
            port=the_one(group, "dest_port"),
            hosts=distinct(group, "dest_ip"),
        )
        for (source,), group in grouped(records, "src_ip").items()
    ]
    return sorted(rows, key=lambda each: (-each["count"], each["src_ip"]))[:2]


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("top_sources", model, top=2)


def test_it_suspects_nobody_and_shows_twenty() -> None:
    """Bound: it suspects nobody, and shows twenty sources."""
    found = findings("top_sources")
    assert (found[0]["src_ip"], found[0]["count"], found[0]["hosts"]) == (MONITORING, 21_600, 12)
    assert len(found) == 20
    assert {each["severity"] for each in found} == {"info"}
