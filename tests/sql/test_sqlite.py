# SPDX-License-Identifier: GPL-2.0-or-later
"""SQLITE3 on real files: values, constraints, locks of other processes, a full disk, kill -9, a file that vanishes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.binding import procfs
from nflowlevel.outputs.sqlite3 import SQLITE3Options
from nflowlevel.records.keys import BY_NAME, added_key
from nflowlevel.spool.rows import Rows
from nflowlevel.spool.sink import Moved, Refused, Unavailable
from nflowlevel.sql.columns import match
from nflowlevel.sql.copytext import escape
from nflowlevel.sql.sqlite import SQLiteDatabase, affinity, holder
from tests.fix_lines import file_size_limit, small_disk
from tests.fix_sqlite import Locker, execute, rows_of

WRITER = "8c9a0a3e-1f3b-4c61-9f8e-5f1d5a1f3a10"
#: Nothing here takes long; a test that waits this long has failed.
PATIENCE = 20.0

_SHIPPED = Path("/usr/share/doc/ulogd2-sqlite3/sqlite3.table")
_TABLE = "CREATE TABLE t (oob_mark INT UNSIGNED, oob_prefix VARCHAR(64), n INTEGER)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is, or is going to be."""
    return tmp_path / "packets.db"


def made(*values: tuple[str | None, ...], items: tuple[str, ...], first: int = 1) -> Rows:
    """Return rows of these values."""
    lines = ["\t".join(map(escape, row)) + "\n" for row in values]
    return Rows(items, first, len(values), "".join(lines).encode())


class Opened:
    """A connection as the writer makes one, for a stack with these keys."""

    def __init__(self, path: Path, *names: str, **options: Any) -> None:
        self.database = SQLiteDatabase(SQLITE3Options(db=str(path), **options))
        members = [(name, BY_NAME.get(name) or added_key(name, "string", "A test's.")) for name in names]
        self.database.connect()
        columns = match(self.database.columns(), members, arguments=False)
        self.items = tuple(column.item for column in columns)
        self.database.prepare(columns)
        self.at = self.database.ledger(WRITER)

    def write(self, *values: tuple[str | None, ...]) -> None:
        """Store rows of these values, as the writer does."""
        assert self.at is not None
        rows = made(*values, items=self.items, first=self.at + 1)
        self.database.write(rows, WRITER, self.at)
        self.at = rows.last


@contextmanager
def opened(path: Path, *names: str, **options: Any) -> Iterator[Opened]:
    found = Opened(path, *names, **options)
    try:
        yield found
    finally:
        found.database.close()


# -- values -----------------------------------------------------------------------------------------------------------


def stored(path: Path, declared: str, item: str, *values: str | None) -> list[tuple[str, Any]]:
    """Return type and value that SQLite has of values in a column of a declared type."""
    column = item.replace(".", "_").removesuffix(":number")
    execute(path, f"CREATE TABLE t ({column} {declared})")
    with opened(path, item.removesuffix(":number"), table="t") as database:
        assert database.items == (item,)
        database.write(*((value,) for value in values))
    return rows_of(path, f"SELECT typeof({column}), {column} FROM t ORDER BY rowid")


@pytest.mark.parametrize("declared", ["INT UNSIGNED", "INTEGER", "BIGINT", "NUMERIC", "", "BOOLEAN", "TINYINT(1)"])
def test_numbers_are_numbers_of_their_size(path: Path, declared: str) -> None:
    found = stored(path, declared, "oob.mark", "0", "2147483648", "4294967295", None)
    assert found == [("integer", 0), ("integer", 2**31), ("integer", 2**32 - 1), ("null", None)]


@pytest.mark.parametrize("declared", ["INTEGER", "NUMERIC", ""])
def test_counters_of_64_bits(path: Path, declared: str) -> None:
    found = stored(path, declared, "sum.bytes", str(2**63 - 1), str(2**64 - 1))
    assert found == [("integer", 2**63 - 1), ("real", float(2**64))]


@pytest.mark.parametrize("declared", ["INTEGER", "INT UNSIGNED", ""])
def test_an_address_of_ip2hbin_is_a_number(path: Path, declared: str) -> None:
    assert stored(path, declared, "ip.hsaddr", "172818434", None) == [("integer", 172818434), ("null", None)]


