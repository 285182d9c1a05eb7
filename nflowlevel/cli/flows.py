# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel flows`: the flows that conntrack knows: the table as it is, flows as they end, and the busiest.

`list` and `top` read the table. `tail` listens: without `--events` it shows each flow when it has ended.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nflowlevel.binding.conntrack import EVENTS, EventName, settings
from nflowlevel.binding.numbers import PROTOCOLS
from nflowlevel.cli import terminal
from nflowlevel.cli.arguments import add_action, add_netns, add_watch, whole, words
from nflowlevel.cli.status import WrongArgument
from nflowlevel.errors import counted, printable
from nflowlevel.readers.flows import flows, open_flows
from nflowlevel.records.filters import Filter, FilterError, parse
from nflowlevel.records.flow import FLOW
from nflowlevel.records.mask import rows

if TYPE_CHECKING:
    from nflowlevel.records.flowbatch import FlowBatch
    from nflowlevel.records.flowrow import Flow

_PROTOCOLS = {number: name for name, number in PROTOCOLS.items()}
#: enum tcp_conntrack of linux/netfilter/nf_conntrack_tcp.h.
_TCP_STATES = (
    "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE",
    "SYN_SENT2",
)  # fmt: skip
_EVENTS = {1: "new", 2: "update", 4: "end"}

#: What `top` can sum up by.
_OF = {
    "flow": (),
    "source": ("orig.ip.saddr",),
    "destination": ("orig.ip.daddr",),
    "port": ("orig.ip.protocol", "orig.l4.dport"),
    "pair": ("orig.ip.saddr", "orig.ip.daddr"),
}
_HEADINGS = ("proto", "source", "destination", "state", "packets", "bytes", "back", "bytes back", "")
_MOST_TOP = 20
#: What is one flow in two readings of the table (flows.md: an id alone can come again).
_IDENTITY = ("ct.id", "ct.zone", "orig.ip.protocol", "orig.ip.saddr", "orig.ip.daddr", "orig.l4.sport", "orig.l4.dport",
             "flow.start.sec", "flow.start.usec")  # fmt: skip
_COUNTS = ("orig.raw.pktcount", "orig.raw.pktlen", "reply.raw.pktcount", "reply.raw.pktlen")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    _add_common(parser, default=None)
    parser.set_defaults(act=_list, watch=None, count=0)
    commands = parser.add_subparsers(dest="action", metavar="ACTION")
    listing = _add(commands, "list", _list, "show the table of flows (the default)")
    add_watch(listing, rates=False)
    tail = _add(commands, "tail", _tail, "show flows as they end, with their packets and bytes")
    tail.add_argument(
        "--events",
        metavar="EVENTS",
        type=_events,
        default=(4,),
        help="what to show: new, update, destroy (the default)",
    )
    tail.add_argument("-n", "--count", metavar="N", type=whole(1), default=0, help="stop after N flows")
    tail.add_argument("--reliable", action="store_true", help="let the kernel keep ends that it could not deliver")
    top = _add(commands, "top", _top, "show the busiest flows, or the busiest sources, destinations, ports or pairs")
    top.add_argument("--of", choices=_OF, default="flow", help="what to sum up by (default flow)")
    top.add_argument("--by", choices=("bytes", "packets", "flows"), default="bytes", help="what makes busy")
    top.add_argument("--most", metavar="N", type=whole(1), default=_MOST_TOP, help=f"show N (default {_MOST_TOP})")
    add_watch(top)


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    act: Callable[[argparse.Namespace], None],
    purpose: str,
) -> argparse.ArgumentParser:
    parser = add_action(commands, name, act, purpose)
    # Common options may stand before or behind the action; only the outer parser knows their defaults.
    _add_common(parser, default=argparse.SUPPRESS)
    return parser


def _add_common(parser: argparse.ArgumentParser, default: str | None) -> None:
    add_netns(parser, default)
    parser.add_argument("-j", "--json", action="store_true", default=default or False, help="JSON, an object a line")
    filter_ = "only flows that match this filter, such as 'orig.l4.dport == 443 && ct.mark' (docs/filters.md)"
    parser.add_argument("-F", "--filter", metavar="EXPRESSION", default=default, help=filter_)


def _events(text: str) -> tuple[int, ...]:
    found = []
    for word in words(text):
        if word not in EVENTS:
            raise argparse.ArgumentTypeError(f"must be of new, update, destroy, not '{printable(word)}'")
        found.append(EVENTS[word])
    return tuple(found)


