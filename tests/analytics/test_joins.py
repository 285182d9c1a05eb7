# SPDX-License-Identifier: GPL-2.0-or-later
"""Alerts of a real Suricata with their packets, and sshd's lines with the SYN that opened the connection."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nflowlevel import cli
from nflowlevel.analytics import eve
from nflowlevel.analytics.joins import EVENTS, LOGINS, events_table, logins_table, paths
from nflowlevel.analytics.reading import read
from nflowlevel.readers.files import Capture
from nflowlevel.records.communityid import of_texts
from tests.analytics.test_eve import CAPTURE, EVE
from tests.fix_logs import START, log_file, record


def _community_ids() -> Counter[str]:
    """Return how many packets of the capture have each ID, by the specification's function alone."""
    found: Counter[str] = Counter()
    with Capture(str(CAPTURE)) as capture:
        for packet in (packet for batch in capture.batches() for packet in batch):
            number = packet.get("ip.protocol")
            name = {1: "icmp", 58: "icmpv6"}.get(number)
            ends = (packet.get(f"{name}.type"), packet.get(f"{name}.code")) if name else (packet.sport, packet.dport)
            found[of_texts(number, packet.saddr, packet.daddr, *ends)] += 1
    return found


def test_an_alert_has_the_packets_of_its_community_id() -> None:
    with read(CAPTURE) as log:
        alerts = log.alerts(EVE).dicts()
    ids = _community_ids()
    assert [alert["community_id"] for alert in alerts] == [
        event.community_id for event in eve.read(EVE)[0] if event.kind == "alert"
    ]
    assert [alert["packets"] for alert in alerts] == [ids[alert["community_id"]] for alert in alerts]
    assert max(ids.values()) == 7
    assert all(alert["first"] <= alert["us"] <= alert["last"] for alert in alerts)


def test_packets_that_are_far_in_time_or_narrowed_away_do_not_count() -> None:
    with read(CAPTURE) as log:
        assert [alert["packets"] for alert in log.alerts(EVE, within=0.4).dicts()][5:7] == [6, 1]
        assert [alert["packets"] for alert in log.syn.alerts(EVE).dicts()] == [1] * 5 + [1, 1, 0, 0, 0, 0]
        assert log.alerts([EVE, str(EVE)]).df().shape[0] == 22


def _auth(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def _line(second: int, text: str) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(START + second))} fw sshd[7]: {text}"


def test_a_login_has_the_syn_that_opened_it(tmp_path: Path) -> None:
    records = [
        record(0, src_port=40000, tcp__window=1),
        record(50, src_port=40000, tcp__window=65535, ip__ttl=111),
        record(51, src_port=40000, tcp__window=2, tcp__ack=1),
        record(52, src_port=40000, tcp__window=3, dest_port=80),
        record(90, src_port=40000, tcp__window=4),
        record(60, src_port=40001, tcp__window=5),
        record(60, src_port=40000, tcp__window=6, src_ip="192.0.2.67"),
    ]
    auth = _auth(
        tmp_path / "auth.log",
        _line(50, "Connection from 192.0.2.66 port 40000 on 198.51.100.7 port 22"),
        _line(80, "Failed password for invalid user a b from 192.0.2.66 port 40000 ssh2"),
        _line(171, "Connection closed by 192.0.2.66 port 40000 [preauth]"),
        _line(300, "Accepted password for me from 192.0.2.66 port 40000 ssh2"),
        _line(70, "message repeated 3 times: [ Failed password for root from 192.0.2.66 port 40001 ssh2]"),
    )
    with read(log_file(tmp_path / "a.json", records)) as log:
        answer = log.logins(auth)
        assert answer.columns == (*LOGINS, "opened", "tcp_window", "ip_ttl")
        found = [(row["what"], row["who"], row["known"], row["times"], row["tcp_window"]) for row in answer.dicts()]
        assert found == [
            ("connection", None, None, 1, 65535),
            ("failed", "root", 1, 3, 5),
            ("failed", "a b", 0, 1, 65535),
            ("closed", None, None, 1, 4),
            ("accepted", "me", 1, 1, None),
        ]
        assert {row["tcp_window"] for row in log.logins(auth, within="10s").dicts()} == {65535, 5, None}
        assert {row["tcp_window"] for row in log.logins(auth, port=80).dicts()} == {3, None}


