# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel tail` as it is typed: its lines, its end, and what it says when it cannot begin."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nflowlevel
from tests.corpus import by_name
from tests.fix_daemon import PATIENCE, log_by_iptables, log_rule
from tests.fix_netns import Netns, Pair
from tests.fix_nflog import NflogReader

_EVERYTHING = """
table netdev t {
    chain i {
        type filter hook ingress device va priority 0
        log prefix "all " group 2
    }
}
"""


class Tail:
    """The command at work; `say` reads its lines one by one."""

    def __init__(self, netns: Netns, *arguments: str, **environment: str) -> None:
        self._process: subprocess.Popen[str] = netns.popen(
            sys.executable,
            "-m",
            "nflowlevel",
            "tail",
            *arguments,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(nflowlevel.__file__).parents[1]),
                "PYTHONUNBUFFERED": "",
                "TZ": "UTC",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self._guard = threading.Timer(PATIENCE, self._process.kill)
        self._guard.start()
        assert self._process.stdout
        assert self._process.stderr
        self.stdout, self.stderr = self._process.stdout, self._process.stderr

    def begun(self) -> Tail:
        """Wait until it reads the group."""
        assert self.stderr.readline() == "group 2: waiting for packets; stop with Ctrl-C\n"
        return self

    def lines(self, count: int) -> list[str]:
        """Return the next lines."""
        return [self.stdout.readline().removesuffix("\n") for _ in range(count)]

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Return its status, and what it still writes."""
        out = "" if self.stdout.closed else self.stdout.read()
        err = self.stderr.read()
        status = self._process.wait(PATIENCE)
        self.close()
        return status, out, err

    def close(self) -> None:
        """Take it back; the namespace ends the process."""
        self._guard.cancel()
        self._guard.join()


@pytest.fixture
def tail() -> Iterator[Any]:
    """Starts the command."""
    started: list[Tail] = []

    def start(netns: Netns, *arguments: str, **environment: str) -> Tail:
        started.append(Tail(netns, *arguments, **environment))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_lines_of_all_kinds(pair: Pair, tail: Any) -> None:
    pair.fw.nft(_EVERYTHING)
    expected = {
        "tcp4-syn-ack": r"TCP \S+:\d+ > \S+:\d+ SYN,ACK \d+ bytes ttl 64 win 64240",
        "tcp6-syn": r"TCP \[\S+\]:\d+ > \[\S+\]:\d+ SYN \d+ bytes hlim 64 win \d+",
        "udp4": r"UDP [\d.]+:\d+ > [\d.]+:\d+ \d+ bytes ttl \d+",
        "udp6": r"UDP \[\S+\]:\d+ > \[\S+\]:\d+ \d+ bytes hlim \d+",
        "icmp-echo-request": r"ICMP [\d.]+ > [\d.]+ \d+ bytes ttl \d+",
        "icmpv6-echo-128": r"ICMPv6 \S+ > \S+ \d+ bytes hlim \d+",
        "sctp4-init": r"SCTP \S+:\d+ > \S+:\d+ \d+ bytes ttl \d+",
        "udplite4-8": r"UDPLite \S+:\d+ > \S+:\d+ \d+ bytes ttl \d+",
        "esp4": r"ESP \S+ > \S+ \d+ bytes ttl \d+",
        "reserved4": r"protocol \d+ \S+ > \S+ \d+ bytes ttl \d+",
        "frag4-tcp-middle": r"TCP [\d.]+ > [\d.]+ \d+ bytes ttl \d+",
        "frag6-later-17": r"UDP [\da-f:]+ > [\da-f:]+ \d+ bytes hlim \d+",
        "arp-request": r"ARP [\d.]+ > [\d.]+ operation 1",
        "arp-cut-8": r"ARP operation \d+",
    }
    command = tail(pair.fw, "--group", "2", "--count", str(len(expected) + 1)).begun()
    pair.inject([by_name(name).wire() for name in expected])
    pair.inject([bytes.fromhex("027700000001 027700000002 88b5") + bytes(46)])
    lines = command.lines(len(expected) + 1)
    head = r"\d\d:\d\d:\d\d\.\d{6} in va "
    for line, (name, text) in zip(lines, expected.items(), strict=False):
        assert re.fullmatch(f"{head}{text} 'all'", line), (name, line)
    assert re.fullmatch(rf"{head}ethertype 0x88b5 46 bytes 'all'", lines[-1])
    assert command.end()[0] == 0


def test_the_hook_is_named(pair: Pair, tail: Any) -> None:
    pair.fw.nft(log_rule(2, prefix=""))
    command = tail(pair.fw, "--group", "2", "--count", "1").begun()
    pair.send_udp(1, source_port=7777)
    (line,) = command.lines(1)
    assert re.fullmatch(r"\S+ input in va UDP 10.77.0.2:7777 > 10.77.0.1:9 48 bytes ttl 64", line)


def test_count_ends_it(pair: Pair, tail: Any) -> None:
    pair.fw.nft(log_rule(2))
    command = tail(pair.fw, "-g", "2", "-n", "5").begun()
    pair.send_udp(23)
    status, out, err = command.end()
    assert (status, out.count("\n")) == (0, 5)
    assert err.endswith("none lost\n")


def test_a_filter(pair: Pair, tail: Any) -> None:
    """It shows what the filter selects, and only that counts for `--count`."""
    pair.fw.nft(log_rule(2, prefix="mine"))
    command = tail(pair.fw, "-g", "2", "-n", "5", "-F", 'sport in {7001, 7002} && prefix == "mine"').begun()
    for count, source_port in ((7, 7000), (3, 7001), (2, 7003), (2, 7002)):
        pair.send_udp(count, source_port=source_port)
    status, out, _ = command.end()
    assert status == 0
    assert re.findall(r":(\d+) >", out) == ["7001"] * 3 + ["7002"] * 2


def test_a_wrong_filter(pair: Pair, tail: Any) -> None:
    status, _, err = tail(pair.fw, "-g", "2", "--filter", "udp.dprt == 9").end()
    assert status == 2
    assert "filter: unknown field 'udp.dprt' — did you mean 'udp.dport'?\n    udp.dprt == 9\n    ^\n" in err


def test_json_lines_are_those_of_the_daemon(pair: Pair, tail: Any) -> None:
    log_by_iptables(pair.fw, 2, b"gr\xfc\xdfe")
    command = tail(pair.fw, "--group", "2", "--json", "--count", "2", LC_ALL="C", PYTHONCOERCECLOCALE="0").begun()
    pair.send_udp(2)
    status, out, _ = command.end()
    assert status == 0
    for line in out.splitlines():
        record = json.loads(line)
        assert record["oob.prefix"] == "gr\ufffd\ufffde"
        assert (record["src_ip"], record["dest_port"], record["oob.in"]) == ("10.77.0.2", 9, "va")
        assert list(record)[:2] == ["timestamp", "dvc"]
        assert list(record)[-1] == "mac.str"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_with_a_summary(pair: Pair, tail: Any, number: int) -> None:
    pair.fw.nft(log_rule(2))
    command = tail(pair.fw, "--group", "2").begun()
    pair.send_udp(23)
    command.lines(23)
    command.send(number)
    assert command.end() == (0, "", "group 2: 23 packets received, none lost\n")


def test_a_reader_that_has_seen_enough(pair: Pair, tail: Any) -> None:
    pair.fw.nft(log_rule(2))
    command = tail(pair.fw, "--group", "2").begun()
    pair.send_udp(1)
    command.lines(1)
    command.stdout.close()
    pair.send_udp(3)
    status, _, err = command.end()
    assert (status, err) == (0, "")


def test_a_terminal_that_does_not_know_the_letters(pair: Pair, tail: Any) -> None:
    pair.fw.nft(log_rule(2, prefix="größer"))
    command = tail(pair.fw, "--group", "2", "-n", "1", PYTHONIOENCODING="ascii", PYTHONUTF8="0").begun()
    pair.send_udp(1)
    (line,) = command.lines(1)
    assert line.endswith("'gr\\xf6\\xdfer'")


def test_a_namespace_by_path(pair: Pair, tail: Any) -> None:
    pair.fw.nft(log_rule(2))
    command = tail(pair.peer, "--group", "2", "-n", "1", "--netns", pair.fw.path).begun()
    pair.send_udp(1)
    assert " in va " in command.lines(1)[0]


def test_a_group_that_is_taken(pair: Pair, tail: Any) -> None:
    with NflogReader(pair.fw, 2):
        status, out, err = tail(pair.fw, "--group", "2").end()
    assert (status, out) == (1, "")
    assert err.startswith("nflowlevel tail: bind group 2: Operation not permitted — group 2 is read by netlink port ")


@pytest.mark.parametrize("arguments", [(), ("--group", "70000"), ("--group", "x"), ("-g", "2", "-n", "-1")])
def test_wrong_arguments(netns: Netns, tail: Any, arguments: tuple[str, ...]) -> None:
    status, _, err = tail(netns, *arguments).end()
    assert status == 2
    assert "usage: nflowlevel tail" in err
