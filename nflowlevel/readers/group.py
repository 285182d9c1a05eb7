# SPDX-License-Identifier: GPL-2.0-or-later
"""Open a group of nfnetlink_log and read its packets: `with nfl.open_group(2) as group: for packet in group: ...`."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, ParamSpec

from nflowlevel.binding.alarm import Alarm
from nflowlevel.binding.buffers import ENOUGH_RECORDS, BufferPool
from nflowlevel.binding.interfaces import NO_NAMES, Links, NameTable
from nflowlevel.binding.nflog import COPY_MODES, GroupSocket
from nflowlevel.errors import KernelError
from nflowlevel.logs import NOTICE, Limited, log
from nflowlevel.readers.arguments import (
    MAX_SOCKET_BUFFER,
    SOCKET_BUFFER,
    CopyMode,
    CopyRange,
    GroupNumber,
    HeldBytes,
    Label,
    NlBufSiz,
    ProfileName,
    QThreshold,
    QTimeout,
    Seconds,
    SocketBuffer,
    checked,
)
from nflowlevel.records.batch import Batch
from nflowlevel.stats import GroupStats, html_table, take_over

if TYPE_CHECKING:
    from nflowlevel.records.packetrow import Packet


_Options = ParamSpec("_Options")


class Profile(NamedTuple):
    """Settings of a group that belong together. The smaller of a rule's queue-threshold or snaplen and ours wins."""

    qthreshold: int
    """Packets the kernel gathers before it sends them."""
    qtimeout: int
    """Longest wait of a packet in the kernel, in 1/100 s."""
    nlbufsiz: int
    """Most bytes the kernel sends at once; 0 is its default, about 3.6 KiB."""
    coalesce_secs: float
    """Pause between reads while traffic is dense; the socket buffer holds what comes meanwhile."""


#: nlbufsiz at the kernel's maximum: with a smaller one the kernel sends before qthreshold is reached.
PROFILES: dict[str, Profile] = {
    "default": Profile(qthreshold=256, qtimeout=5, nlbufsiz=131072, coalesce_secs=0.025),
    "latency": Profile(qthreshold=1, qtimeout=1, nlbufsiz=0, coalesce_secs=0.002),
    "throughput": Profile(qthreshold=1024, qtimeout=25, nlbufsiz=131072, coalesce_secs=0.050),
}

#: Traffic is dense when packets come faster than this, measured from read to read.
_DENSE_PACKETS_PER_SEC = 2000
#: Below this much socket buffer there is no room to wait with reading.
_COALESCE_BUFFER_BYTES = 4 << 20

_BATCHES_BEFORE_UNBIND = 64


