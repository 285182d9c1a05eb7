# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON: one JSON object per record and line, to a file, a FIFO, standard output, or a TCP, UDP or unix socket.

Members and their order are ulogd2's: `timestamp` (ISO 8601, with the zone always), `dvc`, then the keys of the stack;
addresses and ports under their CIM names (`src_ip`, `dest_ip`, `src_port`, `dest_port`). Logstash, Splunk and jq read
it as it is. Text that is not UTF-8 keeps its place, with U+FFFD for each bad byte.

A batch is one write. A full disk, a vanished directory, a stalled or absent peer stops nothing else: records are kept,
up to `max_pending_bytes`, and written when the target is back; beyond that new records are dropped and counted. No line
is ever left torn, also not by kill -9: what a dead process left incomplete is cut off when the file is opened again. On
a TCP or unix connection that breaks, lines the peer had not acknowledged are sent again: a line may come twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from nflowlevel.delivery.appendfile import AppendFile
from nflowlevel.logs import Limited
from nflowlevel.options import Options, Port
from nflowlevel.plugin.contract import ANY_KEYS, Finding, Member, Output
from nflowlevel.records.keys import Key
from nflowlevel.records.render import JSONPlan
from nflowlevel.stats import OutputStats

if TYPE_CHECKING:
    from nflowlevel.delivery.target import LineTarget
    from nflowlevel.records.batch import Batch


class JSONOptions(Options, frozen=True, kw_only=True):
    """Options of JSON; names as in ulogd.conf."""

    mode: Annotated[Literal["file", "tcp", "udp", "unix"], Meta(description="Where lines go.")] = "file"
    file: Annotated[
        str,
        Meta(
            min_length=1,
            description="File or FIFO appended to, or the socket's path in mode unix; `-` is standard output.",
        ),
    ] = "/var/log/ulogd.json"
    host: Annotated[str, Meta(min_length=1, description="Peer of modes tcp and udp: a name or an address.")] = (
        "127.0.0.1"
    )
    port: Annotated[Port, Meta(description="Its port.")] = "12345"
    sync: Annotated[
        bool,
        Meta(
            description="Bring each batch to the disk (fdatasync, in the background), not only to the system's cache."
        ),
    ] = False
    timestamp: Annotated[bool, Meta(description="Begin with the time.")] = True
    eventv1: Annotated[bool, Meta(description="Logstash's names: `@version`, and `@timestamp` for the time.")] = False
    device: Annotated[str, Meta(description="Value of `dvc`: the firewall's name.")] = "Netfilter"
    boolean_label: Annotated[
        bool, Meta(description="Instead of `raw.label`: `action`, `blocked` for 0 and `allowed` for any other label.")
    ] = False
    max_pending_bytes: Annotated[
        int, Meta(ge=0, description="Memory for records that wait while the target is away.")
    ] = 64 << 20


class JSON(Output[JSONOptions]):
    """The JSON plugin; see the module."""

    name = "JSON"
    Options = JSONOptions
    consumes = ANY_KEYS
    accepts = frozenset(("packet", "flow", "sum"))

    def __init__(self, instance: str, options: JSONOptions) -> None:
        super().__init__(instance, options)
        self._stats = OutputStats()
        self._target: LineTarget = self._make_target()
        self._plan: JSONPlan | None = None

    def _make_target(self) -> LineTarget:
        options, limited = self.options, Limited()
        if options.mode == "file":
            return AppendFile(
                options.file,
                sync=options.sync,
                max_pending_bytes=options.max_pending_bytes,
                stats=self._stats,
                limited=limited,
            )
        # Late: sockets and a thread are not for those who write files.
        from nflowlevel.delivery.peer import Peer

        return Peer(
            options.mode,
            path=options.file,
            host=options.host,
            port=options.port,
            max_pending_bytes=options.max_pending_bytes,
            stats=self._stats,
            limited=limited,
        )

    def bind(self, members: tuple[Member, ...]) -> None:
        """Make the plan that the renderer in C follows."""
        options = self.options
        head = '{"@version": 1, ' if options.eventv1 else "{"
        if options.timestamp:
            head += '"@timestamp": "' if options.eventv1 else '"timestamp": "'
        # Bytes of the configuration that are not UTF-8 come as surrogates.
        name = options.device.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        device = f'"dvc": {json.dumps(name, ensure_ascii=False)}'
        shown = [(self._label(key_name, key), key) for key_name, key in members if _is_shown(key)]
        self._plan = JSONPlan(
            shown,
            head=head if options.timestamp else head + device,
            tail=f'", {device}' if options.timestamp else "",
            timestamp=options.timestamp,
            actions=frozenset(("action",)),
        )

    def _label(self, name: str, key: Key | str) -> str:
        if name == "raw.label" and self.options.boolean_label:
            return "action"
        return name if isinstance(key, str) else key.cim or name

    def examine(self) -> Iterator[Finding]:
        """Look whether the file can be written, or the peer takes connections."""
        # Late: the daemon examines nothing.
        from nflowlevel.plugin import reach

        options = self.options
        if options.mode == "file":
            return reach.file(options.file)
        if options.mode == "unix":
            return reach.unix(options.file)
        return reach.peer(options.mode, options.host, options.port)

    def open(self) -> None:
        """Open the file, or start connecting."""
        # A target that was closed stays closed; a stack may be opened again.
        self._target = self._make_target()
        self._target.open()

    def render(self, batch: Batch) -> Iterator[tuple[memoryview, int]]:
        """Yield the batch's lines and their number, usually at once; the memory is good until the next is asked for."""
        assert self._plan is not None, "JSON is used before bind()"
        # A batch without records may lack the columns of the stack's others.
        return self._plan.render(batch.raw, batch.added) if batch else iter(())

    def write(self, batch: Batch) -> None:
        """Write the batch's lines, or keep what cannot be written now."""
        for lines, count in self.render(batch):
            self._target.write(lines, count)

    def reopen(self) -> None:
        """Open the file anew (it was rotated), or reconnect."""
        self._target.reopen()

    @property
    def deadline(self) -> float | None:
        """When what waits is tried again."""
        return self._target.deadline

    def retry(self) -> None:
        """Try again what waits."""
        self._target.retry()

    @property
    def stats(self) -> OutputStats:
        """Lines in, written, pending, dropped."""
        return self._stats

    @property
    def state(self) -> str:
        """Where lines go, and whether they do."""
        return self._target.state

    def close(self, timeout: float = 1.0) -> None:
        """Write what waits, as far as it goes, and close."""
        self._target.close(timeout)


def _is_shown(key: Key | str) -> bool:
    """Whether JSON has a form for it: as in ulogd2, raw bytes and numeric addresses are left out."""
    return isinstance(key, str) or key.type not in ("raw", "rawstr", "ipaddr")
