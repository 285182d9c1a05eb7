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
from nflowlevel import cli
from nflowlevel.cli.follow import Follow
from tests.corpus import by_name
from tests.fix_daemon import PATIENCE, log_by_iptables, log_rule
from tests.fix_netns import Netns, Pair
from tests.fix_nflog import NflogReader
from tests.fix_terminal import Screen

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

    def begun(self, groups: str = "group 2") -> Tail:
        """Wait until it reads the groups."""
        assert self.stderr.readline() == f"{groups}: waiting for packets; stop with Ctrl-C\n"
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


# -- several groups ---------------------------------------------------------------------------------------------------

_ODD_AND_EVEN = """
table inet t {
    chain c {
        type filter hook input priority 0
        udp sport & 1 == 1 log prefix "odd" group 1
        udp sport & 1 == 0 log prefix "even" group 2
    }
}
"""


@pytest.mark.parametrize(
    ("arguments", "groups"), [("1 2", "1, 2"), ("-g 1 -g 2", "1, 2"), ("-g 2 1 2", "2, 1"), ("-F dport==9 1 2", "1, 2")]
)
def test_several_groups_in_order_of_time(pair: Pair, tail: Any, arguments: str, groups: str) -> None:
    pair.fw.nft(_ODD_AND_EVEN)
    command = tail(pair.fw, *arguments.split(), "--count", "100").begun(f"groups {groups}")
    # It finds all of them waiting, and reads one group after the other.
    command.send(signal.SIGSTOP)
    for source_port in range(7000, 7100):
        pair.send_udp(1, source_port=source_port)
    command.send(signal.SIGCONT)
    status, out, err = command.end()
    assert status == 0
    found = re.findall(r"^\S+ group (\d) .*:(\d+) > .* '(odd|even)'$", out, re.MULTILINE)
    assert found == [(str(2 - port % 2), str(port), "odd" if port % 2 else "even") for port in range(7000, 7100)]
    assert sorted(err.splitlines()) == [f"group {group}: 50 packets received, none lost" for group in (1, 2)]


def test_several_groups_as_json(pair: Pair, tail: Any) -> None:
    pair.fw.nft(_ODD_AND_EVEN)
    command = tail(pair.fw, "1", "2", "--json").begun("groups 1, 2")
    for source_port in range(7000, 7023):
        pair.send_udp(1, source_port=source_port)
    found = [json.loads(line) for line in command.lines(23)]
    assert [record["src_port"] for record in found] == list(range(7000, 7023))
    assert [record["group"] for record in found] == [2 - port % 2 for port in range(7000, 7023)]
    command.send(signal.SIGINT)
    assert command.end()[0] == 0


# -- on a terminal ----------------------------------------------------------------------------------------------------


def test_a_line_is_broken_where_a_terminal_ends(pair: Pair) -> None:
    pair.fw.nft(log_rule(2, prefix="a prefix of thirty characters!"))
    screen = Screen(pair.fw, 80, "tail", "2", "-n", "2", NO_COLOR="1")
    screen.begun()
    pair.send_udp(1, source_port=7000)
    pair.send_udp(1, source_port=7000, source=pair.PEER6)
    first, second, third, fourth = screen.shown().splitlines()
    assert re.fullmatch(r"\S{15} input in va UDP 10.77.0.2:7000 > 10.77.0.1:9 48 bytes ttl 64", first)
    assert second == " " * 16 + "'a prefix of thirty characters!'"
    assert re.fullmatch(r"\S{15} input in va UDP \[fd77::2\]:7000 > \[fd77::1\]:9 68 bytes hlim 64", third)
    assert fourth == second


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(pair: Pair, columns: int) -> None:
    pair.fw.nft(log_rule(2, prefix="x" * 100))
    screen = Screen(pair.fw, columns, "tail", "2", "-n", "3")
    screen.begun()
    pair.send_udp(3)
    shown = re.sub("\x1b\\[[0-9;]*m", "", screen.shown())
    lines = shown.splitlines()
    assert max(map(len, lines)) <= columns
    assert len([line for line in lines if not line.startswith(" " * 16)]) == 3
    assert "".join(lines).replace(" ", "").count("x" * 100) == 3


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colour_where_it_is_wanted(pair: Pair, environment: dict[str, str]) -> None:
    pair.fw.nft(log_rule(2))
    screen = Screen(pair.fw, 80, "tail", "2", "-n", "1", **environment)
    screen.begun()
    pair.send_udp(1)
    assert ("\x1b[" in screen.shown()) == (not environment)


def test_no_colour_in_a_pipe(pair: Pair, tail: Any) -> None:
    pair.fw.nft(log_rule(2))
    command = tail(pair.fw, "2", "-n", "1", TERM="xterm", FORCE_COLOR="1").begun()
    pair.send_udp(1)
    assert "\x1b" not in command.end()[1]


# -- what others choose -----------------------------------------------------------------------------------------------


