# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports of packets as programs write them to the socket of UNIXSOCK, right ones and wrong ones."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.buffers import DATA_BYTES, RECORD_BYTES, ROOM_RECORDS, BufferPool
from nflowlevel.records.batch import Batch
from nflowlevel.records.reported import REPORTED
from tests import oracle
from tests.fix_decoder import NOW, expected

MARKER = bytes.fromhex("41c90fd4")

PREFIX, IN, OUT, SECONDS, USER_NAME, USER_ID, OS_NAME, OS_REL, OS_VERS, APP_NAME, STATE = 1, 2, 3, 4, *range(200, 207)


def filled(data: bytes) -> bytes:
    """Fill up with zeros to a multiple of 8."""
    return data + bytes(-len(data) % 8)


def option(number: int, value: bytes | str | int, length: int | None = None) -> bytes:
    """Return an option: a text with its NUL, a number of the size that the option has, or bytes as they are."""
    if isinstance(value, str):
        value = value.encode() + b"\0"
    elif isinstance(value, int):
        value = struct.pack("=B" if number == STATE else "=I", value)
    return struct.pack(">II", number, len(value) if length is None else length) + filled(value)


def report(packet: bytes = b"", *options: bytes, size: int | None = None, length: int | None = None) -> bytes:
    """Return a report; `size` and `length` are what it states in place of what it has."""
    body = filled(packet) + b"".join(options)
    size = 8 + len(body) if size is None else size
    return MARKER + struct.pack(">HIH", size, 0, len(packet) if length is None else length) + body


def full(packet: bytes, **changed: bytes | str | int) -> bytes:
    """Return a report with every option."""
    values: dict[str, bytes | str | int] = {
        "prefix": "nufw: ", "in_": "eth0", "out": "ppp7", "seconds": 1_700_000_000, "user_name": "alice",
        "user_id": 4_000_000_000, "os_name": "Linux", "os_rel": "6.1", "os_vers": "#1 SMP", "app_name": "/bin/nc",
        "state": 2,
    }  # fmt: skip
    values |= changed
    numbers = (PREFIX, IN, OUT, SECONDS, USER_NAME, USER_ID, OS_NAME, OS_REL, OS_VERS, APP_NAME, STATE)
    return report(packet, *map(option, numbers, values.values()))


#: What `full` gives, by key.
FULL = {
    "oob.prefix": "nufw: ", "oob.in": "eth0", "oob.out": "ppp7", "oob.time.sec": 1_700_000_000, "raw.label": 2,
    "nufw.user.name": "alice", "nufw.user.id": 4_000_000_000, "nufw.os.name": "Linux", "nufw.os.rel": "6.1",
    "nufw.os.vers": "#1 SMP", "nufw.app.name": "/bin/nc",
}  # fmt: skip


def is_disconnected(reporter: socket.socket) -> bool:
    """Wait until the other side says something, which can only be the end."""
    try:
        return reporter.recv(1) == b""
    except ConnectionResetError:  # it had not read all
        return True


def received(data: bytes) -> Batch:
    """Decode reports as if they had come at once, at NOW."""
    pool = BufferPool()
    slot = pool.take()
    assert len(data) <= DATA_BYTES
    ffi.memmove(slot.data, data, len(data))
    state = ffi.new("struct nfl_reports *", {"valid_all": 2**64 - 1})
    position, records = ffi.new("uint32_t *"), ffi.cast("struct nfl_reported *", slot.records)
    room = ROOM_RECORDS * RECORD_BYTES // REPORTED.stride
    # A field that the decoder forgets shows as a wrong value.
    ffi.memmove(slot.records, b"\xa5" * (room * REPORTED.stride), room * REPORTED.stride)
    count = lib.nfl_report_decode(state, slot.data, position, len(data), *NOW, records, room)
    assert (position[0], state.stop) == (len(data), lib.NFL_REPORT_MORE), "not all was decoded"
    lease = pool.lease(slot, len(data))
    return Batch(lease, count, valid_any=state.valid_any, valid_all=state.valid_all, type=REPORTED)


# -- what they mean: a second decoder ---------------------------------------------------------------------------------

_TEXTS = {
    PREFIX: "oob.prefix", IN: "oob.in", OUT: "oob.out", USER_NAME: "nufw.user.name", OS_NAME: "nufw.os.name",
    OS_REL: "nufw.os.rel", OS_VERS: "nufw.os.vers", APP_NAME: "nufw.app.name",
}  # fmt: skip
_NUMBERS = {SECONDS: "oob.time.sec", USER_ID: "nufw.user.id"}
_OF_IP = ("ip.", "ip6.", "tcp.", "udp.", "icmp.", "icmpv6.", "sctp.", "ahesp.", "udplite.")


def meant(data: bytes) -> dict[str, Any] | None:
    """Return the keys that a whole report has; None where it must be left out."""
    packet, length = data[12:], int.from_bytes(data[10:12], "big")
    if length > len(packet):
        return None
    options, packet = packet[len(filled(packet[:length])) :], packet[:length]
    keys: dict[str, Any] = {"raw.pkt": packet, "raw.pktlen": length, "raw.pktcount": 1, "oob.family": 0}
    family, protocol = {4: (oracle.INET, 0x0800), 6: (oracle.INET6, 0x86DD)}.get(
        packet[0] >> 4 if packet else 0, (0, 0)
    )
    if family:
        keys |= {"oob.family": family, "oob.protocol": protocol}
        found = expected(oracle.build_message(packet, family=family, protocol=protocol)) or {}
        keys |= {name: value for name, value in found.items() if name.startswith(_OF_IP)}
    while len(options) >= 8 and (size := int.from_bytes(options[4:8], "big")) <= len(options) - 8:
        number, value = int.from_bytes(options[:4], "big"), options[8 : 8 + size]
        if number in _TEXTS:
            keys[_TEXTS[number]] = value.split(b"\0")[0].decode("utf-8", "replace")
        elif number in _NUMBERS and size >= 4:
            keys[_NUMBERS[number]] = int.from_bytes(value[:4], sys.byteorder)
        elif number == STATE and value:
            keys["raw.label"] = value[0]
        options = options[8 + len(filled(value)) :]
    return keys
