# SPDX-License-Identifier: GPL-2.0-or-later
"""The command on a terminal of a given width, as its user sees it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import nflowlevel
from tests.fix_daemon import PATIENCE
from tests.fix_netns import Netns


def read_to_the_end(terminal: int) -> bytes:
    """Return all that comes on our side of a terminal until its other side is closed; then close ours."""
    found = b""
    with contextlib.suppress(OSError):  # EIO: it was closed
        while piece := os.read(terminal, 65536):
            found += piece
    os.close(terminal)
    return found


class Screen:
    """The command on a terminal of so many columns."""

    def __init__(self, netns: Netns, columns: int, *arguments: str, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._process = netns.popen(
            sys.executable,
            "-m",
            "nflowlevel",
            *arguments,
            env={
                **{name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")},
                "PYTHONPATH": str(Path(nflowlevel.__file__).parents[1]),
                "TERM": "xterm",
                **environment,
            },
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(theirs)

    def begun(self) -> None:
        """Wait for its first message."""
        assert self._process.stderr
        assert "waiting" in self._process.stderr.readline()

    def shown(self) -> str:
        """Return all that came on the terminal until the end."""
        found = read_to_the_end(self._ours)
        assert self._process.stderr
        self._process.stderr.close()
        assert self._process.wait(PATIENCE) in (0, 1)
        return found.decode().replace("\r\n", "\n")
