# SPDX-License-Identifier: GPL-2.0-or-later
"""PCAPFILE: packets of a capture file, pcap or pcapng, as if rules had logged them; it needs no root.

The file is read from beginning to end. It may be compressed with gzip, xz or bzip2, or with zstd if the Python module
zstandard is installed. The supported link types are Ethernet, raw IP, NFLOG (`tcpdump -i nflog:1 -w FILE`) and Linux
cooked captures. Time stamps are those of the file. Only link type NFLOG has prefixes, hooks, users and the other keys
that belong to rules and sockets; docs/keys.md lists what the other types lack. IFINDEX gives the interfaces of a pcapng
file the names stored in the file, never those of this machine.

A file can wait, so no packet is dropped because an output is slow or its target is unavailable. The plugin reads the
next packets once all stacks of this input run and their outputs have delivered what they had. The exception is a
`ring_buffer_size` smaller than a batch (a few thousand packets): that ring spills or drops, as `when_full` says.

With `at_end=stop` the input is done at the end of the file. The daemon ends with status 0 when all inputs of all its
stacks are done and the outputs have delivered everything. With `at_end=wait` the daemon keeps running, for its status
and metrics, until it is told to stop. The file is read once: data appended later is not read, and SIGHUP does not read
the file again. After a restart the file is read from its beginning.

A file that is damaged or ends in the middle of a packet is read up to that point: the log gives the byte, and `broken`
counts the file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from nflowlevel.errors import StackError
from nflowlevel.logs import NOTICE, log
from nflowlevel.options import Options
from nflowlevel.plugin.contract import Finding, Input
from nflowlevel.readers.arguments import Label
from nflowlevel.readers.files import Capture, read_pcap
from nflowlevel.records.batch import Batch
from nflowlevel.stats import CaptureStats


class PCAPFILEOptions(Options, frozen=True, kw_only=True):
    """Options of PCAPFILE."""

    file: Annotated[str, Meta(min_length=1, description="Capture file to read; a regular file, not a pipe.")]
    at_end: Annotated[
        Literal["stop", "wait"],
        Meta(description="`stop`: the daemon ends when all its inputs have ended; `wait`: it keeps running."),
    ] = "stop"
    numeric_label: Label = 0


class PCAPFILE(Input[PCAPFILEOptions]):
    """The PCAPFILE plugin; see the module."""

    name = "PCAPFILE"
    Options = PCAPFILEOptions
    provides = "raw"
    recorded: ClassVar[bool] = True
    _capture: Capture | None = None

    def needs(self) -> Iterator[Finding]:
        """The file."""
        path = self.options.file
        if not os.path.isfile(path):
            what = "is not a regular file" if os.path.exists(path) else "does not exist"
            yield Finding("problem", f"file={path} {what}", "name a capture file")

    def open(self) -> None:
        """Open the file; StackError where it is none that can be read without waiting."""
        path = self.options.file
        self.close()
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise StackError(f"{path} is not a regular file: a pipe or device would block the other stacks")
        self._capture = read_pcap(path, strict=False, label=self.options.numeric_label)

    @property
    def capture(self) -> Capture:
        """The open file."""
        assert self._capture is not None, "PCAPFILE is used before open()"
        return self._capture

    def fileno(self) -> int:
        """Return -1: a file is always readable."""
        return -1

    @property
    def deadline(self) -> float | None:
        """At once, until the file is read."""
        return None if self._capture is None or self._capture.at_end else 0.0

    def receive(self) -> Batch:
        """Return the next packets."""
        was_at_end = self.capture.at_end
        batch = self.capture.receive()
        if self.capture.at_end and not was_at_end:
            log.log(NOTICE, "%s: %s is read: %s", self, self.options.file, self.stats)
        return batch

    @property
    def more(self) -> bool:
        """Whether the file goes on."""
        return not self.capture.at_end

    @property
    def ended(self) -> bool:
        """Whether it is read, and nobody wants to wait."""
        return self.options.at_end == "stop" and self.capture.at_end

    def drain(self) -> Iterator[Batch]:
        """Nothing: what was not read yet stays in the file."""
        if not self.capture.at_end:
            log.log(NOTICE, "%s: %s is not read to its end: %s", self, self.options.file, self.stats)
        return iter(())

    @property
    def stats(self) -> CaptureStats:
        """What was read."""
        return self._capture.stats if self._capture else CaptureStats()

    def close(self, timeout: float = 1.0) -> None:
        """Close the file."""
        if self._capture:
            self._capture.close()
