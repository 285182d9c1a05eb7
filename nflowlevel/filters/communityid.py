# SPDX-License-Identifier: GPL-2.0-or-later
"""COMMUNITYID: adds `community_id`, by which Suricata, Zeek and others name the same flow (community ID, version 1).

Packets of both directions and the flow that they make have one ID, so a packet that was logged is found in what the
others wrote. Their JSON has it by the same name. `seed` has to be that of the other programs, which is 0 unless you
changed it.

Records without an IP address, such as ARP, have none. Nor have packets whose ports, or type of ICMP, are not there: a
later fragment does not tell which flow it is of.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.options import Options
from nflowlevel.plugin.contract import Filter
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import COMMUNITY_ID

_BYTES: int = lib.NFL_COMMUNITY_ID_BYTES


class COMMUNITYIDOptions(Options, frozen=True, kw_only=True):
    """Options of COMMUNITYID."""

    section_optional = True

    seed: Annotated[int, Meta(ge=0, le=0xFFFF, description="Seed of the IDs; that of the other programs.")] = 0


class COMMUNITYID(Filter[COMMUNITYIDOptions]):
    """The COMMUNITYID plugin; see the module."""

    name = "COMMUNITYID"
    Options = COMMUNITYIDOptions
    consumes = (
        *("[ip.saddr]", "[ip.daddr]", "[ip.protocol]"),
        *("[orig.ip.saddr]", "[orig.ip.daddr]", "[orig.ip.protocol]"),
    )

    def process(self, batch: Batch) -> Batch:
        """Add the IDs."""
        batch = batch.copy()
        batch.add(COMMUNITY_ID, self._ids(batch))
        return batch

    def _ids(self, batch: Batch) -> list[str | None]:
        records, count = batch.raw, len(batch)
        if records.type is None or not (records.type.of_packets or records.type.of_flows):
            return [None] * count
        made, present = ffi.new("char[]", count * _BYTES), ffi.new("uint8_t[]", count)
        lib.nfl_community_ids(records.as_c(), records.type.of_flows, self.options.seed, made, present)
        text = bytes(ffi.buffer(made)).decode("ascii")
        return [
            text[row * _BYTES : (row + 1) * _BYTES] if there else None
            for row, there in enumerate(ffi.unpack(present, count))
        ]
