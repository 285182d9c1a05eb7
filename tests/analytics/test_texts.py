# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of the LOG target as lines of JSON; those that are none are told with their number."""

from __future__ import annotations

import json
import os
from pathlib import Path

from nflowlevel.analytics.texts import text_lines
from nflowlevel.analytics.wholelines import WholeLines

GOOD = (
    "2026-11-24T08:30:00.000250+00:00 fw1 kernel: DROP in: IN=eth0 OUT= MAC= SRC=192.0.2.66 DST=198.51.100.7 LEN=40 "
    "TOS=0x00 PREC=0x00 TTL=105 ID=256 PROTO=TCP SPT=6000 DPT=22 WINDOW=16384 RES=0x00 SYN URGP=0 \n"
)
OTHER = "Nov 24 08:30:01 fw1 sshd[7]: Accepted publickey\n"
CUT = "2026-11-24T08:30:02+00:00 fw1 kernel: IN=eth0 OUT= SRC=192.0.2.66 DST=198.51.100.7 LEN=4\n"
UNTIMED = GOOD.partition(" ")[2]
NO_YEAR = GOOD.replace("2026-11-24T08:30:00.000250+00:00", "Nov 24 08:30:00")


def read(path: Path, text: str, **more: int) -> tuple[list[dict[str, object]], list[tuple[int, str, str]]]:
    """Return the records and the damage of a file."""
    path.write_text(text)
    damage: list[tuple[int, str, str]] = []
    with WholeLines(path) as lines:
        found = [
            json.loads(line)
            for chunk, _ in text_lines(lines, lambda *each: damage.append(each), **more)
            for line in chunk.splitlines()
        ]
    return found, damage


def test_a_packet(tmp_path: Path) -> None:
    (found,), damage = read(tmp_path / "kern.log", OTHER + GOOD)
    wanted = {
        "oob.time.sec": 1_795_509_000,
        "oob.time.usec": 250,
        "dvc": "fw1",
        "oob.prefix": "DROP in: ",
        "src_ip": "192.0.2.66",
        "src_port": 6000,
        "dest_port": 22,
        "tcp.window": 16384,
        "tcp.syn": 1,
        "tcp.ack": 0,
        "ip.id": 256,
    }
    assert {name: found[name] for name in wanted} == wanted
    assert damage == []


def test_damage_has_a_place(tmp_path: Path) -> None:
    found, damage = read(tmp_path / "kern.log", OTHER + CUT + GOOD + UNTIMED)
    assert len(found) == 1
    assert [(number, reason) for number, reason, _ in damage] == [
        (2, "a packet that is cut"),
        (4, "a packet without a time"),
    ]
    assert damage[0][2] + "\n" == CUT


def test_a_file_without_packets(tmp_path: Path) -> None:
    assert read(tmp_path / "x", OTHER) == ([], [(0, "no line of it is a packet", "")])
    assert read(tmp_path / "x", "") == ([], [])


def test_years(tmp_path: Path) -> None:
    path = tmp_path / "kern.log"
    (found,), _ = read(path, NO_YEAR, year=2013)
    os.utime(path, (1_400_000_000, 1_400_000_000))
    damage: list[object] = []
    with WholeLines(path) as lines:
        (chunk,) = [chunk for chunk, _ in text_lines(lines, lambda *each: damage.append(each))]
    assert json.loads(chunk)["oob.time.sec"] == found["oob.time.sec"]
