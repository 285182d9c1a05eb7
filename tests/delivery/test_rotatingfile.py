# SPDX-License-Identifier: GPL-2.0-or-later
"""RotatingFile: when a new file begins, what it is called, and what happens when it cannot be opened."""

from __future__ import annotations

import fcntl
import gzip
import os
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from nflowlevel.delivery.captureform import CaptureForm
from nflowlevel.delivery.rotatingfile import RotatingFile, Rotation
from nflowlevel.errors import OutputError
from nflowlevel.logs import Limited
from nflowlevel.stats import OutputStats
from tests.fix_lines import check, wait_for
from tests.fix_pcap import RECORD, records_of

_MIDNIGHT = 1_795_392_000  # 2026-11-23 00:00:00 UTC
_RECORD_BYTES = 56


class Clock:
    """The time that RotatingFile sees."""

    def __init__(self) -> None:
        self.now = float(_MIDNIGHT)

    def set(self, hour: int, minute: int = 0, second: int = 0) -> None:
        self.now = float(_MIDNIGHT + 3600 * hour + 60 * minute + second)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setenv("TZ", "UTC0")
    time.tzset()
    made = Clock()
    fake = SimpleNamespace(time=lambda: made.now, monotonic=time.monotonic, localtime=time.localtime)
    monkeypatch.setattr("nflowlevel.delivery.rotatingfile.time", fake)
    return made


def record(number: int) -> bytes:
    data = b"\x45" + bytes(_RECORD_BYTES - 17)
    return RECORD.pack(_MIDNIGHT, number, len(data), len(data)) + data


def rotating(directory: Path, pattern: str = "x-%H%M.pcap", **rotation: object) -> RotatingFile:
    return RotatingFile(
        str(directory / pattern),
        Rotation(**rotation),  # type: ignore[arg-type]
        form=CaptureForm("pcap", "raw", has_one_writer=True),
        retry_secs=0.0,
        stats=OutputStats(),
        limited=Limited(),
    )


@pytest.fixture
def numbers(tmp_path: Path) -> Callable[[], dict[str, list[int]]]:
    """Returns the numbers of the records in each file."""
    return lambda: {path.name: [one.usec for one in records_of(path)] for path in sorted(tmp_path.glob("*.pcap"))}


def test_a_file_begins_at_each_full_interval(
    tmp_path: Path, clock: Clock, numbers: Callable[[], dict[str, list[int]]]
) -> None:
    clock.set(1, 17)
    file = rotating(tmp_path, every_secs=3600)
    file.open()
    for number, when in enumerate(((1, 17), (1, 59), (2, 0), (2, 30), (4, 5))):
        clock.set(*when)
        file.write(record(number), 1)
    file.close(1)
    assert numbers() == {"x-0117.pcap": [0, 1], "x-0200.pcap": [2, 3], "x-0405.pcap": [4]}
    check(file.stats)


