# SPDX-License-Identifier: GPL-2.0-or-later
"""FLOW: the record type of flows, how they lie in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nflowlevel.binding._lib import ffi
from nflowlevel.records.keys import CATALOGUE, FlowCondition
from nflowlevel.records.types import RecordType

#: Netfilter's terms for the keys of a flow: each an attribute, and a name wherever a key is asked for. What is said of
#: one direction only is that of the original one. The last six are the names that JSON gives them with `cim`.
FLOW_TERMS: dict[str, str] = {
    "saddr": "orig.ip.saddr",
    "daddr": "orig.ip.daddr",
    "protocol": "orig.ip.protocol",
    "sport": "orig.l4.sport",
    "dport": "orig.l4.dport",
    "bytes": "orig.raw.pktlen",
    "packets": "orig.raw.pktcount",
    "reply_bytes": "reply.raw.pktlen",
    "reply_packets": "reply.raw.pktcount",
    "mark": "ct.mark",
    "id": "ct.id",
    "event": "ct.event",
    "status": "ct.status",
    "timeout": "ct.timeout",
    "zone": "ct.zone",
    "helper": "ct.helper",
    "labels": "ct.labels",
    "family": "oob.family",
    "src_port": "orig.l4.sport",
    "dest_port": "orig.l4.dport",
    "bytes_out": "orig.raw.pktlen",
    "bytes_in": "reply.raw.pktlen",
    "packets_out": "orig.raw.pktcount",
    "packets_in": "reply.raw.pktcount",
}


def _row() -> Callable[[Any, int], Any]:
    from nflowlevel.records.flowrow import Flow

    return Flow


#: Flows, as nf_conntrack_netlink gives them. They have the time of their batch, as in ulogd2: that of the reading.
FLOW = RecordType(
    "flow",
    struct=ffi.typeof("struct nfl_flow"),
    keys=[key for key in CATALOGUE if isinstance(key.valid, FlowCondition)],
    row=_row,
    six=FlowCondition.IP6,
    terms=FLOW_TERMS,
)
