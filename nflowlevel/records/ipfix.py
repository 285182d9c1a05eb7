# SPDX-License-Identifier: GPL-2.0-or-later
"""Encode batches as data records of IPFIX (RFC 7011): which elements each kind of record has, and in which order.

A `Form` is a list of fields. A record has those of its class, so flows of IPv4 and IPv6, with ports and without,
translated and not have a template each. Encoded records are rows (spool/rows.py) whose layout tells the templates: a
later version, or a process with other options, can still send what waits in a spool.

Elements are numbered by (vendor, element) as in keys.py; vendor 0 is IANA's, 29305 the reverse direction (RFC 5103).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.records.flow import FLOW
from nflowlevel.records.keys import BY_NAME, Condition, FlowCondition, PacketCondition
from nflowlevel.records.packet import PACKET
from nflowlevel.records.sums import SUM
from nflowlevel.records.types import RecordType

if TYPE_CHECKING:
    from nflowlevel.records.batch import Batch

REVERSE = 29305
_NETFILTER = 21373
#: The length in a template of what has its length in the record.
VARIABLE = 65535
#: What a text of variable length takes besides: more than 254 bytes are never written.
_LENGTH_BYTES = 1

_CLASSES = int(lib.NFL_IPFIX_CLASSES)
_RECORD_MAX = int(lib.NFL_IPFIX_RECORD_MAX)
_ALWAYS_LATER = 255
_BUFFER_BYTES = 1 << 20

_uninitialised = ffi.new_allocator(should_clear_after_alloc=False)

_IDENTITY = "nflowlevel/ipfix/1"
_ITEM = re.compile(r"(\d+)\.(\d+):(\d+)(?:<(\d+))?\?(\d+)=(\d+)")


class Element(NamedTuple):
    """A field of a template. Records of a class have it where `class & mask == value`."""

    vendor: int
    number: int
    length: int
    """Bytes, or VARIABLE."""
    most: int
    """Bytes that it takes at most."""
    mask: int
    value: int

    @property
    def item(self) -> str:
        """As it stands in a layout: `vendor.number:length?mask=value`, with `<most` behind a length that varies."""
        most = f"<{self.most}" if self.length == VARIABLE else ""
        return f"{self.vendor}.{self.number}:{self.length}{most}?{self.mask}={self.value}"

    @classmethod
    def of_item(cls, item: str) -> Element:
        """Read it; ValueError where it is none."""
        found = _ITEM.fullmatch(item)
        if not found:
            raise ValueError(f"'{item}' is no field of a template")
        vendor, number, length, most, mask, value = (int(part or 0) for part in found.groups())
        if not (vendor < 1 << 32 and 0 < number < 1 << 15 and length <= VARIABLE and mask < _CLASSES):
            raise ValueError(f"'{item}' is no field of a template")
        return cls(vendor, number, length, most if length == VARIABLE else length, mask, value)

    @property
    def definition(self) -> bytes:
        """As it stands in a template record (RFC 7011, 3.2)."""
        if self.vendor:
            return struct.pack("!HHI", 1 << 15 | self.number, self.length, self.vendor)
        return struct.pack("!HH", self.number, self.length)


class Template(NamedTuple):
    """The template of one class."""

    id: int
    elements: tuple[Element, ...]

    @property
    def definition(self) -> bytes:
        """The template record."""
        head = struct.pack("!HH", self.id, len(self.elements))
        return head + b"".join(element.definition for element in self.elements)

    @property
    def least(self) -> int:
        """Bytes of the shortest record."""
        return sum(_LENGTH_BYTES if e.length == VARIABLE else e.length for e in self.elements)

    @property
    def most(self) -> int:
        """Bytes of the longest record."""
        return sum(element.most for element in self.elements)


def templates(layout: Sequence[str], first: int) -> dict[int, Template]:
    """Return the templates of a layout by class, numbered from `first`; ValueError where it is no layout of ours."""
    if len(layout) < 3 or layout[0] != _IDENTITY:
        raise ValueError("these rows were not made for IPFIX")
    elements = [Element.of_item(item) for item in layout[2:]]
    found = {}
    for class_ in range(_CLASSES):
        fields = tuple(each for each in elements if class_ & each.mask == each.value)
        template = Template(first + class_, fields)
        if fields and template.most <= _RECORD_MAX:
            found[class_] = template
    return found


def form_name(layout: Sequence[str]) -> str:
    """Return the name of the form that rows of this layout have."""
    return layout[1] if len(layout) > 1 and layout[0] == _IDENTITY else ""


class _Field(NamedTuple):
    element: Element
    c: dict[str, int]


class Form:
    """The fields of one kind of records, and how C makes them. One thread encodes at a time."""

    def __init__(self, name: str, type_: RecordType, conditions: Sequence[Condition | int]) -> None:
        self.name = name
        self.type = type_
        self._conditions = [each if isinstance(each, int) else int(each.value) for each in conditions]
        self._bits = {each: 1 << number for number, each in enumerate(conditions)}
        self._fields: list[_Field] = []
        self._layout: tuple[str, ...] = ()
        self._plan: CData | None = None
        self._out: CData | None = None

    @property
    def layout(self) -> tuple[str, ...]:
        """What rows of this form have; the same object each time, once all fields are added."""
        if len(self._layout) != self.count + 2:
            self._layout = (_IDENTITY, self.name, *(field.element.item for field in self._fields))
        return self._layout

    @property
    def count(self) -> int:
        """How many fields there are."""
        return len(self._fields)

    def where(self, *holds: Condition | int, lacks: Sequence[Condition | int] = ()) -> tuple[int, int]:
        """Return mask and value of the classes for which some conditions hold and others do not."""
        value = sum(self._bits[each] for each in holds)
        return value + sum(self._bits[each] for each in lacks), value

    def add(
        self,
        element: tuple[int, int] | None,
        width: int,
        name: str,
        *,
        kind: int = lib.NFL_IPFIX_UNSIGNED,
        where: tuple[int, int] = (0, 0),
        other: str = "",
        otherwise: int = _ALWAYS_LATER,
        plus: int = 0,
    ) -> None:
        """Add the key of that name; its element is that of the key where None is given.

        `width` are the bytes of it, or of a text the most that it has. `other` is the second key that a kind needs.
        """
        key = self.type.by_name.get(name) or BY_NAME[name]
        element = element or key.ipfix
        if element is None:
            raise ValueError(f"{name} has no element of IPFIX")
        texts = kind in (lib.NFL_IPFIX_CHARS, lib.NFL_IPFIX_TEXT)
        second = self.type.offset_of(other) if other else 0
        if kind == lib.NFL_IPFIX_TEXT:
            second = self.type.offset_of(key.length)
        self._fields.append(
            _Field(
                Element(*element, VARIABLE if texts else width, width + _LENGTH_BYTES if texts else width, *where),
                {
                    "kind": kind,
                    "valid": key.valid.value,
                    "mask": where[0],
                    "value": where[1],
                    "size": width if texts else min(self.type.field_size(key.field), 8),
                    "width": width,
                    "add": plus,
                    "otherwise": otherwise,
                    "field": self.type.offset_of(key.field),
                    "field2": second,
                },
            )
        )

    def encode(self, batch: Batch) -> Iterator[tuple[bytes, int]]:
        """Yield (rows, number of rows) of a batch, whose records are of the form's type."""
        raw = batch.raw
        # What is kept has its pages: to take fresh ones from the system costs as much as to encode.
        if self._out is None:
            self._out = _uninitialised("uint8_t[]", _BUFFER_BYTES)
        out, first, done = self._out, 0, ffi.new("uint32_t *")
        while first < raw.count:
            used = lib.nfl_ipfix_encode(self._as_c(), raw.as_c(), first, out, _BUFFER_BYTES, done)
            yield ffi.buffer(out, used)[:], done[0] - first
            first = done[0]

    def _as_c(self) -> CData:
        if self._plan is None:
            fields = ffi.new("struct nfl_ipfix_field[]", [field.c for field in self._fields])
            plan = {"fields": fields, "count": len(self._fields), "condition_count": len(self._conditions)}
            self._plan = ffi.new("struct nfl_ipfix_plan *", {**plan, "conditions": self._conditions})
            self._kept = fields
        return self._plan


