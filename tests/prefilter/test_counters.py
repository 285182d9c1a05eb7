# SPDX-License-Identifier: GPL-2.0-or-later
"""What a prefilter has counted, read from the bytes of its maps."""

from __future__ import annotations

import struct
from socket import AF_INET6, inet_pton

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.prefilter.counters import (
    PROTOCOLS,
    REASONS,
    TOTALS,
    Count,
    PrefilterCounters,
    counters,
    top_ports,
    top_sources,
)


def read(*cells: tuple[int, int, int, int]) -> PrefilterCounters:
    """Read counters of two CPUs; a cell is reason, protocol, and packets on each CPU of 100 bytes each."""
    values = {(reason, protocol): (first, second) for reason, protocol, first, second in cells}
    entries = []
    for reason in range(lib.NFL_REASONS):
        for protocol in range(lib.NFL_CLASSES):
            first, second = values.get((reason, protocol), (0, 0))
            key = struct.pack("=I", reason * lib.NFL_CLASSES + protocol)
            entries.append((key, struct.pack("=4Q", first, first * 100, second, second * 100)))
    return counters(entries)


def test_names_are_in_the_order_of_the_enums() -> None:
    assert list(REASONS) == [name for name, _ in sorted(_REASONS.items(), key=lambda item: item[1])]
    assert len(REASONS) == lib.NFL_REASONS
    classes = [f"NFL_CLASS_{name.upper()}" for name in PROTOCOLS]
    assert [getattr(lib, name) for name in classes] == list(range(lib.NFL_CLASSES - 1))
    assert set(REASONS.values()) == set(TOTALS)
    assert ffi.sizeof("struct nfl_cell") == 16


_REASONS = {
    "logged": lib.NFL_LOGGED,
    "sampled_out": lib.NFL_SAMPLED_OUT,
    "rate": lib.NFL_LIMITED_SOURCE,
    "global_rate": lib.NFL_LIMITED_GLOBAL,
    "first_of_flow": lib.NFL_LIMITED_FLOW,
    "ignored": lib.NFL_FILTERED_IGNORED,
    "outside": lib.NFL_FILTERED_OUTSIDE,
    "protocol": lib.NFL_FILTERED_PROTOCOL,
    "port": lib.NFL_FILTERED_PORT,
    "tcp_flags": lib.NFL_FILTERED_FLAGS,
    "predicate": lib.NFL_FILTERED_PREDICATE,
}


def test_sums() -> None:
    counted = read(
        (0, 0, 1, 2), (0, 1, 4, 0), (1, 0, 8, 0), (2, 0, 16, 0), (4, 6, 32, 0), (5, 0, 64, 0), (9, 4, 0, 128)
    )
    assert (counted.logged, counted.sampled_out, counted.rate_limited, counted.filtered) == (7, 8, 48, 192)
    assert counted.seen == 255
    assert counted.reasons["first_of_flow"] == (32, 3200)
    assert counted.cells["logged"]["tcp"] == (3, 300)
    assert counted.protocols["tcp"] == {
        "seen": (91, 9100),
        "logged": (3, 300),
        "sampled_out": (8, 800),
        "rate_limited": (16, 1600),
        "filtered": (64, 6400),
    }
    assert counted.total(("logged", "filtered"), "sctp") == Count(128, 12800)


def test_text() -> None:
    assert str(read()) == "seen 0, logged 0, filtered 0, sampled out 0, rate limited 0"
    assert str(read((0, 0, 1, 2), (8, 0, 5, 0))) == (
        "seen 8, logged 3, filtered 5, sampled out 0, rate limited 0 (logged 3, port 5)"
    )


def test_top_sources() -> None:
    entries = [
        (inet_pton(AF_INET6, address), struct.pack("=3Q", 12345, packets, packets * 10))
        for address, packets in (("::ffff:192.0.2.1", 5), ("fd00::", 7), ("::", 0), ("::ffff:192.0.2.2", 6))
    ]
    assert top_sources(entries, 2, 32, 64) == [("fd00::/64", (7, 70)), ("192.0.2.2", (6, 60))]
    assert top_sources(entries, 9, 24, 128) == [
        ("fd00::", (7, 70)),
        ("192.0.2.2/24", (6, 60)),
        ("192.0.2.1/24", (5, 50)),
    ]


def test_top_ports() -> None:
    packets = [0] * (3 << 16)
    packets[22], packets[1 << 16 | 53], packets[2 << 16 | 65535] = 5, 9, 7
    memory = struct.pack(f"={len(packets)}Q", *packets)
    assert top_ports(memory, 2) == [("udp", 53, 9), ("sctp", 65535, 7)]
    assert top_ports(memory, 9)[2:] == [("tcp", 22, 5)]
