# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel prefilter counters NAME`: what a prefilter made of the packets that came to it, once or again and again.

Each packet is in one row and one column: the rows add up to what was seen, exactly.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from nflowlevel.cli import terminal
from nflowlevel.cli.arguments import add_watch, whole
from nflowlevel.prefilter.counters import REASONS, TOTALS
from nflowlevel.prefilter.prefilter import Prefilter, PrefilterCounters, Top

_DECISIONS = {total: total.replace("_", " ") for total in TOTALS}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", help="name of the prefilter")
    add_watch(parser)
    parser.add_argument("-j", "--json", action="store_true", help="JSON; with --watch one line per reading")
    parser.add_argument(
        "--largest", metavar="N", type=whole(0), default=10, help="sources and ports (default %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Show, once or as often as wanted."""
    with Prefilter.open(options.name, bpffs=options.bpffs) as pre:
        if options.watch is None:
            _show(options, pre.counters(), pre.top(options.largest), None)
        else:

            def show(before: PrefilterCounters, now: PrefilterCounters, secs: float) -> None:
                _show(options, now, pre.top(options.largest), rates(before, now, secs))

            terminal.watch(pre.counters, show, options.watch, options.count)
    return 0


def rates(before: PrefilterCounters, now: PrefilterCounters, secs: float) -> dict[str, float]:
    """Return packets per second by reason, and of all as `seen`."""
    old = before.reasons
    grown = {reason: count.packets - old[reason].packets for reason, count in now.reasons.items()}
    return {name: packets / secs for name, packets in {"seen": sum(grown.values()), **grown}.items()}


def _show(
    options: argparse.Namespace, counters: PrefilterCounters, top: Top, per_second: dict[str, float] | None
) -> None:
    if options.json:
        print(json.dumps(members(options.name, counters, top, per_second)), flush=True)
        return
    lines = list(table(counters, per_second))
    if top.sources:
        lines += [
            "",
            *terminal.table([("source", "packets", "bytes"), *((s, str(c[0]), str(c[1])) for s, c in top.sources)]),
        ]
    if top.ports:
        lines += ["", *terminal.table([("port", "packets"), *((f"{p}/{port}", str(n)) for p, port, n in top.ports)])]
    if per_second is None:
        print(*lines, sep="\n")
    else:
        terminal.show_page(lines)


def members(name: str, counters: PrefilterCounters, top: Top, per_second: dict[str, float] | None) -> dict[str, object]:
    """Return what is shown as JSON."""
    found: dict[str, object] = {"name": name, "seen": counters.seen}
    found |= {total: counters.total((total,)).packets for total in TOTALS}
    found["reasons"] = {reason: count._asdict() for reason, count in counters.reasons.items()}
    found["protocols"] = {
        protocol: {total: count._asdict() for total, count in row.items()}
        for protocol, row in counters.protocols.items()
    }
    found["sources"] = [{"source": source, **count._asdict()} for source, count in top.sources]
    found["ports"] = [{"protocol": name, "port": port, "packets": packets} for name, port, packets in top.ports]
    if per_second is not None:
        found["packets_per_second"] = per_second
    return found


def table(counters: PrefilterCounters, per_second: dict[str, float] | None = None) -> list[str]:
    """Return lines: what was seen, then what became of it by reason; columns for the protocols that came."""
    protocols = [name for name, row in counters.protocols.items() if row["seen"].packets]
    rates_heading = ("packets/s",) if per_second is not None else ()
    rows = [("decision", "reason", "packets", "bytes", *rates_heading, *protocols)]

    def row(decision: str, reason: str, name: str, numbers: Sequence[int]) -> None:
        rate = (f"{per_second[name]:.0f}",) if per_second is not None else ()
        rows.append((decision, reason, *map(str, numbers[:2]), *rate, *map(str, numbers[2:])))

    all_ = counters.total(TOTALS)
    row("seen", "", "seen", [*all_, *(counters.protocols[name]["seen"].packets for name in protocols)])
    for reason, count in counters.reasons.items():
        if count.packets or reason == "logged":
            total = REASONS[reason]
            why = "" if reason == total else reason
            cells = counters.cells[reason]
            row(_DECISIONS[total], why, reason, [*count, *(cells[name].packets for name in protocols)])
    return terminal.table(rows, left=2)
