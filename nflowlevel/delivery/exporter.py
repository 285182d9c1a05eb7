# SPDX-License-Identifier: GPL-2.0-or-later
"""Exporter: one session with a collector of IPFIX (RFC 7011), over UDP, TCP or TLS.

It takes rows (records/ipfix.py), puts them into messages with templates and sequence numbers, and returns when they are
out: over TCP when the collector's kernel has acknowledged all of them, over UDP when no refusal came for a moment. A
thread of its owner uses it and may wait in it; only `abort` is for other threads.

- A message holds as many records as keep its length within `mtu`. Its sequence number is the number of data records in
  the messages before it: of a TCP connection, or of all datagrams.
- A template goes out right before the first record that needs it: on each TCP connection, and over UDP again when so
  many seconds have passed or so many messages were sent since.
- A collector that resets the connection had acknowledged what it may not have read. Rows of the last seconds are kept
  for that (`Unread`), and are sent again on the next connection; others are counted as perhaps lost.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.delivery.connection import Unread, died, offered_window, unacknowledged
from nflowlevel.delivery.framing import LINES
from nflowlevel.records.ipfix import form_name, templates

if TYPE_CHECKING:
    import ssl

    from nflowlevel.stats import OutputStats

Transport = Literal["tcp", "udp"]
Announce = Literal["once", "always", "never"]

_ANNOUNCE = {"once": lib.NFL_IPFIX_ONCE, "always": lib.NFL_IPFIX_ALWAYS, "never": lib.NFL_IPFIX_NEVER}
_CLASSES = int(lib.NFL_IPFIX_CLASSES)

#: Which templates the forms have: those that are told apart by kind have their numbers whatever was sent first.
_FIRST_OF = {"ulogd2": 256, "flow": 256, "packet": 512, "deltas": 768, "totals": 1024}
_FIRST_OF_OTHERS = 1280
_MOST_TEMPLATES = 65536

#: Messages are made in a buffer of this size, and written from it in one piece.
_BUFFER_BYTES = 256 << 10
#: Bytes of datagrams at once, and the pause behind them: more would overflow a receive buffer of the usual size.
_BURST_BYTES, _BURST_MILLISECONDS = 32 << 10, 1
#: Messages of one length that the kernel gets in one piece (udp(7), UDP_SEGMENT, Linux 4.18): a third of the cost.
_TOGETHER = 64
#: What it answers where the way cannot split them: they need fragments, or are encrypted by IPsec.
_CANNOT_SPLIT = (-errno.EINVAL, -errno.EMSGSIZE, -errno.EIO)
#: How long to wait for a refusal of the first datagram, and of the last one.
_REFUSAL_SECS = 0.01
#: Acknowledgements cause no event: they are looked for after this long, doubled while there are none.
_ACK_SECS = (0.0005, 0.05)
#: An unanswered connection is given up after this; one whose collector merely does not read is not.
_DEAD_MILLISECONDS = 25_000
#: Rows that a collector which dies may not have read are kept up to this size.
_MOST_UNREAD = 8 << 20

_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT = 10, 23, 0
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_UDP_SEGMENT = 103


class BadRowsError(ValueError):
    """These are no rows of IPFIX: they will never go out."""


class _NotSentError(OSError):
    """A datagram could not be sent; those before it were, as far as anybody knows."""


class _Sent(bytearray):
    """Rows that were sent, with their layout."""

    layout: tuple[str, ...] = ()


class _Layout:
    """The templates of a layout, as C knows them."""

    def __init__(self, layout: Sequence[str], first: int) -> None:
        self.first = first
        self.templates = ffi.new("struct nfl_ipfix_template[]", _CLASSES)
        self._kept = []
        for class_, template in templates(layout, first).items():
            definition = ffi.from_buffer("uint8_t[]", template.definition)
            self._kept.append(definition)
            c = self.templates[class_]
            c.definition, c.size, c.id = definition, len(definition), template.id
            c.least, c.most = template.least, template.most


class Exporter:
    """See the module. `secrets` makes the TLS context, where there is TLS; `stats` counts what is sent again."""

    def __init__(
        self,
        transport: Transport,
        host: str,
        port: str,
        *,
        domain: int,
        mtu: int,
        announce: Announce = "once",
        again_secs: float = 0,
        again_messages: int = 0,
        secrets: Callable[[], ssl.SSLContext] | None = None,
        stats: OutputStats,
    ) -> None:
        self.transport, self.host, self.port = transport, host, port
        self.shown = f"{'tls' if secrets else transport} collector {_joined(host, port)}"
        self._again_secs, self._again_messages = again_secs, again_messages
        self._secrets = secrets
        self._stats = stats
        self._sock: socket.socket | None = None
        self._layouts: dict[tuple[str, ...], _Layout] = {}
        self._session: CData = ffi.new("struct nfl_ipfix_session *")
        self._session.domain, self._session.mtu, self._session.announce = domain, mtu, _ANNOUNCE[announce]
        self._session.round = 1
        self._out = ffi.new("uint8_t[]", _BUFFER_BYTES)
        self._view = memoryview(ffi.buffer(self._out))
        self._announced_at = 0.0
        self._messages = 0
        self._proven = False
        self._together = 1
        self._aborted = False
        #: Rows of the last `send`, from its first on, that went out over UDP although it failed.
        self.gone = 0
        self._unread: Unread | None = None
        #: Acknowledged on a connection that was reset, and perhaps not read: to be sent first.
        self._doubtful: list[_Sent] = []

    # -- the connection ---------------------------------------------------------------------------------------------

    def connect(self, timeout: float) -> None:
        """Connect; OSError where no address answers in time, or the certificates are not accepted."""
        self.close()
        kind = socket.SOCK_DGRAM if self.transport == "udp" else socket.SOCK_STREAM
        context = self._secrets() if self._secrets else None
        failure: OSError | None = None
        end = time.monotonic() + timeout
        for family, _, _, _, address in socket.getaddrinfo(self.host, self.port, type=kind):
            sock = socket.socket(family, kind | socket.SOCK_CLOEXEC)
            try:
                sock.settimeout(max(0.1, end - time.monotonic()))
                self._set_options(sock)
                sock.connect(address)
                if context:
                    sock = context.wrap_socket(sock, server_hostname=self.host)
                sock.settimeout(None)
            except OSError as error:
                sock.close()
                failure = error
            else:
                self._sock = sock
                self._begin()
                return
        raise failure or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))

    def _set_options(self, sock: socket.socket) -> None:
        if self.transport == "tcp":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_MILLISECONDS)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return
        six = sock.family == socket.AF_INET6
        level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
        # A message that is longer than the path allows arrives in fragments, rather than not at all.
        sock.setsockopt(level, _IPV6_MTU_DISCOVER if six else _IP_MTU_DISCOVER, _PMTUDISC_DONT)
        # Refusals are kept until they are read. Else one that comes between two datagrams of sendmmsg(2) is forgotten.
        sock.setsockopt(level, _IPV6_RECVERR if six else _IP_RECVERR, 1)

    def _begin(self) -> None:
        """Begin a session: the collector knows no template. Only over UDP its count of records goes on."""
        assert self._sock
        self._renew()
        self._proven = self._aborted = False
        self._together = _TOGETHER if self.transport == "udp" and _splits(self._sock) else 1
        if self.transport == "tcp":
            self._session.sequence = 0
            self._unread = Unread(_MOST_UNREAD, LINES)
            self._unread.offers(offered_window(self._sock), stalled=False)

    def _renew(self) -> None:
        self._session.round += 1
        self._announced_at, self._messages = time.monotonic(), 0

    def abort(self) -> None:
        """Break the connection: whoever waits in `send` gets an error. Never raises."""
        if sock := self._sock:
            self._aborted = True
            with contextlib.suppress(OSError):
                # Not that of ssl, which would only forget its state.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; may be called again."""
        sock, self._sock = self._sock, None
        if sock is None:
            return
        try:
            if self._unread:
                self._check(sock)
        except OSError as error:
            self._broke(sock, error)
        self._unread = None
        sock.close()

    def forsake(self) -> None:
        """There will be no further connection: count what would have been sent again on it."""
        self.close()
        doubtful, self._doubtful = self._doubtful, []
        with self._stats.lock:
            self._stats.maybe_lost += sum(each.count(b"\n") for each in doubtful)

    # -- rows --------------------------------------------------------------------------------------------------------

    def check(self, layout: tuple[str, ...], rows: bytes) -> None:
        """BadRowsError where they are no rows of IPFIX."""
        session = ffi.new("struct nfl_ipfix_session *", {"mtu": 512, "announce": lib.NFL_IPFIX_NEVER})
        session.templates = self._known(layout).templates
        data, at, used = ffi.from_buffer("uint8_t[]", rows), 0, ffi.new("size_t *")
        out = ffi.new("uint8_t[]", _BUFFER_BYTES)
        while at < len(rows):
            lib.nfl_ipfix_pack(session, data + at, len(rows) - at, out, _BUFFER_BYTES, used)
            if session.broken:
                raise BadRowsError("a row is no data record of its template")
            at += used[0]

    def send(self, layout: tuple[str, ...], rows: bytes) -> None:
        """Send rows, and wait until they are out; OSError when the connection is over: send them again on the next."""
        sock = self._sock
        if sock is None:
            raise BrokenPipeError(errno.EPIPE, "not connected")
        try:
            if self.transport == "udp":
                self._send_datagrams(sock, layout, rows)
            else:
                self._send_stream(sock, layout, rows)
        except OSError as error:
            self._broke(sock, error)
            raise

    def _known(self, layout: tuple[str, ...]) -> _Layout:
        known = self._layouts.get(layout)
        if known is None:
            taken = {each.first for each in self._layouts.values()}
            first = _FIRST_OF.get(form_name(layout), _FIRST_OF_OTHERS)
            if first in taken:
                first = max(_FIRST_OF_OTHERS - _CLASSES, *taken) + _CLASSES
            if first + _CLASSES > _MOST_TEMPLATES:
                # Nobody has so many; but what a spool holds is not ours to trust.
                raise BadRowsError("there are no numbers for further templates")
            try:
                known = self._layouts[layout] = _Layout(layout, first)
            except ValueError as error:
                raise BadRowsError(str(error)) from None
        return known

    def _pack(self, layout: tuple[str, ...], rows: CData, size: int) -> tuple[int, int]:
        """Make messages; return their bytes, and the bytes of the rows in them."""
        session = self._session
        session.templates = self._known(layout).templates
        session.now = int(time.time()) & 0xFFFFFFFF
        used = ffi.new("size_t *")
        made = lib.nfl_ipfix_pack(session, rows, size, self._out, _BUFFER_BYTES, used)
        if session.broken:
            raise BadRowsError("a row is no data record of its template")
        return int(made), int(used[0])

    def _send_stream(self, sock: socket.socket, layout: tuple[str, ...], rows: bytes) -> None:
        assert self._unread
        self._check(sock)
        while self._doubtful:
            kept = self._doubtful[0]
            self._write(sock, kept.layout, bytes(kept))
            self._stats.resent += kept.count(b"\n")
            self._unread.add(self._doubtful.pop(0))
        self._write(sock, layout, rows)
        sent = _Sent(rows)
        sent.layout = layout
        self._unread.add(sent)
        self._unread.offers(offered_window(sock), stalled=False)

    def _write(self, sock: socket.socket, layout: tuple[str, ...], rows: bytes) -> None:
        """Write rows, and wait until they are acknowledged."""
        data, at = ffi.from_buffer("uint8_t[]", rows), 0
        while at < len(rows):
            made, used = self._pack(layout, data + at, len(rows) - at)
            sock.sendall(self._view[:made])
            at += used
        assert self._unread
        pause = _ACK_SECS[0]
        while unacknowledged(sock):
            self._unread.offers(offered_window(sock), stalled=True)
            _wait(sock, select.POLLIN | select.POLLRDHUP, pause)
            try:
                self._check(sock)
            except BrokenPipeError:
                # Its kernel acknowledges what was left together with the end.
                if unacknowledged(sock):
                    raise
                return
            pause = min(pause * 2, _ACK_SECS[1])

    def _send_datagrams(self, sock: socket.socket, layout: tuple[str, ...], rows: bytes) -> None:
        data, at, first = ffi.from_buffer("uint8_t[]", rows), 0, self._session.sequence
        self.gone = 0
        _heed_refusals(sock)
        while at < len(rows):
            if self._is_due():
                self._renew()
            made, used = self._pack(layout, data + at, len(rows) - at)
            self._messages += self._session.messages
            try:
                self._send_messages(sock, made)
            except _NotSentError:
                self.gone = (self._session.sequence - first) & 0xFFFFFFFF
                raise
            at += used
        _heed_refusals(sock, _REFUSAL_SECS)

    def _is_due(self) -> bool:
        """Tell whether the templates are to be sent again."""
        by_time = self._again_secs and time.monotonic() >= self._announced_at + self._again_secs
        return bool(by_time or (self._again_messages and self._messages >= self._again_messages))

    def _send_messages(self, sock: socket.socket, size: int) -> None:
        at = 0
        try:
            while at < size:
                at += self._send_some(sock, at, size - at)
        except OSError:
            # The records of messages that did not go out will be sent again, under the same numbers.
            if at < size:
                self._session.sequence = int.from_bytes(self._view[at + 8 : at + 12], "big")
            raise

    def _send_some(self, sock: socket.socket, at: int, size: int) -> int:
        """Send some messages; return their bytes. The first one goes alone: who is away refuses it."""
        if not self._proven:
            size = int.from_bytes(self._view[at + 2 : at + 4], "big")
        pace = _BURST_BYTES, _BURST_MILLISECONDS, self._together
        sent = int(lib.nfl_ipfix_send(sock.fileno(), self._out + at, size, *pace))
        if sent == -errno.EAGAIN:
            _wait(sock, select.POLLOUT, 1.0)
            return 0
        if sent in _CANNOT_SPLIT and self._together > 1:
            self._together = 1
            return 0
        if sent < 0:
            _raise_refusal(sock)
            raise _NotSentError(-sent, os.strerror(-sent))
        _heed_refusals(sock, 0 if self._proven else _REFUSAL_SECS)
        self._proven = True
        return sent

    @staticmethod
    def _check(sock: socket.socket) -> None:
        """Raise OSError if the collector has closed or the connection is broken; what it sends is thrown away."""
        sock.setblocking(False)
        try:
            for _ in range(16):  # a talkative peer must not keep us here
                if not sock.recv(64 << 10):
                    raise BrokenPipeError(errno.EPIPE, "the collector closed the connection")
        except OSError as error:
            nothing_there = isinstance(error, BlockingIOError) or (type(sock) is not socket.socket and _wants(error))
            if not nothing_there:
                raise
        finally:
            sock.setblocking(True)

    def _broke(self, sock: socket.socket, error: OSError) -> None:
        """Note what may not have been read on the connection that ends with this error."""
        unread, self._unread = self._unread, None
        if unread is None:
            return
        if error.errno == errno.EPIPE and (self._aborted or not died(sock)):
            # Who closes in order has read all that was there, else its kernel resets the connection.
            return
        unread.forget()
        self._doubtful = [each for each in unread.kept if isinstance(each, _Sent)] + self._doubtful
        if lost := unread.uncertain:
            with self._stats.lock:
                self._stats.maybe_lost += lost


def _wants(error: OSError) -> bool:
    """Tell whether TLS merely has nothing to read."""
    import ssl  # loaded only where it is used: the daemon starts faster without it

    return isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError)


def _splits(sock: socket.socket) -> bool:
    """Tell whether the kernel can split what it gets into datagrams; one that cannot would ignore the wish."""
    try:
        sock.getsockopt(socket.SOL_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True


def _heed_refusals(sock: socket.socket, secs: float = 0) -> None:
    """Wait so long for a refusal, and raise OSError if there is one."""
    if _wait(sock, 0, secs):
        _raise_refusal(sock)


def _wait(sock: socket.socket, events: int, secs: float) -> bool:
    """Wait so long, in whole milliseconds, for events; tell whether one came. Errors are always told."""
    poll = select.poll()
    poll.register(sock, events)
    return bool(poll.poll(secs * 1000))


def _raise_refusal(sock: socket.socket) -> None:
    """Raise OSError if an ICMP error came back."""
    error = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            _, ancillary, _, _ = sock.recvmsg(0, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
            for _, _, data in ancillary:
                error = int.from_bytes(data[:4], sys.byteorder)  # ee_errno of struct sock_extended_err
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or error
    if error:
        raise OSError(error, os.strerror(error))


def _joined(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
