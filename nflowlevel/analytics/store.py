# SPDX-License-Identifier: GPL-2.0-or-later
"""Where records are that can be asked: DuckDB, with the relations `packets`, `flows` and `sums`.

Archives (Parquet) stay where they are and are looked into. All else is read once, into a file of DuckDB's in a private
temporary directory, which goes with the store. So a question never meets half of a line, and two questions meet the
same records. Everything arrives here as lines of JSON: DuckDB makes rows of them as archive/schema.py says.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nflowlevel.archive.schema import RELATIONS, Relation, json_kind
from nflowlevel.errors import NotSupported, printable
from nflowlevel.sql.literals import identifier

if TYPE_CHECKING:
    import duckdb

#: Damaged lines that are kept to be shown; all are counted.
MOST_SHOWN = 1000
_MOST_SHOWN_CHARACTERS = 500
_MOST_LISTED = 20
#: File names with other characters could mean more than one file to DuckDB.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./=+@ ,:-]+")
_NO_RECORD, _NO_TIME = "not a JSON object", "without a time"


class DamagedLine(NamedTuple):
    """A line, or a file, that is no record."""

    source: str
    line: int
    """Its number in the source, from 1 on; 0: the source as a whole."""
    reason: str
    text: str
    """How it begins."""


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
        shown = [f"{self.count:,} damaged lines or files"]
        for line in self._lines[:_MOST_LISTED]:
            text = f": {printable(line.text)}" if line.text else ""
            place = f"{printable(line.source)}:{line.line}" if line.line else printable(line.source)
            shown.append(f"{place}: {line.reason}{text}")
        return "\n".join([*shown, *(["…"] if self.count > _MOST_LISTED else [])])


def duckdb_module() -> Any:
    """Return the module duckdb; NotSupported where it is not installed."""
    try:
        import duckdb
    except ImportError:
        needed = "pip install 'nflowlevel[analytics]'"
        raise NotSupported("asking a log", found="no Python module duckdb", needed=needed) from None
    return duckdb


class Store:
    """Records in DuckDB. Any thread may ask; one at a time adds."""

    def __init__(self, memory_limit: str | None = None) -> None:
        module = duckdb_module()
        self.directory = Path(tempfile.mkdtemp(prefix="nflowlevel-"))
        self._end = weakref.finalize(self, shutil.rmtree, self.directory, True)
        settings = {
            "memory_limit": memory_limit or f"{_memory() // 4 >> 20}MiB",
            "temp_directory": str(self.directory / "spilled"),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "preserve_insertion_order": "true",
        }
        try:
            self._connection: duckdb.DuckDBPyConnection = module.connect(
                str(self.directory / "log.duckdb"), config=settings
            )
        except BaseException:
            self._end()
            raise
        if sys.stdout.isatty():
            self._connection.execute("SET enable_progress_bar = true")
            self._connection.execute("SET progress_bar_time = 1000")
        #: How many lines, and files, are no records.
        self.damaged = 0
        #: The first of them.
        self.damaged_lines: list[DamagedLine] = []
        #: Records that were read, without those of archives.
        self.records = 0
        #: The Parquet files of each relation.
        self.archives: dict[str, list[str]] = {name: [] for name in RELATIONS}
        self._lock = threading.Lock()
        for found in RELATIONS.values():
            columns = ", ".join(f"{column.name} {column.type}" for column in found)
            self._connection.execute(f"CREATE TABLE read_{found.name} ({columns})")
        self.make_views()

    def close(self) -> None:
        """Close it, and remove what it kept. Answers that were not fetched cannot be fetched any more."""
        self._connection.close()
        self._end()

    # -- asking ------------------------------------------------------------------------------------------------------

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection of one's own to the same records."""
        return self._connection.cursor()

    # -- adding ------------------------------------------------------------------------------------------------------

    @contextmanager
    def adding(self) -> Iterator[None]:
        """Add lines within this: all of them are there afterwards, or none if it fails."""
        with self._lock:
            self._connection.execute("BEGIN")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def add_lines(self, lines: bytes, source: str, first: int = 1, dvc: str | None = None) -> int:
        """Add lines of JSON, which end in a newline; return how many of them are records.

        `source` and `first`, the number of the first line, are for those that are damaged. `dvc` is the firewall's name
        where the lines do not say it.
        """
        lines = _readable(lines)
        wanted = sum(1 for line in lines.split(b"\n") if line.strip())
        if not wanted:
            return 0
        with _in_memory(lines) as path:
            added = 0
            for found in RELATIONS.values():
                text = _insert(found.name).format(path=path)
                (count,) = self._connection.execute(text, [dvc]).fetchall()[0]
                added += count
                if added == wanted:
                    break
            if added < wanted:
                self._keep_damaged(wanted - added, path, source, first)
        self.records += added
        return added

    def add_damage(self, source: str, line: int, reason: str, text: str = "") -> None:
        """Count something that is no record."""
        self.damaged += 1
        if len(self.damaged_lines) < MOST_SHOWN:
            self.damaged_lines.append(DamagedLine(source, line, reason, text[:_MOST_SHOWN_CHARACTERS]))

    def _keep_damaged(self, count: int, path: str, source: str, first: int) -> None:
        self.damaged += count
        room = MOST_SHOWN - len(self.damaged_lines)
        if room > 0:
            text = _damaged().format(path=path)
            for number, reason, line in self._connection.execute(text, [_MOST_SHOWN_CHARACTERS, room]).fetchall():
                self.damaged_lines.append(DamagedLine(source, first + number - 1, reason, line))

    def add_archives(self, relation: str, paths: Iterable[Path]) -> None:
        """Add Parquet files of a relation; `make_views` shows them."""
        for path in paths:
            name = str(path.absolute())
            if not _PLAIN_PATH.fullmatch(name):
                link = self.directory / f"{len(self.archives[relation])}-{relation}.parquet"
                os.symlink(name, link)
                name = str(link)
            self.archives[relation].append(name)

    def make_views(self) -> None:
        """Make the relations of what was read and of the archives."""
        for found in RELATIONS.values():
            self._connection.execute(f"CREATE OR REPLACE VIEW {found.name} AS {self._view(found)}")

    def _view(self, relation: Relation) -> str:
        names = ", ".join(column.name for column in relation)
        read = f"SELECT {names} FROM read_{relation.name}"
        if not self.archives[relation.name]:
            return read
        source = parquet(self.archives[relation.name])
        found = {name for name, *_ in self._connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
        archived = f"SELECT {', '.join(_archived(relation, found))} FROM {source}"
        (count,) = self._connection.execute(f"SELECT COUNT(*) FROM read_{relation.name}").fetchall()[0]
        return f"{archived} UNION ALL {read}" if count else archived

    def remember(self, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> None:
        """Add rows to a table of the store's own, which is made if it is not there."""
        declared = ", ".join(f"{identifier(name)} {type_}" for name, type_ in columns.items())
        with self._lock:
            self._connection.execute(f"CREATE TABLE IF NOT EXISTS {identifier(table)} ({declared})")
            if rows:
                marks = ", ".join("?" for _ in columns)
                self._connection.executemany(f"INSERT INTO {identifier(table)} VALUES ({marks})", rows)


def parquet(paths: Iterable[str]) -> str:
    """Return DuckDB's call that reads these files as one."""
    names = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{names}], union_by_name = true, hive_partitioning = false)"


