# SPDX-License-Identifier: GPL-2.0-or-later
"""`nfl.read`: one log made of whatever holds records."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from nflowlevel.analytics.captured import capture_lines
from nflowlevel.analytics.databases import database_lines, sqlite_lines
from nflowlevel.analytics.engine import DuckDB
from nflowlevel.analytics.log import Log
from nflowlevel.analytics.placed import Placed
from nflowlevel.analytics.progress import Progress
from nflowlevel.analytics.sources import Repeated, Source, file_identity, find, once
from nflowlevel.analytics.store import Store
from nflowlevel.analytics.texts import text_lines
from nflowlevel.analytics.wholelines import WholeLines
from nflowlevel.archive import engine
from nflowlevel.archive.journal import LOCK, Record, is_begin_of, is_of
from nflowlevel.archive.layout import WORK
from nflowlevel.archive.reader import Snapshot, files
from nflowlevel.archive.rotated import is_locked
from nflowlevel.archive.schema import RELATIONS
from nflowlevel.archive.source import HEAD_BYTES
from nflowlevel.binding.rootpath import open_to_read
from nflowlevel.errors import counted

_PARQUET = b"PAR1"
_PARQUET_MIN_BYTES = 12
_PARQUET_END = struct.Struct("<I4s")
#: With a hundred columns a file of ours has some KiB of it for each 100,000 records. DuckDB keeps it in memory.
_MOST_FOOTER_BYTES = 64 << 20
#: How often, and after which pause, an archive is looked at again that changes just then.
_MOST_ATTEMPTS, _ATTEMPT_SECS = 20, 0.1


def read(
    *sources: str | os.PathLike[str],
    year: int | None = None,
    mmdb: Sequence[str] = (),
    networks: str | None = None,
    memory_limit: str | None = None,
) -> Log:
    """Open a log for questions: everything that the sources hold, as one.

    A source is a file, a directory, a pattern such as `"/var/log/ulogd.json*"`, or the URL of a database. What a file
    holds is told by how it begins; it may be compressed by gzip, xz, bzip2 or zstd:

    - lines of JSON, as nflowlevel and ulogd2 write them (also with `eventv1`)
    - Parquet files, or the directory of an archive; a log that is in the archive, too, counts once
    - lines of the kernel's LOG target, of LOGEMU and SYSLOG
    - captures (pcap, pcapng)
    - databases with our tables or ulogd2's: SQLite (`sqlite:///…`), PostgreSQL (`postgresql://…`), MySQL and MariaDB
      (`mysql://…`)
    - archives in an object store that speaks as Amazon's S3 does: `s3://bucket/archive`, and
      `s3://bucket/archive?endpoint=https://minio.example:9000` (docs/analytics.md). They are listed at the first
      question. Other stores (`gs://…`, `hdfs://…`) are for Spark: see `Log.on`.

    Parquet files stay where they are. All else is read now, into a private temporary directory that goes with the log.
    What is named twice, by whatever names, also in a directory or an archive, is read once: see `repeated`.
    Only whole lines count: one without a newline may be half of one, unless it is the last of a compressed file and a
    whole object of JSON, or ends in a mark. What is no record is counted, see `damaged`.

    year: the year of lines whose time has none; unless given, the latest in which the file can have been written.
    mmdb: databases in MaxMind's format that are asked for countries and networks, before the registries' own tables.
    networks: a CSV file `network,name` with names of one's own.
    memory_limit: most memory that DuckDB takes, such as `"2GB"`; what needs more goes to the temporary directory. A
        quarter of the machine's, or of what a limit of this process or its control group leaves, unless given.

    Raises FileNotFoundError, OSError or ValueError where a source cannot be read, and NotSupported without duckdb.
    """
    found, repeated = once(each for source in sources for each in find(source))
    if not found:
        raise ValueError('read: name what to read, such as nfl.read("/var/log/ulogd.json")')
    store = Store(memory_limit)
    store.repeated += repeated
    try:
        _add(store, found, year)
    except BaseException as error:
        store.close()
        if isinstance(error, (OSError, engine.duckdb().Error)) and engine.fullness(error):
            raise OSError(errno.ENOSPC, engine.told(error), str(store.directory)) from None
        raise
    return Log(DuckDB(store), placed=Placed(mmdb, networks))


def _add(store: Store, sources: list[Source], year: int | None) -> None:
    archives = [source.name for source in sources if source.kind == "archive"]
    records, listed, snapshots = _settled(archives)
    for name, paths in listed.items():
        store.add_archives(name, _whole(store, paths))
    alone = _whole(store, _not_in(store, listed, [source.name for source in sources if source.kind == "parquet"]))
    for name, paths in store.relations_of(alone).items():
        store.add_archives(name, paths)
    store.remote += [source.name for source in sources if source.kind == "remote"]
    others = [source for source in sources if source.kind not in ("archive", "parquet", "remote")]
    _tell_left_out(store, snapshots, others)
    sizes = [_size(source) for source in others]
    with Progress(None if None in sizes else sum(filter(None, sizes))) as progress:
        done = 0
        for source, size in zip(others, sizes, strict=True):
            for position in _add_one(store, source, records, year):
                progress.show(source.shown, done + position, store.records)
            done += size or 0
    store.make_views()


def _settled(archives: Sequence[str]) -> tuple[list[Record], dict[str, list[str]], list[Snapshot]]:
    """Return the sources that are in the archives and the files of each relation, both of one moment, and that one.

    A compaction that ends in between would let records count twice, or not at all: their log is said to be in an
    archive whose files were listed before. It is waited for a moment while files are moved to their places. After a
    kill nobody moves them: what was moved is left out, as the log with the same records is still there.
    """
    for attempt in range(_MOST_ATTEMPTS):
        if attempt:
            time.sleep(_ATTEMPT_SECS)
        snapshots = [Snapshot(archive) for archive in archives]
        records = [record for snapshot in snapshots for record in snapshot.records()]
        listed = {name: [path for snapshot in snapshots for path in files(snapshot, name)] for name in RELATIONS}
        now = [Snapshot(archive) for archive in archives]
        if [snapshot.settled for snapshot in snapshots] == [snapshot.settled for snapshot in now] and not any(
            snapshot.moving and is_locked(os.path.join(snapshot.archive, WORK, LOCK)) for snapshot in now
        ):
            break
    return records, listed, snapshots


def _tell_left_out(store: Store, snapshots: Sequence[Snapshot], others: Sequence[Source]) -> None:
    """Count as damaged what is left out of archives, where the log that has the same records is not read, too.

    A move that ended in a kill leaves files out, and so does a directory that a copy left, or that somebody made.
    """
    if not any(snapshot.left_out for snapshot in snapshots):
        return
    heads = [_head(Path(source.name)) for source in others if source.kind in ("json", "text")]
    for snapshot in snapshots:
        read = {each.name for each in snapshot.unsettled() if any(is_of(each, *head) for head in heads)}
        for name, paths in sorted(snapshot.left_out.items()):
            if name not in read:
                files_ = f"{counted(len(paths), 'file')} of the archive {'is' if len(paths) == 1 else 'are'} left out"
                why = "they are being moved there, and the log that they are made of is not read"
                do = "read that one as well, or end it by 'nflowlevel compact'"
                store.add_damage(os.path.join(snapshot.archive, WORK, name), 0, f"{files_}: {why}; {do}")


def _not_in(store: Store, archives: Mapping[str, Sequence[str]], paths: Sequence[str]) -> list[str]:
    """Return Parquet files that are in none of the archives; the others are said to be given again."""
    known = {file_identity(path): path for each in archives.values() for path in each} if paths else {}
    found = []
    for path in paths:
        if (first := known.get(file_identity(path))) is None:
            found.append(path)
        else:
            store.repeated.append(Repeated(path, first))
    return found


def _size(source: Source) -> int | None:
    return None if source.kind == "database" else Path(source.name).stat().st_size


def _whole(store: Store, paths: Iterable[str]) -> list[str]:
    """Return the Parquet files that are whole: a single one that is not would break all questions."""
    found = []
    roots: set[str] = set()
    for path in paths:
        fd, is_roots = _opened(path, roots)
        try:
            if reason := _unwhole(fd):
                store.add_damage(path, 0, reason)
                continue
            found.append(path)
            if not is_roots:
                # DuckDB opens it by name, later and again: others may have put something else there until then.
                store.hold(path, fd)
                fd = -1
        finally:
            if fd >= 0:
                os.close(fd)
    return found


def _opened(path: str, roots: set[str]) -> tuple[int, bool]:
    """Return what `open_to_read` does. `roots` are directories that only root can change: those need one look."""
    # A FIFO that somebody put there would be waited for.
    flags, directory = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, os.path.dirname(path)
    if directory in roots:
        with contextlib.suppress(OSError):
            return os.open(path, flags | os.O_NOFOLLOW), True
    fd, is_roots = open_to_read(path, flags)
    if is_roots and not os.path.islink(path):
        roots.add(directory)
    return fd, is_roots


def _unwhole(fd: int) -> str:
    """Return why a file is no whole Parquet file; empty: it looks like one. OSError."""
    with open(fd, "rb", closefd=False) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return "no regular file"
        file.seek(max(0, status.st_size - _PARQUET_END.size))
        end = file.read()
    if status.st_size < _PARQUET_MIN_BYTES or not end.endswith(_PARQUET):
        return "a Parquet file without its end: it is being written, or cut"
    footer, _ = _PARQUET_END.unpack(end)
    if footer > min(status.st_size - _PARQUET_MIN_BYTES, _MOST_FOOTER_BYTES):
        return f"a Parquet file that states a footer of {footer} bytes: it is damaged, or none of nflowlevel's"
    return ""


def _add_one(store: Store, source: Source, records: Sequence[Record], year: int | None) -> Iterator[int]:
    """Add the records of a source; yield how far that is, in bytes of it."""
    name = source.name
    if source.kind in ("json", "text"):
        with WholeLines(Path(name)) as lines:
            add = _add_json(store, lines, records) if source.kind == "json" else _add_text(store, lines, records, year)
            for _ in add:
                yield lines.position
        return
    if source.kind == "capture":
        found = capture_lines(name, lambda reason: store.add_damage(name, 0, reason))
    else:
        found = sqlite_lines(name) if source.kind == "sqlite" else database_lines(name)
    for chunk in found:
        store.add_lines(chunk, source.shown)
        yield 0


def _add_json(store: Store, lines: WholeLines, records: Sequence[Record]) -> Iterator[None]:
    name = str(lines.path)
    number = 1
    for chunk in lines.chunks(_archived(lines.path, records)):
        store.add_lines(chunk, name, number)
        number += chunk.count(b"\n")
        yield
    _add_rest(store, lines, number)


def _add_text(store: Store, lines: WholeLines, records: Sequence[Record], year: int | None) -> Iterator[None]:
    name = str(lines.path)

    def damaged(number: int, reason: str, text: str) -> None:
        store.add_damage(name, number, reason, text)

    for chunk, number in text_lines(lines, damaged, year, _archived(lines.path, records)):
        store.add_lines(chunk, name, number)
        yield
    _add_rest(store, lines, 0)


def _archived(path: Path, records: Sequence[Record]) -> int:
    """Return how many bytes of a log's lines are in the archives that are read as well: they must not count twice."""
    if not records:
        return 0
    head, place = _head(path)
    if any(is_begin_of(head, record) for record in records):
        return len(head)
    return max((record.end for record in records if is_of(record, head, place)), default=0)


def _head(path: Path) -> tuple[bytes, tuple[int, int]]:
    """Return how a log's lines begin, and its device and inode; of a pipe, which is read once, nothing."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return b"", (0, 0)
    with WholeLines(path) as lines:
        return lines.begin(HEAD_BYTES), (status.st_dev, status.st_ino)


def _add_rest(store: Store, lines: WholeLines, number: int) -> None:
    """Count what stands behind the last newline, and what could not be decompressed."""
    name = str(lines.path)
    if lines.fault:
        store.add_damage(name, number, lines.fault)
    elif lines.rest.strip():
        text = lines.rest.decode("utf-8", "replace")
        store.add_damage(name, number, "a line without an end: it is being written, or cut", text)
