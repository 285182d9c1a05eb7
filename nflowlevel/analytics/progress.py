# SPDX-License-Identifier: GPL-2.0-or-later
"""One line on a terminal that says how far something long is. Elsewhere nothing is written."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from nflowlevel.errors import printable

#: What takes less time needs no line.
_PATIENCE_SECONDS = 0.7
_INTERVAL_SECONDS = 0.1
_BAR = 24


class Progress:
    """Progress through `total` units; None: nobody knows how many there are.

    `stream` is standard error unless given. The line is removed in the end.
    """

    def __init__(self, total: int | None, stream: TextIO | None = None) -> None:
        self._total, self._stream = total, stream or sys.stderr
        self._next = time.monotonic() + _PATIENCE_SECONDS
        self._shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.hide()

    def hide(self) -> None:
        """Remove the line, so that something else can be printed."""
        if self._shown:
            self._write("\r\x1b[K")
            self._shown = False

    def show(self, what: str, done: int, records: int) -> None:
        """Say what is done, of the total, and how many records that were."""
        self._show(f"{records:,} records · {printable(what, 40)}", done)

    def step(self, what: str, done: int) -> None:
        """Say which step begins, and how many of the total are done."""
        self._show(f"{done + 1:,} of {self._total:,} · {printable(what, 40)}" if self._total else what, done)

    def _show(self, text: str, done: int) -> None:
        now = time.monotonic()
        if now < self._next or not self._stream.isatty():
            return
        self._next = now + _INTERVAL_SECONDS
        self._shown = True
        share = min(1.0, done / self._total) if self._total else 0.0
        bar = f"[{'#' * int(share * _BAR):<{_BAR}}] {share:4.0%} " if self._total else ""
        self._write(f"\r\x1b[K{bar}{text}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
