# SPDX-License-Identifier: GPL-2.0-or-later
"""UNIXSOCK: packets that other programs report over a unix stream socket, such as nuauth with the users' names.

The daemon creates the socket at `socket_path` and removes it at the end. It replaces a socket that a crashed daemon
left there. It does not touch a file of another kind, or a socket on which another process listens; the stack starts
when that is gone. With `-u`, root creates the socket if only root can change the directory; otherwise the user does.
The user cannot remove root's socket at the end: it stays, nobody listens on it, and the next start replaces it.

Up to `max_clients` programs can be connected. Each report is checked on its own. A report whose packet is longer than
the report is left out and counted, and so is an option that does not fit. A connection that sends anything else is
closed and counted. The daemon never waits for a program and sends it nothing. If a program writes faster than the
daemon reads, the kernel makes it wait, and nothing is lost.

A report has a packet and, optionally, prefix, interfaces, time, user, operating system and program. Keys that are not
in the report have no value; interface names are those of the report. If it has no time, `timestamp` of JSON and
`oob_time` of a table are the time of reception. The wire format is ulogd2's; the numbers of its options are in the byte
order of the machine.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta

from nflowlevel.binding.rootpath import place_of
from nflowlevel.binding.unixsocket import Listener, connections_at
from nflowlevel.errors import StackError
from nflowlevel.options import MODE, Options
from nflowlevel.plugin.contract import Finding, Input
from nflowlevel.readers.reports import Reports, ReportStats
from nflowlevel.records.batch import Batch
from nflowlevel.records.reported import REPORTED
from nflowlevel.records.types import RecordType

#: (uid_t)-1, which is no user.
_NO_ID = (1 << 32) - 1


class UNIXSOCKOptions(Options, frozen=True, kw_only=True):
    """Options of UNIXSOCK; names as in ulogd.conf."""

    socket_path: Annotated[str, Meta(min_length=1, description="Path of the socket.")] = "/var/run/ulogd/ulogd2.sock"
    perms: Annotated[
        int,
        Meta(
            ge=0, le=0o777, extra=MODE, description="Mode of the socket; with 0660 all of its group may report packets."
        ),
    ] = 0o600
    owner: Annotated[str, Meta(description="User that owns the socket, a name or a number; empty: the daemon's.")] = ""
    group: Annotated[str, Meta(description="Group that owns the socket, a name or a number; empty: the daemon's.")] = ""
    max_clients: Annotated[
        int, Meta(ge=1, le=10_000, description="Most programs that are connected; more are refused and counted.")
    ] = 100
    bufsize: Annotated[
        int, Meta(ge=0, description="Accepted for ulogd compatibility; the largest report always has room.")
    ] = 0


class UNIXSOCK(Input[UNIXSOCKOptions]):
    """The UNIXSOCK plugin; see the module."""

    name = "UNIXSOCK"
    Options = UNIXSOCKOptions
    provides = "raw"
    records: ClassVar[RecordType] = REPORTED
    _listener: Listener | None = None
    _reports: Reports | None = None

    def __init__(self, instance: str, options: UNIXSOCKOptions) -> None:
        super().__init__(instance, options)
        #: Of sockets that were closed.
        self._stats = ReportStats()

    @property
    def claims(self) -> str:
        """The socket."""
        return f"socket {os.path.realpath(self.options.socket_path)}"

    @property
    def for_root(self) -> bool:
        """Whether only root can change what is at the path."""
        try:
            with place_of(self.options.socket_path) as place:
                return place.is_roots
        except OSError:
            return False

    def needs(self) -> Iterator[Finding]:
        """The directory, and the names of user and group."""
        path = self.options.socket_path
        directory = os.path.dirname(path) or "."
        if not os.path.isdir(directory):
            yield Finding("problem", f"socket_path={path}: no such directory: {directory}", f"mkdir -p {directory}")
        try:
            self._owners()
        except StackError as error:
            yield Finding("problem", str(error))

    def examine(self) -> Iterator[Finding]:
        """Look whether anybody listens at the path, and how many are connected."""
        path = self.options.socket_path
        try:
            at = connections_at(path)
        except OSError as error:
            yield Finding("hint", f"socket_path={path}: {error.strerror}")
            return
        if not at.listens:
            yield from self.needs()
            yield Finding("hint", f"socket_path={path}: nobody listens", "start the daemon")
        elif at.connected:
            yield Finding("ok", f"socket_path={path}: {at.connected} connected")
        else:
            may = f"its mode is {self.options.perms:04o}" + (
                f", its group {self.options.group}" if self.options.group else ""
            )
            yield Finding(
                "hint",
                f"socket_path={path}: nobody is connected, so no packets come",
                f"start the program that reports; it must be allowed to write to the socket ({may})",
            )

    def _owners(self) -> tuple[int, int]:
        """Return user and group of the socket, -1 for those that are not set; StackError for unknown names."""
        owner, group = self.options.owner, self.options.group
        try:
            uid = pwd.getpwnam(owner).pw_uid if owner else -1
        except KeyError:
            uid = _number(owner, f"owner={owner}: no such user")
        try:
            return uid, grp.getgrnam(group).gr_gid if group else -1
        except KeyError:
            return uid, _number(group, f"group={group}: no such group")

    def open(self) -> None:
        """Make the socket."""
        uid, gid = self._owners()
        self._listener = Listener(self.options.socket_path, mode=self.options.perms, uid=uid, gid=gid)
        self._reports = Reports(self._listener.socket, str(self), max_clients=self.options.max_clients)

    @property
    def reports(self) -> Reports:
        """Those who are connected."""
        assert self._reports is not None, "UNIXSOCK is used before open()"
        return self._reports

    def fileno(self) -> int:
        """Return the descriptor that is readable when somebody connects or writes."""
        return self.reports.fileno()

    @property
    def deadline(self) -> float | None:
        """When connections are accepted again, after there was no descriptor for one."""
        return self._reports.deadline if self._reports else None

    def receive(self) -> Batch:
        """Return what has arrived."""
        return self.reports.receive()

    @property
    def more(self) -> bool:
        """Whether the last receive left reports behind."""
        return self.reports.more

    def drain(self) -> Iterator[Batch]:
        """Let nobody connect any more, and yield what was written by now."""
        reports = self.reports
        reports.finish()
        while (batch := reports.receive()) or reports.more:
            yield batch

    @property
    def stats(self) -> ReportStats:
        """What was received, over all connections."""
        stats = ReportStats()
        stats.add(self._stats)
        if self._reports:
            stats.add(self._reports.stats)
        return stats

    def close(self, timeout: float = 1.0) -> None:
        """Disconnect everybody and remove the socket."""
        if reports := self._reports:
            reports.close()
            self._stats, self._reports = self.stats, None
        if listener := self._listener:
            self._listener = None
            listener.close()


def _number(text: str, otherwise: str) -> int:
    if text.isascii() and text.isdecimal() and int(text) < _NO_ID:
        return int(text)
    raise StackError(otherwise)
