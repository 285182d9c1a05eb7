# SPDX-License-Identifier: GPL-2.0-or-later
"""Migration: the real programs load what comes out, and the same packets are logged, now to the group."""

from __future__ import annotations

import functools
import ipaddress
import json
import os
import re
import select
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)
from scapy.layers.l2 import Ether

import nflowlevel as nfl
from nflowlevel.errors import ConfigError
from nflowlevel.firewall import nf_log
from nflowlevel.firewall.logstatements import Groups
from nflowlevel.firewall.migration import FILE, configuration, document, migration
from nflowlevel.firewall.rules import LogRule, parse_nft, parse_save
from tests.fix_daemon import Daemon
from tests.fix_netns import Bridge, Netns, Pair

_COUNT = 7
#: What is kept by a limit that lets through three packets and no more for hours.
_LIMITED = 3


def _send(netns: Netns, ports: range, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with netns.enter(), socket.socket(family, socket.SOCK_DGRAM) as udp:
        for port in ports:
            for _ in range(_COUNT):
                udp.sendto(b"x" * 500, (address, port))


def _logged(netns: Netns, ports: range, address: str, groups: int = 1) -> Counter[tuple[str | None, int]]:
    """Send the packets again, and return how many of each prefix come to which of the groups from 1 on."""
    found: Counter[tuple[str | None, int]] = Counter()
    opened = [nfl.open_group(number, netns=netns.path, profile="latency") for number in range(1, groups + 1)]
    try:
        _send(netns, ports, address)
        for group in opened:
            group.stop()
            found.update((packet.prefix, group.group) for packet in group)
    finally:
        for group in opened:
            group.close()
    return found


def _kernel_log(rules: list[LogRule]) -> dict[str, int | None]:
    return {rule.prefix: rule.packets for rule in rules if rule.group is None}


def _changed(before: str, after: str) -> list[tuple[str, str]]:
    """Return the lines that differ."""
    lines = [*zip(before.split("\n"), after.split("\n"), strict=True)]
    return [(old, new) for old, new in lines if old != new]


_SAVED = """\
# by hand
*mangle
:FORWARD ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -p udp -m udp --dport 1006 -j LOG --log-prefix "mangle "
COMMIT
*filter
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:LOGGING - [0:0]
-A OUTPUT -p udp -m udp --dport 1000 -m comment --comment "-j LOG \u2028 \\"q\\" x" -j LOG --log-prefix "a \\"b\\\\ "
-A OUTPUT -p udp -m udp --dport 1001 -m limit --limit 1/hour --limit-burst 3 -j LOG --log-prefix limited --log-level 6
-A OUTPUT -p udp -m udp --dport 1002 -j LOG
-A OUTPUT -p udp -m udp --dport 1003 -j LOG
-A OUTPUT -p udp -m udp --dport 1004 -m comment --comment -j -j LOG --log-prefix -j --log-tcp-options --log-ip-options
-A OUTPUT -p udp -m udp --dport 1005 -j NFLOG --nflog-prefix theirs --nflog-group 1
-A LOGGING -j LOG --log-prefix "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa" --log-level debug --log-macdecode
-A LOGGING -j RETURN
COMMIT
""".replace("--dport 1003 -j LOG", "--dport 1003 -g LOGGING")


@pytest.mark.parametrize("variant", ["nft", "legacy"])
@pytest.mark.parametrize(("command", "address"), [("iptables", "127.0.0.1"), ("ip6tables", "::1")])
def test_iptables(netns: Netns, variant: str, command: str, address: str) -> None:
    tool = f"{command}-{variant}"
    ports = range(1000, 1007)
    netns.run(f"{tool}-restore", input=_SAVED)
    _send(netns, ports, address)
    saved = netns.run(f"{tool}-save", "-c").stdout
    before = _kernel_log([*parse_save(saved, "ip", tool).values()])
    assert before == {
        'a "b\\ ': _COUNT,
        "limited": _LIMITED,
        "": _COUNT,
        "-j": _COUNT,
        "a" * 29: _COUNT,
        "mangle ": _COUNT,
    }

    found = migration([document("saved", saved)])
    text = found.text(found.documents[0])
    assert len(_changed(saved, text)) == len(before)
    assert all("NFLOG" in new and "-j LOG " not in new.rpartition('"')[2] for _, new in _changed(saved, text))
    assert found.groups.given == {"": 2}
    netns.run(f"{tool}-restore", input=text)
    # It prints the rules as they were printed: in its own words.
    again = netns.run(f"{tool}-save").stdout
    assert _rules(again) == _rules(text)

    theirs = {("theirs", 1): _COUNT}
    assert _logged(netns, ports, address, 2) == {**theirs, **{(prefix, 2): count for prefix, count in before.items()}}


def _rules(saved: str) -> list[str]:
    """Return the rules without their counters."""
    return [line.partition("] ")[2] or line for line in saved.split("\n") if "-A " in line]


_NFT = """\
define unused = 3
table inet t {
\tset s {
\t\ttype ipv4_addr
\t\telements = { 10.0.0.1 }
\t}
\tmap m {
\t\ttype inet_service : verdict
\t\telements = { 1003 : jump three }
\t}
\tchain three {
\t\tcounter log prefix "three \u2028 # {" level info accept comment "log level err"
\t}
\tchain out {
\t\ttype filter hook output priority filter; policy accept;
\t\tudp dport 1000 counter log prefix "zero "
\t\tudp dport 1001 limit rate 1/day burst 3 packets counter log prefix "one" level warn flags all accept
\t\tudp dport 1002 counter log
\t\tudp dport vmap @m
\t\tudp dport 1004 counter log prefix "four" level debug flags tcp sequence,options flags ip options
\t\tudp dport 1005 counter log prefix "theirs" group 1 snaplen 80
\t\tudp dport 1006 jump {
\t\t\tcounter log prefix "six" flags skuid accept
\t\t}
\t\tudp dport 1007 log level audit
\t}
}
"""


def _without_counts(text: str) -> str:
    return re.sub(r"counter packets \d+ bytes \d+", "counter", text)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_nft(netns: Netns, address: str) -> None:
    ports = range(1000, 1008)
    netns.nft(_NFT)
    _send(netns, ports, address)
    listed = netns.run("nft", "list", "ruleset").stdout
    before = _kernel_log(parse_nft(netns.run("nft", "-j", "list", "ruleset").stdout)[0])
    assert before == {
        "zero ": _COUNT,
        "one": _LIMITED,
        "": _COUNT,
        "three \u2028 # {": _COUNT,
        "four": _COUNT,
        "six": _COUNT,
    }

    found = migration([document("ruleset", listed)], by_level=True)
    (each,) = found.documents
    text = found.text(each)
    assert len(_changed(listed, text)) == len(before)
    assert found.groups.given == {"info": 2, "warning": 3, "debug": 4}
    assert [left.partition(": ")[2] for left in found.left(each)] == [
        "left as it is: level audit writes to the audit subsystem, not to the kernel's log"
    ]
    netns.nft("flush ruleset\n" + text)
    assert _without_counts(netns.run("nft", "list", "ruleset").stdout) == _without_counts(text)
    groups = {"three \u2028 # {": 2, "four": 4}
    expected = {(prefix, groups.get(prefix, 3)): count for prefix, count in before.items()}
    assert _logged(netns, ports, address, 4) == {("theirs", 1): _COUNT, **expected}


#: nft 1.0.6 cannot load the JSON of a block, nor of a map that leads to a chain.
_NFT_JSON = """
table inet t {
\tchain out {
\t\ttype filter hook output priority filter; policy accept;
\t\tudp dport 1000 counter log prefix "zero \u2028 " level info
\t\tudp dport 1001 limit rate 1/day burst 3 packets counter log prefix "one" flags all accept comment "x"
\t\tudp dport 1002 counter log
\t\tudp dport 1003 counter log prefix "theirs" group 1 snaplen 80
\t}
}
"""


def test_nft_as_json(netns: Netns) -> None:
    ports = range(1000, 1004)
    netns.nft(_NFT_JSON)
    listed = netns.run("nft", "-j", "list", "ruleset").stdout
    found = migration([document("ruleset", listed)])
    text = found.text(found.documents[0])
    assert found.groups.given == {"": 2}
    netns.run("nft", "flush", "ruleset")
    netns.run("nft", "-j", "-f", "-", input=text)
    again = json.loads(netns.run("nft", "-j", "list", "ruleset").stdout)
    assert _statements(again) == _statements(json.loads(text))
    expected = {("zero \u2028 ", 2): _COUNT, ("one", 2): _LIMITED, ("", 2): _COUNT, ("theirs", 1): _COUNT}
    assert _logged(netns, ports, "127.0.0.1", 2) == expected


def _statements(ruleset: Any) -> list[Any]:
    return [item["rule"]["expr"] for item in ruleset["nftables"] if "rule" in item]


def test_ebtables(bridge: Bridge) -> None:
    frame = bytes.fromhex("0277000000 0b 0277000000 0a 9999".replace(" ", "")) + bytes(50)
    rule = ("-A", "FORWARD", "--log-level", "info", "--log-prefix", "e b", "--log-ip", "--log-arp", "-j", "CONTINUE")
    bridge.br.run("ebtables-nft", *rule)
    saved = bridge.br.run("ebtables-nft-save", "-c").stdout
    found = migration([document("saved", saved)])
    bridge.br.run("ebtables-nft-restore", input=found.text(found.documents[0]))
    assert (
        '--nflog-prefix "e b" --nflog-group 1 --nflog-range 256 -j CONTINUE'
        in bridge.br.run("ebtables-nft-save").stdout
    )
    with nfl.open_group(1, netns=bridge.br.path, profile="latency") as group:
        bridge.inject([frame] * _COUNT)
        group.stop()
        assert [packet.prefix for packet in group] == ["e b"] * _COUNT


def test_the_rules_of_ulog_are_accepted(netns: Netns) -> None:
    options = '--ulog-prefix "u l" --ulog-nlgroup 3 --ulog-cprange 100 --ulog-qthreshold 5'
    text = f"*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j ULOG {options}\nCOMMIT\n"
    found = migration([document("old", text)])
    netns.run("iptables-restore", input=found.text(found.documents[0]))
    _send(netns, range(1000, 1001), "127.0.0.1")
    rule = '-A OUTPUT -j NFLOG --nflog-prefix "u l" --nflog-group 3 --nflog-size 100 --nflog-threshold 5'
    assert _rules(netns.run("iptables-save").stdout) == [rule]
    assert [*found.remarks(found.documents[0])] == ["line 3 now logs to group 3, which was group 3 of ULOG"]


def _frames(pair: Pair) -> list[bytes]:
    """Return packets that the kernel, and PRINTPKT, have different words for."""
    four = functools.partial(IP, src=pair.PEER4, dst=pair.FW4)
    six = functools.partial(IPv6, src=pair.PEER6, dst=pair.FW6)
    options = [("MSS", 1460), ("NOP", None), ("WScale", 3)]
    # Data of their own, which an error quotes.
    quoted, quoted6 = IP(src=pair.FW4, dst=pair.PEER4) / UDP(), IPv6(src=pair.FW6, dst=pair.PEER6) / UDP()
    packets = [
        four(id=7, flags="DF", tos=0xB8)
        / TCP(sport=1, dport=80, seq=123456, ack=7, flags="SPU", urgptr=5, options=options),
        four(tos=0x08) / UDP(sport=5, dport=9) / b"x",
        four() / ICMP(type=8, id=5, seq=6),
        four() / ICMP(type=3, code=4, nexthopmtu=1400) / quoted,
        four() / ICMP(type=5, code=1, gw="10.77.0.9") / quoted,
        four(proto=50) / (b"\0\0\1\2" + bytes(20)),
        four(proto=51) / (b"\x11\4\0\0\0\0\0\5" + bytes(20)),
        four(proto=132) / (b"\0\3\0\4" + bytes(8)),
        four(proto=136) / b"\0\5\0\6\0\x08\0\0",
        four(proto=47) / bytes(20),
        four(frag=10, flags="MF", proto=17) / bytes(40),
        four(options=IPOption(b"\x07\x03\x04\0")) / UDP(sport=5, dport=9),
        four(proto=6) / bytes(10),
        six(tc=0xB8, fl=0xABCDE) / TCP(sport=1, dport=80, flags="S"),
        six() / UDP(sport=5, dport=9) / b"x",
        six() / ICMPv6EchoRequest(id=5, seq=6),
        six() / ICMPv6PacketTooBig(mtu=1300) / quoted6,
        six() / IPv6ExtHdrFragment(offset=3, m=1, id=0xABCD, nh=17) / bytes(40),
        six() / IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))]) / UDP(sport=5, dport=9),
    ]
    return [bytes(Ether(src=pair.PEER_MAC, dst=pair.FW_MAC) / packet) for packet in packets]


