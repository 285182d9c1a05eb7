# SPDX-License-Identifier: GPL-2.0-or-later
"""Journal: what was read into an archive, so that each record is in it once, whatever is killed when.

The files that are made of a source are written aside, in `.compact/SOURCE-START/`, and forced to the disk. Then a
record that lists them is written to `.compact/SOURCE-START.json`: that is the moment in which they count. After it they
are moved to their places; whoever opens the archive next finishes what a kill left undone. What lies aside without a
record is removed. The source goes last. Its record stays, and says of a file that is met again that it is in the
archive.

Who reads the archive meanwhile sees none of the files of a record as long as its directory aside is there, whatever was
moved already: their records are in the source (reader.py).

A source is known by the first 64 KiB of its lines and by their length: a log that is compressed later, or copied, is
the same source, and so is one that begins with all lines of a shorter one. `START` is the byte from which on it was
read: not 0 where a file has grown after it had been archived.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from typing import Any, Final

from msgspec import DecodeError, Struct, ValidationError
from msgspec import json as msgjson

from nflowlevel.archive.layout import DAMAGED, WORK
from nflowlevel.archive.source import HEAD_BYTES, LogSource, identity
from nflowlevel.binding.durable import sync_directory
from nflowlevel.binding.rootpath import open_plain, place_of
from nflowlevel.errors import NflowError

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_RECORD = ".json"
#: The file that a compaction locks.
LOCK: Final = "lock"
_SOURCE, _ASIDE = re.compile("[0-9a-f]+"), re.compile(r"[0-9]+\.tmp")
_NAME = re.compile("[0-9a-f]+-[0-9]+")


class Record(Struct, frozen=True, kw_only=True):
    """What was made of a source; `files` are its files: the name aside, and the path in the archive."""

    source: str
    path: str
    device: int
    inode: int
    head_bytes: int
    start: int
    end: int
    """Bytes of lines up to which it was read."""
    dvc: str
    records: int
    damaged: int
    files: list[tuple[str, str]]
    begins: list[str] = []
    """What identifies its first 1, 2, 4, 8 … lines, as far as they are in its head: see `is_begin_of`."""

    @property
    def name(self) -> str:
        """Its name in the journal."""
        return f"{self.source}-{self.start}"


class Journal:
    """The journal of the archive in the directory `archive`, which is made if there is none. Use it as a context.

    NflowError: another compaction is at work; or a directory of the archive is a symbolic link, or, where we are root,
    others can change what is in it.
    """

    def __init__(self, archive: str) -> None:
        self.archive: Final = os.path.abspath(archive)
        self.directory: Final = os.path.join(self.archive, WORK)
        self._lock = -1
        self.records: list[Record] = []

    def __enter__(self) -> Journal:
        _refuse_foreign(self.archive)
        make_directory(self.archive)
        _refuse_foreign(self.archive)
        make_directory(self.directory)
        _check_directories(self.archive)
        self._lock = open_plain(os.path.join(self.directory, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise NflowError(f"{self.archive}: another compaction is at work; wait until it has ended") from None
            self.records = read_records(self.directory)
            self._finish()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._lock)

    def find(self, source: LogSource, dvc: str) -> Record | None:
        """Return the last record of a source, and of what it was before it was compressed, copied or extended."""
        place = (source.device, source.inode)
        known = [found for found in self.records if found.dvc == dvc and is_of(found, source.head, place)]
        return max(known, key=lambda found: found.end, default=None)

    def find_longer(self, source: LogSource, dvc: str) -> Record | None:
        """Return the record of a source that begins with all lines of this one, and has more in its head."""
        return next((found for found in self.records if found.dvc == dvc and is_begin_of(source.head, found)), None)

    def forget(self, record: Record) -> None:
        """Remove a record: neither its source nor anything made of it exists any more. OSError."""
        os.unlink(os.path.join(self.directory, record.name + _RECORD))
        self.records.remove(record)

    def _finish(self) -> None:
        """Move what counts to its place, and remove what does not."""
        counts = {record.name: record for record in self.records}
        for name in os.listdir(self.directory):
            path = os.path.join(self.directory, name)
            if name in counts:
                self.move(counts[name])
            elif name != LOCK and not name.endswith(_RECORD):
                shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)

    def move(self, record: Record) -> None:
        """Move the files of a record to their places; those that were moved already stay there. OSError."""
        aside = os.path.join(self.directory, record.name)
        if not os.path.isdir(aside):
            return
        changed = set()
        for name, place in record.files:
            target = os.path.join(self.archive, place)
            make_directory(os.path.dirname(target))
            with contextlib.suppress(FileNotFoundError):
                os.rename(os.path.join(aside, name), target)
            changed.add(os.path.dirname(target))
        for directory in changed:
            sync_directory(directory)
        shutil.rmtree(aside)
        sync_directory(self.directory)

    @contextlib.contextmanager
    def transaction(self, name: str) -> Iterator[Transaction]:
        """Begin to read a source; what was not committed at the end is removed."""
        made = Transaction(self, name)
        try:
            yield made
        finally:
            made.close()


class Transaction:
    """Files that are made of one source. `directory` is where they lie aside."""

    def __init__(self, journal: Journal, name: str) -> None:
        self._journal, self._name = journal, name
        self.directory: Final = os.path.join(journal.directory, name)
        self._files: list[tuple[str, str]] = []
        self._is_committed = False
        make_directory(self.directory, 0o700)

    @contextlib.contextmanager
    def file(self, place: str, mode: int, group: int) -> Iterator[int]:
        """Make a file that gets this path in the archive, and force it to the disk; OSError.

        Where we are root it gets this group, so that who could read the source can read it.
        """
        name = f"{len(self._files)}.tmp"
        fd = os.open(os.path.join(self.directory, name), _NEW, 0o600)
        try:
            yield fd
            os.fchmod(fd, 0o600 | mode & 0o044)
            if os.geteuid() == 0:
                os.fchown(fd, -1, group)
            os.fsync(fd)
        finally:
            os.close(fd)
        self._files.append((name, place))

    def commit(self, **about: Any) -> Record:
        """Let what was made count: `about` are the fields of the record but for its files. Then move it. OSError."""
        sync_directory(self.directory)
        record = Record(files=self._files, **about)
        directory = self._journal.directory
        aside = os.path.join(self.directory, "record.tmp")
        fd = os.open(aside, _NEW, 0o600)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(msgjson.encode(record))
            os.fchmod(fd, 0o644)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(aside, os.path.join(directory, record.name + _RECORD))
        self._is_committed = True
        self._journal.records.append(record)
        sync_directory(directory)
        self._journal.move(record)
        return record

    def close(self) -> None:
        """Remove what does not count."""
        if not self._is_committed:
            shutil.rmtree(self.directory, ignore_errors=True)


def is_of(record: Record, head: bytes, place: tuple[int, int] | None = None) -> bool:
    """Tell whether a log with this head is the source of a record, perhaps extended. `place`: its device and inode."""
    if not 0 < record.head_bytes <= len(head) or identity(record.dvc, head[: record.head_bytes]) != record.source:
        return False
    # Lines behind a short head were compared with nothing: another log may begin with the same ones.
    is_compared = record.head_bytes == HEAD_BYTES or record.end <= record.start + record.head_bytes
    return is_compared or (record.device, record.inode) == place


def begins_of(dvc: str, head: bytes) -> list[str]:
    """Return what identifies the first 1, 2, 4, 8 … lines of a head."""
    found, at, lines = [], 0, 0
    for wanted in (1 << power for power in range(head.count(b"\n").bit_length())):
        while lines < wanted:
            at, lines = head.index(b"\n", at) + 1, lines + 1
        found.append(identity(dvc, head[:at]))
    return found


def is_begin_of(head: bytes, record: Record) -> bool:
    """Tell whether a log with this head, which is all of it, has less than the source of a record, and begins as it.

    That is so where at least half of its lines are those of the source: of a source, but few beginnings are known.
    """
    found = begins_of(record.dvc, head) if len(head) < record.head_bytes else []
    return bool(found) and found[-1:] == record.begins[len(found) - 1 : len(found)]


def record_names(directory: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of records of a journal's directory: those whose files are at their places, and the others.

    OSError: it cannot be read. To know the others needs no right to see their files. What only has the name of a
    directory aside, as a file or a link, is none.
    """
    found, aside = set(), set()
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith(_RECORD):
                    found.add(entry.name.removesuffix(_RECORD))
                elif _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                    aside.add(entry.name)
    except FileNotFoundError:
        return frozenset(), frozenset()
    return frozenset(found - aside), frozenset(found & aside)


