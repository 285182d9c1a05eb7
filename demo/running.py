# SPDX-License-Identifier: GPL-2.0-or-later
"""What the demos share: network namespaces of their own, commands in them, and the daemon from READY to its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_HERE = Path(__file__).resolve().parent

#: Longest wait for anything.
PATIENCE_SECS = 20.0

#: Set once a program is inside its namespaces, to the id of the user who started it.
_INSIDE = "NFLOWLEVEL_DEMO_INSIDE"


def enter_namespaces(program: str, *arguments: str) -> None:
    """Start the program anew in a network namespace, once; an ordinary user in a user namespace, as its root."""
    # An ordinary user's path lacks the places of nft, ip and iptables.
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if _INSIDE in os.environ:
        return
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    os.environ[_INSIDE] = str(os.geteuid())
    os.execvp("unshare", ["unshare", *user, "--net", "--", sys.executable, program, *arguments])


def started_by_root() -> bool:
    """Tell whether we are root on the machine, not only in a user namespace."""
    return os.environ[_INSIDE] == "0"


@contextlib.contextmanager
def daemon(config: Path, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the daemon in `directory`, from the moment it says READY until SIGTERM has brought it to its end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(directory / "notify"))
        notify.settimeout(PATIENCE_SECS)
        environment = {**os.environ, "NOTIFY_SOCKET": str(directory / "notify")}
        command = [sys.executable, "-m", "nflowlevel.daemon.main", "-c", str(config)]
        process = subprocess.Popen(command, env=environment, cwd=directory)
        try:
            while b"READY=1" not in notify.recv(4096):
                pass
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(PATIENCE_SECS)
            (directory / "notify").unlink()
    if status:
        raise SystemExit(f"demo: the daemon ended with status {status}")


@contextlib.contextmanager
def other_side(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program of this directory in a network namespace of its own, from the moment it says that it is there."""
    command = ["unshare", "--net", "--", sys.executable, str(_HERE / program), *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        _answer(process)
        yield process
    finally:
        process.kill()
        process.communicate()


def ask(process: subprocess.Popen[str], word: str = "go") -> dict[str, int]:
    """Give the other side a word, and return what it says (JSON, a line) when it has done its part."""
    assert process.stdin is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    return _answer(process)


def _answer(process: subprocess.Popen[str]) -> dict[str, int]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("demo: the other side is gone; see above")
    told: dict[str, int] = json.loads(line)
    return told


def until(ready: Callable[[], bool], what: str) -> None:
    """Wait until it is so, or say that it was not."""
    deadline = time.monotonic() + PATIENCE_SECS
    while not ready():
        if time.monotonic() > deadline:
            print(f"demo: not within {PATIENCE_SECS:g} seconds: {what}", file=sys.stderr)
            return
        time.sleep(0.01)


def run(*command: str) -> str:
    """Run a command and return what it wrote; the demo ends where it fails."""
    try:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"demo: {' '.join(command)}: exit status {error.returncode}") from None


def say(what: str) -> None:
    """Tell what happens next; what is indented belongs to the line before."""
    print("*" if not what.startswith(" ") else " ", what, flush=True)
