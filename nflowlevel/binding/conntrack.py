# SPDX-License-Identifier: GPL-2.0-or-later
"""Connection tracking of one network namespace: its events, its table, its limits, through nf_conntrack_netlink.

Kernel side: net/netfilter/nf_conntrack_netlink.c, nf_conntrack_ecache.c. What is not obvious:
- An event is one datagram of a few hundred bytes, which takes 1,280 bytes of the socket's buffer.
- Events have no numbers, but the socket counts those that it had no room for (SO_MEMINFO), exactly.
- With NETLINK_BROADCAST_ERROR the kernel keeps an entry whose end it could not tell, and tells it again, to all
  listeners, until nobody refuses it. Refused attempts are counted as drops too. A reader that does not keep up fills
  the kernel's table, and then new connections fail: whoever asks for this has to watch `load`.
- Counters come with the end of a flow and with the table, not with its beginning or its changes.
- A filter in classic BPF is asked before the buffer: what it refuses is not dropped, but was never meant for us.
- CTA_FILTER (Linux 5.8) knows no prefixes: only single addresses and one protocol can be asked for.
"""

from __future__ import annotations

import errno
import mmap
import select
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from nflowlevel.binding import messages, procfs
from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.binding.acceptance import Accept
from nflowlevel.binding.buffers import RecordArray
from nflowlevel.binding.netlink import NetlinkSocket
from nflowlevel.binding.netns import entered
from nflowlevel.errors import KernelError

EventName = Literal["new", "update", "destroy"]

#: enum nfl_flow_event, which are also the bits of ulogd2's event_mask.
EVENTS: dict[EventName, int] = {"new": lib.NFL_FLOW_NEW, "update": lib.NFL_FLOW_UPDATE, "destroy": lib.NFL_FLOW_DESTROY}

# linux/netlink.h, linux/socket.h, asm-generic/socket.h: not in Python's socket module.
_SOL_NETLINK, _SOL_SOCKET = 270, 1
_ADD_MEMBERSHIP, _DROP_MEMBERSHIP, _BROADCAST_ERROR = 1, 2, 4
_SO_ATTACH_FILTER = 26

# linux/netfilter/nfnetlink_conntrack.h, nfnetlink.h
_SUBSYSTEM = 1 << 8
_GET, _GET_STATS = _SUBSYSTEM | 1, _SUBSYSTEM | 5
_STATS_ENTRIES, _STATS_MAX = 1, 2
_GROUPS = {"new": 1, "update": 2, "destroy": 3}

#: Documentation/networking/nf_conntrack-sysctl.rst
_SETTINGS = Path("/proc/sys/net/netfilter")

FLOW_BYTES: int = ffi.sizeof("struct nfl_flow")
#: Records after which a receive stops.
ENOUGH_FLOWS = 4096
#: A datagram of a dump always fits behind them.
ROOM_FLOWS = ENOUGH_FLOWS + lib.NFL_FLOW_DATAGRAM_MAX // lib.NFL_FLOW_MESSAGE_MIN + 1

#: For the events of one system call.
_SCRATCH_BYTES: int = lib.NFL_FLOWS_EVENT_ROOM * lib.NFL_FLOWS_AT_ONCE

_uninitialised = ffi.new_allocator(should_clear_after_alloc=False)


def flows_in(mapping: mmap.mmap, count: int) -> CData:
    """Return a mapping's beginning as an array of `count` records, which keeps it."""
    return ffi.from_buffer("struct nfl_flow[]", memoryview(mapping)[: count * FLOW_BYTES])


def mapped(size: int) -> mmap.mmap:
    """Return zeroed memory that costs nothing before it is used."""
    return mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | lib.MAP_NORESERVE)


class Load(NamedTuple):
    """How full the kernel's table is. The limit is that of the first namespace, and counts for each."""

    flows: int
    limit: int

    @property
    def ratio(self) -> float:
        """The part of the table that is taken; 0 where there is no limit."""
        return self.flows / self.limit if self.limit else 0.0


@dataclass(frozen=True)
class Settings:
    """What the kernel says of flows (net.netfilter.*); None where that cannot be read."""

    events: int | None
    timestamps: int | None
    counters: int | None


def setting(name: str) -> int:
    """Return net.netfilter.nf_conntrack_NAME of the namespace that the calling thread is in. OSError: it has none."""
    return int((_SETTINGS / f"nf_conntrack_{name}").read_text())


def settings(netns: str | None = None) -> Settings:
    """Return the settings of a namespace. KernelError where it cannot be entered."""

    def value(name: str) -> int | None:
        try:
            return setting(name)
        except (OSError, ValueError):
            return None

    with entered(netns):
        return Settings(value("events"), value("timestamp"), value("acct"))


