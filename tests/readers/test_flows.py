# SPDX-License-Identifier: GPL-2.0-or-later
"""Flows of a real kernel: what the records say adds up to what the kernel has counted, whatever happens in between."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import nflowlevel as nfl
from nflowlevel.binding.acceptance import Accept
from nflowlevel.binding.conntrack import EventSocket, TableSocket
from nflowlevel.errors import KernelError
from nflowlevel.readers import flows as flows_module
from nflowlevel.readers.flows import flows, open_flows
from tests.fix_netns import Netns
from tests.fix_watched import SMALL_BUFFER, Watched, known, read, records, reported, summed, until

PORTS = range(20000, 20400)


def test_one_record_for_each_flow_that_ends(watched: Watched) -> None:
    with open_flows(netns=watched.fw.path) as reader:
        watched.udp_flows(PORTS, packets=3)
        watched.tcp(300_000, 200_000)
        watched.send_udp(7, source=watched.PEER6, source_port=5001)
        watched.flush()
        batches = until(reader, len(PORTS) + 2)
    assert summed(batches) == watched.seen()
    assert set(records(batches, "ct.event", "flow.number", "flow.last")) == {(4, 1, 1)}
    udp = [row for row in records(batches, "orig.ip.protocol", "packets", "bytes", "family") if row[0] == 17]
    assert sorted(udp) == [(17, 3, 144, 2)] * len(PORTS) + [(17, 7, 7 * 68, 10)]
    (tcp,) = [flow for batch in batches for flow in batch if flow.protocol == 6]
    assert tcp.bytes > 300_000
    assert tcp.reply_bytes > 200_000
    assert tcp.tcp_state == 7
    assert tcp.flow_end_reason == 3
    assert tcp.start <= tcp.end <= time.time()


def test_long_flows_are_the_sum_of_their_records(watched: Watched) -> None:
    with open_flows(netns=watched.fw.path, track=True) as reader:
        batches = []
        for _ in range(4):
            watched.udp_flows(PORTS, packets=2)
            batches += reported(reader)
        watched.udp_flows(PORTS[:100])
        watched.flush()
        batches += read(reader)
    assert summed(batches) == watched.seen()
    found = records(batches, "sport", "flow.number", "ct.event", "flow.last", "packets", "flow.end.reason")
    assert sorted(found) == sorted(
        [(port, number, 2, 0, 2, 2) for port in PORTS for number in range(1, 5)]
        + [(port, 5, 4, 1, 1 if port in PORTS[:100] else 0, 1) for port in PORTS]
    )


def test_what_was_there_before_is_known_and_not_new(watched: Watched) -> None:
    watched.udp_flows(PORTS)
    with open_flows(("new", "destroy"), netns=watched.fw.path, track=True) as reader:
        known(reader)
        assert reader.stats.tracked == len(PORTS)
        assert not read(reader, 0.1)
        watched.udp_flows(PORTS)
        watched.flush()
        batches = until(reader, len(PORTS))
    assert summed(batches) == watched.seen()
    assert set(records(batches, "flow.number", "packets")) == {(1, 2)}
    assert reader.stats.unmatched == 0


def test_a_listener_without_a_table_passes_on_what_it_hears(watched: Watched) -> None:
    with open_flows(("new", "update", "destroy"), netns=watched.fw.path) as reader:
        watched.tcp(10, 10)
        watched.flush()
        batches = read(reader)
    events = [event for (event,) in records(batches, "ct.event")]
    assert (events[0], events[-1]) == (1, 4)
    assert set(events[1:-1]) == {2}
    assert summed(batches) == watched.seen()


def test_active_timeout_reports_what_goes_on(watched: Watched) -> None:
    with open_flows(netns=watched.fw.path, active_timeout=1) as reader:
        batches = []
        for _ in range(12):
            watched.udp_flows(PORTS[:10])
            watched.udp_flows(PORTS[10:20])
            batches += read(reader, 0.25)
        watched.flush()
        batches += read(reader)
    assert summed(batches) == watched.seen()
    numbers = [number for _, number in records(batches, "sport", "flow.number")]
    assert max(numbers) >= 3
    assert set(records(batches, "ct.event", "flow.last", "flow.end.reason")) == {(2, 0, 2), (4, 1, 1)}


# -- loss XX


def test_lost_flows_are_counted_to_the_unit(watched: Watched) -> None:
    count = 5000
    with open_flows(netns=watched.fw.path, socket_buffer=SMALL_BUFFER, max_socket_buffer=SMALL_BUFFER) as reader:
        watched.udp_flows(range(10000, 10000 + count))
        watched.flush()
        batches = read(reader)
        stats = reader.stats
    assert stats.received == sum(map(len, batches))
    assert 0 < stats.received < count
    assert stats.received + stats.lost == count
    assert stats.overrun == 1


def test_a_loss_is_made_up_for_where_flows_outlived_a_dump(watched: Watched) -> None:
    count = 3000
    ports = range(10000, 10000 + count)
    with open_flows(
        netns=watched.fw.path,
        track=True,
        socket_buffer=SMALL_BUFFER,
        max_socket_buffer=SMALL_BUFFER,
        resync_secs=0.1,
    ) as reader:
        batches = []
        watched.udp_flows(ports, packets=2)
        batches += reported(reader)
        watched.udp_flows(ports)
        batches += reported(reader)
        watched.flush()
        batches += until(reader, 3 * count - sum(map(len, batches)))
        stats = reader.stats
    assert summed(batches) == watched.seen()
    assert stats.lost == stats.presumed > 0
    assert stats.resyncs == 1
    last = [row for row in records(batches, "flow.last", "flow.number", "flow.end.sec", "ct.event") if row[0]]
    assert len(last) == count
    assert all(number == 3 and end and event == 4 for _, number, end, event in last)


def test_reliable_loses_nothing_with_a_small_buffer_and_stalls(watched: Watched) -> None:
    count = 3000
    with open_flows(
        netns=watched.fw.path,
        track=True,
        reliable=True,
        socket_buffer=SMALL_BUFFER,
        max_socket_buffer=SMALL_BUFFER,
        poll_secs=0.5,
    ) as reader:
        batches = []
        known(reader)
        for start in (10000, 20000):
            watched.udp_flows(range(start, start + count), packets=2)
            batches += reported(reader)
            watched.udp_flows(range(start, start + count))
            watched.flush()
            time.sleep(0.3)
            batches += read(reader, 0.1)
        batches += until(reader, 4 * count - sum(map(len, batches)))
        batches += read(reader, 1.2)
        stats = reader.stats
    assert summed(batches) == watched.seen()
    assert stats.lost == 0
    assert stats.refused > 0
    assert len([1 for (last,) in records(batches, "flow.last") if last]) == 2 * count


def test_repeats_for_another_listener_are_told_once(watched: Watched) -> None:
    """A second reliable listener makes the kernel repeat ends to all."""
    count = 2000
    other = EventSocket(("destroy",), Accept(), watched.fw.path)
    other.socket.set_receive_buffer(SMALL_BUFFER)
    other.listen(reliable=True)
    try:
        with open_flows(netns=watched.fw.path) as reader:
            watched.udp_flows(range(10000, 10000 + count))
            watched.flush()
            batches = until(reader, count)
            deadline = time.monotonic() + 10
            while not reader.stats.repeated and time.monotonic() < deadline:
                batches += read(reader, 0.2)
            other.close()
            batches += read(reader, 0.5)
            stats = reader.stats
    finally:
        other.close()
    assert stats.repeated > 0
    assert stats.received > count
    assert len(records(batches, "sport")) == len(set(records(batches, "sport", "id"))) == count
    assert summed(batches) == watched.seen()


def test_counts_go_on_over_a_restart(watched: Watched) -> None:
    batches = []
    with open_flows(netns=watched.fw.path, track=True) as reader:
        watched.udp_flows(PORTS)
        known(reader)
        reader.stop()
        batches += [*reader.batches()]
    assert not batches
    watched.udp_flows(PORTS)
    with open_flows(netns=watched.fw.path, track=True) as reader:
        watched.udp_flows(PORTS)
        known(reader)
        watched.flush()
        batches += until(reader, len(PORTS))
    assert summed(batches) == watched.seen()


def test_parts_that_were_reported_are_kept_over_a_restart(watched: Watched, tmp_path: Path) -> None:
    """Also of flows that end while nobody listens: of those what was known is all that there is."""
    state = str(tmp_path / "state")
    batches = []
    for _ in range(3):
        with open_flows(netns=watched.fw.path, track=True, state_file=state) as reader:
            watched.udp_flows(PORTS, packets=2)
            batches += reported(reader)
            watched.udp_flows(PORTS)
            reader.stop()
            batches += [*reader.batches()]
    told = summed(batches)
    assert told.packets == watched.seen().packets - len(PORTS)
    watched.fw.run("conntrack", "-D", "-p", "udp", "--sport", str(PORTS[0]))
    with open_flows(netns=watched.fw.path, track=True, state_file=state) as reader:
        last = reported(reader)
        watched.flush()
        last += read(reader)
    assert told.packets + summed(last).packets == watched.seen().packets - 1
    ended = [row for row in records(last, "sport", "flow.number", "flow.last") if row[0] == PORTS[0]]
    assert ended == [(PORTS[0], 4, 1)]
    assert not Path(state).exists()


@pytest.mark.parametrize("content", [b"", b"nflowlevel: flows that go on, 1, 9\n", b"x" * 5000])
def test_a_state_of_something_else_is_refused(
    netns: Netns, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    state = tmp_path / "state"
    state.write_bytes(content)
    with open_flows(netns=netns.path, track=True, state_file=str(state)) as reader:
        known(reader)
        assert reader.stats.tracked == 0
    assert "is not a file of this version" in caplog.text


def test_a_reader_that_stops_tells_what_it_has_heard(watched: Watched) -> None:
    with open_flows(netns=watched.fw.path) as reader:
        watched.udp_flows(PORTS)
        watched.flush()
        reader.stop()
        batches = [*reader.batches()]
    assert summed(batches) == watched.seen()


def test_flush_at_stop(watched: Watched) -> None:
    with open_flows(netns=watched.fw.path, track=True, flush_at_stop=True) as reader:
        watched.udp_flows(PORTS, packets=2)
        reader.stop()
        batches = [*reader.batches()]
    assert summed(batches) == watched.seen()
    assert set(records(batches, "ct.event", "flow.last", "flow.end.reason")) == {(2, 0, 4)}


def test_packets_that_race_the_end_of_their_flow(watched: Watched) -> None:
    """The kernel tells of the end, and then may count a packet that was on its way: nobody is told of that."""
    with open_flows(netns=watched.fw.path, track=True) as reader:
        done = threading.Event()

        def flush() -> None:
            while not done.is_set():
                watched.flush()

        thread = threading.Thread(target=flush)
        thread.start()
        for _ in range(20):
            watched.udp_flows(PORTS, packets=5)
        done.set()
        thread.join()
        watched.flush()
        batches = read(reader)
        assert reader.stats.lost == 0
    ends = len(records(batches, "sport"))
    assert ends > 2 * len(PORTS)
    told, seen = summed(batches), watched.seen()
    assert seen.packets - ends // 1000 <= told.packets <= seen.packets
    assert told.bytes == 48 * told.packets


def test_flows_of_whose_end_the_kernel_never_tells(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nf_conntrack_events=2, the default, those that began before anybody listened."""
    monkeypatch.setattr("nflowlevel.readers.flows._OLD_SECS", 0.3)
    # Somebody may be listening elsewhere, and that counts for all namespaces.
    watched.fw.sysctl("net.netfilter.nf_conntrack_events", 0)
    watched.udp_flows(PORTS, packets=2)
    watched.fw.sysctl("net.netfilter.nf_conntrack_events", 2)
    with open_flows(netns=watched.fw.path, track=True) as reader:
        known(reader)
        watched.udp_flows(range(30000, 30050))
        watched.flush()
        batches = until(reader, len(PORTS) + 50)
        stats = reader.stats
        assert summed(batches) == watched.seen()
        assert (stats.received, stats.presumed) == (50, len(PORTS))
        batches = read(reader, 0.7)
        assert not batches
        assert reader.stats.dumps == 2, "it looks though nothing is old any more"


