# SPDX-License-Identifier: GPL-2.0-or-later
"""Pauses between attempts that grow: each is twice the one before, up to the longest."""

from __future__ import annotations

#: The first pause, unless it is asked for otherwise.
FIRST_SECS = 0.1


class Backoff:
    """Says how long to pause before the next attempt; `longest` and `first` are seconds."""

    def __init__(self, longest: float, first: float = FIRST_SECS) -> None:
        self.longest, self.first = longest, first
        self._next = first

    def reset(self) -> None:
        """Begin with the first pause again: something has worked."""
        self._next = self.first

    def pause(self) -> float:
        """Return the seconds to pause now; the next pause is twice as long."""
        seconds, self._next = self._next, min(self._next * 2, self.longest)
        return seconds
