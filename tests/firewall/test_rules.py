# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules: what is understood of the text that nft and the iptables programs print."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nflowlevel.firewall.rules import LogRule, complete, input_chain, parse_nft, parse_save, rule_command

_PLACE = {"family": "inet", "table": "a"}


def _nft(*rules: list[Any], others: list[dict[str, Any]] | None = None, hook: bool = True) -> str:
    """Return what nft prints for a table with one chain."""
    place = {"family": "inet", "table": "t"}
    chain = {"family": "inet", "table": "t", "name": "c", **({"hook": "input"} if hook else {})}
    listed = [{"rule": {**place, "chain": "c", "handle": 10 + n, "expr": expr}} for n, expr in enumerate(rules)]
    objects = [{"metainfo": {}}, {"table": {"family": "inet", "name": "t"}}, {"chain": chain}, *(others or []), *listed]
    return json.dumps({"nftables": objects})


def _counter(packets: int) -> dict[str, Any]:
    return {"counter": {"packets": packets, "bytes": 0}}


_MATCH = {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 9}}
_LOG: dict[str, Any] = {"log": {"group": 2}}


@pytest.mark.parametrize(
    ("chains", "found"),
    [
        (["ip6 a c", "inet a d", "inet b c", "ip a c"], "inet a d"),
        (["ip6 a c", "ip a c"], "ip a c"),
        (["bridge a c", "netdev a c", "ip filter INPUT", "inet nflowlevel-ssh input", "inet owned c"], ""),
        (["inet unlisted c"], ""),
        ([], ""),
    ],
)
def test_a_chain_that_takes_a_rule(chains: list[str], found: str) -> None:
    def chain(text: str, type_: str = "filter", hook: str = "input") -> dict[str, Any]:
        family, table, name = text.split()
        return {"chain": {"family": family, "table": table, "name": name, "type": type_, "hook": hook}}

    others = [chain("inet a nat", type_="nat"), chain("inet a out", hook="output"), {"chain": {**_PLACE, "name": "x"}}]
    tables = sorted({tuple(text.split()[:2]) for text in chains if "unlisted" not in text})
    listed = [
        {"table": {"family": family, "name": name, **({"flags": "o"} if name == "owned" else {})}}
        for family, name in tables
    ]
    text = json.dumps({"nftables": [{"metainfo": {}}, *listed, *others, *map(chain, chains)]})
    assert input_chain(text) == found


def test_the_command_that_adds_a_rule() -> None:
    assert rule_command("log group 1", chain="ip a c") == "nft add rule ip a c log group 1"
    assert rule_command("log group 1", hook="output") == (
        "nft 'add table inet logging; add chain inet logging output { type filter hook output priority filter - 1; }; "
        "add rule inet logging output log group 1'"
    )


def test_nft_rule() -> None:
    log = {"log": {"prefix": "SSH ", "group": 2, "snaplen": 64, "queue-threshold": 20}}
    found, opaque = parse_nft(_nft([_MATCH, _counter(3), log, {"accept": None}], [_MATCH]))
    assert found == [LogRule("inet", "t", "c", "nft inet t c handle 10", 2, "SSH ", 3, 64, 20)]
    assert not opaque


def test_nft_group_0_is_a_group_and_no_group_is_none() -> None:
    found, _ = parse_nft(_nft([{"log": {"group": 0}}], [{"log": None}], [{"log": {"prefix": "x", "level": "info"}}]))
    assert [rule.group for rule in found] == [0, None, None]


def test_nft_audit_is_not_the_kernels_log() -> None:
    assert parse_nft(_nft([{"log": {"level": "audit"}}]))[0] == []


def test_nft_rule_that_logs_to_two_groups() -> None:
    found, _ = parse_nft(_nft([_counter(5), _LOG, {"log": {"group": 3}}]))
    assert [(rule.group, rule.packets) for rule in found] == [(2, 5), (3, 5)]


