# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a function as an ordinary user without capabilities, in a child process, if wanted in a user namespace; and
directories for what root does beside such a user.

The child is a fork: what is imported already need not be readable for that user, as a checkout in root's home is not.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

NOBODY = 65534
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_DUMPABLE = 4
_libc = ctypes.CDLL(None, use_errno=True)


class Result(NamedTuple):
    status: int
    output: str


def run_as_nobody(function: Callable[[], int]) -> Result:
    """Return what `function` returned and what it printed."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        _child(function, write)
    os.close(write)
    with open(read, encoding="utf-8") as stream:
        output = stream.read()
    return Result(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output)


def _child(function: Callable[[], int], write: int) -> NoReturn:
    status = 99
    try:
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.chdir("/")
        sys.stdout = sys.stderr = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        # Without this /proc/self belongs to root after a change of the user.
        _call(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0))
        status = function()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}")
    finally:
        sys.stdout.flush()
        os._exit(status)


def enter_user_namespace(*, also: int = 0) -> None:
    """Become root of a new user namespace, as `unshare -Ur` does; `also`: further namespaces made in one go."""
    _call(_libc.unshare(CLONE_NEWUSER | also))
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {NOBODY} 1"), ("gid_map", f"0 {NOBODY} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def enter_network_namespace() -> None:
    """Enter a new network namespace, owned by the present user namespace."""
    _call(_libc.unshare(CLONE_NEWNET))


def _call(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory of root's that all may enter; pytest's own are root's alone."""
    with tempfile.TemporaryDirectory(prefix="nfltest-") as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@pytest.fixture
def users(open_to_all: Path) -> Path:
    """A directory of the user's, below `open_to_all`."""
    path = open_to_all / "users"
    path.mkdir()
    user = pwd.getpwuid(NOBODY)
    os.chown(path, user.pw_uid, user.pw_gid)
    return path