@pytest.mark.parametrize("declared", ["TEXT", "VARCHAR(3)", "CHARACTER(9)", ""])
def test_text_is_text(path: Path, declared: str) -> None:
    values = "0123", "\\x41", "0xzz", "tab\tline\nbackslash\\", "Größe 😀", ""
    assert stored(path, declared, "oob.prefix", *values) == [("text", value) for value in values]


def test_text_keeps_a_nul(path: Path) -> None:
    assert stored(path, "TEXT", "oob.prefix", "a\0b") == [("text", "a\0b")]


@pytest.mark.parametrize("declared", ["BLOB", ""])
@pytest.mark.parametrize("item", ["raw.pkt", "ip.saddr.bin"])
def test_bytes_are_bytes(path: Path, declared: str, item: str) -> None:
    text = "\\x4500ff" if item == "raw.pkt" else "0x4500ff"
    assert stored(path, declared, item, text, None) == [("blob", b"\x45\x00\xff"), ("null", None)]


def test_bytes_in_a_column_for_text_are_hexadecimal(path: Path) -> None:
    assert stored(path, "TEXT", "raw.pkt", "\\x4500ff") == [("text", "\\x4500ff")]


def test_an_address_is_text_or_a_number(path: Path) -> None:
    assert stored(path, "TEXT", "ip.saddr", "10.77.0.2", "fe80::1") == [("text", "10.77.0.2"), ("text", "fe80::1")]
    path.unlink()
    # In ulogd2's own table: not its bytes in the order of the machine, as ulogd2 stores them.
    assert stored(path, "INT UNSIGNED", "ip.saddr:number", "172818434", None) == [
        ("integer", 172818434),
        ("null", None),
    ]


def test_the_time_is_what_the_functions_for_dates_understand(path: Path) -> None:
    execute(path, "CREATE TABLE t (oob_time TEXT)")
    with opened(path, "oob.prefix", table="t") as database:
        database.write(("2026-11-23 23:40:13.123456+00",))
    query = "SELECT oob_time, strftime('%s', oob_time), datetime(oob_time, '+1 hour') FROM t"
    assert rows_of(path, query) == [("2026-11-23 23:40:13.123456", "1795477213", "2026-11-24 00:40:13")]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("INT UNSIGNED", "bigint"),
        ("POINT", "bigint"),
        ("CHARINT", "bigint"),
        ("VARCHAR(64)", "text"),
        ("clob", "text"),
        ("BLOB", "blob"),
        ("", "blob"),
        ("double precision", "real"),
        ("FLOAT", "real"),
        ("DATETIME", "numeric"),
        ("STRING", "numeric"),
    ],
)
def test_the_type_of_a_column_is_what_sqlite_makes_of_it(path: Path, declared: str, expected: str) -> None:
    assert affinity(declared) == expected
    # What SQLite really does with the text of a number.
    execute(path, f"CREATE TABLE t (c {declared}); INSERT INTO t VALUES ('12')")
    ((made_of_it,),) = rows_of(path, "SELECT typeof(c) FROM t")
    assert made_of_it == {"bigint": "integer", "numeric": "integer", "real": "real"}.get(expected, "text")


# -- columns ----------------------------------------------------------------------------------------------------------


def columns_of(path: Path, ddl: str, table: str = "t") -> dict[str, bool]:
    """Return the names of a table's columns, and whether each is filled by SQLite."""
    execute(path, ddl)
    database = SQLiteDatabase(SQLITE3Options(db=str(path), table=table))
    database.connect()
    with closing(database):
        return {column.name: column.automatic for column in database.columns()}


def test_columns_that_sqlite_fills(path: Path) -> None:
    ddl = "CREATE TABLE t (id INTEGER PRIMARY KEY, a INT, b AS (a + 1), c AS (a + 2) STORED, d DEFAULT 7)"
    assert columns_of(path, ddl) == {"id": True, "a": False, "b": True, "c": True, "d": False}


def test_a_key_of_two_columns_is_not_filled(path: Path) -> None:
    assert columns_of(path, "CREATE TABLE t (a INTEGER, b INTEGER, PRIMARY KEY (a, b))") == {"a": False, "b": False}


def test_a_key_that_is_not_sqlites_own_number_is_not_filled(path: Path) -> None:
    assert columns_of(path, "CREATE TABLE t (a INT PRIMARY KEY)") == {"a": False}


