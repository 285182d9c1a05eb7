# SPDX-License-Identifier: GPL-2.0-or-later
"""A netlink socket with an owner, through libmnl; netlink(7), socket(7)."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar

from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.binding.messages import Message, read
from nflowlevel.binding.netns import entered, refused
from nflowlevel.binding.opener import opened
from nflowlevel.errors import KernelError

# Not in Python's socket module: include/uapi/asm-generic/socket.h, linux/sock_diag.h, linux/netlink.h.
_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_MEMINFO_WORDS = 9
_SK_MEMINFO_DROPS = 8
#: What one read takes; the kernel fills it by at most 32 KiB a datagram of a dump.
_READ_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class NetlinkDoor:
    """A door (opener.py) to a netlink socket of `bus` in the namespace `netns`, not bound yet."""

    netns: str
    bus: int

    #: To enter the namespace, also that of a process; and the kernel asks for the capability of who made the socket too
    #: (af_netlink.c, __netlink_ns_capable).
    capabilities: ClassVar[int] = 1 << lib.CAP_SYS_ADMIN | 1 << lib.CAP_SYS_PTRACE | 1 << lib.CAP_NET_ADMIN

    def open(self) -> int:
        """Return the socket's descriptor; KernelError where the namespace cannot be entered."""
        with entered(self.netns):
            return _opened(self.bus)


#: What reads netlink in a namespace that the configuration names: groups and accounting, and names of interfaces.
BUSES: tuple[int, ...] = (lib.NETLINK_NETFILTER, lib.NETLINK_ROUTE)


def _opened(bus: int) -> int:
    try:
        return socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, bus
        ).detach()
    except OSError as error:
        raise KernelError(
            "open a netlink socket", error.errno or 0, "the kernel needs CONFIG_NETFILTER_NETLINK"
        ) from None


def _opened_in(netns: str, bus: int) -> int:
    try:
        return opened(NetlinkDoor(netns, bus))
    except KernelError:
        raise
    except OSError as error:  # of another process, which can say no more than that
        raise refused(netns, error.errno or 0) from None


class NetlinkSocket:
    """A bound netlink socket of `bus` in `netns`. Close it, or use it as a context manager."""

    def __init__(self, bus: int, *, groups: int = 0, netns: str | None = None) -> None:
        self._handle: CData = ffi.NULL
        fd = _opened_in(netns, bus) if netns else _opened(bus)
        self._handle = lib.mnl_socket_fdopen(fd)
        if not self._handle:
            error = ffi.errno
            os.close(fd)
            raise KernelError("open a netlink socket", error)
        if lib.mnl_socket_bind(self._handle, groups, lib.MNL_SOCKET_AUTOPID):
            errno = ffi.errno
            self.close()
            raise KernelError("bind a netlink socket", errno)
        self._fd: int = lib.mnl_socket_get_fd(self._handle)
        # A second owner of the same descriptor's options only; mnl closes the descriptor itself.
        self._options = socket.socket(fileno=self._fd)

    @property
    def handle(self) -> CData:
        """libmnl's own handle; ValueError once closed, which libmnl would not notice."""
        if not self._handle:
            raise ValueError("the netlink socket is closed")
        return self._handle

    def fileno(self) -> int:
        """Return the descriptor, for select and epoll; ValueError once closed."""
        return int(lib.mnl_socket_get_fd(self.handle))

    def connect_to_kernel(self) -> None:
        """Let nobody but the kernel send to this socket (af_netlink.c, netlink_getsockbyportid)."""
        self._options.connect((0, 0))

    @property
    def portid(self) -> int:
        """The address the kernel gave this socket."""
        return int(lib.mnl_socket_get_portid(self.handle))

    def send(self, message: CData) -> None:
        """Send one netlink message (`struct nlmsghdr *`)."""
        if lib.mnl_socket_sendto(self.handle, message, message.nlmsg_len) < 0:
            raise KernelError("send a netlink request", ffi.errno)

    def write(self, requests: bytes, tried: str) -> None:
        """Send messages made by messages.py; KernelError says what was tried."""
        try:
            os.write(self.fileno(), requests)
        except OSError as error:
            raise KernelError(tried, error.errno or 0) from None

    def answers(self, tried: str) -> Iterator[Message]:
        """Yield the messages that wait; the answers of netfilter are there when a send returns."""
        while True:
            try:
                datagram = os.read(self.fileno(), _READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                raise KernelError(tried, error.errno or 0) from None
            yield from read(datagram)

    @property
    def receive_buffer(self) -> int:
        """Bytes the kernel may queue here, its own overhead included (SO_RCVBUF)."""
        return self._options.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def set_receive_buffer(self, size: int) -> int:
        """Ask for `size` bytes, past net.core.rmem_max where allowed; return what the kernel grants (it doubles)."""
        size = min(size, 0x3FFFFFFF)
        try:
            self._options.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
        except PermissionError:
            self._options.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        return self.receive_buffer

    @property
    def drops(self) -> int:
        """Datagrams the kernel could not queue here since the socket was opened (SO_MEMINFO)."""
        words = self._options.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * _MEMINFO_WORDS)
        return int(struct.unpack("=9I", words)[_SK_MEMINFO_DROPS])

    def close(self) -> None:
        """Close the socket; may be called again."""
        if self._handle:
            handle, self._handle = self._handle, ffi.NULL
            if hasattr(self, "_options"):
                self._options.detach()
            lib.mnl_socket_close(handle)

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
