# SPDX-License-Identifier: GPL-2.0-or-later
"""Form: what a file is made up of: what stands before the records, and where a record ends.

A `LineForm` has lines, a `BlockForm` records of several lines. Whole are those that end in a newline. A line behind the
last one was torn when its writer was killed, if it begins as a record of ours does; of a record of several lines, all
of them count as torn then. Anything else is somebody else's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Protocol, TypeAlias

from nflowlevel.delivery.framing import LINES, Blocks, Framing

#: How a record begins: with these bytes, or, where each may be one of several, these of them at each place.
Beginning: TypeAlias = bytes | Sequence[bytes]

#: The search for the last newline reads blocks of this size.
_BLOCK_BYTES = 64 << 10
#: No line is that long: a longer unfinished end was not left by us, and is closed by a newline instead of cut off.
_MAX_TORN_BYTES = 1 << 20
#: Nor does a power failure leave more zeros behind it. A file may have terabytes of them: the receive loop reads them.
_MAX_LOOKED_AT = 16 << 20
#: How such an end of a record of several lines begins: with the name of a key, or a part of it.
_ITEM = re.compile(rb"[\w.]+(=|\0*\Z)")


class Form(Protocol):
    """What `OpenFile` and `AppendFile` ask about files of a kind."""

    @property
    def framing(self) -> Framing:
        """Where the records end in what waits for the file."""

    @property
    def has_one_writer(self) -> bool:
        """Whether the records of two writers would spoil each other."""

    @property
    def described(self) -> int:
        """How much there is to say before the next record; it only grows. -1: nothing stands before records."""

    def prelude(self, described: int, *, is_empty: bool) -> bytes:
        """Return what must stand before the next record, in a file that has been told `described` of it.

        That is what `described` was then. A file that was just opened has been told -1. `is_empty`: nothing is in it.
        """

    def whole(self, reader: int, size: int) -> int | None:
        """Return where the last whole record ends in a file of `size` bytes that `reader` reads.

        None where somebody else's text follows it, which is kept and closed by a newline.
        OSError for a file of another kind, and for one that is damaged elsewhere than at its end.
        """


class LineForm:
    """A `Form` of records that are a line each; `begins` is how: without it nothing counts as ours."""

    framing: Framing = LINES
    has_one_writer = False
    described = -1

    def __init__(self, begins: Beginning = b"") -> None:
        self._begins = begins

    def prelude(self, described: int, *, is_empty: bool) -> bytes:
        """Return nothing: no line needs another before it."""
        return b""

    def whole(self, reader: int, size: int) -> int | None:
        """Return the position after the last newline of a file of `size` bytes, or None if what follows is not ours.

        Zeros count less: after a power failure a file system may show them where data had not arrived.
        """
        text, end = 0, size
        while end > 0 and text <= _MAX_TORN_BYTES and size - end < _MAX_LOOKED_AT:
            start = max(0, end - _BLOCK_BYTES)
            block = os.pread(reader, end - start, start)
            newline = block.rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                return keep if keep == size else self._end_before(reader, keep, size)
            text += len(block) - block.count(0)
            end = start
        return 0 if size == 0 or (end == 0 and text <= _MAX_TORN_BYTES and self._is_ours(reader, 0)) else None

    def _end_before(self, reader: int, keep: int, size: int) -> int | None:
        """Return where the last whole record ends, if what is behind the last newline, at `keep`, is torn and ours."""
        return keep if self._is_ours(reader, keep) else None

    def _is_ours(self, reader: int, keep: int) -> bool:
        """Tell whether what was found after the last newline, at `keep`, is the beginning of a record of ours."""
        written = os.pread(reader, len(self._begins), keep).rstrip(b"\0")
        # Nothing but zeros behind whole lines is what a power failure leaves; a file of zeros is no log.
        if not written:
            return bool(self._begins) and keep > 0
        places = [bytes((may,)) if isinstance(may, int) else may for may in self._begins]
        return bool(places) and all(byte in may for byte, may in zip(written, places, strict=False))


class BlockForm(LineForm):
    """A `Form` of records of several lines: first `mark` alone, as in no other line, then `name=value`."""

    def __init__(self, mark: bytes) -> None:
        self._first = mark + b"\n"
        super().__init__(self._first)
        self.framing = Blocks(mark)

    def _end_before(self, reader: int, keep: int, size: int) -> int | None:
        torn = os.pread(reader, min(size - keep, _MAX_TORN_BYTES), keep)
        if not torn.rstrip(b"\0") or self._first.startswith(torn.rstrip(b"\0")):
            return keep  # records in front of it are whole
        if not _ITEM.match(torn):
            return None
        start = max(0, keep - _MAX_TORN_BYTES)
        before = os.pread(reader, keep - start, start)
        found = before.rfind(b"\n" + self._first)
        if found >= 0:
            return start + found + 1
        return 0 if start == 0 and before.startswith(self._first) else None


#: Lines of which none counts as ours.
ANY_LINES = LineForm()
