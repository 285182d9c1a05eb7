# SPDX-License-Identifier: GPL-2.0-or-later
"""Records read back from what GPRINT, OPRINT and XML write, ours and ulogd2's, for the comparison of the two.

A record is named as JSON names its members, so that the same list explains the differences. Values of keys that are
numbers are numbers, if they are written as such; all others are what stands there, byte for byte.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Any

from nflowlevel.records.keys import CATALOGUE

BOUNDARY = "===>PACKET BOUNDARY\n"

_CIM = {key.name: key.cim for key in CATALOGUE if key.cim}
_NUMBERS = {key.name for key in CATALOGUE if key.type not in ("string", "ipaddr", "raw", "rawstr")}
_NUMBER = re.compile(r"0|[1-9][0-9]*")
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Items(dict[str, Any]):
    """A record, with the names of its items in their order: a name may stand there several times."""

    def __init__(self, items: list[tuple[str, str]]) -> None:
        super().__init__()
        self.names = [name for name, _ in items]
        for name, text in items:
            member = _CIM.get(name, name)
            value = int(text) if name in _NUMBERS and _NUMBER.fullmatch(text) else text
            assert self.setdefault(member, value) == value, f"{name} is {self[member]!r} and {value!r}"


def escaped(text: str, separator: str) -> str:
    """Return a value as our items have it: an independent second writer of the rule in docs/plugins.md."""
    return "".join(_ESCAPES.get(c, f"\\x{ord(c):02x}" if c < " " or c in ("\x7f", separator) else c) for c in text)


def unescaped(text: str) -> str:
    """Return what a value of our items means, by the rule in docs/plugins.md."""
    named = {written: meant for meant, written in _ESCAPES.items()}
    return re.sub(r"\\(?:x(..)|.)", lambda found: chr(int(found[1], 16)) if found[1] else named[found[0]], text)


def gprint_records(text: str) -> list[Items]:
    """Return the records of GPRINT's lines."""
    return [Items([_item(item) for item in line.split(",")]) for line in text.split("\n")[:-1]]


def oprint_records(text: str) -> list[Items]:
    """Return the records of OPRINT's lines."""
    before, *records = re.split(f"^{BOUNDARY}", text, flags=re.MULTILINE)
    assert not before, f"no boundary before {before!r}"
    return [Items([_item(line) for line in record.split("\n")[:-1]]) for record in records]


def _item(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    assert name, text
    assert equals, text
    return name, value


def xml_records(text: str) -> list[Items]:
    """Return the records of one XML document that is still being written, by the lines of its elements.

    An element is taken apart by its tags, not parsed: what ulogd2 writes need not be well-formed.
    """
    prologue, root, *lines = text.split("\n")[:-1]
    assert prologue == '<?xml version="1.0" encoding="utf-8"?>'
    assert root in ("<packet>", "<sum>")
    return [Items(_elements(line)) for line in lines if line != root.replace("<", "</")]


def _elements(line: str) -> list[tuple[str, str]]:
    found = re.fullmatch(r"<(log|obj)>(.*)</\1>", line)
    assert found, line
    items, rest = [], found[2]
    while rest:
        found = re.match(r"<(\w+)>(.*?)</\1>", rest)
        assert found, rest
        items.append((found[1], found[2]))
        rest = rest[found.end() :]
    return items


def when(text: str) -> datetime.datetime | None:
    """Return the time that an element <when> has, or None where it is not written as ulogd2 does."""
    parts = re.fullmatch(
        r"<hour>(\d+)</hour><min>(\d\d)</min><sec>(\d\d)</sec><wday>([1-7])</wday><day>(\d+)</day>"
        r"<month>(\d+)</month><year>(\d{4})</year>",
        text,
    )
    if not parts or any(number.startswith("0") and number != "0" for number in (parts[1], parts[5], parts[6])):
        return None
    hour, minute, second, weekday, day, month, year = map(int, parts.groups())
    made = datetime.datetime(year, month, day, hour, minute, second)
    return made if made.isoweekday() % 7 + 1 == weekday else None


#: By the output: how records are counted, what they are, and what separates values in them.
FORMS: dict[str, tuple[str, Callable[[str], list[Items]], str]] = {
    "GPRINT": ("\n", gprint_records, ","),
    "OPRINT": (BOUNDARY, oprint_records, "\n"),
    "XML": ("</log>\n", xml_records, ""),
}