#: What docs/migrate.md says of the text: the kernel's words, and PRINTPKT's for the same.
_DIFFERENCES = [
    (r" \[SRC=.* \](?= |$)", ""),  # what an ICMP error quotes
    (r"TYPE=2 CODE=0 MTU=1300 ", "TYPE=2 CODE=0 "),
    (r" RES=0x\w\w", ""),
    (r" OPT \( (FRAG:.*?) \)", r" \1"),
    (r" OPT \([^)]*\)", ""),
    (r"TOS=0x", "TOS="),
    (r"FRAG:(\d+) INCOMPLETE ID:(\w+)", r"FRAG: \1 ID: \2"),
    (r"(?<= FRAG:10 PROTO=UDP )$", "INCOMPLETE "),
    (r"(?<= ID: 0000abcd PROTO=UDP )$", "INCOMPLETE "),
    (r"INCOMPLETE \[\d+ bytes\]", "INCOMPLETE"),
    (r"PROTO=132", "PROTO=SCTP SPT=3 DPT=4"),
    (r"PROTO=UDPLITE SPT=5 DPT=6 LEN=8", "PROTO=136"),
    (r"(?<==)fd77:[\w:]+", lambda found: str(ipaddress.ip_address(found[0]))),
    (r"$", "MARK=0x0 "),
]


