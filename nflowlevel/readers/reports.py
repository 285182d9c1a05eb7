# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets that other programs report over a unix socket, in the format of ulogd's input UNIXSOCK (_cdefs/report.h).

Reporters connect, and write one report after another; nothing is ever sent to them. What each of them has written is
read straight into the buffer of the batch, behind what others wrote; only the beginning of a report that is not whole
yet is kept, at most 64 KiB of each. Who writes something else is disconnected, and nobody else notices.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import logging
import select
import socket
import termios
import time

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.buffers import DATA_BYTES, RECORD_BYTES, ROOM_RECORDS, BufferPool, Slot
from nflowlevel.binding.procfs import name_of
from nflowlevel.binding.unixsocket import peer_of
from nflowlevel.logs import Limited
from nflowlevel.records.batch import Batch
from nflowlevel.records.reported import REPORTED
from nflowlevel.stats import Counters, counter, take_over

#: What is read of a reporter at once: about what the kernel lets wait.
_PIECE_BYTES = 1 << 16
#: So many reporters are asked for before others have their turn. What they may bring must find room.
_TURN = 4
#: Those who write a byte at a time, or come and go, fill no buffer: others than reporters have their turn after that.
_MOST_TURNS = 64
#: Connections take more time than reports; but what the new ones have written is still read.
_TURNS_AFTER_ACCEPTING = 8
_TURN_BYTES = _TURN * (_PIECE_BYTES + lib.NFL_REPORT_MAX)
_ROOM = ROOM_RECORDS * RECORD_BYTES // REPORTED.stride
#: Connections that are accepted before reports are read.
_MOST_ACCEPTED = 64
#: After the process or the machine had no descriptor for another connection.
_ACCEPT_AGAIN_SECS = 1.0
_NO_DESCRIPTOR = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class ReportStats(Counters):
    """What reporters wrote, and what could not be understood."""

    received = counter("packets", "Packets received and decoded.", always=True)
    clients = counter("connections", "Reporters that are connected.", gauge=True, always=True)
    connections = counter("connections", "Connections that were accepted.")
    refused = counter("connections", "Connections that were closed at once, because there were `max_clients` already.")
    broken = counter("connections", "Connections that were closed because something else than a report came.")
    failed = counter("connections", "Connections that ended with an error of the socket.")
    unfinished = counter("reports", "Reports whose reporter was gone before they were whole.")
    malformed = counter("reports", "Reports left out: their packet is longer than they are.")
    cut = counter("options", "Options left out: they do not fit into their report, or are too short for their value.")
    unknown = counter("options", "Options left out: their number is not known.")
    bytes = counter("bytes", "Bytes received.")


class _Reporter:
    """A connection. `rest` is what came and is not decoded yet."""

    __slots__ = ("at", "left", "rest", "socket")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.rest = b""
        #: Bytes that were decoded.
        self.at = 0
        #: How much may still be read of it; None: whatever comes.
        self.left: int | None = None

    def __str__(self) -> str:
        pid = peer_of(self.socket)
        return f"process {pid} ({name_of(pid)})" if pid else "a process that is not visible"


