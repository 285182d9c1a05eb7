# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel acct`: the kernel's accounting objects, in place of nfacct; see nflowlevel/accounting.py.

`dump` writes what `restore` reads, here and in nfacct, and `restore` reads what `nfacct list` prints.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from nflowlevel.accounting import nfacctfile as acctfile
from nflowlevel.accounting.objects import FILTERS, Accounting
from nflowlevel.accounting.table import Counter
from nflowlevel.errors import ConfigError, NflowError
from nflowlevel.options import ConfigErrors, printable

_HEADINGS = ("name", "packets", "bytes", "quota", "rules")
_RATE_HEADINGS = ("packets/s", "bytes/s")
#: Of a list that goes into a message no more is shown.
_FEW = 10
_CLEAR = "\x1b[H\x1b[2J"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    _add_common(parser, netns=None)
    _add_format(parser, default="table")
    parser.set_defaults(act=_list, only=None, reset=False, watch=None, count=0)
    commands = parser.add_subparsers(dest="action", metavar="ACTION")
    listing = _add(commands, "list", _list, "show all objects (the default)")
    _add_format(listing)
    listing.add_argument("--only", choices=FILTERS, help="only objects of this kind")
    listing.add_argument("--reset", action="store_true", help="set each to zero as it is read")
    listing.add_argument(
        "-w", "--watch", metavar="SECS", nargs="?", type=_seconds, const=1.0, help="again every SECS, with rates"
    )
    listing.add_argument("-n", "--count", metavar="N", type=int, default=0, help="with --watch: end after N times")
    one = _add(commands, "get", _get, "show one object")
    one.add_argument("name")
    one.add_argument("--reset", action="store_true", help="set it to zero as it is read")
    _add_format(one)
    new = _add(commands, "add", _create, "create an object")
    new.add_argument("name")
    quota = new.add_mutually_exclusive_group()
    quota.add_argument("--packet-quota", metavar="N", type=int, help="its rules match beyond N packets only")
    quota.add_argument("--byte-quota", metavar="N", type=int, help="its rules match beyond N bytes only")
    new.add_argument("--packets", metavar="N", type=int, default=0, help="packets to begin with")
    new.add_argument("--bytes", metavar="N", type=int, default=0, help="bytes to begin with")
    _add(commands, "delete", _delete, "delete objects that no rule uses").add_argument("name", nargs="+")
    _add(commands, "flush", _flush, "delete all objects that no rule uses")
    _add(commands, "dump", _dump, "write all objects as `restore` and `nfacct restore` read them")
    restore = _add(commands, "restore", _restore, "create the objects of a file: all, or none")
    restore.add_argument("file", nargs="?", default="-", help="of `dump` or `nfacct list`; - is standard input")
    restore.add_argument("--skip-existing", action="store_true", help="leave objects that exist as they are")


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    act: Callable[[Accounting, argparse.Namespace], None],
    purpose: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
    # Common options may stand before or behind the action; only the outer parser knows their defaults.
    _add_common(parser, netns=argparse.SUPPRESS)
    parser.set_defaults(act=act)
    return parser


def _add_common(parser: argparse.ArgumentParser, *, netns: str | None) -> None:
    parser.add_argument("--netns", default=netns, help="network namespace: a name or a path")


def _add_format(parser: argparse.ArgumentParser, default: str = argparse.SUPPRESS) -> None:
    formats = parser.add_mutually_exclusive_group()
    for flags, name, what in ((("-j", "--json"), "json", "JSON"), (("--xml",), "xml", "XML, as nfacct prints it")):
        formats.add_argument(*flags, dest="format", action="store_const", const=name, default=default, help=what)


def _seconds(text: str) -> float:
    secs = float(text)
    if not 0.1 <= secs <= 86400:
        raise argparse.ArgumentTypeError("0.1 to 86400 seconds")
    return secs