def run(options: argparse.Namespace) -> int:
    """Show flows."""
    terminal.tolerate("utf-8" if options.json else None)
    options.filter = _filter(options.filter)
    if settings(options.netns).counters == 0:
        text = "the kernel counts no packets and bytes; for flows that begin afterwards: sysctl -w"
        print(f"flows: {text} net.netfilter.nf_conntrack_acct=1", file=sys.stderr, flush=True)
    options.act(options)
    return 0


def _filter(text: str | None) -> Filter | None:
    try:
        return None if text is None else parse(text, FLOW)
    except FilterError as error:
        raise WrongArgument(str(error)) from None


def _read(options: argparse.Namespace) -> FlowBatch:
    return _chosen(flows(netns=options.netns), options.filter)


def _chosen(batch: FlowBatch, filter_: Filter | None) -> FlowBatch:
    # Without NumPy, which takes longer to load than to help.
    return batch if filter_ is None else batch.select(rows(filter_, batch))


# -- list -------------------------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> None:
    if options.watch is not None:
        terminal.watch(
            lambda: _read(options), lambda _, now, __: _show_page(now, options), options.watch, options.count
        )
        return
    batch = _read(options)
    if not batch and options.filter is None:
        example = "nft add rule inet filter input ct state new"
        print(f"flows: none; packets are tracked where a rule asks for it, such as: {example}", file=sys.stderr)
    if options.json:
        sys.stdout.writelines(f"{line}\n" for line in map(_json, batch))
        return
    print(*terminal.table([_HEADINGS, *map(_row, batch)], left=4), sep="\n")


def _show_page(batch: FlowBatch, options: argparse.Namespace) -> None:
    if options.json:
        sys.stdout.writelines(f"{line}\n" for line in map(_json, batch))
        sys.stdout.flush()
        return
    lines = terminal.table([_HEADINGS, *map(_row, batch)], left=4)
    terminal.show_page(lines, lambda count: f"… and {count} more")


def _json(flow: Flow) -> str:
    return json.dumps({name: value for name, value in flow.to_dict().items() if not isinstance(value, bytes)})


def _row(flow: Flow) -> tuple[str, ...]:
    return (
        _protocol(flow.protocol),
        _end(flow.saddr, flow.sport),
        _end(flow.daddr, flow.dport),
        _state(flow),
        str(flow.packets),
        str(flow.bytes),
        str(flow.reply_packets),
        str(flow.reply_bytes),
        " ".join(_more(flow)),
    )


def _protocol(number: int) -> str:
    return _PROTOCOLS.get(number, str(number))


def _end(address: str, port: int | None) -> str:
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _state(flow: Flow) -> str:
    if flow.tcp_state is not None:
        return _TCP_STATES[flow.tcp_state] if flow.tcp_state < len(_TCP_STATES) else str(flow.tcp_state)
    if flow.icmp_type is not None or flow.icmpv6_type is not None:
        return f"type {flow.icmp_type if flow.icmpv6_type is None else flow.icmpv6_type}"
    return "" if flow.ct_status is None or flow.seen_reply else "UNREPLIED"


def _more(flow: Flow) -> Iterable[str]:
    """Yield what only some flows have: where NAT leads, mark, zone, helper."""
    if (flow.reply_ip_saddr, flow.reply_l4_sport) != (flow.daddr, flow.dport):
        yield f"to {_end(flow.reply_ip_saddr, flow.reply_l4_sport)}"
    if (flow.reply_ip_daddr, flow.reply_l4_dport) != (flow.saddr, flow.sport):
        yield f"as {_end(flow.reply_ip_daddr, flow.reply_l4_dport)}"
    if flow.mark:
        yield f"mark {flow.mark:#x}"
    if flow.zone:
        yield f"zone {flow.zone}"
    if flow.helper:
        yield f"helper {printable(flow.helper)}"


# -- tail -------------------------------------------------------------------------------------------------------------


def _tail(options: argparse.Namespace) -> None:
    names: list[EventName] = [name for name, number in EVENTS.items() if number in options.events]
    shown = 0
    with open_flows(events=tuple(names), netns=options.netns, reliable=options.reliable) as reader:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: reader.stop())
        print(f"flows: waiting for {', '.join(names)}; stop with Ctrl-C", file=sys.stderr, flush=True)
        for batch in reader.batches():
            found = _chosen(batch, options.filter)
            lines = [_json(flow) if options.json else _line(flow) for flow in found]
            lines = lines[: options.count - shown] if options.count else lines
            sys.stdout.writelines(f"{line}\n" for line in lines)
            sys.stdout.flush()
            shown += len(lines)
            if options.count and shown >= options.count:
                break
        lost = reader.stats.lost
    told = f"{counted(lost, 'event')} lost" if lost else "none lost"
    print(f"flows: {shown} shown, {told}", file=sys.stderr)


