# SPDX-License-Identifier: GPL-2.0-or-later
"""PCAP: packets in a capture file that tcpdump, tshark, Wireshark and `nfl.read_pcap` read.

By default the file is that of ulogd2: format pcap, link type RAW, which holds IP packets and nothing else. What is no
IP packet, such as ARP, is dropped and counted (`not_ip`). The other link types hold everything:

- `linktype=nflog`: what the kernel said of a packet stands before it, as `tcpdump -i nflog` writes it: prefix, mark,
  hook, interface numbers, user and group, hardware header, sequence numbers. tshark shows all of it, and filters by it
  (`nflog.prefix`); tcpdump shows the family and the group.
- `linktype=ethernet`: the frame, for programs that know nothing else. The header is the one that the kernel gave; a
  VLAN tag that it had taken off is put back. A packet without such a header, sent by this machine or by way of a device
  without Ethernet, gets a header that is made up: destination 00:00:00:00:00:00, the sender's address where it is known
  and zeros elsewhere, and the EtherType. A packet of which nothing tells the EtherType is dropped (`not_ip`).

`format=pcapng` adds the interface of each packet with its name (put IFINDEX into the stack), its direction, and, with
the link types that have no place for them, the prefix as comment, hook and mark as a second one. All packets of a file
have one link type, as tcpdump refuses others. Interface 0 stands for packets without one; it is described in each file,
so that also a file without packets can be read. With `linktype=raw` the file says 12, not 101: libpcap 1.10 refuses
files with several interfaces of type 101.

Times are the kernel's, in microseconds; it has no more. The original length is what the IP header tells, and never less
than what was captured.

The file is appended to; a new or empty one gets its head. When it is opened, a packet that a crash or a full disk cut
is removed from its end. A file of another kind is refused and stays as it is: another link type or format, other byte
order, nanoseconds, damaged elsewhere than at its end. Several sections, and several programs, may append to one pcap
file; a pcapng file has one writer. A pcapng file of more than 256 MiB gets a new section when it is opened again;
tshark 4.0 then shows names of the first one.

A batch is one write. A full disk or a missing directory stops nothing else: the output keeps packets, up to
`max_pending_bytes`, and writes them when it can; beyond that limit it drops and counts new ones. A FIFO gets the head
again for each reader.

`rotate_secs` and `rotate_bytes` begin new files. Then `file` is a pattern of strftime for the time when a file begins,
such as `/var/log/fw/%Y%m%d-%H%M%S.pcap`; where a name is taken, a number follows: `-1`, `-2`. After a restart, the last
file goes on if its name is still that of the time. A pcapng file also ends when it has described 1,024 interfaces.
Files without a packet are removed. A thread compresses files that are closed, and removes the oldest beyond
`keep_files`; it takes what an earlier run left, too, but no files of users other than the daemon's and root. A
compressed file gets its name when it is whole and on the disk. With `-u`,
the directory must be the user's. Without rotation a `%` means itself, and a file that logrotate moves away is begun
anew at SIGHUP.
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
