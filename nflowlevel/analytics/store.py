# SPDX-License-Identifier: GPL-2.0-or-later
"""Where records are that can be asked: DuckDB, with the relations `packets`, `flows` and `sums`.

Archives (Parquet) stay where they are and are looked into. All else is read once, into a file of DuckDB's in a private
temporary directory, which goes with the store. So a question never meets half of a line, and two questions meet the
same records. Everything arrives here as lines of JSON: DuckDB makes rows of them as archive/schema.py says.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from nflowlevel.analytics.wholelines import MOST_LINE_BYTES
from nflowlevel.archive import engine
from nflowlevel.archive.layout import Stored, stored
from nflowlevel.archive.reader import escape_pattern
from nflowlevel.archive.rows import Rows
from nflowlevel.archive.schema import LARGE_BYTES, LARGE_TYPES, RELATIONS, Relation
from nflowlevel.errors import counted, plural, printable
from nflowlevel.sql.literals import identifier

if TYPE_CHECKING:
    import duckdb

    from nflowlevel.analytics.sources import Repeated

#: Damaged lines that are kept to be shown; all are counted.
MOST_SHOWN = 1000
_MOST_SHOWN_CHARACTERS = 500
_MOST_LISTED = 20
_MOST_REASON_CHARACTERS = 200
#: Descriptors for what is not held: threads of DuckDB, connections of a page.
_SPARE_DESCRIPTORS = 512
_DESCRIPTORS = "/proc/self/fd/"
_UNSIGNED = ("UTINYINT", "USMALLINT", "UINTEGER")
#: Different sets of columns of Parquet files that are told apart.
_MOST_KINDS = 8
#: As DuckDB writes an amount of memory.
_UNITS = {unit: 1 << 10 * power for power, unit in enumerate(("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"))}
#: Columns that only one relation has.
_OWNERS = {
    name: {column.name for column in found}
    - {column.name for other in RELATIONS.values() if other is not found for column in other}
    for name, found in RELATIONS.items()
    if name != "packets"
}


#: The columns of a Parquet file: of each its name, then its types.
Columns: TypeAlias = tuple[tuple[str, ...], ...]


class DamagedLine(NamedTuple):
    """A line, or a file, that is no record."""

    source: str
    line: int
    """Its number in the source, from 1 on; 0: the source as a whole."""
    reason: str
    text: str
    """How it begins."""

    @property
    def told(self) -> str:
        """The line of text about it; nothing in it moves a cursor."""
        text = f": {printable(self.text)}" if self.text else ""
        place = f"{printable(self.source, None)}:{self.line}" if self.line else printable(self.source, None)
        return f"{place}: {self.reason}{text}"


class Span(NamedTuple):
    """The records that are asked for, in microseconds since 1970: from `first` on, before `behind`; None: no bound."""

    first: int | None
    behind: int | None

    def within(self, first: int | None, behind: int | None) -> Span:
        """Return what this one and another have in common."""
        firsts = [bound for bound in (self.first, first) if bound is not None]
        behinds = [bound for bound in (self.behind, behind) if bound is not None]
        return Span(max(firsts, default=None), min(behinds, default=None))

    def covers(self, other: Span) -> bool:
        """Whether all times of another one are in it."""
        return self.within(*other) == other


WHOLE: Final = Span(None, None)


class _Alike(NamedTuple):
    """Parquet files with the same columns, and what their paths say; or with columns that `differ`."""

    columns: set[str]
    files: Mapping[str, Stored | None]
    differ: bool

    def within(self, span: Span) -> list[str]:
        """Return the files that may have records in a span of time. A file of another name may have any."""
        return [
            path
            for path, said in self.files.items()
            if said is None
            or (
                (span.first is None or said.last >= span.first // 10**6)
                and (span.behind is None or said.first * 10**6 < span.behind)
            )
        ]


class _Origin:
    """Where lines are from: the number of each is looked for only where one is damaged."""

    def __init__(self, lines: bytes, source: str, first: int) -> None:
        self.source = source
        self._lines, self._first = lines, first
        self._numbers: dict[bytes, list[int]] | None = None

    def number_of(self, line: bytes) -> int:
        """Return the number of a line; of equal ones, the first that was not asked for."""
        if self._numbers is None:
            self._numbers = {}
            for number, each in enumerate(self._lines.split(b"\n"), self._first):
                self._numbers.setdefault(each, []).append(number)
        found = self._numbers.get(line.removesuffix(b"\n"), [])
        return found.pop(0) if found else 0


class Damaged:
    """What is no record: `count` of all, and the first of them as rows."""

    def __init__(self, count: int, lines: Sequence[DamagedLine]) -> None:
        self.count = count
        self._lines = tuple(lines)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[DamagedLine]:
        return iter(self._lines)

    def __repr__(self) -> str:
        shown = [f"{counted(self.count, 'damaged line')} or {plural(self.count, 'file')}"]
        shown += [line.told for line in self._lines[:_MOST_LISTED]]
        return "\n".join([*shown, *(["…"] if self.count > _MOST_LISTED else [])])


class Store:
    """Records in DuckDB. Any thread may ask; one at a time adds."""

    def __init__(self, memory_limit: str | None = None) -> None:
        module = engine.duckdb()
        self.directory = Path(tempfile.mkdtemp(prefix="nflowlevel-"))
        self._end = weakref.finalize(self, shutil.rmtree, self.directory, True)
        settings = {
            "memory_limit": memory_limit or f"{engine.memory() // 4 >> 20}MiB",
            "temp_directory": str(self.directory / "spilled"),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "preserve_insertion_order": "true",
            # Numbers of up to so many bits are counted in an array, in place of a hash table.
            "perfect_ht_threshold": "18",
        }
        try:
            self._connection: duckdb.DuckDBPyConnection = module.connect(
                str(self.directory / "log.duckdb"), config=settings
            )
        except BaseException:
            self._end()
            raise
        # DuckDB draws it on standard output, also where that is a file.
        self._connection.execute(f"SET enable_progress_bar = {'true' if sys.stdout.isatty() else 'false'}")
        #: How many lines, and files, are no records.
        self.damaged = 0
        #: The first of them.
        self.damaged_lines: list[DamagedLine] = []
        #: What was given again, and read once.
        self.repeated: list[Repeated] = []
        #: The Parquet files of each relation.
        self.archives: dict[str, list[str]] = {name: [] for name in RELATIONS}
        #: URLs of archives elsewhere: Spark reads them itself, and DuckDB those in object stores once it is asked.
        self.remote: list[str] = []
        self._is_remote_open = False
        self._elsewhere: dict[str, dict[str, Columns]] = {name: {} for name in RELATIONS}
        # Files with columns whose texts may be too long: the names of these.
        self._large: dict[str, set[str]] = {}
        self._alike: dict[str, list[_Alike]] = {name: [] for name in RELATIONS}
        self._links: dict[str, str] = {}
        self._held: list[int] = []
        self._let_go = weakref.finalize(self, _close, self._held)
        self._lock, self._opening = threading.Lock(), threading.Lock()
        self._is_sealed = False
        self._cursors_lock = threading.Lock()
        self._cursors: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()
        # What was read lies beside the relations, under the same names.
        self._connection.execute("CREATE SCHEMA read")
        self._origin = _Origin(b"", "", 1)
        self._rows = Rows(self._reader(), dvc="", host="", damaged=self._keep_damaged, in_tables=True)
        self.make_views()

    def _reader(self) -> duckdb.DuckDBPyConnection:
        reader = self._connection.cursor()
        reader.execute("USE read")
        # A file of records of each block is written anyway.
        reader.execute("SET checkpoint_threshold = '256MB'")
        return reader

    def close(self) -> None:
        """Close it, and remove what it kept. Answers that were not fetched cannot be fetched any more."""
        self._connection.close()
        self._end()
        self._let_go()

    # -- asking ------------------------------------------------------------------------------------------------------

    def cursor(self, text: str = "", span: Span = WHOLE) -> duckdb.DuckDBPyConnection:
        """Return a connection of one's own to the same records.

        For a query that asks for no records outside of `span`, the relations in its text are without the files of
        archives that have none inside.
        """
        cursor = self._connection.cursor()
        with self._cursors_lock:
            self._cursors.add(cursor)
        if span != WHOLE:
            for found in RELATIONS.values():
                if self._alike[found.name] and found.name in text.lower():
                    cursor.execute(f"CREATE TEMP VIEW {found.name} AS {self._view(found, span)}")
        return cursor

    def interrupt(self) -> None:
        """End the queries that run: they raise DuckDB's InterruptException."""
        with self._cursors_lock:
            cursors = list(self._cursors)
        for cursor in cursors:
            cursor.interrupt()

    @property
    def state(self) -> object:
        """What the packets come from: not equal to an earlier one where records were added or a file has changed."""
        return self._rows.rows, [(path, _stamp(self._readable(path))) for path in self.archives["packets"]]

    @property
    def last_second(self) -> int | None:
        """The second of the newest record, as the names of archives' files say it; None: they say none."""
        listed = (alike.files.values() for each in self._alike.values() for alike in each)
        return max((said.last for files in listed for said in files if said is not None), default=None)

    def seal(self) -> None:
        """Let queries read and write no file but those of the archives and in `directory`, and load no extension."""
        if self._is_sealed:
            return
        self._is_sealed = True
        paths = sorted(
            {self._readable(path) for listed in self.archives.values() for path in listed}
            | {path for listed in self._elsewhere.values() for path in listed}
            # What DuckDB takes for the name of an open file when others have removed it.
            | {f"{path} (deleted)" for path, link in self._links.items() if link.startswith(_DESCRIPTORS)}
        )
        if paths:
            listed = ", ".join(engine.literal(name) for path in paths for name in (path, escape_pattern(path)))
            self._connection.execute(f"SET allowed_paths = [{listed}]")
        self._connection.execute(f"SET allowed_directories = [{engine.literal(f'{self.directory}/')}]")
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")

    @property
    def memory_bytes(self) -> int:
        """The most memory that DuckDB takes, in bytes."""
        (text,) = self._connection.cursor().execute("SELECT current_setting('memory_limit')").fetchall()[0]
        number, unit = str(text).split()
        return int(float(number) * _UNITS[unit])

    # -- adding ------------------------------------------------------------------------------------------------------

    def add_lines(self, lines: bytes, source: str, first: int = 1) -> int:
        """Add lines of JSON, which end in a newline; return how many of them are records.

        `source` and `first`, the number of the first line, are for those that are damaged.
        """
        with self._lock:
            before, self._origin = self._rows.rows, _Origin(lines, source, first)
            self._rows.add(lines)
            return self._rows.rows - before

    @property
    def records(self) -> int:
        """How many records were read, without those of archives."""
        return self._rows.rows

    def _keep_damaged(self, line: bytes) -> None:
        text = line[: 4 * _MOST_SHOWN_CHARACTERS].decode("utf-8", "replace").rstrip("\n")
        self.add_damage(self._origin.source, self._origin.number_of(line), "no record of JSON, or without a time", text)

    def add_damage(self, source: str, line: int, reason: str, text: str = "") -> None:
        """Count something that is no record."""
        self.damaged += 1
        if len(self.damaged_lines) < MOST_SHOWN:
            self.damaged_lines.append(DamagedLine(source, line, reason, text[:_MOST_SHOWN_CHARACTERS]))

    def add_archives(self, relation: str, paths: Iterable[str]) -> None:
        """Add Parquet files of a relation; `make_views` shows them."""
        self.archives[relation] += map(os.path.abspath, paths)

    def hold(self, path: str, fd: int) -> None:
        """Read a Parquet file by an open descriptor, which becomes the store's, and not by its path.

        OSError: there are too many; the descriptor stays the caller's.
        """
        _have_room(len(self._held) + 1, path)
        self._held.append(fd)
        self._links[os.path.abspath(path)] = f"{_DESCRIPTORS}{fd}"

    def relations_of(self, paths: Sequence[str]) -> dict[str, list[str]]:
        """Return which relation Parquet files are of, by their columns."""
        found: dict[str, list[str]] = {name: [] for name in RELATIONS}
        for path in paths:
            try:
                columns = set(self._types([self._readable(path)]))
            except engine.duckdb().Error as error:
                self._leave_out([path], _first_line(error))
                continue
            found[_owner(columns)].append(path)
        return found

    def open_remote(self) -> None:
        """List the archives in object stores, once, and show their records.

        NflowError: a store cannot be read; NotSupported: a package for it is missing.
        """
        with self._opening:
            if self._is_remote_open or not self.remote:
                return
            from nflowlevel.analytics.objectstore import ObjectStores

            stores = ObjectStores()
            filesystem = stores.filesystem()
            listed = [found for url in self.remote for found in stores.listed(url)]
            for found in listed:
                relation = found.relation or _owner({name for name, *_ in found.columns})
                if found.large:
                    self._large[found.path] = set(found.large)
                if not found.damage:
                    self._elsewhere[relation][found.path] = found.columns
            self._connection.register_filesystem(filesystem)
            try:
                self.make_views()
            except BaseException:
                # The next question tries it again.
                self._connection.unregister_filesystem(filesystem.protocol)
                self._elsewhere = {name: {} for name in RELATIONS}
                raise
            for found in listed:
                if found.damage:
                    self.add_damage(found.path, 0, found.damage)
            self._is_remote_open = True

    def make_views(self) -> None:
        """Make the relations of what was read and of the archives."""
        for found in RELATIONS.values():
            original = {self._readable(path): path for path in self.archives[found.name]}
            here = self._together(found, self._columns_of(original), original)
            self.archives[found.name] = [original[path] for alike in here for path in alike.files]
            elsewhere = self._elsewhere[found.name]
            there = self._together(found, elsewhere, {path: path for path in elsewhere}, is_here=False)
            self._alike[found.name] = [*here, *there]
            self._connection.execute(f"CREATE OR REPLACE VIEW {found.name} AS {self._view(found)}")

    def _view(self, relation: Relation, span: Span = WHOLE) -> str:
        names = ", ".join(column.name for column in relation)
        read = f"SELECT {names} FROM read.{relation.name}"
        parts = [
            f"SELECT {', '.join(_archived(relation, alike.columns))} FROM {parquet(files, by_name=alike.differ)}"
            for alike in self._alike[relation.name]
            if (files := alike.within(span))
        ]
        (count,) = self._connection.cursor().execute(f"SELECT COUNT(*) FROM read.{relation.name}").fetchall()[0]
        return " UNION ALL ".join([*parts, read] if count or not parts else parts)

    def _together(
        self, relation: Relation, columns: Mapping[str, Columns], names: Mapping[str, str], *, is_here: bool = True
    ) -> list[_Alike]:
        """Return files, those together that have the same columns: DuckDB opens but one of them to know these.

        Where files differ, it opens all, for each question anew. So it does if they differ in more than a few ways.
        What is no file of the relation is left out, and counted: one would break all questions. `names` has the paths
        that say what is in the files.
        """
        kinds: dict[Columns, dict[str, Stored | None]] = {}
        for path, found in columns.items():
            kinds.setdefault(found, {})[path] = stored(names[path])
        alike = [kind for those in kinds.values() if (kind := self._fitting(relation, those, is_here)).files]
        if len(alike) <= _MOST_KINDS:
            return alike
        files = {path: said for kind in alike for path, said in kind.files.items()}
        return [_Alike({name for kind in alike for name in kind.columns}, files, differ=True)]

    def _columns_of(self, paths: Iterable[str]) -> dict[str, Columns]:
        """Return the columns of files of this machine. What cannot be read is left out, and counted."""
        found: dict[str, list[tuple[str, ...]]] = {}
        for path, *column in self._described(list(paths)):
            found.setdefault(path, []).append(tuple(map(str, column)))
        return {path: tuple(columns) for path, columns in found.items()}

    def _described(self, paths: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return the columns of files: each file's name, the column's name and what makes its type."""
        # A number of children: what holds columns, and is none.
        found = self._of_each(
            "SELECT file_name, name, type, converted_type, logical_type::VARCHAR "
            "FROM parquet_schema([{}]) WHERE coalesce(num_children, 0) = 0",
            paths,
        )
        large = self._of_each(
            "SELECT DISTINCT file_name, path_in_schema FROM parquet_metadata([{}]) "
            f"WHERE type IN {LARGE_TYPES} AND total_uncompressed_size > {LARGE_BYTES}",
            list(dict.fromkeys(path for path, *_ in found)),
        )
        for path, name in large:
            self._large.setdefault(path, set()).add(name)
        return found

    def _of_each(self, text: str, paths: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return what a query says of files. What cannot be read is left out, and counted."""
        if not paths:
            return []
        try:
            return self._connection.execute(text.format(_listed(paths))).fetchall()
        except engine.duckdb().Error:
            rows = []
            for path in paths:
                try:
                    rows += self._connection.execute(text.format(_listed([path]))).fetchall()
                except engine.duckdb().Error as error:
                    self._leave_out([path], _first_line(error))
            return rows

    def _fitting(self, relation: Relation, files: Mapping[str, Stored | None], is_here: bool) -> _Alike:
        """Return those of files with the same columns whose values the relation's columns can hold.

        DuckDB's own errors where they are elsewhere: their store may answer the next time.
        """
        source = parquet(files, by_name=False, more=", filename = 'of_file'")
        try:
            types = self._types(files)
            if not {"sec", "oob_time_sec"} & types.keys():
                self._leave_out(files, "a Parquet file without a column sec: it is none of nflowlevel's")
                return _Alike(set(), {}, differ=False)
            wrong: set[str] = set()
            cast = [each for each in relation if not _always_fits(types.get(each.name, each.type), each.type)]
            for column in cast:
                text = f"SELECT DISTINCT of_file FROM {source} WHERE {column.name} IS NOT NULL"
                found = self._connection.execute(f"{text} AND TRY_CAST({column.name} AS {column.type}) IS NULL")
                names = {path for (path,) in found.fetchall()} - wrong
                reason = f"a Parquet file whose {column.name} is {types[column.name]}, with values that no record has"
                self._leave_out(names, reason)
                wrong |= names
            for path in self._large.keys() & files.keys() - wrong:
                if reason := self._too_long(path, relation, is_here):
                    self._leave_out([path], reason)
                    wrong.add(path)
        except engine.duckdb().Error as error:
            if not is_here:
                raise
            self._leave_out(files, _first_line(error))
            return _Alike(set(), {}, differ=False)
        return _Alike(set(types), {path: said for path, said in files.items() if path not in wrong}, differ=False)

    def _too_long(self, path: str, relation: Relation, is_here: bool) -> str:
        """Return why a file is left out whose texts may be long; empty: they are not.

        DuckDB counts no memory of texts that it sorts or returns: some long ones could take all of the machine's.
        """
        for column in sorted(self._large[path] & {each.name for each in relation}):
            text = f"SELECT 1 FROM {parquet([path])} WHERE strlen({column}::VARCHAR) > {MOST_LINE_BYTES} LIMIT 1"
            try:
                is_long = bool(self._connection.execute(text).fetchall())
            except engine.duckdb().OutOfMemoryException:
                is_long = True
            except engine.duckdb().Error as error:
                if not is_here:
                    raise
                return _first_line(error)
            if is_long:
                return f"a Parquet file with longer values of {column} than any line has: it is none of nflowlevel's"
        return ""

    def _types(self, paths: Iterable[str]) -> dict[str, str]:
        """Return the columns of files that have the same ones, with their types; DuckDB's own errors."""
        described = self._connection.execute(f"DESCRIBE SELECT * FROM {parquet(paths, by_name=False)}").fetchall()
        return {name: str(type_) for name, type_, *_ in described}

    def _leave_out(self, paths: Iterable[str], reason: str) -> None:
        links = {link: path for path, link in self._links.items()}
        for path in sorted(paths):
            self.add_damage(links.get(path, path), 0, reason)

    def _readable(self, path: str) -> str:
        """Return the path of a file for DuckDB, which knows no way to write a backslash: a link leads there."""
        if known := self._links.get(os.path.abspath(path)):
            return known
        if "\\" not in path:
            return path
        path = os.path.abspath(path)
        link = self.directory / f"{len(self._links)}.parquet"
        link.symlink_to(path)
        self._links[path] = str(link)
        return str(link)

    def remember(self, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> None:
        """Add rows to a table of the store's own, which is made if it is not there."""
        declared = ", ".join(f"{identifier(name)} {type_}" for name, type_ in columns.items())
        with self._lock:
            self._connection.execute(f"CREATE TABLE IF NOT EXISTS {identifier(table)} ({declared})")
            if rows:
                # A list for each column: row by row would take a millisecond each.
                values = ", ".join(f"unnest(${place}::{type_}[])" for place, type_ in enumerate(columns.values(), 1))
                lists = [list(column) for column in zip(*rows, strict=True)]
                self._connection.execute(f"INSERT INTO {identifier(table)} SELECT {values}", lists)


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def _have_room(held: int, path: str) -> None:
    """Let this process open more files than those that are held; OSError: it must not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or held + _SPARE_DESCRIPTORS <= soft:
        return
    if hard != resource.RLIM_INFINITY and held + _SPARE_DESCRIPTORS > hard:
        told = "others can change these files, so root holds each one open, and more than that are not allowed"
        raise OSError(errno.EMFILE, f"{told}; read them as the user whose they are", path)
    wanted = 2 * (held + _SPARE_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(hard, wanted), hard))


def _owner(columns: set[str]) -> str:
    """Return which relation has such columns."""
    return next((each for each in _OWNERS if _OWNERS[each] & columns), "packets")


def parquet(paths: Iterable[str], *, by_name: bool = True, more: str = "") -> str:
    """Return DuckDB's call that reads these files as one; without `by_name`, all have the same columns."""
    options = f"union_by_name = {str(by_name).lower()}, hive_partitioning = false{more}"
    return f"read_parquet([{_listed(paths)}], {options})"


def _always_fits(given: str, wanted: str) -> bool:
    """Tell whether each value of a type of DuckDB's is one of another type, too."""
    narrower = {"USMALLINT": 1, "UINTEGER": 2, "UBIGINT": 3, "BIGINT": 3, "DOUBLE": 3}.get(wanted, 0)
    return given == wanted or wanted == "VARCHAR" or given in _UNSIGNED[:narrower]


def _first_line(error: Exception) -> str:
    """Return what DuckDB says of a file."""
    text = printable((str(error).splitlines() or [""])[0], _MOST_REASON_CHARACTERS)
    return f"a Parquet file that cannot be read: {text}"


def _listed(paths: Iterable[str]) -> str:
    return ", ".join(engine.literal(escape_pattern(path)) for path in paths)


def _archived(relation: Relation, found: set[str]) -> Iterator[str]:
    """Yield the expressions of a relation's columns over what Parquet files have of them."""
    old = {"sec": "oob_time_sec::BIGINT", "us": "oob_time_sec::BIGINT * 1000000 + coalesce(oob_time_usec, 0)"}
    has_old = {"oob_time_sec", "oob_time_usec"} <= found
    for column in relation:
        values = [f"{column.name}::{column.type}"] if column.name in found else []
        if has_old and column.name in old:
            values.append(old[column.name])
        value = f"coalesce({', '.join(values)})" if len(values) > 1 else (values or [f"NULL::{column.type}"])[0]
        yield f"{value} AS {column.name}"


def _stamp(path: str) -> tuple[int, ...] | None:
    """Return what tells a file from another one of its name; None: there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
