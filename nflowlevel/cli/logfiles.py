# SPDX-License-Identifier: GPL-2.0-or-later
"""The arguments of subcommands that ask a log: its files, and the part of it that is meant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nflowlevel.cli.status import WrongArgument
from nflowlevel.cli.terminal import wrapped
from nflowlevel.errors import NflowError, counted, printable
from nflowlevel.records.filters import FilterError

if TYPE_CHECKING:
    from nflowlevel.analytics.log import Log

#: Where JSON of the packages' configuration goes.
DEFAULT_FILE = "/var/log/ulogd.json"


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add FILES, and what of them is meant."""
    what = f"logs: JSON lines, archives, captures, lines of LOG, databases (default {DEFAULT_FILE})"
    parser.add_argument("files", metavar="FILE", nargs="*", help=what)
    mmdb = "a database in MaxMind's form to ask for countries before the registries' tables"
    parser.add_argument("--mmdb", metavar="FILE", action="append", default=[], help=mmdb)
    parser.add_argument("--networks", metavar="FILE", help="names of networks: a CSV file with network,name a line")
    add_part(parser)


def add_part(parser: argparse.ArgumentParser) -> None:
    """Add `--since`, `--until` and `--filter`."""
    since = "only records since then: 24h, 7d (back from the newest) or 2026-11-24T08:30"
    parser.add_argument("--since", metavar="TIME", help=since)
    parser.add_argument("--until", metavar="TIME", help="only records before then: 2026-11-24T08:30")
    parser.add_argument("-F", "--filter", metavar="EXPRESSION", help="only records that match (docs/filters.md)")


def check_part(options: argparse.Namespace) -> None:
    """Refuse a part that cannot be, before a large log is read for it. WrongArgument."""
    from nflowlevel.analytics.conditions import conditions, moment, seconds
    from nflowlevel.archive.schema import PACKETS

    for name, forms in (("since", "24h, 7d (back from the newest record) or 2026-11-24T08:30"),
                        ("until", "2026-11-24T08:30")):  # fmt: skip
        text = getattr(options, name)
        try:
            if text is not None:
                seconds(text) if name == "since" and _is_duration(text) else moment(text)
        except ValueError:
            raise WrongArgument(f"--{name} must be a time such as {forms}, not '{printable(text)}'") from None
    try:
        if options.filter is not None:
            list(conditions(PACKETS, options.filter, {}))
    except FilterError as error:
        raise WrongArgument(str(error)) from None


def read_files(files: Sequence[str], mmdb: Sequence[str] = (), networks: str | None = None) -> Log:
    """Return the log of these files, or of the default one."""
    from nflowlevel.analytics.databases import driver_errors
    from nflowlevel.analytics.reading import read

    try:
        log = read(*(files or [DEFAULT_FILE]), mmdb=mmdb, networks=networks)
    except ValueError as error:
        raise NflowError(str(error)) from None
    except driver_errors() as error:
        raise NflowError(f"read a database: {' '.join(map(str, error.args))}") from None
    if again := log.repeated:
        rest = f"; {counted(len(again) - 1, 'more name')} too" if len(again) > 1 else ""
        print(wrapped(f"nflowlevel: {again[0].told}{rest}", sys.stderr), file=sys.stderr)
    return log


def part(log: Log, options: argparse.Namespace) -> Log:
    """Return the records that were asked for; `check_part` has looked at the options."""
    if options.since is not None and _is_duration(options.since):
        log = log.last(options.since, until=options.until)
    elif options.since is not None or options.until is not None:
        log = log.between(options.since, options.until)
    return log.where(options.filter) if options.filter is not None else log


def opened(options: argparse.Namespace) -> Log:
    """Read the files, and return the part of the log that is meant."""
    check_part(options)
    _check_places(options)
    return part(read_files(options.files, options.mmdb, options.networks), options)


def _check_places(options: argparse.Namespace) -> None:
    """Refuse a list of names or a database that cannot be read. OSError, NflowError."""
    from nflowlevel.analytics.geo import Places
    from nflowlevel.analytics.networks import NamedNetworks

    if options.networks is not None:
        NamedNetworks.read(options.networks)
    if options.mmdb:
        Places(*options.mmdb, registries=False).close()


def _is_duration(text: str) -> bool:
    """Whether a time is counted back: what ends in a letter that is no zone."""
    return text[-1:].isalpha() and text[-1] not in "Zz"
