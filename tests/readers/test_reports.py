# SPDX-License-Identifier: GPL-2.0-or-later
"""Reporters of all kinds: many at once, split writes, wrong lengths, those who hang, leave, or never end."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import resource
import select
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nflowlevel.binding._lib import lib
from nflowlevel.logs import log
from nflowlevel.readers import reports
from nflowlevel.readers.reports import Reports
from tests.corpus import by_name, frames
from tests.fix_reports import (
    APP_NAME,
    FULL,
    MARKER,
    PREFIX,
    SECONDS,
    STATE,
    USER_ID,
    full,
    is_disconnected,
    meant,
    option,
    received,
    report,
)

UDP = by_name("udp4").payload


class Stage:
    """A listening socket, those who read there, and those who connect."""

    def __init__(self, max_clients: int = 100) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.listener.bind("")  # the kernel chooses a name that is no file
        self.listener.listen(4096)
        self.reports = Reports(self.listener, "u:UNIXSOCK", max_clients=max_clients)
        self.reporters: list[socket.socket] = []

    def connect(self) -> socket.socket:
        reporter = socket.socket(socket.AF_UNIX)
        reporter.connect(self.listener.getsockname())
        self.reporters.append(reporter)
        return reporter

    def connect_and_write(self, data: bytes) -> socket.socket:
        reporter = self.connect()
        reporter.sendall(data)
        return reporter

    def read(self) -> list[dict[str, Any]]:
        """Take in all that is there."""
        found: list[dict[str, Any]] = []
        while (batch := self.reports.receive()) or self.reports.more or self.is_readable():
            found += batch.to_dicts()
        return found

    def is_readable(self) -> bool:
        return bool(select.select([self.reports], [], [], 0)[0])

    @property
    def stats(self) -> dict[str, Any]:
        """Those that are not 0."""
        return {name: value for name, value in self.reports.stats.as_dict().items() if value}

    def close(self) -> None:
        self.reports.close()
        self.listener.close()
        for reporter in self.reporters:
            reporter.close()


@pytest.fixture
def staged() -> Iterator[Callable[..., Stage]]:
    made: list[Stage] = []

    def make(**options: int) -> Stage:
        made.append(Stage(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def stage(staged: Callable[..., Stage]) -> Stage:
    return staged()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.DEBUG, "nflowlevel")
    return caplog


def numbered(first: int, count: int) -> bytes:
    """Return reports that tell who wrote them, and in which order."""
    return b"".join(report(UDP, option(USER_ID, number)) for number in range(first, first + count))


def ids(found: list[dict[str, Any]]) -> list[int]:
    return [each["nufw.user.id"] for each in found]


# -- what is right ----------------------------------------------------------------------------------------------------


def test_a_report_is_a_packet_and_what_is_said_of_it(stage: Stage) -> None:
    stage.connect_and_write(full(UDP))
    (found,) = stage.read()
    assert {name: found[name] for name in FULL} == FULL
    assert (found["ip.saddr"], found["udp.dport"], found["raw.pkt"]) == ("10.77.0.2", 53, UDP)
    assert stage.stats == {"received": 1, "clients": 1, "connections": 1, "bytes": len(full(UDP))}


def test_those_who_come_and_go_hold_nobody_up(staged: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    """They fill no buffer, so `receive` would go on for as long as they do, and the daemon would do nothing else."""
    stage = staged(max_clients=1)
    stage.connect()
    accept, calls = stage.reports._accept, 0

    def again() -> None:
        nonlocal calls
        calls += 1
        assert calls < 10_000, "it never ends"
        accept()
        stage.connect()

    monkeypatch.setattr(stage.reports, "_accept", again)
    stage.connect()
    assert not stage.reports.receive()
    assert stage.reports.more
    assert calls < 10


def test_an_unknown_option_before_something_else_than_a_report(stage: Stage, said: pytest.LogCaptureFixture) -> None:
    """Both are said of the same reporter; reports of others in the same batch stay."""
    stage.connect_and_write(numbered(1, 3))
    stage.connect_and_write(report(UDP, option(999, b"x")) + b"something else than a report")
    assert len(stage.read()) == 4
    assert (stage.stats["unknown"], stage.stats["broken"], stage.stats["received"]) == (1, 1, 4)
    assert ["is not known" in text or "no report begins" in text for text in said.messages] == [True, True]


def test_several_reports_in_one_write(stage: Stage) -> None:
    stage.connect_and_write(numbered(1, 23))
    assert ids(stage.read()) == list(range(1, 24))


def test_a_batch_gathers_what_several_wrote(stage: Stage) -> None:
    """D-U07: ulogd2 closes the second connection at once."""
    for number in range(17):
        stage.connect_and_write(numbered(number * 100, 3))
    batch = stage.reports.receive()
    assert sorted(ids(batch.to_dicts())) == sorted(n * 100 + i for n in range(17) for i in range(3))
    assert stage.stats["connections"] == stage.stats["clients"] == 17


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 11, 13])
def test_writes_of_any_size(stage: Stage, size: int) -> None:
    """D-U02, D-U03: ulogd2 takes what it has for a report, and disconnects."""
    reporter, other = stage.connect(), stage.connect()
    data, found = full(UDP) + numbered(1, 2), []
    for at in range(0, len(data), size):
        reporter.sendall(data[at : at + size])
        if at % 5 == 0:
            other.sendall(numbered(7, 1))
        found += stage.read()
    assert [each for each in ids(found) if each != 7] == [4_000_000_000, 1, 2]
    assert not {"broken", "malformed", "unfinished"} & stage.stats.keys()


def test_the_padding_behind_a_packet_is_none_of_it(stage: Stage) -> None:
    packet = UDP + b"x" * (5 - len(UDP) % 8)
    stage.connect_and_write(report(packet, option(PREFIX, "p")))
    (found,) = stage.read()
    assert (found["raw.pkt"], found["raw.pktlen"], found["oob.prefix"]) == (packet, len(packet), "p")


def test_a_packet_ends_where_its_header_says(stage: Stage) -> None:
    """A transport header is not read out of what a reporter has put behind the packet."""
    header = bytes.fromhex("4500001c000100004011ffff0a4d00020a4d0001")  # 28 bytes, UDP
    stage.connect_and_write(report(header[:3] + b"\x14" + header[4:] + bytes(8)))
    (found,) = stage.read()
    assert found["ip.totlen"] == 20
    assert "udp.sport" not in found
    assert found["raw.pktlen"] == 28


def test_a_text_ends_at_its_nul_or_with_its_value(stage: Stage) -> None:
    stage.connect_and_write(
        report(UDP, option(PREFIX, b"a\0b\0"), option(APP_NAME, b"no nul")) + report(UDP, option(PREFIX, b""))
    )
    first, second = stage.read()
    assert (first["oob.prefix"], first["nufw.app.name"], second["oob.prefix"]) == ("a", "no nul", "")


def test_a_text_that_is_as_long_as_it_can_be(stage: Stage) -> None:
    """D-U06: a prefix of 4 kB ends ulogd2."""
    text = b"\xff" * (0xFFFF - 8 - 8)
    data = report(b"", struct.pack(">II", PREFIX, len(text)) + text)
    assert len(data) == lib.NFL_REPORT_MAX
    stage.connect_and_write(data[:30_000])
    assert stage.read() == []
    stage.reporters[0].sendall(data[30_000:])
    (found,) = stage.read()
    assert found["oob.prefix"] == "\ufffd" * len(text)


# -- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0xFFFFFFF8, 0xFFFFFFF0, 0x80000000, 0x10000, 17, 9])
def test_an_option_that_is_longer_than_the_report(stage: Stage, length: int) -> None:
    """D-U01: ulogd2 runs in a circle for ever."""
    stage.connect_and_write(report(UDP, option(USER_ID, 5), option(PREFIX, b"12345678", length)) + numbered(1, 1))
    found = stage.read()
    assert ids(found) == [5, 1]
    assert "oob.prefix" not in found[0]
    assert stage.stats["cut"] == 1


@pytest.mark.parametrize("length", [0xFFFF, 89, 41])
def test_a_packet_that_is_longer_than_its_report(stage: Stage, length: int) -> None:
    """D-U05: ulogd2 reads what lies behind."""
    stage.connect_and_write(report(bytes(40), length=length) + numbered(1, 1))
    assert ids(stage.read()) == [1]
    assert stage.stats["malformed"] == 1


@pytest.mark.parametrize(
    "options",
    [
        (option(SECONDS, b"\1\2\3"),),
        (option(USER_ID, b""),),
        (option(STATE, b""),),
        (b"\0\0\0\1",),
        (b"\0\0\0\1\0\0\0",),
    ],
)
def test_options_that_are_too_short(stage: Stage, options: tuple[bytes, ...]) -> None:
    stage.connect_and_write(report(UDP, *options) + numbered(1, 1))
    first, second = stage.read()
    assert not {"oob.time.sec", "nufw.user.id", "raw.label", "oob.prefix"} & first.keys()
    assert second["nufw.user.id"] == 1
    assert stage.stats["cut"] == 1


def test_options_that_nobody_knows(stage: Stage, said: pytest.LogCaptureFixture) -> None:
    unknown = [option(number, b"value") for number in (0, 5, 199, 207, 0xFFFFFFFF)]
    stage.connect_and_write(report(UDP, *unknown, option(USER_ID, 5)))
    assert ids(stage.read()) == [5]
    assert stage.stats["unknown"] == 5
    assert f"u:UNIXSOCK: process {os.getpid()} (" in said.text
    assert "option 4294967295 of a report is not known, and left out" in said.text


_BROKEN = {
    "no marker": b"GET / HTTP/1.1\r\n",
    "its first byte": b"\x42",
    "half a marker": MARKER[:3] + b"\xd5",
    "no length": report(size=0),
    "a length too small": report(size=7),
}


@pytest.mark.parametrize("data", _BROKEN.values(), ids=_BROKEN.keys())
def test_something_else_than_a_report_ends_this_connection(
    stage: Stage, said: pytest.LogCaptureFixture, data: bytes
) -> None:
    good, bad = stage.connect_and_write(numbered(1, 1)), stage.connect_and_write(numbered(2, 1) + data)
    assert sorted(ids(stage.read())) == [1, 2]
    assert is_disconnected(bad)
    good.sendall(numbered(3, 1))
    assert ids(stage.read()) == [3]
    assert (stage.stats["broken"], stage.stats["clients"]) == (1, 1)
    at = len(numbered(2, 1))
    assert f"process {os.getpid()} (" in said.text
    assert f"no report begins at byte {at} of what it wrote; disconnected" in said.text


def test_a_reporter_that_leaves_in_the_middle(stage: Stage) -> None:
    stage.connect_and_write(numbered(1, 1) + full(UDP)[:-1]).close()
    stage.connect_and_write(numbered(2, 1)).close()
    assert sorted(ids(stage.read())) == [1, 2]
    assert (stage.stats["unfinished"], stage.stats.get("clients", 0)) == (1, 0)


def test_one_who_hangs_does_not_hold_up_others(stage: Stage) -> None:
    stage.connect_and_write(full(UDP)[:20])
    for number in range(50):
        stage.connect_and_write(numbered(number, 1))
        assert ids(stage.read()) == [number]
    assert not stage.is_readable(), "nobody is read for nothing"


def test_one_who_never_ends_does_not_starve_others(stage: Stage) -> None:
    """Eight write without a pause; what a ninth writes is in one of the next batches."""
    flood = memoryview(full(UDP) * 5000)
    noisy = {stage.connect(): 0 for _ in range(8)}
    for each in noisy:
        each.setblocking(False)
    quiet = stage.connect()
    for number in range(20):
        for each in noisy:
            with contextlib.suppress(BlockingIOError):
                noisy[each] += each.send(flood[noisy[each] % len(full(UDP)) :])
        quiet.sendall(numbered(number, 1))
        for _ in range(3):
            if number in ids(stage.reports.receive().to_dicts()):
                break
        else:
            pytest.fail(f"report {number} was not read in 3 batches")


def test_a_read_error_ends_this_connection(stage: Stage, said: pytest.LogCaptureFixture) -> None:
    """D-U08: ulogd2 ends with status 255. Here the reporter's own unread input makes the kernel answer with a reset."""
    good, bad = stage.connect_and_write(numbered(1, 1)), stage.connect_and_write(numbered(2, 1))
    assert sorted(ids(stage.read())) == [1, 2]
    list(stage.reports._reporters.values())[1].socket.send(b"unread")
    bad.close()
    good.sendall(numbered(3, 1))
    assert ids(stage.read()) == [3]
    assert (stage.stats["failed"], stage.stats["clients"]) == (1, 1)
    assert "read: Connection reset by peer; disconnected" in said.text


