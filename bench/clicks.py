# SPDX-License-Identifier: GPL-2.0-or-later
"""How long does a click in `nflowlevel explore` take: over everything, over one window of TCP, and within an hour?

The archive is made by bench/packets.py. Each click is answered as the page's server answers it, in a process that is
warm and has made its briefs of the packets; what that took is told beside. Processor time is that of all cores.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.asking import Answer, Row, main, seconds, take_turns
from bench.netns import Field
from bench.packets import BEGIN, LEAST, write_archive
from bench.scale import FULL, Scale
from nflowlevel.analytics.brief import Brief
from nflowlevel.analytics.explore import answer as answer_of
from nflowlevel.analytics.explore import briefs as briefs_of
from nflowlevel.analytics.log import Log
from nflowlevel.analytics.reading import read

_DAYS = 7
_HOUR, _DAY = 3600, 86_400
_TARGET_SECS, _TARGET_HOUR_SECS = 1.5, 0.3

State = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Clicked:
    """One click: what it took, and the packets that it was about."""

    click: str
    records: int
    packets: int
    secs: float
    cpu_secs: float


@dataclass(frozen=True)
class Made:
    """The briefs that answer clicks: what it took to make them, and their bytes in a file; 0: there is no room."""

    records: int
    bytes: int
    secs: float
    cpu_secs: float


def ask(_field: Field, scale: Scale) -> Answer:
    """Click."""
    records = max(scale.logged, LEAST)
    # At noon, when there is more than by night.
    noon = BEGIN + (_DAYS - 1) * _DAY + _DAY // 2
    hour: State = (("from", str(noon)), ("to", str(noon + _HOUR)))
    targets: dict[str, tuple[State, float]] = {
        "everything": ((), _TARGET_SECS),
        "one window of all": ((("tcp_window", "16384"),), _TARGET_SECS),
        "all but one window": ((("!tcp_window", "64240"),), _TARGET_SECS),
        "an hour": (hour, _TARGET_HOUR_SECS),
        "one port of an hour": ((*hour, ("dest_port", "443")), _TARGET_HOUR_SECS),
    }
    with tempfile.TemporaryDirectory(prefix="nflbench-") as name:
        write_archive(Path(name), records, _DAYS)
        return clicked("clicks", Path(name), records, scale.rounds, targets, is_judged=records >= FULL.logged)


def clicked(
    question: str,
    archive: Path,
    records: int,
    rounds: int,
    targets: Mapping[str, tuple[State, float]],
    *,
    is_judged: bool,
) -> Answer:
    """Return how long clicks take; of fewer records than a target is for, it is not told whether it is reached."""
    answer = Answer(question)
    with read(archive) as log:
        made, briefs = _make(log, records)
        contenders = {
            click: partial(_click, log, briefs, click, state, records) for click, (state, _) in targets.items()
        }
        runs = take_turns(answer, rounds, contenders)
    answer.runs = [made, *(run for of_one in runs.values() for run in of_one)]
    answer.rows.append(
        Row(
            f"explore, what it makes beside the first clicks: {made.bytes / 1e6:,.0f} MB",
            f"{made.secs:.1f} s",
            beside=f"CPU {made.cpu_secs:.1f} s",
        )
    )
    for click, of_one in runs.items():
        figure, most = f"explore, {click}: {of_one[0].packets:,} packets", targets[click][1] if is_judged else None
        answer.rows.append(seconds(figure, [run.secs for run in of_one], (run.cpu_secs for run in of_one), ".2f", most))
    return answer


def _make(log: Log, records: int) -> tuple[Made, tuple[Brief, ...]]:
    before, cpu, begin = _size(log), time.process_time(), time.perf_counter()
    briefs = tuple(briefs_of(log))
    secs, cpu_secs = time.perf_counter() - begin, time.process_time() - cpu
    return Made(records, _size(log) - before if briefs else 0, secs, cpu_secs), briefs


def _size(log: Log) -> int:
    """Return the bytes of what a log has read and made."""
    return sum(path.stat().st_size for path in log.directory.rglob("*") if path.is_file()) if log.directory else 0


def _click(log: Log, briefs: tuple[Brief, ...], name: str, state: State, records: int) -> Clicked:
    cpu, begin = time.process_time(), time.perf_counter()
    found = answer_of(log, state, *briefs)
    if not found["count"] or not found["records"]:
        raise RuntimeError(f"{name}: there are no packets")
    return Clicked(name, records, found["count"], time.perf_counter() - begin, time.process_time() - cpu)


if __name__ == "__main__":
    raise SystemExit(main({"clicks": ask}))
