# SPDX-License-Identifier: GPL-2.0-or-later
"""LOGEMU: a line per packet as syslog writes the kernel's log: `Mmm dd hh:mm:ss host` and PRINTPKT's text.

The time is that of the packet, as local time. The host name is read at the start and cut at its first dot. Programs
that read the kernel's log also read these lines: psad, fwlogwatch, fail2ban, logwatch.

The target is a file, a FIFO, standard output or a socket. As with JSON, a full disk or an absent reader stops nothing
else, and no line is left torn. Lines that cannot be written wait in memory, up to `max_pending_bytes`; further ones are
dropped and counted.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from nflowlevel.plugin.contract import Member
from nflowlevel.plugin.lines import File, LineOptions, LineOutput, log_lines
from nflowlevel.records.render import LogPlan

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from nflowlevel.delivery.form import Beginning
    from nflowlevel.records.batch import Batch


class LOGEMUOptions(LineOptions, frozen=True, kw_only=True):
    """Options of LOGEMU; names as in ulogd.conf."""

    file: File = "/var/log/ulogd_syslogemu.log"


class LOGEMU(LineOutput[LOGEMUOptions]):
    """The LOGEMU plugin; see the module."""

    name = "LOGEMU"
    Options = LOGEMUOptions
    consumes = ("print", "[oob.time.sec]")

    def __init__(self, instance: str, options: LOGEMUOptions) -> None:
        # The base makes the target, which asks how lines begin.
        self._host = ""
        self._plan: LogPlan | None = None
        super().__init__(instance, options)

    def open(self) -> None:
        """Read the host's name, and open the target."""
        self._host = socket.gethostname().partition(".")[0]
        self._plan = LogPlan(after=f" {self._host} ")
        super().open()

    @property
    def begins(self) -> Beginning:
        """How every line begins: with some time, and the host."""
        return (*LogPlan.TIME, *(bytes((byte,)) for byte in f" {self._host} ".encode("utf-8", "surrogateescape")))

    def bind(self, members: tuple[Member, ...]) -> None:
        """Nothing to learn: whatever the stack, a line is the time and one key."""

    def render(self, batch: Batch) -> Iterable[tuple[Buffer, int]]:
        """Yield the batch's lines and their number, usually at once; the memory is good until the next is asked for."""
        assert self._plan is not None, "LOGEMU is used before open()"
        return log_lines(self._plan, batch)
