# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel top`: the busiest sources, ports and countries now, what detectors find, rate and loss.

    nflowlevel top --group 2               packets of a group
    nflowlevel top --flows                 flows, as they end
    nflowlevel top /var/log/ulogd.json     a file that grows

On a terminal it needs the extra [top]; in a pipe it prints a page every few seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from nflowlevel.analytics.live import PANELS, CountriesOf, Found, Live
from nflowlevel.cli import terminal
from nflowlevel.cli.arguments import add_netns, group, seconds, whole
from nflowlevel.cli.status import WrongArgument
from nflowlevel.errors import NotSupported, counted, printable

_ROWS = 10
#: How often findings are looked for: that takes a moment.
_FIND_SECS = 10.0
_PIECE = 1 << 20
_MOST_LINE = 1 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", metavar="FILE", nargs="?", help="a file with JSON lines that grows")
    parser.add_argument("-g", "--group", metavar="N", type=group, help="packets of a group, 0 to 65535")
    parser.add_argument("--flows", action="store_true", help="flows, as they end")
    parser.add_argument("-w", "--watch", metavar="SECS", type=seconds(0.1, 3600), default=2.0, help="how often to show")
    parser.add_argument("-n", "--count", metavar="N", type=whole(1), default=0, help="stop after N times")
    parser.add_argument("--secs", metavar="N", type=whole(1, 3600), default=60, help="seconds to look at (default 60)")
    add_netns(parser)


def run(options: argparse.Namespace) -> int:
    """Show until interrupted."""
    if (options.file is not None) + (options.group is not None) + options.flows != 1:
        raise WrongArgument("which? Name one: a FILE, --group N, or --flows")
    terminal.tolerate("utf-8")
    live, stopping = Live(options.secs), False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    screen = _screen()
    source = _source(options)
    what = options.file or ("flows" if options.flows else f"group {options.group}")
    print(f"{printable(what, None)}: waiting for records; stop with Ctrl-C", file=sys.stderr, flush=True)
    findings: list[Found] = []
    countries = _countries()
    rounds, look = 0, time.monotonic() + _FIND_SECS
    try:
        due = time.monotonic() + options.watch
        while not stopping and not (options.count and rounds >= options.count):
            source.wait(max(0.0, due - time.monotonic()))
            live.add(source.read(), time.monotonic())
            if time.monotonic() < due:
                continue
            if time.monotonic() >= look or (options.count and rounds + 1 == options.count):
                findings, look = live.findings(), time.monotonic() + _FIND_SECS
            screen(_page(live, source.lost, findings, countries))
            rounds, due = rounds + 1, time.monotonic() + options.watch
    finally:
        source.close()
    return 0


# -- what comes -------------------------------------------------------------------------------------------------------


class _Source(ABC):
    """Where lines of JSON come from."""

    #: What got lost, in words.
    lost = ""

    @abstractmethod
    def wait(self, secs: float) -> None:
        """Wait until something may be there, at most so long."""

    @abstractmethod
    def read(self) -> Sequence[bytes]:
        """Return the lines that are there."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""


class _GroupSource(_Source):
    def __init__(self, number: int, netns: str | None) -> None:
        from nflowlevel.cli.tail import json_lines
        from nflowlevel.readers.group import open_group

        self._group = open_group(number, netns=netns)
        self._lines = json_lines(groups=False)

    def wait(self, secs: float) -> None:
        if not self._group.more:
            select.select([self._group], [], [], secs)

    def read(self) -> Sequence[bytes]:
        batch = self._group.receive()
        self.lost = f"{counted(self._group.stats.gap, 'packet')} lost before they were read"
        return [line.encode() for line in self._lines(batch)] if batch else []

    def close(self) -> None:
        self._group.close()


class _FlowSource(_Source):
    def __init__(self, netns: str | None) -> None:
        from nflowlevel.readers.flows import open_flows

        self._flows = open_flows(netns=netns)

    def wait(self, secs: float) -> None:
        if not self._flows.more:
            select.select([self._flows], [], [], secs)

    def read(self) -> Sequence[bytes]:
        batch = self._flows.receive()
        self.lost = f"{counted(self._flows.stats.lost, 'event')} lost before they were read"
        names = ("orig.ip.saddr.str", "orig.ip.daddr.str", "orig.l4.dport", "orig.ip.protocol", "flow.end.sec")
        return [json.dumps(dict(zip(names, row, strict=True))).encode() for row in batch.rows(*names)]

    def close(self) -> None:
        self._flows.close()


class _FileSource(_Source):
    """Lines that are added to a file. Where another takes its place (rotation), that is read from its beginning."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rest = b""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_END)

    def wait(self, secs: float) -> None:
        time.sleep(min(secs, 0.2))

    def read(self) -> Sequence[bytes]:
        data = os.read(self._fd, _PIECE)
        if not data and self._was_replaced():
            data = os.read(self._fd, _PIECE)
        *lines, self._rest = (self._rest + data).split(b"\n")
        # What has no end is no line, however long it gets.
        self._rest = self._rest[-_MOST_LINE:]
        return lines

    def _was_replaced(self) -> bool:
        ours = os.fstat(self._fd)
        if ours.st_size < os.lseek(self._fd, 0, os.SEEK_CUR):  # cut: copytruncate of logrotate
            os.lseek(self._fd, 0, os.SEEK_SET)
            return True
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
            return False
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        os.close(self._fd)
        self._fd, self._rest = fd, b""
        return True

    def close(self) -> None:
        os.close(self._fd)


