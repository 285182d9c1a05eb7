# SPDX-License-Identifier: GPL-2.0-or-later
"""Groups of a real kernel: exact counts, every key, settings, loss, stop, errors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest

import nflowlevel as nfl
from nflowlevel.binding import procfs
from nflowlevel.binding.netns import entered
from nflowlevel.logs import NOTICE, log
from nflowlevel.readers import group as group_module
from nflowlevel.readers.group import PROFILES
from tests import oracle
from tests.corpus import Frame, by_name, frames
from tests.fix_decoder import difference
from tests.fix_decoder import expected as expected_keys
from tests.fix_group import collect, log_udp, packets_in, run_python, start_python
from tests.fix_interrupt import interrupt_everywhere, state
from tests.fix_netns import Netns, Pair
from tests.fix_nflog import SEQ, NflogReader
from tests.netlink import RTNLGRP_LINK, link_message


def settings(netns: Netns, group: int = 2) -> procfs.BoundGroup:
    """Return what the kernel knows of a group that is read in a namespace."""
    with entered(netns.path):
        return procfs.bound_groups()[group]


# -- packets and their keys -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("count", [1, 23, 1009])
def test_exact_counts(pair: Pair, profile: str, count: int) -> None:
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, profile=profile) as group:
        pair.send_udp(count)
        batches = collect(group, count)
        group.stop()
        assert not list(group), "more packets came than were sent"
    assert packets_in(batches) == count == pair.fw.counter("c")
    assert (group.stats.received, group.stats.gap, group.stats.overrun, group.stats.malformed) == (count, 0, 0, 0)


def test_every_key_of_a_tcp_packet(pair: Pair) -> None:
    pair.fw.nft(
        """table inet t {
            chain i {
                type filter hook prerouting priority 0
                tcp dport 80 meta mark set 0x17 log prefix "syn: " group 2 drop
            }
        }"""
    )
    frame = by_name("tcp4-options-typical")
    before = time.time()
    with nfl.open_group(2, netns=pair.fw.path, label=3, seq_global=True) as group:
        pair.inject([frame.wire()])
        ((packet,),) = collect(group, 1)
        keys = packet.to_dict()
        packet_timestamp = packet.timestamp
    assert keys.pop("oob.time.sec") == int(packet_timestamp)
    assert 0 <= keys.pop("oob.time.usec") < 1_000_000
    assert before - 1 <= packet_timestamp <= time.time()
    assert keys == {
        "raw.mac": bytes.fromhex("0277000000010277000000020800"),
        "raw.pkt": frame.payload,
        "raw.pktlen": 60,
        "raw.pktcount": 1,
        "oob.prefix": "syn: ",
        "oob.mark": 0x17,
        "oob.ifindex_in": pair.fw.index("va"),
        "oob.hook": 0,
        "raw.mac_len": 14,
        "oob.seq.local": 0,
        "oob.seq.global": 1,
        "oob.family": 2,
        "oob.protocol": 0x0800,
        "raw.label": 3,
        "raw.type": 1,
        "raw.mac.saddr": bytes.fromhex("027700000002"),
        "raw.mac.addrlen": 6,
        "ip.saddr": "10.77.0.2",
        "ip.daddr": "10.77.0.1",
        "ip.protocol": 6,
        "ip.tos": 0,
        "ip.ttl": 64,
        "ip.totlen": 60,
        "ip.ihl": 5,
        "ip.csum": 0x661F,
        "ip.id": 1,
        "ip.fragoff": 0,
        "tcp.sport": 40000,
        "tcp.dport": 80,
        "tcp.seq": 0x01020304,
        "tcp.ackseq": 0,
        "tcp.window": 64240,
        "tcp.offset": 10,
        "tcp.reserved": 0,
        "tcp.urg": 0,
        "tcp.ack": 0,
        "tcp.psh": 0,
        "tcp.rst": 0,
        "tcp.syn": 1,
        "tcp.fin": 0,
        "tcp.res1": 0,
        "tcp.res2": 0,
        "tcp.csum": int.from_bytes(frame.payload[36:38], "big"),
        "oob.in": "va",
        "oob.out": "",
        "ip.saddr.str": "10.77.0.2",
        "ip.hsaddr": 0x0A4D0002,
        "ip.hdaddr": 0x0A4D0001,
        "ip.saddr.bin": "0x00000000000000000000ffff0a4d0002",
        "ip.daddr.bin": "0x00000000000000000000ffff0a4d0001",
        "ip.daddr.str": "10.77.0.1",
        "mac.saddr.str": "02:77:00:00:00:02",
        "mac.daddr.str": "02:77:00:00:00:01",
        "mac.str": "02:77:00:00:00:01:02:77:00:00:00:02:08:00",
    }


def test_every_key_of_a_sent_packet(pair: Pair) -> None:
    """What this machine sends has an owner, no time stamp of the kernel's and no link-layer header yet."""
    pair.peer.nft(
        """table ip6 t {
            chain o {
                type filter hook output priority 0
                udp dport 9 log group 2
            }
        }"""
    )
    before = time.time()
    with nfl.open_group(2, netns=pair.peer.path) as group:
        pair.send_udp(1, source=Pair.PEER6, source_port=5000, size=3)
        ((packet,),) = collect(group, 1)
        keys = packet.to_dict()
        assert before <= packet.timestamp <= time.time()
    del keys["oob.time.sec"], keys["oob.time.usec"], keys["ip6.flowlabel"], keys["udp.csum"]
    assert bytes(keys.pop("raw.pkt"))[40:46] == struct.pack(">HHH", 5000, 9, 11)
    assert keys == {
        "raw.pktlen": 51,
        "raw.pktcount": 1,
        "oob.prefix": "",
        "oob.mark": 0,
        "oob.ifindex_out": pair.peer.index("vb"),
        "oob.hook": 3,
        "oob.seq.local": 0,
        "oob.family": 10,
        "oob.protocol": 0x86DD,
        "oob.uid": os.getuid(),
        "oob.gid": os.getgid(),
        "raw.label": 0,
        "ip.saddr": Pair.PEER6,
        "ip.daddr": Pair.FW6,
        "ip.protocol": 17,
        "ip6.payloadlen": 11,
        "ip6.priority": 0,
        "ip6.hoplimit": 64,
        "ip6.nexthdr": 17,
        "udp.sport": 5000,
        "udp.dport": 9,
        "udp.len": 11,
        "oob.in": "",
        "oob.out": "vb",
        "ip.saddr.str": Pair.PEER6,
        "ip.saddr.bin": "0xfd77" + "0" * 27 + "2",
        "ip.daddr.bin": "0xfd77" + "0" * 27 + "1",
        "ip.daddr.str": Pair.FW6,
    }


