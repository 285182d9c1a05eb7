# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of logs as rows: every form that is known, packets rendered by us and by the kernel and read back, and fuzz."""

from __future__ import annotations

import calendar
import os
import random
import re
import select
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

import nflowlevel as nfl
from nflowlevel.analytics import loglines, stamps
from nflowlevel.analytics.loglines import LONGEST, LogLines
from nflowlevel.archive.schema import PACKETS
from nflowlevel.firewall import nf_log
from tests import oracle
from tests.corpus import frames
from tests.fix_decoder import chunks, decode
from tests.fix_loglines import printed
from tests.fix_netns import Pair
from tests.fix_zone import summer_time, zone
from tests.messages import FULL, message_of

__all__ = ["summer_time", "zone"]

#: 27 November 2026, 12:00:00 UTC.
_NOON = 1_795_780_800
_LINK = "IN=eth0 OUT= MAC=02:77:00:00:00:01:02:77:00:00:00:02:08:00 "
_IP = "SRC=192.0.2.66 DST=10.77.0.1 LEN=40 TOS=0x08 PREC=0x20 TTL=103 ID=256 "
_SYN = "PROTO=TCP SPT=6000 DPT=1433 WINDOW=16384 RES=0x00 SYN URGP=0 "
_BODY = f"{_LINK}{_IP}{_SYN}"
_HEAD = "Nov 27 12:00:00 fw kernel: "


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC0")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def row_of(line: str, changed: float = _NOON) -> dict[str, Any]:
    """Return the row of a line that must have one."""
    lines = LogLines(changed)
    row = lines.parse(line)
    assert row is not None, lines.counts
    assert set(row) <= set(PACKETS.by_name), set(row) - set(PACKETS.by_name)
    return row


def fate(line: str, changed: float = _NOON) -> str:
    """Return what a line is counted as."""
    lines = LogLines(changed)
    row = lines.parse(line)
    counts = vars(lines.counts)
    assert counts.pop("lines") == 1
    assert sum(counts.values()) == 1
    (name,) = (name for name, count in counts.items() if count)
    assert (row is not None) == (name == "packets")
    return str(name)


# -- forms ------------------------------------------------------------------------------------------------------------


def test_a_line_of_the_kernel() -> None:
    assert row_of(f"{_HEAD}[42813.859558] DROP: {_BODY}\n") == {
        "sec": _NOON,
        "us": _NOON * 1_000_000,
        "dvc": "fw",
        "oob_prefix": "DROP: ",
        "raw_pktcount": 1,
        "oob_in": "eth0",
        "oob_out": "",
        "mac_str": "02:77:00:00:00:01:02:77:00:00:00:02:08:00",
        "mac_daddr_str": "02:77:00:00:00:01",
        "mac_saddr_str": "02:77:00:00:00:02",
        "raw_mac_len": 14,
        "oob_protocol": 0x0800,
        "src_ip": "192.0.2.66",
        "dest_ip": "10.77.0.1",
        "ip_totlen": 40,
        "ip_tos": 0x28,
        "ip_ttl": 103,
        "ip_id": 256,
        "ip_fragoff": 0,
        "ip_protocol": 6,
        "src_port": 6000,
        "dest_port": 1433,
        "tcp_window": 16384,
        **dict.fromkeys(("tcp_ack", "tcp_psh", "tcp_rst", "tcp_fin", "tcp_urg"), 0),
        **dict.fromkeys(("tcp_reserved", "tcp_res1", "tcp_res2"), 0),
        "tcp_syn": 1,
    }


