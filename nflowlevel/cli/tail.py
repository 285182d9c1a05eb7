# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel tail GROUP …`: one line per packet of groups, as it comes; `--json` as the daemon would write it."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from nflowlevel.binding.numbers import FAMILIES, HOOKS, PROTOCOLS
from nflowlevel.cli import terminal
from nflowlevel.cli.arguments import add_netns, whole
from nflowlevel.cli.arguments import group as group_number
from nflowlevel.cli.follow import Follow, Line
from nflowlevel.cli.status import WrongArgument
from nflowlevel.errors import counted, printable
from nflowlevel.outputs.json import JSON
from nflowlevel.readers.group import Group, open_group
from nflowlevel.records.batch import Batch
from nflowlevel.records.filters import Filter, FilterError, parse
from nflowlevel.records.mask import rows
from nflowlevel.records.packetrow import Packet
from nflowlevel.stacks.config import parse_text
from nflowlevel.stacks.stack import build

_HOOKS = {number: name for name, number in HOOKS.items()}
#: Those that are not just written in capitals.
_SPELT = {"icmpv6": "ICMPv6", "udplite": "UDPLite"}
_PROTOCOLS = {number: _SPELT.get(name, name.upper()) for name, number in PROTOCOLS.items()}
_FLAGS = ("syn", "ack", "fin", "rst", "psh", "urg")
_IP_FAMILIES = (FAMILIES["ipv4"], FAMILIES["ipv6"])

#: With so many seconds of nothing somebody wants to know why.
_QUIET_SECS = 10.0
#: Where a line goes on in the next one: below what follows the time.
_INDENT = 16
_PROTOCOLS_FILE = "/etc/protocols"

_JSON_STACK = """
[global]
stack=g:NFLOG,b:BASE,i:IFINDEX,s:IP2STR,h:HWHDR,j:JSON
[g]
[j]
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    of = "a group, 0 to 65535: of `log group N` or `--nflog-group N`"
    parser.add_argument("groups", metavar="GROUP", nargs="*", type=group_number, help=f"{of}; one or several")
    parser.add_argument(
        "-g", "--group", metavar="N", type=group_number, action="append", default=[], help="the same; may be repeated"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "-j",
        "--json",
        action="store_true",
        help="JSON lines as the daemon writes them; of several groups with `group`",
    )
    form.add_argument("--names", action="store_true", help="names of ports and protocols, from /etc/services and such")
    parser.add_argument("-n", "--count", metavar="N", type=whole(1), help="stop after this many packets")
    filter_ = "show only packets that match this filter, such as 'tcp.dport == 22 && ip.ttl < 40' (docs/filters.md)"
    parser.add_argument("-F", "--filter", metavar="EXPRESSION", help=filter_)
    add_netns(parser)
    parser.set_defaults(refuse=parser.error)


def run(options: argparse.Namespace) -> int:
    """Show packets until interrupted."""
    numbers = list(dict.fromkeys([*options.group, *options.groups]))
    if not numbers:
        options.refuse("which group? Name one or more, as in: nflowlevel tail 1")
    filter_ = _filter(options.filter)
    # JSON is UTF-8 whatever the terminal speaks.
    terminal.tolerate("utf-8" if options.json else None)
    render = (
        json_lines(groups=len(numbers) > 1)
        if options.json
        else _Text(names=options.names, groups=len(numbers) > 1).lines
    )

    def show(batch: Batch) -> Sequence[Line]:
        if filter_ is not None:
            batch = batch.select(rows(filter_, batch))  # without NumPy, which takes longer to load than to help
        times = batch.rows("oob.time.sec", "oob.time.usec")
        return [Line(secs * 1_000_000 + usecs, text) for (secs, usecs), text in zip(times, render(batch), strict=True)]

    with contextlib.ExitStack() as opened:
        groups = [
            opened.enter_context(open_group(number, profile="latency", netns=options.netns)) for number in numbers
        ]
        follow = Follow(groups, show)
        opened.callback(follow.close)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: follow.stop())
        called = f"group{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
        print(f"{called}: waiting for packets; stop with Ctrl-C", file=sys.stderr)
        _follow(follow, groups, options, called)
        for group in groups:
            print(f"group {group.group}: {_loss(group)}", file=sys.stderr)
    return 0


def _filter(text: str | None) -> Filter | None:
    try:
        return None if text is None else parse(text)
    except FilterError as error:
        raise WrongArgument(str(error)) from None


def _follow(follow: Follow, groups: Sequence[Group], options: argparse.Namespace, called: str) -> None:
    """Write lines until the end, or so many as are wanted."""
    shown = 0
    told = False
    for lines in follow.lines(_QUIET_SECS):
        lines = lines[: options.count - shown] if options.count else lines
        sys.stdout.writelines(f"{line}\n" for line in lines)
        sys.stdout.flush()
        shown += len(lines)
        if options.count and shown >= options.count:
            return
        if not lines and not shown and not told and not follow.stopping:
            print(f"{called}: {_why_quiet(groups, options)}", file=sys.stderr, flush=True)
            told = True


def _why_quiet(groups: Sequence[Group], options: argparse.Namespace) -> str:
    if received := sum(group.stats.received for group in groups):
        return f"{counted(received, 'packet')} came, and the filter matches none of them"
    words = ["nflowlevel doctor"]
    if len(groups) == 1:
        words.append(f"--group {groups[0].group}")
    if options.netns:
        words.append(f"--netns {printable(options.netns, None)}")
    return f"nothing came for {_QUIET_SECS:g} s; to find out why: {' '.join(words)}"


def _loss(group: Group) -> str:
    stats = group.stats
    lost = f"{stats.gap} lost before they reached nflowlevel" if stats.gap else "none lost"
    return f"{counted(stats.received, 'packet')} received, {lost}"


def json_lines(*, groups: bool) -> Callable[[Batch], list[str]]:
    """Return what renders a batch as the usual stack does; with `groups` each object begins with the group's number."""
    output = build(parse_text(_JSON_STACK))[0].output
    assert isinstance(output, JSON)

    def show(batch: Batch) -> list[str]:
        _ = batch.names  # looked up once asked for; the stack's IFINDEX is not running here
        text = "".join(bytes(lines).decode() for lines, _ in output.render(batch))
        lines = [_shown_json(line) for line in text.split("\n")[:-1]]
        return [f'{{"group": {batch.group}, {line[1:]}' for line in lines] if groups else lines

    return show


