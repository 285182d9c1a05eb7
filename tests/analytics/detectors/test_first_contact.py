# SPDX-License-Identifier: GPL-2.0-or-later
"""first_contact: the model, a host that begins to look around in an ordinary network, and whom it must not accuse."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fix_detectors import (
    DAY,
    HOUR,
    SECOND,
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
    the_one,
)


def model(records: list[Record]) -> list[Row]:
    rows = []
    for (source,), group in grouped(filter(is_syn, records), "src_ip").items():
        firsts = [min(each, key=lambda r: r["us"]) for each in grouped(group, "dest_ip", "dest_port").values()]
        known = min(r["us"] for r in firsts)
        for hour in {r["sec"] // HOUR for r in firsts}:
            new = [r for r in firsts if r["sec"] // HOUR == hour]
            before = sum(r["sec"] // HOUR < hour for r in firsts)
            hours = hour - known // SECOND // HOUR
            if len(new) >= 1 and hour * HOUR * SECOND - known >= 3000 * SECOND and len(new) * hours >= 1 * before:
                dest, port = the_one(new, "dest_ip"), the_one(new, "dest_port")
                rows.append(row(new, src=source, dest=dest, port=port, before=before))
    return rows


def test_it_agrees_with_the_model_on_random_logs() -> None:
    some: st.SearchStrategy[list[Record]] = st.one_of(logs(span=40_000.0), logs(span=10_000.0))
    agrees("first_contact", model, log=some, contacts=1, factor=1, known="50m")


def insider(contacts: int) -> list[Record]:
    usual = [packet(n * 3000, "10.0.4.99", "10.0.1.1", 443) for n in range(60)]
    return usual + [packet(1.6 * DAY + n, "10.0.4.99", f"10.0.6.{n}", 445) for n in range(contacts)]


def test_a_host_that_looks_around_is_found_and_nobody_else() -> None:
    """Bound: nobody; the proxy has new hosts all the time, monitoring and backup have the same ones."""
    (found,) = findings("first_contact", insider(30))
    assert (found["src_ip"], found["dest_ip"], found["dest_port"]) == ("10.0.4.99", None, 445)
    assert (found["count"], found["before"]) == (30, 1)
    assert findings("first_contact", insider(14)) == []


def test_a_crawler_is_let_off_because_it_always_has_new_hosts() -> None:
    crawler = [packet(HOUR * n / 20, "10.0.4.97", f"203.9.{n // 250}.{n % 250}", 443) for n in range(60 * 20)]
    assert accused("first_contact", crawler) == []
    found = [each["src_ip"] for each in findings("first_contact", crawler, factor=1)]
    assert found.count("10.0.4.97") == 60 - 24


def test_a_host_that_is_new_itself_is_not_found() -> None:
    assert findings("first_contact", [packet(2 * DAY + n, "10.0.4.98", f"10.0.6.{n}", 445) for n in range(50)]) == []
