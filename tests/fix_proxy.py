# SPDX-License-Identifier: GPL-2.0-or-later
"""A TCP proxy on loopback between a client and its server, which breaks connections at chosen points.

    with Proxy(postgres.port) as proxy:
        ...                                               # the client connects to 127.0.0.1, proxy.port
        proxy.cut_at(b"COMMIT", when="answer")            # the server commits, the client never learns
        ...
        proxy.wait_fired()

A fault fires once; what comes later passes. Bytes are counted from the moment a fault is armed, over all connections.
What was passed on before a cut does arrive: the server's side is only half closed and read to its end, so that no reset
overtakes it. A connection that stalls is a network that swallows: the server's side stays open, and what the client
sends after that is kept, to arrive late (`release`) or never.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tests.fix_netns import Netns

PATIENCE = 20.0

Side = Literal["up", "down"]
"""`up` is from client to server, `down` from server to client."""
When = Literal["before", "after", "answer"]
How = Literal["close", "reset", "stall"]
"""What a client sees of a fault: the end of the stream, a connection reset, or nothing for ever."""

_CHUNK = 65536
_RESET = struct.pack("ii", 1, 0)


@dataclass
class Fault:
    """One armed fault."""

    side: Side
    how: How
    token: bytes = b""
    when: When = "before"
    occurrence: int = 1
    limit: int = 0
    """Bytes that pass; used without a token."""
    passed: int = 0
    tails: dict[int, bytes] = field(default_factory=dict)
    """The last bytes of each connection that may be the beginning of the token."""

    def find(self, connection: int, data: bytes) -> int:
        """Return how many bytes of `data` pass before the fault; -1: all, and it has not come."""
        if not self.token:
            self.passed += len(data)
            return len(data) - (self.passed - self.limit) if self.passed >= self.limit else -1
        tail = self.tails.get(connection, b"")
        seen, after = tail + data, 0
        while (place := seen.find(self.token, after)) >= 0:
            after = place + len(self.token)
            self.occurrence -= 1
            if not self.occurrence:
                return max(place - len(tail), 0) if self.when == "before" else len(data)
        # What has been counted must not be found again.
        self.tails[connection] = seen[max(after, len(seen) - len(self.token) + 1) :]
        return -1


class Proxy:
    """Accepts at `port` and passes on to the server; with `netns` it accepts inside that namespace."""

    def __init__(self, server_port: int, server_host: str = "127.0.0.1", *, netns: Netns | None = None) -> None:
        self.server = (server_host, server_port)
        self._netns = netns
        self.host = "127.0.0.1"
        self.port = 0
        self._lock = threading.RLock()
        self._fault: Fault | None = None
        self._fired = threading.Event()
        self._flows = threading.Event()
        self._flows.set()
        self._numbers = itertools.count(1)
        self._connections: dict[int, Connection] = {}
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self.accepted = 0
        """Connections accepted so far."""
        self.passed: dict[Side, int] = {"up": 0, "down": 0}
        """Bytes that have passed since the last fault was armed or `count` was called."""

    def __enter__(self) -> Proxy:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        connections = list(self._connections.values())
        self.cut()
        self._flows.set()
        for connection in connections:
            connection.join()

    # -- faults --------------------------------------------------------------------------------------------------------

    def cut_at(
        self, token: bytes, when: When = "before", *, side: Side = "up", occurrence: int = 1, how: How = "close"
    ) -> None:
        """Cut the connection where `token` passes for the n-th time.

        `before`: the token is not passed on; `after`: it is, with what was sent along with it, and nothing comes back;
        `answer`: likewise, and the connection is cut when the other side's next bytes have come, which are not passed
        on.
        """
        self._arm(Fault(side, how, token=token, when=when, occurrence=occurrence))

    def cut_after(self, count: int, side: Side = "up", *, how: How = "close") -> None:
        """Cut the connection after `count` more bytes in one direction; 0: at the next byte, which does not pass."""
        self._arm(Fault(side, how, limit=count))

    def count(self) -> None:
        """Begin to count anew what passes."""
        with self._lock:
            self.passed = {"up": 0, "down": 0}

    def disarm(self) -> None:
        """Forget a fault that has not fired."""
        with self._lock:
            self._fault = None

    def wait_fired(self) -> None:
        """Wait until the fault has come."""
        assert self._fired.wait(PATIENCE), f"the fault has not come: {self._fault}, passed {self.passed}"

    @property
    def fired(self) -> bool:
        """Whether the fault has come."""
        return self._fired.is_set()

    def cut(self, how: How = "close") -> int:
        """Cut all connections now, and return how many."""
        connections = list(self._connections.values())
        for connection in connections:
            connection.cut(how)
        return len(connections)

    def release(self) -> None:
        """Let arrive what stalled connections still hold for the server, and end them: a network that was slow."""
        for connection in list(self._connections.values()):
            connection.release()

    def stall(self) -> None:
        """Pass nothing on from now on; new connections are accepted and get no answer."""
        self._flows.clear()

    def refuse(self) -> None:
        """Refuse new connections from now on; those that are there stay."""
        listener, self._listener = self._listener, None
        if listener and self._acceptor:
            # shutdown wakes accept(), close alone does not.
            listener.shutdown(socket.SHUT_RDWR)
            self._acceptor.join(PATIENCE)
            listener.close()

    def forward(self) -> None:
        """Pass everything on again: the end of `stall` and `refuse`."""
        if not self._listener:
            self._listen()
        self._flows.set()

    def _arm(self, fault: Fault) -> None:
        with self._lock:
            self._fault = fault
            self._fired.clear()
            self.count()

    # -- the pumps ask -------------------------------------------------------------------------------------------------

    def _pass(self, connection: Connection, side: Side, data: bytes) -> tuple[int, Fault | None]:
        """Return how many bytes pass, and the fault that comes then; it is disarmed."""
        with self._lock:
            fault = self._fault
            place = fault.find(connection.number, data) if fault and fault.side == side else -1
            if place < 0:
                self.passed[side] += len(data)
                return len(data), None
            self.passed[side] += place
            self._fault = None
            return place, fault

    def _wait_for_flow(self, alive: Callable[[], bool]) -> bool:
        """Wait until bytes may pass; False: the connection has ended before that."""
        while not self._flows.wait(0.05):
            if not alive():
                return False
        return True

    # -- accepting -----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        with self._netns.enter() if self._netns else contextlib.nullcontext():
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        self.port = listener.getsockname()[1]
        listener.listen()
        self._listener = listener
        self._acceptor = threading.Thread(target=self._accept, args=(listener,), name="proxy accepts", daemon=True)
        self._acceptor.start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                self.accepted += 1
                connection = Connection(self, next(self._numbers), client)
                self._connections[connection.number] = connection
                connection.start()


class Connection:
    """One connection through the proxy: two sockets, and a thread for each direction."""

    def __init__(self, proxy: Proxy, number: int, client: socket.socket) -> None:
        self._proxy = proxy
        self.number = number
        self._client = client
        self._server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        # Set: nothing passes any more. The server is read to its end all the same, so that nothing resets its side.
        self._mute = threading.Event()
        self._answer: Fault | None = None
        self._held = b""
        self._ended = threading.Event()
        """Nothing will be sent to the server any more; what is held may go."""
        self._thread = threading.Thread(target=self._run, name="proxy up", daemon=True)

    def start(self) -> None:
        """Connect to the server and begin to pass bytes on."""
        self._thread.start()

    def join(self) -> None:
        """Wait until both directions have ended."""
        self._thread.join(PATIENCE)

    def cut(self, how: How) -> None:
        """End both sides; the server still gets what was passed on. `stall`: neither side hears of it."""
        self._mute.set()
        if how == "stall":
            return
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_WR)
        self._ended.set()
        with contextlib.suppress(OSError):
            if how == "reset":
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                # The reset goes out at the close, once the thread has left recv.
                self._client.shutdown(socket.SHUT_RD)
            else:
                self._client.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """End a stalled connection; what it holds arrives first."""
        if self._mute.is_set():
            self._ended.set()
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        down = threading.Thread(target=self._pump_down, name="proxy down", daemon=True)
        try:
            if self._connect():
                down.start()
                self._pump_up()
                self._client.close()
                down.join()
        finally:
            self._proxy._connections.pop(self.number, None)
            self._server.close()
            self._client.close()

    def _connect(self) -> bool:
        if not self._proxy._wait_for_flow(self._client_is_there) or self._mute.is_set():
            return False
        try:
            self._server.connect(self._proxy.server)
        except OSError:
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            return False
        return True

    def _client_is_there(self) -> bool:
        """Tell whether the client has not gone, without taking what it sent."""
        if self._ended.is_set():
            return False
        readable = select.select([self._client], [], [], 0)[0]
        try:
            return not readable or bool(self._client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def _pump_up(self) -> None:
        with contextlib.suppress(OSError):
            while (data := self._client.recv(_CHUNK)) and self._proxy._wait_for_flow(self._client_is_there):
                if self._mute.is_set():
                    self._held += data
                else:
                    self._held += self._pass("up", data, self._server)
        if self._mute.is_set():
            self._ended.wait()
            with contextlib.suppress(OSError):
                self._server.sendall(self._held)
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_WR)

    def _pump_down(self) -> None:
        with contextlib.suppress(OSError):
            while (data := self._server.recv(_CHUNK)) and self._proxy._wait_for_flow(self._client_is_there):
                if not self._mute.is_set():
                    self._pass("down", data, self._client)
        if not self._mute.is_set():
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)

    def _pass(self, side: Side, data: bytes, target: socket.socket) -> bytes:
        """Pass bytes on as far as faults let them, and return the rest."""
        if self._answer and self._answer.side != side:
            self._fire(self._answer)
            return data
        count, fault = self._proxy._pass(self, side, data)
        if fault and fault.when == "answer":
            # From here on the first byte of the other direction is the answer; this direction goes on.
            self._answer = fault
            target.sendall(data)
            return b""
        if fault:
            # Before the bytes go out: the answer to them may be back at once.
            self._mute.set()
        target.sendall(data[:count])
        if fault:
            self._fire(fault)
        return data[count:]

    def _fire(self, fault: Fault) -> None:
        self.cut(fault.how)
        self._proxy._fired.set()