@pytest.mark.parametrize(
    ("head", "host", "prefix"),
    [
        ("Nov 27 12:00:00 fw kernel: ", "fw", ""),
        ("<4>Nov 27 12:00:00 fw kernel: ", "fw", ""),
        ("Nov 27 12:00:00 fw kernel: [ 1234.000001] DROP ", "fw", "DROP "),
        ("Nov 27 12:00:00 fw kernel: [ 1234.000001][    T0] DROP ", "fw", "DROP "),
        ("Nov 27 12:00:00 fw kernel: [UFW BLOCK] ", "fw", "[UFW BLOCK] "),
        ("Nov 27 12:00:00 fw kernel: Shorewall:net-fw:DROP:", "fw", "Shorewall:net-fw:DROP:"),
        ("Nov 27 12:00:00 fw.example.net kernel: ", "fw.example.net", ""),
        ("Nov 27 12:00:00 2001:db8::1 kernel: ", "2001:db8::1", ""),
        ("Nov 27 12:00:00 kernel: DROP ", None, "DROP "),
        ("Nov 27 12:00:00 fw kern.warn kernel: x", "fw", "x"),
        ("Fri Nov 27 12:00:00 2026 kern.warn kernel: [   17.25] x ", None, "x "),
        ("Fri Nov 27 12:00:00 2026 user.info kernel: x ", None, "x "),
        ("[Fri Nov 27 12:00:00 2026] x ", None, "x "),
        ("Nov 27 2026 12:00:00 fw kernel: x ", "fw", "x "),
        ("Nov 27 12:00:00 fw [ 17.250000] DROP ", "fw", "DROP "),
        ("Nov 27 12:00:00 fw DROP ", "fw", "DROP "),
        ("Nov 27 12:00:00 DROP:", None, "DROP:"),
        ("Nov 27 12:00:00 [17.250000] DROP ", None, "DROP "),
        ("kernel: Nov 27 12:00:00 fw ", "fw", ""),
        ("2026-11-27T12:00:00+00:00 fw kernel: ", "fw", ""),
        ("2026-11-27 12:00:00 fw kernel: ", "fw", ""),
        ("2026-11-27T13:00:00+0100 fw kernel: ", "fw", ""),
        ("2026-11-27T06:30:00-05:30 fw kernel: ", "fw", ""),
        ("<4>1 2026-11-27T12:00:00Z fw kernel - - - DROP ", "fw", "DROP "),
        ('<4>1 2026-11-27T12:00:00Z fw kernel - ID1 [x@1 a="b"] DROP ', "fw", "DROP "),
        ("Nov 27 12:00:00 fw kernel: SRC=1.2.3.4 DST=5.6.7.8 ", "fw", "SRC=1.2.3.4 DST=5.6.7.8 "),
        ("Nov 27 12:00:00 fw kernel: IN=a OUT=b SRC=1.2.3.4 ", "fw", "IN=a OUT=b SRC=1.2.3.4 "),
        ("Nov 27 12:00:00 fw kernel: kernel: ", "fw", "kernel: "),
        ("Nov 27 12:00:00 fw kernel: sperre-Ä ", "fw", "sperre-Ä "),
    ],
)
def test_heads(head: str, host: str | None, prefix: str) -> None:
    row = row_of(head + _BODY)
    assert (row["us"], row.get("dvc"), row.get("oob_prefix", "")) == (_NOON * 1_000_000, host, prefix)
    assert (row["src_ip"], row["tcp_window"], row["oob_in"]) == ("192.0.2.66", 16384, "eth0")


@pytest.mark.parametrize("tag", ["", "ulogd[77]: ", "ulogd: "])
def test_a_prefix_of_printpkt_has_a_blank_of_its_own(tag: str) -> None:
    body = (
        f"{_LINK}SRC=192.0.2.66 DST=10.77.0.1 LEN=28 TOS=00 PREC=0x00 TTL=1 ID=2 PROTO=UDP SPT=1 DPT=2 LEN=8 MARK=0x0 "
    )
    assert row_of(f"Nov 27 12:00:00 fw {tag}pfx:  {body}")["oob_prefix"] == "pfx: "
    assert row_of(f"Nov 27 12:00:00 fw {tag} {body}")["oob_prefix"] == ""
    assert row_of(f"Nov 27 12:00:00 fw {tag}{body}").get("oob_prefix") is None


