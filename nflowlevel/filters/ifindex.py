# SPDX-License-Identifier: GPL-2.0-or-later
"""IFINDEX: names of the interfaces a packet came in and leaves by.

Names follow renames and removals in the packets' own namespace. The name is empty if the packet has no such interface
or if the kernel no longer knows the index; it is never the name of another interface. Packets of a capture file have
the names stored in the file. Netlink messages about interfaces that another process has sent are ignored, and the log
says so.
"""

from __future__ import annotations

from nflowlevel.binding.interfaces import Links
from nflowlevel.logs import NOTICE, Limited
from nflowlevel.plugin.contract import Filter, NoOptions
from nflowlevel.records.batch import Batch


class IFINDEX(Filter[NoOptions]):
    """The IFINDEX plugin; see the module."""

    name = "IFINDEX"
    consumes = ("oob.ifindex_in", "oob.ifindex_out")
    _links: Links | None = None
    #: Of the messages that `_links` has ignored so many were told.
    _told = 0

    def __init__(self, instance: str, options: NoOptions) -> None:
        super().__init__(instance, options)
        self._limited = Limited()

    def open(self) -> None:
        """Read the names and subscribe to changes."""
        if not self._are_recorded:
            self._links, self._told = Links(self.netns), 0

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
        if (ignored := self._links.foreign) > self._told:
            self._told = ignored
            why = "another process than the kernel sent them"
            self._limited(NOTICE, "foreign", f"{self}: {ignored} messages about interfaces were ignored so far: {why}")
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
