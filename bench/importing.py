# SPDX-License-Identifier: GPL-2.0-or-later
"""How many lines of the kernel's LOG target a second does `nflowlevel import` archive?

Each round is a run of the command over a log of its own, with all that it costs to start it. Nine of ten lines are the
kernel's, one is of another program.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.asking import Answer, Row, main, median_spread, take_turns, verdict
from bench.netns import Field
from bench.scale import Scale

_LABEL = "nflowlevel import"
_TARGET_PER_SEC = 60_000
#: Of the records that a log of this scale has, so many are imported in a round.
_SHARE = 10
_START = 1_795_509_000
_LINES_PER_SEC = 40


@dataclass(frozen=True)
class Importing:
    """One log: what it took."""

    contender: str
    lines: int
    cpu_secs: float
    peak_mib: float

    @property
    def per_sec(self) -> float:
        """Lines per second of processor time."""
        return self.lines / self.cpu_secs


def ask(_field: Field, scale: Scale) -> Answer:
    """Import a log in each round."""
    answer = Answer("importing")
    lines = scale.logged // _SHARE
    with tempfile.TemporaryDirectory(prefix="nflbench-") as name:
        runs = take_turns(answer, scale.rounds, {_LABEL: _Log(Path(name), lines).imported}).get(_LABEL, [])
    answer.runs = list(runs)
    speeds = [run.per_sec for run in runs]
    answer.rows.append(
        Row(
            "import: lines/s of one core",
            median_spread((speed / 1e3 for speed in speeds), ".0f", " k"),
            target=f"≥ {_TARGET_PER_SEC:,}",
            reached=verdict(speeds, lambda speed: speed >= _TARGET_PER_SEC),
        )
    )
    answer.rows.append(Row("import: peak memory", median_spread((run.peak_mib for run in runs), ".0f", " MiB")))
    return answer


class _Log:
    """A log with so many lines, another one for each round."""

    def __init__(self, directory: Path, lines: int) -> None:
        self._directory, self._lines = directory, lines
        self._round = 0

    def imported(self) -> Importing:
        """Write a log, and import it; RuntimeError where the command fails."""
        self._round += 1
        path = self._directory / "kern.log"
        packets = write_lines(path, self._lines, self._round)
        command = [sys.executable, "-m", "nflowlevel", "import", str(path), "-o", str(self._directory / "archive")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout
            said = process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or f" {packets:,} records" not in said:
            raise RuntimeError(f"exit {process.returncode}: {said}")
        return Importing(_LABEL, self._lines, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def write_lines(path: Path, lines: int, seed: int) -> int:
    """Write a log, and return how many of its lines are packets."""
    chance = random.Random(seed)
    packets = 0
    with path.open("w") as file:
        for number in range(lines):
            now = time.localtime(_START + number // _LINES_PER_SEC)
            head = f"{time.strftime('%b', now)} {now.tm_mday:2} {time.strftime('%H:%M:%S', now)} fw "
            if number % 10 == 9:
                file.write(f"{head}systemd[1]: Started session {number} of user root.\n")
                continue
            packets += 1
            file.write(
                f"{head}kernel: [{1000 + number / _LINES_PER_SEC:.6f}] DROP in: IN=eth0 OUT= "
                "MAC=02:77:00:00:00:01:02:77:00:00:00:02:08:00 "
                f"SRC=198.51.{chance.randrange(256)}.{chance.randrange(256)} DST=192.0.2.1 LEN=60 TOS=0x00 PREC=0x00 "
                f"TTL={chance.randrange(30, 64)} ID={chance.randrange(65536)} DF {_protocol(chance)}\n"
            )
    return packets


def _protocol(chance: random.Random) -> str:
    ports = f"SPT={chance.randrange(1024, 65536)} DPT={chance.choice((22, 23, 53, 445, 3389))}"
    if chance.random() < 0.2:
        return f"PROTO=UDP {ports} LEN=40 "
    return f"PROTO=TCP {ports} WINDOW=64240 RES=0x00 SYN URGP=0 "


if __name__ == "__main__":
    raise SystemExit(main({"importing": ask}))
