# SPDX-License-Identifier: GPL-2.0-or-later
"""The spool loses nothing it acknowledged, gives it back in order, stays within its limit and says what is wrong."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.errors import OutputError
from nflowlevel.spool import segment, spool
from nflowlevel.spool.claim import BLOCK
from nflowlevel.spool.rows import Rows
from nflowlevel.spool.spool import Spool
from tests.fix_lines import PATIENCE, no_descriptor_left, small_disk, wait_for
from tests.fix_rows import form, numbers, rows_of

__all__ = ["form"]

MANY = 1 << 30
NEVER = 3600.0

Make = Callable[..., Spool]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return a function that opens spools; at the end they are closed."""
    opened: list[Spool] = []

    def make(directory: Path = tmp_path / "spool", max_bytes: int = MANY, **options: Any) -> Spool:
        made = Spool(directory, max_bytes, **options)
        made.open()
        opened.append(made)
        return made

    with no_descriptor_left():
        yield make
        for each in opened:
            each.close()


def files(directory: str) -> list[str]:
    return sorted(name for name in os.listdir(directory) if ".rows" in name)


def size_of(each: Spool) -> int:
    names = [name for name in files(each.directory) if not name.endswith(".damaged")]
    return sum(os.stat(os.path.join(each.directory, name)).st_size for name in names)


def drain(each: Spool, max_rows: int = MANY) -> list[int]:
    found = []
    while rows := each.take(max_rows, MANY):
        assert rows.count <= max_rows
        found += numbers(rows)
        assert each.done(rows.last)[0] == rows.count
    return found


def as_after_kill(each: Spool, directory: Path) -> Path:
    """Return a copy of the spool's directory as a kill would leave it."""
    return Path(shutil.copytree(each.directory, directory))


def test_rows_come_in_order_and_again_until_done(make: Make) -> None:
    each = make()
    assert (each.first, each.take(MANY, MANY)) == (None, None)
    for first in range(1, 101, 5):
        assert each.append(rows_of(first, 5))
    assert (each.rows, each.bytes, each.first) == (100, size_of(each), 1)
    assert numbers(each.take(10, MANY)) == numbers(each.take(10, MANY)) == [*range(1, 11)]
    assert numbers(each.take(3, MANY)) == [1, 2, 3]
    assert each.done(2)[0] == 2
    assert each.first == 3
    assert numbers(each.take(MANY, MANY)) == [*range(3, 11)], "no more than was taken before"
    assert each.done(10)[0] == 8
    assert drain(each) == [*range(11, 101)]
    assert (each.rows, each.bytes, files(each.directory)) == (0, 0, [])
    assert not each.first
    assert each.append(rows_of(101, 2))
    assert drain(each) == [101, 102]


def test_done_reaches_beyond_what_was_taken(make: Make) -> None:
    each = make(max_bytes=4000)
    for first in range(1, 41, 4):
        assert each.append(rows_of(first, 4))
    each.take(2, MANY)
    assert each.done(30)[0] == 30
    assert each.rows == 10
    assert drain(each) == [*range(31, 41)]


def test_rows_are_joined_across_segments_but_not_across_gaps(make: Make) -> None:
    each = make(max_bytes=8 * 200)
    for first in (*range(1, 21, 2), 50):
        assert each.append(rows_of(first, 2))
    assert len(files(each.directory)) > 3
    assert numbers(each.take(MANY, MANY)) == [*range(1, 21)]
    assert each.done(20)[0] == 20
    assert numbers(each.take(MANY, MANY)) == [50, 51]


def test_numbers_decide_the_order(make: Make, tmp_path: Path) -> None:
    each = make()
    for first, count in ((20, 3), (30, 2), (1, 4), (25, 2), (5, 1)):
        assert each.append(rows_of(first, count))
    again = make(as_after_kill(each, tmp_path / "copy"))
    expected = [1, 2, 3, 4, 5, 20, 21, 22, 25, 26, 30, 31]
    assert drain(each) == drain(again) == expected


def test_rows_may_come_late(make: Make) -> None:
    each = make()
    assert each.append(rows_of(1, 5))
    assert each.append(rows_of(20, 5))
    assert numbers(each.take(MANY, MANY)) == [1, 2, 3, 4, 5]
    assert each.append(rows_of(10, 3))
    assert drain(each) == [1, 2, 3, 4, 5, 10, 11, 12, 20, 21, 22, 23, 24]
    assert (each.rows, each.lost) == (0, 0)


