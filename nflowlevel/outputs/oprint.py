# SPDX-License-Identifier: GPL-2.0-or-later
"""OPRINT: one line `name=value` for each value of a record, to a file, a FIFO, standard output, or a socket.

    ===>PACKET BOUNDARY
    raw.pktlen=35
    ip.saddr=10.77.0.2

The line `===>PACKET BOUNDARY` begins each record. Its values are the keys of the stack, in its order; keys without a
value are left out. Raw bytes and the numbers of IP2BIN are shown as the word `default`, as in ulogd2. A name that
several plugins publish appears once for each of them, always with the same value. Addresses are text, also those of
IPv6.

To parse a line, split it at its first `=`. Then undo the escapes in the value: `\\\\` is a backslash, `\\n` a newline,
`\\r` a carriage return, `\\t` a tab; any other control character is `\\x` and two hex digits. All other bytes are as
they were. So no prefix can add a line or a record.

No record is left torn at the end of a file; over UDP, each record is a datagram. Records that cannot be written wait in
memory and are sent later, as with JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nflowlevel.delivery.form import BlockForm
from nflowlevel.plugin.contract import ANY_KEYS, Member
from nflowlevel.plugin.lines import File, FlowKeys, LineOptions, LineOutput, flow_members
from nflowlevel.plugin.plans import Plans
from nflowlevel.records.render import ItemPlan

if TYPE_CHECKING:
    from nflowlevel.records.batch import Batch

_BOUNDARY = b"===>PACKET BOUNDARY"

#: ulogd2 has one key more in all records of these inputs, behind this one: an object of its own, which OPRINT takes for
#: a value of raw bytes. Nothing else can be said of it, so it is no key of ours.
_OBJECTS = {
    ("NFLOG", "raw.mac.addrlen"): "raw",
    ("NFCT", "oob.protocol"): "ct",
    ("NFACCT", "sum.bytes"): "sum",
}


class OPRINTOptions(LineOptions, frozen=True, kw_only=True):
    """Options of OPRINT; names as in ulogd.conf."""

    file: File = "/var/log/ulogd_oprint.log"
    flow_keys: FlowKeys = "ulogd2"


class OPRINT(LineOutput[OPRINTOptions]):
    """The OPRINT plugin; see the module."""

    name = "OPRINT"
    Options = OPRINTOptions
    consumes = ANY_KEYS
    repeats = True
    accepts = frozenset(("raw", "packet", "flow", "sum"))
    form = BlockForm(_BOUNDARY)

    def __init__(self, instance: str, options: OPRINTOptions) -> None:
        super().__init__(instance, options)
        self._plan: ItemPlan | None = None
        self._plans = Plans(self._make_plan)

    def bind(self, members: tuple[Member, ...]) -> None:
        """Follow the plan of these members."""
        self._plan = self._plans.of(members)

    def _make_plan(self, members: tuple[Member, ...]) -> ItemPlan:
        """Make the plan that the renderer in C follows."""
        shown = _shown(tuple(flow_members(members, self.options.flow_keys)))
        return ItemPlan([*shown], separator=b"\n", head=_BOUNDARY + b"\n", words=frozenset(_OBJECTS.values()))

    def render(self, batch: Batch) -> Iterator[tuple[memoryview, int]]:
        """Yield the batch's lines and the number of records, usually at once; good until the next pair is asked for."""
        assert self._plan is not None, "OPRINT is used before bind()"
        return self._plan.render(batch.raw, batch.added) if batch else iter(())


def _shown(members: tuple[Member, ...]) -> Iterator[Member]:
    always = {key.plugin: key for _, key in reversed(members) if key.kind != "column" and not key.valid.value}
    for name, key in members:
        yield name, key
        if (key.plugin, name) in _OBJECTS:
            yield _OBJECTS[key.plugin, name], always[key.plugin]