_MILLISECONDS_START, _MILLISECONDS_END = (0, 152), (0, 153)
_TRANSLATED, _BEGINS_OR_ENDS = int(lib.NFL_IPFIX_TRANSLATED), int(lib.NFL_IPFIX_BEGINS_OR_ENDS)

#: Elements of our own, under the number of the enterprise that the user has: key, number, bytes.
OWN_ELEMENTS: tuple[tuple[str, int, int], ...] = (
    ("ct.zone", 1, 2),
    ("ct.zone.reply", 2, 2),
    ("ct.status", 3, 4),
    ("ct.labels", 4, 16),
    ("ct.helper", 5, 16),
    ("tcp.state", 6, 1),
    ("flow.number", 7, 4),
    ("flow.last", 8, 1),
)


def flow_form(enterprise: int = 0, *, nat_event: bool = True) -> Form:
    """Return what is said of flows; with an enterprise number also OWN_ELEMENTS."""
    c = FlowCondition
    form = Form("flow", FLOW, (c.IP6, c.PORTS, c.ICMP, c.ICMPV6, c.COUNTED, c.REASON, _TRANSLATED, _BEGINS_OR_ENDS))
    four, six = form.where(lacks=(c.IP6,)), form.where(c.IP6)
    counted, ports = form.where(c.COUNTED), form.where(c.PORTS)
    form.add((0, 8), 4, "orig.ip.saddr", kind=lib.NFL_IPFIX_BYTES, where=four)
    form.add((0, 12), 4, "orig.ip.daddr", kind=lib.NFL_IPFIX_BYTES, where=four)
    form.add((0, 27), 16, "orig.ip.saddr", kind=lib.NFL_IPFIX_BYTES, where=six)
    form.add((0, 28), 16, "orig.ip.daddr", kind=lib.NFL_IPFIX_BYTES, where=six)
    form.add(None, 2, "orig.l4.sport", where=ports)
    form.add(None, 2, "orig.l4.dport", where=ports)
    form.add((0, 32), 2, "icmp.type", other="icmp_code", kind=lib.NFL_IPFIX_PAIR, where=form.where(c.ICMP))
    form.add((0, 139), 2, "icmpv6.type", other="icmpv6_code", kind=lib.NFL_IPFIX_PAIR, where=form.where(c.ICMPV6))
    form.add(None, 1, "orig.ip.protocol")
    form.add((0, 1), 8, "orig.raw.pktlen", where=counted)
    form.add((0, 2), 8, "orig.raw.pktcount", where=counted)
    form.add((REVERSE, 1), 8, "reply.raw.pktlen", where=counted)
    form.add((REVERSE, 2), 8, "reply.raw.pktcount", where=counted)
    # The end has the number that comes behind it.
    form.add(
        _MILLISECONDS_START,
        8,
        "flow.start.sec",
        other="flow_start_usec",
        kind=lib.NFL_IPFIX_TIME,
        otherwise=form.count + 1,
    )
    form.add(_MILLISECONDS_END, 8, "flow.end.sec", other="flow_end_usec", kind=lib.NFL_IPFIX_TIME)
    form.add(None, 4, "ct.mark")
    form.add((0, 148), 8, "ct.id")
    form.add(None, 1, "flow.end.reason", where=form.where(c.REASON))
    # What the packets of the original direction have become (RFC 8158): the reply's addresses, the other way round.
    translated4, translated6 = form.where(_TRANSLATED, lacks=(c.IP6,)), form.where(_TRANSLATED, c.IP6)
    form.add((0, 225), 4, "reply.ip.daddr", kind=lib.NFL_IPFIX_BYTES, where=translated4)
    form.add((0, 226), 4, "reply.ip.saddr", kind=lib.NFL_IPFIX_BYTES, where=translated4)
    form.add((0, 281), 16, "reply.ip.daddr", kind=lib.NFL_IPFIX_BYTES, where=translated6)
    form.add((0, 282), 16, "reply.ip.saddr", kind=lib.NFL_IPFIX_BYTES, where=translated6)
    form.add((0, 227), 2, "reply.l4.dport", where=form.where(_TRANSLATED, c.PORTS))
    form.add((0, 228), 2, "reply.l4.sport", where=form.where(_TRANSLATED, c.PORTS))
    if nat_event:
        event = form.where(_TRANSLATED, _BEGINS_OR_ENDS, lacks=(c.IP6,))
        form.add((0, 230), 1, "ct.event", kind=lib.NFL_IPFIX_NAT_EVENT, where=event)
    for name, number, width in OWN_ELEMENTS if enterprise else ():
        kinds = {"fixed": lib.NFL_IPFIX_BYTES, "chars": lib.NFL_IPFIX_CHARS}
        kind = kinds.get(FLOW.by_name[name].kind, lib.NFL_IPFIX_UNSIGNED)
        form.add((enterprise, number), width, name, kind=kind)
    return form


