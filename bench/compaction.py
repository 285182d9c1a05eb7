# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast does `nflowlevel compact` archive a log, and how small is the archive?

The log comes in parts, as logrotate makes them, so that the disk holds only one of them at a time. Each part is a run
of the command, with all that it costs to start it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.asking import Answer, Row, main, median_spread, take_turns, verdict
from bench.logged import write_log
from bench.netns import Field
from bench.scale import Scale

_LABEL = "nflowlevel compact"
_TARGET_PER_SEC = 200_000
_TARGET_SMALLER = 20
_PART = 1_000_000


@dataclass(frozen=True)
class Compacting:
    """One part of the log: what it took, and the archive's bytes after it."""

    contender: str
    records: int
    json_bytes: int
    cpu_secs: float
    peak_mib: float
    archive_bytes: int

    @property
    def per_sec(self) -> float:
        """Records per second of processor time."""
        return self.records / self.cpu_secs


def ask(_field: Field, scale: Scale) -> Answer:
    """Archive a log part by part."""
    answer = Answer("compaction")
    parts = max(1, scale.logged // _PART)
    with tempfile.TemporaryDirectory(prefix="nflbench-") as name:
        log = _Log(Path(name), scale.logged, scale.logged // parts)
        runs = take_turns(answer, parts, {_LABEL: log.compact}).get(_LABEL, [])
    answer.runs = list(runs)
    speeds = [run.per_sec for run in runs]
    answer.rows.append(
        Row(
            "compaction: records/s of one core",
            median_spread((speed / 1e3 for speed in speeds), ".0f", " k"),
            target=f"≥ {_TARGET_PER_SEC:,}",
            reached=verdict(speeds, lambda speed: speed >= _TARGET_PER_SEC),
        )
    )
    smaller = [sum(run.json_bytes for run in runs) / runs[-1].archive_bytes] if runs else []
    answer.rows.append(
        Row(
            "archive: bytes of JSON in one byte",
            median_spread(smaller, ".1f"),
            target=f"≥ {_TARGET_SMALLER}",
            reached=verdict(smaller, lambda times: times >= _TARGET_SMALLER),
        )
    )
    answer.rows.append(Row("compaction: peak memory", median_spread((run.peak_mib for run in runs), ".0f", " MiB")))
    return answer


class _Log:
    """A log that is rotated after so many records, and its archive."""

    def __init__(self, directory: Path, total: int, part: int) -> None:
        self._directory, self._total, self._part = directory, total, part
        self._first = 0

    def compact(self) -> Compacting:
        """Write the next part, and archive it; RuntimeError where the command fails."""
        path, archive = self._directory / "log.json.1", self._directory / "archive"
        size = write_log(path, self._first, self._part, self._total)
        self._first += self._part
        command = [sys.executable, "-m", "nflowlevel", "compact", str(path), "-o", str(archive), "--min-age", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout
            said = process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or f"{self._part:,} records" not in said:
            raise RuntimeError(f"exit {process.returncode}: {said}")
        stored = sum(file.stat().st_size for file in archive.rglob("*.parquet"))
        return Compacting(_LABEL, self._part, size, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, stored)


if __name__ == "__main__":
    raise SystemExit(main({"compaction": ask}))
