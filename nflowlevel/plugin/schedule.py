# SPDX-License-Identifier: GPL-2.0-or-later
"""Schedule: when an input that polls has to poll, on a grid of times and when somebody asks."""

from __future__ import annotations

import time


class Schedule:
    """Every `secs` seconds from `start` on. A poll out of turn leaves the grid of the others as it is."""

    def __init__(self, secs: float) -> None:
        self._secs = secs
        self._next = 0.0
        self._asked = False

    def start(self) -> None:
        """Begin: the first poll is due in one interval."""
        self._next = time.monotonic() + self._secs
        self._asked = False

    @property
    def deadline(self) -> float:
        """When the next poll is due (time.monotonic); 0 for at once."""
        return 0.0 if self._asked else self._next

    def ask(self) -> None:
        """Have a poll out of turn."""
        self._asked = True

    def due(self) -> int | None:
        """Return None as long as no poll is due, else how many were missed; the next one is one interval later."""
        asked, self._asked = self._asked, False
        late = time.monotonic() - self._next
        if late < 0:
            return 0 if asked else None
        missed = int(late // self._secs)
        self._next += (missed + 1) * self._secs
        return missed
