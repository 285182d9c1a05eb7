# SPDX-License-Identifier: GPL-2.0-or-later
"""HWHDR: hardware addresses and link-layer header as text, lower-case hex digits joined by colons.

`oob.protocol` is the EtherType of the Ethernet header if the packet has one. Headers may have any length. Packets sent
by this machine do not have a link-layer header yet, so they have none of these texts.
"""

from __future__ import annotations

from nflowlevel.plugin.contract import Filter, NoOptions
from nflowlevel.records.batch import Batch


class HWHDR(Filter[NoOptions]):
    """The HWHDR plugin; see the module."""

    name = "HWHDR"
    consumes = ("oob.protocol", "[raw.type]", "[raw.mac]", "[raw.mac_len]", "[raw.mac.saddr]", "[raw.mac.addrlen]")
    accepts = frozenset(("packet",))

    def process(self, batch: Batch) -> Batch:
        """Let the batch pass: the text is made from its records when it is asked for."""
        return batch