@pytest.mark.parametrize(
    ("stamp", "usec"),
    [
        ("2026-11-27T12:00:00.123456+00:00", 123_456),
        ("2026-11-27T12:00:00,5Z", 500_000),
        ("2026-11-27T12:00:00.123456789Z", 123_456),
        ("Nov 27 12:00:00.000001", 1),
    ],
)
def test_fractions(stamp: str, usec: int) -> None:
    assert row_of(f"{stamp} fw kernel: {_BODY}")["us"] == _NOON * 1_000_000 + usec


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        (
            "IN=br0 OUT=br0 PHYSIN=eth1 PHYSOUT=eth2 MAC= " + _IP + _SYN,
            {"oob_in": "br0", "oob_out": "br0", "oob_physin": "eth1", "oob_physout": "eth2", "mac_str": None},
        ),
        ("IN=br0 OUT= PHYSIN=eth1 " + _IP + _SYN, {"oob_physin": "eth1", "oob_physout": None, "mac_str": None}),
        ("IN= OUT=eth0 " + _IP + _SYN, {"oob_in": "", "oob_out": "eth0", "mac_str": None}),
        ("IN=ppp0 OUT= MAC=45:00 " + _IP + _SYN, {"mac_str": "45:00", "raw_mac_len": 2, "mac_saddr_str": None}),
        (
            "IN=eth0.5 OUT= MACSRC=02:77:00:00:00:02 MACDST=02:77:00:00:00:01 MACPROTO=0800 VPROTO=8100 VID=24581 "
            + _IP
            + _SYN,
            {
                "mac_saddr_str": "02:77:00:00:00:02",
                "mac_daddr_str": "02:77:00:00:00:01",
                "vlan_id": 5,
                "vlan_priority": 3,
                "vlan_protocol": 0x8100,
            },
        ),
        (
            "IN=sit0 OUT= MAC=45:00 TUNNEL=192.0.2.1->192.0.2.2 SRC=2001:db8::1 DST=2001:db8::2 "
            "LEN=48 TC=0 HOPLIMIT=9 FLOWLBL=0 "
            "PROTO=UDP SPT=1 DPT=2 LEN=8 ",
            {"src_ip": "2001:db8::1", "dest_port": 2},
        ),
        (
            _LINK + _IP + "DF PROTO=TCP SPT=1 DPT=2 SEQ=3 ACK=4 WINDOW=5 RES=0x04 "
            "CWR ECE ACK FIN URGP=0 OPT (020405B4) UID=7 GID=8 MARK=0xab ",
            {
                "ip_fragoff": 0x4000,
                "tcp_seq": 3,
                "tcp_ackseq": 4,
                "tcp_reserved": 1,
                "tcp_res2": 3,
                "tcp_ack": 1,
                "tcp_fin": 1,
                "tcp_syn": 0,
                "tcp_options": "020405b4",
                "tcp_offset": 6,
                "oob_uid": 7,
                "oob_gid": 8,
                "oob_mark": 0xAB,
                "tcp_urgp": None,
            },
        ),
        (_LINK + _IP + "PROTO=TCP SPT=1 DPT=2 WINDOW=5 RES=0x00 URG SYN URGP=77", {"tcp_urg": 1, "tcp_urgp": 77}),
        (_LINK + _IP + "OPT (07030400) PROTO=UDP SPT=1 DPT=2 LEN=20 ", {"ip_ihl": 6, "udp_len": 20, "ip_totlen": 40}),
        (_LINK + _IP + "CE DF MF FRAG:8191 PROTO=UDP ", {"ip_fragoff": 0xFFFF, "ip_protocol": 17, "src_port": None}),
        (_LINK + _IP + "PROTO=TCP INCOMPLETE [8 bytes] ", {"ip_protocol": 6, "src_port": None}),
        (
            _LINK + "SRC=1.2.3.4 DST=5.6.7.8 LEN=20 TOS=00 PREC=0x00 TTL=1 ID=2 PROTO=TCP INCOMPLETEMARK=0x0 ",
            {"ip_protocol": 6, "oob_mark": 0},
        ),
        (
            _LINK + _IP + "PROTO=UDPLITE SPT=5 DPT=6 LEN=8 ",
            {"ip_protocol": 136, "udplite_coverage": 8, "udp_len": None},
        ),
        (_LINK + _IP + "PROTO=162 ", {"ip_protocol": 162}),
        (_LINK + _IP + "PROTO=162 MARK=0x1", {"ip_protocol": 162, "oob_mark": 1}),
        (_LINK + _IP + "PROTO=ESP SPI=0xcafe ", {"ip_protocol": 50, "ahesp_spi": 0xCAFE}),
        (
            _LINK + _IP + "PROTO=ICMP TYPE=8 CODE=0 ID=5 SEQ=6 ",
            {"icmp_type": 8, "icmp_echoid": 5, "icmp_echoseq": 6, "ip_id": 256},
        ),
        (_LINK + _IP + "PROTO=ICMP TYPE=11 CODE=0 ID=0 SEQ=0 MARK=0x0", {"icmp_type": 11, "icmp_echoid": None}),
        (
            _LINK + _IP + "PROTO=ICMP TYPE=3 CODE=4 "
            "[SRC=9.9.9.9 DST=8.8.8.8 LEN=28 TOS=0x00 PREC=0x00 TTL=64 ID=1 PROTO=UDP SPT=53 DPT=54 "
            "LEN=8 ] MTU=1400 MARK=0x2",
            {
                "src_ip": "192.0.2.66",
                "icmp_type": 3,
                "icmp_fragmtu": 1400,
                "src_port": None,
                "ip_ttl": 103,
                "oob_mark": 2,
            },
        ),
        (
            _LINK
            + _IP
            + "PROTO=ICMP TYPE=3 CODE=1 [SRC=9.9.9.9 DST=8.8.8.8 LEN=28 TOS=0x00 PREC=0x00 TTL=64 ID=1 PROTO=TCP "
            "INCOMPLETE [8 bytes] ] ",
            {"icmp_code": 1, "icmp_fragmtu": None, "dest_ip": "10.77.0.1"},
        ),
        (
            _LINK + _IP + "PROTO=ICMP TYPE=5 CODE=1 GATEWAY=10.77.0.9 "
            "[SRC=9.9.9.9 DST=8.8.8.8 LEN=28 TOS=0x00 PREC=0x00 TTL=64 ID=1 "
            "PROTO=UDP SPT=53 DPT=54 LEN=8 ] ",
            {"icmp_type": 5, "src_ip": "192.0.2.66"},
        ),
        (
            _LINK + "SRC=fd77:0000:0000:0000:0000:0000:0000:0002 "
            "DST=fd77:0000:0000:0000:0000:0000:0000:0001 LEN=56 TC=184 HOPLIMIT=64 "
            "FLOWLBL=703710 OPT ( ) OPT ( FRAG:24 INCOMPLETE ID:0000abcd ) PROTO=UDP ",
            {
                "src_ip": "fd77::2",
                "dest_ip": "fd77::1",
                "ip6_payloadlen": 16,
                "ip6_priority": 184,
                "ip6_hoplimit": 64,
                "ip6_flowlabel": 703710,
                "ip6_fragoff": 24,
                "ip6_fragid": 0xABCD,
                "ip_protocol": None,
                "ip6_nexthdr": 17,
            },
        ),
        (
            _LINK + "SRC=fd77::2 DST=fd77::1 LEN=48 TC=0 HOPLIMIT=64 FLOWLBL=0 "
            "PROTO=ICMPv6 TYPE=128 CODE=0 ID=5 SEQ=6 MARK=0x0 ",
            {"icmpv6_type": 128, "icmpv6_echoid": 5, "icmp_type": None},
        ),
        (
            _LINK + "SRC=fd77::2 DST=fd77::1 LEN=48 TC=0 HOPLIMIT=64 FLOWLBL=0 PROTO=AH INCOMPLETE MARK=0x0 ",
            {"ip_protocol": None, "ip6_nexthdr": None, "ip6_hoplimit": 64},
        ),
        (
            _LINK + "SRC=192.0.2.1 DST=192.0.2.2 PROTO=ARP REPLY REPLY_MAC=02:77:00:00:00:01 MARK=0x0 ",
            {
                "arp_operation": 2,
                "arp_saddr_str": "192.0.2.1",
                "arp_daddr_str": "192.0.2.2",
                "src_ip": None,
                "oob_protocol": 0x0806,
            },
        ),
        (
            _LINK + "ARP HTYPE=1 PTYPE=0x0800 OPCODE=1 MACSRC=02:77:00:00:00:01 IPSRC=192.0.2.1 "
            "MACDST=00:00:00:00:00:00 IPDST=192.0.2.2",
            {"arp_operation": 1, "arp_hwtype": 1, "arp_protocoltype": 0x0800, "arp_daddr_str": "192.0.2.2"},
        ),
        (_LINK + "PROTO=35020 MARK=0x0 ", {"oob_protocol": 35020, "ip_protocol": None}),
        (
            _LINK + "LEN=0 TOS=00 PREC=0x00 TTL=0 ID=0 PROTO=0 MARK=0x0 ",
            {"ip_ttl": None, "ip_protocol": None, "oob_in": "eth0"},
        ),
        (_LINK + "TRUNCATED", {"src_ip": None}),
    ],
)
def test_bodies(part: str, wanted: dict[str, Any]) -> None:
    row = row_of(f"{_HEAD}x {part}")
    assert {name: row.get(name) for name in wanted} == wanted


