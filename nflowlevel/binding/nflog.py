# SPDX-License-Identifier: GPL-2.0-or-later
"""One group of nfnetlink_log: its configuration requests and its datagrams, through libnetfilter_log.

Kernel side: net/netfilter/nfnetlink_log.c. What it asks of a reader, and where it is not obvious:
- Requests and packets share one socket, so answers are met among packets; nothing that was received on the way is lost.
- Bind and all settings go in one message: no packet is logged to the group with other settings.
- NFULNL_CFG_F_CONNTRACK goes alone: where the kernel lacks the conntrack glue it refuses the whole message.
- UNBIND makes the kernel send what it still queues, before its answer.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from dataclasses import dataclass

from nflowlevel.binding import procfs
from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.binding.buffers import DATA_BYTES, ENOUGH_RECORDS, RECORD_BYTES, ROOM_RECORDS, BufferPool, Lease
from nflowlevel.binding.netlink import NetlinkSocket
from nflowlevel.binding.netns import entered
from nflowlevel.errors import KernelError

COPY_MODES: dict[str, int] = {
    "none": lib.NFULNL_COPY_NONE,
    "meta": lib.NFULNL_COPY_META,
    "packet": lib.NFULNL_COPY_PACKET,
}

#: Longest wait for the kernel's answer to a request. It answers within the system call; more means the answer was lost.
_ANSWER_SECS = 2.0
_REQUEST_BYTES = 256


@dataclass(frozen=True, slots=True)
class Received:
    """What one receive brought: `count` records in a lease.

    `valid_any` and `valid_all` are `valid` of all records joined by "or" and by "and".
    """

    lease: Lease
    count: int
    valid_any: int
    valid_all: int


class GroupSocket:
    """A netlink socket that reads one group. `bind`, `receive` …, `unbind`, `close`.

    `state` is the C receiver with its counters (`struct nfl_receiver` in _cdefs/packet.h).
    """

    def __init__(self, group: int, *, netns: str | None = None, label: int = 0, pool: BufferPool | None = None) -> None:
        self.group = group
        self._netns = netns
        self._pool = pool or BufferPool()
        self._sequence = 0
        self._early: list[Received] = []
        self.socket = NetlinkSocket(lib.NETLINK_NETFILTER, netns=netns)
        self.socket.connect_to_kernel()
        self.state: CData = ffi.new("struct nfl_receiver *", {"fd": self.socket.fileno(), "label": label & 0xFF})

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self.socket.fileno()

    # -- requests ------------------------------------------------------------------------------------------------

    def bind(
        self, *, copy_mode: int, copy_range: int, qthreshold: int, qtimeout: int, nlbufsiz: int, seq_global: bool
    ) -> None:
        """Become the group's reader with these settings; a 0 leaves the kernel's default. KernelError says who is in
        the way."""
        flags = lib.NFULNL_CFG_F_SEQ | (lib.NFULNL_CFG_F_SEQ_GLOBAL if seq_global else 0)
        request = self._request(socket.AF_UNSPEC)
        lib.nflog_attr_put_cfg_cmd(request, lib.NFULNL_CFG_CMD_BIND)
        lib.nflog_attr_put_cfg_mode(request, copy_mode, copy_range)
        for attribute, value in (
            (lib.NFULA_CFG_TIMEOUT, qtimeout),
            (lib.NFULA_CFG_QTHRESH, qthreshold),
            (lib.NFULA_CFG_NLBUFSIZ, nlbufsiz),
        ):
            if value:
                lib.mnl_attr_put_u32(request, attribute, socket.htonl(value))
        lib.mnl_attr_put_u16(request, lib.NFULA_CFG_FLAGS, socket.htons(flags))
        try:
            self._ask(request, f"bind group {self.group}")
        except KernelError as error:
            raise KernelError(error.tried, error.errno or 0, self._why_not(error.errno)) from None

    def attach_conntrack(self, *, seq_global: bool) -> None:
        """Ask for the packets' conntrack entries; KernelError where the kernel cannot."""
        flags = lib.NFULNL_CFG_F_SEQ | lib.NFULNL_CFG_F_CONNTRACK | (lib.NFULNL_CFG_F_SEQ_GLOBAL if seq_global else 0)
        request = self._request(socket.AF_UNSPEC)
        lib.mnl_attr_put_u16(request, lib.NFULA_CFG_FLAGS, socket.htons(flags))
        self._ask(request, f"attach conntrack entries to group {self.group}")

    def become_logger(self, family: int, *, unbind_first: bool) -> None:
        """Make nfnetlink_log the family's packet logger in this namespace (PF_BIND); ulogd's `bind` and `unbind`."""
        commands = [(lib.NFULNL_CFG_CMD_PF_UNBIND, "release")] if unbind_first else []
        for command, verb in (*commands, (lib.NFULNL_CFG_CMD_PF_BIND, "take over")):
            request = self._request(family)
            lib.nflog_attr_put_cfg_cmd(request, command)
            self._ask(request, f"{verb} packet logging of family {family}")

    def unbind(self) -> None:
        """Give the group up. What the kernel still queued can be received afterwards: receive until nothing comes."""
        for last_try in (False, True):
            request = self._request(socket.AF_UNSPEC)
            lib.nflog_attr_put_cfg_cmd(request, lib.NFULNL_CFG_CMD_UNBIND)
            try:
                return self._ask(request, f"unbind group {self.group}", _ANSWER_SECS / 4)
            except KernelError as error:
                # The answer finds no room in a socket that is full of packets; the group is given up anyway.
                if error.errno == errno.ENODEV:
                    return None
                if error.errno != errno.ETIMEDOUT or last_try:
                    raise
        return None

    def _request(self, family: int) -> CData:
        self._sequence += 1
        self._buffer = ffi.new("char[]", _REQUEST_BYTES)
        request = lib.nflog_nlmsg_put_header(self._buffer, lib.NFULNL_MSG_CONFIG, family, self.group)
        request.nlmsg_flags = lib.NLM_F_REQUEST | lib.NLM_F_ACK
        request.nlmsg_seq = self._sequence
        return request

    def _ask(self, request: CData, tried: str, timeout: float = _ANSWER_SECS) -> None:
        """Send a request and wait for its answer, keeping packets that come first."""
        self.state.acked = 0
        self.socket.send(request)
        deadline = time.monotonic() + timeout
        while not (self.state.acked and self.state.ack_seq == request.nlmsg_seq):
            received = self._receive()
            if received:
                self._early.append(received)
                continue
            if self.state.acked and self.state.ack_seq == request.nlmsg_seq:
                break
            if time.monotonic() > deadline:
                raise KernelError(tried, errno.ETIMEDOUT, "the kernel's answer was lost: the socket buffer is full")
            poll = select.poll()
            poll.register(self.fileno(), select.POLLIN)
            poll.poll(100)
        if self.state.ack_error:
            raise KernelError(tried, -self.state.ack_error)

    def _why_not(self, error: int | None) -> str:
        if error not in (errno.EPERM, errno.EBUSY):
            return ""
        # EPERM is the kernel's answer both to a group that is taken and to a missing capability.
        try:
            with entered(self._netns):
                holder = procfs.holder_of(self.group)
                suspects = () if holder else procfs.suspects()
                obstacle = procfs.admin_obstacle()
        except KernelError:  # a daemon that has become another user may not look any more
            return f"group {self.group} may be read by another process; list them there with: nflowlevel doctor"
        if holder:
            return f"group {self.group} is read by {holder}; stop that reader or use another group"
        if not obstacle:
            # Only root may read who has a group.
            likely = (
                f"process, probably {' or '.join(suspects)}" if suspects else "socket, which this process cannot see"
            )
            return f"group {self.group} is read by another {likely}; as root, `nflowlevel doctor` tells whose it is"
        remedy = "; run as root; a service gets it by AmbientCapabilities=CAP_NET_ADMIN"
        return obstacle + (remedy if not procfs.has_capability(procfs.CAP_NET_ADMIN) else "")

    # -- packets -------------------------------------------------------------------------------------------------

    def receive(self) -> Received | None:
        """Receive without blocking what is there: a leased buffer of records, or None; `state.more` tells that more may
        wait.

        Raises KernelError when the socket fails, NflowError when too many buffers are held.
        """
        return self._early.pop(0) if self._early else self._receive()

    def _receive(self) -> Received | None:
        slot = self._pool.take()
        count = lib.nfl_receive(self.state, slot.data, DATA_BYTES, slot.records, ROOM_RECORDS, ENOUGH_RECORDS)
        if count <= 0:
            self._pool.put(slot)
            if count:
                raise KernelError(f"receive from group {self.group}", -count)
            return None
        lease = self._pool.lease(slot, self.state.used + count * RECORD_BYTES)
        return Received(lease, count, self.state.valid_any, self.state.valid_all)

    @property
    def early(self) -> bool:
        """Packets wait that came while a request was answered: receive before waiting for the socket."""
        return bool(self._early)

    def close(self) -> None:
        """Close the socket; the kernel then frees the group. May be called again."""
        # The number of the descriptor may soon be another file's.
        self.state.fd = -1
        self.socket.close()
