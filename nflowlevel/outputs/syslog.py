# SPDX-License-Identifier: GPL-2.0-or-later
"""SYSLOG: PRINTPKT's text to the system's log (rsyslog, syslog-ng, journald), as syslog(3) sends it to `/dev/log`.

A message is `<priority>Mmm dd hh:mm:ss ulogd[pid]: ` and the text. The time is that of the packet, but most log
programs replace it with the time of reception. Only the kernel may use the facility `LOG_KERN`; it becomes
`LOG_DAEMON`, as with ulogd2.

The daemon never waits for the log. Messages that the log does not take wait in memory, up to `max_pending_bytes`;
further ones are dropped and counted. They are sent when the log program starts again. If it ended before it had read a
message, the message is sent again, so a few may arrive twice. A message that it read but did not store is lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from nflowlevel.delivery.peer import Peer
from nflowlevel.delivery.target import MAX_PENDING_BYTES
from nflowlevel.logs import SYSLOG as SOCKET
from nflowlevel.logs import Limited
from nflowlevel.options import Options
from nflowlevel.plugin.contract import Finding, Member
from nflowlevel.plugin.lines import TargetOutput, log_lines
from nflowlevel.records.render import LogPlan

if TYPE_CHECKING:
    from nflowlevel.records.batch import Batch

#: The numbers of syslog.h.
_LEVELS = ("EMERG", "ALERT", "CRIT", "ERR", "WARNING", "NOTICE", "INFO", "DEBUG")
_FACILITIES = ("KERN", "USER", "MAIL", "DAEMON", "AUTH", "SYSLOG", "LPR", "NEWS", "UUCP", "CRON", "AUTHPRIV", "FTP")
_NUMBERS = {f"LOG_{name}": number for number, name in enumerate(_FACILITIES)}
_NUMBERS |= {f"LOG_LOCAL{number}": 16 + number for number in range(8)}
# syslog(3) lets nobody but the kernel be the kernel; ulogd2 has opened the log as a daemon.
_NUMBERS["LOG_KERN"] = _NUMBERS["LOG_DAEMON"]

Facility = Literal[
    "LOG_KERN", "LOG_USER", "LOG_MAIL", "LOG_DAEMON", "LOG_AUTH", "LOG_SYSLOG", "LOG_LPR", "LOG_NEWS", "LOG_UUCP",
    "LOG_CRON", "LOG_AUTHPRIV", "LOG_FTP", "LOG_LOCAL0", "LOG_LOCAL1", "LOG_LOCAL2", "LOG_LOCAL3", "LOG_LOCAL4",
    "LOG_LOCAL5", "LOG_LOCAL6", "LOG_LOCAL7",
]  # fmt: skip
Level = Literal[
    "LOG_EMERG", "LOG_ALERT", "LOG_CRIT", "LOG_ERR", "LOG_WARNING", "LOG_NOTICE", "LOG_INFO", "LOG_DEBUG",
]  # fmt: skip


class SYSLOGOptions(Options, frozen=True, kw_only=True):
    """Options of SYSLOG; names as in ulogd.conf."""

    section_optional = True

    facility: Annotated[Facility, Meta(description="Facility of the messages; `LOG_KERN` means `LOG_DAEMON`.")] = (
        "LOG_KERN"
    )
    level: Annotated[Level, Meta(description="Level of the messages.")] = "LOG_NOTICE"
    socket_path: Annotated[
        str, Meta(min_length=1, description="Socket of the log, of datagrams or else a stream, as syslog(3) finds it.")
    ] = SOCKET
    max_pending_bytes: Annotated[
        int, Meta(ge=0, description="Most bytes of records kept in memory while the log takes none.")
    ] = MAX_PENDING_BYTES


class SYSLOG(TargetOutput[SYSLOGOptions, Peer]):
    """The SYSLOG plugin; see the module."""

    name = "SYSLOG"
    Options = SYSLOGOptions
    consumes = ("print", "[oob.time.sec]")

    def __init__(self, instance: str, options: SYSLOGOptions) -> None:
        super().__init__(instance, options)
        self._plan: LogPlan | None = None

    def make_target(self) -> Peer:
        """Return the socket."""
        options = self.options
        return Peer(
            "syslog",
            path=options.socket_path,
            max_pending_bytes=options.max_pending_bytes,
            stats=self._stats,
            limited=Limited(),
        )

    def open(self) -> None:
        """Start connecting; the process id is that of the daemon, in the background or not."""
        priority = _NUMBERS[self.options.facility] << 3 | _LEVELS.index(self.options.level.removeprefix("LOG_"))
        self._plan = LogPlan(before=f"<{priority}>", after=f" ulogd[{os.getpid()}]: ")
        super().open()

    def bind(self, members: tuple[Member, ...]) -> None:
        """Nothing to learn: whatever the stack, a message is the time and one key."""

    def write(self, batch: Batch) -> None:
        """Send the batch's messages, or keep what the log does not take now."""
        assert self._plan is not None, "SYSLOG is used before open()"
        if batch:
            for lines, count in log_lines(self._plan, batch):
                self._target.write(lines, count)

    def examine(self) -> Iterator[Finding]:
        """Look whether somebody listens at the socket."""
        # Late: the daemon examines nothing.
        from nflowlevel.plugin import reach

        return reach.syslog(self.options.socket_path)