# -- many -------------------------------------------------------------------------------------------------------------


def test_more_than_may_be_connected_are_refused(staged: Callable[..., Stage], said: pytest.LogCaptureFixture) -> None:
    stage = staged(max_clients=3)
    made = [stage.connect_and_write(numbered(number, 1)) for number in range(5)]
    assert sorted(ids(stage.read())) == [0, 1, 2]
    assert all(map(is_disconnected, made[3:]))
    assert (stage.stats["refused"], stage.stats["clients"], stage.stats["connections"]) == (2, 3, 3)
    assert "is one reporter more than max_clients=3; refused" in said.text
    made[0].close()
    stage.read()
    stage.connect_and_write(numbered(9, 1))
    assert ids(stage.read()) == [9]


def test_ten_thousand_connections_leave_nothing(staged: Callable[..., Stage]) -> None:
    stage = staged(max_clients=10)
    before, stays = len(os.listdir("/proc/self/fd")), [stage.connect() for _ in range(5)]
    for number in range(10_000):
        stage.connect_and_write(numbered(number, 1) if number % 2 else full(UDP)[: number % 70]).close()
        stage.reporters.pop()
        if number % 300 == 0:
            stage.read()
    stage.read()
    stats = stage.stats
    assert stats["connections"] + stats.get("refused", 0) == 10_005
    assert stats["clients"] == 5
    assert len(os.listdir("/proc/self/fd")) == before + 2 * len(stays)