def test_a_repeated_message_stands_for_several_packets() -> None:
    row = row_of(f"{_HEAD}message repeated 3 times: [ [17.25] DROP {_BODY}]")
    assert (row["raw_pktcount"], row["oob_prefix"], row["tcp_window"]) == (3, "DROP ", 16384)


# -- what is no packet ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "other"),
        ("Nov 27 12:00:00 fw sshd[1]: Failed password for root from 192.0.2.66 port 6000 ssh2", "other"),
        (f"{_HEAD}eth0: link up", "other"),
        (f"{_HEAD}{_IP}{_SYN}", "cut"),
        (_BODY[2:], "cut"),
        (_SYN, "other"),
        (_BODY, "without_time"),
        (f"[42813.859558] DROP: {_BODY}", "without_time"),
        (f"ov 27 12:00:00 fw kernel: {_BODY}", "without_time"),
        (f"Nov 31 12:00:00 fw kernel: {_BODY}", "without_time"),
        (f"Nov 27 25:00:00 fw kernel: {_BODY}", "without_time"),
        (f"2026-02-30T12:00:00Z fw kernel: {_BODY}", "without_time"),
        (f"0001-01-01T00:00:00Z fw kernel: {_BODY}", "without_time"),
        (f"{_HEAD}{_BODY[: _BODY.index('WINDOW')]}", "cut"),
        (f"{_HEAD}{_BODY[: _BODY.index('URGP')]}", "cut"),
        (f"{_HEAD}{_BODY[: _BODY.index('PROTO')]}", "cut"),
        (f"{_HEAD}{_BODY}garbage", "cut"),
        (f"{_HEAD}{_BODY}IN=eth0 OUT= MAC", "cut"),
        (f"{_HEAD}{_BODY.replace('DPT=1433', 'DPT=65536')}", "wrong"),
        (f"{_HEAD}{_BODY.replace('TTL=103', 'TTL=256')}", "wrong"),
        (f"{_HEAD}{_BODY.replace('192.0.2.66', '192.0.2.266')}", "wrong"),
        (f"{_HEAD}{_BODY.replace('DPT=1433', 'DPT=1٣')}", "cut"),
        (f"{_HEAD}{'x' * LONGEST}{_BODY}", "wrong"),
    ],
)
def test_lines_that_are_no_packets_are_counted(line: str, why: str) -> None:
    assert fate(line) == why


