# SPDX-License-Identifier: GPL-2.0-or-later
"""By hand, and not part of `python -m bench`: clicks in `nflowlevel explore` on 100,000,000 packets of 30 days.

    python -m bench.month [DIRECTORY] [--quick] [--json FILE]

The archive is made by bench/packets.py in DIRECTORY, or in a temporary one; it takes 2.5 GB, and stays there only where
DIRECTORY is given, so that it can be asked again. Opened is the last day, as the page does it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench.asking import Answer, main
from bench.clicks import State, clicked
from bench.netns import Field
from bench.packets import BEGIN, LEAST, write_archive
from bench.scale import FULL, Scale

_DAYS = 30
#: Ten times as many as a week's log has.
_TIMES = 10
_TARGET_SECS, _TARGET_HOUR_SECS = 1.0, 0.3


def asking(directory: Path | None, field: Field, scale: Scale) -> Answer:
    """Make the archive, unless it is there, and click on its last day."""
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="nflbench-") as name:
            return asking(Path(name), field, scale)
    records = max(scale.logged * _TIMES, LEAST)
    if not any(directory.rglob("*.parquet")):
        write_archive(directory, records, _DAYS)
    end = BEGIN + _DAYS * 86_400
    day: State = (("from", str(end - 86_400)),)
    noon = end - 43_200
    targets: dict[str, tuple[State, float]] = {
        "the last day": (day, _TARGET_SECS),
        "one window of the last day": ((*day, ("tcp_window", "16384")), _TARGET_SECS),
        "all but one port of the last day": ((*day, ("!dest_port", "443")), _TARGET_SECS),
        "an hour of the last day": ((("from", str(noon)), ("to", str(noon + 3600))), _TARGET_HOUR_SECS),
    }
    is_judged = records >= FULL.logged * _TIMES
    return clicked("month", directory, records, scale.rounds, targets, is_judged=is_judged)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    place = Path(arguments.pop(0)) if arguments and not arguments[0].startswith("-") else None
    raise SystemExit(main({"month": lambda field, scale: asking(place, field, scale)}, arguments))
