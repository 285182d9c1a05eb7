# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs: who logged a row, by its number, for the sink's ledger.

Each start begins a run with a name of its own (a UUID) and a block of numbers of its own, and only that process gives
out numbers of the block. So a name and a number mean one row, whatever happens to the directory: a copy of it, on a
cloned machine or from a backup, begins runs of its own, and what two copies inherited has the same name and number in
both. Whoever brings inherited rows in first moves the entry of the run that logged them; the others see that.

    runs    slots of 64 bytes, each with a checksum: first number, number in doubt, name

The file has room for 256 runs from the beginning, and grows where more have rows waiting; a slot is used again when its
run has none.
"""

from __future__ import annotations

import bisect
import os
import struct
import sys
import uuid
import zlib
from dataclasses import dataclass

from nflowlevel.binding.rootpath import open_plain
from nflowlevel.logs import log
from nflowlevel.spool.segment import NUMBERS

_SLOT = struct.Struct("<QQ16sI")
_SLOT_BYTES = 64
_SLOTS = 256
_MOST_SLOTS = 1 << 16


@dataclass(slots=True)
class Run:
    """One run: its rows have numbers from `first` to `last`."""

    name: str
    first: int
    last: int = sys.maxsize
    #: The last row of a write whose answer had not come when the run stopped; 0: there was none.
    doubt: int = 0
    #: Where it is in the file; -1: nowhere.
    slot: int = -1


class Runs:
    """The runs that have rows waiting, and the one that is going on.

    Without a path nothing outlives the process. Rows from before the first run that is known are those of `base`.
    """

    def __init__(self, path: str = "", base: str = "") -> None:
        self._fd = -1
        self._runs = [Run(base, 0)]
        #: The highest number of a row that an earlier run left here.
        self.inherited = 0
        if path:
            self._fd = open_plain(path, os.O_RDWR | os.O_CREAT)
            try:
                self._read(path)
            except BaseException:
                self.close()
                raise

    @property
    def own(self) -> Run:
        """The run that is going on."""
        return self._runs[-1]

    def begin(self, first: int, *, waiting: int | None = None, inherited: int = 0) -> None:
        """Begin a run whose numbers start at `first`.

        `waiting` is the number of the oldest row that waits, `inherited` that of the newest one. Runs before are
        forgotten.
        """
        self.inherited = inherited
        base, *later = self._runs
        kept = [run for run in later if waiting is not None and run.last >= waiting]
        self._runs = [base, *kept]
        run = Run(str(uuid.uuid4()), first, slot=self._free_slot())
        self._store(run)
        self._runs.append(run)
        self._set_ends()

    def of(self, number: int) -> Run:
        """Return the run that gave out this number."""
        return self._runs[bisect.bisect_right(self._runs, number, key=lambda run: run.first) - 1]

    def rename(self, run: Run) -> None:
        """Give a run another name, as somebody else uses this one; OSError if the disk does not take it."""
        before, run.name, run.doubt = (run.name, run.slot), str(uuid.uuid4()), 0
        if run.slot < 0:
            run.slot = self._free_slot()
        try:
            self._store(run)
        except BaseException:
            run.name, run.slot = before
            raise

    def remember(self, run: Run, doubt: int) -> None:
        """Remember which row's write has not been answered; OSError if the disk does not take it."""
        run.doubt = doubt
        self._store(run)

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _read(self, path: str) -> None:
        os.posix_fallocate(self._fd, 0, _SLOTS * _SLOT_BYTES)
        data = os.pread(self._fd, _MOST_SLOTS * _SLOT_BYTES, 0)
        damaged = False
        for slot in range(len(data) // _SLOT_BYTES):
            packed = data[slot * _SLOT_BYTES :][: _SLOT.size]
            first, doubt, name, check = _SLOT.unpack(packed)
            if check == zlib.crc32(packed[:-4], 1) and first < NUMBERS:
                self._runs.append(Run(str(uuid.UUID(bytes=name)), first, doubt=doubt, slot=slot))
            elif packed.strip(b"\0"):
                damaged = True
        if damaged:
            log.error("%s is damaged: rows of an earlier run may come twice", path)
        self._runs.sort(key=lambda run: run.first)
        self._set_ends()

    def _free_slot(self) -> int:
        taken = {run.slot for run in self._runs}
        return next(slot for slot in range(len(taken) + 1) if slot not in taken)

    def _set_ends(self) -> None:
        for run, after in zip(self._runs, self._runs[1:], strict=False):
            run.last = after.first - 1

    def _store(self, run: Run) -> None:
        if run.slot < 0 or self._fd < 0:
            return
        packed = _SLOT.pack(run.first, run.doubt, uuid.UUID(run.name).bytes, 0)[:-4]
        slot = (packed + zlib.crc32(packed, 1).to_bytes(4, "little")).ljust(_SLOT_BYTES, b"\0")
        os.pwrite(self._fd, slot, run.slot * _SLOT_BYTES)
        os.fdatasync(self._fd)
