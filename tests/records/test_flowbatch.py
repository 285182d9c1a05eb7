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
