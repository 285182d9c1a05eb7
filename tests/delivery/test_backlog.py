# SPDX-License-Identifier: GPL-2.0-or-later
"""The backlog keeps order, bounds and counters."""

from __future__ import annotations

import pytest

from nflowlevel.delivery.backlog import Backlog, Chunk
from nflowlevel.stats import OutputStats
from tests.fix_lines import check, lines, numbers


@pytest.fixture
def stats() -> OutputStats:
    return OutputStats()


def put(backlog: Backlog, stats: OutputStats, data: bytes | bytearray, records: int) -> bool:
    stats.records += records
    return backlog.put(data, records)


def test_order_is_kept_and_small_batches_are_joined(stats: OutputStats) -> None:
    backlog = Backlog(1 << 20, stats)
    for n in range(1000):
        put(backlog, stats, lines(n, 1, pad=200), 1)
        check(stats)
    taken = []
    while chunk := backlog.take():
        taken.append(chunk)
    assert numbers(b"".join(chunk.data for chunk in taken)) == [*range(1000)]
    assert len(taken) < 10
    assert stats.pending == sum(chunk.records for chunk in taken) == 1000


def test_new_lines_are_dropped_when_full(stats: OutputStats) -> None:
    backlog = Backlog(100, stats)
    assert put(backlog, stats, b"x" * 79 + b"\n", 1)
    assert not put(backlog, stats, b"y" * 79 + b"\n", 1)
    assert put(backlog, stats, b"z" * 19 + b"\n", 1)
    check(stats)
    assert stats.dropped["full"] == 1
    assert stats.pending_bytes == 100


def test_one_batch_always_finds_room(stats: OutputStats) -> None:
    backlog = Backlog(10, stats)
    assert put(backlog, stats, lines(0, 5), 5)
    assert not put(backlog, stats, lines(5, 1), 1)
    check(stats)


def test_the_caller_may_reuse_its_buffer(stats: OutputStats) -> None:
    backlog = Backlog(1 << 20, stats)
    buffer = bytearray(lines(0, 1))
    put(backlog, stats, buffer, 1)
    buffer[:] = b"?" * len(buffer)
    chunk = backlog.take()
    assert chunk
    assert numbers(bytes(chunk.data)) == [0]


@pytest.mark.parametrize("position", range(34))
def test_cut_before_removes_whole_lines_only(position: int) -> None:
    chunk = Chunk(bytearray(b"0123456789\n" * 3), 3)
    whole = position // 11
    assert chunk.cut_before(position) == (whole, whole * 11)
    assert chunk.records == 3 - whole
    assert chunk.data == b"0123456789\n" * (3 - whole)


def test_taken_chunk_is_pending_until_done_or_given_back(stats: OutputStats) -> None:
    backlog = Backlog(1 << 20, stats)
    put(backlog, stats, lines(0, 3), 3)
    chunk = backlog.take()
    assert chunk
    assert not backlog
    assert stats.pending == 3
    backlog.done(*chunk.cut_before(chunk.data.find(b"\n") + 1))
    backlog.give_back(chunk)
    check(stats)
    assert (stats.written, stats.pending) == (1, 2)
    assert backlog.take() is chunk
    backlog.lose("too_long", chunk.records, len(chunk.data))
    check(stats)
    assert (stats.pending, stats.pending_bytes, stats.dropped["too_long"]) == (0, 0, 2)


def test_lines_sent_again_are_not_counted_again(stats: OutputStats) -> None:
    backlog = Backlog(1 << 20, stats)
    put(backlog, stats, lines(1, 1), 1)
    backlog.again(bytearray(lines(0, 1)))
    check(stats)
    first, second = backlog.take(), backlog.take()
    assert first
    assert second
    assert numbers(bytes(first.data + second.data)) == [0, 1]
    backlog.done(first.records, len(first.data))
    assert (stats.written, stats.pending) == (0, 1)


def test_close_counts_everything_once(stats: OutputStats) -> None:
    backlog = Backlog(1 << 20, stats)
    put(backlog, stats, b"x" * 70_000 + b"\n", 1)
    put(backlog, stats, lines(1, 2), 2)
    taken = backlog.take()
    assert taken
    assert backlog.close("stop") == 3
    # A late thread:
    backlog.done(1, 100)
    backlog.give_back(taken)
    assert backlog.close("stop") == 0
    check(stats)
    assert (stats.pending, stats.pending_bytes, stats.dropped["stop"]) == (0, 0, 3)
