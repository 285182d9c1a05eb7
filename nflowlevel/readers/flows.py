# SPDX-License-Identifier: GPL-2.0-or-later
"""Flows of connection tracking: `with nfl.open_flows() as flows: for batch in flows.batches(): ...`; and the kernel's
table as it is, `nfl.flows()`.

A reader without a table passes on what the kernel tells. A reader that tracks flows keeps a table of them
(_cdefs/flowtable.h): then beginnings and changes are no records; a flow is reported when it ends, and, if asked for,
while it goes on. Each record has what was counted since the flow's record before, so a flow is the sum of its records.

The kernel's table is read at the start, at intervals, on request, and after events were lost. While a dump is read no
event is, so that a flow that has ended cannot come back by it; the socket's buffer holds the events. Then all events
that waited are taken, and only then is what the dump did not show taken for ended.
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, TypeAlias

from msgspec import Meta

from nflowlevel.binding.acceptance import Accept
from nflowlevel.binding.alarm import Alarm
from nflowlevel.binding.conntrack import (
    EVENTS,
    ROOM_FLOWS,
    EventName,
    EventSocket,
    LoadSocket,
    TableSocket,
    read_table,
    settings,
)
from nflowlevel.binding.flowtable import ACTIVE, FORCED, FlowTable, Made
from nflowlevel.errors import KernelError, choice
from nflowlevel.logs import NOTICE, Limited, log
from nflowlevel.readers.arguments import MAX_SOCKET_BUFFER, SOCKET_BUFFER, Seconds, SocketBuffer, checked
from nflowlevel.readers.flowstate import StateFile
from nflowlevel.records.flow import FLOW
from nflowlevel.records.flowbatch import FlowBatch
from nflowlevel.stats import FlowStats, take_over

if TYPE_CHECKING:
    from nflowlevel.records.filters import Filter
    from nflowlevel.records.flowrow import Flow


#: Traffic is dense when events come faster than this, measured from read to read.
_DENSE_EVENTS_PER_SEC = 2000
#: Then they are read at such intervals, or after so many events: a wake-up of the daemon costs as much as hundreds of
#: events, at 50,000 a second a third of all with 5 ms, a tenth with 20 ms.
_PAUSE_SECS, _PAUSE_EVENTS = 0.05, 2048
#: Below this much socket buffer there is no room to wait with reading. Above, a pause takes no more of it than a sudden
#: flood of more than 200,000 events a second fills in that time.
_PAUSE_BUFFER_BYTES, _PAUSE_BYTES_PER_SEC = 4 << 20, 200 << 20
#: What an event takes of the socket's buffer, at least.
_EVENT_BYTES = 768

#: Of a full kernel table so much may be flows whose end we have not read; above, `reliable` is given up for a while.
_GUARD_RATIO = 0.9
_GUARD_LOOK_SECS = 0.1
_GUARD_SECS = 1.0

#: nf_conntrack_events: flows that are older than the first listener never end, as far as the kernel tells.
_AUTO = 2
#: So often it is looked whether they are still there.
_OLD_SECS = 60.0

#: Between two attempts to read the kernel's table.
_AGAIN_SECS = 1.0

#: A table for at least so many flows: memory is only taken by those that there are.
_LEAST_FLOWS = 1 << 20
_LEAST_ENDS = 1 << 16

_ENDS: tuple[EventName, ...] = ("destroy",)

MaxFlows: TypeAlias = Annotated[int, Meta(ge=0, le=0x7FFF_FFFF)]
ActiveTimeout: TypeAlias = Annotated[float, Meta(ge=1)]


class _Phase(enum.Enum):
    """What a reader does beside listening."""

    NOTHING = enum.auto()
    DUMPING = enum.auto()
    #: Events that were sent while the dump was read are taken.
    SETTLING = enum.auto()
    SCANNING = enum.auto()


class Flows:
    """An open reader of flows. Iterate over `batches()`, or call `receive` when `fileno()` is readable or `deadline`
    has passed.

    Only one thread may read; any thread may call `stop` or `close`, and a reader that waits is woken. After `stop` the
    iteration still yields what the kernel had queued, then ends.
    """

    @checked
    def __init__(
        self,
        events: Collection[EventName] = _ENDS,
        filters: Accept | str | None = None,
        *,
        netns: str | None = None,
        active_timeout: ActiveTimeout | None = None,
        reliable: bool = False,
        track: bool | None = None,
        poll_secs: Seconds = 0,
        resync_secs: Seconds = 60,
        socket_buffer: SocketBuffer = SOCKET_BUFFER,
        max_socket_buffer: SocketBuffer = MAX_SOCKET_BUFFER,
        max_flows: MaxFlows = 0,
        flush_at_stop: bool = False,
        state_file: str = "",
    ) -> None:
        if isinstance(events, str):
            raise TypeError(f"events: give a list of names, such as ['{events}']")
        for name in events:
            if name not in EVENTS:
                raise ValueError(f"unknown event {name!r}{choice(str(name), EVENTS)}")
        self.netns = netns
        self.tracks = bool(active_timeout or poll_secs) if track is None else track
        self.max_socket_buffer = max(socket_buffer, max_socket_buffer)
        self._accept, self._filter = _wanted(filters)
        self._active_secs = active_timeout
        self._poll_secs = poll_secs
        self._resync_secs = resync_secs
        self._reliable = reliable
        self._flush = flush_at_stop
        self._state = StateFile(state_file) if state_file and self.tracks else None
        self._limited = Limited()
        self._stopping = self._closed = self._silent = self._keeps = False
        self._stats = FlowStats()
        self._drops = 0
        self._last_read = 0.0
        self._alarm = Alarm()
        self._sockets: list[EventSocket | TableSocket | LoadSocket] = []
        self._phase = _Phase.NOTHING
        self._turn = False
        self._settle = 0
        #: What a dump is made for: `known`, `poll`, `active`, `asked`, `resync`, `old`.
        self._due: dict[str, float] = {}
        self._purposes: set[str] = set()
        #: `lost`, when the dump began, and when what was gone was looked for last.
        self._lost_at_dump = self._lost_at_scan = 0
        self._guard_looked = self._guarded_at = 0.0
        try:
            self._open(events, socket_buffer, max_flows)
        except BaseException:
            self.close()
            raise

    def _open(self, events: Collection[EventName], socket_buffer: int, max_flows: int) -> None:
        self._load = LoadSocket(self.netns)
        self._sockets.append(self._load)
        load = self._load.read()
        self._events = EventSocket(events, self._accept, self.netns)
        self._sockets.append(self._events)
        self.socket_buffer = self._grow(socket_buffer)
        if self.socket_buffer < socket_buffer:
            log.warning(
                "flows: the socket buffer has %d bytes instead of %d, so floods lose events sooner; more needs "
                "CAP_NET_ADMIN outside of user namespaces, or a larger net.core.rmem_max",
                self.socket_buffer,
                socket_buffer,
            )
        room = (max_flows or max(_LEAST_FLOWS, 2 * load.limit)) if self.tracks else 0
        self._table = FlowTable(room, ends=max(load.limit, _LEAST_ENDS), sees_new="new" in self._events.events)
        if self.tracks:
            self._tables = TableSocket(self._accept, self.netns)
            self._sockets.append(self._tables)
            self._restore()
            # Listened before listed: what begins in between is told, and known once.
            self._due["known"] = 0.0
            now = time.monotonic()
            if self._poll_secs:
                self._due["poll"] = now + self._poll_secs
            if self._active_secs:
                self._due["active"] = now + self._active_secs / 2
        self._untold = settings(self.netns).events == _AUTO
        self._events.listen(reliable=self._reliable)
        self._listening_ns = time.time_ns()

    # -- reading -------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return the descriptor that is readable when events wait, for select, epoll and asyncio.

        Raises ValueError after `close`.
        """
        self._check_open()
        return self._events.fileno()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("this reader of flows is closed; open another with open_flows")

    @property
    def deadline(self) -> float | None:
        """When to call `receive` though no descriptor is readable (time.monotonic), or None."""
        if self._phase is not _Phase.NOTHING:
            return 0.0
        return min(self._due.values(), default=None)

    @property
    def more(self) -> bool:
        """Whether `receive` should be called again at once."""
        return bool(self._events.state.more) or self._phase is not _Phase.NOTHING

    #: Seconds it is worth to wait before the next `receive`, so that dense traffic is read in larger pieces.
    pause: float = 0.0

    def receive(self) -> FlowBatch:
        """Return records of what has come, without waiting for it; the batch is empty if there are none.

        Afterwards `more`, `pause` and `deadline` say when to call it again. Raises KernelError if a socket fails, and
        ValueError after `close`.
        """
        return self._chosen(self._receive())

    def _chosen(self, batch: FlowBatch) -> FlowBatch:
        return batch if self._filter is None else batch.where(self._filter)

    def _receive(self) -> FlowBatch:
        with self._alarm.lock:
            self._check_open()
            if self._state:
                self._state.spend()
            if self._phase is _Phase.NOTHING:
                self._begin_if_due()
            made = self._step()
            # What ends at once, as with an empty table, is not worth another call.
            before: _Phase | None = None
            while not made.count and self._phase is not before and self._phase is not _Phase.NOTHING:
                before = self._phase
                made = self._step()
        return self._batch(made)

    def _batch(self, made: Made) -> FlowBatch:
        return FlowBatch(
            made.records,
            made.count,
            type=FLOW,
            valid_any=made.valid_any,
            valid_all=made.valid_all,
            time=(int(time.time()), None),
        )

    def _step(self) -> Made:
        self._turn = not self._turn
        if self._phase is _Phase.DUMPING:
            return self._list()
        if self._phase is _Phase.SCANNING and self._turn:
            return self._scan()
        return self._listen()

    def _listen(self) -> Made:
        events = self._events
        count = events.receive()
        if events.state.overran:
            self._overrun()
        if self._reliable:
            self._guard()
        self._pace(count)
        if self._phase is _Phase.SETTLING:
            self._settle -= max(count, 1)
            if not events.state.more or self._settle < 0:
                self._begin_scan()
        return self._table.take(events.records, count)

    def _pace(self, count: int) -> None:
        now = time.monotonic()
        elapsed, self._last_read = now - self._last_read, now
        dense = count > elapsed * _DENSE_EVENTS_PER_SEC and not self.more
        if dense and count > 1 and self.socket_buffer >= _PAUSE_BUFFER_BYTES:
            room = self.socket_buffer / _PAUSE_BYTES_PER_SEC
            self.pause = min(_PAUSE_SECS, room, elapsed * _PAUSE_EVENTS / count)
        else:
            self.pause = 0.0

    @checked
    def batches(self, timeout: Seconds | None = None) -> Iterator[FlowBatch]:
        """Yield batches as they arrive, until `stop`; with `timeout` (seconds) an empty batch if there was nothing for
        that long."""
        self.fileno()  # one that is closed already is a mistake of the caller
        waited_since = time.monotonic()
        while not self._stopping:
            with self._alarm.lock:
                if self._closed:
                    return
                patience = self._patience(waited_since, timeout)
                try:
                    if not self.more:
                        self._alarm.wait(self.fileno(), patience)
                    batch = self._batch(Made(None, 0, 0, 0)) if self._closed else self.receive()
                except (ValueError, KernelError):
                    if not self._closed:  # by a signal handler of this thread
                        raise
                if self._closed:
                    return
            if batch or (timeout is not None and time.monotonic() - waited_since >= timeout):
                yield batch
                waited_since = time.monotonic()
            if self.pause and not self._stopping:
                time.sleep(self.pause)
        if not self._closed:
            yield from self.drain()

    def _patience(self, since: float, timeout: float | None) -> float | None:
        until = [at for at in (self.deadline, None if timeout is None else since + timeout) if at is not None]
        return max(0.0, min(until) - time.monotonic()) if until else None

    def __iter__(self) -> Iterator[Flow]:
        for batch in self.batches():
            yield from batch

    def stop(self) -> None:
        """End the iteration, whichever thread runs it: it yields what the kernel has queued, then ends."""
        self._stopping = True
        self._alarm.ring()

    def drain(self) -> Iterator[FlowBatch]:
        """Stop listening and yield what was told; with `flush_at_stop` also what goes on, as far as it was counted."""
        if not self._silent:
            self._silent = True
            with self._alarm.lock:
                if self._closed:
                    return
                self._count_drops()
                self._events.silence()
        try:
            yield from self._rest()
            if self._flush and self.tracks:
                yield from self._flushed(ends=False)
        finally:
            self._keeps = True

    def leave(self) -> Iterator[FlowBatch]:
        """Like `drain`, where all flows end: they are reported as ended."""
        if self._state:
            self._state.spend()
            self._state.close()
        self._flush, self._state = False, None
        yield from self.drain()
        if self.tracks:
            yield from self._flushed(ends=True)

    def _rest(self) -> Iterator[FlowBatch]:
        """Yield what is to be received yet, and what a dump that has begun still brings."""
        while True:
            with self._alarm.lock:
                if self._closed:
                    return
                self._due.clear()
                batch = self._receive()
                done = not batch and not self.more
            batch = self._chosen(batch)
            if batch:
                yield batch
            if done:
                return

    def _flushed(self, *, ends: bool) -> Iterator[FlowBatch]:
        self._begin({"ends" if ends else "flush"})
        yield from self._rest()

    # -- from run to run -----------------------------------------------------------------------------------------

    def _restore(self) -> None:
        """Know what the run before has reported of flows that go on."""
        self._restored = sum(map(self._table.restore, self._state.read(self._table.capacity))) if self._state else 0

    def _save(self) -> None:
        """Keep what was reported of flows that go on for the next run.

        Not before the reader is closed: who is killed while outputs bring away what they have, may have lost it.
        """
        if self._state and self._keeps:
            self._state.write(self._table.save())

    # -- the kernel's table --------------------------------------------------------------------------------------

    def report(self) -> None:
        """Have all known flows reported, as they are now, whatever they have counted; any thread may call it.

        A reader that tracks no flows cannot do that, and says so in the log.
        """
        if not self.tracks:
            log.log(NOTICE, "flows: there is no table of flows to report")
            return
        self._due["asked"] = 0.0
        self._alarm.nudge()

    def _begin_if_due(self) -> None:
        now = time.monotonic()
        # A copy: `report` is for other threads.
        purposes = {name for name, at in list(self._due.items()) if at <= now}
        if purposes:
            for name in purposes:
                del self._due[name]
            for name, secs in (("poll", self._poll_secs), ("active", (self._active_secs or 0) / 2)):
                if name in purposes and secs:
                    self._due[name] = now + secs
            self._begin(purposes)

    def _begin(self, purposes: set[str]) -> None:
        self._purposes = purposes
        self._stats.resyncs += "resync" in purposes
        self._lost_at_dump = self._stats.lost
        try:
            self._tables.begin()
        except BaseException:
            self._dump_again()
            raise
        self._table.begin()
        self._stats.dumps += 1
        self._phase = _Phase.DUMPING

    def _dump_again(self) -> None:
        """The kernel did not give its table: what it was wanted for is still to be done."""
        again = time.monotonic() + _AGAIN_SECS
        for name in self._purposes - {"flush", "ends"}:
            self._due[name] = min(again, self._due.get(name, again))

    def _list(self) -> Made:
        tables = self._tables
        try:
            count = tables.receive(self._events.records, ROOM_FLOWS)
        except BaseException:
            self._phase = _Phase.NOTHING
            self._dump_again()
            raise
        self._stats.listed += count
        made = self._table.list(self._events.records, count, listening_ns=self._listening_ns)
        if tables.done:
            self._phase = _Phase.SETTLING
            self._settle = self.socket_buffer // _EVENT_BYTES
        return made

    def _begin_scan(self) -> None:
        """What waited has been taken: what the dump has not shown is gone."""
        purposes = self._purposes
        if purposes == {"known"} and not self._restored:
            self._end_of_scan()
            return
        older_ns: int | None = None
        if purposes & {"asked", "flush"}:
            older_ns = 0
        elif "active" in purposes:
            older_ns = int((self._active_secs or 0) * 1e9)
        # Events that were lost may have been ends.
        lost = self._lost_at_dump != self._lost_at_scan
        self._lost_at_scan = self._lost_at_dump
        final = bool(purposes & {"ends", "flush"})
        self._table.scan(
            older_ns=older_ns,
            gone=self._tables.complete,
            wait=self._events.reliable and not lost,
            idle="asked" in purposes,
            reason=FORCED if final else ACTIVE,
            ends="ends" in purposes,
        )
        self._phase = _Phase.SCANNING

    def _scan(self) -> Made:
        made, more = self._table.scanned()
        if not more:
            self._end_of_scan()
        return made

    def _end_of_scan(self) -> None:
        self._phase = _Phase.NOTHING
        if self._untold and self._table.counted.old:
            self._due.setdefault("old", time.monotonic() + _OLD_SECS)

    # -- loss ----------------------------------------------------------------------------------------------------

    @property
    def stats(self) -> FlowStats:
        """What was heard, and what was lost."""
        if not self._closed:
            with contextlib.suppress(ValueError):
                self._count_drops()
        stats = self._stats
        take_over(stats, self._events.state)
        take_over(stats, self._table.counted)
        stats.tracked = len(self._table)
        return stats

    def _count_drops(self) -> None:
        drops = self._events.socket.drops
        new = (drops - self._drops) & 0xFFFFFFFF
        self._drops = drops
        if self._events.reliable:
            self._stats.refused += new
        else:
            self._stats.lost += new

    def _overrun(self) -> None:
        """The kernel had no room for events (ENOBUFS)."""
        self._count_drops()
        before = self.socket_buffer
        if before < self.max_socket_buffer:
            self.socket_buffer = self._grow(min(before, self.max_socket_buffer))
        grown = (
            f"grown from {before} to {self.socket_buffer}"
            if self.socket_buffer > before
            else f"is {before}, its ceiling"
        )
        stats = self._stats
        what = "will tell again what it had no room for" if self._events.reliable else "lost events"
        self._limited(
            NOTICE,
            "overrun",
            f"flows: the kernel {what}, the socket buffer was full ({grown} bytes); "
            f"received {self._events.state.received}, lost {stats.lost} so far",
        )
        if self.tracks and not self._events.reliable:
            self._due.setdefault("resync", time.monotonic() + self._resync_secs)

    def _grow(self, size: int) -> int:
        return self._events.socket.set_receive_buffer(size)

    def _guard(self) -> None:
        """Let the kernel forget what it could not tell, before its table is full of it and new connections fail."""
        now = time.monotonic()
        unread = bool(self._events.state.more or self._events.state.overran)
        if self._events.reliable:
            if not unread or now - self._guard_looked < _GUARD_LOOK_SECS:
                return
            self._guard_looked = now
            load = self._load.read()
            if load.ratio < _GUARD_RATIO:
                return
            self._count_drops()
            self._events.set_reliable(False)
            self._guarded_at = now
            self._stats.guarded += 1
            text = (
                f"flows: {load.flows} of at most {load.limit} are in the kernel's table while events wait to be read: "
                "events are lost from now on rather than new connections; `reliable` is taken up again later"
            )
            self._limited(NOTICE, "guard", text)
            if self.tracks:
                self._due.setdefault("resync", now + self._resync_secs)
        elif not unread and not self._silent and now - self._guarded_at >= _GUARD_SECS:
            self._count_drops()
            self._events.set_reliable(True)
            text = f"flows: events are reliable again; lost {self._stats.lost} so far"
            self._limited(NOTICE, "guarded", text)

    # -- surroundings --------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Give all back; what was not read is lost. It may be called more than once, and from any thread: a reader that
        waits is woken, and its iteration ends.

        Afterwards `receive` and `fileno` raise ValueError; `stats` and what was read stay.
        """
        if self._closed:
            return
        if hasattr(self, "_events"):
            with contextlib.suppress(ValueError, KernelError):
                self._count_drops()
        self._closed = True
        self._alarm.ring()
        with self._alarm.lock:
            for socket in self._sockets:
                socket.close()
            if self._state:
                self._save()
                self._state.close()
            self._alarm.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "stopping" if self._stopping else "open"
        where = f" of namespace {self.netns}" if self.netns else ""
        return f"<Flows{where}, {state}: {self.stats}>"

    def __enter__(self) -> Flows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_flows(
    events: Collection[EventName] = _ENDS,
    filters: Accept | str | None = None,
    *,
    netns: str | None = None,
    active_timeout: float | None = None,
    reliable: bool = False,
    track: bool | None = None,
    poll_secs: float = 0,
    resync_secs: float = 60,
    socket_buffer: int = SOCKET_BUFFER,
    max_socket_buffer: int = MAX_SOCKET_BUFFER,
    max_flows: int = 0,
    flush_at_stop: bool = False,
    state_file: str = "",
) -> Flows:
    """Listen to connection tracking: flows as they end, or also as they begin (`new`) and change (`update`).

    events: which of `new`, `update` and `destroy` to hear of.
    filters: which flows are wanted: a filter such as `dport == 443 && src_ip == 10.0.0.0/8` (docs/filters.md), or an
        `Accept`, which the kernel applies where it can; None: all.
    netns: network namespace to listen in: a name or a path; None: the process's own.
    active_timeout: seconds after which a flow that goes on is reported, each time with what it has counted since.
    reliable: have the kernel keep flows whose end it could not tell, and tell it again; given up for a while when the
        kernel's table gets full of them.
    track: keep a table of flows. Then `new` and `update` are no records but known of a flow when it ends, and what was
        lost is made up for as far as it can be. None: only where `active_timeout` or `poll_secs` needs it.
    poll_secs: seconds between two readings of the kernel's table; 0: only when it is needed.
    resync_secs: seconds between a loss of events and the reading of the kernel's table.
    socket_buffer: size of the socket buffer in bytes.
    max_socket_buffer: size in bytes up to which it doubles when the kernel loses events.
    max_flows: most flows that are known at a time; 0: as many as the kernel can have.
    flush_at_stop: report what goes on when the reading is stopped.
    state_file: where to keep what was reported of flows that go on, from an orderly stop to the next run; "": nowhere.

    Raises KernelError if the kernel does not let us, TypeError for a value of the wrong type, ValueError for one that
    is not allowed and FilterError for a filter that is wrong.
    """
    if not events and not (track or active_timeout or poll_secs):
        raise ValueError("events: name at least one of new, update, destroy, or have flows reported by poll_secs")
    return Flows(
        events,
        filters,
        netns=netns,
        active_timeout=active_timeout,
        reliable=reliable,
        track=track,
        poll_secs=poll_secs,
        resync_secs=resync_secs,
        socket_buffer=socket_buffer,
        max_socket_buffer=max_socket_buffer,
        max_flows=max_flows,
        flush_at_stop=flush_at_stop,
        state_file=state_file,
    )


def flows(*, netns: str | None = None, filters: Accept | str | None = None) -> FlowBatch:
    """Return the kernel's table of flows, as it is now, as one batch.

    Counters are since each flow's beginning. `filters`: as for `open_flows`. KernelError if the kernel does not give
    it, FilterError for a filter that is wrong.
    """
    accept, filter_ = _wanted(filters)
    records, count, any_, all_ = read_table(accept, netns)
    batch = FlowBatch(records, count, type=FLOW, valid_any=any_, valid_all=all_, time=(int(time.time()), None))
    return batch if filter_ is None else batch.where(filter_)


def _wanted(filters: object) -> tuple[Accept, Filter | None]:
    """Return what the kernel and C look at, and what is left for a filter of the batches."""
    if filters is None:
        return Accept(), None
    if isinstance(filters, Accept):
        return filters, None
    if isinstance(filters, str):
        from nflowlevel.records.filters import parse  # the daemon never filters so

        return Accept(), parse(filters, FLOW)
    raise TypeError(f"filters must be a filter such as 'dport == 443', or nfl.Accept(…), not {filters!r:.80}")
