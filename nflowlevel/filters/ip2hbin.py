# SPDX-License-Identifier: GPL-2.0-or-later
"""IP2HBIN: IPv4 addresses as numbers, for columns of 32 bits and more.

10.77.0.2 becomes 172818434, the number that MySQL's INET_ATON gives, whatever the byte order of the machine. An IPv6
address does not fit, so `ip.hsaddr` and `ip.hdaddr` of an IPv6 packet have no value: NULL in a table. (ulogd2 2.0.8
stored a part of a memory address instead.) IP2BIN has a form for both; PostgreSQL has its own type for addresses, so
use IP2STR there. As in ulogd2, JSON does not show these keys.
"""

from __future__ import annotations

from nflowlevel.plugin.contract import Filter, NoOptions
from nflowlevel.records.batch import Batch


class IP2HBIN(Filter[NoOptions]):
    """The IP2HBIN plugin; see the module."""

    name = "IP2HBIN"
    consumes = ("oob.family", "oob.protocol", "[ip.saddr]", "[ip.daddr]", "[arp.saddr]", "[arp.daddr]")

    def process(self, batch: Batch) -> Batch:
        """Let the batch pass: the numbers are made from its records when they are asked for."""
        return batch
