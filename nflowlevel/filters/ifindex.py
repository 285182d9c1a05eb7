# SPDX-License-Identifier: GPL-2.0-or-later
"""IFINDEX: names of the interfaces a packet came in and leaves by.

Names follow renames and removals in the packets' own namespace. The name is empty if the packet has no such interface
or if the kernel no longer knows the index; it is never the name of another interface. Packets of a capture file have
the names stored in the file.
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

    def leave(self) -> None:
        """Unsubscribe."""
        self.close()

    def follow(self) -> None:
        """Read the names in the new namespace."""
        self.open()

    def close(self, timeout: float = 1.0) -> None:
        """Unsubscribe."""
        if self._links:
            self._links.close()
