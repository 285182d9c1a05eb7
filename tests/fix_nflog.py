# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads an nfnetlink_log group with a bare netlink socket, so that a test sees what the kernel sent, byte for byte.

Only the standard library is used: nothing of nflowlevel can make its own messages look right.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from pathlib import Path

from tests.fix_netns import Netns
from tests.netlink import attribute, netlink
from tests.oracle import split

_NETLINK_NETFILTER = 12
_SO_RCVBUFFORCE = 33
_CONFIG_MESSAGE = 0x0401
_PACKET_MESSAGE = 0x0400
_NLMSG_ERROR = 2
_REQUEST_ACK = 5
_CFG_CMD, _CFG_MODE, _CFG_NLBUFSIZ, _CFG_QTHRESH, _CFG_FLAGS = 1, 2, 3, 5, 6
_BIND, _UNBIND = 1, 2
_COPY_PACKET = 2
SEQ, SEQ_GLOBAL = 1, 2


class NflogReader:
    """The reader of one group: whole packets, sequence numbers on, delivered at once."""

    def __init__(
        self, netns: Netns, group: int, *, copy_range: int = 0xFFFF, qthreshold: int = 1, flags: int = SEQ | SEQ_GLOBAL
    ) -> None:
        self.group = group
        self._ready: list[bytes] = []
        with netns.enter():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        self._socket.bind((0, 0))
        self._configure(_CFG_CMD, bytes([_BIND]))
        self._configure(_CFG_MODE, struct.pack(">IBx", copy_range, _COPY_PACKET))
        self._configure(_CFG_QTHRESH, struct.pack(">I", qthreshold))
        self._configure(_CFG_FLAGS, struct.pack(">H", flags))

    def _configure(self, kind: int, value: bytes) -> None:
        """Send one configuration attribute and read until the kernel has answered; keep packets met on the way."""
        body = struct.pack(">BBH", socket.AF_UNSPEC, 0, self.group) + attribute(kind, value)
        self._socket.send(netlink(_CONFIG_MESSAGE, body, seq=kind, flags=_REQUEST_ACK))
        while True:
            for message in split(self._socket.recv(1 << 19)):
                if struct.unpack_from("=H", message, 4)[0] == _NLMSG_ERROR:
                    (error,) = struct.unpack_from("=i", message, 16)
                    if error:
                        raise OSError(-error, f"nflog group {self.group}, attribute {kind}: {os.strerror(-error)}")
                    return
                self._keep(message)

    def _keep(self, message: bytes) -> None:
        if struct.unpack_from("=H", message, 4)[0] == _PACKET_MESSAGE:
            self._ready.append(message)

    def messages(self, count: int, timeout: float = 10) -> list[bytes]:
        """Return the next `count` packet messages; fail when they do not come."""
        deadline = time.monotonic() + timeout
        while len(self._ready) < count:
            if not select.select([self._socket], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"group {self.group}: {len(self._ready)} of {count} messages came")
            for message in split(self._socket.recv(1 << 19)):
                self._keep(message)
        taken, self._ready = self._ready[:count], self._ready[count:]
        return taken

    def rest(self) -> list[bytes]:
        """Unbind, which makes the kernel send what it still holds, and return all messages not yet taken. Once only."""
        self._configure(_CFG_CMD, bytes([_UNBIND]))
        with contextlib.suppress(BlockingIOError):
            while True:
                for message in split(self._socket.recv(1 << 19, socket.MSG_DONTWAIT)):
                    self._keep(message)
        taken, self._ready = self._ready, []
        return taken

    def close(self) -> None:
        """Close the socket; the kernel unbinds the group."""
        self._socket.close()

    def __enter__(self) -> NflogReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def bound_groups(netns: Netns) -> dict[int, int]:
    """Return the groups read in a namespace, with the netlink port of each reader."""
    with netns.enter():
        # /proc/net means the namespace of the process; only this path means that of the thread.
        lines = Path("/proc/thread-self/net/netfilter/nfnetlink_log").read_text().splitlines()
    return {int(line.split()[0]): int(line.split()[1]) for line in lines}
