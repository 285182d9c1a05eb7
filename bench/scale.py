# SPDX-License-Identifier: GPL-2.0-or-later
"""How much is measured: all of it, or just enough to show that everything runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """How much is measured. The rate is what "dense traffic" means here."""

    rounds: int = 5
    seconds: float = 3.0
    rate: int = 30_000
    flood: int = 1_000_000
    flood_rounds: int = 3
    samples: int = 20
    slow_samples: int = 8
    starts: int = 10
    peers: bool = True
    logged: int = 10_000_000
    """Records of a log that is archived and asked."""

    @property
    def count(self) -> int:
        """Packets of a paced run."""
        return int(self.rate * self.seconds)


FULL = Scale()
#: Shows that everything runs, in seconds; its figures mean little.
QUICK = Scale(
    rounds=1, seconds=0.2, flood=20_000, flood_rounds=1, samples=2, slow_samples=1, starts=1, peers=False, logged=20_000
)
