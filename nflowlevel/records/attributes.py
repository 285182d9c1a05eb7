# SPDX-License-Identifier: GPL-2.0-or-later
# mypy: disable-error-code="no-any-return"
"""Every name of a packet's keys as an attribute with its type. Made by `make docs` from the catalogue of keys; what is
changed here by hand is lost.

Each looks into the batch's columns first: a call in between would cost half as much as the look itself.
"""

from __future__ import annotations

from nflowlevel.records.row import Row


class PacketAttributes(Row, frozen=True, gc=False, eq=False):
    """The attributes of a packet."""

    @property
    def payload(self) -> memoryview | None:
        """The packet from its network header on, up to copy_range or snaplen. Key: `raw.pkt`; None if the packet
        lacks it.
        """
        try:
            return self._batch._cache["raw.pkt"][self._row]
        except KeyError:
            return self._batch.values("raw.pkt")[self._row]

    @property
    def caplen(self) -> int | None:
        """Bytes of the packet that were captured. Key: `raw.pktlen`; None if the packet lacks it."""
        try:
            return self._batch._cache["raw.pktlen"][self._row]
        except KeyError:
            return self._batch.values("raw.pktlen")[self._row]

    @property
    def prefix(self) -> str | None:
        """Prefix of the rule that logged the packet; empty for an nft rule without a prefix. Key: `oob.prefix`; None
        if the packet lacks it.
        """
        try:
            return self._batch._cache["oob.prefix"][self._row]
        except KeyError:
            return self._batch.values("oob.prefix")[self._row]

    @property
    def mark(self) -> int:
        """Mark of the packet; 0 if it has none. Key: `oob.mark`."""
        try:
            return self._batch._cache["oob.mark"][self._row]
        except KeyError:
            return self._batch.values("oob.mark")[self._row]

    @property
    def hook(self) -> int | None:
        """Netfilter hook (IP: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting). Key: `oob.hook`; None if
        the packet lacks it.
        """
        try:
            return self._batch._cache["oob.hook"][self._row]
        except KeyError:
            return self._batch.values("oob.hook")[self._row]

    @property
    def family(self) -> int:
        """Family of the rule: 2 IPv4, 10 IPv6, 7 bridge, 3 ARP, 5 netdev. Key: `oob.family`."""
        try:
            return self._batch._cache["oob.family"][self._row]
        except KeyError:
            return self._batch.values("oob.family")[self._row]

    @property
    def hw_protocol(self) -> int | None:
        """EtherType of the packet. Key: `oob.protocol`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.protocol"][self._row]
        except KeyError:
            return self._batch.values("oob.protocol")[self._row]

    @property
    def indev(self) -> int | None:
        """Index of the interface the packet came in by. Key: `oob.ifindex_in`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.ifindex_in"][self._row]
        except KeyError:
            return self._batch.values("oob.ifindex_in")[self._row]

    @property
    def outdev(self) -> int | None:
        """Index of the interface it leaves by. Key: `oob.ifindex_out`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.ifindex_out"][self._row]
        except KeyError:
            return self._batch.values("oob.ifindex_out")[self._row]

    @property
    def physindev(self) -> int | None:
        """Index of the bridge port the packet came in by. Key: `oob.physindev`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.physindev"][self._row]
        except KeyError:
            return self._batch.values("oob.physindev")[self._row]

    @property
    def physoutdev(self) -> int | None:
        """Index of the bridge port it leaves by. Key: `oob.physoutdev`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.physoutdev"][self._row]
        except KeyError:
            return self._batch.values("oob.physoutdev")[self._row]

    @property
    def indev_name(self) -> str:
        """Name of the input interface; empty if there is none or it is unknown. Key: `oob.in`."""
        try:
            return self._batch._cache["oob.in"][self._row]
        except KeyError:
            return self._batch.values("oob.in")[self._row]

    @property
    def outdev_name(self) -> str:
        """Name of the output interface; empty if there is none or it is unknown. Key: `oob.out`."""
        try:
            return self._batch._cache["oob.out"][self._row]
        except KeyError:
            return self._batch.values("oob.out")[self._row]

    @property
    def uid(self) -> int | None:
        """ID of the user that owns the sending socket, if the kernel knows it. Key: `oob.uid`; None if the packet
        lacks it.
        """
        try:
            return self._batch._cache["oob.uid"][self._row]
        except KeyError:
            return self._batch.values("oob.uid")[self._row]

    @property
    def gid(self) -> int | None:
        """ID of the group that owns the sending socket. Key: `oob.gid`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.gid"][self._row]
        except KeyError:
            return self._batch.values("oob.gid")[self._row]

    @property
    def label(self) -> int:
        """`numeric_label` of the input: by convention 0 means blocked, any other value allowed. Key: `raw.label`."""
        try:
            return self._batch._cache["raw.label"][self._row]
        except KeyError:
            return self._batch.values("raw.label")[self._row]

    @property
    def seq_local(self) -> int | None:
        """Sequence number within the group. Key: `oob.seq.local`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.seq.local"][self._row]
        except KeyError:
            return self._batch.values("oob.seq.local")[self._row]

    @property
    def seq_global(self) -> int | None:
        """Sequence number across all groups that ask for it. Key: `oob.seq.global`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.seq.global"][self._row]
        except KeyError:
            return self._batch.values("oob.seq.global")[self._row]

    @property
    def saddr(self) -> str | None:
        """Source address, IPv4 or IPv6. Key: `ip.saddr`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip.saddr"][self._row]
        except KeyError:
            return self._batch.values("ip.saddr")[self._row]

    @property
    def daddr(self) -> str | None:
        """Destination address. Key: `ip.daddr`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip.daddr"][self._row]
        except KeyError:
            return self._batch.values("ip.daddr")[self._row]

    @property
    def protocol(self) -> int | None:
        """Protocol; for IPv6 that of the header after the extension headers, if it can be reached. Key:
        `ip.protocol`; None if the packet lacks it.
        """
        try:
            return self._batch._cache["ip.protocol"][self._row]
        except KeyError:
            return self._batch.values("ip.protocol")[self._row]

    @property
    def sport(self) -> int | None:
        """Whichever of `tcp.sport`, `udp.sport` and `sctp.sport` the packet has; None if it has none of them."""
        try:
            return self._batch._cache["src_port"][self._row]
        except KeyError:
            return self._batch.values("src_port")[self._row]

    @property
    def dport(self) -> int | None:
        """Whichever of `tcp.dport`, `udp.dport` and `sctp.dport` the packet has; None if it has none of them."""
        try:
            return self._batch._cache["dest_port"][self._row]
        except KeyError:
            return self._batch.values("dest_port")[self._row]

    @property
    def src_port(self) -> int | None:
        """Whichever of `tcp.sport`, `udp.sport` and `sctp.sport` the packet has; None if it has none of them."""
        try:
            return self._batch._cache["src_port"][self._row]
        except KeyError:
            return self._batch.values("src_port")[self._row]

    @property
    def dest_port(self) -> int | None:
        """Whichever of `tcp.dport`, `udp.dport` and `sctp.dport` the packet has; None if it has none of them."""
        try:
            return self._batch._cache["dest_port"][self._row]
        except KeyError:
            return self._batch.values("dest_port")[self._row]

    @property
    def src_ip(self) -> str | None:
        """Source address as text. Key: `ip.saddr.str`; None if the packet lacks it."""
        try:
            return self._batch._cache["src_ip"][self._row]
        except KeyError:
            return self._batch.values("src_ip")[self._row]

    @property
    def dest_ip(self) -> str | None:
        """Destination address as text. Key: `ip.daddr.str`; None if the packet lacks it."""
        try:
            return self._batch._cache["dest_ip"][self._row]
        except KeyError:
            return self._batch.values("dest_ip")[self._row]

    @property
    def raw_mac(self) -> memoryview | None:
        """Link-layer header; only if the kernel has one (input side). Key: `raw.mac`; None if the packet lacks it."""
        try:
            return self._batch._cache["raw.mac"][self._row]
        except KeyError:
            return self._batch.values("raw.mac")[self._row]

    @property
    def raw_pkt(self) -> memoryview | None:
        """The packet from its network header on, up to copy_range or snaplen. Key: `raw.pkt`; None if the packet
        lacks it.
        """
        try:
            return self._batch._cache["raw.pkt"][self._row]
        except KeyError:
            return self._batch.values("raw.pkt")[self._row]

    @property
    def raw_pktlen(self) -> int | None:
        """Bytes of the packet that were captured. Key: `raw.pktlen`; None if the packet lacks it."""
        try:
            return self._batch._cache["raw.pktlen"][self._row]
        except KeyError:
            return self._batch.values("raw.pktlen")[self._row]

    @property
    def raw_pktcount(self) -> int:
        """Packets this record stands for: 1. Key: `raw.pktcount`."""
        try:
            return self._batch._cache["raw.pktcount"][self._row]
        except KeyError:
            return self._batch.values("raw.pktcount")[self._row]

    @property
    def oob_prefix(self) -> str | None:
        """Prefix of the rule that logged the packet; empty for an nft rule without a prefix. Key: `oob.prefix`; None
        if the packet lacks it.
        """
        try:
            return self._batch._cache["oob.prefix"][self._row]
        except KeyError:
            return self._batch.values("oob.prefix")[self._row]

    @property
    def oob_time_sec(self) -> int:
        """Seconds since 1970: the kernel's time stamp, otherwise the time of reception. Key: `oob.time.sec`."""
        try:
            return self._batch._cache["oob.time.sec"][self._row]
        except KeyError:
            return self._batch.values("oob.time.sec")[self._row]

    @property
    def oob_time_usec(self) -> int:
        """Microseconds of the same time. Key: `oob.time.usec`."""
        try:
            return self._batch._cache["oob.time.usec"][self._row]
        except KeyError:
            return self._batch.values("oob.time.usec")[self._row]

    @property
    def oob_mark(self) -> int:
        """Mark of the packet; 0 if it has none. Key: `oob.mark`."""
        try:
            return self._batch._cache["oob.mark"][self._row]
        except KeyError:
            return self._batch.values("oob.mark")[self._row]

    @property
    def oob_ifindex_in(self) -> int | None:
        """Index of the interface the packet came in by. Key: `oob.ifindex_in`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.ifindex_in"][self._row]
        except KeyError:
            return self._batch.values("oob.ifindex_in")[self._row]

    @property
    def oob_ifindex_out(self) -> int | None:
        """Index of the interface it leaves by. Key: `oob.ifindex_out`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.ifindex_out"][self._row]
        except KeyError:
            return self._batch.values("oob.ifindex_out")[self._row]

    @property
    def oob_hook(self) -> int | None:
        """Netfilter hook (IP: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting). Key: `oob.hook`; None if
        the packet lacks it.
        """
        try:
            return self._batch._cache["oob.hook"][self._row]
        except KeyError:
            return self._batch.values("oob.hook")[self._row]

    @property
    def raw_mac_len(self) -> int | None:
        """Bytes in raw.mac. Key: `raw.mac_len`; None if the packet lacks it."""
        try:
            return self._batch._cache["raw.mac_len"][self._row]
        except KeyError:
            return self._batch.values("raw.mac_len")[self._row]

    @property
    def oob_seq_local(self) -> int | None:
        """Sequence number within the group. Key: `oob.seq.local`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.seq.local"][self._row]
        except KeyError:
            return self._batch.values("oob.seq.local")[self._row]

    @property
    def oob_seq_global(self) -> int | None:
        """Sequence number across all groups that ask for it. Key: `oob.seq.global`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.seq.global"][self._row]
        except KeyError:
            return self._batch.values("oob.seq.global")[self._row]

    @property
    def oob_family(self) -> int:
        """Family of the rule: 2 IPv4, 10 IPv6, 7 bridge, 3 ARP, 5 netdev. Key: `oob.family`."""
        try:
            return self._batch._cache["oob.family"][self._row]
        except KeyError:
            return self._batch.values("oob.family")[self._row]

    @property
    def oob_protocol(self) -> int | None:
        """EtherType of the packet. Key: `oob.protocol`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.protocol"][self._row]
        except KeyError:
            return self._batch.values("oob.protocol")[self._row]

    @property
    def oob_uid(self) -> int | None:
        """ID of the user that owns the sending socket, if the kernel knows it. Key: `oob.uid`; None if the packet
        lacks it.
        """
        try:
            return self._batch._cache["oob.uid"][self._row]
        except KeyError:
            return self._batch.values("oob.uid")[self._row]

    @property
    def oob_gid(self) -> int | None:
        """ID of the group that owns the sending socket. Key: `oob.gid`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.gid"][self._row]
        except KeyError:
            return self._batch.values("oob.gid")[self._row]

    @property
    def raw_label(self) -> int:
        """`numeric_label` of the input: by convention 0 means blocked, any other value allowed. Key: `raw.label`."""
        try:
            return self._batch._cache["raw.label"][self._row]
        except KeyError:
            return self._batch.values("raw.label")[self._row]

    @property
    def raw_type(self) -> int | None:
        """Link type (ARPHRD_*; 1 is Ethernet). Key: `raw.type`; None if the packet lacks it."""
        try:
            return self._batch._cache["raw.type"][self._row]
        except KeyError:
            return self._batch.values("raw.type")[self._row]

    @property
    def raw_mac_saddr(self) -> bytes | None:
        """Hardware address of the sender. Key: `raw.mac.saddr`; None if the packet lacks it."""
        try:
            return self._batch._cache["raw.mac.saddr"][self._row]
        except KeyError:
            return self._batch.values("raw.mac.saddr")[self._row]

    @property
    def raw_mac_addrlen(self) -> int | None:
        """Bytes in raw.mac.saddr. Key: `raw.mac.addrlen`; None if the packet lacks it."""
        try:
            return self._batch._cache["raw.mac.addrlen"][self._row]
        except KeyError:
            return self._batch.values("raw.mac.addrlen")[self._row]

    @property
    def ct(self) -> memoryview | None:
        """Conntrack entry as the kernel attached it; only with attach_conntrack. Key: `ct`; None if the packet lacks
        it.
        """
        try:
            return self._batch._cache["ct"][self._row]
        except KeyError:
            return self._batch.values("ct")[self._row]

    @property
    def oob_physindev(self) -> int | None:
        """Index of the bridge port the packet came in by. Key: `oob.physindev`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.physindev"][self._row]
        except KeyError:
            return self._batch.values("oob.physindev")[self._row]

    @property
    def oob_physoutdev(self) -> int | None:
        """Index of the bridge port it leaves by. Key: `oob.physoutdev`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.physoutdev"][self._row]
        except KeyError:
            return self._batch.values("oob.physoutdev")[self._row]

    @property
    def vlan_id(self) -> int | None:
        """VLAN of the outermost 802.1Q or 802.1ad tag. Key: `vlan.id`; None if the packet lacks it."""
        try:
            return self._batch._cache["vlan.id"][self._row]
        except KeyError:
            return self._batch.values("vlan.id")[self._row]

    @property
    def vlan_priority(self) -> int | None:
        """Priority code point of the VLAN tag. Key: `vlan.priority`; None if the packet lacks it."""
        try:
            return self._batch._cache["vlan.priority"][self._row]
        except KeyError:
            return self._batch.values("vlan.priority")[self._row]

    @property
    def vlan_protocol(self) -> int | None:
        """EtherType of the tag: 0x8100 or 0x88a8. Key: `vlan.protocol`; None if the packet lacks it."""
        try:
            return self._batch._cache["vlan.protocol"][self._row]
        except KeyError:
            return self._batch.values("vlan.protocol")[self._row]

    @property
    def raw_l2hdr(self) -> memoryview | None:
        """Link-layer header of a bridged packet, tags included (NFULA_L2HDR). Key: `raw.l2hdr`; None if the packet
        lacks it.
        """
        try:
            return self._batch._cache["raw.l2hdr"][self._row]
        except KeyError:
            return self._batch.values("raw.l2hdr")[self._row]

    @property
    def ip_saddr(self) -> str | None:
        """Source address, IPv4 or IPv6. Key: `ip.saddr`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip.saddr"][self._row]
        except KeyError:
            return self._batch.values("ip.saddr")[self._row]

    @property
    def ip_daddr(self) -> str | None:
        """Destination address. Key: `ip.daddr`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip.daddr"][self._row]
        except KeyError:
            return self._batch.values("ip.daddr")[self._row]

    @property
    def ip_protocol(self) -> int | None:
        """Protocol; for IPv6 that of the header after the extension headers, if it can be reached. Key:
        `ip.protocol`; None if the packet lacks it.
        """
        try:
            return self._batch._cache["ip.protocol"][self._row]
        except KeyError:
            return self._batch.values("ip.protocol")[self._row]

    @property
    def ip_tos(self) -> int | None:
        """IPv4 type of service (DSCP and ECN). Key: `ip.tos`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip.tos"][self._row]
        except KeyError:
            return self._batch.values("ip.tos")[self._row]

    @property
    def ip_ttl(self) -> int | None:
        """IPv4 time to live. Key: `ip.ttl`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip.ttl"][self._row]
        except KeyError:
            return self._batch.values("ip.ttl")[self._row]

    @property
    def ip_totlen(self) -> int | None:
        """Length in bytes stated by the IPv4 header. Key: `ip.totlen`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip.totlen"][self._row]
        except KeyError:
            return self._batch.values("ip.totlen")[self._row]

    @property
    def ip_ihl(self) -> int | None:
        """IPv4 header length in 32-bit words. Key: `ip.ihl`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip.ihl"][self._row]
        except KeyError:
            return self._batch.values("ip.ihl")[self._row]

    @property
    def ip_csum(self) -> int | None:
        """IPv4 header checksum. Key: `ip.csum`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip.csum"][self._row]
        except KeyError:
            return self._batch.values("ip.csum")[self._row]

    @property
    def ip_id(self) -> int | None:
        """IPv4 identification. Key: `ip.id`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip.id"][self._row]
        except KeyError:
            return self._batch.values("ip.id")[self._row]

    @property
    def ip_fragoff(self) -> int | None:
        """IPv4 flags and fragment offset as one 16-bit field. Key: `ip.fragoff`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip.fragoff"][self._row]
        except KeyError:
            return self._batch.values("ip.fragoff")[self._row]

    @property
    def ip6_payloadlen(self) -> int | None:
        """Length in bytes stated by the IPv6 header, without that header itself. Key: `ip6.payloadlen`; None if the
        packet lacks it.
        """
        try:
            return self._batch._cache["ip6.payloadlen"][self._row]
        except KeyError:
            return self._batch.values("ip6.payloadlen")[self._row]

    @property
    def ip6_priority(self) -> int | None:
        """IPv6 traffic class. Key: `ip6.priority`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip6.priority"][self._row]
        except KeyError:
            return self._batch.values("ip6.priority")[self._row]

    @property
    def ip6_flowlabel(self) -> int | None:
        """IPv6 flow label. Key: `ip6.flowlabel`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip6.flowlabel"][self._row]
        except KeyError:
            return self._batch.values("ip6.flowlabel")[self._row]

    @property
    def ip6_hoplimit(self) -> int | None:
        """IPv6 hop limit. Key: `ip6.hoplimit`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip6.hoplimit"][self._row]
        except KeyError:
            return self._batch.values("ip6.hoplimit")[self._row]

    @property
    def ip6_nexthdr(self) -> int | None:
        """Number of the last IPv6 header that could be reached. Key: `ip6.nexthdr`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip6.nexthdr"][self._row]
        except KeyError:
            return self._batch.values("ip6.nexthdr")[self._row]

    @property
    def ip6_fragoff(self) -> int | None:
        """Offset of an IPv6 fragment in bytes. Key: `ip6.fragoff`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip6.fragoff"][self._row]
        except KeyError:
            return self._batch.values("ip6.fragoff")[self._row]

    @property
    def ip6_fragid(self) -> int | None:
        """Identification of an IPv6 fragment. Key: `ip6.fragid`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip6.fragid"][self._row]
        except KeyError:
            return self._batch.values("ip6.fragid")[self._row]

    @property
    def tcp_sport(self) -> int | None:
        """TCP source port. Key: `tcp.sport`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.sport"][self._row]
        except KeyError:
            return self._batch.values("tcp.sport")[self._row]

    @property
    def tcp_dport(self) -> int | None:
        """TCP destination port. Key: `tcp.dport`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.dport"][self._row]
        except KeyError:
            return self._batch.values("tcp.dport")[self._row]

    @property
    def tcp_seq(self) -> int | None:
        """TCP sequence number. Key: `tcp.seq`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.seq"][self._row]
        except KeyError:
            return self._batch.values("tcp.seq")[self._row]

    @property
    def tcp_ackseq(self) -> int | None:
        """TCP acknowledgement number. Key: `tcp.ackseq`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.ackseq"][self._row]
        except KeyError:
            return self._batch.values("tcp.ackseq")[self._row]

    @property
    def tcp_window(self) -> int | None:
        """TCP window, not scaled. Key: `tcp.window`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.window"][self._row]
        except KeyError:
            return self._batch.values("tcp.window")[self._row]

    @property
    def tcp_offset(self) -> int | None:
        """TCP header length in 32-bit words. Key: `tcp.offset`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.offset"][self._row]
        except KeyError:
            return self._batch.values("tcp.offset")[self._row]

    @property
    def tcp_reserved(self) -> int | None:
        """The four reserved bits (RFC 9293). Key: `tcp.reserved`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.reserved"][self._row]
        except KeyError:
            return self._batch.values("tcp.reserved")[self._row]

    @property
    def tcp_urg(self) -> int | None:
        """URG flag. Key: `tcp.urg`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.urg"][self._row]
        except KeyError:
            return self._batch.values("tcp.urg")[self._row]

    @property
    def tcp_urgp(self) -> int | None:
        """Urgent pointer; only with URG. Key: `tcp.urgp`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.urgp"][self._row]
        except KeyError:
            return self._batch.values("tcp.urgp")[self._row]

    @property
    def tcp_ack(self) -> int | None:
        """ACK flag. Key: `tcp.ack`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.ack"][self._row]
        except KeyError:
            return self._batch.values("tcp.ack")[self._row]

    @property
    def tcp_psh(self) -> int | None:
        """PSH flag. Key: `tcp.psh`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.psh"][self._row]
        except KeyError:
            return self._batch.values("tcp.psh")[self._row]

    @property
    def tcp_rst(self) -> int | None:
        """RST flag. Key: `tcp.rst`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.rst"][self._row]
        except KeyError:
            return self._batch.values("tcp.rst")[self._row]

    @property
    def tcp_syn(self) -> int | None:
        """SYN flag. Key: `tcp.syn`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.syn"][self._row]
        except KeyError:
            return self._batch.values("tcp.syn")[self._row]

    @property
    def tcp_fin(self) -> int | None:
        """FIN flag. Key: `tcp.fin`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.fin"][self._row]
        except KeyError:
            return self._batch.values("tcp.fin")[self._row]

    @property
    def tcp_res1(self) -> int | None:
        """The four reserved bits as a number, as ulogd2 gives them. Key: `tcp.res1`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.res1"][self._row]
        except KeyError:
            return self._batch.values("tcp.res1")[self._row]

    @property
    def tcp_res2(self) -> int | None:
        """CWR and ECE as a number: 1 ECE, 2 CWR. Key: `tcp.res2`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.res2"][self._row]
        except KeyError:
            return self._batch.values("tcp.res2")[self._row]

    @property
    def tcp_csum(self) -> int | None:
        """TCP checksum. Key: `tcp.csum`; None if the packet lacks it."""
        try:
            return self._batch._cache["tcp.csum"][self._row]
        except KeyError:
            return self._batch.values("tcp.csum")[self._row]

    @property
    def udp_sport(self) -> int | None:
        """UDP or UDP-Lite source port. Key: `udp.sport`; None if the packet lacks it."""
        try:
            return self._batch._cache["udp.sport"][self._row]
        except KeyError:
            return self._batch.values("udp.sport")[self._row]

    @property
    def udp_dport(self) -> int | None:
        """UDP or UDP-Lite destination port. Key: `udp.dport`; None if the packet lacks it."""
        try:
            return self._batch._cache["udp.dport"][self._row]
        except KeyError:
            return self._batch.values("udp.dport")[self._row]

    @property
    def udp_len(self) -> int | None:
        """Length in bytes stated by the UDP header; not for UDP-Lite. Key: `udp.len`; None if the packet lacks it."""
        try:
            return self._batch._cache["udp.len"][self._row]
        except KeyError:
            return self._batch.values("udp.len")[self._row]

    @property
    def udp_csum(self) -> int | None:
        """UDP or UDP-Lite checksum. Key: `udp.csum`; None if the packet lacks it."""
        try:
            return self._batch._cache["udp.csum"][self._row]
        except KeyError:
            return self._batch.values("udp.csum")[self._row]

    @property
    def icmp_type(self) -> int | None:
        """ICMP type. Key: `icmp.type`; None if the packet lacks it."""
        try:
            return self._batch._cache["icmp.type"][self._row]
        except KeyError:
            return self._batch.values("icmp.type")[self._row]

    @property
    def icmp_code(self) -> int | None:
        """ICMP code. Key: `icmp.code`; None if the packet lacks it."""
        try:
            return self._batch._cache["icmp.code"][self._row]
        except KeyError:
            return self._batch.values("icmp.code")[self._row]

    @property
    def icmp_echoid(self) -> int | None:
        """Identifier of an echo or echo reply. Key: `icmp.echoid`; None if the packet lacks it."""
        try:
            return self._batch._cache["icmp.echoid"][self._row]
        except KeyError:
            return self._batch.values("icmp.echoid")[self._row]

    @property
    def icmp_echoseq(self) -> int | None:
        """Sequence number of an echo. Key: `icmp.echoseq`; None if the packet lacks it."""
        try:
            return self._batch._cache["icmp.echoseq"][self._row]
        except KeyError:
            return self._batch.values("icmp.echoseq")[self._row]

    @property
    def icmp_gateway(self) -> str | None:
        """Gateway of a redirect (type 5), or the pointer word of type 12. Key: `icmp.gateway`; None if the packet
        lacks it.
        """
        try:
            return self._batch._cache["icmp.gateway"][self._row]
        except KeyError:
            return self._batch.values("icmp.gateway")[self._row]

    @property
    def icmp_fragmtu(self) -> int | None:
        """MTU of `fragmentation needed` (type 3 code 4). Key: `icmp.fragmtu`; None if the packet lacks it."""
        try:
            return self._batch._cache["icmp.fragmtu"][self._row]
        except KeyError:
            return self._batch.values("icmp.fragmtu")[self._row]

    @property
    def icmp_csum(self) -> int | None:
        """ICMP checksum. Key: `icmp.csum`; None if the packet lacks it."""
        try:
            return self._batch._cache["icmp.csum"][self._row]
        except KeyError:
            return self._batch.values("icmp.csum")[self._row]

    @property
    def icmpv6_type(self) -> int | None:
        """ICMPv6 type. Key: `icmpv6.type`; None if the packet lacks it."""
        try:
            return self._batch._cache["icmpv6.type"][self._row]
        except KeyError:
            return self._batch.values("icmpv6.type")[self._row]

    @property
    def icmpv6_code(self) -> int | None:
        """ICMPv6 code. Key: `icmpv6.code`; None if the packet lacks it."""
        try:
            return self._batch._cache["icmpv6.code"][self._row]
        except KeyError:
            return self._batch.values("icmpv6.code")[self._row]

    @property
    def icmpv6_echoid(self) -> int | None:
        """Identifier of an echo request or reply. Key: `icmpv6.echoid`; None if the packet lacks it."""
        try:
            return self._batch._cache["icmpv6.echoid"][self._row]
        except KeyError:
            return self._batch.values("icmpv6.echoid")[self._row]

    @property
    def icmpv6_echoseq(self) -> int | None:
        """Sequence number of an echo. Key: `icmpv6.echoseq`; None if the packet lacks it."""
        try:
            return self._batch._cache["icmpv6.echoseq"][self._row]
        except KeyError:
            return self._batch.values("icmpv6.echoseq")[self._row]

    @property
    def icmpv6_csum(self) -> int | None:
        """ICMPv6 checksum. Key: `icmpv6.csum`; None if the packet lacks it."""
        try:
            return self._batch._cache["icmpv6.csum"][self._row]
        except KeyError:
            return self._batch.values("icmpv6.csum")[self._row]

    @property
    def ahesp_spi(self) -> int | None:
        """Security parameters index of AH or ESP. Key: `ahesp.spi`; None if the packet lacks it."""
        try:
            return self._batch._cache["ahesp.spi"][self._row]
        except KeyError:
            return self._batch.values("ahesp.spi")[self._row]

    @property
    def arp_hwtype(self) -> int | None:
        """ARP hardware type. Key: `arp.hwtype`; None if the packet lacks it."""
        try:
            return self._batch._cache["arp.hwtype"][self._row]
        except KeyError:
            return self._batch.values("arp.hwtype")[self._row]

    @property
    def arp_protocoltype(self) -> int | None:
        """ARP protocol type (0x0800: IPv4). Key: `arp.protocoltype`; None if the packet lacks it."""
        try:
            return self._batch._cache["arp.protocoltype"][self._row]
        except KeyError:
            return self._batch.values("arp.protocoltype")[self._row]

    @property
    def arp_operation(self) -> int | None:
        """1 request, 2 reply. Key: `arp.operation`; None if the packet lacks it."""
        try:
            return self._batch._cache["arp.operation"][self._row]
        except KeyError:
            return self._batch.values("arp.operation")[self._row]

    @property
    def arp_shwaddr(self) -> bytes | None:
        """Sender's hardware address, 6 bytes. Key: `arp.shwaddr`; None if the packet lacks it."""
        try:
            return self._batch._cache["arp.shwaddr"][self._row]
        except KeyError:
            return self._batch.values("arp.shwaddr")[self._row]

    @property
    def arp_saddr(self) -> str | None:
        """Sender's IPv4 address. Key: `arp.saddr`; None if the packet lacks it."""
        try:
            return self._batch._cache["arp.saddr"][self._row]
        except KeyError:
            return self._batch.values("arp.saddr")[self._row]

    @property
    def arp_dhwaddr(self) -> bytes | None:
        """Target's hardware address, 6 bytes. Key: `arp.dhwaddr`; None if the packet lacks it."""
        try:
            return self._batch._cache["arp.dhwaddr"][self._row]
        except KeyError:
            return self._batch.values("arp.dhwaddr")[self._row]

    @property
    def arp_daddr(self) -> str | None:
        """Target's IPv4 address. Key: `arp.daddr`; None if the packet lacks it."""
        try:
            return self._batch._cache["arp.daddr"][self._row]
        except KeyError:
            return self._batch.values("arp.daddr")[self._row]

    @property
    def sctp_sport(self) -> int | None:
        """SCTP source port. Key: `sctp.sport`; None if the packet lacks it."""
        try:
            return self._batch._cache["sctp.sport"][self._row]
        except KeyError:
            return self._batch.values("sctp.sport")[self._row]

    @property
    def sctp_dport(self) -> int | None:
        """SCTP destination port. Key: `sctp.dport`; None if the packet lacks it."""
        try:
            return self._batch._cache["sctp.dport"][self._row]
        except KeyError:
            return self._batch.values("sctp.dport")[self._row]

    @property
    def sctp_csum(self) -> int | None:
        """SCTP checksum. Key: `sctp.csum`; None if the packet lacks it."""
        try:
            return self._batch._cache["sctp.csum"][self._row]
        except KeyError:
            return self._batch.values("sctp.csum")[self._row]

    @property
    def udplite_coverage(self) -> int | None:
        """Checksum coverage of UDP-Lite (RFC 3828). Key: `udplite.coverage`; None if the packet lacks it."""
        try:
            return self._batch._cache["udplite.coverage"][self._row]
        except KeyError:
            return self._batch.values("udplite.coverage")[self._row]

    @property
    def oob_in(self) -> str:
        """Name of the input interface; empty if there is none or it is unknown. Key: `oob.in`."""
        try:
            return self._batch._cache["oob.in"][self._row]
        except KeyError:
            return self._batch.values("oob.in")[self._row]

    @property
    def oob_out(self) -> str:
        """Name of the output interface; empty if there is none or it is unknown. Key: `oob.out`."""
        try:
            return self._batch._cache["oob.out"][self._row]
        except KeyError:
            return self._batch.values("oob.out")[self._row]

    @property
    def oob_physin(self) -> str | None:
        """Name of the bridge port the packet came in by. Key: `oob.physin`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.physin"][self._row]
        except KeyError:
            return self._batch.values("oob.physin")[self._row]

    @property
    def oob_physout(self) -> str | None:
        """Name of the bridge port it leaves by. Key: `oob.physout`; None if the packet lacks it."""
        try:
            return self._batch._cache["oob.physout"][self._row]
        except KeyError:
            return self._batch.values("oob.physout")[self._row]

    @property
    def ip_saddr_str(self) -> str | None:
        """Source address as text. Key: `ip.saddr.str`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip.saddr.str"][self._row]
        except KeyError:
            return self._batch.values("ip.saddr.str")[self._row]

    @property
    def ip_daddr_str(self) -> str | None:
        """Destination address as text. Key: `ip.daddr.str`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip.daddr.str"][self._row]
        except KeyError:
            return self._batch.values("ip.daddr.str")[self._row]

    @property
    def arp_saddr_str(self) -> str | None:
        """ARP sender's address as text. Key: `arp.saddr.str`; None if the packet lacks it."""
        try:
            return self._batch._cache["arp.saddr.str"][self._row]
        except KeyError:
            return self._batch.values("arp.saddr.str")[self._row]

    @property
    def arp_daddr_str(self) -> str | None:
        """ARP target's address as text. Key: `arp.daddr.str`; None if the packet lacks it."""
        try:
            return self._batch._cache["arp.daddr.str"][self._row]
        except KeyError:
            return self._batch.values("arp.daddr.str")[self._row]

    @property
    def ip_saddr_bin(self) -> str | None:
        """Source address as `0x` and 32 hex digits, IPv4 mapped into ::ffff:0:0/96. Key: `ip.saddr.bin`; None if the
        packet lacks it.
        """
        try:
            return self._batch._cache["ip.saddr.bin"][self._row]
        except KeyError:
            return self._batch.values("ip.saddr.bin")[self._row]

    @property
    def ip_daddr_bin(self) -> str | None:
        """Destination address in the same form. Key: `ip.daddr.bin`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip.daddr.bin"][self._row]
        except KeyError:
            return self._batch.values("ip.daddr.bin")[self._row]

    @property
    def ip_hsaddr(self) -> int | None:
        """Source address as a number, if it is IPv4. Key: `ip.hsaddr`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip.hsaddr"][self._row]
        except KeyError:
            return self._batch.values("ip.hsaddr")[self._row]

    @property
    def ip_hdaddr(self) -> int | None:
        """Destination address as a number, if it is IPv4. Key: `ip.hdaddr`; None if the packet lacks it."""
        try:
            return self._batch._cache["ip.hdaddr"][self._row]
        except KeyError:
            return self._batch.values("ip.hdaddr")[self._row]

    @property
    def arp_hsaddr(self) -> int | None:
        """ARP sender's address as a number. Key: `arp.hsaddr`; None if the packet lacks it."""
        try:
            return self._batch._cache["arp.hsaddr"][self._row]
        except KeyError:
            return self._batch.values("arp.hsaddr")[self._row]

    @property
    def arp_hdaddr(self) -> int | None:
        """ARP target's address as a number. Key: `arp.hdaddr`; None if the packet lacks it."""
        try:
            return self._batch._cache["arp.hdaddr"][self._row]
        except KeyError:
            return self._batch.values("arp.hdaddr")[self._row]

    @property
    def mac_saddr_str(self) -> str | None:
        """Sender's hardware address as text. Key: `mac.saddr.str`; None if the packet lacks it."""
        try:
            return self._batch._cache["mac.saddr.str"][self._row]
        except KeyError:
            return self._batch.values("mac.saddr.str")[self._row]

    @property
    def mac_daddr_str(self) -> str | None:
        """Destination's hardware address as text (Ethernet). Key: `mac.daddr.str`; None if the packet lacks it."""
        try:
            return self._batch._cache["mac.daddr.str"][self._row]
        except KeyError:
            return self._batch.values("mac.daddr.str")[self._row]

    @property
    def mac_str(self) -> str | None:
        """The whole link-layer header as text. Key: `mac.str`; None if the packet lacks it."""
        try:
            return self._batch._cache["mac.str"][self._row]
        except KeyError:
            return self._batch.values("mac.str")[self._row]
