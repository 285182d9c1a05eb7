# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON: one JSON object per record and line, to a file, a FIFO, standard output, or a TCP, UDP or unix socket.

Members and their order are those of ulogd2: `timestamp` (ISO 8601, always with the zone), `dvc`, then the keys of the
stack. Addresses and ports have their CIM names (`src_ip`, `dest_ip`, `src_port`, `dest_port`). Logstash, Splunk and jq
read the lines as they are. Text that is not UTF-8 is kept, with U+FFFD for each bad byte.

Flows have the time at which they were read, and ulogd2's names for their ports and counts (`orig.l4.sport`,
`reply.raw.pktlen`); further keys only with `flow_keys=all`. With `cim`, members with CIM names stand behind these:
`src_port` and `dest_port`, `transport`, and the counts as `src_ip` sees them: `bytes_out` and `packets_out` are those
of the original direction, `bytes_in` and `packets_in` those of the reply.

A batch is one write. A full disk, a missing directory, or a peer that is stalled or absent stops nothing else. The
output keeps records, up to `max_pending_bytes`, and writes them when the target is back; beyond that limit it drops and
counts new records. No line is ever left torn, even after kill -9: when the file is opened again, the incomplete line of
a dead process is cut off. When a TCP or unix connection breaks, lines that the peer had not acknowledged are sent
again: a line may arrive twice.

What `written` means differs. In mode unix, the receiver has read the lines. In mode tcp, they were handed to the peer's
kernel: TCP acknowledges what waits in the receive buffer, and a receiver that is killed or restarted takes that with
it. After a reset the lines of the last 2 s are sent again, at most 1 MiB; `maybe_lost` counts the records that may have
been in the buffer besides, at most. What the receiver had read and not processed, no one can tell. In mode udp, lines
were sent, and no refusal came back. The outputs that know when a record is safe are those of databases: PGSQL, MYSQL
and SQLITE3 count it when it is committed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from nflowlevel.plugin.contract import ANY_KEYS, Member
from nflowlevel.plugin.lines import File, FlowKeys, LineOptions, LineOutput, flow_members
from nflowlevel.plugin.plans import Plans
from nflowlevel.records.keys import Key
from nflowlevel.records.render import JSONPlan

if TYPE_CHECKING:
    from nflowlevel.records.batch import Batch


#: The keys of a flow, and the names that they have besides with `cim`.
_CIM = {
    "orig.l4.sport": "src_port",
    "orig.l4.dport": "dest_port",
    "orig.raw.pktlen": "bytes_out",
    "reply.raw.pktlen": "bytes_in",
    "orig.raw.pktcount": "packets_out",
    "reply.raw.pktcount": "packets_in",
    "orig.ip.protocol": "transport",
}


class JSONOptions(LineOptions, frozen=True, kw_only=True):
    """Options of JSON; names as in ulogd.conf."""

    file: File = "/var/log/ulogd.json"
    timestamp: Annotated[bool, Meta(description="Begin each object with the time.")] = True
    eventv1: Annotated[bool, Meta(description="Use Logstash's names: `@version`, and `@timestamp` for the time.")] = (
        False
    )
    device: Annotated[str, Meta(description="Value of `dvc`, the firewall's name.")] = "Netfilter"
    flow_keys: FlowKeys = "ulogd2"
    cim: Annotated[
        bool,
        Meta(
            description="Add to flows `src_port`, `dest_port`, `bytes_out`, `bytes_in`, `packets_out`, `packets_in` "
            "and `transport`."
        ),
    ] = False
    boolean_label: Annotated[
        bool, Meta(description="Write `action` instead of `raw.label`: `blocked` for label 0, `allowed` for any other.")
    ] = False


class JSON(LineOutput[JSONOptions]):
    """The JSON plugin; see the module."""

    name = "JSON"
    Options = JSONOptions
    consumes = ANY_KEYS
    accepts = frozenset(("packet", "flow", "sum"))

    def __init__(self, instance: str, options: JSONOptions) -> None:
        super().__init__(instance, options)
        self._plan: JSONPlan | None = None
        self._plans = Plans(self._make_plan)

    def bind(self, members: tuple[Member, ...]) -> None:
        """Follow the plan of these members."""
        self._plan = self._plans.of(members)

    def _make_plan(self, members: tuple[Member, ...]) -> JSONPlan:
        """Make the plan that the renderer in C follows."""
        written = flow_members(members, self.options.flow_keys)
        shown = [(self._label(key_name, key), key) for key_name, key in written if _is_shown(key)]
        if self.options.cim:
            # Behind all others: who reads ulogd2's members by their places still can.
            there = dict(members)
            shown += [(name, there[key_name]) for key_name, name in _CIM.items() if key_name in there]
        return JSONPlan(
            shown,
            head=self._head,
            tail=f'", {self._device}' if self.options.timestamp else "",
            timestamp=self.options.timestamp,
            actions=frozenset(("action",)),
            protocols=frozenset((_CIM["orig.ip.protocol"],)),
        )

    @property
    def begins(self) -> bytes:
        """How every line begins: up to the time, or with the device."""
        return self._head.encode()

    @property
    def _head(self) -> str:
        options = self.options
        head = '{"@version": 1, ' if options.eventv1 else "{"
        if not options.timestamp:
            return head + self._device
        return head + ('"@timestamp": "' if options.eventv1 else '"timestamp": "')

    @property
    def _device(self) -> str:
        # Bytes of the configuration that are not UTF-8 come as surrogates.
        name = self.options.device.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return f'"dvc": {json.dumps(name, ensure_ascii=False)}'

    def _label(self, name: str, key: Key) -> str:
        if name == "raw.label" and self.options.boolean_label:
            return "action"
        return key.cim or name

    def render(self, batch: Batch) -> Iterator[tuple[memoryview, int]]:
        """Yield the batch's lines and their number, usually at once; the memory is good until the next is asked for."""
        assert self._plan is not None, "JSON is used before bind()"
        # A batch without records may lack the columns of the stack's others.
        return self._plan.render(batch.raw, batch.added) if batch else iter(())


def _is_shown(key: Key) -> bool:
    """Whether JSON has a form for it: as in ulogd2, raw bytes and numeric addresses are left out."""
    return key.type not in ("raw", "rawstr", "ipaddr")