def test_every_frame_as_a_witness_saw_it(pair: Pair) -> None:
    """A bare socket reads the same packets from a second group; the oracle says what their keys are."""
    pair.fw.nft(
        """table netdev t {
            chain i {
                type filter hook ingress device va priority 0
                log group 2 log group 3 drop
            }
        }"""
    )
    chosen = [frame for frame in frames() if frame.payload]
    with NflogReader(pair.fw, 3, flags=SEQ) as witness, nfl.open_group(2, netns=pair.fw.path) as group:
        names = pair.fw.interfaces()
        for several in _pieces(chosen, 100):
            pair.inject(frame.wire() for frame in several)
            messages = witness.messages(len(several))
            got = [keys for batch in collect(group, len(several)) for keys in batch.to_dicts()]
            for frame, message, keys in zip(several, messages, got, strict=True):
                _assert_witnessed(frame, keys, message, names)


def _pieces(items: list[Frame], size: int) -> Iterator[list[Frame]]:
    rest = iter(items)
    while piece := list(islice(rest, size)):
        yield piece


def _assert_witnessed(frame: Frame, keys: dict[str, object], message: bytes, names: dict[int, str]) -> None:
    wanted = expected_keys(message, label=0)
    assert wanted is not None
    wanted["oob.in"] = names[int(wanted["oob.ifindex_in"])]
    for name in ("oob.time.sec", "oob.time.usec"):
        # Ingress comes before the kernel stamps packets: each reader takes its own time.
        del keys[name], wanted[name]
    assert keys == wanted, f"{frame.name}: {difference(keys, wanted)}"


