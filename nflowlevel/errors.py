# SPDX-License-Identifier: GPL-2.0-or-later
"""Every error nflowlevel raises.

    NflowError
    ├── ConfigError      a configuration file or an option is wrong (file, line)
    ├── CaptureError     a capture file is cut or is none (file, at which byte, packets before it)
    ├── KernelError      the kernel refused a request (also an OSError: has errno)
    ├── NotSupported     this machine lacks a feature (what was found, what is needed)
    ├── StackError       a stack cannot be built or started
    └── OutputError      a target cannot be written (retryable or not)

Wrong arguments of a call are TypeError or ValueError. A message says what was tried, what happened and
what to do about it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable


class NflowError(Exception):
    """Base of all errors raised by nflowlevel."""


class ConfigError(NflowError):
    """A configuration is wrong; `file` and `line` say where (line 0: the file as a whole)."""

    def __init__(self, message: str, *, file: str = "", line: int = 0) -> None:
        self.message, self.file, self.line = message, file, line
        where = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(where + message)


class CaptureError(NflowError):
    """A file is not a capture file, or it is cut or damaged.

    `file` is its name, `at` the byte from which on it cannot be read (of the uncompressed data), `packets` how many
    came before that.
    """

    def __init__(self, message: str, *, file: str = "", at: int = 0, packets: int = 0) -> None:
        self.file, self.at, self.packets = file, at, packets
        super().__init__(f"read {file}: {message}" if file else message)


class KernelError(NflowError, OSError):
    """The kernel refused a request. `errno` is its answer, `hint` what to do about it."""

    def __init__(self, tried: str, errno: int, hint: str = "") -> None:
        self.tried, self.hint = tried, hint
        text = f"{tried}: {os.strerror(errno)}" + (f" — {hint}" if hint else "")
        OSError.__init__(self, errno, text)

    def __str__(self) -> str:
        return str(self.strerror)


class NotSupported(NflowError):
    """A feature is missing here: `feature`, what was `found`, what is `needed`."""

    def __init__(self, feature: str, *, found: str, needed: str) -> None:
        self.feature, self.found, self.needed = feature, found, needed
        super().__init__(f"{feature} is not available: found {found}; needed: {needed}")


class StackError(NflowError):
    """A stack cannot be built or started."""


class OutputError(NflowError):
    """A target cannot be written. `retryable` is False if trying again cannot help."""

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        self.retryable = retryable
        super().__init__(message)


_MOST_COMPARED = 500


def plural(number: int, word: str) -> str:
    """Return a word as it stands behind a number: `1 packet`, `2 packets`, `0 packets`."""
    return word if number == 1 else f"{word}s"


def counted(number: int, word: str) -> str:
    """Return how many there are of something: `1 packet`, `2,000 packets`."""
    return f"{number:,} {plural(number, word)}"


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Return ` — did you mean 'x'?` for the nearest of the known names, or an empty string.

    `likeness` is how much of the names must be the same (0 to 1). Of very many names only one that differs in case is
    found: comparing takes time for each.
    """
    import difflib  # a daemon whose configuration is right starts without it

    known = list(known)
    match = difflib.get_close_matches(name, known, 1, likeness) if len(known) <= _MOST_COMPARED else []
    if not match:
        lowered = {k.lower(): k for k in known}
        match = [lowered[name.lower()]] if name.lower() in lowered else []
    return f" — did you mean '{match[0]}'?" if match else ""


def choice(name: str, known: Iterable[str]) -> str:
    """Return what helps whoever wrote `name`: the nearest of the known names, or all of them where none is near."""
    known = list(known)
    return nearest(name, known) or f"; available: {', '.join(known)}"


def printable(text: str, most: int | None = 80, *, keep: str = "") -> str:
    """Return `text` fit for a terminal or a log, cut where it is longer than `most` characters; None: never.

    What others choose (names of interfaces, processes, rules; prefixes) may hold anything: what moves a cursor, sets
    colours, ends or reverses a line is escaped, and bytes that are not UTF-8. `keep` are characters that stay. Paths
    and URLs are never cut: their end says which is meant.
    """
    shown = text if most is None else text[:most]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in shown)
    return shown + "…" if most is not None and len(text) > most else shown
