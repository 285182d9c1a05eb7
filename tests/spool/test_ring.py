# SPDX-License-Identifier: GPL-2.0-or-later
"""The ring is bounded, in order, and gives what was taken again until it is done."""

from __future__ import annotations

import pytest

from nflowlevel.spool.ring import Ring
from nflowlevel.spool.rows import joined
from tests.fix_rows import form, numbers, rows_of

__all__ = ["form"]

MANY = 1 << 30


def held(ring: Ring) -> list[int]:
    return [number for part in ring.clear() for number in numbers(part)]


def test_rows_come_in_order_and_again_until_done() -> None:
    ring = Ring(100)
    assert ring.first is None
    assert ring.take(10, MANY) == []
    ring.put(rows_of(1, 4))
    ring.put(rows_of(5, 4))
    assert ring.first == 1
    taken = joined(ring.take(MANY, MANY))
    assert numbers(taken) == [*range(1, 9)]
    ring.put(rows_of(9, 2))
    assert joined(ring.take(MANY, MANY)) == taken, "new rows join only when these are done"
    assert ring.done(3) == (3, len(rows_of(1, 3).data))
    assert ring.first == 4
    assert numbers(joined(ring.take(MANY, MANY))) == [4, 5, 6, 7, 8]
    assert ring.done(8)[0] == 5
    assert numbers(joined(ring.take(MANY, MANY))) == [9, 10]
    assert ring.done(8) == (0, 0), "long done"
    assert ring.done(10)[0] == 2
    assert (ring.rows, ring.bytes, ring.first) == (0, 0, None)


def test_done_reaches_beyond_what_was_taken() -> None:
    ring = Ring(100)
    ring.put(rows_of(1, 4))
    ring.put(rows_of(5, 4))
    ring.take(2, MANY)
    assert ring.done(6)[0] == 6
    assert held(ring) == [7, 8]


def test_limits_of_take() -> None:
    ring = Ring(100)
    for first in (1, 5, 9):
        ring.put(rows_of(first, 4))
    size = len(rows_of(1, 4).data)
    assert numbers(joined(ring.take(3, MANY))) == [1, 2, 3], "a first chunk that is too large is cut"
    assert numbers(joined(ring.take(1, MANY))) == [1]
    assert numbers(joined(ring.take(MANY, 1))) == [1], "at least one"
    assert numbers(joined(ring.take(MANY, MANY))) == [1, 2, 3], "no more than was taken before"
    ring.done(3)
    assert numbers(joined(ring.take(6, MANY))) == [4, 5, 6, 7, 8][:5]
    ring.done(8)
    assert numbers(joined(ring.take(4, size + 10))) == [9, 10, 11, 12]


def test_a_gap_or_another_layout_ends_what_is_taken() -> None:
    ring = Ring(100)
    ring.put(rows_of(1, 2))
    ring.put(rows_of(4, 2))
    ring.put(rows_of(6, 2, layout=("other", "b", "c")))
    for expected in ([1, 2], [4, 5], [6, 7]):
        taken = joined(ring.take(MANY, MANY))
        assert numbers(taken) == expected
        ring.done(taken.last)


def test_put_returns_what_there_is_no_room_for() -> None:
    ring = Ring(6)
    assert ring.put(rows_of(1, 4)) is None
    assert numbers(ring.put(rows_of(5, 4))) == [7, 8]
    assert numbers(ring.put(rows_of(9, 1))) == [9]
    assert ring.rows == 6
    ring.take(MANY, MANY)
    ring.done(2)
    assert ring.put(rows_of(20, 2)) is None
    assert held(ring) == [3, 4, 5, 6, 20, 21]


def test_a_ring_of_no_size_holds_nothing() -> None:
    assert numbers(Ring(0).put(rows_of(1, 2))) == [1, 2]
    ring = Ring(0)
    assert ring.push(rows_of(1, 2)) == 2
    assert held(ring) == []


def test_extra_bytes_hold_more() -> None:
    row = len(rows_of(100, 1).data)
    ring = Ring(10, extra_bytes=5 * row)
    assert numbers(ring.put(rows_of(100, 20))) == [*range(115, 120)]
    assert ring.rows == 15
    ring.take(5, MANY)
    ring.done(104)
    assert ring.put(rows_of(120, 5)) is None
    assert ring.bytes == 15 * row


def test_memory_is_what_is_held() -> None:
    ring = Ring(MANY)
    ring.put(rows_of(1, 3, pad=100))
    assert ring.bytes == len(rows_of(1, 3, pad=100).data)
    ring.done(2)
    assert ring.bytes == len(rows_of(3, 1, pad=100).data)


def test_push_drops_the_oldest() -> None:
    ring = Ring(6)
    assert ring.push(rows_of(1, 4)) == 0
    assert ring.push(rows_of(5, 4)) == 2
    assert ring.push(rows_of(9, 20)) == 20
    assert held(ring) == [*range(23, 29)]


@pytest.mark.parametrize(("taken", "dropped"), [(2, [3, 4, 5]), (4, [5, 6, 9]), (6, [9, 10, 11])])
def test_push_drops_nothing_that_is_taken(taken: int, dropped: list[int]) -> None:
    ring = Ring(6)
    ring.put(rows_of(1, 6))
    before = joined(ring.take(taken, MANY))
    assert ring.push(rows_of(9, 3)) == len(dropped)
    assert joined(ring.take(MANY, MANY)) == before
    assert held(ring) == [n for n in (1, 2, 3, 4, 5, 6, 9, 10, 11) if n not in dropped]


def test_large_rows_fill_it_before_many_do() -> None:
    size = len(rows_of(11, 4).data)
    ring = Ring(1000, 0, 2 * size)
    assert ring.put(rows_of(11, 4)) is None
    assert ring.put(rows_of(15, 4)) is None
    rest = ring.put(rows_of(19, 4))
    assert rest is not None
    assert numbers(rest) == [19, 20, 21, 22]
    ring.done(14)
    assert ring.put(rest) is None
    assert held(ring) == [*range(15, 23)]
    assert ring.bytes == 0


def test_extra_bytes_come_on_top_of_both_bounds() -> None:
    size = len(rows_of(11, 4).data)
    ring = Ring(1000, 2 * size, size)
    for first in (11, 15, 19):
        assert ring.put(rows_of(first, 4)) is None
    assert ring.put(rows_of(23, 4)) is not None
