# SPDX-License-Identifier: GPL-2.0-or-later
"""Framing: where the bytes that wait for a peer may be cut.

After a break a connection goes on with the beginning of a record, a datagram carries whole records, and what is counted
is records: all of that asks where one ends. `Lines` has one or several lines for each record, `Blocks` as many as it
has values, `Frames` many records in a piece that cannot be cut.
"""

from __future__ import annotations

from typing import Protocol


class Framing(Protocol):
    """Where records end in a piece of data that begins with one."""

    @property
    def joins(self) -> bool:
        """Whether pieces may be put together."""

    def before(self, data: bytearray, position: int) -> tuple[int, int]:
        """Return how many records, and how many bytes of them, end at or before `position`."""

    def after(self, data: bytearray, position: int) -> int:
        """Return where the first record ends that does so at or after `position`, or the end of the data."""

    def datagram(self, data: bytearray, offset: int) -> int:
        """Return where the datagram ends that begins at `offset`."""


class Lines:
    """`per_record` lines for each record; as many records in a datagram as `datagram_bytes` hold, but at least one."""

    joins = True

    def __init__(self, per_record: int = 1, datagram_bytes: int = 0) -> None:
        self._per_record, self._datagram_bytes = per_record, datagram_bytes

    def before(self, data: bytearray, position: int) -> tuple[int, int]:
        """Return how many records, and how many bytes of them, end at or before `position`."""
        return self._whole(data, 0, position)

    def after(self, data: bytearray, position: int) -> int:
        """Return where the first record ends that does so at or after `position`, or the end of the data."""
        end = self.before(data, position)[1]
        return end if end == position else self._next(data, end)

    def datagram(self, data: bytearray, offset: int) -> int:
        """Return where the datagram ends that begins at `offset`."""
        most = offset + self._datagram_bytes
        if len(data) <= most:
            return len(data)
        return max(self._whole(data, offset, most)[1], self._next(data, offset))

    def _whole(self, data: bytearray, start: int, position: int) -> tuple[int, int]:
        """Return how many records lie between `start`, where one begins, and `position`, and where the last ends."""
        lines = data.count(b"\n", start, position)
        end = data.rfind(b"\n", start, position) + 1 or start
        for _ in range(lines % self._per_record):
            end = data.rfind(b"\n", start, end - 1) + 1 or start
        return lines // self._per_record, end

    def _next(self, data: bytearray, end: int) -> int:
        """Return where the record ends that begins at `end`."""
        for _ in range(self._per_record):
            end = data.find(b"\n", end) + 1 or len(data)
        return end


class Blocks:
    """Several lines for each record, the first of which begins with `first`, as no other does; one in a datagram."""

    joins = True

    def __init__(self, first: bytes) -> None:
        self._mark, self._ahead = b"\n" + first, len(first)

    def before(self, data: bytearray, position: int) -> tuple[int, int]:
        """Return how many records, and how many bytes of them, end at or before `position`."""
        if position >= len(data):
            return data.count(self._mark) + bool(data), len(data)
        upto = position + self._ahead
        return data.count(self._mark, 0, upto), data.rfind(self._mark, 0, upto) + 1

    def after(self, data: bytearray, position: int) -> int:
        """Return where the first record ends that does so at or after `position`, or the end of the data."""
        return self.datagram(data, position - 1) if position else 0

    def datagram(self, data: bytearray, offset: int) -> int:
        """Return where the record ends that begins at `offset`."""
        return data.find(self._mark, offset) + 1 or len(data)


class Frames:
    """Frames of a binary protocol, each with its length in 4 bytes before it: sent again as a whole, or not at all.

    Each holds `per_frame` records; only the last one of a piece may hold fewer.
    """

    joins = False

    def __init__(self, per_frame: int) -> None:
        self._per_frame = per_frame

    def before(self, data: bytearray, position: int) -> tuple[int, int]:
        """Return how many records, and how many bytes of them, end at or before `position`."""
        frames = end = 0
        while (following := self._next(data, end)) <= position and end < len(data):
            frames, end = frames + 1, following
        return frames * self._per_frame, end

    def after(self, data: bytearray, position: int) -> int:
        """Return where the first frame ends that does so at or after `position`, or the end of the data."""
        end = 0
        while end < min(position, len(data)):
            end = self._next(data, end)
        return min(end, len(data))

    def datagram(self, data: bytearray, offset: int) -> int:
        """Return the end of the frame that begins at `offset`."""
        return self._next(data, offset)

    @staticmethod
    def _next(data: bytearray, at: int) -> int:
        return at + 4 + int.from_bytes(data[at : at + 4], "big")


#: One line for each record, one record in a datagram: what most receivers of lines expect.
LINES = Lines()
