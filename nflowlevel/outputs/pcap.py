# SPDX-License-Identifier: GPL-2.0-or-later
"""PCAP: packets in a capture file that tcpdump, tshark, Wireshark and `nfl.read_pcap` read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from nflowlevel.delivery.appendfile import AppendFile
from nflowlevel.delivery.captureform import CaptureForm
from nflowlevel.delivery.openfile import STDOUT
from nflowlevel.delivery.target import MAX_PENDING_BYTES
from nflowlevel.logs import Limited
from nflowlevel.options import Options
from nflowlevel.plugin.contract import DataType, Finding, Member
from nflowlevel.plugin.lines import TargetOutput
from nflowlevel.records.capturing import CapturePlan
from nflowlevel.stats import OutputStats

if TYPE_CHECKING:
    from nflowlevel.records.batch import Batch


class PCAPOptions(Options, frozen=True, kw_only=True):
    """Options of PCAP; `file` and `sync` as in ulogd.conf."""

    file: Annotated[str, Meta(min_length=1, description="File or FIFO to append to; `-` is standard output.")] = (
        "/var/log/ulogd.pcap"
    )
    sync: Annotated[
        bool,
        Meta(
            description="Force each batch to the disk (fdatasync, in the background), not only to the system's cache."
        ),
    ] = False
    format: Annotated[Literal["pcap", "pcapng"], Meta(description="Format of the file.")] = "pcap"
    linktype: Annotated[
        Literal["raw", "nflog", "ethernet"],
        Meta(description="What stands before a packet: nothing, what the rule and the kernel said, or a header."),
    ] = "raw"
    max_pending_bytes: Annotated[
        int, Meta(ge=0, description="Most bytes of records kept in memory while the file cannot be written.")
    ] = MAX_PENDING_BYTES


class PCAPStats(OutputStats):
    """What became of the packets."""

    reasons: ClassVar = {
        **OutputStats.reasons,
        "not_ip": "The packet is none of IP, or nothing says what it is; the file's link type cannot hold it.",
    }


class PCAP(TargetOutput[PCAPOptions, AppendFile]):
    """The PCAP plugin; see the module."""

    name = "PCAP"
    Options = PCAPOptions
    Stats = PCAPStats
    accepts: ClassVar[frozenset[DataType]] = frozenset(("packet",))
    consumes = (
        "raw.pkt",
        "raw.pktlen",
        "ip.totlen",
        "ip6.payloadlen",
        "oob.time.sec",
        "oob.time.usec",
        "oob.family",
    )

    def make_target(self) -> AppendFile:
        """Return the file."""
        options = self.options
        form = CaptureForm(options.format, options.linktype)
        self._plan = CapturePlan(form)
        return AppendFile(
            options.file,
            form=form,
            sync=options.sync,
            max_pending_bytes=options.max_pending_bytes,
            stats=self._stats,
            limited=Limited(),
        )

    def bind(self, members: tuple[Member, ...]) -> None:
        """Nothing to learn: a record holds all that is written."""

    def write(self, batch: Batch) -> None:
        """Write the batch's packets, or keep what cannot be written now."""
        for records, count, unfit in self._plan.render(batch.raw, group=batch.group, place=self.netns):
            if unfit:
                self._stats.records += unfit
                self._stats.drop("not_ip", unfit)
            if count:
                self._target.write(records, count)

    def files(self) -> Iterator[str]:
        """Yield the file, unless it is standard output."""
        if self.options.file not in STDOUT:
            yield self.options.file

    def needs(self) -> Iterator[Finding]:
        """The file."""
        return self.examine()

    def examine(self) -> Iterator[Finding]:
        """Look whether the file can be written."""
        from nflowlevel.plugin import reach  # late: the daemon examines nothing

        return reach.file(self.options.file)
