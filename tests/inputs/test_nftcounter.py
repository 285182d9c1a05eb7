# SPDX-License-Identifier: GPL-2.0-or-later
"""NFTCOUNTER polls when it is time, and its records say what rules counted."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.binding.nftables import NamedObjects
from nflowlevel.errors import ConfigError, KernelError
from nflowlevel.inputs.nftcounter import NFTCOUNTER, NFTCOUNTEROptions
from nflowlevel.plugin import polling
from nflowlevel.records.batch import Batch
from nflowlevel.records.filters import FilterError
from nflowlevel.records.sums import SUM, Sum
from tests.fix_daemon import Daemon, config, records
from tests.fix_lines import no_descriptor_left
from tests.fix_netns import Netns, Pair
from tests.fix_plugins import stacks_of

RULES = """
table inet filter {
  counter ipv4.http { packets 3 bytes 77
  }
  quota q { over 1000 bytes used 5 bytes }
}
"""

Make = Callable[..., NFTCOUNTER]


@pytest.fixture
def make(netns: Netns) -> Iterator[Make]:
    """Return a function that opens inputs in the namespace `netns`."""
    inputs: list[NFTCOUNTER] = []

    def opened(**options: Any) -> NFTCOUNTER:
        each = NFTCOUNTER(
            "c", NFTCOUNTEROptions(network_namespace_path=netns.path, **{"pollinterval": 3600, **options})
        )
        each.open()
        inputs.append(each)
        return each

    with no_descriptor_left():
        yield opened
        for each in inputs:
            each.close()
            each.close()


class Clock:
    """Monotonic time that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(polling.time, "monotonic", lambda: self.now)


def polled(input_: NFTCOUNTER) -> Batch:
    input_.poll_now()
    return input_.receive()


def columns(batch: Batch) -> list[tuple[Any, ...]]:
    return batch.rows("sum.name", "sum.pkts", "sum.bytes", "sum.limit")


# What is read


def test_records(netns: Netns, make: Make) -> None:
    netns.nft(RULES)
    input_ = make()
    for _ in range(2):
        assert columns(polled(input_)) == [("inet.filter.ipv4.http", 3, 77, None), ("inet.filter.q", None, 5, 1000)]
    assert (input_.stats.received, input_.stats.polls, input_.stats.missed) == (4, 2, 0)


def test_records_are_sums(netns: Netns, make: Make) -> None:
    """As NFACCT's are: one filter, one kind of row for both."""
    netns.nft(RULES)
    batch = polled(make())
    assert batch.type is SUM
    assert repr(batch) == "<Batch of 2 sums>"
    counter, quota = batch
    assert isinstance(counter, Sum)
    assert (counter.name, counter.packets, counter.bytes, counter.timestamp) == ("inet.filter.ipv4.http", 3, 77, None)
    assert (quota.packets, quota.bytes, quota.get("sum.limit")) == (None, 5, 1000)  # type: ignore[attr-defined]
    assert repr(quota) == "<Sum 'inet.filter.q' bytes 5>"
    assert batch.where('packets > 2 && name ~ "inet.*"').values("name") == ["inet.filter.ipv4.http"]
    assert batch.where("sum.limit > 999 && !sum.pkts").values("name") == ["inet.filter.q"]
    nothing = batch[:0]
    assert batch.to_arrow().schema == nothing.to_arrow().schema
    with pytest.raises(FilterError, match=r"sums do not have 'tcp\.dport': it is a key of packets"):
        nothing.where("tcp.dport == 22")


def test_zerocounter(netns: Netns, make: Make) -> None:
    netns.nft(RULES)
    input_ = make(zerocounter=True)
    assert columns(polled(input_)) == [("inet.filter.ipv4.http", 3, 77, None), ("inet.filter.q", None, 5, 1000)]
    assert columns(polled(input_)) == [("inet.filter.ipv4.http", 0, 0, None), ("inet.filter.q", None, 5, 1000)]
    assert netns.counter("ipv4.http", "inet filter") == 0


def test_timestamp(netns: Netns, make: Make) -> None:
    netns.nft(RULES)
    before = time.time_ns() // 1000
    batch = polled(make(timestamp=True))
    times = set(batch.rows("oob.time.sec", "oob.time.usec"))
    ((second, usec),) = times
    assert before <= second * 10**6 + usec <= time.time_ns() // 1000
    assert batch.raw.time == (second, usec)
    assert polled(make()).values("oob.time.sec") == [None, None]


@pytest.mark.parametrize("timestamp", [False, True])
def test_keys(timestamp: bool) -> None:
    published = [
        key.name for key in NFTCOUNTER("c", NFTCOUNTEROptions(pollinterval=1, timestamp=timestamp)).published()
    ]
    expected = ["sum.name", "sum.pkts", "sum.bytes", "sum.limit"]
    assert published == [*expected, *(["oob.time.sec", "oob.time.usec"] if timestamp else [])]


@pytest.mark.parametrize("timestamp", [0, 1])
def test_its_time_is_written_as_nfaccts(netns: Netns, tmp_path: Path, timestamp: int) -> None:
    """One form for both: whole seconds, or with the option microseconds."""
    netns.nft(RULES)
    netns.run("nfacct", "add", "x")
    options = f"pollinterval=3600\ntimestamp={timestamp}"
    stacks = ("a:NFACCT,j:JSON", "n:NFTCOUNTER,k:JSON")
    files = [tmp_path / name for name in ("a.json", "n.json")]
    text = config(*stacks, a=options, n=options, j=f"file={files[0]}", k=f"file={files[1]}")
    with Daemon(tmp_path, text, netns=netns) as daemon:
        daemon.send(signal.SIGUSR2)
        times = [records(file, count)[0]["timestamp"] for file, count in zip(files, (1, 2), strict=True)]
    shapes = {re.sub("[0-9]", "0", time) for time in times}
    assert shapes == {"0000-00-00T00:00:00.000000+0000" if timestamp else "0000-00-00T00:00:00+0000"}


