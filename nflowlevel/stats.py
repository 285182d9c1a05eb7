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
    gap = counter(
        "packets", "Packets missing between sequence numbers: lost before they reached nflowlevel.", always=True
    )
    overrun = counter("events", "ENOBUFS from the socket: its buffer was full (the loss itself is in gap).")
    truncated = counter("datagrams", "Datagrams longer than the receive slot, cut by the kernel.")
    malformed = counter("messages", "Netlink messages that could not be decoded.")
    datagrams = counter("datagrams", "Netlink datagrams received.")
    bytes = counter("bytes", "Bytes of netlink datagrams received.")
    unresolved = counter(
        "datagrams", "Datagrams the kernel dropped after the last packet received: no sequence number tells how many."
    )


class CaptureStats(Counters):
    """What was read from a capture file, and what could not be."""

    received = counter("packets", "Packets read and decoded.", always=True)
    malformed = counter(
        "packets", "Packets left out: their link-layer header or their block is not whole, or is wrong."
    )
    foreign = counter("packets", "Packets left out: the link type of their interface is not supported.")
    snapped = counter("packets", "Packets of which the file has only the beginning (snaplen); they are in `received`.")
    broken = counter("files", "Files that end in the middle of a packet, or are damaged: what comes after is not read.")
    bytes = counter("bytes", "Bytes read of the file, after decompression.")


class OutputStats(Counters):
    """What became of the records given to one output."""

    #: Why an output may discard a record. An output with reasons of its own extends this in a subclass.
    reasons: ClassVar[Mapping[str, str]] = {
        "full": "The target was away, slow or full for so long that the buffer in memory was full too.",
        "too_long": "The record does not fit into a datagram.",
        "stop": "The record was not accepted by the target before the daemon had to stop.",
    }

    records = counter("records", "Records given to the output.", always=True)
    written = counter("records", "Records the target accepted: a file's kernel, a peer's acknowledgement.", always=True)
    pending = counter("records", "Records in memory, waiting for the target.", gauge=True, always=True)
    pending_bytes = counter("bytes", "Bytes in memory, waiting for the target.", gauge=True)
    bytes = counter("bytes", "Bytes the target accepted.")
    errors = counter("events", "Failed attempts to open, connect, write or resolve.")
    retries = counter("events", "Attempts made again after a failure.")
    resent = counter("records", "Records sent again after a peer broke off: they may have come twice.")
    torn = counter("events", "Torn lines cut off (or closed by a newline) at the end of a file.")
    sync_errors = counter("events", "Failed fdatasync calls: what was written before may be lost with the power.")

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
