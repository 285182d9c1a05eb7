# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel flows`: the table, flows as they end, and the busiest, on the real kernel."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from nflowlevel import cli
from nflowlevel.cli.flows import Reading, busiest
from tests.fix_netns import Netns, netns

__all__ = ["netns"]


@pytest.fixture
def tracked(netns: Netns) -> Netns:
    """A namespace where loopback is tracked and counted."""
    for name in ("acct", "timestamp", "events"):
        netns.sysctl(f"net.netfilter.nf_conntrack_{name}", 1)
    netns.nft("table inet t { chain c { type filter hook output priority 0; ct state new; }; }")
    return netns


@contextlib.contextmanager
def _exchange(place: Netns, port: int = 5353) -> Iterator[None]:
    """Send 3 datagrams of 100 bytes one way, and one of 10 back."""
    with place.enter():
        server, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with server, client:
        server.bind(("127.0.0.1", port))
        client.bind(("127.0.0.1", 40000))
        for _ in range(3):
            client.sendto(bytes(100), ("127.0.0.1", port))
        server.sendto(bytes(10), ("127.0.0.1", 40000))
        yield


def _run(capsys: pytest.CaptureFixture[str], place: Netns, *arguments: str) -> list[str]:
    assert cli.main(["flows", *arguments, "--netns", place.path]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_table(tracked: Netns, capsys: pytest.CaptureFixture[str]) -> None:
    with _exchange(tracked):
        heading, line = _run(capsys, tracked)
        assert heading.split()[:3] == ["proto", "source", "destination"]
        assert line.split() == ["udp", "127.0.0.1:40000", "127.0.0.1:5353", "3", "384", "1", "38"]
        (line,) = _run(capsys, tracked, "list", "--json", "--filter", "dest_port == 5353 && bytes_in == 38")
        flow = json.loads(line)
        assert (flow["orig.raw.pktlen"], flow["reply.raw.pktcount"], flow["orig.ip.saddr.str"]) == (384, 1, "127.0.0.1")
        assert len(_run(capsys, tracked, "list", "--filter", "dport == 1")) == 1


def test_an_empty_table_and_counts_that_are_off_are_said(tracked: Netns, capsys: pytest.CaptureFixture[str]) -> None:
    """Zeros, or nothing at all, are no riddle: what to do stands beside them, and not among the lines."""
    assert cli.main(["flows", "--netns", tracked.path]) == 0
    assert capsys.readouterr().err.startswith("flows: none; packets are tracked where a rule asks for it, such as: nft")
    tracked.sysctl("net.netfilter.nf_conntrack_acct", 0)
    with _exchange(tracked):
        assert cli.main(["flows", "--json", "--netns", tracked.path]) == 0
        told = capsys.readouterr()
    assert told.err == (
        "flows: the kernel counts no packets and bytes; for flows that begin afterwards: "
        "sysctl -w net.netfilter.nf_conntrack_acct=1\n"
    )
    assert json.loads(told.out)["orig.raw.pktcount"] == 0
    tracked.sysctl("net.netfilter.nf_conntrack_acct", 1)
    assert cli.main(["flows", "--netns", tracked.path, "-F", "src_port == 1"]) == 0
    assert capsys.readouterr().err == ""


def test_the_table_again_and_again(tracked: Netns, capsys: pytest.CaptureFixture[str]) -> None:
    with _exchange(tracked):
        lines = _run(capsys, tracked, "list", "--watch", "0.1", "--count", "2")
    assert sum("127.0.0.1:5353" in line for line in lines) == 2


def test_the_busiest(tracked: Netns, capsys: pytest.CaptureFixture[str]) -> None:
    with _exchange(tracked):
        heading, line = _run(capsys, tracked, "top")
        assert heading.split() == ["proto", "source", "destination", "flows", "packets", "bytes"]
        assert line.split() == ["udp", "127.0.0.1:40000", "127.0.0.1:5353", "1", "4", "422"]
        (line,) = _run(capsys, tracked, "top", "--of", "port", "--json")
        assert json.loads(line) == {"port": "udp/5353", "flows": 1, "packets": 4.0, "bytes": 422.0}
        lines = _run(capsys, tracked, "top", "--of", "source", "--by", "flows", "--watch", "0.1", "--count", "1")
        assert lines[0].split() == ["source", "flows", "packets/s", "bytes/s"]
        assert lines[1].split() == ["127.0.0.1", "1", "0", "0"]


def test_rates() -> None:
    names = {(1,): ("a",), (2,): ("b",), (3,): ("a",)}
    before = Reading({(1,): (10, 1000), (9,): (1, 1)}, {**names, (9,): ("gone",)})
    now = Reading({(1,): (30, 2000), (2,): (5, 5000), (3,): (2, 20)}, names)
    found = busiest(before, now, 2.0, "bytes")
    assert [(each.name, each.flows, each.packets, each.bytes) for each in found] == [
        (("b",), 1, 2.5, 2500.0),
        (("a",), 2, 11.0, 510.0),
    ]
    assert [each.name for each in busiest(None, now, 1.0, "packets")] == [("a",), ("b",)]


def test_flows_as_they_end(tracked: Netns) -> None:
    command = [sys.executable, "-m", "nflowlevel", "flows", "tail", "--netns", tracked.path, "--events", "new,destroy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert process.stdout
        assert "waiting for new, destroy" in process.stderr.readline()
        with _exchange(tracked):
            begun = process.stdout.readline()
        tracked.run("conntrack", "-F")
        ended = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read() == "flows: 2 shown, none lost\n"
    assert " new udp 127.0.0.1:40000 > 127.0.0.1:5353 " in begun
    assert " end udp 127.0.0.1:40000 > 127.0.0.1:5353 3 packets 384 bytes, back 1 packets 38 bytes" in ended


def test_as_many_as_wanted(tracked: Netns) -> None:
    command = [sys.executable, "-m", "nflowlevel", "flows", "tail", "--json", "-n", "1", "--netns", tracked.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        process.stderr.readline()
        with _exchange(tracked):
            tracked.run("conntrack", "-F")
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(output)["ct.event"] == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tail", "--events", "old"], "must be of new, update, destroy, not 'old'"),
        (["list", "--filter", "tcp.dport == 1"], "flows do not have 'tcp.dport'"),
        (["top", "--of", "nothing"], "must be one of flow, source"),
    ],
)
def test_what_cannot_be(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status: object = cli.main(["flows", *arguments])
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert said in capsys.readouterr().err
