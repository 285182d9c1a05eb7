# SPDX-License-Identifier: GPL-2.0-or-later
"""Accounting objects as C decodes them, and the plan for dumps that lose nothing; what the kernel does with it is in
tests/accounting/test_objects.py.
"""

from __future__ import annotations

import errno
import random
import socket
import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nflowlevel.accounting.objects import Accounting
from nflowlevel.binding import nfacct
from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.nfacct import LEAST_ROOM, MOST_ROOM, AcctSocket, CounterArray, plan
from nflowlevel.errors import KernelError, NotSupported
from tests.fix_acct import (
    BYTES,
    COUNTER,
    DONE,
    DUMP_INTR,
    ERROR,
    FLAGS,
    NAME,
    PKTS,
    QUOTA,
    USE,
    counter_message,
    make_objects,
    result_message,
)  # fmt: skip
from tests.fix_netns import Netns
from tests.netlink import attribute, netlink

Row = tuple[bytes, int, int, int, int, int]


class Decoded:
    """What a datagram decodes to: the function's result, its account, and the counters."""

    def __init__(self, data: bytes, *, seq: int = 1, room: int = 64) -> None:
        self.answer = ffi.new("struct nfl_answer *", {"seq": seq})
        records = ffi.new("struct nfl_counter[]", room)
        # Exactly as long as it says: the sanitizers of tests/fuzz would see a byte read beyond.
        self.result = lib.nfl_counters_decode(self.answer, ffi.from_buffer(data), len(data), records, room)
        self.rows: list[Row] = [
            (ffi.string(r.name), r.packets, r.bytes, r.flags, r.quota, r.uses) for r in records[0 : self.answer.count]
        ]
        self.records = records


# -- decoding -----------------------------------------------------------------------------------------------------


def test_all_of_a_counter() -> None:
    data = counter_message(b"ipv4.http", 23, 1288, quota=(5, 2**64 - 1), uses=4)
    decoded = Decoded(data)
    assert decoded.result == 1
    assert decoded.rows == [(b"ipv4.http", 23, 1288, 5, 2**64 - 1, 4)]
    assert decoded.records[0].length == len(data)
    # nlmsghdr, nfgenmsg, and the name with its NUL and padding
    assert decoded.records[0].head == 20 + 4 + 12
    assert decoded.answer.used == len(data)


def test_messages_of_a_datagram_are_appended() -> None:
    data = b"".join(counter_message(b"c%d" % number, number) for number in range(5))
    assert [row[1] for row in Decoded(data).rows] == [0, 1, 2, 3, 4]
    assert Decoded(data + result_message(DONE, 0)).result == 0


@pytest.mark.parametrize("kind", [ERROR, DONE])
def test_results(kind: int) -> None:
    assert Decoded(result_message(kind, 0)).result == 0
    assert Decoded(result_message(kind, -errno.EPERM)).result == -errno.EPERM
    assert Decoded(result_message(kind, 5)).result == 0, "an error is negative"
    assert Decoded(netlink(kind, b"", seq=1)).result == 0, "without a code it is an end all the same"


def test_what_answers_another_request_is_ignored() -> None:
    data = counter_message(b"old", seq=7) + result_message(DONE, -errno.EPERM, seq=7) + counter_message(b"new", seq=8)
    decoded = Decoded(data, seq=8)
    assert (decoded.result, [row[0] for row in decoded.rows]) == (1, [b"new"])


def test_other_messages_are_ignored() -> None:
    decoded = Decoded(netlink(0x0701, bytes(4), seq=1) + netlink(1, b"", seq=1) + counter_message())
    assert (decoded.result, len(decoded.rows), decoded.answer.malformed) == (1, 1, 0)


def test_an_interrupted_dump_is_noted() -> None:
    assert not Decoded(counter_message()).answer.interrupted
    assert Decoded(counter_message(flags=DUMP_INTR | 2)).answer.interrupted


def test_no_more_than_there_is_room() -> None:
    decoded = Decoded(counter_message() * 3, room=2)
    assert (len(decoded.rows), decoded.answer.malformed) == (2, 1)


NUMBERS = (attribute(PKTS, bytes(8)), attribute(BYTES, bytes(8)))


