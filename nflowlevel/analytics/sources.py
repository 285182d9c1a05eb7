# SPDX-License-Identifier: GPL-2.0-or-later
"""What a log is read from: which files a path, a directory or a pattern means, and what is in each.

What a file holds is told by how it begins, not by its name. Of a directory those files count whose names say that they
are Parquet, JSON or captures; what begins with a dot or ends in `.tmp` is unfinished.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import unquote

from nflowlevel.analytics.databases import MYSQL, URL, without_password
from nflowlevel.analytics.objectstore import SCHEMES, store_url
from nflowlevel.analytics.wholelines import WholeLines
from nflowlevel.archive.reader import is_archive
from nflowlevel.errors import printable

Kind: TypeAlias = Literal["archive", "parquet", "json", "text", "capture", "sqlite", "database", "remote"]

_DATABASES = ("sqlite:", "postgresql:", "postgres:", *(f"{name}:" for name in MYSQL))
_OBJECT_STORES = tuple(f"{scheme}://" for scheme in SCHEMES)
#: What is elsewhere; but for object stores like S3, only a cluster can read it.
_REMOTE = re.compile(r"(?:s3|s3a|s3n|gs|abfs|abfss|hdfs|wasbs)://")
_IN_DIRECTORIES = re.compile(
    r"[^.].*(?:\.parquet|(?:\.json|\.jsonl|\.ndjson|\.pcap|\.pcapng)(?:[.-][0-9][0-9T:_.-]*)?(?:\.gz|\.zst|\.xz|\.bz2)?)"
)
_CAPTURES = (b"\xa1\xb2\xc3\xd4", b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x4d\x3c\xb2\xa1", b"\x0a\x0d\x0d\x0a")
_SQLITE, _PARQUET = b"SQLite format 3\0", b"PAR1"
#: What a text cannot hold.
_NO_TEXT = re.compile(rb"[\x00-\x06\x0e-\x1a]")


class Source(NamedTuple):
    """One thing to read."""

    kind: Kind
    name: str
    """A path, or the URL of a database."""

    @property
    def shown(self) -> str:
        """Its name for messages and pages: without what logs in."""
        return without_password(self.name)

    @property
    def identity(self) -> Hashable:
        """What is equal for all names of the same thing. OSError: there is no such file."""
        path = self.name
        if self.kind == "database" and path.startswith("sqlite:///") and "?" not in path:
            path = unquote(path.removeprefix("sqlite://"))
        elif self.kind in ("database", "remote"):
            return path.rstrip("/")
        return file_identity(path)


class Repeated(NamedTuple):
    """A source that was given again, by the same name or another one, or in a directory: its records count once."""

    source: str
    first: str
    """As what it was given before."""

    @property
    def told(self) -> str:
        """The line of text about it."""
        shown, first = (printable(name, None) for name in self)
        before = "was given before" if shown == first else f"was given before, as {first}"
        return f"{shown} {before}: it is read once"


def file_identity(path: str | os.PathLike[str]) -> Hashable:
    """Return what is equal for all paths of a file or directory: also links, and other ways to it. OSError."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


def once(sources: Iterable[Source]) -> tuple[list[Source], list[Repeated]]:
    """Return the sources, each once, and those that were given again. OSError: a file has gone."""
    first: dict[Hashable, Source] = {}
    repeated = []
    for source in sources:
        known = first.setdefault(source.identity, source)
        if known is not source:
            repeated.append(Repeated(source.shown, known.shown))
    return list(first.values()), repeated


def find(given: str | os.PathLike[str]) -> Iterator[Source]:
    """Yield what a path, a pattern or a URL means.

    FileNotFoundError: there is no such file, or none that the pattern means. ValueError: a file is none of those that
    can be read, or a directory has none.
    """
    name = os.fspath(given)
    if isinstance(given, str) and name.startswith(_DATABASES):
        yield Source("database", name)
        return
    if isinstance(given, str) and _REMOTE.match(name):
        if name.startswith(_OBJECT_STORES):
            store_url(name)
        yield Source("remote", name)
        return
    path = Path(name)
    if isinstance(given, str) and URL.fullmatch(name) and not os.path.lexists(name):
        known = "sqlite, postgresql, mysql, s3 and, for Spark, other stores such as gs and hdfs"
        raise ValueError(f"read {printable(without_password(name), None)}: unknown kind of URL; known: {known}")
    if path.is_dir():
        yield from _of_directory(path)
    elif os.path.lexists(path) or not glob.has_magic(name):
        yield Source(kind_of(path), name)
    else:
        found = sorted(each for each in glob.glob(name, recursive=True) if os.path.isfile(each) or os.path.isdir(each))
        if not found:
            raise FileNotFoundError(f"read {printable(name, None)}: no file has such a name")
        for each in found:
            yield from _of_directory(Path(each)) if os.path.isdir(each) else [Source(kind_of(Path(each)), each)]


def _of_directory(directory: Path) -> Iterator[Source]:
    if is_archive(directory):
        yield Source("archive", str(directory))
        return
    found = False
    for parent, directories, files in os.walk(directory):
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        for name in sorted(files):
            path = os.path.join(parent, name)
            # Nobody named it: a FIFO would be waited for, and a device or socket is no log.
            if _IN_DIRECTORIES.fullmatch(name) and os.path.isfile(path):
                found = True
                yield Source("parquet" if name.endswith(".parquet") else kind_of(Path(path)), path)
    if not found:
        wanted = "*.parquet, *.json, *.pcap or *.pcapng, also rotated or compressed"
        raise ValueError(
            f"read {printable(str(directory), None)}: the directory has no {wanted}; name the files themselves"
        )


def kind_of(path: Path) -> Kind:
    """Return what a file holds; ValueError: nothing that can be read. OSError."""
    if path.suffix == ".parquet":
        return "parquet"  # also one that is cut
    with WholeLines(path) as lines:
        if lines.size is None:
            return "json"  # a pipe is read once
        begin = lines.begin()
    if begin.startswith(_PARQUET):
        return "parquet"
    if begin.startswith(_SQLITE):
        return "sqlite"
    if begin.startswith(_CAPTURES):
        return "capture"
    if not begin or any(line.lstrip().startswith(b"{") for line in begin.split(b"\n")):
        return "json"
    if not _NO_TEXT.search(begin):
        return "text"
    known = "lines of JSON or of a log, Parquet, a capture or SQLite"
    raise ValueError(f"read {printable(str(path), None)}: it is neither {known}")
