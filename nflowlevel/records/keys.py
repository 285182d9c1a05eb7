# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue of keys: every named value a record can carry, declared once.

A key has ulogd2's name and type, the plugin that publishes it, the CIM name JSON uses for it, its IPFIX element, where it
lies in the C record (`field`), and the condition under which it holds (`valid`, a name of `enum nfl_valid` in
`_cdefs/batch.h`). Decode layout, stacks, JSON, columns and docs/keys.md all read this table.

The same name may be published by several plugins (`oob.protocol` by NFLOG, BASE and HWHDR): in a stack the nearest one
before the reader counts. The order within a plugin is the order of members in a record; keys ulogd2 does not have stand
after its own.
"""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """One key as one plugin publishes it."""

    name: str
    plugin: str
    type: str
    """ulogd2's type: uint8, uint16, uint32, uint64, bool (a number), ipaddr, string, rawstr (a number of many digits) or raw (bytes)."""
    kind: str
    """How it lies in the record: u8 u16 u32, addr addr4, fixed (bytes in the record), bytes or text (offset and length
    into the receive buffer), mac (hardware address in the record), macbytes (bytes as hardware address), ifname (an
    ifindex to look up), addrbin (an address in hex digits); column: not in the record of a packet, the plugin adds it to the batch."""
    field: str
    valid: str
    meaning: str
    cim: str = ""
    ipfix: tuple[int, int] | None = None
    """(vendor, element); vendor 0 is IETF, 21373 Netfilter."""
    since: str = "ulogd2"
    """`ulogd2` for its own keys, `nflowlevel` for those it lacks."""


_KIND = {
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "bool": "u8",
    "ipaddr": "addr",
    "raw": "bytes",
    "string": "text",
}


def _key(
    plugin: str,
    name: str,
    type_: str,
    valid: str,
    meaning: str,
    *,
    kind: str = "",
    field: str = "",
    cim: str = "",
    ipfix: tuple[int, int] | None = None,
    new: bool = False,
) -> Key:
    field = field or name.replace(".", "_")
    since = "nflowlevel" if new else "ulogd2"
    return Key(name, plugin, type_, kind or _KIND[type_], field, valid, meaning, cim, ipfix, since)


def _nflog() -> list[Key]:
    def key(
        name: str,
        type_: str,
        valid: str,
        meaning: str,
        ipfix: tuple[int, int] | None = None,
        *,
        kind: str = "",
        field: str = "",
    ) -> Key:
        return _key("NFLOG", name, type_, valid, meaning, kind=kind, field=field, ipfix=ipfix)

    def new(name: str, type_: str, valid: str, meaning: str) -> Key:
        return _key("NFLOG", name, type_, valid, meaning, new=True)

    return [
        key("raw.mac", "raw", "HWHEADER", "Link-layer header; only where the kernel has one (input side)."),
        key("raw.pkt", "raw", "PAYLOAD", "The packet from its network header on, up to copy_range or snaplen.", (21373, 1)),
        key("raw.pktlen", "uint32", "PAYLOAD", "Bytes of the packet that were captured.", (21373, 2)),
        key("raw.pktcount", "uint32", "ALWAYS", "Packets this record stands for: 1.", (0, 2)),
        key("oob.prefix", "string", "PREFIX", "Prefix of the rule that logged the packet; nft sends an empty one for a rule without.", (21373, 3)),
        key("oob.time.sec", "uint32", "ALWAYS", "Seconds since 1970: the kernel's stamp, else the time of reception.", (0, 150)),
        key("oob.time.usec", "uint32", "ALWAYS", "Microseconds of the same.", (0, 154)),
        key("oob.mark", "uint32", "ALWAYS", "Mark of the packet; 0 without one.", (21373, 4)),
        key("oob.ifindex_in", "uint32", "INDEV", "Index of the interface the packet came in by.", (0, 10)),
        key("oob.ifindex_out", "uint32", "OUTDEV", "Index of the interface it leaves by.", (0, 14)),
        key("oob.hook", "uint8", "HOOK", "Netfilter hook (IP: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting).",
            (21373, 5)),
        key("raw.mac_len", "uint16", "HWHEADER", "Bytes in raw.mac."),
        key("oob.seq.local", "uint32", "SEQ", "Sequence number within the group.", (21373, 7)),
        key("oob.seq.global", "uint32", "SEQ_GLOBAL", "Sequence number over all groups that ask for it.", (21373, 8)),
        key("oob.family", "uint8", "ALWAYS", "Family of the rule: 2 IPv4, 10 IPv6, 7 bridge, 3 ARP, 5 netdev."),
        key("oob.protocol", "uint16", "PACKET_HDR", "EtherType of the packet."),
        key("oob.uid", "uint32", "UID", "User that owns the sending socket, where the kernel knows."),
        key("oob.gid", "uint32", "GID", "Group of the same."),
        key("raw.label", "uint8", "ALWAYS", "`numeric_label` of the input: by convention 0 blocked, else allowed."),
        key("raw.type", "uint16", "HWHEADER", "Link type (ARPHRD_*; 1 is Ethernet)."),
        key("raw.mac.saddr", "raw", "HWADDR", "Hardware address of the sender.", (0, 56), kind="fixed", field="raw_mac_saddr"),
        key("raw.mac.addrlen", "uint16", "HWADDR", "Bytes in raw.mac.saddr.", field="raw_mac_addrlen"),
        key("ct", "raw", "CT", "Conntrack entry as the kernel attached it; only with attach_conntrack."),
        new("oob.physindev", "uint32", "PHYSINDEV", "Index of the bridge port the packet came in by."),
        new("oob.physoutdev", "uint32", "PHYSOUTDEV", "Index of the bridge port it leaves by."),
        new("vlan.id", "uint16", "VLAN", "VLAN of the outermost 802.1Q or 802.1ad tag."),
        new("vlan.priority", "uint8", "VLAN", "Its priority code point."),
        new("vlan.protocol", "uint16", "VLAN", "EtherType of the tag: 0x8100 or 0x88a8."),
        new("raw.l2hdr", "raw", "L2HDR", "Link-layer header of a bridged packet, tags included (NFULA_L2HDR)."),
    ]  # fmt: skip


