# SPDX-License-Identifier: GPL-2.0-or-later
"""Counters: each declared once, with its unit and its meaning.

    class GroupStats(Counters):
        received = counter("packets", "Packets received.")

    stats = GroupStats()
    stats.received += 23            # a plain attribute: costs what an attribute costs
    GroupStats.declared["received"]  # what the documentation and the metrics print

A counter only grows; a gauge goes up and down. For outputs this holds at every moment:

    records == written + pending + sum(dropped.values())
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar


def html_table(head: Sequence[object], rows: Iterable[Sequence[object]], *, caption: str = "") -> str:
    """Return a table for notebooks. Every cell is escaped: what packets and rules say may be hostile."""
    from html import escape  # only notebooks need it

    def line(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>"


class Declared(int):
    """A counter's start value, 0, that knows what is counted; it stays in the class, instances hold plain numbers."""

    unit: str
    meaning: str
    gauge: bool
    always: bool


def counter(unit: str, meaning: str, *, gauge: bool = False, always: bool = False) -> int:
    """Declare a counter; with `always` it is named in the one-line summary even while it is 0."""
    declared = Declared(0)
    declared.unit, declared.meaning, declared.gauge, declared.always = unit, meaning, gauge, always
    return declared


class Counters:
    """Base of all groups of counters; counting into a misspelt one is an AttributeError.

    Increments are not atomic: where two threads count into one object, both hold its `lock`.
    """

    declared: ClassVar[Mapping[str, Declared]] = {}

    def __init_subclass__(cls) -> None:
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Declared)}
        cls.declared = {**cls.declared, **own}

    def __init__(self) -> None:
        self.__dict__.update(dict.fromkeys(self.declared, 0))
        self.lock = threading.RLock()

    def as_dict(self) -> dict[str, int | dict[str, int]]:
        """Return all counters by name, taken at one moment."""
        with self.lock:
            return {name: getattr(self, name) for name in self.declared}

    def add(self, other: Counters) -> None:
        """Add what another object has counted of the same."""
        for name in other.declared:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def __str__(self) -> str:
        values = self.as_dict()
        shown = [f"{name} {values[name]}" for name, about in self.declared.items() if values[name] or about.always]
        return ", ".join(shown)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"

    def _repr_html_(self) -> str:
        """Return all counters as a table, for notebooks."""
        values = self.as_dict()
        rows = [(name, values[name], about.unit, about.meaning) for name, about in self.declared.items()]
        return html_table(("counter", "value", "unit", "meaning"), rows, caption=repr(self))


def take_over(stats: Counters, counted: object) -> None:
    """Set those counters that `counted`, such as a receiver in C, has under the same names."""
    for name in stats.declared:
        if (value := getattr(counted, name, None)) is not None:
            setattr(stats, name, value)


# What every receiver of netlink counts. Each class has them where it shows them.
_TRUNCATED = counter("datagrams", "Datagrams longer than the buffer they were received into; they are left out.")
_MALFORMED = counter("messages", "Netlink messages that could not be decoded.")
FOREIGN = counter(
    "messages",
    "Netlink messages that were ignored: another process than the kernel sent them (its datagram counts as one), or "
    "they are of another kind.",
)
_DATAGRAMS = counter("datagrams", "Netlink datagrams received.")
_BYTES = counter("bytes", "Bytes of netlink datagrams received.")


class GroupStats(Counters):
    """What one log group received, and what it missed."""

    received = counter("packets", "Packets received and decoded.", always=True)
    gap = counter("packets", "Packets missing between sequence numbers, lost before they arrived here.", always=True)
    overrun = counter("events", "ENOBUFS from the socket: its buffer was full (`gap` counts the lost packets).")
    truncated = _TRUNCATED
    malformed = _MALFORMED
    foreign = FOREIGN
    datagrams = _DATAGRAMS
    bytes = _BYTES
    unresolved = counter(
        "datagrams", "Datagrams the kernel dropped after the last packet received; how many packets is not known yet."
    )


