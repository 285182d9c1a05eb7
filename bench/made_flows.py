# SPDX-License-Identifier: GPL-2.0-or-later
"""Flows without packets: entries of conntrack's table that are made and removed through netlink, at a steady rate.

The kernel tells of each that ends, as of one of packets. Making them costs the one who makes them, on another CPU.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator

from bench.netns import Field

_NETLINK_NETFILTER = 12
_CTNETLINK, _NEW, _DELETE = 1 << 8, 0, 2
_REQUEST, _CREATE = 1, 0x400 | 0x200
_NESTED = 0x8000
#: Messages of one call, and flows that are there at a time.
_AT_ONCE, _WAVE = 50, 1000

_SYSCTLS = {"acct": 1, "timestamp": 1, "events": 1}
#: Conntrack works where a rule asks for it; what the contenders send is no flow.
_RULES = """
table inet benchflows
delete table inet benchflows
table inet benchflows {
    chain out {
        type filter hook output priority -300;
        oif lo notrack
    }
    chain come {
        type filter hook prerouting priority -300;
        iif lo notrack
    }
    chain known {
        type filter hook prerouting priority 0;
        ct state new accept
    }
}
"""


def prepare(field: Field) -> None:
    """Have the kernel count, stamp and tell in `fw`."""
    with field.fw.enter():
        for name, value in _SYSCTLS.items():
            with open(f"/proc/sys/net/netfilter/nf_conntrack_{name}", "w") as file:
                file.write(str(value))
    field.fw.run("nft", "-f", "-", text=_RULES)


def _attribute(kind: int, data: bytes, nested: int = _NESTED) -> bytes:
    padding = bytes(-len(data) % 4)
    return struct.pack("=HH", 4 + len(data), kind | nested) + data + padding


def _tuple(kind: int, source: bytes, target: bytes, sport: int, dport: int) -> bytes:
    addresses = _attribute(1, source, 0) + _attribute(2, target, 0)
    ports = _attribute(2, struct.pack("!H", sport), 0) + _attribute(3, struct.pack("!H", dport), 0)
    return _attribute(kind, _attribute(1, addresses) + _attribute(2, _attribute(1, b"\x11", 0) + ports))


def _messages(first: int, count: int) -> tuple[bytes, bytes]:
    """Return what makes flows, and what removes them."""
    made: list[bytes] = []
    removed: list[bytes] = []
    for number in range(first, first + count):
        source = struct.pack("!I", 0x0A630100 + number // 60_000)
        sport = 1024 + number % 60_000
        target = b"\x0a\x63\0\1"
        original, reply = _tuple(1, source, target, sport, 9), _tuple(2, target, source, 9, sport)
        timeout = _attribute(7, struct.pack("!I", 600), 0)
        for found, kind, flags, attributes in (
            (made, _NEW, _CREATE, original + reply + timeout),
            (removed, _DELETE, 0, original),
        ):
            head = struct.pack("=IHHII", 20 + len(attributes), _CTNETLINK | kind, _REQUEST | flags, 0, 0)
            found.append(head + struct.pack("=BBH", socket.AF_INET, 0, 0) + attributes)
    return b"".join(made), b"".join(removed)


@contextlib.contextmanager
def _on_first_cpu() -> Iterator[None]:
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mine)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def send_flows(field: Field, count: int, rate: int) -> float:
    """Have `count` flows end, `rate` a second; return the rate reached."""
    with field.fw.enter():
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    waves = [
        [
            _messages(at, min(_AT_ONCE, start + _WAVE - at, count - at))
            for at in range(start, min(start + _WAVE, count), _AT_ONCE)
        ]
        for start in range(0, count, _WAVE)
    ]
    with _on_first_cpu(), netlink:
        began = time.monotonic()
        for number, wave in enumerate(waves):
            for made, _ in wave:
                netlink.send(made)
            for _, removed in wave:
                netlink.send(removed)
            ahead = began + (number + 1) * _WAVE / rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
        return count / (time.monotonic() - began)