# -- kinds of flows XX


def test_without_stamps_beginnings_are_heard(unstamped: Watched) -> None:
    with open_flows(("new", "destroy"), netns=unstamped.fw.path, track=True) as reader:
        before = time.time()
        unstamped.udp_flows(PORTS, packets=2)
        unstamped.flush()
        batches = until(reader, len(PORTS))
    assert summed(batches) == unstamped.seen()
    for start, end in records(batches, "flow.start.sec", "flow.end.sec"):
        assert before - 1 <= start <= end <= time.time()


def test_translated_flows(watched: Watched) -> None:
    """Source and destination NAT show in the reply's tuple; both directions are counted."""
    watched.fw.nft(
        "table ip n {\nchain d {\ntype nat hook prerouting priority -100;\n"
        "udp dport 53 redirect to :9\n}\nchain o {\ntype nat hook output priority -100;\n"
        f"udp dport 99 dnat to {watched.PEER4}:98\n}}\n"
        "chain s {\ntype nat hook postrouting priority 100;\nudp dport 98 masquerade to :5555\n}\n}"
    )
    with open_flows(netns=watched.fw.path) as reader:
        watched.send_udp(4, port=53, source_port=5000)
        with watched.fw.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("", 6000))
            for _ in range(3):
                udp.sendto(b"abc", (watched.PEER4, 99))
        watched.flush()
        batches = read(reader)
    assert summed(batches) == watched.seen()
    found = {flow.sport: flow for batch in batches for flow in batch}
    assert (found[5000].dport, found[5000].reply_l4_sport, found[5000].packets) == (53, 9, 4)
    assert found[5000].translated
    assert (found[6000].dport, found[6000].reply_l4_sport, found[6000].reply_l4_dport) == (99, 98, 5555)


