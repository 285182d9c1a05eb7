# SPDX-License-Identifier: GPL-2.0-or-later
"""crafted_rst: the model, a tool in an ordinary network, and whom it accuses there without reason."""

from __future__ import annotations

from tests.fix_detectors import (
    RESET_CLIENT,
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

_ENDS = ("src_ip", "dest_ip", "src_port", "dest_port")


def model(records: list[Record]) -> list[Row]:
    pairs = [
        {"syn": syn, "rst": rst, "src": syn["src_ip"], "a": syn["ip_ttl"], "b": rst["ip_ttl"]}
        for group in grouped(records, *_ENDS).values()
        for syn in group
        for rst in group
        if is_syn(syn)
        and (rst["tcp_rst"], rst["tcp_ack"], rst["tcp_syn"]) == (1, 0, 0)
        and syn["us"] < rst["us"] <= syn["us"] + 20 * SECOND
        and syn["ip_ttl"] != rst["ip_ttl"]
    ]
    rows = []
    for (source, syn_ttl, rst_ttl), of_ttls in grouped(pairs, "src", "a", "b").items():
        if len(of_ttls) >= 2:
            syns = [pair["syn"] for pair in of_ttls]
            rows.append(
                row(
                    [record for pair in of_ttls for record in (pair["syn"], pair["rst"])],
                    src=source,
                    dest=the_one(syns, "dest_ip"),
                    port=the_one(syns, "dest_port"),
                    count=len(of_ttls),
                    syn_ttl=syn_ttl,
                    rst_ttl=rst_ttl,
                    quickest=min(pair["rst"]["us"] - pair["syn"]["us"] for pair in of_ttls),
                )
            )
    return rows


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("crafted_rst", model, log=logs(span=100.0, port=(22, 80), flags=(("s", "r"),)), pairs=2, within=20)


def connections(count: int, rst_ttl: int, after: float = 0.2) -> list[Record]:
    records = []
    for n in range(count):
        records.append(packet(40_000 + 10 * n, "198.18.0.1", "10.0.1.1", 22, src_port=6000, ip_ttl=105))
        reset = {"tcp_syn": 0, "tcp_rst": 1, "ip_ttl": rst_ttl}
        records.append(packet(40_000 + 10 * n + after, "198.18.0.1", "10.0.1.1", 22, src_port=6000, **reset))
    return records


def test_resets_of_another_program_are_found_and_those_of_a_middlebox_with_them() -> None:
    """Bound: one finding for each client of a middlebox and pair of TTLs, here one."""
    (found,) = [each for each in findings("crafted_rst", connections(3, 45)) if each["src_ip"] == "198.18.0.1"]
    assert (found["syn_ttl"], found["rst_ttl"], found["count"], found["quickest"]) == (105, 45, 3, 200_000)
    assert accused("crafted_rst", connections(3, 45)) == [RESET_CLIENT, "198.18.0.1"]


def test_a_stack_that_resets_itself_is_not_found() -> None:
    for innocent in (connections(9, 105), connections(9, 45, after=2.1), connections(2, 45)):
        assert accused("crafted_rst", innocent) == [RESET_CLIENT]