def test_prefixes(pair: Pair) -> None:
    prefixes = ["short", "two words: ", "Zwölf ☂ ", "p" * 127]
    rules = "\n".join(f'udp dport {port} log prefix "{prefix}" group 2' for port, prefix in enumerate(prefixes, 9))
    pair.fw.nft(f"table inet t {{\nchain i {{\ntype filter hook prerouting priority 0\n{rules}\ndrop\n}}\n}}")
    with nfl.open_group(2, netns=pair.fw.path) as group:
        for port in range(9, 9 + len(prefixes)):
            pair.send_udp(1, port)
        assert [p.prefix for batch in collect(group, len(prefixes)) for p in batch] == prefixes


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_reaches_the_kernel(netns: Netns, profile: str) -> None:
    with nfl.open_group(2, netns=netns.path, profile=profile):
        assert settings(netns).flush_centisecs == PROFILES[profile].qtimeout


def test_what_is_given_wins_over_the_profile(netns: Netns) -> None:
    with nfl.open_group(2, netns=netns.path, profile="latency", qtimeout=77, copy_range=99):
        given = settings(netns)
        assert (given.flush_centisecs, given.copy_mode, given.copy_range) == (77, 2, 99)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_lone_packet_arrives(pair: Pair, profile: str) -> None:
    """Nothing follows that would push it."""
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, profile=profile) as group:
        for _ in range(3):
            pair.send_udp(1)
            assert len(next(group.batches(timeout=10))) == 1


def test_qthreshold(pair: Pair) -> None:
    """The kernel holds packets back until there are as many, or the time is over."""
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, qthreshold=7, qtimeout=60_000) as group:
        before = group.stats.datagrams
        pair.send_udp(6)
        assert settings(pair.fw).queued == 6
        assert not group.receive()
        pair.send_udp(1)
        assert len(group.receive()) == 7
        pair.send_udp(14)
        assert packets_in(collect(group, 14)) == 14
        assert group.stats.datagrams - before == 3


@pytest.mark.parametrize(("nlbufsiz", "datagrams"), [(131072, range(1, 2)), (8192, range(6, 15))])
def test_nlbufsiz(pair: Pair, nlbufsiz: int, datagrams: range) -> None:
    """It limits a datagram whatever qthreshold says."""
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, nlbufsiz=nlbufsiz, qthreshold=1000, qtimeout=60_000) as group:
        pair.send_udp(101, size=1000)
        group.stop()
        assert packets_in(group.batches()) == 101
        answers = 2
        assert group.stats.datagrams - answers in datagrams


def test_the_largest_datagrams_are_not_truncated(pair: Pair) -> None:
    """What the kernel fills is twice what nlbufsiz asks for."""
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, nlbufsiz=131072, qthreshold=10_000, qtimeout=60_000) as group:
        pair.send_udp(1009, size=1400)
        group.stop()
        assert packets_in(group.batches()) == 1009
        stats = group.stats
        assert (stats.truncated, stats.gap, stats.malformed) == (0, 0, 0)
        assert stats.bytes > 100_000 * stats.datagrams, "the datagrams are small: this test shows nothing"


@pytest.mark.parametrize(
    ("rule", "reader", "copied"), [("", 64, 64), ("snaplen 64", 96, 64), ("snaplen 96", 64, 64), ("", 0, 128)]
)
def test_snaplen_and_copy_range(pair: Pair, rule: str, reader: int, copied: int) -> None:
    """The smaller wins."""
    log_udp(pair, f"log group 2 {rule}")
    with nfl.open_group(2, netns=pair.fw.path, copy_range=reader) as group:
        pair.send_udp(1, size=100)
        ((packet,),) = collect(group, 1)
        assert (packet.caplen, len(packet.payload), packet.totlen) == (copied, copied, 128)
        assert packet.dport == 9


