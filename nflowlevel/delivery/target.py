# SPDX-License-Identifier: GPL-2.0-or-later
"""Where an output's lines go: the face that files and peers share.

An output renders a batch to bytes and hands it to its `LineTarget`; everything a target can do to it (full, slow,
away, torn) is dealt with behind that face. No line is torn, none is lost without being counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from nflowlevel.stats import OutputStats

#: How much may wait in memory for a target that is away: some 80,000 JSON lines.
MAX_PENDING_BYTES = 64 << 20


class LineTarget(Protocol):
    """What an output holds: a file, or a peer."""

    stats: OutputStats

    @property
    def state(self) -> str:
        """How the target is, in a few words for the status."""

    @property
    def deadline(self) -> float | None:
        """The `time.monotonic()` at which `retry` wants to be called, or None."""

    def open(self) -> None:
        """Start; raises OutputError where waiting cannot help. Call it after the daemon's fork: threads start here."""

    def write(self, data: Buffer, records: int) -> None:
        """Take `records` complete lines, one per record; never blocks, never raises for what the target does."""

    def reopen(self) -> None:
        """After SIGHUP: open the path again, or connect again."""

    def retry(self) -> None:
        """Try again what could not be written; the loop calls it when `deadline` has passed."""

    def close(self, timeout: float) -> None:
        """Write what waits, for at most `timeout` seconds, and count what is left as dropped. A second call is idle."""
