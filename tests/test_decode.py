# SPDX-License-Identifier: GPL-2.0-or-later
"""The decoder in C (_cdefs/packet.c) against the oracle: the same records and the same keys, whatever the bytes."""

from __future__ import annotations

import itertools
import random
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.buffers import RECORD_BYTES, ROOM_RECORDS, Slot
from nflowlevel.records.keys import BY_NAME, published_by
from nflowlevel.records.packet import PACKET
from tests import oracle
from tests.corpus import by_name, frames
from tests.fix_decoder import LABEL, NOW, assert_same, chunks, decode
from tests.messages import FULL, egress_message_of, message_of, sample_messages
from tests.netlink import attribute, netlink
from tests.oracle import Attribute, build_message

FAMILIES = (oracle.INET, oracle.INET6, oracle.ARP, oracle.BRIDGE, oracle.NETDEV)

NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE = 1, 2, 3


def assert_all_same(datagrams: Iterator[bytes] | Sequence[bytes]) -> int:
    """Compare any number of datagrams; return the number of records they gave."""
    return sum(len(assert_same(piece).batch) for piece in chunks(datagrams))


def with_length(message: bytes, length: int | None = None) -> bytes:
    """Return a message whose header states this length (default: its own)."""
    return struct.pack("=I", len(message) if length is None else length) + message[4:]


# -- whole messages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*FAMILIES, 0, 1, 12, 255])
def test_every_frame_in_every_family(family: int) -> None:
    assert assert_all_same([message_of(frame, family) for frame in frames()]) == len(frames())


def test_every_frame_at_netdev_egress() -> None:
    assert assert_all_same([egress_message_of(frame) for frame in frames()]) == len(frames())


def test_every_attribute() -> None:
    (keys,) = assert_same([message_of(by_name("tcp4-all"), **FULL)]).batch.to_dicts()
    assert keys["oob.time.sec"], keys["oob.time.usec"] == FULL["time"]
    assert keys["raw.label"] == LABEL
    assert {name for name, key in BY_NAME.items() if key.plugin == "NFLOG"} - keys.keys() == {
        "vlan.id",
        "vlan.priority",
        "vlan.protocol",
    }


@pytest.mark.parametrize("left_out", [*FULL, "protocol", "hwheader", "hwtype", "hwaddr"])
def test_each_attribute_left_out(left_out: str) -> None:
    values = {**FULL, left_out: 0 if left_out in ("group", "hook") else None}
    assert_same([message_of(by_name("udp4"), **values), message_of(by_name("vlan-qinq-ip4"), **values)])


def test_no_payload() -> None:
    (keys,) = assert_same([build_message(None, **FULL)]).batch.to_dicts()
    assert "raw.pkt" not in keys
    assert "ip.saddr" not in keys


def test_empty_payload() -> None:
    (keys,) = assert_same([build_message(b"")]).batch.to_dicts()
    assert (keys["raw.pkt"], keys["raw.pktlen"]) == (b"", 0)


@pytest.mark.parametrize(
    "prefix", [b"", b"x", b"with\0nul", b"\0first", b"\xff\xfe", "Häuser ☂".encode(), b"p" * 127, b"p" * 4000]
)
def test_prefix(prefix: bytes) -> None:
    assert_same([build_message(b"", prefix=prefix), build_message(b"", extra=[(Attribute.PREFIX, prefix)])])


@pytest.mark.parametrize("time", [(0, 0), (0, 5), (1, 0), (2**32 - 1, 999_999), (2**32, 1), (2**63, 2**40)])
def test_time_stamp(time: tuple[int, int]) -> None:
    assert_same([build_message(b"", time=time)])


def test_time_of_reception_where_the_kernel_gave_none() -> None:
    batch = decode([build_message(b""), build_message(b"", time=(5, 6))], now=(11, 22)).batch
    assert batch.rows("oob.time.sec", "oob.time.usec") == [(11, 22), (5, 6)]


@pytest.mark.parametrize("length", [0, 1, 6, 8, 9, 20, 65535])
def test_hardware_address_length(length: int) -> None:
    """Infiniband says 20 and gives 8."""
    assert_same([build_message(b"", extra=[(Attribute.HWADDR, struct.pack(">Hxx8s", length, b"12345678"))])])