def test_a_line_cut_anywhere_gives_no_wrong_value() -> None:
    """Cut at the front there is no row; cut at the end at most the last value is shorter, which no reader can know."""
    line = f"{_HEAD}DROP {_BODY}".rstrip()
    whole = row_of(line)
    for length in range(len(line)):
        row = LogLines(_NOON).parse(line[:length])
        if row is not None:
            last = {"tcp_urgp"}
            assert {k: v for k, v in row.items() if k not in last} == {k: v for k, v in whole.items() if k not in last}
        assert fate(line[len(line) - length :]) != "packets"


def test_what_is_lost_is_told_without_zeros() -> None:
    lines = LogLines(_NOON)
    assert [*lines.rows([f"{_HEAD}{_BODY}", f"{_HEAD}{_IP}{_SYN}", "nothing", _BODY])] == [row_of(f"{_HEAD}{_BODY}")]
    assert lines.counts.lost() == {"cut": 1, "without_time": 1}
    assert (lines.counts.lines, lines.counts.packets, lines.counts.other) == (4, 1, 1)


# -- years ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamp", "changed", "year"),
    [
        ("Nov 27 12:00:00", "2026-11-27", 2026),
        ("Nov 28 11:00:00", "2026-11-27", 2026),  # a clock that is ahead, or another zone
        ("Nov 29 12:00:00", "2026-11-27", 2025),
        ("Dec 31 23:59:59", "2026-01-02", 2025),
        ("Jan  1 00:00:00", "2026-01-02", 2026),
        ("Jan  1 00:00:00", "2025-12-31", 2026),
        ("Feb 29 12:00:00", "2026-11-27", 2024),
        ("Feb 29 12:00:00", "2103-11-27", 2096),
    ],
)
def test_the_year_is_the_latest_that_the_file_allows(stamp: str, changed: str, year: int) -> None:
    noon = calendar.timegm(time.strptime(f"{changed} 12:00", "%Y-%m-%d %H:%M"))
    assert time.gmtime(row_of(f"{stamp} fw kernel: {_BODY}", noon)["sec"]).tm_year == year