def _source(options: argparse.Namespace) -> _Source:
    if options.group is not None:
        return _GroupSource(options.group, options.netns)
    return _FlowSource(options.netns) if options.flows else _FileSource(options.file)


# -- what is shown ----------------------------------------------------------------------------------------------------


class _Page:
    """What is shown at a time."""

    def __init__(self, head: str, panels: dict[str, list[tuple[Any, int]]], findings: list[Found]) -> None:
        self.head, self.panels, self.findings = head, panels, findings


def _countries() -> CountriesOf | None:
    """Return what tells countries; None where no table of them is installed."""
    from nflowlevel.analytics.geo import Places

    try:
        places = Places()
    except NotSupported:
        return None
    return lambda addresses: {address: place.country for address, place in places.of(addresses).items()}


def _page(live: Live, lost: str, findings: list[Found], countries: CountriesOf | None) -> _Page:
    now = time.monotonic()
    records, blocked = live.rate(now)
    damaged = f", {counted(live.damaged, 'damaged line')}" if live.damaged else ""
    head = f"{records:.1f} records/s, {blocked:.1f} blocked/s over {live.secs} s; {live.records} in all{damaged}"
    panels = {name: live.top(name, _ROWS, now) for name in PANELS}
    if countries:
        panels["countries"] = list(live.countries(_ROWS, now, countries))
    return _Page(f"{head}; {lost}" if lost else head, panels, findings)


def _screen() -> Callable[[_Page], None]:
    """Return what shows a page: drawn by rich on a terminal, else lines."""
    return _drawn() if sys.stdout.isatty() else _printed


def _printed(page: _Page) -> None:
    lines = [page.head]
    for name, rows in page.panels.items():
        lines += ["", name, *(f"  {line}" for line in _table(rows))]
    lines += ["", "findings", *(f"  {line}" for line in _finding_lines(page.findings))]
    terminal.show_page(lines)


def _table(rows: Sequence[tuple[Any, int]]) -> list[str]:
    return terminal.table([(_shown(value), str(count)) for value, count in rows]) if rows else ["none"]


def _shown(value: Any) -> str:
    return printable(str(value), 40)


def _finding_lines(findings: Sequence[Found]) -> list[str]:
    rows = [
        (each.detector, each.severity, _shown(each.src_ip), f"{_shown(each.dest_ip)} {each.dest_port or ''}".strip(),
         str(each.count))
        for each in findings[:_ROWS]
    ]  # fmt: skip
    return terminal.table(rows, left=4) if rows else ["none"]


def _drawn() -> Callable[[_Page], None]:
    try:
        from rich.bar import Bar
        from rich.columns import Columns
        from rich.console import Console, Group
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        needed = "pip install 'nflowlevel[top]', or a pipe: nflowlevel top … | cat"
        raise NotSupported("showing it on a terminal", found="no Python module rich", needed=needed) from None
    console = Console()

    def show(page: _Page) -> None:
        tables = []
        for name, rows in page.panels.items():
            table = Table(title=Text(name), expand=False)
            table.add_column(name)
            table.add_column("records", justify="right")
            table.add_column("", width=12)
            for value, count in rows:
                # Text, not markup: names are of others.
                table.add_row(Text(_shown(value)), f"{count:,}", Bar(rows[0][1], 0, count))
            tables.append(table)
        found = Table(title=Text("findings"))
        for heading in ("detector", "severity", "from", "to", "count"):
            found.add_column(heading)
        for each in page.findings[:_ROWS]:
            to = f"{_shown(each.dest_ip)} {each.dest_port or ''}"
            found.add_row(*map(Text, (each.detector, each.severity, _shown(each.src_ip), to, str(each.count))))
        console.clear()
        console.print(Group(Text(page.head), Columns(tables), found))

    return show
