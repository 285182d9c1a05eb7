# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel acct`: the kernel's accounting objects, in place of nfacct; see nflowlevel/accounting/objects.py.

`dump` writes what `restore` reads, here and in nfacct, and `restore` reads what `nfacct list` prints.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nflowlevel.accounting import nfacctfile as acctfile
from nflowlevel.accounting.objects import FILTERS, Accounting
from nflowlevel.accounting.table import Counter
from nflowlevel.cli import terminal
from nflowlevel.cli.arguments import add_action, add_netns, add_watch, whole
from nflowlevel.cli.status import WrongArgument
from nflowlevel.errors import ConfigError, NflowError, printable
from nflowlevel.options import ConfigErrors

_HEADINGS = ("name", "packets", "bytes", "quota", "rules")
_RATE_HEADINGS = ("packets/s", "bytes/s")
#: Most items of a list that a message shows.
_FEW = 10
#: Of a file to restore: more than a hundred bytes for each of a hundred thousand objects.
_LONGEST_FILE = 64 << 20
#: Of packets, or bytes.
_COUNT = whole(0, 2**64 - 1)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_netns(parser)
    _add_format(parser, default="table")
    parser.set_defaults(act=_list, only=None, reset=False, watch=None, count=0)
    commands = parser.add_subparsers(dest="action", metavar="ACTION")
    listing = _add(commands, "list", _list, "show all objects (the default)")
    _add_format(listing)
    listing.add_argument("--only", choices=FILTERS, help="list only objects of this kind")
    listing.add_argument("--reset", action="store_true", help="set each object to zero as it is read")
    add_watch(listing)
    one = _add(commands, "get", _get, "show one object")
    one.add_argument("name", help="name of the object")
    one.add_argument("--reset", action="store_true", help="set it to zero as it is read")
    _add_format(one)
    new = _add(commands, "add", _create, "create an object")
    new.add_argument("name", help="name of the object")
    quota = new.add_mutually_exclusive_group()
    quota.add_argument("--packet-quota", metavar="N", type=_COUNT, help="its rules match only after N packets")
    quota.add_argument("--byte-quota", metavar="N", type=_COUNT, help="its rules match only after N bytes")
    new.add_argument("--packets", metavar="N", type=_COUNT, default=0, help="initial packet count")
    new.add_argument("--bytes", metavar="N", type=_COUNT, default=0, help="initial byte count")
    _add(commands, "delete", _delete, "delete objects that no rule uses").add_argument(
        "name", nargs="+", help="name of an object"
    )
    _add(commands, "flush", _flush, "delete all objects that no rule uses")
    _add(commands, "dump", _dump, "write all objects as `restore` and `nfacct restore` read them")
    restore = _add(commands, "restore", _restore, "create the objects of a file: all, or none")
    restore.add_argument("file", nargs="?", default="-", help="output of `dump` or `nfacct list`; - is standard input")
    restore.add_argument("--skip-existing", action="store_true", help="leave existing objects unchanged")


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    act: Callable[[Accounting, argparse.Namespace], None],
    purpose: str,
) -> argparse.ArgumentParser:
    parser = add_action(commands, name, act, purpose)
    # Common options may stand before or behind the action; only the outer parser knows their defaults.
    add_netns(parser, argparse.SUPPRESS)
    return parser


def _add_format(parser: argparse.ArgumentParser, default: str = argparse.SUPPRESS) -> None:
    formats = parser.add_mutually_exclusive_group()
    for flags, name, what in ((("-j", "--json"), "json", "JSON"), (("--xml",), "xml", "XML, as nfacct prints it")):
        formats.add_argument(*flags, dest="format", action="store_const", const=name, default=default, help=what)


def run(options: argparse.Namespace) -> int:
    """Show or change."""
    terminal.tolerate()
    try:
        with Accounting(options.netns) as accounting:
            options.act(accounting, options)
    except ValueError as error:
        raise WrongArgument(str(error)) from None
    return 0


# -- showing ------------------------------------------------------------------------------------------------------


def _list(accounting: Accounting, options: argparse.Namespace) -> None:
    if options.watch is not None:
        if options.reset:
            raise WrongArgument("--watch and --reset cannot be combined: a reset falsifies the rates of other readers")
        _watch(accounting, options)
        return
    table = accounting.dump_and_zero(options.only) if options.reset else accounting.dump(options.only)
    _show([*table], options.format)
    if table.error:
        raise NflowError(f"the list is incomplete: {table.error}; objects that are missing were not set to zero")


def _get(accounting: Accounting, options: argparse.Namespace) -> None:
    _show([(accounting.get_and_zero if options.reset else accounting.get)(options.name)], options.format)


def _show(counters: Sequence[Counter], format_: str) -> None:
    if format_ == "json":
        print(json.dumps([_members(counter) for counter in counters]))
    elif format_ == "xml":
        sys.stdout.write(terminal.shown("".join(acctfile.xml(counters))))
    else:
        print(*terminal.table([_HEADINGS, *map(_row, counters)]), sep="\n")


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
        raise WrongArgument("nfacct's XML cannot hold the rates of --watch: use --json")

    def show(before: list[Counter], now: list[Counter], secs: float) -> None:
        _show_rates(rates(before, now, secs), options.format)

    terminal.watch(lambda: accounting.list(options.only), show, options.watch, options.count)


def _show_rates(found: list[Rate], format_: str) -> None:
    if format_ == "json":
        shown = [
            {**_members(rate.counter), "packets_per_second": rate.packets, "bytes_per_second": rate.bytes}
            for rate in found
        ]
        print(json.dumps(shown), flush=True)
        return
    rows = ((*_row(rate.counter), _si(rate.packets), _si(rate.bytes)) for rate in found)
    terminal.show_page(terminal.table([(*_HEADINGS, *_RATE_HEADINGS), *rows]), lambda count: f"… and {count} with less")


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
            "object was kept because rules count into it"
            if len(stay) == 1
            else "objects were kept because rules count into them"
        )
        print(f"{len(stay)} {what}: {_few(stay)}", file=sys.stderr)


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names[:_FEW])) + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "")


# -- files --------------------------------------------------------------------------------------------------------


def _dump(accounting: Accounting, options: argparse.Namespace) -> None:
    counters = accounting.list()
    if sys.stdout.isatty():
        sys.stdout.writelines(terminal.shown(os.fsdecode(line)) for line in acctfile.lines(counters))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.writelines(acctfile.lines(counters))
        sys.stdout.buffer.flush()
    if strange := acctfile.strange_names(counters):
        print(f"nfacct cuts these names off at the blank or semicolon: {_few(strange)}", file=sys.stderr)


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
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if file == "-" else open(file, "rb") as stream:
            data = stream.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise NflowError(f"read {file}: {error.strerror}") from None
    if len(data) > _LONGEST_FILE:
        raise NflowError(f"read {file}: more than {_LONGEST_FILE >> 20} MiB are no list of accounting objects")
    return data
