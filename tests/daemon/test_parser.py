# SPDX-License-Identifier: GPL-2.0-or-later
"""Refusals of the daemon's command line, on a terminal in lines that fit it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from nflowlevel.daemon.parser import Parser
from tests.fix_terminal import read_to_the_end


class _Program(Parser):
    wrong = 9


def test_what_is_left_over_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    parser = _Program(prog="program")
    parser.add_argument("--configfile")
    for words, says in (
        (["--confgfile=x"], "unknown option '--confgfile' — did you mean '--configfile'?"),
        (["word"], "unexpected argument 'word'"),
        (["-"], "unexpected argument '-'"),
        (["--\x1b[2J"], r"unknown option '--\x1b[2J'"),
    ):
        with pytest.raises(SystemExit) as caught:
            parser.refuse_unknown(words)
        assert caught.value.code == 9
        assert capsys.readouterr().err.endswith(f"program: error: {says}\n")
    parser.refuse_unknown([])


@pytest.mark.parametrize("words", [["--colour-of-all-that-nobody-wants"], ["-c", "/no/such/" + "directory/" * 9]])
def test_on_a_terminal_it_fits(words: list[str]) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    child = subprocess.Popen([sys.executable, "-m", "nflowlevel.daemon", *words], stderr=theirs)
    os.close(theirs)
    found = read_to_the_end(ours)
    assert child.wait() in (1, 78)
    said = [line for line in found.decode().splitlines() if not line.startswith(("usage:", " " * 10))]
    assert len(said) > 1
    assert all(len(line) <= 50 for line in said)