def test_a_view_and_odd_names(path: Path) -> None:
    ddl = 'CREATE TABLE t (a INT, "x ""y" TEXT); CREATE VIEW "my view; DROP TABLE t" AS SELECT * FROM t'
    assert columns_of(path, ddl, "my view; DROP TABLE t") == {"a": False, 'x "y': False}


def test_columns_of_all_keys_with_odd_names_in_a_table_with_an_odd_name(path: Path) -> None:
    # ulogd2 overruns its buffer with this many (D-S05).
    names = tuple(BY_NAME)
    columns = ", ".join(f'"{name.replace(".", "_").upper()}"' for name in names)
    execute(path, f'CREATE TABLE "t ""1" ({columns}, "not a key")')
    with opened(path, *names, table='t "1') as database:
        assert len(database.items) == len(names)
        database.write((None,) * len(names))
    assert rows_of(path, 'SELECT count(*) FROM "t ""1"') == [(1,)]


def test_the_table_of_ulogd2(path: Path) -> None:
    if not _SHIPPED.exists():
        pytest.skip(f"{_SHIPPED} is not there (Debian: ulogd2-sqlite3)")
    execute(path, _SHIPPED.read_text())
    with opened(path, *BY_NAME, table="ulog_pkt") as database:
        expected = "raw.pktlen raw.pktcount oob.prefix oob.time.sec oob.time.usec oob.mark oob.hook oob.uid oob.gid"
        assert database.items == tuple(expected.split())
        database.write(("84", "1", "drop: ", "1795477213", "123456", "4000000000", "3", "0", None))
    # ulogd2 stores -294967296 for this mark (D-S03).
    assert rows_of(path, "SELECT * FROM ulog_pkt") == [(84, 1, "drop: ", 1795477213, 123456, 4000000000, 3, 0, None)]


def test_another_beginning_of_the_statement(path: Path) -> None:
    execute(path, "CREATE TABLE t (oob_mark INT UNIQUE); CREATE TABLE u (oob_mark INT UNIQUE)")
    with opened(path, "oob.mark", table="t", procedure="INSERT OR IGNORE INTO u") as database:
        database.write(("1",), ("1",), ("2",))
    with opened(path, "oob.mark", table="t", procedure="INSERT INTO u") as database:
        database.write(("3",))
    assert rows_of(path, "SELECT oob_mark FROM u") == [(1,), (2,), (3,)]
    assert rows_of(path, "SELECT * FROM t") == []


# -- what is refused --------------------------------------------------------------------------------------------------

_REFUSALS = {
    "SQLITE_CONSTRAINT_UNIQUE": "CREATE TABLE t (oob_mark INT UNIQUE, oob_prefix TEXT, n INT)",
    "SQLITE_CONSTRAINT_NOTNULL": "CREATE TABLE t (oob_mark INT, oob_prefix TEXT NOT NULL, n INT)",
    "SQLITE_CONSTRAINT_CHECK": "CREATE TABLE t (oob_mark INT, oob_prefix TEXT CHECK (oob_prefix NOT NULL))",
    # Python 3.11 has no name for the one of a STRICT table.
    "3091": "CREATE TABLE t (oob_mark INT, oob_prefix INTEGER) STRICT",
    "SQLITE_MISMATCH": "CREATE TABLE t (oob_mark INT, oob_prefix INTEGER PRIMARY KEY)",
    "SQLITE_CONSTRAINT_TRIGGER": """CREATE TABLE t (oob_mark INT, oob_prefix TEXT);
        CREATE TRIGGER no BEFORE INSERT ON t WHEN NEW.oob_prefix IS NULL OR NEW.oob_prefix = 'bad'
        BEGIN SELECT RAISE(ABORT, 'not this one'); END""",
    # The error of a function has no code of its own.
    "SQLITE_ERROR": """CREATE TABLE t (oob_mark INT, oob_prefix TEXT);
        CREATE TRIGGER no BEFORE INSERT ON t WHEN coalesce(NEW.oob_prefix, 'bad') = 'bad'
        BEGIN SELECT json('{'); END""",
}


