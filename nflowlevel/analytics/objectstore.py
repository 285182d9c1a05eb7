# SPDX-License-Identifier: GPL-2.0-or-later
"""Archives in an object store that speaks as Amazon's S3 does (MinIO, Ceph, Garage, R2 and others), read by DuckDB.

    s3://logs/archive
    s3://logs/archive?endpoint=https://minio.example:9000&region=eu-west-1
    s3://public/archive?anonymous=true

pyarrow speaks with the store. It lists the archive and reads the end of each file, which says what columns it has;
later DuckDB reads only the columns and the parts of files that a question needs. Nothing is written. A file that is
replaced meanwhile is no longer the one that was listed: an error says so, and no answer is made of two files.

Keys come from where the programs of AWS take them: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (and
`AWS_SESSION_TOKEN`), `AWS_PROFILE` and the files in `~/.aws`, or the role of the machine. A store that is not Amazon's
is named by `endpoint=`, `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import socket
import stat
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from nflowlevel.analytics.databases import without_password
from nflowlevel.archive.layout import stored
from nflowlevel.archive.schema import LARGE_BYTES, LARGE_TYPES, RELATIONS
from nflowlevel.errors import NflowError, NotSupported, printable

#: What begins a URL of such a store; Spark's libraries know the last two.
SCHEMES = ("s3", "s3a", "s3n")
_URL = re.compile(r"(?:s3|s3a|s3n)://(?P<bucket>[^/?#]*)(?P<path>[^?]*)(?:\?(?P<options>.*))?", re.DOTALL)
_OPTIONS = ("anonymous", "endpoint", "region")
_BOOLEANS = {"true": True, "false": False}
_CONNECT_SECS, _READ_SECS = 10, 60
#: How long it may take to list an archive, and until the next answer where files are read: a store may send a byte now
#: and then, or a list without an end.
_MOST_LIST_SECS, _MOST_READ_SECS = 300.0, 240.0
#: Ends of files that are read at once: each waits for the store.
_AT_ONCE = 16
#: What a Parquet file ends with, and bytes of its end that are read at first: those of most say what columns it has.
_PARQUET, _END_BYTES = b"PAR1", 64 << 10
#: Ends that are longer are none of ours, and would be held in memory.
_MOST_END_BYTES = 64 << 20
_REPLACED = "it was replaced since it was listed; read the log again"
#: How long the end of Python cuts connections of calls that were given up: the SDK tries some of them again.
_END_SECS = 20.0
_INSTALL = "pip install 'nflowlevel[analytics,s3]'"


class StoreURL(NamedTuple):
    """Where in which store an archive is."""

    bucket: str
    path: str
    """What the keys of its objects begin with; no slash at its ends."""
    endpoint: str | None
    """Of a store that is not Amazon's: a URL, or host and port."""
    region: str | None
    anonymous: bool

    @property
    def shown(self) -> str:
        """Its URL, for messages."""
        return printable(f"s3://{self.bucket}/{self.path}", None)


Version: TypeAlias = tuple[object, ...]


class Object(NamedTuple):
    """A Parquet file in a store."""

    path: str
    """Its name for DuckDB."""
    columns: tuple[tuple[str, ...], ...]
    """Name and types of each column."""
    relation: str | None
    """Which relation it is of; None: its path does not say."""
    damage: str = ""
    """Why it cannot be read; empty: it can."""
    large: tuple[str, ...] = ()
    """The columns of which one text may be long."""
    version: Version = ()
    """What tells it from another one of its name."""


def store_url(url: str) -> StoreURL:
    """Return what a URL says; ValueError: it is wrong. NotSupported: keys are in it."""
    found = _URL.fullmatch(url)
    shown = printable(without_password(url), None)
    if found and "@" in found["bucket"]:
        needed = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or a profile in ~/.aws"
        raise NotSupported(f"reading {shown} with keys in the URL", found="them", needed=needed)
    if not found or not found["bucket"]:
        raise ValueError(f"read {shown}: name a bucket and a path, such as s3://bucket/archive")
    options = dict(parse_qsl(found["options"] or "", keep_blank_values=True))
    if unknown := next((name for name in options if name not in _OPTIONS), None):
        raise ValueError(f"read {shown}: unknown option '{printable(unknown)}'; available: {', '.join(_OPTIONS)}")
    anonymous = options.get("anonymous", "false")
    if anonymous not in _BOOLEANS:
        raise ValueError(f"read {shown}: anonymous must be true or false, not '{printable(anonymous)}'")
    around = os.environ
    return StoreURL(
        found["bucket"],
        found["path"].strip("/"),
        options.get("endpoint") or around.get("AWS_ENDPOINT_URL_S3") or around.get("AWS_ENDPOINT_URL") or None,
        options.get("region") or around.get("AWS_REGION") or around.get("AWS_DEFAULT_REGION") or None,
        _BOOLEANS[anonymous],
    )


