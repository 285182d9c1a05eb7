# SPDX-License-Identifier: GPL-2.0-or-later
"""What does a poll of accounting objects cost from the kernel to Graphite, and does a large one fit into its interval?

nflowlevel and ulogd2 read the same configuration, NFACCT to GRAPHITE over loopback TCP. A poll is asked for by SIGUSR2
and is over when the receiver has two lines for each object; CPU time is the daemon's own, user and system. Objects are
made with counts; with `zerocounter` all but the first poll find zeros.

The floor is what the kernel takes to list the objects, read and thrown away: nobody can poll for less. ulogd2's cost is
not ten times that of its 10,000 objects, so ten times less than ulogd2 is beyond reach there.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nflowlevel as nfl
from bench.asking import Answer, Row, main, median_spread, ratios, take_turns, times, verdict
from bench.contenders import daemon
from bench.netns import Field
from bench.running import Running, spawn
from bench.scale import Scale

_OURS, _ULOGD2 = "nflowlevel", "ulogd2"
_PORT = 2003
_TARGET = 10.0
_INTERVAL_SECS = 2.0
_PATIENCE_SECS = 60.0
#: Polls whose cost is measured together, after as many that are not: caches and buffers grow at first.
_POLLS = 5
_NETLINK_NETFILTER, _NLMSG_DONE = 12, 3
#: struct nlmsghdr (NFNL_SUBSYS_ACCT, NFNL_MSG_ACCT_GET; NLM_F_REQUEST | NLM_F_DUMP) and struct nfgenmsg.
_DUMP_REQUEST = struct.pack("=IHHIIBBH", 20, 7 << 8 | 1, 0x301, 1, 0, 0, 0, 0)
_PLUGINS = ("inpflow_NFACCT", "output_GRAPHITE")


@dataclass(frozen=True)
class Poll:
    """The mean cost of a poll, of one round."""

    contender: str
    objects: int
    zerocounter: bool
    cpu_ms: float
    wall_ms: float
    slowest_ms: float
    peak_kb: int


def ask(field: Field, scale: Scale) -> Answer:
    """Measure both sizes."""
    quick = scale.rounds == 1
    answer = Answer("accounting")
    if why := _ulogd2_missing():
        answer.failed[_ULOGD2] = why
    _ask_size(field, scale, answer, 500 if quick else 10_000, compared=True)
    _ask_size(field, scale, answer, 1_000 if quick else 100_000, compared=False)
    return answer


def _ask_size(field: Field, scale: Scale, answer: Answer, objects: int, *, compared: bool) -> None:
    with _objects(field, objects):
        floor = [_floor(field) for _ in range(scale.rounds)]
        for zerocounter in (True, False):
            names = [_OURS, *((_ULOGD2,) if compared and _ULOGD2 not in answer.failed else ())]
            contenders = {name: functools.partial(_measure, field, name, objects, zerocounter) for name in names}
            runs = take_turns(answer, scale.rounds, contenders)
            answer.runs += [run for made in runs.values() for run in made]
            answer.rows += _rows(runs, floor, objects, zerocounter, compared)


def _rows(
    runs: dict[str, list[Poll]], floor: list[float], objects: int, zerocounter: bool, compared: bool
) -> list[Row]:
    ours, theirs = runs.get(_OURS, []), runs.get(_ULOGD2, [])
    cpu, wall = [run.cpu_ms for run in ours], [run.wall_ms for run in ours]
    less = ratios([run.cpu_ms for run in theirs], cpu) if ours and theirs else []
    slowest = [run.slowest_ms for run in ours]
    what = f"{objects:,} objects → Graphite, zerocounter={int(zerocounter)}"
    return [
        Row(
            f"{what}: CPU ms/poll",
            median_spread(cpu, ".1f"),
            median_spread((run.cpu_ms for run in theirs), ".1f"),
            beside=f"floor {median_spread(floor, '.1f')}",
            ratio=times(less),
            target=f"≥ {_TARGET:g}x" if compared else "-",
            reached=verdict(less, lambda ratio: ratio >= _TARGET) if compared else None,
        ),
        Row(
            "  wall time of a poll: ms",
            median_spread(wall, ".1f"),
            median_spread((run.wall_ms for run in theirs), ".1f"),
            beside=f"slowest {max(slowest, default=0):.0f}",
            target="-" if compared else f"≤ {1000 * _INTERVAL_SECS:g}",
            reached=None if compared else verdict(slowest, lambda ms: ms <= 1000 * _INTERVAL_SECS),
        ),
    ]


@contextlib.contextmanager
def _objects(field: Field, count: int) -> Iterator[None]:
    """Have `count` accounting objects for the block."""
    with nfl.Accounting(f"/run/netns/{field.fw.name}") as accounting:
        accounting.restore(nfl.Counter(f"ipv4.service{n:06}", 1000 + n, 64_000 + 64 * n) for n in range(count))
        try:
            yield
        finally:
            accounting.flush()


def _measure(field: Field, name: str, objects: int, zerocounter: bool) -> Poll:
    with tempfile.TemporaryDirectory(prefix="nflbench-") as path, _Receiver(field) as receiver:
        child = _started(field, name, Path(path), zerocounter)
        process = Running(field, child, 0, 0.0)
        try:
            receiver.wait_connected(child)
            for _ in range(_POLLS):
                _poll(child, receiver, objects)
            before = process.cpu_ns()
            walls = [_poll(child, receiver, objects) for _ in range(_POLLS)]
            spent = process.cpu_ns() - before
            _, peak = process.memory_kb()
        finally:
            process.stop()
    return Poll(
        contender=name,
        objects=objects,
        zerocounter=zerocounter,
        cpu_ms=spent / 1e6 / _POLLS,
        wall_ms=1000 * sum(walls) / _POLLS,
        slowest_ms=1000 * max(walls),
        peak_kb=peak,
    )


def _floor(field: Field) -> float:
    """Return the CPU time in ms that a dump takes whose answer is only received."""
    with field.fw.enter(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.bind((0, 0))
        buffer = bytearray(32 << 10)
        before = 0
        for number in range(2 * _POLLS):
            if number == _POLLS:
                before = time.thread_time_ns()
            netlink.send(_DUMP_REQUEST)
            while netlink.recv_into(buffer) and int.from_bytes(buffer[4:6], sys.byteorder) != _NLMSG_DONE:
                pass
        return (time.thread_time_ns() - before) / 1e6 / _POLLS


def _poll(child: subprocess.Popen[str], receiver: _Receiver, objects: int) -> float:
    """Have the daemon poll; return the seconds until all lines had come."""
    expected = receiver.lines + 2 * objects
    before = time.monotonic()
    child.send_signal(signal.SIGUSR2)
    receiver.wait_for(expected, child)
    # What the daemon does when all is sent, such as looking for acknowledgements, is part of the poll's cost.
    time.sleep(0.2)
    return receiver.last_at - before


def _started(field: Field, name: str, directory: Path, zerocounter: bool) -> subprocess.Popen[str]:
    file = directory / "ulogd.conf"
    file.write_text(
        f'[global]\nlogfile="{directory}/daemon.log"\nloglevel=5\n'
        + "".join(f'plugin="{path}"\n' for path in _plugin_files())
        + "stack=acct1:NFACCT,graphite1:GRAPHITE\n\n"
        f"[acct1]\npollinterval=3600\nzerocounter={int(zerocounter)}\n\n"
        f'[graphite1]\nhost="127.0.0.1"\nport="{_PORT}"\nprefix="fw"\n'
    )
    child = spawn(field, [*daemon(name), "-c", str(file)])
    os.sched_setaffinity(child.pid, {max(os.sched_getaffinity(0))})
    return child


class _Receiver:
    """Takes lines on the logging namespace's loopback, counts them, and throws them away."""

    def __init__(self, field: Field) -> None:
        self.lines = 0
        self.last_at = 0.0
        self._connected = threading.Event()
        with field.fw.enter():
            self._server = socket.socket()
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._server.bind(("127.0.0.1", _PORT))
        self._server.listen()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._server.accept()
            with connection:
                self._connected.set()
                while data := connection.recv(1 << 20):
                    self.last_at = time.monotonic()
                    self.lines += data.count(b"\n")

    def wait_connected(self, child: subprocess.Popen[str]) -> None:
        """Wait until the daemon has connected and, as it does that before it is ready, its signals are handled."""
        if not self._connected.wait(_PATIENCE_SECS) or child.poll() is not None:
            raise RuntimeError(f"{child.args!r} did not connect")
        time.sleep(0.5)

    def wait_for(self, lines: int, child: subprocess.Popen[str]) -> None:
        """Wait until so many lines have come."""
        end = time.monotonic() + _PATIENCE_SECS
        while self.lines < lines:
            if time.monotonic() > end or child.poll() is not None:
                raise RuntimeError(f"{child.args!r} sent {self.lines} of {lines} lines")
            time.sleep(0.005)
        if self.lines > lines:
            raise RuntimeError(f"{child.args!r} sent {self.lines} lines instead of {lines}")

    def __enter__(self) -> _Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(_PATIENCE_SECS)


def _plugin_files() -> list[str]:
    directories = [*Path("/usr/lib").glob("*/ulogd"), Path("/usr/lib/ulogd"), Path("/usr/local/lib/ulogd")]
    files = (directory / f"ulogd_{name}.so" for directory in directories for name in _PLUGINS)
    return [str(file) for file in files if file.exists()]


def _ulogd2_missing() -> str:
    if not Path(daemon(_ULOGD2)[0]).exists():
        return "ulogd2 is not installed (Debian package ulogd2)"
    return "" if len(_plugin_files()) == len(_PLUGINS) else "ulogd2 lacks its plugins NFACCT and GRAPHITE"


if __name__ == "__main__":
    raise SystemExit(main({"accounting": ask}))