def test_nothing_is_read_twice(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    each = make()
    read = []
    real = segment.Segment.read

    def counted(self: segment.Segment, offset: int, size: int) -> bytes:
        read.append(real(self, offset, size))
        return read[-1]

    monkeypatch.setattr(segment.Segment, "read", counted)
    for first in range(1, 100, 3):
        assert each.append(rows_of(first, 3))
        rows = each.take(2, MANY)
        assert rows
        each.done(rows.last)
    size = each.bytes
    drain(each)
    assert sum(map(len, read)) == size


def test_a_restart_goes_on_where_it_was(make: Make) -> None:
    each = make(max_bytes=8 * 200)
    for first in range(1, 21, 2):
        assert each.append(rows_of(first, 2))
    each.take(MANY, MANY)
    each.done(7)
    each.close()
    again = make()
    assert (again.rows, again.bytes, again.first) == (13, size_of(again), 8)
    assert again.id == each.id
    assert again.number(1) == 2 * BLOCK
    assert drain(again) == [*range(8, 21)]
    again.close()
    assert make().rows == 0


def test_closed_means_closed(make: Make) -> None:
    each = make()
    each.append(rows_of(1, 2))
    each.close()
    assert not each.append(rows_of(3, 2))
    assert each.take(MANY, MANY) is None
    assert each.done(2) == (0, 0)
    assert make().rows == 2


def test_two_processes_do_not_share_it(make: Make) -> None:
    each = make()
    with pytest.raises(OutputError, match=r"process \d+ uses it"):
        Spool(each.directory, MANY).open()
    assert each.append(rows_of(1, 1))


def test_files_are_private(make: Make) -> None:
    each = make()
    each.append(rows_of(1, 1))
    assert os.stat(each.directory).st_mode & 0o777 == 0o700
    assert {os.stat(os.path.join(each.directory, name)).st_mode & 0o777 for name in os.listdir(each.directory)} == {
        0o600
    }


# The limit


def test_the_limit_is_kept_and_the_gap_is_one(make: Make) -> None:
    each = make(max_bytes=4000)
    first = 1
    while each.append(rows_of(first, 3)):
        first += 3
        assert each.bytes == size_of(each) <= 4000
    assert each.full
    assert not each.problem
    assert not each.append(rows_of(first, 1)), "a smaller one would fit, but it would make a second gap"
    rows = each.take(3, MANY)
    assert rows
    each.done(rows.last)
    assert each.full, "no segment is done yet"
    while each.full:
        rows = each.take(3, MANY)
        assert rows
        each.done(rows.last)
    assert each.append(rows_of(first + 100, 3))
    left = drain(each)
    assert left == [*range(rows.last + 1, first), *range(first + 100, first + 103)]


def test_rows_larger_than_the_limit_do_not_close_it(make: Make) -> None:
    each = make(max_bytes=500)
    assert not each.append(rows_of(1, 100))
    assert each.append(rows_of(101, 1))


# Trouble


def test_a_full_disk(make: Make, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "200k") as disk:
        each = make(disk / "spool", retry_secs=0.0)
        first = 1
        while each.append(rows_of(first, 50, pad=100)):
            first += 50
        assert "No space left on device — free space" in each.problem
        assert not each.append(rows_of(first, 50, pad=100))
        assert each.bytes == size_of(each)
        copy = as_after_kill(each, tmp_path / "copy")
        assert drain(make(copy)) == [*range(1, first)]
        assert drain(each) == [*range(1, first)]
        assert each.append(rows_of(first + 100, 50, pad=100))
        assert not each.problem
        assert drain(each) == [*range(first + 100, first + 150)]
        each.close()


def test_after_an_error_the_disk_is_left_alone_for_a_moment(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    each = make(retry_secs=NEVER)
    calls = []

    def fail(*_: object) -> int:
        calls.append(1)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "writev", fail)
    assert not each.append(rows_of(1, 1))
    assert not each.append(rows_of(2, 1))
    assert len(calls) == 1
    assert each.problem == "Input/output error — check the disk"
    assert not each.append(rows_of(3, 1), at_once=True)
    monkeypatch.undo()
    assert each.append(rows_of(4, 1), at_once=True)
    assert each.append(rows_of(5, 1))
    assert drain(each) == [4, 5]


def test_what_cannot_be_taken_back_is_not_followed(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    each = make(retry_secs=0.0)
    assert each.append(rows_of(1, 2))
    real = os.writev

    def half(fd: int, parts: list[bytes]) -> int:
        real(fd, [b"".join(parts)[:50]])
        raise OSError(errno.ENOSPC, "No space left on device")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "writev", half)
    monkeypatch.setattr(os, "ftruncate", fail)
    assert not each.append(rows_of(3, 2))
    monkeypatch.undo()
    assert each.append(rows_of(3, 2))
    again = make(as_after_kill(each, tmp_path / "copy"))
    assert drain(each) == drain(again) == [1, 2, 3, 4]
    assert again.lost == each.lost == 0


def test_a_directory_that_vanishes(make: Make) -> None:
    each = make(retry_secs=0.0)
    assert each.append(rows_of(1, 2))
    shutil.rmtree(each.directory)
    assert not each.append(rows_of(3, 2))
    assert not each.append(rows_of(5, 2))
    assert each.problem.endswith("create the directory and restart")
    assert each.rows == 2
    assert each.take(MANY, MANY) is None
    assert (each.rows, each.lost) == (0, 2)


def test_a_directory_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with no_descriptor_left():
        with pytest.raises(OutputError, match="spool_directory, not a file") as caught:
            Spool(tmp_path / "file", MANY).open()
        assert not caught.value.retryable
        with pytest.raises(OutputError, match=f"open the spool {tmp_path}/file/x: Not a directory — a part of"):
            Spool(tmp_path / "file" / "x", MANY).open()


def test_a_disk_that_is_read_only(make: Make, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "1m") as disk:
        each = make(disk / "spool")
        each.append(rows_of(1, 2))
        each.close()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with no_descriptor_left(), pytest.raises(OutputError, match="Read-only file system — name a directory"):
            Spool(disk / "spool", MANY).open()


def damage(each: Spool, name: str, place: int) -> None:
    path = Path(each.directory, name)
    data = bytearray(path.read_bytes())
    data[place] ^= 0x55
    path.write_bytes(data)


def test_a_damaged_record_does_not_block(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    each = make()
    for first in (1, 4, 7, 10):
        assert each.append(rows_of(first, 3))
    each.close()
    (name,) = files(each.directory)
    damage(each, name, os.stat(os.path.join(each.directory, name)).st_size // 4 + 60)
    again = make()
    assert again.rows == 12
    assert drain(again) == [1, 2, 3, 7, 8, 9, 10, 11, 12]
    assert (again.rows, again.lost) == (0, 3)
    assert files(again.directory) == [f"{name}.damaged"]
    assert "cannot be read, lost: 3" in caplog.text
    again.close()
    assert make().rows == 0


def test_a_wholly_damaged_segment_does_not_block(make: Make) -> None:
    each = make(max_bytes=8 * 100)
    for first in (1, 4, 7):
        assert each.append(rows_of(first, 3, pad=30))
    each.close()
    names = files(each.directory)
    assert len(names) == 3
    Path(each.directory, names[1]).write_bytes(b"rot")
    again = make()
    assert again.rows == 9
    assert drain(again) == [1, 2, 3, 7, 8, 9]
    assert again.lost == 3
    assert files(again.directory) == [f"{names[1]}.damaged"]


def test_an_unreadable_segment_does_not_block(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    each = make(max_bytes=8 * 100)
    for first in (1, 4, 7):
        assert each.append(rows_of(first, 3, pad=30))
    real = segment.Segment.read

    def read(self: segment.Segment, offset: int, size: int) -> bytes:
        if self.first == 4:
            raise OSError(errno.EIO, "Input/output error")
        return real(self, offset, size)

    monkeypatch.setattr(segment.Segment, "read", read)
    assert drain(each) == [1, 2, 3, 7, 8, 9]
    assert each.lost == 3


def test_too_many_open_files_cost_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    each = make()
    each.append(rows_of(1, 3))

    def read(*_: object) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(segment.Segment, "read", read)
    assert each.take(MANY, MANY) is None
    monkeypatch.undo()
    assert each.rows == 3
    assert drain(each) == [1, 2, 3]


def test_a_position_that_cannot_be_written_is_said(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    each = make()
    each.append(rows_of(1, 3))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(each._claim, "store", fail)
    assert drain(each) == [1, 2, 3]
    assert "rows may come twice" in caplog.text


# Syncing


def test_what_is_written_is_synced(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_SYNC_SECS", 0.01)
    synced: set[int] = set()
    real = os.fdatasync

    def fdatasync(fd: int) -> None:
        real(fd)
        synced.add(os.fstat(fd).st_ino)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    each = make()
    inodes = []
    for first in (1, 10):  # a gap: two segments
        each.append(rows_of(first, 2))
        name = f"{first:016x}.rows"
        inodes.append(os.stat(os.path.join(each.directory, name)).st_ino)
        wait_for(lambda: inodes[-1] in synced)
    position = os.stat(os.path.join(each.directory, "position")).st_ino
    assert position in synced


def test_a_stop_syncs_the_rest(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_SYNC_SECS", NEVER)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.fstat(fd).st_ino))
    each = make()
    each.append(rows_of(1, 2))
    each.close()
    (name,) = files(each.directory)
    assert os.stat(os.path.join(each.directory, name)).st_ino in synced


def test_a_stop_does_not_wait_for_ever(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spool, "_LAST_SYNC_SECS", 0.05)
    let_go = threading.Event()
    each = make()
    monkeypatch.setattr(os, "fdatasync", lambda _: let_go.wait(PATIENCE))
    each.append(rows_of(1, 2))
    each.close()
    assert "the stop does not wait" in caplog.text
    let_go.set()
    thread = each._syncing._thread
    assert thread
    thread.join(PATIENCE)


def test_a_failing_sync_is_counted(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_SYNC_SECS", 0.01)
    each = make()

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    each.append(rows_of(1, 2))
    wait_for(lambda: each.sync_errors)


def test_numbers_are_reserved_in_the_background(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_SYNC_SECS", 0.01)
    each = make()
    each.number(BLOCK // 2 + 1)
    last = each.number(1)
    assert each._claim
    claim = each._claim
    wait_for(lambda: not claim.low)
    each.close()
    assert make().number(1) == 3 * BLOCK > last


# kill -9

_CHILD = """
import sys
from nflowlevel.spool.spool import Spool
from tests.fix_rows import rows_of

spool = Spool(sys.argv[1], 1 << 40)
spool.open()
done = 0
while True:
    first = spool.number(200)
    if spool.append(rows_of(first, 200, pad=300)):
        print("kept", first, flush=True)
    if first // 200 % 5 == 0 and (rows := spool.take(300, 1 << 30)):
        print("doing", rows.last, flush=True)
        spool.done(rows.last)
        print("done", rows.last, flush=True)
"""


def test_a_kill_loses_nothing_that_was_acknowledged(make: Make, tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    for attempt in range(5):
        child = subprocess.Popen([sys.executable, "-c", _CHILD, str(directory)], stdout=subprocess.PIPE, text=True)
        assert child.stdout
        said = [child.stdout.readline().split() for _ in range(100 + 37 * attempt)]
        child.send_signal(signal.SIGKILL)
        said += [line.split() for line in child.communicate()[0].splitlines(keepends=True) if line.endswith("\n")]
        kept = [n for word, first in said if word == "kept" for n in range(int(first), int(first) + 200)]
        done = max(int(number) for word, number in said if word == "done")
        doing = max(int(number) for word, number in said if word == "doing")
        each = make(directory)
        found = drain(each)
        assert found == sorted(set(found))
        assert found[0] > done, "what is done does not come again"
        assert found[0] <= doing + 1
        missing = {n for n in kept if n > doing} - set(found)
        assert not missing
        assert len(set(found) - set(kept)) <= 200, "at most the rows whose acknowledgement was not read"
        each.close()


def test_two_threads(make: Make) -> None:
    each = make(max_bytes=400_000)
    total = 30_000
    accepted: list[int] = []
    finished = threading.Event()

    def produce() -> None:
        first = 1
        while first <= total:
            count = min(first % 97 + 1, total - first + 1)
            if each.append(rows_of(first, count)):
                accepted.extend(range(first, first + count))
                first += count
        finished.set()

    thread = threading.Thread(target=produce)
    thread.start()
    found: list[int] = []
    try:
        while True:
            last = finished.is_set()
            rows: Rows | None = each.take(1000, MANY)
            if rows:
                found += numbers(rows)
                each.done(rows.last)
            elif last:
                break
    finally:
        thread.join(PATIENCE)
    assert found == accepted == [*range(1, total + 1)]
    assert (each.rows, each.bytes, each.lost) == (0, 0, 0)
