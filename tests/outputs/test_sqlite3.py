# SPDX-License-Identifier: GPL-2.0-or-later
"""SQLITE3 in the daemon: locks of other processes, kill -9, another user; its options.

The connection: tests/sql/test_sqlite.py.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path

import pytest

from nflowlevel.errors import ConfigError
from nflowlevel.sql.database import schema
from nflowlevel.sql.sqlite import own_tables
from tests.fix_daemon import FILTERS, Daemon, config, log_rule, wait_for
from tests.fix_netns import Pair
from tests.fix_nobody import NOBODY
from tests.fix_plugins import stacks_of
from tests.fix_sqlite import Locker, execute, rows_of
from tests.sql.test_sqlite import path

__all__ = ["path"]


# -- the plugin -------------------------------------------------------------------------------------------------------


def _stack(options: str) -> str:
    return f"[global]\nstack=g:NFLOG,b:BASE,s:SQLITE3\n[g]\ngroup=1\n[s]\n{options}\n"


def test_only_the_file_has_to_be_named() -> None:
    (stack,) = stacks_of(_stack("db=/nonexistent/packets.db"))
    assert stack.output.options.table in own_tables()
    with pytest.raises(ConfigError, match="db is mandatory"):
        stacks_of(_stack("table=ulog_pkt"))


@pytest.mark.parametrize("procedure", ["CALL store", "INSERT_PACKET_FULL"])
def test_there_are_no_procedures(procedure: str) -> None:
    with pytest.raises(ConfigError, match="SQLite has no procedures"):
        stacks_of(_stack(f'db=/nonexistent/packets.db\nprocedure="{procedure}"'))


# -- the daemon -------------------------------------------------------------------------------------------------------


def _config(path: Path, *options: str) -> str:
    section = "\n".join((f"db={path}", f"spool_directory={path.parent}/spool", *options))
    return config(f"g:NFLOG,{FILTERS},db:SQLITE3", g="group=2\nseq_local=1", db=section)


def _count(path: Path, table: str = "packets") -> int:
    """Return the number of rows, also while the daemon makes the table or has it locked."""
    try:
        ((count,),) = rows_of(path, f"SELECT count(*) FROM {table}")
    except sqlite3.OperationalError:
        return -1
    return int(count)


def test_packets_become_rows(pair: Pair, path: Path) -> None:
    pair.fw.nft(log_rule(2, prefix="drop: "))
    with Daemon(path.parent, _config(path), netns=pair.fw) as daemon:
        pair.send_udp(23)
        wait_for(lambda: _count(path) == 23, "23 rows", lambda: daemon.stderr)
    query = "SELECT DISTINCT oob_prefix, oob_hook, ip_protocol, udp_dport, oob_in, tcp_dport FROM packets"
    assert rows_of(path, query) == [("drop: ", 1, 17, 9, "va", None)]
    assert rows_of(path, "SELECT max(abs(julianday(oob_time) - julianday('now'))) < 0.01 FROM packets") == [(1,)]


def test_several_outputs_share_a_file(pair: Pair, path: Path) -> None:
    pair.fw.nft(log_rule(2))
    section = f"db={path}\nspool_directory={path.parent}/spool"
    stacks = [f"g:NFLOG,{FILTERS},{name}:SQLITE3" for name in ("x", "y", "z")]
    text = config(*stacks, g="group=2", x=section, y=section, z=section)
    with Daemon(path.parent, text, netns=pair.fw) as daemon:
        for count in (3 * 23, 6 * 23):
            pair.send_udp(23)
            wait_for(lambda count=count: _count(path) == count, f"{count} rows", lambda: daemon.stderr)  # type: ignore[misc]
            daemon.reload()
    assert rows_of(path, "PRAGMA integrity_check") == [("ok",)]
    assert len(rows_of(path, "SELECT * FROM nflowlevel_ledger")) == 3


def test_packets_while_the_file_is_locked(pair: Pair, path: Path) -> None:
    execute(path, f"{schema('sqlite3.sql')}; PRAGMA journal_mode=WAL")
    pair.fw.nft(log_rule(2))
    with Daemon(path.parent, _config(path, "timeout=1", "reconnect=1"), netns=pair.fw) as daemon:
        pair.send_udp(3)
        wait_for(lambda: _count(path) == 3, "3 rows", lambda: daemon.stderr)
        with Locker(path) as locker:
            pair.send_udp(23)
            daemon.says(f"process {locker.pid} ")
            locker.release()
        wait_for(lambda: _count(path) == 26, "26 rows", lambda: daemon.stderr)


def test_a_killed_daemon_goes_on_where_it_was(pair: Pair, path: Path) -> None:
    execute(path, "CREATE TABLE t (oob_time TEXT, oob_seq_local INT); PRAGMA journal_mode=WAL")
    pair.fw.nft(log_rule(2))
    text = _config(path, "table=t", "timeout=1", "reconnect=1", "ring_buffer_size=1")
    with Daemon(path.parent, text, netns=pair.fw) as daemon:
        pair.send_udp(3)
        wait_for(lambda: _count(path, "t") == 3, "3 rows", lambda: daemon.stderr)
        with Locker(path):
            pair.send_udp(23)
            daemon.says("keeps it locked")
            daemon.process.kill()
            daemon.wait()
    with Daemon(path.parent, text, netns=pair.fw) as daemon:
        pair.send_udp(5)
        # What was in the spool, and not what was in memory.
        wait_for(lambda: _count(path, "t") >= 3 + 22 + 5, "rows of the second run", lambda: daemon.stderr)
    stored = _count(path, "t")
    assert stored <= 3 + 23 + 5
    assert rows_of(path, "SELECT count(*) FROM (SELECT DISTINCT oob_time, oob_seq_local FROM t)") == [(stored,)]


def test_a_row_that_is_refused_lies_in_the_dead_letter_file(pair: Pair, path: Path) -> None:
    execute(path, "CREATE TABLE t (udp_dport INT, n INT CHECK (n <> 7), oob_seq_local INT CHECK (oob_seq_local <> 7))")
    pair.fw.nft(log_rule(2))
    with Daemon(path.parent, _config(path, "table=t"), netns=pair.fw) as daemon:
        pair.send_udp(23)
        wait_for(lambda: _count(path, "t") == 22, "22 rows", lambda: daemon.stderr)
    (line,) = (path.parent / "spool" / "db" / "refused.jsonl").read_text().splitlines()
    assert "SQLITE_CONSTRAINT_CHECK" in line
    assert '"oob.seq.local":"7"' in line.replace(": ", ":")


def test_a_daemon_that_becomes_another_user_keeps_its_file(pair: Pair, tmp_path: Path) -> None:
    pair.fw.nft(log_rule(2))
    # pytest's own directories are root's alone.
    with tempfile.TemporaryDirectory(prefix="nfltest-") as directory:
        os.chmod(directory, 0o777)
        path = Path(directory, "packets.db")
        with Daemon(tmp_path, _config(path), "-u", "nobody", netns=pair.fw) as daemon:
            pair.send_udp(23)
            wait_for(lambda: _count(path) == 23, "23 rows", lambda: daemon.stderr)
            daemon.reload()
            pair.send_udp(23)
            wait_for(lambda: _count(path) == 46, "46 rows", lambda: daemon.stderr)
            assert {file.stat().st_uid for file in path.parent.glob("packets.db*")} == {NOBODY}
