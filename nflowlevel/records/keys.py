# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue of keys: every named value a record can carry, declared once.

A key has ulogd2's name and type, the plugin that publishes it, the CIM name JSON uses for it, its IPFIX element, where it
lies in the C record (`field`, and `length` where its length is another field), the condition under which it holds
(`valid`), and how large its value gets (`most`, `longest`). Record types, stacks, JSON, columns, `sql check` and
docs/keys.md all read this table.

The same name may be published by several plugins (`oob.protocol` by NFLOG, BASE and HWHDR): in a stack the nearest one
before the reader counts. The order within a plugin is the order of members in a record; keys ulogd2 does not have stand
after its own.
"""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import NamedTuple


class Condition(Enum):
    """When keys hold. Each kind of record has its own; `value` is the number of the bit in `valid` of its C record.

    So the order is that of the C enum, and a new condition stands in both; tests/records/test_keys.py compares them.
    """

    text: str
    """For people: completes "holds where …"."""

    def __new__(cls, text: str) -> Condition:
        """Number the conditions of a kind, in their order."""
        made = object.__new__(cls)
        made._value_ = len(cls.__members__)
        made.text = text
        return made

    def __str__(self) -> str:
        return self.name


class PacketCondition(Condition):
    """When the keys of a packet hold: `enum nfl_valid` of _cdefs/packet.h."""

    ALWAYS = "always"
    PACKET_HDR = "the kernel provides it (always for packets of rules)"
    HOOK = "a rule logged the packet"
    PAYLOAD = "at least a part of the packet was copied"
    PREFIX = "the rule has a prefix"
    INDEV = "there is an input interface"
    OUTDEV = "there is an output interface"
    PHYSINDEV = "it came in by a bridge port"
    PHYSOUTDEV = "it leaves by a bridge port"
    HWHEADER = "the kernel has a link-layer header"
    HWADDR = "the kernel knows the sender's hardware address"
    SEQ = "asked for"
    SEQ_GLOBAL = "asked for"
    UID = "the kernel knows the sending socket"
    GID = "the kernel knows the sending socket"
    L2HDR = "bridge and netdev rules"
    CT = "asked for, and the packet has a connection"
    VLAN = "the frame has a VLAN tag"
    KERNEL_TIME = "the kernel stamped the packet"
    HWTYPE = "a link-layer header or the sender's hardware address is known"
    MAC_SADDR = "the sender's hardware address is known"
    MAC_DADDR = "there is an Ethernet header"
    IP = "IPv4 or IPv6"
    PROTOCOL = "IP, and the protocol's header can be reached"
    IP4 = "IPv4"
    IP6 = "IPv6"
    IP6_FRAG = "IPv6 fragment"
    TCP = "TCP"
    TCP_URGP = "TCP with URG"
    UDP = "UDP or UDP-Lite"
    UDP_LEN = "UDP"
    UDPLITE = "UDP-Lite"
    ICMP = "ICMP"
    ICMP_ECHO = "ICMP echo or echo reply"
    ICMP_GATEWAY = "ICMP types 5 and 12"
    ICMP_FRAGMTU = "ICMP type 3 code 4"
    ICMPV6 = "ICMPv6"
    ICMPV6_ECHO = "ICMPv6 echo request or reply"
    SCTP = "SCTP"
    SPI = "AH or ESP"
    ARP = "ARP"
    ARP_ADDR = "ARP for Ethernet and IPv4"


class ReportedCondition(Condition):
    """When the further keys of a reported packet hold: `enum nfl_reported_valid` of _cdefs/report.h.

    Their bits come after those of a packet.
    """

    ALWAYS = "always"
    NEVER = "never: no reporter can say it"
    PREFIX = "the reporter says it"
    PROTOCOL = "the packet is IPv4 or IPv6"
    SECONDS = "the reporter says it"
    IN = "the reporter says it"
    OUT = "the reporter says it"
    STATE = "the reporter says it"
    USER_NAME = "the reporter says it"
    USER_ID = "the reporter says it"
    OS_NAME = "the reporter says it"
    OS_REL = "the reporter says it"
    OS_VERS = "the reporter says it"
    APP_NAME = "the reporter says it"

    def __new__(cls, text: str) -> ReportedCondition:
        """Number them behind those of a packet."""
        made = object.__new__(cls)
        made._value_ = len(PacketCondition.__members__) + len(cls.__members__)
        made.text = text
        return made


class SumCondition(Condition):
    """When the keys of an accounting sum hold: `enum nfl_counter_valid` of _cdefs/counter.h."""

    ALWAYS = "always"
    TIME = "the option `timestamp` is on"


class FlowCondition(Condition):
    """When the keys of a flow hold: `enum nfl_flow_valid` of _cdefs/flow.h."""

    ALWAYS = "always"
    IP6 = "IPv6"
    PORTS = "TCP, UDP, UDP-Lite, SCTP or DCCP"
    ICMP = "ICMP"
    ICMPV6 = "ICMPv6"
    COUNTED = "the kernel counts what belongs to flows (nf_conntrack_acct)"
    EVENT = "the flow was reported, not listed"
    START = "the beginning of the flow is known"
    END = "the flow has ended"
    REASON = "the record closes a flow, or a part of a long one"
    STATUS = "the kernel says it"
    TIMEOUT = "the kernel says it"
    TCP = "TCP, and the kernel says its state"
    SCTP = "SCTP, and the kernel says its state"
    LABELS = "the flow has labels"
    HELPER = "the flow has a helper"
    IP4 = "IPv4"
    NAT = "NAT changes an address or a port"
    SNAT = "NAT changes the source"
    DNAT = "NAT changes the destination"
    SNAT_PORTS = "NAT changes the source, and the protocol has ports"
    DNAT_PORTS = "NAT changes the destination, and the protocol has ports"
    GRE = "GRE"


class AddedCondition(Condition):
    """When the keys hold that a plugin adds to a batch: there is no record that says so."""

    GIVEN = "always"
    FOUND = "the packet has such a command"
    TRANSLATED = "NAT changes an address or a port"
    ADDRESSED = "it has addresses and a protocol"


class Key(NamedTuple):
    """One key as one plugin publishes it."""

    name: str
    plugin: str
    type: str
    """ulogd2's type: uint8, uint16, uint32, uint64, bool (a number), ipaddr, string, rawstr (a number of many digits) or raw (bytes).
    Columns that plugins add may be int8 to int64 and double as well."""
    kind: str
    """How it lies in the record: u8 u16 u32 u64, addr addr4, fixed (bytes in the record), bytes or text (offset and length
    into the receive buffer), chars (text in the record), mac (hardware address in the record), macbytes (bytes as
    hardware address), ifname (an ifindex to look up), addrbin (an address in hex digits), addrnumber (an IPv4 address as
    a number in host order); column: in no record, the plugin adds it to the batch."""
    field: str
    valid: Condition
    meaning: str
    cim: str = ""
    ipfix: tuple[int, int] | None = None
    """(vendor, element); vendor 0 is IETF, 21373 Netfilter."""
    since: str = "ulogd2"
    """`ulogd2` for its own keys, `nflowlevel` for those it lacks."""
    length: str = ""
    """The field of the record that has its length; empty: it has none of its own."""
    most: int | None = None
    """The largest value of a number; None: it is not a whole number."""
    longest: int | None = None
    """Most characters of a text, or most bytes of raw; None: not known."""


#: The largest value of each type of whole numbers. A bool of ulogd2's may be a small number: such keys say so.
MOST: dict[str, int] = {f"uint{bits}": (1 << bits) - 1 for bits in (8, 16, 32, 64)}
MOST |= {f"int{bits}": (1 << bits - 1) - 1 for bits in (8, 16, 32, 64)}
MOST["bool"] = 1
#: The smallest one.
LEAST: dict[str, int] = {type_: -most - 1 if type_.startswith("int") else 0 for type_, most in MOST.items()}

#: The name under which the time of a record is asked for: seconds and microseconds together.
TIME = "oob.time"
#: What stands behind the name of a key whose address is wanted as a number.
AS_NUMBER = ":number"

#: What the length of a text or of bytes is called in the record, behind the name of the field.
_LENGTH = "_len"
_WITH_LENGTH = frozenset(("bytes", "text", "mac", "macbytes"))
#: Characters of a text by how it lies in the record. For a link-layer header, those of Ethernet; tunnels may have
#: longer ones. Bytes of an address that is hex digits.
_LONGEST = {"addr": 39, "addr4": 15, "mac": 23, "macbytes": 41, "ifname": 15, "addrbin": 16}

_KIND = {
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "uint64": "u64",
    "bool": "u8",
    "ipaddr": "addr",
    "raw": "bytes",
    "string": "text",
}


def _key(
    plugin: str,
    name: str,
    type_: str,
    valid: str | Condition,
    meaning: str,
    ipfix: tuple[int, int] | None = None,
    *,
    kind: str = "",
    field: str = "",
    cim: str = "",
    new: bool = False,
    length: str = "",
    most: int | None = None,
    longest: int | None = None,
) -> Key:
    field = field or name.replace(".", "_")
    kind = kind or _KIND[type_]
    if kind in _WITH_LENGTH:
        length = length or field + _LENGTH
    return Key(
        name,
        plugin,
        type_,
        kind,
        field,
        PacketCondition[valid] if isinstance(valid, str) else valid,
        meaning,
        cim,
        ipfix,
        "nflowlevel" if new else "ulogd2",
        length,
        MOST.get(type_) if most is None else most,
        _LONGEST.get(kind) if longest is None else longest,
    )


def added_key(name: str, type_: str, meaning: str, *, most: int | None = None, longest: int | None = None) -> Key:
    """Return the key of a column that a filter adds to its batches: for `adds` of a plugin.

    `type_` is uint8, uint16, uint32, uint64, int8 to int64, bool, double or string. `most` is its largest number where
    that is below what the type can hold, `longest` the most characters of a text; `nflowlevel sql check` compares both
    with the table. ValueError: a type that no column can have, or a text without a meaning.
    """
    if type_ not in MOST and type_ not in ("double", "string"):
        raise ValueError(
            f"added_key {name}: unknown type '{type_}'; available: {', '.join((*MOST, 'double', 'string'))}"
        )
    if not name or not meaning:
        raise ValueError(f"added_key {name!r}: a key must have a name and a meaning")
    most = MOST.get(type_) if most is None else most
    return Key(name, "", type_, "column", "", AddedCondition.GIVEN, meaning, "", None, "nflowlevel", "", most, longest)


#: What a record's time as one value is asked for with, under the name TIME.
TIME_KEY = Key(TIME, "", "time", "column", "", AddedCondition.GIVEN, "Time of the record.", since="nflowlevel")


#: No interface has a larger index.
_MOST_IFINDEX = 0x7FFF_FFFF


def _nflog() -> list[Key]:
    key = partial(_key, "NFLOG")
    new = partial(_key, "NFLOG", new=True)

    return [
        key("raw.mac", "raw", "HWHEADER", "Link-layer header; only if the kernel has one (input side).", longest=14),
        key("raw.pkt", "raw", "PAYLOAD", "The packet from its network header on, up to copy_range or snaplen.", (21373, 1), length="raw_pktlen", longest=0xFFFF),
        key("raw.pktlen", "uint32", "PAYLOAD", "Bytes of the packet that were captured.", (21373, 2), most=0xFFFF),
        key("raw.pktcount", "uint32", "ALWAYS", "Packets this record stands for: 1.", (0, 2), most=1),
        key("oob.prefix", "string", "PREFIX", "Prefix of the rule that logged the packet; empty for an nft rule without a prefix.", (21373, 3), longest=127),
        key("oob.time.sec", "uint32", "ALWAYS", "Seconds since 1970: the kernel's time stamp, otherwise the time of reception.", (0, 150)),
        key("oob.time.usec", "uint32", "ALWAYS", "Microseconds of the same time.", (0, 154), most=999_999),
        key("oob.mark", "uint32", "ALWAYS", "Mark of the packet; 0 if it has none.", (21373, 4)),
        key("oob.ifindex_in", "uint32", "INDEV", "Index of the interface the packet came in by.", (0, 10), most=_MOST_IFINDEX),
        key("oob.ifindex_out", "uint32", "OUTDEV", "Index of the interface it leaves by.", (0, 14), most=_MOST_IFINDEX),
        key("oob.hook", "uint8", "HOOK", "Netfilter hook (IP: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting).",
            (21373, 5), most=8),
        key("raw.mac_len", "uint16", "HWHEADER", "Bytes in raw.mac."),
        key("oob.seq.local", "uint32", "SEQ", "Sequence number within the group.", (21373, 7)),
        key("oob.seq.global", "uint32", "SEQ_GLOBAL", "Sequence number across all groups that ask for it.", (21373, 8)),
        key("oob.family", "uint8", "ALWAYS", "Family of the rule: 2 IPv4, 10 IPv6, 7 bridge, 3 ARP, 5 netdev.", most=12),
        key("oob.protocol", "uint16", "PACKET_HDR", "EtherType of the packet."),
        key("oob.uid", "uint32", "UID", "ID of the user that owns the sending socket, if the kernel knows it."),
        key("oob.gid", "uint32", "GID", "ID of the group that owns the sending socket."),
        key("raw.label", "uint8", "ALWAYS", "`numeric_label` of the input: by convention 0 means blocked, any other value allowed."),
        key("raw.type", "uint16", "HWHEADER", "Link type (ARPHRD_*; 1 is Ethernet)."),
        key("raw.mac.saddr", "raw", "HWADDR", "Hardware address of the sender.", (0, 56), kind="fixed", length="raw_mac_addrlen", longest=8),
        key("raw.mac.addrlen", "uint16", "HWADDR", "Bytes in raw.mac.saddr.", most=8),
        key("ct", "raw", "CT", "Conntrack entry as the kernel attached it; only with attach_conntrack.", longest=1024),
        new("oob.physindev", "uint32", "PHYSINDEV", "Index of the bridge port the packet came in by.", most=_MOST_IFINDEX),
        new("oob.physoutdev", "uint32", "PHYSOUTDEV", "Index of the bridge port it leaves by.", most=_MOST_IFINDEX),
        new("vlan.id", "uint16", "VLAN", "VLAN of the outermost 802.1Q or 802.1ad tag.", most=0xFFF),
        new("vlan.priority", "uint8", "VLAN", "Priority code point of the VLAN tag.", most=7),
        new("vlan.protocol", "uint16", "VLAN", "EtherType of the tag: 0x8100 or 0x88a8."),
        new("raw.l2hdr", "raw", "L2HDR", "Link-layer header of a bridged packet, tags included (NFULA_L2HDR).", longest=14),
    ]  # fmt: skip


def _base() -> list[Key]:
    key = partial(_key, "BASE")

    return [
        key("ip.saddr", "ipaddr", "IP", "Source address, IPv4 or IPv6.", (0, 8)),
        key("ip.daddr", "ipaddr", "IP", "Destination address.", (0, 12)),
        key("ip.protocol", "uint8", "PROTOCOL", "Protocol; for IPv6 that of the header after the extension headers, if it can be reached.", (0, 4)),
        key("ip.tos", "uint8", "IP4", "IPv4 type of service (DSCP and ECN).", (0, 5)),
        key("ip.ttl", "uint8", "IP4", "IPv4 time to live.", (0, 192)),
        key("ip.totlen", "uint16", "IP4", "Length in bytes stated by the IPv4 header.", (0, 190)),
        key("ip.ihl", "uint8", "IP4", "IPv4 header length in 32-bit words.", (0, 207), most=15),
        key("ip.csum", "uint16", "IP4", "IPv4 header checksum."),
        key("ip.id", "uint16", "IP4", "IPv4 identification.", (0, 54)),
        key("ip.fragoff", "uint16", "IP4", "IPv4 flags and fragment offset as one 16-bit field.", (0, 88)),
        key("ip6.payloadlen", "uint16", "IP6", "Length in bytes stated by the IPv6 header, without that header itself.", (0, 191)),
        key("ip6.priority", "uint8", "IP6", "IPv6 traffic class."),
        key("ip6.flowlabel", "uint32", "IP6", "IPv6 flow label.", (0, 31), most=0xFFFFF),
        key("ip6.hoplimit", "uint8", "IP6", "IPv6 hop limit."),
        key("ip6.nexthdr", "uint8", "IP6", "Number of the last IPv6 header that could be reached.", (0, 193)),
        key("ip6.fragoff", "uint16", "IP6_FRAG", "Offset of an IPv6 fragment in bytes."),
        key("ip6.fragid", "uint32", "IP6_FRAG", "Identification of an IPv6 fragment."),
        key("tcp.sport", "uint16", "TCP", "TCP source port.", (0, 182), cim="src_port"),
        key("tcp.dport", "uint16", "TCP", "TCP destination port.", (0, 183), cim="dest_port"),
        key("tcp.seq", "uint32", "TCP", "TCP sequence number.", (0, 184)),
        key("tcp.ackseq", "uint32", "TCP", "TCP acknowledgement number.", (0, 185)),
        key("tcp.window", "uint16", "TCP", "TCP window, not scaled.", (0, 186)),
        key("tcp.offset", "uint8", "TCP", "TCP header length in 32-bit words.", most=15),
        key("tcp.reserved", "uint8", "TCP", "The four reserved bits (RFC 9293).", most=15),
        key("tcp.urg", "bool", "TCP", "URG flag."),
        key("tcp.urgp", "uint16", "TCP_URGP", "Urgent pointer; only with URG.", (0, 187)),
        key("tcp.ack", "bool", "TCP", "ACK flag."),
        key("tcp.psh", "bool", "TCP", "PSH flag."),
        key("tcp.rst", "bool", "TCP", "RST flag."),
        key("tcp.syn", "bool", "TCP", "SYN flag."),
        key("tcp.fin", "bool", "TCP", "FIN flag."),
        key("tcp.res1", "bool", "TCP", "The four reserved bits as a number, as ulogd2 gives them.", most=15),
        key("tcp.res2", "bool", "TCP", "CWR and ECE as a number: 1 ECE, 2 CWR.", most=3),
        key("tcp.csum", "uint16", "TCP", "TCP checksum."),
        key("udp.sport", "uint16", "UDP", "UDP or UDP-Lite source port.", (0, 180), cim="src_port"),
        key("udp.dport", "uint16", "UDP", "UDP or UDP-Lite destination port.", (0, 181), cim="dest_port"),
        key("udp.len", "uint16", "UDP_LEN", "Length in bytes stated by the UDP header; not for UDP-Lite."),
        key("udp.csum", "uint16", "UDP", "UDP or UDP-Lite checksum."),
        key("icmp.type", "uint8", "ICMP", "ICMP type.", (0, 176)),
        key("icmp.code", "uint8", "ICMP", "ICMP code.", (0, 177)),
        key("icmp.echoid", "uint16", "ICMP_ECHO", "Identifier of an echo or echo reply."),
        key("icmp.echoseq", "uint16", "ICMP_ECHO", "Sequence number of an echo."),
        key("icmp.gateway", "ipaddr", "ICMP_GATEWAY", "Gateway of a redirect (type 5), or the pointer word of type 12.", kind="addr4"),
        key("icmp.fragmtu", "uint16", "ICMP_FRAGMTU", "MTU of `fragmentation needed` (type 3 code 4)."),
        key("icmp.csum", "uint16", "ICMP", "ICMP checksum."),
        key("icmpv6.type", "uint8", "ICMPV6", "ICMPv6 type.", (0, 178)),
        key("icmpv6.code", "uint8", "ICMPV6", "ICMPv6 code.", (0, 179)),
        key("icmpv6.echoid", "uint16", "ICMPV6_ECHO", "Identifier of an echo request or reply."),
        key("icmpv6.echoseq", "uint16", "ICMPV6_ECHO", "Sequence number of an echo."),
        key("icmpv6.csum", "uint16", "ICMPV6", "ICMPv6 checksum."),
        key("ahesp.spi", "uint32", "SPI", "Security parameters index of AH or ESP."),
        key("oob.protocol", "uint16", "PACKET_HDR", "EtherType of the packet."),
        key("arp.hwtype", "uint16", "ARP", "ARP hardware type."),
        key("arp.protocoltype", "uint16", "ARP", "ARP protocol type (0x0800: IPv4)."),
        key("arp.operation", "uint16", "ARP", "1 request, 2 reply."),
        key("arp.shwaddr", "raw", "ARP_ADDR", "Sender's hardware address, 6 bytes.", kind="fixed", longest=6),
        key("arp.saddr", "ipaddr", "ARP_ADDR", "Sender's IPv4 address.", kind="addr4"),
        key("arp.dhwaddr", "raw", "ARP_ADDR", "Target's hardware address, 6 bytes.", kind="fixed", longest=6),
        key("arp.daddr", "ipaddr", "ARP_ADDR", "Target's IPv4 address.", kind="addr4"),
        key("sctp.sport", "uint16", "SCTP", "SCTP source port.", cim="src_port"),
        key("sctp.dport", "uint16", "SCTP", "SCTP destination port.", cim="dest_port"),
        key("sctp.csum", "uint32", "SCTP", "SCTP checksum."),
        _key("BASE", "udplite.coverage", "uint16", "UDPLITE", "Checksum coverage of UDP-Lite (RFC 3828).", new=True),
    ]  # fmt: skip


#: The directions of a flow, and the ends of each.
_WAYS = {"orig": "original", "reply": "reply"}
_ENDS = {"saddr": "Source", "daddr": "Destination"}


def _filters() -> list[Key]:
    def text(
        plugin: str,
        name: str,
        valid: str | Condition,
        meaning: str,
        kind: str,
        field: str,
        cim: str = "",
        new: bool = False,
    ) -> Key:
        return _key(plugin, name, "string", valid, meaning, kind=kind, field=field, cim=cim, new=new)

    def number(name: str, valid: str | Condition, meaning: str, field: str) -> Key:
        return _key("IP2HBIN", name, "ipaddr", valid, meaning, kind="addrnumber", field=field, most=MOST["uint32"])

    flow = FlowCondition.ALWAYS
    return [
        text("IFINDEX", "oob.in", "ALWAYS", "Name of the input interface; empty if there is none or it is unknown.", "ifname", "oob_ifindex_in"),
        text("IFINDEX", "oob.out", "ALWAYS", "Name of the output interface; empty if there is none or it is unknown.", "ifname", "oob_ifindex_out"),
        text("IFINDEX", "oob.physin", "PHYSINDEV", "Name of the bridge port the packet came in by.", "ifname", "oob_physindev", new=True),
        text("IFINDEX", "oob.physout", "PHYSOUTDEV", "Name of the bridge port it leaves by.", "ifname", "oob_physoutdev", new=True),
        text("IP2STR", "ip.saddr.str", "IP", "Source address as text.", "addr", "ip_saddr", "src_ip"),
        text("IP2STR", "ip.daddr.str", "IP", "Destination address as text.", "addr", "ip_daddr", "dest_ip"),
        text("IP2STR", "orig.ip.saddr.str", flow, "Source address of the flow's original direction as text.", "addr", "orig_ip_saddr", "src_ip"),
        text("IP2STR", "orig.ip.daddr.str", flow, "Destination address of the original direction as text.", "addr", "orig_ip_daddr", "dest_ip"),
        text("IP2STR", "reply.ip.saddr.str", flow, "Source address of the reply direction as text.", "addr", "reply_ip_saddr"),
        text("IP2STR", "reply.ip.daddr.str", flow, "Destination address of the reply direction as text.", "addr", "reply_ip_daddr"),
        text("IP2STR", "arp.saddr.str", "ARP_ADDR", "ARP sender's address as text.", "addr4", "arp_saddr"),
        text("IP2STR", "arp.daddr.str", "ARP_ADDR", "ARP target's address as text.", "addr4", "arp_daddr"),
        _key("IP2BIN", "ip.saddr.bin", "rawstr", "IP", "Source address as `0x` and 32 hex digits, IPv4 mapped into ::ffff:0:0/96.", kind="addrbin", field="ip_saddr"),
        _key("IP2BIN", "ip.daddr.bin", "rawstr", "IP", "Destination address in the same form.", kind="addrbin", field="ip_daddr"),
        *(
            _key("IP2BIN", f"{way}.ip.{end}.bin", "rawstr", flow, f"{_ENDS[end]} address of the {_WAYS[way]} direction in the same form.", kind="addrbin", field=f"{way}_ip_{end}")
            for way in _WAYS
            for end in _ENDS
        ),
        number("ip.hsaddr", "IP4", "Source address as a number, if it is IPv4.", "ip_saddr"),
        number("ip.hdaddr", "IP4", "Destination address as a number, if it is IPv4.", "ip_daddr"),
        *(
            number(f"{way}.ip.h{end}", FlowCondition.IP4, f"{_ENDS[end]} address of the {_WAYS[way]} direction as a number, if it is IPv4.", f"{way}_ip_{end}")
            for way in _WAYS
            for end in _ENDS
        ),
        number("arp.hsaddr", "ARP_ADDR", "ARP sender's address as a number.", "arp_saddr"),
        number("arp.hdaddr", "ARP_ADDR", "ARP target's address as a number.", "arp_daddr"),
        _key("HWHDR", "raw.type", "uint16", "HWTYPE", "Link type; 65535 if only the sender's address is known.", field="hwhdr_type"),
        _key("HWHDR", "oob.protocol", "uint16", "PACKET_HDR", "EtherType, taken from the Ethernet header if there is one.", field="hwhdr_protocol"),
        text("HWHDR", "mac.saddr.str", "MAC_SADDR", "Sender's hardware address as text.", "mac", "mac_saddr"),
        text("HWHDR", "mac.daddr.str", "MAC_DADDR", "Destination's hardware address as text (Ethernet).", "mac", "mac_daddr"),
        text("HWHDR", "mac.str", "HWHEADER", "The whole link-layer header as text.", "macbytes", "raw_mac"),
    ]  # fmt: skip


#: PRINTPKT's text. It lies in no record, but no value of it is kept either: C makes it of the record.
PRINT = added_key(
    "print",
    "string",
    "The packet as one line of text, as the kernel's LOG target writes it; a newline ends it.",
    # TCP over IPv6 with the longest prefix, names and numbers; control characters would take more.
    longest=527,
)._replace(plugin="PRINTPKT", since="ulogd2")


#: PRINTFLOW's text, in the same way.
PRINT_FLOW = added_key(
    "print",
    "string",
    "The flow as one line of text, as ulogd2 writes it; a newline ends it.",
    # TCP over IPv6 with the longest addresses and numbers.
    longest=368,
)._replace(plugin="PRINTFLOW", since="ulogd2")

#: NAT's, in the same way.
PRINT_NAT = added_key(
    "print", "string", "What was translated to what, as one line of text; a newline ends it.", longest=352
)._replace(plugin="NAT", valid=AddedCondition.TRANSLATED)

NAT_EVENT = added_key(
    "nat.event",
    "uint8",
    "Event of the translation as RFC 8158 numbers it: 4 begin and 5 end for IPv4, 1 and 2 for IPv6.",
    most=5,
)._replace(plugin="NAT", valid=AddedCondition.TRANSLATED)

#: COMMUNITYID's.
COMMUNITY_ID = added_key(
    "community_id", "string", "Community ID (version 1): the same for both directions of a flow.", longest=30
)._replace(plugin="COMMUNITYID", valid=AddedCondition.ADDRESSED)


def _unixsock() -> list[Key]:
    key = partial(_key, "UNIXSOCK")
    packet, said, never = PacketCondition, ReportedCondition, ReportedCondition.NEVER
    # Those that never hold are there because plugins such as PRINTPKT ask for them.
    return [
        key("raw.mac", "raw", never, "Link-layer header.", longest=14),
        key("raw.pkt", "raw", packet.ALWAYS, "The packet from its network header on.", (21373, 1), length="raw_pktlen", longest=0xFFFF),
        key("raw.pktlen", "uint32", packet.ALWAYS, "Bytes of the packet that were reported.", (21373, 2), most=0xFFFF),
        key("raw.pktcount", "uint32", packet.ALWAYS, "Packets this record stands for: 1.", (0, 2), most=1),
        key("oob.prefix", "string", said.PREFIX, "Prefix that the reporter gives.", (21373, 3), longest=0xFFFF),
        key("oob.time.sec", "uint32", said.SECONDS, "Seconds since 1970.", (0, 150)),
        key("oob.time.usec", "uint32", never, "Microseconds of the time.", (0, 154), most=999_999),
        key("oob.mark", "uint32", never, "Mark of the packet.", (21373, 4)),
        key("oob.in", "string", said.IN, "Name of the input interface.", (0, 10), longest=0xFFFF),
        key("oob.out", "string", said.OUT, "Name of the output interface.", (0, 14), longest=0xFFFF),
        key("oob.hook", "uint8", never, "Netfilter hook.", (21373, 5), most=8),
        key("raw.mac_len", "uint16", never, "Bytes in raw.mac."),
        key("oob.seq.local", "uint32", never, "Sequence number.", (21373, 7)),
        key("oob.seq.global", "uint32", never, "Sequence number.", (21373, 8)),
        key("oob.family", "uint8", packet.ALWAYS, "Family of the packet: 2 IPv4, 10 IPv6, 0 if it is neither.", most=12),
        key("oob.protocol", "uint16", said.PROTOCOL, "EtherType of the packet."),
        key("oob.uid", "uint32", never, "ID of the user that owns the sending socket."),
        key("oob.gid", "uint32", never, "ID of the group that owns the sending socket."),
        key("raw.label", "uint8", said.STATE, "State of the connection: 0 dropped, 1 opened, 2 established, 3 closed, 4 unknown."),
        key("raw.type", "uint16", never, "Link type."),
        key("raw.mac.saddr", "raw", never, "Hardware address of the sender.", (0, 56), kind="fixed", length="raw_mac_addrlen", longest=8),
        key("raw.mac.addrlen", "uint16", never, "Bytes in raw.mac.saddr.", most=8),
        key("nufw.user.name", "string", said.USER_NAME, "Name of the user whose connection it is.", longest=0xFFFF),
        key("nufw.user.id", "uint32", said.USER_ID, "ID of that user."),
        key("nufw.os.name", "string", said.OS_NAME, "Operating system of that user's machine.", longest=0xFFFF),
        key("nufw.os.rel", "string", said.OS_REL, "Its release.", longest=0xFFFF),
        key("nufw.os.vers", "string", said.OS_VERS, "Its version.", longest=0xFFFF),
        key("nufw.app.name", "string", said.APP_NAME, "Program that opened the connection.", longest=0xFFFF),
    ]  # fmt: skip


def _nfct() -> list[Key]:
    key = partial(_key, "NFCT")
    new = partial(_key, "NFCT", new=True)
    flow = FlowCondition

    def direction(way: str) -> list[Key]:
        of = f"of the {_WAYS[way]} direction"
        return [
            key(f"{way}.ip.saddr", "ipaddr", flow.ALWAYS, f"Source address {of}, IPv4 or IPv6.", (0, 8)),
            key(f"{way}.ip.daddr", "ipaddr", flow.ALWAYS, f"Destination address {of}.", (0, 12)),
            key(f"{way}.ip.protocol", "uint8", flow.ALWAYS, f"Protocol {of}.", (0, 4)),
            key(f"{way}.l4.sport", "uint16", flow.PORTS, f"Source port {of}.", (0, 7)),
            key(f"{way}.l4.dport", "uint16", flow.PORTS, f"Destination port {of}.", (0, 11)),
            key(
                f"{way}.raw.pktlen",
                "uint64",
                flow.ALWAYS,
                f"Bytes {of} since the flow's record before; 0 if the kernel does not count (nf_conntrack_acct).",
                (0, 85),
            ),
            key(
                f"{way}.raw.pktcount",
                "uint64",
                flow.ALWAYS,
                f"Packets {of} since the flow's record before; 0 if the kernel does not count.",
                (0, 86),
            ),
        ]

    return [
        *direction("orig"),
        *direction("reply"),
        key("icmp.code", "uint8", flow.ICMP, "ICMP code.", (0, 177)),
        key("icmp.type", "uint8", flow.ICMP, "ICMP type.", (0, 176)),
        key("ct.mark", "uint32", flow.ALWAYS, "Mark of the flow; 0 if it has none.", (21373, 4)),
        key("ct.id", "uint32", flow.ALWAYS, "The kernel's number of the flow. Flows of different times can have the same.", (21373, 6)),
        key("ct.event", "uint32", flow.EVENT, "What happened: 1 new, 2 update or a record of a flow that goes on, 4 end.", most=4),
        key("flow.start.sec", "uint32", flow.START, "Beginning of the flow, seconds since 1970.", (0, 150)),
        key("flow.start.usec", "uint32", flow.START, "Microseconds of the same time.", (0, 154), most=999_999),
        key("flow.end.sec", "uint32", flow.END, "End of the flow, seconds since 1970; of an idle flow, when the kernel removed it.", (0, 151)),
        key("flow.end.usec", "uint32", flow.END, "Microseconds of the same time.", (0, 151), most=999_999),
        key("oob.family", "uint8", flow.ALWAYS, "Family of the flow: 2 IPv4, 10 IPv6.", most=12),
        key("oob.protocol", "uint8", flow.ALWAYS, "0, as in ulogd2.", most=0),
        new("icmpv6.code", "uint8", flow.ICMPV6, "ICMPv6 code.", (0, 179)),
        new("icmpv6.type", "uint8", flow.ICMPV6, "ICMPv6 type.", (0, 178)),
        new("icmp.id", "uint16", flow.ICMP, "Identifier of ICMP echoes; 0 of other types."),
        new("icmpv6.id", "uint16", flow.ICMPV6, "Identifier of ICMPv6 echoes; 0 of other types."),
        new("tcp.state", "uint8", flow.TCP, "State of a TCP flow (1 SYN_SENT, 2 SYN_RECV, 3 ESTABLISHED, 4 FIN_WAIT, 5 CLOSE_WAIT, 6 LAST_ACK, 7 TIME_WAIT, 8 CLOSE, 9 SYN_SENT2).", most=0xFF),
        new("sctp.state", "uint8", flow.SCTP, "State of an SCTP flow, as the kernel numbers it (enum sctp_conntrack)."),
        new("ct.status", "uint32", flow.STATUS, "Status bits of the flow (IPS_*): 2 replies were seen, 4 assured, 8 confirmed, 16 and 32 source and destination NAT, 512 dying."),
        new("ct.timeout", "uint32", flow.TIMEOUT, "Seconds until an idle flow is removed."),
        new("ct.zone", "uint16", flow.ALWAYS, "Conntrack zone of the original direction."),
        new("ct.zone.reply", "uint16", flow.ALWAYS, "Conntrack zone of the reply direction."),
        new("ct.helper", "string", flow.HELPER, "Name of the helper.", kind="chars", longest=15),
        new("ct.labels", "raw", flow.LABELS, "Labels of the flow, 128 bits.", kind="fixed", longest=16),
        new("flow.number", "uint32", flow.EVENT, "Number of this record within its flow, from 1. The flow's counts are the sum of its records'."),
        new("flow.last", "bool", flow.EVENT, "1 in the last record of a flow."),
        new("flow.end.reason", "uint8", flow.REASON, "Why the record was made (RFC 5102, flowEndReason): 1 idle, 2 active timeout, 3 end of a TCP connection, 4 forced, 5 lack of resources.", (0, 136), most=5),
    ]  # fmt: skip


def _nat() -> list[Key]:
    def translated(name: str, condition: FlowCondition, meaning: str, field: str) -> Key:
        if name.endswith(".str"):
            return _key("NAT", name, "string", condition, meaning, kind="addr", field=field, new=True)
        return _key("NAT", name, "uint16", condition, meaning, field=field, new=True)

    return [
        translated("nat.saddr.str", FlowCondition.SNAT, "Address that the source was translated to, as text.", "reply_ip_daddr"),
        translated("nat.sport", FlowCondition.SNAT_PORTS, "Port that the source port was translated to.", "reply_l4_dport"),
        translated("nat.daddr.str", FlowCondition.DNAT, "Address that the destination was translated to, as text.", "reply_ip_saddr"),
        translated("nat.dport", FlowCondition.DNAT_PORTS, "Port that the destination port was translated to.", "reply_l4_sport"),
        NAT_EVENT,
        PRINT_NAT,
    ]  # fmt: skip


def _nfacct() -> list[Key]:
    def key(
        name: str,
        type_: str,
        field: str,
        meaning: str,
        *,
        valid: str = "ALWAYS",
        kind: str = "",
        most: int | None = None,
        longest: int | None = None,
    ) -> Key:
        return _key(
            "NFACCT",
            name,
            type_,
            SumCondition[valid],
            meaning,
            kind=kind,
            field=field,
            most=most,
            longest=longest,
        )

    return [
        key("sum.name", "string", "name", "Name of the accounting object.", kind="chars", longest=31),
        key("sum.pkts", "uint64", "packets", "Packets it counted."),
        key("sum.bytes", "uint64", "bytes", "Bytes it counted."),
        key("oob.time.sec", "uint32", "time_sec", "Time of the poll, seconds since 1970; only with `timestamp`.", valid="TIME"),
        key("oob.time.usec", "uint32", "time_usec", "Microseconds of the same time.", valid="TIME", most=999_999),
    ]  # fmt: skip


def _nftcounter() -> list[Key]:
    def key(name: str, type_: str, meaning: str, *, most: int | None = None, longest: int | None = None) -> Key:
        made = added_key(name, type_, meaning, most=most, longest=longest)
        return made._replace(plugin="NFTCOUNTER")

    return [
        key("sum.name", "string", "`family.table.name` of the counter or quota.", longest=6 + 1 + 255 + 1 + 255),
        key("sum.pkts", "uint64", "Packets it counted; quotas do not have this."),
        key("sum.bytes", "uint64", "Bytes it counted, or bytes of the quota that were used."),
        key("sum.limit", "uint64", "Bytes that the quota allows; counters do not have this."),
        key("oob.time.sec", "uint32", "Time of the poll, seconds since 1970; only with `timestamp`."),
        key("oob.time.usec", "uint32", "Microseconds of the same time.", most=999_999),
    ]


def _pwsniff() -> list[Key]:
    def key(name: str, meaning: str) -> Key:
        made = added_key(name, "string", meaning, longest=255)
        return made._replace(plugin="PWSNIFF", since="ulogd2", valid=AddedCondition.FOUND)

    return [
        key("pwsniff.user", "Argument of the command USER of FTP and POP3."),
        key("pwsniff.pass", "Argument of the command PASS."),
    ]


#: Every key, by plugin in the order of a usual stack, within a plugin in the order of a record's members.
CATALOGUE: tuple[Key, ...] = (
    *_nflog(),
    *_base(),
    *_filters(),
    PRINT,
    *_nfct(),
    PRINT_FLOW,
    *_nat(),
    COMMUNITY_ID,
    *_nfacct(),
    *_nftcounter(),
    *_unixsock(),
    *_pwsniff(),
)

#: The key each name means where no stack says which plugin is nearest: the first that publishes it.
BY_NAME: dict[str, Key] = {}
for _published in CATALOGUE:
    BY_NAME.setdefault(_published.name, _published)


#: Plugins that publish what another one does.
_LIKE = {"PCAPFILE": "NFLOG"}


def published_by(plugin: str) -> tuple[Key, ...]:
    """Return the keys `plugin` publishes, in the order of a record's members."""
    plugin = _LIKE.get(plugin, plugin)
    return tuple(key for key in CATALOGUE if key.plugin == plugin)


#: The keys of a packet's record, by name: of a name that several plugins publish, the first.
PACKET_KEYS: dict[str, Key] = {}
for _published in CATALOGUE:
    if isinstance(_published.valid, PacketCondition):
        PACKET_KEYS.setdefault(_published.name, _published)

#: The names that several keys share in a record, such as src_port.
CIM: dict[str, tuple[str, ...]] = {
    cim: tuple(key.name for key in CATALOGUE if key.cim == cim) for cim in {key.cim for key in CATALOGUE if key.cim}
}
