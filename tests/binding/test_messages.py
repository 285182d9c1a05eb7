# SPDX-License-Identifier: GPL-2.0-or-later
"""The netlink codec: what libmnl makes of ours, what we make of libmnl's, and nothing is read beyond its end."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.binding import messages
from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.messages import Message, attribute, attributes, errno_of, general, message, nested, number, text
from nflowlevel.binding.netlink import NetlinkSocket
from nflowlevel.errors import KernelError


def test_numbers_are_those_of_libmnl() -> None:
    assert (messages.REQUEST, messages.ACK, messages.DUMP) == (lib.NLM_F_REQUEST, lib.NLM_F_ACK, lib.NLM_F_DUMP)
    assert (messages.CREATE, messages.EXCLUSIVE) == (lib.NLM_F_CREATE, lib.NLM_F_EXCL)


def test_a_message_is_what_libmnl_makes() -> None:
    buffer = ffi.new("char[]", 256)
    header = lib.mnl_nlmsg_put_header(buffer)
    header.nlmsg_type, header.nlmsg_flags, header.nlmsg_seq = 0x1234, lib.NLM_F_REQUEST | lib.NLM_F_DUMP, 77
    lib.mnl_nlmsg_put_extra_header(header, messages.GENERAL_BYTES)
    nest = lib.mnl_attr_nest_start(header, 3)
    lib.mnl_attr_put_u32(header, 1, int.from_bytes((5).to_bytes(4, "big"), "little"))
    lib.mnl_attr_nest_end(header, nest)
    made = bytes(ffi.buffer(buffer, header.nlmsg_len))
    body = general(0) + nested(3, number(1, 5))
    assert message(0x1234, messages.REQUEST | messages.DUMP, 77, body) == made
    assert list(messages.read(made)) == [Message(0x1234, 0x301, 77, body)]
    assert attributes(attributes(body, messages.GENERAL_BYTES)[3]) == {1: b"\0\0\0\5"}


def test_general() -> None:
    assert general(7) == bytes((7, 0, 0, 0))
    assert general(0, 10) == bytes((0, 0, 0, 10))


def test_attributes() -> None:
    data = text(1, "abc") + attribute(2, b"") + attribute(1, b"12345") + nested(4, b"")
    assert len(data) == 8 + 4 + 12 + 4
    assert attributes(data) == {1: b"12345", 2: b"", 4: b""}
    assert attributes(b"head" + data, 4) == attributes(data)


def test_errors() -> None:
    assert errno_of(struct.pack("=i", -errno.EPERM) + bytes(16)) == errno.EPERM
    assert errno_of(bytes(20)) == 0


@given(st.lists(st.binary(max_size=9), max_size=4), st.integers(0, 80))
def test_what_is_cut_ends_before(bodies: list[bytes], at: int) -> None:
    padded = [message(1, 0, n, body) + bytes(-len(body) % 4) for n, body in enumerate(bodies)]
    datagram = b"".join(padded)[:at]
    whole = [each.body for each in messages.read(datagram)]
    ends = [sum(map(len, padded[:n])) + 16 + len(bodies[n]) for n in range(len(bodies))]
    assert whole == bodies[: sum(end <= at for end in ends)]


@given(st.dictionaries(st.integers(1, 20), st.binary(max_size=9), max_size=4), st.integers(0, 60))
def test_attributes_that_are_cut(wanted: dict[int, bytes], at: int) -> None:
    data = b"".join(attribute(type_, value) for type_, value in wanted.items())
    found = attributes(data[:at])
    assert list(found.items()) == list(wanted.items())[: len(found)]
    if at >= len(data):
        assert found == wanted


@given(st.binary(max_size=64))
def test_any_bytes_come_to_an_end(data: bytes) -> None:
    assert all(each.body in data for each in messages.read(data))
    assert all(value in data for value in attributes(data).values())


@pytest.mark.parametrize("length", [0, 1, 15, 17, 1000])
def test_lengths_that_cannot_be(length: int) -> None:
    assert list(messages.read(struct.pack("=IHHII", length, 1, 0, 0, 0))) == []


def test_a_socket_sends_requests_and_reads_answers() -> None:
    nothing, getlink = 1, 18
    with NetlinkSocket(lib.NETLINK_ROUTE) as sock:
        sock.write(message(getlink, messages.REQUEST | messages.DUMP, 5, bytes(16)), "list")
        answers = list(sock.answers("list"))
        assert {each.sequence for each in answers} == {5}
        assert answers[-1].type == messages.DONE
        sock.write(message(nothing, messages.REQUEST | messages.ACK, 6, b""), "ask nothing")
        (answer,) = sock.answers("ask nothing")
        assert (answer.type, errno_of(answer.body)) == (messages.ERROR, 0)
        sock.write(message(0x7FF, messages.REQUEST, 7, bytes(16)), "ask what there is not")
        (answer,) = sock.answers("ask")
        assert errno_of(answer.body) == errno.EOPNOTSUPP
        with pytest.raises(KernelError, match=r"^send a message that is too long: "):
            sock.write(bytes(8 << 20), "send a message that is too long")
