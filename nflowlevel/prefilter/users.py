# SPDX-License-Identifier: GPL-2.0-or-later
"""Which prefilters are pinned, how each stands, and who uses it: rules of iptables, and tables of our own.

iptables keeps the path of the program in its rule. Looked at are this network namespace and those of `ip netns`; those
of containers are not, nor are processes that hold a program by descriptor: the kernel does not tell them.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from nflowlevel.binding import bpffs, nftmatch, procfs
from nflowlevel.binding.netns import OWN, entered, everywhere
from nflowlevel.firewall.ruleset import KINDS, Unseen, has_legacy_tables, noted, save
from nflowlevel.prefilter import pins
from nflowlevel.prefilter.attach import table_name
from nflowlevel.prefilter.conditions import PrefilterOptions
from nflowlevel.prefilter.pins import LayoutError
from nflowlevel.prefilter.prefilter import Prefilter

_RULE = re.compile(r"(?:\[\d+:\d+\] )?(?P<rule>-A (?P<chain>\S+) .*)")


@dataclass(frozen=True, slots=True)
class PinUse:
    """The users of the program: rules of iptables, which need the pin, and tables of ours, which do not."""

    rules: tuple[str, ...]
    tables: tuple[str, ...]
    unseen: tuple[Unseen, ...]
    """What could not be looked at."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A prefilter that is pinned. `empty`: no program stands behind the one that rules ask, so no packet matches."""

    name: str
    path: str
    layout: int
    state: Literal["active", "empty", "other layout"]
    rules: PrefilterOptions | None = None
    told: str = ""
    """Of another layout: what is to be said of it."""


@dataclass(frozen=True, slots=True)
class Users:
    """The users of a prefilter, by namespace (None: our own): rules of iptables, and tables of ours."""

    by_namespace: Mapping[str | None, PinUse]
    unseen: tuple[Unseen, ...]

    def __iter__(self) -> Iterator[str]:
        """Yield each rule and table, with its namespace where that is another."""
        for netns, use in self.by_namespace.items():
            for what in (*use.rules, *use.tables):
                yield f"netns {netns}: {what}" if netns else what

    def rules(self) -> Iterator[str]:
        """Yield the rules of iptables only: those that need the pin to be there."""
        for netns, use in self.by_namespace.items():
            for rule in use.rules:
                yield f"netns {netns}: {rule}" if netns else rule

    def with_tables(self) -> list[str | None]:
        """Return the namespaces where tables of ours ask it."""
        return [netns for netns, use in self.by_namespace.items() if use.tables]


def standing(name: str, mount_point: Path = bpffs.MOUNT_POINT) -> Standing:
    """Return how what is pinned under a name stands; KernelError where nothing is, or it cannot be opened."""
    path = str(mount_point / pins.DIRECTORY / name / "prog")
    try:
        with Prefilter.open(name, bpffs=mount_point) as pre:
            return Standing(name, path, pins.LAYOUT, "active" if pre.active else "empty", pre.rules)
    except LayoutError as error:
        return Standing(name, path, error.found, "other layout", told=str(error))


def users(name: str, mount_point: Path = bpffs.MOUNT_POINT) -> Users:
    """Return who uses what is pinned under a name."""
    directory = str(mount_point / pins.DIRECTORY / name)
    found, closed = everywhere(lambda netns: uses(name, directory, netns=netns))
    unseen = {seen: None for use in found.values() for seen in use.unseen}
    unseen |= {Unseen(f"rules of network namespace {netns}", "run as root"): None for netns in closed}
    return Users({None if netns == OWN else netns: use for netns, use in found.items()}, tuple(unseen))


def owned(name: str, netns: str | None) -> bool:
    """Tell whether a process that runs has made the table of a prefilter in a namespace, so that only it may remove."""
    return any(table.prefilter == name and table.owner for table in nftmatch.tables(netns))


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
    for line in saved.split("\n"):  # a comment may hold other characters that end lines for Python
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
