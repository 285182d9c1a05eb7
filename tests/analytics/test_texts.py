# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of the LOG target as lines of JSON; those that are none are told with their number."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import nflowlevel as nfl
from nflowlevel.analytics.loglines import LogLines, members
from nflowlevel.analytics.texts import text_lines
from nflowlevel.analytics.wholelines import WholeLines
from nflowlevel.archive.schema import PACKETS
from nflowlevel.cli import main

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


def by_parse(text: str) -> tuple[list[dict[str, object]], list[int]]:
    """Return the records of lines, one by one by the reader of all forms, and the numbers of those that are damaged."""
    reader, found, damaged = LogLines(0, year=2026), [], []
    for number, line in enumerate(text.split("\n")[:-1], 1):
        lost = reader.counts.lost()
        if (row := reader.parse(line)) is not None:
            found.append(msgspec.json.decode(msgspec.json.encode(members(row))))
        elif reader.counts.lost() != lost:
            damaged.append(number)
    return found, damaged


_SYSLOG = (
    "Nov 27 12:00:01 fw2 pfx  IN=va OUT= MAC= SRC=10.77.0.2 DST=10.77.0.1 LEN=35 TOS=00 PREC=0x00 TTL=64 ID=1 "
    "PROTO=UDP SPT=5000 DPT=53 LEN=15 MARK=0x0 \n"
) * 2
_PARTS = [
    GOOD,
    NO_YEAR,
    OTHER,
    CUT,
    UNTIMED,
    "\n",
    "\r\n",
    " \n",
    GOOD.replace("ID=256", "ID=99999"),
    "ü\n",
    "x" * 9000 + "\n",
]


@given(st.lists(st.sampled_from(_PARTS), max_size=40), st.integers(0, 200), st.sampled_from(["", "\n", " ", "=", "\t"]))
@example(_PARTS * 3, 0, "")
def test_lines_are_read_as_the_reader_of_all_forms_does(parts: list[str], at: int, put: str) -> None:
    text = "".join(parts)
    text = text[:at] + put + text[at:]
    with TemporaryDirectory() as directory:
        found, damage = read(Path(directory) / "kern.log", text, year=2026)
    wanted, numbers = by_parse(text)
    assert found == wanted
    assert [number for number, _, _ in damage if number] == numbers


def test_reading_and_import_give_the_same_rows(tmp_path: Path) -> None:
    path = tmp_path / "kern.log"
    path.write_text("".join(_PARTS) * 3 + _SYSLOG)
    assert main(["import", str(path), "-o", str(tmp_path / "ar")]) == 0
    names = ", ".join(column.name for column in PACKETS)
    asked = f"SELECT {names} FROM packets ORDER BY us, {names}"
    rows = nfl.read(path).sql(asked).rows()
    assert len(rows) == 8
    assert nfl.read(tmp_path / "ar").sql(asked).rows() == rows


def test_usual_lines_take_no_long_way(tmp_path: Path) -> None:
    path = tmp_path / "kern.log"
    path.write_text(GOOD * 2000)
    with WholeLines(path) as lines, patch.object(LogLines, "parse", side_effect=AssertionError("the long way")):
        assert sum(chunk.count(b"\n") for chunk, _ in text_lines(lines, lambda *_: None)) == 2000


def test_damage_has_its_number_beyond_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflowlevel.analytics.wholelines.CHUNK_BYTES", 1000)
    monkeypatch.setattr("nflowlevel.analytics.wholelines.PIECE_BYTES", 700)
    text = (GOOD * 50 + "\n" + CUT) * 5
    _, damage = read(tmp_path / "kern.log", text)
    assert [number for number, _, _ in damage] == [52, 104, 156, 208, 260]
