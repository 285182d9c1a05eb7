# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue of keys against ulogd2 2.0.8's own, and against itself."""

from __future__ import annotations

import re

import pytest

from nflowlevel.binding._lib import lib
from nflowlevel.records.keys import (
    BY_NAME,
    CATALOGUE,
    FlowCondition,
    Key,
    PacketCondition,
    ReportedCondition,
    SumCondition,
    published_by,
)

#: What ulogd2 publishes: key, type, CIM name, IPFIX vendor and element; in the order of a record's members. Databases,
#: dashboards and collectors were made for these: a change here breaks somebody's.
ULOGD2 = {
    "NFLOG": """
        raw.mac            raw     -         -
        raw.pkt            raw     -         21373:1
        raw.pktlen         uint32  -         21373:2
        raw.pktcount       uint32  -         0:2
        oob.prefix         string  -         21373:3
        oob.time.sec       uint32  -         0:150
        oob.time.usec      uint32  -         0:154
        oob.mark           uint32  -         21373:4
        oob.ifindex_in     uint32  -         0:10
        oob.ifindex_out    uint32  -         0:14
        oob.hook           uint8   -         21373:5
        raw.mac_len        uint16  -         -
        oob.seq.local      uint32  -         21373:7
        oob.seq.global     uint32  -         21373:8
        oob.family         uint8   -         -
        oob.protocol       uint16  -         -
        oob.uid            uint32  -         -
        oob.gid            uint32  -         -
        raw.label          uint8   -         -
        raw.type           uint16  -         -
        raw.mac.saddr      raw     -         0:56
        raw.mac.addrlen    uint16  -         -
        ct                 raw     -         -
    """,
    "UNIXSOCK": """
        raw.mac            raw     -         -
        raw.pkt            raw     -         21373:1
        raw.pktlen         uint32  -         21373:2
        raw.pktcount       uint32  -         0:2
        oob.prefix         string  -         21373:3
        oob.time.sec       uint32  -         0:150
        oob.time.usec      uint32  -         0:154
        oob.mark           uint32  -         21373:4
        oob.in             string  -         0:10
        oob.out            string  -         0:14
        oob.hook           uint8   -         21373:5
        raw.mac_len        uint16  -         -
        oob.seq.local      uint32  -         21373:7
        oob.seq.global     uint32  -         21373:8
        oob.family         uint8   -         -
        oob.protocol       uint16  -         -
        oob.uid            uint32  -         -
        oob.gid            uint32  -         -
        raw.label          uint8   -         -
        raw.type           uint16  -         -
        raw.mac.saddr      raw     -         0:56
        raw.mac.addrlen    uint16  -         -
        nufw.user.name     string  -         -
        nufw.user.id       uint32  -         -
        nufw.os.name       string  -         -
        nufw.os.rel        string  -         -
        nufw.os.vers       string  -         -
        nufw.app.name      string  -         -
    """,
    "BASE": """
        ip.saddr           ipaddr  -         0:8
        ip.daddr           ipaddr  -         0:12
        ip.protocol        uint8   -         0:4
        ip.tos             uint8   -         0:5
        ip.ttl             uint8   -         0:192
        ip.totlen          uint16  -         0:190
        ip.ihl             uint8   -         0:207
        ip.csum            uint16  -         -
        ip.id              uint16  -         0:54
        ip.fragoff         uint16  -         0:88
        ip6.payloadlen     uint16  -         0:191
        ip6.priority       uint8   -         -
        ip6.flowlabel      uint32  -         0:31
        ip6.hoplimit       uint8   -         -
        ip6.nexthdr        uint8   -         0:193
        ip6.fragoff        uint16  -         -
        ip6.fragid         uint32  -         -
        tcp.sport          uint16  src_port  0:182
        tcp.dport          uint16  dest_port 0:183
        tcp.seq            uint32  -         0:184
        tcp.ackseq         uint32  -         0:185
        tcp.window         uint16  -         0:186
        tcp.offset         uint8   -         -
        tcp.reserved       uint8   -         -
        tcp.urg            bool    -         -
        tcp.urgp           uint16  -         0:187
        tcp.ack            bool    -         -
        tcp.psh            bool    -         -
        tcp.rst            bool    -         -
        tcp.syn            bool    -         -
        tcp.fin            bool    -         -
        tcp.res1           bool    -         -
        tcp.res2           bool    -         -
        tcp.csum           uint16  -         -
        udp.sport          uint16  src_port  0:180
        udp.dport          uint16  dest_port 0:181
        udp.len            uint16  -         -
        udp.csum           uint16  -         -
        icmp.type          uint8   -         0:176
        icmp.code          uint8   -         0:177
        icmp.echoid        uint16  -         -
        icmp.echoseq       uint16  -         -
        icmp.gateway       ipaddr  -         -
        icmp.fragmtu       uint16  -         -
        icmp.csum          uint16  -         -
        icmpv6.type        uint8   -         0:178
        icmpv6.code        uint8   -         0:179
        icmpv6.echoid      uint16  -         -
        icmpv6.echoseq     uint16  -         -
        icmpv6.csum        uint16  -         -
        ahesp.spi          uint32  -         -
        oob.protocol       uint16  -         -
        arp.hwtype         uint16  -         -
        arp.protocoltype   uint16  -         -
        arp.operation      uint16  -         -
        arp.shwaddr        raw     -         -
        arp.saddr          ipaddr  -         -
        arp.dhwaddr        raw     -         -
        arp.daddr          ipaddr  -         -
        sctp.sport         uint16  src_port  -
        sctp.dport         uint16  dest_port -
        sctp.csum          uint32  -         -
    """,
    "IFINDEX": """
        oob.in             string  -         -
        oob.out            string  -         -
    """,
    "IP2STR": """
        ip.saddr.str       string  src_ip    -
        ip.daddr.str       string  dest_ip   -
        orig.ip.saddr.str  string  src_ip    -
        orig.ip.daddr.str  string  dest_ip   -
        reply.ip.saddr.str string  -         -
        reply.ip.daddr.str string  -         -
        arp.saddr.str      string  -         -
        arp.daddr.str      string  -         -
    """,
    "IP2HBIN": """
        ip.hsaddr          ipaddr  -         -
        ip.hdaddr          ipaddr  -         -
        orig.ip.hsaddr     ipaddr  -         -
        orig.ip.hdaddr     ipaddr  -         -
        reply.ip.hsaddr    ipaddr  -         -
        reply.ip.hdaddr    ipaddr  -         -
        arp.hsaddr         ipaddr  -         -
        arp.hdaddr         ipaddr  -         -
    """,
    "IP2BIN": """
        ip.saddr.bin       rawstr  -         -
        ip.daddr.bin       rawstr  -         -
        orig.ip.saddr.bin  rawstr  -         -
        orig.ip.daddr.bin  rawstr  -         -
        reply.ip.saddr.bin rawstr  -         -
        reply.ip.daddr.bin rawstr  -         -
    """,
    "NFCT": """
        orig.ip.saddr      ipaddr  -         0:8
        orig.ip.daddr      ipaddr  -         0:12
        orig.ip.protocol   uint8   -         0:4
        orig.l4.sport      uint16  -         0:7
        orig.l4.dport      uint16  -         0:11
        orig.raw.pktlen    uint64  -         0:85
        orig.raw.pktcount  uint64  -         0:86
        reply.ip.saddr     ipaddr  -         0:8
        reply.ip.daddr     ipaddr  -         0:12
        reply.ip.protocol  uint8   -         0:4
        reply.l4.sport     uint16  -         0:7
        reply.l4.dport     uint16  -         0:11
        reply.raw.pktlen   uint64  -         0:85
        reply.raw.pktcount uint64  -         0:86
        icmp.code          uint8   -         0:177
        icmp.type          uint8   -         0:176
        ct.mark            uint32  -         21373:4
        ct.id              uint32  -         21373:6
        ct.event           uint32  -         -
        flow.start.sec     uint32  -         0:150
        flow.start.usec    uint32  -         0:154
        flow.end.sec       uint32  -         0:151
        flow.end.usec      uint32  -         0:151
        oob.family         uint8   -         -
        oob.protocol       uint8   -         -
    """,
    "PWSNIFF": """
        pwsniff.user       string  -         -
        pwsniff.pass       string  -         -
    """,
    "HWHDR": """
        raw.type           uint16  -         -
        oob.protocol       uint16  -         -
        mac.saddr.str      string  -         -
        mac.daddr.str      string  -         -
        mac.str            string  -         -
    """,
}

