# SPDX-License-Identifier: GPL-2.0-or-later
"""Arguments that several subcommands have, and types of arguments whose refusals say what is allowed.

argparse puts the argument's name before what is said: `argument -g/--group: must be 0 to 65535, not '70000'`.
"""

from __future__ import annotations

import argparse
import math
import pwd
import re
from collections.abc import Callable
from typing import Any, TypeVar

from nflowlevel.errors import printable

_WHOLE = re.compile("-?(?:0[xX][0-9a-fA-F]+|[0-9]+)")
_LONGEST_NUMBER = 24
_DAY_SECS = 86_400
#: What `--watch` takes.
_WATCH_SECS = 0.1, _DAY_SECS

SomeNumber = TypeVar("SomeNumber", int, float)


def add_action(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    act: Callable[..., object],
    purpose: str,
    **how: Any,
) -> argparse.ArgumentParser:
    """Add an action of a subcommand; `act` becomes the option of that name, and `how` is that of ArgumentParser."""
    parser = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".", **how)
    parser.set_defaults(act=act)
    return parser


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return what reads a whole number, decimal or as 0x10, from `least` to `most`."""

    def read(text: str) -> int:
        if not _WHOLE.fullmatch(text) or len(text) > _LONGEST_NUMBER:
            raise _refused(text, least, most)
        return _within(text, int(text, 16 if "x" in text.lower() else 10), least, most)

    return read


def user(name: str) -> pwd.struct_passwd:
    """Read the name of a user."""
    try:
        return pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"must be the name of a user, and there is no '{printable(name)}'") from None


def seconds(least: float, most: float) -> Callable[[str], float]:
    """Return what reads a duration in seconds, which may have a fraction."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise _refused(text, least, most, " seconds")
        return _within(text, number, least, most, " seconds")

    return read


#: The number of a group of nfnetlink_log.
group = whole(0, 0xFFFF)
#: A mark, or bits of one.
mark = whole(0, 0xFFFFFFFF)


def words(text: str) -> list[str]:
    """Read words with commas between."""
    return [word.strip() for word in text.split(",")]


def _within(text: str, number: SomeNumber, least: float, most: float | None, unit: str = "") -> SomeNumber:
    if number < least or (most is not None and number > most):
        raise _refused(text, least, most, unit)
    return number


def _refused(text: str, least: float, most: float | None, unit: str = "") -> argparse.ArgumentTypeError:
    limits = f"at least {least}" if most is None else f"{least} to {most}"
    return argparse.ArgumentTypeError(f"must be {limits}{unit}, not '{printable(text)}'")


# -- arguments --------------------------------------------------------------------------------------------------------


def add_netns(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, default: str | None = None, what: str = ""
) -> None:
    """Add `--netns`."""
    parser.add_argument("--netns", default=default, help=f"network namespace{what}: a name or a path")


def add_config(parser: argparse.ArgumentParser, *, default: str | None, what: str) -> None:
    """Add `--config`, also as the daemon calls it; it is in `config`."""
    shown = f"{what} (default {default})" if default else what
    parser.add_argument("-c", "--config", "--configfile", metavar="FILE", dest="config", default=default, help=shown)


def add_watch(parser: argparse.ArgumentParser, *, rates: bool = True) -> None:
    """Add `--watch`, None where it is not given, and `--count`; `terminal.watch` does what they say."""
    parser.add_argument(
        "-w",
        "--watch",
        metavar="SECS",
        nargs="?",
        type=seconds(*_WATCH_SECS),
        const=1.0,
        help=f"repeat every SECS seconds (default 1){', with rates' if rates else ''}",
    )
    parser.add_argument("-n", "--count", metavar="N", type=whole(1), default=0, help="with --watch: stop after N times")