class Group:
    """An open group. Iterate over it for packets or over `batches()`, or call `receive` when `fileno()` is readable. In
    asyncio use `async for batch in group`.

    Only one thread may read; any thread may call `stop` or `close`, and a reader that waits is woken. After `stop` the
    iteration still yields what the kernel had queued, then ends: nothing is lost. After `close` it ends at once, and
    what was not read is discarded.
    """

    @checked
    def __init__(
        self,
        group: GroupNumber,
        *,
        profile: ProfileName = "default",
        copy_mode: CopyMode = "packet",
        copy_range: CopyRange = 0,
        qthreshold: QThreshold = 0,
        qtimeout: QTimeout = 0,
        nlbufsiz: NlBufSiz = 0,
        socket_buffer: SocketBuffer = SOCKET_BUFFER,
        max_socket_buffer: SocketBuffer = MAX_SOCKET_BUFFER,
        seq_global: bool = False,
        attach_conntrack: bool = False,
        netns: str | None = None,
        label: Label = 0,
        max_held_bytes: HeldBytes = 1 << 30,
    ) -> None:
        settings = PROFILES[profile]
        self.group = group
        self.netns = netns
        self.coalesce_secs = settings.coalesce_secs
        self.max_socket_buffer = max(socket_buffer, max_socket_buffer)
        self._limited = Limited()
        self._links: Links | None = None
        self._stopping = self._unbound = self._closed = False
        self._last_read = 0.0
        self._drops_accounted = self._drops_pending = 0
        #: Called at the beginning of `close`: what waits in asyncio's loop has to let go of the descriptors first.
        self._when_closed: Callable[[], None] | None = None
        self._alarm = Alarm()
        self._socket = GroupSocket(group, netns=netns, label=label, pool=BufferPool(max_held_bytes))
        try:
            self.socket_buffer = self._grow(socket_buffer)
            if self.socket_buffer < socket_buffer:
                log.warning(
                    "group %d: the socket buffer has %d bytes instead of %d, so floods lose packets sooner; more needs "
                    "CAP_NET_ADMIN outside of user namespaces, or a larger net.core.rmem_max",
                    group,
                    self.socket_buffer,
                    socket_buffer,
                )
            qthreshold = qthreshold or settings.qthreshold
            self._socket.bind(
                copy_mode=COPY_MODES[copy_mode],
                copy_range=copy_range,
                qthreshold=qthreshold,
                qtimeout=qtimeout or settings.qtimeout,
                # For single packets the kernel would allocate 128 KiB each and shrink it again.
                nlbufsiz=nlbufsiz or (settings.nlbufsiz if qthreshold > 1 else 0),
                seq_global=seq_global,
            )
            self._seq_global = seq_global
            if attach_conntrack:
                self.attach_conntrack()
        except BaseException:
            self.close()
            raise

    # -- reading -------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return the descriptor that is readable when packets wait, for select, epoll and asyncio.

        Raises ValueError after `close`.
        """
        self._check_open()
        return self._socket.fileno()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"group {self.group} is closed; open it again with open_group")

    def receive(self) -> Batch:
        """Return what has arrived, without waiting; the batch is empty if nothing has.

        Afterwards `more` says whether further packets may be waiting, and `pause` how many seconds to wait before the
        next call.
        Raises KernelError if the socket fails, NflowError if packets you keep hold too many receive buffers, and
        ValueError after `close`, also if another thread closes the group meanwhile.
        """
        with self._alarm.lock:
            self._check_open()
            received = self._socket.receive()
        state = self._socket.state
        if state.overran:
            self._overrun()
        elif received and self._drops_pending:
            # Its sequence number has shown in `gap` what those datagrams held.
            self._drops_accounted += self._drops_pending
            self._drops_pending = 0
        if received is None:
            self.pause = 0.0
            return Batch(None, 0, group=self.group)
        self._pace(received.count)
        return Batch(
            received.lease,
            received.count,
            group=self.group,
            valid_any=received.valid_any,
            valid_all=received.valid_all,
            find_names=self._find_names,
        )

    @property
    def more(self) -> bool:
        """Whether the last `receive` may have left packets behind."""
        return bool(self._socket.state.more) or self._socket.early

    #: Seconds it is worth to wait before the next `receive`, so that dense traffic is read in larger pieces.
    pause: float = 0.0

    def _pace(self, count: int) -> None:
        now = time.monotonic()
        elapsed, self._last_read = now - self._last_read, now
        dense = count > elapsed * _DENSE_PACKETS_PER_SEC and not self.more
        if dense and count > 1 and self.socket_buffer >= _COALESCE_BUFFER_BYTES:
            # No longer than it takes to fill a batch: larger ones only leave the processor's caches.
            self.pause = min(self.coalesce_secs, elapsed * ENOUGH_RECORDS / count)
        else:
            self.pause = 0.0

    @checked
    def batches(self, timeout: Seconds | None = None) -> Iterator[Batch]:
        """Yield batches as they arrive, until `stop`; with `timeout` (seconds) an empty batch if nothing arrived for
        that long."""
        self.fileno()  # one that is closed already is a mistake of the caller
        while not self._stopping:
            with self._alarm.lock:
                if self._closed:
                    return
                try:
                    found = self.more or self._alarm.wait(self.fileno(), timeout)
                    batch = self.receive() if found and not self._closed else Batch(None, 0, group=self.group)
                except (ValueError, KernelError):
                    if not self._closed:  # by a signal handler of this thread
                        raise
                if self._closed:
                    return
            if batch or not found:
                yield batch
                if self.pause and not self._stopping:
                    time.sleep(self.pause)
        if not self._closed:
            yield from self.drain()

    def __iter__(self) -> Iterator[Packet]:
        for batch in self.batches():
            yield from batch

    def __aiter__(self) -> AsyncIterator[Batch]:
        """Yield batches as they come, until `stop` or `close`, without blocking asyncio's loop."""
        from nflowlevel.readers.aio import batches  # asyncio costs as much memory as all else: only who uses it pays

        return batches(self)

    def drain(self) -> Iterator[Batch]:
        """Give up the group and yield everything that the kernel has queued for it."""
        if not self._unbound:
            # Make room for what the kernel sends at unbind; under a flood the socket may never be seen empty.
            yield from islice(self._waiting(), _BATCHES_BEFORE_UNBIND)
            self._unbound = True
            with self._alarm.lock:
                if self._closed:
                    return
                self._socket.unbind()
        yield from self._waiting()

    def _waiting(self) -> Iterator[Batch]:
        while True:
            with self._alarm.lock:
                batch = None if self._closed else self.receive()
            if not batch:
                return
            yield batch

    def stop(self) -> None:
        """End the iteration, whichever thread runs it: it yields what the kernel has queued, then ends."""
        self._stopping = True
        self._alarm.ring()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    # -- loss ----------------------------------------------------------------------------------------------------

    @property
    def stats(self) -> GroupStats:
        """What was received and what was lost: while `unresolved` is 0, received + gap is what the rule counted."""
        stats = GroupStats()
        take_over(stats, self._socket.state)
        if self._links:
            stats.foreign += self._links.foreign
        stats.unresolved = self._drops_pending
        return stats

    def _overrun(self) -> None:
        """The kernel could not queue datagrams (ENOBUFS). How many packets is told by the next sequence number."""
        self._drops_pending = self._socket.socket.drops - self._drops_accounted
        before = self.socket_buffer
        if before < self.max_socket_buffer:
            self.socket_buffer = self._grow(min(before, self.max_socket_buffer))
        grown = (
            f"grown from {before} to {self.socket_buffer}"
            if self.socket_buffer > before
            else f"is {before}, its ceiling"
        )
        self._limited(
            NOTICE,
            "overrun",
            f"group {self.group}: the kernel lost packets, the socket buffer was full ({grown} bytes); "
            f"received {self._socket.state.received}, gap {self._socket.state.gap} so far",
        )

    def _grow(self, size: int) -> int:
        return self._socket.socket.set_receive_buffer(size)

    # -- surroundings --------------------------------------------------------------------------------------------

    def attach_conntrack(self) -> None:
        """Ask for the packets' conntrack entries (key `ct`); KernelError if the kernel cannot provide them."""
        self._socket.attach_conntrack(seq_global=self._seq_global)

    def become_logger(self, families: tuple[int, ...], *, unbind_first: bool) -> None:
        """Make nfnetlink_log the logger of these families (2 IPv4, 10 IPv6, 7 bridge) in the group's namespace."""
        for family in families:
            self._socket.become_logger(family, unbind_first=unbind_first)

    def _find_names(self) -> NameTable:
        if self._links is None:
            links = Links(self.netns)
            if links.namespace != self._socket.socket.namespace:
                # Another namespace has the name by now: its interfaces are not those of the packets.
                links.close()
                return NO_NAMES
            self._links = links
        self._links.update()
        return self._links.table

    def close(self) -> None:
        """Give the group up; packets that were not read are lost. It may be called more than once, and from any thread:
        a reader that waits is woken, and its iteration ends.

        Afterwards `receive` and `fileno` raise ValueError; `stats` and packets that were read stay.
        """
        self._closed = True
        if self._when_closed:
            self._when_closed()
        self._alarm.ring()
        with self._alarm.lock:
            self._socket.close()
            if self._links:
                self._links.close()
            self._alarm.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "stopping" if self._stopping else "open"
        where = f" of namespace {self.netns}" if self.netns else ""
        return f"<Group {self.group}{where}, {state}: {self.stats}>"

    def _repr_html_(self) -> str:
        """Return the group's counters as a table, for notebooks."""
        values, declared = self.stats.as_dict(), GroupStats.declared
        rows = [(name, values[name], about.unit, about.meaning) for name, about in declared.items()]
        return html_table(("counter", "value", "unit", "meaning"), rows, caption=repr(self))

    def __enter__(self) -> Group:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _with_options_of(
    opened: Callable[_Options, Group],
) -> Callable[[Callable[..., Group]], Callable[_Options, Group]]:
    """Give a function the signature of what it opens, for type checkers and for `inspect`: options stand there once."""

    def signed(function: Callable[..., Group]) -> Callable[_Options, Group]:
        signature = inspect.signature(opened).replace(return_annotation=Group)
        function.__signature__ = signature  # type: ignore[attr-defined]
        return function

    return signed


