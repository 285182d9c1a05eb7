# SPDX-License-Identifier: GPL-2.0-or-later
"""MARK: passes only packets whose masked mark (`oob.mark`) is the given one, and flows whose mark (`ct.mark`) is.

A packet without a mark counts as having mark 0. If the source does not provide marks at all, everything passes.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.options import Options
from nflowlevel.plugin.contract import Filter
from nflowlevel.records.batch import Batch


class MARKOptions(Options, frozen=True, kw_only=True):
    """Options of MARK; names as in ulogd.conf."""

    section_optional = True

    mark: Annotated[int, Meta(ge=0, le=0xFFFFFFFF, description="Mark that passes.")] = 0
    mask: Annotated[int, Meta(ge=0, le=0xFFFFFFFF, description="Bits of the mark that are compared.")] = 0xFFFFFFFF


class MARK(Filter[MARKOptions]):
    """The MARK plugin; see the module."""

    name = "MARK"
    Options = MARKOptions
    consumes = ("[ct.mark]", "[oob.mark]")
    # The mark comes with the packet: older files of Debian's filter before BASE.
    accepts = frozenset(("raw", "packet", "flow"))

    def process(self, batch: Batch) -> Batch:
        """Select the packets or flows whose mark fits."""
        mark, mask = self.options.mark, self.options.mask
        key = "ct.mark" if batch.type.of_flows else "oob.mark"
        rows = [row for row, value in enumerate(batch.values(key)) if value is None or value & mask == mark]
        return batch if len(rows) == len(batch) else batch.select(rows)
