# SPDX-License-Identifier: GPL-2.0-or-later
"""NFACCT: when it polls, what it publishes, and that over polls, outages and restarts no packet is lost or doubled."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.accounting.events import QuotaEvents
from nflowlevel.accounting.objects import Accounting
from nflowlevel.binding._lib import lib
from nflowlevel.errors import ConfigError, KernelError
from nflowlevel.inputs.nfacct import NFACCT, NFACCTOptions
from nflowlevel.logs import log
from nflowlevel.plugin import polling
from nflowlevel.stacks.config import parse_text
from nflowlevel.stacks.stack import build
from tests.fix_acct import count_udp, counter_message, make_objects
from tests.fix_daemon import Daemon, config, lines_of, records, run, wait_for
from tests.fix_lines import no_descriptor_left
from tests.fix_netns import Netns, Pair
from tests.fix_receiver import Receiver

Sums = dict[str, tuple[int, int]]


class Clock:
    """The monotonic clock, set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(polling, "time", self)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def opened(netns: Netns, clock: Clock) -> Iterator[NFACCT]:
    """An input that polls every 2 seconds of the clock, in a namespace of its own."""
    with no_descriptor_left():
        input_ = NFACCT("a", NFACCTOptions(pollinterval=2, network_namespace_path=netns.path))
        input_.open()
        yield input_
        input_.close()
        input_.close()


def sums(records: list[dict[str, Any]]) -> Sums:
    """Return all that records say was counted, by name."""
    total: Sums = {}
    for record in records:
        packets, size = total.get(record["sum.name"], (0, 0))
        total[record["sum.name"]] = packets + record["sum.pkts"], size + record["sum.bytes"]
    return total


# -- options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("", "pollinterval is mandatory"),
        ("pollinterval=0", "pollinterval=0: must be at least 1"),
        ("pollinterval=-1", "must be at least 1"),
        ("pollinterval=2\nzerocounter=x", "zerocounter=x"),
        ("pollintervall=2", "did you mean 'pollinterval'?"),
    ],
)
def test_options_that_are_refused(section: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace("?", r"\?")):
        build(parse_text(config("a:NFACCT,j:JSON", a=section, j="file=/dev/null")))


def test_the_seeds_configuration_is_read() -> None:
    (stack,) = build(parse_text(config("a:NFACCT,j:JSON", a="pollinterval = 2", j="file=/dev/null")))
    options = stack.source.input.options
    assert (options.pollinterval, options.zerocounter, options.timestamp) == (2, True, False)


def test_what_is_published() -> None:
    def names(*, timestamp: bool = False) -> list[str]:
        return [key.name for key in NFACCT("a", NFACCTOptions(pollinterval=1, timestamp=timestamp)).published()]

    assert names() == ["sum.name", "sum.pkts", "sum.bytes"]
    assert names(timestamp=True) == ["sum.name", "sum.pkts", "sum.bytes", "oob.time.sec", "oob.time.usec"]


# -- when it polls ------------------------------------------------------------------------------------------------


def test_the_first_poll_comes_after_one_interval(netns: Netns, opened: NFACCT, clock: Clock) -> None:
    with Accounting(netns.name) as accounting:
        accounting.create("a", packets=23, bytes=1288)
        assert opened.deadline == 1002
        assert not opened.receive(), "the loop asks at the start"
        clock.now = 1001.999
        assert not opened.receive()
        clock.now = 1002.0
        assert opened.receive().rows("sum.name", "sum.pkts", "sum.bytes") == [("a", 23, 1288)]
        assert opened.deadline == 1004
        assert not opened.receive()
        assert accounting.get("a").packets == 0


def test_polls_keep_to_the_grid(opened: NFACCT, clock: Clock) -> None:
    for now, following in ((1002.7, 1004), (1004.1, 1006), (1005.9, 1006), (1006, 1008)):
        clock.now = now
        opened.receive()
        assert opened.deadline == following
    assert (opened.stats.polls, opened.stats.missed) == (3, 0)


