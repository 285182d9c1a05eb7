# SPDX-License-Identifier: GPL-2.0-or-later
"""Links count what has arrived and give back the rest, at every byte a connection may break."""

from __future__ import annotations

import errno
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nflowlevel.delivery import backlog as backlog_module
from nflowlevel.delivery import connection as link
from nflowlevel.delivery.backlog import Backlog
from nflowlevel.delivery.connection import DatagramLink, LocalLink, StreamLink
from nflowlevel.stats import OutputStats
from tests.fix_lines import PATIENCE, check, lines, no_descriptor_left, numbers, wait_for
from tests.fix_netns import Netns


class Bench:
    """A backlog, its counters, and a connection of which the test holds the other end."""

    def __init__(self) -> None:
        self.stats = OutputStats()
        self.backlog = Backlog(1 << 30, self.stats)
        self.sockets: list[socket.socket] = []
        self.buffer_bytes = 8192

    def connect(self, family: int, kind: int, address: object) -> socket.socket:
        """Return our end, and keep the other as `self.other`."""
        server, ours = socket.socket(family, kind), socket.socket(family, kind)
        self.sockets += [server, ours]
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer_bytes)
        server.bind(address)  # type: ignore[arg-type]
        if kind == socket.SOCK_STREAM:
            server.listen()
        ours.connect(server.getsockname())
        ours.setblocking(False)
        self.other = server
        if kind == socket.SOCK_STREAM:
            self.other, _ = server.accept()
            self.sockets.append(self.other)
        self.other.settimeout(PATIENCE)
        return ours

    def put(self, first: int, count: int, pad: int = 0) -> None:
        self.stats.records += count
        self.backlog.put(lines(first, count, pad), count)
        check(self.stats)

    def left(self) -> list[int]:
        """Return the numbers of the lines that wait, and take them."""
        data = b""
        while chunk := self.backlog.take():
            data += chunk.data
        return numbers(data)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with no_descriptor_left():
        made = Bench()
        yield made
        check(made.stats)
        for sock in made.sockets:
            sock.close()


StreamMaker = Callable[[], StreamLink]


@pytest.fixture(params=["tcp", "unix"])
def stream(request: pytest.FixtureRequest, bench: Bench, tmp_path: Path) -> StreamLink:
    if request.param == "unix":
        ours = bench.connect(socket.AF_UNIX, socket.SOCK_STREAM, str(tmp_path / "socket"))
    else:
        ours = bench.connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    return StreamLink(ours, bench.backlog)


@pytest.fixture
def local(bench: Bench, tmp_path: Path) -> Iterator[LocalLink]:
    path = str(tmp_path / "log")
    made = LocalLink(bench.connect(socket.AF_UNIX, socket.SOCK_DGRAM, path), bench.backlog, path)
    yield made
    made.recover(None)


@pytest.fixture
def datagram(bench: Bench) -> DatagramLink:
    return DatagramLink(bench.connect(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)), bench.backlog)


def work_until(link: StreamLink | DatagramLink, condition: Callable[[], object], bench: Bench) -> None:
    """Do what the peer's thread does: wait for what the link wants, then let it work."""
    end = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < end, str(bench.stats)
        link.work(True)
        check(bench.stats)
        if condition():
            return
        events, timeout = link.wants()
        poll = select.poll()
        poll.register(link.sock, events)
        poll.poll(PATIENCE * 1000 if timeout is None else timeout * 1000 + 1)


