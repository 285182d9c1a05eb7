# SPDX-License-Identifier: GPL-2.0-or-later
"""How many rows a second get into a database, at what cost, beside ulogd2 and beside what the database can take?

The packets wait in the group's socket while the daemon is stopped (SIGSTOP), so that sending them takes nothing from
anybody; from SIGCONT until all are in the table everything the daemon does is in the figure. ulogd2 gets the same with
fewer packets. `psql \\copy` brings the very rows that nflowlevel stored, as text prepared before, into the same schema.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.asking import Answer, Row, main, median_spread, ratios, take_turns, times, verdict
from bench.databases import (
    OURS,
    ULOGD2,
    PostgresStore,
    SQLiteStore,
    Store,
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
from bench.running import Running, running
from bench.scale import Scale
from tests.fix_postgres import Postgres

_COPY = r"\copy"
_BUFFER = {"netlink_socket_buffer_size": 256 << 20, "netlink_socket_buffer_maxsize": 512 << 20}
_WARM_UP = 100
_PATIENCE_SECS = 10.0
#: The kernel's own longest wait before it puts packets into the socket.
_FLUSH_SECS = 1.1
_MEMORY_MB = 150

#: Schema → how many times ulogd2's rows a second (into which of its schemas), and which part of \copy's.
_TARGETS = {"flat": (20.0, "flat", 0.8), "own": (60.0, "flat", 0.6), "full": (3.0, "full", None)}
_SQLITE_TARGET = 20.0
_NAMES = {
    "flat": "PostgreSQL, ulogd2's flat schema",
    "own": "PostgreSQL, our schema",
    "full": "PostgreSQL, full schema, INSERT_PACKET_FULL",
    "sqlite": "SQLite",
}


@dataclass(frozen=True)
class Run:
    """One contender, one round. CPU times are per row, of the daemon and of all processes of the server."""

    contender: str
    schema: str
    packets: int
    rows: int
    seconds: float
    rows_per_s: float
    cpu_us: float
    server_us: float
    peak_kb: int
    problems: str


@dataclass(frozen=True)
class _Count:
    """How many packets each contender gets."""

    ours: int
    full: int
    ulogd2: int
    sqlite: int


_FULL = _Count(ours=400_000, full=40_000, ulogd2=20_000, sqlite=400_000)
_QUICK = _Count(ours=5_000, full=1_000, ulogd2=500, sqlite=5_000)


def ask(field: Field, scale: Scale) -> Answer:
    """Measure all schemas, with one server."""
    answer = Answer("sql")
    count = _QUICK if scale.rounds == 1 else _FULL
    rounds = min(scale.rounds, 3)
    for output, ask_some in (("PGSQL", _ask_postgresql), ("SQLITE3", _ask_sqlite)):
        if why := ulogd2_missing(output):
            answer.failed[f"{ULOGD2} {output}"] = why
        try:
            ask_some(field, answer, rounds, count, not why)
        except RuntimeError as error:
            answer.failed[output] = str(error)
    return answer


def _ask_postgresql(field: Field, answer: Answer, rounds: int, count: _Count, compared: bool) -> None:
    with postgresql() as server:
        contenders: dict[str, Callable[[], Run]] = {}
        for schema in _TARGETS:
            for contender, packets in ((OURS, count.full if schema == "full" else count.ours), (ULOGD2, count.ulogd2)):
                if contender == OURS or (compared and schema != "own"):
                    contenders[f"{contender} {schema}"] = functools.partial(
                        _postgresql, field, server, contender, schema, packets
                    )
            if schema != "full":
                contenders[f"{_COPY} {schema}"] = functools.partial(_copy, server, schema)
        runs = take_turns(answer, rounds, contenders)
    answer.runs += [run for made in runs.values() for run in made]
    for schema, (factor, beside, part) in _TARGETS.items():
        ours, theirs = runs.get(f"{OURS} {schema}", []), runs.get(f"{ULOGD2} {beside}", [])
        answer.rows += _rows(schema, ours, theirs, factor)
        if part is not None:
            answer.rows.insert(-2, _beside_copy(ours, runs.get(f"{_COPY} {schema}", []), part))


def _ask_sqlite(field: Field, answer: Answer, rounds: int, count: _Count, compared: bool) -> None:
    contenders = {f"{OURS} sqlite": functools.partial(_sqlite, field, OURS, count.sqlite)}
    if compared:
        contenders[f"{ULOGD2} sqlite"] = functools.partial(_sqlite, field, ULOGD2, count.ulogd2)
    runs = take_turns(answer, rounds, contenders)
    answer.runs += [run for made in runs.values() for run in made]
    answer.rows += _rows("sqlite", runs.get(f"{OURS} sqlite", []), runs.get(f"{ULOGD2} sqlite", []), _SQLITE_TARGET)


# -- runs -------------------------------------------------------------------------------------------------------------


def _postgresql(field: Field, server: Postgres, contender: str, schema: str, count: int) -> Run:
    with failing(), contextlib.closing(PostgresStore(server, schema)) as store, _directory() as directory:
        run = _measure(field, contender, schema, store, directory, count)
        if contender == OURS and schema != "full":
            store.dump(_dumped(server, schema))
        return run


def _sqlite(field: Field, contender: str, count: int) -> Run:
    with _directory() as directory:
        return _measure(field, contender, "sqlite", SQLiteStore(contender, directory), directory, count)


def _measure(field: Field, contender: str, schema: str, store: Store, directory: Path, count: int) -> Run:
    field.reset()
    file = configuration(contender, store, directory, _BUFFER)
    with running(field, command(contender, file), 0.0, pinned=False) as process:
        send(field, _WARM_UP, 1_000)
        arrive(process, store, contender, _WARM_UP, _PATIENCE_SECS)
        with _stopped(process):
            send(field, count, 0)
            packets = counted(field, _WARM_UP + count)
            time.sleep(_FLUSH_SECS)
            cpu, server_cpu, started = process.cpu_ns(), store.cpu_ns(), time.monotonic()
        arrival = arrive(process, store, contender, packets, _PATIENCE_SECS)
        cpu, server_cpu = process.cpu_ns() - cpu, store.cpu_ns() - server_cpu
        _, peak = process.memory_kb()
    rows = store.rows() - _WARM_UP
    if rows <= 0:
        raise RuntimeError(f"no row has arrived: {problems(directory)}")
    return Run(
        contender=contender,
        schema=schema,
        packets=packets,
        rows=rows,
        seconds=arrival.at - started,
        rows_per_s=rows / (arrival.at - started),
        cpu_us=cpu / 1000 / rows,
        server_us=server_cpu / 1000 / rows,
        peak_kb=peak,
        problems=problems(directory),
    )


def _copy(server: Postgres, schema: str) -> Run:
    with failing(), contextlib.closing(PostgresStore(server, schema)) as store:
        before = store.cpu_ns()
        seconds = store.copy(_dumped(server, schema))
        rows, spent = store.rows(), store.cpu_ns() - before
    return Run(_COPY, schema, rows, rows, seconds, rows / seconds, 0.0, spent / 1000 / rows, 0, "")


def _dumped(server: Postgres, schema: str) -> Path:
    return server.directory / f"{schema}.copy"


@contextlib.contextmanager
def _stopped(process: Running) -> Iterator[None]:
    """Have the daemon stand still for the block."""
    process.child.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.child.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nflbench-") as name:
        yield Path(name)


# -- rows of the table ------------------------------------------------------------------------------------------------


def _rows(schema: str, ours: Sequence[Run], theirs: Sequence[Run], factor: float) -> list[Row]:
    more = ratios([run.rows_per_s for run in ours], [run.rows_per_s for run in theirs]) if theirs else []
    memory = [run.peak_kb / 1024 for run in ours]
    lost = sum(run.packets - run.rows - _WARM_UP for run in ours)
    return [
        Row(
            f"{_NAMES[schema]}: rows/s",
            _rates(ours),
            _rates(theirs),
            ratio=times(more),
            target=f"≥ {factor:g}x",
            reached=verdict(more, lambda ratio: ratio >= factor),
        ),
        Row(
            "  CPU µs/row, daemon + server",
            f"{median_spread((run.cpu_us for run in ours), '.1f')} + {_server(ours)}" if ours else "-",
            f"{median_spread((run.cpu_us for run in theirs), '.1f')} + {_server(theirs)}" if theirs else "-",
        ),
        Row(
            "  peak memory, MB",
            median_spread(memory, ".0f"),
            median_spread((run.peak_kb / 1024 for run in theirs), ".0f"),
            beside=f"not stored: {lost}",
            target=f"< {_MEMORY_MB}",
            reached=max(memory) < _MEMORY_MB if memory else None,
        ),
    ]


def _beside_copy(ours: Sequence[Run], copies: Sequence[Run], part: float) -> Row:
    of_copy = ratios([run.rows_per_s for run in ours], [run.rows_per_s for run in copies]) if copies else []
    return Row(
        r"  against psql \copy of the same rows",
        _rates(ours),
        beside=f"{_rates(copies)} rows/s, server {_server(copies)} µs",
        ratio=times(of_copy),
        target=f"≥ {part:g}x",
        reached=verdict(of_copy, lambda ratio: ratio >= part),
    )


def _rates(runs: Sequence[Run]) -> str:
    return median_spread((run.rows_per_s for run in runs), ",.0f")


def _server(runs: Sequence[Run]) -> str:
    return median_spread((run.server_us for run in runs), ".1f")


if __name__ == "__main__":
    raise SystemExit(main({"sql": ask}))
