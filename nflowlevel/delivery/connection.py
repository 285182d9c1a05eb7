# SPDX-License-Identifier: GPL-2.0-or-later
"""Links: one connected socket each, and what of the lines sent through it has not surely arrived.

A link takes chunks from a `Backlog`, sends them, counts them as written when it may, and after a break gives back what
the peer may not have got, always from the beginning of a line.

- `StreamLink`: TCP, where a line is written when the peer's kernel has acknowledged it, and unix stream sockets, where
  it is written when the peer has read it. A TCP peer that dies with unread data resets the connection: what it had
  acknowledged a moment before is sent again. What else it may not have read is counted as `maybe_lost`: see `Unread`.
- `LocalLink`: unix datagram sockets, such as the system log's: a line a datagram, written when the peer has read it.
- `DatagramLink`: UDP, one line a datagram, or as many as its framing says. Nothing is acknowledged, but an ICMP error
  comes back when nobody listens: a line is written when none came for a while.

A link never blocks. `work` raises OSError when the connection is over.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import termios
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from nflowlevel.binding.descriptor import Descriptor
from nflowlevel.binding.rootpath import address_of

if TYPE_CHECKING:
    from nflowlevel.delivery.backlog import Backlog, Chunk
    from nflowlevel.delivery.framing import Framing

#: One call of `work` sends about this much, then looks for acknowledgements and orders.
_WORK_BYTES = 1 << 20
#: Acknowledgements cause no event: they are looked for after this long, doubled while there are none.
_ACK_SECS = (0.002, 0.1)
#: So long after a peer has ended its side it may tell that it has not read everything.
_AFTER_END_MILLISECONDS = 100
#: What a TCP peer acknowledged less than this long ago (while it kept up) is sent again after a reset: at most this
#: many bytes, the last ones.
_UNREAD_SECS, _UNREAD_BYTES = 2.0, 1 << 20
#: A peer that reads offers a larger window again at the latest when it is half of what it could be, or this much less.
_UNTOLD_BYTES = 256 << 10
#: What a peer's buffer may hold where the kernel does not tell its window: more than sockets hold by default (6 MiB).
_UNKNOWN_BUFFER_BYTES = 8 << 20
#: Where struct tcp_info of linux/tcp.h has tcpi_snd_wnd, since Linux 5.4.
_WINDOW = struct.Struct("=228xI")
#: This many unanswered retransmissions (some 25 s) mean that the peer's host is gone. A peer that merely does not read
#: still answers the probes of its closed window.
_DEAD_RETRANSMITS = 7
#: A datagram nobody complained about for this long has arrived as surely as UDP can tell.
_REFUSAL_SECS = 0.1


class Link(Protocol):
    """What a `Peer` needs of a connected socket."""

    sock: socket.socket

    @property
    def ready(self) -> bool:
        """Whether the next chunk could be sent now."""

    @property
    def clean(self) -> bool:
        """Whether all that was taken has been counted as written or dropped."""

    def work(self, take: bool) -> None:
        """Send (with `take` also new chunks) and count; raises OSError when the connection is over."""

    def wants(self) -> tuple[int, float | None]:
        """Return the poll events, and the seconds, after which `work` has something to do."""

    def recover(self, error: OSError | None) -> int:
        """Give back what may not have arrived; return how many lines are sent again because of `error`."""


class StreamLink:
    """A TCP or unix stream connection. `most_unread`: bytes sent again after a reset though acknowledged; 0: 1 MiB."""

    def __init__(self, sock: socket.socket, backlog: Backlog, most_unread: int = 0) -> None:
        self.sock = sock
        self._backlog = backlog
        self._tcp = sock.family != socket.AF_UNIX
        self._taken: deque[tuple[int, Chunk]] = deque()  # not acknowledged, each with its position in the stream
        self._end = 0  # position after the last of them
        self._sent = 0  # bytes given to the socket
        self._acknowledged = 0
        self._ack_secs = _ACK_SECS[0]
        self._unread = Unread(most_unread or _UNREAD_BYTES, backlog.framing)
        if self._tcp:
            self._unread.offers(offered_window(sock), stalled=False)

    @property
    def ready(self) -> bool:
        """Whether the next chunk could be sent now."""
        return self._sent == self._end

    @property
    def clean(self) -> bool:
        """Whether the peer has acknowledged all that was taken."""
        return not self._taken

    def work(self, take: bool) -> None:
        """Send what the socket takes, and count what was acknowledged."""
        self._send(take)
        acknowledged = self._sent - unacknowledged(self.sock)
        # A unix peer that closes throws away what it had not read, which then looks as if it had been read. So believe
        # the figure only if the peer was still there after it was taken.
        self._check_connected()
        if acknowledged > self._acknowledged:
            self._ack_secs = _ACK_SECS[0]
            self._acknowledged = acknowledged
            self._release()
        elif self._sent > self._acknowledged:
            self._ack_secs = min(self._ack_secs * 2, _ACK_SECS[1])
            if self._tcp:
                _check_alive(self.sock)
        if self._tcp:
            self._unread.offers(offered_window(self.sock), stalled=self._acknowledged < self._sent)

    def wants(self) -> tuple[int, float | None]:
        """Wait for room, for the peer's end, or for the time to look at the acknowledgements."""
        events = select.POLLIN | select.POLLRDHUP | (0 if self.ready else select.POLLOUT)
        return events, self._ack_secs if self._sent > self._acknowledged else None

    def recover(self, error: OSError | None) -> int:
        """Give back all lines not wholly acknowledged; after a reset also those that may be unread."""
        orderly = error is None or error.errno == errno.EPIPE
        if error and orderly and self._tcp:
            orderly = not died(self.sock)
        if self._tcp and orderly:  # the kernel still knows; for the unix socket see `work`
            self._acknowledged = self._sent - unacknowledged(self.sock)
            self._release()
        framing = self._backlog.framing
        again = 0
        for start, chunk in self._taken:
            cut = 0
            if orderly or not self._tcp:
                records, cut = chunk.cut_before(max(0, self._acknowledged - start), framing)
                self._backlog.done(records, cut)
            again += framing.before(chunk.data, max(0, self._sent - start - cut))[0]
        for _, chunk in reversed(self._taken):
            self._backlog.give_back(chunk)
        self._taken.clear()
        if self._tcp and not orderly:
            self._unread.forget()
            for lines in reversed(self._unread.kept):
                again += framing.before(lines, len(lines))[0]
                self._backlog.again(lines)
            self._backlog.doubt(self._unread.uncertain)
        return again

    def _check_connected(self) -> None:
        """Raise OSError if the peer has gone."""
        _check_connected(self.sock)

    def _send(self, take: bool) -> None:
        enough = self._sent + _WORK_BYTES
        while self._sent < enough:
            if self._sent == self._end:
                chunk = self._backlog.take() if take else None
                if chunk is None:
                    return
                self._taken.append((self._end, chunk))
                self._end += len(chunk.data)
            start, chunk = self._taken[-1]
            try:
                self._send_some(chunk, self._sent - start)
            except BlockingIOError:
                return

    def _send_some(self, chunk: Chunk, offset: int) -> None:
        """Send of a chunk what the socket takes, from `offset` on."""
        with memoryview(chunk.data) as whole, whole[offset:] as rest:
            self._sent += self.sock.send(rest)

    def _release(self) -> None:
        """Count the chunks that are wholly acknowledged as written."""
        while self._taken and self._taken[0][0] + len(self._taken[0][1].data) <= self._acknowledged:
            _, chunk = self._taken.popleft()
            self._backlog.done(chunk.records, len(chunk.data))
            if self._tcp:
                self._unread.add(chunk.data)


