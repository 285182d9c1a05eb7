# SPDX-License-Identifier: GPL-2.0-or-later
"""A firewall whose flows are watched: what passed is counted by nft beside conntrack, so that records can be summed up.

The truth is a counter of nft's, of all packets that conntrack counts too, in and out; `conntrack -F` ends flows.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pytest

from nflowlevel.readers.flows import Flows
from nflowlevel.records.batch import Batch
from tests.fix_netns import Pair, mac_bytes, missing

_RULES = """
table inet t {
	counter seen { }
	chain come {
		type filter hook prerouting priority -150; policy accept;
		ct state { new, established } counter name seen
	}
	chain go {
		type filter hook output priority -150; policy accept;
		ct state { new, established } counter name seen
	}
}
"""

#: A socket buffer in which about so many events have room.
SMALL_BUFFER, SMALL_EVENTS = 64 << 10, 110


class Sum(NamedTuple):
    """Packets and bytes."""

    packets: int
    bytes: int


def summed(batches: Iterable[Batch]) -> Sum:
    """Return what records add up to, both directions together."""
    packets = bytes_ = 0
    for batch in batches:
        for way in ("orig", "reply"):
            packets += sum(batch.values(f"{way}.raw.pktcount"))
            bytes_ += sum(batch.values(f"{way}.raw.pktlen"))
    return Sum(packets, bytes_)


class Watched(Pair):
    """A pair of namespaces; the flows of `fw` are counted and stamped."""

    def __init__(self, *, stamps: bool = True) -> None:
        super().__init__()
        for name, value in (("acct", 1), ("timestamp", int(stamps)), ("events", 1)):
            self.fw.sysctl(f"net.netfilter.nf_conntrack_{name}", value)
        self.fw.nft(_RULES)

    def seen(self) -> Sum:
        """Return what passed."""
        counter = self.fw.run("nft", "list", "counter", "inet", "t", "seen").stdout.split()
        return Sum(int(counter[counter.index("packets") + 1]), int(counter[counter.index("bytes") + 1]))

    def flush(self) -> None:
        """End all flows."""
        self.fw.run("conntrack", "-F")

    def udp_flows(self, ports: Iterable[int], *, packets: int = 1, size: int = 20) -> None:
        """Send so many datagrams from each source port, one after the other."""
        ethernet = mac_bytes(self.FW_MAC) + mac_bytes(self.PEER_MAC) + b"\x08\0"
        addresses = socket.inet_aton(self.PEER4) + socket.inet_aton(self.FW4)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 28 + size, 0, 0, 64, 17, 0) + addresses
        total = sum(struct.unpack("!10H", head))
        total = (total & 0xFFFF) + (total >> 16)
        total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        head = head[:10] + total.to_bytes(2, "big") + head[12:]
        tail = struct.pack("!HHH", 9, 8 + size, 0) + bytes(size)
        frames = [ethernet + head + port.to_bytes(2, "big") + tail for port in ports]
        for _ in range(packets):
            self.inject(frames)

    def echo(self, family: int, *, count: int, size: int) -> None:
        """Send echo requests, and wait for their answers."""
        six = family == socket.AF_INET6
        kind, protocol, target = (128, socket.IPPROTO_ICMPV6, self.FW6) if six else (8, socket.IPPROTO_ICMP, self.FW4)
        with self.peer.enter(), socket.socket(family, socket.SOCK_RAW, protocol) as raw:
            raw.settimeout(10)
            for number in range(count):
                body = struct.pack("!HH", 77, number) + bytes(size)
                # The sum over zeros is that of the rest; the kernel computes that of ICMPv6 itself.
                check = 0 if six else ~((kind << 8) + 77 + number) & 0xFFFF
                raw.sendto(struct.pack("!BBH", kind, 0, check) + body, (target, 0))
                answer = (129 if six else 0).to_bytes(1, "big")
                while (got := raw.recv(1 << 16))[0 if six else 20 :][:1] != answer:
                    assert got

    def tcp(self, sent: int, answered: int, port: int = 80, listening: int = 0) -> None:
        """Have a connection that carries so many bytes there and back, and ends; `listening`: where it leads to."""
        with self._listening(listening or port, bytes(answered)) as ready:
            ready.wait(10)
            with self.peer.enter():
                client = socket.create_connection((self.FW4, port), 10)
            with client:
                client.sendall(bytes(sent) + b"!")
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 16):
                    pass

    @contextlib.contextmanager
    def _listening(self, port: int, answer: bytes) -> Iterator[threading.Event]:
        ready = threading.Event()
        with self.fw.enter():
            server = socket.create_server(("", port))

        def serve() -> None:
            ready.set()
            connection, _ = server.accept()
            with connection:
                while connection.recv(1 << 16):
                    pass
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield ready
        finally:
            thread.join(10)
            server.close()


def read(flows: Flows, secs: float = 0.3) -> list[Batch]:
    """Return all that comes, until nothing has come for so long."""
    found: list[Batch] = []
    for batch in flows.batches(timeout=secs):
        if not batch:
            break
        found.append(batch)
    return found


def known(flows: Flows) -> None:
    """Have the kernel's table read, as a reader does first of all."""
    while flows.more or flows.deadline == 0.0:
        assert not flows.receive()


def reported(flows: Flows) -> list[Batch]:
    """Return the records of all that goes on."""
    flows.report()
    return read(flows, 0.2)


def records(batches: Iterable[Batch], *keys: str) -> list[tuple[Any, ...]]:
    """Return keys of all records."""
    return [row for batch in batches for row in batch.rows(*keys)]


def until(flows: Flows, count: int, secs: float = 20) -> list[Batch]:
    """Return what comes, until there are so many records."""
    found: list[Batch] = []
    deadline = time.monotonic() + secs
    while sum(map(len, found)) < count:
        assert time.monotonic() < deadline, f"{sum(map(len, found))} of {count} records came: {flows.stats}"
        found += read(flows, 0.1)
    return found


@pytest.fixture
def watched() -> Iterator[Watched]:
    """A firewall whose flows are watched, counted and stamped."""
    if missing():
        pytest.skip(missing())
    world = Watched()
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
def unstamped() -> Iterator[Watched]:
    """The same, but the kernel stamps no beginnings."""
    if missing():
        pytest.skip(missing())
    world = Watched(stamps=False)
    try:
        yield world
    finally:
        world.close()
