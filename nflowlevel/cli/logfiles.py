# SPDX-License-Identifier: GPL-2.0-or-later
"""The arguments of subcommands that ask a log: its files, and the part of it that is meant."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nflowlevel.cli.status import WrongArgument
from nflowlevel.records.filters import FilterError

if TYPE_CHECKING:
    from nflowlevel.analytics.log import Log

#: Where JSON of the packages' configuration goes.
DEFAULT_FILE = "/var/log/ulogd.json"


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add FILES, `--since` and `--filter`."""
    what = f"logs: JSON lines, archives, captures, lines of LOG, databases (default {DEFAULT_FILE})"
    parser.add_argument("files", metavar="FILE", nargs="*", help=what)
    parser.add_argument("--since", metavar="TIME", help="only the last 24h, 7d …, counted from the newest record")
    parser.add_argument("-F", "--filter", metavar="EXPRESSION", help="only records that match (docs/filters.md)")


def opened(options: argparse.Namespace) -> Log:
    """Read the files, and return the part of the log that is meant."""
    from nflowlevel.analytics.reading import read

    log = read(*(options.files or [DEFAULT_FILE]))
    try:
        if options.since:
            log = log.last(options.since)
        if options.filter:
            log = log.where(options.filter)
    except (FilterError, ValueError) as error:
        raise WrongArgument(str(error)) from None
    return log