def read_records(directory: str) -> list[Record]:
    """Return the records of a journal's directory, none where it does not exist; NflowError: one is damaged."""
    found = []
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    for name in names:
        path = os.path.join(directory, name)
        if name.endswith(_RECORD):
            try:
                # Neither a link nor a FIFO: it may be somebody else's archive.
                with open(open_plain(path, os.O_RDONLY), "rb") as file:
                    text = file.read()
            except FileNotFoundError:
                continue  # forgotten just now
            try:
                found.append(_checked(msgjson.decode(text, type=Record), name))
            except (DecodeError, ValidationError, ValueError) as error:
                raise NflowError(
                    f"{path} is no record of a source ({error}): restore or remove it; without it, its source counts "
                    "as not archived"
                ) from None
    return found


def _checked(record: Record, file: str) -> Record:
    """Return a record of that file; ValueError: it leads to files that are not the archive's."""
    if not _SOURCE.fullmatch(record.source) or record.start < 0 or record.name + _RECORD != file:
        raise ValueError("it is that of another source")
    for name, place in record.files:
        parts = place.split("/")
        if not _ASIDE.fullmatch(name) or {"", ".", ".."} & set(parts) or parts[0].startswith(".") or "\0" in place:
            raise ValueError(f"{name!r} or {place!r} is no file of an archive")
    return record


