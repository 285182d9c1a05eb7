# SPDX-License-Identifier: GPL-2.0-or-later
"""How many packets of a steady stream never become rows, and how late are the others?

20,000 and 50,000 packets a second for a minute into PostgreSQL; nflowlevel and ulogd2 with nothing set but where the
database is. Lost is what the rule counted less the rows in the table, once no more have come for a while; late is the
time from the last packet to the last row.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.asking import Answer, Row, main, median_spread, take_turns
from bench.databases import (
    OURS,
    ULOGD2,
    PostgresStore,
    arrive,
    command,
    configuration,
    counted,
    failing,
    postgresql,
    problems,
    ulogd2_missing,
)
from bench.netns import Field
from bench.programs import send
from bench.running import running
from bench.scale import Scale
from tests.fix_postgres import Postgres

_RATES = (20_000, 50_000)
_SCHEMAS = {"flat": "ulogd2's flat schema", "own": "our schema"}
_SECONDS = 60
_QUICK_SECONDS = 1
#: No row for so long: no more will come. A checkpoint of the server can make it pause.
_PATIENCE_SECS = 10.0
_QUICK_PATIENCE_SECS = 2.0
_MEMORY_MB = 150


@dataclass(frozen=True)
class Run:
    """One contender, one rate, one schema. `late_secs`: how long rows still came after the last packet."""

    contender: str
    schema: str
    rate: int
    sent_rate: float
    packets: int
    rows: int
    lost: int
    late_secs: float
    cpu_us: float
    server_us: float
    peak_kb: int
    problems: str


def ask(field: Field, scale: Scale) -> Answer:
    """Measure both rates, once: it takes minutes."""
    answer = Answer("sql_loss")
    seconds = _QUICK_SECONDS if scale.rounds == 1 else _SECONDS
    if why := ulogd2_missing("PGSQL"):
        answer.failed[ULOGD2] = why
    try:
        with postgresql() as server:
            for rate in _RATES:
                _ask_rate(field, server, answer, rate, seconds)
    except RuntimeError as error:
        answer.failed["PGSQL"] = str(error)
    return answer


def _ask_rate(field: Field, server: Postgres, answer: Answer, rate: int, seconds: int) -> None:
    contenders: dict[str, Callable[[], Run]] = {
        f"{OURS} {schema}, {rate}/s": functools.partial(_measure, field, server, OURS, schema, rate, seconds)
        for schema in _SCHEMAS
    }
    if ULOGD2 not in answer.failed:
        contenders[f"{ULOGD2} flat, {rate}/s"] = functools.partial(
            _measure, field, server, ULOGD2, "flat", rate, seconds
        )
    runs = [run for made in take_turns(answer, 1, contenders).values() for run in made]
    answer.runs += runs
    for schema in _SCHEMAS:
        ours = [run for run in runs if (run.contender, run.schema) == (OURS, schema)]
        theirs = [run for run in runs if (run.contender, run.schema) == (ULOGD2, schema)]
        answer.rows += _rows(f"{rate:,}/s for {seconds} s, {_SCHEMAS[schema]}", ours, theirs)


def _measure(field: Field, server: Postgres, contender: str, schema: str, rate: int, seconds: int) -> Run:
    with (
        failing(),
        contextlib.closing(PostgresStore(server, schema)) as store,
        tempfile.TemporaryDirectory(prefix="nflbench-") as name,
    ):
        directory, count = Path(name), rate * seconds
        field.reset()
        file = configuration(contender, store, directory, {})
        with running(field, command(contender, file), 0.0, pinned=False) as process:
            cpu, server_cpu = process.cpu_ns(), store.cpu_ns()
            sent_rate = send(field, count, rate)
            sent_at = time.monotonic()
            packets = counted(field, count)
            patience_secs = _PATIENCE_SECS if seconds > _QUICK_SECONDS else _QUICK_PATIENCE_SECS
            arrival = arrive(process, store, contender, packets, patience_secs)
            cpu, server_cpu = process.cpu_ns() - cpu, store.cpu_ns() - server_cpu
            _, peak = process.memory_kb()
            rows = store.rows()
    return Run(
        contender=contender,
        schema=schema,
        rate=rate,
        sent_rate=sent_rate,
        packets=packets,
        rows=rows,
        lost=packets - rows,
        late_secs=max(0.0, arrival.at - sent_at),
        cpu_us=cpu / 1000 / max(rows, 1),
        server_us=server_cpu / 1000 / max(rows, 1),
        peak_kb=peak,
        problems=problems(directory),
    )


def _rows(what: str, ours: Sequence[Run], theirs: Sequence[Run]) -> list[Row]:
    return [
        Row(
            f"{what}: lost",
            _lost(ours),
            _lost(theirs),
            beside=f"sent {median_spread((run.sent_rate for run in ours), ',.0f')}/s",
            target="0",
            reached=all(run.lost == 0 for run in ours) if ours else None,
        ),
        Row(
            "  last row after the last packet, s",
            median_spread((run.late_secs for run in ours), ".1f"),
            median_spread((run.late_secs for run in theirs), ".1f"),
        ),
        Row("  CPU µs/row, daemon + server", _cpu(ours), _cpu(theirs)),
        Row(
            "  peak memory, MB",
            _memory(ours),
            _memory(theirs),
            target=f"< {_MEMORY_MB}",
            reached=all(run.peak_kb < _MEMORY_MB * 1024 for run in ours) if ours else None,
        ),
    ]


def _lost(runs: Sequence[Run]) -> str:
    return ", ".join(f"{run.lost:,} of {run.packets:,}" for run in runs) or "-"


def _cpu(runs: Sequence[Run]) -> str:
    return ", ".join(f"{run.cpu_us:.1f} + {run.server_us:.1f}" for run in runs) or "-"


def _memory(runs: Sequence[Run]) -> str:
    return median_spread((run.peak_kb / 1024 for run in runs), ".0f")


if __name__ == "__main__":
    raise SystemExit(main({"sql_loss": ask}))
