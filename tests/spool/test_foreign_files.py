# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever lies in the spool's directory: it is set aside, said and counted; intact rows arrive, and nothing hangs."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from nflowlevel.spool.claim import BLOCK
from nflowlevel.spool.feed import Feed, SpoolStats
from nflowlevel.spool.ring import Ring
from nflowlevel.spool.segment import _name, record
from nflowlevel.spool.spool import Spool
from tests.fix_lines import no_descriptor_left
from tests.fix_rows import LAYOUT, form, numbers, rows_of, text

__all__ = ["form"]

MANY = 1 << 30
#: The rows that wait are numbered from here.
FIRST = BLOCK


def with_rows(directory: Path, *counts: int) -> list[Path]:
    """Leave rows waiting in a spool, so many in each segment; return the segments."""
    spool = Spool(directory, MANY)
    spool.open()
    for count in counts:
        first = spool.number(count)
        assert spool.append(rows_of(first, count))
        spool._complete()
    spool.close()
    return sorted(directory.glob("*.rows"))


def drained(directory: Path) -> tuple[list[int], SpoolStats]:
    """Return the numbers of the rows that a restart brings, counted from the first, and its account."""
    stats = SpoolStats()
    spool = Spool(directory, MANY)
    feed = Feed(Ring(10), spool, "spool", stats)
    found: list[int] = []
    with no_descriptor_left():
        feed.open()
        while rows := feed.take(MANY, MANY, 0):
            found += [number - FIRST for number in numbers(rows)]
            feed.done(rows.last)
        feed.put(LAYOUT, 3, text(7, 3))
        rows = feed.take(MANY, MANY, 0)
        assert rows
        assert feed.done(rows.last) == 3, "new rows pass"
        feed.close()
    assert stats.records == stats.written + stats.pending + sum(stats.dropped.values()), str(stats)
    assert not stats.pending
    return found, stats