def test_a_translated_connection_with_payload_in_both_directions(watched: Watched) -> None:
    """Redirect and masquerade of TCP: the sums are those of the kernel, as it ends and in parts."""
    watched.fw.nft(
        "table ip n {\nchain d {\ntype nat hook prerouting priority -100;\ntcp dport 81 redirect to :8081\n}\n"
        "chain s {\ntype nat hook input priority 100;\ntcp dport 8081 snat to 10.77.0.99\n}\n}"
    )
    with open_flows(netns=watched.fw.path, track=True) as reader:
        watched.tcp(300_000, 500_000, port=81, listening=8081)
        batches = reported(reader)
        watched.flush()
        batches += read(reader)
    assert summed(batches) == watched.seen()
    found = records(batches, "flow.number", "flow.last", "dport", "reply.l4.sport", "reply.ip.daddr")
    assert found == [(1, 0, 81, 8081, "10.77.0.99"), (2, 1, 81, 8081, "10.77.0.99")]
    assert sum(size for (size,) in records(batches, "bytes")) > 300_000
    assert sum(size for (size,) in records(batches, "reply_bytes")) > 500_000


def test_echoes_and_fragments(watched: Watched) -> None:
    with open_flows(netns=watched.fw.path) as reader:
        watched.echo(socket.AF_INET, count=3, size=4000)
        watched.echo(socket.AF_INET6, count=2, size=5000)
        with watched.peer.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("", 6001))
            udp.sendto(bytes(9000), (watched.FW4, 9))
        watched.flush()
        batches = read(reader)
    assert summed(batches) == watched.seen()
    found = {flow.protocol: flow for batch in batches for flow in batch}
    assert (found[1].icmp_type, found[1].icmp_code, found[1].packets, found[1].reply_packets) == (8, 0, 3, 3)
    assert found[1].bytes == 3 * 4028
    assert (found[58].icmpv6_type, found[58].icmpv6_code, found[58].packets) == (128, 0, 2)
    assert found[58].bytes >= 2 * 5048
    assert (found[17].sport, found[17].packets, found[17].bytes) == (6001, 1, 9028)


