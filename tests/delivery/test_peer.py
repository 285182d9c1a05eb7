# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines reach their receiver whole and in order, some perhaps twice, or are counted: whatever the receiver does."""

from __future__ import annotations

import errno
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.delivery import connection as link
from nflowlevel.delivery import peer
from nflowlevel.delivery.peer import Peer
from nflowlevel.errors import OutputError
from nflowlevel.logs import NOTICE, Limited
from nflowlevel.stats import OutputStats
from tests.fix_alone import unused_port
from tests.fix_lines import PATIENCE, check, lines, no_descriptor_left, wait_for
from tests.fix_netns import Netns
from tests.fix_receiver import Receive, receive

__all__ = ["receive"]

STREAMS = ["tcp", "tcp6", "unix"]
KINDS = [*STREAMS, "udp", "udp6", "syslog"]
#: What knows what its receiver has read, or nearly so.
SURE = [*STREAMS, "syslog"]

Make = Callable[..., Peer]


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(peer, "_PAUSE_SECS", (0.01, 0.1))
    with no_descriptor_left():
        yield
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("peer ")]


@pytest.fixture
def make() -> Iterator[Make]:
    """Return a function that opens peers; at the end they are closed and have to account for every record."""
    peers: list[Peer] = []

    def opened(**options: Any) -> Peer:
        peers.append(Peer(**{"stats": OutputStats(), "limited": Limited(), **options}))
        peers[-1].open()
        return peers[-1]

    yield opened
    for each in peers:
        check(each.stats)
        each.close(0.2)
        check(each.stats)
        assert each.stats.pending == 0
        assert each.deadline is None


class Writer:
    """Writes numbered lines."""

    def __init__(self, target: Peer, pad: int = 0) -> None:
        self.target, self.pad, self.next = target, pad, 0

    def __call__(self, count: int) -> None:
        self.target.write(lines(self.next, count, self.pad), count)
        self.next += count
        check(self.target.stats)

    @property
    def all(self) -> list[int]:
        """The numbers of all lines written."""
        return [*range(self.next)]

    def wait_until_written(self) -> None:
        """Wait until every line is known to have arrived."""
        stats = self.target.stats
        wait_for(lambda: stats.written == stats.records, [stats])


# While all is well


@pytest.mark.parametrize("kind", KINDS)
def test_lines_arrive_in_order(make: Make, receive: Receive, kind: str) -> None:
    receiver = receive(kind)
    write = Writer(make(**receiver.options), pad=100)
    for count in (1, 2, 50, 1, 80):  # fits into a UDP receiver's buffer
        write(count)
    write.wait_until_written()
    wait_for(lambda: len(receiver.seen()) >= write.next)
    assert receiver.seen() == write.all
    assert len(receiver.connections) == 1
    assert write.target.stats.bytes == len(receiver.data)
    assert (write.target.stats.errors, write.target.stats.resent) == (0, 0)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_much_more_than_the_kernel_buffers(make: Make, receive: Receive, kind: str) -> None:
    receiver = receive(kind)
    write = Writer(make(**receiver.options), pad=1000)
    for _ in range(20):
        write(1000)
    write.wait_until_written()
    wait_for(lambda: receiver.data.count(b"\n") == write.next)
    assert receiver.seen() == write.all


