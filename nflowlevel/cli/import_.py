# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel import FILE …`: logs of other programs become Parquet files of an archive; the files stay as they are.

A file has lines of JSON (ours or ulogd2's), or lines of the kernel's LOG target, of LOGEMU or of SYSLOG, also among
others (analytics/loglines.py). It may be compressed. A file that was imported before is known again, also renamed or
compressed. Of one that has more lines now, only these are imported. A last line without a newline may be half of one:
it is left for the next time, but for one of a compressed file that is proved to be whole. A file that a program has
open for writing is refused: import what it was rotated to.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from nflowlevel.analytics.loglines import Counts, LogLines
from nflowlevel.archive.compaction import Converter, Result, Settings, compact
from nflowlevel.archive.journal import Journal
from nflowlevel.archive.source import LogSource
from nflowlevel.cli import status
from nflowlevel.cli.arguments import whole
from nflowlevel.cli.compact import FileProgress
from nflowlevel.errors import NflowError, counted, printable

#: Every user's: what is read stays where it is.
_ANY_OWNER = range(1 << 32)
_REASONS = {
    "cut": "cut or damaged",
    "without_time": "without a time",
    "wrong": "with a number that no packet has, or too long",
}

_EXAMPLES = f"""\
examples:
  nflowlevel import /var/log/kern.log.* -o archive
  nflowlevel import old/messages-2014.gz --year 2014 --dvc fw1 -o archive

A time without a year gets the latest year that does not put it more than a day after the file's last change.

{status.listed()}"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="lines of the kernel's log, of LOGEMU or of JSON; also compressed"
    )
    parser.add_argument("-o", "--output", metavar="DIRECTORY", required=True, help="the archive")
    parser.add_argument(
        "--dvc", default="", help="the firewall's name for all records (default: the host of each line)"
    )
    parser.add_argument("--year", metavar="N", type=whole(1970, 9999), help="year of all times that have none")
    parser.add_argument("--threads", metavar="N", type=whole(1, 1024), default=1, help="processors to use (1)")


def run(options: argparse.Namespace) -> int:
    """Import the files one by one; one that fails does not keep the others out."""
    is_done, progress = True, FileProgress()
    with Journal(options.output) as journal:
        for path in options.files:
            progress.begin(path)
            read: list[LogLines] = []
            settings = Settings(
                dvc=options.dvc,
                keep=True,
                only_whole=True,
                owners=_ANY_OWNER,
                convert=converter(options.year, read.append),
                threads=options.threads,
                progress=progress.add,
            )
            try:
                result = compact(journal, path, settings, is_ours=True)  # its age says nothing: it stays
            except (NflowError, OSError) as error:
                progress.end()
                text = str(error) if isinstance(error, NflowError) else error.strerror or str(error)
                print(f"nflowlevel import: {printable(path, None)}: {printable(text, None)}", file=sys.stderr)
                is_done = False
                continue
            progress.end()
            is_done = is_done and result.outcome != "left"
            print(_told(result, read[0].counts if read else None), flush=True)
    return status.DONE if is_done else status.FAILED


def converter(
    year: int | None, met: Callable[[LogLines], object] = lambda lines: None
) -> Callable[[LogSource], Converter | None]:
    """Return what chooses by a file's first lines how its lines become JSON; `met` is called with what counts them."""

    def convert(source: LogSource) -> Converter | None:
        if source.head.lstrip()[:1] == b"{":
            return None
        lines = LogLines(source.changed, year=year)
        met(lines)
        return lines.json

    return convert


def _told(result: Result, counts: Counts | None) -> str:
    path = printable(result.path, None)
    if result.outcome == "left":
        return f"{path}: not imported: {printable(result.reason, None)}"
    if result.outcome == "known":
        text = "was imported already"
    else:
        text = f"{counted(result.records, 'record')} in {counted(result.files, 'file')}"
        text += _lost(result, counts)
    if result.is_growing and result.is_compressed:
        text += "; its last line has no newline and may be cut: it is left"
    elif result.is_growing:
        text += "; its last line has no newline yet, and is left: import the file again when it has"
    return f"{path}: {text}"


def _lost(result: Result, counts: Counts | None) -> str:
    if counts is None:
        return f", {counted(result.damaged, 'damaged line')} kept apart" if result.damaged else ""
    lost = [f"{number} {_REASONS[name]}" for name, number in counts.lost().items()]
    text = f", {counted(counts.other, 'line')} of something else" if counts.other else ""
    return text + (f"; not imported, and kept apart: {', '.join(lost)}" if lost else "")
