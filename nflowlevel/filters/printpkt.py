# SPDX-License-Identifier: GPL-2.0-or-later
"""PRINTPKT: the packet as one line of text, `IN=… OUT=… MAC=… SRC=… DST=… LEN=… PROTO=…`, for LOGEMU and SYSLOG.

The line has the form of the kernel's LOG target, as ulogd2 writes it. psad, fwlogwatch and similar programs read it.
A packet is always one line: control characters in a prefix or an interface name are written as `\\xNN`. Tabs and all
other bytes stay as they are. `INCOMPLETE` after a protocol's name means that its header is not there: it was not
captured, or the packet is a later fragment.

Put BASE, IFINDEX and IP2STR before it.
"""

from __future__ import annotations

from nflowlevel.plugin.contract import Filter, NoOptions
from nflowlevel.records.batch import Batch


class PRINTPKT(Filter[NoOptions]):
    """The PRINTPKT plugin; see the module."""

    name = "PRINTPKT"
    consumes = (
        *("oob.family", "oob.protocol", "oob.prefix", "oob.in", "oob.out", "oob.mark", "[oob.uid]", "[oob.gid]"),
        *("raw.mac", "raw.mac_len", "ip.saddr.str", "ip.daddr.str", "ip.protocol", "arp.saddr.str", "arp.daddr.str"),
    )
    accepts = frozenset(("packet",))

    def process(self, batch: Batch) -> Batch:
        """Let the text be made where an output asks for it; other stacks' outputs shall not see it."""
        batch = batch.copy()
        batch.add_print()
        return batch