def test_a_day_begins_at_local_midnight(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XST-5:30")
    time.tzset()
    clock.set(18, 29, 59)  # 23:59:59 there
    file = rotating(tmp_path, "x-%d-%H%M.pcap", every_secs=86400)
    file.open()
    file.write(record(0), 1)
    clock.set(18, 30)
    file.write(record(1), 1)
    file.close(1)
    assert {path.name for path in tmp_path.iterdir()} == {"x-23-2359.pcap", "x-24-0000.pcap"}


def test_without_packets_too_and_then_the_empty_file_goes(
    tmp_path: Path, clock: Clock, numbers: Callable[[], dict[str, list[int]]]
) -> None:
    file = rotating(tmp_path, every_secs=60)
    file.open()
    assert file.deadline is not None
    assert 50 < file.deadline - time.monotonic() <= 60
    clock.set(0, 1)
    assert file.deadline <= time.monotonic()
    file.retry()
    assert numbers() == {"x-0001.pcap": []}
    assert file.deadline - time.monotonic() > 50
    file.write(record(1), 1)
    clock.set(0, 2)
    file.retry()
    assert numbers() == {"x-0001.pcap": [1], "x-0002.pcap": []}
    file.close(1)
    assert file.deadline is None


def test_no_file_is_larger_than_it_may_be(
    tmp_path: Path, clock: Clock, numbers: Callable[[], dict[str, list[int]]]
) -> None:
    file = rotating(tmp_path, most_bytes=24 + 2 * _RECORD_BYTES)
    file.open()
    for number in range(5):
        file.write(record(number), 1)
    file.write(b"".join(map(record, range(5, 10))), 5)
    file.write(RECORD.pack(_MIDNIGHT, 10, 300, 300) + b"\x45" + bytes(299), 1)  # larger than a file may be
    file.write(record(11), 1)
    file.close(1)
    check(file.stats)
    assert numbers() == {
        "x-0000.pcap": [0, 1],
        "x-0000-1.pcap": [2, 3],
        "x-0000-2.pcap": [4, 5],
        "x-0000-3.pcap": [6, 7],
        "x-0000-4.pcap": [8, 9],
        "x-0000-5.pcap": [10],
        "x-0000-6.pcap": [11],
    }


def test_a_restart_goes_on_with_the_file_of_this_time(
    tmp_path: Path, clock: Clock, numbers: Callable[[], dict[str, list[int]]]
) -> None:
    for number, hour in enumerate((1, 1, 2)):
        clock.set(hour)
        file = rotating(tmp_path, every_secs=3600)
        file.open()
        file.write(record(number), 1)
        file.close(1)
    assert numbers() == {"x-0100.pcap": [0, 1], "x-0200.pcap": [2]}


def test_hup_goes_on_or_begins_anew_where_the_file_was_moved(
    tmp_path: Path, clock: Clock, numbers: Callable[[], dict[str, list[int]]]
) -> None:
    file = rotating(tmp_path, every_secs=3600)
    file.open()
    file.write(record(0), 1)
    file.reopen()
    file.write(record(1), 1)
    (tmp_path / "x-0000.pcap").rename(tmp_path / "moved.pcap")
    file.reopen()
    file.write(record(2), 1)
    file.close(1)
    assert numbers() == {"moved.pcap": [0, 1], "x-0000.pcap": [2]}


def test_what_cannot_be_opened_leaves_the_old_file_in_use(
    tmp_path: Path, clock: Clock, numbers: Callable[[], dict[str, list[int]]]
) -> None:
    file = rotating(tmp_path, every_secs=3600)
    file.open()
    file.write(record(0), 1)
    (tmp_path / "x-0100.pcap").mkdir()
    clock.set(1)
    # A directory has the name: another is free.
    file.write(record(1), 1)
    (tmp_path / "x-0100.pcap").rmdir()
    assert numbers() == {"x-0000.pcap": [0], "x-0100-1.pcap": [1]}
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    clock.set(2)
    file.write(record(2), 1)
    file.write(record(3), 1)
    assert file.stats.errors >= 2, "each write tries again, as the pause is none here"
    moved.rename(tmp_path)
    file.write(record(4), 1)
    file.write(record(5), 1)
    file.close(1)
    assert numbers() == {"x-0000.pcap": [0], "x-0100-1.pcap": [1, 2, 3, 4], "x-0200.pcap": [5]}
    check(file.stats)


def test_closed_files_are_compressed_and_kept(tmp_path: Path, clock: Clock) -> None:
    file = rotating(tmp_path, every_secs=3600, keep_files=2, compression="gzip")
    file.open()
    for hour in range(5):
        clock.set(hour)
        file.write(record(hour), 1)
    wait_for(lambda: {path.name for path in tmp_path.iterdir()} == {"x-0200.pcap.gz", "x-0300.pcap.gz", "x-0400.pcap"})
    file.close(5)
    plain = tmp_path / "plain.pcap"
    plain.write_bytes(gzip.decompress((tmp_path / "x-0300.pcap.gz").read_bytes()))
    assert [one.usec for one in records_of(plain)] == [3]


def test_two_of_the_same_pattern_are_refused(tmp_path: Path, clock: Clock) -> None:
    one = rotating(tmp_path, every_secs=3600)
    one.open()
    with pytest.raises(OutputError, match="another section writes it"):
        rotating(tmp_path, every_secs=3600).open()
    one.close(1)


@pytest.mark.parametrize("lock", ["flock", "fcntl"])
def test_a_reader_that_locks_the_file_does_not_keep_it_from_being_continued(
    tmp_path: Path, clock: Clock, numbers: Callable[[], dict[str, list[int]]], lock: str
) -> None:
    """Whoever may read it could else choose when a restart fails."""
    for number in range(2):
        file = rotating(tmp_path, every_secs=3600)
        file.open()
        file.write(record(number), 1)
        file.close(1)
        if not number:
            (path,) = tmp_path.iterdir()
            with path.open("ab") as torn:
                torn.write(b"torn")
            reader = path.open("rb")
            if lock == "flock":
                fcntl.flock(reader, fcntl.LOCK_EX)
            else:
                # An open file's own lock: those of a process would not be in this one's way.
                fcntl.fcntl(reader, fcntl.F_OFD_SETLK, struct.pack("@hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
    assert numbers() == {path.name: [0, 1]}
    with reader:
        file = rotating(tmp_path, every_secs=3600)
        file.open()
        if lock == "flock":
            with pytest.raises(OutputError, match="another section writes it"):
                rotating(tmp_path, every_secs=3600).open()
        file.close(1)


def test_a_pattern_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is always the same name"):
        rotating(tmp_path, "x.pcap", every_secs=60)


def test_a_vanished_directory_is_met_at_the_stop(tmp_path: Path, clock: Clock) -> None:
    file = rotating(tmp_path, every_secs=60, compression="gzip")
    file.open()
    file.write(record(0), 1)
    shutil.rmtree(tmp_path)
    file.close(1)
    assert file.state.startswith("closed")
    tmp_path.mkdir()