def ulogd2_form() -> Form:
    """Return what ulogd2 says of flows: ten fields, both directions added up; its template has number 256.

    IPv6, which ulogd2 cannot say, has the same fields with its own addresses.
    """
    c = FlowCondition
    form = Form("ulogd2", FLOW, (c.IP6,))
    four, six = form.where(lacks=(c.IP6,)), form.where(c.IP6)
    form.add((0, 8), 4, "orig.ip.saddr", kind=lib.NFL_IPFIX_BYTES, where=four)
    form.add((0, 12), 4, "orig.ip.daddr", kind=lib.NFL_IPFIX_BYTES, where=four)
    form.add((0, 27), 16, "orig.ip.saddr", kind=lib.NFL_IPFIX_BYTES, where=six)
    form.add((0, 28), 16, "orig.ip.daddr", kind=lib.NFL_IPFIX_BYTES, where=six)
    form.add((0, 86), 4, "orig.raw.pktcount", other="reply_raw_pktcount", kind=lib.NFL_IPFIX_SUM)
    form.add((0, 85), 4, "orig.raw.pktlen", other="reply_raw_pktlen", kind=lib.NFL_IPFIX_SUM)
    form.add((0, 150), 4, "flow.start.sec", other="flow_start_usec", kind=lib.NFL_IPFIX_TIME, otherwise=form.count + 1)
    form.add((0, 151), 4, "flow.end.sec", other="flow_end_usec", kind=lib.NFL_IPFIX_TIME)
    form.add(None, 2, "orig.l4.sport")
    form.add(None, 2, "orig.l4.dport")
    form.add(None, 1, "orig.ip.protocol")
    form.add((0, 95), 4, "ct.mark")
    return form


