# SPDX-License-Identifier: GPL-2.0-or-later
"""Network namespaces: run a few calls of this thread in another one, or in each (setns(2), ip-netns(8))."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.errors import KernelError

Answer = TypeVar("Answer")

#: How `everywhere` and `elsewhere` call the namespace this process is in.
OWN = "(own)"
_NAMED = "/run/netns"
_OF_THREAD = "/proc/thread-self/ns/net"


def path_of(netns: str) -> str:
    """Return the path of a namespace given by name (`ip netns add NAME`) or by path (`/proc/PID/ns/net`)."""
    return netns if "/" in netns else f"{_NAMED}/{netns}"


@contextmanager
def entered(netns: str | None) -> Iterator[None]:
    """Put the calling thread into `netns` for the block; None or '' stays where it is.

    Sockets made inside belong to that namespace for good; other threads are not affected.
    """
    if not netns:
        yield
        return
    path = path_of(netns)
    try:
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(
            f"enter network namespace {netns} ({path})", error.errno or 0, "list them with: ip netns"
        ) from None
    home = os.open(_OF_THREAD, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(target, f"enter network namespace {netns}")
        try:
            yield
        finally:
            _setns(home, "return to the process's own network namespace")
    finally:
        os.close(target)
        os.close(home)


def _setns(fd: int, tried: str) -> None:
    if lib.setns(fd, lib.CLONE_NEWNET):
        raise KernelError(tried, ffi.errno, "needs CAP_SYS_ADMIN")


def everywhere(look: Callable[[str | None], Answer]) -> tuple[dict[str, Answer], list[str]]:
    """Look at this namespace and all of `ip netns`, each once; also return those that cannot be entered."""
    return _look(look, set())


def elsewhere(look: Callable[[str | None], Answer], netns: str | None) -> tuple[dict[str, Answer], list[str]]:
    """Look everywhere but at `netns`."""
    with entered(netns):
        seen = {_identity(_OF_THREAD)}
    return _look(look, seen)


def _look(look: Callable[[str | None], Answer], seen: set[tuple[int, int]]) -> tuple[dict[str, Answer], list[str]]:
    found: dict[str, Answer] = {}
    closed: list[str] = []
    for name in (None, *_named()):
        try:
            identity = _identity(path_of(name) if name else _OF_THREAD)
            if identity not in seen:
                found[name or OWN] = look(name)
                seen.add(identity)
        except OSError as error:
            # One that has just been removed is not missed.
            if error.errno != errno.ENOENT:
                closed.append(name or OWN)
    return found, closed


def _named() -> list[str]:
    try:
        return sorted(os.listdir(_NAMED))
    except OSError:
        return []


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def name_of_own() -> str:
    """Return the name in `ip netns` of the namespace that the calling thread is in, "" where it has none there."""
    own = _identity(_OF_THREAD)
    for name in _named():
        try:
            if _identity(path_of(name)) == own:
                return name
        except OSError:  # it has just been removed
            continue
    return ""


def identity_of_own() -> str:
    """Return how the kernel calls that namespace, such as `net:[4026531840]`; `lsns -t net` lists these numbers."""
    return os.readlink(_OF_THREAD)
