# SPDX-License-Identifier: GPL-2.0-or-later
"""Compaction: closed files of JSON lines become Parquet files of an archive, then they are removed.

Each record is in the archive once, whatever is killed when (journal.py). Memory is bounded: lines come in blocks, and
rows are written as soon as a file is full, sorted by time, a file for each kind of record, firewall and day.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

from nflowlevel import __version__
from nflowlevel.archive import engine
from nflowlevel.archive.journal import Journal, Record, Transaction, begins_of, footer
from nflowlevel.archive.layout import damaged_path, path_of
from nflowlevel.archive.rows import Rows
from nflowlevel.archive.source import Changed, LogSource, NotClosed, identity
from nflowlevel.errors import NflowError, printable
from nflowlevel.records.keys import Key

#: Rows of a file, but for the last one of a source or a day.
FILE_ROWS = 500_000
BLOCK_BYTES = 48 << 20
#: Most memory of rows, beside that of DuckDB: where lines are so long, a file has fewer rows.
HELD_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a file. `reason` says why it was left where it is."""

    path: str
    outcome: Literal["stored", "known", "left"]
    """`stored`: its records were archived now; `known`: they had been before; `left`: they are not archived."""
    records: int = 0
    damaged: int = 0
    files: int = 0
    removed: bool = False
    reason: str = ""
    is_growing: bool = False
    """Its last line has no newline, and is not archived yet."""
    is_compressed: bool = False


