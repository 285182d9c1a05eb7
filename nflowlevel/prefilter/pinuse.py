# SPDX-License-Identifier: GPL-2.0-or-later
"""Which rules use a prefilter's pinned program, as far as that can be seen: those of iptables, and tables of our own.

iptables keeps the path of the program in its rule. The kernel does not tell who else holds a program, and the rules of
other network namespaces than the one asked about are not looked at.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from nflowlevel.binding import nftmatch, procfs
from nflowlevel.binding.netns import entered
from nflowlevel.firewall.ruleset import KINDS, Unseen, has_legacy_tables, noted, save
from nflowlevel.prefilter.attach import table_name

_RULE = re.compile(r"(?:\[\d+:\d+\] )?(?P<rule>-A (?P<chain>\S+) .*)")


@dataclass(frozen=True, slots=True)
class PinUse:
    """Who uses the program: rules of iptables, which need the pin to be there, and tables of ours, which do not."""

    rules: tuple[str, ...]
    tables: tuple[str, ...]
    unseen: tuple[Unseen, ...]
    """What could not be looked at."""


def uses(name: str, directory: str, *, netns: str | None = None) -> PinUse:
    """Return who uses what prefilter `name` has pinned beneath `directory`, in one network namespace."""
    unseen: list[Unseen] = []
    rules: list[str] = []
    with entered(netns):
        for command, text in _saved(unseen):
            rules += rules_naming(directory, text, command)
        wanted = table_name(name)
        tables = tuple(_told(table) for table in nftmatch.tables() if table.name == wanted)
    return PinUse(tuple(rules), tables, tuple(unseen))


def _saved(unseen: list[Unseen]) -> Iterator[tuple[str, str]]:
    """Yield what each iptables-save prints in the namespace the calling thread is in; ebtables has no such rules."""
    for kind in KINDS:
        if kind.legacy_tables:
            with noted(unseen):
                yield kind.command, save(kind, "nft")
            with noted(unseen):
                if has_legacy_tables(kind):
                    yield f"{kind.command}-legacy", save(kind, "legacy")


def _told(table: nftmatch.Table) -> str:
    owner = f"of {procfs.holder_at(table.owner)}" if table.owner else "kept without an owner"
    return f"nft table inet {table.name}, {owner}"


def rules_naming(directory: str, saved: str, command: str) -> Iterator[str]:
    """Yield the rules of `iptables-save` whose program is pinned beneath a directory."""
    table = ""
    positions: Counter[tuple[str, str]] = Counter()
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        if match := _RULE.fullmatch(line):
            place = table, match["chain"]
            positions[place] += 1
            if any(PurePath(path).is_relative_to(directory) for path in _pinned(match["rule"])):
                yield f"{command} -t {table} {match['chain']} rule {positions[place]}: {match['rule']}"


def _pinned(rule: str) -> Iterator[str]:
    """Yield the paths a rule names; what a comment says is one word and is not taken for an option."""
    for word, value in itertools.pairwise(shlex.split(rule)):
        if word == "--object-pinned":
            yield value
