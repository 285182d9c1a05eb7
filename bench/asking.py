# SPDX-License-Identifier: GPL-2.0-or-later
"""How a question is asked and answered: N and rounds, contenders taking turns, medians with their spread, the table.

An answer keeps every single run beside the rows of the table, so that a figure can be traced to what was measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bench.environment import environment, load
from bench.netns import Field, lacking
from bench.scale import FULL, QUICK, Scale

T = TypeVar("T")
_NO = "-"


@dataclass(frozen=True)
class Row:
    """A line of the table. `reached` is None where there is no target or nothing to compare with."""

    figure: str
    ours: str
    ulogd2: str = _NO
    beside: str = _NO
    ratio: str = _NO
    target: str = _NO
    reached: bool | None = None


@dataclass
class Answer:
    """What a question brought: rows for the table, all runs, and who did not run and why."""

    question: str
    rows: list[Row] = field(default_factory=list)
    runs: list[Any] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the answer as plain data."""
        return dataclasses.asdict(self)


Ask = Callable[[Field, Scale], Answer]


def take_turns(answer: Answer, rounds: int, contenders: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Let each contender run once a round; return the runs of those that ran in all, note the others' reason."""
    runs: dict[str, list[T]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            if name in answer.failed:
                continue
            started = time.monotonic()
            try:
                runs[name].append(run())
            except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
                answer.failed[name] = str(error)
                print(f"  {name}: {error}", file=sys.stderr)
                continue
            print(f"  {name}: {time.monotonic() - started:.1f} s", file=sys.stderr)
    return {name: made for name, made in runs.items() if name not in answer.failed}


def median_spread(values: Iterable[float], form: str = ".2f", unit: str = "") -> str:
    """Return `median (least..most)`."""
    numbers = sorted(values)
    if not numbers:
        return _NO
    middle = f"{statistics.median(numbers):{form}}{unit}"
    return middle if len(numbers) == 1 else f"{middle} ({numbers[0]:{form}}..{numbers[-1]:{form}})"


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Return the ratio of each round."""
    return [a / b for a, b in zip(over, under, strict=True) if b]


def verdict(values: Sequence[float], test: Callable[[float], bool]) -> bool | None:
    """Whether the median passes; None where nothing was measured."""
    return test(statistics.median(values)) if values else None


def seconds(figure: str, secs: Sequence[float], cpu_secs: Iterable[float], form: str, most: float | None) -> Row:
    """Return the row of what took so long, with the processor's time beside it. `most`: the target, if there is one."""
    return Row(
        figure,
        median_spread(secs, form, " s"),
        beside=f"CPU {median_spread(cpu_secs, form, ' s')}",
        target=_NO if most is None else f"≤ {most:g} s",
        reached=None if most is None else verdict(secs, lambda value: value <= most),
    )


def times(values: Sequence[float]) -> str:
    """Return ratios as text."""
    return median_spread(values, ".2f" if values and statistics.median(values) < 5 else ".1f", "x")


def table(answers: Iterable[Answer], ulogd2: str) -> str:
    """Return the rows of all answers as one text table."""
    head = ("", "nflowlevel", f"ulogd2 {ulogd2}", "beside", "ratio", "target", "reached")
    lines = [head]
    for answer in answers:
        for row in answer.rows:
            reached = {True: "yes", False: "NO", None: _NO}[row.reached]
            lines.append((row.figure, row.ours, row.ulogd2, row.beside, row.ratio, row.target, reached))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "  ".join("-" * width for width in widths))
    failures = [
        f"{name} did not run: {why.strip().splitlines()[-1]}"
        for answer in answers
        for name, why in answer.failed.items()
        if why.strip()
    ]
    return "\n".join((*text, "", *failures)) if failures else "\n".join(text)


def ask_all(questions: Mapping[str, Ask], scale: Scale) -> tuple[dict[str, Any], list[Answer]]:
    """Ask the questions one by one in one field; return the environment and the answers."""
    around = environment(scale)
    answers = []
    with Field() as where:
        for name, ask in questions.items():
            print(f"{name} …", file=sys.stderr)
            answers.append(ask(where, scale))
    around["load after"] = load()
    return around, answers


def main(questions: Mapping[str, Ask], argv: Sequence[str] | None = None) -> int:
    """Ask, print the table, keep the raw results. Exit status 1 when nflowlevel itself did not run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="tiny N: shows that everything runs, the figures mean little"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the raw results there (default: bench/results/)"
    )
    parser.add_argument(
        "--no-peers", action="store_true", help="leave out the Python peers, which are installed by pip"
    )
    arguments = parser.parse_args(argv)
    if why := lacking():
        print(why, file=sys.stderr)
        return 1
    scale = QUICK if arguments.quick else FULL
    if arguments.no_peers:
        scale = dataclasses.replace(scale, peers=False)
    around, answers = ask_all(questions, scale)
    print("\n".join(f"{name}: {value}" for name, value in around.items() if name != "scale"))
    print(f"{'quick run, figures mean little' if arguments.quick else 'medians (least..most of the rounds)'}\n")
    print(table(answers, around["ulogd2"]))
    file = arguments.json
    if not file and not arguments.quick:
        stamp = around["started"].replace(":", "").replace("-", "")
        file = (
            Path(__file__).parent / "results" / f"{stamp}-{'-'.join(questions) if len(questions) == 1 else 'all'}.json"
        )
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        results = {"environment": around, "answers": {a.question: a.as_json() for a in answers}}
        file.write_text(json.dumps(results, indent=1) + "\n")
        print(f"\nraw results: {file}")
    return int(any(name.startswith("nflowlevel") for answer in answers for name in answer.failed))
