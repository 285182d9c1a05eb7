# SPDX-License-Identifier: GPL-2.0-or-later
"""Network namespaces: run a few calls of this thread in another one, or in each (setns(2), ip-netns(8))."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, TypeVar

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.descriptor import Descriptor, check
from nflowlevel.binding.opener import opened
from nflowlevel.errors import KernelError

Answer = TypeVar("Answer")

#: Device and inode of a namespace's file. A namespace that has ended leaves its inode to a later one.
Identity: TypeAlias = tuple[int, int]

#: How `everywhere` and `elsewhere` call the namespace this process is in.
OWN = "(own)"
_NAMED = "/run/netns"
_OF_THREAD = "/proc/thread-self/ns/net"
#: linux/sockios.h: a descriptor of a socket's namespace.
_SIOCGSKNS = 0x894C
#: linux/inotify.h: IN_CREATE, IN_DELETE, IN_MOVED_FROM, IN_MOVED_TO.
_CAME_OR_WENT = 0x100 | 0x200 | 0x40 | 0x80


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


def leads_to(netns: str) -> Identity | None:
    """Return which namespace its name or path leads to now; None where it leads to none. OSError: that is not told."""
    try:
        found = os.stat(path_of(netns))
    except PermissionError:
        # Of another process, which this one may not look into any more.
        with Descriptor() as place:
            try:
                place.take(opened(NamespaceDoor(netns)))
            except FileNotFoundError:
                return None
            return identity(place.fd)
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return None
    # `ip netns add` makes a file first, and then mounts the namespace over it.
    is_namespace = found.st_dev == os.stat(_OF_THREAD).st_dev
    return (found.st_dev, found.st_ino) if is_namespace else None


def of_socket(fd: int) -> Identity | None:
    """Return the namespace that a socket is in, wherever its name leads now; None where the kernel does not tell.

    As long as the socket is open, the namespace lives, and no other has its identity.
    """
    with Descriptor() as found:
        if lib.nfl_descriptor_ioctl(found.into, fd, _SIOCGSKNS):
            return None
        return identity(found.fd)


class Watch:
    """Tells that names of namespaces came or went (`ip netns add`, `ip netns del`): `fileno()` is readable, then.

    A namespace is at its name a moment after the name has come. -1 where there is nothing to watch yet.
    """

    def __init__(self) -> None:
        self._inotify = Descriptor()
        self.begin()

    def begin(self) -> bool:
        """Begin, if the directory is there; whether it watches."""
        return bool(self._inotify) or not lib.nfl_descriptor_watch(self._inotify.into, _NAMED.encode(), _CAME_OR_WENT)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._inotify.fd

    def read(self) -> None:
        """Take in what was told: what it was is not asked."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._inotify.fd, 1 << 16)

    def close(self) -> None:
        """Give the descriptor back; may be called again."""
        self._inotify.close()


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


def name_of_own() -> str:
    """Return the name in `ip netns` of the namespace that the calling thread is in, "" where it has none there."""
    own = identity(_OF_THREAD)
    for name in _named():
        try:
            if identity(path_of(name)) == own:
                return name
        except OSError:  # it has just been removed
            continue
    return ""


def identity_of_own() -> str:
    """Return how the kernel calls that namespace, such as `net:[4026531840]`; `lsns -t net` lists these numbers."""
    return os.readlink(_OF_THREAD)
