# SPDX-License-Identifier: GPL-2.0-or-later
"""What does a prefilter cost a packet, what would the same filter cost as rules of nftables, and what does it save?

Three figures of one run: nanoseconds of the program by the kernel's own statistics; what a filter adds to the time
a sender needs for a packet, as a match of the program and as native rules (filters.py); and a sender's packets/s and
the reader's CPU without logging, with all logged, by nflowlevel and by ulogd2, and with one in a hundred let through.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.asking import Answer, Row, main, median_spread, take_turns, times, verdict
from bench.contenders import LARGE_BUFFER, WARM_UP, JsonDaemon, ulogd2_missing
from bench.filters import TRAFFIC, Flood, Traffic, native, networks, rules
from bench.netns import GROUP, PORT, PREFIX, Field
from bench.programs import send
from bench.running import running
from bench.scale import Scale
from nflowlevel.binding.bpf import Program, Statistics
from nflowlevel.binding.descriptor import Descriptor
from nflowlevel.binding.elf import Code
from nflowlevel.binding.nftmatch import Mark, MatchTable
from nflowlevel.prefilter.prefilter import Prefilter

_FULL_NS, _NATIVE_PART, _SENDER_PART, _READER_PART = 180, 1 / 3, 0.8, 0.1
_LET_THROUGH = 100
#: `return 1`.
_EMPTY = Code(bytes.fromhex("b7000000010000009500000000000000"), ())
#: Of a rule that asks a program and does nothing more: it sets no bit of the mark.
_NOTHING = Mark(0, 0)
_PRIORITY = -1
_NONE, _OURS, _ULOGD2, _THINNED = "no logging", "nflowlevel", "ulogd2", "nflowlevel, 1 %"


@dataclass(frozen=True)
class Cost:
    """What a filter took of a packet, in ns; `what` says by which clock."""

    contender: str
    what: str
    traffic: Traffic
    ns: float


@dataclass(frozen=True)
class Sending:
    """A sender's rate while something is logged, and the CPU that the reader needed for it all."""

    contender: str
    sent: int
    logged: int
    lost: int
    sent_rate: float
    cpu_ns: int


def ask(field: Field, scale: Scale) -> Answer:
    """Measure all three."""
    answer = Answer("prefilter")
    around = networks()
    flood = Flood(field, around.sources)
    filter_ = rules(around.ignored)
    try:
        with Prefilter("bench-none") as none, Prefilter("bench-full", **filter_) as full:
            every = Prefilter("bench-every", **{**filter_, "sample": 1})
            with every, Program.load("empty", _EMPTY, {}, "GPL") as empty:
                programs = {
                    "empty program": empty.fd,
                    "no rules": none.prog_fd,
                    "all rules": full.prog_fd,
                    "all rules, no sampling": every.prog_fd,
                }
                _ask_program(field, scale, flood, programs, answer)
                _ask_rules(field, scale, flood, full.prog_fd, native(around.ignored), answer)
    finally:
        flood.close()
    try:
        _ask_sender(field, scale, answer)
    finally:
        field.reset()
    return answer


@contextlib.contextmanager
def _asked(field: Field, program: int | None) -> Iterator[None]:
    """Let a program be asked about each packet at input, without any consequence; None: no rule."""
    if program is None:
        yield
        return
    netns = f"/run/netns/{field.fw.name}"
    table = MatchTable("nflbench", "bench", program, ("input",), _NOTHING, priority=_PRIORITY, netns=netns)
    try:
        yield
    finally:
        table.remove()
        table.close()


def _duplicate(fd: int) -> Program:
    """Return a program of one's own, which may be closed."""
    descriptor = Descriptor()
    descriptor.take(os.dup(fd))
    return Program(descriptor)


# -- the program ------------------------------------------------------------------------------------------------------


