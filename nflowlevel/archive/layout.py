# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things are in an archive. The path of a file says what is in it, so that a question opens only what it needs.

    kind=packets/dvc=fw1/day=2026-11-27/070000-075959-0f3c…-0-0.parquet
    damaged/ulogd.json.1-0f3c….0.damaged
    .compact/                         the work of `nflowlevel compact`: a lock, records of sources, unfinished files

The name begins with the times of the first and the last record in the file, in UTC as the day is. The parts behind them
name the source (journal.py), from which of its bytes on it was read, and the number of the file among those of the
source.
"""

from __future__ import annotations

import calendar
import hashlib
import re
import time
from pathlib import PurePosixPath
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from nflowlevel.archive.schema import RELATIONS

DAMAGED: Final = "damaged"
#: Spark and DuckDB leave out what begins with a dot.
WORK: Final = ".compact"

DAY_SECS: Final = 86_400
#: A directory of this name is what Hive, Spark and DuckDB read as no value.
_NO_NAME = "__HIVE_DEFAULT_PARTITION__"
_LONGEST_NAME = 200
#: A character of several bytes that is cut off, or one byte of it.
_WHOLE = re.compile(r"(?:%[89A-F][0-9A-F])*(?:%[0-9A-F]?)?$")

_PATH = re.compile(
    r"(?:.*/)?kind=(?P<kind>\w+)/dvc=(?P<dvc>[^/]+)/day=(?P<day>\d{4}-\d\d-\d\d)/"
    r"(?P<first>\d{6})-(?P<last>\d{6})-(?P<source>[0-9a-f]+)-(?P<start>\d+)-(?P<number>\d+)\.parquet"
)


class Stored(NamedTuple):
    """What the path of a Parquet file says."""

    path: str
    kind: str
    dvc: str
    first: int
    """Second since 1970 of its first record."""
    last: int
    """Second since 1970 of its last record."""
    source: str
    start: int

    @property
    def day(self) -> int:
        """Its day: days since 1970."""
        return self.first // DAY_SECS

    @property
    def record(self) -> str:
        """The name that its source has in the journal."""
        return f"{self.source}-{self.start}"


def path_of(kind: str, dvc: str, first: int, last: int, source: str, start: int, number: int) -> str:
    """Return the path, in the archive, of a file of records of one day from the second `first` to `last`."""
    begin, end = time.gmtime(first), time.gmtime(last)
    day = time.strftime("%Y-%m-%d", begin)
    span = time.strftime("%H%M%S", begin) + "-" + time.strftime("%H%M%S", end)
    return f"kind={kind}/dvc={escaped(dvc)}/day={day}/{span}-{source}-{start}-{number}.parquet"


def stored(path: str) -> Stored | None:
    """Return what a path says; None where it is none of the archive's files."""
    found = _PATH.fullmatch(path)
    if not found or found["kind"] not in RELATIONS:
        return None
    try:
        midnight = calendar.timegm(time.strptime(found["day"], "%Y-%m-%d"))
    except ValueError:
        return None
    first, last = (midnight + _second(found[name]) for name in ("first", "last"))
    return Stored(path, found["kind"], unescaped(found["dvc"]), first, last, found["source"], int(found["start"]))


def _second(text: str) -> int:
    return int(text[:2]) * 3600 + int(text[2:4]) * 60 + int(text[4:])


def escaped(dvc: str) -> str:
    """Return a firewall's name as a part of a path: what a name of a file cannot hold is written as %XX.

    Of a name that is too long, the beginning is followed by a hash of all of it.
    """
    raw = dvc.encode("utf-8", "replace")
    text = quote(raw, safe="") or _NO_NAME
    if text.startswith("."):
        text = "%2E" + text[1:]
    if len(text) > _LONGEST_NAME:
        text = _WHOLE.sub("", text[: _LONGEST_NAME - 20]) + "~" + hashlib.sha256(raw).hexdigest()[:16]
    return text


def unescaped(text: str) -> str:
    """Return the firewall's name that `escaped` has written."""
    return "" if text == _NO_NAME else unquote(text)


def damaged_path(name: str, source: str, start: int) -> str:
    """Return the path, in the archive, of the lines of a source that are no records."""
    kept = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:100].lstrip(".")
    return str(PurePosixPath(DAMAGED) / f"{kept}-{source}-{start}.damaged")
