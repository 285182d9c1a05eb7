# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows on their way to a sink: numbered text, each row one line, of a layout that says what its fields are.

Nothing here looks into a line. What it means is known to who renders it and to the sink: a newline byte ends a row, and
there is none within.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

#: The names of a row's fields, in their order.
Layout: TypeAlias = tuple[str, ...]


@dataclass(slots=True, frozen=True)
class Rows:
    """Some rows of one layout; they are numbered without a gap, `first` is the number of the first one."""

    layout: Layout
    first: int
    count: int
    data: bytes

    @property
    def last(self) -> int:
        """The number of the last row."""
        return self.first + self.count - 1

    def split(self, count: int) -> tuple[Rows, Rows]:
        """Return the first `count` rows, and the rest."""
        end = self._end_of(count)
        return (
            Rows(self.layout, self.first, count, self.data[:end]),
            Rows(self.layout, self.first + count, self.count - count, self.data[end:]),
        )

    def cut(self, max_rows: int, max_bytes: int) -> tuple[Rows, Rows]:
        """Return as many of the first rows as keep the limits, but at least one, and the rest."""
        end = self.data.rfind(b"\n", 0, max(0, max_bytes)) + 1
        return self.split(max(1, min(max_rows, self.data.count(b"\n", 0, end))))

    def after(self, number: int) -> Rows | None:
        """Return the rows with numbers above `number`."""
        if number < self.first:
            return self
        return self.split(number - self.first + 1)[1] if number < self.last else None

    def _end_of(self, count: int) -> int:
        """Return where the first `count` rows end in the data."""
        # find() steps from newline to newline faster than count() or split() pass them; from the nearer end.
        if count <= self.count // 2:
            end = 0
            for _ in range(count):
                end = self.data.index(b"\n", end) + 1
            return end
        end = len(self.data)
        for _ in range(self.count - count):
            end = self.data.rindex(b"\n", 0, end - 1) + 1
        return end


def joined(parts: Sequence[Rows]) -> Rows:
    """Return neighbours of one layout as one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    for left, right in pairwise(parts):
        if not follows(left, right):
            raise ValueError(f"rows {left.first}..{left.last} and {right.first}..{right.last} are not adjacent")
    count = parts[-1].last - first.first + 1
    return Rows(first.layout, first.first, count, b"".join([part.data for part in parts]))


def follows(left: Rows, right: Rows) -> bool:
    """Tell whether `right` begins where `left` ends, with the same layout."""
    return left.first + left.count == right.first and left.layout == right.layout