def test_filters_hold_for_events_and_for_the_table(watched: Watched) -> None:
    accept = Accept(sources=["10.77.0.2/32"], protocols=["udp"])
    with open_flows(filters=accept, netns=watched.fw.path, track=True) as reader:
        watched.send_udp(1, source_port=5001)
        watched.send_udp(1, source=watched.PEER6, source_port=5002)
        watched.tcp(1, 1)
        assert [flow.sport for flow in flows(netns=watched.fw.path, filters=accept)] == [5001]
        batches = reported(reader)
        watched.flush()
        batches += read(reader)
    assert records(batches, "sport", "flow.number") == [(5001, 1), (5001, 2)]


# -- the table XX


def test_the_table_is_what_conntrack_lists(watched: Watched) -> None:
    watched.udp_flows(range(10000, 13000), packets=2)
    watched.tcp(1000, 1000)
    table = flows(netns=watched.fw.path)
    listed = watched.fw.run("conntrack", "-L").stdout.splitlines()
    assert len(table) == len(listed) == 3001
    theirs = sorted(int(line.split("sport=")[1].split()[0]) for line in listed)
    assert sorted(table.values("sport")) == theirs
    assert summed([table]) == watched.seen()
    assert set(table.values("ct.event")) == {None}
    arrow = table.to_arrow("orig.ip.saddr.str", "orig.l4.sport", "orig.raw.pktcount")
    assert arrow.num_rows == 3001