class FlowStats(Counters):
    """What was heard of flows, and what was not."""

    received = counter("events", "Events received and decoded.", always=True)
    lost = counter("events", "Events that the kernel had no room for and will not tell again.", always=True)
    refused = counter("events", "Attempts to tell an event for which there was no room; `reliable` has them repeated.")
    overrun = counter("times", "ENOBUFS from the socket: its buffer was full (`lost` or `refused` counts the events).")
    resyncs = counter("dumps", "Times that the kernel's table was read because events were lost.")
    dumps = counter("dumps", "Times that the kernel's table was read.")
    listed = counter("flows", "Flows read from the kernel's table.")
    tracked = counter("flows", "Flows that are known.", gauge=True)
    unmatched = counter("flows", "Ends of flows whose beginning was not seen; they are reported all the same.")
    untracked = counter("flows", "Flows for which the table had no room (hash_max_entries), each time it was needed.")
    presumed = counter("flows", "Flows that the kernel had no longer, reported with what was known of them last.")
    returned = counter("flows", "Of those: flows of which the kernel told more later; their records add up.")
    repeated = counter("events", "Ends that the kernel told more than once because another listener asked for it.")
    replaced = counter("flows", "Flows of whose end nothing was heard before another one with their number and tuple.")
    reset = counter("flows", "Counters that another program has set to zero; what it took away is not reported here.")
    guarded = counter("times", "Times that `reliable` was given up for a while: the kernel's table was nearly full.")
    truncated = _TRUNCATED
    malformed = _MALFORMED
    foreign = FOREIGN
    datagrams = _DATAGRAMS
    bytes = _BYTES


class CaptureStats(Counters):
    """What was read from a capture file, and what could not be read."""

    received = counter("packets", "Packets read and decoded.", always=True)
    malformed = counter("packets", "Packets left out: their link-layer header or their block is incomplete or wrong.")
    foreign = counter("packets", "Packets left out: the link type of their interface is not supported.")
    snapped = counter("packets", "Packets the file has only the beginning of (snaplen); `received` includes them.")
    broken = counter("files", "Files that are damaged or end in the middle of a packet; nothing after that is read.")
    bytes = counter("bytes", "Bytes read from the file, after decompression.")


class Giver:
    """One of several that give records to one output, such as a stack."""

    def __init__(self) -> None:
        #: Records given.
        self.records = 0
        #: Of them: discarded by the output, by reason.
        self.dropped: dict[str, int] = {}

    def __str__(self) -> str:
        return f"records {self.records}, dropped {_by_reason(self.dropped)}"


class Turns:
    """Whose records have which numbers: givers take turns, and a turn is as long as no other gives.

    It costs a few bytes for each turn that is not forgotten. The numbers ascend without a gap, from the first turn on.
    """

    def __init__(self) -> None:
        self._start = 0
        self._ends = array("Q")
        self._who = array("I")
        self._givers: list[Giver] = []
        self._numbers: dict[Giver, int] = {}

    @property
    def end(self) -> int:
        """The number that comes next."""
        return self._ends[-1] if self._ends else self._start

    def begin(self, number: int) -> None:
        """Begin with this number, where nothing is known yet."""
        if not self._ends:
            self._start = number

    def add(self, end: int, giver: Giver) -> None:
        """What comes next, up to but without the number `end`, is the giver's."""
        if end <= self.end:
            return
        number = self._numbers.setdefault(giver, len(self._givers))
        if number == len(self._givers):
            self._givers.append(giver)
        if self._ends and self._who[-1] == number:
            self._ends[-1] = end
        else:
            self._ends.append(end)
            self._who.append(number)

    def of(self, first: int, count: int) -> Iterator[tuple[Giver, int]]:
        """Yield whose the records `first` to `first + count - 1` are, and how many; those not known are left out."""
        at, end = max(first, self._start), min(first + count, self.end)
        turn = bisect_right(self._ends, at)
        while at < end:
            upto = min(self._ends[turn], end)
            if upto > at:
                yield self._givers[self._who[turn]], upto - at
            at, turn = upto, turn + 1

    def cut(self, first: int, count: int) -> None:
        """Take the records `first` to `first + count - 1` out: all behind them move up."""
        first, end = max(first, self._start), min(first + count, self.end)
        for turn in range(bisect_right(self._ends, first), len(self._ends)):
            self._ends[turn] -= max(0, min(end, self._ends[turn]) - first)

    def forget(self, before: int) -> None:
        """Forget the records with numbers below `before`."""
        count = bisect_right(self._ends, before)
        if count > len(self._ends) // 2:  # it costs as much as what is left
            self._start = self._ends[count - 1]
            del self._ends[:count], self._who[:count]