def test_nothing_to_read(make: Make) -> None:
    batch = polled(make())
    assert len(batch) == 0


def test_names_that_are_not_utf8(netns: Netns, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    netns.nft(RULES)
    input_ = make()
    assert input_._objects
    found = input_._objects.read()[0]
    odd = found._replace(identity=found.identity._replace(table=b"t\xff", name="ü x".encode()))
    monkeypatch.setattr(NamedObjects, "read", lambda _: [odd])
    assert columns(polled(input_)) == [("inet.t\udcff.ü x", 3, 77, None)]


# When


def test_polls_keep_to_their_grid(netns: Netns, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    netns.nft(RULES)
    clock = Clock(monkeypatch)
    input_ = make(pollinterval=10)
    assert input_.fileno() == -1
    assert input_.deadline == 1010
    for late in (0.0, 0.3, 9.9, 0.0):
        due = input_.deadline
        assert due is not None
        clock.now = due - 0.001
        assert not input_.receive()
        clock.now = due + late
        assert len(input_.receive()) == 2
        assert not input_.receive()
        assert input_.deadline == due + 10
    assert input_.stats.missed == 0


def test_polls_that_were_missed_are_not_made_up(netns: Netns, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    netns.nft(RULES)
    clock = Clock(monkeypatch)
    input_ = make(pollinterval=10)
    clock.now = 1057.0
    assert len(input_.receive()) == 2
    assert input_.deadline == 1060
    assert (input_.stats.missed, input_.stats.polls) == (4, 1)


def test_poll_now_leaves_the_grid(netns: Netns, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    netns.nft(RULES)
    clock = Clock(monkeypatch)
    input_ = make(pollinterval=10)
    clock.now = 1003.0
    input_.poll_now()
    assert input_.deadline is not None
    assert input_.deadline <= clock.now
    assert len(input_.receive()) == 2
    assert input_.deadline == 1010


def test_no_poll_at_stop(netns: Netns, make: Make) -> None:
    netns.nft(RULES)
    input_ = make(zerocounter=True)
    assert list(input_.drain()) == []
    assert netns.counter("ipv4.http", "inet filter") == 3


def test_kernel_that_refuses(netns: Netns, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    netns.nft(RULES)
    clock = Clock(monkeypatch)
    input_ = make(pollinterval=10)

    def refused(_: NamedObjects) -> None:
        raise KernelError("ask for nftables objects", 1)

    with monkeypatch.context() as patched:
        patched.setattr(NamedObjects, "read", refused)
        clock.now = 1010.0
        with pytest.raises(KernelError):
            input_.receive()
        # It is not asked in a loop, but when the next poll is due.
        assert input_.deadline == 1020
    clock.now = 1020.0
    assert len(input_.receive()) == 2
    assert (input_.stats.errors, input_.stats.missed, input_.stats.polls) == (1, 0, 1)
    with monkeypatch.context() as patched, no_descriptor_left():
        patched.setattr(NamedObjects, "read", refused)
        with pytest.raises(KernelError):
            make()


def test_open_again_after_close(netns: Netns, make: Make) -> None:
    netns.nft(RULES)
    input_ = make()
    input_.close()
    input_.open()
    assert len(polled(input_)) == 2


@pytest.mark.parametrize("text", ["", "pollinterval=0", "pollinterval=-1"])
def test_interval_is_mandatory_and_positive(text: str) -> None:
    with pytest.raises(ConfigError, match="pollinterval"):
        stacks_of(f"[global]\nstack=c:NFTCOUNTER,j:JSON\n[c]\n{text}\n[j]\nfile=-\n")


# In the daemon


def test_daemon(pair: Pair, tmp_path: Path) -> None:
    """Two stacks share the input: each gets each poll, those that SIGUSR2 asks for included."""
    chain = "chain i {\ntype filter hook input priority 0\nudp dport 9 counter name c\n}\n"
    pair.fw.nft("table inet t {\ncounter c { }\n" + chain + "}\n")
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    text = config(
        "c:NFTCOUNTER,one:JSON",
        "c:NFTCOUNTER,two:JSON",
        c="pollinterval=1\nzerocounter=1\ntimestamp=1",
        one=f"file={files[0]}",
        two=f"file={files[1]}",
    )
    with Daemon(tmp_path, text, netns=pair.fw) as daemon:
        pair.send_udp(23)
        daemon.send(signal.SIGUSR2)
        for file in files:
            (first,) = records(file, 1, lambda: daemon.stderr)
            assert (first["sum.name"], first["sum.pkts"], first["sum.bytes"]) == ("inet.t.c", 23, 23 * 48)
            assert first["timestamp"].startswith(time.strftime("%Y-%m-%dT", time.gmtime(first["oob.time.sec"])))
            assert "sum.limit" not in first
        pair.send_udp(46)
        found = records(files[0], 2, lambda: daemon.stderr)
        assert [record["sum.pkts"] for record in found] == [23, 46]
        descriptors = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        records(files[0], 3)
        assert len(os.listdir(f"/proc/{daemon.pid}/fd")) == descriptors
