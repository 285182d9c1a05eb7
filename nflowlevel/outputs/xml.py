# SPDX-License-Identifier: GPL-2.0-or-later
"""XML: documents with an element for each packet, flow or accounting object, in a directory or on standard output.

The file is `ulogd-pkt-DDMMYYYY-hhmmss.xml`, or `ulogd-flow-…` for flows and `ulogd-sum-…` for accounting objects, after
the local time when it was opened. If the name is taken, `-1`, `-2` and so on is added before `.xml`. SIGHUP completes
the document and begins the next one. Each record is one line, here broken in two:

    <log><when><hour>9</hour>…</when><prefix>DROP </prefix><hook>1</hook><hw>…</hw><mark>7</mark><indev>2</indev>
    <payload>4500…</payload></log>

The time is that of the record; `wday` is 1 on Sundays. Interfaces are numbers; `proto`, `src` and `payload` are hex
digits; `mark` is left out if it is 0. Filters of the stack do not change the elements. `<flow>` is the element of
`conntrack -o xml`, followed by the time of reading. A packet with `attach_conntrack` has none: XML shows flows of NFCT.

A document of any length is well-formed. Characters that XML reserves are written as references. What XML cannot hold
(control characters, bytes that are not UTF-8, U+FFFE and U+FFFF) becomes U+FFFD. A crash or a full disk can leave a
document without its end. The next start with the same directory adds the end after the last complete element. It does
so only if the file system has leases (fcntl(2)): they tell whether another process still writes the document.

On a full disk records wait in memory, up to `max_pending_bytes`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from nflowlevel.binding.rootpath import DocumentDoor
from nflowlevel.delivery.documents import Documents, finish
from nflowlevel.delivery.target import MAX_PENDING_BYTES
from nflowlevel.logs import Limited
from nflowlevel.options import Options
from nflowlevel.plugin.contract import Finding, Member
from nflowlevel.plugin.lines import Sync, TargetOutput
from nflowlevel.records.keys import TIME_KEY, Key, published_by
from nflowlevel.records.render import Part, XMLPlan

if TYPE_CHECKING:
    from nflowlevel.records.batch import Batch


class XMLOptions(Options, frozen=True, kw_only=True):
    """Options of XML; names as in ulogd.conf."""

    directory: Annotated[str, Meta(min_length=1, description="Directory of the documents.")] = "/var/log/"
    sync: Sync = False
    stdout: Annotated[
        bool, Meta(description="Write one document to standard output instead, which SIGHUP does not end.")
    ] = False
    max_pending_bytes: Annotated[
        int, Meta(ge=0, description="Most bytes of records kept in memory while the disk is full.")
    ] = MAX_PENDING_BYTES


def _element(name: str, key: Key, form: str = "") -> Part:
    return Part(f"<{name}>", key, f"</{name}>", form)


#: Of packets and flows the input's own keys: a later plugin may publish another `oob.protocol`.
_PACKET = {key.name: key for key in published_by("NFLOG")}
_FLOW = {key.name: key for key in published_by("NFCT")}
_SUM = {key.name: key for key in published_by("NFACCT")}

_PACKET_PARTS = (
    _element("when", TIME_KEY, "when"),
    _element("prefix", _PACKET["oob.prefix"]),
    _element("hook", _PACKET["oob.hook"]),
    Part("<hw><proto>", _PACKET["oob.protocol"], "</proto>", "hex4"),
    _element("src", _PACKET["raw.mac.saddr"], "hex"),
    Part("</hw>", _PACKET["oob.protocol"], "", "word"),
    _element("mark", _PACKET["oob.mark"], "set"),
    _element("indev", _PACKET["oob.ifindex_in"]),
    _element("outdev", _PACKET["oob.ifindex_out"]),
    _element("physindev", _PACKET["oob.physindev"]),
    _element("physoutdev", _PACKET["oob.physoutdev"]),
    _element("payload", _PACKET["raw.pkt"], "hex"),
)
_FLOW_PARTS = (
    # Whatever the key: the elements are made of the whole record.
    Part("", _FLOW["oob.family"], "</meta>", "flow"),
    _element("when", TIME_KEY, "when"),
    _element("helper", _FLOW["ct.helper"]),
)
_SUM_PARTS = (
    _element("name", _SUM["sum.name"]),
    _element("pkts", _SUM["sum.pkts"], "long"),
    _element("bytes", _SUM["sum.bytes"], "long"),
    Part("", TIME_KEY, "", "when"),
)

#: By the infix of a document's name: its root, and the element of a record.
_ROOTS = {"pkt": "packet", "flow": "conntrack", "sum": "sum"}
_PLANS = {"pkt": ("log", _PACKET_PARTS), "flow": ("flow", _FLOW_PARTS), "sum": ("obj", _SUM_PARTS)}
#: What is in each record of a kind; all others are packets.
_TOLD_BY = {"sum.name": "sum", "orig.ip.protocol": "flow"}


def _keys(parts: tuple[Part, ...]) -> Iterator[Key]:
    return (part.key for part in parts if part.key is not TIME_KEY)


class XML(TargetOutput[XMLOptions, Documents]):
    """The XML plugin; see the module."""

    name = "XML"
    Options = XMLOptions
    consumes = tuple(
        f"[{name}]"
        for name in dict.fromkeys(
            (*(key.name for _, parts in _PLANS.values() for key in _keys(parts)), "orig.ip.protocol")
        )
    )
    accepts = frozenset(("raw", "packet", "flow", "sum"))
    one_kind = True

    def __init__(self, instance: str, options: XMLOptions) -> None:
        self._kind = "pkt"
        super().__init__(instance, options)
        self._plan: XMLPlan | None = None

    def bind(self, members: tuple[Member, ...]) -> None:
        """Learn which kind of records come: of one section, XML is an output for each kind."""
        kind = next((_TOLD_BY[name] for name, _ in members if name in _TOLD_BY), "pkt")
        if self._plan is None or kind != self._kind:
            self._kind, self._plan = kind, XMLPlan(*_PLANS[kind])

    def write(self, batch: Batch) -> None:
        """Write the batch's elements, or keep what cannot be written now."""
        assert self._plan is not None, "XML is used before bind()"
        if batch:
            for lines, count in self._plan.render(batch.raw, batch.added):
                self._target.write(lines, count)

    def make_target(self) -> Documents:
        """Return what makes the documents."""
        options = self.options
        return Documents(
            "-" if options.stdout else options.directory,
            self._prefix,
            head=self._head,
            foot=self._foot,
            sync=options.sync,
            max_pending_bytes=options.max_pending_bytes,
            stats=self._stats,
            limited=Limited(),
        )

    @property
    def _prefix(self) -> str:
        return f"ulogd-{self._kind}-"

    @property
    def _head(self) -> bytes:
        return f'<?xml version="1.0" encoding="utf-8"?>\n<{_ROOTS[self._kind]}>\n'.encode()

    @property
    def _foot(self) -> bytes:
        return f"</{_ROOTS[self._kind]}>\n".encode()

    def load(self) -> None:
        """Complete, while we are root, what an earlier process left in a directory that only root can change."""
        if not self.options.stdout:
            owners = (os.geteuid(),)
            finish(self.options.directory, self._prefix, self._head, self._foot, owners=owners, only_roots=True)

    def doors(self, uid: int) -> Iterator[DocumentDoor]:
        """Yield the directory, where root has to make the documents."""
        if not self.options.stdout:
            yield DocumentDoor(self.options.directory, self._prefix, uid)

    def needs(self) -> Iterator[Finding]:
        """The directory."""
        from nflowlevel.plugin import reach

        if not self.options.stdout:
            yield from reach.existing_directory(self.options.directory)

    def examine(self) -> Iterator[Finding]:
        """Look whether documents can be made."""
        # Late: the daemon examines nothing.
        from nflowlevel.plugin import reach

        yield from reach.file("-") if self.options.stdout else reach.existing_directory(self.options.directory)
