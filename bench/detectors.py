# SPDX-License-Identifier: GPL-2.0-or-later
"""How long does each detector take on a week of packets, and does it find what is planted in them?

The archive is made by bench/packets.py; a fifth as many flows lie beside. Each detector is asked as `nflowlevel find`
asks it, with its usual parameters. Processor time is that of all cores.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.asking import Answer, Row, main, seconds, take_turns
from bench.netns import Field
from bench.packets import LEAST, PLANTED, write_archive, write_flows
from bench.scale import FULL, Scale
from nflowlevel.analytics.log import Log
from nflowlevel.analytics.reading import read
from nflowlevel.analytics.registry import names

_TARGET_SECS = 10.0


@dataclass(frozen=True)
class Asked:
    """One question to one detector."""

    detector: str
    records: int
    secs: float
    cpu_secs: float
    findings: int


def ask(_field: Field, scale: Scale) -> Answer:
    """Ask each detector."""
    answer = Answer("detectors")
    records = max(scale.logged, LEAST)
    with tempfile.TemporaryDirectory(prefix="nflbench-") as name:
        archive = Path(name)
        size = write_archive(archive, records)
        write_flows(archive, records // 5)
        with read(archive) as log:
            contenders = {name: partial(_ask, log, name, records) for name in names()}
            runs = take_turns(answer, min(scale.rounds, 3), contenders)
    answer.runs = [run for of_one in runs.values() for run in of_one]
    # The target is for ten millions; of fewer records it says little.
    most = _TARGET_SECS if records >= FULL.logged else None
    for detector, of_one in runs.items():
        figure = f"find {detector}: {of_one[0].findings} findings"
        answer.rows.append(seconds(figure, [run.secs for run in of_one], (run.cpu_secs for run in of_one), ".2f", most))
    answer.rows.append(Row("archive: bytes a record", f"{size / records:.1f}"))
    return answer


def _ask(log: Log, name: str, records: int) -> Asked:
    cpu, begin = time.process_time(), time.perf_counter()
    found = len(log.find(name).rows())
    if found < PLANTED.get(name, 1):
        raise RuntimeError(f"{name} found {found}; {PLANTED.get(name, 1)} are planted")
    return Asked(name, records, time.perf_counter() - begin, time.process_time() - cpu, found)


if __name__ == "__main__":
    raise SystemExit(main({"detectors": ask}))