@pytest.mark.parametrize("copy_mode", ["meta", "none"])
def test_no_packets_but_what_is_known_of_them(pair: Pair, copy_mode: str) -> None:
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, copy_mode=copy_mode) as group:
        pair.send_udp(1)
        ((packet,),) = collect(group, 1)
        assert (packet.payload, packet.caplen, packet.saddr, packet.dport) == (None, None, None, None)
        assert (packet.prefix, packet.indev_name, packet.hook) == ("pfx: ", "va", 1)


def test_seq_global(pair: Pair) -> None:
    """One series of numbers, from 1 on, over the groups that ask for it, beside each group's own, from 0 on."""
    pair.fw.nft(
        """table inet t {
            chain i {
                type filter hook input priority 0
                udp dport 9 log group 2 log group 3 log group 4
            }
        }"""
    )
    with (
        nfl.open_group(2, netns=pair.fw.path, seq_global=True) as two,
        nfl.open_group(3, netns=pair.fw.path, seq_global=True) as three,
        nfl.open_group(4, netns=pair.fw.path) as four,
    ):
        pair.send_udp(23)
        batches = [*collect(two, 23), *collect(three, 23)]
        numbers = [number for batch in batches for number in batch.values("oob.seq.global")]
        assert sorted(numbers) == list(range(1, 47))
        (batch,) = collect(four, 23)
        assert batch.values("oob.seq.global") == [None] * 23
        assert batch.values("oob.seq.local") == list(range(23))


@pytest.mark.parametrize("label", [0, 1, 255])
def test_label(pair: Pair, label: int) -> None:
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, label=label) as group:
        pair.send_udp(2)
        assert [packet.label for batch in collect(group, 2) for packet in batch] == [label] * 2


def test_attach_conntrack(pair: Pair) -> None:
    """Either the kernel can, then packets carry the entry; or the refusal says what was tried."""
    log_udp(pair, "ct state new log group 2")
    try:
        group = nfl.open_group(2, netns=pair.fw.path, attach_conntrack=True)
    except nfl.KernelError as error:
        refusal = str(error)
        nfl.open_group(2, netns=pair.fw.path).close()
        assert refusal.startswith("attach conntrack entries to group 2: ")
        return
    with group:
        pair.send_udp(1)
        ((packet,),) = collect(group, 1)
        assert packet.get("ct")


# -- network namespaces -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["name", "path"])
def test_netns_by(pair: Pair, given: str) -> None:
    log_udp(pair)
    home = os.readlink("/proc/thread-self/ns/net")
    with nfl.open_group(2, netns=getattr(pair.fw, given)) as group:
        assert os.readlink("/proc/thread-self/ns/net") == home
        pair.send_udp(1)
        ((packet,),) = collect(group, 1)
        assert packet.indev_name == "va", "names of interfaces come from the same namespace"


def test_the_same_group_in_two_namespaces(pair: Pair) -> None:
    with nfl.open_group(2, netns=pair.fw.path), nfl.open_group(2, netns=pair.peer.path):
        assert settings(pair.fw).portid
        assert settings(pair.peer).portid


def test_unknown_netns() -> None:
    with pytest.raises(nfl.KernelError) as caught:
        nfl.open_group(2, netns="no-such-netns")
    assert str(caught.value) == (
        "enter network namespace no-such-netns (/run/netns/no-such-netns): No such file or directory"
        " — list them with: ip netns"
    )


def test_a_file_that_is_no_netns(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(nfl.KernelError, match="Invalid argument"):
        nfl.open_group(2, netns=str(path))


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_an_empty_batch_when_nothing_comes(netns: Netns) -> None:
    with nfl.open_group(2, netns=netns.path) as group:
        for batch in islice(group.batches(timeout=0.01), 3):
            assert not batch
            assert (len(batch), list(batch), batch.rows("tcp.dport"), batch.to_dicts()) == (0, [], [], [])


def test_select(pair: Pair) -> None:
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path) as group:
        assert select.select([group], [], [], 0) == ([], [], [])
        assert not group.receive()
        pair.send_udp(5)
        assert select.select([group], [], [], 10) == ([group], [], [])
        assert len(group.receive()) == 5


