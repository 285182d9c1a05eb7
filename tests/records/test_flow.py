# SPDX-License-Identifier: GPL-2.0-or-later
"""FLOW: what the kernel says of a flow, byte by byte, and what the decoder in C makes of it."""

from __future__ import annotations

import pytest

from nflowlevel.records.flow import FLOW, FLOW_TERMS
from tests.fix_flow_messages import (
    DESTROY,
    NEW,
    NOW_NS,
    START_NS,
    STOP_NS,
    UPDATE,
    decode_flows,
    message,
    number,
    tcp_flow,
    times,
    tuple_of,
)
from tests.netlink import attribute, nest


def test_each_term_stands_for_a_key_of_flows() -> None:
    assert {FLOW.names.find(term) for term in FLOW_TERMS} == set(FLOW_TERMS.values()) <= FLOW.by_name.keys()
    assert FLOW.names.keys_of("src_ip") == ("orig.ip.saddr.str",)


def test_all_that_the_kernel_says() -> None:
    batch, state = decode_flows([message(DESTROY, *tcp_flow())])
    (flow,) = batch.to_dicts()
    assert flow == {
        "orig.ip.saddr": "10.77.0.2", "orig.ip.daddr": "192.0.2.80", "orig.ip.protocol": 6,
        "orig.l4.sport": 40000, "orig.l4.dport": 443, "orig.raw.pktlen": 3456, "orig.raw.pktcount": 12,
        "reply.ip.saddr": "192.0.2.80", "reply.ip.daddr": "198.51.100.1", "reply.ip.protocol": 6,
        "reply.l4.sport": 443, "reply.l4.dport": 61000, "reply.raw.pktlen": 2**63, "reply.raw.pktcount": 2**40,
        "ct.mark": 0xCAFE, "ct.id": 0xDEADBEEF, "ct.event": 4,
        "flow.start.sec": 1_699_999_990, "flow.start.usec": 1, "flow.end.sec": 1_699_999_999, "flow.end.usec": 999_999,
        "oob.family": 2, "oob.protocol": 0, "tcp.state": 7, "ct.status": 0x18E, "ct.timeout": 119,
        "ct.zone": 5, "ct.zone.reply": 5, "ct.helper": "ftp", "ct.labels": bytes(range(16)),
        "flow.number": 1, "flow.last": 1, "flow.end.reason": 3,
        "orig.ip.saddr.str": "10.77.0.2", "orig.ip.daddr.str": "192.0.2.80",
        "reply.ip.saddr.str": "192.0.2.80", "reply.ip.daddr.str": "198.51.100.1",
        "nat.saddr.str": "198.51.100.1", "nat.sport": 61000,
        "orig.ip.saddr.bin": "0x00000000000000000000ffff0a4d0002",
        "orig.ip.daddr.bin": "0x00000000000000000000ffffc0000250",
        "reply.ip.saddr.bin": "0x00000000000000000000ffffc0000250",
        "reply.ip.daddr.bin": "0x00000000000000000000ffffc6336401",
        "orig.ip.hsaddr": 0x0A4D0002, "orig.ip.hdaddr": 0xC0000250,
        "reply.ip.hsaddr": 0xC0000250, "reply.ip.hdaddr": 0xC6336401,
    }  # fmt: skip
    assert (state.received, state.destroyed, state.malformed) == (1, 1, 0)


