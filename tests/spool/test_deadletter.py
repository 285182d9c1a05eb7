# SPDX-License-Identifier: GPL-2.0-or-later
"""The dead-letter file: each refused row once, whatever the process does, and no torn line."""

from __future__ import annotations

import json
import os
import resource
import stat
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.spool.deadletter import DeadLetters
from nflowlevel.spool.rows import Rows
from nflowlevel.spool.sink import Refused, Unavailable
from nflowlevel.sql.copytext import dicts
from tests.fix_nobody import open_to_all, run_as_nobody

__all__ = ["open_to_all"]

_LAYOUT = ("oob.prefix", "oob.mark", "ip.saddr.str")
_ERROR = Refused("value too long for type character varying(32)", "22001")


def row(number: int, prefix: str = "p", count: int = 1) -> Rows:
    data = "".join(f"{prefix}\t{number + i}\t\\N\n" for i in range(count)).encode()
    return Rows(_LAYOUT, number, count, data)


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_entry_says_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "refused.jsonl"
    letters = DeadLetters(path, "me", dicts)
    letters.write(row(7, "tab\\there Ä"), _ERROR, "ulog2")
    (entry,) = entries(path)
    assert entry.pop("time")
    assert entry == {
        "writer": "me",
        "row": 7,
        "into": "ulog2",
        "code": "22001",
        "reason": str(_ERROR),
        "values": {"oob.prefix": "tab\there Ä", "oob.mark": "7"},
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    letters.close()


def test_a_row_that_comes_again_is_there_already(tmp_path: Path) -> None:
    path = tmp_path / "refused.jsonl"
    for letters in (DeadLetters(path, "me", dicts), DeadLetters(path, "me", dicts)):
        letters.write(row(7), _ERROR, "t")
        letters.write(row(8), _ERROR, "t")
        letters.close()
    assert [entry["row"] for entry in entries(path)] == [7, 8]


def test_the_numbers_of_another_writer_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "refused.jsonl"
    for writer in ("one", "two", "one"):
        letters = DeadLetters(path, writer, dicts)
        letters.write(row(7), _ERROR, "t")
        letters.close()
    assert [entry["writer"] for entry in entries(path)] == ["one", "two"]


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "refused.jsonl"
    letters = DeadLetters(path, "me", dicts)
    letters.write(row(7), _ERROR, "t")
    letters.close()
    with path.open("a") as file:
        file.write('{"time": "2026-11-27T05:00:00+0000", "writer": "me", "row": 8')
    letters.write(row(8), _ERROR, "t")
    assert [entry["row"] for entry in entries(path)] == [7, 8]
    letters.close()


@pytest.mark.parametrize("tail", ["not ours", '{"timestamp": "2026', "x" * (2 << 20), "\0" * 100])
@pytest.mark.parametrize("before", ["", "a line of somebody else\n"])
def test_the_end_of_somebody_elses_file_is_not_cut(tmp_path: Path, before: str, tail: str) -> None:
    path = tmp_path / "refused.jsonl"
    path.write_text(before + tail)
    letters = DeadLetters(path, "me", dicts)
    letters.write(row(7), _ERROR, "t")
    letters.close()
    kept, _, ours = path.read_text().rpartition('{"time"')
    assert json.loads('{"time"' + ours)["row"] == 7
    if tail.strip("\0") or not before:
        assert kept == before + tail + "\n"
    else:
        assert kept == before, "zeros behind whole lines are what a power failure leaves"


def test_a_full_disk_leaves_nothing_of_the_row(tmp_path: Path) -> None:
    path = tmp_path / "refused.jsonl"
    letters = DeadLetters(path, "me", dicts)
    letters.write(row(7), _ERROR, "t")
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(Unavailable, match=r"write .*refused\.jsonl: File too large — make room"):
            letters.write(row(8), _ERROR, "t")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    letters.write(row(8), _ERROR, "t")
    assert [entry["row"] for entry in entries(path)] == [7, 8]
    letters.close()


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "refused.jsonl")
    with pytest.raises(Unavailable, match="Is a directory"):
        DeadLetters(tmp_path / "refused.jsonl", "me", dicts).write(row(7), _ERROR, "t")


def test_a_directory_of_roots(open_to_all: Path) -> None:
    def bury() -> int:
        try:
            DeadLetters(open_to_all / "refused.jsonl", "me", dicts).write(row(7), _ERROR, "t")
        except Unavailable as error:
            print(error)
        return 0

    said = f"nobody must be able to write {open_to_all}, which belongs to root:root, mode 0755; make room, or set"
    assert said in run_as_nobody(bury).output


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_a_file_that_goes_is_made_anew(tmp_path: Path, how: str) -> None:
    path = tmp_path / "refused.jsonl"
    letters = DeadLetters(path, "me", dicts)
    letters.write(row(7), _ERROR, "t")
    if how == "removed":
        path.unlink()
    else:
        path.rename(tmp_path / "old")
    if how == "replaced":
        path.touch()
    letters.write(row(7), _ERROR, "t")  # of which the file that is there knows nothing
    letters.write(row(8), _ERROR, "t")
    assert [entry["row"] for entry in entries(path)] == [7, 8]
    letters.close()


def test_a_file_removed_during_the_write_does_not_have_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "refused.jsonl"
    letters = DeadLetters(path, "me", dicts)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", lambda _fd: path.unlink())
        with pytest.raises(Unavailable, match="removed during the write"):
            letters.write(row(7), _ERROR, "t")
    letters.write(row(7), _ERROR, "t")
    assert [entry["row"] for entry in entries(path)] == [7]
    letters.close()


@pytest.mark.parametrize("planted", ["symlink", "hard link", "fifo"])
def test_what_is_no_file_of_one_name_is_left_alone(tmp_path: Path, planted: str) -> None:
    path, other = tmp_path / "refused.jsonl", tmp_path / "other"
    other.write_text("not ours")
    letters = DeadLetters(path, "me", dicts)
    letters.write(row(7), _ERROR, "t")
    path.unlink()
    if planted == "symlink":
        path.symlink_to(other)
    elif planted == "hard link":
        path.hardlink_to(other)
    else:
        os.mkfifo(path)
    with pytest.raises(Unavailable, match=r"symbolic links|not a regular file, or it has several names"):
        letters.write(row(8), _ERROR, "t")
    assert other.read_text() == "not ours"
    path.unlink()
    letters.write(row(8), _ERROR, "t")
    assert [entry["row"] for entry in entries(path)] == [8]
    letters.close()
