# SPDX-License-Identifier: GPL-2.0-or-later
"""Exit statuses of the command: the same in all subcommands. From 64 on they have the numbers of sysexits.h."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nflowlevel.errors import NflowError

DONE = 0
FAILED = 1
WRONG_ARGUMENTS = 2
IN_USE = 3
UNAVAILABLE = 69
WRONG_FILE = 78
INTERRUPTED = 130

#: What each says, for help and documents.
MEANINGS: Mapping[int, str] = MappingProxyType(
    {
        DONE: "done; a check found nothing wrong",
        FAILED: "it failed, and says why; a check found something wrong",
        WRONG_ARGUMENTS: "wrong arguments",
        IN_USE: "`prefilter remove`: a rule still uses it",
        UNAVAILABLE: "`sql`: the database or the table is not there, or not for this user",
        WRONG_FILE: "a configuration, or a file to restore or to convert, is wrong",
        INTERRUPTED: "interrupted by Ctrl-C (`tail` and `prefilter try` end with 0)",
    }
)


def listed() -> str:
    """Return all of them, a line each."""
    return "exit status:\n" + "\n".join(f"  {number:<4} {meaning}" for number, meaning in MEANINGS.items())


class WrongArgument(NflowError):
    """An argument is wrong in a way that only the subcommand can tell."""


class NotAvailable(NflowError):
    """What the subcommand works with is not there, such as a database."""
