# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory of the table of flows in C (_cdefs/flowtable.h): what was last known, and reported, of each flow.

A table has room for as many flows as its owner says; memory is taken as it is used, 290 bytes a flow. What it makes are
records of their own (`RecordArray`), which nothing changes afterwards: the array that they are made in is used again
when nothing looks into it any more.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from functools import partial
from operator import setitem

from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.binding.buffers import RecordArray
from nflowlevel.binding.conntrack import FLOW_BYTES, ROOM_FLOWS, mapped

#: Records that one piece of a scan makes at most.
SCANNED = 16384
#: For so long an end that was presumed may still be told by the kernel.
_ENDED_NS = 60 * 10**9
_ENTRY_BYTES: int = ffi.sizeof("struct nfl_flow_entry")
#: Of a flow that was saved.
KEPT_BYTES: int = ffi.sizeof("struct nfl_flow_kept")
_SAVED = 4096
_OUT_FLOWS = max(2 * ROOM_FLOWS, SCANNED)
#: So few records are copied, rather than keep an array from being used again.
_FEW = 256
#: Arrays that are kept for the next records. Fresh memory costs as much as what is done with it.
_KEPT_ARRAYS = 2

_uninitialised = ffi.new_allocator(should_clear_after_alloc=False)

#: enum nfl_flow_end
ACTIVE, FORCED = lib.NFL_FLOW_ACTIVE, lib.NFL_FLOW_FORCED


class Made:
    """Records that the table has made: as a batch reads them."""

    __slots__ = ("count", "records", "valid_all", "valid_any")

    def __init__(self, records: RecordArray | None, count: int, valid_any: int, valid_all: int) -> None:
        self.records = records
        self.count = count
        self.valid_any = valid_any
        self.valid_all = valid_all


def _power(least: int) -> int:
    return 1 << max(least - 1, 1).bit_length()


class FlowTable:
    """A table for `capacity` flows; with 0 it keeps none, and each event is a record.

    `ends`: of so many flows it remembers that their end was told, as long as others end; the kernel may tell it again.
    """

    def __init__(self, capacity: int, *, ends: int, sees_new: bool) -> None:
        heads = _power(capacity)
        past = _power(2 * ends)
        self._memory: list[mmap.mmap] = []
        self.data: CData = ffi.new(
            "struct nfl_flowtable *",
            {
                "entries": self._map("struct nfl_flow_entry *", capacity * _ENTRY_BYTES),
                "heads": self._map("uint32_t *", heads * 4),
                "past": [self._map("uint64_t *", past * 8) for _ in range(2)],
                "seed": int.from_bytes(os.urandom(8), "big"),
                "capacity": capacity,
                "mask": heads - 1,
                "past_mask": past - 1,
                "keep": bool(capacity),
                "sees_new": sees_new,
            },
        )
        #: Arrays that nothing looks into; a destructor puts them in, in any thread.
        self._free: dict[CData, object] = {}
        self._scan: CData = ffi.new("struct nfl_flow_scan *")

    def _map(self, type_: str, size: int) -> CData:
        memory = mapped(size)
        self._memory.append(memory)
        return ffi.cast(type_, ffi.from_buffer(memory))

    def __len__(self) -> int:
        return int(self.data.count)

    @property
    def capacity(self) -> int:
        """How many flows have room."""
        return int(self.data.capacity)

    # -- events and dumps ----------------------------------------------------------------------------------------

    def take(self, events: CData, count: int) -> Made:
        """Take `count` events, at most ROOM_FLOWS, in their order; return the records that they make."""
        self._now()
        out = self._array()
        return self._made(out, lib.nfl_flowtable_take(self.data, events, count, out))

    def begin(self) -> None:
        """A dump begins."""
        lib.nfl_flowtable_begin(self.data)

    def list(self, flows: CData, count: int, *, listening_ns: int) -> Made:
        """Take a piece of the dump; of flows that began before `listening_ns` the kernel may never tell the end."""
        self._now()
        out = self._array()
        return self._made(out, lib.nfl_flowtable_list(self.data, flows, count, listening_ns, out))

    # -- scans ---------------------------------------------------------------------------------------------------

    def scan(
        self,
        *,
        older_ns: int | None,
        gone: bool,
        wait: bool = False,
        idle: bool = False,
        reason: int = ACTIVE,
        ends: bool = False,
    ) -> None:
        """Begin to look through all flows; `scanned` gives the records.

        older_ns: report what goes on and had no record for so long; None: nothing of what goes on.
        gone: report as ended what the last dump has not shown; `wait`: but not what the kernel has yet to tell of.
        idle: report also what has counted nothing. reason: flow.end.reason of what goes on.
        ends: what goes on is reported as ended, and forgotten.
        """
        now = time.monotonic_ns()
        self.data.cursor = 0
        scan = self._scan
        scan.since_ns = 0 if older_ns is None else max(1, now - older_ns)
        scan.forget_ns = max(0, now - _ENDED_NS)
        scan.gone, scan.wait, scan.idle, scan.reason, scan.ends = gone, wait, idle, reason, ends

    def scanned(self) -> tuple[Made, bool]:
        """Return the next records, and whether there may be more."""
        self._now()
        out = self._array()
        made = self._made(out, lib.nfl_flowtable_scan(self.data, self._scan, out, SCANNED))
        return made, self.data.cursor < self.data.top

    # -- from run to run -----------------------------------------------------------------------------------------

    def save(self) -> Iterator[bytes]:
        """Yield what another run has to know of flows that go on and were reported in part."""
        out = _uninitialised("struct nfl_flow_kept[]", _SAVED)
        self.data.cursor = 0
        while count := lib.nfl_flowtable_save(self.data, out, _SAVED):
            yield bytes(ffi.buffer(out, count * KEPT_BYTES))

    def restore(self, saved: bytes) -> int:
        """Know what `save` gave; the number of flows. Call it before the first dump."""
        self._now()
        kept = ffi.from_buffer("struct nfl_flow_kept[]", saved)
        return int(lib.nfl_flowtable_restore(self.data, kept, len(saved) // KEPT_BYTES))

    def _now(self) -> None:
        data = self.data
        data.real_ns, data.clock_ns = time.time_ns(), time.monotonic_ns()
        data.valid_any, data.valid_all = 0, 2**64 - 1

    def _array(self) -> CData:
        while len(self._free) > _KEPT_ARRAYS:
            self._free.popitem()
        if self._free:
            return self._free.popitem()[0]
        return ffi.from_buffer("struct nfl_flow[]", mapped(_OUT_FLOWS * FLOW_BYTES))

    def _made(self, out: CData, count: int) -> Made:
        """Return the first `count` records of an array, which is free again at the latest when they are gone."""
        if count > _FEW:
            # Nothing of Python's runs in the destructor: an interrupt would be lost there.
            records = ffi.gc(ffi.cast("struct nfl_flow *", out), partial(setitem, self._free, out))
        else:
            records = _uninitialised("struct nfl_flow[]", count)
            ffi.memmove(records, out, count * FLOW_BYTES)
            self._free[out] = None
        if not count:
            return Made(None, 0, 0, 0)
        return Made(RecordArray(records, count), count, self.data.valid_any, self.data.valid_all)

    @property
    def counted(self) -> CData:
        """The table's counters: unmatched, untracked, repeated, replaced, presumed, returned, reset."""
        return self.data