class LocalLink(StreamLink):
    """A connected unix datagram socket: the kernel loses nothing of it, and knows how much the peer has not read.

    What it had not read when it ended is sent again to the next one at that path. The kernel counts more bytes for a
    datagram than are in it, so some that it had read may come twice.
    """

    def __init__(self, sock: socket.socket, backlog: Backlog, path: str) -> None:
        super().__init__(sock, backlog)
        self._path = path
        # As long as it is held, no other socket gets its number; file systems give that of a removed one to the next.
        self._held = Descriptor.opened(path, os.O_PATH | os.O_CLOEXEC)
        try:
            # Another may have come there since.
            with address_of(path) as to:
                sock.connect(to)
            self._check_place()
        except BaseException:
            self._held.close()
            raise

    def recover(self, error: OSError | None) -> int:
        """Give back what it had not read."""
        self._held.close()
        return super().recover(error)

    def _check_connected(self) -> None:
        """Raise OSError if whoever listens at the path is not the one we are connected to: nothing else tells it."""
        if not self._sent > self._acknowledged:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as probe:
            probe.connect(self._path)
        # Afterwards: the path leads to ours, so it did then, and somebody listened.
        self._check_place()

    def _check_place(self) -> None:
        if not os.path.samestat(os.stat(self._path), os.fstat(self._held.fd)):
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    def _send_some(self, chunk: Chunk, offset: int) -> None:
        """Send the next record; one that is too long for a datagram is dropped and counted."""
        framing = self._backlog.framing
        end = framing.datagram(chunk.data, offset)
        try:
            with memoryview(chunk.data) as whole, whole[offset:end] as record:
                self.sock.send(record)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            records, _ = framing.before(chunk.data[offset:end], end - offset)
            lost = min(records, chunk.records)
            chunk.records -= lost
            older = min(framing.before(chunk.data, offset)[0], chunk.records)
            older += sum(other.records for _, other in self._taken if other is not chunk)
            self._backlog.lose("too_long", lost, end - offset, after=older)
            del chunk.data[offset:end]
            self._end -= end - offset
            if not chunk.data:
                self._taken.pop()
        else:
            self._sent += end - offset


