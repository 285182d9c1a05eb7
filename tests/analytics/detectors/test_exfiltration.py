# SPDX-License-Identifier: GPL-2.0-or-later
"""exfiltration: the model, a theft in an ordinary network, and whom it accuses there without reason."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from tests.fix_detectors import (
    DAY,
    PROXY,
    SECOND,
    Record,
    Row,
    accused,
    agrees,
    findings,
    flow,
    grouped,
    row,
    the_one,
)


def model(records: list[Record]) -> list[Row]:
    rows = []
    begin = min((r["us"] for r in records), default=0)
    for (source, dest), group in grouped(records, "src_ip", "dest_ip").items():
        met = min(r["us"] for r in group)
        young = [r for r in group if r["us"] <= met + 100 * SECOND]
        sent, got = sum(r["orig_raw_pktlen"] for r in young), sum(r["reply_raw_pktlen"] for r in young)
        if met >= begin + 50 * SECOND and sent >= 1000 and sent >= 2 * got:
            port = the_one(young, "orig_l4_dport")
            rows.append(row(young, src=source, dest=dest, port=port, bytes_out=sent, bytes_in=got))
    return rows


@st.composite
def flows(draw: st.DrawFn) -> list[Record]:
    choose = random.Random(draw(st.integers(0, 2**32)))
    hosts, span = draw(st.integers(1, 8)), draw(st.sampled_from((100, 400)))
    size = (0, 200, 600, 2000)
    return [
        flow(round(choose.uniform(0, span), 1), f"10.0.0.{choose.randrange(3)}", f"203.0.113.{choose.randrange(hosts)}",
             choose.choice((443, 22)), choose.choice(size), choose.choice(size))
        for _ in range(draw(st.integers(0, 40)))
    ]  # fmt: skip


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("exfiltration", model, log=flows(), bytes=1000, factor=2, young=100, known=50)


def theft(at: float, out: int, back: int) -> list[Record]:
    return [flow(at + n * 60, "10.0.4.7", "198.18.0.1", 443, out // 10, back // 10) for n in range(10)]


def test_a_theft_is_found_and_the_first_file_to_a_partner_with_it() -> None:
    """Bound: one finding for each new partner that is sent much, here one; no backup and no download."""
    assert accused("exfiltration", theft(1.5 * DAY, 10**9, 10**6)) == [PROXY, "10.0.4.7"]
    found = next(each for each in findings("exfiltration", theft(1.5 * DAY, 10**9, 10**6)) if each["src_ip"] != PROXY)
    assert (found["dest_ip"], found["dest_port"], found["count"]) == ("198.18.0.1", 443, 10)
    assert (found["bytes_out"], found["bytes_in"]) == (10**9, 10**6)


def test_downloads_small_ones_and_what_was_known_before_are_not_found() -> None:
    known = [flow(100, "10.0.4.7", "198.18.0.1", 443, 1, 1), *theft(1.5 * DAY, 10**9, 10**6)]
    for innocent in (known, theft(1.5 * DAY, 10**9, 10**9), theft(1.5 * DAY, 10**7, 10), theft(0.5 * DAY, 10**9, 0)):
        assert accused("exfiltration", innocent) == [PROXY]
