# SPDX-License-Identifier: GPL-2.0-or-later
"""A report of a log: what happened in it, as one page of HTML without script, or as text to be mailed.

The page asks for nothing, from anywhere: pictures are drawn in it, and its policy forbids all else.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from nflowlevel.analytics.answer import shown
from nflowlevel.analytics.columns import per_second
from nflowlevel.analytics.detector import SEVERITIES, Detector
from nflowlevel.analytics.drawing import bars, moment, series
from nflowlevel.analytics.log import Log
from nflowlevel.analytics.placed import by_place
from nflowlevel.analytics.registry import all_detectors
from nflowlevel.analytics.traffic import step_of, traffic
from nflowlevel.archive.schema import PACKETS
from nflowlevel.errors import NotSupported, counted, plural

#: Rows of evidence for each detector, and bars of a picture.
MOST_ROWS = 10
MOST_BARS = 12
#: A pause of the log that is worth a line: so many times the usual distance of records, and so many seconds.
_GAP_TIMES, _GAP_SECS = 50, 300
_WIDTH = 78
#: What a packet takes in memory, of the columns that are looked at.
_ROW_BYTES = 100
#: Columns that pictures are made of; detectors look at others, too.
_LOOKED_AT = (
    "sec", "us", "raw_label", "src_ip", "dest_ip", "src_port", "dest_port", "oob_prefix", "tcp_window", "tcp_syn",
    "tcp_ack", "tcp_rst",
)  # fmt: skip

_HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
    '<link rel="icon" href="data:,">'
)


@dataclass
class Findings:
    """What one detector found: the first rows, and how many there are."""

    detector: Detector
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    count: int


@dataclass
class Report:
    """What a report says, before it is HTML or text."""

    sources: str
    packets: int
    first: int | None
    last: int | None
    addresses: int
    blocked: int
    step: int
    damaged: int
    traffic: list[tuple[int, int, int, int]] = field(default_factory=list)
    charts: list[tuple[str, list[tuple[Any, int]]]] = field(default_factory=list)
    findings: list[Findings] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    """Pauses of the log itself: the last second before, and the first one after."""


def make(log: Log, sources: str = "", progress: Callable[[str], None] = lambda _: None) -> Report:
    """Ask the log all that the report says. `sources` is what the log was read from, for its heading."""
    progress("counting")
    # What is suspected of, the most urgent first: a mail is read from its begin.
    detectors = [each for each in all_detectors() if each.severity != "info"]
    detectors.sort(key=lambda each: -SEVERITIES.index(each.severity))
    packets = log.packets
    if packets.count().value() * _ROW_BYTES <= log.memory_bytes // 2:
        # One scan of the archive in place of one for each question.
        packets = packets.numbered(*_needed(detectors))
    count, first, last, addresses, blocked = packets.sql(
        "SELECT COUNT(*) AS n, MIN(sec) AS first, MAX(sec) AS last, COUNT(DISTINCT src_ip) AS sources, "
        "SUM(CASE WHEN raw_label = 0 THEN 1 ELSE 0 END) AS blocked FROM packets"
    ).rows()[0]
    step = step_of(first, last)
    made = Report(sources, count, first, last, addresses, int(blocked or 0), step, log.damaged.count)
    if not count:
        return made
    with_flows = bool(log.flows.count().value())
    made.traffic = traffic(packets, step)
    made.gaps = list(_gaps(packets))
    progress("counting values")
    made.charts = list(_charts(packets))
    for each in detectors:
        if each.relation == "flows" and not with_flows:
            continue
        progress(each.name)
        if found := _found(log if each.relation == "flows" else packets, each):
            made.findings.append(found)
    return made


def _needed(detectors: Sequence[Detector]) -> list[str]:
    """Return the columns of packets that a report looks at."""
    texts = " ".join(each.sql() for each in detectors)
    return [column.name for column in PACKETS if column.name in _LOOKED_AT or re.search(rf"\b{column.name}\b", texts)]


def _charts(log: Log) -> Iterator[tuple[str, list[tuple[Any, int]]]]:
    syn = log.syn
    # All of them: their places are counted, too.
    sources = log.count("src_ip").rows()
    for title, part, column in (
        ("TCP windows of SYN packets", syn, "tcp_window"),
        ("Ports asked for", syn, "dest_port"),
        ("Source ports of SYN packets", syn, "src_port"),
        ("Sources", log, "src_ip"),
        ("Destinations", log, "dest_ip"),
        ("Rules (prefixes)", log, "oob_prefix"),
    ):
        found = sources[:MOST_BARS] if column == "src_ip" else part.count(column, top=MOST_BARS).rows()
        rows = [(value, int(count)) for value, count in found]
        if any(value is not None for value, _ in rows):
            yield title, rows
    try:
        places = log.places_of(address for address, _ in sources)
    except NotSupported:
        return  # no table of countries is installed
    if sources:
        yield "Countries of sources", by_place(sources, places, "country", MOST_BARS)
    if "network" in log.places:
        yield "Your names of sources", by_place(sources, places, "network", MOST_BARS)


def _found(log: Log, detector: Detector) -> Findings | None:
    """Return what a detector finds; None: nothing."""
    answer = log.find(detector.name)
    rows = answer.rows()
    return Findings(detector, answer.columns, rows[:MOST_ROWS], len(rows)) if rows else None


def _gaps(log: Log) -> Iterator[tuple[int, int]]:
    """Yield the pauses of the log that are far longer than its usual distances: nobody read, or nothing was sent."""
    text = """
        SELECT before, sec FROM (
          SELECT sec, LAG(sec) OVER (ORDER BY sec) AS before, ROW_NUMBER() OVER (ORDER BY sec) AS place
          FROM (SELECT DISTINCT sec FROM packets) AS seconds
        ) AS pairs WHERE place > 1 AND sec - before >= {least} ORDER BY sec - before DESC, sec LIMIT {most}
    """
    count, first, last = log.packets.sql(
        "SELECT COUNT(DISTINCT sec) AS n, MIN(sec) AS first, MAX(sec) AS last FROM packets"
    ).rows()[0]
    if not count:
        return  # files of others may have records without a time
    least = max(_GAP_SECS, _GAP_TIMES * (last - first) // count)
    yield from sorted(log.packets.sql(text.format(least=least, most=MOST_ROWS)).rows())


# -- HTML -------------------------------------------------------------------------------------------------------------


def to_html(report: Report) -> str:
    """Return the page."""
    title = f"Firewall log, {_span(report)}"
    parts = [_HEAD, f"<title>{html.escape(title)}</title><style>{_css()}</style></head><body>"]
    parts.append(f"<h1>{html.escape(title)}</h1>")
    if report.sources:
        parts.append(f'<p class="dim">{html.escape(report.sources)}</p>')
    facts = "".join(f"<span><b>{number}</b>{name}</span>" for number, name in _facts(report))
    parts.append(f'<p class="facts">{facts}</p>')
    parts.append(
        series(f"Packets by {_called(report.step)}: allowed (blue), blocked (red)", report.traffic, report.step)
    )
    parts.append("<h2>Findings</h2>" + "".join(map(_findings_html, report.findings)))
    if not report.findings:
        parts.append("<p>No detector found anything.</p>")
    charts = "".join(bars(title, rows) for title, rows in report.charts)
    parts.append(f'<h2>What was sent</h2><div class="row">{charts}</div>')
    parts.append("<h2>Gaps of the log</h2>" + _gaps_html(report))
    parts.append("</body></html>\n")
    return "\n".join(part for part in parts if part)


def _css() -> str:
    return (files("nflowlevel.analytics") / "page" / "report.css").read_text().strip()


def _findings_html(found: Findings) -> str:
    said = f"{found.detector.name}: {counted(found.count, 'finding')}"
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in _columns(found))
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in _cells(found))
    rest = f'<p class="dim">… and {found.count - len(found.rows):,} more</p>' if found.count > len(found.rows) else ""
    return (
        f'<div class="{found.detector.severity}"><h3>{html.escape(said)} ({found.detector.severity})</h3>'
        f"<p>{html.escape(found.detector.summary)}</p>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{rest}</div>'
    )


def _gaps_html(report: Report) -> str:
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in _gap_lines(report))
    return f"<ul>{lines}</ul>" if lines else "<p>None: the log goes on without a pause that stands out.</p>"


# -- text -------------------------------------------------------------------------------------------------------------


def to_text(report: Report) -> str:
    """Return the report as text, for a mail."""
    lines = [f"Firewall log, {_span(report)}", ""]
    if report.sources:
        lines += [report.sources, ""]
    lines += [f"{number:>16} {name}" for number, name in _facts(report)]
    lines += ["", "FINDINGS", ""]
    for found in report.findings:
        lines.append(f"{found.detector.name} ({found.detector.severity}): {found.count:,}")
        lines += textwrap.wrap(found.detector.summary, _WIDTH, initial_indent="  ", subsequent_indent="  ")
        lines += [f"    {line}" for line in _table([_columns(found), *_cells(found)])]
        lines.append("")
    if not report.findings:
        lines += ["No detector found anything.", ""]
    for title, rows in report.charts:
        lines += [title.upper(), ""]
        lines += [f"  {line}" for line in _table([(shown("", value) or "(none)", f"{n:,}") for value, n in rows])]
        lines.append("")
    lines += ["GAPS OF THE LOG", "", *(f"  {line}" for line in _gap_lines(report))]
    if not report.gaps:
        lines.append("  None.")
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


# -- both -------------------------------------------------------------------------------------------------------------


def _span(report: Report) -> str:
    if report.first is None or report.last is None:
        return "no packets"
    return f"{moment(report.first)} to {moment(report.last)} UTC"


def _facts(report: Report) -> list[tuple[str, str]]:
    facts = [
        (f"{report.packets:,}", plural(report.packets, "packet")),
        (f"{report.blocked:,}", "blocked"),
        (f"{report.addresses:,}", plural(report.addresses, "source")),
    ]
    if report.damaged:
        facts.append((f"{report.damaged:,}", f"damaged {plural(report.damaged, 'line')}, left out"))
    return facts


def _called(step: int) -> str:
    for secs, name in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if step % secs == 0:
            return name if step == secs else f"{step // secs} {name}s"
    return "second" if step == 1 else f"{step} seconds"


def _lasting(secs: int) -> str:
    """Return how long something was; of a long time, what is behind the second digit says nothing."""
    for unit, name in ((365 * 86_400, "years"), (86_400, "days")):
        if secs >= 10 * unit:
            return f"{secs // unit:,} {name}"
    return _called(secs)


#: What stands above the table already.
_SAID = ("finding", "severity")


def _columns(found: Findings) -> list[str]:
    return [name for name in found.columns if name not in _SAID]


def _cells(found: Findings) -> list[list[str]]:
    return [
        [
            _cell(name, value)
            for name, value in zip(found.columns, row, strict=True)
            if name not in ("finding", "severity")
        ]
        for row in found.rows
    ]


def _cell(name: str, value: Any) -> str:
    """Return a value of a finding; of a time the second is enough, and three of them fit a sheet of paper."""
    units = per_second(name, value)
    return shown(name, value - value % units if units is not None else value)


def _gap_lines(report: Report) -> list[str]:
    return [
        f"{moment(before)} to {moment(after)} UTC: nothing for {_lasting(after - before)}"
        for before, after in report.gaps
    ]
