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
from collections.abc import Iterable, Mapping, Sequence
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


class GroupStats(Counters):
    """What one log group received, and what it missed."""

    received = counter("packets", "Packets received and decoded.", always=True)
    gap = counter("packets", "Packets missing between sequence numbers, lost before they arrived here.", always=True)
    overrun = counter("events", "ENOBUFS from the socket: its buffer was full (`gap` counts the lost packets).")
    truncated = counter("datagrams", "Datagrams longer than the receive slot, cut by the kernel.")
    malformed = counter("messages", "Netlink messages that could not be decoded.")
    datagrams = counter("datagrams", "Netlink datagrams received.")
    bytes = counter("bytes", "Bytes of netlink datagrams received.")
    unresolved = counter(
        "datagrams", "Datagrams the kernel dropped after the last packet received; how many packets is not known yet."
    )


class CaptureStats(Counters):
    """What was read from a capture file, and what could not be read."""

    received = counter("packets", "Packets read and decoded.", always=True)
    malformed = counter("packets", "Packets left out: their link-layer header or their block is incomplete or wrong.")
    foreign = counter("packets", "Packets left out: the link type of their interface is not supported.")
    snapped = counter("packets", "Packets the file has only the beginning of (snaplen); `received` includes them.")
    broken = counter("files", "Files that are damaged or end in the middle of a packet; nothing after that is read.")
    bytes = counter("bytes", "Bytes read from the file, after decompression.")


class OutputStats(Counters):
    """What became of the records given to one output."""

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
    errors = counter("events", "Failed attempts to open, connect, write or resolve.")
    retries = counter("events", "Attempts repeated after a failure.")
    resent = counter("records", "Records sent again after a connection broke; they may have arrived twice.")
    maybe_lost = counter(
        "records",
        "At most so many of the `written` records a TCP peer had not read when it reset the connection or its host "
        "vanished: acknowledged by its kernel, within the last bytes that its receive buffer may have held (by the "
        "windows it offered), and not sent again.",
    )
    torn = counter("events", "Incomplete lines cut off (or closed by a newline) at the end of a file.")
    sync_errors = counter("events", "Failed fdatasync calls; a power failure may lose what was written before.")

    def __init__(self) -> None:
        super().__init__()
        #: Records discarded, by reason.
        self.dropped: dict[str, int] = dict.fromkeys(self.reasons, 0)

    def drop(self, reason: str, records: int) -> None:
        """Count `records` as discarded; a reason that was not declared is a KeyError."""
        with self.lock:
            self.dropped[reason] += records

    def as_dict(self) -> dict[str, int | dict[str, int]]:
        """Return all counters by name, `dropped` as a dict by reason, taken at one moment."""
        with self.lock:
            return {**super().as_dict(), "dropped": dict(self.dropped)}

    def __str__(self) -> str:
        by_reason = {reason: n for reason, n in self.dropped.items() if n}
        why = f" ({', '.join(f'{reason} {n}' for reason, n in by_reason.items())})" if by_reason else ""
        return f"{super().__str__()}, dropped {sum(by_reason.values())}{why}"