class OutputStats(Counters):
    """What became of the records given to one output."""

    #: Whether the output itself says whose the records are that it drops; else they leave in the order they came.
    says_whose: ClassVar[bool] = False
    #: Why an output may discard a record. An output with reasons of its own extends this in a subclass.
    reasons: ClassVar[Mapping[str, str]] = {
        "full": "The target was unavailable, slow or full for so long that the buffer in memory filled up.",
        "too_long": "The record does not fit into a datagram.",
        "stop": "The target had not accepted the record when the daemon had to stop.",
    }

    records = counter("records", "Records given to the output.", always=True)
    written = counter(
        "records",
        "Records the target accepted. What that means differs. A file or FIFO: handed to the kernel. TCP: handed to "
        "the peer's kernel, which acknowledged them; TCP does not tell whether its program has read them. Unix socket: "
        "read by the peer. UDP: sent, and not refused. A database: committed.",
        always=True,
    )
    pending = counter("records", "Records in memory, waiting for the target.", gauge=True, always=True)
    pending_bytes = counter("bytes", "Bytes in memory, waiting for the target.", gauge=True)
    bytes = counter("bytes", "Bytes the target accepted.")
    errors = counter("events", "Failed attempts to open, connect, accept, write or resolve.")
    retries = counter("events", "Attempts repeated after a failure.")
    resent = counter("records", "Records sent again after a connection broke; they may have arrived twice.")
    maybe_lost = counter(
        "records",
        "At most so many of the `written` records a TCP peer had not read when it reset the connection or its host "
        "vanished: acknowledged by its kernel, within the last bytes that its receive buffer may have held (by the "
        "windows it offered), and not sent again.",
    )
    torn = counter("events", "Incomplete records cut off (lines: or closed by a newline) at the end of a file.")
    sync_errors = counter("events", "Failed fdatasync calls; a power failure may lose what was written before.")

    def __init__(self) -> None:
        super().__init__()
        #: Records discarded, by reason.
        self.dropped: dict[str, int] = dict.fromkeys(self.reasons, 0)
        #: Who gives records at the moment, where there are several.
        self.giver: Giver | None = None
        self._thread = 0
        self._waiting = Turns()
        self._before = self._noted = self._refused = 0

    def begin(self, giver: Giver) -> None:
        """This thread now gives records of one of several givers, until `end`."""
        with self.lock:
            self.giver, self._thread = giver, threading.get_ident()
            self._before = self._noted = self.records
            self._refused = 0

    def end(self) -> None:
        """It has given them."""
        with self.lock:
            self.note()
            if self.giver and not self.says_whose:
                self._waiting.add(self._waiting.end + self._kept, self.giver)
                self._waiting.forget(self._waiting.end - self.pending)
            self.giver = None

    def note(self) -> None:
        """Have what the giver has given so far counted for it, too; call it with the lock held."""
        if self.giver:
            self.giver.records += self.records - self._noted
            self._noted = self.records

    @property
    def _kept(self) -> int:
        """How many records of the giver's were not dropped at once."""
        return self.records - self._before - self._refused if self.giver else 0

    def drop(
        self, reason: str, records: int, of: Iterable[tuple[Giver, int]] | None = None, *, after: int | None = None
    ) -> None:
        """Count `records` as discarded; a reason that was not declared is a KeyError.

        Where several stacks end in the output, `of` tells whose they were. Without it they are those that are being
        given, if this thread gives some. Otherwise, or with `after`, they are the oldest of the pending ones but for
        `after`: so take them from `pending` first.
        """
        with self.lock:
            self.dropped[reason] += records
            if not records:
                return
            for giver, count in self._owners(records, after) if of is None else of:
                giver.dropped[reason] = giver.dropped.get(reason, 0) + count

    def _owners(self, records: int, after: int | None) -> list[tuple[Giver, int]]:
        if self.giver and self._thread == threading.get_ident() and after is None:
            self._refused += records
            return [(self.giver, records)]
        # Behind those that wait come those that are being given.
        end = self._waiting.end
        first = end + self._kept - self.pending - records + (after or 0)
        found = list(self._waiting.of(first, records))
        self._waiting.cut(first, records)
        if self.giver and first + records > end:
            given = first + records - max(first, end)
            self._refused += given
            found.append((self.giver, given))
        return found

    def as_dict(self) -> dict[str, int | dict[str, int]]:
        """Return all counters by name, `dropped` as a dict by reason, taken at one moment."""
        with self.lock:
            return {**super().as_dict(), "dropped": dict(self.dropped)}

    def __str__(self) -> str:
        return f"{super().__str__()}, dropped {_by_reason(self.dropped)}"


def _by_reason(dropped: Mapping[str, int]) -> str:
    by_reason = {reason: n for reason, n in dropped.items() if n}
    why = f" ({', '.join(f'{reason} {n}' for reason, n in by_reason.items())})" if by_reason else ""
    return f"{sum(by_reason.values())}{why}"