def broken(link: StreamLink | DatagramLink) -> OSError:
    """Work until the connection is over; return why."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            link.work(False)
        except OSError as error:
            return error
    raise AssertionError("the link did not notice")


# Streams


def test_written_when_acknowledged(stream: StreamLink, bench: Bench) -> None:
    bench.put(0, 3)
    assert stream.ready
    assert stream.clean
    stream.work(True)
    assert bench.other.recv(1 << 16) == lines(0, 3)
    work_until(stream, lambda: bench.stats.written == 3, bench)
    assert stream.clean
    assert stream.wants()[1] is None, "nothing to wait for but the peer's end"


def test_takes_nothing_when_told_not_to(stream: StreamLink, bench: Bench) -> None:
    bench.put(0, 3)
    stream.work(False)
    assert stream.clean
    assert bench.left() == [0, 1, 2]


def test_unix_lines_are_written_when_read(bench: Bench, tmp_path: Path) -> None:
    stream = StreamLink(bench.connect(socket.AF_UNIX, socket.SOCK_STREAM, str(tmp_path / "socket")), bench.backlog)
    bench.put(0, 3)
    stream.work(True)
    stream.work(True)
    assert bench.stats.written == 0
    bench.other.recv(1 << 16)
    stream.work(True)
    assert bench.stats.written == 3


def test_more_than_one_call_may_send(stream: StreamLink, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two calls the peer may have read everything: the link still has to want room."""
    monkeypatch.setattr(link, "_WORK_BYTES", 1000)
    bench.put(0, 1, pad=8_000_000)
    stream.work(True)
    assert not stream.ready
    while not stream.ready:
        bench.other.setblocking(False)
        while select.select([bench.other], [], [], 0)[0]:
            bench.other.recv(1 << 16)
        events, _ = stream.wants()
        assert events & select.POLLOUT
        stream.work(True)


def test_broken_off_when_all_was_read(stream: StreamLink, bench: Bench) -> None:
    bench.put(0, 3)
    stream.work(True)
    assert bench.other.recv(1 << 16) == lines(0, 3)
    work_until(stream, lambda: stream.clean, bench)
    bench.other.close()
    error = broken(stream)
    assert error.errno == errno.EPIPE
    assert stream.recover(error) == 0
    assert bench.left() == []
    assert bench.stats.written == 3


@pytest.mark.parametrize("read", [0, 1, 30, 1000, 4000])
def test_broken_off_with_unread_lines(stream: StreamLink, bench: Bench, read: int) -> None:
    """Whatever the dead peer had not read has to be sent again, also when its kernel had acknowledged it."""
    bench.put(0, 40, pad=80)
    bench.put(40, 4000, pad=1000)
    for _ in range(20):
        stream.work(True)
    got = b""
    while len(got) < read:
        got += bench.other.recv(read - len(got))
    stream.work(True)
    bench.other.close()
    error = broken(stream)
    assert error.errno in (errno.ECONNRESET, errno.EPIPE)
    assert stream.recover(error) > 0
    check(bench.stats)
    left = bench.left()
    whole = got.count(b"\n")
    assert left[0] <= whole
    assert left == [*range(left[0], 4040)]
    assert bench.stats.written <= 4040


def test_lines_sent_into_a_closed_connection(bench: Bench) -> None:
    """The peer has closed in an orderly way after reading all: only what it did not get comes again."""
    stream = StreamLink(bench.connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)), bench.backlog)
    bench.put(0, 3)
    stream.work(True)
    assert bench.other.recv(1 << 16) == lines(0, 3)
    bench.other.close()
    bench.put(3, 2)
    with pytest.raises(BrokenPipeError) as caught:
        stream.work(True)
    assert stream.recover(caught.value) == 2
    assert bench.left() == [3, 4]
    assert bench.stats.written == 3


def test_a_peer_that_ends_its_side_and_dies_has_not_read_all(bench: Bench) -> None:
    """Its FIN alone looks like an orderly end."""
    stream = StreamLink(bench.connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)), bench.backlog)
    bench.put(0, 3)
    work_until(stream, lambda: bench.stats.written == 3, bench)
    bench.other.shutdown(socket.SHUT_WR)
    error = broken(stream)
    assert error.errno == errno.EPIPE
    threading.Timer(0.02, bench.other.close).start()  # unread lines: a reset
    assert stream.recover(error) == 3
    assert bench.left() == [0, 1, 2]


def test_what_was_acknowledged_long_ago_is_not_sent_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_UNREAD_SECS", 0.0)
    stream = StreamLink(bench.connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)), bench.backlog)
    bench.put(0, 3)
    work_until(stream, lambda: bench.stats.written == 3, bench)
    bench.other.close()  # unread lines: a reset
    error = broken(stream)
    assert error.errno == errno.ECONNRESET
    assert stream.recover(error) == 0
    assert bench.left() == []