class ObjectStores:
    """The files of stores that were listed, for DuckDB. Any thread may read them."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[Any, Any]] = {}
        self._versions: dict[str, Version] = {}
        self._stores: dict[str, StoreURL] = {}

    def listed(self, url: str) -> list[Object]:
        """Return the Parquet files of an archive, a directory, or a single one.

        NflowError: the store cannot be read, or has none there. NotSupported: pyarrow is missing. ValueError: see
        `store_url`.
        """
        where = store_url(url)
        one = self._stores.setdefault(where.bucket, where)
        if one._replace(path="") != where._replace(path=""):
            told = f"the bucket '{printable(where.bucket)}' of another store is read, too; read one after the other"
            raise NflowError(f"read {where.shown}: {told}")
        filesystem = _filesystem(where)
        try:
            (objects,) = _answers([lambda: _objects(filesystem, where)], _MOST_LIST_SECS)
            is_there = bool(objects) or _answers([lambda: _has_bucket(filesystem, where)], _MOST_READ_SECS)[0]
        except OSError as error:
            raise _failed(where, error) from None
        if not objects:
            told = "has no Parquet files there" if is_there else f"has no bucket '{printable(where.bucket)}'"
            raise NflowError(f"read {where.shown}: the store {told}; name the directory of an archive")
        try:
            described = _answers([partial(_described, filesystem, each) for each in objects], _MOST_READ_SECS)
        except OSError as error:
            raise _failed(where, error) from None
        self._files |= {f"s3://{each.path}": (filesystem, each) for each in objects}
        self._versions |= {each.path: each.version for each in described}
        return described

    def filesystem(self) -> Any:
        """Return them as DuckDB wants to have file systems; NotSupported where fsspec is missing."""
        try:
            from fsspec import AbstractFileSystem
        except ImportError:
            raise NotSupported("reading an object store", found="no fsspec", needed=_INSTALL) from None
        known, versions = self._files, self._versions

        class Files(AbstractFileSystem):  # type: ignore[misc]  # a package without types
            """What DuckDB asks of a file system."""

            protocol = "s3"
            cachable = False

            def _open(self, path: str, mode: str = "rb", **_: Any) -> _File:
                filesystem, found = _known(known, path)
                if mode != "rb":
                    raise OSError(f"write {path}: object stores are read only")
                return _File(filesystem, found, versions[_full(path)])

            def info(self, path: str, **_: Any) -> dict[str, Any]:
                """Return what listing it has told."""
                _, found = _known(known, path)
                return {"name": path, "size": found.size, "type": "file", "mtime": found.mtime}

            def modified(self, path: str) -> Any:
                """Return when it was written."""
                return _known(known, path)[1].mtime

            def exists(self, path: str, **_: Any) -> bool:
                """Tell whether it was listed."""
                return _full(path) in known

            def glob(self, path: str, **_: Any) -> list[str]:
                """Return the one file that is meant: `escape_pattern` has written what is special in its name."""
                plain = re.sub(r"\[([*?\[])\]", r"\1", path)
                return [plain] if self.exists(plain) else []

            @classmethod
            def _strip_protocol(cls, path: str) -> str:
                return path

            def unstrip_protocol(self, name: str) -> str:
                """Return the name that DuckDB knows."""
                return _full(name)

        return Files()


class _File:
    """A file that any thread reads: each has a position of its own, as seeking and reading are two calls.

    With a `version`, another file is not read, and neither is a part of one.
    """

    def __init__(self, filesystem: Any, found: Any, version: Version = ()) -> None:
        self._filesystem, self._path, self._size = filesystem, found.path, found.size
        self._version = version
        self._file: Any = None
        self._opening = threading.Lock()
        self._at = threading.local()

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes."""
        at = self.tell()
        count = max(0, min(self._size - at, count if count >= 0 else self._size))
        try:
            data: bytes = b""
            if count:
                (data,) = _answers([lambda: self._part(count, at)], _MOST_READ_SECS)
        except OSError as error:
            raise OSError(f"read s3://{self._path}: {_told(error)}") from None
        self._at.value = at + len(data)
        return data

    def _part(self, count: int, at: int) -> bytes:
        data: bytes = self._opened().read_at(count, at)
        if self._version:
            # pyarrow cannot ask for a part of one version (If-Match). If it is still there, the part was of it.
            with self._filesystem.open_input_file(self._path) as now:
                if _version(now) != self._version:
                    raise OSError(_REPLACED)
        return data

    def _opened(self) -> Any:
        # To open it asks the store; DuckDB often has in memory what it needs.
        with self._opening:
            if self._file is None:
                self._file = self._filesystem.open_input_file(self._path)
            return self._file

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._size}[whence]
        self._at.value = base + offset
        return int(self._at.value)

    def tell(self) -> int:
        """Return the position."""
        return getattr(self._at, "value", 0)

    def close(self) -> None:
        """Let it go."""
        with self._opening:
            if self._file is not None:
                self._file.close()


