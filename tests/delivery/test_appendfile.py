# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines reach their file whole, in order and once, or are counted as dropped: whatever happens to the file."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.delivery import appendfile
from nflowlevel.delivery.appendfile import AppendFile
from nflowlevel.delivery.form import LineForm
from nflowlevel.errors import OutputError
from nflowlevel.logs import NOTICE, Limited
from nflowlevel.stats import OutputStats
from tests.fix_lines import PATIENCE, check, file_size_limit, lines, no_descriptor_left, numbers, small_disk, wait_for

#: Retries happen when the test says so.
NEVER = 3600.0

Make = Callable[..., AppendFile]

#: How the lines of fix_lines.py begin.
BEGINS = b'{"n": '


@pytest.fixture
def make() -> Iterator[Make]:
    """Return a function that opens files; at the end they are closed and have to account for every record."""
    files: list[AppendFile] = []

    def opened(path: Path | str, **options: Any) -> AppendFile:
        file = AppendFile(
            str(path),
            **{"form": LineForm(BEGINS), "retry_secs": NEVER, "stats": OutputStats(), "limited": Limited(), **options},
        )
        file.open()
        files.append(file)
        return file

    with no_descriptor_left():
        yield opened
        for file in files:
            check(file.stats)
            file.close(PATIENCE)
            check(file.stats)
            assert file.stats.pending == 0
            assert file.deadline is None


class Writer:
    """Writes numbered lines."""

    def __init__(self, file: AppendFile, pad: int = 0) -> None:
        self.file, self.pad, self.next = file, pad, 0

    def __call__(self, count: int) -> None:
        self.file.write(lines(self.next, count, self.pad), count)
        self.next += count
        check(self.file.stats)


# While all is well


