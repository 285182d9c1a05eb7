# SPDX-License-Identifier: GPL-2.0-or-later
"""Named counters and quotas of nftables, of all families and tables of a network namespace.

The kernel is asked by netlink, not by libnftables: that makes JSON of everything first, which takes twice the CPU time,
and its way to zero counters loses some. A dump that resets (NFT_MSG_GETOBJ_RESET with NLM_F_DUMP, `nft reset counters`)
zeroes an object before it knows whether the datagram has room for it; one that has none is sent again in the next
datagram, with 0 (nf_tables_fill_obj_info in net/netfilter/nf_tables_api.c; Linux 6.18 lost 22 of 10,000 counters with
comments). So `take` dumps without resetting, then zeroes those that have counted one by one: each answer is a datagram
of its own, which always has room.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nflowlevel.binding._lib import lib
from nflowlevel.binding.netlink import NetlinkSocket
from nflowlevel.errors import KernelError, NotSupported

# linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h.
_SUBSYSTEM = 10
_GETOBJ, _GETOBJ_RESET = 19, 21
_OBJ_TABLE, _OBJ_NAME, _OBJ_TYPE, _OBJ_DATA = 1, 2, 3, 4
_COUNTER, _QUOTA = 1, 2
_COUNTER_BYTES, _COUNTER_PACKETS = 1, 2
_QUOTA_BYTES, _QUOTA_CONSUMED = 1, 4
# linux/netlink.h
_ERROR, _DONE = 2, 3
_DUMP_INTERRUPTED = 0x10
_TYPE_MASK = 0x3FFF

_HEADER = struct.Struct("=IHHII")
_FAMILY = struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")

#: What one read takes; the kernel fills it by at most 32 KiB a datagram of a dump.
_READ_BYTES = 64 << 10
#: Objects zeroed by one send. The socket has to have room for all their answers: one that finds none is lost.
_WINDOW = 64
_SOCKET_BUFFER = 1 << 20
#: A dump that the kernel calls inconsistent, because rules changed meanwhile, is made again.
_ATTEMPTS = 5

#: NFPROTO_*, as nft writes them.
FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}


class Identity(NamedTuple):
    """What tells an object from all others; table and name are bytes, as the kernel knows no character set."""

    family: int
    table: bytes
    name: bytes
    type: int


class NamedObject(NamedTuple):
    """A counter, or a quota: that has no packets, but a limit in bytes."""

    identity: Identity
    packets: int | None
    bytes: int
    limit: int | None

    @property
    def path(self) -> str:
        """`family.table.name`; what is not UTF-8 in it becomes surrogates."""
        family, table, name, _ = self.identity
        return f"{FAMILIES.get(family, family)}.{_text(table)}.{_text(name)}"


class NamedObjects:
    """The named counters and quotas of the namespace `netns`. Close it, or use it as a context manager."""

    def __init__(self, netns: str | None = None) -> None:
        self._socket = NetlinkSocket(lib.NETLINK_NETFILTER, netns=netns)
        self._socket.connect_to_kernel()
        self._socket.set_receive_buffer(_SOCKET_BUFFER)
        self._buffer = bytearray(_READ_BYTES)
        self._sequence = 0
        #: Zeroed in the kernel and not handed out yet: kept when a later request fails.
        self._taken: dict[Identity, tuple[int, int]] = {}

    def read(self) -> list[NamedObject]:
        """Return all objects as they are."""
        for _ in range(_ATTEMPTS):
            objects, consistent = self._dump()
            if consistent:
                break
        return objects

    def take(self) -> list[NamedObject]:
        """Return all objects, counters with what they counted since the last time, and zero these in the kernel.

        Quotas are returned as they are: a quota that is zeroed would let more through than its limit. A counter that is
        removed while this goes on is returned with what was known of it.
        """
        objects = self.read()
        counted = [each for each in objects if each.packets or (each.bytes and each.limit is None)]
        for start in range(0, len(counted), _WINDOW):
            self._zero(counted[start : start + _WINDOW])
        taken, self._taken = self._taken, {}
        result = [
            each if each.limit is not None else NamedObject(each.identity, *taken.pop(each.identity, (0, 0)), None)
            for each in objects
        ]
        # Zeroed before an earlier request failed, and removed since.
        result += [NamedObject(identity, packets, size, None) for identity, (packets, size) in taken.items()]
        return result

    def close(self) -> None:
        """Close the socket; may be called again."""
        self._socket.close()

    def __enter__(self) -> NamedObjects:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _dump(self) -> tuple[list[NamedObject], bool]:
        """Return all objects, and whether nothing changed while they were listed."""
        self._send([self._request(_GETOBJ, lib.NLM_F_REQUEST | lib.NLM_F_DUMP, 0)])
        objects: list[NamedObject] = []
        consistent = True
        for type_, flags, sequence, body in self._messages():
            if sequence != self._sequence:
                continue
            consistent = consistent and not flags & _DUMP_INTERRUPTED
            if type_ == _DONE:
                return objects, consistent
            if type_ == _ERROR:
                _raise(_code(body))
            if found := _parse(body):
                objects.append(found)
        raise KernelError("list nftables objects", errno.EIO, "the kernel's answer has no end")

    def _zero(self, objects: list[NamedObject]) -> None:
        """Zero these counters, and add what they had counted to what is taken."""
        requests = []
        asked: dict[int, NamedObject] = {}
        for each in objects:
            family, table, name, object_type = each.identity
            attributes = _attribute(_OBJ_TABLE, table + b"\0") + _attribute(_OBJ_NAME, name + b"\0")
            attributes += _attribute(_OBJ_TYPE, object_type.to_bytes(4, "big"))
            requests.append(self._request(_GETOBJ_RESET, lib.NLM_F_REQUEST, family, attributes))
            asked[self._sequence] = each
        self._send(requests)
        for type_, _, sequence, body in self._messages():
            if sequence not in asked:
                continue
            if type_ == _ERROR and _code(body) != errno.ENOENT:
                _raise(_code(body))
            known = asked.pop(sequence)
            self._keep(known if type_ == _ERROR else _parse(body) or known)
            if not asked:
                return
        raise KernelError("reset nftables counters", errno.ENOBUFS, f"{len(asked)} answers found no room")

    def _keep(self, counter: NamedObject) -> None:
        packets, size = self._taken.get(counter.identity, (0, 0))
        self._taken[counter.identity] = packets + (counter.packets or 0), size + counter.bytes

    def _request(self, type_: int, flags: int, family: int, attributes: bytes = b"") -> bytes:
        self._sequence += 1
        length = _HEADER.size + _FAMILY.size + len(attributes)
        header = _HEADER.pack(length, _SUBSYSTEM << 8 | type_, flags, self._sequence, 0)
        return header + _FAMILY.pack(family, 0, 0) + attributes

    def _send(self, requests: Iterable[bytes]) -> None:
        try:
            os.write(self._socket.fileno(), b"".join(requests))
        except OSError as error:
            raise KernelError("ask for nftables objects", error.errno or 0) from None

    def _messages(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield (type, flags, sequence number, body) of the kernel's answers; they are there when a send returns."""
        while True:
            try:
                size = os.readv(self._socket.fileno(), [self._buffer])
            except BlockingIOError:
                return
            except OSError as error:
                raise KernelError("read nftables objects", error.errno or 0) from None
            datagram, at = bytes(memoryview(self._buffer)[:size]), 0
            while at + _HEADER.size <= size:
                length, type_, flags, sequence, _ = _HEADER.unpack_from(datagram, at)
                yield type_, flags, sequence, datagram[at + _HEADER.size : at + length]
                at += max(length + 3 & ~3, _HEADER.size)