def _ask_program(field: Field, scale: Scale, flood: Flood, programs: dict[str, int], answer: Answer) -> None:
    def timed(name: str, traffic: Traffic) -> Cost:
        with _duplicate(programs[name]) as program, _asked(field, program.fd), Statistics():
            before = program.info
            flood.send(traffic, _count(scale))
            after = program.info
        ns = (after.run_ns - before.run_ns) / (after.runs - before.runs)
        return Cost(name, "statistics", traffic, ns)

    runs = _take_turns(answer, scale.rounds, "statistics", list(programs), timed)
    for traffic in TRAFFIC:
        found = {name: [run.ns for run in runs.get(f"{name}, {traffic}", [])] for name in programs}
        full = found["all rules"]
        answer.rows += [
            Row(
                f"prefilter, all rules, {traffic}: ns/packet",
                median_spread(full, ".0f"),
                beside=f"without sampling {median_spread(found['all rules, no sampling'], '.0f')}",
                target=f"≤ {_FULL_NS}",
                reached=verdict(full, lambda ns: ns <= _FULL_NS),
            ),
            Row(
                "  without rules",
                median_spread(found["no rules"], ".0f"),
                beside=f"an empty program {median_spread(found['empty program'], '.0f')}",
            ),
        ]


# -- the same as rules of nftables ------------------------------------------------------------------------------------


def _ask_rules(field: Field, scale: Scale, flood: Flood, program: int, ruleset: str, answer: Answer) -> None:
    def sent(name: str, traffic: Traffic) -> Cost:
        with _asked(field, program if name == "match" else None), contextlib.ExitStack() as after:
            if name == "nft rules":
                field.fw.run("nft", "-f", "-", text=ruleset)
                after.callback(field.fw.run, "nft", "delete", "table", "inet", "native")
            return Cost(name, "sender", traffic, flood.send(traffic, _count(scale)))

    runs = _take_turns(answer, scale.rounds, "sender", ["no filter", "match", "nft rules"], sent)
    for traffic in TRAFFIC:
        base, ours, theirs = (
            [run.ns for run in runs.get(f"{name}, {traffic}", [])] for name in ("no filter", "match", "nft rules")
        )
        added, natively = _differences(ours, base), _differences(theirs, base)
        # Of the medians: what is left of a round in which somebody else ran may be anything.
        part = [_median(added) / _median(natively)] if min(_median(added), _median(natively)) > 0 else []
        answer.rows.append(
            Row(
                f"  added to the sender's {_median(base):.0f} ns/packet, {traffic}",
                median_spread(added, "+.0f"),
                beside=f"as nft rules {median_spread(natively, '+.0f')}",
                ratio=times(part),
                target="≤ 0.33x",
                reached=verdict(part, lambda ratio: ratio <= _NATIVE_PART),
            )
        )


def _take_turns(
    answer: Answer, rounds: int, what: str, names: Sequence[str], measure: Callable[[str, Traffic], Cost]
) -> dict[str, list[Cost]]:
    def contender(name: str, traffic: Traffic) -> Callable[[], Cost]:
        return lambda: measure(name, traffic)

    turns = {f"{name}, {traffic}": contender(name, traffic) for traffic in TRAFFIC for name in names}
    print(f"  {what}:", file=sys.stderr)
    runs = take_turns(answer, rounds, turns)
    answer.runs += [run for made in runs.values() for run in made]
    return runs


def _count(scale: Scale) -> int:
    return scale.flood // 4


def _differences(values: Sequence[float], base: Sequence[float]) -> list[float]:
    return [value - below for value, below in zip(values, base, strict=False)]


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


# -- what it saves ----------------------------------------------------------------------------------------------------


def _ask_sender(field: Field, scale: Scale, answer: Answer) -> None:
    options = {"netlink_qthreshold": 64, "netlink_qtimeout": 10, **LARGE_BUFFER}
    log = f'log prefix "{PREFIX}" group {GROUP}'
    with Prefilter("bench-thinned", protocols="udp", dports=[PORT], sample=_LET_THROUGH) as thinned:

        def through() -> Sending:
            logged = thinned.counters().logged
            with thinned.attach(group=GROUP, prefix=PREFIX, netns=f"/run/netns/{field.fw.name}"):
                return _read(field, scale, _THINNED, options, "", lambda: thinned.counters().logged - logged)

        contenders = {
            _NONE: lambda: _unread(field, scale),
            _OURS: lambda: _read(field, scale, _OURS, options, log, field.counted),
            _ULOGD2: lambda: _read(field, scale, _ULOGD2, options, log, field.counted),
            _THINNED: through,
        }
        if why := ulogd2_missing():
            del contenders[_ULOGD2]
            answer.failed[_ULOGD2] = why
        runs = take_turns(answer, scale.flood_rounds, contenders)
    answer.runs += [run for made in runs.values() for run in made]
    answer.rows += _sender_rows(runs)