def footer(record: dict[str, Any]) -> str:
    """Return what the footer of a Parquet file says of its source: JSON."""
    return json.dumps(record)


def make_directory(path: str, mode: int = 0o755) -> None:
    """Make a directory and those that it is in, where they are missing, and force their names to the disk; OSError."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent != path:
        make_directory(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)
    sync_directory(parent)


def _refuse_foreign(archive: str) -> None:
    """Refuse, where we are root, a directory that somebody else can change: we write and remove by name in it."""
    if os.geteuid():
        return
    path, is_last = os.path.join(archive, WORK), True
    while True:
        try:
            with place_of(path) as place:
                here = os.fstat(place.directory)
                # In a directory such as /tmp nobody else can rename what we make.
                is_made = not is_last and here.st_uid == 0 and bool(here.st_mode & stat.S_ISVTX)
                is_roots = place.is_roots or is_made
            break
        except FileNotFoundError:  # what is missing is made in the one above
            path, is_last = os.path.dirname(path), False
    if not is_roots:
        raise NflowError(_FOREIGN.format(archive))


_FOREIGN = (
    "{}: others than root can change what is in this directory; give it and those above it to root, or run this as the "
    "user whose it is"
)


def _check_directories(archive: str) -> None:
    """Refuse directories of an archive that are links, which no reader follows, or, where we are root, not root's."""
    for path in (os.path.join(archive, WORK), os.path.join(archive, DAMAGED), *_directories(archive, _LEVELS)):
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            raise NflowError(f"{path}: it is no directory but in the place of one of the archive; remove it")
        others = stat.S_IWOTH if status.st_gid == 0 else stat.S_IWGRP | stat.S_IWOTH
        if os.geteuid() == 0 and (status.st_uid or status.st_mode & others):
            raise NflowError(_FOREIGN.format(path))


_LEVELS = ("kind=", "dvc=", "day=")


def _directories(path: str, levels: tuple[str, ...]) -> Iterator[str]:
    """Yield the paths of an archive's directories, each before those in it: a link is refused before it is followed."""
    with os.scandir(path) as entries:
        found = sorted(entry.path for entry in entries if entry.name.startswith(levels[0]))
    for each in found:
        yield each
        if len(levels) > 1:
            yield from _directories(each, levels[1:])
