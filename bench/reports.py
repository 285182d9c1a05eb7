# SPDX-License-Identifier: GPL-2.0-or-later
"""What does a packet cost that a program reports to UNIXSOCK, up to a JSON file (CPU µs), and how many go a second?

A program writes reports with every option, one a write, as fast as the daemon takes them: UNIXSOCK → BASE → IP2STR →
JSON, once into nflowlevel and once into ulogd2, in turns.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.asking import Answer, Row, main, median_spread, ratios, take_turns, times
from bench.netns import Field
from bench.scale import Scale

_ULOGD2 = "/usr/sbin/ulogd"
_COMMANDS = {"nflowlevel": (sys.executable, "-m", "nflowlevel.daemon.main"), "ulogd2": (_ULOGD2,)}
_MODULES = ("inppkt_UNIXSOCK", "raw2packet_BASE", "filter_IP2STR", "output_JSON")
_PATIENCE_SECS = 30.0
_CPUCLOCK_SCHED = 2


@dataclass(frozen=True)
class Run:
    """One run: reports, CPU time in ns, seconds until the last record was in the file."""

    reports: int
    cpu_ns: int
    secs: float


def ask(field: Field, scale: Scale) -> Answer:
    """Measure both daemons."""
    answer = Answer("reports")
    runs = take_turns(answer, scale.rounds, {name: partial(_run, name, scale.count) for name in _COMMANDS})
    answer.runs += [run for made in runs.values() for run in made]
    costs = {name: [run.cpu_ns / run.reports / 1000 for run in made] for name, made in runs.items()}
    rates = {name: [run.reports / run.secs for run in made] for name, made in runs.items()}
    for figure, values, form in (("CPU µs/report", costs, ".2f"), ("reports/s", rates, ",.0f")):
        ours, theirs = values.get("nflowlevel", []), values.get("ulogd2", [])
        ratio = (ratios(theirs, ours) if values is costs else ratios(ours, theirs)) if ours and theirs else []
        answer.rows.append(
            Row(
                f"UNIXSOCK → JSON file: {figure}",
                median_spread(ours, form),
                ulogd2=median_spread(theirs, form),
                ratio=times(ratio) if ratio else "-",
            )
        )
    return answer


def _run(name: str, count: int) -> Run:
    from tests.corpus import by_name
    from tests.fix_reports import full

    data = full(by_name("tcp4-syn").payload)
    with tempfile.TemporaryDirectory(prefix="nflbench-") as made, _daemon(name, Path(made)) as child:
        out, clock = Path(made) / "out", ~child.pid << 3 | _CPUCLOCK_SCHED
        with socket.socket(socket.AF_UNIX) as reporter:
            reporter.connect(f"{made}/s")
            before, started = time.clock_gettime_ns(clock), time.monotonic()
            for _ in range(count):
                reporter.sendall(data)
            _wait(lambda: _lines(out) >= count, child, f"{count} records of {name}")
            return Run(count, time.clock_gettime_ns(clock) - before, time.monotonic() - started)


def _lines(out: Path) -> int:
    """Return the number of lines: all records are as long as the first."""
    if not out.exists() or not out.stat().st_size:
        return 0
    with out.open("rb") as file:
        return out.stat().st_size // len(file.readline())


def _wait(done: Callable[[], bool], child: subprocess.Popen[bytes], what: str) -> None:
    give_up = time.monotonic() + _PATIENCE_SECS
    while not done():
        if child.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"not reached: {what}")
        time.sleep(0.005)


@contextmanager
def _daemon(name: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    plugins = next(Path("/usr/lib").glob("*/ulogd"), Path("/usr/lib/ulogd"))
    loads = "".join(f'plugin="{plugins}/ulogd_{module}.so"\n' for module in _MODULES)
    config = directory / "conf"
    config.write_text(
        f"[global]\nlogfile={directory}/log\n{loads}stack=u:UNIXSOCK,b:BASE,s:IP2STR,j:JSON\n"
        f"[u]\nsocket_path={directory}/s\n[j]\nfile={directory}/out\nsync={int(name == 'ulogd2')}\n"
    )
    # Without real-time priority, which ulogd2 gives itself.
    command = ("setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", *_COMMANDS[name], "-c", str(config))
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env={**os.environ, "TZ": "UTC"})
    try:
        _wait(lambda: _listens(directory / "s"), child, f"{name} listens")
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(_PATIENCE_SECS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _listens(path: Path) -> bool:
    """Tell it without a connection: ulogd2 takes only one."""
    from nflowlevel.binding.unixsocket import connections_at

    return connections_at(str(path)).listens


if __name__ == "__main__":
    raise SystemExit(main({"reports": ask}))
