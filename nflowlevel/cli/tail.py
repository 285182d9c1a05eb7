# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel tail --group N`: one line per packet of a group, as it comes; `--json` as the daemon would write it."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable

from nflowlevel.binding.numbers import FAMILIES, HOOKS, PROTOCOLS
from nflowlevel.cli.arguments import add_netns, whole
from nflowlevel.cli.arguments import group as group_number
from nflowlevel.cli.terminal import tolerate
from nflowlevel.outputs.json import JSON
from nflowlevel.readers.group import Group, open_group
from nflowlevel.records.batch import Batch
from nflowlevel.records.filters import parse
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

_JSON_STACK = """
[global]
stack=g:NFLOG,b:BASE,i:IFINDEX,s:IP2STR,h:HWHDR,j:JSON
[g]
[j]
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    of = "the group, 0 to 65535: of `log group N` or `--nflog-group N`"
    parser.add_argument("-g", "--group", type=group_number, required=True, help=of)
    parser.add_argument("-j", "--json", action="store_true", help="JSON lines, as the daemon writes them")
    parser.add_argument("-n", "--count", type=whole(0), default=0, help="stop after this many packets")
    filter_ = "show only packets that match this filter, such as 'tcp.dport == 22 && ip.ttl < 40' (docs/filters.md)"
    parser.add_argument("-F", "--filter", metavar="EXPRESSION", help=filter_)
    add_netns(parser)


def run(options: argparse.Namespace) -> int:
    """Show packets until interrupted."""
    show = _json_lines() if options.json else _text_lines
    filter_ = parse(options.filter) if options.filter is not None else None
    # JSON is UTF-8 whatever the terminal speaks.
    tolerate("utf-8" if options.json else None)
    with open_group(options.group, profile="latency", netns=options.netns) as group:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: group.stop())
        print(f"group {options.group}: waiting for packets; stop with Ctrl-C", file=sys.stderr)
        shown = 0
        for batch in group.batches():
            if filter_ is not None:
                batch = batch.select(rows(filter_, batch))  # without NumPy, which takes longer to load than to help
            batch = batch.select(range(min(len(batch), options.count - shown))) if options.count else batch
            sys.stdout.write(show(batch))
            sys.stdout.flush()
            shown += len(batch)
            if options.count and shown >= options.count:
                break
        print(f"group {options.group}: {_loss(group)}", file=sys.stderr)
    return 0


def _loss(group: Group) -> str:
    stats = group.stats
    lost = f"{stats.gap} lost before they reached nflowlevel" if stats.gap else "none lost"
    return f"{stats.received} packets received, {lost}"


def _json_lines() -> Callable[[Batch], str]:
    """Return what renders a batch as the usual stack does."""
    output = build(parse_text(_JSON_STACK))[0].output
    assert isinstance(output, JSON)

    def show(batch: Batch) -> str:
        _ = batch.names  # looked up once asked for; the stack's IFINDEX is not running here
        return "".join(bytes(lines).decode() for lines, _ in output.render(batch))

    return show


def _text_lines(batch: Batch) -> str:
    return "".join(map(_line, batch))


def _line(packet: Packet) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(packet.get("oob.time.sec")))
    parts = [f"{when}.{packet.get('oob.time.usec'):06}", _where(packet), *_what(packet)]
    if packet.prefix:
        parts.append(repr(packet.prefix.strip()))
    return " ".join(filter(None, parts)) + "\n"


def _where(packet: Packet) -> str:
    hook = _HOOKS.get(packet.hook, "") if packet.hook is not None and packet.family in _IP_FAMILIES else ""
    way = " ".join(f"{word} {name}" for word, name in (("in", packet.indev_name), ("out", packet.outdev_name)) if name)
    return " ".join(filter(None, (hook, way)))


def _what(packet: Packet) -> list[str]:
    if packet.saddr is None or packet.daddr is None:
        if packet.get("arp.operation") is not None:
            ends = f"{packet.get('arp.saddr')} > {packet.get('arp.daddr')}" if packet.get("arp.saddr") else ""
            return ["ARP", ends, f"operation {packet.get('arp.operation')}"]
        return [f"ethertype 0x{packet.hw_protocol or 0:04x}", f"{packet.caplen or 0} bytes"]
    flags = ",".join(flag.upper() for flag in _FLAGS if packet.get(f"tcp.{flag}"))
    number = packet.get("ip6.nexthdr") if packet.protocol is None else packet.protocol
    protocol = _PROTOCOLS.get(number, f"protocol {number}")
    ends = f"{_end(packet.saddr, packet.sport)} > {_end(packet.daddr, packet.dport)}"
    return [protocol, ends, flags, f"{packet.totlen} bytes"]


def _end(address: str, port: int | None) -> str:
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
