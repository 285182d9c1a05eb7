# SPDX-License-Identifier: GPL-2.0-or-later
# mypy: disable-error-code="no-any-return"
"""Every name of a flow's keys as an attribute with its type. Made by `make docs` from the catalogue of keys; what is
changed here by hand is lost.

Each looks into the batch's columns first: a call in between would cost half as much as the look itself.
"""

from __future__ import annotations

import builtins

from nflowlevel.records.row import Row


class FlowAttributes(Row, frozen=True, gc=False, eq=False):
    """The attributes of a flow."""

    @property
    def saddr(self) -> str:
        """Source address of the original direction, IPv4 or IPv6. Key: `orig.ip.saddr`."""
        try:
            return self._batch._cache["orig.ip.saddr"][self._row]
        except KeyError:
            return self._batch.values("orig.ip.saddr")[self._row]

    @property
    def daddr(self) -> str:
        """Destination address of the original direction. Key: `orig.ip.daddr`."""
        try:
            return self._batch._cache["orig.ip.daddr"][self._row]
        except KeyError:
            return self._batch.values("orig.ip.daddr")[self._row]

    @property
    def protocol(self) -> int:
        """Protocol of the original direction. Key: `orig.ip.protocol`."""
        try:
            return self._batch._cache["orig.ip.protocol"][self._row]
        except KeyError:
            return self._batch.values("orig.ip.protocol")[self._row]

    @property
    def sport(self) -> int | None:
        """Source port of the original direction. Key: `orig.l4.sport`; None if the flow lacks it."""
        try:
            return self._batch._cache["orig.l4.sport"][self._row]
        except KeyError:
            return self._batch.values("orig.l4.sport")[self._row]

    @property
    def dport(self) -> int | None:
        """Destination port of the original direction. Key: `orig.l4.dport`; None if the flow lacks it."""
        try:
            return self._batch._cache["orig.l4.dport"][self._row]
        except KeyError:
            return self._batch.values("orig.l4.dport")[self._row]

    @property
    def bytes(self) -> int:
        """Bytes of the original direction since the flow's record before; 0 if the kernel does not count
        (nf_conntrack_acct). Key: `orig.raw.pktlen`.
        """
        try:
            return self._batch._cache["orig.raw.pktlen"][self._row]
        except KeyError:
            return self._batch.values("orig.raw.pktlen")[self._row]

    @property
    def packets(self) -> int:
        """Packets of the original direction since the flow's record before; 0 if the kernel does not count. Key:
        `orig.raw.pktcount`.
        """
        try:
            return self._batch._cache["orig.raw.pktcount"][self._row]
        except KeyError:
            return self._batch.values("orig.raw.pktcount")[self._row]

    @property
    def reply_bytes(self) -> int:
        """Bytes of the reply direction since the flow's record before; 0 if the kernel does not count
        (nf_conntrack_acct). Key: `reply.raw.pktlen`.
        """
        try:
            return self._batch._cache["reply.raw.pktlen"][self._row]
        except KeyError:
            return self._batch.values("reply.raw.pktlen")[self._row]

    @property
    def reply_packets(self) -> int:
        """Packets of the reply direction since the flow's record before; 0 if the kernel does not count. Key:
        `reply.raw.pktcount`.
        """
        try:
            return self._batch._cache["reply.raw.pktcount"][self._row]
        except KeyError:
            return self._batch.values("reply.raw.pktcount")[self._row]

    @property
    def mark(self) -> int:
        """Mark of the flow; 0 if it has none. Key: `ct.mark`."""
        try:
            return self._batch._cache["ct.mark"][self._row]
        except KeyError:
            return self._batch.values("ct.mark")[self._row]

    @property
    def id(self) -> int:
        """The kernel's number of the flow. Flows of different times can have the same. Key: `ct.id`."""
        try:
            return self._batch._cache["ct.id"][self._row]
        except KeyError:
            return self._batch.values("ct.id")[self._row]

    @property
    def event(self) -> int | None:
        """What happened: 1 new, 2 update or a record of a flow that goes on, 4 end. Key: `ct.event`; None if the
        flow lacks it.
        """
        try:
            return self._batch._cache["ct.event"][self._row]
        except KeyError:
            return self._batch.values("ct.event")[self._row]

    @property
    def status(self) -> int | None:
        """Status bits of the flow (IPS_*): 2 replies were seen, 4 assured, 8 confirmed, 16 and 32 source and
        destination NAT, 512 dying. Key: `ct.status`; None if the flow lacks it.
        """
        try:
            return self._batch._cache["ct.status"][self._row]
        except KeyError:
            return self._batch.values("ct.status")[self._row]

    @property
    def timeout(self) -> int | None:
        """Seconds until an idle flow is removed. Key: `ct.timeout`; None if the flow lacks it."""
        try:
            return self._batch._cache["ct.timeout"][self._row]
        except KeyError:
            return self._batch.values("ct.timeout")[self._row]

    @property
    def zone(self) -> int:
        """Conntrack zone of the original direction. Key: `ct.zone`."""
        try:
            return self._batch._cache["ct.zone"][self._row]
        except KeyError:
            return self._batch.values("ct.zone")[self._row]

    @property
    def helper(self) -> str | None:
        """Name of the helper. Key: `ct.helper`; None if the flow lacks it."""
        try:
            return self._batch._cache["ct.helper"][self._row]
        except KeyError:
            return self._batch.values("ct.helper")[self._row]

    @property
    def labels(self) -> builtins.bytes | None:
        """Labels of the flow, 128 bits. Key: `ct.labels`; None if the flow lacks it."""
        try:
            return self._batch._cache["ct.labels"][self._row]
        except KeyError:
            return self._batch.values("ct.labels")[self._row]

    @property
    def family(self) -> int:
        """Family of the flow: 2 IPv4, 10 IPv6. Key: `oob.family`."""
        try:
            return self._batch._cache["oob.family"][self._row]
        except KeyError:
            return self._batch.values("oob.family")[self._row]

    @property
    def src_port(self) -> int | None:
        """Source port of the original direction. Key: `orig.l4.sport`; None if the flow lacks it."""
        try:
            return self._batch._cache["orig.l4.sport"][self._row]
        except KeyError:
            return self._batch.values("orig.l4.sport")[self._row]

    @property
    def dest_port(self) -> int | None:
        """Destination port of the original direction. Key: `orig.l4.dport`; None if the flow lacks it."""
        try:
            return self._batch._cache["orig.l4.dport"][self._row]
        except KeyError:
            return self._batch.values("orig.l4.dport")[self._row]

    @property
    def bytes_out(self) -> int:
        """Bytes of the original direction since the flow's record before; 0 if the kernel does not count
        (nf_conntrack_acct). Key: `orig.raw.pktlen`.
        """
        try:
            return self._batch._cache["orig.raw.pktlen"][self._row]
        except KeyError:
            return self._batch.values("orig.raw.pktlen")[self._row]

    @property
    def bytes_in(self) -> int:
        """Bytes of the reply direction since the flow's record before; 0 if the kernel does not count
        (nf_conntrack_acct). Key: `reply.raw.pktlen`.
        """
        try:
            return self._batch._cache["reply.raw.pktlen"][self._row]
        except KeyError:
            return self._batch.values("reply.raw.pktlen")[self._row]

    @property
    def packets_out(self) -> int:
        """Packets of the original direction since the flow's record before; 0 if the kernel does not count. Key:
        `orig.raw.pktcount`.
        """
        try:
            return self._batch._cache["orig.raw.pktcount"][self._row]
        except KeyError:
            return self._batch.values("orig.raw.pktcount")[self._row]

    @property
    def packets_in(self) -> int:
        """Packets of the reply direction since the flow's record before; 0 if the kernel does not count. Key:
        `reply.raw.pktcount`.
        """
        try:
            return self._batch._cache["reply.raw.pktcount"][self._row]
        except KeyError:
            return self._batch.values("reply.raw.pktcount")[self._row]

    @property
    def src_ip(self) -> str:
        """Source address of the flow's original direction as text. Key: `orig.ip.saddr.str`."""
        try:
            return self._batch._cache["src_ip"][self._row]
        except KeyError:
            return self._batch.values("src_ip")[self._row]

    @property
    def dest_ip(self) -> str:
        """Destination address of the original direction as text. Key: `orig.ip.daddr.str`."""
        try:
            return self._batch._cache["dest_ip"][self._row]
        except KeyError:
            return self._batch.values("dest_ip")[self._row]

    @property
    def orig_ip_saddr_str(self) -> str:
        """Source address of the flow's original direction as text. Key: `orig.ip.saddr.str`."""
        try:
            return self._batch._cache["orig.ip.saddr.str"][self._row]
        except KeyError:
            return self._batch.values("orig.ip.saddr.str")[self._row]

    @property
    def orig_ip_daddr_str(self) -> str:
        """Destination address of the original direction as text. Key: `orig.ip.daddr.str`."""
        try:
            return self._batch._cache["orig.ip.daddr.str"][self._row]
        except KeyError:
            return self._batch.values("orig.ip.daddr.str")[self._row]

    @property
    def reply_ip_saddr_str(self) -> str:
        """Source address of the reply direction as text. Key: `reply.ip.saddr.str`."""
        try:
            return self._batch._cache["reply.ip.saddr.str"][self._row]
        except KeyError:
            return self._batch.values("reply.ip.saddr.str")[self._row]

    @property
    def reply_ip_daddr_str(self) -> str:
        """Destination address of the reply direction as text. Key: `reply.ip.daddr.str`."""
        try:
            return self._batch._cache["reply.ip.daddr.str"][self._row]
        except KeyError:
            return self._batch.values("reply.ip.daddr.str")[self._row]

    @property
    def orig_ip_saddr_bin(self) -> str:
        """Source address of the original direction in the same form. Key: `orig.ip.saddr.bin`."""
        try:
            return self._batch._cache["orig.ip.saddr.bin"][self._row]
        except KeyError:
            return self._batch.values("orig.ip.saddr.bin")[self._row]

    @property
    def orig_ip_daddr_bin(self) -> str:
        """Destination address of the original direction in the same form. Key: `orig.ip.daddr.bin`."""
        try:
            return self._batch._cache["orig.ip.daddr.bin"][self._row]
        except KeyError:
            return self._batch.values("orig.ip.daddr.bin")[self._row]

    @property
    def reply_ip_saddr_bin(self) -> str:
        """Source address of the reply direction in the same form. Key: `reply.ip.saddr.bin`."""
        try:
            return self._batch._cache["reply.ip.saddr.bin"][self._row]
        except KeyError:
            return self._batch.values("reply.ip.saddr.bin")[self._row]

    @property
    def reply_ip_daddr_bin(self) -> str:
        """Destination address of the reply direction in the same form. Key: `reply.ip.daddr.bin`."""
        try:
            return self._batch._cache["reply.ip.daddr.bin"][self._row]
        except KeyError:
            return self._batch.values("reply.ip.daddr.bin")[self._row]

    @property
    def orig_ip_hsaddr(self) -> int | None:
        """Source address of the original direction as a number, if it is IPv4. Key: `orig.ip.hsaddr`; None if the
        flow lacks it.
        """
        try:
            return self._batch._cache["orig.ip.hsaddr"][self._row]
        except KeyError:
            return self._batch.values("orig.ip.hsaddr")[self._row]

    @property
    def orig_ip_hdaddr(self) -> int | None:
        """Destination address of the original direction as a number, if it is IPv4. Key: `orig.ip.hdaddr`; None if
        the flow lacks it.
        """
        try:
            return self._batch._cache["orig.ip.hdaddr"][self._row]
        except KeyError:
            return self._batch.values("orig.ip.hdaddr")[self._row]

    @property
    def reply_ip_hsaddr(self) -> int | None:
        """Source address of the reply direction as a number, if it is IPv4. Key: `reply.ip.hsaddr`; None if the flow
        lacks it.
        """
        try:
            return self._batch._cache["reply.ip.hsaddr"][self._row]
        except KeyError:
            return self._batch.values("reply.ip.hsaddr")[self._row]

    @property
    def reply_ip_hdaddr(self) -> int | None:
        """Destination address of the reply direction as a number, if it is IPv4. Key: `reply.ip.hdaddr`; None if the
        flow lacks it.
        """
        try:
            return self._batch._cache["reply.ip.hdaddr"][self._row]
        except KeyError:
            return self._batch.values("reply.ip.hdaddr")[self._row]

    @property
    def orig_ip_saddr(self) -> str:
        """Source address of the original direction, IPv4 or IPv6. Key: `orig.ip.saddr`."""
        try:
            return self._batch._cache["orig.ip.saddr"][self._row]
        except KeyError:
            return self._batch.values("orig.ip.saddr")[self._row]

    @property
    def orig_ip_daddr(self) -> str:
        """Destination address of the original direction. Key: `orig.ip.daddr`."""
        try:
            return self._batch._cache["orig.ip.daddr"][self._row]
        except KeyError:
            return self._batch.values("orig.ip.daddr")[self._row]

    @property
    def orig_ip_protocol(self) -> int:
        """Protocol of the original direction. Key: `orig.ip.protocol`."""
        try:
            return self._batch._cache["orig.ip.protocol"][self._row]
        except KeyError:
            return self._batch.values("orig.ip.protocol")[self._row]

    @property
    def orig_l4_sport(self) -> int | None:
        """Source port of the original direction. Key: `orig.l4.sport`; None if the flow lacks it."""
        try:
            return self._batch._cache["orig.l4.sport"][self._row]
        except KeyError:
            return self._batch.values("orig.l4.sport")[self._row]

    @property
    def orig_l4_dport(self) -> int | None:
        """Destination port of the original direction. Key: `orig.l4.dport`; None if the flow lacks it."""
        try:
            return self._batch._cache["orig.l4.dport"][self._row]
        except KeyError:
            return self._batch.values("orig.l4.dport")[self._row]

    @property
    def orig_raw_pktlen(self) -> int:
        """Bytes of the original direction since the flow's record before; 0 if the kernel does not count
        (nf_conntrack_acct). Key: `orig.raw.pktlen`.
        """
        try:
            return self._batch._cache["orig.raw.pktlen"][self._row]
        except KeyError:
            return self._batch.values("orig.raw.pktlen")[self._row]

    @property
    def orig_raw_pktcount(self) -> int:
        """Packets of the original direction since the flow's record before; 0 if the kernel does not count. Key:
        `orig.raw.pktcount`.
        """
        try:
            return self._batch._cache["orig.raw.pktcount"][self._row]
        except KeyError:
            return self._batch.values("orig.raw.pktcount")[self._row]

    @property
    def reply_ip_saddr(self) -> str:
        """Source address of the reply direction, IPv4 or IPv6. Key: `reply.ip.saddr`."""
        try:
            return self._batch._cache["reply.ip.saddr"][self._row]
        except KeyError:
            return self._batch.values("reply.ip.saddr")[self._row]

    @property
    def reply_ip_daddr(self) -> str:
        """Destination address of the reply direction. Key: `reply.ip.daddr`."""
        try:
            return self._batch._cache["reply.ip.daddr"][self._row]
        except KeyError:
            return self._batch.values("reply.ip.daddr")[self._row]

    @property
    def reply_ip_protocol(self) -> int:
        """Protocol of the reply direction. Key: `reply.ip.protocol`."""
        try:
            return self._batch._cache["reply.ip.protocol"][self._row]
        except KeyError:
            return self._batch.values("reply.ip.protocol")[self._row]

    @property
    def reply_l4_sport(self) -> int | None:
        """Source port of the reply direction. Key: `reply.l4.sport`; None if the flow lacks it."""
        try:
            return self._batch._cache["reply.l4.sport"][self._row]
        except KeyError:
            return self._batch.values("reply.l4.sport")[self._row]

    @property
    def reply_l4_dport(self) -> int | None:
        """Destination port of the reply direction. Key: `reply.l4.dport`; None if the flow lacks it."""
        try:
            return self._batch._cache["reply.l4.dport"][self._row]
        except KeyError:
            return self._batch.values("reply.l4.dport")[self._row]

    @property
    def reply_raw_pktlen(self) -> int:
        """Bytes of the reply direction since the flow's record before; 0 if the kernel does not count
        (nf_conntrack_acct). Key: `reply.raw.pktlen`.
        """
        try:
            return self._batch._cache["reply.raw.pktlen"][self._row]
        except KeyError:
            return self._batch.values("reply.raw.pktlen")[self._row]

    @property
    def reply_raw_pktcount(self) -> int:
        """Packets of the reply direction since the flow's record before; 0 if the kernel does not count. Key:
        `reply.raw.pktcount`.
        """
        try:
            return self._batch._cache["reply.raw.pktcount"][self._row]
        except KeyError:
            return self._batch.values("reply.raw.pktcount")[self._row]

    @property
    def icmp_code(self) -> int | None:
        """ICMP code. Key: `icmp.code`; None if the flow lacks it."""
        try:
            return self._batch._cache["icmp.code"][self._row]
        except KeyError:
            return self._batch.values("icmp.code")[self._row]

    @property
    def icmp_type(self) -> int | None:
        """ICMP type. Key: `icmp.type`; None if the flow lacks it."""
        try:
            return self._batch._cache["icmp.type"][self._row]
        except KeyError:
            return self._batch.values("icmp.type")[self._row]

    @property
    def ct_mark(self) -> int:
        """Mark of the flow; 0 if it has none. Key: `ct.mark`."""
        try:
            return self._batch._cache["ct.mark"][self._row]
        except KeyError:
            return self._batch.values("ct.mark")[self._row]

    @property
    def ct_id(self) -> int:
        """The kernel's number of the flow. Flows of different times can have the same. Key: `ct.id`."""
        try:
            return self._batch._cache["ct.id"][self._row]
        except KeyError:
            return self._batch.values("ct.id")[self._row]

    @property
    def ct_event(self) -> int | None:
        """What happened: 1 new, 2 update or a record of a flow that goes on, 4 end. Key: `ct.event`; None if the
        flow lacks it.
        """
        try:
            return self._batch._cache["ct.event"][self._row]
        except KeyError:
            return self._batch.values("ct.event")[self._row]

    @property
    def flow_start_sec(self) -> int | None:
        """Beginning of the flow, seconds since 1970. Key: `flow.start.sec`; None if the flow lacks it."""
        try:
            return self._batch._cache["flow.start.sec"][self._row]
        except KeyError:
            return self._batch.values("flow.start.sec")[self._row]

    @property
    def flow_start_usec(self) -> int | None:
        """Microseconds of the same time. Key: `flow.start.usec`; None if the flow lacks it."""
        try:
            return self._batch._cache["flow.start.usec"][self._row]
        except KeyError:
            return self._batch.values("flow.start.usec")[self._row]

    @property
    def flow_end_sec(self) -> int | None:
        """End of the flow, seconds since 1970; of an idle flow, when the kernel removed it. Key: `flow.end.sec`;
        None if the flow lacks it.
        """
        try:
            return self._batch._cache["flow.end.sec"][self._row]
        except KeyError:
            return self._batch.values("flow.end.sec")[self._row]

    @property
    def flow_end_usec(self) -> int | None:
        """Microseconds of the same time. Key: `flow.end.usec`; None if the flow lacks it."""
        try:
            return self._batch._cache["flow.end.usec"][self._row]
        except KeyError:
            return self._batch.values("flow.end.usec")[self._row]

    @property
    def oob_family(self) -> int:
        """Family of the flow: 2 IPv4, 10 IPv6. Key: `oob.family`."""
        try:
            return self._batch._cache["oob.family"][self._row]
        except KeyError:
            return self._batch.values("oob.family")[self._row]

    @property
    def oob_protocol(self) -> int:
        """0, as in ulogd2. Key: `oob.protocol`."""
        try:
            return self._batch._cache["oob.protocol"][self._row]
        except KeyError:
            return self._batch.values("oob.protocol")[self._row]

    @property
    def icmpv6_code(self) -> int | None:
        """ICMPv6 code. Key: `icmpv6.code`; None if the flow lacks it."""
        try:
            return self._batch._cache["icmpv6.code"][self._row]
        except KeyError:
            return self._batch.values("icmpv6.code")[self._row]

    @property
    def icmpv6_type(self) -> int | None:
        """ICMPv6 type. Key: `icmpv6.type`; None if the flow lacks it."""
        try:
            return self._batch._cache["icmpv6.type"][self._row]
        except KeyError:
            return self._batch.values("icmpv6.type")[self._row]

    @property
    def icmp_id(self) -> int | None:
        """Identifier of ICMP echoes; 0 of other types. Key: `icmp.id`; None if the flow lacks it."""
        try:
            return self._batch._cache["icmp.id"][self._row]
        except KeyError:
            return self._batch.values("icmp.id")[self._row]

    @property
    def icmpv6_id(self) -> int | None:
        """Identifier of ICMPv6 echoes; 0 of other types. Key: `icmpv6.id`; None if the flow lacks it."""
        try:
            return self._batch._cache["icmpv6.id"][self._row]
        except KeyError:
            return self._batch.values("icmpv6.id")[self._row]

    @property
    def tcp_state(self) -> int | None:
        """State of a TCP flow (1 SYN_SENT, 2 SYN_RECV, 3 ESTABLISHED, 4 FIN_WAIT, 5 CLOSE_WAIT, 6 LAST_ACK, 7
        TIME_WAIT, 8 CLOSE, 9 SYN_SENT2). Key: `tcp.state`; None if the flow lacks it.
        """
        try:
            return self._batch._cache["tcp.state"][self._row]
        except KeyError:
            return self._batch.values("tcp.state")[self._row]

    @property
    def sctp_state(self) -> int | None:
        """State of an SCTP flow, as the kernel numbers it (enum sctp_conntrack). Key: `sctp.state`; None if the flow
        lacks it.
        """
        try:
            return self._batch._cache["sctp.state"][self._row]
        except KeyError:
            return self._batch.values("sctp.state")[self._row]

    @property
    def ct_status(self) -> int | None:
        """Status bits of the flow (IPS_*): 2 replies were seen, 4 assured, 8 confirmed, 16 and 32 source and
        destination NAT, 512 dying. Key: `ct.status`; None if the flow lacks it.
        """
        try:
            return self._batch._cache["ct.status"][self._row]
        except KeyError:
            return self._batch.values("ct.status")[self._row]

    @property
    def ct_timeout(self) -> int | None:
        """Seconds until an idle flow is removed. Key: `ct.timeout`; None if the flow lacks it."""
        try:
            return self._batch._cache["ct.timeout"][self._row]
        except KeyError:
            return self._batch.values("ct.timeout")[self._row]

    @property
    def ct_zone(self) -> int:
        """Conntrack zone of the original direction. Key: `ct.zone`."""
        try:
            return self._batch._cache["ct.zone"][self._row]
        except KeyError:
            return self._batch.values("ct.zone")[self._row]

    @property
    def ct_zone_reply(self) -> int:
        """Conntrack zone of the reply direction. Key: `ct.zone.reply`."""
        try:
            return self._batch._cache["ct.zone.reply"][self._row]
        except KeyError:
            return self._batch.values("ct.zone.reply")[self._row]

    @property
    def ct_helper(self) -> str | None:
        """Name of the helper. Key: `ct.helper`; None if the flow lacks it."""
        try:
            return self._batch._cache["ct.helper"][self._row]
        except KeyError:
            return self._batch.values("ct.helper")[self._row]

    @property
    def ct_labels(self) -> builtins.bytes | None:
        """Labels of the flow, 128 bits. Key: `ct.labels`; None if the flow lacks it."""
        try:
            return self._batch._cache["ct.labels"][self._row]
        except KeyError:
            return self._batch.values("ct.labels")[self._row]

    @property
    def flow_number(self) -> int | None:
        """Number of this record within its flow, from 1. The flow's counts are the sum of its records'. Key:
        `flow.number`; None if the flow lacks it.
        """
        try:
            return self._batch._cache["flow.number"][self._row]
        except KeyError:
            return self._batch.values("flow.number")[self._row]

    @property
    def flow_last(self) -> int | None:
        """1 in the last record of a flow. Key: `flow.last`; None if the flow lacks it."""
        try:
            return self._batch._cache["flow.last"][self._row]
        except KeyError:
            return self._batch.values("flow.last")[self._row]

    @property
    def flow_end_reason(self) -> int | None:
        """Why the record was made (RFC 5102, flowEndReason): 1 idle, 2 active timeout, 3 end of a TCP connection, 4
        forced, 5 lack of resources. Key: `flow.end.reason`; None if the flow lacks it.
        """
        try:
            return self._batch._cache["flow.end.reason"][self._row]
        except KeyError:
            return self._batch.values("flow.end.reason")[self._row]

    @property
    def nat_saddr_str(self) -> str | None:
        """Address that the source was translated to, as text. Key: `nat.saddr.str`; None if the flow lacks it."""
        try:
            return self._batch._cache["nat.saddr.str"][self._row]
        except KeyError:
            return self._batch.values("nat.saddr.str")[self._row]

    @property
    def nat_sport(self) -> int | None:
        """Port that the source port was translated to. Key: `nat.sport`; None if the flow lacks it."""
        try:
            return self._batch._cache["nat.sport"][self._row]
        except KeyError:
            return self._batch.values("nat.sport")[self._row]

    @property
    def nat_daddr_str(self) -> str | None:
        """Address that the destination was translated to, as text. Key: `nat.daddr.str`; None if the flow lacks it."""
        try:
            return self._batch._cache["nat.daddr.str"][self._row]
        except KeyError:
            return self._batch.values("nat.daddr.str")[self._row]

    @property
    def nat_dport(self) -> int | None:
        """Port that the destination port was translated to. Key: `nat.dport`; None if the flow lacks it."""
        try:
            return self._batch._cache["nat.dport"][self._row]
        except KeyError:
            return self._batch.values("nat.dport")[self._row]