def _opened(login: Any, packets: list[dict[str, Any]], within: int) -> int | None:
    """Return the window of the SYN that opened a login, in plain Python."""
    before = [
        (packet["oob.time.sec"], -packet["tcp.window"])
        for packet in packets
        if packet["src_ip"] == login["src_ip"]
        and packet["src_port"] == login["src_port"]
        and login["us"] - within * 10**6 <= packet["oob.time.sec"] * 10**6 + 250 < login["us"] + 10**6
    ]
    return -max(before)[1] if before else None


def test_random_logins_against_plain_python(tmp_path: Path) -> None:
    chance = random.Random(3)
    packets = [
        record(chance.randrange(300), src_port=40000 + chance.randrange(3), src_ip=f"192.0.2.{chance.randrange(3)}",
               tcp__window=chance.randrange(1000))
        for _ in range(80)
    ]  # fmt: skip
    lines = [
        _line(
            chance.randrange(300),
            f"Invalid user u{n} from 192.0.2.{chance.randrange(3)} port {40000 + chance.randrange(3)}",
        )
        for n in range(80)
    ]  # fmt: skip
    auth = _auth(tmp_path / "auth.log", *lines)
    with read(log_file(tmp_path / "a.json", packets)) as log:
        rows = log.logins(auth, within=30).dicts()
    assert len(rows) == 80
    assert [row["tcp_window"] for row in rows] == [_opened(row, packets, 30) for row in rows]
    assert any(row["tcp_window"] is None for row in rows)


def test_tables_have_names_of_their_own(tmp_path: Path) -> None:
    with read(log_file(tmp_path / "a.json", [record()])) as log:
        engine = log._engine
        first, second = events_table(engine, EVE), events_table(engine, EVE, only=lambda event: False)
        assert first != second
        counts = [engine.rows(engine.relation(f"SELECT COUNT(*) FROM {name}")) for name in (first, second)]
        assert counts == [[(21,)], [(0,)]]
        assert engine.columns(engine.relation(f"SELECT * FROM {first}")) == tuple(EVENTS)
        with pytest.raises(FileNotFoundError):
            logins_table(engine, tmp_path / "none")


def test_systems_of_sources(tmp_path: Path) -> None:
    scanner = [record(n, ip__fragoff=0, dest_port=n + 1) for n in range(30)]
    zmap = [record(n, ip__id=54321, src_ip="203.0.113.9", ip__totlen=44, ip__ttl=240) for n in range(2)]
    stack = [record(5, ip__totlen=60, src_ip="203.0.113.10", ip__id=7, ip__fragoff=0x4000)]
    answers = [record(6, tcp__ack=1, src_ip="203.0.113.11")]
    with read(log_file(tmp_path / "a.json", [*scanner, *zmap, *stack, *answers])) as log:
        assert log.systems().rows() == [
            ("192.0.2.66", "raw", "scanner with IP id 256", 0, "marks", 20),
            ("203.0.113.10", "unknown", "", 0, "", 1),
            ("203.0.113.9", "raw", "ZMap", 15, "marks", 2),
        ]
        assert [row[0::5] for row in log.systems(sample=100, src_ip="192.0.2.0/24").rows()] == [("192.0.2.66", 30)]
        with pytest.raises(ValueError, match=r"^sample must be at least 1, not 0$"):
            log.systems(sample=0)


def test_the_systems_of_the_kernels_lines_are_told_by_their_options(tmp_path: Path) -> None:
    """From a file as it is, and from the archive that it was imported to."""
    options = "OPT (020405B40402080A000000010000000001030307)"
    log_, archive = tmp_path / "kern.log", tmp_path / "archive"
    log_.write_text(
        "2026-11-24T08:30:00+00:00 fw1 kernel: IN=eth0 OUT= MAC= SRC=192.0.2.66 DST=198.51.100.7 LEN=60 TOS=0x00 "
        f"PREC=0x00 TTL=60 ID=9 DF PROTO=TCP SPT=40000 DPT=22 WINDOW=64240 RES=0x00 SYN URGP=0 {options} \n"
    )
    assert cli.main(["import", str(log_), "-o", str(archive)]) == 0
    for source in (log_, archive):
        with read(source) as log:
            assert log.systems().rows() == [("192.0.2.66", "stack", "Linux 4.20 or later", 4, "options", 1)]
            assert log.count("tcp_options").rows() == [(options[5:-1].lower(), 1)]


def test_paths() -> None:
    assert paths("a") == ["a"]
    assert paths(Path("a")) == ["a"]
    assert paths(["a", Path("b")]) == ["a", "b"]
