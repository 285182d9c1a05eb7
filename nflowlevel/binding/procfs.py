# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel tells about itself in /proc: groups and who reads them, sockets, capabilities; proc(5).

Files under /proc/thread-self/net show the namespace the calling thread is in.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from nflowlevel.binding._lib import lib

CAP_NET_ADMIN: int = lib.CAP_NET_ADMIN

_NET = Path("/proc/thread-self/net")


@dataclass(frozen=True, slots=True)
class BoundGroup:
    """A line of /proc/net/netfilter/nfnetlink_log (net/netfilter/nfnetlink_log.c, seq_show)."""

    group: int
    portid: int
    queued: int
    copy_mode: int
    copy_range: int
    flush_centisecs: int


@dataclass(frozen=True, slots=True)
class Holder:
    """Who reads a group: netlink port id and, where it can be found, the process."""

    portid: int
    pid: int = 0
    command: str = ""

    def __str__(self) -> str:
        process = f" (process {self.pid}, {self.command})" if self.pid else ""
        return f"netlink port {self.portid}{process}"


def bound_groups() -> dict[int, BoundGroup]:
    """Return the groups that are read in this namespace; empty where the kernel has no nfnetlink_log."""
    try:
        lines = (_NET / "netfilter/nfnetlink_log").read_text().splitlines()
    except OSError:
        return {}
    groups = (BoundGroup(*(int(word) for word in line.split()[:6])) for line in lines)
    return {entry.group: entry for entry in groups}


def holder_of(group: int) -> Holder | None:
    """Return who reads `group` in this namespace, or None."""
    entry = bound_groups().get(group)
    if entry is None:
        return None
    pid = _process_of(entry.portid)
    return Holder(entry.portid, pid, _command(pid)) if pid else Holder(entry.portid)


def _process_of(portid: int) -> int:
    """Find the process that owns the netlink socket with this port id, by the socket's inode."""
    try:
        lines = (_NET / "netlink").read_text().splitlines()[1:]
    except OSError:
        return 0
    netfilter = "12"
    inodes = {fields[9] for line in lines if (fields := line.split())[1] == netfilter and int(fields[2]) == portid}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    # The kernel names a process's first socket after the process, so look there first.
    others = (int(name) for name in os.listdir("/proc") if name.isdigit())
    for pid in (portid, *others):
        try:
            for fd in os.scandir(f"/proc/{pid}/fd"):
                if os.readlink(fd.path) in wanted:
                    return pid
        except OSError:
            continue
    return 0


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"


def has_capability(number: int) -> bool:
    """Tell whether this thread has the capability in effect (CapEff of proc(5)); in its own user namespace."""
    status = Path("/proc/thread-self/status").read_text()
    match = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return bool(match and int(match[1], 16) >> number & 1)
