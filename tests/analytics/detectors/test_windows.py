# SPDX-License-Identifier: GPL-2.0-or-later
"""windows: the model, and the article's odd window in an ordinary network."""

from __future__ import annotations

from tests.fix_detectors import Record, Row, agrees, distinct, findings, grouped, is_syn, packet, row, the_one


def model(records: list[Record]) -> list[Row]:
    rows = [
        row(group, port=the_one(group, "dest_port"), tcp_window=window, sources=distinct(group, "src_ip"))
        for (window,), group in grouped(filter(is_syn, records), "tcp_window").items()
    ]
    return sorted(rows, key=lambda each: (-each["count"], each["tcp_window"]))[:1]


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("windows", model, top=1)


def test_the_odd_window_is_seen_with_its_few_sources() -> None:
    """Bound: it suspects nobody, and shows at most twenty windows."""
    scan = [packet(40_000 + n, "198.18.0.1", f"10.0.1.{n}", 22, tcp_window=16384) for n in range(50)]
    found = findings("windows", scan)
    assert found[0]["tcp_window"] == 64240
    assert {each["tcp_window"] for each in found} == {64240, 65535, 29200, 16384}
    (odd,) = [each for each in found if each["tcp_window"] == 16384]
    assert (odd["count"], odd["sources"], odd["dest_port"]) == (50, 1, 22)
