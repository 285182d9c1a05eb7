# SPDX-License-Identifier: GPL-2.0-or-later
"""The BPF file system, where maps and programs have names and outlive the process that made them; bpf(2), mount(8).

Names in it have no dots: the kernel keeps those for itself (kernel/bpf/inode.c, bpf_lookup).
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.procfs import text_of
from nflowlevel.errors import KernelError, NotSupported

#: Where distributions mount it.
MOUNT_POINT = Path("/sys/fs/bpf")


def is_mounted(directory: Path = MOUNT_POINT) -> bool:
    """Tell whether `directory` is a BPF file system, or within one."""
    return _mounted_at(directory)[0] == "bpf"


def _mounted_at(directory: Path) -> tuple[str, str]:
    """Return the file system that `directory` is in: its type, and what it was mounted from."""
    path = os.path.realpath(directory)
    best, kind, source = "", "", ""
    # Users mount, too (fusermount), at names with any bytes but those that are escaped: blank, tab, newline, backslash.
    for line in text_of("/proc/self/mountinfo").split("\n")[:-1]:
        fields, _, rest = line.partition(" - ")
        point = _unescaped(fields.split(" ")[4])
        # Of two at one place the later one covers the other.
        if len(point) >= len(best) and (path + "/").startswith(point.rstrip("/") + "/"):
            best, (kind, source) = point, rest.split(" ")[:2]
    return kind, _unescaped(source)


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def hiding_netns(directory: Path = MOUNT_POINT) -> str:
    """Return the network namespace whose `ip netns exec` hides what is mounted at `directory`, "" where none does.

    That mounts a sysfs of the namespace over /sys, and calls it like the namespace (iproute2, lib/namespace.c).
    """
    kind, source = _mounted_at(directory)
    return source if kind == "sysfs" and os.path.exists(f"/run/netns/{source}") else ""


def require(directory: Path = MOUNT_POINT) -> None:
    """Raise NotSupported where nothing can be pinned beneath `directory`."""
    if is_mounted(directory):
        return
    found = f"no BPF file system at {directory}"
    if netns := hiding_netns(directory):
        found += f", which `ip netns exec {netns}` hides"
        needed = f"the same command outside of it; where it needs the namespace, with --netns {netns}"
    else:
        needed = f"mount -t bpf bpf {directory}, as nflowlevel prefilter mount does"
    raise NotSupported("pinning", found=found, needed=needed)


def mount_bpffs(directory: str | os.PathLike[str] = MOUNT_POINT) -> None:
    """Mount the BPF file system at `directory` unless it is mounted there already; needs CAP_SYS_ADMIN."""
    if is_mounted(Path(directory)):
        return
    tried = f"mount the BPF file system at {os.fspath(directory)}"
    if lib.mount(b"bpf", os.fsencode(directory), b"bpf", 0, b"mode=0700"):
        hints = {
            errno.EPERM: "CAP_SYS_ADMIN is missing; run as root",
            errno.ENOENT: "there is no such directory; it comes with sysfs",
            errno.ENODEV: "the kernel has no CONFIG_BPF_SYSCALL",
        }
        raise KernelError(tried, ffi.errno, hints.get(ffi.errno, ""))
