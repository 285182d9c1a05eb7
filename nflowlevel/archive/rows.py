# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows: lines of JSON become rows of the relations in DuckDB, and these become Parquet files, sorted by time.

Most lines are plain packets, which become columns in C (scan.py). DuckDB reads the others, strictly: it refuses a block
of them for one that is damaged. Only then are they looked at one by one: what is no JSON object, what does not fit a
column and what has no time is damaged, and kept as it is. What this does not find, halving does: the parts of a block
are read for themselves, down to the line.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from nflowlevel.archive import engine
from nflowlevel.archive.layout import DAY_SECS
from nflowlevel.archive.scan import Scanner
from nflowlevel.archive.schema import LIMITS, RELATIONS, Column, Relation, json_columns, json_kind
from nflowlevel.errors import NflowError
from nflowlevel.records.keys import Key

#: The last second that a path of the archive can say: the year 9999.
_LAST_US = 253_402_300_800 * 1_000_000 - 1
#: Rows of a row group, as DuckDB makes them of itself: a question skips those whose times do not fit.
_ROW_GROUP = 122_880
#: A column with more different values in a row group has no dictionary: it gains little, and looking for them takes a
#: third of the time of writing.
_MOST_VALUES = 8192
#: A file of so many rows goes without the columns of protocols that none of its rows has, as an empty column costs half
#: as much time as another. Small files have all columns: many files, each with others, would be slow to read as one.
_MANY_ROWS = 100_000
#: A third faster than the usual 3, for a file that is a tenth larger.
_ZSTD_LEVEL = 1
#: A text that DuckDB reads as a whole number, and as any number: less than Python takes.
_WHOLE = re.compile(r"\s*-?(?:0|[1-9]\d*)\s*", re.ASCII)
_NUMBER = re.compile(r"\s*-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?\s*", re.ASCII)


class Slice(NamedTuple):
    """Rows that go into one file: those of one relation, firewall and day."""

    relation: Relation
    dvc: str
    first: int
    """Second of the first one, since 1970."""
    last: int
    rows: int