def run(options: argparse.Namespace) -> int:
    """Show or change."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name may hold what the terminal cannot show.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with Accounting(options.netns) as accounting:
            options.act(accounting, options)
    except ValueError as error:
        raise NflowError(str(error)) from None
    return 0


# -- showing ------------------------------------------------------------------------------------------------------


def _list(accounting: Accounting, options: argparse.Namespace) -> None:
    if options.watch is not None:
        if options.reset:
            raise NflowError("--watch shows rates, --reset would spoil them for others: use one of them")
        _watch(accounting, options)
        return
    table = accounting.dump_and_zero(options.only) if options.reset else accounting.dump(options.only)
    _show([*table], options.format)
    if table.error:
        raise NflowError(f"the list is not complete: {table.error}; what is not in it was not set to zero")


def _get(accounting: Accounting, options: argparse.Namespace) -> None:
    _show([(accounting.get_and_zero if options.reset else accounting.get)(options.name)], options.format)


def _show(counters: Sequence[Counter], format_: str) -> None:
    if format_ == "json":
        print(json.dumps([_members(counter) for counter in counters]))
    elif format_ == "xml":
        sys.stdout.write("".join(acctfile.xml(counters)))
    else:
        sys.stdout.write(_table(_HEADINGS, map(_row, counters)))


def _members(counter: Counter) -> dict[str, object]:
    members: dict[str, object] = {"name": counter.name, "packets": counter.packets, "bytes": counter.bytes}
    if counter.quota is not None:
        quota = {"quota": counter.quota, "quota_unit": counter.quota_unit, "over_quota": counter.over_quota}
        members |= quota
    return {**members, "rules": counter.rules}


def _row(counter: Counter) -> tuple[str, ...]:
    quota = ""
    if counter.quota is not None:
        quota = f"{counter.quota} {counter.quota_unit}{', reached' if counter.over_quota else ''}"
    return printable(counter.name), str(counter.packets), str(counter.bytes), quota, str(counter.rules)


def _table(headings: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """Return columns as wide as what is in them: the name to the left, numbers to the right."""
    table = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[0] = row[0].ljust(widths[0])
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


# -- watching -----------------------------------------------------------------------------------------------------


class Rate(NamedTuple):
    """An object and what it counted per second."""

    counter: Counter
    packets: float
    bytes: float


def rates(before: Sequence[Counter], now: Sequence[Counter], secs: float) -> list[Rate]:
    """Return what was counted between two lists, the busiest first.

    Where a counter is smaller than before somebody has set it to zero: then it counts from there.
    """
    old = {counter.name: counter for counter in before}

    def grown(new: int, then: int) -> float:
        return (new - then if new >= then else new) / secs

    found = []
    for counter in now:
        then = old.get(counter.name, counter)
        found.append(Rate(counter, grown(counter.packets, then.packets), grown(counter.bytes, then.bytes)))
    return sorted(found, key=lambda rate: (-rate.bytes, -rate.packets))


def _watch(accounting: Accounting, options: argparse.Namespace) -> None:
    if options.format == "xml":
        raise NflowError("--watch shows rates, for which nfacct's XML has no place: use --json")
    before, then = accounting.list(options.only), time.monotonic()
    due, rounds = then, 0
    while not options.count or rounds < options.count:
        # From the first moment on, not from the last: what a round takes adds up to nothing.
        due = max(due + options.watch, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        now, at = accounting.list(options.only), time.monotonic()
        _show_rates(rates(before, now, at - then), options.format)
        before, then, rounds = now, at, rounds + 1


def _show_rates(found: list[Rate], format_: str) -> None:
    if format_ == "json":
        shown = [
            {**_members(rate.counter), "packets_per_second": rate.packets, "bytes_per_second": rate.bytes}
            for rate in found
        ]
        print(json.dumps(shown), flush=True)
        return
    head, rest = "", ""
    if sys.stdout.isatty():
        head = _CLEAR
        fit = max(1, shutil.get_terminal_size().lines - 3)
        rest = f"… and {len(found) - fit} with less\n" if len(found) > fit else ""
        found = found[:fit]
    headings = (*_HEADINGS, *_RATE_HEADINGS)
    body = _table(headings, ((*_row(rate.counter), _si(rate.packets), _si(rate.bytes)) for rate in found))
    sys.stdout.write(head + body + rest + ("" if head else "\n"))
    sys.stdout.flush()


def _si(number: float) -> str:
    """Return a number with three digits at least, and k, M, G or T."""
    for unit in ("", "k", "M", "G"):
        if number < 9999.5:
            return f"{number:.0f}{unit}"
        number /= 1000
    return f"{number:.0f}T"


# -- changing -----------------------------------------------------------------------------------------------------


def _create(accounting: Accounting, options: argparse.Namespace) -> None:
    accounting.create(
        options.name,
        packets=options.packets,
        bytes=options.bytes,
        packet_quota=options.packet_quota,
        byte_quota=options.byte_quota,
    )


def _delete(accounting: Accounting, options: argparse.Namespace) -> None:
    for name in options.name:
        accounting.delete(name)


def _flush(accounting: Accounting, options: argparse.Namespace) -> None:
    if stay := accounting.flush():
        what = (
            "object stays because rules count into it"
            if len(stay) == 1
            else "objects stay because rules count into them"
        )
        print(f"{len(stay)} {what}: {_few(stay)}", file=sys.stderr)


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names[:_FEW])) + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "")


# -- files --------------------------------------------------------------------------------------------------------


def _dump(accounting: Accounting, options: argparse.Namespace) -> None:
    counters = accounting.list()
    sys.stdout.flush()
    sys.stdout.buffer.writelines(acctfile.lines(counters))
    sys.stdout.buffer.flush()
    if strange := acctfile.strange_names(counters):
        print(f"nfacct would cut these names at the blank or semicolon: {_few(strange)}", file=sys.stderr)


def _restore(accounting: Accounting, options: argparse.Namespace) -> None:
    file = "standard input" if options.file == "-" else options.file
    entries = acctfile.parse(_read(options.file), file)
    existing = set(accounting.dump().names)
    known = [entry for entry in entries if entry.counter.name in existing]
    if known and not options.skip_existing:
        remedy = "delete it first, or use --skip-existing"
        raise ConfigErrors(
            ConfigError(f"'{printable(entry.counter.name)}' exists; {remedy}", file=file, line=entry.line)
            for entry in known[:_FEW]
        )
    accounting.restore(entry.counter for entry in entries if entry.counter.name not in existing)


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise NflowError(f"read {file}: {error.strerror}") from None