def test_a_year_that_is_asked_for() -> None:
    lines = LogLines(_NOON, year=2014)
    row = lines.parse(f"{_HEAD}{_BODY}")
    assert row is not None
    assert row["sec"] == calendar.timegm((2014, 11, 27, 12, 0, 0))
    assert lines.parse(f"Feb 29 12:00:00 fw kernel: {_BODY}") is None
    assert lines.counts.without_time == 1
    # What the line itself says counts.
    row = lines.parse(f"2026-11-27T12:00:00Z fw kernel: {_BODY}")
    assert row is not None
    assert row["sec"] == _NOON


@pytest.mark.usefixtures("summer_time")
def test_a_time_without_a_zone_is_local() -> None:
    assert row_of(f"{_HEAD}{_BODY}")["sec"] == _NOON - 3600
    assert row_of(f"Jul  1 12:00:00 fw kernel: {_BODY}")["sec"] == calendar.timegm((2026, 7, 1, 10, 0, 0))
    assert row_of(f"2026-11-27T12:00:00Z fw kernel: {_BODY}")["sec"] == _NOON


# -- rendered by us, and read back ------------------------------------------------------------------------------------

#: Columns that no line of PRINTPKT says.
_UNSAID = re.compile(
    r"raw_(?!pktcount|mac_len)|oob_(?:ifindex|phys|hook|seq|family|protocol)|vlan|.*csum|ip_ihl|"
    r"tcp_(?:offset|res)|arp_(?:hwtype|"
    r"protocoltype)|udplite|ct$|us$|raw_mac_saddr|print$"
)


def _columns(keys: dict[str, Any]) -> dict[str, Any]:
    """Return a packet's keys by the names of their columns."""
    named = {key: column.name for column in PACKETS for key in column.keys}
    return {named[key]: value for key, value in keys.items() if key in named} | {
        "sec": keys["oob.time.sec"],
        "src_ip": keys.get("ip.saddr"),
        "dest_ip": keys.get("ip.daddr"),
        "arp_saddr_str": keys.get("arp.saddr"),
        "arp_daddr_str": keys.get("arp.daddr"),
    }


def _said(keys: dict[str, Any], line: str) -> dict[str, Any]:
    """Return what a line of PRINTPKT says of a packet, of all that its keys say."""
    said = {name: value for name, value in _columns(keys).items() if value is not None and not _UNSAID.match(name)}
    if "ip_tos" in said:
        said["ip_tos"] &= 0xFE
    number = said.get("ip6_nexthdr", said.get("ip_protocol"))
    unsaid = {
        "ports of UDP-Lite": (number == 136, ("src_port", "dest_port")),
        "an AH before another header": ("SPI=" not in line, ("ahesp_spi",)),
        "AH or ESP": ("ip6_nexthdr" in said and "PROTO=AH" in line, ("ip6_nexthdr",)),
        "whether such a header could be reached": (said.get("ip6_nexthdr") in (135, 139, 140), ("ip_protocol",)),
    }
    gone = {name for applies, names in unsaid.values() if applies for name in names}
    return {name: value for name, value in said.items() if name not in gone}


def _assert_read_back(messages: Iterable[bytes]) -> int:
    count = 0
    for piece in chunks(messages, 300):
        batch = decode(piece).batch
        for message, line, keys in zip(piece, printed(batch), batch.to_dicts(), strict=True):
            lines = LogLines(keys["oob.time.sec"])
            row = lines.parse(line)
            assert row is not None, (line, lines.counts)
            got = {name: value for name, value in row.items() if not _UNSAID.match(name)}
            assert got.pop("dvc") == "fw"
            said = _said(keys, line)
            differing = {name for name in got.keys() | said.keys() if got.get(name) != said.get(name)}
            assert not differing, (line, message.hex())
            count += 1
    return count


def test_every_frame_is_read_back() -> None:
    assert _assert_read_back(message_of(frame, **more) for frame in frames() for more in ({}, FULL)) > 1000


@pytest.mark.parametrize("family", [None, oracle.BRIDGE])
def test_every_frame_cut_at_every_length_is_read_back(family: int | None) -> None:
    cut = (
        message_of(replace(frame, payload=frame.payload[:length]), family)
        for frame in frames()
        for length in range(len(frame.payload))
    )
    assert _assert_read_back(cut) > 20_000


