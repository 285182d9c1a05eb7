# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel find`: what detectors find in a log. Whether they find something or not, the exit status is 0."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from nflowlevel.cli.logfiles import DEFAULT_FILE, add_part, check_part, part, read_files
from nflowlevel.cli.parser import Parser
from nflowlevel.cli.status import WrongArgument
from nflowlevel.cli.terminal import shown, table, tolerate, wrapped
from nflowlevel.errors import counted, nearest, plural, printable

if TYPE_CHECKING:
    from nflowlevel.analytics.detector import Detector
    from nflowlevel.analytics.log import Log

_NAME = "nflowlevel find"
_ALL = "all"
_EXAMPLES = f"""examples:
  nflowlevel find all --since 24h                         all detectors, on the last day of {DEFAULT_FILE}
  nflowlevel find scan_then_brute archive/ -p within=2h   with a parameter, on an archive
  nflowlevel find port_scan kern.log --json | jq .src_ip  a JSON object a line
  nflowlevel find all archive/ --nft > suggested.nft      sources to block, as a suggestion: nothing is applied
  nflowlevel find beacon --spark spark://host:7077 /srv/archive

Without a name the detectors are listed. docs/detectors.md says what each means, its limits and what it confuses.
The status is 0 whether or not something was found.
"""
#: Findings of a detector that a person is shown; of tables among the findings of all detectors.
_MOST, _MOST_OF_TABLE = 40, 5
_LEFT = 5


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = f"{_NAME} [options] [NAME|{_ALL} [FILE ...]]"
    parser.add_argument(
        "words",
        nargs="*",
        metavar=f"NAME|{_ALL} FILE",
        help="a detector, or all, or nothing to list them; then logs, archives, captures and databases, packed or not, "
        f"also patterns (default {DEFAULT_FILE})",
    )
    parser.late, parser.meant = "words", _parameter_meant
    add_part(parser)
    parser.add_argument(
        "-p", "--parameter", metavar="NAME=VALUE", action="append", default=[], help="a parameter of the detector"
    )
    parser.add_argument("--severity", metavar="LEAST", help="only findings of low, medium or high severity and above")
    parser.add_argument("--evidence", action="store_true", help="with the query for the records behind each finding")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("-j", "--json", action="store_true", help="a JSON object a line")
    form.add_argument("--nft", action="store_true", help="sources to block as input for nft: a suggestion, not applied")
    parser.add_argument(
        "--spark", metavar="MASTER", help="ask Spark, such as spark://host:7077 or local[4]: archives only"
    )


def run(options: argparse.Namespace) -> int:
    """Find, and print."""
    from nflowlevel.analytics.detector import SEVERITIES
    from nflowlevel.analytics.registry import all_detectors

    tolerate()
    if not options.words:
        rows = [(detector.name, detector.severity, detector.summary) for detector in all_detectors()]
        print(*table(rows, 3), sep="\n")
        return 0
    name, *files = options.words
    least = options.severity or SEVERITIES[0]
    if least not in SEVERITIES:
        told = f"{', '.join(SEVERITIES[:-1])} or {SEVERITIES[-1]}"
        raise WrongArgument(f"--severity must be {told}, not '{printable(least)}'")
    detectors = _chosen(name)
    check_part(options)
    _check_files(files, detectors)
    parameters = _parameters(options.parameter, detectors)
    _print(options, _found(options, files, detectors, parameters, SEVERITIES.index(least)))
    return 0


def _chosen(name: str) -> list[Detector]:
    from nflowlevel.analytics.detector import SEVERITIES
    from nflowlevel.analytics.registry import all_detectors, find_detector

    if name == _ALL:
        # The most urgent first: whoever looks at a long list looks at its begin.
        return sorted(all_detectors(), key=lambda each: -SEVERITIES.index(each.severity))
    try:
        return [find_detector(name)]
    except ValueError as error:
        if os.path.exists(name):
            raise WrongArgument(f"name a detector, or all, before the file {printable(name, None)}") from None
        raise WrongArgument(str(error)) from None


def _parameter_meant(word: str, words: Sequence[str]) -> str:
    """Return how a parameter of the detector that is named is given, where a word is an option of its name."""
    from nflowlevel.analytics.registry import find_detector, names

    detector = next((find_detector(each) for each in words if each in names()), None)
    if detector is None:
        return ""
    option, equals, value = word.lstrip("-").partition("=")
    name = option.replace("-", "_")
    if name not in detector.names:
        near = nearest(name, detector.names)
        return f"{near}; parameters of {detector.name} are given as -p NAME=VALUE" if near else ""
    behind = words[words.index(word) + 1 :]
    value = value if equals else next((each for each in behind[:1] if not each.startswith("-")), "VALUE")
    return f": it is a parameter of {detector.name}, given as -p {name}={value}"


def _check_files(files: Sequence[str], detectors: Sequence[Detector]) -> None:
    """Refuse a parameter among the files: there would be no such file."""
    for file in files:
        name, equals, _ = file.partition("=")
        if equals and any(name in detector.names for detector in detectors) and not os.path.lexists(file):
            raise WrongArgument(f"'{printable(file)}' is no file; a parameter is given as -p {printable(file)}")


