# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the archive share: logs whose records are numbered, what is in an archive, and a compaction that is
killed at any point."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb

from nflowlevel.archive.reader import escape_pattern, files
from nflowlevel.archive.schema import RELATIONS

#: 2026-11-23T18:54:44Z.
SECOND = 1_795_460_084


def record(number: int, **more: Any) -> bytes:
    """Return a line of JSON: record `number`, which is so many microseconds * 1000 after SECOND."""
    us = SECOND * 1_000_000 + number * 1000
    found: dict[str, Any] = {"timestamp": "2026-11-23T18:54:44.190524+0000", "dvc": "fw"}
    found |= {"oob.prefix": "in: ", "oob.time.sec": us // 1_000_000, "oob.time.usec": us % 1_000_000}
    found |= {"tcp.window": 16384, "src_ip": f"192.0.2.{number % 200}", "oob.mark": number, **more}
    return json.dumps({name: value for name, value in found.items() if value is not None}).encode() + b"\n"


def log(numbers: range, **more: Any) -> bytes:
    """Return the lines of records."""
    return b"".join(record(number, **more) for number in numbers)


def marks(archive: Path) -> list[int]:
    """Return the numbers of the packets in an archive, sorted."""
    return sorted(row[0] for row in query(archive, "SELECT oob_mark FROM packets"))


def query(archive: Path, sql: str) -> list[tuple[Any, ...]]:
    """Return what DuckDB answers about the relations `packets`, `flows` and `sums` of an archive."""
    database = duckdb.connect()
    for kind, relation in RELATIONS.items():
        found = [escape_pattern(path) for path in files(archive, kind)]
        if found:
            # A view takes no parameters.
            listed = ", ".join("'" + path.replace("'", "''") + "'" for path in found)
            read = f"read_parquet([{listed}], union_by_name=true, hive_partitioning=false)"
            database.execute(f"CREATE VIEW {kind} AS SELECT * FROM {read}")
        else:
            columns = ", ".join(f"{column.name} {column.type}" for column in relation)
            database.execute(f"CREATE TABLE {kind} ({columns})")
    return database.execute(sql).fetchall()


def damaged(archive: Path) -> bytes:
    """Return the lines that are kept apart."""
    return b"".join(path.read_bytes() for path in sorted((archive / "damaged").glob("*")))


def footers(archive: Path) -> list[dict[str, Any]]:
    """Return what the footers of the packets' files say of their sources."""
    sql = "SELECT value FROM parquet_kv_metadata($1) WHERE key = 'nflowlevel.source'"
    found = [duckdb.connect().execute(sql, [escape_pattern(path)]).fetchone() for path in files(archive)]
    return [json.loads(row[0]) for row in found if row]


#: Records of the logs of `sources`, and their damaged lines.
COUNT = 600
TORN = [b'{"timestamp": "2026-11-23T18:5\n', b'{"oob.time.sec": 1, "tcp.window": 65536}\n', b'{"timestamp": "2026']


def sources(directory: Path) -> list[Path]:
    """Make logs: plain, compressed, of several days, with sums and damaged lines among the packets."""
    directory.mkdir(exist_ok=True)
    sums = b'{"timestamp": "2026-11-23T00:00:00Z", "dvc": "fw", "sum.name": "http", "sum.pkts": 7, "sum.bytes": 1}\n'
    made = {
        "u.json.3": log(range(200)),
        "u.json.2.gz": gzip.compress(log(range(200, 300)) + TORN[0] + TORN[1] + log(range(300, 400))),
        "u.json.1": log(range(400, 500)) + sums + log(range(500, COUNT), **{"oob.time.sec": SECOND + 86_400}) + TORN[2],
    }
    for name, data in made.items():
        (directory / name).write_bytes(data)
    return [directory / name for name in made]


_KILLED = """if True:
    import os, signal, sys
    import duckdb
    from nflowlevel.archive import compaction
    from nflowlevel.archive.journal import Journal
    from nflowlevel.cli.compact import retain

    compaction.FILE_ROWS, compaction.BLOCK_BYTES = 100, 1 << 14
    settings = compaction.Settings(min_age=0)
    at = seen = 0
    CHANGES = sys.argv[1:]

    def watch(name, arguments):
        # Whatever touches files passes here; fsync is between two of these.
        global seen
        # How much there is to look at in /proc, for who has a file open, changes from one run to the next.
        if arguments and str(arguments[0]).startswith("/proc"):
            return
        if name in CHANGES or not CHANGES and (name == "open" or name.startswith(("os.", "shutil.", "fcntl."))):
            seen += 1
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    for line in sys.stdin:
        wanted, archive, *paths = line.rstrip("\\n").split("\\t")
        child = os.fork()
        if not child:
            # Only here: a fork counts too, and this process is to live.
            at, seen = int(wanted), 0
            with Journal(archive) as journal:
                for path in paths:
                    if os.path.exists(path):
                        compaction.compact(journal, path, settings)
            counted, at = seen, -1
            with open(archive + ".seen", "w") as file:
                file.write(str(counted))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Killer:
    """Compactions that are killed at their n-th call of os, open or a lock, as Python's audit hooks see them.

    With `calls`, only at one of these, such as `os.rename`.
    """

    def __init__(self, *calls: str) -> None:
        self._calls = calls

    def __enter__(self) -> Killer:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _KILLED, *self._calls], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def compact(self, archive: Path, paths: list[Path], at: int = -1) -> int:
        """Compact files, and be killed at that point; -1: never. Return the exit status, -9 after a kill."""
        assert self._process.stdin
        assert self._process.stdout
        print(at, archive, *paths, sep="\t", file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def points(self, archive: Path) -> int:
        """Return how many points the last whole compaction had."""
        return int(Path(f"{archive}.seen").read_text())


def exactly_once(archive: Path, paths: list[Path]) -> None:
    """Fail unless each record of `sources` is in the archive once, the damaged lines too, and the sources are gone."""
    assert marks(archive) == list(range(COUNT))
    assert query(archive, "SELECT sum_name, sum_pkts FROM sums") == [("http", 7)]
    kept = [line for path in (archive / "damaged").iterdir() for line in path.read_bytes().splitlines(keepends=True)]
    assert Counter(kept) == Counter(TORN)
    assert not [path for path in paths if path.exists()]
    assert sorted(os.listdir(archive / ".compact")) == sorted(
        ["lock", *(name for name in os.listdir(archive / ".compact") if name.endswith(".json"))]
    )
