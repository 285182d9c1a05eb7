# SPDX-License-Identifier: GPL-2.0-or-later
"""Descriptors 0 to 2 that are closed at the start: both programs put /dev/null there before they open anything."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

_CLOSE = {0: "<&-", 1: ">&-", 2: "2>&-"}

#: Where a program has its own descriptors when it has been imported, in the file named by its argument.
_LOOK = """
import {0}, json, os, sys
found = {{fd: os.readlink(f"/proc/self/fd/{{fd}}") for fd in range(3)}}
kept = [os.get_inheritable(fd) for fd in range(3)]
streams = [stream is not None and stream.fileno() for stream in (sys.stdin, sys.stdout, sys.stderr)]
print("said")
with open(sys.argv[1], "w") as file:
    json.dump([found, kept, streams], file)
"""


def run(closed: tuple[int, ...], *command: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program with some descriptors closed."""
    shell = f'exec "$@" {" ".join(_CLOSE[fd] for fd in closed)}'
    return subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, *command], input="", capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("module", ["nflowlevel.cli", "nflowlevel.daemon.main"])
@pytest.mark.parametrize("closed", [them for n in range(4) for them in itertools.combinations(range(3), n)])
def test_what_is_closed_leads_to_null_and_nothing_else_does(
    module: str, closed: tuple[int, ...], tmp_path: Path
) -> None:
    out = tmp_path / "found"
    done = run(closed, "-c", _LOOK.format(module), str(out))
    assert done.returncode == 0, done.stderr
    places, inheritable, streams = json.loads(out.read_text())
    assert [int(fd) for fd, place in places.items() if place == "/dev/null"] == list(closed)
    assert inheritable == [True] * 3
    assert streams == [0, 1, 2]
    assert done.stdout == ("" if 1 in closed else "said\n")


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("-m", "nflowlevel", "--version"), 0),
        (("-m", "nflowlevel", "describe", "JSON"), 0),
        (("-m", "nflowlevel", "check-config", "/nonexistent"), 78),
        (("-m", "nflowlevel.daemon", "--check-config", "-c", "/nonexistent"), 78),
        (("-m", "nflowlevel.daemon.main", "-i", "JSON"), 0),
        ((str(Path(sys.executable).parent / "nflowlevel"), "describe", "JSON"), 0),
        ((str(Path(sys.executable).parent / "nflowlevel-daemon"), "--version"), 0),
    ],
)
def test_programs_with_everything_closed_end_as_they_should(command: tuple[str, ...], status: int) -> None:
    """Python has no sys.stdout then, and what flushes it, or asks it whether it is a terminal, would fail."""
    if command[0] != "-m" and not Path(command[0]).exists():
        pytest.skip(f"{command[0]} is not installed here")
    assert run((0, 1, 2), *command).returncode == status


def test_the_library_leaves_descriptors_alone(tmp_path: Path) -> None:
    out = tmp_path / "found"
    code = (
        "import nflowlevel, os, sys; is_open = os.path.exists('/proc/self/fd/1'); "
        "open(sys.argv[1], 'w').write(str(is_open))"
    )
    assert run((1, 2), "-c", code, str(out)).returncode == 0
    assert out.read_text() == "False"
