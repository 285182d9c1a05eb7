# SPDX-License-Identifier: GPL-2.0-or-later
"""Sum: one accounting object of a batch, every key an attribute; and SUM, how they lie in memory."""

from __future__ import annotations

from nflowlevel.binding._lib import ffi
from nflowlevel.records.keys import CATALOGUE, SumCondition
from nflowlevel.records.row import Row
from nflowlevel.records.types import RecordType


class Sum(Row, frozen=True, gc=False, eq=False):
    """What one accounting object counted. Attributes that the record lacks are None."""

    @property
    def name(self) -> str:
        """Name of the accounting object (`sum.name`); bytes that are not UTF-8 become Python's surrogates."""
        return str(self.get("sum.name"))

    @property
    def packets(self) -> int | None:
        """Packets it counted (`sum.pkts`); None for a quota of nftables, which does not count them."""
        packets = self.get("sum.pkts")
        return None if packets is None else int(packets)

    @property
    def bytes(self) -> int:
        """Bytes it counted (`sum.bytes`)."""
        return int(self.get("sum.bytes"))

    @property
    def timestamp(self) -> float | None:
        """Time of the poll in seconds since 1970, with microseconds as the fraction; None if the input left it out."""
        second, usec = self.get("oob.time.sec"), self.get("oob.time.usec")
        return None if second is None else float(second + usec / 1e6)

    def __repr__(self) -> str:
        packets = "" if self.packets is None else f" packets {self.packets}"
        return f"<Sum {self.name!r}{packets} bytes {self.bytes}>"


#: Accounting objects, as nfnetlink_acct gives them. They have the time of their batch: that of the poll.
SUM = RecordType(
    "sum",
    struct=ffi.typeof("struct nfl_counter"),
    keys=[key for key in CATALOGUE if isinstance(key.valid, SumCondition)],
    row=lambda: Sum,
    terms={"name": "sum.name", "packets": "sum.pkts", "bytes": "sum.bytes"},
)