def _refused(tried: str, error: KernelError, netns: str | None) -> KernelError:
    """Return the error with what to do about it."""
    if error.errno not in (errno.EPERM, errno.EACCES):
        return KernelError(tried, error.errno or 0, error.hint)
    try:
        with entered(netns):
            obstacle = procfs.admin_obstacle()
    except KernelError:
        obstacle = ""
    remedy = "run as root; a service gets it by AmbientCapabilities=CAP_NET_ADMIN"
    return KernelError(tried, error.errno, f"{obstacle}; {remedy}" if obstacle else remedy)


class EventSocket:
    """A socket that hears of flows: of those of `events` that `accept` wants. Nothing comes before `listen`."""

    def __init__(self, events: Collection[str], accept: Accept, netns: str | None = None) -> None:
        self.events = tuple(name for name in EVENTS if name in events)
        self._netns = netns
        self._accept = accept
        self.socket = NetlinkSocket(lib.NETLINK_NETFILTER, netns=netns)
        self.socket.connect_to_kernel()
        self.reliable = False
        mask = sum(EVENTS[name] for name in self.events)
        self.state: CData = ffi.new("struct nfl_flows *", {"events": mask})
        self._scratch: CData = _uninitialised("uint8_t[]", _SCRATCH_BYTES)
        self._mapping = mapped(ROOM_FLOWS * FLOW_BYTES)
        #: What the last receive has brought, until the next one.
        self.records: CData = ffi.from_buffer("struct nfl_flow[]", self._mapping)

    def fileno(self) -> int:
        """Return the descriptor, for select and epoll; ValueError once closed."""
        return self.socket.fileno()

    def listen(self, *, reliable: bool = False) -> None:
        """Begin to listen; KernelError says what is missing."""
        tried = "listen for flows"
        try:
            # What the kernel does not take is filtered in C all the same.
            if program := self._accept.program():
                self._attach(program)
            if reliable:
                self.set_reliable(True)
            for name in self.events:
                self.socket.set_option(_SOL_NETLINK, _ADD_MEMBERSHIP, struct.pack("=i", _GROUPS[name]), tried)
        except KernelError as error:
            raise _refused(tried, error, self._netns) from None

    def silence(self) -> None:
        """Stop listening; what has come can still be received. The kernel waits for us no longer."""
        if self.reliable:
            self.set_reliable(False)
        for name in self.events:
            self.socket.set_option(_SOL_NETLINK, _DROP_MEMBERSHIP, struct.pack("=i", _GROUPS[name]), "stop listening")

    def set_reliable(self, on: bool) -> None:
        """Have the kernel tell again what we had no room for, or not (NETLINK_BROADCAST_ERROR)."""
        self.socket.set_option(_SOL_NETLINK, _BROADCAST_ERROR, struct.pack("=i", on), "ask for events to be repeated")
        self.reliable = on

    def _attach(self, program: bytes) -> None:
        code = ffi.from_buffer(program)
        # struct sock_fprog: the number of instructions, and where they are.
        head = struct.pack("@HP", len(program) // 8, int(ffi.cast("uintptr_t", code)))
        self.socket.set_option(_SOL_SOCKET, _SO_ATTACH_FILTER, head, "filter flows in the kernel")

    def receive(self) -> int:
        """Receive without blocking what is there into `records`; the number of flows that are wanted.

        `state.more` tells that more may wait, `state.overran` that the kernel had to drop something.
        """
        state = self.state
        state.valid_any, state.valid_all = 0, 2**64 - 1
        count = lib.nfl_flows_receive(
            state, self.fileno(), self._scratch, _SCRATCH_BYTES, self.records, ENOUGH_FLOWS + 1, 1
        )
        if count < 0:
            raise KernelError("receive flows", -count)
        return self._accept.select(self.records, count)

    def close(self) -> None:
        """Close the socket; may be called again."""
        self.socket.close()


class TableSocket:
    """Asks for the table of flows, a piece at a time."""

    def __init__(self, accept: Accept, netns: str | None = None) -> None:
        self._accept = accept
        self._netns = netns
        self.socket = NetlinkSocket(lib.NETLINK_NETFILTER, netns=netns)
        self.socket.connect_to_kernel()
        self._sequence = 0
        self._filters = True
        self.state: CData = ffi.new("struct nfl_flows *")
        self._scratch: CData = _uninitialised("uint8_t[]", lib.NFL_FLOW_DATAGRAM_MAX)

    def begin(self) -> None:
        """Ask for the table; nothing may be left of a dump before."""
        self._ask(self._accept.asks() if self._filters else b"")

    def _ask(self, filter_: bytes) -> None:
        self._sequence += 1
        received, malformed = self.state.received, self.state.malformed
        self.state = ffi.new(
            "struct nfl_flows *", {"seq": self._sequence, "received": received, "malformed": malformed}
        )
        self._asked = filter_
        body = messages.general(self._accept.family) + filter_
        flags = messages.REQUEST | messages.DUMP
        try:
            self.socket.write(messages.message(_GET, flags, self._sequence, body), "list flows")
        except KernelError as error:
            raise _refused("list flows", error, self._netns) from None

    def receive(self, records: CData, room: int) -> int:
        """Receive a piece of the dump, waiting for it, into `records`; the number of wanted flows. `done`: no more.

        `room` is at least ROOM_FLOWS. Raises KernelError if the kernel refuses or the socket fails.
        """
        state = self.state
        state.valid_any, state.valid_all = 0, 2**64 - 1
        count = lib.nfl_flows_receive(
            state, self.socket.fileno(), self._scratch, lib.NFL_FLOW_DATAGRAM_MAX, records, room,
            ROOM_FLOWS - ENOUGH_FLOWS,
        )  # fmt: skip
        if count < 0:
            raise KernelError("list flows", -count)
        if state.done and state.error:
            error = KernelError("list flows", -state.error)
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP) and self._asked:
                # A kernel that does not know the filter; what it is for is done in C too.
                self._filters = False
                self._ask(b"")
                return self.receive(records, room)
            raise _refused("list flows", error, self._netns)
        if not count and not state.done:
            poll = select.poll()
            poll.register(self.socket.fileno(), select.POLLIN)
            poll.poll(100)
        return self._accept.select(records, count)

    @property
    def done(self) -> bool:
        """Whether all has been received."""
        return bool(self.state.done)

    @property
    def complete(self) -> bool:
        """Whether nothing can be missing of what was received: no message was lost, nothing changed its place."""
        return bool(self.state.done) and not (self.state.overrun or self.state.truncated or self.state.interrupted)

    def close(self) -> None:
        """Close the socket; may be called again."""
        self.socket.close()