def test_asyncio(pair: Pair) -> None:
    log_udp(pair)

    async def count_to(wanted: int, group: nfl.Group) -> int:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        total = 0

        def readable() -> None:
            nonlocal total
            total += len(group.receive())
            if total >= wanted and not done.done():
                done.set_result(total)

        loop.add_reader(group, readable)
        await loop.run_in_executor(None, pair.send_udp, wanted)
        try:
            return await asyncio.wait_for(done, 10)
        finally:
            loop.remove_reader(group)

    with nfl.open_group(2, netns=pair.fw.path) as group:
        assert asyncio.run(count_to(101, group)) == 101


def test_iteration_by_packet(pair: Pair) -> None:
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path) as group:
        pair.send_udp(23)
        numbers = [packet.seq_local for packet in islice(group, 23)]
    assert numbers == list(range(23))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What groups take for the time; it stands still unless the test changes it."""
    now = [1000.0]
    monkeypatch.setattr(group_module, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=time.sleep))
    return now


def test_dense_traffic_is_read_in_larger_pieces(pair: Pair, clock: list[float]) -> None:
    """After a read it is worth to wait a little, but not for a few packets nor while more are there."""
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, qthreshold=100) as group:
        pair.send_udp(100)
        assert len(group.receive()) == 100
        assert group.pause == 0, "these are the first"
        clock[0] += 0.01
        pair.send_udp(200)
        assert len(group.receive()) == 200
        assert 0 < group.pause <= group.coalesce_secs
        assert not group.receive()
        assert group.pause == 0
        clock[0] += 1
        pair.send_udp(1000)
        assert len(group.receive()) == 1000
        assert group.pause == 0, "these came slowly"
        pair.send_udp(10_000)
        assert 0 < len(group.receive()) < 10_000
        assert group.more
        assert group.pause == 0


def test_a_small_socket_buffer_leaves_no_time_to_wait(pair: Pair, clock: list[float]) -> None:
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, qthreshold=100, socket_buffer=1 << 20) as group:
        for _ in range(3):
            pair.send_udp(500)
            assert group.receive()
            assert group.pause == 0


def test_packets_that_are_kept_have_a_limit(pair: Pair) -> None:
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, qthreshold=1, max_held_bytes=1) as group:
        pair.send_udp(1)
        kept = group.receive()[0].payload
        pair.send_udp(1)
        with pytest.raises(nfl.NflowError, match=r"raise max_held_bytes \(now 1\)"):
            group.receive()
        del kept
        assert len(group.receive()) == 1


# -- stop -------------------------------------------------------------------------------------------------------------


def test_stop_brings_what_the_kernel_still_queues(pair: Pair) -> None:
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, qthreshold=1000, qtimeout=60_000) as group:
        pair.send_udp(23)
        assert settings(pair.fw).queued == 23
        group.stop()
        assert packets_in(group.batches()) == 23
        assert group.stats.received == 23
        with entered(pair.fw.path):
            assert 2 not in procfs.bound_groups(), "the group is still bound"


def test_stop_loses_nothing_of_what_waits(pair: Pair) -> None:
    """More than one receive takes, and a rest in the kernel."""
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, profile="throughput") as group:
        pair.send_udp(10_007)
        group.stop()
        assert packets_in(group.batches()) == 10_007 == pair.fw.counter("c")


def test_stop_from_another_thread(pair: Pair) -> None:
    """It comes while this thread reads, right after the last packet: all have been received."""
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path) as group:

        def send() -> None:
            for _ in range(53):
                pair.send_udp(199)
            group.stop()

        sender = threading.Thread(target=send)
        sender.start()
        received = packets_in(group.batches())
        sender.join()
    assert received == 53 * 199 == pair.fw.counter("c")


@pytest.mark.parametrize("socket_buffer", [64 << 20, 8192])
def test_stop_while_packets_go_on(pair: Pair, socket_buffer: int) -> None:
    """Nothing is missing between the first and the last packet received; and it ends although the flood does not."""
    log_udp(pair)
    over = threading.Event()

    def send() -> None:
        while not over.is_set():
            pair.send_udp(200)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with nfl.open_group(
            2, netns=pair.fw.path, socket_buffer=socket_buffer, max_socket_buffer=socket_buffer
        ) as group:
            numbers: list[int] = []
            for batch in group.batches():
                numbers += batch.values("oob.seq.local")
                if len(numbers) > 1000:
                    group.stop()
            stats = group.stats
    finally:
        over.set()
        sender.join()
    assert len(numbers) == stats.received
    assert numbers[-1] + 1 == stats.received + stats.gap
    assert numbers == sorted(set(numbers))
    if socket_buffer > 1 << 20:
        assert stats.gap == 0


def test_stop_ends_a_waiting_thread(netns: Netns) -> None:
    with nfl.open_group(2, netns=netns.path) as group:
        counts: list[int] = []
        reader = threading.Thread(target=lambda: counts.append(packets_in(group.batches())))
        reader.start()
        group.stop()
        reader.join(10)
        assert not reader.is_alive()
        assert counts == [0]


def test_stop_in_the_midst_of_an_iteration(pair: Pair) -> None:
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path) as group:
        pair.send_udp(23)
        total = 0
        for packet in group:
            total += 1
            if packet.seq_local == 3:
                group.stop()
    assert total == 23


def test_after_the_stop_there_is_nothing(pair: Pair) -> None:
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path) as group:
        group.stop()
        group.stop()
        assert list(group.batches()) == []
        assert list(group) == []
        pair.send_udp(1)
        assert list(group.batches()) == []
        with nfl.open_group(2, netns=pair.fw.path) as successor:
            pair.send_udp(1)
            assert packets_in(collect(successor, 1)) == 1


def test_close(netns: Netns) -> None:
    group = nfl.open_group(7, netns=netns.path)
    group.close()
    group.close()
    group.stop()
    for use in (group.fileno, group.receive, lambda: next(group.batches()), lambda: next(iter(group))):
        with pytest.raises(ValueError, match=r"^group 7 is closed; open it again with open_group$"):
            use()
    assert group.stats.received == 0


def test_names_are_not_those_of_another_namespace(pair: Pair) -> None:
    """The name of the namespace leads elsewhere by the time that names of interfaces are asked for."""
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path) as group:
        pair.send_udp(1)
        (batch,) = collect(group, 1)
        subprocess.run(["mount", "--bind", pair.peer.path, pair.fw.path], check=True)
        try:
            assert batch.values("oob.in") in ([None], [""])
        finally:
            subprocess.run(["umount", pair.fw.path], check=True)
        assert len(batch.values("oob.ifindex_in")) == 1


@pytest.mark.parametrize("packets", [False, True])
def test_close_ends_a_waiting_thread(netns: Netns, packets: bool) -> None:
    """In another thread a reader waits for packets that never come; its number may be another file's at once."""
    for _ in range(20):
        group = nfl.open_group(2, netns=netns.path)
        ended: list[object] = []

        def read(group: nfl.Group = group, ended: list[object] = ended) -> None:
            ended.append(list(group if packets else group.batches()))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        while "poll" not in Path(f"/proc/self/task/{reader.native_id}/wchan").read_text() and not ended:
            time.sleep(0.001)
        group.close()
        reader.join(10)
        assert not reader.is_alive()
        assert ended == [[]]


