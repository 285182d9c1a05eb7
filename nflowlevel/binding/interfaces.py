# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of network interfaces by index, following renames and removals; rtnetlink(7).

A dump at the start, then RTM_NEWLINK and RTM_DELLINK as they happen; when the kernel could not deliver them (ENOBUFS),
a new dump. It reads the two fields it needs itself: importing pyroute2 for them costs more memory than
the whole daemon is allowed (docs/architecture.md, "Interface names").
"""

from __future__ import annotations

import errno
import os
import select
import struct

from nflowlevel.binding import messages
from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.binding.messages import attributes, message
from nflowlevel.binding.netlink import NetlinkSocket
from nflowlevel.binding.netns import Identity
from nflowlevel.binding.numbers import FAMILIES
from nflowlevel.errors import KernelError

# linux/rtnetlink.h, linux/if_link.h
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTMGRP_LINK = 1
_IFLA_IFNAME = 3
#: `struct ifinfomsg`: family, type, index, flags, change mask.
_IFINFO = struct.Struct("=BxHiII")

_ANSWER_SECS = 2.0
_BUFFER_BYTES = 1 << 16


class NameTable:
    """Interface names at one moment; never changed. `array` is what the renderer in C looks names up in."""

    __slots__ = ("array", "names")

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        rows = [(index, *_name_bytes(name)) for index, name in sorted(names.items())]
        self.array: CData = ffi.new("struct nfl_ifname[]", rows)

    def __len__(self) -> int:
        return len(self.names)


def _name_bytes(name: str) -> tuple[int, bytes]:
    text = name.encode("utf-8", "surrogateescape")
    return len(text), text


NO_NAMES = NameTable({})


class Links:
    """The interfaces of one network namespace. `table` is current after `update`."""

    def __init__(self, netns: str | None = None) -> None:
        self._socket = NetlinkSocket(lib.NETLINK_ROUTE, groups=_RTMGRP_LINK, netns=netns)
        self._socket.connect_to_kernel()
        self._sequence = 0
        self._names: dict[int, str] = {}
        self._lost = False
        self.table = NO_NAMES
        self._dump()

    def fileno(self) -> int:
        """Return the descriptor that is readable when something changed."""
        return self._socket.fileno()

    @property
    def namespace(self) -> Identity | None:
        """The namespace whose interfaces these are; None where the kernel does not tell."""
        return self._socket.namespace

    @property
    def foreign(self) -> int:
        """Datagrams that were ignored because the kernel has not sent them."""
        return self._socket.foreign

    def update(self) -> None:
        """Take in what has changed since; does not block unless changes were lost and a new dump is due."""
        changed = False
        while (data := self._receive()) is not None:
            self._apply(data)
            changed = True
        # Only now: what still waited in the socket is older than a new dump and must not be the last word.
        if self._lost:
            self._dump()
        elif changed:
            self.table = NameTable(dict(self._names))

    def _dump(self) -> None:
        self._sequence += 1
        request = message(_RTM_GETLINK, messages.REQUEST | messages.DUMP, self._sequence, bytes(_IFINFO.size))
        self._names = {}
        self._lost = False
        self._socket.write(request, "list the network interfaces")
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        done = False
        while not done:
            if not poll.poll(_ANSWER_SECS * 1000):
                raise KernelError("list the network interfaces", errno.ETIMEDOUT)
            while (data := self._receive()) is not None:
                done |= self._apply(data)
        self.table = NameTable(dict(self._names))

    def _receive(self) -> bytes | None:
        """Return the next datagram, None when nothing waits; an empty one, and `_lost`, where some were lost."""
        try:
            return self._socket.receive(_BUFFER_BYTES, "follow the network interfaces")
        except KernelError as error:
            if error.errno == errno.ENOBUFS:
                self._lost = True
                return b""
            raise

    def _apply(self, data: bytes) -> bool:
        """Take in the messages of a datagram; True when it ends the running dump."""
        done = False
        for kind, _, sequence, body in messages.read(data):
            if kind in (messages.DONE, messages.ERROR):
                done |= sequence == self._sequence
            elif kind in (_RTM_NEWLINK, _RTM_DELLINK):
                self._link(kind, body)
        return done

    def _link(self, kind: int, body: bytes) -> None:
        family, _, index, _, _ = _IFINFO.unpack_from(body)
        if kind == _RTM_DELLINK:
            # The bridge says "deleted" of a port that only leaves it (AF_BRIDGE); the interface lives on.
            if family != FAMILIES["bridge"]:
                self._names.pop(index, None)
        elif name := attributes(body, _IFINFO.size).get(_IFLA_IFNAME):
            self._names[index] = os.fsdecode(name.rstrip(b"\0"))

    def close(self) -> None:
        """Close the socket; may be called again."""
        self._socket.close()
