# SPDX-License-Identifier: GPL-2.0-or-later
"""Ruleset: real rules of nft, iptables-nft and iptables-legacy are found and counted, missing programs named."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from nflowlevel.firewall import ruleset
from nflowlevel.firewall.ruleset import Ruleset, read_rules
from tests.fix_netns import Netns

_COUNT = 7


def _read(netns: Netns) -> Ruleset:
    with netns.enter():
        return read_rules()


def _send(netns: Netns, address: str = "127.0.0.1") -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with netns.enter(), socket.socket(family, socket.SOCK_DGRAM) as udp:
        for _ in range(_COUNT):
            udp.sendto(b"x", (address, 9))


def test_no_rules(netns: Netns) -> None:
    assert _read(netns) == Ruleset(())


def test_nft(netns: Netns) -> None:
    netns.nft("""
        table inet t {
            chain c {
                type filter hook output priority 0
                udp dport 9 counter log prefix "nine" group 2 snaplen 64
                udp dport 9 log
                udp dport 10 counter log group 3
            }
        }
        table netdev n {
            chain c {
                type filter hook ingress device lo priority 0
                log group 65535
            }
        }""")
    _send(netns)
    found = _read(netns)
    assert not found.unseen
    assert found.groups == {2, 3, 65535}
    nine = found.of_group(2)[0]
    assert (nine.family, nine.prefix, nine.packets, nine.snaplen, nine.idle) == ("inet", "nine", _COUNT, 64, "")
    assert [rule.packets for rule in found.of_group(3)] == [0]
    assert [rule.packets for rule in found.of_group(None)] == [None]
    # How it is called is how nft finds it.
    netns.run("nft", "delete", "rule", *nine.where.removeprefix("nft ").split())
    assert not _read(netns).of_group(2)


def test_nft_that_breaks_off(netns: Netns) -> None:
    """nft 1.0.6 does, at the flag of a table, unless its memory happens to hold a text there."""
    netns.nft("""
        table ip t {
            counter k { }
            chain far { log group 5; }
            map m { type ipv4_addr : verdict; elements = { 127.0.0.1 : jump far }; }
            chain c {
                type filter hook output priority 0
                udp dport 9 counter name k log prefix "one" group 2
                ip daddr vmap @m
            }
            chain idle { log group 6; }
        }
        table ip x { flags dormant; }""")
    _send(netns)
    found = _read(netns)
    assert not found.unseen
    assert found.groups == {2, 5, 6}
    assert [(rule.prefix, rule.packets) for rule in found.of_group(2)] == [("one", _COUNT)]
    assert [bool(found.of_group(group)[0].idle) for group in (2, 5, 6)] == [False, False, True]


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_iptables(netns: Netns, variant: str) -> None:
    for command, group in (("iptables", 4), ("ip6tables", 6)):
        tool = f"{command}-{variant}"
        netns.run(tool, "-A", "OUTPUT", "-p", "udp", "-m", "comment", "--comment", "-j LOG")
        netns.run(tool, "-A", "OUTPUT", "-p", "udp", "-j", "LOG", "--log-prefix", 'ker"nel')
        target = ("-j", "NFLOG", "--nflog-group", f"{group}", "--nflog-prefix", "to group", "--nflog-threshold", "3")
        netns.run(tool, "-A", "OUTPUT", "-p", "udp", *target)
    _send(netns)
    _send(netns, "::1")
    found = _read(netns)
    assert not found.unseen
    assert found.groups == {4, 6}
    for group, family in ((4, "ip"), (6, "ip6")):
        (rule,) = found.of_group(group)
        told = (rule.family, rule.table, rule.chain, rule.packets, rule.prefix, rule.queue_threshold, rule.idle)
        assert told == (family, "filter", "OUTPUT", _COUNT, "to group", 3, "")
    kernel_log = found.of_group(None)
    assert [(rule.family, rule.packets, rule.prefix) for rule in kernel_log] == [
        ("ip", _COUNT, 'ker"nel'), ("ip6", _COUNT, 'ker"nel')]  # fmt: skip
    suffix = "-legacy" if variant == "legacy" else ""
    assert [rule.where for rule in kernel_log] == [
        f"iptables{suffix} -t filter OUTPUT rule 2", f"ip6tables{suffix} -t filter OUTPUT rule 2"]  # fmt: skip


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_a_comment_makes_no_rule_of_its_own(netns: Netns, variant: str) -> None:
    comment = "a\r-A INPUT -j NFLOG --nflog-group 9\x0b-A INPUT -j NFLOG --nflog-group 8"
    rule = ("-m", "comment", "--comment", comment, "-j", "NFLOG", "--nflog-group", "3")
    netns.run(f"iptables-{variant}", "-A", "INPUT", *rule)
    assert _read(netns).groups == {3}


def test_ebtables(netns: Netns) -> None:
    netns.run("ebtables-nft", "-A", "FORWARD", "--nflog-group", "6", "--nflog-prefix", "eb", "-j", "CONTINUE")
    found = _read(netns)
    assert not found.unseen
    (rule,) = found.of_group(6)
    assert (rule.family, rule.prefix, rule.packets) == ("bridge", "eb", 0)


def test_listings_have_each_rule_once(netns: Netns) -> None:
    netns.nft('table inet own { chain c { log prefix "\u2028"; }; }\ntable ip filter { chain c { log; }; }')
    netns.run("ip6tables-nft", "-A", "INPUT", "-m", "comment", "--comment", "\udcff", "-j", "LOG")
    netns.run("iptables-legacy", "-t", "mangle", "-A", "INPUT", "-j", "LOG")
    with netns.enter():
        listings, unseen = ruleset.read_listings()
    assert not unseen
    texts = {listing.program: listing.text for listing in listings}
    assert sorted(texts) == ["ip6tables-nft-save", "iptables-legacy-save", "nft"]
    assert [texts["nft"].count(word) for word in ("table inet own {", "table ip filter {", "table ip6")] == [1, 1, 0]
    assert 'log prefix "\u2028"' in texts["nft"]
    assert '--comment "\udcff" -j LOG' in texts["ip6tables-nft-save"]
    assert "*mangle" in texts["iptables-legacy-save"]


def test_looking_leaves_no_tables_behind(netns: Netns) -> None:
    _read(netns)
    assert netns.run("cat", "/proc/net/ip_tables_names").stdout == ""
    assert netns.run("nft", "list", "tables").stdout == ""


class _Programs:
    """A machine on which only some programs are installed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, netns: Netns) -> Ruleset:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", str(self._directory))
            patch.setattr(ruleset, "_ADMIN_PATH", str(self._directory))
            return _read(netns)

    def install(self, program: str, name: str = "") -> None:
        path = shutil.which(program, path="/usr/sbin:/sbin:/usr/bin")
        assert path
        (self._directory / (name or program)).symlink_to(path)

    def script(self, name: str, text: str) -> None:
        file = self._directory / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path) -> _Programs:
    return _Programs(tmp_path)


