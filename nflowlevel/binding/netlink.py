# SPDX-License-Identifier: GPL-2.0-or-later
"""A netlink socket with an owner; netlink(7), socket(7)."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar

from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.binding.descriptor import Descriptor, check
from nflowlevel.binding.messages import Message, read
from nflowlevel.binding.netns import Identity, namespace, of_socket, refused
from nflowlevel.binding.opener import in_use, opened
from nflowlevel.errors import KernelError

# Not in Python's socket module: include/uapi/asm-generic/socket.h, linux/sock_diag.h, linux/netlink.h.
_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_MEMINFO_WORDS = 9
_SK_MEMINFO_DROPS = 8
_uninitialised = ffi.new_allocator(should_clear_after_alloc=False)

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
        made = Descriptor()
        _open(made, self.bus, self.netns)
        return made.detach()


#: What reads netlink in a namespace that the configuration names: groups and accounting, and names of interfaces.
BUSES: tuple[int, ...] = (lib.NETLINK_NETFILTER, lib.NETLINK_ROUTE)


def _open(socket: Descriptor, bus: int, netns: str | None) -> None:
    """Let `socket` own a netlink socket of `bus`, made by this thread."""
    with namespace(netns) if netns else Descriptor() as place:
        entered = ffi.new("int *")
        result = lib.nfl_netlink_open(socket.into, bus, place.fd, entered)
        if not entered[0]:
            check(result, f"enter network namespace {netns}", "needs CAP_SYS_ADMIN")
        check(result, "open a netlink socket", "the kernel needs CONFIG_NETFILTER_NETLINK")


def _opened_in(netns: str, bus: int) -> int:
    """Return a socket that another process has made for us."""
    try:
        return opened(NetlinkDoor(netns, bus))
    except KernelError:
        raise
    except OSError as error:  # of another process, which can say no more than that
        raise refused(netns, error.errno or 0) from None


class NetlinkSocket:
    """A bound netlink socket of `bus` in `netns`. Close it, or use it as a context manager."""

    def __init__(self, bus: int, *, groups: int = 0, netns: str | None = None) -> None:
        self._socket = Descriptor()
        self._foreign: CData = ffi.new("uint64_t *")
        if netns and in_use():
            self._socket.take(_opened_in(netns, bus))
        else:
            _open(self._socket, bus, netns)
        try:
            port = ffi.new("uint32_t *")
            check(lib.nfl_netlink_bind(self.fileno(), groups, port), "bind a netlink socket")
            self._port = int(port[0])
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor, for select and epoll; ValueError once closed."""
        fd = self._socket.fd
        if fd < 0:
            raise ValueError("the netlink socket is closed")
        return fd

    def connect_to_kernel(self) -> None:
        """Let nobody but the kernel send to this socket (af_netlink.c, netlink_getsockbyportid)."""
        check(lib.nfl_netlink_connect(self._socket.fd), "connect a netlink socket to the kernel")

    @property
    def portid(self) -> int:
        """The address the kernel gave this socket."""
        self.fileno()
        return self._port

    @property
    def namespace(self) -> Identity | None:
        """The namespace it is in; None where the kernel does not tell."""
        return of_socket(self.fileno())

    def send(self, message: CData) -> None:
        """Send one netlink message (`struct nlmsghdr *`)."""
        self.write(ffi.buffer(message, message.nlmsg_len), "send a netlink request")

    def write(self, requests: bytes | memoryview, tried: str) -> None:
        """Send messages made by messages.py; KernelError says what was tried."""
        try:
            os.write(self.fileno(), requests)
        except OSError as error:
            raise KernelError(tried, error.errno or 0) from None

    def answers(self, tried: str) -> Iterator[Message]:
        """Yield the messages that wait; the answers of netfilter are there when a send returns."""
        while (datagram := self.receive(_READ_BYTES, tried)) is not None:
            yield from read(datagram)

    def receive(self, size: int, tried: str) -> bytes | None:
        """Return the next datagram of the kernel's, or its first `size` bytes; None when nothing waits.

        Those of others are thrown away: who has CAP_NET_ADMIN in the namespace can send to groups of any bus.
        """
        buffer = _uninitialised("uint8_t[]", size)
        got = int(lib.nfl_netlink_receive(self.fileno(), buffer, size, self._foreign))
        if got == -errno.EAGAIN:
            return None
        if got < 0:
            raise KernelError(tried, -got)
        return bytes(ffi.buffer(buffer, min(got, size)))

    @property
    def foreign(self) -> int:
        """Datagrams of others that `receive` has thrown away."""
        return int(self._foreign[0])

    @property
    def receive_buffer(self) -> int:
        """Bytes the kernel may queue here, its own overhead included (SO_RCVBUF)."""
        return int.from_bytes(self._option(socket.SO_RCVBUF, 4), sys.byteorder)

    def set_receive_buffer(self, size: int) -> int:
        """Ask for `size` bytes, past net.core.rmem_max where allowed; return what the kernel grants (it doubles)."""
        wanted = ffi.new("int *", min(size, 0x3FFFFFFF))
        for option in (_SO_RCVBUFFORCE, socket.SO_RCVBUF):
            if not lib.setsockopt(self._socket.fd, socket.SOL_SOCKET, option, wanted, 4):
                break
            if option == socket.SO_RCVBUF or ffi.errno != errno.EPERM:
                raise KernelError("set the size of a netlink socket's buffer", ffi.errno)
        return self.receive_buffer

    def set_option(self, level: int, option: int, value: bytes, tried: str) -> None:
        """Set an option of the socket; KernelError says what was tried."""
        if lib.setsockopt(self.fileno(), level, option, ffi.from_buffer(value), len(value)):
            raise KernelError(tried, ffi.errno)

    @property
    def drops(self) -> int:
        """Datagrams the kernel could not queue here since the socket was opened (SO_MEMINFO)."""
        words = self._option(_SO_MEMINFO, 4 * _MEMINFO_WORDS)
        return int(struct.unpack("=9I", words)[_SK_MEMINFO_DROPS])

    def _option(self, option: int, size: int) -> bytes:
        value, length = ffi.new("char[]", size), ffi.new("uint32_t *", size)
        if lib.getsockopt(self._socket.fd, socket.SOL_SOCKET, option, value, length):
            raise KernelError("read an option of a netlink socket", ffi.errno)
        return bytes(ffi.buffer(value, size))

    def close(self) -> None:
        """Close the socket; may be called again."""
        self._socket.close()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
