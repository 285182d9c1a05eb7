# SPDX-License-Identifier: GPL-2.0-or-later
"""scan_then_brute: the model, the article's attack in an ordinary network, and whom it must not accuse there."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fix_detectors import (
    BACKUP,
    SECOND,
    Engine,
    Record,
    Row,
    agrees,
    distinct,
    findings,
    grouped,
    is_syn,
    logs,
    packet,
    row,
    us,
    windows,
)

_KEYS = ("src_ip", "dest_ip", "dest_port", "tcp_window")


def model(records: list[Record], within: int = 100) -> list[Row]:
    rows = []
    logins = [r for r in records if is_syn(r) and r["dest_port"] in (22, 23)]
    for (source, dest, port, window), group in grouped(logins, *_KEYS).items():
        good = [w for w in windows(group, 300, 5) if len(w) >= 3 and distinct(w, "src_port") >= 2]
        if not good:
            continue
        brute = [record for part in good for record in part]
        first = min(record["us"] for record in brute)
        before = [
            r
            for r in logins
            if r["src_ip"] == source
            and r["dest_port"] == port
            and r["tcp_window"] != window
            and first - within * SECOND <= r["us"] < first
        ]
        for (scan_window,), scan in grouped(before, "tcp_window").items():
            fixed = len(scan) >= 2 and distinct(scan, "src_port") == 1 and scan[0]["src_port"] < 32768
            if fixed or distinct(scan, "dest_ip") >= 3:
                rows.append(
                    row(
                        brute,
                        src=source,
                        dest=dest,
                        port=port,
                        count=max(map(len, good)),
                        scan_first=min(r["us"] for r in scan),
                        scans=len(scan),
                        scan_port=min(r["src_port"] for r in scan),
                        scan_window=scan_window,
                        brute_window=window,
                        delay=min(r["sec"] for r in brute) - max(r["sec"] for r in scan),
                    )
                )
    return rows


def test_it_agrees_with_the_model_on_random_logs() -> None:
    mixed: st.SearchStrategy[list[Record]] = st.builds(
        lambda a, b, shift: [*a, *({**r, "sec": r["sec"] + shift, "us": r["us"] + shift * SECOND} for r in b)],
        logs(span=60, port=(22,)),
        logs(span=200, port=(22, 23)),
        st.integers(0, 200),
    )
    agrees(
        "scan_then_brute",
        model,
        log=mixed,
        attempts=3,
        ports=2,
        logins="22,23",
        scans=2,
        hosts=3,
        within=100,
        examples=200,
    )


def attack(pause: float, scan_port: int = 6000, window: int = 65535) -> list[Record]:
    raw = {"src_port": scan_port, "tcp_window": 16384, "ip_totlen": 40, "ip_ttl": 105}
    scan = [packet(40_000 + n, "198.18.0.1", f"10.0.1.{n % 5}", 22, **raw) for n in range(5)]
    begin = 40_004 + pause
    guesses = [
        packet(begin + 3 * n, "198.18.0.1", "10.0.1.3", 22, src_port=50_000 + n, tcp_window=window) for n in range(40)
    ]
    return scan + guesses


def test_the_attack_of_the_article_is_found_and_nobody_else() -> None:
    """Bound: nobody; configuration by ssh is found only after a scan by another program of the same host."""
    (found,) = findings("scan_then_brute", attack(600))
    assert (found["src_ip"], found["dest_ip"], found["dest_port"]) == ("198.18.0.1", "10.0.1.3", 22)
    assert (found["scan_window"], found["scan_port"], found["scans"]) == (16384, 6000, 5)
    assert (found["brute_window"], found["delay"], found["scan_first"]) == (65535, 600, us(40_000))


def test_the_scan_has_to_be_before_and_by_another_tool() -> None:
    assert findings("scan_then_brute", attack(3700)) == []
    assert len(findings("scan_then_brute", attack(3700), within="2h")) == 1
    assert findings("scan_then_brute", attack(600, window=16384)) == []
    assert findings("scan_then_brute", attack(600, scan_port=40_000)) == []


def test_a_sweep_from_many_ports_is_a_scan_too() -> None:
    sweep = [packet(40_000 + n, BACKUP, f"10.0.1.{n}", 22, src_port=40_000 + n, tcp_window=1024) for n in range(10)]
    guesses = [packet(40_100 + n, BACKUP, "10.0.1.3", 22, src_port=50_000 + n) for n in range(20)]
    (found,) = findings("scan_then_brute", sweep + guesses)
    assert found["src_ip"] == BACKUP


def test_the_evidence_begins_with_the_scan() -> None:
    log = attack(600)
    engine = Engine(log)
    (found,) = engine.find("scan_then_brute")
    assert [record["us"] for record in engine.evidence(found)] == [record["us"] for record in log]
