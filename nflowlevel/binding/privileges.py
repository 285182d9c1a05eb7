# SPDX-License-Identifier: GPL-2.0-or-later
"""Become an ordinary user and keep the one capability that a reader of groups needs; capabilities(7).

Capabilities belong to threads, not to processes. So a daemon that will drop its privileges calls `confine` before it
starts any thread, and the threads that it starts are `Worker`s, which keep nothing.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import threading
from collections.abc import Callable, Iterator

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.errors import KernelError

#: What the daemon's main thread keeps: for larger socket buffers, for giving a group up in order, for taking it again.
FOR_GOOD: int = 1 << lib.CAP_NET_ADMIN
#: And as long as it starts, to listen at a port below 1024.
AT_START: int = FOR_GOOD | 1 << lib.CAP_NET_BIND_SERVICE


def drop_to(user: pwd.struct_passwd, capabilities: int = FOR_GOOD) -> None:
    """Take the user's uid, gid and groups for good and keep these capabilities, and nothing else.

    Only the calling thread keeps them; a `Worker` that it starts later gives them up. KernelError where the kernel
    refuses.
    """
    try:
        _call(lib.prctl(lib.PR_SET_KEEPCAPS, 1, 0, 0, 0))
        os.initgroups(user.pw_name, user.pw_gid)
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
        keep(capabilities)
        _call(lib.prctl(lib.PR_SET_KEEPCAPS, 0, 0, 0, 0))
    except OSError as error:
        raise KernelError(f"become user {user.pw_name}", error.errno or 0, "start as root, or as that user") from None


def confine(user: pwd.struct_passwd) -> None:
    """Make sure that no program that this process executes can gain privileges: no capability and no other user.

    This holds for the calling thread and for the threads that it starts afterwards. `user` is who
    `drop_to` is to make of it. KernelError where the kernel refuses.
    """
    try:
        _call(lib.prctl(lib.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        capability = 0
        # EINVAL: the kernel knows no capability of that number, nor any above it.
        while (held := lib.prctl(lib.PR_CAPBSET_READ, capability, 0, 0, 0)) >= 0:
            if held:
                _call(lib.prctl(lib.PR_CAPBSET_DROP, capability, 0, 0, 0))
            capability += 1
    except OSError as error:
        raise KernelError(f"become user {user.pw_name}", error.errno or 0, "start as root, or as that user") from None


def keep(capabilities: int) -> None:
    """Let the calling thread keep these capabilities (bits, as 1 << CAP_NET_ADMIN) and no other, for good; OSError."""
    header = ffi.new("struct __user_cap_header_struct *", {"version": lib._LINUX_CAPABILITY_VERSION_3})
    low = {"effective": capabilities, "permitted": capabilities}
    _call(lib.capset(header, ffi.new("struct __user_cap_data_struct[2]", [low, {}])))


@contextlib.contextmanager
def acting_as(user: pwd.struct_passwd) -> Iterator[None]:
    """Let files be opened and made as this user for the block, if we are root.

    For the time before there are threads: the C library changes the ids of all of them, but not at the same moment.
    """
    if os.geteuid():
        yield
        return
    gid, groups = os.getegid(), os.getgroups()
    try:
        os.setgroups(os.getgrouplist(user.pw_name, user.pw_gid))
        os.setegid(user.pw_gid)
        os.seteuid(user.pw_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


class Worker(threading.Thread):
    """A daemon thread without capabilities, unless it is root's: it talks to files and peers, and needs none."""

    def __init__(self, target: Callable[..., object], name: str | None = None, args: tuple[object, ...] = ()) -> None:
        super().__init__(target=target, name=name, args=args, daemon=True)

    def run(self) -> None:
        """Give up what the thread inherited, then do its work."""
        if os.geteuid():
            keep(0)
        super().run()


def _call(result: int) -> None:
    if result:
        raise OSError(ffi.errno, os.strerror(ffi.errno))