def _base() -> list[Key]:
    def key(
        name: str,
        type_: str,
        valid: str,
        meaning: str,
        ipfix: tuple[int, int] | None = None,
        *,
        kind: str = "",
        cim: str = "",
    ) -> Key:
        return _key("BASE", name, type_, valid, meaning, kind=kind, cim=cim, ipfix=ipfix)

    return [
        key("ip.saddr", "ipaddr", "IP", "Source address, IPv4 or IPv6.", (0, 8)),
        key("ip.daddr", "ipaddr", "IP", "Destination address.", (0, 12)),
        key("ip.protocol", "uint8", "PROTOCOL", "Protocol; IPv6: of the header after the extension headers, where it can be reached.", (0, 4)),
        key("ip.tos", "uint8", "IP4", "IPv4 type of service (DSCP and ECN).", (0, 5)),
        key("ip.ttl", "uint8", "IP4", "IPv4 time to live.", (0, 192)),
        key("ip.totlen", "uint16", "IP4", "Length the IPv4 header states.", (0, 190)),
        key("ip.ihl", "uint8", "IP4", "IPv4 header length in 32-bit words.", (0, 207)),
        key("ip.csum", "uint16", "IP4", "IPv4 header checksum."),
        key("ip.id", "uint16", "IP4", "IPv4 identification.", (0, 54)),
        key("ip.fragoff", "uint16", "IP4", "IPv4 flags and fragment offset, the whole field.", (0, 88)),
        key("ip6.payloadlen", "uint16", "IP6", "Length the IPv6 header states, itself not counted.", (0, 191)),
        key("ip6.priority", "uint8", "IP6", "IPv6 traffic class."),
        key("ip6.flowlabel", "uint32", "IP6", "IPv6 flow label.", (0, 31)),
        key("ip6.hoplimit", "uint8", "IP6", "IPv6 hop limit."),
        key("ip6.nexthdr", "uint8", "IP6", "Number of the last IPv6 header that could be reached.", (0, 193)),
        key("ip6.fragoff", "uint16", "IP6_FRAG", "Offset of an IPv6 fragment in bytes."),
        key("ip6.fragid", "uint32", "IP6_FRAG", "Identification of an IPv6 fragment."),
        key("tcp.sport", "uint16", "TCP", "TCP source port.", (0, 182), cim="src_port"),
        key("tcp.dport", "uint16", "TCP", "TCP destination port.", (0, 183), cim="dest_port"),
        key("tcp.seq", "uint32", "TCP", "TCP sequence number.", (0, 184)),
        key("tcp.ackseq", "uint32", "TCP", "TCP acknowledgement number.", (0, 185)),
        key("tcp.window", "uint16", "TCP", "TCP window, not scaled.", (0, 186)),
        key("tcp.offset", "uint8", "TCP", "TCP header length in 32-bit words."),
        key("tcp.reserved", "uint8", "TCP", "The four reserved bits (RFC 9293)."),
        key("tcp.urg", "bool", "TCP", "URG flag."),
        key("tcp.urgp", "uint16", "TCP_URGP", "Urgent pointer; only with URG.", (0, 187)),
        key("tcp.ack", "bool", "TCP", "ACK flag."),
        key("tcp.psh", "bool", "TCP", "PSH flag."),
        key("tcp.rst", "bool", "TCP", "RST flag."),
        key("tcp.syn", "bool", "TCP", "SYN flag."),
        key("tcp.fin", "bool", "TCP", "FIN flag."),
        key("tcp.res1", "bool", "TCP", "The four reserved bits as a number, as ulogd2 gives them."),
        key("tcp.res2", "bool", "TCP", "CWR and ECE as a number: 1 ECE, 2 CWR."),
        key("tcp.csum", "uint16", "TCP", "TCP checksum."),
        key("udp.sport", "uint16", "UDP", "UDP or UDP-Lite source port.", (0, 180), cim="src_port"),
        key("udp.dport", "uint16", "UDP", "UDP or UDP-Lite destination port.", (0, 181), cim="dest_port"),
        key("udp.len", "uint16", "UDP_LEN", "Length the UDP header states; not UDP-Lite."),
        key("udp.csum", "uint16", "UDP", "UDP or UDP-Lite checksum."),
        key("icmp.type", "uint8", "ICMP", "ICMP type.", (0, 176)),
        key("icmp.code", "uint8", "ICMP", "ICMP code.", (0, 177)),
        key("icmp.echoid", "uint16", "ICMP_ECHO", "Identifier of an echo or echo reply."),
        key("icmp.echoseq", "uint16", "ICMP_ECHO", "Its sequence number."),
        key("icmp.gateway", "ipaddr", "ICMP_GATEWAY", "Gateway of a redirect (type 5); the pointer word of type 12.", kind="addr4"),
        key("icmp.fragmtu", "uint16", "ICMP_FRAGMTU", "MTU of `fragmentation needed` (type 3 code 4)."),
        key("icmp.csum", "uint16", "ICMP", "ICMP checksum."),
        key("icmpv6.type", "uint8", "ICMPV6", "ICMPv6 type.", (0, 178)),
        key("icmpv6.code", "uint8", "ICMPV6", "ICMPv6 code.", (0, 179)),
        key("icmpv6.echoid", "uint16", "ICMPV6_ECHO", "Identifier of an echo request or reply."),
        key("icmpv6.echoseq", "uint16", "ICMPV6_ECHO", "Its sequence number."),
        key("icmpv6.csum", "uint16", "ICMPV6", "ICMPv6 checksum."),
        key("ahesp.spi", "uint32", "SPI", "Security parameters index of AH or ESP."),
        key("oob.protocol", "uint16", "PACKET_HDR", "EtherType of the packet."),
        key("arp.hwtype", "uint16", "ARP", "ARP hardware type."),
        key("arp.protocoltype", "uint16", "ARP", "ARP protocol type (0x0800: IPv4)."),
        key("arp.operation", "uint16", "ARP", "1 request, 2 reply."),
        key("arp.shwaddr", "raw", "ARP_ADDR", "Sender's hardware address, 6 bytes.", kind="fixed"),
        key("arp.saddr", "ipaddr", "ARP_ADDR", "Sender's IPv4 address.", kind="addr4"),
        key("arp.dhwaddr", "raw", "ARP_ADDR", "Target's hardware address, 6 bytes.", kind="fixed"),
        key("arp.daddr", "ipaddr", "ARP_ADDR", "Target's IPv4 address.", kind="addr4"),
        key("sctp.sport", "uint16", "SCTP", "SCTP source port.", cim="src_port"),
        key("sctp.dport", "uint16", "SCTP", "SCTP destination port.", cim="dest_port"),
        key("sctp.csum", "uint32", "SCTP", "SCTP checksum."),
        _key("BASE", "udplite.coverage", "uint16", "UDPLITE", "Checksum coverage of UDP-Lite (RFC 3828).", new=True),
    ]  # fmt: skip


