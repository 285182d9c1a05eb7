# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files of an archive answer a question about a span of time: told by their paths alone, none is opened.

What is unfinished is not among them, and neither is anything that only lies in the directory: a cut file, or one of a
copy that is under way, breaks no query. The files that were made of a log count together, when all of them are at their
places. After a kill in the middle of moving them, none does until the next compaction: their records are in the log.
"""

from __future__ import annotations

import calendar
import os
import stat
import time
from collections.abc import Iterator
from typing import Final

from nflowlevel.archive.journal import Record, read_records, record_names
from nflowlevel.archive.layout import DAY_SECS, WORK, Stored, escaped, stored
from nflowlevel.archive.schema import relation
from nflowlevel.archive.source import HEAD_BYTES, identity


class Snapshot:
    """An archive as it is when this is made; OSError: it cannot be read.

    Compactions that go on meanwhile change nothing of it: who reads a log beside the archive meets each record once.
    """

    def __init__(self, archive: str | os.PathLike[str]) -> None:
        self.archive: Final = os.fspath(archive)
        self._work: Final = os.path.join(self.archive, WORK)
        #: Sources, by their names in the journal, whose files are at their places.
        self.settled, self.moving = record_names(self._work)
        #: The files that `stored_files` met at their places and left out, by the names of their sources.
        self.left_out: dict[str, set[str]] = {}

    def records(self) -> list[Record]:
        """Return what the journal says of the sources that are in the archive; NflowError: a record is damaged."""
        return [record for record in read_records(self._work) if record.name in self.settled]

    def unsettled(self) -> list[Record]:
        """Return what the journal says of the sources whose files are being moved; NflowError: a record is damaged."""
        return [record for record in read_records(self._work) if record.name in self.moving]

    def stored_files(
        self,
        kind: str = "packets",
        *,
        since: int | None = None,
        until: int | None = None,
        dvc: str | None = None,
    ) -> list[Stored]:
        """Return files as the function `stored_files` does."""
        relation(kind)
        found = [
            file
            for file in _walk(self.archive, kind, since, until, dvc)
            if (since is None or file.last >= since) and (until is None or file.first < until)
        ]
        # Looked at after the files: what was moved while they were listed is among these.
        now, moving = record_names(self._work)
        late = (self.moving | now | moving) - self.settled
        for file in found:
            if file.record in self.moving & moving:
                self.left_out.setdefault(file.record, set()).add(file.path)
        return sorted(
            (file for file in found if file.record not in late),
            key=lambda file: (file.first, file.path),
        )


def stored_files(
    archive: str | os.PathLike[str] | Snapshot,
    kind: str = "packets",
    *,
    since: int | None = None,
    until: int | None = None,
    dvc: str | None = None,
) -> list[Stored]:
    """Return the files that may have records from the second `since` on and before `until`, in the order of time.

    Both are seconds since 1970; without one, there is no such limit. `dvc`: only those of this firewall. The paths
    begin with `archive`. ValueError: there is no such kind of records; OSError: the archive cannot be read.
    """
    snapshot = archive if isinstance(archive, Snapshot) else Snapshot(archive)
    return snapshot.stored_files(kind, since=since, until=until, dvc=dvc)


def files(
    archive: str | os.PathLike[str] | Snapshot,
    kind: str = "packets",
    *,
    since: int | None = None,
    until: int | None = None,
    dvc: str | None = None,
) -> list[str]:
    """Return the paths of `stored_files`, for read_parquet.

    Versions with other keys wrote other columns: read them with `union_by_name=true`. A path is no pattern, so what is
    special in one has to be escaped where names of directories hold it: see `escape_pattern`.
    """
    return [file.path for file in stored_files(archive, kind, since=since, until=until, dvc=dvc)]


def newest(archive: str | os.PathLike[str], kind: str = "packets") -> int | None:
    """Return the second of the newest record, since 1970; None where there is none."""
    return max((file.last for file in stored_files(archive, kind)), default=None)


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Tell whether a directory looks like an archive."""
    try:
        return any(name.startswith("kind=") or name == WORK for name in os.listdir(path))
    except OSError:
        return False


def holds(archive: str | os.PathLike[str], head: bytes, size: int) -> bool:
    """Tell whether all lines of a log are in the archive: who reads both must not count them twice.

    `head` are the first 64 KiB of its lines, or all of them, `size` how many bytes of lines it has.
    """
    head = head[:HEAD_BYTES]
    return any(
        record.end >= size and record.head_bytes == len(head) and record.source == identity(record.dvc, head)
        for record in Snapshot(archive).records()
    )


def escape_pattern(path: str) -> str:
    """Return a path as DuckDB's functions want it, which take what they are given for a pattern."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)


def _walk(archive: str, kind: str, since: int | None, until: int | None, dvc: str | None) -> Iterator[Stored]:
    top = os.path.join(archive, f"kind={kind}")
    for firewall in _directories(top, "dvc="):
        name = os.path.basename(firewall).removeprefix("dvc=")
        if dvc is not None and name != escaped(dvc):
            continue
        for day in _directories(firewall, "day="):
            if not _touches(os.path.basename(day).removeprefix("day="), since, until):
                continue
            with os.scandir(day) as entries:
                for entry in entries:
                    # No link either: it may lead anywhere.
                    if (found := stored(entry.path)) and stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                        yield found


def _directories(path: str, begins: str) -> Iterator[str]:
    try:
        with os.scandir(path) as entries:
            found = sorted(e.path for e in entries if e.name.startswith(begins) and e.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return
    yield from found


def _touches(day: str, since: int | None, until: int | None) -> bool:
    try:
        midnight = calendar.timegm(time.strptime(day, "%Y-%m-%d"))
    except ValueError:
        return False
    return (since is None or midnight + DAY_SECS > since) and (until is None or midnight < until)
