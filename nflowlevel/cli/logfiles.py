# SPDX-License-Identifier: GPL-2.0-or-later
"""The arguments of subcommands that ask a log: its files, and the part of it that is meant."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nflowlevel.cli.status import WrongArgument
from nflowlevel.errors import NflowError
from nflowlevel.records.filters import FilterError

if TYPE_CHECKING:
    from nflowlevel.analytics.log import Log

#: Where JSON of the packages' configuration goes.
DEFAULT_FILE = "/var/log/ulogd.json"


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add FILES, the times, and `--filter`."""
    what = f"logs: JSON lines, archives, captures, lines of LOG, databases (default {DEFAULT_FILE})"
    parser.add_argument("files", metavar="FILE", nargs="*", help=what)
    add_times(parser)
    parser.add_argument("-F", "--filter", metavar="EXPRESSION", help="only records that match (docs/filters.md)")


def add_times(parser: argparse.ArgumentParser) -> None:
    """Add `--since` and `--until`."""
    since = "only records since then: 24h, 7d (back from the newest) or 2026-11-24T08:30"
    parser.add_argument("--since", metavar="TIME", help=since)
    parser.add_argument("--until", metavar="TIME", help="only records before then: 2026-11-24T08:30")


def read_files(files: Sequence[str]) -> Log:
    """Return the log of these files, or of the default one."""
    from nflowlevel.analytics.databases import driver_errors
    from nflowlevel.analytics.reading import read

    try:
        return read(*(files or [DEFAULT_FILE]))
    except ValueError as error:
        raise NflowError(str(error)) from None
    except driver_errors() as error:
        raise NflowError(f"read a database: {' '.join(map(str, error.args))}") from None


def during(log: Log, options: argparse.Namespace) -> Log:
    """Return the records of the time that was asked for."""
    try:
        if options.since and options.since[-1:].isalpha() and options.since[-1] not in "Zz":
            return log.last(options.since, until=options.until)
        if options.since or options.until:
            return log.between(options.since, options.until)
    except ValueError as error:
        raise WrongArgument(f"--since, --until: {error}") from None
    return log


def opened(options: argparse.Namespace) -> Log:
    """Read the files, and return the part of the log that is meant."""
    log = during(read_files(options.files), options)
    try:
        return log.where(options.filter) if options.filter else log
    except FilterError as error:
        raise WrongArgument(str(error)) from None