class Reports:
    """Those who connect to a listening socket, which is not closed here, and what they report."""

    def __init__(self, listener: socket.socket, name: str, *, max_clients: int) -> None:
        self.name = name
        self.max_clients = max_clients
        self._listener: socket.socket | None = listener
        self._epoll = select.epoll()
        self._epoll.register(listener, select.EPOLLIN)
        self._reporters: dict[int, _Reporter] = {}
        #: Those whose rest is whole reports: there was no room for them.
        self._waiting: list[_Reporter] = []
        self._accept_at: float | None = None
        self._pool = BufferPool()
        self._state = ffi.new("struct nfl_reports *")
        self._position = ffi.new("uint32_t *")
        self._stats = ReportStats()
        self._limited = Limited()
        #: Whether `receive` should be called again at once.
        self.more = False

    def fileno(self) -> int:
        """Return the descriptor that is readable when somebody connects or writes."""
        return self._epoll.fileno()

    @property
    def deadline(self) -> float | None:
        """When connections are accepted again (time.monotonic); None: they are."""
        return self._accept_at

    # -- reading -------------------------------------------------------------------------------------------------

    def receive(self) -> Batch:
        """Return what has arrived, of as many reporters as there is room for; it does not wait.

        NflowError where packets that are kept hold too many buffers.
        """
        if self._accept_at is not None and time.monotonic() >= self._accept_at:
            self._accept_at = None
            if self._listener:
                self._epoll.modify(self._listener, select.EPOLLIN)
        slot = self._pool.take()
        try:
            filling = _Filling(slot)
            self._state.valid_any, self._state.valid_all = 0, 2**64 - 1
            self._fill(filling)
        except BaseException:
            self._pool.put(slot)
            raise
        if not filling.count:
            self._pool.put(slot)
            return Batch(None, 0, type=REPORTED)
        return Batch(
            self._pool.lease(slot, filling.used + filling.count * REPORTED.stride),
            filling.count,
            valid_any=self._state.valid_any,
            valid_all=self._state.valid_all,
            type=REPORTED,
        )

    def _fill(self, filling: _Filling) -> None:
        waiting, self._waiting = self._waiting, []
        for reporter in waiting:
            self._decode(reporter, filling, 0)
        self.more = bool(self._waiting)
        turns = 0
        while not self.more:
            turns += 1
            events = self._epoll.poll(0, _TURN)
            for fd, _ in events:
                if fd in self._reporters:
                    self._read(self._reporters[fd], filling)
                else:
                    self._accept()
                    turns = max(turns, _MOST_TURNS - _TURNS_AFTER_ACCEPTING)
            if not events:
                break
            is_full = filling.used + _TURN_BYTES > DATA_BYTES
            self.more = bool(self._waiting) or is_full or turns >= _MOST_TURNS

    def _read(self, reporter: _Reporter, filling: _Filling) -> None:
        """Take in what one reporter has written."""
        if reporter in self._waiting:
            return
        start = filling.used + len(reporter.rest)
        most = _PIECE_BYTES if reporter.left is None else min(_PIECE_BYTES, reporter.left)
        try:
            got = reporter.socket.recv_into(filling.view[start : start + most]) if most else 0
        except BlockingIOError:
            return
        except OSError as error:
            self._stats.failed += 1
            self._limited(logging.ERROR, "failed", f"{self.name}: {reporter}: read: {error.strerror}; disconnected")
            self._drop(reporter)
            return
        if not got:
            self._drop(reporter)
            return
        if reporter.left is not None:
            reporter.left -= got
        self._stats.bytes += got
        self._decode(reporter, filling, got)

    def _decode(self, reporter: _Reporter, filling: _Filling, got: int) -> None:
        """Decode what is left of a reporter, and `got` bytes that lie behind the place for that."""
        start, rest = filling.used, reporter.rest
        filling.view[start : start + len(rest)] = rest
        end = start + len(rest) + got
        position, state = self._position, self._state
        position[0] = start
        filling.count += lib.nfl_report_decode(
            state, filling.data, position, end, *filling.now, filling.records + filling.count, _ROOM - filling.count
        )
        filling.used = position[0]
        reporter.at += position[0] - start
        reporter.rest = bytes(filling.view[position[0] : end])
        if state.unknown_id:
            what = f"option {state.unknown_id} of a report is not known, and left out"
            self._limited(logging.WARNING, "unknown", f"{self.name}: {reporter}: {what}")
            state.unknown_id = 0
        if state.stop == lib.NFL_REPORT_FULL:
            self._waiting.append(reporter)
        elif state.stop == lib.NFL_REPORT_BROKEN:
            self._stats.broken += 1
            said = f"{self.name}: {reporter}: no report begins at byte {reporter.at} of what it wrote; disconnected"
            reporter.rest = b""
            self._limited(logging.ERROR, "broken", said)
            self._drop(reporter)

    # -- connections ---------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        if self._listener is None:
            return
        for _ in range(_MOST_ACCEPTED):
            try:
                connected, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_DESCRIPTOR:
                    self._wait_with_accepting(error)
                    return
                continue  # it was gone before
            if len(self._reporters) >= self.max_clients:
                self._stats.refused += 1
                said = f"{self.name}: {_Reporter(connected)} is one reporter more than max_clients={self.max_clients}"
                self._limited(logging.ERROR, "refused", f"{said}; refused")
                connected.close()
                continue
            connected.setblocking(False)
            self._epoll.register(connected, select.EPOLLIN)
            self._reporters[connected.fileno()] = _Reporter(connected)
            self._stats.connections += 1

    def _wait_with_accepting(self, error: OSError) -> None:
        """Leave those who connect waiting for a while: nothing else would make room."""
        assert self._listener is not None
        self._epoll.modify(self._listener, 0)
        self._accept_at = time.monotonic() + _ACCEPT_AGAIN_SECS
        self._limited(logging.ERROR, "accept", f"{self.name}: accept a connection: {error.strerror}; tried again")

    def _drop(self, reporter: _Reporter) -> None:
        self._stats.unfinished += bool(reporter.rest)
        reporter.rest = b""
        fd = reporter.socket.fileno()
        self._epoll.unregister(fd)
        del self._reporters[fd]
        reporter.socket.close()

    def finish(self) -> None:
        """Let nobody connect any more, and read no more of those who are connected than they have written by now."""
        if self._listener:
            self._accept()
            if self._accept_at is None:
                self._epoll.unregister(self._listener)
            self._listener = None
            self._accept_at = None
        for reporter in [*self._reporters.values()]:
            waits = array.array("i", [0])
            with contextlib.suppress(OSError):
                fcntl.ioctl(reporter.socket, termios.FIONREAD, waits)
            reporter.left = waits[0]

    @property
    def stats(self) -> ReportStats:
        """What was read so far, and what could not be."""
        stats = ReportStats()
        stats.add(self._stats)
        take_over(stats, self._state)
        stats.clients = len(self._reporters)
        return stats

    def close(self) -> None:
        """Disconnect everybody; may be called again."""
        for reporter in [*self._reporters.values()]:
            self._drop(reporter)
        self._waiting.clear()
        self._epoll.close()


class _Filling:
    """A slot while it is filled: what is used of it."""

    __slots__ = ("count", "data", "now", "records", "used", "view")

    def __init__(self, slot: Slot) -> None:
        self.data = slot.data
        self.records = ffi.cast("struct nfl_reported *", slot.records)
        self.view = memoryview(ffi.buffer(slot.data, DATA_BYTES))
        self.used = self.count = 0
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        self.now = seconds, nanoseconds // 1000
