# SPDX-License-Identifier: GPL-2.0-or-later
"""Accounting objects of one network namespace: requests and dumps, through libnetfilter_acct.

Kernel side: net/netfilter/nfnetlink_acct.c and netlink_dump in net/netlink/af_netlink.c. What is not obvious:
- A datagram of a dump is as long as the largest read this socket has seen, and at least about a page. Dumps that zero
  need that length to be chosen (`nfl_counters_room`), and a socket forgets nothing: they take one of their own.
- A dump does not overrun the socket: the kernel makes the next datagram when the last one has been read.
- It goes on at the object it stopped at; where that one was deleted meanwhile it ends, without a word. It can only stop
  at the end of a full datagram, so `may_be_cut` is seldom true without need.
- A missing subsystem is EINVAL, as a wrong attribute is.
"""

from __future__ import annotations

import errno
import itertools
import os
import select
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from nflowlevel.binding import procfs
from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.binding.netlink import NetlinkSocket
from nflowlevel.binding.netns import entered
from nflowlevel.errors import KernelError, NotSupported

#: Longest name of an object, in bytes; the kernel's limit counts the NUL behind it.
NAME_BYTES: int = lib.NFACCT_NAME_MAX - 1

PACKET_QUOTA: int = lib.NFACCT_F_QUOTA_PKTS
BYTE_QUOTA: int = lib.NFACCT_F_QUOTA_BYTES
OVER_QUOTA: int = lib.NFACCT_F_OVERQUOTA

#: Longest datagram of a dump that is asked for: what the kernel grants (32 KiB less its overhead), rounded down.
MOST_ROOM = 31 << 10
#: Shortest: above what the kernel takes when nothing is asked for, with pages of any size.
LEAST_ROOM = 8 << 10
#: Where a plan begins: the longer the datagrams, the less often the kernel walks its list; but they can only grow.
_FIRST_ROOMS = (24 << 10, 16 << 10, LEAST_ROOM)

#: The kernel answers within the system call; waiting longer means that the answer was lost.
_ANSWER_SECS = 2.0
_REQUEST_BYTES = 256
_FIRST_CAPACITY = 2 * MOST_ROOM // lib.NFL_COUNTER_MESSAGE_MIN
#: A quota notification is short; several may be read before somebody looks.
_EVENT_BYTES = 4 << 10

_RECORD_BYTES: int = ffi.sizeof("struct nfl_counter")
_uninitialised = ffi.new_allocator(should_clear_after_alloc=False)


