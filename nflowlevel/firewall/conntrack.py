# SPDX-License-Identifier: GPL-2.0-or-later
"""Conntrack as it is set up in a network namespace, and who listens to its events. Looks and changes nothing.

Listeners are asked for by sock_diag(7) (net/netlink/diag.c): /proc/net/netlink does not tell whether one is reliable.
"""

from __future__ import annotations

import errno
import select
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from nflowlevel.binding import messages, procfs
from nflowlevel.binding.conntrack import EVENTS, setting
from nflowlevel.binding.netlink import NetlinkSocket
from nflowlevel.binding.netns import entered
from nflowlevel.errors import KernelError

#: Events of conntrack as numbers of ulogd2's `event_mask`, which are also the bits of their netlink groups
#: (linux/netfilter/nfnetlink_compat.h, NFNLGRP_CONNTRACK_NEW and the two after it).
NEW, UPDATE, DESTROY = EVENTS["new"], EVENTS["update"], EVENTS["destroy"]
_EVENTS = NEW | UPDATE | DESTROY

# linux/netlink.h, linux/netlink_diag.h
_NETLINK_SOCK_DIAG = 4
_NETLINK_NETFILTER = 12
_SOCK_DIAG_BY_FAMILY = 20
_AF_NETLINK = 16
_SHOW_GROUPS, _SHOW_FLAGS = 2, 8
_GROUPS, _FLAGS = 1, 4
_BROADCAST_ERROR = 4
#: `struct netlink_diag_req`: family, protocol, inode, what to show, cookie.
_REQUEST = struct.Struct("=BBHIIII")
#: `struct netlink_diag_msg`: family, type, protocol, state, port id; the rest is not used.
_ANSWER = struct.Struct("=BBBBI20x")
_ANSWER_MILLISECONDS = 2000


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that hears events of conntrack."""

    holder: procfs.Holder
    events: int
    """NEW 1, UPDATE 2, DESTROY 4, added up."""
    reliable: bool | None
    """Whether the kernel keeps what it could not deliver to it (NETLINK_BROADCAST_ERROR); None: not known."""


@dataclass(frozen=True, slots=True)
class Conntrack:
    """The settings of conntrack in a namespace, and its table."""

    acct: bool
    """nf_conntrack_acct: new flows are counted."""
    timestamp: bool
    """nf_conntrack_timestamp: new flows know their beginning and their end."""
    events: int
    """nf_conntrack_events: 0 none, 1 of all flows, 2 only of flows that began while somebody listened."""
    count: int
    """Flows in the table."""
    most: int
    """nf_conntrack_max: beyond that new packets are dropped."""
    listeners: tuple[Listener, ...] = ()


def settings(netns: str | None = None) -> Conntrack | None:
    """Return how conntrack is set up in a namespace; None where it is not loaded. KernelError: it cannot be entered."""
    with entered(netns):
        try:
            values = {name: setting(name) for name in ("acct", "timestamp", "events", "count", "max")}
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise KernelError("read the settings of conntrack", error.errno or 0) from None
        return Conntrack(
            acct=bool(values["acct"]),
            timestamp=bool(values["timestamp"]),
            events=values["events"],
            count=values["count"],
            most=values["max"],
            listeners=tuple(_listeners()),
        )


def _listeners() -> Iterator[Listener]:
    """Yield the sockets of this thread's namespace that hear events of conntrack."""
    try:
        # Those that hear a group are told twice.
        yield from dict.fromkeys(_asked())
    except KernelError:
        # The kernel lacks netlink_diag, or forbids it.
        for line in _rows():
            yield Listener(procfs.holder_at(int(line[2])), int(line[3], 16) & _EVENTS, None)


def _rows() -> Iterator[list[str]]:
    """Yield the lines of /proc/net/netlink that are sockets with such groups."""
    with suppress(OSError):
        for line in procfs.text_of("/proc/thread-self/net/netlink").splitlines()[1:]:
            words = line.split()
            if int(words[1]) == _NETLINK_NETFILTER and int(words[2]) and int(words[3], 16) & _EVENTS:
                yield words


def _asked() -> Iterator[Listener]:
    tried = "list the listeners to conntrack"
    body = _REQUEST.pack(_AF_NETLINK, _NETLINK_NETFILTER, 0, 0, _SHOW_GROUPS | _SHOW_FLAGS, 0xFFFFFFFF, 0xFFFFFFFF)
    with NetlinkSocket(_NETLINK_SOCK_DIAG) as socket:
        socket.connect_to_kernel()
        socket.write(messages.message(_SOCK_DIAG_BY_FAMILY, messages.REQUEST | messages.DUMP, 1, body), tried)
        poll = select.poll()
        poll.register(socket.fileno(), select.POLLIN)
        while poll.poll(_ANSWER_MILLISECONDS):
            for answer in socket.answers(tried):
                if answer.type == messages.DONE:
                    return
                if answer.type == messages.ERROR:
                    raise KernelError(tried, messages.errno_of(answer.body))
                yield from _listener(answer.body)
    raise KernelError(tried, errno.ETIMEDOUT)


def _listener(body: bytes) -> Iterator[Listener]:
    portid = _ANSWER.unpack_from(body)[4]
    found = messages.attributes(body, _ANSWER.size)
    groups, flags = (int.from_bytes(found.get(which, b"")[:4], sys.byteorder) for which in (_GROUPS, _FLAGS))
    if portid and groups & _EVENTS:
        yield Listener(procfs.holder_at(portid), groups & _EVENTS, bool(flags & _BROADCAST_ERROR))
