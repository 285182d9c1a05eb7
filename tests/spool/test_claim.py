# SPDX-License-Identifier: GPL-2.0-or-later
"""A directory has one user, one id, and numbers that are never used twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nflowlevel.errors import OutputError
from nflowlevel.spool.claim import BLOCK, SpoolDirectory, reason
from tests.fix_lines import no_descriptor_left, small_disk


@contextmanager
def claimed(directory: Path, used: int = 0) -> Iterator[SpoolDirectory]:
    with no_descriptor_left():
        claim = SpoolDirectory(str(directory))
        claim.start(used)
        try:
            yield claim
        finally:
            claim.close()


def test_a_directory_is_private(tmp_path: Path) -> None:
    with claimed(tmp_path / "a" / "b"):
        assert os.stat(tmp_path / "a" / "b").st_mode & 0o777 == 0o700
        for name in ("id", "lock", "numbers", "position", "runs"):
            assert os.stat(tmp_path / "a" / "b" / name).st_mode & 0o777 == 0o600
        assert sorted(os.listdir(tmp_path / "a" / "b")) == ["id", "lock", "numbers", "position", "runs"]


def test_a_directory_has_one_user(tmp_path: Path) -> None:
    with claimed(tmp_path):
        with pytest.raises(OutputError, match=f"process {os.getpid()} uses it — stop that process, or give") as caught:
            SpoolDirectory(str(tmp_path))
        assert not caught.value.retryable
    with claimed(tmp_path):
        pass


def test_the_id_stays(tmp_path: Path) -> None:
    with claimed(tmp_path) as claim:
        first = claim.id
    with claimed(tmp_path) as claim:
        assert claim.id == first
    with claimed(tmp_path / "other") as claim:
        assert claim.id != first


def test_numbers_ascend_for_ever(tmp_path: Path) -> None:
    seen = []
    for _ in range(3):  # nothing is written at the end, so a crash is no different
        with claimed(tmp_path) as claim:
            seen += [claim.number(10), claim.number(1), claim.number(5)]
    assert seen == [block * BLOCK + n for block in (1, 2, 3) for n in (0, 10, 11)]


def test_the_next_block_is_reserved_in_time(tmp_path: Path) -> None:
    with claimed(tmp_path) as claim:
        claim.number(BLOCK // 2)
        assert not claim.low
        claim.number(1)
        assert claim.low
        claim.reserve()
        assert not claim.low
        claim.number(BLOCK)
        used = claim.number(1)
    with claimed(tmp_path) as claim:
        assert claim.number(1) > used


@pytest.mark.parametrize(
    ("name", "content"),
    [("id", b""), ("id", b"x"), ("id", b"\xff"), ("id", None), ("numbers", b"\1" * 600), ("numbers", None)],
)
def test_what_is_damaged_means_a_new_id(
    tmp_path: Path, name: str, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    with claimed(tmp_path) as claim:
        before = claim.id
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with claimed(tmp_path, used=7 * BLOCK + 5) as claim:
        assert claim.id != before
        assert claim.number(1) == 8 * BLOCK
    assert "continuing under a new id" in caplog.text


def test_numbers_known_to_be_used_are_not_used_again(tmp_path: Path) -> None:
    with claimed(tmp_path) as claim:
        before = claim.id
    with claimed(tmp_path, used=3 * BLOCK) as claim:
        assert claim.number(1) == 4 * BLOCK
        assert claim.id == before


def test_a_full_disk_does_not_prevent_the_start(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "100k") as disk:
        with claimed(disk / "a") as claim:
            number, before = claim.number(1), claim.id
        with (disk / "full").open("wb", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize)
        assert not os.statvfs(disk).f_bavail
        with claimed(disk / "a") as claim:
            assert claim.number(1) > number
            assert claim.id == before
            claim.store(number)
        with claimed(disk / "a") as claim:
            assert claim.position == number


def test_the_position_is_remembered(tmp_path: Path) -> None:
    with claimed(tmp_path) as claim:
        assert claim.position == 0
        for number in (5, 6, 9):
            claim.store(number)
    for number in (9, 11, 12, 13):
        with claimed(tmp_path) as claim:
            assert claim.position == number if number == 9 else claim.position < number
            claim.store(number)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_torn_slot_leaves_the_position_before_it(tmp_path: Path, count: int) -> None:
    with claimed(tmp_path) as claim:
        for number in range(1, count + 1):
            claim.store(number)
    data = bytearray((tmp_path / "position").read_bytes())
    newest = next(place for place in (0, 512) if data[place : place + 8] == count.to_bytes(8, "little"))
    data[newest + 1] ^= 1
    (tmp_path / "position").write_bytes(data)
    with claimed(tmp_path) as claim:
        assert claim.position == count - 1
        claim.store(count)
        assert (tmp_path / "position").read_bytes()[512 - newest :][:1] == bytes([count - 1]), "it hit the valid slot"


def test_a_lost_position_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with claimed(tmp_path) as claim:
        claim.store(5)
    (tmp_path / "position").write_bytes(b"\1" * 600)
    with claimed(tmp_path) as claim:
        assert claim.position == 0
    assert "rows may come twice" in caplog.text


def test_sync_and_close(tmp_path: Path) -> None:
    with claimed(tmp_path) as claim:
        claim.sync()
        claim.close()


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="File exists") as caught:
        SpoolDirectory(str(tmp_path / "file"))
    assert reason(caught.value) == "File exists — name a directory in spool_directory, not a file"
    assert reason(OSError(22, "Invalid argument")) == "Invalid argument"


@pytest.mark.parametrize("name", ["lock", "id", "id.new", "numbers", "position"])
@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_what_is_no_file_is_neither_followed_nor_waited_for(tmp_path: Path, name: str, kind: str) -> None:
    """Who may write there may not make the daemon wait, nor write elsewhere."""
    directory, elsewhere = tmp_path / "spool", tmp_path / "elsewhere"
    directory.mkdir()
    if kind == "link":
        (directory / name).symlink_to(elsewhere)
    else:
        os.mkfifo(directory / name)
    with claimed(directory) as claim:
        assert claim.set_aside == 1
    assert not elsewhere.exists()
