# SPDX-License-Identifier: GPL-2.0-or-later
"""syn_flood: the model, a flood in an ordinary network, and which service it accuses there without reason."""

from __future__ import annotations

from tests.fix_detectors import (
    BALANCER,
    SHOP,
    Record,
    Row,
    accused,
    agrees,
    distinct,
    findings,
    grouped,
    is_syn,
    packet,
    row,
)


def model(records: list[Record]) -> list[Row]:
    parts = [r | {"part": r["sec"] // 20} for r in records if is_syn(r)]
    return [
        row(group, dest=dest, port=port, sources=distinct(group, "src_ip"))
        for (dest, port, _), group in grouped(parts, "dest_ip", "dest_port", "part").items()
        if len(group) >= 3 and distinct(group, "src_ip") >= 0.6 * len(group)
    ]


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("syn_flood", model, attempts=3, share=60, within=20)


def flood(count: int, sources: int) -> list[Record]:
    return [
        packet(40_000 + 9 * n / count, f"198.18.{n % sources // 250}.{n % sources % 250}", "10.0.1.1", 80)
        for n in range(count)
    ]


def test_a_flood_is_found_and_a_sale_with_it() -> None:
    """Bound: one finding for each ten seconds of a rush; one sale of ten seconds at a full second is one or two."""
    found = [each for each in findings("syn_flood", flood(2000, 1500)) if each["dest_ip"] == "10.0.1.1"]
    assert [(each["dest_port"], each["count"], each["sources"]) for each in found] == [(80, 2000, 1500)]
    assert accused("syn_flood", flood(2000, 1500), column="dest_ip") == ["10.0.1.1", SHOP]


def test_few_sources_are_no_flood() -> None:
    for innocent in (flood(2000, 900), flood(999, 999)):
        assert accused("syn_flood", innocent, column="dest_ip") == [SHOP]
    forwarded = [packet(40_000 + n / 300, BALANCER, "10.0.3.1", 8080, src_port=1024 + n) for n in range(3000)]
    assert accused("syn_flood", forwarded, column="dest_ip") == [SHOP]