@pytest.mark.parametrize("code", _REFUSALS)
def test_a_row_that_is_refused(path: Path, code: str) -> None:
    bad = {"3091": "bad", "SQLITE_MISMATCH": "bad", "SQLITE_CONSTRAINT_UNIQUE": "6"}.get(code)
    execute(path, _REFUSALS[code])
    with opened(path, "oob.mark", "oob.prefix", table="t") as database:
        database.write(("1", "5"))
        with pytest.raises(Refused) as refused:
            database.write(("2", "6"), ("1", bad), ("3", "7"))
        assert refused.value.code in (code, "SQLITE_CONSTRAINT_DATATYPE")
        assert not refused.value.retryable
        # All or none, and the connection is good for more.
        database.write(("4", "8"))
        assert database.at == 2
    assert rows_of(path, "SELECT oob_mark FROM t ORDER BY 1") == [(1,), (4,)]
    assert rows_of(path, "SELECT row FROM nflowlevel_ledger") == [(2,)]


def test_a_value_too_big(path: Path) -> None:
    execute(path, _TABLE)
    with opened(path, "oob.mark", "oob.prefix", table="t") as database:
        database.database._open_connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1000)
        with pytest.raises(Refused) as refused:
            database.write(("1", "x" * 1001))
        assert refused.value.code == "SQLITE_TOOBIG"
        database.write(("1", "x" * 900))


def test_a_table_that_is_dropped_is_not_the_rows_fault(path: Path) -> None:
    execute(path, _TABLE)
    with opened(path, "oob.mark", table="t") as database:
        execute(path, "DROP TABLE t")
        with pytest.raises(Unavailable, match="no such table"):
            database.write(("1",))
        database.database.connect()
        with pytest.raises(Unavailable, match="has no table t — create it, or leave out `table`"):
            database.database.columns()


# -- the ledger -------------------------------------------------------------------------------------------------------


def test_the_ledger_moves_with_the_rows(path: Path) -> None:
    execute(path, _TABLE)
    with opened(path, "oob.mark", table="t") as database:
        assert database.at == 0
        database.write(("1",), ("2",))
    with opened(path, "oob.mark", table="t") as database:
        assert database.at == 2
        database.database.skip(3, WRITER, 2)
        assert database.database.ledger(WRITER) == 3
        assert database.database.ledger("another") == 0


def test_a_ledger_that_has_moved(path: Path) -> None:
    execute(path, _TABLE)
    with opened(path, "oob.mark", table="t") as one, opened(path, "oob.mark", table="t") as two:
        one.write(("1",))
        with pytest.raises(Moved):
            two.write(("1",))
        with pytest.raises(Moved):
            two.database.skip(1, WRITER, 0)
        two.at = two.database.ledger(WRITER)
        two.write(("2",))
        # Nor may it go on from a number that the ledger has not reached: a file that was set back.
        with pytest.raises(Moved):
            two.database.skip(8, WRITER, 7)
    assert rows_of(path, "SELECT oob_mark FROM t") == [(1,), (2,)]


def test_a_ledger_that_was_removed_is_made_again(path: Path) -> None:
    execute(path, _TABLE)
    with opened(path, "oob.mark", table="t") as database:
        execute(path, "DROP TABLE nflowlevel_ledger")
        with pytest.raises(Moved):
            database.write(("1",))
        assert database.database.ledger(WRITER) == 0
        database.at = 0
        database.write(("1",))
    assert rows_of(path, "SELECT oob_mark FROM t") == [(1,)]


def test_without_a_ledger_rows_are_stored_all_the_same(path: Path) -> None:
    execute(path, _TABLE)
    with opened(path, "oob.mark", table="t") as database:
        database.database.write(made(("1",), items=database.items), WRITER, None)
    assert rows_of(path, "SELECT oob_mark FROM t") == [(1,)]
    assert rows_of(path, "SELECT row FROM nflowlevel_ledger") == [(0,)]


# -- locks ------------------------------------------------------------------------------------------------------------


