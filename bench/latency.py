# SPDX-License-Identifier: GPL-2.0-or-later
"""How long after it was sent does a lone packet stand in the file, or arrive in a Python program?

One packet at a time, nothing else going on; the time runs from before send(2) until the file changes (inotify), or
until the Python program has the packet (CLOCK_MONOTONIC there). ulogd2 needs sync=1 here, or the line would stay in its
buffer.
"""

from __future__ import annotations

import ctypes
import os
import random
import select
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.asking import Answer, Row, main, median_spread, take_turns, verdict
from bench.contenders import JsonDaemon, ulogd2_missing
from bench.netns import GROUP, Field
from bench.running import running
from bench.scale import Scale

_OURS, _OURS_LATENCY, _PYTHON, _PYTHON_LATENCY = (
    "nflowlevel, file", "nflowlevel, file, latency", "nflowlevel, Python", "nflowlevel, Python, latency",
)  # fmt: skip
_ULOGD2, _ULOGD2_LATENCY = "ulogd2", "ulogd2, qthreshold 1"
_TARGETS_MS = {_PYTHON: 100.0, _PYTHON_LATENCY: 5.0}
_PATIENCE_SECS = 5.0
_IN_MODIFY = 2
_libc = ctypes.CDLL(None, use_errno=True)


def ask(field: Field, scale: Scale) -> Answer:
    """Measure all six; the waits of ulogd2's default are a second each, so it gives fewer samples."""
    answer = Answer("latency")
    options = {"netlink_qthreshold": 1}
    contenders: dict[str, Callable[[], list[float]]] = {
        _OURS: lambda: _to_file(field, JsonDaemon("nflowlevel", "default", {}), scale.samples),
        _OURS_LATENCY: lambda: _to_file(field, JsonDaemon("nflowlevel", "latency", options), scale.samples),
        _PYTHON: lambda: _to_python(field, "default", scale.samples),
        _PYTHON_LATENCY: lambda: _to_python(field, "latency", scale.samples),
        _ULOGD2: lambda: _to_file(field, JsonDaemon("ulogd2", "default", {}, sync=True), scale.slow_samples),
        _ULOGD2_LATENCY: lambda: _to_file(field, JsonDaemon("ulogd2", "latency", options, sync=True), scale.samples),
    }
    if why := ulogd2_missing():
        del contenders[_ULOGD2], contenders[_ULOGD2_LATENCY]
        answer.failed["ulogd2"] = why
    made = take_turns(answer, 1, contenders)
    samples = {name: rounds[0] for name, rounds in made.items()}
    answer.runs = [{"contender": name, "milliseconds": values} for name, values in samples.items()]
    answer.rows = [
        _row("lone packet → file, default: ms", samples, _OURS, _ULOGD2),
        _row("lone packet → file, qthreshold 1: ms", samples, _OURS_LATENCY, _ULOGD2_LATENCY),
        _row("lone packet → Python, default: ms", samples, _PYTHON),
        _row("lone packet → Python, profile latency: ms", samples, _PYTHON_LATENCY),
    ]
    return answer


def _row(figure: str, samples: dict[str, list[float]], ours: str, ulogd2: str = "") -> Row:
    limit = _TARGETS_MS.get(ours)
    values = samples.get(ours, [])
    return Row(
        figure,
        median_spread(values),
        median_spread(samples.get(ulogd2, [])),
        target=f"all ≤ {limit:g}" if limit else "-",
        reached=verdict([max(values)], lambda most: most <= limit) if limit and values else None,
    )


def _to_file(field: Field, contender: JsonDaemon, count: int) -> list[float]:
    """Return milliseconds from send to a change of the file."""
    with tempfile.TemporaryDirectory(prefix="nflbench-") as name:
        directory = Path(name)
        with running(field, contender.command(directory), contender.quiet_secs, pinned=False), field.sender() as udp:
            out = directory / "out.json"
            _send_until(udp, lambda: out.exists() and out.stat().st_size > 0)
            with _watched(out) as wait:
                return [_one(udp, wait) for _ in _gaps(count)]


def _to_python(field: Field, profile: str, count: int) -> list[float]:
    """Return milliseconds from send to a Python program's having the packet."""
    command = [sys.executable, "-m", "bench.reader", "arrivals", str(GROUP), profile]
    with running(field, command, 0.1, pinned=False) as process, field.sender() as udp:
        arrivals = process.child.stdout
        assert arrivals is not None

        def wait() -> int:
            if not select.select([arrivals], [], [], _PATIENCE_SECS)[0]:
                raise RuntimeError(f"profile {profile}: no packet in {_PATIENCE_SECS:.0f} s")
            return int(arrivals.readline())

        _one(udp, wait)
        return [_one(udp, wait) for _ in _gaps(count)]


def _gaps(count: int) -> Iterator[int]:
    """Pause a while before each sample, never in step with a timer of the contender's."""
    random_pauses = random.Random(1)
    for number in range(count):
        time.sleep(random_pauses.uniform(0.05, 0.25))
        yield number


def _one(udp: socket.socket, wait: Callable[[], int]) -> float:
    before = time.monotonic_ns()
    udp.send(b"x" * 64)
    return (wait() - before) / 1e6


def _send_until(udp: socket.socket, arrived: Callable[[], bool]) -> None:
    udp.send(b"warm-up")
    give_up = time.monotonic() + _PATIENCE_SECS
    while not arrived():
        if time.monotonic() > give_up:
            raise RuntimeError("the first packet did not arrive")
        time.sleep(0.01)


@contextmanager
def _watched(path: Path) -> Iterator[Callable[[], int]]:
    """Give a function that waits until the file changes and returns when it noticed."""
    fd = _libc.inotify_init1(os.O_CLOEXEC)
    if fd < 0 or _libc.inotify_add_watch(fd, os.fsencode(path), _IN_MODIFY) < 0:
        raise OSError(ctypes.get_errno(), "inotify")

    def wait() -> int:
        if not select.select([fd], [], [], _PATIENCE_SECS)[0]:
            raise RuntimeError(f"{path.name} did not change in {_PATIENCE_SECS:.0f} s")
        now = time.monotonic_ns()
        os.read(fd, 4096)
        return now

    try:
        yield wait
    finally:
        os.close(fd)


if __name__ == "__main__":
    raise SystemExit(main({"latency": ask}))
