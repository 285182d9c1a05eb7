# SPDX-License-Identifier: GPL-2.0-or-later
"""Conditions of keywords and filters; hostile values stay values; times and durations."""

from __future__ import annotations

import enum
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from nflowlevel.analytics.conditions import conditions, during, excluding, moment, seconds
from nflowlevel.archive.schema import FLOWS, PACKETS, SUMS
from nflowlevel.records.filters import FilterError


def of(**values: Any) -> str:
    (found,) = conditions(PACKETS, None, values)
    return found


class Port(enum.IntEnum):
    """Ports by name."""

    SSH = 22


@pytest.mark.parametrize(
    ("values", "condition"),
    [
        ({"tcp_window": 16384}, "tcp_window = 16384"),
        ({"tcp_window": "0x4000"}, "tcp_window = 16384"),
        ({"dest_port": Port.SSH}, "dest_port = 22"),
        ({"dest_port": [22, "23", 22]}, "dest_port IN (22, 23)"),
        ({"dest_port": {22}}, "dest_port = 22"),
        ({"dest_port": ()}, "1 = 0"),
        ({"dest_port": range(0)}, "1 = 0"),
        ({"dest_port": range(1, 1025)}, "dest_port BETWEEN 1 AND 1024"),
        ({"dest_port": range(9, 4, -1)}, "dest_port BETWEEN 5 AND 9"),
        (
            {"dest_port": [22, range(80, 90), None]},
            "(dest_port = 22 OR dest_port BETWEEN 80 AND 89 OR dest_port IS NULL)",
        ),
        ({"src_ip": None}, "src_ip IS NULL"),
        ({"src_ip": "192.0.2.1"}, "src_ip = '192.0.2.1'"),
        ({"src_ip": "2001:DB8:0::1"}, "src_ip = '2001:db8::1'"),
        ({"src_ip": "192.0.2.0/24"}, "(((src_ip >= '192.0.2.' AND src_ip < '192.0.2/')))"),
        ({"oob_prefix": "a' OR 1=1 --"}, "oob_prefix = concat('a', chr(39), ' OR 1=1 --')"),
        ({"oob_prefix": "1/2"}, "oob_prefix = '1/2'"),
        ({"tcp_syn": True}, "tcp_syn = 1"),
        ({"us": 5}, "us = 5"),
        ({"tcp.window": 5}, "tcp_window = 5"),
    ],
)
def test_keywords(values: dict[str, Any], condition: str) -> None:
    assert of(**values) == condition


@pytest.mark.parametrize(
    ("values", "error", "reason"),
    [
        ({"tcp_windw": 1}, KeyError, "did you mean 'tcp_window'"),
        ({"1; DROP TABLE packets": 1}, KeyError, "unknown column"),
        ({"tcp_window": "1 OR 1"}, TypeError, "tcp_window is a number; '1 OR 1' is none"),
        ({"oob_prefix": 5}, TypeError, "oob_prefix is text; 5 is a int"),
        ({"oob_prefix": range(3)}, TypeError, "oob_prefix is text, and a range has numbers"),
        ({"dest_port": range(1, 9, 2)}, ValueError, "must have the step 1"),
        ({"dest_port": b"x"}, TypeError, "value of type bytes"),
        ({"src_ip": "192.0.2.1/24"}, ValueError, "src_ip: "),
        ({"src_ip": "nonsense"}, ValueError, "src_ip is an address; 'nonsense' is none"),
        ({"oob_prefix": "\ud800"}, ValueError, "not Unicode"),
    ],
)
def test_what_cannot_be_asked(values: dict[str, Any], error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        of(**values)


def test_filters_look_at_columns() -> None:
    (found,) = conditions(PACKETS, 'tcp.dport == 22 && oob.in != "eth0"', {})
    assert found == "(((CASE WHEN ip_protocol IN (6) THEN dest_port END) = 22) AND NOT (oob_in = 'eth0'))"
    assert [*conditions(PACKETS, "dest_port == 22", {"ip_ttl": 5})] == ["(dest_port = 22)", "ip_ttl = 5"]
    assert [*conditions(SUMS, "sum.pkts > 5", {})] == ["(sum_pkts > 5)"]
    with pytest.raises(FilterError, match=r"did you mean 'tcp\.dport'"):
        [*conditions(PACKETS, "tcp.dprt == 22", {})]
    with pytest.raises(FilterError, match="sums do not have"):
        [*conditions(SUMS, "tcp.dport == 22", {})]


def test_excluding_keeps_what_has_no_value() -> None:
    assert excluding(["a = 1", "b = 2"]) == "(a = 1 AND b = 2) IS NOT TRUE"
    assert excluding(["a = 1"]) == "a IS DISTINCT FROM 1"
    assert excluding(["a = 'x'"]) == "a IS DISTINCT FROM 'x'"
    for other in ("a = 'x' OR b = 'y'", "a = 'it''s'", "a = 1 OR b = 1", "a = b", "a.b = 1", "a IS NULL"):
        assert excluding([other]) == f"({other}) IS NOT TRUE"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (90, 90),
        ("90s", 90),
        ("5m", 300),
        ("5 min", 300),
        ("1h", 3600),
        ("7d", 604800),
        ("2w", 1209600),
        (timedelta(hours=1), 3600),
    ],
)
def test_durations(given: Any, wanted: int) -> None:
    assert seconds(given) == wanted


@pytest.mark.parametrize("given", ["", "7", "7 days", "d7", "-1d", "1e3s"])
def test_what_is_no_duration(given: str) -> None:
    with pytest.raises(ValueError, match="a duration must be a number of seconds"):
        seconds(given)


@pytest.mark.parametrize(
    "given",
    [
        1_795_509_000,
        1_795_509_000.0,
        "2026-11-24T08:30",
        "2026-11-24 08:30:00Z",
        "2026-11-24T09:30+01:00",
        datetime(2026, 11, 24, 8, 30),
        datetime(2026, 11, 24, 9, 30, tzinfo=timezone(timedelta(hours=1))),
        datetime(2026, 11, 24, 8, 30, tzinfo=UTC),
    ],
)
def test_times(given: Any) -> None:
    assert moment(given) == 1_795_509_000 * 10**6


def test_what_is_no_time() -> None:
    with pytest.raises(ValueError, match="a time must be written as 2026-11-24"):
        moment("yesterday")


def test_bounds() -> None:
    assert during(1, 2) == "us >= 1 AND us < 2"
    assert during(None, 2) == "us < 2"
    assert during(-5, None) == "us >= (-5)"
    assert during(None, None) == ""


def test_a_filter_of_flows_means_flows() -> None:
    """The same names as on the command line: those of the original direction, where none is given."""
    for text in ("dport == 443 && bytes > 10", "dest_port == 443 && bytes_out > 10"):
        (found,) = conditions(FLOWS, text, {})
        assert "orig_l4_dport" in found
        assert "orig_raw_pktlen" in found
    with pytest.raises(FilterError, match=r"flows do not have 'tcp\.dport'"):
        next(conditions(FLOWS, "tcp.dport == 443", {}))
    assert [*conditions(FLOWS, None, {"dest_port": 443, "bytes_in": range(5)})] == [
        "orig_l4_dport = 443",
        "reply_raw_pktlen BETWEEN 0 AND 4",
    ]
