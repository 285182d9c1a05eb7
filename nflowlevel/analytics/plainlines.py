# SPDX-License-Identifier: GPL-2.0-or-later
"""Plain lines of the kernel's LOG target, of LOGEMU and of SYSLOG become lines of JSON in C (_cdefs/logscan.c).

Most lines of a log are plain. All others are left to the reader of all forms (loglines.py), which is many times slower:
so what a line means, and what is damaged, is decided in one place. That reader is also what this one is tested by.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from nflowlevel.analytics.stamps import Stamps
from nflowlevel.binding._lib import ffi, lib

_ROOM_BYTES: Final = 1 << 20


class Read(NamedTuple):
    """What was read of some lines."""

    end: int
    """Where it stopped: at the end, or at a line that is not plain."""
    json: list[bytes]
    """Lines of JSON, in pieces."""
    lines: int
    packets: int
    other: int
    """Lines about something else than packets."""


class PlainLines:
    """Reads plain lines of one file, whose times `stamps` reads."""

    def __init__(self, stamps: Stamps) -> None:
        self._stamps = stamps
        self._plan = ffi.new("struct nfl_logscan *")
        self._out = ffi.new_allocator(should_clear_after_alloc=False)("char[]", _ROOM_BYTES)
        self._plan.out, self._plan.size = self._out, _ROOM_BYTES
        self._why = ffi.new("uint32_t *")

    def read(self, lines: bytes, start: int) -> Read:
        """Read lines from byte `start` on, up to the first that is not plain."""
        data, plan = ffi.from_buffer("char[]", lines), self._plan
        plan.lines = plan.packets = plan.other = 0
        at, made = start, []
        while True:
            at += lib.nfl_logscan_lines(plan, data + at, len(lines) - at, self._why)
            if self._why[0] == lib.NFL_LOGSCAN_TIME:
                self._learn()
                continue
            if plan.used:
                made.append(ffi.buffer(self._out, plan.used)[:])
                plan.used = 0
            if self._why[0] != lib.NFL_LOGSCAN_FULL:
                return Read(at, made, plan.lines, plan.packets, plan.other)

    def _learn(self) -> None:
        """Tell C when a minute begins."""
        asked = self._plan.asked
        begin, zone = ffi.buffer(asked.text, asked.length)[:], ffi.buffer(asked.zone, asked.zone_length)[:]
        found = self._stamps.minute(begin.decode("ascii"), zone.decode("ascii"))
        asked.sec = -1 if found is None else found
        self._plan.minutes[lib.nfl_logscan_place(ffi.addressof(asked))] = asked
