# SPDX-License-Identifier: GPL-2.0-or-later
"""Receive buffers, leased: a buffer is free again when nothing looks at it any more.

A slot is one anonymous mapping: bytes as received, then the records decoded from them. The kernel gives it memory page
by page as it is filled, so a slot for a lone packet costs a few KiB, not the size it could grow to.

Invariants:
- A slot is filled only while it is not leased, so what a lease shows never changes.
- Whatever looks into a slot holds its lease (`Lease.memory` and all that is made from it keep a cffi object alive whose
  destructor gives the slot back). There is no way to read freed or refilled memory.
- Python may run that destructor in any thread at any time: it only stores into a dict, which is atomic.
"""

from __future__ import annotations

import mmap
from collections import deque
from functools import partial
from operator import setitem

from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.errors import NflowError

#: Bytes of a slot for datagrams: the largest one and room to gather smaller ones.
DATA_BYTES = 1 << 20
#: Records after which a receive stops; one more datagram always fits behind them.
ENOUGH_RECORDS = 2048
ROOM_RECORDS = ENOUGH_RECORDS + lib.NFL_DATAGRAM_MAX // lib.NFL_MESSAGE_MIN + 1

RECORD_BYTES: int = ffi.sizeof("struct nfl_record")
SLOT_BYTES = DATA_BYTES + ROOM_RECORDS * RECORD_BYTES

#: Free slots that are kept for the next receive; more are given back to the system.
_KEEP_FREE = 4


class Slot:
    """One buffer of a pool. `used` counts the bytes its lease keeps from the system."""

    __slots__ = ("_mapping", "data", "records", "used")

    def __init__(self) -> None:
        self._mapping = ffi.from_buffer(mmap.mmap(-1, SLOT_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self.data: CData = ffi.cast("uint8_t *", self._mapping)
        self.records: CData = ffi.cast("struct nfl_record *", self.data + DATA_BYTES)
        self.used = 0


class Lease:
    """A filled slot, for as long as anybody looks at it.

    `memory` is the whole slot as a read-only memoryview, `data` a C pointer to it: both may be copied, sliced and kept,
    they hold the slot. `records` points into it and holds nothing: it is good while the lease or one of them is kept.
    """

    __slots__ = ("_casts", "data", "memory", "records")

    def __init__(self, pool: BufferPool, slot: Slot) -> None:
        # The slot travels with the destructor: it outlives the pool where a view does.
        # Nothing of Python's runs there: an interrupt would be lost, and the slot with it.
        self.data: CData = ffi.gc(slot.data, partial(setitem, pool.returned, slot))
        self.records: CData = slot.records
        self.memory = memoryview(ffi.buffer(self.data, SLOT_BYTES)).toreadonly()
        self._casts: dict[str, memoryview] = {}

    def cast(self, format_: str) -> memoryview:
        """Return all from the first record on as numbers: `B`, `H`, `I` or `Q` of the struct module."""
        try:
            return self._casts[format_]
        except KeyError:
            made = self._casts[format_] = self.memory[DATA_BYTES:].cast(format_)  # type: ignore[call-overload]
            return made  # type: ignore[no-any-return]


class RecordArray:
    """Records in memory of their own, which a batch reads as it reads a Lease: `count` structs at `records`.

    `data` is what offsets in the records point into, if any do. All that is made of `cast` and `memory` keeps the
    memory, as `records` does, which owns it.
    """

    __slots__ = ("_casts", "_table", "data", "memory", "records")

    def __init__(self, records: CData, count: int, data: bytes = b"") -> None:
        self.records = records
        self.data: CData = ffi.from_buffer("uint8_t[]", data)
        self.memory = memoryview(data)
        size = count * ffi.sizeof(ffi.typeof(records).item)
        self._table = memoryview(ffi.buffer(records, size)).toreadonly()
        self._casts: dict[str, memoryview] = {}

    def cast(self, format_: str) -> memoryview:
        """Return the records as an array of numbers: `B`, `H`, `I` or `Q` of the struct module."""
        try:
            return self._casts[format_]
        except KeyError:
            made = self._casts[format_] = self._table.cast(format_)  # type: ignore[call-overload]
            return made  # type: ignore[no-any-return]


class BufferPool:
    """The slots of one receiver.

    It grows when leases are kept, up to `max_held_bytes` of received data; beyond that `take` raises NflowError rather
    than letting packets that somebody forgot use up the memory.
    """

    def __init__(self, max_held_bytes: int = 1 << 30) -> None:
        self._free: deque[Slot] = deque()
        #: Slots whose last view is gone: a destructor puts them in, in any thread.
        self.returned: dict[Slot, object] = {}
        self.max_held_bytes = max_held_bytes
        self.leased = 0
        self.held_bytes = 0

    def take(self) -> Slot:
        """Return a free slot; hand it on with `lease` or put it back with `put`."""
        while self.returned:
            slot, _ = self.returned.popitem()
            self.leased -= 1
            self.held_bytes -= slot.used
            self.put(slot)
        if self._free:
            return self._free.pop()
        if self.held_bytes >= self.max_held_bytes:
            raise NflowError(
                f"receive: {self.leased} buffers with {self.held_bytes} bytes are held by packets, memoryviews or "
                "columns that were kept; keep bytes(packet.payload) instead, or raise max_held_bytes "
                f"(now {self.max_held_bytes})"
            )
        return Slot()

    def put(self, slot: Slot) -> None:
        """Put back a slot that was not leased."""
        if len(self._free) < _KEEP_FREE:
            self._free.append(slot)

    def lease(self, slot: Slot, used: int) -> Lease:
        """Lease a filled slot that keeps `used` bytes of memory busy."""
        slot.used = used
        self.leased += 1
        self.held_bytes += used
        return Lease(self, slot)
