# SPDX-License-Identifier: GPL-2.0-or-later
"""The base of the SQL outputs: from a batch to rows in the table, its life, and its spool under another user."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nflowlevel.errors import OutputError
from nflowlevel.plugin.tables import SQLOutput
from nflowlevel.records.keys import BY_NAME
from nflowlevel.spool.sink import Unavailable
from nflowlevel.sql.database import Database
from nflowlevel.sql.options import SQLOptions
from tests.fix_daemon import Daemon, config, log_rule, wait_for
from tests.fix_database import ITEMS, Scripted, Server
from tests.fix_netns import Pair
from tests.fix_plugins import batch_of
from tests.oracle import build_message

_MEMBERS = tuple((name, BY_NAME[name]) for name in ("oob.prefix", "oob.mark", "ip.saddr"))


class Scripts(SQLOutput[SQLOptions]):
    """An output into a scripted database."""

    name = "SCRIPTS"
    Options = SQLOptions
    server: Server

    def database(self) -> Database:
        return Scripted(self.server)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def output(tmp_path: Path, server: Server) -> Iterator[Scripts]:
    made = Scripts("db1", SQLOptions(table="t", spool_directory=str(tmp_path)))
    made.server = server
    made.bind(_MEMBERS)
    yield made
    made.close(0.0)


def marked(*marks: int) -> list[bytes]:
    return [build_message(b"", mark=mark, prefix=b"p") for mark in marks]


def until(condition: Callable[[], object]) -> None:
    wait_for(condition, "it happens")


def test_a_batch_becomes_rows(output: Scripts, server: Server) -> None:
    output.open()
    output.write(batch_of(*marked(1, 2, 3)))
    until(lambda: output.stats.written == 3)
    assert server.rows == [1, 2, 3]
    assert "connected to scripted database" in output.state


def test_rows_from_before_the_columns_were_known(output: Scripts, server: Server) -> None:
    """They carry everything the stack has, and what the table wants is taken from that."""
    server.before = lambda call: (_ for _ in ()).throw(Unavailable("away")) if call == "connect" else None
    output.open()
    output.write(batch_of(*marked(1, 2)))
    until(lambda: output.stats.errors)
    server.before = lambda call: None
    until(lambda: output.stats.written == 2)
    output.write(batch_of(*marked(3)))
    until(lambda: output.stats.written == 3)
    assert server.rows == [1, 2, 3]


def test_selected_packets_only(output: Scripts, server: Server) -> None:
    output.open()
    output.write(batch_of(*marked(1, 2, 3)).select([0, 2]))
    output.write(batch_of(*marked(4)).select([]))
    until(lambda: output.stats.written == 2)
    assert server.rows == [1, 3]


def test_it_may_be_opened_again(output: Scripts, server: Server) -> None:
    for number in (1, 2):
        output.open()
        output.write(batch_of(*marked(number)))
        output.close()
        output.close()
        assert output.state == "closed scripted database"
    assert server.rows == [1, 2]


def test_the_spool_of_another_process(output: Scripts, tmp_path: Path) -> None:
    output.open()
    other = Scripts("db1", output.options)
    other.server = output.server
    with pytest.raises(OutputError, match=rf"process {os.getpid()} uses it"):
        other.open()


def test_a_hung_connection_is_looked_for_while_rows_wait(output: Scripts, server: Server) -> None:
    def hangs(call: str) -> None:
        if call == "write":
            assert server.aborted.wait(20)
            raise Unavailable("broken off")

    assert output.deadline is None
    output.open()
    until(lambda: "connected" in output.state)
    assert output.deadline is None
    server.before = hangs
    output.write(batch_of(*marked(1)))
    until(lambda: "write" in server.calls)
    at = output.deadline
    assert at is not None
    assert at > time.monotonic() + 10, "the time allowed"
    output.retry()
    assert server.aborted.is_set()


def test_without_a_spool_what_cannot_be_stored_is_dropped(tmp_path: Path, server: Server) -> None:
    output = Scripts("db1", SQLOptions(table="t", spool_directory=str(tmp_path / "no"), when_full="drop_newest"))
    output.server = server
    output.bind(_MEMBERS)
    server.before = lambda call: (_ for _ in ()).throw(Unavailable("away")) if call == "connect" else None
    output.open()
    output.write(batch_of(*marked(1, 2)))
    output.close(0.1)
    assert output.stats.dropped["stop"] == 2
    assert not (tmp_path / "no").exists()


def test_layout_follows_the_table(output: Scripts, server: Server) -> None:
    output.open()
    until(lambda: output._writer is not None and output._writer.layout == ITEMS)


def test_the_spool_goes_with_the_daemon_to_its_user(pair: Pair, tmp_path: Path) -> None:
    pair.fw.nft(log_rule(1))
    nobody = pwd.getpwnam("nobody")
    os.chmod(tmp_path, 0o755)
    for directory in tmp_path.parents:
        if directory != Path("/tmp") and directory.is_relative_to("/tmp"):
            os.chmod(directory, directory.stat().st_mode | 0o011)
    # Nobody may not write there: the rows have to wait in the spool.
    section = f"db={tmp_path}/no/log.sqlite\nspool_directory={tmp_path}/spool\nring_buffer_size=10"
    text = config("n:NFLOG,b:BASE,d:SQLITE3", n=f"group=1\nnetwork_namespace_path={pair.fw.path}", d=section)
    with Daemon(tmp_path, text, "-u", "nobody") as daemon:
        pair.send_udp(1009)
        daemon.says("rows waiting")
        until(lambda: pair.fw.counter("c") == 1009)
        daemon.stop()
        assert "pending 1009" in daemon.stderr
        assert "spooled 1009" in daemon.stderr
    assert {path.stat().st_uid for path in (tmp_path / "spool" / "d").iterdir()} == {nobody.pw_uid}
