# SPDX-License-Identifier: GPL-2.0-or-later
"""An HTTP endpoint with one page, in threads of its own, for clients that are slow, many, or never say a word.

A client that takes too long is given up, and when too many are there the oldest has to go: a new one always gets its
answer, and none of them costs more than a thread and its answer's memory. What clients cost in CPU time, the next one
waits for several times: whoever asks without pause does not take it from the receive loop. Where a descriptor or a
thread for a client cannot be had, that is said and counted, and the clients wait.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from nflowlevel.binding.privileges import Worker
from nflowlevel.errors import OutputError
from nflowlevel.logs import Limited, log
from nflowlevel.stats import OutputStats

#: Clients that are served at the same time.
_CLIENTS = 8
#: Longest wait for a client to go on reading or writing.
_CLIENT_SECS = 10.0

#: Without a descriptor for a client nothing can be done but wait: the listening socket stays readable.
_PAUSE_SECS = 1.0
#: What is short then. After any other error the client has gone, and the next one can be asked for.
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

#: So many seconds for each of CPU time that clients have taken no other is taken, but not for longer than _PAUSE_SECS.
_REST = 3.0

_HINT = "raise the limit of open files (LimitNOFILE=, ulimit -n), or find what holds so many"

#: Given the request's Accept header, returns content type and content.
Answer = Callable[[str], tuple[str, bytes]]


class Endpoint:
    """Serves `path` at `host` and `port` from the call of the constructor to `close`; OutputError where it cannot.

    Clients that could not be taken are `errors` of `stats`.
    """

    def __init__(self, host: str, port: int, path: str, answer: Answer, stats: OutputStats | None = None) -> None:
        self._wake_fd = -1
        try:
            self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC)
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._server = _Server(family, address, path, answer, stats or OutputStats())
        except OSError as error:
            if self._wake_fd >= 0:
                os.close(self._wake_fd)
            hint = "choose another port" if error.errno else "use an address of this machine"
            if error.errno in _SHORT:
                hint = _HINT
            raise OutputError(f"listen on {_joined(host, port)}: {error.strerror} — {hint}") from None
        #: Where it is served; with the port that the system chose when it was 0.
        bound = self._server.socket.getsockname()
        self.url = f"http://{_joined(bound[0], bound[1])}{path}"
        self._thread = Worker(self._run, f"endpoint {self.url}")
        self._thread.start()

    def close(self) -> None:
        """Serve no more; clients that are being served are cut off. May be called again."""
        if self._wake_fd < 0:
            return
        os.eventfd_write(self._wake_fd, 1)
        self._thread.join()
        self._server.server_close()
        self._server.cut_off()
        os.close(self._wake_fd)
        self._wake_fd = -1

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        poll.register(self._server, select.POLLIN)
        self._server.timeout = 0  # the client may have gone again
        while self._wake_fd not in dict(poll.poll()):
            self._server.handle_request()
            if self._server.short and self._is_told_within(_PAUSE_SECS):
                return
            if (rest := self._server.rest()) and self._is_told_within(rest):
                return

    def _is_told_within(self, seconds: float) -> bool:
        """Wait; whether it is told to end meanwhile."""
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        return bool(poll.poll(int(seconds * 1000)))


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, family: int, address: Any, path: str, answer: Answer, stats: OutputStats) -> None:
        self.address_family = family
        self.path, self.answer, self.stats = path, answer, stats
        self.limited = Limited()
        #: The last client could not be taken for want of something that may be there later.
        self.short = False
        self._clients: dict[socket.socket, threading.Thread] = {}
        #: CPU time that was taken and not rested for.
        self._taken = 0.0
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def handle_request(self) -> None:
        """Take the next client and let a thread serve it."""
        began = time.thread_time()
        try:
            super().handle_request()
        finally:
            self._took(time.thread_time() - began)

    def _took(self, seconds: float) -> None:
        with self._lock:
            self._taken += seconds

    def rest(self) -> float:
        """Return for how many seconds no other client is to be taken; 0.0 until there is a millisecond of it."""
        with self._lock:
            rest = self._taken * _REST
            if rest < 0.001:
                return 0.0
            self._taken = 0.0
        return min(rest, _PAUSE_SECS)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Take the next client; OSError, which our base is silent about, where that cannot be."""
        self.short = False
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in _SHORT:
                self._failed(f"take a client: {error.strerror} — {_HINT}")
            raise

    def _failed(self, what: str) -> None:
        self.short = True
        with self.stats.lock:
            self.stats.errors += 1
        self.limited(logging.ERROR, what, f"serve {self.path}: {what}; trying again")

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a client in a thread."""
        thread = Worker(self._serve, f"client of {self.path}", (request, client_address))
        with self._lock:
            excess = list(self._clients)[: max(0, len(self._clients) + 1 - _CLIENTS)]
            self._clients[request] = thread
        for oldest in excess:
            _hang_up(oldest)
        try:
            thread.start()
        except RuntimeError as error:  # there are as many threads as the system allows
            with self._lock:
                del self._clients[request]
            self._failed(f"start a thread for a client: {error} — raise the limit of tasks")
            self.shutdown_request(request)

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._clients.pop(request, None)
            self._took(time.thread_time())

    def cut_off(self) -> None:
        """End all clients' connections and wait for their threads."""
        with self._lock:
            clients = dict(self._clients)
        for request, thread in clients.items():
            _hang_up(request)
            thread.join(1.0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""
        log.debug("a client of %s broke off", self.path, exc_info=True)


def _hang_up(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    timeout = _CLIENT_SECS
    server: _Server

    def do_GET(self) -> None:
        """Answer, with the page or the way to it."""
        if self.path.partition("?")[0] != self.server.path:
            self.send_error(404, explain=f"see {self.server.path}")
            return
        try:
            kind, content = self.server.answer(self.headers.get("Accept", ""))
        except Exception as error:
            self.server.limited(logging.ERROR, "answer", f"make {self.path}: {error!r}")
            self.send_error(500)
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def version_string(self) -> str:
        """Tell no versions of anything."""
        return "nflowlevel"

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not worth a line."""


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