def test_close_in_the_midst_of_an_iteration(pair: Pair) -> None:
    """What was received with the last packet is still there; what was not is discarded."""
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path) as group:
        pair.send_udp(23)
        batches = group.batches()
        first = len(next(batches))
        group.close()
        assert list(batches) == []
        assert group.stats.received == first


def test_close_while_a_thread_reads_a_flood(pair: Pair) -> None:
    """Never is a descriptor read that is closed already."""
    log_udp(pair)
    over = threading.Event()

    def send() -> None:
        while not over.is_set():
            pair.send_udp(100)

    sender = threading.Thread(target=send)
    sender.start()
    raised: list[BaseException] = []
    try:
        for _ in range(20):
            group = nfl.open_group(2, netns=pair.fw.path, profile="latency")
            some = threading.Event()

            def read(group: nfl.Group = group, some: threading.Event = some) -> None:
                try:
                    for _ in group.batches():
                        some.set()
                except BaseException as error:
                    raised.append(error)

            reader = threading.Thread(target=read)
            reader.start()
            assert some.wait(10)
            group.close()
            reader.join(10)
            assert not reader.is_alive()
    finally:
        over.set()
        sender.join()
    assert not raised


def test_interrupts(netns: Netns) -> None:
    """Opened and closed: no descriptor is left, the thread is where it was, and the group is free."""

    def use() -> None:
        with nfl.open_group(2, netns=netns.path) as group:
            group.receive()

    def check() -> object:
        with entered(netns.path):
            return state(), 2 in procfs.bound_groups()

    interrupt_everywhere(use, least=100, check=check)