class Unread:
    """What a TCP peer has acknowledged and its program may not have read.

    TCP tells of a peer's program only how much room there is in its buffer: the window that it offers. So no more is
    unread than the largest window it has offered, and when it offers less, as much may be unread as that is less. This
    tells nothing at first, when windows grow whether somebody reads or not. Therefore:

    - What was acknowledged within the last 2 s is `kept` to be sent again, and so is what is older while the peer does
      not read: it does not acknowledge all, or its window stays small. All this up to a bound.
    - Of what is not kept, the records that may be unread all the same are `uncertain`: those within the last bytes that
      the buffer holds by the window offered last. In the last 2 s, and until twice the largest window was acknowledged,
      it is those within the largest.
    """

    def __init__(self, most: int, framing: Framing) -> None:
        self._most, self._framing = most, framing
        self._kept: deque[tuple[float, bytearray]] = deque()  # with the time of the acknowledgement
        self._kept_bytes = 0
        self._passed: deque[tuple[float, int, int]] = deque()  # not kept: time, records and bytes
        self._passed_bytes = 0
        self._largest = self._lacks = self._total = 0
        self._reads = True

    @property
    def kept(self) -> list[bytearray]:
        """What is to be sent again after a reset."""
        return [lines for _, lines in self._kept]

    @property
    def uncertain(self) -> int:
        """Records that may be unread and are not kept."""
        return sum(records for _, records, _ in self._passed)

    def add(self, lines: bytearray) -> None:
        """These were acknowledged now."""
        self._kept.append((time.monotonic(), lines))
        self._kept_bytes += len(lines)
        self._total += len(lines)

    def offers(self, window: int | None, *, stalled: bool) -> None:
        """Take note of the window (None: not known), and whether some is not acknowledged; forget what is read."""
        if window is None:
            self._largest, self._lacks = _UNKNOWN_BUFFER_BYTES, 0
        else:
            self._largest = max(self._largest, window)
            self._lacks = self._largest - window
        self._reads = not stalled and self._lacks <= min(self._largest // 2, _UNTOLD_BYTES)
        self.forget()

    def forget(self) -> None:
        """Forget what the peer has had time to read, and what its buffer does not hold; keep no more than the bound."""
        while self._kept_bytes > self._most:
            at, lines = self._kept[0]
            cut = self._framing.after(lines, self._kept_bytes - self._most)
            self._pass(at, self._framing.before(lines, cut)[0], cut)
            del lines[:cut]
            self._kept_bytes -= cut
            if not lines:
                self._kept.popleft()
        old = time.monotonic() - _UNREAD_SECS
        room = self._lacks if self._total > 2 * self._largest else self._largest
        while self._kept and self._reads and self._kept[0][0] < old:
            at, lines = self._kept.popleft()
            self._kept_bytes -= len(lines)
            if (rest := min(len(lines), room - self._kept_bytes)) > 0:
                cut = self._framing.before(lines, len(lines) - rest)[1]
                self._pass(at, self._framing.before(lines, len(lines))[0] - self._framing.before(lines, cut)[0], rest)
        while self._passed:
            at, _, size = self._passed[0]
            younger = self._kept_bytes + self._passed_bytes - size
            if younger < (room if self._reads and at < old else self._largest):
                break
            self._passed.popleft()
            self._passed_bytes -= size

    def _pass(self, at: float, records: int, size: int) -> None:
        self._passed.append((at, records, size))
        self._passed_bytes += size


class DatagramLink:
    """A connected UDP socket.

    It starts with one datagram; the rest follows when no refusal came, so a receiver that is away costs a datagram per
    attempt. When a refusal comes, all that was sent too shortly before to be sure of is given back.
    """

    def __init__(self, sock: socket.socket, backlog: Backlog) -> None:
        self.sock = sock
        self._backlog = backlog
        self._sending: Chunk | None = None
        self._offset = 0
        self._sent: deque[tuple[float, Chunk]] = deque()  # with the time of sending, too recent to be sure of
        self._proven = False
        self._hold_until = 0.0

    @property
    def ready(self) -> bool:
        """Whether the next chunk could be sent now."""
        return self._sending is None and not self._holds

    @property
    def clean(self) -> bool:
        """Whether all that was taken can be counted as written."""
        return self._sending is None and not self._sent

    @property
    def _holds(self) -> bool:
        return not self._proven and self._hold_until > 0

    def work(self, take: bool) -> None:
        """Send what the socket takes, and count what was not refused for long enough."""
        _check_refused(self.sock)
        now = time.monotonic()
        while self._sent and self._sent[0][0] + _REFUSAL_SECS <= now:
            _, chunk = self._sent.popleft()
            self._backlog.done(chunk.records, len(chunk.data))
        if self._holds and self._hold_until <= now:
            self._proven = True
        room = _WORK_BYTES
        while room > 0 and not self._holds:
            if self._sending is None:
                self._sending, self._offset = self._backlog.take() if take else None, 0
                if self._sending is None:
                    return
            size = self._send_line(self._sending)
            if not size:
                return
            room -= size

    def wants(self) -> tuple[int, float | None]:
        """Wait for room, for a refusal, or until a datagram is old enough."""
        events = select.POLLOUT if self._sending and not self._holds else 0  # errors are always told
        times = [self._sent[0][0] + _REFUSAL_SECS] if self._sent else []
        if self._holds:
            times.append(self._hold_until)
        return events, max(0.0, min(times) - time.monotonic()) if times else None

    def recover(self, error: OSError | None) -> int:
        """Give back all lines sent too recently to be sure of, and those not sent."""
        framing = self._backlog.framing
        again = 0
        chunks = [chunk for _, chunk in self._sent]
        if error is None:
            for chunk in chunks:
                self._backlog.done(chunk.records, len(chunk.data))
            chunks = []
        if self._sending:
            again = framing.before(self._sending.data, self._offset)[0]
            if error is None:
                self._backlog.done(*self._sending.cut_before(self._offset, framing))
            chunks.append(self._sending)
        again += sum(framing.before(chunk.data, len(chunk.data))[0] for _, chunk in self._sent)
        for chunk in reversed(chunks):
            self._backlog.give_back(chunk)
        self._sent.clear()
        self._sending = None
        return again if error and self._proven else 0

    def _send_line(self, chunk: Chunk) -> int:
        """Send the next line of a chunk, or as many as go together; return the size, 0 when there is no room."""
        framing = self._backlog.framing
        end = framing.datagram(chunk.data, self._offset)
        try:
            with memoryview(chunk.data) as whole, whole[self._offset : end] as line:
                self.sock.send(line)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EMSGSIZE or self._fits(chunk.data[self._offset : end]):
                raise
            records, _ = framing.before(chunk.data[self._offset : end], end - self._offset)
            lost = min(records, chunk.records)
            chunk.records -= lost
            # What was sent just now is pending still: it may be refused.
            sent = min(framing.before(chunk.data, self._offset)[0], chunk.records)
            older = sum(other.records for _, other in self._sent) + sent
            self._backlog.lose("too_long", lost, end - self._offset, after=older)
            del chunk.data[self._offset : end]
            end = self._offset
        else:
            self._hold_until = self._hold_until or time.monotonic() + _REFUSAL_SECS
        size = max(1, end - self._offset)
        self._offset = end
        if end == len(chunk.data):
            self._sent.append((time.monotonic(), chunk))
            self._sending = None
        return size

    def _fits(self, line: bytearray) -> bool:
        """Tell whether EMSGSIZE was about an earlier datagram: a router found it too long for the path, and it is lost.

        Now that the kernel knows the path's limit it will send that one in fragments.
        """
        try:
            self.sock.send(line)
        except OSError as error:
            return error.errno != errno.EMSGSIZE
        return True


def unacknowledged(sock: socket.socket) -> int:
    """Return how many bytes sent the peer has not acknowledged (unix: at least as many as it has not read)."""
    answer = bytearray(4)
    fcntl.ioctl(sock, termios.TIOCOUTQ, answer)
    return int(struct.unpack("i", answer)[0])


def offered_window(sock: socket.socket) -> int | None:
    """Return the window that the peer has offered last, in bytes; None where the kernel does not tell (Linux 5.3)."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _WINDOW.size)
    return int(_WINDOW.unpack(info)[0]) if len(info) == _WINDOW.size else None


def _check_connected(sock: socket.socket) -> None:
    """Raise OSError if the peer has closed or the connection is broken; throw away what the peer sends."""
    try:
        for _ in range(16):  # a talkative peer must not keep us here
            if not sock.recv(64 << 10):
                raise BrokenPipeError(errno.EPIPE, "the peer closed the connection")
    except BlockingIOError:
        pass


def _check_refused(sock: socket.socket) -> None:
    """Raise OSError if an ICMP error came back."""
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


def died(sock: socket.socket) -> bool:
    """Tell whether a TCP peer that has ended its side dies with what it has not read: then it resets within a moment.

    A peer that has closed both sides resets, too, when something arrives that was on its way. That is never
    acknowledged, which the kernel still knows. It may wait for 0.1 s.
    """
    poll = select.poll()
    poll.register(sock, 0)  # a reset is always told
    return bool(poll.poll(_AFTER_END_MILLISECONDS)) and not unacknowledged(sock)


def _check_alive(sock: socket.socket) -> None:
    """Raise OSError if the peer's host has not answered for too long; the kernel would try for 15 minutes."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 4)
    retransmits, probes = info[2], info[3]
    if retransmits + probes >= _DEAD_RETRANSMITS:
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