@pytest.mark.parametrize(
    "attributes",
    [
        (attribute(NAME, b"\0"), *NUMBERS),  # no name
        (attribute(NAME, b""), *NUMBERS),
        (attribute(NAME, b"x" * 32), *NUMBERS),  # longer than any
        (attribute(NAME, b"a\0"), NUMBERS[0]),  # not all there
        (attribute(NAME, b"a\0"), NUMBERS[1]),
        NUMBERS,
        (attribute(NAME, b"a\0"), attribute(PKTS, bytes(7)), NUMBERS[1]),
        (attribute(NAME, b"a\0"), *NUMBERS, struct.pack("=HH", 3, USE)),  # lengths that cannot be
        (attribute(NAME, b"a\0"), *NUMBERS, struct.pack("=HH", 9, USE) + bytes(4)),
    ],
)
def test_a_message_that_makes_no_sense_is_counted_and_skipped(attributes: tuple[bytes, ...]) -> None:
    bad = netlink(COUNTER, bytes(4) + b"".join(attributes), seq=1)
    decoded = Decoded(bad + counter_message(b"next", 5))
    assert decoded.answer.malformed == 1
    assert [row[:2] for row in decoded.rows] == [(b"next", 5)]


def test_a_name_may_lack_its_nul_and_be_31_bytes_long() -> None:
    for name in (b"x" * 31, b"x" * 31 + b"\0", b"a b;\xff\n\0rest"):
        data = netlink(COUNTER, bytes(4) + attribute(NAME, name) + b"".join(NUMBERS), seq=1)
        assert Decoded(data).rows[0][0] == name.split(b"\0")[0]


@pytest.mark.parametrize("length", [0, 15, 1000])
def test_a_message_length_that_cannot_be_ends_the_datagram(length: int) -> None:
    bad = struct.pack("=I", length) + counter_message()[4:]
    decoded = Decoded(counter_message() + bad)
    assert len(decoded.rows) == 1
    assert decoded.answer.malformed == 1


def oracle(data: bytes) -> tuple[int, list[Row]]:
    """Decode a datagram, in Python: the result and the counters."""
    rows: list[Row] = []
    while len(data) >= 16:
        length, kind, _, seq, _ = struct.unpack_from("=IHHII", data)
        if not 16 <= length <= len(data):
            break
        body, data = data[16:length], data[(length + 3) & ~3 :]
        if seq != 1:
            continue
        if kind in (ERROR, DONE):
            return min(0, struct.unpack_from("=i", body)[0]) if len(body) >= 4 else 0, rows
        if kind == COUNTER and (row := oracle_counter(body)):
            rows.append(row)
    return 1, rows


def oracle_counter(body: bytes) -> Row | None:
    values: dict[int, bytes | None] = {}
    numbers = {PKTS: 8, BYTES: 8, USE: 4, FLAGS: 4, QUOTA: 8}
    if len(body) < 4:
        return None
    body = body[4:]
    while len(body) >= 4:
        length, kind = struct.unpack_from("=HH", body)
        if not 4 <= length <= len(body):
            return None
        value, body, kind = body[4:length], body[(length + 3) & ~3 :], kind & 0x3FFF
        if kind == NAME:
            name = value.split(b"\0")[0]
            values[NAME] = name if 0 < len(name) < 32 else None
        elif kind in numbers:
            if len(value) >= numbers[kind]:
                values[kind] = value[: numbers[kind]]
            elif kind in (PKTS, BYTES):
                values[kind] = None
    if any(values.get(kind) is None for kind in (NAME, PKTS, BYTES)):
        return None
    got = {kind: int.from_bytes(values.get(kind) or b"") for kind in numbers}
    return values[NAME] or b"", got[PKTS], got[BYTES], got[FLAGS], got[QUOTA], got[USE]


numbers64 = st.integers(0, 2**64 - 1)
messages = st.one_of(
    st.builds(
        counter_message,
        st.binary(min_size=1, max_size=31).filter(lambda name: b"\0" not in name),
        numbers64,
        numbers64,
        quota=st.none() | st.tuples(st.integers(0, 7), numbers64),
        uses=st.integers(1, 1000),
        seq=st.integers(1, 2),
    ),
    st.builds(result_message, st.sampled_from([ERROR, DONE]), st.integers(-40, 1)),
    st.binary(max_size=40),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(messages, max_size=4), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3), st.data()
)
def test_decoder_and_oracle_agree(parts: list[bytes], changes: list[tuple[int, int]], data: Any) -> None:
    datagram = bytearray(b"".join(parts))
    for at, value in changes:
        if at < len(datagram):
            datagram[at] = value
    cut = bytes(datagram[: data.draw(st.integers(0, len(datagram)))])
    decoded = Decoded(cut)
    assert (decoded.result, decoded.rows) == oracle(cut)


