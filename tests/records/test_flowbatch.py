# SPDX-License-Identifier: GPL-2.0-or-later
"""A batch of flows stays one, whatever is done with it."""

from __future__ import annotations

from nflowlevel.records.flow import FLOW
from nflowlevel.records.flowbatch import FlowBatch
from nflowlevel.records.flowrow import Flow
from tests.fix_flow_messages import DESTROY, decode_flows, message, tcp_flow


def test_parts_are_batches_of_flows() -> None:
    made, _ = decode_flows([message(DESTROY, *tcp_flow()) * 3])
    batch = FlowBatch(made._lease, 3, type=FLOW, valid_any=2**64 - 1)
    for part in (batch[:2], batch.select([0, 2]), batch.where("orig.l4.dport == 443"), batch.copy()):
        assert type(part) is FlowBatch
        assert all(type(flow) is Flow for flow in part)
    assert isinstance(batch[0], Flow)
    assert len(batch.where("orig.l4.dport == 1")) == 0


def test_networks_of_flows() -> None:
    made, _ = decode_flows([message(DESTROY, *tcp_flow()) * 2])
    for filter_, count in (
        ("orig.ip.saddr == 10.77.0.0/24", 2), ("saddr == 10.78.0.0/24", 0), ("src_ip == 10.77.0.2", 2),
        ("reply.ip.daddr in {198.51.100.0/30, fd00::/8}", 2), ("orig.ip.hsaddr == 10.77.0.2", 2),
    ):  # fmt: skip
        assert len(made.where(filter_)) == count, filter_
        assert len(made.select([0]).where(filter_)) == count / 2, filter_