#: Clear the screen, C1, DEL, text from right to left: the kernel allows it in names of interfaces; prefixes too.
_HOSTILE = "\x1b[2J\x9b1m\x7f\u202e"


def test_names_of_others_do_nothing_to_a_terminal(pair: Pair, tail: Any) -> None:
    name = "\x1b[2J\x7f\x9b1"
    pair.fw.ip("link set va down")
    pair.fw.ip(f"link set va name {name}")
    pair.fw.ip(f"link set {name} up")
    pair.fw.nft(log_rule(2, prefix=_HOSTILE, hook="prerouting").replace("udp dport 9", "meta l4proto udp"))
    text = tail(pair.fw, "2", "-n", "1").begun()
    pair.inject([by_name("udp4").wire()])
    status, out, _ = text.end()
    assert status == 0
    assert out.removesuffix("\n").isprintable()
    assert r"in \x1b[2J\x7f\x9b1 " in out
    as_json = tail(pair.fw, "2", "-n", "1", "--json").begun()
    pair.inject([by_name("udp4").wire()])
    status, out, _ = as_json.end()
    assert status == 0
    assert out.removesuffix("\n").isprintable()
    record = json.loads(out)
    assert (record["oob.in"], record["oob.prefix"]) == (name, _HOSTILE)


# -- other ends -------------------------------------------------------------------------------------------------------


def test_names_of_ports_and_protocols(pair: Pair, tail: Any) -> None:
    pair.fw.nft(_EVERYTHING)
    command = tail(pair.fw, "2", "-n", "3", "--names").begun()
    pair.inject([by_name(name).wire() for name in ("tcp4-syn-ack", "udp4", "reserved4")])
    tcp, udp, reserved = command.lines(3)
    assert " > 10.77.0.1:http SYN,ACK " in tcp
    port = int(re.findall(r":(\d+) ", re.sub(":domain ", ":53 ", udp))[-1])
    assert (port == 53) == (":domain " in udp)
    assert "protocol 255 " in reserved or "protocol 253 " in reserved


def test_a_full_disk_ends_it_with_a_message(pair: Pair) -> None:
    pair.fw.nft(log_rule(2))
    with open("/dev/full", "w") as full:
        process = pair.fw.popen(
            sys.executable, "-m", "nflowlevel", "tail", "2",
            env={**os.environ, "PYTHONPATH": str(Path(nflowlevel.__file__).parents[1])},
            stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert process.stderr
    assert "waiting" in process.stderr.readline()
    pair.send_udp(1)
    assert process.stderr.read() == "nflowlevel tail: write to standard output: No space left on device\n"
    assert process.wait(PATIENCE) == 1
    process.stderr.close()


@pytest.mark.parametrize(
    ("filter_", "says"),
    [
        ((), "nothing came for 0.2 s; to find out why: nflowlevel doctor --group 2"),
        (("-F", "udp.dport == 10"), "3 packets came, and the filter matches none of them"),
    ],
)
def test_silence_is_explained_once(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], filter_: tuple[str, ...], says: str
) -> None:
    """It ends when it asks for another silence after it has spoken."""
    pair.fw.nft(log_rule(2))
    monkeypatch.setattr("nflowlevel.cli.tail._QUIET_SECS", 0.2)
    silences = 0

    class Impatient(Follow):
        def lines(self, quiet_secs: float) -> Iterator[list[str]]:
            nonlocal silences
            if filter_:
                pair.send_udp(3)
            for lines in super().lines(quiet_secs):
                silences += not lines
                if silences == 3:
                    self.stop()
                yield lines

    monkeypatch.setattr("nflowlevel.cli.tail.Follow", Impatient)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert cli.main(["tail", "2", "--netns", pair.fw.path, *filter_]) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    netns = "" if filter_ else f" --netns {pair.fw.path}"
    assert capsys.readouterr().err.splitlines()[1:-1] == [f"group 2: {says}{netns}"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-g", "99999"), "argument -g/--group: must be 0 to 65535, not '99999'"),
        (("99999",), "argument GROUP: must be 0 to 65535, not '99999'"),
        (("-g", "2", "-n", "0"), "argument -n/--count: must be at least 1, not '0'"),
        ((), "which group? Name one or more, as in: nflowlevel tail 1"),
        (("2", "--names", "--json"), "argument -j/--json: not allowed with argument --names"),
    ],
)
def test_refusals_are_one_line_after_the_usage(netns: Netns, tail: Any, arguments: tuple[str, ...], says: str) -> None:
    status, out, err = tail(netns, *arguments).end()
    assert (status, out) == (2, "")
    assert err.splitlines()[-1] == f"nflowlevel tail: error: {says}"


@pytest.mark.parametrize("arguments", [(), ("--group", "70000"), ("--group", "x"), ("-g", "2", "-n", "-1")])
def test_wrong_arguments(netns: Netns, tail: Any, arguments: tuple[str, ...]) -> None:
    status, _, err = tail(netns, *arguments).end()
    assert status == 2
    assert "usage: nflowlevel tail" in err
