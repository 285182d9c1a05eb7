# SPDX-License-Identifier: GPL-2.0-or-later
"""Which run a number belongs to, also after restarts, torn slots and copies."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from nflowlevel.spool.runs import Runs
from tests.fix_lines import no_descriptor_left

BASE = str(uuid.UUID(int=7))


def begun(path: Path, first: int, waiting: int | None = None, inherited: int = 0) -> Runs:
    runs = Runs(str(path), BASE)
    runs.begin(first, waiting=waiting, inherited=inherited)
    return runs


def test_a_number_belongs_to_the_run_that_gave_it_out(tmp_path: Path) -> None:
    with no_descriptor_left():
        one = begun(tmp_path / "runs", 100)
        one.close()
        two = begun(tmp_path / "runs", 200, waiting=50)
        assert [two.of(number).name for number in (50, 99, 100, 199, 200, 1 << 60)] == [
            *[BASE] * 2,
            *[one.own.name] * 2,
            *[two.own.name] * 2,
        ]
        assert (two.of(150).first, two.of(150).last, two.of(99).last) == (100, 199, 99)
        two.close()


def test_each_start_has_a_name_of_its_own_in_copies_too(tmp_path: Path) -> None:
    begun(tmp_path / "runs", 100).close()
    (tmp_path / "copy").write_bytes((tmp_path / "runs").read_bytes())
    names = set()
    for path in (tmp_path / "runs", tmp_path / "copy"):
        runs = begun(path, 200, waiting=100)
        names |= {runs.of(100).name, runs.own.name}
        runs.close()
    assert len(names) == 3, "what was inherited has one name, what is logged now has two"


def test_a_run_without_rows_is_forgotten_and_its_slot_used_again(tmp_path: Path) -> None:
    for first in range(100, 100_000, 100):
        begun(tmp_path / "runs", first, waiting=first - 150).close()
    assert os.stat(tmp_path / "runs").st_size == 256 * 64
    begun(tmp_path / "runs", 200_000).close()
    last = Runs(str(tmp_path / "runs"), BASE)
    assert last.of(100).name == BASE
    last.close()


def test_more_runs_than_there_was_room_for(tmp_path: Path) -> None:
    names = []
    for first in range(100, 30_100, 100):
        runs = begun(tmp_path / "runs", first, waiting=100)
        names.append(runs.own.name)
        runs.close()
    runs = Runs(str(tmp_path / "runs"), BASE)
    assert [runs.of(first).name for first in range(100, 30_100, 100)] == names
    runs.close()


@pytest.mark.parametrize("which", ["own", "inherited", "base"])
def test_another_name_and_a_doubt_outlive_the_process(tmp_path: Path, which: str) -> None:
    begun(tmp_path / "runs", 100).close()
    runs = begun(tmp_path / "runs", 200, waiting=50)
    number = {"own": 250, "inherited": 150, "base": 50}[which]
    before = runs.of(number).name
    runs.rename(runs.of(number))
    runs.remember(runs.of(number), number + 1)
    name = runs.of(number).name
    assert name != before
    runs.close()
    again = begun(tmp_path / "runs", 300, waiting=50)
    assert (again.of(number).name, again.of(number).doubt) == (name, number + 1)
    assert len({again.of(each).name for each in (50, 150, 250, 300)}) == 4
    again.close()


def test_a_damaged_slot_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    begun(tmp_path / "runs", 100).close()
    data = bytearray((tmp_path / "runs").read_bytes())
    data[3] ^= 1
    (tmp_path / "runs").write_bytes(data)
    runs = begun(tmp_path / "runs", 200, waiting=100)
    assert runs.of(100).name == BASE
    assert "rows of an earlier run may come twice" in caplog.text
    runs.close()


def test_a_name_that_the_disk_does_not_take_is_not_taken(tmp_path: Path) -> None:
    runs = begun(tmp_path / "runs", 100)
    before = runs.own.name
    os.close(runs._fd)
    with pytest.raises(OSError, match="descriptor"):
        runs.rename(runs.own)
    assert runs.own.name == before
    runs._fd = -1


def test_without_a_file_there_is_one_run() -> None:
    runs = Runs()
    runs.begin(1)
    assert runs.of(1) is runs.own
    assert uuid.UUID(runs.own.name)
