# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel compact`: closed JSON files become Parquet files of an archive; what is archived long enough goes.

Without files, those that the JSON outputs of a configuration were rotated into are taken. The log itself, to which the
output goes on to write, stays as it is.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Iterator

from nflowlevel.archive.compaction import Result, Settings, compact
from nflowlevel.archive.journal import Journal
from nflowlevel.archive.retention import retain
from nflowlevel.archive.rotated import is_locked, rotated
from nflowlevel.cli import status
from nflowlevel.cli.arguments import add_config, seconds, user, whole
from nflowlevel.cli.status import WrongArgument
from nflowlevel.daemon.main import DEFAULT_CONFIG
from nflowlevel.delivery.openfile import STDOUT
from nflowlevel.errors import ConfigError, NflowError, counted, printable
from nflowlevel.outputs.json import JSON
from nflowlevel.records.keys import CATALOGUE, Key
from nflowlevel.stacks.config import parse_all
from nflowlevel.stacks.stack import Stack, build

ARCHIVE = "/var/lib/nflowlevel/archive"

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"([0-9]{1,15})([KMGT]?)", re.IGNORECASE)
_MOST_DAYS = 100_000
_YEAR_SECS = 366 * 86_400

_EXAMPLES = f"""\
examples:
  nflowlevel compact -c /etc/ulogd.conf --keep-days 90
  nflowlevel compact old/*.json.gz -o archive --dvc fw1 --keep

{status.listed()}"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="JSON lines, also compressed (default: what the outputs were rotated to)",
    )
    add_config(parser, default=None, what=f"configuration whose JSON outputs wrote them (default {DEFAULT_CONFIG})")
    parser.add_argument(
        "-o", "--output", metavar="DIRECTORY", help=f"the archive (default {ARCHIVE}; must be given with files)"
    )
    parser.add_argument("--dvc", default="", help="the firewall's name for all records (default: each record's own)")
    parser.add_argument("-k", "--keep", action="store_true", help="leave the files where they are")
    parser.add_argument(
        "--keep-days", metavar="N", type=whole(1, _MOST_DAYS), help="remove what is older than so many days"
    )
    parser.add_argument("--keep-bytes", metavar="SIZE", type=size, help="remove the oldest above this size: 500M, 20G")
    parser.add_argument(
        "-u", "--user", type=user, help="as root: also take files of this user, the one of the daemon's -u"
    )
    parser.add_argument(
        "--min-age",
        metavar="SECS",
        type=seconds(0, _YEAR_SECS),
        default=600.0,
        help="a file whose writer may lock nothing must not have changed for so long (600)",
    )
    parser.add_argument("--threads", metavar="N", type=whole(1, 1024), default=1, help="processors to use (1)")


def size(text: str) -> int:
    """Read a size in bytes, with K, M, G or T for powers of 1024."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise argparse.ArgumentTypeError(f"must be a size such as 500M or 20G, not '{printable(text)}'")
    return int(found[1]) * _UNITS[found[2].upper()]


def run(options: argparse.Namespace) -> int:
    """Compact, then remove what is too old."""
    if options.files and options.output is None:
        raise WrongArgument("name the archive for these files: -o DIRECTORY")
    stacks: list[Stack] = []
    if options.config or not options.files:
        stacks = _stacks(options.config or DEFAULT_CONFIG)
    paths = [(path, False) for path in options.files] or list(_closed(stacks))
    progress = FileProgress()
    settings = Settings(
        dvc=options.dvc,
        keep=options.keep,
        owners=(0, options.user.pw_uid) if options.user else (0,),
        min_age=options.min_age,
        added=_added(stacks),
        threads=options.threads,
        progress=progress.add,
    )
    is_done = True
    with Journal(options.output or ARCHIVE) as journal:
        for path, is_ours in paths:
            progress.begin(path)
            try:
                result = compact(journal, path, settings, is_ours=is_ours)
            except (NflowError, OSError) as error:
                progress.end()
                _say(f"{printable(path, None)}: {_text_of(error, path)}")
                is_done = False
                continue
            progress.end()
            print(_told(result), flush=True)
        if options.keep_days is not None or options.keep_bytes is not None:
            removed = retain(journal, keep_days=options.keep_days, keep_bytes=options.keep_bytes)
            if removed.files:
                what = "file of the archive was" if removed.files == 1 else "files of the archive were"
                print(f"{removed.files} {what} removed, {counted(removed.size, 'byte')}")
    if not paths:
        print("there are no closed files")
    return status.DONE if is_done else status.FAILED


def _told(result: Result) -> str:
    path = printable(result.path, None)
    if result.outcome == "left":
        return f"{path}: left as it is: {printable(result.reason, None)}"
    if result.outcome == "known":
        text = f"{path}: was in the archive already"
    else:
        text = f"{path}: {counted(result.records, 'record')} in {counted(result.files, 'file')}"
        if result.damaged:
            text += f", {counted(result.damaged, 'damaged line')} kept apart"
    if result.reason:
        text += f"; not removed: {printable(result.reason, None)}"
    return text + ("; removed" if result.removed else "")


def _text_of(error: Exception, path: str) -> str:
    if isinstance(error, OSError) and error.strerror:
        name = error.filename
        is_other = isinstance(name, str) and os.path.basename(name) != os.path.basename(path)
        return error.strerror + (f" ({printable(name, None)})" if is_other else "")
    return printable(str(error), None)


def _say(text: str) -> None:
    print(f"nflowlevel compact: {text}", file=sys.stderr)


# -- what the configuration says ---------------------------------------------------------------------------------------


def _stacks(file: str) -> list[Stack]:
    found = [stack for stack in build(parse_all(file)) if _log_of(stack)]
    if not found:
        raise ConfigError("no stack ends with JSON in mode file: there is nothing to compact", file=file)
    return found


def _log_of(stack: Stack) -> str:
    """Return the file that a stack writes JSON to; empty: none."""
    output = stack.output
    is_log = isinstance(output, JSON) and output.options.mode == "file" and output.options.file not in STDOUT
    return output.options.file if is_log else ""


def _closed(stacks: Iterable[Stack]) -> Iterator[tuple[str, bool]]:
    """Yield the files that the logs were rotated into, each with whether its writer is one of ours."""
    for log in dict.fromkeys(map(_log_of, stacks)):
        # Who locks the present file locked those before.
        is_ours = is_locked(log)
        for path in rotated(log):
            yield path, is_ours


def _added(stacks: Iterable[Stack]) -> tuple[Key, ...]:
    """Return the keys of columns that plugins of others add to packets."""
    known = {key.name for key in CATALOGUE}
    added = (key for stack in stacks for plugin in stack.filters for key in plugin.adds)
    return tuple({key.name: key for key in added if key.name not in known}.values())


# -- progress ----------------------------------------------------------------------------------------------------------


class FileProgress:
    """Shows on a terminal how far a file is read."""

    _STEP_BYTES = 32 << 20

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._path, self._size, self._done = "", 0, 0

    def begin(self, path: str) -> None:
        """Another file begins."""
        self._path, self._done = printable(os.path.basename(path)), 0
        try:
            self._size = os.path.getsize(path)
        except OSError:
            self._size = 0

    def add(self, count: int) -> None:
        """So many more bytes were read."""
        self._done += count
        if self._is_shown:
            # What is compressed has more bytes than its size says.
            share = f" of {self._size >> 20}" if self._done <= self._size else ""
            print(f"\r{self._path}: {self._done >> 20}{share} MiB\x1b[K", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line."""
        if self._is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
