# SPDX-License-Identifier: GPL-2.0-or-later
"""The netlink codec: messages and their attributes, made and read.

netlink(7), linux/netlink.h, linux/netfilter/nfnetlink.h.

What is read may be cut anywhere: reading ends before a message or attribute that is not whole, and never beyond it.
Where C does the work (nflog.py, nfacct.py) it has a codec of its own, libmnl's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

# Types of messages of all subsystems.
ERROR, DONE = 2, 3
# Flags of requests, and of what answers them.
REQUEST, ACK, EXCLUSIVE, CREATE, DUMP = 0x1, 0x4, 0x200, 0x400, 0x300
DUMP_INTERRUPTED = 0x10

#: `struct nlmsghdr`: length, type, flags, sequence number, port.
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF
_NESTED = 0x8000

#: Length of the `struct nfgenmsg` that a body of nfnetlink begins with.
GENERAL_BYTES = 4


class Message(NamedTuple):
    """A message that was read: what follows its header is the body."""

    type: int
    flags: int
    sequence: int
    body: bytes


def message(type_: int, flags: int, sequence: int, body: bytes) -> bytes:
    """Return a message for the kernel."""
    return _HEADER.pack(_HEADER.size + len(body), type_, flags, sequence, 0) + body


def read(datagram: bytes) -> Iterator[Message]:
    """Yield the messages of a datagram."""
    at, size = 0, len(datagram)
    while at + _HEADER.size <= size:
        length, type_, flags, sequence, _ = _HEADER.unpack_from(datagram, at)
        if not _HEADER.size <= length <= size - at:
            return
        yield Message(type_, flags, sequence, datagram[at + _HEADER.size : at + length])
        at += length + 3 & ~3


def general(family: int, resource: int = 0) -> bytes:
    """Return a `struct nfgenmsg`: the family, and what the message is about; a batch names its subsystem there."""
    return bytes((family, 0)) + resource.to_bytes(2, "big")


def errno_of(body: bytes) -> int:
    """Return what a message of type ERROR says; 0 is the kernel's yes."""
    return -int(struct.unpack_from("=i", body)[0])


# -- attributes -------------------------------------------------------------------------------------------------------


def attribute(type_: int, value: bytes) -> bytes:
    """Return an attribute."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), type_) + value + bytes(-len(value) % 4)


def nested(type_: int, attributes: bytes) -> bytes:
    """Return an attribute of attributes."""
    return attribute(type_ | _NESTED, attributes)


def text(type_: int, value: str) -> bytes:
    """Return an attribute with a text and its final zero."""
    return attribute(type_, value.encode() + b"\0")


def number(type_: int, value: int) -> bytes:
    """Return an attribute with 32 bits in network order, as netfilter has its numbers."""
    return attribute(type_, value.to_bytes(4, "big"))


def attributes(data: bytes, at: int = 0) -> dict[int, bytes]:
    """Return the attributes from a place on, by type; of those that come twice the last."""
    found = {}
    size = len(data)
    unpack = _ATTRIBUTE.unpack_from
    while at + 4 <= size:
        length, type_ = unpack(data, at)
        if not 4 <= length <= size - at:
            break
        found[type_ & _TYPE_MASK] = data[at + 4 : at + length]
        at += length + 3 & ~3
    return found
