# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of the kernel's LOG target and of LOGEMU as lines of JSON: what loglines.py reads of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nflowlevel.analytics.loglines import LogLines
from nflowlevel.analytics.wholelines import WholeLines


def text_lines(
    lines: WholeLines, damaged: Callable[[int, str, str], None], year: int | None = None, behind: int = 0
) -> Iterator[tuple[bytes, int]]:
    """Yield the packets of a log's lines as lines of JSON, and the number of the first line they are of.

    `damaged` is told the number of a line that is about a packet and is none, the reason and its text. `year` is that
    of times that have none; unless given, the latest in which the file can have been written. The first `behind` bytes
    are left out.
    """
    reader = LogLines(lines.changed, year=year)
    lost: dict[str, int] = {}
    chunk, at, number = b"", 0, 1

    def lose(line: bytes) -> None:
        nonlocal at, number
        number += chunk.count(b"\n", at, reader.at)
        at = reader.at
        now = reader.counts.lost()
        reason = next(name for name, count in now.items() if count != lost.get(name))
        lost.update(now)
        damaged(number, _REASONS[reason], line.decode("utf-8", "replace").removesuffix("\n"))

    for chunk in lines.chunks(behind):
        first, at = number, 0
        if found := reader.json(chunk, lose):
            yield found, first
        number += chunk.count(b"\n", at)
    if number > 1 and not reader.counts.packets:
        damaged(0, "no line of it is a packet", "")


_REASONS = {
    "cut": "a packet that is cut",
    "without_time": "a packet without a time",
    "wrong": "a packet with a number or an address that none has",
}