@pytest.mark.parametrize(
    ("statements", "packets"),
    [
        ([_LOG], None),
        ([_counter(7), _LOG], 7),
        ([_LOG, _counter(7)], 7),
        ([_counter(9), _MATCH, _LOG], None),
        ([_counter(0), _MATCH, _LOG], 0),
        ([_counter(9), {"limit": {"rate": 1}}, _LOG], None),
        ([_counter(9), _MATCH, _counter(4), _LOG], 4),
        ([_LOG, _MATCH, _counter(4)], None),
        ([_counter(9), {"mangle": {}}, _LOG], 9),
    ],
)
def test_nft_counter_tells_only_what_it_can(statements: list[Any], packets: int | None) -> None:
    assert parse_nft(_nft(statements))[0][0].packets == packets


def test_nft_named_counters() -> None:
    named = [
        {"counter": {"family": "inet", "table": "t", "name": name, "packets": packets, "bytes": 0}}
        for name, packets in (("alone", 5), ("shared", 6), ("unused", 0))
    ]
    rules = [[{"counter": name}, _LOG] for name in ("alone", "shared", "shared", "unused", "unused")]
    found, _ = parse_nft(_nft(*rules, others=named))
    # Of 6 packets nobody knows which of the two rules they met; 0 leaves no doubt.
    assert [rule.packets for rule in found] == [5, None, None, 0, 0]


def test_nft_chain_without_hook_is_idle() -> None:
    assert "no hook" in parse_nft(_nft([_LOG], hook=False))[0][0].idle


def test_nft_chains_are_reached_by_jumps() -> None:
    def chain(name: str, **more: str) -> dict[str, Any]:
        return {"chain": {"family": "inet", "table": "t", "name": name, **more}}

    def rule(chain: str, *statements: Any) -> dict[str, Any]:
        place = {"family": "inet", "table": "t", "chain": chain, "handle": 1}
        return {"rule": {**place, "expr": list(statements)}}

    vmap = {"vmap": {"key": {}, "data": {"set": [[1, {"goto": {"target": "by_vmap"}}], [2, {"accept": None}]]}}}
    objects = [
        chain("base", hook="input"),
        *map(chain, ("by_jump", "by_vmap", "by_map", "deep", "island", "beach")),
        {"map": {"family": "inet", "table": "t", "name": "m", "elem": [[9, {"jump": {"target": "by_map"}}]]}},
        rule("base", {"jump": {"target": "by_jump"}}),
        rule("base", vmap),
        rule("by_jump", {"jump": {"target": "deep"}}),
        rule("island", {"jump": {"target": "beach"}}),
        *(rule(name, _LOG) for name in ("by_jump", "by_vmap", "by_map", "deep", "island", "beach")),
    ]
    found, _ = parse_nft(json.dumps({"nftables": objects}))
    assert {rule.chain for rule in found if rule.idle} == {"island", "beach"}
    assert len(found) == 6


@pytest.mark.parametrize("flags", ["d", "dormant", ["dormant"], ["owner", "dormant"]])
def test_nft_dormant_table(flags: object) -> None:
    text = _nft([_LOG]).replace('"name": "t"}', f'"name": "t", "flags": {json.dumps(flags)}}}', 1)
    assert parse_nft(text)[0][0].idle == "its table is dormant"


def test_nft_anonymous_chain_as_text() -> None:
    block = 'jump {\n\tcounter packets 4 bytes 99 log prefix "in block" group 44 snaplen 3 queue-threshold 5\n\tlog\n}'
    found, _ = parse_nft(_nft([_MATCH, block]))
    assert found == [
        LogRule("inet", "t", "c", "nft inet t c handle 10", 44, "in block", 4, 3, 5),
        LogRule("inet", "t", "c", "nft inet t c handle 10"),
    ]


def test_opaque_rules_are_completed_by_their_place() -> None:
    log = {"xt": {"type": "target", "name": "LOG"}}
    comment = {"xt": {"type": "match", "name": "comment"}}
    text = _nft([comment], [_counter(1), log], [{"xt": None}], [{"xt": None}]).replace('"inet"', '"ip"')
    found, opaque = parse_nft(text)
    assert not found
    assert list(opaque) == [("ip", "t", "c", 2), ("ip", "t", "c", 3), ("ip", "t", "c", 4)]
    save = (
        "*t\n:c ACCEPT [0:0]\n"
        "[0:0] -A c -m comment --comment x\n"
        '[1:60] -A c -j LOG --log-prefix "hello "\n'
        "[0:0] -A c -m comment --comment x -j ACCEPT\n"
        "[2:60] -A c -j NFLOG --nflog-group 4\n"
        "COMMIT\n"
    )
    assert complete(opaque, parse_save(save, "ip", "iptables")) == [
        LogRule("ip", "t", "c", "iptables -t t c rule 2", None, "hello ", 1),
        LogRule("ip", "t", "c", "iptables -t t c rule 4", 4, "", 2),
    ]