def test_memory_for_unread_lines_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_UNREAD_BYTES", 1000)
    stream = StreamLink(bench.connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)), bench.backlog)
    for n in range(0, 200, 40):
        bench.put(n, 40)
        work_until(stream, lambda n=n: bench.stats.written == n + 40, bench)  # type: ignore[misc]
    bench.other.close()
    again = stream.recover(broken(stream))
    left = bench.left()
    assert left == [*range(200 - again, 200)]
    assert 960 < len(lines(200 - again, again)) <= 1000
    assert bench.stats.maybe_lost == 200 - again, "the others were in its buffer too"
    assert bench.stats.written == 200
    assert bench.stats.pending == 0


@pytest.fixture
def roomy(bench: Bench) -> StreamLink:
    """A connection to a peer with a large buffer."""
    bench.buffer_bytes = 1 << 20
    return StreamLink(bench.connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)), bench.backlog)


def _fill(stream: StreamLink, bench: Bench, size: int) -> int:
    """Have so many bytes acknowledged that the peer has not read; return how many lines they are."""
    count = 0
    while stream._acknowledged < size:
        bench.put(count, 40, pad=1000)
        count += 40
        work_until(stream, lambda wanted=count: bench.stats.written == wanted, bench)  # type: ignore[misc]
    return count


def test_a_peer_that_does_not_read_is_told_by_its_window(
    roomy: StreamLink, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It acknowledges all, long ago, and has read nothing: all of it comes again."""
    count = _fill(roomy, bench, 900_000)
    assert roomy._acknowledged == roomy._sent
    monkeypatch.setattr(link, "_UNREAD_SECS", 0.0)
    roomy.work(True)
    bench.other.close()
    again = roomy.recover(broken(roomy))
    assert bench.left() == [*range(count - again, count)]
    assert again
    assert again + bench.stats.maybe_lost == count


def test_what_may_be_in_its_buffer_is_counted(roomy: StreamLink, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """More is unread than is kept: it is not known whether the program has read it, and that is said."""
    roomy._unread._most = 10_000
    count = _fill(roomy, bench, 600_000)
    bench.other.close()
    again = roomy.recover(broken(roomy))
    assert bench.left() == [*range(count - again, count)]
    assert again < 20
    assert bench.stats.maybe_lost == count - again
    assert bench.stats.written == count


def test_what_a_reading_peer_has_read_is_not_in_doubt(
    roomy: StreamLink, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Much more than its buffer holds was read, and a reset comes: no more than its buffer can be in doubt."""
    monkeypatch.setattr(link, "_UNREAD_SECS", 0.0)
    count = 0
    for _ in range(100):
        bench.put(count, 40, pad=1000)
        count += 40
        read = 0
        while read < len(lines(count - 40, 40, pad=1000)):
            roomy.work(True)
            read += len(bench.other.recv(1 << 20))
    work_until(roomy, lambda: bench.stats.written == count, bench)
    roomy.work(True)
    bench.other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    bench.other.close()
    assert roomy.recover(broken(roomy)) == 0
    assert bench.left() == []
    assert bench.stats.maybe_lost <= 80


def test_what_was_to_be_sent_again_and_is_not_may_be_lost(bench: Bench) -> None:
    stream = StreamLink(bench.connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)), bench.backlog)
    bench.put(0, 3)
    work_until(stream, lambda: bench.stats.written == 3, bench)
    bench.other.close()
    assert stream.recover(broken(stream)) == 3
    bench.put(3, 2)
    assert bench.stats.maybe_lost == 0
    assert bench.backlog.close("stop") == 2
    assert bench.stats.maybe_lost == 3
    assert bench.stats.dropped["stop"] == 2


