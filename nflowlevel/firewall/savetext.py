# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules that log to the kernel's log in what iptables-save, ip6tables-save and ebtables-save print, or one has written.

Read as iptables-restore reads it: a line is a rule, a newline alone ends it, words have blanks or tabs between them,
and double quotes may stand anywhere in a word, with a backslash before a character that is meant as it is.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from nflowlevel.firewall.logstatements import SNAPLEN, Found, Left, Statement, Unfit, level_of, trimmed

_LINE = re.compile(r"[^\n]+")
_WORD = re.compile(r'(?:"(?:[^"\\]|\\.)*"?|[^ \t\r"])+', re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"?', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
#: A word whose quotes are closed.
_CLOSED = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^"])*', re.DOTALL)
#: The target of a rule, as getopt_long(3) takes it: the name is the next word, or in the same one.
_JUMP = re.compile(r"-j(.*)|--j(?:u|um|ump)?(?:=(.*))?", re.DOTALL)
#: What can stand before the rule itself: its counters.
_COUNTERS = re.compile(r"\s*(?:\[\d+:\d+\]\s*)?-", re.ASCII)

#: Matches with a text of one's own, which may look like an option.
_TEXTS = frozenset(
    ("--comment", "--string", "--hex-string", "--name", "--set-name", "--nfacct-name", "--nflog-prefix", "--helper")
)
#: Targets that log, and their options: whether each has a value.
_LOG = {
    "--log-prefix": True,
    "--log-level": True,
    "--log-tcp-sequence": False,
    "--log-tcp-options": False,
    "--log-ip-options": False,
    "--log-uid": False,
    "--log-macdecode": False,
}
_ULOG = {"--ulog-prefix": True, "--ulog-nlgroup": True, "--ulog-cprange": True, "--ulog-qthreshold": True}
#: ebtables has no target for it.
_WATCHER = {
    "--log": False,
    "--log-level": True,
    "--log-prefix": True,
    "--log-ip": False,
    "--log-arp": False,
    "--log-ip6": False,
}
_DEFAULT_ULOG_GROUP = 1
_MOST_ULOG_GROUP = 32


class _Word(NamedTuple):
    """A word of a rule: where it stands, and what it means without its quotes."""

    start: int
    end: int
    text: str
    is_option: bool


class _Option(NamedTuple):
    name: str
    value: str
    raw: str
    """The value as it is written."""
    start: int
    end: int


def is_save(text: str) -> bool:
    """Tell whether a text looks like what one of the -save programs prints: it names a table."""
    return re.search(r"^\*\w+[ \t\r]*$", text, re.MULTILINE | re.ASCII) is not None


def find(text: str, snaplen: int = SNAPLEN, trim: bool = False) -> Found:
    """Return the rules of such a text that log; `snaplen` bytes of a packet go to a group (0: all).

    With `trim`, a prefix loses one blank at its end.
    """
    statements: list[Statement] = []
    left: list[Left] = []
    taken: set[int] = set()
    chains: set[str] = set()
    for line in _LINE.finditer(text):
        if line[0].startswith("*"):
            chains.clear()
        if line[0].startswith(":"):
            chains.add(line[0][1:].partition(" ")[0])
        if not _COUNTERS.match(line[0]):
            continue
        words = [*_words(text, line.start(), line.end())]
        try:
            taken |= _groups(text, words)
            statement = _statement(text, words, chains, snaplen, trim)
            if statement and not _CLOSED.fullmatch(line[0]):
                # What followed would belong to the text.
                raise Unfit("a double quote is not closed, so iptables could not load it")
            statements += [statement] if statement else []
        except Unfit as error:
            left.append(Left(line.start(), str(error)))
    return Found(statements, frozenset(taken), left)


def _words(text: str, start: int, end: int) -> Iterator[_Word]:
    is_text = False
    for found in _WORD.finditer(text, start, end):
        word = _meaning(found[0])
        is_option = word.startswith("-") and not is_text
        is_text = is_option and word in _TEXTS
        yield _Word(found.start(), found.end(), word, is_option)


def _meaning(word: str) -> str:
    return _QUOTED.sub(lambda quoted: _ESCAPED.sub(r"\1", quoted[1]), word)


def _statement(text: str, words: Sequence[_Word], chains: Container[str], snaplen: int, trim: bool) -> Statement | None:
    """Return what a rule logs to the kernel's log, or None. A chain comes before a target of the same name."""
    for at, word in enumerate(words):
        jump = _JUMP.fullmatch(word.text) if word.is_option else None
        if not jump:
            continue
        name, rest = jump[1] or jump[2], words[at + 1 :]
        target = word
        if not name:
            if not rest:
                raise Unfit(f"{word.text} has no value")
            target, *rest = rest
            name = target.text
        if name in chains:
            return None
        if name == "LOG":
            return _of_log(text, target, [*_options(text, rest, _LOG)], snaplen, trim)
        if name == "ULOG":
            return _of_ulog(text, target, [*_options(text, rest, _ULOG)], trim)
        if name == "AUDIT":
            raise Unfit("-j AUDIT writes to the audit subsystem, not to the kernel's log")
    return _of_watcher(text, [*_options(text, words, _WATCHER)], snaplen, trim)


def _options(text: str, words: Sequence[_Word], known: dict[str, bool]) -> Iterator[_Option]:
    """Yield those of the words that are the known options, with their values; the shortest unique beginning counts."""
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if not (word.is_option and word.text.startswith("--")):
            continue
        name, equals, value = word.text.partition("=")
        named = [name] if name in known else [option for option in known if option.startswith(name) and len(name) > 3]
        if len(named) != 1:
            continue
        raw = text[word.start : word.end].partition("=")[2]
        end = word.end
        if known[named[0]] and not equals:
            if at == len(words):
                raise Unfit(f"{named[0]} has no value")
            value, raw, end = words[at].text, text[words[at].start : words[at].end], words[at].end
            at += 1
        yield _Option(named[0], value, raw, word.start, end)


def _of_log(text: str, target: _Word, options: Sequence[_Option], snaplen: int, trim: bool) -> Statement:
    level = _level(options, "warning")
    asks = frozenset(option.name.removeprefix("--log-") for option in options) - {"prefix", "level"}
    size = f" --nflog-size {snaplen}" if snaplen else ""
    return _replaced(text, target, options, _prefix(options, "--log-prefix", trim), size, level=level, asks=asks)


def _of_ulog(text: str, target: _Word, options: Sequence[_Option], trim: bool) -> Statement:
    values = {option.name: option.value for option in options}
    group = _number(values, "--ulog-nlgroup", _DEFAULT_ULOG_GROUP)
    if not 1 <= group <= _MOST_ULOG_GROUP:
        raise Unfit(f"--ulog-nlgroup must be 1 to {_MOST_ULOG_GROUP}, not {group}")
    size, threshold = _number(values, "--ulog-cprange", 0), _number(values, "--ulog-qthreshold", 0)
    more = (f" --nflog-size {size}" if size else "") + (f" --nflog-threshold {threshold}" if threshold else "")
    return _replaced(text, target, options, _prefix(options, "--ulog-prefix", trim), more, ulog=group)


def _replaced(
    text: str,
    target: _Word,
    options: Sequence[_Option],
    prefix: str | None,
    more: str,
    *,
    level: str = "warning",
    ulog: int | None = None,
    asks: frozenset[str] = frozenset(),
) -> Statement:
    """Return a target with its options as one statement; what stands between them follows what takes their place."""
    kept, at = "", target.end
    for option in options:
        kept += text[at : option.start].rstrip(" \t")
        at = option.end
    jump = "-j " if target.is_option else ""
    before = f"{jump}NFLOG" + ("" if prefix is None else f" --nflog-prefix {prefix}") + " --nflog-group "
    return Statement(target.start, at, before, more + kept, level, ulog, asks)


def _of_watcher(text: str, options: Sequence[_Option], snaplen: int, trim: bool) -> Statement | None:
    if not options:
        return None
    level = _level(options, "notice")
    prefix = _prefix(options, "--log-prefix", trim)
    asks = frozenset(option.name.removeprefix("--log-") for option in options) - {"prefix", "level", "--log"}
    kept, at = "", options[0].end
    for option in options[1:]:
        kept += text[at : option.start].rstrip(" \t")
        at = option.end
    before = ("" if prefix is None else f"--nflog-prefix {prefix} ") + "--nflog-group "
    size = f" --nflog-range {snaplen}" if snaplen else ""
    return Statement(options[0].start, at, before, size + kept, level, asks=asks)


def _prefix(options: Sequence[_Option], name: str, trim: bool) -> str | None:
    """Return the prefix as it is written, None where there is none."""
    raw = next((option.raw for option in reversed(options) if option.name == name), None)
    return trimmed(raw) if trim and raw is not None else raw


def _level(options: Sequence[_Option], default: str) -> str:
    given = next((option.value for option in reversed(options) if option.name == "--log-level"), default)
    level = level_of(given)
    if level is None:
        raise Unfit(f"--log-level {given} is no level")
    return level


def _number(values: dict[str, str], name: str, default: int) -> int:
    text = values.get(name, str(default))
    if not (text.isascii() and text.isdecimal()):
        raise Unfit(f"{name} must be a number, not {text}")
    return int(text)


def _groups(text: str, words: Sequence[_Word]) -> set[int]:
    """Return the groups of nfnetlink_log that a rule logs to."""
    logs = any(word.text == "NFLOG" for word in words) or any(word.text.startswith("--nflog-") for word in words)
    if not logs:
        return set()
    given = {option.value for option in _options(text, words, {"--nflog-group": True})}
    return {int(value) for value in given if value.isascii() and value.isdecimal()} or {0}
