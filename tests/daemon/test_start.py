# SPDX-License-Identifier: GPL-2.0-or-later
"""Signals that come while the daemon starts: nobody who sends one can know that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nflowlevel.daemon import start
from tests.fix_daemon import Daemon, config
from tests.fix_group import run_python
from tests.fix_netns import Netns

_HELD = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)


def test_signals_of_the_start_are_acted_on_when_everything_runs(netns: Netns, tmp_path: Path) -> None:
    """A configuration that comes through a FIFO keeps the daemon before its handlers for as long as we like."""
    fifo = tmp_path / "conf"
    os.mkfifo(fifo)
    text = config("g:NFLOG,b:BASE,j:JSON", g="group=2", j=f"file={tmp_path}/out")
    daemon = Daemon(tmp_path, text, "-c", str(fifo), netns=netns).start()
    try:
        end = time.monotonic() + 60
        while True:  # until it reads there
            try:
                writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.003)
        for number in _HELD:
            daemon.send(number)
        with open(writer, "w") as feed:
            feed.write(text)
        daemon.expect("READY")
        daemon.says("SIGHUP: reopening files")
        daemon.says("JSON of stack")
        assert daemon.stderr.count("reopening") == 1
        daemon.reload()
        daemon.stop()
    finally:
        daemon.close()


@pytest.mark.parametrize("number", _HELD)
def test_it_holds_them_back_before_it_imports_anything_of_the_daemon(number: int) -> None:
    code = f"""
import os, sys, types
late = sys.modules["nflowlevel.daemon.main"] = types.ModuleType("late")
late.main = lambda: os.kill(os.getpid(), {int(number)}) or 5
from nflowlevel.daemon.start import main
print(main())
"""
    assert run_python(code).stdout == "5\n"


@pytest.mark.parametrize("module", ["nflowlevel.daemon", "nflowlevel.daemon.main"])
def test_both_names_of_the_program_begin_so(module: str, tmp_path: Path) -> None:
    fifo = tmp_path / "conf"
    os.mkfifo(fifo)
    with subprocess.Popen(
        [sys.executable, "-m", module, "--check-config", "-c", str(fifo)], stderr=subprocess.DEVNULL
    ) as process:
        with fifo.open("w") as feed:
            process.send_signal(signal.SIGHUP)
            feed.write("nothing")
        assert process.wait(60) == 78


def test_who_starts_it_stops_it_at_once(tmp_path: Path) -> None:
    """SIGTERM is not held back: a start that hangs must end."""
    fifo = tmp_path / "conf"
    os.mkfifo(fifo)
    with subprocess.Popen([sys.executable, "-m", "nflowlevel.daemon", "-c", str(fifo)]) as process, fifo.open("w"):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM


def test_they_are_let_go() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        start.hold()
        assert set(_HELD) <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
        start.let_go()
        assert not set(_HELD) & signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
