# SPDX-License-Identifier: GPL-2.0-or-later
"""CapturePlan: packets as the records of a capture file. The loop is in _cdefs/capturewrite.c."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.binding.interfaces import NO_NAMES, NameTable
from nflowlevel.records.render import Records

#: A buffer starts with the first size and grows up to the second to hold a batch in one piece; only a larger packet
#: makes a larger one.
_FIRST_OUT_BYTES = 1 << 18
_MOST_OUT_BYTES = 1 << 22
_ALL_DESCRIBED = 0xFFFFFFFF

_uninitialised = ffi.new_allocator(should_clear_after_alloc=False)


class Numbering(Protocol):
    """What a file knows of itself."""

    link_type: int
    snaplen: int
    blocks: bool
    generation: int

    def number_of(self, place: object, index: int, name: str) -> int:
        """Return the number of an interface in the file."""


class _Interfaces:
    """The numbers of the interfaces of one place, under the names that they have at the moment."""

    def __init__(self) -> None:
        self.names = NO_NAMES
        self.numbers: dict[int, int] = {}
        self.array: CData = ffi.NULL


class CapturePlan:
    """Packets as records of a file of one format and link type."""

    def __init__(self, file: Numbering) -> None:
        self._file = file
        self._writer = ffi.new(
            "struct nfl_capture_writer *", {"linktype": file.link_type, "snaplen": file.snaplen, "blocks": file.blocks}
        )
        self._done = ffi.new("uint32_t *")
        self._places: dict[object, _Interfaces] = {}
        self._generation = file.generation
        self._grow(_FIRST_OUT_BYTES)

    def _grow(self, size: int) -> None:
        self._size = size
        self._out: CData = _uninitialised("char[]", size)
        self._view = memoryview(ffi.buffer(self._out))

    def render(self, batch: Records, *, group: int = 0, place: object = None) -> Iterator[tuple[memoryview, int, int]]:
        """Yield (records, their number, packets left out as the link type cannot hold them); usually once.

        `place` tells the interfaces of one network namespace from those of another. A memoryview is good until the next
        is asked for.
        """
        writer, rows, first, used = self._writer, batch.as_c(), 0, 0
        writer.group = group
        if self._file.blocks:
            self._describe(place, batch.names)
        written = unfit = 0
        while first < batch.count:
            used += lib.nfl_capture_write(writer, rows, first, self._out + used, self._size - used, self._done)
            first = self._done[0]
            written += writer.written
            unfit += writer.unfit
            if first == batch.count:
                break
            if writer.undescribed != _ALL_DESCRIBED:
                self._learn(place, writer.undescribed)
                continue
            if used or unfit:
                yield self._view[:used], written, unfit
            if self._size < _MOST_OUT_BYTES or not used:
                # Most batches are alike: a buffer that holds this one whole will hold the next ones too.
                self._grow(self._size * 2)
            used = written = unfit = 0
        if used or unfit:
            yield self._view[:used], written, unfit

    def _describe(self, place: object, names: NameTable) -> None:
        """Have the interfaces of this place looked up; what has another name now is another interface."""
        if self._generation != self._file.generation:
            self._generation = self._file.generation
            self._places.clear()
        interfaces = self._places.setdefault(place, _Interfaces())
        if interfaces.names is not names:
            interfaces.names = names
            for index in interfaces.numbers:
                interfaces.numbers[index] = self._file.number_of(place, index, names.names.get(index, ""))
            self._fill(interfaces)
        self._writer.interfaces, self._writer.interface_count = interfaces.array, len(interfaces.numbers)

    def _learn(self, place: object, index: int) -> None:
        interfaces = self._places[place]
        interfaces.numbers[index] = self._file.number_of(place, index, interfaces.names.names.get(index, ""))
        self._fill(interfaces)
        self._writer.interfaces, self._writer.interface_count = interfaces.array, len(interfaces.numbers)

    @staticmethod
    def _fill(interfaces: _Interfaces) -> None:
        interfaces.array = ffi.new("struct nfl_described[]", sorted(interfaces.numbers.items()))