@pytest.mark.parametrize("hwlen", [0, 1, 13, 14, 15, 42, 65535])
@pytest.mark.parametrize("size", [0, 13, 14, 18, 100])
def test_link_header_length(hwlen: int, size: int) -> None:
    """The header is the smaller of what is stated and what is there; a header of no length is none."""
    header = [(Attribute.HWTYPE, b"\0\1"), (Attribute.HWHEADER, bytes(range(size)))]
    assert_same([build_message(b"", extra=[*header, (Attribute.HWLEN, struct.pack(">H", hwlen))])])


@pytest.mark.parametrize("kind", range(24))
def test_attribute_of_any_length(kind: int) -> None:
    packet = by_name("udp4").payload
    values = [bytes(range(1, 1 + size)) for size in range(40)]
    assert_same([build_message(packet, extra=[(kind, value)]) for value in values])
    assert_same([build_message(packet, prefix=b"p", extra=[(kind | 0xC000, value)]) for value in values])


@pytest.mark.parametrize("kind", range(24))
def test_the_last_of_repeated_attributes_wins(kind: int) -> None:
    packet = by_name("udp4").payload
    values = [b"", bytes(20), bytes(range(1, 21)), b"\xff" * 20, b"\0\0\0\0\0\0\0\1" + bytes(12), bytes(3)]
    assert_same(
        [
            build_message(packet, hwheader=b"h" * 14, extra=[(kind, value) for value in chosen])
            for chosen in itertools.product(values, repeat=2)
        ]
    )


def test_vlan_attribute() -> None:
    members = [
        attribute(1, b"\x81\0"),
        attribute(2, b"\xa0\x64"),
        attribute(1, b"\x88\xa8"),
        attribute(2, b"\1"),
        attribute(3, b"unknown"),
        struct.pack("=HH", 3, 1),
        b"\0",
    ]
    nested = [b"".join(chosen) for n in range(4) for chosen in itertools.permutations(members, n)]
    packet = by_name("vlan-qinq-ip4").payload
    assert_same([build_message(packet, family=7, extra=[(Attribute.VLAN, value)]) for value in nested])


def test_link_layer_as_hwhdr_publishes_it() -> None:
    """The filter's own values of raw.type and oob.protocol, which a batch does not show by name."""
    variants: list[dict[str, Any]] = [
        {"hwheader": hwheader, "hwtype": hwtype, "hwaddr": hwaddr, "protocol": protocol}
        for hwheader in (None, b"", bytes(range(13)), bytes(range(14)), bytes(range(18)))
        for hwtype in (None, 0, 1, 772, 65534, 65535)
        for hwaddr in (None, b"", b"123456", b"12345678")
        # Without NFULA_PACKET_HDR, which the kernel always sends, there is no oob.protocol to be changed.
        for protocol in (0x0800, 0x88B5)
    ]
    messages = [build_message(b"", **variant) for variant in variants]
    batch = decode(messages).batch
    fields = [key for key in published_by("HWHDR") if key.name in ("raw.type", "oob.protocol")]
    for number, message in enumerate(messages):
        keys = oracle.decode(message, now=NOW, label=LABEL)
        assert keys is not None
        wanted = {name: value for name, value in oracle.derive(keys, {}).items() if name.startswith("HWHDR:")}
        record = batch.raw.records[number]
        valid = [key for key in fields if record.valid >> key.valid.value & 1]
        got = {f"HWHDR:{key.name}": getattr(record, key.field) for key in valid}
        assert got == wanted, variants[number]


def test_a_key_that_does_not_hold_is_zero() -> None:
    """`Batch.column` promises it."""
    messages = [m for frame in frames() for m in (message_of(frame), message_of(frame, oracle.BRIDGE))]
    messages += [message_of(frame, hwheader=None, hwaddr=None, **FULL) for frame in frames()]
    messages += [build_message(None), build_message(b"", hwtype=1, hwheader=b"")]
    batch = decode(messages).batch
    for name, key in PACKET.by_name.items():
        if key.kind in ("u8", "u16", "u32", "fixed") or key.type == "ipaddr":
            column, valid = batch.column(name), batch.valid(name)
            assert not np.any(column[~valid]), name
            assert np.any(valid), name


