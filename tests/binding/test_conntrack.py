# SPDX-License-Identifier: GPL-2.0-or-later
"""The sockets of connection tracking: events, the table, its load, and what the kernel says where it refuses."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace

import pytest

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.acceptance import Accept
from nflowlevel.binding.conntrack import (
    ROOM_FLOWS,
    EventSocket,
    LoadSocket,
    TableSocket,
    load,
    mapped,
    read_table,
    settings,
)
from tests.fix_netns import Netns
from tests.fix_watched import SMALL_BUFFER, Watched
from tests.flows import TCP, UDP, message
from tests.netlink import attribute


def test_load(watched: Watched) -> None:
    watched.udp_flows(range(10000, 10100))
    found = load(watched.fw.path)
    assert found.flows == 100
    assert found.limit > 1000
    assert found.ratio == 100 / found.limit
    socket = LoadSocket(watched.fw.path)
    assert [socket.read().flows for _ in range(3)] == [100] * 3
    socket.close()
    with pytest.raises(ValueError, match="closed"):
        socket.read()


def test_settings(watched: Watched, netns: Netns) -> None:
    told = settings(watched.fw.path)
    assert (told.events, told.timestamps, told.counters) == (1, 1, 1)
    other = settings(netns.path)
    assert (other.timestamps, other.counters) == (0, 0)


def test_events_that_are_wanted_come(watched: Watched) -> None:
    events = EventSocket(("destroy",), Accept(), watched.fw.path)
    try:
        watched.send_udp(1, source_port=5000)
        watched.flush()
        assert events.receive() == 0  # it does not listen yet
        events.listen()
        watched.send_udp(1, source_port=5001)
        watched.flush()
        assert events.receive() == 1
        assert (events.records[0].orig_l4_sport, events.records[0].ct_event) == (5001, 4)
        watched.send_udp(1, source_port=5002)
        watched.flush()
        events.silence()
        watched.send_udp(1, source_port=5003)
        watched.flush()
        assert events.receive() == 1
        assert events.records[0].orig_l4_sport == 5002
    finally:
        events.close()


def test_only_the_kernel_is_believed(watched: Watched) -> None:
    """Root of a namespace, as in a container, can send to the groups of events."""
    events = EventSocket(("destroy",), Accept(), watched.fw.path)
    try:
        events.listen()
        watched.fw.forge(lib.NETLINK_NETFILTER, message(TCP), 3)
        with watched.fw.enter():
            forger = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, lib.NETLINK_NETFILTER)
        with forger, pytest.raises(ConnectionRefusedError):
            forger.sendto(message(TCP), (events.socket.portid, 0))
        watched.send_udp(1, source_port=5001)
        watched.flush()
        assert events.receive() == 1
        assert (events.records[0].orig_l4_sport, events.state.foreign) == (5001, 1)
    finally:
        events.close()


@pytest.mark.parametrize("pieces", [0, 1, 3, 32, 40])
def test_many_events_are_received_at_once_in_their_order(pieces: int) -> None:
    """However many fit into scratch: what is too long harms no other, and what there is no room for waits."""
    size = max(pieces * lib.NFL_FLOWS_EVENT_ROOM, 4096)
    events = [message(replace(UDP, id=number)) for number in range(101)]
    longest = message(replace(TCP, id=1000, more=(attribute(999, bytes(lib.NFL_FLOWS_EVENT_ROOM)),)))
    records = ffi.new("struct nfl_flow[]", 200)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as kernel:
        ours.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
        ours.bind(("127.0.0.1", 0))
        for event in (*events[:50], longest, *events[50:]):
            kernel.sendto(event, ours.getsockname())
        state = ffi.new("struct nfl_flows *", {"events": 7})

        def receive(room: int) -> list[int]:
            count = lib.nfl_flows_receive(state, ours.fileno(), scratch, size, records, room, 1)
            return [records[number].ct_id for number in range(count)]

        scratch = ffi.new("uint8_t[]", size)
        assert receive(37) == [*range(37)]
        assert state.more
        assert receive(200) == [*range(37, 101)]
        assert not state.more
    assert (state.datagrams, state.received, state.truncated, state.malformed) == (102, 101, 1, 0)
    assert state.bytes == sum(map(len, events)) + len(longest)


def test_reliable_keeps_what_there_was_no_room_for(watched: Watched) -> None:
    events = EventSocket(("destroy",), Accept(), watched.fw.path)
    try:
        events.socket.set_receive_buffer(SMALL_BUFFER)
        events.listen(reliable=True)
        watched.udp_flows(range(10000, 12000))
        watched.flush()
        assert load(watched.fw.path).flows > 1000  # they wait
        assert events.socket.drops > 0
        events.silence()
        assert 0 < events.receive() < 2000
        assert events.state.overran
    finally:
        events.close()


def test_the_table_in_pieces(watched: Watched) -> None:
    watched.udp_flows(range(10000, 15000))
    table = TableSocket(Accept(), watched.fw.path)
    records = ffi.from_buffer("struct nfl_flow[]", mapped(ROOM_FLOWS * ffi.sizeof("struct nfl_flow")))
    try:
        for _ in range(2):
            table.begin()
            ports = []
            while not table.done:
                count = table.receive(records, ROOM_FLOWS)
                ports += [records[number].orig_l4_sport for number in range(count)]
            assert sorted(ports) == [*range(10000, 15000)]
            assert table.complete
    finally:
        table.close()


def test_a_table_that_grows_while_it_is_read(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.udp_flows(range(10000, 30000))
    monkeypatch.setattr("nflowlevel.binding.conntrack.load", lambda netns: load(netns)._replace(flows=0))
    records, count, any_, all_ = read_table(Accept(), watched.fw.path)
    assert records is not None
    assert count == 20000
    assert any_ == all_
    assert sorted(records.records[n].orig_l4_sport for n in range(count)) == [*range(10000, 30000)]


@pytest.mark.parametrize("ask", ["EventSocket(('destroy',), Accept()).listen()", "load()", "read_table(Accept())"])
def test_who_may_not_is_told_why(netns: Netns, ask: str) -> None:
    """In a process of its own: one forked from here would have half of its threads, and end what libraries hold."""
    program = (
        "import os\n"
        "from nflowlevel.binding.acceptance import Accept\n"
        "from nflowlevel.binding.conntrack import EventSocket, load, read_table\n"
        "os.setresuid(65534, 65534, 65534)\n"
        f"{ask}\n"
    )
    done = netns.run(sys.executable, "-c", program, check=False)
    assert "KernelError" in done.stderr
    assert "Operation not permitted" in done.stderr
    assert "CAP_NET_ADMIN" in done.stderr
