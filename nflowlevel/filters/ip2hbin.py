# SPDX-License-Identifier: GPL-2.0-or-later
"""IP2HBIN: IPv4 addresses as numbers, for columns of 32 bits and more.

10.77.0.2 becomes 172818434 on every machine; MySQL's INET_ATON gives the same number. An IPv6 address does not fit:
`ip.hsaddr` and `ip.hdaddr` of an IPv6 packet have no value, which is NULL in a table. (ulogd2 2.0.8 stores a part of a
memory address instead.) For IPv6, use IP2BIN; for PostgreSQL, which has a type for addresses, use IP2STR. As in
ulogd2, JSON does not show these keys.
"""

from __future__ import annotations

from nflowlevel.plugin.contract import Filter, NoOptions
from nflowlevel.records.batch import Batch


class IP2HBIN(Filter[NoOptions]):
    """The IP2HBIN plugin; see the module."""

    name = "IP2HBIN"
    consumes = (
        *("oob.family", "oob.protocol", "[ip.saddr]", "[ip.daddr]"),
        *("[orig.ip.saddr]", "[orig.ip.daddr]", "[reply.ip.saddr]", "[reply.ip.daddr]"),
        *("[arp.saddr]", "[arp.daddr]"),
    )

    def process(self, batch: Batch) -> Batch:
        """Let the batch pass: the numbers are made from its records when they are asked for."""
        return batch
