# SPDX-License-Identifier: GPL-2.0-or-later
"""How long from exec until the daemon has bound its group, and how much memory does it take then and after traffic?

Ready is when the kernel lists the group's reader; for nflowlevel also when it says READY=1 to its service manager. Bare
Python, started to do nothing, is what any Python program pays. With the path of another checkout in NFLOWLEVEL_BEFORE
(compiled in place) its daemon takes part too.

Both run as they do when installed: from bytecode, which a start that is not measured writes into a directory of ours.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.asking import Answer, Row, main, median_spread, take_turns, verdict
from bench.contenders import JsonDaemon, ulogd2_missing
from bench.netns import Field
from bench.running import Running, spawn
from bench.scale import Scale

_OURS, _BEFORE, _ULOGD2, _BARE = "nflowlevel", "nflowlevel before", "ulogd2", "bare Python"
_BEFORE_PATH = "NFLOWLEVEL_BEFORE"
#: How another checkout's daemon is started, whatever room it has there.
_BEFORE_MAIN = """import sys; sys.path.insert(0, {path!r})
try: from nflowlevel.daemon.main import main
except ImportError: from nflowlevel.daemon import main
sys.exit(main())"""
_READY_TARGET_SECS = 0.15
_MEMORY_TARGET_MB = 30
_TRAFFIC = 30_000
_PATIENCE_SECS = 15.0
_TELL_PEAK = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"


@dataclass(frozen=True)
class Start:
    """One start. `notified_secs` is 0 for what does not notify."""

    contender: str
    bound_secs: float
    notified_secs: float
    rss_kb: int
    after_kb: int
    peak_kb: int


def ask(field: Field, scale: Scale) -> Answer:
    """Measure the starts."""
    answer = Answer("start")
    with tempfile.TemporaryDirectory(prefix="nflbench-bytecode-") as bytecode:
        runs = _measured(field, scale, answer, bytecode)
    _show(answer, runs)
    return answer


def _measured(field: Field, scale: Scale, answer: Answer, bytecode: str) -> dict[str, list[Start]]:
    contenders = {
        _OURS: lambda: _start(field, _OURS, bytecode),
        _BEFORE: lambda: _start(field, _BEFORE, bytecode),
        _ULOGD2: lambda: _start(field, _ULOGD2, bytecode),
        _BARE: _bare,
    }
    if _BEFORE_PATH not in os.environ:
        del contenders[_BEFORE]
    if why := ulogd2_missing():
        del contenders[_ULOGD2]
        answer.failed[_ULOGD2] = why
    take_turns(answer, 1, contenders)
    return take_turns(answer, scale.starts, contenders)


def _show(answer: Answer, runs: dict[str, list[Start]]) -> None:
    answer.runs = [run for made in runs.values() for run in made]
    ours, theirs, bare = (runs.get(name, []) for name in (_OURS, _ULOGD2, _BARE))
    ready = [max(run.bound_secs, run.notified_secs) for run in ours]
    peak = [run.peak_kb / 1024 for run in ours]
    answer.rows = [
        Row(
            "start until ready: s",
            median_spread(ready, ".3f"),
            median_spread((run.bound_secs for run in theirs), ".3f"),
            beside=f"bare Python {median_spread((run.bound_secs for run in bare), '.3f')}",
            target=f"≤ {_READY_TARGET_SECS:g}",
            reached=verdict(ready, lambda secs: secs <= _READY_TARGET_SECS),
        ),
        Row(
            "  memory when ready: MB",
            _mb(ours, "rss_kb"),
            _mb(theirs, "rss_kb"),
            beside=f"bare Python {_mb(bare, 'peak_kb')}",
        ),
        Row(
            f"  at its peak, after {_TRAFFIC:,} packets",
            _mb(ours, "peak_kb"),
            _mb(theirs, "peak_kb"),
            target=f"< {_MEMORY_TARGET_MB}",
            reached=verdict(peak, lambda mb: mb < _MEMORY_TARGET_MB),
        ),
    ]
    if before := runs.get(_BEFORE, []):
        waits = [max(run.bound_secs, run.notified_secs) for run in before]
        answer.rows.append(
            Row(
                "  of the code before: s",
                median_spread(waits, ".3f"),
                "-",
                beside=f"MB {_mb(before, 'rss_kb')}, at its peak {_mb(before, 'peak_kb')}",
            )
        )


def _mb(runs: list[Start], name: str) -> str:
    return f"{statistics.median(getattr(run, name) for run in runs) / 1024:.1f}" if runs else "-"


def _start(field: Field, name: str, bytecode: str) -> Start:
    """Start a daemon, look at it, send some traffic, look again."""
    with (
        tempfile.TemporaryDirectory(prefix="nflbench-") as path,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
    ):
        contender = JsonDaemon(name, "default", {})
        command = contender.command(Path(path))
        if name == _BEFORE:
            command = [sys.executable, "-c", _BEFORE_MAIN.format(path=os.environ[_BEFORE_PATH]), *command[-2:]]
        notify.bind(f"{path}/notify")
        notify.setblocking(False)
        environment = {"PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
        if name != _ULOGD2:
            environment["NOTIFY_SOCKET"] = f"{path}/notify"
        before = time.monotonic()
        child = spawn(field, command, environment)
        try:
            bound, notified = _wait_ready(field, child, notify, before, notifies=name != _ULOGD2)
            process = Running(field, child, field.holder(), contender.quiet_secs)
            rss, _ = process.memory_kb()
            process.cost(_TRAFFIC, 0)
            after, peak = process.memory_kb()
        finally:
            child.terminate()
            child.communicate(timeout=_PATIENCE_SECS)
    return Start(name, bound, notified, rss, after, peak)


def _wait_ready(
    field: Field, child: subprocess.Popen[str], notify: socket.socket, before: float, *, notifies: bool
) -> tuple[float, float]:
    """Return the seconds until the group was bound, and until READY=1 came (0 when none is awaited)."""
    bound = notified = 0.0
    while not bound or (notifies and not notified):
        now = time.monotonic() - before
        if now > _PATIENCE_SECS or child.poll() is not None:
            raise RuntimeError(f"{child.args!r} was not ready in {_PATIENCE_SECS:.0f} s")
        if not bound and field.holder():
            bound = now
        try:
            if b"READY=1" in notify.recv(4096):
                notified = now
        except BlockingIOError:
            time.sleep(0.0005)
    return bound, notified


def _bare() -> Start:
    """Run Python to do nothing but tell its own peak; ru_maxrss would tell its parent's, as exec does not reset it."""
    before = time.monotonic()
    status = subprocess.run([sys.executable, "-c", _TELL_PEAK], capture_output=True, text=True, check=True).stdout
    peak = int(status)
    return Start(_BARE, time.monotonic() - before, 0.0, peak, peak, peak)


if __name__ == "__main__":
    raise SystemExit(main({"start": ask}))
