# SPDX-License-Identifier: GPL-2.0-or-later
"""GPRINT: one line of `name=value` items for each record, to a file, a FIFO, standard output, or a socket.

    timestamp=2026/11/27-08:32:59,raw.pktlen=35,raw.pktcount=1,oob.prefix=DROP ,…,ip.saddr=10.77.0.2,…,udp.dport=53,…

A line has the keys of the stack, in its order. Keys without a value in this record, and raw bytes, are left out. A name
that several plugins publish appears once for each of them, always with the same value. Addresses are text, also those
of IPv6. With `timestamp`, the first item is the local time of writing.

To parse a line, split it at each comma, and each item at its first `=`. Then undo the escapes in the value: `\\\\` is a
backslash, `\\n` a newline, `\\r` a carriage return, `\\t` a tab, `\\x2c` a comma; any other control character is `\\x`
and two hex digits. All other bytes are as they were, even if they are not UTF-8. So no prefix can add an item or a
line.

Lines that cannot be written wait in memory and are sent later, as with JSON.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from nflowlevel.plugin.contract import ANY_KEYS, Member
from nflowlevel.plugin.lines import File, FlowKeys, LineOptions, LineOutput, flow_members
from nflowlevel.plugin.plans import Plans
from nflowlevel.records.render import ItemPlan

if TYPE_CHECKING:
    from nflowlevel.records.batch import Batch
    from nflowlevel.records.keys import Key

_TIMESTAMP = "timestamp=%Y/%m/%d-%H:%M:%S,"


class GPRINTOptions(LineOptions, frozen=True, kw_only=True):
    """Options of GPRINT; names as in ulogd.conf."""

    file: File = "/var/log/ulogd_gprint.log"
    timestamp: Annotated[bool, Meta(description="Begin each line with the local time of writing.")] = False
    flow_keys: FlowKeys = "ulogd2"


class GPRINT(LineOutput[GPRINTOptions]):
    """The GPRINT plugin; see the module."""

    name = "GPRINT"
    Options = GPRINTOptions
    consumes = ANY_KEYS
    repeats = True
    accepts = frozenset(("raw", "packet", "flow", "sum"))

    def __init__(self, instance: str, options: GPRINTOptions) -> None:
        self._first: tuple[str, ...] = ()
        super().__init__(instance, options)
        self._plan: ItemPlan | None = None
        self._plans = Plans(self._make_plan)
        #: The second that the text was made for.
        self._stamp = 0, b""

    def bind(self, members: tuple[Member, ...]) -> None:
        """Follow the plan of these members."""
        self._first = tuple(_may_begin(members))
        self._plan = self._plans.of(members)

    def _make_plan(self, members: tuple[Member, ...]) -> ItemPlan:
        """Make the plan that the renderer in C follows."""
        shown = [(name, key) for name, key in flow_members(members, self.options.flow_keys) if _is_shown(key)]
        return ItemPlan(shown, separator=b",", head=self._timestamp())

    @property
    def begins(self) -> bytes:
        """How every line begins: with the time, or with what the names have in common that may be the first."""
        # Of texts, not of paths.
        return b"timestamp=" if self.options.timestamp else os.path.commonprefix(self._first).encode()  # noqa: RUF071

    def render(self, batch: Batch) -> Iterator[tuple[memoryview, int]]:
        """Yield the batch's lines and their number, usually at once; the memory is good until the next is asked for."""
        assert self._plan is not None, "GPRINT is used before bind()"
        if not batch:
            return iter(())
        self._plan.begin_with(self._timestamp())
        return self._plan.render(batch.raw, batch.added)

    def _timestamp(self) -> bytes:
        if not self.options.timestamp:
            return b""
        second = int(time.time())
        if self._stamp[0] != second:
            self._stamp = second, time.strftime(_TIMESTAMP, time.localtime(second)).encode()
        return self._stamp[1]


def _is_shown(key: Key) -> bool:
    """Whether GPRINT has a form for it: as in ulogd2, raw bytes are left out."""
    return key.type not in ("raw", "rawstr")


def _may_begin(members: tuple[Member, ...]) -> Iterator[str]:
    """Yield the names that a line may begin with: those up to the first that every record has."""
    for name, key in members:
        if _is_shown(key):
            yield f"{name}="
            if key.kind != "column" and not key.valid.value:  # ALWAYS
                return
