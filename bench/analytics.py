# SPDX-License-Identifier: GPL-2.0-or-later
"""How much faster is the histogram of TCP windows on an archive than DuckDB is on the JSON it was made of?

Both count the SYNs of the same log by window, in a process that is warm: the archive by `nfl.read(…).syn.count(…)`,
the JSON by `read_json`, which is given the types of the four members that it needs. The answers must be the same.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.asking import Answer, Row, main, median_spread, ratios, take_turns, times, verdict
from bench.logged import write_log
from bench.netns import Field
from bench.scale import Scale

_ARCHIVE, _JSON = "nflowlevel, archive", "DuckDB, typed JSON"
_TARGET = 20
_PART = 1_000_000
_COLUMNS = "{'tcp.window': 'USMALLINT', 'tcp.syn': 'UTINYINT', 'tcp.ack': 'UTINYINT', 'tcp.rst': 'UTINYINT'}"
_QUESTION = """
SELECT "tcp.window" AS tcp_window, count(*) AS n
FROM read_json('{files}', format = 'newline_delimited', columns = {columns})
WHERE "tcp.syn" = 1 AND "tcp.ack" = 0 AND "tcp.rst" = 0 GROUP BY 1 ORDER BY n DESC, 1
"""


@dataclass(frozen=True)
class Asked:
    """One question to one form of the log."""

    contender: str
    records: int
    seconds: float


def ask(_field: Field, scale: Scale) -> Answer:
    """Make a log and its archive, and ask both."""
    import duckdb

    import nflowlevel as nfl

    answer = Answer("analytics")
    with tempfile.TemporaryDirectory(prefix="nflbench-") as name, duckdb.connect() as connection:
        archive = _make(Path(name), scale.logged)
        with nfl.read(archive) as log:
            text = _QUESTION.format(files=f"{name}/*.json", columns=_COLUMNS)
            asking: dict[str, Callable[[], list[Any]]] = {
                _ARCHIVE: lambda: log.syn.count("tcp_window").rows(),
                _JSON: lambda: connection.execute(text).fetchall(),
            }
            if asking[_ARCHIVE]() != asking[_JSON]():
                raise RuntimeError("analytics: the archive and its JSON have different answers")
            contenders = {each: partial(_timed, each, question, scale.logged) for each, question in asking.items()}
            runs = take_turns(answer, scale.rounds, contenders)
    answer.runs = [run for made in runs.values() for run in made]
    here, there = ([run.seconds for run in runs.get(each, [])] for each in (_ARCHIVE, _JSON))
    faster = ratios(there, here)
    answer.rows.append(
        Row(
            f"SYN windows of {scale.logged:,} records: seconds",
            median_spread(here, ".3f"),
            beside=f"{_JSON} {median_spread(there, '.2f')}",
            ratio=times(faster),
            target=f"≥ {_TARGET}x",
            reached=verdict(faster, lambda ratio: ratio >= _TARGET),
        )
    )
    return answer


def _make(directory: Path, count: int) -> Path:
    """Write a log of so many records as JSON, and its archive; return the archive."""
    from nflowlevel.archive.compaction import Settings, compact
    from nflowlevel.archive.journal import Journal

    archive = directory / "archive"
    with Journal(str(archive)) as journal:
        for number, first in enumerate(range(0, count, _PART)):
            path = directory / f"{number:03}.json"
            write_log(path, first, min(_PART, count - first), count)
            compact(journal, str(path), Settings(min_age=0, keep=True))
    return archive


def _timed(contender: str, question: Callable[[], list[Any]], records: int) -> Asked:
    started = time.perf_counter()
    question()
    return Asked(contender, records, time.perf_counter() - started)


if __name__ == "__main__":
    raise SystemExit(main({"analytics": ask}))
