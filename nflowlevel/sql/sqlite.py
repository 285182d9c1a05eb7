# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection to a file of SQLite; what becomes of rows in it is said by the output SQLITE3."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import compress
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import quote

from nflowlevel.binding import procfs
from nflowlevel.binding.rootpath import directory_of, name_of_user, refused, whose
from nflowlevel.delivery.backoff import Backoff
from nflowlevel.errors import nearest
from nflowlevel.logs import log
from nflowlevel.records.keys import AS_NUMBER, BY_NAME, TIME
from nflowlevel.spool.sink import Moved, Refused, Unavailable
from nflowlevel.sql import copytext
from nflowlevel.sql.columns import Column
from nflowlevel.sql.database import Database, schema
from nflowlevel.sql.ledger import LEDGER, Ledger
from nflowlevel.sql.options import Access, statement

if TYPE_CHECKING:
    from nflowlevel.spool.rows import Rows

_T = TypeVar("_T")

_LEDGER = Ledger("?")

_CONNECT_SECS = 10
#: Time for those who have the file open this moment, such as another output that begins as well.
_SWITCH_SECS = 1.0
#: The part of a transaction's `timeout` that may pass in waiting for a lock, before the writer breaks it off.
_WAITING = 0.9
#: The pauses between looks at a lock grow from the first to the last.
_FIRST_LOOK_SECS = 0.001
_LAST_LOOK_SECS = 0.05
#: Pages that the write-ahead log has before it is merged into the file; SQLite's 1000 would be less than each batch.
_CHECKPOINT_PAGES = 4_000

#: Of a file that is made; SQLite's own beside it (-wal, -shm) get the same.
_MODE = 0o640

#: What the names of SQLite's files end in, besides the database's own.
_FILES = ("", "-wal", "-shm", "-journal")

#: SQLite's rule which values a column prefers, by what its declared type contains; the first that holds.
_AFFINITIES = (
    ("int", "bigint"),
    ("char", "text"),
    ("clob", "text"),
    ("text", "text"),
    ("blob", "blob"),
    ("real", "real"),
    ("floa", "real"),
    ("doub", "real"),
)

#: What helps, by SQLite's primary error codes.
_ADVICE = {
    sqlite3.SQLITE_FULL: "make room on the disk; rows wait",
    sqlite3.SQLITE_READONLY: "the file must be writable for user id {uid}, and new files allowed in its directory",
    sqlite3.SQLITE_CANTOPEN: "its directory must exist, and user id {uid} may create files in it",
    sqlite3.SQLITE_PERM: "the file must be writable for user id {uid}, and new files allowed in its directory",
    sqlite3.SQLITE_IOERR: "the kernel's log may say what is wrong with the disk; rows wait",
    sqlite3.SQLITE_CORRUPT: "save what can be read by `sqlite3 FILE .recover`, then move it away",
    sqlite3.SQLITE_NOTADB: "`db` must name a database, or a file that does not exist yet",
}
#: With these the reason may be whose the files are.
_OF_THE_FILES = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR)
#: What the values of a row can bring about, and waiting cannot mend.
_OF_THE_ROW = (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE)