def test_an_empty_table(netns: Netns) -> None:
    table = nfl.flows(netns=netns.path)
    assert len(table) == 0
    assert [*table] == []
    assert table.to_arrow("ct.id").num_rows == 0


# -- the reader XX


def test_iterating_gives_flows(watched: Watched) -> None:
    with nfl.open_flows(netns=watched.fw.path) as reader:
        watched.send_udp(2, source_port=5000)
        watched.flush()
        flow = next(iter(reader))
    assert (flow.saddr, flow.sport, flow.packets) == (watched.PEER4, 5000, 2)


def test_stop_from_another_thread_ends_the_iteration(watched: Watched) -> None:
    with open_flows(netns=watched.fw.path) as reader:
        threading.Timer(0.1, reader.stop).start()
        assert [*reader.batches()] == []


def test_close_from_another_thread_ends_the_iteration(watched: Watched) -> None:
    reader = open_flows(netns=watched.fw.path)
    threading.Timer(0.1, reader.close).start()
    assert [*reader.batches()] == []
    assert reader.closed
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.receive()
    with pytest.raises(ValueError, match="closed"):
        reader.fileno()
    assert reader.stats.received == 0


def test_what_is_wrong_is_said(netns: Netns) -> None:
    with pytest.raises(ValueError, match="unknown event 'destory' — did you mean 'destroy'"):
        open_flows(("destory",), netns=netns.path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="give a list"):
        open_flows("destroy", netns=netns.path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="active_timeout"):
        open_flows(netns=netns.path, active_timeout=0)
    with pytest.raises(nfl.KernelError, match="no-such-namespace"):
        open_flows(netns="no-such-namespace")


