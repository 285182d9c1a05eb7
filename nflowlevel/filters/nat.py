# SPDX-License-Identifier: GPL-2.0-or-later
"""NAT: what was translated to what: the log of addresses and ports that the law asks of providers.

Where NAT changes the source of a flow, `nat.saddr.str` and `nat.sport` are the address and port that the other end
sees; where it changes the destination, `nat.daddr.str` and `nat.dport` are those that the packets are sent on to.
`nat.event` says in the numbers of RFC 8158 whether the translation began or ended.

The key `print` is a line for LOGEMU, SYSLOG and other logs:

    [DESTROY] PROTO=TCP SRC=10.0.0.5 SPT=51234 NATSRC=198.51.100.7 NATSPT=40001 DST=203.0.113.9 DPT=443
    START=2026-11-27T08:32:59Z END=2026-11-27T08:35:01Z

(one line, broken here). Times are UTC; a time that is not known is left out, and `ZONE=` stands before it where the
flow has a conntrack zone. Only translated flows have the line. With `translated_only`, the other flows end here.

The kernel must know when a flow began: `sysctl net.netfilter.nf_conntrack_timestamp=1`, before the first flow.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.options import Options
from nflowlevel.plugin.contract import Filter
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import NAT_EVENT, PRINT_NAT, FlowCondition, Key, published_by

_NEW, _DESTROY = 1, 4
#: natEvent of RFC 8158: sessions of NAT44; for IPv6 there are only those of any translation.
_EVENTS = {(2, _NEW): 4, (2, _DESTROY): 5, (10, _NEW): 1, (10, _DESTROY): 2}


class NATOptions(Options, frozen=True, kw_only=True):
    """Options of NAT."""

    section_optional = True

    translated_only: Annotated[bool, Meta(description="Let only translated flows pass.")] = False
    print: Annotated[bool, Meta(description="Add the key `print`, the line of the log.")] = True


class NAT(Filter[NATOptions]):
    """The NAT plugin; see the module."""

    name = "NAT"
    Options = NATOptions
    consumes = (
        *("oob.family", "orig.ip.saddr", "orig.ip.daddr", "reply.ip.saddr", "reply.ip.daddr"),
        *("[orig.l4.sport]", "[orig.l4.dport]", "[reply.l4.sport]", "[reply.l4.dport]", "[ct.event]"),
    )
    accepts = frozenset(("flow",))

    def published(self) -> tuple[Key, ...]:
        """Return its keys, without the line where the options do not want it."""
        return tuple(key for key in published_by(self.name) if self.options.print or key is not PRINT_NAT)

    def process(self, batch: Batch) -> Batch:
        """Select the translated flows, if only those are wanted, and add what C does not find in the record."""
        translated = batch.rows_with(FlowCondition.NAT)
        if self.options.translated_only and len(translated) < len(batch):
            batch, translated = batch.select(translated), list(range(len(translated)))
        else:
            batch = batch.copy()
        events: list[int | None] = [None] * len(batch)
        if translated:
            happened = batch.rows("oob.family", "ct.event")
            for row in translated:
                events[row] = _EVENTS.get(happened[row])
        batch.add(NAT_EVENT, events)
        if self.options.print:
            batch.add_printed(PRINT_NAT)
        return batch
