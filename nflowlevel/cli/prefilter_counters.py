# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel prefilter counters NAME`: what a prefilter made of the packets that came to it, once or again and again.

Each packet is in one row and one column: the rows add up to what was seen, exactly.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence

from nflowlevel.prefilter.counters import REASONS, TOTALS
from nflowlevel.prefilter.prefilter import Prefilter, PrefilterCounters, Top

_CLEAR = "\x1b[H\x1b[2J"
_DECISIONS = {total: total.replace("_", " ") for total in TOTALS}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name")
    parser.add_argument(
        "-w", "--watch", metavar="SECS", nargs="?", type=_seconds, const=1.0, help="again every SECS, with rates"
    )
    parser.add_argument("-n", "--count", metavar="N", type=int, default=0, help="with --watch: end after N times")
    parser.add_argument("-j", "--json", action="store_true", help="JSON; with --watch one line each time")
    parser.add_argument("--largest", metavar="N", type=int, default=10, help="sources and ports (default %(default)s)")


def _seconds(text: str) -> float:
    secs = float(text)
    if not 0.1 <= secs <= 86400:
        raise argparse.ArgumentTypeError("0.1 to 86400 seconds")
    return secs


def run(options: argparse.Namespace) -> int:
    """Show, once or as often as wanted."""
    with Prefilter.open(options.name, bpffs=options.bpffs) as pre:
        if options.watch is None:
            _show(options, pre.counters(), pre.top(options.largest), None)
        else:
            _watch(options, pre)
    return 0


def _watch(options: argparse.Namespace, pre: Prefilter) -> None:
    before, then = pre.counters(), time.monotonic()
    due, rounds = then, 0
    while not options.count or rounds < options.count:
        # From the first moment on, not from the last: what a round takes adds up to nothing.
        due = max(due + options.watch, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        now, at = pre.counters(), time.monotonic()
        _show(options, now, pre.top(options.largest), rates(before, now, at - then))
        before, then, rounds = now, at, rounds + 1


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
        lines += ["", *_aligned([("source", "packets", "bytes"), *((s, str(c[0]), str(c[1])) for s, c in top.sources)])]
    if top.ports:
        lines += ["", *_aligned([("port", "packets"), *((f"{p}/{port}", str(n)) for p, port, n in top.ports)])]
    if per_second is not None and sys.stdout.isatty():
        fit = max(1, shutil.get_terminal_size().lines - 1)
        sys.stdout.write(_CLEAR + "\n".join(lines[:fit]) + "\n")
    else:
        print(*lines, sep="\n", end="\n\n" if per_second is not None else "\n")
    sys.stdout.flush()


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
    return _aligned(rows, left=2)


def _aligned(rows: Sequence[tuple[str, ...]], left: int = 1) -> list[str]:
    """Return columns as wide as what is in them: the first ones to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
