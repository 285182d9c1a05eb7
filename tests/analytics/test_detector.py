# SPDX-License-Identifier: GPL-2.0-or-later
"""Parameters are read and refused, texts are made of them, and a query for evidence holds nothing of a log's quotes."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest

from nflowlevel.analytics.detector import Sliding
from nflowlevel.analytics.registry import all_detectors, find_detector
from tests.fix_detectors import Engine, packet


@pytest.mark.parametrize("text", ["", "h", "1y", "-1h", "1.5h", "1h30m", "1e3", "9999999999h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^within must be seconds, or a duration such as 90s, 5m, 1h or 7d, not '"):
        find_detector("port_scan").sql(within=text)


@pytest.mark.parametrize("given", [600, "600", "10m", "600s", " 10 m ", datetime.timedelta(minutes=10)])
def test_a_time_may_be_given_in_each_form(given: object) -> None:
    assert find_detector("port_scan").sql(within=given) == find_detector("port_scan").sql(within=600)


@pytest.mark.parametrize("given", ["22,2222", [22, 2222], (22, 2222)])
def test_ports_may_be_given_in_each_form(given: object) -> None:
    assert "dest_port IN (22,2222)" in find_detector("brute_force").sql(logins=given)


@pytest.mark.parametrize(
    ("name", "given", "refusal"),
    [
        ("port_scan", {"port": 1}, "port_scan: unknown option 'port' — did you mean 'ports'?"),
        ("port_scan", {"ports": 0}, "ports must be 1 to 1000000000, not 0"),
        ("port_scan", {"ports": "many"}, "ports must be 1 to 1000000000, not 'many'"),
        ("port_scan", {"ports": True}, "ports must be 1 to 1000000000, not True"),
        ("port_scan", {"within": 31}, "within must be a multiple of 2 seconds, not 31"),
        (
            "brute_force",
            {"within": "1m1s"},
            "within must be seconds, or a duration such as 90s, 5m, 1h or 7d, not '1m1s'",
        ),
        ("brute_force", {"logins": "22;70000"}, "logins must be ports such as 22 or 21,22,23, not '22;70000'"),
        ("brute_force", {"logins": [70000]}, "logins must be ports such as 22 or 21,22,23, not '70000'"),
        ("brute_force", {"logins": "22) OR (1=1"}, "logins must be ports such as 22 or 21,22,23, not '22) OR (1=1'"),
        ("fixed_port", {"share": 50}, "share must be 51 to 100, not 50"),
        ("first_seen", {"top": 3}, "first_seen: unknown option 'top'; available: "),
    ],
)
def test_what_a_parameter_must_not_be_is_said(name: str, given: dict[str, object], refusal: str) -> None:
    with pytest.raises((TypeError, ValueError)) as raised:
        find_detector(name).sql(**given)
    assert str(raised.value) == refusal


def test_a_window_that_slides_has_whole_parts_that_are_so_many() -> None:
    assert Sliding(within=60).values()["hop"] == 30
    assert Sliding(within=60).values()["hops"] == "SELECT 0 AS k UNION ALL SELECT 1 AS k"


@pytest.mark.parametrize(
    ("name", "length", "told"),
    [
        ("scan_then_brute", 3600, ""),
        ("scan_then_brute", 3601, "within is 1h, and the log spans 60m: -p within=4h may find what is slower"),
        ("syn_flood", 7 * 86_400, "within is 10s, and the log spans 7d: -p within=40s may find what is slower"),
        ("new_services", 86_401, ""),
        ("new_services", 86_400, "known is 1d, and the log spans 24h, so nothing can be new: ask more of the log, or "
         "-p known=6h"),
        ("exfiltration", 40, "known is 1d, and the log spans 40s, so nothing can be new: ask more of the log, or "
         "-p known=10s"),
        ("exfiltration", 30 * 86_400, "young is 1d, and the log spans 30d: -p young=4d may find what is slower"),
        ("beacon", 30 * 86_400, ""),
        ("windows", 30 * 86_400, ""),
    ],
)  # fmt: skip
def test_a_time_is_advised_where_it_may_find_something(name: str, length: int, told: str) -> None:
    assert find_detector(name).advice(length, "-p {name}={value}") == told


def test_what_is_advised_can_be_given() -> None:
    advised = 0
    for detector in all_detectors():
        for length in (0, 1, 2, 100, 86_399, 10**9):
            found = re.search(r"-p (\w+)=(\w+)", detector.advice(length, "-p {name}={value}"))
            if found:
                advised += 1
                detector.options({found[1]: found[2]})
    assert advised > 20
    assert "-p within=3660d" in find_detector("scan_then_brute").advice(10**9, "-p {name}={value}", within="3000d")


def test_no_product_in_a_text_is_too_large_for_32_bits() -> None:
    engine = Engine([packet(1, "10.0.0.1", "10.0.0.2", 80)])
    assert engine.find("beacon", every="10d", gaps=2) == []
    assert engine.find("first_contact", known="3660d") == []


def row(**columns: Any) -> dict[str, Any]:
    return {"finding": "port_scan", "src_ip": "10.0.0.1", "dest_ip": "10.0.0.2", "first": 1, "last": 2} | columns


def test_the_evidence_is_what_lies_between_first_and_last() -> None:
    assert find_detector("port_scan").evidence(row()) == (
        "SELECT * FROM packets WHERE us >= 1 AND us <= 2 AND tcp_syn = 1 AND tcp_ack = 0 AND tcp_rst = 0 "
        "AND src_ip = '10.0.0.1' AND dest_ip = '10.0.0.2' ORDER BY us"
    )


@pytest.mark.parametrize("hostile", ["' OR 1=1 --", "10.0.0.1\\", "10.0.0.1'", 'a"b', "", "x\ny", "x" * 65])
def test_no_query_is_made_of_what_is_no_address(hostile: str) -> None:
    with pytest.raises(ValueError, match="that is not an address, so no query is made of it"):
        find_detector("port_scan").evidence(row(src_ip=hostile))
    with pytest.raises(ValueError, match="invalid literal"):
        find_detector("port_scan").evidence(row(first="1 OR 1=1"))


@pytest.mark.parametrize("address", ["2001:db8::1", "fe80::1%eth0", "::ffff:192.0.2.1"])
def test_addresses_of_all_kinds_are_taken(address: str) -> None:
    log = [packet(n / 10, address, "10.0.0.2", n) for n in range(120)]
    engine = Engine(log)
    (found,) = engine.find("port_scan")
    assert len(engine.evidence(found)) == 120