def test_orderly_end_gives_back_what_was_not_acknowledged(stream: StreamLink, bench: Bench) -> None:
    bench.put(0, 10_000, pad=1000)
    read = 0
    while read < 2_000_000:
        stream.work(True)
        read += len(bench.other.recv(1 << 16))
    stream.work(True)
    stream.recover(None)
    left = bench.left()
    assert left == [*range(left[0], 10_000)]
    assert bench.stats.written == left[0] > 0, "line by line, though it was one batch"


def test_acknowledgements_are_looked_at_a_last_time(bench: Bench) -> None:
    stream = StreamLink(bench.connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)), bench.backlog)
    bench.put(10_000, 8000, pad=1000)
    stream.work(True)
    sent = stream._sent
    read = 0
    while read < sent:
        read += len(bench.other.recv(1 << 16))
    wait_for(lambda: link.unacknowledged(stream.sock) == 0)
    stream.recover(None)
    assert bench.stats.written == sent // len(lines(10_000, 1, pad=1000))
    assert bench.left()[0] == 10_000 + bench.stats.written


def test_stalled_peer_has_not_read_what_it_acknowledged(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_UNREAD_SECS", 0.0)
    monkeypatch.setattr(backlog_module, "_JOIN_BYTES", 0)
    stream = StreamLink(bench.connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)), bench.backlog)
    for n in range(8000):
        bench.put(n, 1, pad=1000)
    work_until(stream, lambda: bench.stats.written and not stream.ready, bench)
    bench.other.close()
    stream.recover(broken(stream))
    assert bench.left() == [*range(8000)]


# Datagrams


# Unix datagrams


def test_a_datagram_of_a_unix_socket_is_a_line_and_written_when_read(local: LocalLink, bench: Bench) -> None:
    bench.put(0, 3)
    local.work(True)
    local.work(True)
    assert (local.ready, local.clean, bench.stats.written) == (True, False, 0)
    assert [bench.other.recv(1 << 16) for _ in range(3)] == [lines(n, 1) for n in range(3)]
    work_until(local, lambda: local.clean, bench)
    assert bench.stats.written == 3
    assert local.wants()[1] is None, "nothing to wait for"


@pytest.mark.parametrize("read", [0, 1, 4])
@pytest.mark.parametrize("how", ["closed", "replaced", "restarted", "removed"])
def test_what_a_dead_reader_had_not_read_comes_back(
    local: LocalLink, bench: Bench, tmp_path: Path, read: int, how: str
) -> None:
    """The kernel throws away what it had not read: from then on it looks as if all was read.

    `restarted`: another socket is there before anybody looks, and the file system may give it the number of the old.
    """
    bench.put(0, 9)
    local.work(True)
    for _ in range(read):
        bench.other.recv(1 << 16)
    path = tmp_path / "log"
    if how == "restarted":
        bench.other.close()
    if how != "closed":
        path.unlink()
    if how in ("replaced", "restarted"):
        other = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        bench.sockets.append(other)
        other.bind(str(path))
    bench.other.close()
    error = broken(local)
    assert error.errno in (errno.ECONNREFUSED, errno.ENOENT)
    assert bench.stats.written <= read
    assert local.recover(error) == 9 - bench.stats.written
    assert bench.left() == [*range(bench.stats.written, 9)]


def test_a_line_too_long_for_a_unix_datagram(local: LocalLink, bench: Bench) -> None:
    bench.put(0, 2)
    bench.put(2, 1, pad=300_000)
    bench.put(3, 1)
    bench.put(4, 1, pad=300_000)
    local.work(True)
    assert (bench.stats.dropped["too_long"], bench.stats.pending) == (2, 3)
    assert [bench.other.recv(1 << 16) for _ in range(3)] == [lines(n, 1) for n in (0, 1, 3)]
    work_until(local, lambda: local.clean, bench)
    assert bench.stats.written == 3


def test_first_datagram_is_a_probe(datagram: DatagramLink, bench: Bench) -> None:
    bench.put(0, 3)
    datagram.work(True)
    datagram.work(True)
    assert bench.other.recv(1 << 16) == lines(0, 1)
    assert not select.select([bench.other], [], [], 0)[0]
    assert not datagram.ready
    assert bench.stats.written == 0
    work_until(datagram, lambda: bench.stats.written == 3, bench)
    assert bench.other.recv(1 << 16) == lines(1, 1)
    assert bench.other.recv(1 << 16) == lines(2, 1)
    assert datagram.ready
    assert datagram.clean
    assert datagram.wants() == (0, None)


