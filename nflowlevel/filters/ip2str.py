# SPDX-License-Identifier: GPL-2.0-or-later
"""IP2STR: addresses as text, in the form of inet_ntop(3).

C code makes the text when an output asks for it; this plugin adds it to the stack's records.
"""

from __future__ import annotations

from nflowlevel.plugin.contract import Filter, NoOptions
from nflowlevel.records.batch import Batch


class IP2STR(Filter[NoOptions]):
    """The IP2STR plugin; see the module."""

    name = "IP2STR"
    consumes = (
        *("oob.family", "oob.protocol", "[ip.saddr]", "[ip.daddr]"),
        *("[orig.ip.saddr]", "[orig.ip.daddr]", "[reply.ip.saddr]", "[reply.ip.daddr]"),
        *("[arp.saddr]", "[arp.daddr]"),
    )

    def process(self, batch: Batch) -> Batch:
        """Let the batch pass: the text is made from its records when it is asked for."""
        return batch
