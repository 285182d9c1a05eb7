# SPDX-License-Identifier: GPL-2.0-or-later
"""NFLOG: packets that rules log with `log group N` (nft) or `-j NFLOG --nflog-group N` (iptables).

A group has one reader per network namespace. If another process reads the group, the stack does not start, and the
message names that process. One instance can feed several stacks; it is opened once.

Every loss is counted. The plugin always asks for sequence numbers: `gap` is the number of packets the kernel could not
deliver, and `overrun` is the number of times its queue was full. After an overrun the socket buffer doubles, up to its
ceiling. A clean stop gives the group up and reads everything the kernel still holds.

While nobody reads a group, as during a restart, the kernel counts nothing: what is logged then is in no counter.
`unread_milliseconds` says for how long that was so. The daemon can know it after a restart if it has a directory of its
own (systemd's `StateDirectory=`) or a pid file (`-p`), beside which it keeps when it read last.

A network namespace (`network_namespace_path`) that is deleted is read to the end and closed, and the next one of the
same name or path is followed; the log says both.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.binding.numbers import FAMILIES, some
from nflowlevel.errors import KernelError
from nflowlevel.logs import NOTICE, log
from nflowlevel.options import CLAMPED, NetnsPath, Options
from nflowlevel.plugin.kernel import ReaderInput, SocketBufferMost, SocketBufferSize, buffers
from nflowlevel.readers.arguments import (
    CopyMode,
    CopyRange,
    GroupNumber,
    Label,
    NlBufSiz,
    ProfileName,
    QThreshold,
    QTimeout,
)
from nflowlevel.readers.group import Group
from nflowlevel.records.keys import Key
from nflowlevel.stats import GroupStats, counter

#: The families that ulogd's `bind` takes over.
_BIND_FAMILIES = tuple(some(FAMILIES, "ipv4", "ipv6", "bridge").values())


class NFLOGOptions(Options, frozen=True, kw_only=True):
    """Options of NFLOG; names as in ulogd.conf."""

    group: Annotated[
        GroupNumber, Meta(description="Group to read; group 0 also takes over kernel logging, see `bind`.")
    ] = 0
    profile: Annotated[
        ProfileName,
        Meta(description="Preset for the options below: a single packet arrives within 0.1 s, 5 ms or 0.5 s."),
    ] = "default"
    netlink_qthreshold: Annotated[QThreshold, Meta(extra=CLAMPED)] = 0
    netlink_qtimeout: Annotated[QTimeout, Meta(extra=CLAMPED)] = 0
    nlbufsiz: Annotated[NlBufSiz, Meta(extra=CLAMPED)] = 0
    netlink_socket_buffer_size: SocketBufferSize = 0
    netlink_socket_buffer_maxsize: SocketBufferMost = 0
    copy_mode: Annotated[CopyMode, Meta(description="Part of a packet that the kernel copies.")] = "packet"
    copy_range: Annotated[CopyRange, Meta(extra=CLAMPED)] = 0
    numeric_label: Label = 0
    seq_local: Annotated[bool, Meta(description="Publish `oob.seq.local`.")] = False
    seq_global: Annotated[bool, Meta(description="Publish `oob.seq.global`.")] = False
    attach_conntrack: Annotated[
        bool, Meta(description="Ask the kernel for each packet's conntrack entry; if it refuses, packets come without.")
    ] = False
    bind: Annotated[
        bool,
        Meta(description="Become the kernel's packet logger for IPv4, IPv6 and bridge, for good; group 0 always does."),
    ] = False
    unbind: Annotated[bool, Meta(description="With `bind` or group 0: first remove the current logger.")] = True
    network_namespace_path: NetnsPath = ""
    bufsize: Annotated[
        int,
        Meta(
            ge=0, description="Accepted for ulogd compatibility; receive buffers always hold what the kernel can send."
        ),
    ] = 0


class NFLOGStats(GroupStats):
    """What the group received, and what it missed."""

    unread_milliseconds = counter(
        "milliseconds",
        "Time in which nobody read the group: between the last run of the daemon and this one, or between a network "
        "namespace and the next of its name. What rules logged then is in no counter.",
    )


class NFLOG(ReaderInput[NFLOGOptions, Group, NFLOGStats]):
    """The NFLOG plugin; see the module."""

    name = "NFLOG"
    Options = NFLOGOptions
    provides = "raw"
    Stats = NFLOGStats
    _is_logger = False

    def __init__(self, instance: str, options: NFLOGOptions) -> None:
        super().__init__(instance, options, options.network_namespace_path)

    def published(self) -> tuple[Key, ...]:
        """Keys that were not asked for are not published."""
        options = self.options
        absent = {
            name
            for name, asked in (
                ("oob.seq.local", options.seq_local),
                ("oob.seq.global", options.seq_global),
                ("ct", options.attach_conntrack),
            )
            if not asked
        }
        return tuple(key for key in super().published() if key.name not in absent)

    @property
    def claims(self) -> str:
        """The group, in its namespace."""
        return f"group {self.options.group}" + (f" of namespace {self.netns}" if self.netns else "")

    def start(self) -> Group:
        """Bind the group."""
        options = self.options
        size, most = buffers(options.netlink_socket_buffer_size, options.netlink_socket_buffer_maxsize)
        group = Group(
            options.group,
            profile=options.profile,
            copy_mode=options.copy_mode,
            copy_range=options.copy_range,
            qthreshold=options.netlink_qthreshold,
            qtimeout=options.netlink_qtimeout,
            nlbufsiz=options.nlbufsiz,
            socket_buffer=size,
            max_socket_buffer=most,
            seq_global=options.seq_global,
            netns=self.netns,
            label=options.numeric_label,
        )
        is_logger = options.bind or options.group == 0
        try:
            if is_logger:
                group.become_logger(_BIND_FAMILIES, unbind_first=options.unbind)
            if options.attach_conntrack:
                self._attach_conntrack(group)
        except BaseException:
            group.close()
            raise
        self._is_logger = is_logger
        return group

    def _attach_conntrack(self, group: Group) -> None:
        """As in ulogd2, a kernel that cannot attach them is a warning, and the packets come without."""
        try:
            group.attach_conntrack()
        except KernelError as error:
            log.warning("%s: %s; packets come without `ct`", self, error)

    def unread(self, milliseconds: int) -> None:
        """Count the time."""
        self._stats.unread_milliseconds += milliseconds

    def close(self, timeout: float = 1.0) -> None:
        """Close the group."""
        super().close(timeout)
        if self._is_logger:
            self._is_logger = False
            stays = "nfnetlink_log stays the kernel's packet logger"
            log.log(NOTICE, "%s: %s; `nflowlevel nf-log` shows and changes it", self, stays)
