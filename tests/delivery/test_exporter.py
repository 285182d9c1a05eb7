# SPDX-License-Identifier: GPL-2.0-or-later
"""One session with a collector: sequence numbers, templates, what is sent again, and collectors that mean no good."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import threading
import time
from typing import Any

import pytest

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.delivery import exporter as module
from nflowlevel.delivery.exporter import BadRowsError, Exporter
from nflowlevel.records.ipfix import flow_form, packet_form, ulogd2_form
from nflowlevel.stats import OutputStats
from tests.fix_ipfix import Session, StreamCollector, collector, datagrams, marks, read_stream, some_flows
from tests.fix_lines import wait_for
from tests.fix_netns import Netns, missing
from tests.fix_plugins import batch_of

__all__ = ["collector", "datagrams"]

FLOWS = flow_form()


def rows(count: int, first: int = 1) -> bytes:
    return b"".join(data for data, _ in FLOWS.encode(some_flows(count, first)))


def exporter(transport: Any, port: int, **how: Any) -> Exporter:
    how = {"domain": 7, "mtu": 1400, "stats": OutputStats(), **how}
    return Exporter(transport, "127.0.0.1", str(port), **how)


def send_until_broken(one: Exporter, data: bytes) -> None:
    """Send the same rows until the connection is over."""
    broken = None
    for _ in range(100):
        time.sleep(0.01)
        try:
            one.send(FLOWS.layout, data)
        except OSError as error:
            broken = error
            break
    assert broken


def received(sock: socket.socket) -> list[bytes]:
    sock.setblocking(False)
    found = []
    try:
        while True:
            found.append(sock.recv(65536))
    except BlockingIOError:
        return found


def test_each_connection_is_a_session_of_its_own(collector: StreamCollector) -> None:
    """Templates are sent again, and the sequence begins with 0."""
    one = exporter("tcp", collector.port)
    for _ in range(2):
        one.connect(5)
        one.send(FLOWS.layout, rows(23))
        one.send(FLOWS.layout, rows(100, 24))
        one.close()
    wait_for(lambda: [len(read_stream(bytes(stream))) for stream in collector.streams] == [123, 123])
    for stream in collector.streams:
        session = Session(mtu=1400)
        assert marks(read_stream(bytes(stream), session)) == list(range(1, 124))
        assert session.lost == 0
        assert session.domains == {7}
        assert len(session.announced) == 5
        assert abs(max(session.times) - time.time()) < 60


def test_datagrams_go_on_with_the_sequence(datagrams: socket.socket) -> None:
    one = exporter("udp", datagrams.getsockname()[1])
    session = Session(mtu=1400)
    for turn in range(2):
        one.connect(5)
        one.send(FLOWS.layout, rows(50, 1 + 50 * turn))
        one.close()
        records = [record for message in received(datagrams) for record in session.read(message)]
        assert marks(records) == list(range(1 + 50 * turn, 51 + 50 * turn))
    assert session.lost == 0, "its count begins anew"
    assert len(session.announced) == 10, "a new connection is perhaps another collector"


def test_templates_are_sent_again_over_udp(datagrams: socket.socket) -> None:
    """D-IX4: with `once` ulogd2 sends them once in its life."""
    one = exporter("udp", datagrams.getsockname()[1], again_messages=3)
    one.connect(5)
    session = Session()
    for turn in range(12):
        one.send(FLOWS.layout, rows(1, 5))
        for message in received(datagrams):
            session.read(message)
        assert len(session.announced) == 1 + turn // 3
    one.close()


def test_templates_are_sent_again_after_some_time(datagrams: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    one = exporter("udp", datagrams.getsockname()[1], again_secs=60)
    one.connect(5)
    session = Session()
    for secs in (0, 59, 1, 1, 59, 300):
        now[0] += secs
        one.send(FLOWS.layout, rows(1, 5))
    for message in received(datagrams):
        session.read(message)
    assert len(session.announced) == 1 + 3
    one.close()


@pytest.mark.parametrize(("announce", "count"), [("once", 1), ("always", 20), ("never", 0)])
def test_when_templates_are_sent(datagrams: socket.socket, announce: Any, count: int) -> None:
    """Parity 176."""
    one = exporter("udp", datagrams.getsockname()[1], announce=announce, mtu=512)
    one.connect(5)
    known = Session()
    for _ in range(20):
        one.send(FLOWS.layout, rows(1, 5))
    one.close()
    found = received(datagrams)
    assert len(found) == 20
    first = exporter("udp", datagrams.getsockname()[1])
    first.connect(5)
    first.send(FLOWS.layout, rows(1, 5))
    known.read(*received(datagrams))
    first.close()
    session = Session(templates=known.templates)
    assert marks(record for message in found for record in session.read(message)) == [5] * 20
    assert len(session.announced) == count


def test_forms_side_by_side(collector: StreamCollector) -> None:
    """Flows and packets in one session: their templates have different numbers."""
    packets = packet_form()
    encoded = b"".join(data for data, _ in packets.encode(batch_of(count=7)))
    one = exporter("tcp", collector.port)
    one.connect(5)
    own = flow_form(32473)
    for _ in range(2):
        one.send(FLOWS.layout, rows(5))
        one.send(packets.layout, encoded)
        one.send(own.layout, b"".join(data for data, _ in own.encode(some_flows(5))))
    one.close()
    wait_for(lambda: len(collector.records) == 34)
    session = Session()
    read_stream(bytes(collector.streams[0]), session)
    assert {number // 256 for number in session.ids} == {1, 2, 5}
    assert session.lost == 0


def test_ulogd2s_templates_have_its_number(collector: StreamCollector) -> None:
    form = ulogd2_form()
    one = exporter("tcp", collector.port)
    one.connect(5)
    one.send(form.layout, b"".join(data for data, _ in form.encode(some_flows(5))))
    one.close()
    wait_for(lambda: len(collector.records) == 5)
    session = Session()
    read_stream(bytes(collector.streams[0]), session)
    assert session.ids == [257, 256, 256, 256, 256]


def test_rows_that_are_not_ours(collector: StreamCollector) -> None:
    one = exporter("tcp", collector.port)
    one.connect(5)
    with pytest.raises(BadRowsError, match="not made for IPFIX"):
        one.send(("sum.name",), b"a\n")
    with pytest.raises(BadRowsError, match="no data record"):
        one.send(FLOWS.layout, b"a\n")
    with pytest.raises(BadRowsError, match="no data record"):
        one.check(FLOWS.layout, rows(3) + b"a\n")
    one.check(FLOWS.layout, rows(5000))
    one.send(FLOWS.layout, rows(3))
    one.close()
    wait_for(lambda: marks(collector.records) == [1, 2, 3])


# -- collectors that go away ------------------------------------------------------------------------------------------


def test_a_collector_that_closed_is_noticed_before_rows_are_lost(collector: StreamCollector) -> None:
    """D-IX1: ulogd2 dies of it."""
    one = exporter("tcp", collector.port)
    one.connect(5)
    one.send(FLOWS.layout, rows(10))
    collector.close()
    with pytest.raises(OSError, match="closed") as raised:
        one.send(FLOWS.layout, rows(10, 11))
    assert raised.value.errno == errno.EPIPE
    again = StreamCollector(collector.port)
    one.connect(5)
    one.send(FLOWS.layout, rows(10, 11))
    one.close()
    wait_for(lambda: marks(again.records) == list(range(11, 21)))
    assert marks(collector.records) == list(range(1, 11)), "what was read is not sent again"
    again.close()


def test_a_collector_that_closes_once_it_has_all_gets_nothing_again() -> None:
    """Its kernel puts acknowledgements off, and acknowledges together with the end: those rows have arrived."""
    data = rows(20)

    def read_and_close(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            stream = b""
            while len(read_stream(stream)) < 20:
                stream += sock.recv(1 << 16)

    for _ in range(40):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            one = exporter("tcp", listener.getsockname()[1])
            one.connect(5)
            reader = threading.Thread(target=read_and_close, args=(listener,))
            reader.start()
            one.send(FLOWS.layout, data)
            reader.join()
            with pytest.raises(BrokenPipeError):
                one.send(FLOWS.layout, data)
            one.close()


def test_what_a_reset_may_have_cost_is_sent_again(collector: StreamCollector) -> None:
    stats = OutputStats()
    one = exporter("tcp", collector.port, stats=stats)
    one.connect(5)
    one.send(FLOWS.layout, rows(1))
    wait_for(lambda: len(collector.records) == 1)
    collector.reads.clear()
    one.send(FLOWS.layout, rows(1, 2))  # one recv may be under way
    one.send(FLOWS.layout, rows(100, 3))
    collector.reset()
    send_until_broken(one, rows(1, 103))
    one.connect(5)
    one.send(FLOWS.layout, rows(1, 103))
    one.close()
    wait_for(lambda: set(marks(collector.records)) == set(range(1, 104)))
    last = Session()
    sent = marks(read_stream(bytes(collector.streams[-1]), last))
    assert last.lost == 0
    assert stats.resent == len(sent) - 1
    assert sent[-1] == 103
    assert stats.maybe_lost == 0


def test_a_collector_that_ends_its_side_and_dies_has_not_read_all(collector: StreamCollector) -> None:
    """Its FIN alone looks like an orderly end."""
    stats = OutputStats()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = exporter("tcp", listener.getsockname()[1], stats=stats)
        one.connect(5)
        theirs, _ = listener.accept()
        with theirs:
            one.send(FLOWS.layout, rows(50))
            theirs.shutdown(socket.SHUT_WR)
            threading.Timer(0.02, theirs.close).start()
            with pytest.raises(OSError, match="closed"):
                one.send(FLOWS.layout, rows(50, 51))
    one.port = str(collector.port)
    one.connect(5)
    one.send(FLOWS.layout, rows(50, 51))
    one.close()
    wait_for(lambda: set(marks(collector.records)) == set(range(1, 101)))
    assert (stats.resent, stats.maybe_lost) == (50, 0)


def test_what_would_be_sent_again_is_counted_at_the_end(collector: StreamCollector) -> None:
    """Also where only the end shows that the collector was killed."""
    stats = OutputStats()
    one = exporter("tcp", collector.port, stats=stats)
    one.connect(5)
    one.send(FLOWS.layout, rows(1))
    wait_for(lambda: len(collector.records) == 1)
    collector.reads.clear()
    one.send(FLOWS.layout, rows(1, 2))
    one.send(FLOWS.layout, rows(100, 3))
    collector.reset()
    assert one._sock
    select.select([one._sock], [], [], 10)
    one.forsake()
    assert 100 <= stats.maybe_lost <= 102
    one.forsake()
    assert stats.maybe_lost <= 102
    assert 102 - len(set(marks(collector.records))) <= stats.maybe_lost


def test_what_is_too_much_to_be_kept_is_counted(collector: StreamCollector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_UNREAD", 2000)
    stats = OutputStats()
    one = exporter("tcp", collector.port, stats=stats)
    one.connect(5)
    one.send(FLOWS.layout, rows(1))
    wait_for(lambda: len(collector.records) == 1)
    collector.reads.clear()
    one.send(FLOWS.layout, rows(500, 2))
    collector.reset()
    send_until_broken(one, rows(1, 502))
    assert 400 < stats.maybe_lost <= 501
    one.connect(5)
    one.send(FLOWS.layout, rows(1, 502))
    one.close()
    found = set(marks(collector.records)) | {502}
    assert 502 - len(found) <= stats.maybe_lost


def test_a_collector_that_never_reads_is_left_by_abort() -> None:
    collector = StreamCollector(receive_bytes=4096)
    collector.reads.clear()
    one = exporter("tcp", collector.port)
    one.connect(5)
    threading.Timer(0.3, one.abort).start()
    began = time.monotonic()
    with pytest.raises(BrokenPipeError):
        one.send(FLOWS.layout, rows(1009) * 100)
    assert 0.2 < time.monotonic() - began < 20
    one.close()
    collector.close()


def test_a_talkative_collector_keeps_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = exporter("tcp", server.getsockname()[1])
        one.connect(5)
        peer, _ = server.accept()
        with peer:
            peer.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    peer.send(b"x" * 65536)
            one.send(FLOWS.layout, rows(3))
            peer.setblocking(True)
            assert marks(read_stream(peer.recv(65536))) == [1, 2, 3]
        one.close()


def test_nobody_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        one = exporter("tcp", closed.getsockname()[1])
        with pytest.raises(ConnectionRefusedError):
            one.connect(5)
        with pytest.raises(OSError, match="not connected"):
            one.send(FLOWS.layout, rows(1))
    one.close()


def test_a_refused_datagram_is_sent_again(datagrams: socket.socket) -> None:
    """The records of messages that did not go out are not counted as sent."""
    port = datagrams.getsockname()[1]
    one = exporter("udp", port)
    one.connect(5)
    one.send(FLOWS.layout, rows(10))
    session = Session()
    read = [record for message in received(datagrams) for record in session.read(message)]
    datagrams.close()
    with pytest.raises(ConnectionRefusedError):
        one.send(FLOWS.layout, rows(1000, 11))
    one.close()
    one.connect(5)
    with pytest.raises(ConnectionRefusedError):
        one.send(FLOWS.layout, rows(1000, 11))
    one.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as later:
        later.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        later.bind(("127.0.0.1", port))
        one.connect(5)
        one.send(FLOWS.layout, rows(1000, 11))
        read += [record for message in received(later) for record in session.read(message)]
        one.close()
    assert marks(read) == list(range(1, 1011))
    assert session.lost < 500, "it goes on with who refuses"


def test_between_bursts_is_a_pause_that_a_refusal_ends() -> None:
    """Else the collector's buffer would overflow; and all would go to who is away."""
    one = exporter("udp", 9)
    data = rows(500)
    _, used = one._pack(FLOWS.layout, ffi.from_buffer("uint8_t[]", data), len(data))
    assert used == len(data)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as away,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        away.bind(("127.0.0.1", 0))
        sock.connect(away.getsockname())
        began = time.monotonic()
        assert 11 * 1000 < lib.nfl_ipfix_send(sock.fileno(), one._out, 11 * 1400, 1300, 10, 1) <= 11 * 1400
        assert time.monotonic() - began >= 10 * 0.01
        assert len(received(away)) == 11
        away.close()
        assert 0 < lib.nfl_ipfix_send(sock.fileno(), one._out, 11 * 1400, 1300, 60_000, 1) <= 1400
        assert time.monotonic() - began < 30


