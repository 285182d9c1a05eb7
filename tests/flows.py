# SPDX-License-Identifier: GPL-2.0-or-later
"""Flows as nf_conntrack_netlink sends them, made by hand: of each protocol, with NAT, of both families.

batch = flow_batch(TCP, message(replace(UDP, event=NEW)))
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.buffers import RecordArray
from nflowlevel.options import Options
from nflowlevel.plugin.contract import Filter, Input, NoOptions, Output
from nflowlevel.records.batch import Batch
from nflowlevel.records.flow import FLOW
from nflowlevel.stacks.destination import Destination
from nflowlevel.stacks.stack import Source, Stack, _members
from nflowlevel.stats import Counters
from tests.fix_flow_messages import DESTROY, NEW, UPDATE, counters, number, times, tuple_of
from tests.fix_flow_messages import message as flow_message
from tests.netlink import attribute, nest

#: Time of the batches, and of the flows before it.
NOW = 1_795_460_084
_TCP, _UDP, _ICMP, _ICMPV6 = 6, 17, 1, 58
#: Those with ports, or what stands where they do, in conntrack's tuples.
_WITH_PORTS = (_TCP, _UDP, 33, 47, 132, 136)


@dataclass(frozen=True)
class End:
    """Address, and port where there is one."""

    address: str
    port: int = 0


@dataclass(frozen=True)
class FlowOf:
    """What the kernel says of a flow."""

    protocol: int
    source: End
    target: End
    reply_source: End | None = None
    """Where the answers come from; None: the target."""
    reply_target: End | None = None
    """Where they go to; None: the source."""
    packets: tuple[int, int] = (3, 2)
    bytes: tuple[int, int] = (180, 120)
    event: int = DESTROY
    icmp: tuple[int, int, int] = (8, 0, 77)
    """Type, code and id."""
    status: int = 0x18E
    timeout: int | None = None
    mark: int = 0
    zone: int = 0
    id: int = 0x12345678
    times: tuple[int, int] = ((NOW - 10) * 10**9 + 250_000_000, (NOW - 3) * 10**9 + 750_000_000)
    tcp_state: int | None = None
    helper: str = ""
    more: tuple[bytes, ...] = field(default=())


def _tuple(number: int, flow: FlowOf, source: End, target: End, *, answer: bool = False) -> bytes:
    type_, code, id_ = flow.icmp
    shown = {8: 0, 128: 129}.get(type_, type_) if answer else type_
    return tuple_of(
        number, source.address, target.address, flow.protocol,
        ports=(source.port, target.port) if flow.protocol in _WITH_PORTS else None,
        icmp=(shown, code, id_) if flow.protocol in (_ICMP, _ICMPV6) else None,
    )  # fmt: skip


def message(flow: FlowOf) -> bytes:
    """Return what the kernel sends of it."""
    back = flow.reply_source or flow.target, flow.reply_target or flow.source
    attributes = [
        _tuple(1, flow, flow.source, flow.target),
        _tuple(2, flow, *back, answer=True),
        number(3, flow.status),
        number(12, flow.id),
    ]
    if flow.timeout is not None:
        attributes.append(number(7, flow.timeout))
    if flow.mark:
        attributes.append(number(8, flow.mark))
    if flow.zone:
        attributes.append(number(18, flow.zone, "!H"))
    if flow.tcp_state is not None:
        attributes.append(nest(4, nest(1, attribute(1, bytes((flow.tcp_state,))))))
    if flow.helper:
        attributes.append(nest(5, attribute(1, flow.helper.encode() + b"\0")))
    if flow.event == DESTROY:
        attributes += [counters(9 + way, flow.packets[way], flow.bytes[way]) for way in (0, 1)]
    if any(flow.times):
        attributes.append(times(flow.times[0], flow.times[1] if flow.event == DESTROY else 0))
    family = socket.AF_INET6 if ":" in flow.source.address else socket.AF_INET
    return flow_message(flow.event, *attributes, *flow.more, family=family)


def flow_batch(*flows: FlowOf) -> Batch:
    """Return a batch of these flows, as an input makes it: their time is whole seconds."""
    data = b"".join(map(message, flows))
    records = ffi.new("struct nfl_flow[]", max(len(flows), 1))
    state = ffi.new("struct nfl_flows *", {"events": 7, "valid_all": (1 << 64) - 1})
    count = lib.nfl_flows_decode(state, data, len(data), NOW * 10**9, records, len(flows))
    assert count == len(flows), f"{count} of {len(flows)} flows were decoded"
    array = RecordArray(records, count)
    return Batch(array, count, type=FLOW, time=(NOW, None), valid_any=state.valid_any, valid_all=state.valid_all)


CLIENT, SERVER, PUBLIC = "10.0.0.5", "203.0.113.9", "198.51.100.7"
CLIENT6, SERVER6, PUBLIC6 = "fd00::5", "2001:db8::9", "2001:db8:1::7"

TCP = FlowOf(_TCP, End(CLIENT, 51234), End(SERVER, 443), packets=(10, 8), bytes=(1234, 56789))
UDP = FlowOf(_UDP, End(CLIENT, 5353), End(SERVER, 53), packets=(1, 0), bytes=(30, 0), status=0x308)
ICMP = FlowOf(_ICMP, End(CLIENT), End(SERVER), packets=(2, 2), bytes=(168, 168))
TCP6 = FlowOf(_TCP, End(CLIENT6, 40000), End(SERVER6, 22), packets=(5, 4), bytes=(500, 2**40))
ICMPV6 = FlowOf(_ICMPV6, End(CLIENT6), End(SERVER6), icmp=(128, 0, 9))
#: Of PPTP: the keys are where others have ports.
GRE = FlowOf(47, End(CLIENT, 0xBEEF), End(SERVER, 0x10))
#: Masqueraded: the server sees the public address and another port.
SNAT = replace(TCP, reply_target=End(PUBLIC, 40001), status=0x19E)
#: A port that is forwarded to a server inside.
DNAT = FlowOf(_TCP, End(SERVER, 33333), End(PUBLIC, 8080), reply_source=End(CLIENT, 80), status=0x1AE, mark=7, zone=3)
SNAT_UDP = replace(UDP, reply_target=End(PUBLIC, 5353), event=NEW)
SNAT_ICMP = replace(ICMP, reply_target=End(PUBLIC))
SNAT6 = replace(TCP6, reply_target=End(PUBLIC6, 40000))

ALL = (TCP, UDP, ICMP, TCP6, ICMPV6, GRE, SNAT, DNAT, SNAT_UDP, SNAT_ICMP, SNAT6, replace(TCP, event=UPDATE))


class Flows(Input[Options]):
    """What stands at the head of a stack of flows; batches are delivered by hand."""

    name = "NFCT"
    provides = "flow"
    records = FLOW

    def __init__(self) -> None:
        super().__init__("ct1", NoOptions())

    def open(self) -> None: ...

    def fileno(self) -> int:
        return -1

    def receive(self) -> Batch:
        return Batch(None, 0, type=FLOW)

    def drain(self) -> Iterator[Batch]:
        yield from ()

    @property
    def stats(self) -> Counters:
        return Counters()


def deliver(batch: Batch, *plugins: Filter[Any] | Output[Any], patience: float = 1.0) -> Stack:
    """Send a batch through the stack of these plugins, close it and return it; fail where a plugin did.

    The output has `patience` seconds to deliver what it has.
    """
    stack = opened(*plugins)
    stack.deliver(batch)
    stack.close(patience)
    assert stack.dropped == 0
    return stack


def opened(*plugins: Filter[Any] | Output[Any]) -> Stack:
    """Return the stack of these plugins behind a source of flows, open."""
    source = Source(Flows())
    *filters, output = plugins
    assert isinstance(output, Output)
    destination = Destination(output)
    share, objection = destination.join(_members([source.input, *plugins]), source.input)  # type: ignore[list-item]
    assert not objection
    stack = Stack("flows", source, filters, destination, share)  # type: ignore[arg-type]
    source.stacks.append(stack)
    destination.bind()
    stack.open()
    return stack
