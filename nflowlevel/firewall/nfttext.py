# SPDX-License-Identifier: GPL-2.0-or-later
"""Statements `log` of nft in what `nft list ruleset` prints, or in a file for `nft -f`.

`log` is a word of nft's grammar: nobody can name a chain or a set so in nft. iptables-nft can, so the words before one
tell the two apart. In nft's text, a string ends at the next double quote, wherever that is; nothing escapes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nflowlevel.firewall.logstatements import SNAPLEN, Found, Left, Statement, Unfit, nft_statement, trimmed

_TOKEN = re.compile(
    r'(?P<string>"[^"]*"?)|(?P<comment>#[^\n]*)|(?P<blank>(?:[ \t\r]|\\\r?\n)+)|(?P<end>[\n;{}])'
    r'|(?P<word>(?:[^\s"#;{},\\]|\\(?!\r?\n))+)|(?P<other>.)',
    re.DOTALL | re.ASCII,
)
_TABLE = re.compile(r"^[ \t]*(?:(?:add|create)[ \t]+)?table[ \t]+[^\n{]*\{", re.MULTILINE | re.ASCII)
_COMMAND = re.compile(r"^[ \t]*(?:add|insert|replace|create)[ \t]+(?:rule|table|chain)\b", re.MULTILINE | re.ASCII)
#: The name of a chain or set follows, and no statement.
_BEFORE_NAMES = frozenset(("chain", "jump", "goto", "set", "map", "flowtable"))
_OF_IPTABLES = re.compile(
    r"^table (?:ip|ip6|bridge|arp) (?:filter|nat|mangle|raw|security) \{\n"
    r"(?:(?:\t.*)?\n)*?\tchain (?:INPUT|FORWARD|OUTPUT|PREROUTING|POSTROUTING) \{$",
    re.MULTILINE,
)
_CLEARS = re.compile(r"^[ \t]*(?:flush[ \t]+(?:ruleset|table|chain)|(?:delete|destroy)[ \t]+table)\b", re.MULTILINE)
_INCLUDE = re.compile(r"^[ \t]*include[ \t]", re.MULTILINE)
_DEFINED = re.compile(r"^[ \t]*(?:re)?define[ \t]+(\w+)[ \t]*=[ \t]*(\d+)[ \t\r]*$", re.MULTILINE | re.ASCII)
_ARGUMENTS = frozenset(("prefix", "group", "snaplen", "queue-threshold", "level"))
#: How nft from 1.0.7 on prints what it cannot know of a rule of iptables-nft.
_OPAQUE = (("target", '"LOG"'), ("watcher", '"log"'))
_FLAGS = frozenset(("all", "ether", "skuid", "tcp", "ip"))


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


class _Log(NamedTuple):
    """A `log` with its arguments."""

    end: int
    arguments: dict[str, _Token]
    flags: list[str]
    """As JSON has them: `tcp sequence`, `ip options`, `skuid`, `ether`, `all`."""


def is_nft(text: str) -> bool:
    """Tell whether a text looks like nft's."""
    return bool(_TABLE.search(text) or _COMMAND.search(text))


def looks_like_iptables(text: str) -> bool:
    """Tell whether a table has the names that iptables-nft gives; nft says so of its own only on standard error."""
    return _OF_IPTABLES.search(text) is not None


def clears(text: str) -> bool:
    """Return whether the text itself removes rules that are loaded before it adds its own."""
    return _CLEARS.search(text) is not None


def includes(text: str) -> bool:
    """Tell whether a file has others included, which are not in the text."""
    return _INCLUDE.search(text) is not None


