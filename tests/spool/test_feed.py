# SPDX-License-Identifier: GPL-2.0-or-later
"""The queue between the receive loop and a database: against a plain list, through crashes, restarts and full disks."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from nflowlevel.spool import feed
from nflowlevel.spool.feed import Feed, SpoolStats
from nflowlevel.spool.options import WhenFull
from nflowlevel.spool.ring import Ring
from nflowlevel.spool.rows import Rows
from nflowlevel.spool.segment import record
from nflowlevel.spool.spool import Spool
from tests.fix_lines import PATIENCE, no_descriptor_left, wait_for
from tests.fix_rows import LAYOUT, form, numbers, text

__all__ = ["form"]

MANY = 1 << 30
MODES: tuple[WhenFull, ...] = ("spool", "drop_newest", "drop_oldest")


def check(stats: SpoolStats) -> None:
    """Fail unless every record is accounted for."""
    with stats.lock:
        assert stats.records == stats.written + stats.pending + sum(stats.dropped.values()), str(stats)
        assert min(stats.pending, stats.spooled, stats.pending_bytes, stats.spooled_bytes) >= 0, str(stats)


class Queue:
    """A feed, and who puts numbered rows into it."""

    def __init__(
        self,
        directory: Path | None = None,
        size: int = 10,
        *,
        when_full: WhenFull = "spool",
        max_bytes: int = MANY,
        retry_secs: float = 0.0,
    ) -> None:
        self.stats = SpoolStats()
        self.ring = Ring(size)
        self.spool = Spool(directory, max_bytes, retry_secs=retry_secs) if directory else None
        self.feed = Feed(self.ring, self.spool, when_full, self.stats)
        self.feed.open()
        self.next = 1

    def put(self, count: int) -> None:
        self.feed.put(LAYOUT, count, text(self.next, count))
        self.next += count
        check(self.stats)

    def take(self, max_rows: int = MANY) -> list[int]:
        rows = self.feed.take(max_rows, MANY, 0)
        check(self.stats)
        return numbers(rows) if rows else []

    def finish(self) -> int:
        """Take and have done what is first."""
        rows = self.feed.take(MANY, MANY, 0)
        assert rows
        assert self.feed.done(rows.last) == rows.count
        check(self.stats)
        return rows.count

    def oldest(self) -> int:
        """Return the number of the row in front."""
        rows = self.feed.take(1, MANY, 0)
        assert rows
        return rows.first

    def oldest_text(self) -> int:
        return numbers(self.feed.take(1, MANY, 0))[0]

    def drain(self) -> list[int]:
        found = []
        while rows := self.feed.take(MANY, MANY, 0):
            found += numbers(rows)
            assert self.feed.done(rows.last) == rows.count
            check(self.stats)
        return found


Make = Callable[..., Queue]


@pytest.fixture
def make() -> Iterator[Make]:
    """Return a function that makes queues; at the end they are closed and have to account for every record."""
    made: list[Queue] = []

    def opened(*arguments: Any, **options: Any) -> Queue:
        made.append(Queue(*arguments, **options))
        return made[-1]

    with no_descriptor_left():
        yield opened
        for each in made:
            each.feed.close()
            check(each.stats)
            assert each.stats.pending == each.stats.spooled


def test_rows_come_again_until_they_are_done(make: Make) -> None:
    each = make()
    each.put(4)
    each.put(0)
    each.put(2)
    assert each.take(3) == [1, 2, 3]
    assert each.take(3) == [1, 2, 3]
    assert each.feed.done(2) == 2
    assert each.feed.done(2) == 0
    assert each.take(2) == [3]
    assert each.stats.written == 2
    assert each.stats.bytes == len(text(1, 2))
    assert each.drain() == [3, 4, 5, 6]
    assert (each.stats.pending, each.stats.pending_bytes) == (0, 0)


def test_a_refused_row(make: Make) -> None:
    each = make()
    each.put(4)
    assert each.take(3) == [1, 2, 3]
    assert each.feed.done(1) == 1
    each.feed.refused(2, "udp_len out of range")
    assert each.take() == [3]
    assert each.stats.dropped["refused"] == 1
    each.feed.refused(2, "long gone")
    assert each.stats.dropped["refused"] == 1
    assert each.drain() == [3, 4]


def test_what_memory_cannot_hold_is_spooled(make: Make, tmp_path: Path) -> None:
    each = make(tmp_path)
    each.put(7)
    each.put(7)
    each.put(7)
    assert (each.ring.rows, each.stats.spooled, each.stats.pending) == (10, 11, 21)
    assert each.stats.spooled_bytes > 0
    assert each.take() == [*range(1, 11)]
    assert each.drain() == [*range(1, 22)]
    assert (each.stats.spooled, each.stats.spooled_bytes) == (0, 0)
    assert each.stats.bytes == len(text(1, 21))


def test_the_spool_is_used_until_little_is_in_it(make: Make, tmp_path: Path) -> None:
    each = make(tmp_path)
    each.put(10)
    each.put(6)
    each.finish()
    each.put(1)
    assert each.ring.rows == 0, "seven would wait before it"
    assert each.take(2) == [11, 12]
    each.feed.done(each.oldest() + 1)
    each.put(2)
    assert (each.ring.rows, each.stats.spooled) == (2, 5)
    assert each.take() == [13, 14, 15, 16, 17], "the spool's are older"
    each.put(10)
    assert (each.ring.rows, each.stats.spooled) == (10, 7), "full again: these come after the ring's"
    assert each.drain() == [*range(13, 30)]


def test_a_full_spool(make: Make, tmp_path: Path) -> None:
    each = make(tmp_path, max_bytes=500)
    while not each.stats.dropped["spool_full"]:
        each.put(5)
    assert each.drain() == [*range(1, each.next - 5)]
    each.put(5)
    assert each.drain() == [*range(each.next - 5, each.next)]


def test_a_broken_disk_leaves_the_ring(make: Make, tmp_path: Path) -> None:
    each = make(tmp_path / "spool")
    shutil.rmtree(tmp_path / "spool")
    each.put(12)
    assert each.stats.dropped["spool_error"] == 2
    each.take(3)
    assert each.feed.done(each.oldest() + 2) == 3
    each.put(2)
    assert each.stats.dropped["spool_error"] == 2
    each.feed.close()
    assert each.stats.dropped["spool_error"] == 11


def test_a_full_spool_does_not_close_the_ring(make: Make, tmp_path: Path) -> None:
    each = make(tmp_path, max_bytes=4000)
    each.put(10)
    while not each.stats.dropped["spool_full"]:
        each.put(9)
    lost = [*range(each.next - 9, each.next)]
    each.finish()
    each.put(4)
    assert (each.ring.rows, each.stats.dropped["spool_full"]) == (4, 9)
    each.take(9)
    each.feed.done(each.oldest() + 60)  # a segment is done
    each.put(5)
    each.put(9)
    assert each.ring.rows == 4, "now there is room in the spool"
    expected = [n for n in range(each.oldest_text(), each.next) if n not in lost]
    assert each.drain() == expected


def test_a_stop_tries_the_disk_once_more(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    each = make(tmp_path, retry_secs=3600.0)

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "writev", fail)
    each.put(12)
    monkeypatch.undo()
    assert each.stats.dropped["spool_error"] == 2
    each.feed.close()
    assert each.stats.pending == each.stats.spooled == 10
    assert make(tmp_path).drain() == [*range(1, 11)]


def test_drop_newest(make: Make) -> None:
    each = make(when_full="drop_newest")
    each.put(7)
    each.put(7)
    assert each.stats.dropped["ring_full"] == 4
    assert each.drain() == [*range(1, 11)]


def test_drop_oldest(make: Make) -> None:
    each = make(when_full="drop_oldest")
    each.put(7)
    assert each.take(2) == [1, 2]
    each.put(7)
    assert each.stats.dropped["ring_full"] == 4
    assert each.drain() == [1, 2, *range(7, 15)]


@pytest.mark.parametrize("when_full", MODES)
def test_without_a_spool(make: Make, when_full: WhenFull) -> None:
    each = make(when_full=when_full)
    each.put(12)
    assert each.stats.dropped["ring_full"] == 2
    each.feed.close()
    assert each.stats.dropped["stop"] == 10
    assert each.stats.pending == 0


def test_a_stop_spools_the_ring_in_order(make: Make, tmp_path: Path) -> None:
    each = make(tmp_path)
    each.put(10)
    each.put(6)
    each.finish()
    each.put(1)
    each.take(3)
    each.feed.done(each.oldest() + 2)
    each.put(9)
    each.put(9)
    assert (each.ring.rows, each.stats.spooled) == (10, 12), "spool, ring, spool"
    each.take(2)
    each.feed.close()
    assert each.stats.pending == each.stats.spooled == 22
    assert each.stats.pending_bytes == 0
    again = make(tmp_path)
    assert again.stats.records == again.stats.pending == 22
    assert again.drain() == [*range(14, 36)]


def test_closed_means_closed(make: Make, tmp_path: Path) -> None:
    each = make(tmp_path)
    each.put(3)
    rows = each.feed.take(MANY, MANY, 0)
    assert rows
    each.feed.close()
    before = each.stats.as_dict()
    assert each.feed.done(rows.last) == 0
    each.feed.refused(rows.first, "too late")
    assert each.take() == []
    each.feed.close()
    assert each.stats.as_dict() == before
    each.put(2)
    assert each.stats.dropped["stop"] == 2
    assert make(tmp_path).drain() == [1, 2, 3]


def test_what_the_spool_lost_is_counted(make: Make, tmp_path: Path) -> None:
    each = make(tmp_path)
    each.put(10)
    each.put(5)
    each.put(5)
    (name,) = tmp_path.glob("*.rows")
    data = bytearray(name.read_bytes())
    data[len(data) // 2 - 1] ^= 1
    name.write_bytes(data)
    assert each.drain() == [*range(1, 11), *range(16, 21)]
    assert each.stats.dropped["spool_error"] == 5
    assert each.stats.pending == 0


@pytest.mark.parametrize("event", ["put", "wake", "close"])
def test_take_waits_for_an_event(make: Make, tmp_path: Path, event: str) -> None:
    each = make(tmp_path, 0)
    assert each.feed.take(1, 1, 0.01) is None
    taken: list[Rows | None] = []
    thread = threading.Thread(target=lambda: taken.append(each.feed.take(MANY, MANY, 3600.0)))
    thread.start()
    wait_for(lambda: each.feed._changed._waiters)  # type: ignore[attr-defined]
    {"put": lambda: each.put(1), "wake": each.feed.wake, "close": each.feed.close}[event]()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert [rows and numbers(rows) for rows in taken] == [[1] if event == "put" else None]


def test_wake_comes_before_rows(make: Make) -> None:
    each = make()
    each.put(1)
    each.feed.wake()
    assert each.take() == []
    assert each.take() == [1]


def test_a_spool_that_cannot_be_read_for_now_is_no_busy_loop(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_PAUSE_SECS", 3600.0)
    each = make(tmp_path, 0)
    each.put(1)
    assert each.spool
    calls = []
    monkeypatch.setattr(each.spool, "take", lambda *limits: calls.append(limits))
    assert each.take() == []
    thread = threading.Thread(target=each.feed.take, args=(1, MANY, 7200.0))
    thread.start()
    wait_for(lambda: each.feed._changed._waiters)  # type: ignore[attr-defined]
    each.feed.wake()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert len(calls) == 2


def test_after_a_loss_take_waits_for_new_rows(make: Make, tmp_path: Path) -> None:
    each = make(tmp_path, 0)
    each.put(3)
    for name in tmp_path.glob("*.rows"):
        name.unlink()
    taken: list[Rows | None] = []
    thread = threading.Thread(target=lambda: taken.append(each.feed.take(MANY, MANY, 3600.0)))
    thread.start()
    wait_for(lambda: each.feed._changed._waiters and each.stats.dropped["spool_error"] == 3)  # type: ignore[attr-defined]
    each.ring.size = 10
    each.put(2)
    thread.join(PATIENCE)
    assert [numbers(rows) for rows in taken] == [[4, 5]]


def test_done_may_be_far_ahead(make: Make, tmp_path: Path) -> None:
    each = make(tmp_path, 2)
    each.put(5)
    assert each.feed.done(1 << 62) == 5
    each.put(5)
    assert each.drain() == [6, 7, 8, 9, 10]


@pytest.mark.parametrize("when_full", MODES)
def test_two_threads(make: Make, tmp_path: Path, when_full: WhenFull) -> None:
    each = make(tmp_path, 500, when_full=when_full)
    total = 40_000

    def produce() -> None:
        while each.next <= total:
            each.put(min(each.next % 97 + 1, total + 1 - each.next))

    thread = threading.Thread(target=produce)
    thread.start()
    found: list[int] = []
    while thread.is_alive() or each.stats.pending:
        rows = each.feed.take(len(found) % 300 + 1, MANY, 0.01)
        if rows:
            found += numbers(rows)
            assert each.feed.done(rows.last) == rows.count
    thread.join(PATIENCE)
    assert found == sorted(set(found))
    assert len(found) == each.stats.written
    assert len(found) + each.stats.dropped["ring_full"] == total
    if when_full == "spool":
        assert found == [*range(1, total + 1)]


# Any sequence of faults


class Recorded(Spool):
    """A spool that remembers what it acknowledged."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        super().__init__(directory, max_bytes, retry_secs=0.0)
        self.acknowledged: set[int] = set()
        self.newest: Rows | None = None
        self.given = 0

    def number(self, count: int) -> int:
        self.given = super().number(count)
        return self.given

    def append(self, rows: Rows, *, at_once: bool = False) -> bool:
        kept = super().append(rows, at_once=at_once)
        if kept:
            assert not self.acknowledged & {*range(rows.first, rows.last + 1)}, "written twice"
            self.acknowledged.update(range(rows.first, rows.last + 1))
            self.newest = rows
        return kept