@cache
def own_tables() -> dict[str, list[Column]]:
    """Return the tables of our own schema, and their columns."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        scratch.executescript(schema("sqlite3.sql"))
        names = [name for (name,) in scratch.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")]
        return {name: _columns(scratch, name) for name in names}


class SQLiteAccess(Access, Protocol):
    """Which file, and how, as the options of SQLITE3 say it."""

    @property
    def db(self) -> str:
        """The file."""

    @property
    def sync(self) -> bool:
        """Bring each transaction to the disk before it counts as stored."""


class SQLiteDatabase(Database):
    """A connection to a file. Until `ledger` is asked nothing is changed, and nothing created that is missing."""

    dialect = "sqlite3"

    def __init__(self, options: SQLiteAccess) -> None:
        self.shown = f"SQLite {options.db}"
        self._options = options
        self._path = os.path.abspath(options.db)
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        #: Whether the file is missing, and the connection one to a database in memory as it is going to be.
        self._is_imagined = False
        self._is_own = options.table in own_tables()
        self._insert = ""
        self._placeholders: list[str] = []
        self._conversions: list[tuple[int, Callable[[str], str | bytes]]] = []
        self._aborted = threading.Event()

    # -- opening -------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Read the schemas."""
        super().load()
        own_tables()

    def connect(self) -> None:
        """Open the file; where it is missing and the table ours, one in memory as it is going to be."""
        self.close()
        self._aborted.clear()
        if os.path.exists(self._path):
            self._open()
        elif self._is_own:
            self._imagine()
        else:
            raise Unavailable(
                f"{self.shown} does not exist — create it with its table {self._options.table}, or leave out `table`: "
                "then nflowlevel creates it with its own"
            )

    def make(self) -> None:
        """Make the file, empty, if it is missing and the table ours."""
        if self._is_own:
            # SQLite would let everybody read it, and who can read it can lock it. Not by open() and close(), which
            # would take their locks from other outputs that have the file open.
            directory, name = os.path.split(self._path)
            # It is there; or SQLite says what is wrong.
            with contextlib.suppress(OSError), directory_of(directory) as fd:
                os.mknod(name, stat.S_IFREG | _MODE, dir_fd=fd)

    def _open(self) -> None:
        self.make()
        if planted := self._planted():  # SQLite would wait for the other end of a FIFO
            raise Unavailable(f"{self.shown}: open: {planted}")
        # A path's ? and % mean something in a URI; and what vanished this moment must not come back as an empty file.
        uri = f"file:{quote(os.fsencode(self._path))}?mode={'rwc' if self._is_own else 'rw'}"
        with self._failures("open"):
            # No cache of statements: of one whose table is gone EXPLAIN shows memory that was freed (see _compiles).
            connection = sqlite3.connect(
                uri, uri=True, timeout=0.0, isolation_level=None, check_same_thread=False, cached_statements=0
            )
            self._connection, self._is_imagined = connection, False
            connection.execute(f"PRAGMA synchronous={'FULL' if self._options.sync else 'NORMAL'}")
            connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            # The first look into the file.
            secs = self._options.connect_timeout or _CONNECT_SECS
            self._patiently(lambda connection: connection.execute("PRAGMA schema_version").fetchall(), secs)
            found = os.stat(self._path)
            self._opened = found.st_dev, found.st_ino

    def _imagine(self) -> None:
        directory = os.path.dirname(self._path)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise Unavailable(f"{self.shown}: cannot be created{self._advice(sqlite3.SQLITE_CANTOPEN)}")
        self._connection, self._is_imagined = sqlite3.connect(":memory:", isolation_level=None), True
        self._connection.executescript(schema("sqlite3.sql"))

    @property
    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise Unavailable(f"{self.shown} is not open")
        return self._connection

    def columns(self) -> list[Column]:
        """Return the columns of the table; of one of ours also before it is there."""
        table = self._options.table
        found = self._columns()
        if not found and not self._is_own:
            raise Unavailable(self._no_table())
        return found or own_tables()[table]

    def _columns(self) -> list[Column]:
        with self._failures("read the columns"):
            return self._patiently(lambda connection: _columns(connection, self._options.table))

    def _no_table(self) -> str:
        with self._failures("read the names of the tables"):
            found = self._open_connection.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")
            names = [name for (name,) in found]
        hint = nearest(self._options.table, names) or " — create it"
        return f"{self.shown} has no table {self._options.table}{hint}, or leave out `table` to get nflowlevel's own"

    def prepare(self, columns: Sequence[Column]) -> None:
        """Make the statement."""
        form, target = statement(self._options.procedure, self._options.table)
        stored = [column for column in columns if column.item]
        into = f"INSERT INTO {_quoted(target)}" if form == "insert" else target
        self._insert = f"{into} ({', '.join(_quoted(column.name) for column in stored)}) VALUES"
        self._placeholders = [_placeholder(column) for column in stored]
        self._conversions = [
            (number, convert) for number, column in enumerate(stored) if (convert := _conversion(column)) is not None
        ]
        if self._columns():
            with self._failures(f"prepare to store into {target}"):
                self._compile()

    def _compile(self) -> None:
        text = f"EXPLAIN {self._insert} ({', '.join(self._placeholders)})"
        self._open_connection.execute(text, [None] * len(self._placeholders)).close()

    # -- making what is missing ----------------------------------------------------------------------------------------

    def ledger(self, writer: str) -> int | None:
        """Return the number of the writer's last row that is in; make file, tables and entry where they are missing."""
        if self._is_imagined or (self._is_own and not self._columns()):
            self.run(schema("sqlite3.sql"))
        self._use_write_ahead_log()
        if not _columns(self._open_connection, LEDGER):
            self.run(schema("sqlite3-ledger.sql"))
        with self._failures("read the ledger"), self._transaction() as connection:
            return _LEDGER.last(connection.execute, writer)

    def run(self, script: str) -> None:
        """Run a script of statements, all or none; make the file where it is missing."""
        if self._is_imagined:
            self.close()
            self._open()
        with self._failures("create the tables"), self._undone_on_error():
            self._patiently(lambda connection: connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nCOMMIT;"))

    def _use_write_ahead_log(self) -> None:
        try:
            with self._failures("switch to the write-ahead log"):
                (mode,) = self._patiently(
                    lambda connection: connection.execute("PRAGMA journal_mode=WAL").fetchone(), _SWITCH_SECS
                )
        except Unavailable as error:
            log.warning(
                "%s; continuing without it", error
            )  # somebody reads it this moment: the next connection gets it
        else:
            if mode != "wal":
                log.warning("%s: no write-ahead log on this file system; readers and this output will wait", self.shown)

    # -- storing -------------------------------------------------------------------------------------------------------

    def _move(self, connection: sqlite3.Connection, writer: str, before: int, to: int) -> None:
        # The table too may have been removed: `ledger` makes it.
        if not _columns(connection, LEDGER):
            raise Moved(f"{self.shown}: the ledger is gone")
        _LEDGER.move(connection.execute, writer, before, to)

    def write(self, rows: Rows, writer: str, before: int | None) -> None:
        """Store the rows in one transaction."""
        texts = copytext.columns(rows)
        columns: list[Sequence[str | bytes | None]] = [*texts]
        for number, convert in self._conversions:
            columns[number] = copytext.converted(texts[number], convert)
        with self._failures(f"store {rows.count} rows", of_rows=True), self._transaction() as connection:
            if before is not None:
                self._move(connection, writer, before, rows.last)
            connection.executemany(*self._filled(columns, rows.count))

    def _filled(self, columns: Sequence[Sequence[object]], count: int) -> tuple[str, Iterable[Sequence[object]]]:
        """Return the statement for these columns and the values of each row; null is cheap as a word only."""
        given = [values.count(None) != count for values in columns]
        values = ", ".join(
            [word if is_given else "NULL" for word, is_given in zip(self._placeholders, given, strict=True)]
        )
        return f"{self._insert} ({values})", zip(*compress(columns, given), strict=True) if any(given) else [()] * count

    def skip(self, number: int, writer: str, before: int) -> None:
        """Move the ledger alone."""
        with self._failures("move the ledger"), self._transaction() as connection:
            self._move(connection, writer, before, number)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock for writing from the beginning: a transaction that has begun need not wait any more."""
        connection = self._open_connection
        if not self._is_imagined:
            self._check_in_place(connection)
        self._patiently(lambda connection: connection.execute("BEGIN IMMEDIATE"))
        with self._undone_on_error():
            yield connection
            self._patiently(lambda connection: connection.execute("COMMIT"))

    @contextlib.contextmanager
    def _undone_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # after some errors SQLite has done it by itself
                self._open_connection.execute("ROLLBACK")
            raise

    def _check_in_place(self, connection: sqlite3.Connection) -> None:
        """SQLite does not notice that its file has lost its name, and nobody would find the rows."""
        try:
            found = os.stat(self._path)
        except OSError as error:
            gone = f"{self.shown} was removed while it was open: {error.strerror}"
        else:
            if (found.st_dev, found.st_ino) == self._opened:
                return
            gone = f"{self.shown} was replaced while it was open; now the new one is used"
        # The log has kept its name: it must not be taken for that of the file which has the name now.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        raise Unavailable(gone)

    def _patiently(self, act: Callable[[sqlite3.Connection], _T], secs: float = 0.0) -> _T:
        """Do something; while another process has the lock, wait: for `secs`, or what `timeout` leaves, or `abort`."""
        # SQLite's own busy handler cannot be interrupted.
        end, backoff = (
            time.monotonic() + (secs or self._options.timeout * _WAITING),
            Backoff(_LAST_LOOK_SECS, _FIRST_LOOK_SECS),
        )
        while True:
            try:
                return act(self._open_connection)
            except sqlite3.OperationalError as error:
                if _primary(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= end or self._aborted.is_set():
                    raise
            self._aborted.wait(backoff.pause())

    # -- errors --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _failures(self, tried: str, *, of_rows: bool = False) -> Iterator[None]:
        """Say in the writer's words what went wrong; only `of_rows` can be Refused."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._failure(tried, error, of_rows) from None

    def _failure(self, tried: str, error: sqlite3.Error, of_rows: bool) -> Refused | Unavailable:
        code = _primary(error)
        if of_rows and (code in _OF_THE_ROW or (code == sqlite3.SQLITE_ERROR and self._compiles())):
            name = error.sqlite_errorname
            return Refused(str(error), str(error.sqlite_errorcode) if name == "unknown" else name)
        return Unavailable(f"{self.shown}: {tried}: {error}{self._advice(code)}")

    def _advice(self, code: int) -> str:
        if code == sqlite3.SQLITE_BUSY:
            return f" — {holder(self._path) or 'another process'} keeps it locked; rows wait"
        obstacle = self._obstacle() if code in _OF_THE_FILES else ""
        if obstacle and code == sqlite3.SQLITE_IOERR:  # it says that, too, where it may not make a file
            code = sqlite3.SQLITE_READONLY
        advice = [text for text in (_ADVICE.get(code, "").format(uid=os.geteuid()), obstacle) if text]
        return f" — {'; '.join(advice)}" if advice else ""

    def _obstacle(self) -> str:
        """Say which directory or file is in the way, and whose it is."""
        directory = os.path.dirname(self._path)
        if (owner := whose(directory)) and not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            return f"the directory {directory} {owner}"
        for path in (self._path + suffix for suffix in _FILES):
            if (owner := whose(path)) and not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
                return f"{path} {owner}; to give it to this user: chown {name_of_user(os.geteuid())} {path}"
        return ""

    def _planted(self) -> str:
        for path in (self._path + suffix for suffix in _FILES):
            if error := refused(path):
                return f"{path}: {error.strerror}; remove it, or start the daemon with -u USER"
            if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
                return f"{path} is no regular file; remove it"
        return ""

    def _compiles(self) -> bool:
        """Whether the statement is good: then an error without a better name (of a trigger) is about the values."""
        try:
            self._compile()
        except (sqlite3.Error, Unavailable):
            return False
        return True

    # -- the end -------------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Interrupt what runs or waits."""
        self._aborted.set()
        connection = self._connection
        if connection:
            with contextlib.suppress(sqlite3.Error):
                connection.interrupt()

    def close(self) -> None:
        """Close the file; may be called again."""
        connection, self._connection, self._opened = self._connection, None, None
        if connection:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _columns(connection: sqlite3.Connection, table: str) -> list[Column]:
    """Return a table's columns: `type` is what SQLite makes of the declared one, as it holds its columns to no more."""
    found = connection.execute("SELECT name, type, pk, hidden FROM pragma_table_xinfo(?)", [table]).fetchall()
    keys = sum(pk > 0 for _, _, pk, _ in found)
    return [
        Column(name, affinity(type_), automatic=hidden > 0 or (pk == keys == 1 and type_.upper() == "INTEGER"))
        for name, type_, pk, hidden in found
    ]


def holder(path: str) -> str:
    """Return which process has a database locked for writing, as `process 123 (name)`; empty where nobody can tell."""
    files = set()
    for suffix in ("", "-shm"):
        with contextlib.suppress(OSError):
            files.add(os.stat(path + suffix).st_ino)
    with contextlib.suppress(OSError, ValueError):
        for line in procfs.text_of("/proc/locks").splitlines():
            # 7: POSIX  ADVISORY  WRITE 4711 fe:01:1234 120 120
            words = line.split()
            pid, inode = int(words[-4]), int(words[-3].rpartition(":")[2])
            if words[-5] == "WRITE" and inode in files and pid > 0:
                return f"process {pid} ({procfs.name_of(pid)})"
    return ""


def affinity(declared: str) -> str:
    """Return which values a column of this declared type prefers: bigint, text, blob, real or numeric."""
    lower = declared.lower()
    if not lower:
        return "blob"
    return next((name for part, name in _AFFINITIES if part in lower), "numeric")


def _placeholder(column: Column) -> str:
    """Rows come as text. A column with a type for numbers makes numbers of it; one without a type has to be told."""
    key = BY_NAME.get(column.item)
    is_number = column.item.endswith(AS_NUMBER) or (key is not None and key.most is not None)
    return "CAST(? AS NUMERIC)" if column.type == "blob" and is_number else "?"


def _conversion(column: Column) -> Callable[[str], str | bytes] | None:
    if column.item == TIME:
        return _time
    key = BY_NAME.get(column.item)
    return _bytes if column.type == "blob" and key is not None and key.type in ("raw", "rawstr") else None


def _time(text: str) -> str:
    """SQLite's functions for dates know no zone without minutes; without one they take it for UTC, as it is."""
    return text.removesuffix("+00")


def _bytes(digits: str) -> bytes:
    """Rows have bytes as hexadecimal digits, after `\\x` or `0x`."""
    return bytes.fromhex(digits[2:])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _primary(error: sqlite3.Error) -> int:
    """Return the primary result code; the errors that Python's module raises by itself have none: -1."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else code & 0xFF