def test_refused_datagrams_come_back(datagram: DatagramLink, bench: Bench) -> None:
    bench.put(0, 1)
    work_until(datagram, lambda: bench.stats.written == 1, bench)
    bench.put(1, 2)
    datagram.work(True)
    address = bench.other.getsockname()
    bench.other.close()
    bench.put(3, 2)
    with pytest.raises(ConnectionRefusedError) as caught:
        datagram.work(True)
    assert datagram.recover(caught.value) == 3
    assert bench.left() == [1, 2, 3, 4]
    assert address == datagram.sock.getpeername()


def test_refusal_of_the_last_datagram_is_noticed_without_another(datagram: DatagramLink, bench: Bench) -> None:
    bench.put(0, 1)
    work_until(datagram, lambda: bench.stats.written == 1, bench)
    bench.other.close()
    bench.put(1, 1)
    with pytest.raises(ConnectionRefusedError) as caught:
        work_until(datagram, lambda: False, bench)
    assert datagram.recover(caught.value) == 1
    assert bench.left() == [1]


def test_orderly_end_of_datagrams(datagram: DatagramLink, bench: Bench) -> None:
    bench.put(0, 3)
    datagram.work(True)
    assert datagram.recover(None) == 0
    assert bench.left() == [1, 2]
    assert bench.stats.written == 1


def test_router_finds_a_datagram_too_long(netns: Netns) -> None:
    """EMSGSIZE may be about an earlier datagram: that one is lost, the one being sent is not too long."""
    with netns.enter():
        bench = Bench()
        datagrams = DatagramLink(bench.connect(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)), bench.backlog)
        bench.put(0, 1)
        work_until(datagrams, lambda: bench.stats.written == 1, bench)
        bench.put(1, 1)
        datagrams.work(True)
        _fragmentation_needed(datagrams.sock)
        bench.put(2, 1)
        with pytest.raises(OSError, match="Message too long") as caught:
            work_until(datagrams, lambda: bench.stats.written == 3, bench)
        assert datagrams.recover(caught.value) > 0
        assert bench.stats.dropped["too_long"] == 0
        assert bench.left() == [1, 2]
        check(bench.stats)
        for sock in bench.sockets:
            sock.close()


def test_router_finds_a_datagram_too_long_while_the_next_is_sent(netns: Netns) -> None:
    with netns.enter():
        bench = Bench()
        datagrams = DatagramLink(bench.connect(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)), bench.backlog)
        bench.put(0, 2)
        chunk = bench.backlog.take()
        assert chunk
        datagrams._sending = chunk
        _fragmentation_needed(datagrams.sock)
        with pytest.raises(OSError, match="Message too long"):
            datagrams._send_line(chunk)
        assert bench.stats.dropped["too_long"] == 0
        assert chunk.data == lines(0, 2)
        for sock in bench.sockets:
            sock.close()


def _fragmentation_needed(sock: socket.socket) -> None:
    """Let a router on the way say that what `sock` sent does not fit; return when the socket knows."""
    source, target = sock.getsockname(), sock.getpeername()
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    sent = struct.pack("!BBHHHBBH", 0x45, 0, 1400, 1, 0x4000, 64, socket.IPPROTO_UDP, 0) + addresses
    sent += struct.pack("!HHHH", source[1], target[1], 1380, 0)
    icmp = struct.pack("!BBHHH", 3, 4, 0, 0, 1280) + sent
    total = sum(struct.unpack(f"!{len(icmp) // 2}H", icmp))
    total = (total & 0xFFFF) + (total >> 16)
    icmp = icmp[:2] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + icmp[4:]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.sendto(icmp, (source[0], 0))
    poll = select.poll()
    poll.register(sock, 0)
    wait_for(lambda: poll.poll(0))