def test_packets_of_any_bytes_are_read_back() -> None:
    chance = random.Random(13)
    prefixes = (b"x", b"DROP: ", b"SRC=1.2.3.4 ", b"IN=a OUT=b MAC= ", b"[1.5] ", b"\xff\n\0", b"")

    def any_packet() -> bytes:
        frame = chance.choice(frames())
        payload = bytearray(frame.payload)
        for _ in range(chance.randrange(4)):
            if payload:
                payload[chance.randrange(len(payload))] = chance.randrange(256)
        mark, prefix = chance.randrange(1 << 32), chance.choice(prefixes[:4] + prefixes[6:])
        return message_of(replace(frame, payload=bytes(payload)), mark=mark, prefix=prefix)

    assert _assert_read_back(any_packet() for _ in range(10_000)) == 10_000


# -- written by the kernel, and read back ------------------------------------------------------------------------------


def _kernel_frames(pair: Pair) -> list[bytes]:
    """Return frames of many kinds: those of the corpus that the kernel lets through to a rule."""
    ends = (bytes.fromhex(mac.replace(":", "")) for mac in (pair.FW_MAC, pair.PEER_MAC))
    link = b"".join(ends)
    found = []
    for frame in frames():
        if frame.payload[:1] and frame.payload[0] >> 4 in (4, 6):
            found.append(link + (b"\x08\x00" if frame.payload[0] >> 4 == 4 else b"\x86\xdd") + frame.payload)
    return found


def _kernel_lines(log: int, prefix: str, end: str) -> list[str]:
    """Return lines of the kernel's log from its descriptor's place on, until one has `end`."""
    lines: list[str] = []
    late = time.monotonic() + 20
    while time.monotonic() < late:
        if select.select([log], [], [], 1)[0]:
            text = os.read(log, 8192).decode().partition(";")[2].partition("\n")[0]
            if text.startswith(prefix):
                lines.append(text)
                if end in text:
                    return lines
    raise AssertionError("the kernel's log did not end")


@pytest.mark.usefixtures("all_netns")
@pytest.mark.parametrize("asks", ["", "--log-tcp-sequence --log-tcp-options --log-ip-options --log-uid"])
def test_what_the_kernel_writes_is_what_its_group_says(pair: Pair, asks: str) -> None:
    """Each packet meets LOG, then NFLOG: the line read back must agree with the packet's keys in all that it says."""
    prefix = f"nfl{os.getpid()}: "
    rules = f'-A PREROUTING -i va -j LOG --log-prefix "{prefix}" {asks}\n-A PREROUTING -i va -j NFLOG --nflog-group 1\n'
    last = bytes(
        Ether(src=pair.PEER_MAC, dst=pair.FW_MAC) / IP(src=pair.PEER4, dst=pair.FW4, id=4242) / UDP(sport=4, dport=4242)
    )
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.lseek(log, 0, os.SEEK_END)
        nf_log.set_all_netns(True)
        for command in ("iptables", "ip6tables"):
            pair.fw.run(f"{command}-restore", input=f"*raw\n:PREROUTING ACCEPT [0:0]\n{rules}COMMIT\n")
        with nfl.open_group(1, netns=pair.fw.path, profile="latency") as group:
            pair.inject([*_kernel_frames(pair), last])
            lines = _kernel_lines(log, prefix, "DPT=4242")
            group.stop()
            packets = [keys for batch in group.batches() for keys in batch.to_dicts()]
    finally:
        os.close(log)
    assert len(lines) == len(packets) > 100
    parser = LogLines(_NOON)
    said: set[str] = set()
    assert [line for line in lines if LogLines(_NOON).parse(f"{_HEAD}[1.5] {line}") is None] == []
    for line, keys in zip(lines, packets, strict=True):
        row = parser.parse(f"{_HEAD}[1.5] {line}")
        assert row is not None, (line, parser.counts)
        wanted = _columns(keys)
        if "ip_tos" in wanted:
            wanted["ip_tos"] &= 0xFE
        skip = {"sec", "us", "dvc", "raw_pktcount", "oob_prefix", "tcp_options"}
        differing = {n: (v, wanted.get(n)) for n, v in row.items() if n not in skip and v != wanted.get(n)}
        assert not differing, (line, differing)
        said |= set(row)
    assert {"tcp_window", "udp_len", "icmp_type", "icmpv6_type", "ip6_flowlabel", "ahesp_spi", "ip6_fragid"} <= said
    if asks:
        assert {"tcp_options", "tcp_seq"} <= said


# -- hostile lines ----------------------------------------------------------------------------------------------------

