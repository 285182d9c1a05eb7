# SPDX-License-Identifier: GPL-2.0-or-later
"""Network namespaces: run a few calls of this thread in another one (setns(2), ip-netns(8))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.errors import KernelError


def path_of(netns: str) -> str:
    """Return the path of a namespace given by name (`ip netns add NAME`) or by path (`/proc/PID/ns/net`)."""
    return netns if "/" in netns else f"/run/netns/{netns}"


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
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(target, f"enter network namespace {netns}")
        try:
            yield
        finally:
            _setns(home, "return to the own network namespace")
    finally:
        os.close(target)
        os.close(home)


def _setns(fd: int, tried: str) -> None:
    if lib.setns(fd, lib.CLONE_NEWNET):
        raise KernelError(tried, ffi.errno, "needs CAP_SYS_ADMIN")