#: Makes lines of JSON of a block of other lines; the second argument is called with each line that is damaged.
Converter: TypeAlias = Callable[[bytes, Callable[[bytes], object]], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How files are compacted."""

    dvc: str = ""
    """The firewall's name for all records; empty: that of each record, else the host's name."""
    keep: bool = False
    """Leave the files where they are."""
    only_whole: bool = False
    """Take no last line that lacks a newline: it may be half of one. The file stays for it."""
    owners: Collection[int] = (0,)
    """Users whose files are taken where we are root."""
    min_age: float = 600.0
    """For how many seconds a file of a writer that locks nothing must not have changed."""
    added: tuple[Key, ...] = ()
    """Keys of columns that plugins add to packets."""
    convert: Callable[[LogSource], Converter | None] | None = None
    """Returns what makes lines of JSON of a source's lines; None: they are JSON already."""
    threads: int = 1
    memory_bytes: int = engine.MEMORY_BYTES
    progress: Callable[[int], None] | None = None
    """Called with the bytes of lines that were read since the last call."""


def compact(journal: Journal, path: str, settings: Settings, *, is_ours: bool = False) -> Result:
    """Read a closed file into the archive of a journal, and remove it; OSError, NflowError: nothing of it counts.

    `is_ours`: its writer is known to lock it. A file that is not closed, or is a copy of one that was archived, is
    left where it is.
    """
    try:
        with LogSource(
            path,
            owners=settings.owners,
            min_age=settings.min_age,
            is_ours=is_ours,
            only_whole=settings.only_whole,
        ) as source:
            return _compact(journal, source, settings)
    except (NotClosed, Changed) as error:
        return Result(path, "left", reason=str(error))
    except (OSError, engine.duckdb().Error) as error:  # a full disk, no memory
        if full := engine.fullness(error):
            place = printable(journal.archive, None)
            raise NflowError(f"write to {place}: {full}; the log stays as it is: make room, then do it again") from None
        if isinstance(error, OSError):
            raise
        raise NflowError(f"DuckDB: {engine.told(error)}") from None


def _compact(journal: Journal, source: LogSource, settings: Settings) -> Result:
    if not source.head:
        # All empty files look the same, and there is nothing that could be lost.
        removed = not settings.keep and source.remove()
        is_packed = source.is_compressed
        return Result(source.path, "stored", removed=removed, is_growing=source.is_growing, is_compressed=is_packed)
    if longer := journal.find_longer(source, settings.dvc):
        return _has_less(source, longer)
    known = journal.find(source, settings.dvc)
    if known:
        journal.move(known)  # the disk was full, a moment ago: the source must not go before its files are there
    size = source.count() if known else 0
    outcome: Literal["stored", "known"] = "known"
    record = known
    if known is None or size > known.end:
        record = _store(journal, source, settings, known)
        outcome = "known" if record is known else "stored"
        if record is None:
            return Result(source.path, "stored", is_growing=True, is_compressed=source.is_compressed)  # no whole line
    elif size < known.end:
        return _has_less(source, known)
    elif not _is_at_its_place(known, source):
        reason = f"it is a copy of {printable(known.path, None)}, which is archived"
        return Result(source.path, "left", reason=reason)
    assert record
    removed, reason = False, ""
    if not settings.keep and not source.is_growing:
        try:
            removed = source.remove()
        except (NotClosed, Changed) as error:
            reason = str(error)
    counts = (record.records, record.damaged, len(record.files)) if outcome == "stored" else (0, 0, 0)
    return Result(
        source.path,
        outcome,
        *counts,
        removed=removed,
        reason=reason,
        is_growing=source.is_growing,
        is_compressed=source.is_compressed,
    )


def _has_less(source: LogSource, known: Record) -> Result:
    reason = f"it begins as {printable(known.path, None)}, which is archived, but has less"
    return Result(source.path, "left", reason=reason)


def _is_at_its_place(record: Record, source: LogSource) -> bool:
    """Tell whether a known source is what was archived, perhaps renamed or compressed, and not a copy elsewhere."""
    is_same = (record.device, record.inode) == (source.device, source.inode)
    return is_same or os.path.dirname(record.path) == os.path.dirname(source.path)


def _store(journal: Journal, source: LogSource, settings: Settings, known: Record | None) -> Record | None:
    """Archive what is not known of a source, and return its record; where that is nothing, the known one."""
    start = known.end if known else source.padding
    # Where it has grown, its head may have, too: what is recorded says so much of it as can be told.
    name = identity(settings.dvc, source.head)
    about = {
        "source": name,
        "path": source.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        "device": source.device,
        "inode": source.inode,
        "head_bytes": len(source.head),
        "start": start,
        "dvc": settings.dvc,
    }
    with journal.transaction(f"{name}-{start}") as transaction, contextlib.ExitStack() as stack:
        database = stack.enter_context(
            contextlib.closing(
                engine.connect(transaction.directory, threads=settings.threads, memory_bytes=settings.memory_bytes)
            )
        )
        damaged = stack.enter_context(_Damaged(transaction, source))
        rows = Rows(database, dvc=settings.dvc, host=socket.gethostname(), damaged=damaged.add, added=settings.added)
        writer = _Writer(transaction, source, rows, about)
        convert = settings.convert(source) if settings.convert else None
        end = start
        for block in source.blocks(start, BLOCK_BYTES):
            before = rows.rows
            rows.add(convert(bytes(block), damaged.add) if convert else block)
            end += len(block)
            if settings.progress:
                settings.progress(len(block))
            if rows.rows + (rows.rows - before) > FILE_ROWS or rows.held_bytes > HELD_BYTES:
                writer.write()
        if end == start:
            return known
        writer.write()
        damaged.put(name, start)
        source.check()
        begins = begins_of(settings.dvc, source.head)
        return transaction.commit(**about, begins=begins, end=end, records=writer.records, damaged=damaged.lines)


class _Writer:
    """Writes rows to files of the transaction."""

    def __init__(self, transaction: Transaction, source: LogSource, rows: Rows, about: dict[str, object]) -> None:
        self._transaction, self._source, self._rows, self._about = transaction, source, rows, about
        self.records = 0
        self._number = 0

    def write(self) -> None:
        """Write the rows that wait."""
        for part in self._rows.slices():
            metadata = {
                "nflowlevel.version": __version__,
                "nflowlevel.relation": part.relation.name,
                "nflowlevel.source": footer(self._about),
            }
            name, start = str(self._about["source"]), int(str(self._about["start"]))
            place = path_of(part.relation.name, part.dvc, part.first, part.last, name, start, self._number)
            with self._transaction.file(place, self._source.mode, self._source.group) as fd:
                self._rows.write(part, fd, metadata)
            self._number += 1
            self.records += part.rows
        self._rows.clear()


class _Damaged:
    """Lines that are no records: kept in a file of the transaction, if there are any."""

    def __init__(self, transaction: Transaction, source: LogSource) -> None:
        self._transaction, self._source = transaction, source
        self.lines = 0
        self._path = os.path.join(transaction.directory, "damaged")

    def __enter__(self) -> _Damaged:
        self._file = open(self._path, "wb")
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def add(self, line: bytes) -> None:
        """Keep a line."""
        self._file.write(line)
        self.lines += 1

    def put(self, name: str, start: int) -> None:
        """Make them a file of the archive."""
        self._file.flush()
        if self.lines:
            place = damaged_path(os.path.basename(self._source.path), name, start)
            with (
                self._transaction.file(place, self._source.mode, self._source.group) as fd,
                open(self._path, "rb") as read,
            ):
                while piece := read.read(1 << 20):
                    _write_all(fd, piece)
        os.unlink(self._path)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