def _parameters(given: Sequence[str], detectors: Sequence[Detector]) -> dict[str, object]:
    """Return what was given as NAME=VALUE, after the detector has looked at it."""
    if given and len(detectors) > 1:
        raise WrongArgument("-p is for one detector, not for all")
    pairs = [each.partition("=") for each in given]
    if wrong := next((name for name, equals, _ in pairs if not equals), None):
        raise WrongArgument(f"-p '{printable(wrong)}': write NAME=VALUE")
    parameters: dict[str, object] = {name: value for name, _, value in pairs}
    try:
        for detector in detectors:
            detector.options(parameters)
    except (TypeError, ValueError) as error:
        raise WrongArgument(str(error)) from None
    return parameters


def _found(
    options: argparse.Namespace,
    files: Sequence[str],
    detectors: Sequence[Detector],
    parameters: Mapping[str, object],
    least: int,
) -> Iterator[tuple[Detector, list[dict[str, Any]]]]:
    """Yield each detector with its findings."""
    from nflowlevel.analytics.detector import SEVERITIES
    from nflowlevel.analytics.progress import Progress

    chosen = [detector for detector in detectors if SEVERITIES.index(detector.severity) >= least]
    with read_files(files) as log, Progress(len(chosen)) as progress:
        asked = part(log.on(options.spark) if options.spark else log, options)
        if not any(each.count().value() for each in (asked.packets, asked.flows)):
            _tell(_why_empty(log))
        for done, detector in enumerate(chosen):
            progress.step(detector.name, done)
            found = asked.find(detector.name, **parameters)
            rows = found.dicts()
            progress.hide()
            if options.evidence:
                for row in rows:
                    row["evidence"] = _evidence(detector, row, parameters)
            is_read = options.words[0] != _ALL and not (options.json or options.nft)
            if is_read and not rows and (advice := found.advice("-p {name}={value}")):
                _tell(f"{detector.name}: {advice}")
            yield detector, rows
        if log.damaged.count:
            count = log.damaged.count
            first = next((f"; the first: {each.told}" for each in log.damaged), "")
            _tell(f"{counted(count, 'line')} or {plural(count, 'file')} without a record, left out{first}")


def _why_empty(log: Log) -> str:
    """Return why detectors have nothing to look at: that nothing is found there says nothing."""
    from nflowlevel.analytics import answer

    newest = log.newest
    if newest is None:
        return "the log has no record"
    return f"no packet or flow is in this part of the log; its newest record is of {answer.written(newest)} UTC"


def _tell(text: str) -> None:
    print(wrapped(f"{_NAME}: {text}", sys.stderr), file=sys.stderr)


def _evidence(detector: Detector, row: Mapping[str, Any], parameters: Mapping[str, object]) -> str | None:
    try:
        return detector.evidence(row, **parameters)
    except ValueError:
        return None  # a log with something else than an address in its place


# -- printing ---------------------------------------------------------------------------------------------------------


def _print(options: argparse.Namespace, found: Iterator[tuple[Detector, list[dict[str, Any]]]]) -> None:
    if options.nft:
        from nflowlevel.analytics.suggestion import suggestion

        print(suggestion(row for _, rows in found for row in rows), end="")
        return
    counts: dict[str, list[str]] = {}
    of_all = options.words[0] == _ALL
    for detector, rows in found:
        if rows:
            counts.setdefault(detector.severity, []).append(f"{detector.name} {len(rows):,}")
        if options.json:
            for row in rows:
                print(json.dumps({name: written(name, value) for name, value in row.items()}), flush=False)
        elif rows:
            _show(detector, rows, _MOST_OF_TABLE if of_all and detector.severity == "info" else _MOST)
    if options.json:
        return
    if not counts:
        print("nothing found")
    elif of_all:
        print(*table([(severity, ", ".join(names)) for severity, names in counts.items()], 2), sep="\n")


def written(name: str, value: Any) -> Any:
    """Return a value of a finding as JSON has it: times as text of ISO 8601 in UTC."""
    from nflowlevel.analytics.columns import per_second

    if (units := per_second(name, value)) is not None:
        whole, rest = divmod(value, units)
        when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=whole, microseconds=rest)
        return when.isoformat(timespec="microseconds" if units > 1 else "seconds").replace("+00:00", "Z")
    return value


def _show(detector: Detector, rows: Sequence[Mapping[str, Any]], most: int) -> None:
    print(f"{detector.name} ({detector.severity}): {detector.summary}")
    columns = [name for name in rows[0] if name not in ("finding", "severity", "evidence")]
    lines = [tuple(columns), *(tuple(_cell(name, row[name]) for name in columns) for row in rows[:most])]
    made = table(lines, _LEFT)
    print(f"  {made[0]}")
    for line, row in zip(made[1:], rows[:most], strict=True):
        print(f"  {shown(line)}")
        if row.get("evidence"):
            print(f"    {row['evidence']}")
    if len(rows) > most:
        longer = f"nflowlevel find {detector.name} shows more, " if most < _MOST else ""
        print(f"  … and {len(rows) - most:,} more; {longer}--json prints all")
    print()


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    text = str(written(name, value))
    # To the second is enough to look at.
    return text[:19] + "Z" if name in ("first", "last", "scan_first") else text
