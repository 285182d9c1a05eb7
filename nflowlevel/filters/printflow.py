# SPDX-License-Identifier: GPL-2.0-or-later
"""PRINTFLOW: the flow as one line of text, `[DESTROY] ORIG: SRC=… DST=… , REPLY: SRC=… DST=…`, for LOGEMU and SYSLOG.

A line is that of ulogd2: what happened (`[NEW]`, `[UPDATE]` or `[DESTROY]`), then both directions with addresses,
`PROTO=`, ports, packets and bytes. Type and code of ICMP are in their places, which ulogd2 exchanges. Protocols other
than TCP, UDP, ICMP, ESP and AH are numbers.

Put IP2STR before it. To see translated addresses and ports named as such, use NAT.
"""

from __future__ import annotations

from nflowlevel.plugin.contract import Filter, NoOptions
from nflowlevel.records.batch import Batch


class PRINTFLOW(Filter[NoOptions]):
    """The PRINTFLOW plugin; see the module."""

    name = "PRINTFLOW"
    consumes = (
        *("orig.ip.saddr.str", "orig.ip.daddr.str", "orig.ip.protocol", "orig.l4.sport", "orig.l4.dport"),
        *("orig.raw.pktlen", "orig.raw.pktcount", "reply.ip.saddr.str", "reply.ip.daddr.str", "reply.ip.protocol"),
        *("reply.l4.sport", "reply.l4.dport", "reply.raw.pktlen", "reply.raw.pktcount"),
        *("icmp.code", "icmp.type", "ct.event"),
    )
    accepts = frozenset(("flow",))

    def process(self, batch: Batch) -> Batch:
        """Let the text be made where an output asks for it; other stacks' outputs shall not see it."""
        batch = batch.copy()
        batch.add_print()
        return batch
