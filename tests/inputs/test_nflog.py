# SPDX-License-Identifier: GPL-2.0-or-later
"""NFLOG: what its options make of a group in the kernel, and which keys it then publishes."""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.errors import KernelError
from nflowlevel.firewall import nf_log
from nflowlevel.inputs.nflog import NFLOG, NFLOGOptions
from nflowlevel.logs import NOTICE
from nflowlevel.readers.group import Group
from tests.fix_daemon import log_by_iptables, log_rule, wait_for
from tests.fix_netns import Netns, Pair
from tests.fix_nflog import NflogReader, bound_groups


@pytest.fixture
def opened() -> Iterator[Callable[..., NFLOG]]:
    """Opens inputs in a namespace; they are closed in the end."""
    made: list[NFLOG] = []

    def open_(netns: Netns, **options: Any) -> NFLOG:
        made.append(NFLOG("log1", NFLOGOptions(network_namespace_path=netns.path, **options)))
        made[-1].open()
        return made[-1]

    yield open_
    for each in made:
        each.close()


def settings(netns: Netns, group: int) -> tuple[int, int, int]:
    """Return copy mode, copy range and flush time of a group; net/netfilter/nfnetlink_log.c, seq_show."""
    with netns.enter():
        text = Path("/proc/thread-self/net/netfilter/nfnetlink_log").read_text()
    words = next(line.split() for line in text.splitlines() if int(line.split()[0]) == group)
    return int(words[3]), int(words[4]), int(words[5])


def received(nflog: NFLOG, count: int) -> list[Any]:
    """Return what comes, as dicts, until there are `count`."""
    found: list[Any] = []
    while len(found) < count:
        assert select.select([nflog], [], [], 20)[0], f"{len(found)} of {count} came"
        found += nflog.receive().to_dicts()
    assert len(found) == count
    return found


def test_the_defaults_copy_all_and_hold_nothing_back(pair: Pair, opened: Callable[..., NFLOG]) -> None:
    pair.fw.nft(log_rule(0xFFFF))
    nflog = opened(pair.fw, group=0xFFFF)
    assert settings(pair.fw, 0xFFFF) == (2, 65531, 5)  # in 1/100 s
    assert nflog.reader.socket_buffer == 128 << 20  # the kernel doubles it
    pair.send_udp(23, size=1400)
    found = received(nflog, 23)
    assert {packet["raw.pktlen"] for packet in found} == {1428}
    assert {packet["oob.prefix"] for packet in found} == {"pfx: "}


@pytest.mark.parametrize(("profile", "flush"), [("latency", 1), ("throughput", 25)])
def test_profiles(netns: Netns, opened: Callable[..., NFLOG], profile: str, flush: int) -> None:
    opened(netns, group=1, profile=profile)
    assert settings(netns, 1)[2] == flush


def test_flush_time(netns: Netns, opened: Callable[..., NFLOG]) -> None:
    opened(netns, group=1, netlink_qtimeout=77)
    assert settings(netns, 1)[2] == 77


def test_threshold(pair: Pair, opened: Callable[..., NFLOG]) -> None:
    """The kernel gathers so many packets, and then sends them together."""
    pair.fw.nft(log_rule(2))
    nflog = opened(pair.fw, group=2, netlink_qthreshold=10, netlink_qtimeout=6000)
    answers = nflog.stats.datagrams
    pair.send_udp(20)
    received(nflog, 20)
    assert nflog.stats.datagrams - answers == 2


def test_buffer_of_the_kernel(pair: Pair, opened: Callable[..., NFLOG]) -> None:
    """Fewer packets than the threshold, but more than it holds."""
    pair.fw.nft(log_rule(2))
    nflog = opened(pair.fw, group=2, nlbufsiz=4096, netlink_qthreshold=1000, netlink_qtimeout=6000)
    pair.send_udp(23, size=1400)
    assert sum(len(batch) for batch in nflog.drain()) == 23
    assert nflog.stats.datagrams > 5


@pytest.mark.parametrize(
    ("options", "mode", "length"),
    [
        ({"copy_range": 100}, 2, 100),
        ({"copy_mode": "packet"}, 2, 1028),
        ({"copy_mode": "meta"}, 1, None),
        ({"copy_mode": "none"}, 0, None),
    ],
)
def test_what_is_copied(
    pair: Pair, opened: Callable[..., NFLOG], options: dict[str, Any], mode: int, length: int | None
) -> None:
    pair.fw.nft(log_rule(2))
    nflog = opened(pair.fw, group=2, **options)
    assert settings(pair.fw, 2)[0] == mode
    pair.send_udp(5, size=1000)
    assert {packet.get("raw.pktlen") for packet in received(nflog, 5)} == {length}


