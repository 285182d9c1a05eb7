# SPDX-License-Identifier: GPL-2.0-or-later
"""What a prefilter has counted: packets and bytes by reason and protocol, the largest senders and ports.

Each packet is counted in one cell, by what became of it and what it is, so that all sums agree at every moment:
logged + sampled_out + rate_limited + filtered == seen.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from nflowlevel.binding._lib import lib

#: Reasons in the order of enum nfl_reason (bpf/prefilter.h), and the total each belongs to.
REASONS: Mapping[str, str] = {
    "logged": "logged",
    "sampled_out": "sampled_out",
    "rate": "rate_limited",
    "global_rate": "rate_limited",
    "first_of_flow": "rate_limited",
    "ignored": "filtered",
    "outside": "filtered",
    "protocol": "filtered",
    "port": "filtered",
    "tcp_flags": "filtered",
    "predicate": "filtered",
}

#: Protocols in the order of enum nfl_class. `unknown` is no IP, or cut or wrong before its protocol is known.
PROTOCOLS = ("tcp", "udp", "icmp", "icmpv6", "sctp", "other", "unknown")

#: What becomes of a packet.
TOTALS = ("logged", "sampled_out", "rate_limited", "filtered")

#: The protocols whose ports are counted, in the order of the map.
_PORTS = ("tcp", "udp", "sctp")


class Count(NamedTuple):
    """Packets, and their bytes from the network header on."""

    packets: int
    bytes: int


class PrefilterCounters(msgspec.Struct, frozen=True):
    """What became of all packets since the prefilter was loaded: `cells[reason][protocol]`, and sums of them."""

    cells: dict[str, dict[str, Count]]

    @property
    def seen(self) -> int:
        """Packets that the program has seen."""
        return self.total(TOTALS).packets

    @property
    def logged(self) -> int:
        """Packets that matched."""
        return self.total(("logged",)).packets

    @property
    def sampled_out(self) -> int:
        """Packets that `sample` left out."""
        return self.total(("sampled_out",)).packets

    @property
    def rate_limited(self) -> int:
        """Packets beyond a rate, or of a flow that was logged just before."""
        return self.total(("rate_limited",)).packets

    @property
    def filtered(self) -> int:
        """Packets that did not meet the conditions."""
        return self.total(("filtered",)).packets

    @property
    def reasons(self) -> dict[str, Count]:
        """Packets and bytes by reason."""
        return {reason: _sum(row.values()) for reason, row in self.cells.items()}

    @property
    def protocols(self) -> dict[str, dict[str, Count]]:
        """Packets and bytes by protocol, and for each protocol by reason."""
        return {
            protocol: {"seen": self.total(TOTALS, protocol), **{t: self.total((t,), protocol) for t in TOTALS}}
            for protocol in PROTOCOLS
        }

    def total(self, totals: Iterable[str], protocol: str | None = None) -> Count:
        """Return the sum of what became of packets, of all protocols or of one."""
        wanted = frozenset(totals)
        return _sum(
            count
            for reason, row in self.cells.items()
            if REASONS[reason] in wanted
            for name, count in row.items()
            if protocol in (None, name)
        )

    def __str__(self) -> str:
        reasons = [f"{name} {count.packets}" for name, count in self.reasons.items() if count.packets]
        why = f" ({', '.join(reasons)})" if reasons else ""
        return (
            f"seen {self.seen}, logged {self.logged}, filtered {self.filtered}, sampled out {self.sampled_out}, "
            f"rate limited {self.rate_limited}{why}"
        )


class Top(NamedTuple):
    """The largest senders and destination ports among the packets that met all conditions."""

    sources: list[tuple[str, Count]]
    """Addresses, or networks if a prefix makes many addresses one source."""
    ports: list[tuple[str, int, int]]
    """Protocol, port, packets."""


def counters(cells: Iterable[tuple[bytes, bytes]]) -> PrefilterCounters:
    """Return the sums over all CPUs of the map of counters: reason and protocol as one number, and cells."""
    sums: dict[int, Count] = {}
    for key, value in cells:
        numbers = memoryview(value).cast("Q")
        sums[struct.unpack("=I", key)[0]] = Count(sum(numbers[::2]), sum(numbers[1::2]))
    return PrefilterCounters(
        {
            reason: {protocol: sums[row * lib.NFL_CLASSES + column] for column, protocol in enumerate(PROTOCOLS)}
            for row, reason in enumerate(REASONS)
        }
    )


def top_sources(
    entries: Iterable[tuple[bytes, bytes]], count: int, prefix4: int, prefix6: int
) -> list[tuple[str, Count]]:
    """Return the largest of the map of sources: key, and `struct nfl_source`."""
    seen: dict[bytes, Count] = {}
    for key, value in entries:
        _, packets, size = struct.unpack("=3Q", value)
        if packets:
            seen[key] = Count(packets, size)
    largest = sorted(seen.items(), key=lambda item: item[1], reverse=True)[:count]
    return [(_shown(key, prefix4, prefix6), of_source) for key, of_source in largest]


def top_ports(packets: bytes, count: int) -> list[tuple[str, int, int]]:
    """Return the largest of the array of ports: packets of each, TCP's before UDP's before SCTP's."""
    seen = [(number, index) for index, number in enumerate(memoryview(packets).cast("Q")) if number]
    return [(_PORTS[index >> 16], index & 0xFFFF, number) for number, index in sorted(seen, reverse=True)[:count]]


def _sum(counts: Iterable[Count]) -> Count:
    packets = size = 0
    for count in counts:
        packets, size = packets + count.packets, size + count.bytes
    return Count(packets, size)


def _shown(key: bytes, prefix4: int, prefix6: int) -> str:
    from ipaddress import IPv6Address

    address = IPv6Address(key)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped) + (f"/{prefix4}" if prefix4 < 32 else "")
    return str(address) + (f"/{prefix6}" if prefix6 < 128 else "")