def _filters() -> list[Key]:
    def text(
        plugin: str, name: str, valid: str, meaning: str, kind: str, field: str, cim: str = "", new: bool = False
    ) -> Key:
        return _key(plugin, name, "string", valid, meaning, kind=kind, field=field, cim=cim, new=new)

    return [
        text("IFINDEX", "oob.in", "ALWAYS", "Name of the input interface; empty without one or when unknown.", "ifname", "oob_ifindex_in"),
        text("IFINDEX", "oob.out", "ALWAYS", "Name of the output interface; likewise.", "ifname", "oob_ifindex_out"),
        text("IFINDEX", "oob.physin", "PHYSINDEV", "Name of the bridge port the packet came in by.", "ifname", "oob_physindev", new=True),
        text("IFINDEX", "oob.physout", "PHYSOUTDEV", "Name of the bridge port it leaves by.", "ifname", "oob_physoutdev", new=True),
        text("IP2STR", "ip.saddr.str", "IP", "Source address as text.", "addr", "ip_saddr", "src_ip"),
        text("IP2STR", "ip.daddr.str", "IP", "Destination address as text.", "addr", "ip_daddr", "dest_ip"),
        text("IP2STR", "arp.saddr.str", "ARP_ADDR", "ARP sender's address as text.", "addr4", "arp_saddr"),
        text("IP2STR", "arp.daddr.str", "ARP_ADDR", "ARP target's address as text.", "addr4", "arp_daddr"),
        _key("IP2BIN", "ip.saddr.bin", "rawstr", "IP", "Source address as `0x` and 32 hex digits, IPv4 mapped into ::ffff:0:0/96.", kind="addrbin", field="ip_saddr"),
        _key("IP2BIN", "ip.daddr.bin", "rawstr", "IP", "Destination address likewise.", kind="addrbin", field="ip_daddr"),
        _key("HWHDR", "raw.type", "uint16", "HWTYPE", "Link type; 65535 where only the sender's address is known.", field="hwhdr_type"),
        _key("HWHDR", "oob.protocol", "uint16", "PACKET_HDR", "EtherType, of the Ethernet header where there is one.", field="hwhdr_protocol"),
        text("HWHDR", "mac.saddr.str", "MAC_SADDR", "Sender's hardware address as text.", "mac", "mac_saddr"),
        text("HWHDR", "mac.daddr.str", "MAC_DADDR", "Destination's hardware address as text (Ethernet).", "mac", "mac_daddr"),
        text("HWHDR", "mac.str", "HWHEADER", "The whole link-layer header as text.", "macbytes", "raw_mac"),
    ]  # fmt: skip