def _archived(relation: Relation, found: set[str]) -> Iterator[str]:
    """Yield the expressions of a relation's columns over what Parquet files have of them."""
    clock = {"sec": "oob_time_sec::BIGINT", "us": "oob_time_sec::BIGINT * 1000000 + coalesce(oob_time_usec, 0)"}
    for column in relation:
        if column.name in found:
            yield f"{column.name}::{column.type} AS {column.name}"
        elif column.name in clock and {"oob_time_sec", "oob_time_usec"} <= found:
            yield f"{clock[column.name]} AS {column.name}"
        else:
            yield f"NULL::{column.type} AS {column.name}"


# -- lines of JSON -----------------------------------------------------------------------------------------------------


def _objects(members: Mapping[str, str]) -> str:
    """Return the query for the members of the JSON objects in the file `{path}`, which has one in each line.

    What is no object has no members. Quotes and backslashes in a line mean nothing to the reader of CSV: a line is one
    value.
    """
    structure = _braced(json.dumps(members).replace("'", "''"))
    lines = (
        "read_csv('{path}', delim = '\x01', quote = '', escape = '', header = false, auto_detect = false, "
        "columns = {{'line': 'VARCHAR'}}, max_line_size = 4194304, buffer_size = 8388608)"
    )
    return (
        f"(SELECT line, number, unnest(TRY(from_json(line, '{structure}'))) "
        f"FROM (SELECT line, row_number() OVER () AS number FROM {lines}) WHERE trim(line) <> '')"
    )


def _braced(text: str) -> str:
    """Return a text that comes out of `format` as it is."""
    return text.replace("{", "{{").replace("}", "}}")


@functools.cache
def _insert(name: str) -> str:
    """Return the statement that adds the rows of a relation; `$1` is the firewall's name where a line has none."""
    found = RELATIONS[name]
    members = dict(found.json_types)
    for other in RELATIONS.values():
        members |= {mark: other.json_types[mark] for mark in other.marks[:1] if mark not in members}
    columns = _braced(f"{found.select()}, {json_kind()} AS kind")
    names = ", ".join("coalesce(dvc, $1)" if column.name == "dvc" else column.name for column in found)
    rows = f"(SELECT {columns} FROM {_objects(members)})"
    return f"INSERT INTO read_{name} SELECT {names} FROM {rows} WHERE kind = '{name}' AND us IS NOT NULL"


@functools.cache
def _damaged() -> str:
    """Return the query for the lines that make no row: number, reason and beginning."""
    members: dict[str, str] = {}
    for found in RELATIONS.values():
        members |= {name: type_ for name, type_ in found.json_types.items() if name not in members}
    times = " ".join(f"WHEN '{found.name}' THEN {found.time()}" for found in RELATIONS.values())
    reason = f"CASE WHEN TRY(json_type(line)) = 'OBJECT' THEN '{_NO_TIME}' ELSE '{_NO_RECORD}' END"
    missing = _braced(f"CASE {json_kind()} {times} END IS NULL")
    select = f"SELECT number, {reason}, substr(line, 1, $1) FROM {_objects(members)}"
    return f"{select} WHERE {missing} ORDER BY number LIMIT $2"


def _readable(lines: bytes) -> bytes:
    """Return lines as the reader of CSV takes them: UTF-8, and no ends of lines but newlines."""
    try:
        lines.decode()
    except UnicodeDecodeError:
        lines = lines.decode("utf-8", "replace").encode()
    if b"\r" in lines:
        lines = lines.replace(b"\r\n", b"\n")
    # No JSON has any of these as they are; another one in their place is as wrong.
    return lines.translate(_CONTROLS) if any(control in lines for control in _MEANT) else lines


_MEANT = (b"\r", b"\0", b"\x01")
_CONTROLS = bytes(2 if bytes((byte,)) in _MEANT else byte for byte in range(256))


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """Give data as a file that is only in memory; its path is for this process."""
    fd = os.memfd_create("nflowlevel", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _memory() -> int:
    """Return the bytes of memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