def _kernel_lines(log: int, prefix: str, count: int) -> list[str]:
    """Return lines of the kernel's log from its descriptor's place on, as soon as there are so many."""
    lines: list[str] = []
    end = time.monotonic() + 10
    while len(lines) < count and time.monotonic() < end:
        if select.select([log], [], [], 1)[0]:
            text = os.read(log, 8192).decode().partition(";")[2].partition("\n")[0]
            lines += [text] if text.startswith(prefix) else []
    return lines


@pytest.mark.usefixtures("all_netns")
def test_the_text_is_the_kernels_but_for_what_is_documented(pair: Pair, tmp_path: Path) -> None:
    prefix = f"nfl{os.getpid()}: "
    asks = "--log-tcp-sequence --log-tcp-options --log-ip-options --log-uid"
    rule = f'*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -i va -j LOG --log-prefix "{prefix}" {asks}\nCOMMIT\n'
    frames = _frames(pair)
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.lseek(log, 0, os.SEEK_END)
        nf_log.set_all_netns(True)
        for command in ("iptables", "ip6tables"):
            pair.fw.run(f"{command}-restore", input=rule)
        pair.inject(frames)
        theirs = _kernel_lines(log, prefix, len(frames))
    finally:
        os.close(log)

    each = document("rules", rule, trim=True)
    found = migration([each])
    file = tmp_path / "text.log"
    with Daemon(tmp_path, configuration(found.groups, str(file)), netns=pair.fw):
        for command in ("iptables", "ip6tables"):
            pair.fw.run(f"{command}-restore", input=found.text(each))
        pair.inject(frames)
    ours = [line[len("Nov 27 09:28:20 ") :].partition(" ")[2] for line in file.read_text().split("\n")[:-1]]
    assert len(theirs) == len(ours) == len(frames)
    for kernel, text in zip(theirs, ours, strict=True):
        for words, other in _DIFFERENCES:
            kernel = re.sub(words, other, kernel)
        assert text == kernel


