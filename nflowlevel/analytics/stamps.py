# SPDX-License-Identifier: GPL-2.0-or-later
"""Times at the beginning of lines of a log: as syslog, rsyslog, journalctl, dmesg and OpenWrt write them.

A time without a zone is local time. One without a year gets the latest year that does not put it more than a day after
the file's last change (`changed`), or the year that is asked for.
"""

from __future__ import annotations

import calendar
import re
import time
from typing import NamedTuple

_DAY_SECS = 86_400
#: Entries of a table of what was met before; then it begins anew.
_REMEMBERED = 65_536
#: `Mmm dd hh:mm:ss` and a blank: many lines begin with the same.
_BSD_BYTES = 16
_MONTHS = {name: number for number, name in enumerate(calendar.month_abbr) if number}

_TIME = re.compile(
    r"(?:<\d{1,3}>)?(?:1 (?=\d{4}-))?"
    r"(?:kernel: (?=[A-Z][a-z]{2} ))?"
    r"(?:(?P<iso>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](?P<isofraction>\d{1,9}))?(?P<zone>Z|[+-]\d\d:?\d\d)?"
    r"|(?P<dmesg>\[)?(?P<weekday>(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?(?P<month>[A-Z][a-z]{2}) (?P<day>[ \d]?\d)"
    r" (?:(?P<before>\d{4}) )?(?P<clock>\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d{1,9}))?"
    r"(?(weekday) (?P<after>\d{4}))(?(dmesg)\]))"
    r"(?:[ :]|$) *",
    re.ASCII,
)


class Stamp(NamedTuple):
    """A time that a line begins with."""

    sec: int
    usec: int
    end: int
    """Where the line goes on behind it."""
    is_bracketed: bool
    """Whether it is one of dmesg's: no host follows."""


class Stamps:
    """Reads the times of one file. `changed` is when it was last written to; unless given, now."""

    def __init__(self, changed: float | None = None, *, year: int | None = None) -> None:
        self._year = year
        now = time.time() if changed is None else changed
        self._latest = now + _DAY_SECS
        self._known: dict[str, Stamp] = {}
        self._times: dict[tuple[str | None, ...], int] = {}

    def find(self, line: str) -> Stamp | None:
        """Return the time of a line; None: it begins with none."""
        begin = line[:_BSD_BYTES]
        if (known := self._known.get(begin)) is not None and line[_BSD_BYTES : _BSD_BYTES + 1] != " ":
            return known
        found = _TIME.match(line)
        if found is None or (when := self._when(found)) is None:
            return None
        stamp = Stamp(*when, found.end(), found["dmesg"] is not None)
        if stamp.end == _BSD_BYTES and found["month"] and not found["fraction"]:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[begin] = stamp
        return stamp

    def minute(self, begin: str, zone: str) -> int | None:
        """Return when a minute begins that lines write as `begin`, up to its last colon; `zone` is behind the seconds.

        None: it is no time, or its 60 seconds do not follow each other.
        """
        first, last = (self.find(f"{begin}{second}{zone} -") for second in ("00", "59"))
        if first is None or last is None or last.sec - first.sec != 59:
            return None
        return first.sec if first.end == last.end == len(begin) + len(zone) + 3 else None

    def _when(self, found: re.Match[str]) -> tuple[int, int] | None:
        iso, iso_fraction, zone, _, _, month, day, before, clock, fraction, after = found.groups()
        key = (iso, zone) if iso else (month, day, before or after, clock)
        second = self._times.get(key)
        if second is None:
            made = _of_iso(iso, zone) if iso else self._of_month(month, day, before or after, clock)
            second = -1 if made is None else made
            if len(self._times) >= _REMEMBERED:
                self._times.clear()
            self._times[key] = second
        if second < 0:
            return None
        part = iso_fraction or fraction
        return second, int((part + "00000")[:6]) if part else 0

    def _of_month(self, month: str, day: str, year: str | None, clock: str) -> int | None:
        number = _MONTHS.get(month)
        if number is None:
            return None
        if year is not None or self._year is not None:
            return _local(int(year or self._year or 0), number, int(day), clock)
        latest = time.localtime(self._latest).tm_year
        # Eight years: 29 February may be that far away.
        for candidate in range(latest, latest - 9, -1):
            second = _local(candidate, number, int(day), clock)
            if second is not None and second <= self._latest:
                return second
        return None


def _of_iso(text: str, zone: str | None) -> int | None:
    date, clock = text[:10], text[11:]
    year, month, day = map(int, date.split("-"))
    if zone is None:
        return _local(year, month, day, clock)
    parts = _parts(year, month, day, clock)
    if parts is None:
        return None
    shift = 0
    if zone != "Z":
        shift = (int(zone[1:3]) * 60 + int(zone[-2:])) * (-60 if zone[0] == "-" else 60)
    second = calendar.timegm(parts) - shift
    return second if second >= 0 else None


def _local(year: int, month: int, day: int, clock: str) -> int | None:
    parts = _parts(year, month, day, clock)
    if parts is None:
        return None
    try:
        second = int(time.mktime((*parts, 0, 0, -1)))
    except (OverflowError, ValueError):
        return None
    return second if second >= 0 else None


def _parts(year: int, month: int, day: int, clock: str) -> tuple[int, int, int, int, int, int] | None:
    hour, minute, second = map(int, clock.split(":"))
    # 60: a leap second.
    if not (1 <= month <= 12 and 1970 <= year <= 9999 and hour < 24 and minute < 60 and second <= 60):
        return None
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    return year, month, day, hour, minute, second
