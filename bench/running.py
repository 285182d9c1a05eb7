# SPDX-License-Identifier: GPL-2.0-or-later
"""One contender's process: started inside the logging namespace, watched from outside, stopped when it has drained.

Its CPU time is the kernel's own clock of the process: nanoseconds, all threads, the ended ones included.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.netns import Field
from bench.programs import send

_START_SECS = 15.0
_STOP_SECS = 60.0
_DRAIN_SECS = 120.0
_SETTLE_SECS = 0.3
_CPUCLOCK_SCHED = 2
_REPOSITORY = Path(__file__).resolve().parent.parent


class Running:
    """A contender that has bound the group. `quiet_secs`: idle for so long means that it has everything."""

    def __init__(self, field: Field, child: subprocess.Popen[str], portid: int, quiet_secs: float) -> None:
        self._field, self.child, self._portid, self._quiet_secs = field, child, portid, quiet_secs
        self._clock = ~child.pid << 3 | _CPUCLOCK_SCHED
        self.output = ""

    def cpu_ns(self) -> int:
        """Return the CPU time used so far, user and system."""
        return time.clock_gettime_ns(self._clock)

    def memory_kb(self) -> tuple[int, int]:
        """Return resident memory: now, and at its peak."""
        status = Path(f"/proc/{self.child.pid}/status").read_text().splitlines()
        values = {
            name: int(rest.split()[0])
            for name, _, rest in (line.partition(":") for line in status)
            if rest[-2:] == "kB"
        }
        return values["VmRSS"], values["VmHWM"]

    def cost(self, count: int, rate: int, warm_up: int = 0) -> tuple[int, float]:
        """Return the CPU time `count` packets cost until all have come through, in ns, and the rate they were sent at.

        `warm_up` packets go before: what a program does once, at its first packet, belongs to its start.
        """
        self.drain(_SETTLE_SECS)
        if warm_up:
            send(self._field, warm_up, rate)
            self.drain()
        before = self.cpu_ns()
        sent_rate = send(self._field, count, rate)
        self.drain()
        return self.cpu_ns() - before, sent_rate

    def drain(self, quiet_secs: float = 0.0) -> None:
        """Wait until nothing has lain in the socket for a while, which must exceed the kernel's flush time."""
        enough = quiet_secs or self._quiet_secs
        give_up = time.monotonic() + _DRAIN_SECS
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < enough:
            if self.child.poll() is not None:
                raise RuntimeError(f"{self.child.args!r} ended with status {self.child.returncode}")
            if time.monotonic() > give_up:
                raise RuntimeError(f"{self.child.args!r} did not drain its socket in {_DRAIN_SECS:.0f} s")
            if self._waiting():
                quiet_since = time.monotonic()
            time.sleep(0.02)

    def _waiting(self) -> bool:
        """Whether bytes lie in the group's socket."""
        for line in Path(f"/proc/{self.child.pid}/net/netlink").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1] == "12" and int(fields[2]) == self._portid:
                return int(fields[4]) > 0
        return False

    def stop(self) -> None:
        """End it by SIGTERM and keep what it wrote to its standard output."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            self.output, _ = self.child.communicate(timeout=_STOP_SECS)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.communicate()
            raise


def spawn(field: Field, command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a process inside the logging namespace, with both of its outputs on one pipe."""
    with field.fw.enter():
        return subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=_REPOSITORY,  # where nflowlevel is imported from when it is not installed
        )


@contextlib.contextmanager
def running(field: Field, command: Sequence[str], quiet_secs: float, *, pinned: bool = True) -> Iterator[Running]:
    """Start a contender, wait until it holds the group, and end it with the block.

    `pinned`: keep it on the last CPU, where the kernel's work for the sender (programs.send) is not charged to it.
    """
    child = spawn(field, command)
    if pinned:
        os.sched_setaffinity(child.pid, {max(os.sched_getaffinity(0))})
    contender = Running(field, child, _wait_bound(field, child), quiet_secs)
    try:
        yield contender
    finally:
        contender.stop()


def _wait_bound(field: Field, child: subprocess.Popen[str]) -> int:
    give_up = time.monotonic() + _START_SECS
    while not (portid := field.holder()):
        if child.poll() is not None or time.monotonic() > give_up:
            child.kill()
            output, _ = child.communicate()
            raise RuntimeError(f"{' '.join(child.args)} did not bind the group: {output[-500:]}")  # type: ignore[arg-type]
        time.sleep(0.002)
    return portid
