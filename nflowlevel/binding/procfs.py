# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel tells about itself in /proc: groups and who reads them, sockets, capabilities; proc(5).

Files under /proc/thread-self/net show the namespace the calling thread is in.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass

from nflowlevel.binding._lib import lib
from nflowlevel.binding.descriptor import Descriptor
from nflowlevel.errors import printable

CAP_NET_ADMIN: int = lib.CAP_NET_ADMIN

_NET = "/proc/thread-self/net"

#: Netlink protocol in /proc/net/netlink (linux/netlink.h).
_NETLINK_NETFILTER = 12
#: linux/nsfs.h: which user namespace owns a namespace.
_NS_GET_USERNS = 0xB701
#: uid_map of the initial user namespace: everybody is who they are.
_ALL_UIDS = ["0", "0", "4294967295"]
#: Most characters of a command line that are shown.
_COMMAND_LENGTH = 80


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
    """The reader of a group: its netlink port id and, if it can be found, the process."""

    portid: int
    pid: int = 0
    command: str = ""

    def __str__(self) -> str:
        process = f" (process {self.pid}, {printable(self.command)})" if self.pid else ""
        return f"netlink port {self.portid}{process}"


@dataclass(frozen=True, slots=True)
class PortState:
    """A Netfilter socket in /proc/net/netlink: bytes that wait in it, datagrams it had no room for."""

    portid: int
    queued_bytes: int
    drops: int
    inode: int


def text_of(path: str | os.PathLike[str]) -> str:
    """Return what a file of /proc says; OSError.

    Names of processes, programs and mount points are what others chose: any bytes.
    """
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "surrogateescape")


def knows_groups() -> bool:
    """Tell whether the kernel has nfnetlink_log; a module may be loaded at the first use."""
    return os.path.exists(f"{_NET}/netfilter/nfnetlink_log")


def may_read_groups() -> bool:
    """Tell whether `bound_groups` may look.

    The file belongs to root, and to the initial one where the network namespace was made in one go with its user
    namespace (`unshare -Urn`): the kernel sets the owner when that has no users yet.
    """
    return os.access(f"{_NET}/netfilter/nfnetlink_log", os.R_OK, effective_ids=True)


def bound_groups() -> dict[int, BoundGroup]:
    """Return the groups that are read in this namespace; empty where the kernel has no nfnetlink_log."""
    try:
        lines = text_of(f"{_NET}/netfilter/nfnetlink_log").splitlines()
    except OSError:
        return {}
    groups = (BoundGroup(*(int(word) for word in line.split()[:6])) for line in lines)
    return {entry.group: entry for entry in groups}


def holder_of(group: int) -> Holder | None:
    """Return who reads `group` in this namespace, or None."""
    entry = bound_groups().get(group)
    if entry is None:
        return None
    return holder_at(entry.portid)


def holder_at(portid: int) -> Holder:
    """Return the process that owns the Netfilter socket with this port id, as far as it can be found."""
    pid = _process_of(portid)
    return Holder(portid, pid, name_of(pid)) if pid else Holder(portid)


def suspects() -> tuple[str, ...]:
    """Return the other processes with a Netfilter socket in this namespace, for who may not see which reads a group.

    Where not even their descriptors may be read, the port id tells: the kernel gives a process's first socket its id.
    """
    found = []
    for portid in netfilter_ports():
        pid = _process_of(portid) or (portid if os.path.exists(f"/proc/{portid}") else 0)
        if pid and pid != os.getpid():
            command = name_of(pid)
            found.append(f"process {pid}" + (f" ({command})" if command != "?" else ""))
    return tuple(dict.fromkeys(found))


def netfilter_ports() -> dict[int, PortState]:
    """Return the Netfilter sockets of this namespace by port id: readers of groups, of conntrack, running nft."""
    try:
        lines = text_of(f"{_NET}/netlink").splitlines()[1:]
    except OSError:
        return {}
    # sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode; port 0 is the kernel's own end.
    rows = (line.split() for line in lines)
    ports = (
        PortState(int(row[2]), int(row[4]), int(row[8]), int(row[9]))
        for row in rows
        if int(row[1]) == _NETLINK_NETFILTER and int(row[2])
    )
    return {port.portid: port for port in ports}


def _process_of(portid: int) -> int:
    """Find the process that owns the netlink socket with this port id, by the socket's inode."""
    port = netfilter_ports().get(portid)
    if port is None:
        return 0
    wanted = f"socket:[{port.inode}]"
    # The kernel names a process's first socket after the process, so look there first.
    others = (int(name) for name in os.listdir("/proc") if name.isdigit())
    for pid in (portid, *others):
        try:
            with os.scandir(f"/proc/{pid}/fd") as descriptors:
                if any(os.readlink(descriptor.path) == wanted for descriptor in descriptors):
                    return pid
        except OSError:
            continue
    return 0


def name_of(pid: int) -> str:
    """Return the name of a process as `ps` has it, fit to be shown; "?" where that may not be read."""
    try:
        return printable(text_of(f"/proc/{pid}/comm").removesuffix("\n"))
    except OSError:
        return "?"


def command_line(pid: int) -> str:
    """Return how a process was called, shortened; "" where that may not be read."""
    try:
        words = text_of(f"/proc/{pid}/cmdline").split("\0")
    except OSError:
        return ""
    line = " ".join(words).strip()
    return line if len(line) <= _COMMAND_LENGTH else line[: _COMMAND_LENGTH - 1] + "…"


def is_ours(pid: int) -> bool:
    """Tell whether a process runs nflowlevel, under whatever name: its command says so, or the code it has loaded."""
    if "nflowlevel" in command_line(pid):
        return True
    try:
        return "/nflowlevel/_clib." in text_of(f"/proc/{pid}/maps")
    except OSError:
        return False


def is_stopped(pid: int) -> bool:
    """Tell whether a process is stopped, by a signal or a debugger: it reads nothing until it is continued."""
    try:
        status = text_of(f"/proc/{pid}/status")
    except OSError:
        return False
    return re.search(r"^State:\s*[tT]", status, re.MULTILINE) is not None


def has_capability(number: int) -> bool:
    """Tell whether this thread has the capability in effect (CapEff of proc(5)); in its own user namespace."""
    status = text_of("/proc/thread-self/status")
    match = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return bool(match and int(match[1], 16) >> number & 1)


def admin_obstacle() -> str:
    """Return what keeps this thread from administering the network namespace it is in, "" where nothing does."""
    if not has_capability(CAP_NET_ADMIN):
        return "CAP_NET_ADMIN is missing"
    if _netns_is_foreign():
        return "CAP_NET_ADMIN is missing in the user namespace that owns this network namespace"
    return ""


def _netns_is_foreign() -> bool:
    """Tell whether the network namespace belongs to a user namespace outside the thread's own."""
    with Descriptor.opened("/proc/thread-self/ns/net", os.O_RDONLY) as netns, Descriptor() as owner:
        # EPERM: the owner is neither the caller's user namespace nor below it (kernel/user_namespace.c, ns_get_owner).
        return int(lib.nfl_descriptor_ioctl(owner.into, netns.fd, _NS_GET_USERNS)) == -errno.EPERM


def user_namespace() -> str:
    """Describe the user namespace of this thread: the one that its capabilities count in."""
    first = text_of("/proc/thread-self/uid_map").split()[:3]
    if first == _ALL_UIDS:
        return "the initial user namespace"
    if not first:
        return "a user namespace without users"
    return f"a user namespace where uid {first[0]} is uid {first[1]} outside"
