# SPDX-License-Identifier: GPL-2.0-or-later
"""PWSNIFF: commands of FTP and POP3 in every kind of packet, hostile ones, and what a batch without any costs."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.filters import pwsniff
from nflowlevel.filters.pwsniff import PWSNIFF
from nflowlevel.plugin.contract import NoOptions
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import published_by
from tests import oracle
from tests.corpus import ACK, DESTINATION, HOP, PSH, frames, ipv4, ipv6, tcp
from tests.fix_daemon import wait_for
from tests.fix_decoder import decode, shown
from tests.fix_reports import full
from tests.inputs.test_unixsock import needs_ulogd2, ours, theirs
from tests.messages import message_of

FTP, POP3 = 21, 110
TCP = 6


def packet(data: bytes, dport: int = FTP, *, options: bytes = b"", doff: int | None = None) -> bytes:
    return ipv4(TCP, tcp(PSH | ACK, data, dport=dport, options=options, doff=doff))


def sniffed(*messages: bytes) -> Batch:
    """Send messages of the kernel through the filter."""
    plugin = PWSNIFF("p", NoOptions())
    plugin.open()
    return plugin.process(decode(messages).batch)


def said(payload: bytes, dport: int = FTP) -> tuple[str | None, str | None]:
    """Return user and password of one packet."""
    batch = sniffed(oracle.build_message(packet(payload, dport)))
    return batch.values("pwsniff.user")[0], batch.values("pwsniff.pass")[0]


@pytest.mark.parametrize("dport", [FTP, POP3])
@pytest.mark.parametrize(
    ("payload", "wanted"),
    [
        (b"USER alice\r\n", ("alice", None)),
        (b"PASS secret\r\n", (None, "secret")),
        (b"user Alice\n", ("Alice", None)),
        (b"PaSs s3cret", (None, "s3cret")),
        # Several commands in one packet.
        (b"USER alice\r\nPASS se cret \r\nSTAT\r\n", ("alice", "se cret ")),
        (b"NOOP\r\nUSER a\r\nUSER b\r\n", ("a", None)),
        # No such command.
        (b"", (None, None)),
        (b"USER \r\n", (None, None)),
        (b"USERalice\r\n", (None, None)),
        (b"XUSER alice\r\n", (None, None)),
        (b"STOR USER alice\r\n", (None, None)),
        (b"QUIT\r\n", (None, None)),
    ],
)
def test_commands(payload: bytes, wanted: tuple[str | None, str | None], dport: int) -> None:
    assert said(payload, dport) == wanted


@pytest.mark.parametrize(
    ("payload", "wanted"),
    [
        (b"USER " + b"a" * 60_000, ("a" * 255, None)),
        (b"x" * 60_000 + b"\nUSER late\r\n", (None, None)),
        (b"USER a\0b\r\n", ("a", None)),
        (b"USER \0\r\n", (None, None)),
        (b"USER gr\xfcn\r\n", ("gr\ufffdn", None)),
        (b'PASS \xff\xfe\x1b[2J"\\', (None, '\ufffd\ufffd\x1b[2J"\\')),
        (b"\n" * 30_000 + b"USER a", (None, None)),
        (b"USER " * 12_000, ("USER " * 51, None)),
        (b"USER \r\n" * 500 + b"user b\nuSeR c\nPASS \nPASS d", ("b", "d")),
        (b"USER " + b"x" * 300 + b"\nPASS p\n" + b"\nUSER y" * 200, ("x" * 255, "p")),
    ],
)
def test_hostile_payloads(payload: bytes, wanted: tuple[str | None, str | None]) -> None:
    assert said(payload) == wanted


@given(st.binary(max_size=300), st.sampled_from([FTP, POP3]))
def test_any_payload(payload: bytes, dport: int) -> None:
    for value in said(payload, dport):
        assert value is None or (0 < len(value) <= 255 and not set(value) & set("\r\n\0"))


@pytest.mark.parametrize("dport", [20, 22, 80, 143, 0x1500, 0x6E00, 0x0015 << 8 & 0xFFFF])
def test_other_ports_are_not_looked_at(dport: int) -> None:
    assert said(b"USER alice\r\n", dport) == (None, None)


def test_answers_of_a_server_are_not_looked_at() -> None:
    segment = tcp(PSH | ACK, b"USER alice\r\n", sport=FTP, dport=40000)
    assert sniffed(oracle.build_message(ipv4(TCP, segment))).values("pwsniff.user") == [None]


_COMMAND = b"USER alice\r\n"
_SEGMENT = tcp(PSH | ACK, _COMMAND, dport=FTP)
_SEGMENT6 = tcp(PSH | ACK, _COMMAND, dport=FTP, family=6)
_TAGGED = struct.pack(">HH", 5, 0x0800) + ipv4(TCP, _SEGMENT)
_WIRE = bytes(12) + struct.pack(">H", 0x86DD) + ipv6(TCP, _SEGMENT6)

_WHERE = {
    "IPv4": oracle.build_message(ipv4(TCP, _SEGMENT)),
    "IPv4 with options": oracle.build_message(ipv4(TCP, _SEGMENT, options=bytes(8))),
    "TCP with options": oracle.build_message(packet(_COMMAND, options=bytes(12))),
    "IPv6": oracle.build_message(ipv6(TCP, _SEGMENT6), family=oracle.INET6),
    "IPv6 with headers": oracle.build_message(
        ipv6(
            HOP,
            bytes([DESTINATION, 1]) + bytes(14) + bytes([51, 0]) + bytes(6) + bytes([TCP, 4]) + bytes(22) + _SEGMENT6,
        ),
        family=oracle.INET6,
    ),
    "bridge": oracle.build_message(ipv4(TCP, _SEGMENT), family=oracle.BRIDGE, protocol=0x0800),
    "bridge, tagged": oracle.build_message(_TAGGED, family=oracle.BRIDGE, protocol=0x8100),
    "device": oracle.build_message(ipv6(TCP, _SEGMENT6), family=oracle.NETDEV, hook=0, protocol=0x86DD),
    "device, egress": oracle.build_message(_WIRE, family=oracle.NETDEV, hook=1, protocol=0x86DD, l2hdr=_WIRE[:14]),
}


@pytest.mark.parametrize("where", _WHERE)
def test_wherever_tcp_begins(where: str) -> None:
    batch = sniffed(_WHERE[where])
    assert batch.values("tcp.dport") == [FTP], "the decoder finds it"
    assert batch.values("pwsniff.user") == ["alice"]


@pytest.mark.parametrize("make", [lambda data: ipv4(TCP, data), lambda data: ipv6(TCP, data)])
def test_padding_is_not_part_of_it(make: object) -> None:
    """What follows the end that the IP header states is of the link layer, or of nobody."""
    whole = make(tcp(ACK, dport=FTP))  # type: ignore[operator]
    family = oracle.INET if whole[0] >> 4 == 4 else oracle.INET6
    batch = sniffed(oracle.build_message(whole + b"USER ghost\r\n", family=family))
    assert (batch.values("tcp.dport"), batch.values("pwsniff.user")) == ([FTP], [None])


@pytest.mark.parametrize("doff", range(16))
def test_any_length_of_the_header(doff: int) -> None:
    batch = sniffed(oracle.build_message(packet(_COMMAND, doff=doff)))
    assert batch.values("pwsniff.user") == (["alice"] if doff <= 5 else [None])


def test_each_packet_has_its_own() -> None:
    """D-P01: ulogd2 stops every packet. Here all pass, with others between them."""
    messages = [message_of(frame) for frame in frames()]
    messages[7] = oracle.build_message(packet(b"USER a\r\n"))
    messages[9] = oracle.build_message(packet(b"PASS b\r\n"))
    batch = sniffed(*messages)
    assert len(batch) == len(messages)
    found = [(row, each) for row, each in enumerate(batch.rows("pwsniff.user", "pwsniff.pass")) if any(each)]
    assert found == [(7, ("a", None)), (9, (None, "b"))]
    members = shown(batch, published_by("PWSNIFF"))
    assert [each for each in members if each] == [{"pwsniff.user": "a"}, {"pwsniff.pass": "b"}]


def test_of_a_selection() -> None:
    batch = decode([oracle.build_message(packet(b"USER %d\r\n" % number)) for number in range(10)]).batch
    chosen = PWSNIFF("p", NoOptions()).process(batch.select([2, 5, 7]))
    assert chosen.values("pwsniff.user") == ["2", "5", "7"]
    assert shown(chosen, published_by("PWSNIFF")) == [{"pwsniff.user": text} for text in ("2", "5", "7")]


def test_without_candidates_no_packet_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in Python nor, packet by packet, for the ports."""
    monkeypatch.setattr(Batch, "values", lambda *_: pytest.fail("it looks at each packet"))
    batch = decode([message_of(frame) for frame in frames()]).batch
    assert len(PWSNIFF("p", NoOptions()).process(batch).added) == 2
    empty = PWSNIFF("p", NoOptions()).process(Batch(None, 0))
    assert len(empty) == 0


