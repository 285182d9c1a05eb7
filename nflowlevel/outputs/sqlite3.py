# SPDX-License-Identifier: GPL-2.0-or-later
"""SQLITE3: rows into a table of an SQLite file: a database without a server.

Each column stores the key of its name, with `.` for `_`; other columns stay empty. If `table` is one of our own,
`packets` or (for accounting) `sums`, the output creates a missing file or table. A table of ulogd2 works unchanged:
numbers above 2^31 are stored as they are, addresses as text, or as numbers in a numeric column (IPv4).

All waiting rows are stored in one transaction, which is on the disk before it counts as stored. The output waits for
the lock of another process and reopens a file that was removed or replaced; meanwhile it keeps rows as `when_full`
says. If a row breaks a constraint, only that row goes to the dead-letter file. A row that was stored before the daemon
was killed is not stored again. Several outputs may share a file.

A file that the output creates has mode 0640, and so have `FILE-wal` and `FILE-shm`: whoever can read a database can
lock it, and then nothing can be stored. Readers have to be in the file's group. The daemon's user (`-u`) needs write
permission for the directory, too.

The output switches the file to SQLite's write-ahead log, so that readers and the output do not wait for each other.
`FILE-wal` and `FILE-shm` belong to the file while it is open. To copy the file use `sqlite3 FILE ".backup COPY"`; to
replace it stop the daemon first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from nflowlevel.plugin.tables import SQLOutput
from nflowlevel.sql.options import SQLOptions, statement
from nflowlevel.sql.sqlite import SQLiteDatabase

if TYPE_CHECKING:
    from nflowlevel.sql.database import Database


class SQLITE3Options(SQLOptions, frozen=True, kw_only=True):
    """Options of SQLITE3; names as in ulogd.conf."""

    db: Annotated[str, Meta(min_length=1, description="File of the database.")]
    table: Annotated[str, Meta(min_length=1, description="Table or view; its columns say which keys are stored.")] = (
        "packets"
    )
    sync: Annotated[
        bool,
        Meta(
            description="Force each transaction to the disk before it counts as stored; if off, a power failure "
            "may lose the last ones."
        ),
    ] = True

    def __post_init__(self) -> None:
        """SQLite has neither procedures nor functions that store."""
        if statement(self.procedure, self.table).form not in ("insert", "text"):
            raise ValueError(
                f"procedure={self.procedure}: SQLite has no procedures; use INSERT, or INSERT INTO a table"
            )


class SQLITE3(SQLOutput[SQLITE3Options]):
    """The SQLITE3 plugin; see the module."""

    name = "SQLITE3"
    Options = SQLITE3Options

    def database(self) -> Database:
        """Return a connection to the file, not opened yet."""
        return SQLiteDatabase(self.options)

    def open(self) -> None:
        """Make the file that is missing, so that whoever looks for it finds it as it is to be, and start."""
        SQLiteDatabase(self.options).make()
        super().open()