@dataclass(frozen=True)
class Row:
    """A row of the model: its text's number, its number in the queue, and whether an earlier run left it."""

    n: int
    number: int
    old: bool = False


def _scratch() -> str:
    """Return where files cost least: what is tested is what a kill leaves, and that is the same everywhere."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()


class AnySequence(RuleBasedStateMachine):
    """The feed does what a list of rows does."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory(dir=_scratch())
        self.runs = 0
        self.next = 1
        self.waiting: list[Row] = []
        self.taken = 0
        self.records = self.written = 0

    @initialize(when_full=st.sampled_from(MODES), size=st.integers(0, 12), limit=st.sampled_from([600, 2000, MANY]))
    def start(self, when_full: WhenFull, size: int, limit: int) -> None:
        self.directory = Path(self.scratch.name, "0")
        self.run(when_full, size, limit)

    def run(self, when_full: WhenFull, size: int, limit: int) -> None:
        self.when_full, self.size, self.limit = when_full, size, limit
        self.stats = SpoolStats()
        self.ring = Ring(size)
        self.spool = Recorded(self.directory, limit)
        self.feed = Feed(self.ring, self.spool, when_full, self.stats)
        self.feed.open()
        self.spool.acknowledged |= {row.number for row in self.waiting}
        self.waiting = [replace(row, old=True) for row in self.waiting]
        self.records, self.written, self.taken = len(self.waiting), 0, 0
        self.dropped = 0

    @rule(count=st.integers(1, 9))
    def put(self, count: int) -> None:
        before = sum(self.stats.dropped.values())
        self.feed.put(LAYOUT, count, text(self.next, count))
        new = [Row(self.next + n, self.spool.given + n) for n in range(count)]
        dropped = sum(self.stats.dropped.values()) - before
        self.next += count
        self.records += count
        self.dropped += dropped
        self.waiting += new
        if self.when_full == "drop_oldest":
            candidates = [row for row in self.waiting[self.taken :] if not row.old]
            gone = set(candidates[:dropped])
            assert not dropped or self.ring.rows == self.size
            self.waiting = [row for row in self.waiting if row not in gone]
        elif dropped:
            assert dropped <= count
            del self.waiting[-dropped:]
            if self.when_full == "drop_newest":
                assert self.ring.rows == self.size
            else:
                assert self.limit < MANY, "there was no reason to drop"

    @rule(max_rows=st.integers(1, 20), max_bytes=st.sampled_from([1, 30, MANY]))
    def take(self, max_rows: int, max_bytes: int) -> None:
        rows = self.feed.take(max_rows, max_bytes, 0)
        found = numbers(rows) if rows else []
        assert bool(found) == bool(self.waiting)
        assert found == [row.n for row in self.waiting[: len(found)]]
        assert len(found) <= max_rows
        if self.taken:
            assert len(found) <= self.taken, "not the same rows again"
        else:
            self.taken = len(found)
        if rows:
            assert [rows.first, rows.last] == [self.waiting[0].number, self.waiting[len(found) - 1].number]
            assert self.feed.take(max_rows, max_bytes, 0) == rows

    def finish(self, count: int) -> None:
        """Have the first `count` rows done."""
        assert self.feed.done(self.waiting[count - 1].number) == count
        del self.waiting[:count]
        self.taken = max(0, self.taken - count)
        self.written += count

    @precondition(lambda self: self.taken)
    @rule()
    def done_whole(self) -> None:
        self.finish(self.taken)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def done_part(self, data: st.DataObject) -> None:
        self.finish(data.draw(st.integers(1, self.taken)))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def done_beyond(self, data: st.DataObject) -> None:
        """The database knows better what it has."""
        self.finish(data.draw(st.integers(1, len(self.waiting))))

    @precondition(lambda self: self.waiting)
    @rule()
    def done_long_ago(self) -> None:
        assert self.feed.done(self.waiting[0].number - 1) == 0

    @precondition(lambda self: self.taken)
    @rule()
    def refused(self) -> None:
        self.feed.refused(self.waiting[0].number, "no reason")
        del self.waiting[0]
        self.taken -= 1
        self.dropped += 1

    @rule(when_full=st.sampled_from(MODES), size=st.integers(0, 12), limit=st.sampled_from([600, 2000, MANY]))
    def restart(self, when_full: WhenFull, size: int, limit: int) -> None:
        self.feed.close()
        self.waiting = [row for row in self.waiting if row.number in self.spool.acknowledged]
        assert self.stats.pending == len(self.waiting)
        self.dropped = sum(self.stats.dropped.values())
        if self.when_full == "spool" and self.limit == MANY:
            assert not self.dropped - self.stats.dropped["refused"]
        self.numbers_add_up()
        assert self.feed.take(1, MANY, 0) is None
        assert self.feed.done(1 << 62) == 0
        self.run(when_full, size, limit)

    @rule(
        torn=st.sampled_from(["", "begun", "lost"]),
        when_full=st.sampled_from(MODES),
        size=st.integers(0, 12),
        limit=st.sampled_from([600, 2000, MANY]),
        data=st.data(),
    )
    def crash(self, torn: str, when_full: WhenFull, size: int, limit: int, data: st.DataObject) -> None:
        """Go on with a copy of the directory as a kill leaves it; with `lost` as a power failure leaves it."""
        self.runs += 1
        copy = Path(self.scratch.name, str(self.runs))
        shutil.copytree(self.directory, copy)
        self.waiting = [row for row in self.waiting if row.number in self.spool.acknowledged]
        newest = self.spool.newest
        self.feed.close()  # of the original: to release what a dead process does not hold
        self.directory = copy
        growing = sorted(path for path in copy.iterdir() if re.fullmatch("[0-9a-f]{16}.rows", path.name))
        if growing and newest and torn:
            (path,) = growing
            last = b"".join(record(newest))
            if torn == "lost":
                os.truncate(path, path.stat().st_size - data.draw(st.integers(1, len(last))))
                self.waiting = [row for row in self.waiting if row.number < newest.first]
            else:
                begun = b"".join(record(Rows(LAYOUT, newest.last + 1, 2, text(self.next, 2))))
                with path.open("ab") as file:
                    file.write(begun[: data.draw(st.integers(1, len(begun) - 1))])
        self.run(when_full, size, limit)

    @invariant()
    def numbers_add_up(self) -> None:
        if not hasattr(self, "stats"):
            return
        check(self.stats)
        assert self.stats.records == self.records
        assert self.stats.written == self.written
        assert self.stats.pending == len(self.waiting)
        assert sum(self.stats.dropped.values()) == self.dropped

    @invariant()
    def limits_are_kept(self) -> None:
        if not hasattr(self, "stats"):
            return
        files = sum(path.stat().st_size for path in self.directory.glob("*.rows"))
        assert files == self.spool.bytes == self.stats.spooled_bytes
        assert self.ring.rows <= self.size
        assert self.ring.rows + self.spool.rows == len(self.waiting)
        assert self.stats.pending_bytes == self.ring.bytes
        if not self.waiting:
            assert not files

    def teardown(self) -> None:
        if hasattr(self, "feed"):
            found = []
            while rows := self.feed.take(MANY, MANY, 0):
                found += numbers(rows)
                self.feed.done(rows.last)
            assert found == [row.n for row in self.waiting]
            self.feed.close()
        self.scratch.cleanup()


def test_any_sequence() -> None:
    run_state_machine_as_test(AnySequence, settings=settings(max_examples=100, stateful_step_count=40, deadline=None))
