# SPDX-License-Identifier: GPL-2.0-or-later
"""What does a packet cost in Python: to look at (ns, in a batch), and from the kernel on (CPU µs, with peers)?

First nflowlevel's ways of access, on real packets of a group, in batches of 64 and a little more, and in large ones.
Each way works on copies of a batch (the same records, nothing made of them yet), a hundred one after the other; median
over the batches of wall time per packet, because what interrupts a batch would distort a mean. Then programs that touch
payload and prefix of each packet, in process time per packet: nflowlevel three ways, nflogr, scapy-nflog-capture3, and
tcpdump, which writes pcap.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.asking import Answer, Row, main, median_spread, ratios, take_turns, times
from bench.contenders import WARM_UP
from bench.netns import GROUP, Field
from bench.peers import peer_python
from bench.programs import HERE, send
from bench.running import running
from bench.scale import Scale

#: Way of access (reader.py) → what it is, and the most nanoseconds a packet may cost.
_ACCESS = {
    "one_field": ("for packet in batch, one field", 250.0),
    "one_address": ("for packet in batch, one address as text", None),
    "five_numbers": ("rows() of five numbers", 120.0),
    "five_keys": ("rows() of five keys, two of them addresses", None),
    "column": ("a column", 10.0),
    "column_sum": ("a column and its sum", None),
    "to_dicts": ("to_dicts()", None),
}
#: The profiles differ in how long they gather: small batches, just above the 64 of qthreshold, and large ones.
_SMALL, _LARGE = "latency", "throughput"
_OURS = {"packets": "nflowlevel, packets", "rows": "nflowlevel, rows", "columns": "nflowlevel, columns"}
_PEERS = {"nflogr": "nflogr 0.2.12", "scapy_nflog": "scapy-nflog-capture3"}
_TCPDUMP = "tcpdump -i nflog"
_QUIET_SECS = 0.4
_TCPDUMP_QUIET_SECS = 1.3


@dataclass(frozen=True)
class Access:
    """One round of the ways of access: ns per packet and packets per batch, by way."""

    contender: str
    profile: str
    ns: dict[str, float]
    batch: dict[str, float]


@dataclass(frozen=True)
class Reading:
    """One program, one round: CPU time per packet it got."""

    contender: str
    packets: int
    received: int
    lost: int
    cpu_us: float
    peak_kb: int


def ask(field: Field, scale: Scale) -> Answer:
    """Measure access, then the programs."""
    answer = Answer("library")
    _ask_access(field, scale, answer)
    _ask_programs(field, scale, answer)
    return answer


def _ask_access(field: Field, scale: Scale, answer: Answer) -> None:
    contenders = {
        f"nflowlevel, access, profile {profile}": partial(_access, field, scale, profile)
        for profile in (_SMALL, _LARGE)
    }
    made = take_turns(answer, scale.rounds, contenders)
    answer.runs += [access for rounds in made.values() for access in rounds]
    by_profile = [[access for access in answer.runs if access.profile == profile] for profile in (_SMALL, _LARGE)]
    small_size, large_size = map(_packets_per_batch, by_profile)
    answer.rows.append(Row("library: packets per batch", small_size, beside=large_size))
    for way, (what, limit) in _ACCESS.items():
        small, large = ([access for access in accesses if way in access.ns] for accesses in by_profile)
        costs = [access.ns[way] for access in small]
        answer.rows.append(
            Row(
                f"{what}: ns/packet",
                median_spread(costs, ".1f"),
                beside=median_spread((access.ns[way] for access in large), ".1f"),
                target=f"≤ {limit:g}" if limit else "-",
                reached=statistics.median(costs) <= limit if limit and costs else None,
            )
        )


def _packets_per_batch(accesses: list[Access]) -> str:
    return median_spread((size for access in accesses for size in access.batch.values()), ".0f")


def _access(field: Field, scale: Scale, profile: str) -> Access:
    """Return the median over batches of nanoseconds per packet, and the median size of a batch, of each way."""
    field.reset()
    with running(field, [*_reader(sys.executable, "access"), profile], _QUIET_SECS) as process:
        send(field, scale.count, scale.rate)
        process.drain()
    timed = {way: batches for way, batches in _answer(process.output)["timed"].items() if batches}
    return Access(
        contender="nflowlevel, access",
        profile=profile,
        ns={way: statistics.median(ns / size for size, ns in batches) for way, batches in timed.items()},
        batch={way: statistics.median(size for size, _ in batches) for way, batches in timed.items()},
    )


def _ask_programs(field: Field, scale: Scale, answer: Answer) -> None:
    contenders: dict[str, Callable[[], Reading]] = {
        label: _program(field, scale, label, _reader(sys.executable, way)) for way, label in _OURS.items()
    }
    contenders.update(_peers(field, scale, answer))
    if tcpdump := shutil.which("tcpdump", path="/usr/bin:/usr/sbin"):
        contenders[_TCPDUMP] = lambda: _tcpdump(field, scale, tcpdump)
    else:
        answer.failed[_TCPDUMP] = "it is not installed (Debian package tcpdump)"
    runs = take_turns(answer, scale.rounds, contenders)
    answer.runs += [reading for made in runs.values() for reading in made]
    costs = {name: [reading.cpu_us for reading in made] for name, made in runs.items()}
    ours = costs.get(_OURS["packets"], [])
    for label in _OURS.values():
        answer.rows.append(Row(f"{label}, payload and prefix: CPU µs/packet", median_spread(costs.get(label, []))))
    for label in (*_PEERS.values(), _TCPDUMP):
        theirs = costs.get(label, [])
        lost = sum(reading.lost for reading in runs.get(label, []))
        answer.rows.append(
            Row(
                f"  {label}",
                median_spread(ours),
                beside=f"{median_spread(theirs)}, lost {lost:,}" if theirs else "did not run",
                ratio=times(ratios(theirs, ours)) if ours and theirs else "-",
            )
        )


def _peers(field: Field, scale: Scale, answer: Answer) -> dict[str, Callable[[], Reading]]:
    """Return the peers that can be had; the answer says why one cannot."""
    contenders: dict[str, Callable[[], Reading]] = {}
    for way, label in _PEERS.items():
        if not scale.peers:
            answer.failed[label] = "left out of this run"
            continue
        try:
            contenders[label] = _program(field, scale, label, _reader(peer_python(way), way))
        except (RuntimeError, OSError) as error:
            answer.failed[label] = str(error)
    return contenders


def _program(field: Field, scale: Scale, label: str, command: list[str]) -> Callable[[], Reading]:
    return lambda: _read(field, scale, label, command, _QUIET_SECS, lambda output: int(_answer(output)["packets"]))


def _tcpdump(field: Field, scale: Scale, tcpdump: str) -> Reading:
    with tempfile.TemporaryDirectory(prefix="nflbench-") as name:
        command = [tcpdump, "-i", f"nflog:{GROUP}", "-Z", "root", "-w", str(Path(name) / "out.pcap")]
        return _read(field, scale, _TCPDUMP, command, _TCPDUMP_QUIET_SECS, _captured)


def _captured(output: str) -> int:
    found = re.search(r"([0-9]+) packets? captured", output)
    if not found:
        raise RuntimeError(f"tcpdump said no count: {output[-200:]}")
    return int(found[1])


def _read(
    field: Field, scale: Scale, label: str, command: list[str], quiet_secs: float, received_of: Callable[[str], int]
) -> Reading:
    """Let a program read a paced stream."""
    field.reset()
    with running(field, command, quiet_secs) as process:
        spent, _ = process.cost(scale.count, scale.rate, WARM_UP)
        _, peak = process.memory_kb()
    counted, received = field.counted(), received_of(process.output)
    if received <= WARM_UP:
        raise RuntimeError(f"it received {received} of {counted} packets")
    cost = spent / 1000 / (received - WARM_UP)
    return Reading(label, counted, received, counted - received, cost, peak)


def _reader(python: str, way: str) -> list[str]:
    return [python, str(HERE / "reader.py") if python != sys.executable else "-mbench.reader", way, str(GROUP)]


def _answer(output: str) -> dict[str, Any]:
    lines = output.splitlines()
    if not lines or not lines[-1].startswith("{"):
        raise RuntimeError(f"it ended without an answer: {output[-300:]}")
    return dict(json.loads(lines[-1]))


if __name__ == "__main__":
    raise SystemExit(main({"library": ask}))