def _waits(database: SQLiteDatabase) -> threading.Event:
    """Return an event that is set when the database has met the lock and waits for it."""
    waits, wait = threading.Event(), database._aborted.wait

    def waited(secs: float | None = None) -> bool:
        waits.set()
        return wait(secs)

    database._aborted.wait = waited  # type: ignore[method-assign]
    return waits


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_lock_is_waited_for(path: Path, journal: str) -> None:
    execute(path, _TABLE)
    with opened(path, "oob.mark", table="t") as database:
        if journal == "delete":
            database.database._open_connection.execute("PRAGMA journal_mode=DELETE")
        with Locker(path) as locker:
            waits = _waits(database.database)
            thread = threading.Thread(target=database.write, args=[("1",)])
            thread.start()
            assert waits.wait(PATIENCE)
            assert database.at == 0
            locker.release()
            thread.join(PATIENCE)
        assert database.at == 1
    assert rows_of(path, "SELECT oob_mark FROM t") == [(1,)]


def test_a_lock_that_stays_is_told_with_its_holder(path: Path) -> None:
    execute(path, _TABLE)
    with opened(path, "oob.mark", table="t", timeout=1) as database:
        with Locker(path) as locker:
            assert holder(str(path)) == f"process {locker.pid} ({procfs.name_of(locker.pid)})"
            with pytest.raises(Unavailable, match=rf"database is locked — process {locker.pid} \(.+\) keeps it locked"):
                database.write(("1",))
        # Nothing is lost, and the connection still good.
        database.write(("1",))
    assert holder(str(path)) == ""
    assert rows_of(path, "SELECT oob_mark FROM t") == [(1,)]


def test_a_commit_waits_for_readers_where_there_is_no_write_ahead_log(path: Path) -> None:
    execute(path, _TABLE)
    with opened(path, "oob.mark", table="t") as database:
        database.database._open_connection.execute("PRAGMA journal_mode=DELETE")
        with Locker(path, "BEGIN") as reader:
            waits = _waits(database.database)
            thread = threading.Thread(target=database.write, args=[("1",)])
            thread.start()
            assert waits.wait(PATIENCE)
            reader.release()
            thread.join(PATIENCE)
        assert database.at == 1
    assert rows_of(path, "SELECT oob_mark FROM t") == [(1,)]


def test_a_reader_does_not_keep_the_output_waiting(path: Path) -> None:
    execute(path, _TABLE)
    with opened(path, "oob.mark", table="t", timeout=1) as database, Locker(path, "BEGIN"):
        database.write(("1",))
        assert holder(str(path)) == ""
    assert rows_of(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_reader_at_the_start_does_not_keep_the_output_waiting(path: Path) -> None:
    execute(path, _TABLE)
    with Locker(path, "BEGIN") as reader:
        # The file cannot be switched to the write-ahead log now.
        database = SQLiteDatabase(SQLITE3Options(db=str(path), table="t", timeout=1))
        with closing(database):
            database.connect()
            database.prepare(match(database.columns(), [("oob.mark", BY_NAME["oob.mark"])], arguments=False))
            with pytest.raises(Unavailable, match="database is locked"):
                database.ledger(WRITER)
            reader.release()
            assert database.ledger(WRITER) == 0
    assert rows_of(path, "PRAGMA journal_mode") == [("wal",)]


def test_abort_ends_the_waiting_for_a_lock(path: Path) -> None:
    execute(path, _TABLE)
    failures: list[Exception] = []

    def write() -> None:
        try:
            database.write(("1",))
        except Unavailable as error:
            failures.append(error)

    with opened(path, "oob.mark", table="t", timeout=600) as database, Locker(path) as locker:
        waits = _waits(database.database)
        thread = threading.Thread(target=write)
        thread.start()
        assert waits.wait(PATIENCE)
        database.database.abort()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert "database is locked" in str(failures)
        # The next connection waits again.
        database.database.connect()
        waits.clear()
        thread = threading.Thread(target=write)
        thread.start()
        assert waits.wait(PATIENCE)
        locker.release()
        thread.join(PATIENCE)
    assert rows_of(path, "SELECT oob_mark FROM t") == [(1,)]


def test_abort_interrupts_a_statement(path: Path) -> None:
    endless = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT count(*) FROM c"
    begun = threading.Event()
    execute(path, f"{_TABLE}; CREATE TRIGGER slow AFTER INSERT ON t BEGIN SELECT ({endless}); END")
    with opened(path, "oob.mark", table="t") as database:
        database.database._open_connection.set_progress_handler(begun.set, 1000)
        threading.Thread(target=lambda: begun.wait(PATIENCE) and database.database.abort()).start()
        with pytest.raises(Unavailable, match="interrupted"):
            database.write(("1",))
        # The next connect begins anew.
        database.database.connect()
        assert database.database.ledger(WRITER) == 0


def test_abort_and_close_of_what_is_not_open(path: Path) -> None:
    database = SQLiteDatabase(SQLITE3Options(db=str(path)))
    database.abort()
    database.close()
    database.close()
    with pytest.raises(Unavailable, match="is not open"):
        database.write(made(("1",), items=("oob.mark",)), WRITER, None)


# -- disks and files --------------------------------------------------------------------------------------------------


def test_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "200k") as disk:
        path = disk / "packets.db"
        execute(path, _TABLE)
        ballast = disk / "ballast"
        with opened(path, "oob.mark", "oob.prefix", table="t") as database:
            ballast.write_bytes(b"x" * (80 << 10))
            with pytest.raises(Unavailable, match="make room on the disk"):
                database.write(*[("1", "x" * 1000)] * 100)
            ballast.unlink()
            database.write(*[("1", "x" * 1000)] * 23)
        assert rows_of(path, "SELECT count(*) FROM t") == [(23,)]
        assert rows_of(path, "SELECT row FROM nflowlevel_ledger") == [(23,)]


