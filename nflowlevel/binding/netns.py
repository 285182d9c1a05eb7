# SPDX-License-Identifier: GPL-2.0-or-later
"""Network namespaces: run a few calls of this thread in another one, or in each (setns(2), ip-netns(8))."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, TypeVar

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.descriptor import Descriptor, check
from nflowlevel.errors import KernelError

Answer = TypeVar("Answer")

#: Device and inode of a namespace's file. A namespace that has ended leaves its inode to a later one.
Identity: TypeAlias = tuple[int, int]

#: How `everywhere` and `elsewhere` call the namespace this process is in.
OWN = "(own)"
_NAMED = "/run/netns"
_OF_THREAD = "/proc/thread-self/ns/net"


def path_of(netns: str) -> str:
    """Return the path of a namespace given by name (`ip netns add NAME`) or by path (`/proc/PID/ns/net`)."""
    return netns if "/" in netns else f"{_NAMED}/{netns}"


def entered(netns: str | None) -> AbstractContextManager[object]:
    """Put the calling thread into `netns` for the block; None or '' stays where it is.

    Sockets made inside belong to that namespace for good; other threads are not affected. Whenever the block is
    interrupted, the thread comes back: C takes it home as the block is left, and Python runs nothing in between.
    """
    if not netns:
        return nullcontext()
    target = namespace(netns)
    visit = ffi.gc(ffi.new("struct nfl_visit *", {"home": {"fd": -1}}), lib.nfl_visit_end)
    try:
        check(lib.nfl_visit_begin(visit, target.fd), f"enter network namespace {netns}", "needs CAP_SYS_ADMIN")
    except BaseException:
        ffi.release(visit)
        raise
    return visit  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class NamespaceDoor:
    """A door (opener.py) to a namespace itself: its descriptor tells it from others, and keeps it alive."""

    netns: str

    #: Of the process whose namespace `/proc/PID/ns/net` is.
    capabilities: ClassVar[int] = 1 << lib.CAP_SYS_PTRACE

    def open(self) -> int:
        """Return a descriptor of the namespace; KernelError where it is not there, or is none."""
        return namespace(self.netns).detach()


def refused(netns: str, error: int) -> KernelError:
    """Return what to raise where a namespace cannot be opened."""
    path = path_of(netns)
    where = netns if netns == path else f"{netns} ({path})"
    return KernelError(f"enter network namespace {where}", error, "list them with: ip netns")


def namespace(netns: str) -> Descriptor:
    """Open a namespace and nothing else, whatever somebody may have put at its path: not even a FIFO is waited for."""
    found = Descriptor()
    if result := lib.nfl_namespace_open(found.into, os.fsencode(path_of(netns))):
        raise refused(netns, -result)
    return found


def everywhere(look: Callable[[str | None], Answer]) -> tuple[dict[str, Answer], list[str]]:
    """Look at this namespace and all of `ip netns`, each once; also return those that cannot be entered."""
    return _look(look, set())


def elsewhere(look: Callable[[str | None], Answer], netns: str | None) -> tuple[dict[str, Answer], list[str]]:
    """Look everywhere but at `netns`."""
    with entered(netns):
        seen = {identity(_OF_THREAD)}
    return _look(look, seen)


def _look(look: Callable[[str | None], Answer], seen: set[Identity]) -> tuple[dict[str, Answer], list[str]]:
    found: dict[str, Answer] = {}
    closed: list[str] = []
    for name in (None, *_named()):
        try:
            place = identity(path_of(name) if name else _OF_THREAD)
            if place not in seen:
                found[name or OWN] = look(name)
                seen.add(place)
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


def identity(path: str | int) -> Identity:
    """Return what tells the namespace at a path, or of a descriptor, from all others that live; OSError."""
    status = os.stat(path)
    return status.st_dev, status.st_ino
