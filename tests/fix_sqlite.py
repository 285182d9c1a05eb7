# SPDX-License-Identifier: GPL-2.0-or-later
"""SQLite files for tests: scripts and queries by a connection of their own, and another process that has one locked."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any

#: Nothing here takes long; a test that waits this long has failed.
_PATIENCE = 20.0


def execute(path: Path, script: str) -> None:
    """Run a script; the file is made if it is missing."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def rows_of(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


class Locker:
    """Another process, which has the database locked; it goes on when it is told."""

    _SCRIPT = """
        import sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute(sys.argv[2])
        connection.execute("SELECT * FROM sqlite_schema").fetchall()
        print("locked", flush=True)
        sys.stdin.readline()
        connection.execute("COMMIT")
    """

    def __init__(self, path: Path, begin: str = "BEGIN EXCLUSIVE") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(self._SCRIPT), str(path), begin],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid
        assert self._process.stdout
        assert self._process.stdout.readline() == b"locked\n"

    def release(self) -> None:
        self._process.communicate(b"\n", _PATIENCE)

    def __enter__(self) -> Locker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