# -- receiving ----------------------------------------------------------------------------------------------------


def test_a_datagram_longer_than_the_buffer_is_refused() -> None:
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with reader, writer:
        answer, records = ffi.new("struct nfl_answer *", {"seq": 1}), ffi.new("struct nfl_counter[]", 8)

        def receive(size: int) -> int:
            return int(lib.nfl_counters_receive(answer, reader.fileno(), ffi.new("uint8_t[]", size), size, records, 8))

        message = counter_message()
        assert receive(64) == -errno.EAGAIN
        writer.send(message)
        assert receive(len(message) - 1) == -errno.EMSGSIZE
        assert (answer.count, answer.malformed) == (0, 1)
        writer.send(message)
        assert receive(len(message)) == 1
        assert answer.count == 1
        reader.shutdown(socket.SHUT_RD)
    assert receive(64) == -errno.EBADF


# -- arrays -------------------------------------------------------------------------------------------------------


def array_of(*shapes: tuple[int, int]) -> CounterArray:
    """Return counters of which only length and head matter."""
    counters = CounterArray(1)
    for number, (head, rest) in enumerate(shapes):
        record = ffi.new("struct nfl_counter *", {"packets": number, "head": head, "length": head + rest})
        record.name = b"c%d" % number
        counters.append(record[0])
    return counters


def test_columns() -> None:
    counters = array_of(*[(32, 36)] * 100)
    assert counters.column("packets").tolist() == list(range(100))
    assert counters.column("uses").tolist() == [0] * 100
    assert counters.column("packets").readonly
    assert counters.names() == [f"c{number}" for number in range(100)]
    column = counters.column("packets")
    del counters
    assert column[99] == 99, "a column keeps the memory"


def test_columns_of_nothing() -> None:
    assert CounterArray().column("packets").tolist() == []
    assert CounterArray().names() == []


# -- the plan -----------------------------------------------------------------------------------------------------


def packed(counters: CounterArray, rooms: list[int]) -> list[tuple[int, int]]:
    """Fill datagrams as the kernel does; return (bytes left, first counter that did not fit) of each."""
    ends, used, datagram = [], 0, 0
    for number in range(counters.count):
        record = counters.records[number]
        room = rooms[min(datagram, len(rooms) - 1)]
        if used + record.length > room:
            ends.append((room - used, number))
            used, datagram = 0, datagram + 1
        used += record.length
    return ends


SHAPES = [(20 + 4 + name, rest) for name in range(4, 36, 4) for rest in (36, 56)]


@pytest.mark.parametrize("count", [0, 1, 300, 400, 3000, 40_000])
@pytest.mark.parametrize("seed", range(3))
def test_a_planned_datagram_never_ends_within_an_object(count: int, seed: int) -> None:
    chance = random.Random(seed)
    counters = array_of(*(chance.choice(SHAPES) for _ in range(count)))
    rooms = plan(counters)
    assert all(LEAST_ROOM <= room <= MOST_ROOM for room in rooms)
    assert all(one <= other for one, other in pairwise(rooms)), "a socket's datagrams can only grow"
    ends = packed(counters, rooms)
    assert len(rooms) == len(ends) + 1
    assert not [left for left, number in ends if left >= counters.records[number].head]
    if count <= 300:
        assert rooms == [MOST_ROOM]


def test_objects_of_one_size_need_no_growing() -> None:
    rooms = plan(array_of(*[(40, 36)] * 5000))
    assert len(set(rooms)) == 1


def test_there_is_a_plan_for_a_quarter_of_a_million() -> None:
    counters = many(250_000)
    rooms = plan(counters)
    assert not [left for left, number in packed(counters, rooms) if left >= counters.records[number].head]


def many(count: int) -> CounterArray:
    chance = random.Random(9)
    counters = CounterArray(count)
    counters.count = count
    for record in counters.records[0:count]:
        head, rest = chance.choice(SHAPES)
        record.head, record.length = head, head + rest
    return counters


def test_where_datagrams_would_have_to_grow_too_far_the_first_ones_are_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nfacct, "MOST_ROOM", LEAST_ROOM + 100)
    monkeypatch.setattr(nfacct, "_FIRST_ROOMS", (LEAST_ROOM,))
    counters = many(5000)
    rooms = plan(counters)
    assert rooms[-1] == LEAST_ROOM + 100
    bad = [number for left, number in packed(counters, rooms) if left >= counters.records[number].head]
    assert bad
    assert min(bad) > 1000


