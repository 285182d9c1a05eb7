# SPDX-License-Identifier: GPL-2.0-or-later
"""Leased receive buffers: nothing that somebody still looks at is filled again, and what is forgotten has a limit."""

from __future__ import annotations

import gc
import threading

import pytest

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.buffers import (
    DATA_BYTES,
    ENOUGH_RECORDS,
    RECORD_BYTES,
    ROOM_RECORDS,
    SLOT_BYTES,
    BufferPool,
    Lease,
    Slot,
)
from nflowlevel.errors import NflowError


def lease(pool: BufferPool, text: bytes = b"", used: int = 100) -> Lease:
    """Fill a buffer and lease it."""
    slot = pool.take()
    ffi.memmove(slot.data, text, len(text))
    return pool.lease(slot, used)


def address_of(leased: Lease) -> int:
    return int(ffi.cast("uintptr_t", leased.data))


def test_there_is_room_for_one_more_datagram() -> None:
    """What nfl_receive asks of its caller (packet.h)."""
    assert DATA_BYTES >= lib.NFL_DATAGRAM_MAX
    assert ROOM_RECORDS >= ENOUGH_RECORDS + lib.NFL_DATAGRAM_MAX // lib.NFL_MESSAGE_MIN
    assert SLOT_BYTES == DATA_BYTES + ROOM_RECORDS * RECORD_BYTES
    assert SLOT_BYTES % 8 == 0, "it is cast to 64-bit numbers"


def test_a_slot_is_one_piece() -> None:
    slot = Slot()
    assert int(ffi.cast("uintptr_t", slot.records)) - int(ffi.cast("uintptr_t", slot.data)) == DATA_BYTES
    ffi.buffer(slot.data, SLOT_BYTES)[SLOT_BYTES - 1] = b"x"


def test_a_buffer_is_used_again_when_its_lease_is_gone() -> None:
    pool = BufferPool()
    first = lease(pool)
    address = address_of(first)
    del first
    assert address_of(lease(pool)) == address


def test_a_buffer_is_not_used_again_while_it_is_leased() -> None:
    pool = BufferPool()
    leases = [lease(pool, str(number).encode()) for number in range(20)]
    assert len({address_of(one) for one in leases}) == 20
    assert [bytes(one.memory[:2]).rstrip(b"\0") for one in leases] == [str(number).encode() for number in range(20)]


def test_any_view_holds_the_buffer() -> None:
    pool = BufferPool()
    views = []
    for make in (
        lambda one: one.memory,
        lambda one: one.memory[3:5],
        lambda one: one.memory[:8].cast("Q"),
        lambda one: one.cast("H")[:4],
        lambda one: memoryview(one.memory)[1:],
        lambda one: one.data,
    ):
        one = lease(pool, b"kept")
        views.append((address_of(one), make(one)))
        del one
    gc.collect()
    fresh = {address_of(one) for one in [lease(pool, b"new") for _ in range(20)]}
    assert fresh.isdisjoint(address for address, _ in views)
    assert bytes(views[0][1][:4]) == b"kept"


def test_memory_is_read_only() -> None:
    one = lease(BufferPool(), b"text")
    with pytest.raises(TypeError):
        one.memory[0] = 1
    with pytest.raises(TypeError):
        one.cast("I")[0] = 1


def test_a_view_outlives_lease_and_pool() -> None:
    pool = BufferPool()
    view = lease(pool, b"still here").memory[:10]
    del pool
    gc.collect()
    assert bytes(view) == b"still here"


def test_what_is_held_is_counted() -> None:
    pool = BufferPool()
    leases = [lease(pool, used=100), lease(pool, used=23)]
    assert (pool.leased, pool.held_bytes) == (2, 123)
    leases.clear()
    pool.put(pool.take())
    assert (pool.leased, pool.held_bytes) == (0, 0)


def test_the_ceiling() -> None:
    pool = BufferPool(max_held_bytes=250)
    leases = [lease(pool, used=100) for _ in range(3)]
    with pytest.raises(NflowError) as caught:
        pool.take()
    assert str(caught.value) == (
        "receive: 3 buffers with 300 bytes are held by packets, memoryviews or columns that were kept; "
        "keep bytes(packet.payload) instead, or raise max_held_bytes (now 250)"
    )
    leases.pop()
    leases.append(lease(pool, used=100))
    with pytest.raises(NflowError):
        pool.take()


def test_few_free_buffers_are_kept() -> None:
    """What a burst of kept batches needed goes back to the system."""
    pool = BufferPool()
    leases = [lease(pool) for _ in range(30)]
    leases.clear()
    pool.put(pool.take())
    assert len(pool._free) <= 4
    assert not pool.returned


def test_leases_end_in_any_thread() -> None:
    pool = BufferPool()
    for _ in range(50):
        leases = [lease(pool, b"%d" % number) for number in range(8)]
        threads = [threading.Thread(target=leases.pop) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    pool.put(pool.take())
    assert (pool.leased, pool.held_bytes) == (0, 0)


def test_a_lease_in_a_cycle() -> None:
    pool = BufferPool()
    cycle: list[object] = [lease(pool)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    pool.put(pool.take())
    assert pool.leased == 0
