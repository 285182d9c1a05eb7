# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists of rules with groups of nfnetlink_log in place of the kernel's log, and the configuration that reads these.

Nothing here changes a firewall: text goes in, text comes out.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from nflowlevel.errors import ConfigError
from nflowlevel.firewall import nftjson, nfttext, savetext
from nflowlevel.firewall.logstatements import CARRIED, LEVELS, SNAPLEN, Found, Groups, converted, lines_of

Form = Literal["save", "nft", "json"]

#: Where Debian's configuration of ulogd2 has the text of packets; its logrotate file knows the directory.
FILE = "/var/log/ulog/syslogemu.log"

_STACK = "base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,print1:PRINTPKT"
#: Lines that a message names one by one.
_FEW = 6


@dataclass(frozen=True, slots=True)
class Document:
    """A list of rules, and what it says about logging."""

    name: str
    form: Form
    text: str
    """Bytes that are not UTF-8 are Python's surrogates."""
    found: Found

    def lines(self, places: Sequence[int]) -> str:
        """Return in which lines these characters are, as `line 7` or `lines 7, 9 and 30 more`."""
        numbers = list(dict.fromkeys(lines_of(self.text, places)))
        shown = ", ".join(map(str, numbers[:_FEW]))
        more = f" and {len(numbers) - _FEW} more" if len(numbers) > _FEW else ""
        return f"line{'s' if len(numbers) > 1 else ''} {shown}{more}"


def document(name: str, text: str, snaplen: int = SNAPLEN, trim: bool = False) -> Document:
    """Return a list of rules, in whichever form it is; ConfigError: in none. `name` is how messages call it.

    `snaplen` bytes of a packet go to a group (0: all); with `trim`, a prefix loses one blank at its end.
    """
    try:
        if nftjson.is_json(text):
            return Document(name, "json", text, nftjson.find(text, snaplen, trim))
        if savetext.is_save(text):
            return Document(name, "save", text, savetext.find(text, snaplen, trim))
        if nfttext.is_nft(text):
            return Document(name, "nft", text, nfttext.find(text, snaplen, trim))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"nft has not printed this: {error}", file=name) from None
    raise ConfigError(
        "these are no rules: neither as iptables-save, ip6tables-save or ebtables-save print them (*filter …), "
        "nor as `nft list ruleset` or `nft -j list ruleset` do",
        file=name,
    )


@dataclass(frozen=True, slots=True)
class Migration:
    """Lists of rules, and the groups that their statements get."""

    documents: Sequence[Document]
    groups: Groups

    def text(self, document: Document) -> str:
        """Return a list with groups in place of the kernel's log; all else as it was."""
        return converted(document.text, document.found.statements, self.groups)

    def remarks(self, document: Document) -> Iterator[str]:
        """Yield what has become of that which the rules of a list asked the kernel to write."""
        statements = document.found.statements
        for name in dict.fromkeys(map(self.groups.name, statements)):
            places = [statement.start for statement in statements if self.groups.name(statement) == name]
            log = "log" if len(set(lines_of(document.text, places))) > 1 else "logs"
            yield f"{document.lines(places)} now {log} to group {self.groups.given[name]}{_origin(name)}"
        levels = {statement.level for statement in statements if statement.ulog is None}
        if len(levels) > 1 and not self.groups.by_level:
            words = ", ".join(sorted(levels))
            yield f"levels {words}: a group has none, so all go to one; --by-level gives each a group and a file"
        if document.form != "save" and statements and not nfttext.clears(document.text):
            beside = any(other.form == "save" for other in self.documents)
            last = "; that empties the tables of iptables-nft, too, so load their lists behind it" if beside else ""
            yield f"nft adds rules to those that are loaded: put `flush ruleset` before these{last}"
        if document.form == "nft" and nfttext.includes(document.text):
            yield "files that it includes are not looked into: convert each, with --group for the first free group"
        if document.form == "nft" and nfttext.looks_like_iptables(document.text):
            yield (
                "a table looks like iptables-nft's, whose rules nft may not show in full: prefer what iptables-save "
                "prints"
            )
        for ask, fate in CARRIED.items():
            places = [statement.start for statement in statements if ask in statement.asks]
            if places:
                yield f"{document.lines(places)}: {fate}"

    def left(self, document: Document) -> Iterator[str]:
        """Yield what stays as it is in a list, and why."""
        for why in dict.fromkeys(left.why for left in document.found.left):
            places = [left.start for left in document.found.left if left.why == why]
            yield f"{document.lines(places)}: left as it is: {why}"


def migration(
    documents: Sequence[Document], *, taken: frozenset[int] = frozenset(), first: int = 1, by_level: bool = False
) -> Migration:
    """Return which statement gets which group: none that a rule of any list logs to, or that is in `taken`."""
    groups = Groups(taken.union(*(document.found.taken for document in documents)), first, by_level)
    groups.assign(statement for document in documents for statement in document.found.statements)
    return Migration(documents, groups)


def _origin(name: str) -> str:
    if name.startswith("ulog"):
        return f", which was group {name.removeprefix('ulog')} of ULOG"
    return f" (level {name})" if name else ""


def configuration(groups: Groups, file: str = FILE, netns: str | None = None, *, syslog: bool = False) -> str:
    """Return a ulogd.conf that writes what the groups get as text: a stack for each group, each with its file.

    With `syslog`, the text goes to syslog instead, with the level that the rules had.
    """
    names = dict(sorted(groups.given.items(), key=lambda item: item[1]))
    plugin, output = ("SYSLOG", "sys") if syslog else ("LOGEMU", "emu")
    stacks = [f"stack=log{number}:NFLOG,{_STACK},{output}{number}:{plugin}" for number in names.values()]
    place = f'network_namespace_path="{netns if "/" in netns else f"/run/netns/{netns}"}"\n' if netns else ""
    sections = []
    for name, number in names.items():
        written = f"facility=LOG_KERN\nlevel=LOG_{_level(name)}" if syslog else f'file="{_file(file, name)}"'
        sections.append(f"[log{number}]\ngroup={number}\n{place}\n[{output}{number}]\n{written}\n")
    return "\n".join(["[global]", *stacks, "", *sections])


def _level(name: str) -> str:
    """Return a level as SYSLOG calls it; ULOG had none, and ulogd2 has sent its text as a notice."""
    return name.upper() if name in LEVELS else "NOTICE"


def _file(file: str, name: str) -> str:
    """Return the file of a group: with its name before the ending, where it has one."""
    root, ending = os.path.splitext(file)
    return f"{root}-{name}{ending}" if name else file