# -- the kernel ---------------------------------------------------------------------------------------------------


def test_the_kernel_fills_datagrams_as_planned(netns: Netns) -> None:
    """If this fails the kernel has other sizes than the plan believes, and dumps that zero may lose counts."""
    with Accounting(netns.name) as accounting:
        made = make_objects(accounting, 3000)
    reader = AcctSocket(netns.name)
    counters = reader.dump(zero=False, only=None).counters
    reader.close()
    rooms = plan(counters)
    assert len(rooms) > 5
    fresh = AcctSocket(netns.name)
    dump = fresh.dump(zero=True, only=None, rooms=rooms)
    fresh.close()
    assert list(dump.starts) == [number for _, number in packed(counters, rooms)]
    assert dict(zip(dump.counters.names(), counts(dump.counters), strict=True)) == made
    assert not dump.may_be_cut
    assert (dump.error, dump.malformed) == (0, 0)


def counts(counters: CounterArray) -> list[tuple[int, int]]:
    return list(zip(counters.column("packets").tolist(), counters.column("bytes").tolist(), strict=True))


def test_a_subsystem_that_is_missing(netns: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without accounting answers as this one does for a subsystem that nobody has."""
    build = lib.nfacct_nlmsg_build_hdr

    class Lib:
        def __getattr__(self, name: str) -> Any:
            return getattr(lib, name)

        def nfacct_nlmsg_build_hdr(self, *arguments: Any) -> Any:
            message = build(*arguments)
            message.nlmsg_type = 14 << 8 | (message.nlmsg_type & 0xFF)
            return message

    reader = AcctSocket(netns.name)
    monkeypatch.setattr(nfacct, "lib", Lib())
    for ask in (
        lambda: reader.create(b"a", packets=0, bytes_=0, flags=0, quota=0),
        lambda: reader.get(b"a", zero=False),
        lambda: reader.delete(b"a"),
        lambda: reader.dump(zero=False, only=None),
        lambda: reader.dump(zero=True, only=None),
    ):
        with pytest.raises(NotSupported, match=r"packet accounting is not available.*modprobe nfnetlink_acct"):
            ask()
    reader.close()


def test_a_wrong_request_is_not_taken_for_a_missing_subsystem(netns: Netns) -> None:
    reader = AcctSocket(netns.name)
    with pytest.raises(KernelError, match="Invalid argument"):
        reader.create(b"a", packets=0, bytes_=0, flags=3, quota=1)
    with pytest.raises(KernelError, match="Operation not supported"):
        reader.create(b"a", packets=0, bytes_=0, flags=8, quota=1)
    reader.close()


def test_an_answer_that_does_not_come(netns: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nfacct, "_ANSWER_SECS", 0.05)
    reader = AcctSocket(netns.name)
    monkeypatch.setattr(reader.socket, "send", lambda message: None)
    with pytest.raises(KernelError, match="timed out"):
        reader.flush()
    reader.close()


def test_an_answer_that_comes_late_is_not_taken_for_another(netns: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = AcctSocket(netns.name)
    reader.create(b"a", packets=5, bytes_=0, flags=0, quota=0)
    with monkeypatch.context() as patch:
        patch.setattr(reader, "_receive", lambda *_: -errno.ETIMEDOUT)
        with pytest.raises(KernelError, match="timed out"):
            reader.get(b"a", zero=False)
    reader.create(b"b", packets=6, bytes_=0, flags=0, quota=0)
    assert reader.get(b"b", zero=False).records[0].packets == 6
    reader.close()
    reader.close()


def test_only_the_kernel_is_believed(netns: Netns) -> None:
    """Root of a namespace, as in a container, can send to the group of quotas."""
    forged = counter_message(b"forged", seq=0, flags=0)
    answer, counters = ffi.new("struct nfl_answer *"), ffi.new("struct nfl_counter[]", 1)
    lib.nfl_counters_decode(answer, forged, len(forged), counters, 1)
    assert answer.count == 1, "nothing is wrong with it but its sender"
    quotas = nfacct.QuotaSocket(netns.path)
    for _ in range(3):
        netns.forge(lib.NETLINK_NETFILTER, forged, lib.NFNLGRP_ACCT_QUOTA)
    assert (quotas.receive().count, quotas.state.foreign) == (0, 3)
    netns.forge(lib.NETLINK_NETFILTER, forged, lib.NFNLGRP_ACCT_QUOTA)
    assert (quotas.receive().count, quotas.state.foreign) == (0, 4)
    quotas.close()
