# SPDX-License-Identifier: GPL-2.0-or-later
"""Accounting objects as they were read: one as a Counter, many as a CounterTable of columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import overload

import msgspec

from nflowlevel.binding.buffers import RecordArray
from nflowlevel.binding.nfacct import BYTE_QUOTA, OVER_QUOTA, PACKET_QUOTA, CounterArray
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import SumCondition
from nflowlevel.records.sums import SUM


class Counter(msgspec.Struct, frozen=True, gc=False):
    """One accounting object, as it was at the time of reading."""

    name: str
    """Bytes that are not UTF-8 are Python's surrogates ("\\udcff" is 0xff)."""
    packets: int
    bytes: int
    quota: int | None = None
    """Packets or bytes (`quota_unit`) beyond which its rules begin to match; None: its rules match always."""
    flags: int = 0
    """The kernel's flags: NFACCT_F_QUOTA_PKTS 1, NFACCT_F_QUOTA_BYTES 2, NFACCT_F_OVERQUOTA 4."""
    rules: int = 0
    """Number of rules that count into it."""

    @property
    def quota_unit(self) -> str | None:
        """`packets` or `bytes`, or None without a quota."""
        return "packets" if self.flags & PACKET_QUOTA else "bytes" if self.flags & BYTE_QUOTA else None

    @property
    def over_quota(self) -> bool:
        """Whether its quota was reached since it was last zeroed."""
        return bool(self.flags & OVER_QUOTA)


class CounterTable(Sequence[Counter]):
    """Accounting objects that were read together, in the order of their creation: a sequence of Counter, and columns.

    The columns are read-only memoryviews of numbers, without a copy: call `tolist()` or pass them to `numpy.asarray`.
    """

    def __init__(self, counters: CounterArray, *, recovered: int = 0, malformed: int = 0, error: str = "") -> None:
        #: As C has them.
        self.counters = counters
        #: Objects that the kernel had zeroed without telling; their counts were taken from the list made before.
        self.recovered = recovered
        #: Messages that could not be decoded: their counts are lost if they were zeroed.
        self.malformed = malformed
        #: Why this is not all: what ended the dump early. What is missing was not zeroed.
        self.error = error

    @cached_property
    def names(self) -> list[str]:
        """The names; bytes that are not UTF-8 are Python's surrogates."""
        return self.counters.names()

    @cached_property
    def packets(self) -> memoryview:
        """Packets counted."""
        return self.counters.column("packets")

    @cached_property
    def bytes(self) -> memoryview:
        """Bytes counted."""
        return self.counters.column("bytes")

    @cached_property
    def quotas(self) -> memoryview:
        """Quotas; 0 if an object has none, see `flags`."""
        return self.counters.column("quota")

    @cached_property
    def flags(self) -> memoryview:
        """NFACCT_F_* as in Counter."""
        return self.counters.column("flags")

    @cached_property
    def uses(self) -> memoryview:
        """References in the kernel: 1, and 1 more for each rule."""
        return self.counters.column("uses")

    def batch(self, time: tuple[int, int | None], *, stamp: bool) -> Batch:
        """Return the counters as a batch of records, over the same memory: `sum.name`, `sum.pkts`, `sum.bytes`.

        `time` is that of the reading: seconds since 1970, and microseconds or None. With `stamp` each record
        says it too.
        """
        counters = self.counters
        if stamp:
            counters.stamp(time[0], time[1] or 0)
        valid = (1 << SumCondition.ALWAYS.value) | (stamp << SumCondition.TIME.value)
        array = RecordArray(counters.records, counters.count)
        return Batch(array, counters.count, type=SUM, valid_any=valid, valid_all=valid, time=time)

    def __len__(self) -> int:
        return self.counters.count

    @overload
    def __getitem__(self, index: int) -> Counter: ...
    @overload
    def __getitem__(self, index: slice) -> list[Counter]: ...
    def __getitem__(self, index: int | slice) -> Counter | list[Counter]:
        try:
            rows = range(len(self))[index]
        except IndexError:
            raise IndexError(f"there is no accounting object {index}: the table has {len(self)}") from None
        return self._counter(rows) if isinstance(rows, int) else list(map(self._counter, rows))

    def __iter__(self) -> Iterator[Counter]:
        columns = (self.packets, self.bytes, self.quotas, self.flags, self.uses)
        rows = zip(self.names, *(column.tolist() for column in columns), strict=True)
        for name, packets, size, quota, flags, uses in rows:
            yield Counter(name, packets, size, quota if flags else None, flags, uses - 1)

    def _counter(self, row: int) -> Counter:
        record = self.counters.records[row]
        quota = record.quota if record.flags else None
        return Counter(self.names[row], record.packets, record.bytes, quota, record.flags, record.uses - 1)

    def __repr__(self) -> str:
        return f"<CounterTable of {len(self)} accounting objects>"
