# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of accounting share: netlink messages made by hand, many objects at once, rules that count, nfacct."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import nflowlevel
from nflowlevel.accounting.objects import Accounting
from nflowlevel.accounting.table import CounterTable
from nflowlevel.binding._lib import ffi
from nflowlevel.binding.nfacct import CounterArray
from nflowlevel.records.batch import Batch
from tests.fix_debian import need
from tests.fix_lines import no_descriptor_left
from tests.fix_netns import Netns
from tests.netlink import attribute, netlink

#: Objects in the tests of large dumps. Making 100,000 takes the kernel a minute: it compares each with all before it.
MANY = int(os.environ.get("NFLOWLEVEL_OBJECTS", "8000"))

COUNTER = 7 << 8
ERROR, DONE = 2, 3
MULTI, DUMP_INTR = 2, 0x10
NAME, PKTS, BYTES, USE, FLAGS, QUOTA = 1, 2, 3, 4, 5, 6


def counter_message(
    name: bytes = b"a", packets: int = 0, size: int = 0, *, quota: tuple[int, int] | None = None, uses: int = 1,
    seq: int = 1, flags: int = MULTI,
) -> bytes:  # fmt: skip
    """Return what the kernel sends of an object; `quota` is (flags, quota)."""
    attributes = [
        attribute(NAME, name + b"\0"),
        attribute(PKTS, packets.to_bytes(8)),
        attribute(BYTES, size.to_bytes(8)),
        attribute(USE, uses.to_bytes(4)),
    ]
    if quota:
        attributes += [attribute(FLAGS, quota[0].to_bytes(4)), attribute(QUOTA, quota[1].to_bytes(8))]
    return netlink(COUNTER, bytes(4) + b"".join(attributes), seq=seq, flags=flags)


def result_message(kind: int, error: int, *, seq: int = 1, flags: int = 0) -> bytes:
    """Return NLMSG_ERROR or NLMSG_DONE with this code."""
    rest = bytes(16) if kind == ERROR else b""
    return netlink(kind, struct.pack("=i", error) + rest, seq=seq, flags=flags)


def sums_of(*counted: tuple[bytes, int, int], stamp: bool = True) -> Batch:
    """Return a batch of sums (name, packets, bytes) as NFACCT gives them, read at 2026-11-23 18:54:44.190524 UTC."""
    array = CounterArray(1)
    for name, packets, size in counted:
        array.append(ffi.new("struct nfl_counter *", {"valid": 1, "name": name, "packets": packets, "bytes": size})[0])
    return CounterTable(array).batch((1_795_460_084, 190_524 if stamp else None), stamp=stamp)


def make_objects(
    accounting: Accounting, count: int, *, seed: int = 1, quotas: float = 0.2
) -> dict[str, tuple[int, int]]:
    """Create objects with names of all lengths, some with a quota; return their packets and bytes by name."""
    chance = random.Random(seed)
    made = {}
    for number in range(count):
        name = f"c{number}".ljust(chance.randint(1, 31), ".")
        packets, size = chance.getrandbits(40) + 1, chance.getrandbits(50) + 1
        quota = chance.getrandbits(62) if chance.random() < quotas else None
        accounting.create(name, packets=packets, bytes=size, packet_quota=quota)
        made[name] = packets, size
    return made


def count_udp(netns: Netns, name: str, port: int = 9, *, tool: str = "iptables", chain: str = "INPUT") -> None:
    """Add a rule that counts UDP to a port into an object."""
    need("iptables")
    netns.run(tool, "-w", "-A", chain, "-p", "udp", "--dport", str(port), "-m", "nfacct", "--nfacct-name", name)


def environment() -> dict[str, str]:
    """Return the test's environment with the package under test first."""
    return {**os.environ, "PYTHONPATH": str(Path(nflowlevel.__file__).parents[1])}


@pytest.fixture
def accounting(netns: Netns) -> Iterator[Accounting]:
    """The objects of a namespace of the test's own."""
    with no_descriptor_left(), Accounting(netns.name) as opened:
        yield opened


Sums = dict[str, tuple[int, int]]


def sums(table: CounterTable) -> Sums:
    """Return packets and bytes by name; fail if a name comes twice."""
    found = dict(zip(table.names, zip(table.packets.tolist(), table.bytes.tolist(), strict=True), strict=True))
    assert len(found) == len(table)
    return found
