# SPDX-License-Identifier: GPL-2.0-or-later
"""Flow: one flow of a batch, every key an attribute.

It is not in flow.py because the daemon never looks at single flows and starts without it.
"""

from __future__ import annotations

from nflowlevel.records.flowattributes import FlowAttributes

#: Bits of ct.status (linux/netfilter/nf_conntrack_common.h).
_SEEN_REPLY, _ASSURED, _SRC_NAT, _DST_NAT = 2, 4, 16, 32


class Flow(FlowAttributes, frozen=True, gc=False, eq=False):
    """One flow of a batch. Every key is an attribute, with `_` for `.`: `flow.orig_l4_dport`, `flow.ct_mark`.

    There are also shorter names, which are those of the original direction: `saddr`, `daddr`, `protocol`, `sport`,
    `dport`, `bytes`, `packets`; `reply_bytes`, `reply_packets`; `mark`, `id`, `event`, `status`, `timeout`, `zone`,
    `helper`, `labels`, `family`; `start` and `end`. Attributes that the flow lacks are None.
    """

    @property
    def start(self) -> float | None:
        """Beginning of the flow in seconds since 1970, with microseconds as the fraction; None if it is not known."""
        second, usec = self.flow_start_sec, self.flow_start_usec
        return None if second is None or usec is None else second + usec / 1e6

    @property
    def end(self) -> float | None:
        """End of the flow in the same way; None while it goes on."""
        second, usec = self.flow_end_sec, self.flow_end_usec
        return None if second is None or usec is None else second + usec / 1e6

    @property
    def seen_reply(self) -> bool:
        """Whether packets went in both directions."""
        return bool((self.ct_status or 0) & _SEEN_REPLY)

    @property
    def assured(self) -> bool:
        """Whether the kernel keeps it when its table is full."""
        return bool((self.ct_status or 0) & _ASSURED)

    @property
    def translated(self) -> bool:
        """Whether NAT changes its addresses or ports."""
        return bool((self.ct_status or 0) & (_SRC_NAT | _DST_NAT))

    def __repr__(self) -> str:
        ends = [f"{address}{'' if port is None else f':{port}'}" for address, port in
                ((self.saddr, self.sport), (self.daddr, self.dport))]  # fmt: skip
        return (
            f"<Flow {' > '.join(ends)} protocol {self.protocol} packets {self.packets} / {self.reply_packets} "
            f"bytes {self.bytes} / {self.reply_bytes}>"
        )