def test_missed_polls_are_not_made_up(opened: NFACCT, clock: Clock) -> None:
    clock.now = 1009.5
    opened.receive()
    opened.receive()
    assert opened.deadline == 1010
    assert (opened.stats.polls, opened.stats.missed) == (1, 3)


def test_poll_now_leaves_the_grid(netns: Netns, opened: NFACCT, clock: Clock) -> None:
    with Accounting(netns.name) as accounting:
        accounting.create("a", packets=23)
    clock.now = 1000.5
    opened.poll_now()
    assert opened.deadline is not None
    assert opened.deadline <= clock.now
    assert opened.receive().values("sum.pkts") == [23]
    assert opened.deadline == 1002
    assert not opened.receive()
    clock.now = 1002.5
    opened.poll_now()
    opened.receive()
    assert (opened.stats.polls, opened.stats.missed) == (2, 0), "a poll that is due as well is the same one"


def test_a_poll_that_fails_is_made_at_the_next_time(
    netns: Netns, opened: NFACCT, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Accounting(netns.name) as accounting:
        accounting.create("a", packets=23)

    def fail(*_: object) -> None:
        raise KernelError("list accounting objects", errno.ENOMEM)

    clock.now = 1002
    with monkeypatch.context() as patch:
        patch.setattr(Accounting, "dump", fail)
        with pytest.raises(KernelError):
            opened.receive()
    assert (opened.stats.polls, opened.stats.errors, opened.deadline) == (0, 1, 1004)
    assert not opened.receive()
    clock.now = 1004
    assert opened.receive().values("sum.pkts") == [23]


# -- what it publishes --------------------------------------------------------------------------------------------


def test_without_zerocounter_totals_are_published(netns: Netns, clock: Clock) -> None:
    options = NFACCTOptions(pollinterval=1, zerocounter=False, timestamp=True, network_namespace_path=netns.path)
    input_ = NFACCT("a", options)
    with Accounting(netns.name) as accounting:
        accounting.create("a", packets=23)
        input_.open()
        for _ in range(2):
            input_.poll_now()
            (row,) = input_.receive().rows("sum.name", "sum.pkts", "sum.bytes", "oob.time.sec", "oob.time.usec")
            assert row[:3] == ("a", 23, 0)
            assert abs(row[3] + row[4] / 1e6 - time.time()) < 10
        assert accounting.get("a").packets == 23
    input_.close()


def test_nothing_is_read_at_the_end(netns: Netns, opened: NFACCT) -> None:
    with Accounting(netns.name) as accounting:
        accounting.create("a", packets=23)
        assert [*opened.drain()] == []
        opened.close()
        assert accounting.get("a").packets == 23


def test_it_may_be_opened_again(netns: Netns, opened: NFACCT, clock: Clock) -> None:
    opened.open()
    clock.now += 5
    opened.open()
    assert opened.deadline == 1007


def test_what_goes_wrong_in_a_poll_is_counted_and_said(
    netns: Netns, opened: NFACCT, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Accounting(netns.name) as accounting:
        accounting.create("a", packets=23)
    dump_and_zero = Accounting.dump_and_zero

    def partly(accounting: Accounting) -> object:
        table = dump_and_zero(accounting)
        table.recovered, table.malformed, table.error = 2, 3, "Cannot allocate memory"
        return table

    monkeypatch.setattr(Accounting, "dump_and_zero", partly)
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.INFO)
    opened.poll_now()
    assert opened.receive().values("sum.pkts") == [23], "what was zeroed is delivered"
    stats = opened.stats
    assert (stats.received, stats.recovered, stats.malformed, stats.errors) == (1, 2, 3, 1)
    for text in (
        "1 objects, then Cannot allocate memory",
        "3 messages of the kernel",
        "2 objects may lack packets that arrived",
    ):
        assert text in caplog.text


def test_quotas_are_named_in_the_log(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.INFO)
    options = NFACCTOptions(pollinterval=600, network_namespace_path=pair.fw.path)
    input_ = NFACCT("a", options)
    input_.open()
    with Accounting(pair.fw.name) as accounting:
        for number in range(12):
            accounting.create(f"c{number}", packet_quota=1)
            count_udp(pair.fw, f"c{number}")
        pair.send_udp(2)
        assert not input_.receive()
    assert input_.stats.quotas == 12
    assert caplog.messages[0] == "a:NFACCT: 'c0' has reached its quota of 1 packets: 1 packets, 48 bytes"
    assert caplog.messages[10:] == ["a:NFACCT: 2 more objects have reached their quota"]
    input_.close()


def test_lost_notifications_are_said(
    opened: NFACCT, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(QuotaEvents, "lost", 5)
    opened.receive()
    opened.receive()
    assert opened.stats.quotas_lost == 5
    assert caplog.messages == ["a:NFACCT: 5 notifications of reached quotas were lost so far"]


def test_what_the_sockets_of_one_after_the_other_have_counted_adds_up(netns: Netns, opened: NFACCT) -> None:
    """As where a namespace is deleted, and the next of its name followed."""
    forged = counter_message(b"forged", seq=0, flags=0)
    for sent in (2, 3):
        for _ in range(sent):
            netns.forge(lib.NETLINK_NETFILTER, forged, lib.NFNLGRP_ACCT_QUOTA)
        opened.receive()
        opened.receive()
        opened.close()
        opened.open()
    assert opened.stats.foreign == 5
    assert str(opened.stats).endswith(", foreign 5")


# -- in the daemon ------------------------------------------------------------------------------------------------


def poll(daemon: Daemon, out: Path, count: int) -> list[dict[str, Any]]:
    """Make the daemon poll now; return all records, once there are `count`."""
    daemon.send(signal.SIGUSR2)
    return records(out, count, lambda: daemon.stderr)


def test_it_polls_by_itself_and_at_usr2(pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    with Accounting(pair.fw.name) as accounting:
        accounting.create("ipv4.http")
        accounting.create("unused")
    count_udp(pair.fw, "ipv4.http")
    text = config("a:NFACCT,j:JSON", a="pollinterval=1", j=f"file={out}")
    with Daemon(tmp_path, text, netns=pair.fw) as daemon:
        pair.send_udp(23)
        found = records(out, 2, lambda: daemon.stderr)
        daemon.stop()
    assert sums(found) == {"ipv4.http": (23, 23 * 48), "unused": (0, 0)}
    assert set(found[0]) == {"timestamp", "dvc", "sum.name", "sum.pkts", "sum.bytes"}
    assert "." not in found[0]["timestamp"], "no fraction without `timestamp`"
    assert "a:NFACCT: received 2, polls 1" in daemon.stderr


def test_every_stack_gets_the_time_and_usr2_kills_nobody(pair: Pair, tmp_path: Path) -> None:
    """D-A01 and D-A02: in ulogd2 all stacks but the first get time 0, and SIGUSR2 is a segmentation fault."""
    with Accounting(pair.fw.name) as accounting:
        accounting.create("a", packets=5)
    out, other = tmp_path / "out.json", tmp_path / "other.json"
    sections = {"a": "pollinterval=600\ntimestamp=1", "j": f"file={out}", "k": f"file={other}"}
    with Daemon(tmp_path, config("a:NFACCT,j:JSON", "a:NFACCT,k:JSON", **sections), netns=pair.fw) as daemon:
        for count in (1, 2):
            first, second = poll(daemon, out, count), records(other, count)
            assert first == second
            for record in first:
                assert abs(record["oob.time.sec"] - time.time()) < 30
                assert record["timestamp"].endswith(f".{record['oob.time.usec']:06}+0000")
        daemon.stop()
    assert [record["sum.pkts"] for record in lines_of(out)] == [5, 0]


def test_over_polls_and_restarts_the_sum_is_the_kernels(pair: Pair, tmp_path: Path) -> None:
    """Five daemons after one another, several polls each, packets always; some are never polled by the one they met."""
    out = tmp_path / "out.json"
    with Accounting(pair.fw.name) as accounting:
        made = make_objects(accounting, 600)
        accounting.create("udp")
        count_udp(pair.fw, "udp")
        text = config("a:NFACCT,j:JSON", a="pollinterval=600", j=f"file={out}")
        lines = sent = 0
        for _ in range(5):
            with Daemon(tmp_path, text, netns=pair.fw) as daemon:
                for _ in range(3):
                    pair.send_udp(11)
                    lines += 601
                    poll(daemon, out, lines)
                    pair.send_udp(6)
                    sent += 17
                daemon.stop()
            pair.send_udp(1)
            sent += 1
        rest = accounting.get("udp")
    total = sums(lines_of(out))
    packets, size = total.pop("udp")
    assert rest.packets == 7
    assert (packets + rest.packets, size + rest.bytes) == (sent, sent * 48)
    assert total == made


def test_while_the_target_is_away_counts_wait_for_it(pair: Pair, tmp_path: Path) -> None:
    """D-A03: ulogd2 has zeroed the kernel's counters and lost what it could not send."""
    path = tmp_path / "socket"
    accounting = Accounting(pair.fw.name)
    accounting.create("udp")
    count_udp(pair.fw, "udp")
    text = config("a:NFACCT,j:JSON", a="pollinterval=600", j=f"mode=unix\nfile={path}")
    with accounting, Daemon(tmp_path, text, netns=pair.fw) as daemon:
        for number in range(1, 4):
            pair.send_udp(10)
            daemon.send(signal.SIGUSR2)
            wait_for(lambda: not accounting.get("udp").packets, "the counter is zeroed")
            daemon.send(signal.SIGUSR1)
            daemon.says(f"records {number}, written 0, pending {number}")
        receiver = Receiver("unix", tmp_path, address=str(path))
        try:
            wait_for(lambda: receiver.data.count(b"\n") == 3, "the lines that waited")
            pair.send_udp(5)
            daemon.send(signal.SIGUSR2)
            wait_for(lambda: receiver.data.count(b"\n") == 4, "a line")
            found = [json.loads(line) for line in receiver.data.splitlines()]
        finally:
            receiver.stop()
        daemon.stop()
    assert [record["sum.pkts"] for record in found] == [10, 10, 10, 5]


def test_in_another_namespace_as_an_ordinary_user(pair: Pair, tmp_path: Path) -> None:
    """It cannot enter that namespace again, so it finds again what the kernel loses."""
    with Accounting(pair.fw.name) as accounting, tempfile.TemporaryDirectory() as directory:
        made = make_objects(accounting, 1000)
        os.chmod(directory, 0o777)
        out = Path(directory, "out.json")
        text = config("a:NFACCT,j:JSON", a=f"pollinterval=600\nnetwork_namespace_path={pair.fw.path}", j=f"file={out}")
        with Daemon(tmp_path, text, "-u", "nobody") as daemon:
            found = poll(daemon, out, 1000)
            daemon.stop()
        assert sums(found) == made
        assert sum(accounting.dump().packets) == 0


def test_a_quota_is_logged_by_the_daemon(pair: Pair, tmp_path: Path) -> None:
    with Accounting(pair.fw.name) as accounting:
        accounting.create("guests", packet_quota=3)
    count_udp(pair.fw, "guests")
    text = config("loglevel=3", "a:NFACCT,j:JSON", a="pollinterval=600", j=f"file={tmp_path / 'out.json'}")
    with Daemon(tmp_path, text, netns=pair.fw) as daemon:
        pair.send_udp(4)
        daemon.says("a:NFACCT: 'guests' has reached its quota of 3 packets: 3 packets, 144 bytes")
        daemon.stop()


def test_without_an_interval_it_does_not_start(tmp_path: Path) -> None:
    file = tmp_path / "f.conf"
    file.write_text(config("a:NFACCT,j:JSON", a="zerocounter=1", j="file=/dev/null"))
    done = run("-c", str(file))
    assert done.returncode == 78
    assert "pollinterval is mandatory" in done.stderr