def test_a_filter_in_the_language_of_all_filters(watched: Watched) -> None:
    """As a text, for what is heard, for the table, and for what goes on at the stop."""
    text = "dest_port == 9 && src_port in {20000-20010} && packets_out == 2"
    with open_flows(filters=text, netns=watched.fw.path, track=True, flush_at_stop=True) as reader:
        watched.udp_flows(PORTS, packets=2)
        assert sorted(flow.src_port or 0 for flow in flows(netns=watched.fw.path, filters=text)) == [*PORTS[:11]]
        reader.stop()
        found = records(reader.batches(), "sport", "bytes_out", "packets_in")
    assert sorted(found) == [(port, 96, 0) for port in PORTS[:11]]


def test_what_no_filter_is(netns: Netns) -> None:
    with pytest.raises(nfl.NflowError, match=r"flows do not have 'tcp\.dport'"):
        open_flows(filters="tcp.dport == 9", netns=netns.path)
    with pytest.raises(TypeError, match=r"must be a filter such as 'dport == 443', or nfl.Accept.*, not \['a'\]"):
        flows(filters=["a"], netns=netns.path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="name at least one of new, update, destroy"):
        open_flows((), netns=netns.path)
    open_flows((), netns=netns.path, poll_secs=1).close()


def test_flush_at_stop_where_nothing_is_counted(watched: Watched) -> None:
    """A flow that never had a record has one at the stop, with its ends alone: a log of translations needs no more."""
    watched.fw.sysctl("net.netfilter.nf_conntrack_acct", 0)
    with open_flows(netns=watched.fw.path, track=True, flush_at_stop=True) as reader:
        watched.udp_flows(PORTS[:10])
        reader.stop()
        found = records(reader.batches(), "sport", "packets", "ct.event", "flow.number", "flow.last")
    assert sorted(found) == [(port, 0, 2, 1, 0) for port in PORTS[:10]]


@pytest.mark.parametrize(("asked", "most"), [(1 << 20, 0), (2 << 20, 0.02), (4 << 20, 0.04), (64 << 20, 0.05)])
def test_a_pause_leaves_room_for_a_sudden_flood(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, asked: int, most: float
) -> None:
    """With 0.05 seconds, 4 MiB lost thousands of 200,000 events a second."""
    now = [1000.0]
    monkeypatch.setattr(
        flows_module, "time", SimpleNamespace(monotonic=lambda: now[0], time=time.time, time_ns=time.time_ns)
    )
    with open_flows(("new",), netns=watched.fw.path, socket_buffer=asked, max_socket_buffer=asked) as reader:
        assert reader.socket_buffer == 2 * asked
        assert not reader.receive()
        now[0] += 0.05
        watched.udp_flows(PORTS[:200])
        assert len(reader.receive()) == 200
        assert reader.pause == pytest.approx(most)


def test_a_report_asked_for_by_another_thread_is_made_at_once(watched: Watched) -> None:
    """A reader that waits for events is woken."""
    with open_flows(netns=watched.fw.path, track=True) as reader:
        known(reader)
        watched.udp_flows(PORTS[:3])
        assert not read(reader)
        threading.Timer(0.3, reader.report).start()
        asked = time.monotonic()
        batch = next(batch for batch in reader.batches(timeout=20) if batch or time.monotonic() > asked + 10)
        assert (len(batch), time.monotonic() - asked < 10) == (3, True)


@pytest.mark.parametrize("method", ["begin", "receive"])
def test_a_table_that_the_kernel_does_not_give_is_asked_for_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    watched.udp_flows(PORTS)

    receive = TableSocket.receive

    def refuse(table: TableSocket, *room: Any) -> None:
        while room and not table.done:
            receive(table, *room)
        raise KernelError("list flows", 12)

    monkeypatch.setattr("nflowlevel.readers.flows._AGAIN_SECS", 0.0)
    with open_flows(netns=watched.fw.path, track=True, poll_secs=1000) as reader:
        with monkeypatch.context() as patched:
            patched.setattr(TableSocket, method, refuse)
            with pytest.raises(KernelError):
                reader.receive()
        assert not reader.receive()
        known(reader)
        assert reader.stats.tracked == len(PORTS)
