# SPDX-License-Identifier: GPL-2.0-or-later
"""Flow: what a row says of itself."""

from __future__ import annotations

import copy
import pickle

from nflowlevel.records.flowrow import Flow
from tests.fix_flow_messages import DESTROY, NEW, decode_flows, message, tcp_flow, tuple_of


def test_a_flow_says_what_it_is() -> None:
    (flow,) = decode_flows([message(DESTROY, *tcp_flow())])[0]
    assert isinstance(flow, Flow)
    assert (flow.start, flow.end) == (1_699_999_990.000001, 1_699_999_999.999999)
    assert (flow.seen_reply, flow.assured, flow.translated) == (True, True, False)
    assert repr(flow) == (
        "<Flow 10.77.0.2:40000 > 192.0.2.80:443 protocol 6 packets 12 / 1099511627776 bytes 3456 / 9223372036854775808>"
    )


def test_one_that_has_begun_has_no_end() -> None:
    ends = (tuple_of(1, "10.0.0.2", "10.0.0.1", 47), tuple_of(2, "10.0.0.1", "10.0.0.2", 47))
    (flow,) = decode_flows([message(NEW, *ends)])[0]
    assert flow.start
    assert flow.end is None
    assert not flow.seen_reply
    assert repr(flow) == "<Flow 10.0.0.2 > 10.0.0.1 protocol 47 packets 0 / 0 bytes 0 / 0>"


def test_a_copy_keeps_its_values() -> None:
    (flow,) = decode_flows([message(DESTROY, *tcp_flow())])[0]
    for twin in (copy.copy(flow), pickle.loads(pickle.dumps(flow))):
        assert twin.to_dict() == flow.to_dict()
        assert (twin.start, twin.helper, twin.labels) == (flow.start, "ftp", bytes(range(16)))
