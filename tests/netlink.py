# SPDX-License-Identifier: GPL-2.0-or-later
"""Netlink messages and their attributes, byte by byte; netlink(7). Only the standard library is used."""

from __future__ import annotations

import struct

_NESTED = 0x8000
# linux/rtnetlink.h, linux/if_link.h
_RTM_NEWLINK, _IFLA_IFNAME = 16, 3
#: The multicast group of interfaces.
RTNLGRP_LINK = 1


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute, filled up to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def nest(kind: int, *attributes: bytes) -> bytes:
    """Return an attribute of attributes."""
    return attribute(kind | _NESTED, b"".join(attributes))


def netlink(kind: int, body: bytes, *, seq: int = 0, flags: int = 0) -> bytes:
    """Return a message."""
    return struct.pack("=IHHII", 16 + len(body), kind, flags, seq, 0) + body


def link_message(index: int, name: str) -> bytes:
    """Return what rtnetlink says of an interface."""
    head = struct.pack("=BxHiII", 0, 1, index, 0, 0)
    return netlink(_RTM_NEWLINK, head + attribute(_IFLA_IFNAME, name.encode() + b"\0"))
