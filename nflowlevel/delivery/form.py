# SPDX-License-Identifier: GPL-2.0-or-later
"""Form: what a file is made up of that is not simply lines: what stands before the records, and where a record ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nflowlevel.delivery.framing import Framing


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
        """How much there is to say before the next record; it only grows."""

    def prelude(self, described: int, *, is_empty: bool) -> bytes:
        """Return what must stand before the next record, in a file that has been told `described` of it.

        That is what `described` was then. A file that was just opened has been told -1. `is_empty`: nothing is in it.
        """

    def whole(self, reader: int, size: int) -> int:
        """Return where the last whole record ends in a file of `size` bytes that `reader` reads.

        OSError for a file of another kind, and for one that is damaged elsewhere than at its end.
        """