def _load_rule(field: Field, log: str) -> None:
    field.fw.run("nft", "-f", "-", text=_RULE.replace("LOG", log))


_RULE = f"""
table inet bench
delete table inet bench
table inet bench {{
    chain logged {{ type filter hook input priority 0; policy accept; udp dport {PORT} counter LOG drop; }}
}}
"""


def _unread(field: Field, scale: Scale) -> Sending:
    _load_rule(field, "")
    rate = send(field, scale.flood, 0)
    return Sending(_NONE, scale.flood, 0, 0, rate, 0)


def _read(
    field: Field, scale: Scale, name: str, options: dict[str, int], log: str, logged: Callable[[], int]
) -> Sending:
    """Send while a daemon reads; `logged` says how many it should have received."""
    contender = JsonDaemon(_ULOGD2 if name == _ULOGD2 else _OURS, name, options)
    with tempfile.TemporaryDirectory(prefix="nflbench-") as directory:
        _load_rule(field, log)
        with running(field, contender.command(Path(directory)), contender.quiet_secs) as process:
            # So many that one of them is let through, and what a daemon does once is done.
            spent, rate = process.cost(scale.flood, 0, WARM_UP)
        lines = contender.lines(Path(directory), process.output)
    expected = logged()
    if not expected:
        raise RuntimeError("no packet was logged")
    return Sending(name, scale.flood, expected, expected - lines, rate, spent)


def _sender_rows(runs: dict[str, list[Sending]]) -> Iterator[Row]:
    rates = {name: [run.sent_rate for run in made] for name, made in runs.items()}
    cpu = {name: [run.cpu_ns / run.sent for run in made] for name, made in runs.items()}
    none, ours, theirs, thinned = (rates.get(name, []) for name in (_NONE, _OURS, _ULOGD2, _THINNED))
    speed = [_median(thinned) / _median(none)] if thinned and none else []
    yield Row(
        "sender's packets/s, 1 in 100 logged",
        median_spread(thinned, ",.0f"),
        beside=f"no logging {median_spread(none, ',.0f')}",
        ratio=times(speed),
        target=f"≥ {_SENDER_PART}x",
        reached=verdict(speed, lambda ratio: ratio >= _SENDER_PART),
    )
    yield Row("  all logged", median_spread(ours, ",.0f"), median_spread(theirs, ",.0f"))
    part = [_median(cpu[_THINNED]) / _median(cpu[_OURS])] if _THINNED in cpu and _OURS in cpu else []
    yield Row(
        "  reader's CPU, ns per packet sent, 1 in 100 logged",
        median_spread(cpu.get(_THINNED, []), ".0f"),
        beside=f"all logged {median_spread(cpu.get(_OURS, []), '.0f')}",
        ratio=times(part),
        target=f"≤ {_READER_PART}x",
        reached=verdict(part, lambda ratio: ratio <= _READER_PART),
    )
    yield Row(
        "  all logged",
        median_spread(cpu.get(_OURS, []), ".0f"),
        median_spread(cpu.get(_ULOGD2, []), ".0f"),
    )
    yield Row(
        "  lost of logged packets",
        f"{_loss(runs, _THINNED)}; all logged: {_loss(runs, _OURS)}",
        _loss(runs, _ULOGD2),
    )


def _loss(runs: dict[str, list[Sending]], name: str) -> str:
    made = runs.get(name, [])
    return f"{sum(run.lost for run in made):,} of {sum(run.logged for run in made):,}" if made else "-"


if __name__ == "__main__":
    raise SystemExit(main({"prefilter": ask}))