@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.parametrize("knows", [True, False])
def test_what_the_kernel_cannot_split_goes_one_by_one(knows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a way whose packets are smaller than our messages, and with a kernel before 4.18."""
    netns = Netns()
    pieces: set[int] = set()

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(lib, name)

        def nfl_ipfix_send(self, *arguments: Any) -> int:
            pieces.add(arguments[-1])
            return int(lib.nfl_ipfix_send(*arguments))

    monkeypatch.setattr(module, "lib", Watched())
    if not knows:
        monkeypatch.setattr(module, "_UDP_SEGMENT", 9999)
    try:
        netns.run("ip", "link", "set", "lo", "mtu", "1280")
        with netns.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            sock.bind(("127.0.0.1", 0))
            one = exporter("udp", sock.getsockname()[1])
            one.connect(5)
            one.send(FLOWS.layout, rows(1009))
            one.close()
            found = received(sock)
    finally:
        netns.close()
    session = Session(mtu=1400)
    assert marks(record for message in found for record in session.read(message)) == list(range(1, 1010))
    assert session.lost == 0
    assert max(map(len, found)) > 1280
    assert pieces == ({64, 1} if knows else {1})


def test_a_message_longer_than_a_datagram_is_an_error(datagrams: socket.socket) -> None:
    one = exporter("udp", datagrams.getsockname()[1], mtu=65535)
    one.connect(5)
    with pytest.raises(OSError, match="too long"):
        one.send(FLOWS.layout, rows(3000))
    one.close()


def test_a_collector_of_ipv6() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        one = Exporter("udp", "::1", str(sock.getsockname()[1]), domain=1, mtu=512, stats=OutputStats())
        assert one.shown == f"udp collector [::1]:{one.port}"
        one.connect(5)
        one.send(FLOWS.layout, rows(3))
        assert marks(Session(mtu=512).read(sock.recv(65536))) == [1, 2]
        one.close()