@_with_options_of(Group)
def open_group(*group: int, **options: object) -> Group:
    """Open a group, 0 to 65535, and become its reader.

    profile: `default` (a single packet arrives within 0.1 s), `latency` (within 5 ms) or `throughput`; the options
        below override its values.
    copy_mode: part of a packet that the kernel copies: `packet`, `meta` (no payload) or `none`.
    copy_range: bytes copied of each packet; 0: all.
    qthreshold: packets that the kernel gathers before it sends them; 0: the profile's value.
    qtimeout: longest wait of a packet in the kernel, in 1/100 s; 0: the profile's value.
    nlbufsiz: bytes that the kernel gathers before it sends them; 0: the profile's value.
    socket_buffer: size of the socket buffer in bytes.
    max_socket_buffer: size in bytes up to which the socket buffer doubles when the kernel loses packets.
    seq_global: whether packets have `oob.seq.global`, their number across all groups that ask for it.
    attach_conntrack: whether packets have `ct`, their conntrack entry; KernelError if the kernel cannot provide it.
    netns: network namespace to read in: a name or a path; None: the process's own.
    label: value of `raw.label` for each packet, 0 to 255.
    max_held_bytes: most bytes of receive buffers that the packets, memoryviews and columns you keep may hold.

    Raises KernelError if the group cannot be opened: it names the process that already reads it, or the missing
    capability. Raises TypeError for an unknown option or a value of the wrong type, and ValueError for a value that is
    not allowed.
    """
    from nflowlevel.options import refuse_unknown  # a process that only imports the package does not need it

    first, *known = inspect.signature(Group).parameters
    refuse_unknown("open_group", options, known, (first,))
    return Group(*group, **options)  # type: ignore[arg-type]
