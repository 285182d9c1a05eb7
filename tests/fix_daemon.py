# SPDX-License-Identifier: GPL-2.0-or-later
"""The real daemon process for tests: started with a configuration, told apart when it is ready, stopped, and read.

    with Daemon(tmp_path, config(f"g:NFLOG,{FILTERS},j:JSON", g="group=2", j=f"file={out}"), netns=pair.fw) as daemon:
        pair.send_udp(23)
        records(out, 23)

The test is its service manager: it listens at $NOTIFY_SOCKET, so nothing has to be guessed from the time that passed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nflowlevel
from tests.fix_netns import Netns, Pair

#: Nothing here takes long; a test that waits this long has failed.
PATIENCE = 20.0

#: All that packets can go through on their way to an output.
FILTERS = "b:BASE,i:IFINDEX,s:IP2STR,h:HWHDR"

_PROGRAM = (sys.executable, "-m", "nflowlevel.daemon.main")


def config(*stacks: str, **sections: str) -> str:
    """Return a configuration: lines of [global] and stacks (known by their colon), then sections by name."""
    lines = [f"stack={line}" if ":" in line and "=" not in line else line for line in stacks]
    parts = [f"[{name}]\n{text}\n" for name, text in sections.items()]
    return "\n".join(["[global]", *lines, *parts])


def log_rule(*groups: int, prefix: str = "pfx: ", hook: str = "input") -> str:
    """Return an nft ruleset that counts UDP to port 9 in counter `c` and logs it to each of the groups."""
    logs = " ".join(f'log prefix "{prefix}" group {group}' for group in groups)
    return (
        "table inet t {\ncounter c {}\n"
        f"chain i {{\ntype filter hook {hook} priority 0\nudp dport 9 counter name c {logs}\n}}\n}}\n"
    )


def log_by_iptables(netns: Netns, group: int, prefix: bytes) -> None:
    """Log UDP to port 9 with a prefix of any bytes."""
    rule = f"-A INPUT -p udp --dport 9 -j NFLOG --nflog-group {group} --nflog-prefix"
    netns.run("iptables", *rule.split(), os.fsdecode(prefix))


def wait_for(condition: Callable[[], object], what: str, told: Callable[[], str] = lambda: "") -> None:
    """Ask until `condition` holds; fail when it never does, with what `told` says."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}\n{told()}"
        time.sleep(0.003)


def lines_of(path: Path, *, growing: bool = False) -> list[dict[str, Any]]:
    """Return the records of a file; fail unless it is one JSON object per line, the last one complete.

    A file that is `growing` is read to its last newline: the kernel shows a write while it goes on, and who is killed
    within one leaves a line that the next start cuts off.
    """
    data = path.read_bytes() if path.exists() else b""
    if growing:
        data = data[: data.rfind(b"\n") + 1]
    assert not data or data.endswith(b"\n"), f"{path} ends in a torn line: {data[-80:]!r}"
    found = [json.loads(line) for line in data.splitlines()]
    assert all(isinstance(record, dict) for record in found)
    return found


def records(path: Path, count: int, told: Callable[[], str] = lambda: "") -> list[dict[str, Any]]:
    """Return the records of a file, once there are `count`; fail when there are more."""
    wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= count, f"{count} records in {path}", told)
    found = lines_of(path)
    assert len(found) == count
    return found


