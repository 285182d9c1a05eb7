# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the arguments of a stored function go: which routines it calls with them, as far as their text says so.

That is all that is looked for. An argument that is computed with, or stored in a variable first, is not followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

_TOKEN = re.compile(
    r"(?P<blank>\s+|--[^\n]*|/\*.*?\*/)|(?P<string>'(?:[^'\\]|''|\\.)*')"
    r'|(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`)|(?P<word>[^\W\d][\w$]*)|(?P<number>\$\d+)|(?P<other>.)',
    re.DOTALL,
)


class Body(NamedTuple):
    """A stored function or procedure."""

    name: str
    parameters: Sequence[str]
    """Their names; empty where one has none."""
    text: str


class Token(NamedTuple):
    """A piece of SQL, and where it stands."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def name(self) -> str:
        """What it means as a name, without its quotes; cases do not count here."""
        quote = self.text[:1]
        return (self.text[1:-1].replace(quote * 2, quote) if self.kind == "quoted" else self.text).lower()


def tokens(text: str) -> Iterator[Token]:
    """Yield the pieces of SQL without blanks and comments."""
    for found in _TOKEN.finditer(text):
        if found.lastgroup != "blank":
            yield Token(found.lastgroup or "", found[0], found.start(), found.end())


def parts(pieces: Sequence[Token], at: int) -> tuple[list[list[Token]], int]:
    """Return what is between commas within the parenthesis that opens at this place, and where that is closed."""
    found: list[list[Token]] = [[]]
    depth = 0
    for end in range(at, len(pieces)):
        text = pieces[end].text
        depth += {"(": 1, ")": -1}.get(text, 0)
        if not depth:
            return (found if found != [[]] else []), end
        if depth == 1 and text == ",":
            found.append([])
        elif end > at:
            found[-1].append(pieces[end])
    return [], len(pieces)


def carried(start: Body, items: Sequence[str], bodies: Mapping[str, Body]) -> dict[str, list[str]]:
    """Return which item comes to which argument of the routines that `start` leads to, by their names in lower case.

    `items` are those of the arguments of `start`, empty where nothing comes. A routine stands behind those it calls.
    """
    found: dict[str, list[str]] = {}
    _follow(start, items, bodies, found, [])
    return found


def _follow(
    body: Body, items: Sequence[str], bodies: Mapping[str, Body], found: dict[str, list[str]], callers: list[str]
) -> None:
    name = body.name.lower()
    if name in callers:
        return
    for called, arguments in _calls(body, bodies):
        given = [items[at] if at is not None and at < len(items) else "" for at in arguments]
        _follow(called, given, bodies, found, [*callers, name])
    before = found.pop(name, [""] * len(body.parameters))
    # From several places: what any of them gives.
    found[name] = [item or old for item, old in zip([*items, *before][: len(before)], before, strict=True)]


def _calls(body: Body, bodies: Mapping[str, Body]) -> Iterator[tuple[Body, list[int | None]]]:
    """Yield the known routines that a body calls, and the numbers of its arguments that it hands on."""
    pieces = [*tokens(body.text)]
    numbers = {parameter.lower(): at for at, parameter in enumerate(body.parameters) if parameter}
    for at, piece in enumerate(pieces[:-1]):
        called = bodies.get(piece.name) if piece.kind in ("word", "quoted") else None
        if called is None or pieces[at + 1].text != "(":
            continue
        arguments, _ = parts(pieces, at + 1)
        if len(arguments) == len(called.parameters):
            yield called, [_number(argument, numbers) for argument in arguments]


def _number(argument: Sequence[Token], numbers: Mapping[str, int]) -> int | None:
    if len(argument) != 1:
        return None
    if argument[0].kind == "number":
        return int(argument[0].text[1:]) - 1
    return numbers.get(argument[0].name) if argument[0].kind in ("word", "quoted") else None
