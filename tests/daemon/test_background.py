# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon in the background: the foreground process ends with the start, and says how it went."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.daemon.test_main import out, to_file
from tests.fix_daemon import background, config, run, wait_for
from tests.fix_netns import Netns
from tests.fix_nflog import bound_groups

__all__ = ["out"]


def test_background_with_relative_paths(netns: Netns, tmp_path: Path, out: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/my.conf").write_text(to_file(out, 2, "", f"logfile={tmp_path}/log"))
    pidfile = Path("daemon.pid")
    with background(pidfile, "-c", "etc/my.conf", netns=netns, cwd=tmp_path) as pid:
        assert bound_groups(netns) == {2: pid}
        assert (tmp_path / pidfile).read_text() == f"{pid}\n"
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.getsid(pid) == pid
        assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}
    assert not (tmp_path / pidfile).exists()
    assert "SIGTERM: stopping" in (tmp_path / "log").read_text()


def test_background_errors_of_the_configuration_are_in_the_status(tmp_path: Path) -> None:
    file = tmp_path / "bad.conf"
    file.write_text(config("g:NFLOG,b:BASE,j:JSOM", g="group=2"))
    done = run("-d", "-p", str(tmp_path / "pid"), "-c", str(file))
    assert done.returncode == 78
    assert f"{file}:2:" in done.stderr
    assert "did you mean 'JSON'?" in done.stderr
    assert not (tmp_path / "pid").exists()


def test_background_where_no_stack_starts(netns: Netns, tmp_path: Path) -> None:
    file = tmp_path / "my.conf"
    file.write_text(to_file(tmp_path / "missing/out.json", 2, "", f"logfile={tmp_path}/log"))
    done = run("-d", "-p", str(tmp_path / "pid"), "-c", str(file), netns=netns)
    assert done.returncode == 1
    # Whoever started it sees why, not only who reads the log.
    for text in (done.stderr, (tmp_path / "log").read_text()):
        assert "No such file or directory — create the directory" in text
        assert "no stack could be started" in text
    assert not (tmp_path / "pid").exists()


def test_background_where_the_log_cannot_be_opened(tmp_path: Path, out: Path) -> None:
    file = tmp_path / "my.conf"
    file.write_text(to_file(out, 2, "", f"logfile={tmp_path}/missing/log"))
    done = run("-d", "-c", str(file))
    assert done.returncode == 2
    assert "No such file or directory" in done.stderr


def test_verbose_in_the_background_is_ignored_with_a_message(netns: Netns, tmp_path: Path, out: Path) -> None:
    file = tmp_path / "my.conf"
    file.write_text(to_file(out, 2, "", f"logfile={tmp_path}/log", "loglevel=3"))
    pidfile = tmp_path / "pid"
    started = run("-v", "-d", "-p", str(pidfile), "-c", str(file), netns=netns)
    try:
        assert started.returncode == 0
        assert started.stderr == "nflowlevel-daemon: -v is ignored: with -d there is no standard error to write to\n"
    finally:
        os.kill(int(pidfile.read_text()), signal.SIGTERM)
        wait_for(lambda: not pidfile.exists(), "the daemon ends")
