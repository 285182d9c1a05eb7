# SPDX-License-Identifier: GPL-2.0-or-later
"""IP2BIN: addresses as 128-bit numbers, for columns such as MySQL's BINARY(16).

An address becomes `0x` and 32 hex digits. IPv4 addresses are mapped into ::ffff:0:0/96 (RFC 4291, 2.5.5.2), so both
kinds sort and compare in one column. The SQL outputs store the 16 bytes. PostgreSQL has its own type for addresses; use
IP2STR there.
"""

from __future__ import annotations

from nflowlevel.plugin.contract import Filter, NoOptions
from nflowlevel.records.batch import Batch


class IP2BIN(Filter[NoOptions]):
    """The IP2BIN plugin; see the module."""

    name = "IP2BIN"
    consumes = (
        *("oob.family", "oob.protocol", "[ip.saddr]", "[ip.daddr]"),
        *("[orig.ip.saddr]", "[orig.ip.daddr]", "[reply.ip.saddr]", "[reply.ip.daddr]"),
    )

    def process(self, batch: Batch) -> Batch:
        """Let the batch pass: the text is made from its records when it is asked for."""
        return batch
