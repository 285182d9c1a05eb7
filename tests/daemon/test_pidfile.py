# SPDX-License-Identifier: GPL-2.0-or-later
"""The pid file, with a second process that holds the lock. What the daemon does with it is in test_daemon.py."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.binding import rootpath
from nflowlevel.daemon import pidfile
from nflowlevel.daemon.pidfile import PidFile
from nflowlevel.errors import NflowError
from tests.fix_nobody import NOBODY, open_to_all, run_as_nobody

__all__ = ["open_to_all"]

_HOLD = """
import sys
from nflowlevel.daemon.pidfile import PidFile
PidFile(sys.argv[1]).create()
print("holds", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(path: Path) -> Iterator[int]:
    """Another process has the pid file until the block ends, and then dies without removing it."""
    child = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin
    assert child.stdout
    try:
        assert child.stdout.readline() == "holds\n"
        yield child.pid
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def test_created_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    file = PidFile(str(path))
    file.create()
    assert path.read_text() == f"{os.getpid()}\n"
    file.remove()
    assert not path.exists()
    file.remove()


def test_a_living_holder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with held(path) as pid, pytest.raises(NflowError, match=f"pid file {path}: process {pid} is already running"):
        PidFile(str(path)).create()
    assert path.read_text() == f"{pid}\n"


def test_what_a_dead_holder_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with held(path):
        pass
    assert path.exists()
    file = PidFile(str(path))
    file.create()
    assert path.read_text() == f"{os.getpid()}\n"
    file.remove()


@pytest.mark.parametrize("content", ["", "nonsense\n", "1\n", "{own}\n", "9" * 100])
def test_the_content_decides_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "pid"
    path.write_text(content.format(own=os.getpid()))
    file = PidFile(str(path))
    file.create()
    assert path.read_text() == f"{os.getpid()}\n"
    file.remove()


def test_a_file_removed_by_its_holder_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of a file without a name guards nothing: the new one is locked instead."""
    path = tmp_path / "pid"
    real_open = pidfile.open_own
    opened: list[int] = []

    def open_and_lose(*args: Any) -> int:
        opened.append(real_open(*args))
        if len(opened) < 3:
            path.unlink()
        if len(opened) == 2:
            path.write_text("another's\n")
        return opened[-1]

    monkeypatch.setattr(pidfile, "open_own", open_and_lose)
    file = PidFile(str(path))
    file.create()
    monkeypatch.undo()
    assert len(opened) == 3
    assert path.read_text() == f"{os.getpid()}\n"
    file.remove()


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NflowError, match=f"pid file {tmp_path}/missing/pid: No such file or directory"):
        PidFile(f"{tmp_path}/missing/pid").create()


@pytest.fixture
def users() -> Iterator[Path]:
    """A directory of an ordinary user's."""
    with tempfile.TemporaryDirectory(prefix="nfltest-") as directory:
        os.chown(directory, NOBODY, NOBODY)
        yield Path(directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="this is about what root does")
def test_a_file_of_roots_that_is_linked_there_for_the_moment(
    users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where fs.protected_hardlinks is 0 anybody can: link(2) before it is opened, unlink(2) before it is looked at."""
    victim, path = tmp_path / "victim", users / "pid"
    victim.write_text("root's")
    path.hardlink_to(victim)
    checked, lockf = rootpath._checked, fcntl.lockf

    def check(*arguments: Any) -> int:
        path.unlink()
        return checked(*arguments)

    def lock(*arguments: Any) -> None:
        lockf(*arguments)
        if not path.exists():
            path.hardlink_to(victim)

    monkeypatch.setattr(rootpath, "_checked", check)
    monkeypatch.setattr(fcntl, "lockf", lock)
    file = PidFile(str(path))
    file.create()
    assert victim.read_text() == "root's"
    assert path.read_text() == f"{os.getpid()}\n"
    file.remove()
    assert victim.read_text() == "root's"
    assert list(users.iterdir()) == []


def test_two_in_a_users_directory(users: Path) -> None:
    path = users / "pid"
    for _ in range(2):
        with held(path) as pid:
            with pytest.raises(NflowError, match=f"process {pid} is already running"):
                PidFile(str(path)).create()
            assert path.read_text() == f"{pid}\n"
        assert [each.name for each in users.iterdir()] == ["pid"]


def test_removal_is_tried_only(tmp_path: Path) -> None:
    """An unprivileged daemon may be unable to remove what root created."""
    directory = tmp_path / "run"
    directory.mkdir()
    file = PidFile(str(directory / "pid"))
    file.create()
    directory.rename(tmp_path / "elsewhere")
    file.remove()
    assert (tmp_path / "elsewhere/pid").read_text() == "", "nobody is killed for its number"


def test_what_a_user_cannot_remove_is_emptied(open_to_all: Path) -> None:
    file = PidFile(str(open_to_all / "pid"))
    file.create()
    assert (open_to_all / "pid").read_text() == f"{os.getpid()}\n"

    def end() -> int:
        file.remove()
        return 0

    assert run_as_nobody(end) == (0, "")
    assert (open_to_all / "pid").read_text() == ""
    again = PidFile(str(open_to_all / "pid"))
    file.remove()
    again.create()
    again.remove()
