# SPDX-License-Identifier: GPL-2.0-or-later
"""BASE: the packet's own fields: IPv4, IPv6, TCP, UDP, UDP-Lite, ICMP, ICMPv6, SCTP, AH, ESP, ARP.

C code decodes the fields when packets are received; this plugin adds them to the stack's records.
"""

from __future__ import annotations

from nflowlevel.plugin.contract import Filter, NoOptions
from nflowlevel.records.batch import Batch


class BASE(Filter[NoOptions]):
    """The BASE plugin; see the module."""

    name = "BASE"
    consumes = ("raw.pkt", "raw.pktlen", "oob.family", "oob.protocol")
    accepts = frozenset(("raw",))
    provides = "packet"

    def process(self, batch: Batch) -> Batch:
        """Let the batch pass: its records hold the fields already."""
        return batch