def find(text: str, snaplen: int = SNAPLEN, trim: bool = False) -> Found:
    """Return the `log` statements of such a text; `snaplen` bytes of a packet go to a group (0: all).

    With `trim`, a prefix loses one blank at its end. ValueError: nft could not load the text.
    """
    solid = [*_tokens(text)]
    _check(solid)
    statements: list[Statement] = []
    taken: set[int] = set()
    left: list[Left] = []
    defined: dict[str, list[str]] = {}
    for name, value in _DEFINED.findall(text):
        defined.setdefault(f"${name}", []).append(value)
    end = 0
    for at, token in enumerate(solid):
        if token.text == "xt" and tuple(piece.text for piece in solid[at + 1 : at + 3]) in _OPAQUE:
            left.append(Left(token.start, "it is iptables-nft's: convert what its -save program prints"))
        if token.start < end or token.text != "log" or _is_name(solid, at):
            continue
        log = _read(solid, at)
        end = log.end
        if "group" in log.arguments:
            number = log.arguments["group"].text
            taken.update(int(n) for n in defined.get(number, [number]) if n.isascii() and n.isdecimal())
            continue
        try:
            statements.append(_statement(text, token.start, log, snaplen, trim))
        except Unfit as error:
            left.append(Left(token.start, str(error)))
    return Found(statements, frozenset(taken), left)


def _tokens(text: str) -> Iterator[_Token]:
    """Yield what is neither blank nor a comment."""
    for found in _TOKEN.finditer(text):
        if found.lastgroup not in ("blank", "comment"):
            yield _Token(found.lastgroup or "", found[0], found.start(), found.end())


def _check(tokens: Sequence[_Token]) -> None:
    """Refuse a text that nft could not load: of one with a quote too many no word is what it seems."""
    depth = 0
    for token in tokens:
        if token.kind == "end":
            depth += (token.text == "{") - (token.text == "}")
        if depth < 0 or (token.kind == "string" and (len(token.text) == 1 or not token.text.endswith('"'))):
            raise ValueError("its quotes or braces do not match, so nft could not load it")
    if depth:
        raise ValueError("its quotes or braces do not match, so nft could not load it")


def _is_name(tokens: Sequence[_Token], at: int) -> bool:
    """Tell whether a `log` is the name of something that iptables-nft has made."""
    before = [token.text for token in tokens[max(0, at - 2) : at]]
    return before[-1:] != [] and (before[-1] in _BEFORE_NAMES or before[0] == "table")


def _read(tokens: Sequence[_Token], at: int) -> _Log:
    """Return the `log` at this place with what belongs to it."""
    end = tokens[at].end
    arguments: dict[str, _Token] = {}
    flags: list[str] = []
    at += 1
    while at + 1 < len(tokens):
        word, value = tokens[at], tokens[at + 1]
        if word.text == "flags" and value.text in _FLAGS:
            at = _read_flags(tokens, at + 1, flags)
        elif word.text in _ARGUMENTS and value.kind in ("word", "string"):
            arguments[word.text] = value
            at += 2
        else:
            break
        end = tokens[at - 1].end
    return _Log(end, arguments, flags)


def _read_flags(tokens: Sequence[_Token], at: int, flags: list[str]) -> int:
    """Add the flags that begin here, and return where they end."""
    kind = tokens[at].text
    at += 1
    if kind not in ("tcp", "ip"):
        flags.append(kind)
        return at
    while at < len(tokens) and tokens[at].text in ("sequence", "options", ","):
        if tokens[at].text != ",":
            flags.append(f"{kind} {tokens[at].text}")
        at += 1
    return at


def _statement(text: str, start: int, log: _Log, snaplen: int, trim: bool) -> Statement:
    prefix, level = log.arguments.get("prefix"), log.arguments.get("level")
    if prefix is not None and text[prefix.end : prefix.end + 1].strip(" \t\r\n;}") != "":
        raise Unfit("there is a double quote in its prefix, which nft's text cannot hold")
    written = trimmed(prefix.text) if prefix is not None and trim else prefix.text if prefix is not None else ""
    before = f"log prefix {written} group " if written else "log group "
    size = f" snaplen {snaplen}" if snaplen else ""
    return nft_statement(start, log.end, before, size, level.text.strip('"') if level else "warn", log.flags)