def _answers(calls: Sequence[Callable[[], Any]], most_secs: float) -> list[Any]:
    """Return what each of the calls to a store returns, some of them at once, or raise what the first one raises.

    TimeoutError: none of them has ended for so long. They are in threads of their own, as nothing ends a call of
    pyarrow's: so Ctrl-C need not wait for the store.
    """
    waiting = deque(enumerate(calls))
    ended: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()

    def work() -> None:
        with contextlib.suppress(IndexError):
            while True:
                place, call = waiting.popleft()
                try:
                    ended.put((place, call(), None))
                except BaseException as error:
                    ended.put((place, None, error))

    for _ in range(min(_AT_ONCE, len(calls))):
        thread = threading.Thread(target=work, daemon=True)
        _working.add(thread)
        thread.start()
    found: list[Any] = [None] * len(calls)
    try:
        for _ in calls:
            place, found[place], error = ended.get(timeout=most_secs)
            if error is not None:
                raise error
    except Empty:
        raise TimeoutError(f"the store has not answered for {most_secs:g} s") from None
    finally:
        waiting.clear()
    return found


#: Threads that speak with a store, and the ports of stores.
_working: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
_ports: set[int] = set()


def _hang_up() -> None:
    """End the calls that were given up: pyarrow would wait for them at the end of Python, and they may have none."""
    end = time.monotonic() + _END_SECS
    while any(thread.is_alive() for thread in list(_working)) and time.monotonic() < end:
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.stat(f"/proc/self/fd/{name}").st_mode):
                    _cut(os.dup(int(name)))
        time.sleep(0.05)


def _cut(fd: int) -> None:
    """End the connection of a socket, which is closed, where it leads to a store. OSError."""
    with socket.socket(fileno=fd) as connection:
        if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getpeername()[1] in _ports:
            connection.shutdown(socket.SHUT_RDWR)


def _port(endpoint: str | None) -> int:
    """Return the port of a store."""
    parts = urlsplit(endpoint if endpoint and "://" in endpoint else f"https://{endpoint or ''}")
    try:
        return parts.port or {"http": 80}.get(parts.scheme, 443)
    except ValueError:
        return 443  # pyarrow says what is wrong with it


def _known(files: dict[str, tuple[Any, Any]], path: str) -> tuple[Any, Any]:
    try:
        return files[_full(path)]
    except KeyError:
        raise FileNotFoundError(f"read {path}: no file of the log") from None


def _full(path: str) -> str:
    return path if path.startswith("s3://") else f"s3://{path}"


def _filesystem(where: StoreURL) -> Any:
    """Return pyarrow's file system of a store."""
    try:
        from pyarrow import fs
    except ImportError:
        raise NotSupported(f"reading {where.shown}", found="no pyarrow", needed=_INSTALL) from None
    try:
        if not _ports:
            # Behind pyarrow's own, and so before it.
            atexit.register(_hang_up)
        _ports.add(_port(where.endpoint))
        region = where.region
        if region is None and where.endpoint is None:
            region = fs.resolve_s3_region(where.bucket)
        return fs.S3FileSystem(
            endpoint_override=where.endpoint,
            region=region,
            anonymous=where.anonymous,
            connect_timeout=_CONNECT_SECS,
            request_timeout=_READ_SECS,
        )
    except (OSError, ValueError) as error:
        raise _failed(where, error) from None


