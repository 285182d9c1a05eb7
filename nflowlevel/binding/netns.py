# SPDX-License-Identifier: GPL-2.0-or-later
"""Network namespaces: run a few calls of this thread in another one, or in each (setns(2), ip-netns(8))."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, TypeVar

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
    target = _opened(netns)
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


@dataclass(frozen=True, slots=True)
class NamespaceDoor:
    """A door (opener.py) to a namespace itself: its descriptor tells it from others, and keeps it alive."""

    netns: str

    #: Of the process whose namespace `/proc/PID/ns/net` is.
    capabilities: ClassVar[int] = 1 << lib.CAP_SYS_PTRACE

    def open(self) -> int:
        """Return a descriptor of the namespace; KernelError where it is not there, or is none."""
        return _opened(self.netns)


def refused(netns: str, error: int) -> KernelError:
    """Return what to raise where a namespace cannot be opened."""
    path = path_of(netns)
    where = netns if netns == path else f"{netns} ({path})"
    return KernelError(f"enter network namespace {where}", error, "list them with: ip netns")


def _opened(netns: str) -> int:
    """Open a namespace and nothing else, whatever somebody may have put at its path: not even a FIFO is waited for."""
    try:
        place = os.open(path_of(netns), os.O_PATH | os.O_CLOEXEC)
        try:
            if os.fstat(place).st_dev != os.stat(_OF_THREAD).st_dev:
                raise OSError(errno.EINVAL, "not a namespace")
            return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(place)
    except OSError as error:
        raise refused(netns, error.errno or 0) from None


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
