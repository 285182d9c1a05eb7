# SPDX-License-Identifier: GPL-2.0-or-later
"""Quotas are told when they are reached, each once, and what was not read in time is counted."""

from __future__ import annotations

import os
import select
import threading
import time
from pathlib import Path

import pytest

from nflowlevel.accounting.events import QuotaEvents
from nflowlevel.accounting.objects import Accounting
from nflowlevel.accounting.table import Counter
from nflowlevel.binding._lib import lib
from tests.fix_acct import accounting, count_udp, counter_message
from tests.fix_netns import Netns, Pair

__all__ = ["accounting"]


def test_close_ends_a_waiting_thread(netns: Netns) -> None:
    with QuotaEvents(netns.path) as events:
        ended: list[object] = []
        reader = threading.Thread(target=lambda: ended.append(list(events)), daemon=True)
        reader.start()
        while "poll" not in Path(f"/proc/self/task/{reader.native_id}/wchan").read_text() and not ended:
            time.sleep(0.001)
        events.close()
        reader.join(10)
        assert not reader.is_alive()
        assert ended == [[]]


def test_a_quota_is_told_when_it_is_reached(pair: Pair) -> None:
    with Accounting(pair.fw.name) as accounting, accounting.quota_events() as events:
        accounting.create("p", packet_quota=3)
        accounting.create("b", byte_quota=100)
        accounting.create("plain")
        for name in ("p", "b", "plain"):
            count_udp(pair.fw, name)
        pair.send_udp(2)
        assert events.receive() == []
        pair.send_udp(1)
        assert select.select([events], [], [], 0)[0]
        reached = {each.name: each for each in events.receive()}
        assert reached["p"] == Counter("p", 3, 3 * 48, 3, 5, 1)
        assert (reached["b"].bytes, reached["b"].quota, reached["b"].over_quota) == (144, 100, True)
        pair.send_udp(2)
        assert events.receive() == [], "it is told once"
        accounting.get_and_zero("p")
        pair.send_udp(3)
        assert [each.name for each in events.receive()] == ["p"]
        assert events.lost == 0


def test_events_are_iterated(pair: Pair) -> None:
    with Accounting(pair.fw.name) as accounting, accounting.quota_events() as events:
        for name in "abc":
            accounting.create(name, packet_quota=1)
            count_udp(pair.fw, name)
        sender = threading.Timer(0.05, pair.send_udp, args=(1,))
        sender.start()
        stream = iter(events)
        assert sorted(next(stream).name for _ in range(3)) == ["a", "b", "c"]
        sender.join()


def test_events_that_found_no_room_are_counted(pair: Pair) -> None:
    with Accounting(pair.fw.name) as accounting, accounting.quota_events() as events:
        events._socket.socket.set_receive_buffer(1)
        for number in range(40):
            accounting.create(f"c{number}", packet_quota=1)
            count_udp(pair.fw, f"c{number}")
        pair.send_udp(1)
        received = events.receive()
        assert received
        assert events.lost
        assert len(received) + events.lost == 40


def test_what_another_process_says_is_ignored_and_counted(netns: Netns) -> None:
    with QuotaEvents(netns.path) as events:
        netns.forge(lib.NETLINK_NETFILTER, counter_message(b"forged", seq=0, flags=0), lib.NFNLGRP_ACCT_QUOTA)
        assert (events.receive(), events.foreign, events.malformed) == ([], 1, 0)


def test_events_close(accounting: Accounting) -> None:
    before = len(os.listdir("/proc/self/fd"))
    events = accounting.quota_events()
    events.close()
    events.close()
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ValueError, match="closed"):
        events.fileno()