def test_ipv6_and_icmp() -> None:
    six = [
        tuple_of(1, "fd00::2", "fd00::1", 58, icmp=(128, 0, 77)),
        tuple_of(2, "fd00::1", "fd00::2", 58, icmp=(129, 0, 77)),
    ]
    four = [
        tuple_of(1, "10.0.0.2", "10.0.0.1", 1, icmp=(8, 3, 9)),
        tuple_of(2, "10.0.0.1", "10.0.0.2", 1, icmp=(0, 3, 9)),
    ]
    first, second = decode_flows([message(NEW, *six), message(NEW, *four)])[0].to_dicts()
    assert (first["orig.ip.saddr"], first["reply.ip.daddr"], first["oob.family"]) == ("fd00::2", "fd00::2", 10)
    assert (first["icmpv6.type"], first["icmpv6.code"], first["icmpv6.id"]) == (128, 0, 77)
    assert (second["icmp.type"], second["icmp.code"], second["icmp.id"]) == (8, 3, 9)
    assert "icmp.type" not in first
    assert "icmpv6.type" not in second
    assert "orig.l4.sport" not in first
    assert (second["orig.raw.pktlen"], second["flow.last"], second["ct.event"]) == (0, 0, 1)
    # The kernel did not stamp them: a new flow begins now, and has no end.
    assert (second["flow.start.sec"], second["flow.start.usec"]) == (NOW_NS // 10**9, NOW_NS % 10**9 // 1000)
    assert "flow.end.sec" not in second


def test_a_flow_without_stamps_ends_now() -> None:
    gone = tcp_flow(times=b"", state=b"")
    (flow,) = decode_flows([message(DESTROY, *gone)])[0].to_dicts()
    assert flow["flow.end.sec"] == NOW_NS // 10**9
    assert "flow.start.sec" not in flow
    assert flow["flow.end.reason"] == 1


@pytest.mark.parametrize(
    ("start", "stop", "seconds"),
    [
        (STOP_NS, START_NS, (1_699_999_999, 1_699_999_990)),
        (2**32 * 10**9 + 5000, 2**64 - 1, (2**32 - 1, 2**32 - 1)),
    ],
)
def test_a_clock_that_was_set_back_or_never(start: int, stop: int, seconds: tuple[int, int]) -> None:
    """A flow that begins after its end, and times that no 32 bits hold."""
    (flow,) = decode_flows([message(DESTROY, *tcp_flow(times=times(start, stop)))])[0].to_dicts()
    assert (flow["flow.start.sec"], flow["flow.end.sec"]) == seconds


def test_the_time_of_an_event_is_the_kernels_where_it_says_it() -> None:
    stamped = [*tcp_flow(times=b""), number(27, 1_600_000_000 * 10**9 + 5000, "!Q")]
    (flow,) = decode_flows([message(DESTROY, *stamped)])[0].to_dicts()
    assert (flow["flow.end.sec"], flow["flow.end.usec"]) == (1_600_000_000, 5)


def test_zones_of_each_direction() -> None:
    both = [
        tuple_of(1, "10.0.0.2", "10.0.0.1", 17, ports=(1, 2), zone=3),
        tuple_of(2, "10.0.0.1", "10.0.0.2", 17, ports=(2, 1), zone=4),
    ]
    (flow,) = decode_flows([message(UPDATE, *both)])[0].to_dicts()
    assert (flow["ct.zone"], flow["ct.zone.reply"], flow["ct.event"]) == (3, 4, 2)


def test_a_listed_flow_has_no_event() -> None:
    listed = message(0, *tcp_flow(times=b""), sequence=9)
    done = b"\x14\0\0\0\x03\0\x02\0\x09\0\0\0\0\0\0\0\0\0\0\0"
    batch, state = decode_flows([listed + listed + done], sequence=9)
    assert len(batch) == 2
    assert (state.done, state.error, state.received) == (1, 0, 2)
    assert not {"ct.event", "flow.number", "flow.last", "flow.start.sec", "flow.end.sec"} & batch.to_dicts()[0].keys()


def test_what_is_left_of_another_dump_is_no_flow_of_this_one() -> None:
    batch, state = decode_flows([message(0, *tcp_flow(), sequence=8)], sequence=9)
    assert not batch
    assert state.foreign == 1


def test_events_that_nobody_wants() -> None:
    batch, state = decode_flows([message(NEW, *tcp_flow()), message(DESTROY, *tcp_flow())], events=DESTROY)
    assert [flow["ct.event"] for flow in batch.to_dicts()] == [DESTROY]
    assert state.unwanted == 1


ORIG, REPLY = tcp_flow()[:2]


@pytest.mark.parametrize(
    "attributes",
    [
        [],
        [ORIG],
        [REPLY],
        [ORIG, tuple_of(2, "fd00::1", "fd00::2", 6, ports=(1, 2))],
        [ORIG, nest(2)],
        [ORIG, REPLY[:-2]],
        [ORIG, REPLY, b"\xff\xff\x01\0"],
        [ORIG, REPLY, b"\x03\0\x01\0"],
    ],
)
def test_what_is_no_flow_is_counted(attributes: list[bytes]) -> None:
    batch, state = decode_flows([message(NEW, *attributes)])
    assert not batch
    assert state.malformed == 1


def test_every_cut_of_a_message_is_malformed_or_a_smaller_flow() -> None:
    whole = message(DESTROY, *tcp_flow())
    for length in range(len(whole)):
        cut = length.to_bytes(4, "little") + whole[4:length] if length >= 16 else whole[:length]
        batch, state = decode_flows([cut])
        assert len(batch) + state.malformed == (length >= 16), length


def test_values_that_are_too_short_are_left_out() -> None:
    short = [
        ORIG, REPLY, attribute(3, b"\1"), attribute(7, b"\1"), attribute(8, b"\1"), attribute(12, b"\1"),
        attribute(18, b"\1"), nest(9, attribute(1, b"\1")), nest(20, attribute(1, b"\1")),
        nest(4, nest(1, attribute(1, b""))),
    ]  # fmt: skip
    (flow,) = decode_flows([message(UPDATE, *short)])[0].to_dicts()
    assert not {"ct.status", "ct.timeout", "tcp.state", "flow.start.sec"} & flow.keys()
    assert (flow["ct.mark"], flow["ct.id"], flow["ct.zone"], flow["orig.raw.pktcount"]) == (0, 0, 0, 0)


def test_a_long_helper_is_cut_and_a_text_all_the_same() -> None:
    named = tcp_flow(helper=nest(5, attribute(1, b"h" * 40)))
    assert decode_flows([message(NEW, *named)])[0].values("ct.helper") == ["h" * 15]


def test_a_message_more_than_there_is_room_for() -> None:
    batch, state = decode_flows([message(UPDATE, *tcp_flow()) * 3], room=2)
    assert len(batch) == 2
    assert state.malformed == 1
