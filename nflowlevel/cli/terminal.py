# SPDX-License-Identifier: GPL-2.0-or-later
"""What subcommands show on a terminal, or in a pipe: tables, pages, and the same again every so often."""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

Reading = TypeVar("Reading")

_CLEAR = "\x1b[H\x1b[2J"


def tolerate(encoding: str | None = None) -> None:
    """Let standard output escape what it cannot show, instead of failing; a name may hold any bytes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding=encoding or sys.stdout.encoding, errors="backslashreplace")


def width() -> int | None:
    """Return the columns of the terminal; None where standard output is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


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