#: What nflowlevel publishes beyond that, after ulogd2's own.
NEW = {
    "NFLOG": "oob.physindev uint32, oob.physoutdev uint32, "
    "vlan.id uint16, vlan.priority uint8, vlan.protocol uint16, raw.l2hdr raw",
    "BASE": "udplite.coverage uint16",
    "IFINDEX": "oob.physin string, oob.physout string",
    "IP2STR": "",
    "HWHDR": "",
}


def _line(key: Key) -> list[str]:
    ipfix = f"{key.ipfix[0]}:{key.ipfix[1]}" if key.ipfix else "-"
    return [key.name, key.type, key.cim or "-", ipfix]


@pytest.mark.parametrize("plugin", ULOGD2)
def test_keys_of_ulogd2(plugin: str) -> None:
    wanted = [line.split() for line in ULOGD2[plugin].strip().splitlines()]
    assert [_line(key) for key in published_by(plugin) if key.since == "ulogd2"] == wanted


@pytest.mark.parametrize("plugin", NEW)
def test_keys_beyond_ulogd2(plugin: str) -> None:
    keys = published_by(plugin)
    new = [key for key in keys if key.since == "nflowlevel"]
    assert ", ".join(f"{key.name} {key.type}" for key in new) == NEW[plugin]
    assert not any(key.cim or key.ipfix for key in new)
    known = len(keys) - len(new)
    assert set(keys[:known]) | set(new) == set(keys)
    assert {key.since for key in keys[:known]} == {"ulogd2"}, "a new key stands before ulogd2's"