def _shown_json(line: str) -> str:
    """Return a line of JSON that means the same, with what a terminal would obey written as escapes of JSON."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


class _Text:
    """Makes a line of each packet: as wide as the terminal, in a pipe as long as it is."""

    def __init__(self, *, names: bool, groups: bool) -> None:
        self._names = names
        self._groups = groups
        self._colours = terminal.colours()

    def lines(self, batch: Batch) -> list[str]:
        """Return a line for each packet of a batch."""
        columns = terminal.width()
        return [terminal.filled(filter(None, self._parts(packet, batch.group)), columns, _INDENT) for packet in batch]

    def _parts(self, packet: Packet, group: int) -> Iterator[str]:
        when = time.strftime("%H:%M:%S", time.localtime(packet.get("oob.time.sec")))
        yield self._styled(f"{when}.{packet.get('oob.time.usec'):06}", "dim")
        if self._groups:
            yield f"group {group}"
        yield from _where(packet)
        yield from self._what(packet)
        if packet.prefix:
            yield self._styled(repr(packet.prefix.strip()), "cyan")

    def _styled(self, text: str, style: str) -> str:
        return terminal.styled(text, style) if self._colours else text

    def _what(self, packet: Packet) -> Iterator[str]:
        if packet.saddr is None or packet.daddr is None:
            yield from _without_addresses(packet)
            return
        number = packet.get("ip6.nexthdr") if packet.protocol is None else packet.protocol
        yield self._styled(self._protocol(number), "bold")
        yield f"{self._end(packet.saddr, packet.sport, number)} >"
        yield self._end(packet.daddr, packet.dport, number)
        yield ",".join(flag.upper() for flag in _FLAGS if packet.get(f"tcp.{flag}"))
        yield f"{packet.totlen} bytes"
        for name, key in (("ttl", "ip.ttl"), ("hlim", "ip6.hoplimit"), ("win", "tcp.window")):
            if (value := packet.get(key)) is not None:
                yield f"{name} {value}"

    def _protocol(self, number: int | None) -> str:
        if number in _PROTOCOLS:
            return _PROTOCOLS[number]
        return (self._names and _protocol_names().get(number or 0)) or f"protocol {number}"

    def _end(self, address: str, port: int | None, protocol: int | None) -> str:
        if port is None:
            return address
        shown = _service(port, _PROTOCOLS.get(protocol or 0, "").lower()) if self._names else str(port)
        return f"[{address}]:{shown}" if ":" in address else f"{address}:{shown}"


@cache
def _service(port: int, protocol: str) -> str:
    try:
        return printable(socket.getservbyport(port, protocol))
    except OSError:
        return str(port)


@cache
def _protocol_names() -> dict[int, str]:
    """Return the protocols that this machine has names for."""
    names: dict[int, str] = {}
    with contextlib.suppress(OSError), open(_PROTOCOLS_FILE, encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.partition("#")[0].split()
            if len(words) > 1 and words[1].isdecimal():
                names.setdefault(int(words[1]), printable(words[0].upper()))
    return names


def _where(packet: Packet) -> Iterator[str]:
    if packet.hook is not None and packet.family in _IP_FAMILIES:
        yield _HOOKS.get(packet.hook, "")
    for word, name in (("in", packet.indev_name), ("out", packet.outdev_name)):
        if name:
            yield f"{word} {printable(name)}"


def _without_addresses(packet: Packet) -> Iterator[str]:
    if packet.get("arp.operation") is not None:
        yield "ARP"
        if packet.get("arp.saddr"):
            yield f"{packet.get('arp.saddr')} > {packet.get('arp.daddr')}"
        yield f"operation {packet.get('arp.operation')}"
        return
    yield f"ethertype 0x{packet.hw_protocol or 0:04x}"
    yield f"{packet.caplen or 0} bytes"
