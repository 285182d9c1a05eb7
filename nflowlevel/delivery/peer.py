# SPDX-License-Identifier: GPL-2.0-or-later
"""Peer: lines sent over TCP, UDP or a unix socket by a thread of its own, whatever happens to the receiver.

- `write` copies the lines into a bounded queue and returns; names are resolved, connections made and lines sent in the
  thread. When the bound is reached new lines are dropped and counted.
- A receiver that is away, at the start or later, is tried again after 0.1 s, 0.2 s … 5 s.
- After a break the lines that may not have arrived are sent again: some may come twice, none vanishes unsaid. Of those
  that TCP cannot tell, at most so many as `maybe_lost` counts. Each connection begins with the beginning of a line.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Literal

from nflowlevel.binding.privileges import Worker
from nflowlevel.binding.rootpath import address_of
from nflowlevel.delivery.backlog import Backlog
from nflowlevel.delivery.backoff import FIRST_SECS, Backoff
from nflowlevel.delivery.connection import DatagramLink, Link, LocalLink, StreamLink
from nflowlevel.delivery.framing import LINES
from nflowlevel.delivery.target import MAX_PENDING_BYTES
from nflowlevel.errors import OutputError
from nflowlevel.logs import NOTICE, Limited, log

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from nflowlevel.delivery.framing import Framing
    from nflowlevel.stats import OutputStats

#: Pauses between attempts: the first, and the longest.
_PAUSE_SECS = (FIRST_SECS, 5.0)
#: A connection that lasted this long was a good one: the pauses start anew after it.
_LASTED_SECS = 1.0
_CONNECT_SECS = 5.0
#: How long a wanted reconnect waits for the old connection's acknowledgements, to send as little as possible twice.
_GOODBYE_SECS = 1.0
#: A host that is silent on an idle connection is given up after 30 + 3 * 10 s.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
#: What the state says: how it is, and what the counter `written` means there.
_CONNECTED = {"tcp": "connected", "udp": "sending", "unix": "connected", "syslog": "connected"}
_WRITTEN = {
    "tcp": "written: handed to the peer's kernel",
    "udp": "written: sent and not refused",
    "unix": "written: read by the peer",
    "syslog": "written: read by the peer",
}
#: The transports that are paths.
_LOCAL = ("unix", "syslog")
#: sockaddr_un holds no longer path.
_LONGEST_UNIX_PATH = 107


class Peer:
    """A `LineTarget` that is a receiver: of `tcp` and `udp` at `host` and `port`, of `unix` and `syslog` at `path`.

    `syslog` is a unix socket of either kind, as syslog(3) has it: of datagrams, a record each, else a stream.
    """

    def __init__(
        self,
        transport: Literal["tcp", "udp", "unix", "syslog"],
        *,
        host: str = "",
        port: str | int = "",
        path: str = "",
        max_pending_bytes: int = MAX_PENDING_BYTES,
        framing: Framing = LINES,
        most_unread: int = 0,
        stats: OutputStats,
        limited: Limited,
    ) -> None:
        self.transport, self.host, self.port, self.path = transport, host, str(port), path
        self.stats = stats
        self._limited = limited
        self._most_unread = most_unread
        self._backlog = Backlog(max_pending_bytes, stats, framing)
        self._name = f"{transport} {path if transport in _LOCAL else _joined(host, str(port))}"
        self._addresses: list[_Address] = []  # those not tried yet
        self._state = f"{self._name} not opened yet"
        self._attempts = 0

        self._thread: threading.Thread | None = None
        self._wake_fd = -1
        # Orders to the thread, and whether it sleeps until there are new lines. Under stats.lock.
        self._stop_at: float | None = None
        self._reconnect = False
        self._hungry = False

    @property
    def state(self) -> str:
        """How the connection is, in a few words for the status."""
        return self._state

    @property
    def deadline(self) -> float | None:
        """None: the thread keeps its own time."""
        return None

    def open(self) -> None:
        """Start the thread; a receiver that is away is waited for."""
        if self.transport in _LOCAL and len(os.fsencode(self.path)) > _LONGEST_UNIX_PATH:
            hint = f"choose a path of at most {_LONGEST_UNIX_PATH} bytes"
            raise OutputError(f"connect to {self._name}: the path is too long — {hint}", retryable=False)
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._state = f"connecting to {self._name}"
        self._thread = Worker(self._run, f"peer {self._name}")
        self._thread.start()

    def has_room(self, size: int) -> bool:
        """Tell whether `size` bytes would be queued now; it stays true while stats.lock is held."""
        return self._backlog.has_room(size)

    def write(self, data: Buffer, records: int, *, anyway: bool = False) -> None:
        """Queue `records` complete records: a line each, or as the framing says; `anyway`: also without room."""
        with self.stats.lock:
            self.stats.records += records
            if self._stop_at is not None:
                self.stats.drop("stop", records)
                return
            kept = self._backlog.put(data, records, anyway=anyway)
            if self._hungry:
                self._wake()
        if not kept:
            self._limited(logging.ERROR, "full", f"{self._name}: the buffer is full; new records are dropped")

    def reopen(self) -> None:
        """Connect again, resolving the name anew."""
        with self.stats.lock:
            self._reconnect = True
            self._wake()

    def retry(self) -> None:
        """Nothing to do: the thread keeps its own time."""

    def close(self, timeout: float) -> None:
        """Have what waits sent and acknowledged, for at most `timeout` seconds; what is left is dropped and counted."""
        with self.stats.lock:
            if self._stop_at is not None:
                return
            self._stop_at = time.monotonic() + timeout
            self._wake()
        if self._thread:
            self._thread.join(timeout + 0.2)  # it may be in the resolver, which cannot be interrupted
        uncertain = self.stats.pending_bytes
        if lost := self._backlog.close("stop"):
            log.error(
                "%s: records that the peer had not taken before the stop (%s), dropped: %d",
                self._name,
                self._state,
                lost,
            )
        elif uncertain:
            log.error("%s: the last records it took before it broke off may not have been read", self._name)
        self._state = f"closed {self._name}"

    # Below: the thread

    def _run(self) -> None:
        first, longest = _PAUSE_SECS
        backoff = Backoff(longest, first)
        while self._is_wanted():
            stopping = self._stop_at is not None
            began = time.monotonic()
            try:
                self._attempt()
            except Exception:  # a mistake of ours must not silence the output for ever
                log.exception("%s: unexpected error; connecting again", self._name)
            if stopping and not self._addresses:
                break  # each address had one more chance
            if time.monotonic() - began > _LASTED_SECS:
                backoff.reset()
            self._sleep(backoff.pause())
        with self.stats.lock:
            os.close(self._wake_fd)
            self._wake_fd = -1

    def _is_wanted(self) -> bool:
        """Tell whether there is something left to do."""
        stop_at = self._stop_at
        return stop_at is None or (bool(self._backlog) and time.monotonic() < stop_at)

    def _attempt(self) -> None:
        """Connect, and serve the connection until it ends."""
        with self.stats.lock:
            if self._reconnect:
                self._reconnect = False
                self._addresses.clear()
        self.stats.retries += self._attempts > 0
        self._attempts += 1
        try:
            address = self._next_address()
            link = self._connect(address)
        except OSError as error:
            self._failed(f"connect to {self._name}", error)
            return
        if self.transport != "udp":  # for UDP nothing is known yet
            self._addresses.clear()
            self._limited(NOTICE, "connected", f"connected to {self._name} ({address.shown})")
        self._state = f"{_CONNECTED[self.transport]} to {address.shown} ({_WRITTEN[self.transport]})"
        broken: OSError | None = None
        try:
            self._serve(link)
        except OSError as error:
            broken = error
        finally:
            doubtful = self.stats.maybe_lost
            self.stats.resent += link.recover(broken)
            link.sock.close()
            if self.stats.maybe_lost > doubtful:
                self._doubt(self.stats.maybe_lost - doubtful)
        if broken:
            self._failed(f"send to {self._name}", broken)
        else:
            self._state = f"connecting to {self._name}"

    def _doubt(self, records: int) -> None:
        told = f"{self._name}: up to {records} records may be lost: its kernel had acknowledged them"
        self._limited(
            logging.ERROR, "doubt", f"{told}, its program may not have read them; {self.stats.maybe_lost} in all"
        )

    def _failed(self, tried: str, error: OSError) -> None:
        self.stats.errors += 1
        self._state = f"connecting to {self._name} ({error.strerror})"
        waiting = f"records waiting: {self.stats.pending}"
        self._limited(logging.ERROR, tried, f"{tried}: {error.strerror}; {waiting}, trying again")

    def _serve(self, link: Link) -> None:
        """Send what comes until an order ends it; raises OSError when the connection breaks."""
        goodbye_at: float | None = None
        while True:
            if self._reconnect and goodbye_at is None:
                goodbye_at = time.monotonic() + _GOODBYE_SECS
            end = goodbye_at if self._stop_at is None else self._stop_at
            take = self._stop_at is not None or not self._reconnect
            link.work(take)
            if end is not None and ((link.clean and not (take and self._backlog)) or time.monotonic() >= end):
                return
            with self.stats.lock:
                if take and link.ready and self._backlog:
                    continue
                self._hungry = take and link.ready
            events, timeout = link.wants()
            self._poll(link.sock, events, _sooner(timeout, end))

    def _next_address(self) -> _Address:
        """Return the next address to try, resolving the name when all were tried."""
        if self.transport in _LOCAL:
            kind = socket.SOCK_STREAM if self.transport == "unix" else socket.SOCK_DGRAM
            return _Address(socket.AF_UNIX, kind, self.path, self.path)
        if not self._addresses:
            kind = socket.SOCK_STREAM if self.transport == "tcp" else socket.SOCK_DGRAM
            found = socket.getaddrinfo(self.host, self.port, type=kind)
            self._addresses = [
                _Address(family, kind, to, _joined(str(to[0]), str(to[1]))) for family, _, _, _, to in found
            ]
        return self._addresses.pop(0)

    def _connect(self, address: _Address) -> Link:
        sock = socket.socket(address.family, address.kind | socket.SOCK_NONBLOCK)
        try:
            if address.family == socket.AF_UNIX:
                with address_of(self.path) as to:
                    code = sock.connect_ex(to)
            else:
                code = sock.connect_ex(address.to)
            if code == errno.EINPROGRESS:
                code = self._await_connection(sock)
            if code == errno.EPROTOTYPE and self.transport == "syslog" and address.kind == socket.SOCK_DGRAM:
                sock.close()
                return self._connect(_Address(address.family, socket.SOCK_STREAM, address.to, address.shown))
            if code:
                raise OSError(code, os.strerror(code))
            if address.family == socket.AF_UNIX:
                is_stream = address.kind == socket.SOCK_STREAM
                return StreamLink(sock, self._backlog) if is_stream else LocalLink(sock, self._backlog, self.path)
            if address.kind == socket.SOCK_DGRAM:
                return DatagramLink(sock, self._backlog)
            if sock.getsockname() == sock.getpeername():
                # Nobody listens on this local port, and the kernel happened to choose it for our end.
                raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
            return StreamLink(sock, self._backlog, self._most_unread)
        except BaseException:
            sock.close()
            raise

    def _await_connection(self, sock: socket.socket) -> int:
        """Wait until a connection is made; return 0 or an errno."""
        end = time.monotonic() + _CONNECT_SECS
        while (now := time.monotonic()) < end:
            if self._poll(sock, select.POLLOUT, _sooner(end - now, self._stop_at)):
                return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if self._stop_at is not None and time.monotonic() >= self._stop_at:
                break
        return errno.ETIMEDOUT

    def _sleep(self, seconds: float) -> None:
        """Pause, but not when there is an order."""
        end = time.monotonic() + seconds
        while self._stop_at is None and not self._reconnect and (left := end - time.monotonic()) > 0:
            self._poll(None, 0, left)

    def _poll(self, sock: socket.socket | None, events: int, timeout: float | None) -> bool:
        """Wait for an event of the socket (True), an order, new lines if hungry, or until `timeout` has passed."""
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        if sock:
            poll.register(sock, events)
        # Rounded up: waking just before a time is reached would mean turning in circles until it is.
        found = dict(poll.poll(None if timeout is None else int(max(0.0, timeout) * 1000) + 1))
        with self.stats.lock:
            self._hungry = False
            if found.pop(self._wake_fd, 0):
                os.eventfd_read(self._wake_fd)
        return bool(found)

    def _wake(self) -> None:
        """Wake the thread from its poll; the caller holds stats.lock."""
        self._hungry = False
        if self._wake_fd >= 0:
            os.eventfd_write(self._wake_fd, 1)


class _Address:
    """Where to connect: `shown` is what the state and the log say."""

    __slots__ = ("family", "kind", "shown", "to")

    def __init__(self, family: int, kind: int, to: str | tuple[str | int | bytes, ...], shown: str) -> None:
        self.family, self.kind, self.to, self.shown = family, kind, to, shown


def _joined(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _sooner(timeout: float | None, end: float | None) -> float | None:
    """Return the seconds until `timeout` or the time `end`, whichever comes first."""
    if end is None:
        return timeout
    left = max(0.0, end - time.monotonic())
    return left if timeout is None else min(timeout, left)