def test_the_quick_look_misses_nothing() -> None:
    """It reads bytes: of a batch with one candidate at each place, and of ports with the same bytes elsewhere."""
    for at in range(5):
        ports = [0x1515, 0x0100, 0x0015 + 0x100, 0x6E6E, 80]
        ports[at] = (FTP, POP3)[at % 2]
        batch = decode([oracle.build_message(packet(b"", port)) for port in ports]).batch
        assert batch.may_have("tcp.dport", pwsniff._PORTS)
        assert not batch.may_have("tcp.dport", (23,))


# -- beside ulogd2 ----------------------------------------------------------------------------------------------------


@pytest.fixture
def place(open_to_all: Path) -> Path:
    """A directory with a short name."""
    return open_to_all


@needs_ulogd2
def test_d_p01_ulogd2_stops_every_packet(place: Path) -> None:
    data = full(packet(_COMMAND)) + full(packet(b"", 80))
    with theirs(place, filters=("PWSNIFF",)) as ulogd2, ulogd2.connect() as reporter:
        reporter.sendall(data)
        wait_for(lambda: ulogd2.told().count("option 206") == 2, "both are read", ulogd2.told)
        reporter.close()
        ulogd2.process.terminate()
        assert ulogd2.ended() == 0
        assert not ulogd2.out.exists() or ulogd2.out.read_text() == ""
    with ours(place, filters=("PWSNIFF",)) as daemon, daemon.connect() as reporter:
        reporter.sendall(data)
        first, second = daemon.records(2)
        assert (first["pwsniff.user"], first["dest_port"], second["dest_port"]) == ("alice", 21, 80)
        assert "pwsniff.user" not in second
        assert json.dumps(first)