def test_a_batch_is_one_write_without_a_copy(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = make(tmp_path / "log")
    seen: list[object] = []
    real = os.write

    def write(fd: int, data: Any) -> int:
        seen.append(data)
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    batch = memoryview(lines(0, 64))
    file.write(batch, 64)
    assert len(seen) == 1
    assert seen[0] is batch
    assert numbers((tmp_path / "log").read_bytes()) == [*range(64)]
    assert (file.stats.written, file.stats.bytes) == (64, len(batch))
    assert file.deadline is None
    assert file.state == f"writing to {tmp_path / 'log'}"


def test_empty_batch(make: Make, tmp_path: Path) -> None:
    file = make(tmp_path / "log")
    file.write(b"", 0)
    assert (tmp_path / "log").read_bytes() == b""


def test_appends_with_the_users_umask(make: Make, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(lines(0, 1))
    make(tmp_path / "log").write(lines(1, 1), 1)
    assert numbers((tmp_path / "log").read_bytes()) == [0, 1]
    before = os.umask(0o027)
    try:
        make(tmp_path / "new")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


# Opening


def test_missing_directory_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    file = AppendFile(str(tmp_path / "no" / "log"), stats=OutputStats(), limited=Limited())
    with pytest.raises(OutputError, match=r"open .*/no/log: No such file or directory — create the directory"):
        file.open()
    file.close(0)


def test_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Is a directory — name a file"):
        AppendFile(str(tmp_path), stats=OutputStats(), limited=Limited()).open()


def test_torn_line_is_cut_off_counted_and_logged(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "log").write_bytes(lines(0, 2) + b'{"n": 2, "pa')
    file = make(tmp_path / "log")
    file.write(lines(3, 1), 1)
    assert numbers((tmp_path / "log").read_bytes()) == [0, 1, 3]
    assert file.stats.torn == 1
    assert "torn line" in caplog.text
    assert "its 12 bytes were cut off" in caplog.text


def test_locked_file_is_waited_for(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    with path.open("rb") as repairing:
        fcntl.flock(repairing, fcntl.LOCK_EX)
        file = make(path)
        write = Writer(file)
        write(2)
        assert file.state == f"waiting for {path} (it is locked)"
        assert file.deadline is not None
        file.retry()
        assert path.read_bytes() == b""
    file.retry()
    write(1)
    assert numbers(path.read_bytes()) == [0, 1, 2]
    assert file.stats.errors == 0
    assert file.state == f"writing to {path}"


def test_lock_of_a_stranger_is_not_waited_for_for_ever(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appendfile, "_LOCK_PATIENCE_SECS", 0.0)
    path = tmp_path / "log"
    path.touch()
    with path.open("rb") as stranger:
        fcntl.flock(stranger, fcntl.LOCK_EX)
        file = make(path)
        file.write(lines(0, 2), 2)
        file.retry()
        assert numbers(path.read_bytes()) == [0, 1]


# Full disks and other refusals


def test_full_disk_leaves_whole_lines_and_loses_none(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(NOTICE)
    with small_disk(tmp_path / "disk", "64k") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(20_000))
        file = make(disk / "log")
        write = Writer(file, pad=700)
        for _ in range(30):
            write(7)
        whole = numbers((disk / "log").read_bytes())
        assert whole == [*range(len(whole))]
        assert len(whole) == file.stats.written
        assert file.stats.pending == 210 - len(whole) > 0
        assert file.stats.torn == 1
        assert file.state == f"waiting for {disk / 'log'} (No space left on device)"
        assert "No space left on device — free space there" in caplog.text
        file.retry()
        assert numbers((disk / "log").read_bytes()) == whole

        ballast.unlink()
        file.retry()
        assert file.stats.written > len(whole)
        numbers((disk / "log").read_bytes())
        subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
        file.retry()
        write(1)
        assert numbers((disk / "log").read_bytes()) == [*range(211)]
        assert file.stats.written == 211
        assert file.state == f"writing to {disk / 'log'}"
        assert "can be written again" in caplog.text
        file.close(0)


def test_full_buffer_drops_the_newest_and_counts_them(make: Make, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "16k") as disk:
        file = make(disk / "log", max_pending_bytes=20_000)
        write = Writer(file, pad=700)
        for _ in range(100):
            write(1)
        assert file.stats.dropped["full"] > 0
        assert file.stats.pending_bytes <= 20_000
        kept = file.stats.written + file.stats.pending
        subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
        file.retry()
        write(1)
        assert numbers((disk / "log").read_bytes()) == [*range(kept), 100]
        file.close(0)


def test_what_a_full_disk_never_took_is_counted_at_the_stop(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk", "16k") as disk:
        file = make(disk / "log")
        Writer(file, pad=700)(100)
        pending = file.stats.pending
        file.close(PATIENCE)
        assert file.stats.dropped["stop"] == pending > 0
        assert f"could not be written before the stop (No space left on device), dropped: {pending}" in caplog.text
        assert len(numbers((disk / "log").read_bytes())) == 100 - pending


def test_deleting_the_file_frees_the_disk(make: Make, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        file = make(disk / "log")
        Writer(file, pad=700)(120)
        written = file.stats.written
        assert file.stats.pending
        (disk / "log").unlink()
        file.retry()
        assert numbers((disk / "log").read_bytes()) == [*range(written, 120)]
        file.close(0)


@pytest.mark.parametrize("limit", range(4000, 4040))
def test_write_cut_at_any_byte_leaves_whole_lines(make: Make, tmp_path: Path, limit: int) -> None:
    file = make(tmp_path / "log")
    write = Writer(file, pad=10)
    with file_size_limit(limit):
        write(50)
        write(100)
        write(1)
        whole = numbers((tmp_path / "log").read_bytes())
        assert len(whole) == file.stats.written
        file.retry()
        assert numbers((tmp_path / "log").read_bytes()) == whole
    file.retry()
    assert numbers((tmp_path / "log").read_bytes()) == [*range(151)]


def test_file_that_cannot_be_cut_goes_on_at_the_exact_byte(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = make(path)
    if subprocess.run(["chattr", "+a", path], capture_output=True).returncode:
        pytest.skip("chattr +a: not supported here, or not root")
    try:
        with file_size_limit(1000):
            Writer(file, pad=10)(100)
            assert path.stat().st_size == 1000
        file.retry()
        assert numbers(path.read_bytes()) == [*range(100)]
    finally:
        subprocess.run(["chattr", "-a", path], check=True)


def test_other_writers_line_behind_a_cut_write_is_spared(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "log"
    one, other = make(path), make(path)
    real = os.lseek

    def lseek_late(fd: int, position: int, how: int) -> int:
        other.write(lines(1000, 1), 1)  # just before we look whether somebody appended
        return real(fd, position, how)

    with pytest.MonkeyPatch.context() as patch, file_size_limit(1000):
        one.write(lines(0, 40), 40)
        size = path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, resource.RLIM_INFINITY))
        patch.setattr(os, "write", _unlimited_for(one))
        patch.setattr(os, "lseek", lseek_late)
        one.write(lines(40, 5), 5)
    one.retry()
    text = path.read_bytes()
    assert lines(1000, 1) in text
    assert text.endswith(lines(41, 4))
    check(one.stats)


def _unlimited_for(limited: AppendFile) -> Callable[[int, Any], int]:
    """Return an os.write that keeps to the size limit for one file only."""
    real = os.write

    def write(fd: int, data: Any) -> int:
        assert limited._file
        if fd == limited._file.fd:
            return real(fd, data)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        try:
            return real(fd, data)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return write


def test_dev_full_is_tried_until_the_stop(make: Make) -> None:
    file = make("/dev/full", retry_secs=0.0)
    write = Writer(file)
    for _ in range(5):
        write(2)
    assert file.stats.retries >= 4
    assert file.stats.pending == 10
    file.close(PATIENCE)
    assert file.stats.dropped["stop"] == 10


def test_backlog_is_written_in_portions(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appendfile, "_FLUSH_BYTES", 100_000)
    file = make(tmp_path / "log")
    with file_size_limit(0):
        write = Writer(file, pad=1000)
        for _ in range(500):
            write(1)
    calls = 0
    file.retry()
    while file.deadline is not None:
        assert file.deadline <= time.monotonic(), "the next portion can be written at once"
        file.retry()
        calls += 1
    assert calls >= 3
    assert numbers((tmp_path / "log").read_bytes()) == [*range(500)]


def test_full_file_that_was_renamed_is_still_the_target(make: Make, tmp_path: Path) -> None:
    """Until SIGHUP says otherwise: logrotate renames first and makes the new file itself."""
    path, old = tmp_path / "log", tmp_path / "log.1"
    file = make(path)
    with file_size_limit(1000):
        Writer(file, pad=20)(100)
    path.rename(old)
    file.retry()
    assert not path.exists()
    assert numbers(old.read_bytes()) == [*range(100)]


def test_disk_error_opens_the_path_again(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    file = make(path)
    write = Writer(file)
    write(2)

    def fails(fd: int, data: Any) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fails)
        write(2)
    path.rename(old)
    assert file.stats.pending == 2
    file.retry()
    assert (numbers(old.read_bytes()), numbers(path.read_bytes())) == ([0, 1], [2, 3])


# The path changes


def test_deleted_file_is_made_again(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = make(path)
    write = Writer(file)
    write(2)
    path.unlink()
    write(2)
    assert numbers(path.read_bytes()) == [2, 3]
    assert file.stats.written == 4


def test_lines_wait_while_the_directory_is_away(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    path = directory / "log"
    file = make(path)
    write = Writer(file)
    write(2)
    path.unlink()
    directory.rmdir()
    write(2)
    write(2)
    file.retry()
    assert (file.stats.written, file.stats.pending) == (2, 4)
    assert file.state == f"waiting for {path} (No such file or directory)"
    assert f"open {path}: No such file or directory — create the directory" in caplog.text
    directory.mkdir()
    file.retry()
    write(1)
    assert numbers(path.read_bytes()) == [2, 3, 4, 5, 6]
    assert file.state == f"writing to {path}"


def test_stop_while_the_directory_is_away(make: Make, tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    file = make(directory / "log")
    (directory / "log").unlink()
    directory.rmdir()
    file.write(lines(0, 2), 2)
    directory.mkdir()
    file.close(0.5)
    assert numbers((directory / "log").read_bytes()) == [0, 1], "the stop tries once more"


def test_logrotate(make: Make, tmp_path: Path) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    file = make(path)
    write = Writer(file)
    write(2)
    path.rename(old)
    write(2)
    file.reopen()
    write(2)
    assert numbers(old.read_bytes()) == [0, 1, 2, 3]
    assert numbers(path.read_bytes()) == [4, 5]


def test_logrotate_copytruncate(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "log"
    write = Writer(make(path))
    write(2)
    os.truncate(path, 0)
    write(2)
    assert numbers(path.read_bytes()) == [2, 3]


def test_reopen_without_rotation(make: Make, tmp_path: Path) -> None:
    file = make(tmp_path / "log")
    write = Writer(file)
    for _ in range(5):
        write(1)
        file.reopen()
    assert numbers((tmp_path / "log").read_bytes()) == [*range(5)]


def test_logrotate_of_a_full_file(make: Make, tmp_path: Path) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    file = make(path)
    with file_size_limit(1000):
        Writer(file, pad=20)(100)
        path.rename(old)
        file.reopen()
        first, second = numbers(old.read_bytes()), numbers(path.read_bytes())
        assert first + second == [*range(len(first) + len(second))]
        assert len(second) == len(first)
    file.retry()
    assert numbers(old.read_bytes()) + numbers(path.read_bytes()) == [*range(100)]


def test_failed_reopen_goes_on_with_the_old_file(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory, moved = tmp_path / "logs", tmp_path / "moved"
    directory.mkdir()
    file = make(directory / "log", retry_secs=0.0)
    write = Writer(file)
    write(1)
    directory.rename(moved)
    file.reopen()
    write(1)
    assert "the old file stays in use" in caplog.text
    assert file.deadline is not None, "it is tried again"
    assert numbers((moved / "log").read_bytes()) == [0, 1]
    directory.mkdir()
    file.retry()
    write(1)
    assert numbers((directory / "log").read_bytes()) == [2]
    assert file.deadline is None


# FIFOs


def read_fifo(fd: int, size: int) -> bytes:
    """Read `size` bytes."""
    data = b""
    while len(data) < size:
        assert select.select([fd], [], [], PATIENCE)[0]
        data += os.read(fd, size - len(data))
    return data


def test_fifo_waits_for_its_reader(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    file = make(path)
    write = Writer(file)
    write(3)
    assert file.state == f"waiting for {path} (it has no reader)"
    assert file.deadline is not None
    assert file.stats.errors == 0
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file.retry()
    write(1)
    data = lines(0, 4)
    assert read_fifo(reader, len(data)) == data
    os.close(reader)


def test_slow_reader_of_a_fifo_gets_everything(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = make(path)
    write = Writer(file, pad=999)
    got = b""
    for _ in range(40):
        write(100)
        got += read_fifo(reader, 33_333)
    assert file.stats.pending > 0
    assert file.deadline is not None
    assert file.stats.errors == 0
    while file.stats.pending:
        got += read_fifo(reader, 33_333)
        file.retry()
        check(file.stats)
    file.close(0)
    while more := os.read(reader, 1 << 20):
        got += more
    assert numbers(got) == [*range(4000)]
    os.close(reader)


def test_next_reader_of_a_fifo_goes_on_at_the_exact_byte(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = make(path)
    write = Writer(file, pad=999)
    write(2000)
    got = read_fifo(reader, 12_345)
    os.close(reader)
    write(1)  # no process reads
    file.retry()
    assert file.state == f"waiting for {path} (Broken pipe)"
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    while file.stats.pending:
        got += read_fifo(reader, 54_321)
        file.retry()
        check(file.stats)
    file.reopen()
    write(1)
    file.close(0)
    while more := os.read(reader, 1 << 20):
        got += more
    assert numbers(got) == [*range(2002)]
    os.close(reader)


def test_another_fifo_begins_with_a_whole_line(make: Make, tmp_path: Path) -> None:
    path, old = tmp_path / "fifo", tmp_path / "old"
    os.mkfifo(path)
    old_reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = make(path)
    Writer(file, pad=999)(2000)
    path.rename(old)
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file.reopen()
    file.close(0)
    first = b""
    while more := os.read(old_reader, 1 << 20):
        first += more
    second = b""
    while more := os.read(reader, 1 << 20):
        second += more
    whole = first[: first.rfind(b"\n") + 1]
    assert numbers(whole) + numbers(second) == [*range(2000)]
    assert len(whole) < len(first), "the old one was full in the middle of a line"
    os.close(old_reader)
    os.close(reader)


def test_stop_waits_for_the_reader_of_a_fifo(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = make(path)
    Writer(file, pad=999)(3000)
    size = len(lines(0, 3000, pad=999))
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(read_fifo(reader, size)))
    thread.start()
    file.close(PATIENCE)
    thread.join()
    assert numbers(got[0]) == [*range(3000)]
    assert file.stats.written == 3000
    os.close(reader)


@pytest.mark.parametrize("reader_leaves", [False, True])
def test_stop_with_a_stalled_reader(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, reader_leaves: bool
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = make(path)
    Writer(file, pad=999)(3000)
    if reader_leaves:
        os.close(reader)
        file.close(PATIENCE)
    else:
        file.close(0.05)
        assert "it is read too slowly" in caplog.text
    assert file.stats.dropped["stop"] == 3000 - file.stats.written > 0
    if not reader_leaves:
        data = b""
        while more := os.read(reader, 1 << 20):
            data += more
        assert data.count(b"\n") == file.stats.written
        os.close(reader)


# The end


def test_closed_file_takes_nothing(make: Make, tmp_path: Path) -> None:
    file = make(tmp_path / "log")
    file.write(lines(0, 1), 1)
    file.close(0)
    file.close(0)
    file.write(lines(1, 2), 2)
    file.reopen()
    file.retry()
    assert numbers((tmp_path / "log").read_bytes()) == [0]
    assert file.stats.dropped["stop"] == 2
    assert file.state == f"closed {tmp_path / 'log'}"
    check(file.stats)


def test_file_never_opened(tmp_path: Path) -> None:
    file = AppendFile(str(tmp_path / "log"), stats=OutputStats(), limited=Limited())
    assert file.state == f"{tmp_path / 'log'} not opened yet"
    file.write(lines(0, 2), 2)
    check(file.stats)
    file.close(0)
    check(file.stats)
    assert file.stats.dropped["stop"] == 2


def test_sync_covers_each_file(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.fstat(fd).st_ino))
    path, old = tmp_path / "log", tmp_path / "log.1"
    file = make(path, sync=True)
    file.write(lines(0, 1), 1)
    wait_for(lambda: old.exists() or synced)
    path.rename(old)
    file.write(lines(1, 1), 1)
    file.reopen()
    file.write(lines(2, 1), 1)
    file.close(PATIENCE)
    assert set(synced) == {old.stat().st_ino, path.stat().st_ino}
    assert synced[-1] == path.stat().st_ino


def test_sync_of_a_fifo_is_not_tried(make: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    file = make(tmp_path / "fifo", sync=True)
    file.write(lines(0, 1), 1)
    file.close(PATIENCE)
    assert file.stats.sync_errors == 0
    os.close(reader)


# Other processes

_CHILD = """
import os, sys
from nflowlevel.delivery.appendfile import AppendFile
from nflowlevel.delivery.form import LineForm
from nflowlevel.logs import NOTICE, Limited
from nflowlevel.stats import OutputStats
from tests.fix_lines import lines

path, first, batch, batches, pad = sys.argv[1], *map(int, sys.argv[2:])
file = AppendFile(path, form=LineForm(b'{"n": '), stats=OutputStats(), limited=Limited())
file.open()
print("open", flush=True)
for n in range(first, first + batch * batches, batch):
    file.write(lines(n, batch, pad), batch)
file.close(1)
"""


def start_child(path: Path, first: int, batch: int, batches: int, pad: int) -> subprocess.Popen[bytes]:
    arguments = [str(path), *map(str, (first, batch, batches, pad))]
    child = subprocess.Popen([sys.executable, "-c", _CHILD, *arguments], stdout=subprocess.PIPE)
    assert child.stdout
    assert child.stdout.readline() == b"open\n"
    return child


def test_kill_in_the_middle_of_a_write(make: Make, tmp_path: Path) -> None:
    torn = 0
    for attempt in range(20):
        path = tmp_path / f"log{attempt}"
        child = start_child(path, 0, 10_000, 100, pad=1000)
        wait_for(lambda path=path: path.stat().st_size > 1_000_000)  # type: ignore[misc]
        child.send_signal(signal.SIGKILL)
        child.communicate()
        torn += not path.read_bytes().endswith(b"\n")
        file = make(path)
        file.write(lines(-1, 1), 1)
        found = numbers(path.read_bytes())
        assert found == [*range(len(found) - 1), -1]
        path.unlink()
        if torn:
            return
    pytest.fail("no kill hit a write in its middle: the test shows nothing")


def test_two_processes_on_one_path(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"n": 5, "pa')
    children = [start_child(path, first, 50, 200, pad=300) for first in (0, 1_000_000)]
    for child in children:
        child.communicate()
        assert child.returncode == 0
    found = numbers(path.read_bytes())
    for first in (0, 1_000_000):
        assert [n for n in found if first <= n < first + 1_000_000] == [*range(first, first + 10_000)]
    assert len(found) == 20_000


# Everything at once


@pytest.mark.parametrize("seed", range(12))
def test_any_sequence_of_faults(make: Make, tmp_path: Path, seed: int) -> None:
    """Delete, rotate, fill, limit, retry in random order: each line is in exactly one file, whole and in order."""
    rng = random.Random(seed)
    directory = tmp_path / "logs"
    directory.mkdir()
    path = directory / "log"
    file = make(path)
    write = Writer(file, pad=40)
    found: list[int] = []
    limit = 1 << 30
    keepers: list[int] = []

    def keep(name: Path) -> None:
        keepers.append(os.open(name, os.O_RDONLY))

    def rotate() -> None:
        if path.exists():
            keep(path)
            path.rename(directory / f"log.{len(keepers)}")
        file.reopen()

    def delete() -> None:
        if path.exists():
            keep(path)
            path.unlink()

    def away() -> None:
        if directory.exists():
            delete()
            for rest in directory.iterdir():
                rest.unlink()
            directory.rmdir()

    def change_limit() -> None:
        nonlocal limit
        limit = rng.choice([0, 777, 5000, 20_000, 1 << 30])

    steps: list[Callable[[], object]] = [
        lambda: write(rng.randrange(1, 40)),
        lambda: write(1),
        rotate,
        delete,
        away,
        lambda: directory.mkdir(exist_ok=True),
        file.retry,
        file.reopen,
        change_limit,
    ]
    for _ in range(150):
        step = rng.choices(steps, weights=[8, 8, 2, 2, 1, 3, 4, 1, 3])[0]
        with file_size_limit(limit):
            step()
        check(file.stats)
    directory.mkdir(exist_ok=True)
    file.retry()
    file.retry()
    write(1)
    file.close(PATIENCE)
    keep(path)
    for fd in keepers:
        with open(fd, "rb") as kept:
            found += numbers(kept.read())
    assert file.stats.written == write.next
    assert found == [*range(write.next)]
