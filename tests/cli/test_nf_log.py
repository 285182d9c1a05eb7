# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel nf-log`: the table, JSON, and the switches; the kernel's part is in tests/firewall/test_nf_log.py."""

from __future__ import annotations

import json

import pytest

from nflowlevel import cli
from nflowlevel.firewall import nf_log
from tests.fix_netns import Netns


class _Command:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> str:
        """Return what the command prints; it must succeed."""
        assert cli.main(["nf-log", *arguments]) == 0
        output, errors = self._capsys.readouterr()
        assert not errors
        return output

    def fails(self, *arguments: str, status: int = 1) -> str:
        """Return what it says when it fails."""
        assert cli.main(["nf-log", *arguments]) == status
        output, errors = self._capsys.readouterr()
        assert not output
        return errors


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> _Command:
    return _Command(capsys)


def test_table(netns: Netns, command: _Command) -> None:
    nf_log.select("bridge", "nfnetlink_log", netns=netns.name)
    nf_log.select("arp", None, netns=netns.name)
    for words in (["--netns", netns.name], ["list", "--netns", netns.name], ["--netns", netns.name, "list"]):
        lines = command(*words).splitlines()
        assert lines[0].split() == ["family", "active", "available"]
        rows = {line.split()[0]: line.split()[2] for line in lines[1:6]}
        assert list(rows) == ["ipv4", "arp", "netdev", "bridge", "ipv6"]
        assert rows["bridge"] == "nfnetlink_log"
        assert rows["arp"] == "NONE"
        assert lines[7] == "invalid packets logged by conntrack: off"
        assert lines[8].startswith("kernel log of namespaces other than the initial one: ")


def test_json(netns: Netns, command: _Command) -> None:
    nf_log.select("ipv6", None, netns=netns.name)
    shown = json.loads(command("--netns", netns.name, "--json"))
    assert shown["families"]["ipv6"]["active"] is None
    assert shown["families"]["ipv6"]["number"] == 10
    assert "nfnetlink_log" in shown["families"]["ipv6"]["available"]
    assert shown["conntrack_log_invalid"] == "off"
    assert shown["all_netns"] in (True, False, None)
    assert shown == json.loads(command("list", "--json", "--netns", netns.name))


def test_set(netns: Netns, command: _Command) -> None:
    command("set", "ip", "nfnetlink_log", "--netns", netns.name)
    assert nf_log.families(netns.name)["ipv4"].active == "nfnetlink_log"
    command("--netns", netns.name, "set", "2", "none")
    assert nf_log.families(netns.name)["ipv4"].active is None


def test_a_family_without_packets_is_shown_when_somebody_set_it(netns: Netns, command: _Command) -> None:
    command("set", "inet", "nfnetlink_log", "--netns", netns.name)
    assert "\ninet (1)    nfnetlink_log" in command("--netns", netns.name)


def test_invalid(netns: Netns, command: _Command) -> None:
    command("invalid", "sctp", "--netns", netns.name)
    assert command("invalid", "--netns", netns.name) == "sctp\n"
    command("invalid", "255", "--netns", netns.name)
    assert command("invalid", "--netns", netns.name, "--json") == '"all"\n'


@pytest.mark.usefixtures("all_netns")
def test_all_netns(command: _Command) -> None:
    before = command("all-netns")
    assert before in ("on\n", "off\n")
    command("all-netns", before.strip())
    assert command("all-netns") == before
    assert command("all-netns", "--json") == ("true\n" if before == "on\n" else "false\n")


def test_errors(netns: Netns, command: _Command) -> None:
    assert "unknown family 'ipv5'" in command.fails("set", "ipv5", "NONE", status=2)
    assert "unknown protocol 'tpc' — did you mean 'tcp'?" in command.fails("invalid", "tpc", status=2)
    refused = command.fails("set", "ipv4", "ipt_LOG", "--netns", netns.name)
    assert refused.startswith("nflowlevel nf-log: make ipt_LOG the logging back end of ipv4: No such file or directory")