def test_a_limit_of_the_file_size(path: Path) -> None:
    execute(path, _TABLE)
    with opened(path, "oob.mark", "oob.prefix", table="t") as database:
        with file_size_limit(64 << 10), pytest.raises(Unavailable):
            database.write(*[("1", "x" * 1000)] * 100)
        database.write(("1", "x"))
    assert rows_of(path, "SELECT count(*) FROM t") == [(1,)]


def test_what_the_killed_process_has_not_committed_is_in_neither(path: Path) -> None:
    execute(path, f"{_TABLE}; CREATE TABLE u (n INT)")
    script = """
        import os, signal, sys
        from pathlib import Path
        from tests.sql.test_sqlite import Opened
        database = Opened(Path(sys.argv[1]), "oob.mark", table="t")
        database.write(("1",), ("2",))
        connection = database.database._open_connection
        connection.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
        connection.execute("CREATE TEMP TRIGGER end AFTER INSERT ON t WHEN NEW.oob_mark = 5 BEGIN SELECT die(); END")
        database.write(("3",), ("4",), ("5",))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], check=False, timeout=PATIENCE)
    assert done.returncode == -signal.SIGKILL
    with opened(path, "oob.mark", table="t") as database:
        assert database.at == 2
        assert rows_of(path, "SELECT oob_mark FROM t") == [(1,), (2,)]
        database.write(("3",), ("4",), ("5",))
    assert rows_of(path, "SELECT count(*) FROM t") == [(5,)]


def _removed(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def _moved(path: Path) -> None:
    path.rename(path.with_suffix(".old"))


def _replaced(path: Path) -> None:
    other = path.with_suffix(".new")
    execute(other, _TABLE)
    other.rename(path)


@pytest.mark.parametrize("change", [_removed, _moved, _replaced])
def test_a_file_that_is_gone_is_noticed(path: Path, change: Callable[[Path], None]) -> None:
    execute(path, _TABLE)
    with opened(path, "oob.mark", table="t") as database:
        database.write(("1",))
        change(path)
        with pytest.raises(Unavailable, match=r"was (removed|replaced)"):
            database.write(("2",))
    if change is _replaced:
        with opened(path, "oob.mark", table="t") as database:
            assert database.at == 0
            database.write(("2",))
        assert rows_of(path, "SELECT oob_mark FROM t") == [(2,)]
    if change is _moved:
        assert rows_of(path.with_suffix(".old"), "SELECT oob_mark FROM t") == [(1,)]


def test_our_own_file_is_made_again(path: Path) -> None:
    with opened(path, "oob.mark") as database:
        database.write(*[("1",) * len(database.items)])
        _removed(path)
        with pytest.raises(Unavailable, match="was removed"):
            database.write(("1",) * len(database.items))
    with opened(path, "oob.mark") as database:
        assert database.at == 0


@pytest.mark.parametrize("name", ["with space", "per%25cent", "que?stion#hash&mode=ro", "Größe", os.fsdecode(b"\xff")])
def test_any_name_of_a_file(tmp_path: Path, name: str) -> None:
    with opened(tmp_path / name, "oob.mark") as database:
        database.write(("1",) * len(database.items))
        assert sorted(file.name for file in tmp_path.iterdir()) == [name, f"{name}-shm", f"{name}-wal"]


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_text("stack=log1:NFLOG\n" * 100)
    with pytest.raises(Unavailable, match="file is not a database — `db` must name a database"):
        Opened(path, "oob.mark", table="t")
    assert path.read_text() == "stack=log1:NFLOG\n" * 100


def test_a_torn_file(path: Path) -> None:
    execute(path, f"{_TABLE}; WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT 9999) "
            "INSERT INTO t SELECT i, 'prefix', i FROM c")  # fmt: skip
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    with (
        pytest.raises(Unavailable, match="malformed — save what can be read"),
        opened(path, "oob.mark", table="t") as database,
    ):
        database.write(("1",))


# -- what is made -----------------------------------------------------------------------------------------------------


def test_file_and_table_of_our_own_are_made_when_the_ledger_is_asked(path: Path) -> None:
    database = SQLiteDatabase(SQLITE3Options(db=str(path)))
    with closing(database):
        database.connect()
        columns = match(database.columns(), [(name, BY_NAME[name]) for name in BY_NAME], arguments=False)
        database.prepare(columns)
        with pytest.raises(Moved):
            database.skip(0, WRITER, 0)
        assert not path.exists()
        assert database.ledger(WRITER) == 0
    assert {name for (name,) in rows_of(path, "SELECT name FROM sqlite_schema")} >= {"packets", "nflowlevel_ledger"}


def test_our_table_is_made_in_a_file_of_others(path: Path) -> None:
    execute(path, "CREATE TABLE other (n INT); INSERT INTO other VALUES (7)")
    with opened(path, "oob.mark") as database:
        database.write(("1",) * len(database.items))
    assert rows_of(path, "SELECT n FROM other") == [(7,)]
    assert rows_of(path, "SELECT count(*) FROM packets") == [(1,)]


def test_our_table_is_left_as_it_is(path: Path) -> None:
    execute(path, "CREATE TABLE packets (oob_mark INT, mine TEXT)")
    with opened(path, "oob.mark", "oob.prefix") as database:
        assert database.items == ("oob.mark",)


def test_a_missing_file_or_table_of_others_is_not_made(path: Path) -> None:
    with pytest.raises(Unavailable, match="does not exist — create it with its table ulog"):
        Opened(path, "oob.mark", table="ulog")
    assert not path.exists()
    execute(path, "CREATE TABLE ulog_pkt (oob_mark INT)")
    with pytest.raises(Unavailable, match="has no table ulog_pk — did you mean 'ulog_pkt'"):
        Opened(path, "oob.mark", table="ulog_pk")


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be created — its directory must exist"):
        Opened(tmp_path / "missing" / "packets.db", "oob.mark")
    with pytest.raises(Unavailable, match="unable to open database file — its directory must exist"):
        Opened(tmp_path, "oob.mark")


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
def test_what_is_no_file_is_named(path: Path, suffix: str) -> None:
    """SQLite would wait for the other end of a FIFO, for ever."""
    planted = Path(f"{path}{suffix}")
    if suffix:
        execute(path, "PRAGMA journal_mode=WAL" if suffix == "-wal" else _TABLE)
    os.mkfifo(planted)
    with pytest.raises(Unavailable, match=f"open: {planted} is no regular file; remove it"):
        Opened(path, "oob.mark").write(("1",))


def test_a_script_that_is_wrong_changes_nothing_and_is_no_row(path: Path) -> None:
    execute(path, _TABLE)
    with opened(path, "oob.mark", table="t") as database:
        with pytest.raises(Unavailable, match=r"create the tables: near .nonsense.: syntax error"):
            database.database.run("CREATE TABLE u (n INT); nonsense;")
        database.write(("1",))
    assert rows_of(path, "SELECT name FROM sqlite_schema WHERE name = 'u'") == []


def test_sync_says_whether_a_commit_waits_for_the_disk(path: Path) -> None:
    for sync, expected in ((True, 2), (False, 1)):
        with opened(path, "oob.mark", sync=sync) as database:
            assert database.database._open_connection.execute("PRAGMA synchronous").fetchone() == (expected,)
