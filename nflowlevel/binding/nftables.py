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
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nflowlevel.binding import messages
from nflowlevel.binding._lib import lib
from nflowlevel.binding.messages import (
    GENERAL_BYTES,
    Message,
    attribute,
    attributes,
    errno_of,
    general,
    message,
    number,
)
from nflowlevel.binding.netlink import NetlinkSocket
from nflowlevel.binding.numbers import NFT_FAMILIES
from nflowlevel.errors import KernelError, NotSupported

# linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h.
_SUBSYSTEM = 10
_GETOBJ, _GETOBJ_RESET = 19, 21
_OBJ_TABLE, _OBJ_NAME, _OBJ_TYPE, _OBJ_DATA = 1, 2, 3, 4
_COUNTER, _QUOTA = 1, 2
_COUNTER_BYTES, _COUNTER_PACKETS = 1, 2
_QUOTA_BYTES, _QUOTA_CONSUMED = 1, 4

#: Objects zeroed by one send. The socket has to have room for all their answers: one that finds none is lost.
_WINDOW = 64
_SOCKET_BUFFER = 1 << 20
#: A dump that the kernel calls inconsistent, because rules changed meanwhile, is made again.
_ATTEMPTS = 5


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
        return f"{NFT_FAMILIES.get(family, family)}.{_text(table)}.{_text(name)}"


class NamedObjects:
    """The named counters and quotas of the namespace `netns`. Close it, or use it as a context manager."""

    def __init__(self, netns: str | None = None) -> None:
        self._socket = NetlinkSocket(lib.NETLINK_NETFILTER, netns=netns)
        self._socket.connect_to_kernel()
        self._socket.set_receive_buffer(_SOCKET_BUFFER)
        self._sequence = 0
        #: Zeroed in the kernel and not handed out yet: kept when a later request fails.
        self._taken: dict[Identity, tuple[int, int]] = {}

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

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
        self._send([self._request(_GETOBJ, messages.DUMP, 0)])
        objects: list[NamedObject] = []
        consistent = True
        for type_, flags, sequence, body in self._messages():
            if sequence != self._sequence:
                continue
            consistent = consistent and not flags & messages.DUMP_INTERRUPTED
            if type_ == messages.DONE:
                return objects, consistent
            if type_ == messages.ERROR:
                _raise(errno_of(body))
            if found := _parse(body):
                objects.append(found)
        raise KernelError("list nftables objects", errno.EIO, "the kernel's answer is incomplete")

    def _zero(self, objects: list[NamedObject]) -> None:
        """Zero these counters, and add what they had counted to what is taken."""
        requests = []
        asked: dict[int, NamedObject] = {}
        for each in objects:
            family, table, name, object_type = each.identity
            wanted = attribute(_OBJ_TABLE, table + b"\0") + attribute(_OBJ_NAME, name + b"\0")
            wanted += number(_OBJ_TYPE, object_type)
            requests.append(self._request(_GETOBJ_RESET, 0, family, wanted))
            asked[self._sequence] = each
        self._send(requests)
        for type_, _, sequence, body in self._messages():
            if sequence not in asked:
                continue
            if type_ == messages.ERROR and errno_of(body) != errno.ENOENT:
                _raise(errno_of(body))
            known = asked.pop(sequence)
            self._keep(known if type_ == messages.ERROR else _parse(body) or known)
            if not asked:
                return
        raise KernelError(
            "reset nftables counters", errno.ENOBUFS, f"{len(asked)} answers did not fit into the socket buffer"
        )

    def _keep(self, counter: NamedObject) -> None:
        packets, size = self._taken.get(counter.identity, (0, 0))
        self._taken[counter.identity] = packets + (counter.packets or 0), size + counter.bytes

    def _request(self, type_: int, flags: int, family: int, wanted: bytes = b"") -> bytes:
        self._sequence += 1
        body = general(family) + wanted
        return message(_SUBSYSTEM << 8 | type_, messages.REQUEST | flags, self._sequence, body)

    def _send(self, requests: Iterable[bytes]) -> None:
        self._socket.write(b"".join(requests), "ask for nftables objects")

    def _messages(self) -> Iterator[Message]:
        return self._socket.answers("read nftables objects")


def _parse(body: bytes) -> NamedObject | None:
    """Return the object of a message; None where it is neither counter nor quota."""
    about = attributes(body, GENERAL_BYTES)
    type_ = _number(about.get(_OBJ_TYPE, b""))
    data = attributes(about.get(_OBJ_DATA, b""))
    identity = Identity(body[0], about[_OBJ_TABLE][:-1], about[_OBJ_NAME][:-1], type_)
    if type_ == _COUNTER:
        return NamedObject(identity, _number(data[_COUNTER_PACKETS]), _number(data[_COUNTER_BYTES]), None)
    if type_ == _QUOTA:
        return NamedObject(identity, None, _number(data[_QUOTA_CONSUMED]), _number(data[_QUOTA_BYTES]))
    return None


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _raise(code: int) -> None:
    if code in (errno.EINVAL, errno.EOPNOTSUPP):  # nfnetlink's answers for a subsystem that is not there
        raise NotSupported("nftables", found="a kernel without it", needed="CONFIG_NF_TABLES (try: modprobe nf_tables)")
    hint = "needs CAP_NET_ADMIN: run as root" if code == errno.EPERM else ""
    raise KernelError("ask for nftables objects", code, hint)
