# SPDX-License-Identifier: GPL-2.0-or-later
"""PCAP: packets in a capture file that tcpdump, tshark, Wireshark and `nfl.read_pcap` read.

By default, the file is the same as ulogd2's: format pcap, link type RAW. It can hold only IP packets; others, such as
ARP, are dropped and counted (`not_ip`). The other link types hold everything:

- `linktype=nflog`: the packet and what the kernel said about it, as `tcpdump -i nflog` writes it: prefix, mark, hook,
  interface numbers, user and group, hardware header, sequence numbers. tshark shows all of it and can filter by it
  (`nflog.prefix`); tcpdump shows the family and the group.
- `linktype=ethernet`: the frame, for programs that read nothing else. The header is the one that the kernel gave, with
  the VLAN tag that it had taken off. Packets that this machine sends, and those of devices without Ethernet, have no
  such header. They get one with the packet's EtherType, the destination 00:00:00:00:00:00 and the sender's address, or
  zeros if that is unknown. A packet whose EtherType is unknown is dropped (`not_ip`).

`format=pcapng` also stores the name of each packet's interface (put IFINDEX into the stack) and the direction. If the
link type has no place for the prefix, the hook and the mark, they are comments of the packet: the prefix the first,
hook and mark the second. All packets of a file have one link type, because tcpdump refuses others. Interface 0 stands
for packets without an interface; each file describes it, so that a file without packets can be read too. With
`linktype=raw` the file says 12, not 101: libpcap 1.10 refuses files with several interfaces of type 101.
tshark shows the names with every link type. `nfl.read_pcap` and PCAPFILE have them with `raw` and `ethernet`; with
`nflog` they have the kernel's numbers only.

Times are in microseconds, because the kernel gives no more. The original length is the one in the IP header, and never
less than what was captured.

PCAP appends to a file that exists. If a crash or a full disk cut the last packet, that packet is removed when the file
is opened. A file of another kind is refused and stays as it is: another link type, format or byte order, time stamps
in nanoseconds, or damage before its end. Several sections and several programs may append to one pcap file; a pcapng
file has one writer. A pcapng file of more than 256 MiB gets a new section when it is opened again; tshark 4.0 then
shows names of the first section.

A full disk or a missing directory stops nothing else. Packets wait in memory, up to `max_pending_bytes`; further ones
are dropped and counted. Each reader of a FIFO gets the file's header first.

`rotate_secs` and `rotate_bytes` begin new files:

- `file` is then a pattern of strftime, such as `/var/log/fw/%Y%m%d-%H%M%S.pcap`, for the time when a file begins. If
  the name is taken, `-1`, `-2` and so on is added before the ending. Without rotation, `%` has no meaning.
- After a restart, the last file is continued if its name is still the one for the time. A pcapng file also ends after
  1,024 interfaces. Files without a packet are removed.
- A thread compresses closed files and removes the oldest beyond `keep_files`, including those of earlier runs. A
  compressed file appears under its name only when it is complete and on the disk. Files of users other than the
  daemon's and root stay as they are and do not count.
- With `-u`, the user must own the directory.

Without rotation, logrotate can move the file away; SIGHUP then begins a new one.
"""

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
from nflowlevel.plugin.lines import Sync, TargetOutput
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
    sync: Sync = False
    format: Annotated[Literal["pcap", "pcapng"], Meta(description="Format of the file.")] = "pcap"
    linktype: Annotated[
        Literal["raw", "nflog", "ethernet"],
        Meta(description="What a record holds: IP packets, packets with what the kernel said of them, or frames."),
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
        "not_ip": "The link type cannot hold the packet: it is none of IP, or (Ethernet) nothing says what it is.",
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
        self._form, self._plan = form, CapturePlan(form)
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
        if self._form.is_crowded and isinstance(self._target, RotatingFile) and not self._stats.pending:
            # Each new file describes all interfaces that there ever were: begin one with those that are left.
            self._form.forget()
            self._target.rotate()
        for records, count, unfit in self._plan.render(batch.raw, group=batch.group, place=self.netns):
            if unfit:
                self._stats.records += unfit
                self._stats.drop("not_ip", unfit)
            if count:
                self._target.write(records, count)

    def reopen(self) -> None:
        """Go on with a new file, if the old one was moved away."""
        if self._form.is_crowded and not self._stats.pending and not self._target.is_at_its_path:
            self._form.forget()
        super().reopen()

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
