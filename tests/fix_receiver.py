# SPDX-License-Identifier: GPL-2.0-or-later
"""Receivers for the tests of peers: TCP, unix and UDP over loopback, which can stall, stop and come back."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fix_lines import numbers


class Receiver:
    """Reads all connections in a thread; what each brought is kept apart.

    `stop` ends it as a killed process ends: what it has not read is lost. A receiver made with the `address` of one
    that has stopped takes its place.
    """

    def __init__(self, kind: str, tmp_path: Path, *, address: Any = None, buffer_bytes: int = 0) -> None:
        self.kind = kind
        families = {"tcp6": socket.AF_INET6, "udp6": socket.AF_INET6, "unix": socket.AF_UNIX, "syslog": socket.AF_UNIX}
        self.family = families.get(kind, socket.AF_INET)
        self.is_udp = kind.startswith("udp") or kind == "syslog"
        self._socket = socket.socket(self.family, socket.SOCK_DGRAM if self.is_udp else socket.SOCK_STREAM)
        if buffer_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        if self.family == socket.AF_UNIX:
            address = address or str(tmp_path / ("log" if kind == "syslog" else "socket"))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)
        elif address is None:
            address = ("::1" if self.family == socket.AF_INET6 else "127.0.0.1", 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(address)
        if not self.is_udp:
            self._socket.listen()
        self.address: Any = self._socket.getsockname()
        self.connections: list[bytearray] = []
        self._open: list[socket.socket] = []
        self.reads = threading.Event()
        self.reads.set()
        self._wake, self._waker = os.pipe()
        self._stopping = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def options(self) -> dict[str, Any]:
        """What a Peer needs to know."""
        if self.family == socket.AF_UNIX:
            return {"transport": self.kind, "path": self.address}
        return {"transport": self.kind[:3], "host": self.address[0], "port": self.address[1]}

    @property
    def data(self) -> bytes:
        """Everything received."""
        return b"".join(self.connections)

    def seen(self) -> list[int]:
        """Return the numbers of all whole lines; each connection has to begin with one."""
        found = []
        for data in list(self.connections):
            found += numbers(bytes(data[: data.rfind(b"\n") + 1]))
        return found

    def unread(self) -> int:
        """Return how many bytes wait in the connections' buffers."""
        size = bytearray(4)
        total = 0
        for each in self._open:
            fcntl.ioctl(each, termios.FIONREAD, size)
            total += int.from_bytes(size, sys.byteorder)
        return total

    def stop(self) -> None:
        """End; a second call does nothing."""
        if self._stopping:
            return
        self._stopping = True
        os.write(self._waker, b"x")
        self.reads.set()
        self._thread.join()
        for each in (self._socket, *self._open):
            each.close()
        os.close(self._wake)
        os.close(self._waker)

    def hang_up(self) -> None:
        """Close the connections, not the listening socket."""
        for each in self._open:
            each.shutdown(socket.SHUT_RDWR)

    def say(self, data: bytes) -> None:
        """Send something back."""
        self._open[-1].sendall(data)

    def _run(self) -> None:
        if self.is_udp:
            self.connections.append(bytearray())
        by_fd: dict[int, tuple[socket.socket, bytearray]] = {}
        while True:
            ready, _, _ = select.select([self._wake, self._socket.fileno(), *by_fd], [], [])
            self.reads.wait()
            if self._stopping:
                return
            for fd in ready:
                if fd == self._socket.fileno():
                    if self.is_udp:
                        self.connections[0] += self._socket.recv(1 << 16)
                        continue
                    connection, _ = self._socket.accept()
                    data = bytearray()
                    by_fd[connection.fileno()] = connection, data
                    self._open.append(connection)
                    self.connections.append(data)
                elif fd in by_fd:
                    connection, data = by_fd[fd]
                    try:
                        more = connection.recv(1 << 16)
                    except ConnectionResetError:
                        more = b""
                    data += more
                    if not more:
                        del by_fd[fd]
                        self._open.remove(connection)
                        connection.close()


#: Starts a receiver; in the end all are stopped.
Receive = Callable[..., Receiver]


@pytest.fixture
def receive(tmp_path: Path) -> Iterator[Receive]:
    """Return what starts receivers."""
    receivers: list[Receiver] = []

    def started(kind: str = "tcp", **options: Any) -> Receiver:
        receivers.append(Receiver(kind, tmp_path, **options))
        return receivers[-1]

    yield started
    for each in receivers:
        each.stop()