def packet_form(type_: RecordType = PACKET) -> Form:
    """Return what is said of packets: a flow of one packet, as collectors know it. `type_` begins as packets do."""
    c = PacketCondition
    form = Form("packet", type_, (c.IP6, c.IP, c.TCP, c.UDP, c.ICMP, c.ICMPV6, c.SCTP, c.PREFIX))
    four, six = form.where(c.IP, lacks=(c.IP6,)), form.where(c.IP, c.IP6)
    form.add((0, 8), 4, "ip.saddr", kind=lib.NFL_IPFIX_BYTES, where=four)
    form.add((0, 12), 4, "ip.daddr", kind=lib.NFL_IPFIX_BYTES, where=four)
    form.add((0, 27), 16, "ip.saddr", kind=lib.NFL_IPFIX_BYTES, where=six)
    form.add((0, 28), 16, "ip.daddr", kind=lib.NFL_IPFIX_BYTES, where=six)
    for protocol, condition in (("tcp", c.TCP), ("udp", c.UDP), ("sctp", c.SCTP)):
        form.add((0, 7), 2, f"{protocol}.sport", where=form.where(condition))
        form.add((0, 11), 2, f"{protocol}.dport", where=form.where(condition))
    form.add((0, 6), 1, "tcp.urg", kind=lib.NFL_IPFIX_TCP_FLAGS, where=form.where(c.TCP))
    form.add((0, 32), 2, "icmp.type", other="icmp_code", kind=lib.NFL_IPFIX_PAIR, where=form.where(c.ICMP))
    form.add((0, 139), 2, "icmpv6.type", other="icmpv6_code", kind=lib.NFL_IPFIX_PAIR, where=form.where(c.ICMPV6))
    form.add(None, 1, "ip.protocol", where=form.where(c.IP))
    form.add(None, 1, "ip.tos", where=four)
    form.add(None, 1, "ip.ttl", where=four)
    form.add((0, 5), 1, "ip6.priority", where=six)
    form.add((0, 192), 1, "ip6.hoplimit", where=six)
    form.add((0, 31), 4, "ip6.flowlabel", where=six)
    form.add((0, 1), 8, "ip.totlen", where=four)
    form.add((0, 1), 8, "ip6.payloadlen", where=six, plus=40)
    form.add((0, 1), 8, "raw.pktlen", where=form.where(lacks=(c.IP,)))
    form.add(None, 8, "raw.pktcount")
    for element in (_MILLISECONDS_START, _MILLISECONDS_END):
        form.add(element, 8, "oob.time.sec", other="oob_time_usec", kind=lib.NFL_IPFIX_TIME)
    form.add(None, 4, "oob.ifindex_in")
    form.add(None, 4, "oob.ifindex_out")
    form.add(None, 4, "oob.mark")
    form.add(None, 1, "oob.hook")
    form.add(None, 127, "oob.prefix", kind=lib.NFL_IPFIX_TEXT, where=form.where(c.PREFIX))
    return form