def test_without_a_descriptor_for_a_connection_it_waits(
    stage: Stage, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in a circle: the listening socket would be readable all the time."""
    monkeypatch.setattr(reports, "_ACCEPT_AGAIN_SECS", 0.05)
    old = stage.connect_and_write(numbered(1, 1))
    stage.read()
    stage.connect_and_write(numbered(2, 1))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        assert len(stage.reports.receive()) == 0
        assert not stage.is_readable()
        assert stage.reports.deadline is not None
        old.sendall(numbered(3, 1))
        assert ids(stage.reports.receive().to_dicts()) == [3]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "accept a connection: Too many open files; tried again" in said.text
    monkeypatch.setattr(stage.reports, "_accept_at", 0.0)
    assert ids(stage.read()) == [2]
    assert stage.reports.deadline is None


def test_reports_without_packets_fill_a_batch_by_their_number(stage: Stage) -> None:
    """12 bytes each: their records take more room than they do."""
    empty = report()
    writer, count, batches = stage.connect(), 0, []
    writer.setblocking(False)
    sent, total = 0, 60_000 * len(empty)
    data = empty * 60_000
    while sent < total or count < 60_000:
        with contextlib.suppress(BlockingIOError):
            sent += writer.send(data[sent : sent + 500_000]) if sent < total else 0
        batch = stage.reports.receive()
        batches.append(len(batch))
        count += len(batch)
    assert count == 60_000
    assert stage.stats["received"] == 60_000
    assert max(batches) <= reports._ROOM


def test_whole_reports_that_found_no_room_come_next(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_ROOM", 10)
    for number in range(3):
        stage.connect_and_write(numbered(100 * number, 25))
    found: list[list[int]] = []
    while (batch := stage.reports.receive()) or stage.reports.more:
        found.append(ids(batch.to_dicts()))
    assert [len(each) for each in found] == [10, 10, 10, 10, 10, 10, 10, 5]
    flat = [number for each in found for number in each]
    assert [n for n in flat if n < 100] == list(range(25)), "in the order in which they were written"
    assert sorted(flat) == [100 * n + i for n in range(3) for i in range(25)]


# -- the end ----------------------------------------------------------------------------------------------------------


def test_at_the_end_what_was_written_is_read(stage: Stage) -> None:
    for number in range(7):
        stage.connect_and_write(numbered(number, 1) + full(UDP)[:9])
    stage.reports.finish()
    assert sorted(ids(stage.read())) == list(range(7)), "also of those who were not accepted yet"
    stage.reports.close()
    stage.reports.close()
    assert stage.stats["unfinished"] == 7
    assert "clients" not in stage.stats


def test_at_the_end_one_who_never_ends_is_not_waited_for(stage: Stage) -> None:
    writer = stage.connect_and_write(numbered(1, 10))
    stage.reports.receive()
    writer.sendall(numbered(11, 10))
    stage.reports.finish()
    writer.sendall(numbered(21, 1000))
    assert ids(stage.read()) == list(range(11, 21))
    with pytest.raises(BrokenPipeError):
        writer.sendall(numbered(1, 1))


# -- any bytes --------------------------------------------------------------------------------------------------------

_PACKETS = st.one_of(st.sampled_from([frame.payload for frame in frames()]), st.binary(max_size=80))
_OPTIONS = st.lists(
    st.builds(option, st.one_of(st.integers(0, 5), st.integers(198, 208)), st.binary(max_size=20)), max_size=6
)


@settings(max_examples=300, deadline=None)
@given(reported=st.lists(st.tuples(_PACKETS, _OPTIONS, st.integers(-9, 9), st.booleans()), min_size=1, max_size=5))
def test_reports_are_read_as_a_second_decoder_reads_them(reported: list[tuple[bytes, list[bytes], int, bool]]) -> None:
    made = []
    for packet, options, wrong, changed in reported:
        length = max(0, len(packet) + wrong) if changed else len(packet)
        body = report(packet, *options, length=length)
        made.append(body[: max(12, len(body) + wrong)] if changed and wrong < 0 else body)
        made[-1] = made[-1][:4] + struct.pack(">H", len(made[-1]) - 4) + made[-1][6:]
    wanted = [keys for each in made if (keys := meant(each)) is not None]
    found = received(b"".join(made)).to_dicts()
    assert len(found) == len(wanted)
    for got, want in zip(found, wanted, strict=True):
        assert {name: got.get(name) for name in want} == want
        said = {"oob.prefix", "oob.time.sec", "raw.label", "oob.in", "oob.out"}
        assert not {name for name in got if name in said or name.startswith("nufw.")} - want.keys()


def test_any_cut_of_a_stream(stage: Stage) -> None:
    """Each split of it into writes gives the same."""
    rng = random.Random(7)
    data = b"".join(full(frame.payload) for frame in frames()[:40])
    for _ in range(20):
        reporter = stage.connect()
        cuts = sorted(rng.sample(range(len(data)), 30))
        found = []
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            reporter.sendall(data[start:end])
            found += stage.read()
        assert [each["raw.pkt"] for each in found] == [frame.payload for frame in frames()[:40]]
