# SPDX-License-Identifier: GPL-2.0-or-later
"""IFINDEX: names of the interfaces a packet came in and leaves by.

Names follow renames and removals, in the namespace the packets come from. The name is empty for packets without such an
interface and for an index the kernel no longer knows; it is never another interface's. Packets of a capture file have
the names that stand in it.
"""

from __future__ import annotations

from nflowlevel.binding.interfaces import Links
from nflowlevel.plugin.contract import Filter, NoOptions
from nflowlevel.records.batch import Batch


class IFINDEX(Filter[NoOptions]):
    """The IFINDEX plugin; see the module."""

    name = "IFINDEX"
    consumes = ("oob.ifindex_in", "oob.ifindex_out")
    _links: Links | None = None

    def open(self) -> None:
        """Read the names and subscribe to changes."""
        if not self._are_recorded:
            self._links = Links(self.netns)

    @property
    def _are_recorded(self) -> bool:
        return self.input is not None and self.input.recorded

    def process(self, batch: Batch) -> Batch:
        """Give the batch the names as they are now."""
        if self._are_recorded:
            # Looked up here, so that outputs find them.
            batch.names = batch.names
            return batch
        assert self._links is not None, "IFINDEX is used before open()"
        self._links.update()
        batch.names = self._links.table
        return batch

    def close(self, timeout: float = 1.0) -> None:
        """Unsubscribe."""
        if self._links:
            self._links.close()