def _line(flow: Flow) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(flow.end or flow.start or time.time()))
    lasted = f"{flow.end - flow.start:.1f} s" if flow.end and flow.start else ""
    ends = f"{_end(flow.saddr, flow.sport)} > {_end(flow.daddr, flow.dport)}"
    counts = f"{flow.packets} packets {flow.bytes} bytes, back {flow.reply_packets} packets {flow.reply_bytes} bytes"
    words_ = [when, _EVENTS.get(flow.event or 0, ""), _protocol(flow.protocol), ends, counts, lasted, _state(flow)]
    return " ".join(filter(None, [*words_, *_more(flow)]))


# -- top --------------------------------------------------------------------------------------------------------------


class Busy(NamedTuple):
    """What was counted of flows that have the same ends."""

    name: tuple[str, ...]
    flows: int
    packets: float
    bytes: float


class Reading(NamedTuple):
    """The table at a time: packets and bytes of both directions of each flow, and what it is summed up under."""

    counted: dict[tuple[Any, ...], tuple[int, int]]
    names: dict[tuple[Any, ...], tuple[str, ...]]


def _reading(batch: FlowBatch, of: str) -> Reading:
    keys = _OF[of]
    ids = batch.rows(*_IDENTITY)
    counts = [(sent + back, size + size_back) for sent, size, back, size_back in batch.rows(*_COUNTS)]
    if keys:
        names = [_named(of, row) for row in batch.rows(*keys)]
    else:
        names = [(_protocol(f.protocol), _end(f.saddr, f.sport), _end(f.daddr, f.dport)) for f in batch]
    return Reading(dict(zip(ids, counts, strict=True)), dict(zip(ids, names, strict=True)))


def _named(of: str, row: tuple[Any, ...]) -> tuple[str, ...]:
    if of == "port":
        return (f"{_protocol(row[0])}{'' if row[1] is None else f'/{row[1]}'}",)
    return tuple(map(str, row))


def busiest(before: Reading | None, now: Reading, secs: float, by: str) -> list[Busy]:
    """Return what was counted a second since a reading before, or in all, the busiest first.

    A flow that is new since then counts from its beginning. One that has ended since is in no reading any more.
    """
    sums: dict[tuple[str, ...], list[float]] = {}
    for flow, (packets, size) in now.counted.items():
        old = before.counted.get(flow, (0, 0)) if before else (0, 0)
        each = sums.setdefault(now.names[flow], [0, 0, 0])
        each[0] += 1
        each[1] += (packets - old[0]) / secs
        each[2] += (size - old[1]) / secs
    found = [Busy(name, int(count), packets, size) for name, (count, packets, size) in sums.items()]
    return sorted(found, key=lambda busy: (-getattr(busy, by), busy.name))


def _top(options: argparse.Namespace) -> None:
    def read() -> Reading:
        return _reading(_read(options), options.of)

    if options.watch is None:
        _show_top(busiest(None, read(), 1.0, options.by), options, rates=False)
        return
    terminal.watch(
        read,
        lambda before, now, secs: _show_top(busiest(before, now, secs, options.by), options, rates=True),
        options.watch,
        options.count,
    )


def _show_top(found: Sequence[Busy], options: argparse.Namespace, *, rates: bool) -> None:
    unit = "/s" if rates else ""
    shown = found[: options.most]
    if options.json:
        members = ("packets_per_second", "bytes_per_second") if rates else ("packets", "bytes")
        for busy in shown:
            counted = dict(zip(members, (busy.packets, busy.bytes), strict=True))
            print(json.dumps({options.of: " ".join(busy.name), "flows": busy.flows, **counted}), flush=True)
        return
    headings = ("proto", "source", "destination") if options.of == "flow" else _OF_HEADINGS[options.of]
    table = [(*headings, "flows", f"packets{unit}", f"bytes{unit}")]
    table += [(*busy.name, str(busy.flows), f"{busy.packets:.0f}", f"{busy.bytes:.0f}") for busy in shown]
    lines = terminal.table(table, left=len(headings))
    if len(found) > len(shown):
        lines.append(f"… and {len(found) - len(shown)} with less")
    if rates:
        terminal.show_page(lines, lambda count: f"… and {count} more")
    else:
        print(*lines, sep="\n")


_OF_HEADINGS = {of: (of,) if of != "pair" else ("source", "destination") for of in _OF}
