# SPDX-License-Identifier: GPL-2.0-or-later
"""Retention: how long, and up to which size, an archive keeps what it has. The oldest files go first."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple

from nflowlevel.archive.journal import Journal, Record
from nflowlevel.archive.layout import DAMAGED, DAY_SECS
from nflowlevel.archive.reader import stored_files
from nflowlevel.archive.schema import RELATIONS


class Removed(NamedTuple):
    """What retention removed."""

    files: int
    size: int
    """Bytes of these files."""


class _File(NamedTuple):
    last: float
    path: str
    size: int


def retain(
    journal: Journal, *, keep_days: int | None = None, keep_bytes: int | None = None, now: float | None = None
) -> Removed:
    """Remove files without a record of the last `keep_days` days, then the oldest ones above `keep_bytes`; OSError.

    Days are those of UTC, today is one of them. Nothing but files of the archive is removed, and the directories that
    are empty then.
    """
    kept = sorted(_files(journal.archive))
    gone: list[_File] = []
    if keep_days is not None:
        today = int(time.time() if now is None else now) // DAY_SECS
        first = (today - keep_days + 1) * DAY_SECS
        gone = [file for file in kept if file.last < first]
        kept = kept[len(gone) :]
    if keep_bytes is not None:
        total = sum(file.size for file in kept)
        while kept and total > keep_bytes:
            total -= kept[0].size
            gone.append(kept.pop(0))
    for file in gone:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file.path)
    for directory in {os.path.dirname(file.path) for file in gone}:
        _remove_empty(directory, journal.archive)
    _forget(journal)
    return Removed(len(gone), sum(file.size for file in gone))


def _files(archive: str) -> Iterator[_File]:
    for kind in RELATIONS:
        for file in stored_files(archive, kind):
            with contextlib.suppress(FileNotFoundError):
                yield _File(float(file.last), file.path, os.path.getsize(file.path))
    with contextlib.suppress(FileNotFoundError), os.scandir(os.path.join(archive, DAMAGED)) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if entry.name.endswith(".damaged") and stat.S_ISREG(status.st_mode):
                yield _File(status.st_mtime, entry.path, status.st_size)


def _remove_empty(directory: str, archive: str) -> None:
    with contextlib.suppress(OSError):  # not empty
        while directory != archive:
            os.rmdir(directory)
            directory = os.path.dirname(directory)


def _forget(journal: Journal) -> None:
    """Forget sources that are gone and of which nothing is left; one that is still there would be read again."""
    for record in list(journal.records):
        is_empty = not any(os.path.lexists(os.path.join(journal.archive, place)) for _, place in record.files)
        if is_empty and not _is_there(record):
            journal.forget(record)


def _is_there(record: Record) -> bool:
    try:
        status = os.stat(record.path, follow_symlinks=False)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (record.device, record.inode)
