# SPDX-License-Identifier: GPL-2.0-or-later
"""PCAP: packets in a capture file that tcpdump, tshark, Wireshark and `nfl.read_pcap` read."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from nflowlevel.delivery.appendfile import AppendFile
from nflowlevel.delivery.captureform import CaptureForm
from nflowlevel.delivery.filename import FileNames
from nflowlevel.delivery.openfile import STDOUT
from nflowlevel.delivery.rotatingfile import RotatingFile, Rotation
from nflowlevel.delivery.target import MAX_PENDING_BYTES
from nflowlevel.logs import Limited
from nflowlevel.options import MOST_SECS, Options
from nflowlevel.plugin.contract import DataType, Finding, Member
from nflowlevel.plugin.lines import TargetOutput
from nflowlevel.records.capturing import CapturePlan
from nflowlevel.stats import OutputStats

if TYPE_CHECKING:
    from nflowlevel.records.batch import Batch


class PCAPOptions(Options, frozen=True, kw_only=True):
    """Options of PCAP; `file` and `sync` as in ulogd.conf."""

    file: Annotated[
        str,
        Meta(
            min_length=1,
            description="File or FIFO to append to; `-` is standard output. With rotation: a pattern of strftime.",
        ),
    ] = "/var/log/ulogd.pcap"
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
    rotate_bytes: Annotated[
        int, Meta(ge=0, description="Begin a new file before it is larger than that; 0: never.")
    ] = 0
    rotate_secs: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_SECS,
            description="Begin a new file at each multiple of so many seconds since local midnight; 0: never.",
        ),
    ] = 0
    keep_files: Annotated[
        int, Meta(ge=0, description="Remove the oldest closed files beyond this number; 0: keep all.")
    ] = 0
    compress: Annotated[Literal["none", "gzip", "zstd"], Meta(description="Compress closed files.")] = "none"

    def __post_init__(self) -> None:
        if not self.rotation:
            for name in ("keep_files", "compress"):
                if getattr(self, name) not in (0, "none"):
                    raise ValueError(f"{name} is for files that are closed: set rotate_bytes or rotate_secs as well")
            return
        FileNames(self.file)
        if self.compress == "zstd" and importlib.util.find_spec("zstandard") is None:
            raise ValueError(
                "compress=zstd needs the Python module zstandard (Debian package python3-zstandard); "
                "compress=gzip needs nothing"
            )

    @property
    def rotation(self) -> Rotation:
        """When a new file begins, and what becomes of the others."""
        return Rotation(self.rotate_bytes, self.rotate_secs, self.keep_files, self.compress)


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
        options, rotation = self.options, self.options.rotation
        form = CaptureForm(options.format, options.linktype, has_one_writer=bool(rotation))
        self._plan = CapturePlan(form)
        make = partial(RotatingFile, rotation=rotation) if rotation else AppendFile
        return make(
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
        """Yield the file, unless it is standard output, or one of many."""
        if self.options.file not in STDOUT and not self.options.rotation:
            yield self.options.file

    def needs(self) -> Iterator[Finding]:
        """The file."""
        return self.examine()

    def examine(self) -> Iterator[Finding]:
        """Look whether the file can be written."""
        from nflowlevel.plugin import reach  # late: the daemon examines nothing

        return reach.file(
            next(FileNames(self.options.file).at(time.time())) if self.options.rotation else self.options.file
        )
