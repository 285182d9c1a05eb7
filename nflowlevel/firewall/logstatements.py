# SPDX-License-Identifier: GPL-2.0-or-later
"""What a list of rules says about logging to the kernel's log, and the same list with groups in its place.

`savetext.py`, `nfttext.py` and `nftjson.py` find the statements in what iptables-save, `nft list ruleset` and `nft -j`
print. Each says between which characters it stands and what takes its place, so that all else stays as it is. Which
group a statement gets is decided when all lists are read, since a group that one of them uses is taken in all.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

#: Group 0 is the kernel's own: its messages go there where nfnetlink_log is the back end.
_GROUPS = 1 << 16
#: Syslog's levels from 0 on, as the kernel numbers them.
LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
_ALIASES = MappingProxyType({"panic": "emerg", "error": "err", "warn": "warning"})

#: What the text of PRINTPKT shows fits into so many bytes of a packet: its headers, with options and IPv6 extensions.
SNAPLEN = 256

#: What becomes of that which a rule asked the kernel to write; keys are iptables' words for it without `--log-`.
CARRIED: Mapping[str, str] = MappingProxyType(
    {
        "tcp-sequence": "TCP sequence numbers: PRINTPKT always writes SEQ= and ACK=",
        "tcp-options": "TCP options: not carried over, PRINTPKT does not write them; PCAP keeps the packets",
        "ip-options": "IP options: not carried over, PRINTPKT does not write them; PCAP keeps the packets",
        "uid": "the user of the socket: PRINTPKT writes UID= and GID= where the kernel knows them",
        "macdecode": "the decoded MAC header: not carried over, PRINTPKT writes its bytes as MAC=; "
        "HWHDR before JSON decodes them",
        "ip": "the IP header of a frame: PRINTPKT always writes it",
        "arp": "the ARP header of a frame: PRINTPKT always writes it",
        "ip6": "the IPv6 header of a frame: PRINTPKT always writes it",
    }
)

#: nft's flags, as JSON has them; its text has the word `tcp` or `ip` once for both.
_ASKED_BY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "tcp sequence": ("tcp-sequence",),
        "tcp options": ("tcp-options",),
        "ip options": ("ip-options",),
        "skuid": ("uid",),
        "ether": ("macdecode",),
        "all": ("tcp-sequence", "tcp-options", "ip-options", "uid", "macdecode"),
    }
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that logs to the kernel's log, or by ULOG."""

    start: int
    end: int
    """It is between these characters of the text."""
    before: str
    after: str
    """What takes its place: this, the number of the group, and that."""
    level: str = "warning"
    """One of LEVELS."""
    ulog: int | None = None
    """The group of ULOG, which is no level of the kernel's log."""
    asks: frozenset[str] = frozenset()
    """What the rule wants written: keys of CARRIED."""


class Unfit(Exception):
    """A statement cannot be converted; the text says why."""


class Left(NamedTuple):
    """What cannot be carried over, and stays as it is."""

    start: int
    """The character where it stands."""
    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """What there is in a list of rules."""

    statements: Sequence[Statement] = ()
    taken: frozenset[int] = frozenset()
    """Groups that its rules log to already."""
    left: Sequence[Left] = ()


@dataclass(slots=True)
class Groups:
    """Which group each statement gets: numbers from `first` on, without those that are taken."""

    taken: frozenset[int]
    first: int = 1
    by_level: bool = False
    """Whether each level has a group of its own."""
    given: dict[str, int] = field(default_factory=dict)
    """The group of each name: `""` for all levels, or a level, or `ulog3` for group 3 of ULOG."""

    def name(self, statement: Statement) -> str:
        """Return under which name a statement's group is in `given`."""
        if statement.ulog is not None:
            return f"ulog{statement.ulog}"
        return statement.level if self.by_level else ""

    def of(self, statement: Statement) -> int:
        """Return the group of a statement."""
        name = self.name(statement)
        if name not in self.given:
            # Whoever reads a group of ULOG has its number in scripts and configurations: it stays where it can.
            self.given[name] = self._free(self.first if statement.ulog is None else statement.ulog)
        return self.given[name]

    def assign(self, statements: Iterable[Statement]) -> None:
        """Give each of these a group: first those of ULOG, which have a number already."""
        for statement in sorted(statements, key=lambda statement: statement.ulog is None):
            self.of(statement)

    def _free(self, wanted: int) -> int:
        taken = self.taken.union(self.given.values())
        return next(
            itertools.filterfalse(taken.__contains__, itertools.chain(range(wanted, _GROUPS), range(1, wanted)))
        )


def level_of(word: str) -> str | None:
    """Return a level by its number or one of its names; None: there is no such level."""
    word = word.lower()
    if word.isdecimal() and word.isascii():
        return LEVELS[int(word)] if len(word) == 1 and int(word) < len(LEVELS) else None
    word = _ALIASES.get(word, word)
    return word if word in LEVELS else None


def trimmed(prefix: str) -> str:
    """Return a prefix, in its quotes, without one blank at its end: PRINTPKT writes one. Some of it must stay."""
    is_plain = len(prefix) > len('" "') and prefix.endswith(' "') and prefix[-3] != "\\"
    return f'{prefix[:-2]}"' if is_plain else prefix


def nft_statement(start: int, end: int, before: str, after: str, level: str, flags: Iterable[str]) -> Statement:
    """Return a statement of nft; its level and its flags are nft's words. Unfit: it has no place in a group."""
    if level == "audit":
        raise Unfit("level audit writes to the audit subsystem, not to the kernel's log")
    known = level_of(level)
    if known is None:
        raise Unfit(f"there is no level {level}")
    asks = frozenset(ask for flag in flags for ask in _ASKED_BY.get(flag, ()))
    return Statement(start, end, before, after, known, asks=asks)


def converted(text: str, statements: Iterable[Statement], groups: Groups) -> str:
    """Return the text with groups in place of the statements."""
    return "".join(_pieces(text, statements, groups))


def _pieces(text: str, statements: Iterable[Statement], groups: Groups) -> Iterator[str]:
    at = 0
    for statement in statements:
        yield text[at : statement.start]
        yield f"{statement.before}{groups.of(statement)}{statement.after}"
        at = statement.end
    yield text[at:]


def lines_of(text: str, places: Iterable[int]) -> list[int]:
    """Return the numbers of the lines, from 1, in which these characters stand. Only a newline ends a line here."""
    ends = [newline.start() for newline in re.finditer("\n", text)]
    return [bisect.bisect_left(ends, at) + 1 for at in places]
