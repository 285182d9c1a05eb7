# SPDX-License-Identifier: GPL-2.0-or-later
"""Accounting objects as text: the lines that `nfacct list` prints and `nfacct restore` reads, and nfacct's XML.

    { pkts = 00000000000000000023, bytes = 00000000000000001288 } = ipv4.http;
    { pkts = …, bytes = …, quota = 00000000000000000100, mode = packet } = guests;

nfacct lists a fifth member, `overquota`, which its own restore refuses: it is read here, and not written. A name is all
that stands between the `=` and the last `;`, so it may hold blanks and semicolons here; nfacct cuts it there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from xml.sax.saxutils import escape

from nflowlevel.accounting.objects import checked
from nflowlevel.accounting.table import Counter
from nflowlevel.binding.nfacct import BYTE_QUOTA, PACKET_QUOTA
from nflowlevel.errors import ConfigError
from nflowlevel.options import ConfigErrors, printable

_LINE = re.compile(
    r"\s*\{\s*pkts\s*=\s*(?P<packets>\d+)\s*,\s*bytes\s*=\s*(?P<bytes>\d+)\s*"
    r"(?:,\s*quota\s*=\s*(?P<quota>\d+)\s*,\s*mode\s*=\s*(?P<mode>packet|byte)\s*"
    r"(?:,\s*overquota\s*=\s*(?:yes|no)\s*)?)?"
    r"\}\s*= ?(?P<name>.*);\s*",
    re.ASCII,
)
_MODES = {"packet": PACKET_QUOTA, "byte": BYTE_QUOTA}
_MOST = 2**64 - 1
_MOST_DIGITS = len(str(_MOST))
#: What is wrong with more lines than this is not told one by one.
_MOST_ERRORS = 20

#: nfacct ends a name at the first of these.
_UNKNOWN_TO_NFACCT = re.compile(r"[\s;]")
#: XML 1.0 has no form for these.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Entry(NamedTuple):
    """An object of a file, and the line it stands in."""

    counter: Counter
    line: int


def parse(data: bytes, file: str) -> list[Entry]:
    """Return the objects of a file, without empty lines and # comments; ConfigErrors with all lines that are wrong."""
    entries: dict[str, Entry] = {}
    errors: list[ConfigError] = []
    more = 0
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            entry = Entry(_counter(line), number)
            if entry.counter.name in entries:
                raise ValueError(
                    f"'{printable(entry.counter.name)}' is already in line {entries[entry.counter.name].line}"
                )
            entries[entry.counter.name] = entry
        except ValueError as error:
            if len(errors) < _MOST_ERRORS:
                errors.append(ConfigError(str(error), file=file, line=number))
            else:
                more += 1
    if more:
        errors.append(ConfigError(f"{more} more lines are wrong", file=file))
    if errors:
        raise ConfigErrors(errors)
    return [*entries.values()]


def _counter(line: str) -> Counter:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"'{printable(line)}' is not a line of `nfacct list`")
    name = match["name"]
    checked(name)
    numbers = {}
    for what in ("packets", "bytes", "quota"):
        digits = (match[what] or "0").lstrip("0") or "0"
        if len(digits) > _MOST_DIGITS or int(digits) > _MOST:
            raise ValueError(f"'{printable(name)}': {what} {printable(digits)} has more than 64 bits")
        numbers[what] = int(digits)
    if match["mode"] is None:
        return Counter(name, numbers["packets"], numbers["bytes"])
    return Counter(name, numbers["packets"], numbers["bytes"], numbers["quota"], _MODES[match["mode"]])


def lines(counters: Iterable[Counter]) -> Iterator[bytes]:
    """Yield the objects as lines; ValueError before the first for a name that has no form here: one with a newline."""
    counters = [*counters]
    for counter in counters:
        if "\n" in counter.name:
            raise ValueError(f"'{printable(counter.name)}': a name with a newline cannot be written in nfacct's format")
    for counter in counters:
        quota = ""
        if counter.quota is not None:
            quota = f", quota = {counter.quota:020}, mode = {(counter.quota_unit or 'packets')[:-1]}"
        text = f"{{ pkts = {counter.packets:020}, bytes = {counter.bytes:020}{quota} }} = {counter.name};\n"
        yield text.encode("utf-8", "surrogateescape")


def strange_names(counters: Iterable[Counter]) -> list[str]:
    """Return the names that `nfacct restore` would cut short."""
    return [counter.name for counter in counters if _UNKNOWN_TO_NFACCT.search(counter.name)]


def xml(counters: Iterable[Counter]) -> Iterator[str]:
    """Yield XML as nfacct prints it, but with names escaped: what XML has no form for becomes U+FFFD."""
    yield '<?xml version="1.0" encoding="utf-8"?>\n<nfacct>\n'
    for counter in counters:
        name = escape(_NOT_IN_XML.sub("\ufffd", counter.name))
        yield (f"<obj><name>{name}</name><pkts>{counter.packets:020}</pkts><bytes>{counter.bytes:020}</bytes></obj>\n")
    yield "</nfacct>\n"
