# SPDX-License-Identifier: GPL-2.0-or-later
"""A second reader of IPFIX, independent of the package: it takes no message that RFC 7011 does not allow. And flows.

    session = Session()
    records = session.read(datagram)          each a dict of (vendor, element) and value

Addresses become text, numbers integers, texts str.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.buffers import RecordArray
from nflowlevel.records.batch import Batch
from nflowlevel.records.flow import FLOW

Record = dict[tuple[int, int], Any]

_ADDRESSES = {8, 12, 27, 28, 225, 226, 281, 282}
REVERSE = 29305


class Session:
    """One transport session: templates, and how many records came."""

    def __init__(self, *, mtu: int = 65535, templates: dict[int, list[tuple[int, int, int]]] | None = None) -> None:
        self.mtu = mtu
        #: By number: (vendor, element, length) of each field.
        self.templates = templates or {}
        self.announced: list[int] = []
        self.count = 0
        self.messages = 0
        self.lost = 0
        self.domains: set[int] = set()
        self.times: set[int] = set()
        self.ids: list[int] = []

    def read(self, message: bytes) -> list[Record]:
        """Return the records of one message; AssertionError where it breaks a rule."""
        version, length, time, sequence, domain = struct.unpack_from("!HHIII", message)
        assert version == 10
        assert length == len(message) <= self.mtu
        self.lost += (sequence - self.count) & 0xFFFFFFFF
        self.count = sequence
        self.messages += 1
        self.domains.add(domain)
        self.times.add(time)
        at, records = 16, []
        while at < length:
            set_id, size = struct.unpack_from("!HH", message, at)
            assert 4 < size <= length - at, "a set is empty, or longer than its message"
            content = message[at + 4 : at + size]
            if set_id == 2:
                self._learn(content)
            else:
                assert set_id >= 256, f"set {set_id}"
                assert set_id in self.templates, f"no template {set_id} yet"
                found = list(self._records(set_id, content))
                self.ids += [set_id] * len(found)
                records += found
            at += size
        assert at == length
        self.count = (self.count + len(records)) & 0xFFFFFFFF
        return records

    def _learn(self, content: bytes) -> None:
        at = 0
        while at < len(content):
            number, count = struct.unpack_from("!HH", content, at)
            at += 4
            assert number >= 256
            assert count
            fields = []
            for _ in range(count):
                element, size = struct.unpack_from("!HH", content, at)
                at += 4
                vendor = 0
                if element & 0x8000:
                    (vendor,) = struct.unpack_from("!I", content, at)
                    at += 4
                fields.append((vendor, element & 0x7FFF, size))
            assert len({field[:2] for field in fields}) == count, "an element twice"
            assert self.templates.get(number, fields) == fields, f"template {number} changed its meaning"
            self.templates[number] = fields
            self.announced.append(number)
        assert at == len(content)

    def _records(self, number: int, content: bytes) -> Iterator[Record]:
        at = 0
        while at < len(content):
            record: Record = {}
            for vendor, element, size in self.templates[number]:
                if size == 65535:
                    size = content[at]
                    assert size < 255
                    at += 1
                    record[vendor, element] = content[at : at + size].decode("utf-8", "surrogateescape")
                elif not vendor and element in _ADDRESSES:
                    record[vendor, element] = str(ip_address(content[at : at + size]))
                else:
                    record[vendor, element] = int.from_bytes(content[at : at + size], "big")
                at += size
                assert at <= len(content), "a record ends in the middle"
            yield record


def messages(stream: bytes) -> tuple[list[bytes], bytes]:
    """Return the messages of a stream, and what follows the last whole one."""
    found, at = [], 0
    while len(stream) - at >= 16:
        (length,) = struct.unpack_from("!H", stream, at + 2)
        assert length >= 16
        if length > len(stream) - at:
            break
        found.append(stream[at : at + length])
        at += length
    return found, stream[at:]


def read_stream(stream: bytes, session: Session | None = None) -> list[Record]:
    """Return all records of the whole messages of a stream."""
    session = session or Session()
    return [record for message in messages(stream)[0] for record in session.read(message)]


# -- flows ------------------------------------------------------------------------------------------------------------

_ALWAYS_KNOWN = (lib.NFL_FLOW_ALWAYS, lib.NFL_FLOW_COUNTED, lib.NFL_FLOW_EVENT, lib.NFL_FLOW_START, lib.NFL_FLOW_END)
_PORTS = (6, 17, 33, 132, 136)


def flow(
    number: int = 1,
    *,
    source: str = "10.1.2.3",
    target: str = "192.0.2.10",
    protocol: int = 6,
    sport: int = 40000,
    dport: int = 443,
    nat_source: str = "",
    nat_target: str = "",
    nat_sport: int | None = None,
    nat_dport: int | None = None,
    lacks: Iterable[int] = (),
    **fields: Any,
) -> dict[str, Any]:
    """Return the fields of a flow that has ended; `number` makes it another one, `lacks` are bits that do not hold."""
    six = ":" in source
    valid = sum(1 << bit for bit in _ALWAYS_KNOWN if bit not in lacks) | six << lib.NFL_FLOW_IP6
    made: dict[str, Any] = {
        "orig_ip_saddr": _packed(source),
        "orig_ip_daddr": _packed(target),
        "reply_ip_saddr": _packed(nat_target or target),
        "reply_ip_daddr": _packed(nat_source or source),
        "orig_ip_protocol": protocol,
        "reply_ip_protocol": protocol,
        "orig_raw_pktlen": 1000 * number,
        "orig_raw_pktcount": number,
        "reply_raw_pktlen": 3000 * number,
        "reply_raw_pktcount": 2 * number,
        "flow_start_sec": 1_790_000_000,
        "flow_start_usec": 123_456,
        "flow_end_sec": 1_790_000_009,
        "flow_end_usec": 789_999,
        "ct_mark": number,
        "ct_id": 0xF0000000 + number,
        "ct_event": lib.NFL_FLOW_DESTROY,
        "flow_number": 1,
        "flow_last": 1,
        "oob_family": 10 if six else 2,
        "flow_end_reason": lib.NFL_FLOW_FINISHED,
    }
    if lib.NFL_FLOW_REASON not in lacks:
        valid |= 1 << lib.NFL_FLOW_REASON
    if protocol in _PORTS:
        valid |= 1 << lib.NFL_FLOW_PORTS
        made |= {
            "orig_l4_sport": sport,
            "orig_l4_dport": dport,
            "reply_l4_sport": dport if nat_dport is None else nat_dport,
            "reply_l4_dport": sport if nat_sport is None else nat_sport,
        }
    elif protocol == 1:
        valid |= 1 << lib.NFL_FLOW_ICMP
        made |= {"icmp_type": 8, "icmp_code": 0, "icmp_id": 77}
    elif protocol == 58:
        valid |= 1 << lib.NFL_FLOW_ICMPV6
        made |= {"icmpv6_type": 128, "icmpv6_code": 0, "icmpv6_id": 77}
    return {"valid": valid, **made, **fields}


def _packed(address: str) -> list[int]:
    return list(ip_address(address).packed.ljust(16, b"\0"))


def flows(*made: dict[str, Any], time: tuple[int, int | None] = (1_790_000_100, 500_000)) -> Batch:
    """Return a batch of flows."""
    records = ffi.new("struct nfl_flow[]", list(made))
    valid = [each["valid"] for each in made]
    any_, all_ = 0, ~0
    for each in valid:
        any_, all_ = any_ | each, all_ & each
    batch = Batch(RecordArray(records, len(made)), len(made), type=FLOW, time=time)
    batch._valid_any, batch._valid_all = any_, all_ & ((1 << 64) - 1)
    return batch


def some_flows(count: int, first: int = 1) -> Batch:
    """Return that many flows of several kinds, told apart by their marks."""
    kinds: Sequence[dict[str, Any]] = (
        {},
        {"source": "2001:db8::1", "target": "2001:db8:1::10", "protocol": 17},
        {"nat_source": "198.51.100.7", "nat_sport": 1024, "protocol": 17},
        {"protocol": 1},
        {"protocol": 47},
    )
    return flows(*(flow(number, **kinds[number % len(kinds)]) for number in range(first, first + count)))


def marks(records: Iterable[Record]) -> list[int]:
    """Return the marks of records."""
    return [record[21373, 4] for record in records]


# -- a collector ------------------------------------------------------------------------------------------------------


class StreamCollector:
    """Takes TCP connections, one after the other, and keeps what each brought. It may stop reading, reset, and end."""

    def __init__(self, port: int = 0, *, context: ssl.SSLContext | None = None, receive_bytes: int = 0) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_bytes:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        self._context = context
        self.streams: list[bytearray] = []
        self.reads = threading.Event()
        self.reads.set()
        self._stopping = False
        self._sock: socket.socket | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping:
            try:
                sock, _ = self._listener.accept()
                if self._context:
                    sock = self._context.wrap_socket(sock, server_side=True)
            except OSError:
                continue
            self._sock = sock
            stream = bytearray()
            self.streams.append(stream)
            with contextlib.suppress(OSError, ValueError), sock:
                while self.reads.wait() and (data := sock.recv(1 << 16)):
                    stream += data

    @property
    def records(self) -> list[Record]:
        """The records of all connections; each is a session of its own."""
        return [record for stream in self.streams for record in read_stream(bytes(stream))]

    def reset(self) -> None:
        """Break the connection off with what it holds unread."""
        if self._sock:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RD)
            self.reads.set()

    def close(self) -> None:
        """End, once what has been acknowledged is read; connections are closed. May be called again."""
        if self._stopping:
            return
        self._stopping = True
        self.reads.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._sock:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[StreamCollector]:
    """A collector over TCP."""
    made = StreamCollector()
    yield made
    made.close()


@pytest.fixture
def datagrams() -> Iterator[socket.socket]:
    """A socket that datagrams come to, with room for many."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sock.bind(("127.0.0.1", 0))
        yield sock