def _all_sorts_of_rules(netns: Netns) -> None:
    netns.nft("table inet t { chain c { type filter hook input priority 0; log group 1; }; }")
    netns.run("iptables-nft", "-A", "INPUT", "-j", "LOG")
    netns.run("iptables-legacy", "-A", "INPUT", "-j", "NFLOG", "--nflog-group", "3")


def test_nothing_installed(netns: Netns, programs: _Programs) -> None:
    _all_sorts_of_rules(netns)
    found = programs.read(netns)
    assert not found.rules
    assert found.unseen == (
        ("rules of nft: nft is not installed", "install the package nftables"),
        ("rules of iptables-legacy: iptables-save is not installed", "install the package iptables"),
    )


def test_only_nft_installed(netns: Netns, programs: _Programs) -> None:
    _all_sorts_of_rules(netns)
    programs.install("nft")
    found = programs.read(netns)
    assert [rule.group for rule in found.rules] == [1]
    assert [what for what, _ in found.unseen] == [
        "rules of iptables-nft: iptables-save is not installed",
        "rules of iptables-legacy: iptables-save is not installed",
    ]


def test_only_iptables_nft_installed(netns: Netns, programs: _Programs) -> None:
    _all_sorts_of_rules(netns)
    programs.install("xtables-nft-multi", "iptables-save")
    found = programs.read(netns)
    assert [rule.where for rule in found.rules] == ["iptables -t filter INPUT rule 1"]
    assert [what for what, _ in found.unseen] == [
        "rules of nft: nft is not installed",
        "rules of iptables-legacy: iptables-legacy-save is not installed",
    ]


def test_legacy_under_the_plain_name(netns: Netns, programs: _Programs) -> None:
    _all_sorts_of_rules(netns)
    programs.install("nft")
    programs.install("xtables-legacy-multi", "iptables-save")
    found = programs.read(netns)
    assert [rule.group for rule in found.rules] == [1, 3]
    assert [what for what, _ in found.unseen] == ["rules of iptables-nft: iptables-nft-save is not installed"]


def test_program_that_fails(netns: Netns, programs: _Programs) -> None:
    programs.script("nft", "echo 'JSON support not compiled-in' >&2; exit 1")
    assert programs.read(netns).unseen == (("rules of nft: nft: JSON support not compiled-in", ""),)
