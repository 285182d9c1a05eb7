# SPDX-License-Identifier: GPL-2.0-or-later
"""Become an ordinary user and keep the one capability a reader of groups needs; capabilities(7)."""

from __future__ import annotations

import os
import pwd

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.errors import KernelError


def drop_to(user: pwd.struct_passwd) -> None:
    """Take the user's uid, gid and groups for good and keep CAP_NET_ADMIN, and nothing else.

    It is needed for larger socket buffers, for giving a group up in order, and for taking it again. Only the calling
    thread keeps it. KernelError where the kernel refuses.
    """
    try:
        _call(lib.prctl(lib.PR_SET_KEEPCAPS, 1, 0, 0, 0))
        os.initgroups(user.pw_name, user.pw_gid)
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
        _keep(1 << lib.CAP_NET_ADMIN)
        _call(lib.prctl(lib.PR_SET_KEEPCAPS, 0, 0, 0, 0))
    except OSError as error:
        raise KernelError(f"become user {user.pw_name}", error.errno or 0, "start as root, or as that user") from None


def _keep(capabilities: int) -> None:
    header = ffi.new("struct __user_cap_header_struct *", {"version": lib._LINUX_CAPABILITY_VERSION_3})
    low = {"effective": capabilities, "permitted": capabilities}
    _call(lib.capset(header, ffi.new("struct __user_cap_data_struct[2]", [low, {}])))


def _call(result: int) -> None:
    if result:
        raise OSError(ffi.errno, os.strerror(ffi.errno))