def test_what_is_copied_is_enough_for_the_headers(netns: Netns) -> None:
    found = migration([document("rules", "*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j LOG\nCOMMIT\n")])
    netns.run("iptables-restore", input=found.text(found.documents[0]))
    with nfl.open_group(1, netns=netns.path, profile="latency") as group:
        _send(netns, range(1000, 1001), "127.0.0.1")
        group.stop()
        assert {packet.caplen for packet in group if packet.totlen == 528} == {256}


# -- without a kernel -------------------------------------------------------------------------------------------------


def test_lists_share_their_groups() -> None:
    four = document("rules.v4", "*filter\n-A a -j LOG --log-level 3\n-A a -j LOG --log-level info\nCOMMIT\n")
    six = document("rules.v6", "*filter\n-A a -j LOG --log-level 3\n-A a -j NFLOG --nflog-group 1\nCOMMIT\n")
    found = migration([four, six], by_level=True, taken=frozenset((2,)))
    assert found.groups.given == {"err": 3, "info": 4}
    assert "--nflog-group 3" in found.text(four)
    assert "--nflog-group 3" in found.text(six)


def test_remarks() -> None:
    rules = "".join(f"-A a -j LOG --log-level {level} --log-tcp-options\n" for level in (1, 2, 3, 4, 4, 5, 6, 7))
    each = document("rules.v4", f"*filter\n{rules}-A a -j AUDIT\nCOMMIT\n")
    found = migration([each])
    assert [*found.remarks(each)] == [
        "lines 2, 3, 4, 5, 6, 7 and 2 more now log to group 1",
        "levels alert, crit, debug, err, info, notice, warning: a group has none, so all go to one; --by-level gives "
        "each a group and a file",
        "lines 2, 3, 4, 5, 6, 7 and 2 more: TCP options: not carried over, PRINTPKT does not write them; PCAP keeps "
        "the packets",
    ]
    assert [*found.left(each)] == [
        "line 10: left as it is: -j AUDIT writes to the audit subsystem, not to the kernel's log"
    ]