_PARTS = f"{_HEAD}{_BODY} IN= OUT= [ ] [SRC= OPT ( ) FRAG:1 INCOMPLETE MARK=0x0 UID=1 PROTO=ICMP TYPE=3 CODE=4 "
_WORDS = st.sampled_from(
    [
        *re.findall(r"\S+ ?", _PARTS),
        *("IN=", "OUT=", " OUT=", "\0", "\x1b[2J", "\u2028", "\r", "message repeated 3 times: [ ", "99999999999", "٣"),
    ]
)


@given(st.lists(_WORDS | st.text(max_size=5), max_size=40).map("".join))
@example("\0" * 100)
@example("IN=" * 3000)
@example("IN= OUT= " * 800)
def test_any_text_is_a_row_of_the_schema_or_counted(text: str) -> None:
    lines = LogLines(_NOON)
    row = lines.parse(text)
    counts = vars(lines.counts)
    assert counts.pop("lines") == sum(counts.values()) == 1
    if row is not None:
        most = {"UTINYINT": 0xFF, "USMALLINT": 0xFFFF, "UINTEGER": 0xFFFF_FFFF, "BIGINT": 2**63 - 1}
        for name, value in row.items():
            type_ = PACKETS.by_name[name].type
            assert isinstance(value, str) if type_ == "VARCHAR" else 0 <= value <= most[type_], (name, value)


@given(st.text(st.characters(exclude_characters="\r\n"), max_size=60))
def test_a_prefix_cannot_change_a_value(prefix: str) -> None:
    plain, prefixed = row_of(f"{_HEAD}[1.5] x{_BODY}"), row_of(f"{_HEAD}[1.5] x{prefix}{_BODY}")
    assert prefixed.pop("oob_prefix") == f"x{prefix}"
    assert {name: value for name, value in plain.items() if name != "oob_prefix"} == prefixed


@given(st.text(st.sampled_from("SRCDT=1 []()IN=OU.,:"), max_size=300))
def test_an_embedded_packet_cannot_change_a_value(inner: str) -> None:
    row = LogLines(_NOON).parse(f"{_HEAD}{_LINK}{_IP}PROTO=ICMP TYPE=3 CODE=1 [SRC={inner}] ")
    if row is not None and " OUT=" not in inner:
        assert (row["src_ip"], row["dest_ip"], row.get("src_port")) == ("192.0.2.66", "10.77.0.1", None)


_SLOW = [
    ("IN=" * 2700, "x"),
    (" OUT=" * 1600, "x"),
    (_HEAD + "[ " * 4000, _BODY),
    (_HEAD + _LINK + "OPT ( ) " * 900, "x"),
    (_HEAD + _LINK + "SRC=fd77::2 DST=fd77::1 LEN=48 TC=0 HOPLIMIT=64 FLOWLBL=0 " + "OPT ( ) " * 900, "x"),
    (_HEAD + _LINK + _IP + "PROTO=ICMP TYPE=3 CODE=1 " + "[SRC= " * 1200, "x"),
    (_HEAD + _LINK + _IP + "PROTO=ICMP TYPE=3 CODE=1 [SRC=" + "[1 bytes] " * 700, "x"),
    (_HEAD + "message repeated 3 times: [ " * 280, _BODY + "]"),
    ("Nov 27 12:00:00 " * 500, _BODY),
    ("Nov 27 12:00:00 " + "a." * 3900, _BODY),
]


@pytest.mark.parametrize(("start", "end"), _SLOW)
def test_no_text_takes_for_ever(start: str, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With backtracking, these would not end before the test's time is over."""
    monkeypatch.setattr(loglines, "LONGEST", 1 << 20)
    lines = LogLines(_NOON)
    lines.parse(start + end)
    lines.parse(start * 4 + end)
    assert lines.counts.lines == 2


def test_tables_of_what_was_met_do_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loglines, "_REMEMBERED", 10)
    monkeypatch.setattr(stamps, "_REMEMBERED", 10)
    lines = LogLines(_NOON)
    for number in range(100):
        line = f"Nov 27 12:{number // 60:02}:{number % 60:02} fw kernel: {_BODY}"
        row = lines.parse(line.replace("192.0.2.66", f"192.0.2.{number}"))
        assert row is not None
        assert (row["src_ip"], row["sec"]) == (f"192.0.2.{number}", _NOON + number)
    assert len(loglines._ADDRESSES) <= 10
    assert len(lines._stamps._times) <= 10
