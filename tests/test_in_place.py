# SPDX-License-Identifier: GPL-2.0-or-later
"""nflowlevel in the place of Debian's ulogd, with all files of the package as they are, /etc/ulogd.conf included.

That logs group 0 by LOGEMU. tests/cli/test_drop_in.py has the same with a configuration of its own.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from tests.cli.test_drop_in import daemons, init, needs_ulogd2, pid
from tests.fix_machine import Machine

_LOG = "/var/log/ulog/syslogemu.log"
_OWN = ("/etc/ulogd.conf", "/etc/init.d/ulogd2", "/lib/systemd/system/ulogd2.service", "/etc/logrotate.d/ulogd2")
_LINE = re.compile(
    r"\w{3} [ \d]\d [\d:]{8} \S+ there IN=lo OUT= MAC=(?:00:){12}08:00 SRC=127\.0\.0\.1 DST=127\.0\.0\.1 LEN=29 TOS=00 "
    r"PREC=0x00 TTL=64 ID=\d+ DF PROTO=UDP SPT=\d+ DPT=9 LEN=9 (?:UID=0 GID=0 )?MARK=0x0 "
)


def _as_packaged(machine: Machine) -> None:
    """Fail where the machine's files are not the package's."""
    changed = machine.run("dpkg", "--verify", "ulogd2", check=False)
    assert not [line for line in changed.splitlines() if line.split()[-1] in _OWN], changed


def _prepared(directory: Path, first: Literal["systemd", "none"]) -> Machine:
    needs_ulogd2()
    return Machine(directory, first)


def _install(machine: Machine) -> None:
    _as_packaged(machine)
    said = machine.run("/opt/nflowlevel/bin/nflowlevel", "drop-in", "install")
    assert "cannot" not in said
    machine.log_udp(0)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Machine]:
    """A machine without systemd."""
    with _prepared(tmp_path, "none") as machine:
        _install(machine)
        yield machine
        _as_packaged(machine)


@pytest.fixture
def booted(tmp_path: Path) -> Iterator[Machine]:
    """A machine with systemd."""
    with _prepared(tmp_path, "systemd") as machine:
        _install(machine)
        yield machine
        _as_packaged(machine)


def _lines(machine: Machine) -> list[str]:
    """Return all lines of the log and of what it was before it was rotated, the oldest first; each is whole."""
    paths = machine.run("sh", "-c", f"ls -tr {_LOG}*", check=False).split()
    text = "".join(machine.run("zcat", "--force", path) for path in paths if path.startswith(_LOG))
    lines = text.split("\n")
    assert lines.pop() == ""
    assert all(_LINE.fullmatch(line) for line in lines), lines[:1]
    return lines


def _arrive(machine: Machine, count: int, total: int) -> None:
    machine.send_udp(count)
    machine.until(lambda: machine.read(_LOG).count("\n") == total, f"{total} lines")


def _rotate(machine: Machine) -> None:
    """Rotate as cron would, with Debian's file for ulogd2."""
    machine.write("/tmp/logrotate.conf", "rotate 4\ninclude /etc/logrotate.d/ulogd2\n")
    machine.run("logrotate", "--force", "/tmp/logrotate.conf")


def _rotated_while_packets_come(machine: Machine) -> None:
    """Rotate again and again under traffic: each packet is in one of the files, once."""
    count = 3000
    program = (
        "import socket, time\ns = socket.socket(2, 2)\ns.bind(('127.0.0.1', 40000))\n"
        f"for number in range({count}):\n    s.sendto(b'x', ('127.0.0.1', 9))\n    time.sleep(0.001)\n"
    )
    before = len(_lines(machine))
    sender = subprocess.Popen(machine.command("python3", "-c", program))
    try:
        rotations = 0
        while sender.poll() is None and rotations < 3:
            _rotate(machine)
            rotations += 1
        assert sender.wait(60) == 0
    finally:
        if sender.poll() is None:
            sender.kill()
            sender.wait()
    assert rotations >= 2
    machine.until(lambda: len(_lines(machine)) == before + count, f"{count} more lines in all files")
    assert machine.run("stat", "-c", "%U %G %a", _LOG) == "ulog adm 640\n"


@pytest.mark.slow
def test_the_init_script(plain: Machine) -> None:
    assert init(plain, "status").returncode == 3
    assert init(plain, "start").returncode == 0
    assert daemons(plain) == [pid(plain)]
    assert init(plain, "status").returncode == 0
    _arrive(plain, 7, 7)
    plain.run("mv", _LOG, f"{_LOG}.1")
    assert init(plain, "reload").returncode == 0
    plain.until(lambda: plain.path(_LOG).exists(), "the file is opened anew")
    _arrive(plain, 5, 5)
    assert init(plain, "restart").returncode == 0
    _arrive(plain, 3, 8)
    assert init(plain, "stop").returncode == 0
    assert daemons(plain) == []
    assert len(_lines(plain)) == 15


@pytest.mark.slow
def test_the_logrotate_file_with_the_init_script(plain: Machine) -> None:
    assert init(plain, "start").returncode == 0
    _arrive(plain, 7, 7)
    _rotated_while_packets_come(plain)
    assert init(plain, "stop").returncode == 0


@pytest.mark.slow
def test_the_unit_and_the_logrotate_file(booted: Machine) -> None:
    booted.run("systemctl", "start", "ulogd2")
    assert booted.run("systemctl", "show", "-P", "MainPID", "ulogd2").strip() == pid(booted)
    _arrive(booted, 7, 7)
    _rotated_while_packets_come(booted)
    booted.run("systemctl", "restart", "ulogd2")
    before = len(_lines(booted))
    booted.send_udp(3)
    booted.until(lambda: len(_lines(booted)) == before + 3, "3 more lines")
    booted.run("systemctl", "stop", "ulogd2")
    assert booted.run("systemctl", "show", "-P", "Result", "ulogd2") == "success\n"
    assert daemons(booted) == []