def _environment(**more: str) -> dict[str, str]:
    """Return the test's environment with the package under test first, and no service manager but the test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NOTIFY_", "WATCHDOG_"))}
    path = str(Path(nflowlevel.__file__).parents[1])
    return {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "", "TZ": "UTC", **more}


def run(
    *arguments: str, netns: Netns | None = None, cwd: Path | None = None, timeout: float = PATIENCE
) -> subprocess.CompletedProcess[str]:
    """Run the daemon until it ends by itself, and return its status and what it said."""
    command = [*_PROGRAM, *arguments]
    return subprocess.run(
        netns.command(*command) if netns else command,
        env=_environment(),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


class Daemon:
    """The daemon in the foreground; ready when the `with` block begins, stopped in order when it ends."""

    def __init__(
        self,
        directory: Path,
        text: str,
        *arguments: str,
        netns: Netns | None = None,
        wrapper: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        **popen: Any,
    ) -> None:
        number = sum(1 for _ in directory.glob("daemon*.conf"))
        self.config = directory / f"daemon{number}.conf"
        self.config.write_text(text, errors="surrogateescape")
        self._stderr = directory / f"daemon{number}.stderr"
        self._stdout = directory / f"daemon{number}.stdout"
        # An abstract name, so that any user can reach it; it is known in its own network namespace only.
        address = f"nfltest-{os.getpid()}-{id(self)}"
        with netns.enter() if netns else contextlib.nullcontext():
            self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(f"\0{address}".encode())
        self.notified: list[dict[str, str]] = []
        command = [*wrapper, *_PROGRAM, "-c", str(self.config), *arguments]
        self._arguments = {
            "args": netns.command(*command) if netns else command,
            "env": _environment(**{"NOTIFY_SOCKET": f"@{address}", **(environment or {})}),
            **popen,
        }
        self.process: subprocess.Popen[bytes] = None  # type: ignore[assignment]

    def start(self) -> Daemon:
        """Start it, without waiting for anything."""
        with self._stderr.open("wb") as stderr, self._stdout.open("wb") as stdout:
            self.process = subprocess.Popen(stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, **self._arguments)
        return self

    def __enter__(self) -> Daemon:
        self.start()
        try:
            self.expect("READY")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None and self.process.poll() is None:
                self.stop()
        finally:
            self.close()

    @property
    def pid(self) -> int:
        """Its process id: nsenter and the like become the daemon."""
        return self.process.pid

    @property
    def stderr(self) -> str:
        """What it has written to standard error."""
        return self._stderr.read_text(errors="replace")

    @property
    def stdout(self) -> str:
        """What it has written to standard output."""
        return self._stdout.read_text(errors="replace")

    def expect(self, name: str) -> dict[str, str]:
        """Return the next notification that assigns `name`; fail when it does not come."""
        end = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None or self._waiting(0), f"it ended: {self.process.poll()}\n{self.stderr}"
            assert time.monotonic() < end, f"{name} was not notified\n{self.notified}\n{self.stderr}"
            if self._waiting(0.1):
                message = self._manager.recv(65536).decode()
                state = dict(line.split("=", 1) for line in message.split("\n"))
                self.notified.append(state)
                if name in state:
                    return state

    def _waiting(self, timeout: float) -> bool:
        return bool(select.select([self._manager], [], [], timeout)[0])

    def says(self, text: str, where: Path | None = None) -> None:
        """Wait until it has said `text` on standard error, or in the file `where`."""
        at = where or self._stderr
        wait_for(lambda: at.exists() and text in at.read_text(errors="replace"), repr(text), lambda: self._told(at))

    def _told(self, at: Path) -> str:
        return at.read_text(errors="replace") if at.exists() else f"there is no {at}"

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def reload(self) -> None:
        """Send SIGHUP and wait until it has been acted on."""
        self.send(signal.SIGHUP)
        self.expect("RELOADING")
        self.expect("READY")

    def wait(self) -> int:
        """Wait until it has ended and return its status."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon does not end\n{self.stderr}") from None

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it in order; fail unless it ends with status 0."""
        self.send(number)
        assert self.wait() == 0, self.stderr

    def close(self) -> None:
        """Take back what is left, whatever state it is in. May be called twice."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._manager.close()


@contextlib.contextmanager
def background(pidfile: Path, *arguments: str, netns: Netns | None = None, cwd: Path | None = None) -> Iterator[int]:
    """Start the daemon with `-d`, give its process id, and see it end when the block does."""
    started = run("-d", "-p", str(pidfile), *arguments, netns=netns, cwd=cwd)
    assert started.returncode == 0, started.stderr
    pid = int((cwd / pidfile if cwd else pidfile).read_text())
    handle = os.pidfd_open(pid)
    try:
        yield pid
    finally:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        ended = poll.poll(PATIENCE * 1000)
        if not ended:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
        assert ended, "the daemon did not end"


class Flood:
    """UDP from peer to fw in a thread, about `rate` packets a second, from the start of the block to its end."""

    def __init__(self, pair: Pair, rate: int, size: int = 20) -> None:
        self.sent = 0
        self._pair, self._rate, self._payload = pair, rate, bytes(size)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        burst = max(1, self._rate // 100)
        with self._pair.peer.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.connect((self._pair.FW4, 9))
            while not self._stop.wait(0.01):
                for _ in range(burst):
                    udp.send(self._payload)
                self.sent += burst

    def __enter__(self) -> Flood:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
