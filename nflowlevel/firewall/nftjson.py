# SPDX-License-Identifier: GPL-2.0-or-later
"""Statements `log` in nft's JSON, as `nft -j list ruleset` prints it. The JSON between them stays as it is written.

nft's JSON has no other member of that name, and a text of somebody's own cannot look like one: within a JSON string,
each double quote has a backslash before it. Should the two ways to find them, in the text and by a parser, not agree,
nothing is converted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from nflowlevel.firewall.logstatements import SNAPLEN, Found, Left, Statement, Unfit, nft_statement, trimmed

_MEMBER = re.compile(r'"log"[ \t\r\n]*:[ \t\r\n]*')
_PREFIX = re.compile(r'"prefix"[ \t\r\n]*:[ \t\r\n]*')
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
#: nft before 1.0.7 prints some blocks as text, which it does not read back.
_TEXT_LOG = re.compile(r"\blog\b")


def is_json(text: str) -> bool:
    """Tell whether a text looks like nft's JSON."""
    return text.lstrip(" \t\r\n").startswith("{") and '"nftables"' in text


def find(text: str, snaplen: int = SNAPLEN, trim: bool = False) -> Found:
    """Return the `log` statements of such a text; `snaplen` bytes of a packet go to a group (0: all).

    With `trim`, a prefix loses one blank at its end. ValueError: it is no JSON of nft.
    """
    parsed = json.loads(text)
    if not isinstance(parsed, dict) or not isinstance(parsed.get("nftables"), list):
        raise ValueError("there is no list 'nftables' in it")
    members = [*_MEMBER.finditer(_masked(text))]
    logs = [*_logs(parsed)]
    if len(members) != len(logs):
        raise ValueError("its members 'log' are written in a way that nft does not use")
    statements: list[Statement] = []
    taken: set[int] = set()
    left = [Left(0, why) for why in _hidden(parsed)]
    decoder = json.JSONDecoder()
    for member, log in zip(members, logs, strict=True):
        value, end = decoder.raw_decode(text, member.end())
        if value != log:
            raise ValueError("its members 'log' are written in a way that nft does not use")
        values = log or {}
        if isinstance(values.get("group"), int):
            taken.add(values["group"])
            continue
        try:
            statements.append(_statement(text, member.end(), end, values, snaplen, trim))
        except Unfit as error:
            left.append(Left(member.start(), str(error)))
    return Found(statements, frozenset(taken), left)


def _masked(text: str) -> str:
    """Return the text with what is in strings blotted out, but for the names that are looked for."""
    return _STRING.sub(lambda found: found[0] if found[0] == '"log"' else '"' + " " * (len(found[0]) - 2) + '"', text)


def _logs(value: Any) -> Iterator[dict[str, Any] | None]:
    """Yield what members `log` hold, in the order of the text."""
    if isinstance(value, list):
        for item in value:
            yield from _logs(item)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name == "log" and (inner is None or isinstance(inner, dict)):
                yield inner
            else:
                yield from _logs(inner)


def _hidden(parsed: dict[str, Any]) -> Iterator[str]:
    """Yield why rules that log are not shown in full."""
    for item in parsed["nftables"]:
        rule = item.get("rule") if isinstance(item, dict) else None
        if not isinstance(rule, dict):
            continue
        where = f"rule {rule.get('family')} {rule.get('table')} {rule.get('chain')} handle {rule.get('handle')}"
        for statement in rule.get("expr", ()):
            if isinstance(statement, str) and _TEXT_LOG.search(statement):
                yield f"nft shows a part of {where} as text, which it cannot load"
            elif isinstance(statement, dict) and "xt" in statement and _is_log(statement["xt"]):
                yield f"{where} is iptables-nft's: convert what its -save program prints"


def _is_log(xt: Any) -> bool:
    """Tell whether a statement of iptables-nft logs to the kernel's log, or may: nft before 1.0.6 shows just null."""
    return xt is None or (isinstance(xt, dict) and xt.get("name") in ("LOG", "log"))


def _statement(text: str, start: int, end: int, log: dict[str, Any], snaplen: int, trim: bool) -> Statement:
    prefix = ""
    if "prefix" in log:
        found = _PREFIX.search(text, start, end)
        raw = _STRING.match(text, found.end()) if found else None
        if raw is None or json.loads(raw[0]) != log["prefix"]:
            raise Unfit("its prefix is no string")
        prefix = f'"prefix": {trimmed(raw[0]) if trim else raw[0]}, '
    flags = log.get("flags", [])
    flags = [flags] if isinstance(flags, str) else flags
    size = f', "snaplen": {snaplen}' if snaplen else ""
    level = str(log.get("level", "warn"))
    return nft_statement(start, end, f'{{{prefix}"group": ', f"{size}}}", level, flags)
