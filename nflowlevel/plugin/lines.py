# SPDX-License-Identifier: GPL-2.0-or-later
"""The bases of outputs that write lines: a subclass renders, the rest is here.

    receive loop: batch ─▶ render ─▶ LineTarget: a file, a FIFO, standard output, or a peer's queue and thread

A `LineOutput` has the options of `LineOptions` and writes where they say. A `TargetOutput` makes its target itself: it
is for protocols with a transport of their own. A target that is full, away or slow is the target's own business, and so
are the counters.

    class SHORT(LineOutput[ShortOptions]):
        name = "SHORT"
        Options = ShortOptions

        def bind(self, members): ...
        def render(self, batch):
            lines = [f"{packet.saddr} {packet.daddr}\\n" for packet in batch]
            yield "".join(lines).encode(), len(lines)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Generic, Literal, TypeVar

from msgspec import Meta

from nflowlevel.delivery.appendfile import AppendFile
from nflowlevel.delivery.form import Beginning, Form, LineForm
from nflowlevel.delivery.openfile import STDOUT
from nflowlevel.delivery.target import MAX_PENDING_BYTES, LineTarget
from nflowlevel.logs import Limited
from nflowlevel.options import Options, Port
from nflowlevel.plugin.contract import Finding, Member, Output, SomeOptions
from nflowlevel.records.render import Printed
from nflowlevel.stats import OutputStats

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from nflowlevel.records.batch import Batch
    from nflowlevel.records.render import LogPlan

SomeTarget = TypeVar("SomeTarget", bound=LineTarget)

#: The option `file`, for plugins that have a default for it.
File = Annotated[
    str,
    Meta(
        min_length=1,
        description="File or FIFO to append to, or in mode unix the path of the socket; `-` is standard output.",
    ),
]

#: The option `sync`, for plugins whose target is a file.
Sync = Annotated[
    bool,
    Meta(description="Force each batch to the disk (fdatasync, in the background), not only to the system's cache."),
]


#: The option `flow_keys`, for outputs that write whatever the plugins before them publish.
FlowKeys = Annotated[
    Literal["ulogd2", "all"],
    Meta(
        description="Keys of flows to write: those of ulogd2 and `icmpv6.type` and `.code`, or all, such as zone, "
        "status, number of the record."
    ),
]

#: Keys of flows that ulogd2 2.0.9 has, though 2.0.8 has not.
_LATER = frozenset(("icmpv6.code", "icmpv6.type"))


def flow_members(members: Iterable[Member], flow_keys: str) -> Iterator[Member]:
    """Yield the members without those keys of flows that `flow_keys` leaves out."""
    for name, key in members:
        if flow_keys == "all" or key.plugin != "NFCT" or key.since == "ulogd2" or name in _LATER:
            yield name, key


class LineOptions(Options, frozen=True, kw_only=True):
    """Where lines go; names as in ulogd.conf. A plugin's own options derive from it, and give `file` a default."""

    mode: Annotated[Literal["file", "tcp", "udp", "unix"], Meta(description="Kind of target for the lines.")] = "file"
    file: File
    host: Annotated[str, Meta(min_length=1, description="Peer in modes tcp and udp: a name or an address.")] = (
        "127.0.0.1"
    )
    port: Annotated[Port, Meta(description="Port of the peer.")] = "12345"
    sync: Sync = False
    max_pending_bytes: Annotated[
        int, Meta(ge=0, description="Most bytes of records kept in memory while the target is unavailable.")
    ] = MAX_PENDING_BYTES


def log_lines(plan: LogPlan, batch: Batch) -> Iterable[tuple[Buffer, int]]:
    """Yield the batch's lines of a log, and how many they are; the memory is good until the next pair."""
    text = batch.added.get("print")
    if isinstance(text, Printed):
        return plan.render(batch.raw, text)
    if text is None and batch.raw.type and (batch.raw.type.of_packets or batch.raw.type.of_flows):
        return plan.render(batch.raw)
    # A filter of somebody else's made the text, as a column of Python's.
    made = plan.lines(batch.values("print"), batch.values("oob.time.sec"))
    return (made,) if made[1] else ()


class TargetOutput(Output[SomeOptions], Generic[SomeOptions, SomeTarget]):
    """An output that hands what it renders to a `LineTarget`."""

    #: Its counters, where it has more of them, or other reasons to drop.
    Stats: ClassVar[type[OutputStats]] = OutputStats

    def __init__(self, instance: str, options: SomeOptions) -> None:
        super().__init__(instance, options)
        self._stats = self.Stats()
        self._target = self.make_target()

    @abstractmethod
    def make_target(self) -> SomeTarget:
        """Return the target that the options say, not opened; its counters are `stats`."""

    def open(self) -> None:
        """Open the target, or start connecting."""
        # A target that was closed stays closed; a stack may be opened again.
        self._target = self.make_target()
        self._target.open()

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
        """Records in, written, pending, dropped."""
        return self._stats

    @property
    def state(self) -> str:
        """Where records go, and whether they do."""
        return self._target.state

    def close(self, timeout: float = 1.0) -> None:
        """Write what waits, as far as it goes, and close."""
        self._target.close(timeout)


SomeLines = TypeVar("SomeLines", bound=LineOptions)


class LineOutput(TargetOutput[SomeLines, LineTarget]):
    """An output of lines that go where `LineOptions` say."""

    @property
    def begins(self) -> Beginning:
        """How every line begins. A file that ends in a torn line of ours is told by it from somebody else's file.

        Without it, nothing that a crash left at the end of a file is removed; the next line begins after a newline.
        """
        return b""

    @property
    def form(self) -> Form:
        """What a file is made up of; lines that begin as `begins` says."""
        return LineForm(self.begins)

    @abstractmethod
    def render(self, batch: Batch) -> Iterable[tuple[Buffer, int]]:
        """Yield complete lines and how many records they are; the memory is good until the next pair."""

    def write(self, batch: Batch) -> None:
        """Write the batch's lines, or keep what cannot be written now."""
        if batch:
            for lines, count in self.render(batch):
                self._target.write(lines, count)

    def make_target(self) -> LineTarget:
        """Return a file or a peer."""
        options = self.options
        if options.mode == "file":
            return AppendFile(
                options.file,
                form=self.form,
                sync=options.sync,
                max_pending_bytes=options.max_pending_bytes,
                stats=self._stats,
                limited=Limited(),
            )
        # Late: sockets and a thread are not for those who write files.
        from nflowlevel.delivery.peer import Peer

        return Peer(
            options.mode,
            path=options.file,
            host=options.host,
            port=options.port,
            max_pending_bytes=options.max_pending_bytes,
            framing=self.form.framing,
            stats=self._stats,
            limited=Limited(),
        )

    def files(self) -> Iterator[str]:
        """Yield the file, if it is one."""
        if self.options.mode == "file" and self.options.file not in STDOUT:
            yield self.options.file

    def needs(self) -> Iterator[Finding]:
        """The file; peers may come later."""
        from nflowlevel.plugin import reach

        if self.options.mode == "file":
            yield from reach.file(self.options.file)

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
