# SPDX-License-Identifier: GPL-2.0-or-later
"""How long does `nflowlevel report` take on a week of packets: of the last day, and of all of it?

The archive is made by bench/packets.py; a fifth as many flows lie beside. Each run is one of the command, with all that
it costs to start it. Processor time is that of all cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.asking import Answer, main, seconds, take_turns
from bench.netns import Field
from bench.packets import LEAST, write_archive, write_flows
from bench.scale import FULL, Scale

#: The arguments of a report, and the most seconds that it should take.
_REPORTS = {"the last day": (("--since", "24h"), 6.0), "all": ((), 45.0)}
_MOST_BYTES = 400_000


@dataclass(frozen=True)
class Reported:
    """One report: what it took, and how large it is."""

    report: str
    records: int
    secs: float
    cpu_secs: float
    peak_mib: float
    size: int


def ask(_field: Field, scale: Scale) -> Answer:
    """Make the reports."""
    answer = Answer("report_page")
    records = max(scale.logged, LEAST)
    with tempfile.TemporaryDirectory(prefix="nflbench-") as name:
        archive = Path(name) / "archive"
        write_archive(archive, records)
        write_flows(archive, records // 5)
        contenders = {
            report: partial(_report, archive, report, arguments, records) for report, (arguments, _) in _REPORTS.items()
        }
        runs = take_turns(answer, min(scale.rounds, 3), contenders)
    answer.runs = [run for of_one in runs.values() for run in of_one]
    for report, of_one in runs.items():
        figure, most = f"report of {report}: {of_one[0].size:,} bytes", _REPORTS[report][1]
        answer.rows.append(
            seconds(
                figure,
                [run.secs for run in of_one],
                (run.cpu_secs for run in of_one),
                ".1f",
                most if records >= FULL.logged else None,
            )
        )
    return answer


def _report(archive: Path, name: str, arguments: tuple[str, ...], records: int) -> Reported:
    page = archive.parent / "report.html"
    command = [sys.executable, "-m", "nflowlevel", "report", str(archive), *arguments, "-o", str(page)]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    secs, size = time.perf_counter() - begin, page.stat().st_size if page.exists() else 0
    if process.returncode or not 0 < size < _MOST_BYTES:
        raise RuntimeError(f"exit {process.returncode}, {size} bytes: {said}")
    return Reported(name, records, secs, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, size)


if __name__ == "__main__":
    raise SystemExit(main({"report_page": ask}))
