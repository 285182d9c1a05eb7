# SPDX-License-Identifier: GPL-2.0-or-later
"""One host's timeline over packets, a real Suricata's events and sshd's lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from nflowlevel.analytics import timeline
from nflowlevel.analytics.reading import read
from tests.analytics.test_eve import CAPTURE, EVE
from tests.fix_logs import START, log_file, record

_NOON = 1_795_780_800_000_000


@pytest.fixture
def auth(tmp_path: Path) -> Path:
    path = tmp_path / "auth.log"
    path.write_text(
        "2026-11-27T12:00:31Z fw sshd[7]: Failed password for root from 192.0.2.66 port 40022 ssh2\n"
        "2026-11-27T12:00:33Z fw sshd[7]: message repeated 2 times: [ Failed password for invalid user a b from "
        "192.0.2.66 port 40023 ssh2]\n"
        "2026-11-27T12:00:34Z fw sshd[7]: Invalid user x from 192.0.2.99 port 1\n"
    )
    return path


def test_all_logs_in_the_order_of_time(auth: Path) -> None:
    with read(CAPTURE) as log:
        answer = log.host("192.0.2.66", eve=EVE, auth=auth)
        rows = answer.rows()
        assert answer.columns == ("us", "source", "what", "src", "dest", "detail")
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert rows[:2] == [
        (_NOON, "packets", "SYN", "192.0.2.66:6000", "10.77.0.1:22", "window 16384 ttl 103 id 256"),
        (_NOON, "suricata", "TEST SYN with window 16384", "192.0.2.66:6000", "10.77.0.1:22",
         "TEST SYN with window 16384 [1000001] Attempted Information Leak"),
    ]  # fmt: skip
    assert [row[1:] for row in rows if row[1] == "sshd"] == [
        ("sshd", "failed", "192.0.2.66:40022", "fw", "password root"),
        ("sshd", "failed", "192.0.2.66:40023", "fw", "password a b, 2 times"),
    ]
    whats = {row[2] for row in rows if row[1] == "packets"}
    assert whats == {"SYN", "SYN ACK", "TCP", "RST", "ICMP 8", "ICMP 0"}
    # All 14 packets over IPv4 are that host's, and all that Suricata says of them.
    assert len([row for row in rows if row[1] == "packets"]) == 14
    assert len([row for row in rows if row[1] == "suricata"]) == 16


def test_a_host_of_ipv6_is_found_in_any_spelling() -> None:
    with read(CAPTURE) as log:
        rows = log.host("2001:0db8:0:0::0066", eve=EVE).rows()
    assert [(row[1], row[2], row[3]) for row in rows][:3] == [
        ("packets", "UDP", "[2001:db8::66]:5353"),
        ("suricata", "TEST IPv6", "[2001:db8::66]:5353"),
        ("packets", "ICMPv6 128", "2001:db8::66"),
    ]


def test_what_is_alike_becomes_one_row(tmp_path: Path) -> None:
    scan = [record(n, dest_port=1000 + n) for n in range(40)]
    later = [record(200 + n, tcp__window=65535, src_port=40000) for n in range(5)]
    others = [record(3, src_ip="192.0.2.67")]
    with read(log_file(tmp_path / "a.json", [*scan, *later, *others])) as log:
        answer = log.host("192.0.2.66", every="100s")
        assert answer.columns == ("us", "last", "source", "what", "src", "dest", "n", "ports", "detail")
        us = START * 1_000_000 + 250
        assert answer.rows() == [
            (us, us + 39_000_000, "packets", "SYN", "192.0.2.66", "198.51.100.7", 40, 40,
             "DROP in: window 16384 ttl 64 id 256"),
            (us + 200_000_000, us + 204_000_000, "packets", "SYN", "192.0.2.66", "198.51.100.7", 5, 1,
             "DROP in: window 65535 ttl 64 id 256"),
        ]  # fmt: skip
        assert log.where(tcp_window=65535).host("192.0.2.66").df().shape[0] == 5
        assert log.host("192.0.2.1").rows() == []


def test_a_scan_and_a_brute_force_with_another_window_stay_apart(tmp_path: Path) -> None:
    scan = [record(n, dest_port=1000 + n) for n in range(40)]
    brute = [record(50 + n, tcp__window=64240, src_port=40000 + n) for n in range(5)]
    # The windows of what is under way say nothing.
    under_way = [record(60 + n, tcp__syn=0, tcp__ack=1, tcp__window=500 + n) for n in range(7)]
    with read(log_file(tmp_path / "a.json", [*scan, *brute, *under_way])) as log:
        rows = log.host("192.0.2.66", every="1h").dicts()
    assert [(row["what"], row["n"], row["ports"], row["detail"].split(" ttl")[0]) for row in rows] == [
        ("SYN", 40, 40, "DROP in: window 16384"),
        ("SYN", 5, 1, "DROP in: window 64240"),
        ("TCP", 7, 1, "DROP in: window 500"),
    ]


def test_flows_are_met_by_any_of_their_addresses(tmp_path: Path) -> None:
    flow = {
        "timestamp": "2026-11-27T12:00:00Z", "dvc": "fw", "src_ip": "192.0.2.66", "dest_ip": "198.51.100.7",
        "orig.ip.protocol": 6, "orig.l4.sport": 40000, "orig.l4.dport": 22, "orig.raw.pktcount": 9,
        "orig.raw.pktlen": 900,
        "reply.ip.saddr.str": "10.0.0.7", "reply.ip.daddr.str": "192.0.2.66", "reply.raw.pktcount": 8,
        "reply.raw.pktlen": 700, "ct.event": 4, "flow.end.sec": START, "flow.end.usec": 5, "flow.start.sec": START - 60,
    }  # fmt: skip
    other = flow | {"src_ip": "192.0.2.67", "reply.ip.daddr.str": "192.0.2.67", "ct.event": 1}
    wanted = (
        START * 10**6 + 5, "flows", "flow ends", "192.0.2.66:40000", "198.51.100.7:22",
        "9 packets 900 bytes, answers 8 packets 700 bytes",
    )  # fmt: skip
    with read(log_file(tmp_path / "a.json", [flow, other])) as log:
        assert log.host("192.0.2.66").rows() == [wanted]
        # The host behind the translated address has both.
        assert [row[2:4] for row in log.host("10.0.0.7").rows()] == [
            ("flow begins", "192.0.2.67:40000"),
            ("flow ends", "192.0.2.66:40000"),
        ]


@pytest.mark.parametrize("text", ["", "x", "192.0.2.66' OR 1=1 --", "192.0.2.0/24", "1.2.3"])
def test_what_is_no_address(text: str, tmp_path: Path) -> None:
    with (
        read(log_file(tmp_path / "a.json", [record()])) as log,
        pytest.raises(ValueError, match=r"is not an address$"),
    ):
        log.host(text)


def test_a_span_is_at_least_a_second() -> None:
    with pytest.raises(ValueError, match=r"^every must be at least a second, not 0$"):
        timeline.sql("192.0.2.1", every=0)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"tcp__syn": 0, "tcp__fin": 1}, "FIN"),
        ({"tcp__syn": 1, "tcp__rst": 1}, "RST"),
        ({"tcp__syn": None, "tcp__window": None, "ip__protocol": 47}, "protocol 47"),
        ({"tcp__syn": None, "tcp__window": None, "ip__protocol": None}, "packet"),
    ],
)
def test_kinds_of_packets(change: dict[str, object], what: str, tmp_path: Path) -> None:
    with read(log_file(tmp_path / "a.json", [record(**change)])) as log:
        assert [row[2] for row in log.host("192.0.2.66").rows()] == [what]
