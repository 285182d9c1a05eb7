# SPDX-License-Identifier: GPL-2.0-or-later
"""NFCT: flows of connection tracking, when they end or as they go on.

With `hash_enable`, the default, a record is made when a flow ends: both tuples, beginning and end, packets and bytes of
both directions. With `active_timeout` a long flow is also reported while it goes on, and SIGUSR2 reports all flows
(`ct.event` 2). A record has what was counted since the flow's record before; `flow.number` counts them, and `flow.last`
is 1 in the last. So the records of a flow add up to the kernel's counters. What the kernel's table holds at the start
is known, and reported when it ends. With `hash_enable=0` each event is a record: `ct.event` 1, 2 or 4, as `event_mask`
asks.

The kernel counts only with `sysctl net.netfilter.nf_conntrack_acct=1`, and stamps beginning and end only with
`net.netfilter.nf_conntrack_timestamp=1`; both for flows that begin afterwards. With stamps, beginnings need not be
heard of: then only the ends are, which costs half. With `event_mask=7` all is heard of, and the records have labels
and helpers.

Every loss is counted: `lost` is the number of events that the kernel had no room for. After a loss the kernel's table
is read (`netlink_resync_timeout`), and flows that are gone are reported with what was known of them; with
`pollinterval` that is at most so old. With `reliable` the kernel keeps ended flows until it has told of them; if that
fills its table, the daemon gives it up for a while rather than have new connections fail, and counts and says so.

Flows that go on at the stop are not reported, as in ulogd2, unless `flush_at_stop` is set. What was reported of them is
kept in `state_file`, so that the records add up over a restart, too. After a crash, they are reported again from their
beginning. One daemon at a time has the file; another that names it says so, and keeps nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from nflowlevel.binding.acceptance import Accept
from nflowlevel.binding.conntrack import EVENTS, EventName, settings
from nflowlevel.logs import NOTICE, log
from nflowlevel.options import CLAMPED, MOST_SECS, NetnsPath, Options
from nflowlevel.plugin.kernel import ReaderInput, SocketBufferMost, SocketBufferSize, buffers
from nflowlevel.readers.flows import Flows
from nflowlevel.records.batch import Batch
from nflowlevel.records.flow import FLOW
from nflowlevel.stats import FlowStats

_ALL_EVENTS = sum(EVENTS.values())


class NFCTOptions(Options, frozen=True, kw_only=True):
    """Options of NFCT; names as in ulogd.conf."""

    pollinterval: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_SECS,
            description="Seconds between two readings of the kernel's table; 0: none. Needs `hash_enable`.",
        ),
    ] = 0
    hash_enable: Annotated[
        bool,
        Meta(description="Keep a table of flows, and report a flow when it ends; without, each event is a record."),
    ] = True
    hash_buckets: Annotated[
        int, Meta(ge=0, description="Accepted for ulogd compatibility; the table is always large enough to be fast.")
    ] = 0
    hash_max_entries: Annotated[
        int,
        Meta(
            ge=0,
            le=0x7FFF_FFFF,
            extra=CLAMPED,
            description="Most flows that are known at a time; 0: as many as the kernel can have. More are counted.",
        ),
    ] = 0
    event_mask: Annotated[
        int,
        Meta(ge=0, le=_ALL_EVENTS, description="Sum of the events to hear of: 1 new, 2 update, 4 destroy."),
    ] = 5
    netlink_socket_buffer_size: SocketBufferSize = 0
    netlink_socket_buffer_maxsize: SocketBufferMost = 0
    netlink_resync_timeout: Annotated[
        int,
        Meta(ge=0, le=MOST_SECS, description="Seconds between a loss of events and the reading of the kernel's table."),
    ] = 60
    reliable: Annotated[
        bool, Meta(description="Have the kernel keep ended flows until it has told of them; see above for the danger.")
    ] = False
    accept_src_filter: Annotated[
        str,
        Meta(description="Networks that hold the original source, such as `10.0.0.0/8,fd00::/8`; empty: any."),
    ] = ""
    accept_dst_filter: Annotated[str, Meta(description="The same for the original destination.")] = ""
    accept_proto_filter: Annotated[
        str, Meta(description="Protocols, by name or number, such as `tcp,17`; empty: any.")
    ] = ""
    active_timeout: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_SECS,
            description="Seconds after which a flow that goes on is reported; 0: never. Needs `hash_enable`.",
        ),
    ] = 0
    flush_at_stop: Annotated[bool, Meta(description="Report what goes on when the daemon stops.")] = False
    state_file: Annotated[
        str,
        Meta(
            description="Where to keep what was reported of flows that go on, from an orderly stop to the next start; "
            "empty: in the directory that the service manager gives (`StateDirectory=`), if it gives one."
        ),
    ] = ""
    network_namespace_path: NetnsPath = ""

    def __post_init__(self) -> None:
        if not self.hash_enable:
            for name in ("pollinterval", "active_timeout", "flush_at_stop"):
                if getattr(self, name):
                    raise ValueError(f"{name} needs hash_enable=1")
        self.accept()

    def accept(self) -> Accept:
        """Return which flows are wanted; ValueError says which option is wrong."""
        lists = []
        for name in ("accept_src_filter", "accept_dst_filter", "accept_proto_filter"):
            items = [item.strip() for item in getattr(self, name).split(",")]
            lists.append([item for item in items if item])
        try:
            return Accept(*lists)
        except ValueError as error:
            for name, items in zip(("sources", "targets", "protocols"), lists, strict=True):
                try:
                    Accept(**{name: items})
                except ValueError:
                    option = {"sources": "src", "targets": "dst", "protocols": "proto"}[name]
                    raise ValueError(f"accept_{option}_filter: {error}") from None
            raise


class NFCT(ReaderInput[NFCTOptions, Flows, FlowStats]):
    """The NFCT plugin; see the module."""

    name = "NFCT"
    Options = NFCTOptions
    provides = "flow"
    records = FLOW
    Stats = FlowStats

    def __init__(self, instance: str, options: NFCTOptions) -> None:
        super().__init__(instance, options, options.network_namespace_path)

    @property
    def deltas(self) -> bool:
        """Whether a record has what was counted since the one before."""
        return True

    def _events(self) -> list[EventName]:
        """Which events to listen for: of those asked for, what there is no other way to know."""
        options = self.options
        mask = options.event_mask
        told = settings(self.netns)
        if not told.counters:
            text = "net.netfilter.nf_conntrack_acct is 0: flows that begin now will have no packets and bytes"
            log.log(NOTICE, "%s: %s; set it to 1", self, text)
        if options.hash_enable and told.timestamps and not mask & EVENTS["update"]:
            mask &= ~EVENTS["new"]
        return [name for name, bit in EVENTS.items() if mask & bit]

    def start(self) -> Flows:
        """Listen, and read the kernel's table."""
        options = self.options
        size, most = buffers(options.netlink_socket_buffer_size, options.netlink_socket_buffer_maxsize)
        return Flows(
            self._events(),
            options.accept(),
            netns=self.netns,
            active_timeout=options.active_timeout or None,
            reliable=options.reliable,
            track=options.hash_enable,
            poll_secs=options.pollinterval,
            resync_secs=options.netlink_resync_timeout,
            socket_buffer=size,
            max_socket_buffer=most,
            max_flows=options.hash_max_entries,
            flush_at_stop=options.flush_at_stop,
            state_file=self._state_file(),
        )

    def _state_file(self) -> str:
        directory = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        default = os.path.join(directory, f"{self.instance}.flows") if directory else ""
        return self.options.state_file or default if self.options.hash_enable else ""

    @property
    def deadline(self) -> float | None:
        """When the kernel's table is to be read."""
        return self._reader.deadline if self._reader else None

    def leave(self) -> Iterator[Batch]:
        """The namespace was deleted: its flows end with it."""
        return self.reader.leave()

    def poll_now(self) -> None:
        """SIGUSR2: report all that goes on."""
        if self._reader:
            self._reader.report()

    def close(self, timeout: float = 1.0) -> None:
        """Close the sockets."""
        super().close(timeout)
        self._stats.tracked = 0