#: selectorName (RFC 5477): what an accounting object counts is what a rule has selected.
_SELECTOR_NAME = (0, 335)
_NAME_BYTES = 200


def sum_form(*, deltas: bool) -> Form:
    """Return what is said of accounting objects: what was counted since the last poll, or altogether."""
    form = Form("deltas" if deltas else "totals", SUM, ())
    form.add(_SELECTOR_NAME, 31, "sum.name", kind=lib.NFL_IPFIX_CHARS)
    form.add((0, 1 if deltas else 85), 8, "sum.bytes")
    form.add((0, 2 if deltas else 86), 8, "sum.pkts")
    form.add(_MILLISECONDS_END, 8, "oob.time.sec", other="time_usec", kind=lib.NFL_IPFIX_TIME)
    return form


def named_layout(*, deltas: bool) -> tuple[str, ...]:
    """Return the layout of accounting objects that are columns, not records: that of `sum_form` with longer names."""
    one, two = (1, 2) if deltas else (85, 86)
    fixed = (Element(0, one, 8, 8, 0, 0), Element(0, two, 8, 8, 1, 1), Element(0, 153, 8, 8, 0, 0))
    name = Element(*_SELECTOR_NAME, VARIABLE, _NAME_BYTES + _LENGTH_BYTES, 0, 0)
    return (_IDENTITY, "deltas" if deltas else "totals", *(each.item for each in (name, *fixed)))


_NAMED_CLASSES = (struct.Struct("!QQ"), struct.Struct("!QQQ"))


def encode_named(batch: Batch) -> tuple[bytes, int]:
    """Return the rows, of `named_layout`, of accounting objects that are columns; quotas have no packets."""
    second, usec = batch.raw.time
    rows = []
    for name, packets, size in batch.rows("sum.name", "sum.pkts", "sum.bytes"):
        text = str(name).encode("utf-8", "surrogateescape")[:_NAME_BYTES]
        milliseconds = second * 1000 + (usec or 0) // 1000
        numbers = (size or 0, milliseconds) if packets is None else (size or 0, packets, milliseconds)
        class_ = len(numbers) - 2
        rows.append(row_of(class_, bytes((len(text),)) + text + _NAMED_CLASSES[class_].pack(*numbers)))
    return b"".join(rows), len(rows)


def row_of(class_: int, record: bytes) -> bytes:
    """Return a data record as a row."""
    row = ffi.new("uint8_t[]", bytes((0, class_)) + record + b"\0")
    return bytes(ffi.buffer(row, lib.nfl_ipfix_row(row, len(record))))
