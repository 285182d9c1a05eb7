# SPDX-License-Identifier: GPL-2.0-or-later
"""What subcommands show on a terminal, or in a pipe: tables, pages, and the same again every so often."""

from __future__ import annotations

import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from nflowlevel.daemon.lines import LEAST_COLUMNS
from nflowlevel.daemon.lines import cells as cells
from nflowlevel.daemon.lines import filled as filled
from nflowlevel.daemon.lines import wrapped as wrapped
from nflowlevel.errors import printable

Reading = TypeVar("Reading")

_CLEAR = "\x1b[H\x1b[2J"
_STYLES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}


def tolerate(encoding: str | None = None) -> None:
    """Let standard output escape what it cannot show, instead of failing; a name may hold any bytes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding=encoding or sys.stdout.encoding, errors="backslashreplace")


def shown(text: str) -> str:
    """Return text that holds names of others as it is, and for a terminal without what that would obey."""
    return printable(text, None, keep="\n") if sys.stdout.isatty() else text


def width() -> int | None:
    """Return the columns of the terminal; None where standard output is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def reflowed(text: str, columns: int | None) -> str:
    """Return paragraphs, lists and indented lines in lines of at most `columns`; None: as they are.

    Lines that begin at the left edge are one paragraph up to a blank line, to one that ends in a colon, or to an
    indented one, which stands for itself, as do the marks of a list.
    """
    if columns is None:
        return text
    lines: list[str] = []
    for line in text.split("\n"):
        joins = lines and lines[-1] and not lines[-1].startswith(" ") and not lines[-1].endswith(":")
        if joins and line and not line.startswith((" ", "- ")):
            lines[-1] += f" {line}"
        else:
            lines.append(line)
    return "\n".join(_indented(line, max(columns, LEAST_COLUMNS)) for line in lines)


def _indented(line: str, columns: int) -> str:
    """Return a line in lines; those after the first begin deeper than an indented one, below the text of a list."""
    text = line.lstrip(" ")
    left = len(line) - len(text)
    hang = 2 if text.startswith("- ") else 4 if left else 0
    return " " * left + filled(text.split(" "), columns - left, hang).replace("\n", "\n" + " " * left)


def colours() -> bool:
    """Tell whether standard output is to be coloured: a terminal, unless its user does not want that (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, style: str) -> str:
    """Return text in bold, dim, red, green, yellow or cyan."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def table(rows: Sequence[tuple[str, ...]], left: int = 1) -> list[str]:
    """Return lines of columns as wide as what is in them: the first `left` ones to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def show_page(lines: Sequence[str], rest: Callable[[int], str] | None = None) -> None:
    """Show lines in the place of the page before; where standard output is no terminal, after it and a blank line.

    What does not fit is left out, and `rest`, given how many lines that are, says so in the last line.
    """
    if not sys.stdout.isatty():
        print(*lines, "", sep="\n", flush=True)
        return
    fit = max(2, shutil.get_terminal_size().lines - 1)
    if len(lines) > fit:
        lines = [*lines[: fit - 1], rest(len(lines) - fit + 1)] if rest else lines[:fit]
    print(_CLEAR + "\n".join(lines), flush=True)


def watch(
    read: Callable[[], Reading], show: Callable[[Reading, Reading, float], None], secs: float, count: int = 0
) -> None:
    """Read every `secs` seconds, `count` times or forever, and show two readings and the seconds between them."""
    before, then = read(), time.monotonic()
    due, rounds = then, 0
    while not count or rounds < count:
        # From the first moment on, not from the last: what a round takes adds up to nothing.
        due = max(due + secs, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        now, at = read(), time.monotonic()
        show(before, now, at - then)
        before, then, rounds = now, at, rounds + 1
