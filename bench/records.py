# SPDX-License-Identifier: GPL-2.0-or-later
"""What does it cost to render a record to JSON and to COPY, a packet or one of 25 members that is none (CPU µs)?

The wide record (tests/fix_records.py) has 15 numbers of 64 bits, 6 texts and 4 addresses. Batches of 1,000 records lie
in memory; each round renders each kind in each form for a while, in turns, in one process. With the path of another
checkout in NFLOWLEVEL_BEFORE (compiled in place) the same packets are rendered by its code too, in a process that
takes turns with ours: the ratios are of pairs, one right after the other.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.asking import Answer, Row, main, median_spread, ratios, take_turns, times, verdict
from bench.netns import Field
from bench.scale import Scale

_REPOSITORY = Path(__file__).resolve().parent.parent
_BEFORE = "NFLOWLEVEL_BEFORE"
_RECORDS = 1_000
_FRAMES = ("udp4", "tcp4-syn", "tcp4-all", "udp6", "icmp-echo-reply", "tcp4-ack")
_FORMS = {"json": "JSON", "copy": "COPY"}
_KINDS = {"packets": "a packet", "wide": "25 members"}
_TARGET_US = 0.35
_LEAST_RATIO = 0.97
#: Batches rendered in one go, and how often a round does so.
_TIMES = 20
_TURNS = 15


@dataclass(frozen=True)
class Rendering:
    """One round: CPU time per record of each turn, in ns."""

    contender: str
    kind: str
    form: str
    ns: list[float]


class Worker:
    """A process that renders with the code of one checkout."""

    def __init__(self, checkout: Path, datagrams: list[bytes]) -> None:
        command = [sys.executable, str(_REPOSITORY / "bench" / "rendering.py"), str(checkout)]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=checkout, bufsize=1
        )
        os.sched_setaffinity(self._child.pid, {max(os.sched_getaffinity(0))})
        assert self._child.stdin
        self._child.stdin.write("".join(f"{datagram.hex()}\n" for datagram in datagrams) + "\n")

    def ns(self, kind: str, form: str) -> float:
        """Return the process time a record takes."""
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(f"{kind} {form} {_TIMES}\n")
        answer = self._child.stdout.readline()
        if not answer:
            raise RuntimeError(f"rendering {kind} as {form} ended with status {self._child.wait()}")
        return float(answer)

    def close(self) -> None:
        """End it."""
        self._child.communicate()


@contextmanager
def _worker(checkout: Path, datagrams: list[bytes]) -> Iterator[Worker]:
    worker = Worker(checkout, datagrams)
    try:
        yield worker
    finally:
        worker.close()


def ask(field: Field, scale: Scale) -> Answer:
    """Measure all kinds and forms."""
    answer = Answer("records")
    turns = 2 if scale.rounds == 1 else _TURNS
    before = os.environ.get(_BEFORE)
    datagrams = _datagrams()
    with ExitStack() as stack:
        ours = stack.enter_context(_worker(_REPOSITORY, datagrams))
        other = stack.enter_context(_worker(Path(before), datagrams)) if before else None
        contenders: dict[str, Callable[[], list[Rendering]]] = {
            f"nflowlevel, {kind} → {form}": partial(_round, ours, other, kind, form, turns)
            for kind in _KINDS
            for form in _FORMS
        }
        runs = take_turns(answer, scale.rounds, contenders)
    for name, rounds in runs.items():
        answer.runs += [rendering for both in rounds for rendering in both]
        answer.rows.append(_row(name, rounds))
    return answer


def _datagrams() -> list[bytes]:
    """Return what the kernel sends for packets of several protocols; a rule with a prefix logged them."""
    from tests.corpus import by_name
    from tests.messages import message_of

    some = [message_of(by_name(name), prefix=b"DROP in: ") for name in _FRAMES]
    return [some[number % len(some)] for number in range(_RECORDS)]


def _round(ours: Worker, other: Worker | None, kind: str, form: str, turns: int) -> list[Rendering]:
    """Let both render in turns; the one that begins changes."""
    here: list[float] = []
    there: list[float] = []
    for turn in range(turns):
        pair = [(ours, here), *([(other, there)] if other and kind == "packets" else [])]
        for worker, into in pair[:: -1 if turn % 2 else 1]:
            into.append(worker.ns(kind, form))
    made = [Rendering("nflowlevel", kind, form, here)]
    return [*made, Rendering("before", kind, form, there)] if there else made


def _row(name: str, rounds: list[list[Rendering]]) -> Row:
    ours = [pair[0] for pair in rounds]
    costs = [statistics.median(rendering.ns) / 1000 for rendering in ours]
    kind, form = ours[0].kind, ours[0].form
    figure = f"{_KINDS[kind]} → {_FORMS[form]}: CPU µs/record"
    if len(rounds[0]) > 1:
        others = [statistics.median(pair[1].ns) / 1000 for pair in rounds]
        pairs = [statistics.median(ratios(pair[1].ns, pair[0].ns)) for pair in rounds]
        return Row(
            figure,
            median_spread(costs, ".3f"),
            beside=f"before {median_spread(others, '.3f')}",
            ratio=times(pairs),
            target=f"≥ {_LEAST_RATIO:g}x",
            reached=verdict(pairs, lambda ratio: ratio >= _LEAST_RATIO),
        )
    if kind == "packets":
        return Row(figure, median_spread(costs, ".3f"))
    reached = verdict(costs, lambda cost: cost <= _TARGET_US)
    return Row(figure, median_spread(costs, ".3f"), target=f"≤ {_TARGET_US:g}", reached=reached)


if __name__ == "__main__":
    raise SystemExit(main({"records": ask}))
