# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel top`: of a file that grows and is rotated, of a group and of flows, on the real kernel."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nflowlevel import cli
from nflowlevel.cli.top import _FileSource
from tests.fix_logs import lines, record
from tests.fix_netns import Netns, Pair, netns, pair
from tests.fix_terminal import Screen

__all__ = ["netns", "pair"]


def _top(*arguments: str, act: Callable[[], None]) -> str:
    command = [sys.executable, "-m", "nflowlevel", "top", "--watch", "1.5", "--count", "2", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert "waiting for records" in process.stderr.readline()
        act()
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    return output


def test_a_file_that_grows(tmp_path: Path) -> None:
    log = tmp_path / "ulogd.json"
    log.write_bytes(lines([record(src_ip="192.0.2.1")]))

    def act() -> None:
        with log.open("ab") as file:
            file.write(lines(record(1, src_ip="203.0.113.7", dest_port=port) for port in range(1, 200)))
            file.write(lines(record(2, src_ip=source) for source in ("193.0.6.139", "193.0.6.140")))
            file.write(b"no record\n")

    output = _top(str(log), act=act)
    assert "201 in all, 1 damaged line" in output
    assert "203.0.113.7  199" in output
    assert "192.0.2.1" not in output
    assert "port_scan" in output
    assert "countries\n  NL  2\n" in output


def test_what_takes_its_place_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "ulogd.json"
    log.write_bytes(b"old\n")
    source = _FileSource(str(log))
    try:
        assert list(source.read()) == []
        with log.open("ab") as file:
            file.write(b"one\ntw")
        assert list(source.read()) == [b"one"]
        with log.open("ab") as file:
            file.write(b"o\n")
        assert list(source.read()) == [b"two"]
        os.rename(log, tmp_path / "ulogd.json.1")
        assert list(source.read()) == []
        log.write_bytes(b"three\n")
        assert list(source.read()) == [b"three"]
        os.truncate(log, 0)
        log.write_bytes(b"4\n")
        assert list(source.read()) == [b"4"]
    finally:
        source.close()


def test_a_group(pair: Pair) -> None:
    pair.fw.nft("table inet t { chain c { type filter hook input priority 0; udp dport 9 log group 7; }; }")

    def act() -> None:
        pair.send_udp(20)

    output = _top("--group", "7", "--netns", pair.fw.path, act=act)
    assert "20 in all; 0 packets lost before they were read" in output


def test_on_a_terminal(pair: Pair) -> None:
    pair.fw.nft("table inet t { chain c { type filter hook input priority 0; udp dport 9 log group 7; }; }")
    screen = Screen(pair.fw, 100, "top", "--group", "7", "--watch", "1.5", "--count", "2")
    screen.begun()
    pair.send_udp(20)
    text = screen.shown()
    assert "sources" in text
    assert "10.77.0.2" in text
    assert "findings" in text


def test_flows(netns: Netns) -> None:
    for name in ("acct", "timestamp", "events"):
        netns.sysctl(f"net.netfilter.nf_conntrack_{name}", 1)
    netns.nft("table inet t { chain c { type filter hook output priority 0; ct state new; }; }")

    def act() -> None:
        with netns.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", ("127.0.0.1", 9))
        netns.run("conntrack", "-F")

    output = _top("--flows", "--netns", netns.path, act=act)
    assert "1 in all; 0 events lost before they were read" in output
    assert "127.0.0.1  1" in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Name one: a FILE, --group N, or --flows"),
        (["--group", "1", "--flows"], "Name one"),
        (["/not/there"], "/not/there: No such file or directory"),
    ],
)
def test_what_cannot_be(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["top", *arguments]) != 0
    assert said in capsys.readouterr().err