def test_every_key_is_of_a_known_kind() -> None:
    kinds = {
        "uint8": {"u8"},
        "uint16": {"u16"},
        "uint32": {"u32"},
        "uint64": {"u64"},
        "bool": {"u8"},
        "ipaddr": {"addr", "addr4", "addrnumber"},
        "raw": {"bytes", "fixed"},
        "rawstr": {"addrbin"},
        "string": {"text", "chars", "addr", "addr4", "mac", "macbytes", "ifname"},
    }
    for key in CATALOGUE:
        assert key.kind in kinds[key.type] | {"column"}, key


def test_every_key_is_complete() -> None:
    for key in CATALOGUE:
        assert re.fullmatch(r"[a-z0-9]+([._][a-z0-9]+)*", key.name), key
        assert key.meaning.endswith("."), key
        assert key.since in ("ulogd2", "nflowlevel"), key
        assert key.valid.text, key
        prefixes = {
            PacketCondition: "NFL_VALID_",
            ReportedCondition: "NFL_REPORTED_",
            FlowCondition: "NFL_FLOW_",
            SumCondition: "NFL_COUNTER_",
        }
        prefix = prefixes.get(type(key.valid))
        assert hasattr(lib, f"{prefix}{key.valid}") if prefix else key.kind == "column", key


def test_a_plugin_publishes_a_key_once() -> None:
    pairs = [(key.plugin, key.name) for key in CATALOGUE]
    assert len(set(pairs)) == len(pairs)


def test_no_two_names_become_one_attribute() -> None:
    """`packet.ip_saddr` is `ip.saddr`: names that differ in a dot only would hide each other."""
    attributes = [name.replace(".", "_") for name in BY_NAME]
    assert len(set(attributes)) == len(attributes)


def test_a_name_means_the_first_that_publishes_it() -> None:
    assert BY_NAME["oob.protocol"].plugin == BY_NAME["raw.type"].plugin == BY_NAME["oob.time.sec"].plugin == "NFLOG"
    assert set(BY_NAME) == {key.name for key in CATALOGUE}


def test_a_cim_name_is_no_key() -> None:
    """`batch.values` takes both."""
    assert {key.cim for key in CATALOGUE if key.cim} == {"src_ip", "dest_ip", "src_port", "dest_port"}
    assert BY_NAME.keys().isdisjoint(key.cim for key in CATALOGUE)


def test_an_unknown_plugin_publishes_nothing() -> None:
    assert published_by("NOSUCH") == ()
