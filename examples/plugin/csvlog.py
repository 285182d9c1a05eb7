# SPDX-License-Identifier: GPL-2.0-or-later
"""CSVLOG: one line of comma-separated values per packet: time, prefix, addresses and destination port.

The lines go to a file, a FIFO or standard output, or to a peer over TCP, UDP or a unix socket.
"""

import csv
import io
from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from nflowlevel import Batch
from nflowlevel.plugin import Member
from nflowlevel.plugin.lines import File, LineOptions, LineOutput


class CSVLOGOptions(LineOptions, frozen=True, kw_only=True):
    """Options of CSVLOG: those of all outputs of lines, and its own."""

    file: File = "/var/log/packets.csv"
    delimiter: Annotated[str, Meta(min_length=1, max_length=1, description="Character between the values.")] = ","


class CSVLOG(LineOutput[CSVLOGOptions]):
    """The CSVLOG plugin; see the module."""

    name = "CSVLOG"
    Options = CSVLOGOptions
    consumes = ("oob.time.sec", "oob.prefix", "ip.saddr.str", "ip.daddr.str", "[tcp.dport]")

    def bind(self, members: tuple[Member, ...]) -> None:
        """Remember which of these keys the stack has."""
        self._keys = [name for name, _ in members]

    def render(self, batch: Batch) -> Iterator[tuple[bytes, int]]:
        """Yield the lines of a batch, and how many they are; None becomes an empty value."""
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.options.delimiter, lineterminator="\n")
        writer.writerows(batch.rows(*self._keys))
        yield text.getvalue().encode(), len(batch)