# -- cut and broken ---------------------------------------------------------------------------------------------------


def test_every_length_of_every_packet() -> None:
    """As `snaplen` and copy_range cut it."""
    cut = (
        build_message(frame.payload[:length], family=frame.family, protocol=frame.ethertype)
        for frame in frames()
        for length in range(min(len(frame.payload), 120))
    )
    assert assert_all_same(cut) > 20_000


def test_every_length_of_packets_behind_tags_and_at_egress() -> None:
    names = ("tcp4-all", "ext6-chain-all", "vlan-qinq-ip4", "vlan-three-ip6", "vlan-four-arp", "arp-reply")
    cut = (
        build_message(packet[:length], family=family, protocol=protocol, hook=hook)
        for frame in map(by_name, names)
        for family, hook, protocol, packet in (
            (oracle.NETDEV, 1, frame.ethertype, frame.wire()),
            (oracle.NETDEV, 0, oracle.be16(frame.wire(), 12), frame.wire()[14:]),
            (oracle.BRIDGE, 1, oracle.be16(frame.wire(), 12), frame.wire()[14:]),
        )
        for length in range(len(packet) + 1)
    )
    assert assert_all_same(cut) > 1000


@pytest.mark.parametrize("frame", ["udp4", "ext6-chain-all", "vlan-qinq-ip4", "arp-reply"])
def test_every_length_of_a_message(frame: str) -> None:
    """Whether the header knows of the cut or not."""
    message = message_of(by_name(frame), **FULL)
    cut = [message[:length] for length in range(len(message))]
    assert_all_same(cut + [with_length(piece) for piece in cut if len(piece) >= 4])
    assert_all_same([with_length(message, length) for length in (*range(len(message) + 8), 2**31, 2**32 - 1)])


def test_every_length_of_an_attribute() -> None:
    message = message_of(by_name("udp4"), **FULL)
    broken, at = [], 20
    while at < len(message):
        (length,) = struct.unpack_from("=H", message, at)
        for wrong in (*range(40), length - 1, length + 1, len(message) - at, len(message) - at + 1, 0x7FFF, 0xFFFF):
            broken.append(message[:at] + struct.pack("=H", wrong & 0xFFFF) + message[at + 2 :])
        at += (length + 3) & ~3
    assert len(broken) > 500
    assert_all_same(broken)


def test_a_malformed_message_is_counted_and_gives_no_record() -> None:
    good = build_message(b"")
    short_attribute = with_length(good + struct.pack("=HH", 3, 9))
    long_attribute = with_length(good + struct.pack("=HH", 9, 9))
    for bad in (short_attribute, long_attribute, with_length(good[:19]), good[:-1], with_length(good, 15)):
        decoded = decode([bad])
        assert (decoded.counts, decoded.state.malformed, decoded.state.received) == ([0], 1, 0)


def test_the_record_of_a_malformed_message_leaves_no_trace() -> None:
    good, bad = build_message(b""), with_length(message_of(by_name("udp4"), **FULL) + struct.pack("=HH", 3, 9))
    decoded = assert_same([good + bad + good])
    assert (decoded.state.malformed, decoded.state.received) == (1, 2)
    assert decoded.batch.values("udp.dport") == [None, None]


# -- series of messages -----------------------------------------------------------------------------------------------


def test_many_messages_in_a_datagram() -> None:
    messages = [message + bytes(-len(message) % 4) for message in sample_messages()]
    assert assert_same([b"".join(messages)]).counts == [len(messages)]


def test_messages_that_are_no_packets() -> None:
    packet = build_message(b"")
    datagram = packet + netlink(NLMSG_NOOP, b"") + netlink(0x0401, bytes(4)) + netlink(0x0100, bytes(8)) + packet
    decoded = assert_same([datagram + netlink(NLMSG_DONE, bytes(4)) + packet])
    assert (decoded.state.received, decoded.state.foreign, decoded.state.malformed) == (3, 2, 0)


