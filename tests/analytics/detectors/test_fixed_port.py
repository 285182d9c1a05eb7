# SPDX-License-Identifier: GPL-2.0-or-later
"""fixed_port: the model, a tool in an ordinary network, and whom it accuses there without reason."""

from __future__ import annotations

from collections import Counter

from tests.fix_detectors import (
    GATEWAY,
    NFS_CLIENT,
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
    the_one,
)


def model(records: list[Record]) -> list[Row]:
    rows = []
    syns = [r for r in records if is_syn(r)]
    for (source, port, window), group in grouped(syns, "src_ip", "dest_port", "tcp_window").items():
        for own, count in Counter(r["src_port"] for r in group).items():
            if own < 32768 and count >= 3 and count >= 0.6 * len(group):
                of_port = [r for r in group if r["src_port"] == own]
                rows.append(
                    row(
                        of_port,
                        src=source,
                        dest=the_one(of_port, "dest_ip"),
                        port=port,
                        src_port=own,
                        tcp_window=window,
                        total=len(group),
                        hosts=distinct(of_port, "dest_ip"),
                    )
                )
    return rows


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("fixed_port", model, attempts=3, share=60)


def scan(window: int = 16384) -> list[Record]:
    return [packet(40_000 + n, "198.18.0.1", f"10.0.1.{n}", 22, src_port=6000, tcp_window=window) for n in range(10)]


def test_the_tool_of_the_article_is_found_and_a_client_with_a_bound_port_with_it() -> None:
    """Bound: one finding for each client that is bound to a port, here one; the gateway is not found."""
    found = accused("fixed_port", scan())
    assert found == [NFS_CLIENT, "198.18.0.1"]
    assert GATEWAY not in found
    assert accused("fixed_port", scan()[:9]) == [NFS_CLIENT]


def test_a_brute_force_of_the_same_host_does_not_hide_its_scanner() -> None:
    guesses = [packet(41_000 + n, "198.18.0.1", "10.0.1.3", 22, src_port=40_000 + n) for n in range(100)]
    (found,) = [each for each in findings("fixed_port", scan() + guesses) if each["src_ip"] == "198.18.0.1"]
    assert (found["src_port"], found["tcp_window"], found["hosts"], found["total"]) == (6000, 16384, 10, 10)


def test_a_share_below_the_limit_is_not_found() -> None:
    others = [packet(41_000, "198.18.0.1", "10.0.1.3", 22, src_port=6001, tcp_window=16384)]
    assert accused("fixed_port", scan() + others) == [NFS_CLIENT]