def _objects(filesystem: Any, where: StoreURL) -> list[Any]:
    """Return what pyarrow tells of the Parquet files. Of an archive, those of its own names and no others."""
    from pyarrow import fs

    begin = f"{where.bucket}/{where.path}".rstrip("/")
    if where.path.endswith(".parquet"):
        found = filesystem.get_file_info(begin)
        if found.type == fs.FileType.File:
            return [found]

    def within(path: str) -> list[Any]:
        found = filesystem.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
        return [each for each in found if each.type == fs.FileType.File and each.path.endswith(".parquet")]

    kinds = (within(f"{begin}/kind={name}") for name in RELATIONS)
    objects = [each for kind in kinds for each in kind if stored(f"s3://{each.path}")]
    if not objects:
        # As in directories here, what is hidden is none of the log.
        objects = [each for each in within(begin) if "/." not in each.path[len(begin) :]]
    return sorted(objects, key=lambda each: str(each.path))


def _has_bucket(filesystem: Any, where: StoreURL) -> bool:
    from pyarrow import fs

    return bool(filesystem.get_file_info(where.bucket).type != fs.FileType.NotFound)


def _described(filesystem: Any, found: Any) -> Object:
    """Return a file with its columns, or what is wrong with it; OSError: the store cannot be read."""
    from pyarrow import ArrowException, BufferReader, parquet

    path = f"s3://{found.path}"
    said = stored(path)
    relation = said.kind if said else None
    end, version = _end(filesystem, found)
    if not end:
        damage = "a Parquet file without its end: it was copied before it was whole, or is cut"
        return Object(path, (), relation, damage, version=version)
    try:
        metadata = parquet.read_metadata(BufferReader(end))
        schema = metadata.schema
    except (ArrowException, OSError) as error:  # not the store's: all is read
        return Object(path, (), relation, f"a Parquet file that cannot be read: {_told(error)}", version=version)
    if not len(schema):  # DuckDB refuses it, and all questions with it
        damage = "a Parquet file without columns: it is none of nflowlevel's"
        return Object(path, (), relation, damage, version=version)
    each = (schema.column(number) for number in range(len(schema)))
    columns = (
        (column.path, column.physical_type, str(column.converted_type), str(column.logical_type)) for column in each
    )
    return Object(path, tuple(columns), relation, large=tuple(_large(metadata)), version=version)


def _large(metadata: Any) -> set[str]:
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    chunks = (group.column(number) for group in groups for number in range(group.num_columns))
    return {
        chunk.path_in_schema
        for chunk in chunks
        if chunk.physical_type in LARGE_TYPES and chunk.total_uncompressed_size > LARGE_BYTES
    }


def _version(file: Any) -> Version:
    """Return what tells an open object from another one of its name."""
    said = file.metadata() or {}
    return file.size(), *(said.get(name) for name in ("ETag", "VersionId", "Last-Modified"))


def _end(filesystem: Any, found: Any) -> tuple[bytes, Version]:
    """Return the end of a file that says what columns it has, empty where it has none, and its version. OSError."""
    with filesystem.open_input_file(found.path) as file:
        version = _version(file)
        if file.size() != found.size:
            raise OSError(f"s3://{found.path}: {_REPLACED}")
        end = _end_of(file, found)
    with filesystem.open_input_file(found.path) as now:
        if _version(now) != version:
            raise OSError(f"s3://{found.path}: {_REPLACED}")
    return end, version


def _end_of(file: Any, found: Any) -> bytes:
    wanted = _END_BYTES
    while True:
        end: bytes = file.read_at(min(wanted, found.size), max(0, found.size - wanted))
        # How long it is stands before the last four bytes.
        length = int.from_bytes(end[-8:-4], "little") + 8
        if not end.endswith(_PARQUET) or length > min(found.size, _MOST_END_BYTES):
            return b""
        if length <= len(end):
            return end
        wanted = length


def _failed(where: StoreURL, error: Exception) -> NflowError:
    """Return what to tell of an error of pyarrow's."""
    told = _told(error)
    hint = next((hint for sign, hint in _HINTS if sign in told), "")
    return NflowError(f"read {where.shown}: {told}{hint}")


def _told(error: Exception) -> str:
    return printable(str(error).split("\n")[0].strip(), 300)


_HINTS = (
    ("ACCESS_DENIED", "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, of a user who may read it"),
    ("NETWORK_CONNECTION", "; name a store that is not Amazon's by AWS_ENDPOINT_URL_S3 or ?endpoint=http://host:port"),
)