def test_answers() -> None:
    packet = build_message(b"")
    request = struct.pack("=IHHII", 20, 0x0401, 5, 77, 0)
    decoded = assert_same([packet + netlink(NLMSG_ERROR, struct.pack("=i", -1) + request, seq=77) + packet])
    assert (decoded.state.acked, decoded.state.ack_seq, decoded.state.ack_error) == (1, 77, -1)
    cut = decode([netlink(NLMSG_ERROR, struct.pack("=i", -1), seq=77)])
    assert (cut.state.acked, cut.state.malformed) == (0, 1)


def test_no_more_records_than_there_is_room_for() -> None:
    slot, state = Slot(), ffi.new("struct nfl_receiver *")
    datagram = build_message(b"") * 5
    ffi.memmove(slot.data, datagram, len(datagram))
    ffi.memmove(slot.records + 3, b"\xa5" * RECORD_BYTES, RECORD_BYTES)
    assert lib.nfl_decode(state, slot.data, 0, len(datagram), 0, 0, slot.records, 3) == 3
    assert bytes(ffi.buffer(slot.records + 3, RECORD_BYTES)) == b"\xa5" * RECORD_BYTES
    assert (state.received, state.malformed) == (3, 2)


def test_gaps_are_summed() -> None:
    numbers = [0, 1, 2, 5, 6, 100]
    state = decode([build_message(b"", seq=number) for number in numbers]).state
    assert (state.received, state.gap, state.next_seq) == (6, 95, 101)
    assert state.received + state.gap == 101


def test_what_is_missing_at_the_beginning_is_a_gap() -> None:
    """A group's numbers begin with 0 when it is bound."""
    assert decode([build_message(b"", seq=4)]).state.gap == 4


def test_gaps_across_the_end_of_the_numbers() -> None:
    slot, state = Slot(), ffi.new("struct nfl_receiver *", {"next_seq": 2**32 - 3})
    datagram = b"".join(build_message(None, protocol=None, seq=number) for number in (2**32 - 2, 1, 2))
    ffi.memmove(slot.data, datagram, len(datagram))
    assert lib.nfl_decode(state, slot.data, 0, len(datagram), 0, 0, slot.records, ROOM_RECORDS) == 3
    assert (state.gap, state.next_seq) == (3, 3)


def test_valid_any_and_valid_all() -> None:
    tcp, udp = (message_of(by_name(name)) for name in ("tcp4-syn", "udp4"))
    state = decode([tcp, udp]).state
    both, one = BY_NAME["ip.saddr"].valid.value, BY_NAME["tcp.sport"].valid.value
    assert state.valid_any >> both & 1
    assert state.valid_all >> both & 1
    assert state.valid_any >> one & 1
    assert not state.valid_all >> one & 1


# -- receive ----------------------------------------------------------------------------------------------------------


class Receiver:
    """nfl_receive on one end of a pair of sockets."""

    def __init__(self) -> None:
        self.kernel, self._reader = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._reader.setblocking(False)
        self.slot = Slot()
        self.state = ffi.new("struct nfl_receiver *", {"fd": self._reader.fileno()})

    def receive(self, *, size: int = 1 << 20, enough: int = 1000) -> int:
        return int(lib.nfl_receive(self.state, self.slot.data, size, self.slot.records, ROOM_RECORDS, enough))

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.kernel.close()
        self._reader.close()


def test_receive_takes_all_that_waits() -> None:
    with Receiver() as receiver:
        for number in range(7):
            receiver.kernel.send(build_message(b"x" * number, seq=number))
        assert receiver.receive() == 7
        assert [receiver.slot.records[i].raw_pktlen for i in range(7)] == list(range(7))
        assert (receiver.state.datagrams, receiver.state.more) == (7, 0)
        assert receiver.receive() == 0
        assert receiver.state.used == 0


def test_receive_stops_when_it_has_enough() -> None:
    with Receiver() as receiver:
        for number in range(7):
            receiver.kernel.send(build_message(b"", seq=number) * 3)
        assert receiver.receive(enough=7) == 9
        assert receiver.state.more == 1
        assert receiver.receive() == 12
        assert receiver.state.more == 0


