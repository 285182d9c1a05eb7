# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages of conntrack, made byte by byte, and the batch that the decoder in C makes of them.

Attributes: linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.buffers import RecordArray
from nflowlevel.records.batch import Batch
from nflowlevel.records.flow import FLOW
from tests.netlink import attribute, nest, netlink

NOW_NS = 1_700_000_000_123_456_789
START_NS = 1_699_999_990_000_001_000
STOP_NS = 1_699_999_999_999_999_000

NEW, UPDATE, DESTROY = 1, 2, 4
_CREATE, _EXCL, _MULTI = 0x400, 0x200, 2
_POISON = 0xA5


def tuple_of(
    number: int, source: str, target: str, protocol: int, *, ports: tuple[int, int] | None = None,
    icmp: tuple[int, int, int] | None = None, zone: int | None = None,
) -> bytes:  # fmt: skip
    """Return CTA_TUPLE_ORIG (1) or CTA_TUPLE_REPLY (2). `icmp`: type, code, id."""
    six = ip_address(source).version == 6
    ends = [attribute(3 * six + 1 - six, ip_address(source).packed), attribute(2 + 2 * six, ip_address(target).packed)]
    proto = [attribute(1, bytes([protocol]))]
    if ports:
        proto += [attribute(2 + way, struct.pack("!H", port)) for way, port in enumerate(ports)]
    if icmp:
        first = 7 if six else 4
        proto += [attribute(first, struct.pack("!H", icmp[2]))]
        proto += [attribute(first + 1 + each, bytes([icmp[each]])) for each in (0, 1)]
    zones = [] if zone is None else [attribute(3, struct.pack("!H", zone))]
    return nest(number, nest(1, *ends), nest(2, *proto), *zones)


def counters(number: int, packets: int, size: int) -> bytes:
    """Return CTA_COUNTERS_ORIG (9) or CTA_COUNTERS_REPLY (10)."""
    return nest(number, attribute(1, struct.pack("!Q", packets)), attribute(2, struct.pack("!Q", size)))


def times(start: int = 0, stop: int = 0) -> bytes:
    """Return CTA_TIMESTAMP; a time of 0 is left out."""
    return nest(20, *(attribute(n, struct.pack("!Q", ns)) for n, ns in ((1, start), (2, stop)) if ns))


def number(attribute_number: int, value: int, form: str = "!I") -> bytes:
    """Return an attribute that is a number."""
    return attribute(attribute_number, struct.pack(form, value))


def message(event: int, *attributes: bytes, sequence: int = 0, family: int = socket.AF_INET) -> bytes:
    """Return one message; `event` 0: of a dump."""
    flags = {NEW: _CREATE | _EXCL, 0: _MULTI}.get(event, 0)
    body = struct.pack("=BBH", family, 0, 0) + b"".join(attributes)
    return netlink(0x100 | 2 * (event == DESTROY), body, seq=sequence, flags=flags)


def tcp_flow(**changed: bytes) -> list[bytes]:
    """Return the attributes of a TCP flow through source NAT, with all that the kernel says; `changed` by name."""
    named: Mapping[str, bytes] = {
        "orig": tuple_of(1, "10.77.0.2", "192.0.2.80", 6, ports=(40000, 443)),
        "reply": tuple_of(2, "192.0.2.80", "198.51.100.1", 6, ports=(443, 61000)),
        "status": number(3, 0x18E),
        "state": nest(4, nest(1, attribute(1, bytes([7])))),
        "helper": nest(5, attribute(1, b"ftp\0")),
        "timeout": number(7, 119),
        "mark": number(8, 0xCAFE),
        "orig_count": counters(9, 12, 3456),
        "reply_count": counters(10, 2**40, 2**63),
        "id": number(12, 0xDEADBEEF),
        "zone": number(18, 5, "!H"),
        "times": times(START_NS, STOP_NS),
        "labels": attribute(22, bytes(range(16))),
    }
    return [*(dict(named) | changed).values()]


def decode_flows(
    datagrams: Iterable[bytes], *, sequence: int = 0, events: int = 7, room: int = 64
) -> tuple[Batch, Any]:
    """Return what the decoder makes of datagrams, and its state; the memory is filled with a pattern before."""
    state = ffi.new("struct nfl_flows *", {"seq": sequence, "events": events, "valid_all": 2**64 - 1})
    records = ffi.new("struct nfl_flow[]", room)
    ffi.memmove(records, bytes([_POISON]) * ffi.sizeof(records), ffi.sizeof(records))
    count = 0
    for datagram in datagrams:
        data = ffi.new("uint8_t[]", len(datagram))  # of exactly that size, for the sanitizers
        ffi.memmove(data, datagram, len(datagram))
        count += lib.nfl_flows_decode(state, data, len(datagram), NOW_NS, records + count, room - count)
    array = RecordArray(records, room)
    batch = Batch(
        array, count, type=FLOW, valid_any=state.valid_any, valid_all=state.valid_all if count else 0,
        time=(NOW_NS // 10**9, None),
    )  # fmt: skip
    return batch, state