# -- loss -------------------------------------------------------------------------------------------------------------


def overflow(pair: Pair, group: nfl.Group, profile: str = "default", count: int = 20_000) -> None:
    """Send more than the socket buffer takes while no process reads, then read, then show the group the next number."""
    flushed = PROFILES[profile].qtimeout / 100 + 0.1
    for packets in (count, 1):
        pair.send_udp(packets)
        while next(group.batches(timeout=flushed)):
            pass


@contextlib.contextmanager
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Hear the program's notices, also where another test has told them not to spread."""
    level = log.level
    log.addHandler(caplog.handler)
    log.setLevel(NOTICE)
    try:
        yield
    finally:
        log.removeHandler(caplog.handler)
        log.setLevel(level)


@pytest.mark.parametrize("profile", PROFILES)
def test_loss_is_exact(pair: Pair, profile: str, caplog: pytest.LogCaptureFixture) -> None:
    log_udp(pair)
    with nfl.open_group(
        2, netns=pair.fw.path, profile=profile, socket_buffer=65_536, max_socket_buffer=65_536
    ) as group:
        before = group.socket_buffer
        with heard(caplog):
            overflow(pair, group, profile)
        stats = group.stats
        assert stats.received + stats.gap == pair.fw.counter("c") == 20_001
        assert stats.gap > 10_000
        assert stats.overrun > 0
        assert stats.unresolved == 0
        assert group.socket_buffer == before, "the ceiling was passed"
    assert "group 2: the kernel lost packets, the socket buffer was full" in caplog.text
    assert f"(is {before}, its ceiling bytes)" in caplog.text


def test_the_socket_buffer_grows_with_each_overrun(pair: Pair) -> None:
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, socket_buffer=65_536, max_socket_buffer=1 << 20) as group:
        sizes = [group.socket_buffer]
        for _ in range(5):
            overflow(pair, group)
            sizes.append(group.socket_buffer)
        stats = group.stats
        assert stats.received + stats.gap == pair.fw.counter("c") == 5 * 20_001
    assert sizes == sorted(sizes)
    assert sizes[1] > sizes[0]
    assert sizes[-1] == sizes[-2] >= 1 << 20, "it does not end at the ceiling"


def test_the_default_socket_buffer_loses_nothing(pair: Pair) -> None:
    """Nobody reads during the flood."""
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path) as group:
        pair.send_udp(30_011)
        group.stop()
        assert packets_in(group.batches()) == 30_011
        assert (group.stats.gap, group.stats.overrun) == (0, 0)


def test_nobody_else_can_send_to_the_socket(pair: Pair) -> None:
    """A netlink message of another process must not pass for a packet."""
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path) as group:
        portid = settings(pair.fw).portid
        with pair.fw.enter():
            forger = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
        # The socket is connected to the kernel, which then keeps everybody else away from it.
        with forger, pytest.raises(ConnectionRefusedError):
            forger.sendto(oracle.build_message(b"forged", seq=0), (portid, 0))
        pair.send_udp(1)
        ((packet,),) = collect(group, 1)
        assert packet.dport == 9
        assert (group.stats.received, group.stats.gap) == (1, 0)


def test_what_another_process_says_of_interfaces_is_ignored_and_counted(pair: Pair) -> None:
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path) as group:
        pair.send_udp(1)
        (batch,) = collect(group, 1)
        ((index, name),) = batch.rows("oob.ifindex_in", "oob.in")
        pair.fw.forge(socket.NETLINK_ROUTE, link_message(index, "forged"), RTNLGRP_LINK)
        pair.send_udp(1)
        (batch,) = collect(group, 1)
        assert batch.values("oob.in") == [name]
        assert group.stats.foreign == 1