def test_receive_stops_while_the_largest_datagram_still_fits() -> None:
    with Receiver() as receiver:
        for _ in range(2):
            receiver.kernel.send(build_message(bytes(1000)))
        assert receiver.receive(size=lib.NFL_DATAGRAM_MAX) == 1
        assert receiver.state.more == 1
        assert receiver.receive(size=lib.NFL_DATAGRAM_MAX) == 1


def test_a_truncated_datagram_is_counted_and_not_half_read() -> None:
    """The kernel does not send one so large (facts: 261 KiB at most); if it ever did, no message of it may count."""
    with Receiver() as receiver:
        receiver.kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        message = build_message(bytes(60_000))
        receiver.kernel.send(message * 5)
        receiver.kernel.send(build_message(b"next", seq=5))
        assert len(message) * 5 > lib.NFL_DATAGRAM_MAX
        assert receiver.receive(size=lib.NFL_DATAGRAM_MAX) == 1
        state = receiver.state
        assert (state.truncated, state.received, state.gap, state.malformed) == (1, 1, 5, 0)


def test_receive_reports_an_error() -> None:
    with Receiver() as receiver:
        receiver.state.fd = -1
        assert receiver.receive() == -9  # EBADF


# -- random mutations -------------------------------------------------------------------------------------------------


#: Lengths, protocols and limits.
_BYTES = (0, 1, 4, 5, 6, 20, 43, 44, 51, 58, 59, 60, 127, 128, 255)


def mutated(rng: random.Random, message: bytes) -> bytes:
    """Return a message with a few random faults; most keep the attributes whole so that the packet is reached."""
    data = bytearray(message)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        match rng.randrange(8):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                data[rng.randrange(16, len(data))] = rng.choice(_BYTES)
            case 3:
                del data[max(at, 20) :]
            case 4:
                data += rng.randbytes(rng.randrange(1, 40))
            case 5:
                start = rng.randrange(16, len(data))
                data[at : at + 4] = data[start : start + 4]
            case 6:
                data[16] = rng.choice(FAMILIES)
            case 7:
                kind, value = rng.randrange(24), rng.randbytes(rng.randrange(24))
                data += bytes(-len(data) % 4) + attribute(kind, value)
    if rng.random() < 0.9:
        data[0:8] = struct.pack("=IHH", len(data), oracle.PACKET_MESSAGE, 0)
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_samples(seed: int) -> None:
    rng = random.Random(seed)
    samples = [*sample_messages(), *(message_of(frame, oracle.BRIDGE, **FULL) for frame in frames())]
    records = assert_all_same(mutated(rng, rng.choice(samples)) for _ in range(10_000))
    assert records > 3000, "most mutations are refused at once: they test nothing"


_PACKETS = st.sampled_from([frame.payload for frame in frames()])
_EDITS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message of any attributes, with a changed packet somewhere among them, perhaps cut, perhaps lying."""
    packet = bytearray(draw(st.one_of(_PACKETS, st.binary(max_size=80))))
    for at, value in draw(_EDITS):
        if at < len(packet):
            packet[at] = value
    extra = draw(st.lists(st.tuples(st.integers(0, 24), st.binary(max_size=24)), max_size=6))
    extra.insert(draw(st.integers(0, len(extra))), (Attribute.PAYLOAD, bytes(packet)))
    message = build_message(
        None,
        family=draw(st.sampled_from((*FAMILIES, 0))),
        protocol=draw(st.sampled_from((None, 0, 0x0800, 0x0806, 0x8100, 0x86DD, 0x88A8, 0x88B5))),
        hook=draw(st.integers(0, 5)),
        extra=extra,
    )
    message = message[: len(message) - draw(st.sampled_from((0, 0, 0, 1, 2, 3, 4, 9)))]
    return with_length(message, len(message) + draw(st.sampled_from((0, 0, 0, 0, 0, -1, 1, -4))))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(messages(), min_size=1, max_size=8))
def test_random_messages(several: list[bytes]) -> None:
    assert_same(several)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=120), min_size=1, max_size=20))
def test_random_bytes(several: list[bytes]) -> None:
    assert_same(several)