def test_save() -> None:
    text = r"""
# Generated by iptables-save v1.8.9 on Mon Nov 23 21:31:49 2026
*mangle
:FORWARD ACCEPT [0:0]
:log - [0:0]
:unused - [0:0]
[0:0] -A FORWARD -p tcp -g log
[9:12] -A log -j NFLOG --nflog-group 9 --nflog-size 64 --nflog-threshold 5
[0:0] -A unused -j NFLOG
COMMIT
*filter
:INPUT DROP [0:0]
[5:300] -A INPUT -p tcp -m tcp --dport 23 -m comment --comment "-j NFLOG --nflog-group 77" -j ACCEPT
[5:300] -A INPUT -m comment --comment "--nflog-group 7" -j NFLOG --nflog-prefix "it\'s \"q\\uoted\" " --nflog-group 1
[2:84] -A INPUT -j LOG --log-prefix word
COMMIT
# Completed on Mon Nov 23 21:31:49 2026
"""
    rules = list(parse_save(text, "ip", "iptables").values())
    idle = "no hook and no other rule leads to its chain"
    assert rules == [
        LogRule("ip", "mangle", "log", "iptables -t mangle log rule 1", 9, "", 9, 64, 5),
        LogRule("ip", "mangle", "unused", "iptables -t mangle unused rule 1", 0, "", 0, idle=idle),
        LogRule("ip", "filter", "INPUT", "iptables -t filter INPUT rule 2", 1, 'it\'s "q\\uoted" ', 5),
        LogRule("ip", "filter", "INPUT", "iptables -t filter INPUT rule 3", None, "word", 2),
    ]


@pytest.mark.parametrize("character", ["\u2028", "\x0b", "\x0c", "\x1c", "\x85"])
def test_what_only_python_takes_for_the_end_of_a_line_ends_none(character: str) -> None:
    comment = f"a{character}*filter{character}-A INPUT -j NFLOG --nflog-group 9"
    text = f'*filter\n:INPUT ACCEPT [0:0]\n[5:300] -A INPUT -m comment --comment "{comment}" -j NFLOG --nflog-group 3\n'
    (rule,) = parse_save(f"{text}COMMIT\n", "ip", "iptables").values()
    assert (rule.group, rule.packets) == (3, 5)


def test_save_of_ebtables() -> None:
    text = """*filter
:FORWARD ACCEPT
[4:0] -A FORWARD -p IPv4 --nflog-prefix "eb" --nflog-group 6 -j CONTINUE
-A FORWARD -p IPv4 --log-level notice --log-prefix "hello" -j CONTINUE
-A FORWARD -p IPv4 -j ACCEPT
"""
    assert list(parse_save(text, "bridge", "ebtables").values()) == [
        LogRule("bridge", "filter", "FORWARD", "ebtables -t filter FORWARD rule 1", 6, "eb", 4),
        LogRule("bridge", "filter", "FORWARD", "ebtables -t filter FORWARD rule 2", None, "hello"),
    ]


def test_nothing() -> None:
    assert parse_nft(json.dumps({"nftables": [{"metainfo": {}}]})) == ([], {})
    assert parse_save("", "ip", "iptables") == {}


def test_a_comment_is_neither_a_target_nor_the_end_of_a_line() -> None:
    text = """*filter
:INPUT ACCEPT [0:0]
[1:1] -A INPUT -m comment --comment -j -j LOG --log-prefix one
[2:2] -A INPUT -m comment --comment "x\u2028[9:9] -A INPUT -j NFLOG\x0b*mangle\x85" -j NFLOG --nflog-group 2
COMMIT
"""
    rules = parse_save(text, "ip", "iptables")
    assert [(place, rule.group, rule.prefix) for place, rule in rules.items()] == [
        (("ip", "filter", "INPUT", 1), None, "one"),
        (("ip", "filter", "INPUT", 2), 2, ""),
    ]
