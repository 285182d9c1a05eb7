# SPDX-License-Identifier: GPL-2.0-or-later
"""`nfl.read`: one log made of whatever holds records."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from nflowlevel.analytics.captured import capture_lines
from nflowlevel.analytics.databases import database_lines, sqlite_lines
from nflowlevel.analytics.engine import DuckDB
from nflowlevel.analytics.log import Log
from nflowlevel.analytics.progress import Progress
from nflowlevel.analytics.sources import Source, find
from nflowlevel.analytics.store import Store
from nflowlevel.analytics.wholelines import WholeLines
from nflowlevel.errors import NotSupported, printable

_PARQUET = b"PAR1"
_PARQUET_MIN_BYTES = 12


def read(*sources: str | os.PathLike[str], memory_limit: str | None = None) -> Log:
    """Open a log for questions: everything that the sources hold, as one.

    A source is a file, a directory, a pattern such as `"/var/log/ulogd.json*"`, or the URL of a database. What a file
    holds is told by how it begins; it may be compressed by gzip or zstd:

    - lines of JSON, as nflowlevel and ulogd2 write them (also with `eventv1`)
    - Parquet files of an archive
    - lines of the kernel's LOG target, of LOGEMU and SYSLOG
    - captures (pcap, pcapng)
    - databases with our tables or ulogd2's: SQLite, PostgreSQL (`postgresql://…`, `sqlite:///…`)

    Parquet files stay where they are. All else is read now, into a private temporary directory that goes with the log.
    Only whole lines count: one without a newline may be half of one. What is no record is counted, see `damaged`.
    memory_limit: most memory that DuckDB takes, such as `"2GB"`; what needs more goes to the temporary directory. A
        quarter of the machine's unless given.

    Raises FileNotFoundError, OSError or ValueError where a source cannot be read, and NotSupported without duckdb.
    """
    found = [each for source in sources for each in find(source)]
    if not found:
        raise ValueError('read: name what to read, such as nfl.read("/var/log/ulogd.json")')
    store = Store(memory_limit)
    try:
        _add(store, found)
    except BaseException:
        store.close()
        raise
    return Log(DuckDB(store))


def _add(store: Store, sources: list[Source]) -> None:
    archives = [Path(source.name) for source in sources if source.kind == "parquet"]
    store.add_archives("packets", list(_whole(store, archives)))
    others = [source for source in sources if source.kind not in ("parquet", "remote")]
    sizes = [_size(source) for source in others]
    with store.adding(), Progress(None if None in sizes else sum(filter(None, sizes))) as progress:
        done = 0
        for source, size in zip(others, sizes, strict=True):
            for position in _add_one(store, source):
                progress.show(source.name, done + position, store.records)
            done += size or 0
    store.make_views()


def _size(source: Source) -> int | None:
    return None if source.kind == "database" else Path(source.name).stat().st_size


def _whole(store: Store, paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the Parquet files that are whole: a single one that is not would break all questions."""
    for path in paths:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - len(_PARQUET)))
            if size >= _PARQUET_MIN_BYTES and file.read() == _PARQUET:
                yield path
            else:
                store.add_damage(str(path), 0, "a Parquet file without its end: it is being written, or cut")


def _add_one(store: Store, source: Source) -> Iterator[int]:
    """Add the records of a source; yield how far that is, in bytes of it."""
    name = source.name
    if source.kind == "json":
        with WholeLines(Path(name)) as lines:
            number = 1
            for chunk in lines.chunks():
                store.add_lines(chunk, name, number)
                number += chunk.count(b"\n")
                yield lines.position
            _add_rest(store, lines, number)
        return
    if source.kind == "capture":
        found = capture_lines(name, lambda reason: store.add_damage(name, 0, reason))
    elif source.kind == "sqlite":
        found = sqlite_lines(name)
    elif source.kind == "database":
        found = database_lines(name)
    else:
        raise NotSupported(f"reading {printable(name)}", found="lines of text", needed="lines of JSON")
    for chunk in found:
        store.add_lines(chunk, name)
        yield 0


def _add_rest(store: Store, lines: WholeLines, number: int) -> None:
    """Count what stands behind the last newline, and what could not be decompressed."""
    name = str(lines.path)
    if lines.fault:
        store.add_damage(name, number, lines.fault)
    elif lines.rest.strip():
        text = lines.rest.decode("utf-8", "replace")
        store.add_damage(name, number, "a line without an end: it is being written, or cut", text)