def test_one_line_is_one_datagram(make: Make, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(PATIENCE)
        write = Writer(make(transport="udp", host="127.0.0.1", port=str(receiver.getsockname()[1])))
        write(5)
        assert [receiver.recv(1 << 16) for _ in range(5)] == [lines(n, 1) for n in range(5)]


def test_state_and_log_follow_the_connection(make: Make, receive: Receive, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(NOTICE)
    port = unused_port()
    name = f"127.0.0.1:{port}"
    target = make(transport="tcp", host="127.0.0.1", port=port)
    wait_for(lambda: target.state == f"connecting to tcp {name} (Connection refused)")
    target.write(lines(0, 1), 1)
    receive("tcp", address=("127.0.0.1", port))
    wait_for(lambda: target.state == f"connected to {name} (written: handed to the peer's kernel)")
    assert f"connect to tcp {name}: Connection refused; records waiting: 0, trying again" in caplog.text
    assert f"connected to tcp {name}" in caplog.text
    target.close(PATIENCE)
    assert target.state == f"closed tcp {name}"


def test_address_of_ipv6_is_in_brackets(make: Make, receive: Receive) -> None:
    receiver = receive("tcp6")
    target = make(**receiver.options)
    wait_for(lambda: target.state.startswith(f"connected to [::1]:{receiver.address[1]} (written: "))


# Opening


@pytest.mark.parametrize("kind", ["unix", "syslog"])
def test_unix_path_too_long(tmp_path: Path, kind: Any) -> None:
    target = Peer(kind, path="/" + "x" * 107, stats=OutputStats(), limited=Limited())
    with pytest.raises(OutputError, match="the path is too long") as caught:
        target.open()
    assert not caught.value.retryable
    target.close(0)


@pytest.mark.parametrize("kind", KINDS)
def test_receiver_away_at_the_start(make: Make, receive: Receive, kind: str) -> None:
    first = receive(kind)
    first.stop()
    write = Writer(make(**first.options))
    write(3)
    wait_for(lambda: write.target.stats.retries >= 2, [write.target.stats])
    assert write.target.stats.written == 0
    second = receive(kind, address=first.address)
    write(4)
    write.wait_until_written()
    wait_for(lambda: len(second.seen()) == 7)
    assert second.seen() == write.all


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_each_address_of_a_name_is_tried(
    make: Make, receive: Receive, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = receive(kind)
    port = receiver.address[1]
    socket_kind = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    found = [
        (socket.AF_INET6, socket_kind, 0, "", ("::1", port, 0, 0)),
        (socket.AF_INET, socket_kind, 0, "", ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [*found])
    target = make(transport=kind, host="receiver.example", port=port)
    write = Writer(target)
    write(10)
    target.close(PATIENCE)  # also at the stop
    wait_for(lambda: len(receiver.seen()) == 10)
    assert receiver.seen() == write.all
    assert target.stats.written == 10


def test_stop_tries_all_addresses(make: Make, receive: Receive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "_PAUSE_SECS", (3600.0, 3600.0))
    receiver = receive("tcp")
    port = receiver.address[1]
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port)) for host in ("127.0.0.2", "127.0.0.3", "127.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [*found])
    target = make(transport="tcp", host="receiver.example", port=port)
    target.write(lines(0, 3), 3)
    wait_for(lambda: target.stats.errors == 1, [target.stats])
    target.close(PATIENCE)
    assert target.stats.written == 3


def test_name_that_is_unknown_for_a_while(make: Make, receive: Receive, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = receive("tcp")
    real = socket.getaddrinfo

    def fails(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", fails)
        target = make(**receiver.options)
        write = Writer(target)
        write(2)
        wait_for(lambda: target.state.endswith("(Temporary failure in name resolution)"))
    assert socket.getaddrinfo is real
    write.wait_until_written()


def test_stop_does_not_wait_for_the_resolver(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()

    def resolver(*_: Any, **__: Any) -> Any:
        hangs.wait(PATIENCE)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    target = make(transport="tcp", host="receiver.example", port="514")
    target.write(lines(0, 2), 2)
    target.close(0.01)
    assert target.stats.dropped["stop"] == 2
    hangs.set()
    assert target._thread
    target._thread.join(PATIENCE)
    check(target.stats)


def test_port_that_connects_to_itself(make: Make, netns: Netns) -> None:
    """The only port the kernel can choose for our end is the receiver's, where nobody listens."""
    netns.sysctl("net.ipv4.ip_local_port_range", "40000 40000")
    with netns.enter():
        target = make(transport="tcp", host="127.0.0.1", port=40000)
        target.write(lines(0, 2), 2)
        wait_for(lambda: target.stats.errors >= 2, [target.stats])
        assert target.stats.written == 0


# Receivers that come and go


@pytest.mark.parametrize("kind", KINDS)
def test_eight_events_and_a_restart(make: Make, receive: Receive, kind: str) -> None:
    """D-J03: ulogd2 loses 3, 4, 5 and 6."""
    first = receive(kind)
    write = Writer(make(**first.options))
    for n in (1, 2):
        write(1)
        wait_for(lambda n=n: len(first.seen()) == n)  # type: ignore[misc]
    first.stop()
    for _ in (3, 4, 5):
        write(1)
    wait_for(lambda: write.target.stats.errors > 0)
    second = receive(kind, address=first.address)
    for _ in (6, 7, 8):
        write(1)
    write.wait_until_written()
    wait_for(lambda: {*first.seen(), *second.seen()} == {*write.all})
    assert first.seen() == [0, 1]
    assert second.seen()[-6:] == [2, 3, 4, 5, 6, 7]
    assert len(second.seen()) - 6 <= write.target.stats.resent


@pytest.mark.parametrize("kind", STREAMS)
def test_idle_connection_notices_the_end_and_comes_back(make: Make, receive: Receive, kind: str) -> None:
    receiver = receive(kind)
    target = make(**receiver.options)
    wait_for(lambda: receiver.connections)
    receiver.hang_up()
    wait_for(lambda: len(receiver.connections) == 2)
    Writer(target)(1)
    wait_for(lambda: receiver.seen() == [0])
    assert target.stats.resent == 0


@pytest.mark.parametrize("kind", SURE)
@pytest.mark.parametrize("pad", [10, 3000])
def test_receiver_killed_with_unread_lines(make: Make, receive: Receive, kind: str, pad: int) -> None:
    first = receive(kind, buffer_bytes=30_000)
    write = Writer(make(**first.options), pad=pad)
    write(5)
    wait_for(lambda: len(first.seen()) == 5)
    first.reads.clear()
    for _ in range(20):
        write(20)
    if pad > 100:  # it has stalled in the middle of a line
        assert write.target.stats.pending > 0
    else:
        wait_for(lambda: write.target.stats.written == write.next or kind in ("unix", "syslog"))
    first.stop()
    second = receive(kind, address=first.address)
    write(1)
    write.wait_until_written()
    wait_for(lambda: second.seen()[-1:] == [write.next - 1])
    assert {*first.seen(), *second.seen()} == {*write.all}
    again = len(first.seen()) + len(second.seen()) - write.next
    assert again <= write.target.stats.resent


@pytest.mark.parametrize("buffer_bytes", [0, 4 << 20])
def test_a_slow_receiver_that_restarts(
    make: Make,
    receive: Receive,
    buffer_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It acknowledges what it has no time to read, and takes that with it: sent again or counted, never in silence."""
    monkeypatch.setattr(link, "_UNREAD_SECS", 0.2)
    first = receive("tcp", buffer_bytes=buffer_bytes)
    write = Writer(make(**first.options), pad=1000)
    write(5)
    wait_for(lambda: len(first.seen()) == 5)
    first.reads.clear()
    stats = write.target.stats
    while write.next < (3000 if buffer_bytes else 40):
        write(10)
        write.wait_until_written()
    time.sleep(0.3)  # longer than a receiver that reads takes
    write(1)
    write.wait_until_written()
    first.stop()
    second = receive("tcp", address=first.address)
    write(1)
    write.wait_until_written()
    wait_for(lambda: second.seen()[-1:] == [write.next - 1])
    missing = {*write.all} - {*first.seen(), *second.seen()}
    assert stats.written == write.next
    assert stats.maybe_lost >= len(missing)
    assert (f"up to {stats.maybe_lost} records may be lost" in caplog.text) == (stats.maybe_lost > 0)
    if buffer_bytes:
        assert missing, "its buffer held more than is kept"
        assert stats.maybe_lost < write.next


@pytest.mark.parametrize("kind", SURE)
@pytest.mark.parametrize("seed", range(3))
def test_receiver_that_keeps_breaking_off(make: Make, receive: Receive, kind: str, seed: int) -> None:
    """Random stalls, hang-ups, kills and restarts under steady writing: no line is missing, none is torn."""
    rng = random.Random(seed)
    receivers = [receive(kind, buffer_bytes=20_000)]
    write = Writer(make(**receivers[0].options), pad=500)
    for _ in range(60):
        for _ in range(rng.randrange(4)):
            write(rng.randrange(1, 60))
        last = receivers[-1]
        match rng.randrange(6):
            case 0:
                last.reads.clear()
            case 1:
                last.reads.set()
            case 2:
                last.stop()
                receivers.append(receive(kind, address=last.address, buffer_bytes=20_000))
            case 3:
                write.target.reopen()
            case _:
                time.sleep(rng.random() * 0.01)  # lets things happen; nothing depends on how many
    receivers[-1].reads.set()
    write(1)
    write.wait_until_written()
    wait_for(lambda: receivers[-1].seen()[-1:] == [write.next - 1])
    seen = [receiver.seen() for receiver in receivers]
    assert {n for each in seen for n in each} == {*write.all}
    assert sum(map(len, seen)) - write.next <= write.target.stats.resent


@pytest.mark.parametrize("kind", ["udp", "udp6"])
def test_datagram_receiver_that_restarts_under_load(make: Make, receive: Receive, kind: str) -> None:
    receivers = [receive(kind, buffer_bytes=1 << 20)]
    write = Writer(make(**receivers[0].options))
    for _ in range(5):
        for _ in range(20):
            write(3)
        # What a receiver has not read when it ends is lost with UDP, whatever we do.
        wait_for(lambda: receivers[-1].seen()[-1:] == [write.next - 1])
        receivers[-1].stop()
        write(2)
        wait_for(lambda errors=write.target.stats.errors: write.target.stats.errors > errors)  # type: ignore[misc]
        receivers.append(receive(kind, address=receivers[-1].address, buffer_bytes=1 << 20))
        write.wait_until_written()
    wait_for(lambda: {n for each in receivers for n in each.seen()} == {*write.all})


@pytest.mark.parametrize("kind", ["tcp", "unix", "syslog"])
def test_stalled_receiver_costs_memory_up_to_the_limit_only(
    make: Make, receive: Receive, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = receive(kind, buffer_bytes=10_000)
    receiver.reads.clear()
    limit = 6 << 20  # a TCP send buffer grows to 4 MiB
    write = Writer(make(**receiver.options, max_pending_bytes=limit), pad=1000)
    stats = write.target.stats
    while not stats.dropped["full"]:
        write(100)
        assert stats.pending_bytes <= limit
    assert "the buffer is full; new records are dropped" in caplog.text
    refused = stats.dropped["full"]
    assert refused == 100
    receiver.reads.set()
    wait_for(lambda: stats.pending == 0, [stats])
    wait_for(lambda: receiver.data.count(b"\n") == write.next - refused)
    assert receiver.seen() == write.all[:-refused]


def test_talkative_receiver_is_ignored(make: Make, receive: Receive) -> None:
    receiver = receive("tcp")
    target = make(**receiver.options)
    write = Writer(target)
    write(2)
    wait_for(lambda: receiver.connections)
    for _ in range(50):
        receiver.say(b"hello " * 1000)
        write(1)
    target.close(PATIENCE)
    wait_for(lambda: receiver.seen() == write.all)
    assert target.stats.written == 52


def test_host_that_vanishes(make: Make, receive: Receive, netns: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer at all, as after a power failure: the connection is given up long before the kernel would."""
    monkeypatch.setattr(link, "_DEAD_RETRANSMITS", 2)
    with netns.enter():
        receiver = receive("tcp")
        target = make(**receiver.options)
        write = Writer(target)
        write(2)
        wait_for(lambda: receiver.seen() == [0, 1])
        netns.nft("table ip t { chain c { type filter hook input priority 0; ip protocol tcp drop\n }\n }")
        write(2)
        wait_for(lambda: target.stats.errors > 0, [target.stats])
        assert "Connection timed out" in target.state
        netns.nft("delete table ip t")
        wait_for(lambda: target.stats.pending == 0, [target.stats])
        wait_for(lambda: {*receiver.seen()} == {*write.all})


# UDP alone


def test_line_too_long_for_a_datagram(make: Make, receive: Receive) -> None:
    receiver = receive("udp")
    target = make(**receiver.options)
    target.write(lines(0, 1, pad=70_000), 1)
    target.write(lines(1, 1) + lines(2, 1, pad=70_000) + lines(3, 2), 4)
    wait_for(lambda: target.stats.pending == 0, [target.stats])
    assert receiver.seen() == [1, 3, 4]
    assert target.stats.dropped["too_long"] == 2
    assert target.stats.written == 3


def test_datagrams_nobody_wants_are_not_counted_as_written(make: Make) -> None:
    target = make(transport="udp", host="127.0.0.1", port=unused_port(socket.SOCK_DGRAM))
    target.write(lines(0, 50), 50)
    wait_for(lambda: target.stats.errors >= 3, [target.stats])
    target.close(0.2)
    assert (target.stats.written, target.stats.dropped["stop"]) == (0, 50)


def test_unreachable_network_is_waited_for(make: Make, netns: Netns) -> None:
    with netns.enter():
        target = make(transport="udp", host="192.0.2.1", port=514)
        target.write(lines(0, 1), 1)
        wait_for(lambda: target.stats.errors >= 2, [target.stats])
        assert os.strerror(errno.ENETUNREACH) in target.state
        target.close(0.1)
    assert target.stats.dropped["stop"] == 1


# Reopen and close


@pytest.mark.parametrize("kind", STREAMS)
def test_reopen_connects_again_and_loses_nothing(make: Make, receive: Receive, kind: str) -> None:
    receiver = receive(kind)
    target = make(**receiver.options)
    write = Writer(target, pad=300)
    for n in range(5):
        write(50)
        target.reopen()
        wait_for(lambda n=n: len(receiver.connections) > n)  # type: ignore[misc]
    write(50)
    write.wait_until_written()
    wait_for(lambda: receiver.seen()[-1:] == [write.next - 1])
    assert receiver.seen() == write.all, "orderly, so nothing comes twice"
    assert target.stats.errors == 0


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_reopen_of_a_stalled_connection(
    make: Make, receive: Receive, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "_GOODBYE_SECS", 0.05)
    first = receive(kind, buffer_bytes=10_000)
    write = Writer(make(**first.options), pad=1000)
    write(1)
    wait_for(lambda: first.seen() == [0])
    first.reads.clear()
    write(5000)
    wait_for(first.unread)
    write.target.reopen()
    wait_for(lambda: write.target.stats.resent > 0, [write.target.stats])
    first.reads.set()
    write.wait_until_written()
    wait_for(lambda: {*first.seen()} == {*write.all})


def test_reopen_resolves_the_name_anew(make: Make, receive: Receive, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = receive("tcp"), receive("tcp")
    address = old.address
    found = lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address)]  # noqa: E731
    monkeypatch.setattr(socket, "getaddrinfo", found)
    target = make(transport="tcp", host="receiver.example", port=1)
    wait_for(lambda: old.connections)
    address = new.address
    target.reopen()
    wait_for(lambda: new.connections)


def test_reopen_prefers_the_first_address_again(make: Make, receive: Receive, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = receive("udp"), receive("udp")
    found = [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", each.address) for each in (first, second)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [*found])
    write = Writer(make(transport="udp", host="receiver.example", port=514))
    write(2)
    write.wait_until_written()
    write.target.reopen()
    write(2)
    write.wait_until_written()
    wait_for(lambda: first.seen() == [0, 1, 2, 3])
    assert second.seen() == []


@pytest.mark.parametrize("kind", KINDS)
def test_close_sends_what_waits(make: Make, receive: Receive, kind: str) -> None:
    receiver = receive(kind)
    target = make(**receiver.options)
    write = Writer(target, pad=100)
    write(150)
    target.close(PATIENCE)
    target.close(PATIENCE)
    wait_for(lambda: len(receiver.seen()) == 150)
    assert target.stats.written == 150
    write(3)
    target.reopen()
    target.retry()
    assert target.stats.dropped["stop"] == 3


@pytest.mark.parametrize("kind", ["tcp", "unix", "syslog"])
def test_close_while_the_receiver_is_stalled(
    make: Make, receive: Receive, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = receive(kind, buffer_bytes=10_000)
    receiver.reads.clear()
    target = make(**receiver.options)
    write = Writer(target, pad=1000)
    write(9000)
    target.close(0.1)
    stats = target.stats
    assert stats.dropped["stop"] == 9000 - stats.written > 0
    assert "had not taken before the stop" in caplog.text
    receiver.reads.set()
    receiver.stop()
    assert len(receiver.seen()) >= stats.written or kind == "tcp"


@pytest.mark.parametrize("kind", KINDS)
def test_close_while_the_receiver_is_away(make: Make, receive: Receive, kind: str) -> None:
    receiver = receive(kind)
    receiver.stop()
    target = make(**receiver.options)
    target.write(lines(0, 3), 3)
    target.close(0.5)
    assert target.stats.dropped["stop"] == 3
    assert target.stats.written == 0


def test_close_tries_once_more(make: Make, receive: Receive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "_PAUSE_SECS", (3600.0, 3600.0))
    port = unused_port()
    target = make(transport="tcp", host="127.0.0.1", port=port)
    target.write(lines(0, 3), 3)
    wait_for(lambda: target.stats.errors == 1, [target.stats])
    receiver = receive("tcp", address=("127.0.0.1", port))
    target.close(PATIENCE)
    wait_for(lambda: receiver.seen() == [0, 1, 2])
    assert target.stats.written == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_close_at_any_moment(make: Make, receive: Receive, kind: str, seed: int) -> None:
    rng = random.Random(seed)
    receiver = receive(kind, buffer_bytes=20_000)
    target = make(**receiver.options)
    write = Writer(target, pad=500)
    time.sleep(rng.random() * 0.01)  # any moment will do
    for _ in range(rng.randrange(1, 10)):
        write(rng.randrange(1, 50))
    if rng.random() < 0.5:
        receiver.stop()
    time.sleep(rng.random() * 0.01)
    target.close(rng.choice([0.0, 0.001, 0.1]))
    check(target.stats)
    assert target.stats.pending == 0
    assert target.stats.written + target.stats.dropped["stop"] == write.next


def test_a_log_of_the_other_kind_takes_its_place(make: Make, receive: Receive) -> None:
    """syslog(3) finds out which kind of socket it is; so do we, whenever it changes."""
    first = receive("syslog")
    write = Writer(make(**first.options))
    for number, kind in enumerate(("unix", "syslog", "unix")):
        write(5)
        write.wait_until_written()
        first.stop()
        second = receive(kind, address=first.address)
        write(3)
        write.wait_until_written()
        wait_for(lambda second=second: second.seen()[-1:] == [write.next - 1])  # type: ignore[misc]
        assert {*first.seen(), *second.seen()} >= {*range(write.next - 8, write.next)}, number
        first = second


def test_a_message_too_long_for_a_datagram_is_dropped_and_counted(make: Make, receive: Receive) -> None:
    receiver = receive("syslog")
    target = make(**receiver.options)
    long = b'{"n": 1, "pad": "%s"}\n' % (b"x" * 300_000)
    target.write(lines(0, 1) + long + lines(2, 2), 4)
    target.write(long, 1)
    target.write(lines(5, 1), 1)
    wait_for(lambda: target.stats.pending == 0, [target.stats])
    assert (target.stats.written, target.stats.dropped["too_long"]) == (4, 2)
    assert receiver.seen() == [0, 2, 3, 5]


def test_a_path_that_leads_elsewhere_is_followed(make: Make, receive: Receive, tmp_path: Path) -> None:
    """The old log still has its socket, and reads nothing: what it has not read goes to the new one."""
    first = receive("syslog")
    write = Writer(make(**first.options))
    write(2)
    write.wait_until_written()
    first.reads.clear()
    write(7)
    wait_for(lambda: write.target.stats.pending == 7)
    os.rename(first.address, tmp_path / "old")
    second = receive("syslog", address=first.address)
    write.wait_until_written()
    wait_for(lambda: second.seen() == list(range(2, 9)))


def test_never_opened() -> None:
    target = Peer("tcp", host="127.0.0.1", port=1, stats=OutputStats(), limited=Limited())
    assert target.state == "tcp 127.0.0.1:1 not opened yet"
    target.write(lines(0, 2), 2)
    target.reopen()
    target.close(1)
    check(target.stats)
    assert target.stats.dropped["stop"] == 2


def test_a_mistake_of_ours_does_not_silence_the_output(
    make: Make, receive: Receive, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = receive("tcp")
    with monkeypatch.context() as patch:
        patch.setattr(link.StreamLink, "wants", lambda self: 1 // 0)
        target = make(**receiver.options)
        target.write(lines(0, 2), 2)
        wait_for(lambda: "unexpected error" in caplog.text)
    wait_for(lambda: target.stats.pending == 0, [target.stats])
    wait_for(lambda: {0, 1} == {*receiver.seen()})
