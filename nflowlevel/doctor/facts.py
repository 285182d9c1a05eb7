# SPDX-License-Identifier: GPL-2.0-or-later
"""What a network namespace is like for packet logs: rules, readers, switches, rights. Looks and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from nflowlevel.binding import procfs
from nflowlevel.binding.netns import elsewhere, entered
from nflowlevel.errors import KernelError, printable
from nflowlevel.firewall import nf_log
from nflowlevel.firewall.ruleset import Ruleset, read_rules

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Reader:
    """The reader of a group, and how it is doing."""

    bound: procfs.BoundGroup
    holder: procfs.Holder
    command: str = ""
    stopped: bool = False
    port: procfs.PortState | None = None
    ours: bool = False
    """Whether it is nflowlevel, whatever the program is called."""

    def __str__(self) -> str:
        if not self.holder.pid:
            return f"netlink port {self.holder.portid}"
        command = printable(self.command or self.holder.command)
        return f"process {self.holder.pid} ({command}), netlink port {self.holder.portid}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a network namespace is like for packet logs."""

    ruleset: Ruleset
    knows_groups: bool = True
    obstacle: str = ""
    user_namespace: str = "the initial user namespace"
    readers: Mapping[int, Reader] | None = None
    """By group; None where that may not be seen."""
    suspects: tuple[procfs.Holder, ...] = ()
    """Where it may not be seen: those who have a socket that could read a group."""
    families: Mapping[str, nf_log.Family] | None = None
    log_invalid: str | None = None
    kernel_log: bool | None = None
    """Whether rules without a group reach the kernel's log from here; None: not known."""

    @property
    def groups(self) -> set[int]:
        """The groups that rules log to or somebody reads."""
        return self.ruleset.groups | set(self.readers or ())


def gather(netns: str | None = None) -> Facts:
    """Look at a network namespace; KernelError where it cannot be entered."""
    everywhere = nf_log.all_netns()
    with entered(netns):
        may_read = procfs.may_read_groups() or not procfs.knows_groups()
        return Facts(
            knows_groups=procfs.knows_groups(),
            obstacle=procfs.admin_obstacle(),
            user_namespace=procfs.user_namespace(),
            readers=_readers() if may_read else None,
            suspects=() if may_read else tuple(map(procfs.holder_at, procfs.netfilter_ports())),
            # After the readers: nft has a socket of its own while it runs.
            ruleset=read_rules(),
            families=_or_none(nf_log.families),
            log_invalid=_or_none(nf_log.log_invalid),
            kernel_log=True if nf_log.is_initial_netns() else everywhere,
        )


def _readers() -> dict[int, Reader]:
    ports = procfs.netfilter_ports()
    readers = {}
    for group, bound in procfs.bound_groups().items():
        holder = procfs.holder_at(bound.portid)
        readers[group] = Reader(
            bound,
            holder,
            procfs.command_line(holder.pid) if holder.pid else "",
            holder.pid > 0 and procfs.is_stopped(holder.pid),
            ports.get(bound.portid),
            holder.pid > 0 and procfs.is_ours(holder.pid),
        )
    return readers


def _or_none(question: Callable[[], Answer]) -> Answer | None:
    try:
        return question()
    except KernelError:
        return None


def other_namespaces(netns: str | None) -> tuple[dict[str, Facts], list[str]]:
    """Look at all namespaces of `ip netns`, and our own, but `netns`; also return those that cannot be entered."""
    return elsewhere(gather, netns)
