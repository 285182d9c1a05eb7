# SPDX-License-Identifier: GPL-2.0-or-later
"""PWSNIFF: user names and passwords that FTP and POP3 send in the clear.

It looks at TCP packets to ports 21 and 110. The argument of USER becomes `pwsniff.user`, that of PASS becomes
`pwsniff.pass`; at most 255 bytes are kept. The command must begin a line and be complete in one packet: a command that
TCP splits over two packets is not found. All packets pass, with or without a command. (In ulogd2, none does.)

PWSNIFF is off unless a stack names it. Everyone who can read the output of that stack can read the passwords.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nflowlevel.plugin.contract import Filter, NoOptions
from nflowlevel.records.batch import Batch

_PORTS = (21, 110)
_ARGUMENT = re.compile(rb"[^\r\n\0]{1,255}")
#: Clients send one command at a time, or a few.
_MOST_BYTES = 4096
_KEYS = {b"\nUSER ": "pwsniff.user", b"\nPASS ": "pwsniff.pass"}

_TAGS = (0x8100, 0x88A8)
_LEAST_HEADER_BYTES = 20
_BRIDGE, _NETDEV, _NETDEV_EGRESS, _ETHERNET_BYTES = 7, 5, 1, 14
#: Headers of IPv6 that may stand before that of TCP, and the bytes that one unit of their length is.
_UNITS = {0: 8, 43: 8, 44: 0, 60: 8, 51: 4, 135: 8, 139: 8, 140: 8}
_AH = 51


class PWSNIFF(Filter[NoOptions]):
    """The PWSNIFF plugin; see the module."""

    name = "PWSNIFF"
    consumes = ("raw.pkt", "raw.pktlen", "tcp.dport")

    def process(self, batch: Batch) -> Batch:
        """Add what is found."""
        found: dict[str, list[str | None]] = {name: [None] * len(batch) for name in _KEYS.values()}
        if batch.may_have("tcp.dport", _PORTS):
            rows = [row for row, port in enumerate(batch.values("tcp.dport")) if port in _PORTS]
            few = batch.select(rows)
            for at, row in enumerate(rows):
                for name, text in _commands(few, at):
                    found[name][row] = text
        for name, values in found.items():
            batch.add(name, values)
        return batch


def _commands(batch: Batch, row: int) -> Iterator[tuple[str, str]]:
    """Yield key and argument of the first command of each kind in a packet."""
    data = b"\n" + _segment(batch, row)[:_MOST_BYTES]
    # Not by one expression: whoever sends nothing but newlines or commands would have it take ten times as long.
    upper = data.upper()
    for command, name in _KEYS.items():
        at = upper.find(command)
        while at >= 0:
            if argument := _ARGUMENT.match(data, at + len(command)):
                yield name, argument[0].decode("utf-8", "replace")
                break
            at = upper.find(command, at + 1)


def _segment(batch: Batch, row: int) -> memoryview:
    """Return what a TCP packet carries, up to the end that its IP header states: what follows is padding."""
    packet: memoryview = batch.values("raw.pkt")[row]
    packet = packet[_network_header(batch, row, packet) :]
    if packet[0] >> 4 == 4:
        at, end = (packet[0] & 0xF) * 4, int.from_bytes(packet[2:4], "big")
    else:
        at, end = _transport_header(packet), int.from_bytes(packet[4:6], "big")
        end = end and end + 40
    header = max(_LEAST_HEADER_BYTES, batch.values("tcp.offset")[row] * 4)
    return packet[at + header : end or None]


def _network_header(batch: Batch, row: int, packet: memoryview) -> int:
    """Return where the IP header begins: tables of bridges and devices log what lies before it, too."""
    at, protocol = 0, batch.values("oob.protocol")[row]
    family = batch.values("oob.family")[row]
    if family not in (_BRIDGE, _NETDEV):
        return 0
    if family == _NETDEV and batch.values("oob.hook")[row] == _NETDEV_EGRESS and batch.values("raw.l2hdr")[row]:
        at, protocol = _ETHERNET_BYTES, int.from_bytes(packet[_ETHERNET_BYTES - 2 : _ETHERNET_BYTES], "big")
    while protocol in _TAGS:
        protocol = int.from_bytes(packet[at + 2 : at + 4], "big")
        at += 4
    return at


def _transport_header(packet: memoryview) -> int:
    """Return where TCP begins in a packet of IPv6; it does, so every header before is whole."""
    at, header = 40, packet[6]
    while header in _UNITS:
        units = packet[at + 1] + (2 if header == _AH else 1)
        header, at = packet[at], at + (units * _UNITS[header] or 8)
    return at