def test_label(pair: Pair, opened: Callable[..., NFLOG]) -> None:
    pair.fw.nft(log_rule(2))
    nflog = opened(pair.fw, group=2, numeric_label=255)
    pair.send_udp(3)
    assert [packet["raw.label"] for packet in received(nflog, 3)] == [255] * 3


def test_sequence_numbers(pair: Pair, opened: Callable[..., NFLOG]) -> None:
    pair.fw.nft(log_rule(2, 3))
    first = opened(pair.fw, group=2, seq_local=True, seq_global=True)
    second = opened(pair.fw, group=3, seq_global=True)
    pair.send_udp(5)
    one, two = received(first, 5), received(second, 5)
    assert [packet["oob.seq.local"] for packet in one] == [0, 1, 2, 3, 4]
    numbers = sorted(packet["oob.seq.global"] for packet in [*one, *two])
    assert numbers == list(range(numbers[0], numbers[0] + 10))


@pytest.mark.parametrize("name", ["seq_local", "seq_global", "attach_conntrack"])
def test_keys_that_were_not_asked_for_are_not_published(name: str) -> None:
    key = {"seq_local": "oob.seq.local", "seq_global": "oob.seq.global", "attach_conntrack": "ct"}[name]
    without = {each.name for each in NFLOG("x", NFLOGOptions()).published()}
    asked: dict[str, Any] = {name: True}
    with_ = {each.name for each in NFLOG("x", NFLOGOptions(**asked)).published()}
    assert with_ - without == {key}


def test_conntrack_entries_come_or_it_is_said(
    pair: Pair, opened: Callable[..., NFLOG], caplog: pytest.LogCaptureFixture
) -> None:
    """A kernel without the glue (ctnetlink) refuses; as in ulogd2 that is logged, and the packets come all the same."""
    pair.fw.nft(log_rule(2).replace("udp dport 9", "ct state new,established udp dport 9"))
    caplog.set_level(logging.WARNING, logger="nflowlevel")
    nflog = opened(pair.fw, group=2, attach_conntrack=True)
    refused = f"attach conntrack entries to group 2: {os.strerror(errno.EOPNOTSUPP)}" in caplog.text
    pair.send_udp(1)
    (packet,) = received(nflog, 1)
    assert ("ct" in packet) is not refused


def test_a_refusal_of_conntrack_entries_is_a_warning(
    netns: Netns, opened: Callable[..., NFLOG], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Group) -> None:
        raise KernelError("attach conntrack entries to group 2", errno.EOPNOTSUPP)

    monkeypatch.setattr(Group, "attach_conntrack", refuse)
    caplog.set_level(logging.WARNING, logger="nflowlevel")
    opened(netns, group=2, attach_conntrack=True)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith("Operation not supported; packets come without `ct`")


# -- taking over the kernel's logging ---------------------------------------------------------------------------------


def loggers(netns: Netns) -> dict[str, str | None]:
    """Return the packet logger of IPv4, IPv6 and bridge."""
    families = nf_log.families(netns.name)
    return {name: families[name].active for name in ("ipv4", "ipv6", "bridge")}


def test_group_0_takes_over_and_others_do_not(netns: Netns, opened: Callable[..., NFLOG]) -> None:
    before = loggers(netns)
    opened(netns, group=1)
    assert loggers(netns) == before
    opened(netns, group=0)
    assert set(loggers(netns).values()) == {"nfnetlink_log"}


