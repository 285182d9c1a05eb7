# SPDX-License-Identifier: GPL-2.0-or-later
"""Text in lines that fit a terminal, for what the daemon and the command say."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import TextIO

#: Of a terminal that does not say how many it has.
_COLUMNS = 80
#: Narrower terminals wrap for themselves.
LEAST_COLUMNS = 40
_SGR = re.compile("\x1b\\[[0-9;]*m")


def wrapped(text: str, stream: TextIO) -> str:
    """Return text for `stream`; on a terminal, with the lines that are too long broken at blanks.

    The pieces are indented, so none of them can pass for a line of ours. Lines that begin with a blank stay as they
    are: they quote, and a mark below may point into them.
    """
    if not stream.isatty():
        return text
    try:
        columns = os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        columns = _COLUMNS
    columns = max(columns, LEAST_COLUMNS)
    lines = text.split("\n")
    return "\n".join(line if line.startswith(" ") else filled(line.split(" "), columns, 4) for line in lines)


def cells(text: str) -> int:
    """Return how many columns of a terminal a text takes, styled or not."""
    text = _SGR.sub("", text)
    if text.isascii():
        return len(text)
    import unicodedata  # a daemon starts without it

    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def filled(parts: Iterable[str], columns: int | None, indent: int = 0) -> str:
    """Return parts with blanks between them, in lines of at most `columns`; the second and later ones are indented.

    A part that is longer than a line is broken at its end, so nothing in it can take the place where lines begin.
    Without `columns` all is one line.
    """
    if columns is None:
        return " ".join(parts)
    lines: list[str] = []
    left = 0
    for part in parts:
        width, room = cells(part), columns - indent
        if lines and width < left:
            lines[-1] += f" {part}"
            left -= width + 1
            continue
        for piece in [part] if width <= room else _pieces(_SGR.sub("", part), room):
            lines.append(" " * indent + piece if lines else piece)
            left = (columns if len(lines) == 1 else room) - cells(piece)
    return "\n".join(lines)


def _pieces(text: str, columns: int) -> Iterator[str]:
    """Yield a text in pieces that fit."""
    piece, used = "", 0
    for character in text:
        width = cells(character)
        if used + width > columns and piece:
            yield piece
            piece, used = "", 0
        piece += character
        used += width
    yield piece
