# SPDX-License-Identifier: GPL-2.0-or-later
"""BIGTCP: adds `tcp.big`, 1 for TCP packets of more than 1000 bytes and 0 for smaller ones."""

from nflowlevel import Batch
from nflowlevel.plugin import Filter, NoOptions, added_key


class BIGTCP(Filter[NoOptions]):
    """The BIGTCP plugin; see the module."""

    name = "BIGTCP"
    consumes = ("raw.pktlen", "tcp.dport")
    adds = (added_key("tcp.big", "uint8", "1 for TCP packets of more than 1000 bytes, 0 for smaller ones.", most=1),)

    def process(self, batch: Batch) -> Batch:
        """Add the column: None for packets that are not TCP."""
        rows = batch.rows(*self.consumes)
        batch.add("tcp.big", [None if port is None else int(length > 1000) for length, port in rows])
        return batch