# -- errors -----------------------------------------------------------------------------------------------------------


def test_a_second_reader_is_told_who_reads(netns: Netns) -> None:
    with nfl.open_group(5, netns=netns.path):
        with pytest.raises(nfl.KernelError) as caught:
            nfl.open_group(5, netns=netns.path)
        portid = settings(netns, 5).portid
        command = Path("/proc/self/comm").read_text().strip()
        assert str(caught.value) == (
            f"bind group 5: Operation not permitted — group 5 is read by netlink port {portid} "
            f"(process {os.getpid()}, {command}); stop that reader or use another group"
        )
        assert isinstance(caught.value, OSError)
    nfl.open_group(5, netns=netns.path).close()


def test_a_reader_in_another_process(netns: Netns) -> None:
    code = f"""if True:
        import nflowlevel as nfl
        with nfl.open_group(5, netns={netns.path!r}):
            print("bound", flush=True)
            input()
    """
    with start_python(code) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        try:
            assert other.stdout.readline() == "bound\n"
            with pytest.raises(nfl.KernelError, match=rf"\(process {other.pid}, python3?.*\)"):
                nfl.open_group(5, netns=netns.path)
        finally:
            other.stdin.close()
    nfl.open_group(5, netns=netns.path).close()


_OPEN = """
import nflowlevel as nfl
try:
    nfl.open_group(5)
    print("open")
except nfl.KernelError as error:
    print(error)
"""


def test_missing_capability(netns: Netns) -> None:
    done = run_python(_OPEN, "setpriv", "--bounding-set", "-net_admin", netns=netns)
    assert done.stdout.startswith("bind group 5: Operation not permitted — CAP_NET_ADMIN is missing; run as root"), done


def test_missing_capability_in_a_user_namespace(netns: Netns) -> None:
    done = run_python(_OPEN, "unshare", "--user", "--map-root-user", netns=netns)
    wanted = "bind group 5: Operation not permitted — CAP_NET_ADMIN is missing in the user namespace that owns"
    assert done.stdout.startswith(wanted), done


@pytest.mark.kernel
def test_an_ordinary_user_in_namespaces_of_his_own() -> None:
    """No root is needed where the network namespace is the user's (facts: `unshare -Urn`)."""
    code = """if True:
        import socket, subprocess
        import nflowlevel as nfl
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["nft", "add table ip t; add chain ip t i { type filter hook input priority 0; };"
                        "add rule ip t i udp dport 9 log group 5"], check=True)
        with nfl.open_group(5) as group:
            for number in range(23):
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))
            group.stop()
            print(sum(map(len, group.batches())), group.socket_buffer > 0)
    """
    done = run_python(code, "unshare", "--user", "--map-root-user", "--net")
    assert done.stdout == "23 True\n", done
    assert "the socket buffer has" in done.stderr, "the smaller socket buffer is not mentioned"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": -1}, "group must be 0 to 65535, not -1"),
        ({"group": 65536}, "group must be 0 to 65535, not 65536"),
        ({"group": 1, "label": 300}, "label must be 0 to 255, not 300"),
        ({"group": 1, "copy_mode": "all"}, "unknown copy_mode 'all'; available: meta, none, packet"),
        (
            {"group": 1, "profile": "latence"},
            "unknown profile 'latence' — did you mean 'latency'?",
        ),
    ],
)
def test_wrong_arguments(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message.replace("?", r"\?") + "$"):
        nfl.open_group(**options)  # type: ignore[arg-type]


def test_an_unknown_option() -> None:
    with pytest.raises(TypeError, match="qthresh"):
        nfl.open_group(1, qthresh=5)


def test_a_group_that_cannot_be_opened_leaks_nothing(netns: Netns) -> None:
    with nfl.open_group(5, netns=netns.path):
        before = os.listdir("/proc/self/fd")
        for _ in range(10):
            with pytest.raises(nfl.KernelError):
                nfl.open_group(5, netns=netns.path)
        assert os.listdir("/proc/self/fd") == before