@pytest.mark.parametrize("options", [{"group": 0}, {"group": 1, "bind": True}])
def test_who_leaves_says_that_the_kernels_logger_stays(
    netns: Netns, opened: Callable[..., NFLOG], caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    caplog.set_level(NOTICE, logger="nflowlevel")
    nflog = opened(netns, **options)
    assert "stays" not in caplog.text
    nflog.close()
    nflog.close()
    assert set(loggers(netns).values()) == {"nfnetlink_log"}
    assert caplog.text.count("nfnetlink_log stays the kernel's packet logger; `nflowlevel nf-log` shows") == 1


def test_who_took_no_logger_leaves_without_a_word(
    netns: Netns, opened: Callable[..., NFLOG], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(NOTICE, logger="nflowlevel")
    opened(netns, group=1).close()
    assert "stays" not in caplog.text


@pytest.mark.parametrize("unbind", [True, False])
def test_bind_takes_over(netns: Netns, opened: Callable[..., NFLOG], unbind: bool) -> None:
    opened(netns, group=5, bind=True, unbind=unbind)
    assert set(loggers(netns).values()) == {"nfnetlink_log"}


# -- the socket -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "first", "most"),
    [
        ({}, 64 << 20, 256 << 20),
        ({"netlink_socket_buffer_size": 1 << 20}, 1 << 20, 256 << 20),  # D-N02: applied without a maximum
        ({"netlink_socket_buffer_size": 1 << 20, "netlink_socket_buffer_maxsize": 1 << 20}, 1 << 20, 1 << 20),
        ({"netlink_socket_buffer_maxsize": 128 << 20}, 64 << 20, 128 << 20),
        ({"netlink_socket_buffer_size": 217088, "netlink_socket_buffer_maxsize": 1085440}, 217088, 1085440),
    ],
)
def test_socket_buffer(
    netns: Netns, opened: Callable[..., NFLOG], options: dict[str, int], first: int, most: int
) -> None:
    group = opened(netns, group=1, **options).reader
    assert group.socket_buffer == 2 * first
    assert group.max_socket_buffer == most


def test_loss_is_exact_and_the_buffer_grows(pair: Pair, opened: Callable[..., NFLOG]) -> None:
    pair.fw.nft(log_rule(2))
    size = {"netlink_socket_buffer_size": 65536, "netlink_socket_buffer_maxsize": 262144}
    nflog = opened(pair.fw, group=2, netlink_qthreshold=1, **size)
    pair.send_udp(2000, size=1200)
    count = sum(len(batch) for batch in nflog.drain())
    stats = nflog.stats
    assert stats.received == count
    assert stats.overrun > 0
    assert nflog.reader.socket_buffer == 262144
    # What was lost after the last packet received has no number; then only the datagrams are known.
    assert stats.gap + stats.unresolved + count == pair.fw.counter("c")


def test_bufsize_is_accepted(pair: Pair, opened: Callable[..., NFLOG]) -> None:
    """D-N03: smaller than a message, ulogd2 loses it."""
    pair.fw.nft(log_rule(2))
    nflog = opened(pair.fw, group=2, bufsize=100)
    pair.send_udp(3, size=1400)
    received(nflog, 3)


def test_a_group_that_is_taken(netns: Netns, opened: Callable[..., NFLOG]) -> None:
    with NflogReader(netns, 7), pytest.raises(KernelError, match=r"group 7 is read by netlink port \d+") as info:
        opened(netns, group=7)
    assert info.value.errno == errno.EPERM
    assert f"(process {os.getpid()}, " in str(info.value)


def test_a_prefix_of_any_bytes(pair: Pair, opened: Callable[..., NFLOG]) -> None:
    log_by_iptables(pair.fw, 2, b'gr\xfc\xdfe\t"x"')
    nflog = opened(pair.fw, group=2)
    pair.send_udp(1)
    assert received(nflog, 1)[0]["oob.prefix"] == 'gr\ufffd\ufffde\t"x"'


# -- its life ---------------------------------------------------------------------------------------------------------


def test_drain_gives_all_and_gives_the_group_up(pair: Pair, opened: Callable[..., NFLOG]) -> None:
    pair.fw.nft(log_rule(2))
    nflog = opened(pair.fw, group=2, netlink_qthreshold=1000, netlink_qtimeout=6000)
    pair.send_udp(4999)
    assert sum(len(batch) for batch in nflog.drain()) == 4999
    assert bound_groups(pair.fw) == {}
    assert list(nflog.drain()) == []


def test_it_may_be_opened_again(pair: Pair, opened: Callable[..., NFLOG]) -> None:
    pair.fw.nft(log_rule(2))
    nflog = opened(pair.fw, group=2)
    nflog.close()
    nflog.close()
    wait_for(lambda: not bound_groups(pair.fw), "the group is free")
    nflog.open()
    pair.send_udp(3)
    received(nflog, 3)


def test_pause_only_while_packets_come_fast(pair: Pair, opened: Callable[..., NFLOG]) -> None:
    pair.fw.nft(log_rule(2))
    nflog = opened(pair.fw, group=2)
    assert (nflog.pause, nflog.more) == (0, False)
    pair.send_udp(1)
    received(nflog, 1)
    assert nflog.pause == 0
    assert not nflog.receive()
    assert nflog.pause == 0


def test_conntracks_reasons_come_as_prefix_of_group_0(pair: Pair, opened: Callable[..., NFLOG]) -> None:
    """With nfnetlink_log active and invalid packets logged, conntrack's own messages are records of group 0."""
    pair.fw.nft("table ip t {\n chain c {\n type filter hook input priority 0\n ct state invalid counter\n }\n}\n")
    pair.fw.sysctl("net.netfilter.nf_conntrack_checksum", 0)
    nf_log.set_log_invalid("tcp", netns=pair.fw.name)
    nflog = opened(pair.fw, group=0)  # group 0 makes nfnetlink_log the logger
    syn_fin = 3
    segment = struct.pack(">HHIIBBHHH", 40000, 22, 3, 4, 5 << 4, syn_fin, 1024, 0, 0)
    with pair.peer.enter(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as tcp:
        tcp.sendto(segment, (pair.FW4, 0))
    (packet,) = received(nflog, 1)
    assert "invalid tcp flag combination" in str(packet["oob.prefix"])
    assert (packet["ip.saddr"], packet["tcp.dport"]) == (pair.PEER4, 22)
