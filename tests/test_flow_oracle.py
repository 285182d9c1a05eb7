# SPDX-License-Identifier: GPL-2.0-or-later
"""The decoder of flows in C agrees with the one in Python: on every sample, every truncation and many mutations."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from nflowlevel.records.keys import published_by
from tests import flow_oracle
from tests.fix_flow_messages import (
    DESTROY,
    NEW,
    NOW_NS,
    UPDATE,
    counters,
    decode_flows,
    message,
    number,
    tcp_flow,
    times,
    tuple_of,
)
from tests.netlink import attribute, nest

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the reference reads flags of little-endian machines")

#: Filters make others of these.
_KEYS = frozenset(key.name for key in published_by("NFCT"))


def samples() -> Iterator[bytes]:
    """Yield a message for each kind of flow."""
    for event in (NEW, UPDATE, DESTROY):
        yield message(event, *tcp_flow())
        yield message(
            event,
            tuple_of(1, "fd00::2", "fd00::1", 17, ports=(5000, 53), zone=3),
            tuple_of(2, "fd00::1", "fd00::2", 17, ports=(53, 5000), zone=4),
            counters(9, 1, 60),
            number(12, 7),
            attribute(27, struct.pack("!Q", NOW_NS - 5_000_000)),
            family=10,
        )
    yield message(NEW, tuple_of(1, "10.0.0.1", "10.0.0.2", 1, icmp=(8, 0, 77)), tuple_of(2, "10.0.0.2", "10.0.0.1", 1))
    yield message(
        DESTROY,
        tuple_of(1, "fd00::1", "fd00::2", 58, icmp=(128, 0, 9)),
        tuple_of(2, "fd00::2", "fd00::1", 58, icmp=(129, 0, 9)),
        times(1),
    )
    yield message(
        DESTROY,
        tuple_of(1, "10.0.0.1", "10.0.0.2", 132, ports=(1, 2)),
        tuple_of(2, "10.0.0.2", "10.0.0.1", 132, ports=(2, 1)),
        nest(4, nest(3, attribute(1, b"\x04"))),
    )
    yield message(UPDATE, tuple_of(1, "10.0.0.1", "10.0.0.2", 47), tuple_of(2, "10.0.0.2", "10.0.0.1", 47))


def ours(datagram: bytes) -> dict[str, Any] | None:
    """Return what C makes of one message, None if it is malformed."""
    batch, state = decode_flows([datagram])
    assert state.malformed + len(batch) == 1
    if not batch:
        return None
    (keys,) = batch.to_dicts()
    # Not every library shortens an IPv6 address in the same way.
    return {
        name: str(ip_address(value)) if name.endswith("addr") else value
        for name, value in keys.items()
        if name in _KEYS
    }


def theirs(datagram: bytes) -> dict[str, Any] | None:
    keys = flow_oracle.decode(datagram, now=NOW_NS)
    return keys and {name: _shown(name, value) for name, value in keys.items()}


def _shown(name: str, value: Any) -> Any:
    if name.endswith("addr"):
        return str(ip_address(value))
    return value.decode("utf-8", "surrogateescape") if name == "ct.helper" else value


def same(datagram: bytes) -> None:
    assert ours(datagram) == theirs(datagram), datagram.hex()


def resized(datagram: bytes) -> bytes:
    """Return it with its length in its head."""
    return struct.pack("=I", len(datagram)) + datagram[4:]


@pytest.mark.parametrize("datagram", [*samples()], ids=lambda each: f"{len(each)} bytes")
def test_samples_and_truncations(datagram: bytes) -> None:
    assert theirs(datagram)
    same(datagram)
    for size in range(20, len(datagram)):
        same(resized(datagram[:size]))


def test_mutations() -> None:
    chance = random.Random(13)
    everything = [*samples()]
    decoded = 0
    for _ in range(6000):
        data = bytearray(chance.choice(everything))
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(20, len(data))
            what = chance.randrange(3)
            if what == 0:
                data[at] = chance.randrange(256)
            elif what == 1:
                data[at] ^= 1 << chance.randrange(8)
            else:
                at &= ~3
                data[at : at + 2] = struct.pack("=H", chance.choice((0, 3, 4, 5, 6, 8, 12, 20, 0x7FFF, 0xFFFF)))
        datagram = resized(bytes(data))
        same(datagram)
        decoded += theirs(datagram) is not None
    assert decoded > 2000
