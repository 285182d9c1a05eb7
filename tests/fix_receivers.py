# SPDX-License-Identifier: GPL-2.0-or-later
"""Peers of an output: receivers at sockets and FIFOs that keep what they are sent, and a way to a server elsewhere."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from pathlib import Path
from typing import Any

from tests.fix_netns import Netns


class Receivers:
    """Peers in one thread: each keeps all that it was sent, by name."""

    def __init__(self) -> None:
        self.received: dict[str, list[bytes]] = {}
        self._selector = selectors.DefaultSelector()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def listen(self, name: str, netns: Netns, kind: socket.SocketKind, address: Any) -> None:
        """Listen at a TCP, UDP or Unix address, in a namespace."""
        with netns.enter():
            sock = socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        self.received[name] = []
        if kind == socket.SOCK_STREAM:
            sock.listen()
        self._selector.register(sock, selectors.EVENT_READ, (name, "listener" if kind == socket.SOCK_STREAM else ""))

    def read(self, name: str, fifo: Path) -> None:
        """Make a FIFO and read it."""
        os.mkfifo(fifo)
        self.received[name] = []
        reader = os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
        self._selector.register(reader, selectors.EVENT_READ, (name, "fifo"))

    def __enter__(self) -> Receivers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _run(self) -> None:
        # Whoever sent has ended before the end is told: what there is, is there.
        while True:
            ending = self._ending.is_set()
            if not self._turn() and ending:
                return

    def _turn(self) -> bool:
        """Take what has come; tell whether anything had."""
        taken = False
        for key, _ in self._selector.select(0.02):
            source: Any = key.fileobj
            name, kind = key.data
            if kind == "listener":
                connection, _ = source.accept()
                self._selector.register(connection, selectors.EVENT_READ, (name, "stream"))
                taken = True
                continue
            data = (source.read(65536) or b"") if kind == "fifo" else source.recv(65536)
            self.received[name].append(data)
            taken = taken or bool(data)
            if not data and kind == "stream":
                self._selector.unregister(source)
                source.close()
        if not taken:
            time.sleep(0.005)  # a FIFO that nobody has opened is always at its end
        return taken


class Forwarder:
    """Passes connections to a TCP address in a namespace on to a Unix socket: a server that is asked for there."""

    def __init__(self, netns: Netns, port: int, target: Path) -> None:
        with netns.enter():
            self._listener = socket.create_server(("127.0.0.1", port))
        self._target = str(target)
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Forwarder:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._target)
            back = threading.Thread(target=_pump, args=(server, client))
            back.start()
            _pump(client, server)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
