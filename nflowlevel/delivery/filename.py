# SPDX-License-Identifier: GPL-2.0-or-later
"""FileNames: names of files that follow one another, by a pattern of strftime, and which files have such a name."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Iterator

#: What a closed file may end in besides.
COMPRESSED = (".gz", ".zst")

_TWO = r"\d\d"
_CONVERSIONS = {
    **dict.fromkeys("dHIMmSUVWyCg", _TWO),
    "Y": r"\d{4}",
    "G": r"\d{4}",
    "j": r"\d{3}",
    "s": r"\d+",
    "u": r"\d",
    "w": r"\d",
    "F": r"\d{4}-\d\d-\d\d",
    "T": r"\d\d:\d\d:\d\d",
    "R": r"\d\d:\d\d",
    "z": r"[+-]\d{4}",
    "Z": r"\w+",
    **dict.fromkeys("aAbBp", r"[^/]+?"),
    "%": "%",
}
_CONVERSION = re.compile(r"%(.?)", re.DOTALL)


class FileNames:
    """The names that `pattern` gives: conversions of strftime in its last part, a path otherwise.

    Where a name is taken, a number follows: `x-20261127.pcap`, `x-20261127-1.pcap`, … ValueError for what is no
    pattern.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.directory, last = os.path.split(pattern)
        if "%" in self.directory:
            raise ValueError(f"{pattern}: only the name of the file may change, not its directory")
        used = _CONVERSION.findall(last)
        if unknown := [letter for letter in used if letter not in _CONVERSIONS]:
            raise ValueError(f"{pattern}: unknown conversion %{unknown[0]}; available: {', '.join(_CONVERSIONS)}")
        if not set(used) - {"%"}:
            raise ValueError(f"{pattern} is always the same name; put the time into it, as in NAME-%Y%m%d-%H%M%S.pcap")
        stem, extension = os.path.splitext(last)
        ends = "|".join(map(re.escape, COMPRESSED))
        self._regex = re.compile(rf"{_regex(stem)}(?:-\d+)?{_regex(extension)}(?:{ends})?")

    def at(self, when: float) -> Iterator[str]:
        """Yield the paths of a file that begins at that time, the best first."""
        stem, extension = os.path.splitext(time.strftime(os.path.basename(self.pattern), time.localtime(when)))
        for number in itertools.count():
            yield os.path.join(self.directory, f"{stem}-{number}{extension}" if number else stem + extension)

    def fresh(self, when: float) -> str:
        """Return the first of them that is not taken, by a compressed file neither."""
        return next(path for path in self.at(when) if not _is_taken(path))

    def to_continue(self, when: float, most_bytes: int = 0) -> str:
        """Return the newest of them that may grow, or else the first that is not taken."""
        candidates = self.at(when)
        path = next(candidates)
        for later in candidates:
            if not _is_taken(path):
                return path
            if not _is_taken(later) and not _is_compressed(path):
                return later if most_bytes and os.path.getsize(path) >= most_bytes else path
            path = later
        raise AssertionError("there is always another name")

    def existing(self, directory: int) -> list[str]:
        """Return the names of this pattern in a directory (a descriptor), those of compressed files too; OSError."""
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        try:
            return [name for name in os.listdir(fd) if self._regex.fullmatch(name)]
        finally:
            os.close(fd)


def _regex(text: str) -> str:
    parts = _CONVERSION.split(text)
    return "".join(_CONVERSIONS[part] if number % 2 else re.escape(part) for number, part in enumerate(parts))


def _is_compressed(path: str) -> bool:
    return any(os.path.lexists(path + suffix) for suffix in COMPRESSED)


def _is_taken(path: str) -> bool:
    return os.path.lexists(path) or _is_compressed(path)