class Rows:
    """Rows that wait to be written. `damaged` is called with each line that is no record, as it was read.

    `dvc` is the firewall's name that all rows get; where it is empty, they have that of their record, or else `host`.
    `added` are keys of columns that plugins add to packets. With `in_tables`, rows stay in tables that have the names
    of the relations, for who asks them there: nothing is to be written.
    """

    def __init__(
        self,
        database: Any,
        *,
        dvc: str,
        host: str,
        damaged: Callable[[bytes], None],
        added: Iterable[Key] = (),
        in_tables: bool = False,
    ) -> None:
        self._in_tables: Final = in_tables
        self._database, self._damaged = database, damaged
        self._errors: Final = _refusals()
        relations = dict(RELATIONS)
        relations["packets"] = relations["packets"].with_keys(added)
        self._relations: Final = tuple(relations.values())
        #: What an object of another relation than packets has in it.
        self._marks: Final = {
            found.name: [f'"{mark}":'.encode() for mark in found.marks] for found in self._relations[1:]
        }
        self._types: Final = {
            member: type_ for found in self._relations for member, type_ in found.json_types.items() if type_ in LIMITS
        }
        marks = [mark for found in self._relations[1:] for mark in found.marks]
        #: Plain rows: they stay there until they are written.
        self._scanner: Final = Scanner(self._relations[0], marks)
        self.rows = 0
        database.register("scanned", self._scanner)
        database.execute("SET VARIABLE host = $1", [host])
        database.execute("SET VARIABLE firewall = $1", [dvc])
        self._is_named: Final = bool(dvc)
        #: The relations of the slices.
        self._slices: list[Relation] = []
        self._name: Final = "getvariable('firewall')" if dvc else "coalesce(nullif(dvc, ''), getvariable('host'))"
        for found in self._relations:
            columns = ", ".join(f"{column.name} {column.type}" for column in found)
            database.execute(f"CREATE TABLE {found.name} ({columns})")

    def add(self, lines: bytes | memoryview) -> None:
        """Add the records of whole lines; DuckDB's own errors where the disk or the memory does not hold them."""
        at, left, before = 0, [], self._scanner.rows
        while at < len(lines):
            at, odd = self._scanner.scan(lines, at)
            left.append(odd)
            if self._in_tables and self._scanner.rows:
                self._insert_plain()
        self.rows += self._scanner.rows - before
        if odd := b"".join(left):
            self._add_odd(odd)

    def _insert_plain(self) -> None:
        """Add the rows that were scanned to their table."""
        names = "".join(f", {name}" for name in self._scanner.filled() if name != "dvc")
        sql = f"INSERT INTO packets (sec, us, dvc{names}) SELECT sec, us, {self._name}{names} FROM scanned"
        self.rows += int(self._database.execute(sql).fetchone()[0])
        self._scanner.clear()

    def _add_odd(self, lines: bytes) -> None:
        """Add the records of lines that are not plain."""
        if self._try(lines):
            return
        good: list[bytes] = []
        stamped: list[tuple[bytes, str]] = []
        for line in lines.splitlines(keepends=True) if b"\r" not in lines else _lines(lines):
            stamp = self._stamp_of(line)
            if stamp == "":
                good.append(line)
            elif stamp is not None:
                stamped.append((line, stamp))
            elif line.strip():
                self._damaged(line)
        # All of them at once: one by one, a foreign log with a million other times would take a day.
        for (line, _), is_time in zip(stamped, self._are_times([stamp for _, stamp in stamped]), strict=True):
            if is_time:
                good.append(line)
            else:
                self._damaged(line)
        self._halve(good)

    def _are_times(self, stamps: list[str]) -> list[bool]:
        """Tell of each text whether it is a time that a record can have."""
        if not stamps:
            return []
        packets = self._relations[0]
        clock = ", ".join(f'NULL::UINTEGER AS "{name}"' for name in packets.clock)
        given = f'SELECT {clock}, unnest($1::VARCHAR[]) AS "timestamp", NULL::VARCHAR AS "@timestamp"'
        sql = f"SELECT coalesce(us BETWEEN 0 AND {_LAST_US}, false) FROM (SELECT {packets.time()} AS us FROM ({given}))"
        return [bool(found) for (found,) in self._database.execute(sql, [stamps]).fetchall()]

    def _halve(self, lines: list[bytes]) -> None:
        if not lines or self._try(b"".join(lines)):
            return
        if len(lines) == 1:
            self._damaged(lines[0])
            return
        middle = len(lines) // 2
        self._halve(lines[:middle])
        self._halve(lines[middle:])

    def _try(self, lines: bytes) -> bool:
        """Add all of these lines, or nothing; whether they are all records."""
        kinds = [name for name, marks in self._marks.items() if any(mark in lines for mark in marks)]
        wanted = [found for found in self._relations if found.name in ("packets", *kinds)]
        # To tell the kinds, the members of all are looked at.
        columns = json_columns(*(self._relations if kinds else wanted))
        # A file in memory: DuckDB takes a path for a pattern, and somebody else's name may hold any character.
        memory = os.memfd_create("nflowlevel-lines", os.MFD_CLOEXEC)
        rows = 0
        try:
            _write(memory, lines)
            source = (
                f"read_json('/proc/self/fd/{memory}', format='newline_delimited', columns={columns}, "
                "compression='uncompressed')"
            )
            self._database.execute("BEGIN")
            for found in wanted:
                rows += self._insert(found, source, is_alone=len(wanted) == 1)
            self._database.execute("COMMIT")
        except self._errors:
            self._database.execute("ROLLBACK")
            return False
        finally:
            os.close(memory)
        self.rows += rows
        return True

    def _insert(self, relation: Relation, source: str, *, is_alone: bool) -> int:
        chosen = "" if is_alone else f" WHERE {json_kind()} = '{relation.name}'"
        names = [column.name for column in relation.columns[3:]]
        # Without a time there is no place for it in the archive.
        timed = f"CASE WHEN us BETWEEN 0 AND {_LAST_US} THEN us ELSE error('no time') END AS us"
        columns = ", ".join((f"sec, {timed}, {self._name} AS dvc", *names))
        sql = f"INSERT INTO {relation.name} SELECT {columns} FROM (SELECT {relation.select()} FROM {source}{chosen})"
        return int(self._database.execute(sql).fetchone()[0])

    def _stamp_of(self, line: bytes) -> str | None:
        """Return the text that says when a line was written, empty where a number says it; None: it is damaged.

        Nothing is left then that DuckDB would refuse the line for, as far as it is known here. What it refuses is found
        only by reading halves, which takes a tenth of a second for each line.
        """
        try:
            found = json.loads(line.decode(), object_pairs_hook=_object)
            if b"\\u" in line:
                json.dumps(found, ensure_ascii=False).encode()  # half of a pair of surrogates
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict):
            return None
        for name, value in found.items():
            if name in self._types and not _is_within(value, self._types[name]):
                return None
        kind = next((each for each in self._relations[:0:-1] if self._is_of(each, found)), self._relations[0])
        second = found.get(kind.clock[0])
        if second is not None and float(second) >= 0.5:
            return ""
        for name in ("timestamp", "@timestamp"):
            if found.get(name) is not None:
                return found[name] if isinstance(found[name], str) and "\0" not in found[name] else None
        return None

    def _is_of(self, relation: Relation, found: dict[str, Any]) -> bool:
        return any(found.get(mark) is not None for mark in relation.marks)

    @property
    def held_bytes(self) -> int:
        """The memory of rows that DuckDB does not hold, nearly: it is bounded by writing them."""
        return self._scanner.held_bytes

    def slices(self) -> list[Slice]:
        """Return what files the rows make. After it, no rows are added until `clear`.

        NflowError: DuckDB has not all of them. The log must not go then.
        """
        made: list[Slice] = []
        for found in self._relations:
            sql = (
                f"SELECT dvc, min(sec), max(sec), count(*) FROM {self._all(found, 'dvc, sec')} "
                f"GROUP BY dvc, sec // {DAY_SECS} ORDER BY min(sec), dvc"
            )
            made += [Slice(found, *row) for row in self._database.execute(sql).fetchall()]
        if (found_rows := sum(part.rows for part in made)) != self.rows:
            told = f"DuckDB {engine.duckdb().__version__} has {found_rows} of {self.rows} records that were read"
            raise NflowError(f"write to the archive: {told}; the log stays as it is: report this as a fault")
        self._slices = [part.relation for part in made]
        return made

    def _all(self, relation: Relation, names: str) -> str:
        """Return the table, in SQL, of all rows of a relation, with those columns."""
        if relation.name != "packets" or not self._scanner.rows:
            return relation.name
        filled, constants = set(self._scanner.filled()), self._scanner.constants()
        shown = ", ".join(
            self._plain(relation.by_name[name], name in filled, constants.get(name)) for name in names.split(", ")
        )
        plain = f"SELECT {shown} FROM scanned"
        return f"({plain} UNION ALL SELECT {names} FROM packets)" if self._has("packets") else f"({plain})"

    def _plain(self, column: Column, is_filled: bool, value: int | str | None) -> str:
        """Return the expression for a column of plain rows. One value in all of them is a literal: half the time."""
        if column.name in ("sec", "us"):
            return column.name
        if column.name == "dvc" and (self._is_named or not is_filled or value == ""):
            return f"getvariable('{'firewall' if self._is_named else 'host'}') AS dvc"
        if column.name == "dvc" and value is None:
            return f"{self._name} AS dvc"
        if not is_filled:
            return f"NULL::{column.type} AS {column.name}"
        if value is None:
            return column.name
        return f"{engine.literal(str(value))}::{column.type} AS {column.name}"

    def _written(self, part: Slice) -> str:
        """Return the columns that a file has."""
        columns = tuple(part.relation)
        if part.rows < _MANY_ROWS or part.relation.name != "packets":
            return ", ".join(column.name for column in columns)
        filled = {"sec", "us", "dvc", *self._scanner.filled()}
        if self._has("packets"):
            counts = ", ".join(f"count({column.name})" for column in columns)
            found = self._database.execute(f"SELECT {counts} FROM packets").fetchone()
            filled |= {column.name for column, count in zip(columns, found, strict=True) if count}
        groups = {_group(column) for column in columns if column.name in filled}
        return ", ".join(column.name for column in columns if _group(column) in groups)

    def _has(self, table: str) -> bool:
        return bool(self._database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def write(self, part: Slice, fd: int, metadata: dict[str, str]) -> None:
        """Write the rows of a slice, sorted by time, to a file that is open; `metadata` goes into its footer."""
        chosen = ""
        if self._slices.count(part.relation) > 1:
            midnight = part.first - part.first % DAY_SECS
            chosen = f" WHERE dvc = getvariable('part') AND sec >= {midnight} AND sec < {midnight + DAY_SECS}"
        about = ", ".join(f"{engine.literal(name)}: {engine.literal(value)}" for name, value in metadata.items())
        self._database.execute("SET VARIABLE part = $1", [part.dvc])
        names = self._written(part)
        order = "" if self._is_sorted(part.relation) else " ORDER BY us"
        self._database.execute(
            f"COPY (SELECT {names} FROM {self._all(part.relation, names)}{chosen}{order}) TO '/proc/self/fd/{fd}' "
            f"(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {_ZSTD_LEVEL}, ROW_GROUP_SIZE {_ROW_GROUP}, "
            f"DICTIONARY_SIZE_LIMIT {_MOST_VALUES}, USE_TMP_FILE false, KV_METADATA {{{about}}})"
        )

    def _is_sorted(self, relation: Relation) -> bool:
        """Tell whether the rows came in the order of their time, as those of one group usually do."""
        sql = f"SELECT count(*) FROM (SELECT us < lag(us) OVER () AS back FROM {self._all(relation, 'us')}) WHERE back"
        return not self._database.execute(sql).fetchone()[0]

    def clear(self) -> None:
        """Forget the rows: they were written."""
        self._scanner.clear()
        for found in self._relations:
            self._database.execute(f"TRUNCATE {found.name}")
        self.rows = 0


def _group(column: Column) -> str:
    """Return what has columns together: `tcp` of `tcp.window`; a column of a name without a point is its own."""
    return column.members[0].partition(".")[0]


def _refusals() -> tuple[type[Exception], ...]:
    """Return the errors by which DuckDB says that a line is no record; all others are about the machine."""
    duckdb = engine.duckdb()
    return (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.OutOfRangeException)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _lines(data: bytes) -> list[bytes]:
    """Split at newlines alone: a carriage return may stand anywhere in a damaged line."""
    lines = data.split(b"\n")
    whole = [line + b"\n" for line in lines[:-1]]
    return [*whole, lines[-1]] if lines[-1] else whole


def _is_within(value: object, type_: str) -> bool:
    """Tell whether a value of JSON is a number of that type, or none at all."""
    if isinstance(value, str):
        if not (_NUMBER if type_ == "DOUBLE" else _WHOLE).fullmatch(value):
            return False
        value = float(value)
    least, most = LIMITS[type_]
    # It is rounded to a whole one: what is just beyond is tried.
    return value is None or (isinstance(value, int | float) and least - 1 < value < most + 1)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a member stands twice")
    return found