def fifo(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    (path / "in it").mkdir(parents=True)


def link(path: Path) -> None:
    other = path.parent.parent / "other"
    other.write_bytes(b"not ours")
    path.symlink_to(other)


def dangling(path: Path) -> None:
    path.symlink_to("nothing")


def unix(path: Path) -> None:
    # A socket's path has at most 107 bytes, and that of a test's directory may be longer.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def noise(path: Path) -> None:
    path.write_bytes(b"NFR1" + os.urandom(5000))


THINGS = (fifo, directory, link, dangling, unix, huge)
NAMES = (
    _name(FIRST + 5),
    _name(FIRST, FIRST + 3),
    _name(1, 9),
    "ffffffffffffffff-ffffffffffffffff.rows",
    "ffffffffffffffff.rows",
    _name(FIRST + 100, FIRST + 3),
    "x.rows",
    ".rows",
    "0000000000000001-.rows",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", THINGS)
def test_what_is_no_file_is_set_aside(
    tmp_path: Path, make: Callable[[Path], None], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    spool = tmp_path / "spool"
    with_rows(spool, 20, 30)
    make(spool / name)
    found, stats = drained(spool)
    assert found == list(range(50))
    assert stats.written == 53
    assert os.path.lexists(spool / f"{name}.damaged")
    assert stats.set_aside == 1
    assert f"{name} was set aside" in caplog.text
    if make is link:
        assert (tmp_path / "other").read_bytes() == b"not ours"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in (_name(FIRST, FIRST + 3), _name(1, 9))])
def test_noise_of_any_name_costs_nothing(tmp_path: Path, name: str) -> None:
    with_rows(tmp_path, 20, 30)
    noise(tmp_path / name)
    found, stats = drained(tmp_path)
    assert (found, stats.written, stats.set_aside) == (list(range(50)), 53, 1)


def test_very_many_are_not_told_one_by_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with_rows(tmp_path, 20, 30)
    for number in range(100):
        (tmp_path / f"{number}.rows").touch()
    found, stats = drained(tmp_path)
    assert (found, stats.written, stats.set_aside) == (list(range(50)), 53, 100)
    assert caplog.text.count(".rows was set aside") == 20
    assert "80 more were set aside" in caplog.text


def test_what_was_set_aside_before_stays(tmp_path: Path) -> None:
    with_rows(tmp_path, 20)
    for _ in range(3):
        noise(tmp_path / "x.rows")
        drained(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("x*")) == [
        "x.rows.damaged",
        "x.rows.damaged.1",
        "x.rows.damaged.2",
    ]


@pytest.mark.parametrize("more", [1, 50, 1 << 20, 1 << 40])
def test_a_name_that_claims_rows_of_the_next_segments(tmp_path: Path, more: int) -> None:
    first, *_ = with_rows(tmp_path, 50, 50, 50)
    first.rename(tmp_path / _name(FIRST, FIRST + 49 + more))
    found, stats = drained(tmp_path)
    assert (found, stats.written, dict(stats.dropped)["spool_error"]) == (list(range(150)), 153, 0)


def test_a_last_name_that_claims_too_much(tmp_path: Path) -> None:
    *_, last = with_rows(tmp_path, 50, 50)
    last.rename(tmp_path / _name(FIRST + 50, FIRST + 109))
    found, stats = drained(tmp_path)
    assert (found, stats.dropped["spool_error"], stats.set_aside) == (list(range(100)), 10, 1)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_name_that_tells_of_less(tmp_path: Path, which: int) -> None:
    path = with_rows(tmp_path, 50, 50, 50)[which]
    path.rename(tmp_path / _name(FIRST + 50 * which, FIRST + 50 * which + 9))
    found, stats = drained(tmp_path)
    assert (found, stats.written, stats.set_aside) == (list(range(150)), 153, 1)


@pytest.mark.parametrize(
    "name", [_name(FIRST + 49, FIRST), _name(FIRST + 10, FIRST + 49), _name(1, 50), _name(FIRST + 7000, FIRST + 7049)]
)
def test_a_segment_of_a_wrong_name(tmp_path: Path, name: str) -> None:
    first, _ = with_rows(tmp_path, 50, 50)
    first.rename(tmp_path / name)
    found, stats = drained(tmp_path)
    assert (found, stats.written) == (list(range(100)), 103)


@pytest.mark.parametrize("name", [_name(FIRST), _name(FIRST, FIRST + 50), _name(FIRST + 10, FIRST + 59), _name(3)])
def test_a_segment_that_is_there_twice(tmp_path: Path, name: str) -> None:
    first, *_ = with_rows(tmp_path, 50, 50)
    shutil.copy(first, tmp_path / name)
    found, stats = drained(tmp_path)
    assert (found, stats.written, stats.set_aside) == (list(range(100)), 103, 1)


def test_segments_that_share_some_rows(tmp_path: Path) -> None:
    with_rows(tmp_path, 50, 50)
    (tmp_path / _name(FIRST + 40, FIRST + 59)).write_bytes(b"".join(record(rows_of(FIRST + 40, 20))))
    found, stats = drained(tmp_path)
    assert (found, stats.written) == (list(range(100)), 103)


def test_numbers_that_nobody_can_have(tmp_path: Path) -> None:
    with_rows(tmp_path, 50)
    for first in ((1 << 62) + 5, (1 << 64) - 20, 1 << 55):
        (tmp_path / _name(first, first + 9)).write_bytes(b"".join(record(rows_of(first, 10))))
        (tmp_path / _name(first)).write_bytes(b"".join(record(rows_of(first, 10))))
    found, stats = drained(tmp_path)
    assert (found, stats.set_aside) == (list(range(50)), 6)
    again = Spool(tmp_path, MANY)
    again.open()
    assert again.number(1) < 1 << 40, "the numbers go on where they were"
    again.close()


def test_a_link_to_a_file_of_another_name_is_not_cut(tmp_path: Path) -> None:
    spool, other = tmp_path / "spool", tmp_path / "other"
    with_rows(spool)
    whole = b"".join(record(rows_of(FIRST, 20)))
    other.write_bytes(whole + b"and more")
    (spool / _name(FIRST)).hardlink_to(other)
    found, _ = drained(spool)
    assert found == list(range(20))
    assert other.read_bytes() == whole + b"and more"


@pytest.mark.parametrize("name", ["lock", "id", "id.new", "numbers", "position", "runs"])
@pytest.mark.parametrize("make", [fifo, directory, link, dangling, unix])
def test_what_stands_where_our_files_are(tmp_path: Path, make: Callable[[Path], None], name: str) -> None:
    spool = tmp_path / "spool"
    with_rows(spool, 20)
    (spool / name).unlink(missing_ok=True)
    make(spool / name)
    found, stats = drained(spool)
    assert (found, stats.set_aside) == (list(range(20)), 1)
    if make is link:
        assert (tmp_path / "other").read_bytes() == b"not ours"


@pytest.mark.parametrize("name", ["numbers", "position"])
@pytest.mark.parametrize("value", [(1 << 64) - 1, 1 << 63, 1 << 62, 1 << 61])
def test_numbers_files_that_say_what_cannot_be(tmp_path: Path, name: str, value: int) -> None:
    from nflowlevel.spool.claim import _Slots

    with_rows(tmp_path, 20)
    slots = _Slots(str(tmp_path / name))
    slots.store(value)
    slots.store(value)
    slots.close()
    found, _ = drained(tmp_path)
    assert found == list(range(20))


def test_a_file_that_becomes_a_fifo_is_lost_and_does_not_hang(tmp_path: Path) -> None:
    first, _ = with_rows(tmp_path, 20, 30)
    stats = SpoolStats()
    feed = Feed(Ring(10), Spool(tmp_path, MANY), "spool", stats)
    feed.open()
    first.unlink()
    os.mkfifo(first)
    found = []
    while rows := feed.take(MANY, MANY, 0):
        found += numbers(rows)
        feed.done(rows.last)
    feed.close()
    assert [number - FIRST for number in found] == list(range(20, 50))
    assert (stats.dropped["spool_error"], stats.set_aside) == (20, 1)
