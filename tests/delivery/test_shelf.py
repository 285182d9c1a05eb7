# SPDX-License-Identifier: GPL-2.0-or-later
"""Shelf: what becomes of closed files, also when the disk is full, when others hold them, and after a kill."""

from __future__ import annotations

import fcntl
import gzip
import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zstandard

from nflowlevel.delivery.filename import FileNames
from nflowlevel.delivery.shelf import Compression, Shelf
from nflowlevel.logs import Limited
from tests.fix_lines import small_disk, wait_for

_PATTERN = "x-%H.pcap"


def shelf(directory: Path, compression: Compression = "gzip", keep_files: int = 0) -> Shelf:
    names = FileNames(str(directory / _PATTERN))
    return Shelf(names, compression=compression, keep_files=keep_files, limited=Limited())


def closed(directory: Path, number: int, data: bytes) -> Path:
    """Make a file; those with higher numbers are newer."""
    path = directory / f"x-{number:02}.pcap"
    path.write_bytes(data)
    os.utime(path, (1_795_000_000 + number, 1_795_000_000 + number))
    return path


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_closed_files_are_compressed(tmp_path: Path, compression: Compression) -> None:
    data = random.Random(1).randbytes(3 << 20)
    path = closed(tmp_path, 1, data)
    path.chmod(0o640)
    before = path.stat()
    assert shelf(tmp_path, compression).tidy()
    suffix = {"gzip": ".gz", "zstd": ".zst"}[compression]
    assert names_in(tmp_path) == {f"x-01.pcap{suffix}"}
    made = tmp_path / f"x-01.pcap{suffix}"
    if compression == "gzip":
        assert gzip.decompress(made.read_bytes()) == data
    else:
        assert zstandard.ZstdDecompressor().decompressobj().decompress(made.read_bytes()) == data
    after = made.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