class LoadSocket:
    """Asks how full the kernel's table is; a few microseconds each time."""

    def __init__(self, netns: str | None = None) -> None:
        self._netns = netns
        self.socket = NetlinkSocket(lib.NETLINK_NETFILTER, netns=netns)
        self.socket.connect_to_kernel()
        self._sequence = 0

    def read(self) -> Load:
        """Return it; KernelError where the kernel does not tell."""
        self._sequence += 1
        tried = "read the number of flows"
        body = messages.general(0)
        self.socket.write(messages.message(_GET_STATS, messages.REQUEST, self._sequence, body), tried)
        for answer in self.socket.answers(tried):
            if answer.sequence != self._sequence or answer.type == messages.DONE:
                continue
            if answer.type == messages.ERROR:
                raise _refused(tried, KernelError(tried, messages.errno_of(answer.body)), self._netns)
            found = messages.attributes(answer.body, messages.GENERAL_BYTES)
            flows, limit = (int.from_bytes(found.get(n, b""), "big") for n in (_STATS_ENTRIES, _STATS_MAX))
            return Load(flows, limit)
        raise KernelError(tried, errno.ENODATA)

    def close(self) -> None:
        """Close the socket; may be called again."""
        self.socket.close()


def load(netns: str | None = None) -> Load:
    """Return how full the table of a namespace is."""
    socket = LoadSocket(netns)
    try:
        return socket.read()
    finally:
        socket.close()


def read_table(accept: Accept, netns: str | None = None) -> tuple[RecordArray | None, int, int, int]:
    """Return the whole table: the records, their number, and what is valid of any and of all.

    The memory grows with what is read. KernelError if the kernel does not give it.
    """
    expected = load(netns).flows
    room = expected + expected // 4 + 2 * ROOM_FLOWS
    table = TableSocket(accept, netns)
    try:
        table.begin()
        mapping = mapped(room * FLOW_BYTES)
        records = ffi.from_buffer("struct nfl_flow[]", mapping)
        count, any_, all_ = 0, 0, 2**64 - 1
        while not table.done:
            if room - count < ROOM_FLOWS:
                larger = mapped(2 * room * FLOW_BYTES)
                moved = ffi.from_buffer("struct nfl_flow[]", larger)
                ffi.memmove(moved, records, count * FLOW_BYTES)
                mapping, records, room = larger, moved, 2 * room
            count += table.receive(records + count, room - count)
            any_ |= table.state.valid_any
            all_ &= table.state.valid_all
    finally:
        table.close()
    return (RecordArray(flows_in(mapping, count), count) if count else None), count, any_, all_