def _parse(body: bytes) -> NamedObject | None:
    """Return the object of a message; None where it is neither counter nor quota."""
    attributes = _attributes(body, _FAMILY.size)
    type_ = _number(attributes.get(_OBJ_TYPE, b""))
    data = _attributes(attributes.get(_OBJ_DATA, b""))
    identity = Identity(body[0], attributes[_OBJ_TABLE][:-1], attributes[_OBJ_NAME][:-1], type_)
    if type_ == _COUNTER:
        return NamedObject(identity, _number(data[_COUNTER_PACKETS]), _number(data[_COUNTER_BYTES]), None)
    if type_ == _QUOTA:
        return NamedObject(identity, None, _number(data[_QUOTA_CONSUMED]), _number(data[_QUOTA_BYTES]))
    return None


def _attributes(data: bytes, at: int = 0) -> dict[int, bytes]:
    found = {}
    end = len(data) - 3
    unpack = _ATTRIBUTE.unpack_from
    while at < end:
        length, type_ = unpack(data, at)
        found[type_ & _TYPE_MASK] = data[at + 4 : at + length]
        at += (length + 3 & ~3) or 4
    return found


def _attribute(type_: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(value), type_) + value + bytes(-len(value) % 4)


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _code(body: bytes) -> int:
    """Return the errno of an error message."""
    return -int.from_bytes(body[:4], "little" if struct.pack("=H", 1)[0] else "big", signed=True)


def _raise(code: int) -> None:
    if code in (errno.EINVAL, errno.EOPNOTSUPP):  # nfnetlink's answers for a subsystem that is not there
        raise NotSupported(
            "nftables", found="a kernel that does not know it", needed="CONFIG_NF_TABLES (try: modprobe nf_tables)"
        )
    hint = "needs CAP_NET_ADMIN: run as root" if code == errno.EPERM else ""
    raise KernelError("ask for nftables objects", code, hint)