def test_the_oldest_are_removed(tmp_path: Path) -> None:
    for number in range(5):
        closed(tmp_path, number, b"data")
    (tmp_path / "somebody-elses.pcap").touch()
    assert shelf(tmp_path, "none", keep_files=2).tidy()
    assert names_in(tmp_path) == {"x-03.pcap", "x-04.pcap", "somebody-elses.pcap"}
    assert shelf(tmp_path, "gzip", keep_files=1).tidy()
    assert names_in(tmp_path) == {"x-04.pcap.gz", "somebody-elses.pcap"}


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    """A file of ours by its name, that of another daemon by its lock."""
    ours, theirs = closed(tmp_path, 1, b"ours"), closed(tmp_path, 2, b"theirs")
    one = shelf(tmp_path, "gzip", keep_files=1)
    one._in_use = frozenset((str(ours),))
    with open(theirs, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert not one.tidy(), "it says that all is done"
        assert names_in(tmp_path) == {"x-01.pcap", "x-02.pcap"}
    assert one.tidy()
    assert names_in(tmp_path) == {"x-01.pcap", "x-02.pcap.gz"}


def test_what_is_no_regular_file_stays(tmp_path: Path) -> None:
    (tmp_path / "letter").write_bytes(b"dear aunt")
    (tmp_path / "x-01.pcap").symlink_to(tmp_path / "letter")
    os.mkfifo(tmp_path / "x-02.pcap")
    (tmp_path / "x-03.pcap").mkdir()
    closed(tmp_path, 4, b"data")
    closed(tmp_path, 5, b"data")
    assert shelf(tmp_path, "gzip", keep_files=1).tidy()
    assert names_in(tmp_path) == {"letter", "x-01.pcap", "x-02.pcap", "x-03.pcap", "x-05.pcap.gz"}
    assert (tmp_path / "letter").read_bytes() == b"dear aunt"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_files_of_another_user_are_neither_touched_nor_counted(tmp_path: Path) -> None:
    """Who may write there would otherwise have ours removed, by files that look newer."""
    for number in range(5):
        path = closed(tmp_path, number, b"data")
        if number in (0, 3, 4):
            os.chown(path, 65534, 65534)
    assert shelf(tmp_path, "gzip", keep_files=1).tidy()
    assert names_in(tmp_path) == {"x-00.pcap", "x-02.pcap.gz", "x-03.pcap", "x-04.pcap"}


@pytest.mark.skipif(os.geteuid() != 0, reason="this is about what root does")
def test_nobody_leads_root_to_other_files(open_to_all: Path, users: Path) -> None:
    """By a link in place of the directory, to files of root's whose names fit."""
    files = [closed(open_to_all, number, b"root's") for number in range(3)]
    (users / "link").symlink_to(open_to_all)
    assert shelf(users / "link", "gzip", keep_files=1).tidy()
    assert [path.read_bytes() for path in files] == [b"root's"] * 3
    assert names_in(open_to_all) == {"x-00.pcap", "x-01.pcap", "x-02.pcap", "users"}


@pytest.mark.parametrize("suffix", [".gz", ".gz.part"])
@pytest.mark.parametrize("kind", ["directory", "link", "fifo", "another's"])
def test_what_others_put_in_the_way_of_a_compressed_file_is_moved_aside(
    tmp_path: Path, suffix: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    closed(tmp_path, 1, b"data")
    planted = tmp_path / f"x-01.pcap{suffix}"
    for aside in ("x-01.pcap{}.aside", "x-01.pcap{}.aside.1"):
        if kind == "directory":
            planted.mkdir()
            (planted / "inside").touch()
        elif kind == "link":
            planted.symlink_to(tmp_path / "new")
        elif kind == "fifo":
            os.mkfifo(planted)
        elif os.geteuid():
            pytest.skip("only root can give a file to another user")
        else:
            planted.touch()
            os.chown(planted, 1, 1)
        before = planted.lstat()
        assert shelf(tmp_path).tidy()
        moved = tmp_path / aside.format(suffix)
        assert moved.lstat().st_ino == before.st_ino
        assert f"{planted} is in the way, and no file of ours: it is {moved.name} now" in caplog.text
        assert gzip.decompress((tmp_path / "x-01.pcap.gz").read_bytes()) == b"data"
        assert not (tmp_path / "x-01.pcap").exists()
        (tmp_path / "x-01.pcap.gz").rename(tmp_path / "done")
        closed(tmp_path, 1, b"data")
    assert names_in(tmp_path) == {"x-01.pcap", "done", f"x-01.pcap{suffix}.aside", f"x-01.pcap{suffix}.aside.1"}


def test_a_full_disk_leaves_the_file_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        data = random.Random(1).randbytes(600 << 10)
        closed(disk, 1, data)
        one = shelf(disk)
        one.tidy()
        assert names_in(disk) == {"x-01.pcap"}
        assert (disk / "x-01.pcap").read_bytes() == data
        (message,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert message.endswith("No space left on device — free space there; it is tried again later")
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        one.tidy()
        assert gzip.decompress((disk / "x-01.pcap.gz").read_bytes()) == data


_COMPRESS = """
import sys
from nflowlevel.delivery.filename import FileNames
from nflowlevel.delivery.shelf import Shelf
from nflowlevel.logs import Limited

Shelf(FileNames(sys.argv[1]), compression=sys.argv[2], keep_files=0, limited=Limited()).tidy()
"""


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_kill_leaves_no_half_file(tmp_path: Path, compression: Compression) -> None:
    data = random.Random(1).randbytes(4 << 20) * 8
    suffix = {"gzip": ".gz", "zstd": ".zst"}[compression]
    for delay in (0.0, 0.002, 0.01, 0.03):
        path = closed(tmp_path, 1, data)
        command = [sys.executable, "-c", _COMPRESS, str(tmp_path / _PATTERN), compression]
        process = subprocess.Popen(command)
        while process.poll() is None and names_in(tmp_path) == {"x-01.pcap"}:
            time.sleep(0.0005)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        left = names_in(tmp_path)
        assert left <= {"x-01.pcap", f"x-01.pcap{suffix}.part", f"x-01.pcap{suffix}"}
        assert path.exists() or f"x-01.pcap{suffix}" in left
        assert shelf(tmp_path, compression).tidy()
        assert names_in(tmp_path) == {f"x-01.pcap{suffix}"}
        subprocess.run([{"gzip": "gzip", "zstd": "zstd"}[compression], "-tq", str(path) + suffix], check=True)
        (tmp_path / f"x-01.pcap{suffix}").unlink()


def test_a_part_that_another_daemon_writes_stays(tmp_path: Path) -> None:
    closed(tmp_path, 1, b"data")
    part = tmp_path / "x-01.pcap.gz.part"
    part.touch()
    with open(part, "rb") as file, open(tmp_path / "x-01.pcap", "rb") as source:
        for each in (file, source):
            fcntl.flock(each, fcntl.LOCK_EX)
        assert not shelf(tmp_path).tidy()
        assert names_in(tmp_path) == {"x-01.pcap", "x-01.pcap.gz.part"}


def test_the_thread_does_it_and_asks_again_for_what_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflowlevel.delivery.shelf._AGAIN_SECS", 0.01)
    one = shelf(tmp_path)
    with open(closed(tmp_path, 1, b"data"), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        one.look()
        closed(tmp_path, 2, b"data")
        one.look()
        wait_for(lambda: "x-02.pcap.gz" in names_in(tmp_path))
        assert "x-01.pcap" in names_in(tmp_path)
    wait_for(lambda: names_in(tmp_path) == {"x-01.pcap.gz", "x-02.pcap.gz"})
    one.close(5)


def test_a_stop_does_not_wait_for_a_large_file(tmp_path: Path) -> None:
    os.truncate(closed(tmp_path, 1, b""), 4 << 30)
    one = shelf(tmp_path)
    one.look()
    wait_for(lambda: "x-01.pcap.gz.part" in names_in(tmp_path))
    before = time.monotonic()
    one.close(5)
    assert time.monotonic() - before < 2
    assert names_in(tmp_path) == {"x-01.pcap"}


def test_without_anything_to_do_there_is_no_thread(tmp_path: Path) -> None:
    one = shelf(tmp_path, "none")
    one.look()
    assert one._thread is None
    one.close(0)