class CounterArray:
    """Counters as C has them: `records` (`struct nfl_counter *`), `count` of them, with room for `capacity`."""

    __slots__ = ("capacity", "count", "records")

    def __init__(self, capacity: int = _FIRST_CAPACITY) -> None:
        self.capacity = capacity
        self.count = 0
        self.records: CData = _uninitialised("struct nfl_counter[]", capacity)

    def make_room(self, more: int) -> None:
        """Have room for that many more."""
        if self.count + more <= self.capacity:
            return
        old = self.records
        self.capacity = 2 * self.capacity + more
        self.records = _uninitialised("struct nfl_counter[]", self.capacity)
        ffi.memmove(self.records, old, self.count * _RECORD_BYTES)

    def column(self, field: str) -> memoryview:
        """Return one number of all counters, read-only; it keeps the memory."""
        about = dict(ffi.typeof("struct nfl_counter").fields)[field]
        size = ffi.sizeof(about.type)
        memory = memoryview(ffi.buffer(self.records, self.count * _RECORD_BYTES)).toreadonly()
        # A memoryview of nothing cannot be cast with a step.
        numbers = memory.cast("B").cast({4: "I", 8: "Q"}[size])  # type: ignore[call-overload]
        return numbers[about.offset // size :: _RECORD_BYTES // size]  # type: ignore[no-any-return]

    def names(self) -> list[str]:
        """Return the names; bytes that are not UTF-8 are Python's surrogates."""
        if not self.count:
            return []
        out = _uninitialised("char[]", self.count * ffi.sizeof(self.records[0].name))
        used = lib.nfl_counters_names(self.records, self.count, out)
        return bytes(ffi.buffer(out, used - 1)).decode("utf-8", "surrogateescape").split("\0")

    def name(self, index: int) -> bytes:
        """Return one name as it is."""
        return bytes(ffi.string(self.records[index].name))

    def stamp(self, second: int, usec: int) -> None:
        """Note in all counters when they were read."""
        lib.nfl_counters_stamp(self.records, self.count, second, usec)

    def append(self, record: CData) -> None:
        """Add a copy of a counter."""
        self.make_room(1)
        self.records[self.count] = record
        self.count += 1


@dataclass(frozen=True, slots=True)
class Dump:
    """What a dump brought. `starts` are the numbers of the counters that datagrams began with, but for the first."""

    counters: CounterArray
    starts: tuple[int, ...]
    malformed: int
    may_be_cut: bool
    error: int = 0
    """errno of what ended it early."""


class AcctSocket:
    """A netlink socket for requests about accounting objects; one at a time, in one thread.

    Names are bytes without NUL, at most NAME_BYTES of them: libnetfilter_acct would cut longer ones.
    """

    def __init__(self, netns: str | None = None) -> None:
        self._netns = netns
        self._sequence = 0
        self._buffer: CData = _uninitialised("uint8_t[]", MOST_ROOM)
        self.socket = NetlinkSocket(lib.NETLINK_NETFILTER, netns=netns)
        self.socket.connect_to_kernel()
        self._room = 0

    # -- requests ------------------------------------------------------------------------------------------------

    def create(self, name: bytes, *, packets: int, bytes_: int, flags: int, quota: int) -> None:
        """Make an object; KernelError EEXIST where there is one of that name."""
        request = self._request(lib.NFNL_MSG_ACCT_NEW, lib.NLM_F_ACK | lib.NLM_F_CREATE | lib.NLM_F_EXCL)
        with _Object() as made:
            lib.nfacct_attr_set_str(made.object, lib.NFACCT_ATTR_NAME, name)
            lib.nfacct_attr_set_u64(made.object, lib.NFACCT_ATTR_PKTS, packets)
            lib.nfacct_attr_set_u64(made.object, lib.NFACCT_ATTR_BYTES, bytes_)
            if flags:
                lib.nfacct_attr_set(made.object, lib.NFACCT_ATTR_FLAGS, ffi.new("uint32_t *", flags))
                lib.nfacct_attr_set_u64(made.object, lib.NFACCT_ATTR_QUOTA, quota)
            lib.nfacct_nlmsg_build_payload(request, made.object)
        self._ask(request, f"create accounting object {shown(name)}")

    def get(self, name: bytes, *, zero: bool) -> CounterArray:
        """Return the one object of that name, and zero it in the same step; KernelError ENOENT where there is none."""
        request = self._request(lib.NFNL_MSG_ACCT_GET_CTRZERO if zero else lib.NFNL_MSG_ACCT_GET, 0)
        self._put_name(request, name)
        return self._ask(request, f"{'read and zero' if zero else 'read'} accounting object {shown(name)}")

    def delete(self, name: bytes) -> None:
        """Delete an object; KernelError EBUSY while a rule uses it."""
        request = self._request(lib.NFNL_MSG_ACCT_DEL, lib.NLM_F_ACK)
        self._put_name(request, name)
        self._ask(request, f"delete accounting object {shown(name)}")

    def flush(self) -> None:
        """Delete all objects that no rule uses."""
        self._ask(self._request(lib.NFNL_MSG_ACCT_DEL, lib.NLM_F_ACK), "delete all unused accounting objects")

    def dump(self, *, zero: bool, only: tuple[int, int] | None, rooms: Sequence[int] = (MOST_ROOM,)) -> Dump:
        """Read all objects with (flags & mask) == value, and zero each as it is read.

        `rooms` are the lengths of the datagrams, ascending; the last is for all further ones. Raises KernelError while
        no object was read; later the error is part of the result: what was zeroed is nowhere else.
        """
        self._set_room(rooms[0])
        request = self._request(lib.NFNL_MSG_ACCT_GET_CTRZERO if zero else lib.NFNL_MSG_ACCT_GET, lib.NLM_F_DUMP)
        if only:
            nest = lib.mnl_attr_nest_start(request, lib.NFACCT_FILTER)
            lib.mnl_attr_put_u32(request, lib.NFACCT_FILTER_MASK, socket.htonl(only[0]))
            lib.mnl_attr_put_u32(request, lib.NFACCT_FILTER_VALUE, socket.htonl(only[1]))
            lib.mnl_attr_nest_end(request, nest)
        tried = "read and zero accounting objects" if zero else "list accounting objects"
        answer = ffi.new("struct nfl_answer *", {"seq": request.nlmsg_seq})
        counters = CounterArray()
        starts: list[int] = []
        self.socket.send(request)
        full = False
        for number in itertools.count(1):
            made_with = self._room
            # What is read now makes the kernel fill the next datagram, so it says how long that one may be.
            # Never less than before: what does not fit into a read is lost.
            room = max(made_with, rooms[min(number, len(rooms) - 1)])
            result = self._receive(answer, counters, room)
            if result <= 0:
                break
            full = made_with - answer.used < lib.NFL_COUNTER_MESSAGE_MAX
            starts.append(counters.count)
        if result and not counters.count:
            raise self._refused(tried, -result)
        cut = full or bool(answer.interrupted or result)
        # Behind the last datagram nothing starts.
        return Dump(counters, tuple(starts[:-1]), answer.malformed, cut, -result)

    def _request(self, command: int, flags: int) -> CData:
        self._sequence += 1
        self._message = ffi.new("char[]", _REQUEST_BYTES)
        return lib.nfacct_nlmsg_build_hdr(self._message, command, lib.NLM_F_REQUEST | flags, self._sequence)

    def _put_name(self, request: CData, name: bytes) -> None:
        with _Object() as named:
            lib.nfacct_attr_set_str(named.object, lib.NFACCT_ATTR_NAME, name)
            lib.nfacct_nlmsg_build_payload(request, named.object)

    def _ask(self, request: CData, tried: str) -> CounterArray:
        """Send a request that one datagram answers."""
        answer = ffi.new("struct nfl_answer *", {"seq": request.nlmsg_seq})
        counters = CounterArray(1)
        self.socket.send(request)
        result = self._receive(answer, counters, MOST_ROOM)
        while result > 0 and not counters.count:  # what was left of an earlier answer
            result = self._receive(answer, counters, MOST_ROOM)
        if result < 0:
            raise self._refused(tried, -result)
        return counters

    def _receive(self, answer: CData, counters: CounterArray, room: int) -> int:
        """Receive one datagram; the result is that of nfl_counters_receive."""
        counters.make_room(room // lib.NFL_COUNTER_MESSAGE_MIN)
        self._room = max(self._room, room)
        while True:
            arguments = (answer, self.socket.fileno(), self._buffer, room, counters.records, counters.capacity)
            result = int(lib.nfl_counters_receive(*arguments))
            counters.count = answer.count
            if result != -errno.EAGAIN:
                return result
            poll = select.poll()
            poll.register(self.socket.fileno(), select.POLLIN)
            if not poll.poll(_ANSWER_SECS * 1000):
                return -errno.ETIMEDOUT

    def _set_room(self, room: int) -> None:
        """Let the kernel make datagrams of `room` bytes from now on: it takes note when something is read."""
        if self._room >= room:
            return
        self._sequence += 1
        message = lib.mnl_nlmsg_put_header(self._buffer)
        message.nlmsg_type = lib.NLMSG_NOOP
        message.nlmsg_flags = lib.NLM_F_REQUEST | lib.NLM_F_ACK
        message.nlmsg_seq = self._sequence
        self.socket.send(message)
        # Refused or not (a reader without the capability is): the answer to what follows tells.
        self._receive(ffi.new("struct nfl_answer *", {"seq": self._sequence}), CounterArray(1), room)

    # -- errors --------------------------------------------------------------------------------------------------

    def _refused(self, tried: str, error: int) -> KernelError | NotSupported:
        if error == errno.EINVAL and self._is_missing():
            return NotSupported(
                "packet accounting",
                found=f"Linux {os.uname().release} without it",
                needed="CONFIG_NETFILTER_NETLINK_ACCT; where it is a module: modprobe nfnetlink_acct",
            )
        return KernelError(tried, error, self._capability_hint() if error == errno.EPERM else "")

    def _is_missing(self) -> bool:
        """Tell whether the kernel refuses even the simplest dump as invalid."""
        request = self._request(lib.NFNL_MSG_ACCT_GET, lib.NLM_F_DUMP)
        answer = ffi.new("struct nfl_answer *", {"seq": request.nlmsg_seq})
        self.socket.send(request)
        counters = CounterArray()
        while (result := self._receive(answer, counters, MOST_ROOM)) > 0:
            pass
        return result == -errno.EINVAL

    def _capability_hint(self) -> str:
        try:
            with entered(self._netns):
                obstacle = procfs.admin_obstacle()
        except KernelError:  # a daemon that has become another user may not look any more
            return ""
        remedy = "run as root; a service gets it by AmbientCapabilities=CAP_NET_ADMIN"
        return f"{obstacle}; {remedy}" if obstacle else ""

    def close(self) -> None:
        """Close the socket; may be called again."""
        self.socket.close()


class QuotaSocket:
    """A netlink socket that is told when objects reach their quota (NFNLGRP_ACCT_QUOTA)."""

    def __init__(self, netns: str | None = None) -> None:
        try:
            self.socket = NetlinkSocket(lib.NETLINK_NETFILTER, groups=1 << (lib.NFNLGRP_ACCT_QUOTA - 1), netns=netns)
        except KernelError as error:
            hint = error.hint or ("CAP_NET_ADMIN is needed" if error.errno == errno.EPERM else "")
            raise KernelError("listen for quotas of accounting objects", error.errno or 0, hint) from None
        self.socket.connect_to_kernel()
        #: What was counted, since the socket was opened.
        self.state: CData = ffi.new("struct nfl_answer *")
        self._buffer: CData = _uninitialised("uint8_t[]", _EVENT_BYTES)

    def receive(self) -> CounterArray:
        """Return the objects that reached their quota since; nothing is waited for."""
        answer = self.state
        answer.count = 0
        counters = CounterArray(1)
        while True:
            counters.make_room(_EVENT_BYTES // lib.NFL_COUNTER_MESSAGE_MIN)
            result = lib.nfl_counters_receive(
                answer, self.socket.fileno(), self._buffer, _EVENT_BYTES, counters.records, counters.capacity
            )
            counters.count = answer.count
            if result == -errno.EAGAIN:
                return counters
            # ENOBUFS: some were lost, others wait; `drops` of the socket has their number.
            if result < 0 and result != -errno.ENOBUFS:
                raise KernelError("receive quota notifications", -result)

    def close(self) -> None:
        """Close the socket; may be called again."""
        self.socket.close()


class _Object:
    """A `struct nfacct` of libnetfilter_acct for the time of a `with` block."""

    def __enter__(self) -> _Object:
        self.object: CData = lib.nfacct_alloc()
        if not self.object:
            raise MemoryError("nfacct_alloc")
        return self

    def __exit__(self, *_: object) -> None:
        lib.nfacct_free(self.object)


def plan(counters: CounterArray) -> list[int]:
    """Return lengths for the datagrams of a dump that zeroes these objects, with which no count is lost.

    With hundreds of thousands of objects they cannot grow far enough: then the last ones may lose some.
    """
    following = ffi.new("uint32_t *")
    rooms: list[int] = []
    for first_room in (MOST_ROOM, *_FIRST_ROOMS):
        rooms, first, room = [], 0, first_room
        while not rooms or first < counters.count:
            room = lib.nfl_counters_room(counters.records, first, counters.count, room, MOST_ROOM, following)
            if not room:
                break
            rooms.append(room)
            first = following[0]
        if room:
            return rooms
    return [*rooms, MOST_ROOM]


def shown(name: bytes) -> str:
    """Return a name for a message, between quotes."""
    return repr(name.decode("utf-8", "backslashreplace"))