def _nfacct() -> list[Key]:
    def key(name: str, type_: str, meaning: str) -> Key:
        return _key("NFACCT", name, type_, "ALWAYS", meaning, kind="column")

    return [
        key("sum.name", "string", "Name of the accounting object."),
        key("sum.pkts", "uint64", "Packets it counted."),
        key("sum.bytes", "uint64", "Bytes it counted."),
        key("oob.time.sec", "uint32", "Time of the poll, seconds since 1970; only with `timestamp`."),
        key("oob.time.usec", "uint32", "Microseconds of the same."),
    ]


def _nftcounter() -> list[Key]:
    def key(name: str, type_: str, meaning: str) -> Key:
        return _key("NFTCOUNTER", name, type_, "ALWAYS", meaning, kind="column", new=True)

    return [
        key("sum.name", "string", "`family.table.name` of the counter or quota."),
        key("sum.pkts", "uint64", "Packets it counted; a quota has none."),
        key("sum.bytes", "uint64", "Bytes it counted, or that were used of the quota."),
        key("sum.limit", "uint64", "Bytes that the quota allows; a counter has none."),
        key("oob.time.sec", "uint32", "Time of the poll, seconds since 1970; only with `timestamp`."),
        key("oob.time.usec", "uint32", "Microseconds of the same."),
    ]


#: Every key, by plugin in the order of a usual stack, within a plugin in the order of a record's members.
CATALOGUE: tuple[Key, ...] = (*_nflog(), *_base(), *_filters(), *_nfacct(), *_nftcounter())

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