def test_tables_of_iptables_in_nfts_text_are_remarked() -> None:
    each = document("x", "table ip filter {\n\tchain INPUT {\n\t\tlog\n\t}\n}\n")
    assert any("looks like iptables-nft's" in remark for remark in migration([each]).remarks(each))


def test_files_that_are_included_are_remarked() -> None:
    each = document("x", 'include "y.nft"\ntable ip t {\n\tchain c {\n\t\tlog\n\t}\n}\n')
    assert any("files that it includes" in remark for remark in migration([each]).remarks(each))


@pytest.mark.parametrize("text", ["", "x", "[global]\n", "{}", "\0\udcff"])
def test_what_is_no_list_of_rules(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^rules.v4: these are no rules: neither as iptables-save"):
        document("rules.v4", text)


@pytest.mark.parametrize("text", ['{"nftables": [', '{"nftables": 3}', 'table ip t {\n"', "[" * 100_000])
def test_what_nft_has_not_printed(text: str) -> None:
    with pytest.raises(ConfigError):
        document("rules.nft", text)


def test_configuration() -> None:
    groups = Groups(frozenset(), given={"": 3, "ulog2": 2})
    assert (
        configuration(groups, netns="blue")
        == """\
[global]
stack=log2:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,print1:PRINTPKT,emu2:LOGEMU
stack=log3:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,print1:PRINTPKT,emu3:LOGEMU

[log2]
group=2
network_namespace_path="/run/netns/blue"

[emu2]
file="/var/log/ulog/syslogemu-ulog2.log"

[log3]
group=3
network_namespace_path="/run/netns/blue"

[emu3]
file="/var/log/ulog/syslogemu.log"
"""
    )
    assert 'file="/x/warning"' not in configuration(Groups(frozenset(), given={"warning": 1}), "/x/y")
    assert 'file="/x/y-warning"' in configuration(Groups(frozenset(), given={"warning": 1}), "/x/y")
    assert FILE in configuration(Groups(frozenset(), given={"": 1}))
