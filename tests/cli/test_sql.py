# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel sql`: what it creates, that it destroys nothing, and what it says of tables in the three databases."""

from __future__ import annotations

import hashlib
import os
import pty
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import nflowlevel as nfl
from nflowlevel import cli
from nflowlevel.plugin import Filter, NoOptions, added_key
from nflowlevel.sql.database import schema
from nflowlevel.sql.sqlite import own_tables
from nflowlevel.stacks import registry
from nflowlevel.stacks.config import parse
from nflowlevel.stacks.stack import build
from tests.fix_mariadb import MariaDBDatabase, mariadb, mariadb_db
from tests.fix_nobody import NOBODY, open_to_all, run_as_nobody
from tests.fix_postgres import PostgresDatabase, postgres, postgres_db
from tests.fix_server import PASSWORD, Database
from tests.fix_sqlite import Locker, execute, rows_of

__all__ = ["mariadb", "mariadb_db", "open_to_all", "postgres", "postgres_db"]

_PACKETS = "g:NFLOG,b:BASE,i:IFINDEX,s:IP2STR,h:HWHDR,"


class Command:
    """The command, with a configuration of these outputs."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.file, self._capsys = directory / "ulogd.conf", capsys
        self.spool = directory / "spool"

    def configure(self, stacks: str, **sections: str) -> None:
        """Write the configuration: `stacks` are lines, each the end of a stack of packets or a whole one."""
        lines = [f"stack={line if ':NF' in line else _PACKETS + line}" for line in stacks.split()]
        parts = [f"[{name}]\n{text}\nspool_directory={self.spool}\n" for name, text in sections.items()]
        self.file.write_text("\n".join(["[global]", *lines, "[g]\ngroup=1\n[a]\npollinterval=1", "[ct]", *parts]))

    def __call__(self, action: str, *arguments: str, status: int = 0) -> str:
        """Return what it prints, on standard error too where it fails."""
        assert cli.main(["sql", action, "-c", str(self.file), *arguments]) == status
        output, errors = self._capsys.readouterr()
        assert status or not errors
        return output + errors


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, capsys)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "packets.db"


def lines_of(output: str) -> dict[str, list[str]]:
    """Return what a check says of one output: texts by what they are."""
    found: dict[str, list[str]] = {}
    for line in output.splitlines()[1:]:
        assert line.startswith("  "), line
        what, _, text = line.strip().partition(": ")
        found.setdefault(what, []).append(text)
    return found


_NO_LEDGER = "no ledger yet; the daemon creates it if it may; otherwise run `sql init` as a user who may"


# -- SQLite: init -----------------------------------------------------------------------------------------------------


def tables_of(path: Path) -> set[str]:
    return {name for (name,) in rows_of(path, "SELECT name FROM sqlite_schema WHERE type = 'table'")}


def test_init_creates_what_is_missing_and_leaves_the_rest(command: Command, path: Path) -> None:
    command.configure("lite:SQLITE3", lite=f"db={path}")
    said = f"[lite] SQLite {path}: the tables packets, sums, flows and the ledger exist\n"
    note = f"  note: the file is root's; a daemon with -u USER needs: chown USER {path} (or --owner USER here)\n"
    assert command("init") == said + note
    assert tables_of(path) == {"packets", "sums", "flows", "nflowlevel_ledger"}
    script = "INSERT INTO packets (oob_prefix) VALUES ('kept'); INSERT INTO nflowlevel_ledger VALUES ('w', 7, 'then')"
    execute(path, f"{script}; ALTER TABLE packets ADD COLUMN mine TEXT; DROP TABLE sums")
    assert command("init", "lite") == said
    assert rows_of(path, "SELECT oob_prefix, mine FROM packets") == [("kept", None)]
    assert rows_of(path, "SELECT * FROM nflowlevel_ledger") == [("w", 7, "then")]
    assert "sums" in tables_of(path)


def test_init_of_one_output_of_several(command: Command, tmp_path: Path) -> None:
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    command.configure("x:SQLITE3 y:SQLITE3 x:SQLITE3", x=f"db={one}", y=f"db={two}")
    assert command("init", "x").count("\n") == 2
    assert (one.exists(), two.exists()) == (True, False)
    assert command("init").count("\n") == 3


def test_init_leaves_a_database_with_another_table_alone_but_for_the_ledger(command: Command, path: Path) -> None:
    execute(path, "CREATE TABLE ulog_pkt (oob_mark INT)")
    command.configure("lite:SQLITE3", lite=f"db={path}\ntable=ulog_pkt")
    assert command("init") == f"[lite] SQLite {path}: the ledger exists, next to the table ulog_pkt\n"
    assert tables_of(path) == {"ulog_pkt", "nflowlevel_ledger"}


def test_init_says_when_the_output_names_a_table_that_nobody_makes(command: Command, path: Path) -> None:
    execute(path, "")
    path.touch()
    command.configure("lite:SQLITE3", lite=f"db={path}\ntable=packet")
    assert "exist, but no table packet: name one of them" in command("init", status=1)


class _Adder(Filter[NoOptions]):
    """ADDER: adds a number and a text."""

    name = "ADDER"
    adds = (added_key("my.number", "uint16", "A number."), added_key("my.text", "string", "A text."))

    def process(self, batch: nfl.Batch) -> nfl.Batch:
        raise NotImplementedError


def test_what_a_filter_adds_has_a_type(command: Command, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entry_points", lambda: {"ADDER": SimpleNamespace(value="x", load=lambda: _Adder)})
    command.configure("add:ADDER,lite:SQLITE3 lite:SQLITE3", lite=f"db={path}")
    wanted = [
        "ALTER TABLE packets ADD COLUMN my_number integer; -- A number.",
        "ALTER TABLE packets ADD COLUMN my_text text; -- A text.",
    ]
    said = command("init")
    assert lines_of(said)["to store what a filter adds"] == wanted
    printed = command("init", "--print").splitlines()
    assert printed[-2:] == [f"-- To store what a filter adds: {line}" for line in wanted]
    assert lines_of(command("check").partition("\n[")[0])["to store what a filter adds"] == wanted
    execute(path, "\n".join(wanted))
    assert "to store" not in command("init")
    command.configure("add:ADDER,lite:SQLITE3", lite=f"db={path}")
    said = command("check")
    assert "my.number" not in said
    assert "to store" not in said


def test_init_without_a_configuration(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sql", "init", "SQLITE3", f"db={path}"]) == 0
    assert tables_of(path) == {"packets", "sums", "flows", "nflowlevel_ledger"}
    assert cli.main(["sql", "init", "SQLITE3", "dbx=x"]) == 2
    assert "[sqlite3] SQLITE3: unknown option 'dbx' — did you mean 'db'?" in capsys.readouterr().err
    assert cli.main(["sql", "init", "SQLITE3", "x.db"]) == 2
    assert "'x.db' is not of the form OPTION=VALUE" in capsys.readouterr().err


def test_options_of_an_instance_are_in_the_configuration(command: Command, path: Path) -> None:
    command.configure("lite:SQLITE3", lite=f"db={path}")
    assert "OPTION=VALUE may only follow PGSQL, MYSQL, SQLITE3" in command("init", "lite", "db=x", status=2)


def test_print_creates_nothing_and_can_be_executed(command: Command, path: Path, tmp_path: Path) -> None:
    command.configure("lite:SQLITE3", lite=f"db={path}")
    script = command("init", "--print")
    assert script.startswith(f"-- For [lite], SQLite {path}\n")
    assert not path.exists()
    execute(path, script)
    assert tables_of(path) == {"packets", "sums", "flows", "nflowlevel_ledger"}


@pytest.mark.parametrize(("plugin", "name"), [("PGSQL", "pgsql"), ("MYSQL", "mysql"), ("SQLITE3", "sqlite3")])
def test_print_without_a_configuration(plugin: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sql", "init", "-p", plugin]) == 0
    assert capsys.readouterr().out == schema(f"{name}.sql") + "\n" + schema(f"{name}-ledger.sql")


def test_init_where_it_may_not(command: Command, tmp_path: Path) -> None:
    command.configure("lite:SQLITE3", lite=f"db={tmp_path}/missing/packets.db")
    assert "its directory must exist" in command("init", status=69)


def test_init_for_the_daemons_user(command: Command, open_to_all: Path) -> None:
    path = open_to_all / "packets.db"
    command.configure("lite:SQLITE3", lite=f"db={path}")
    assert f"user id {NOBODY} may create files in it; the directory {open_to_all} belongs to root:root" in command(
        "init", "--owner", "nobody", status=69
    )
    os.chown(open_to_all, NOBODY, NOBODY)
    assert "note" not in command("init", "--owner", "nobody")
    assert path.stat().st_uid == NOBODY
    assert os.geteuid() == 0
    with pytest.raises(SystemExit):
        command("init", "--owner", "nobody-there")
    done = run_as_nobody(lambda: cli.main(["sql", "init", "--owner", "root", "SQLITE3", f"db={path}"]))
    assert (done.status, "only root can" in done.output) == (2, True)


def test_what_to_do_is_said_of_a_file_of_roots(command: Command, open_to_all: Path) -> None:
    path = open_to_all / "packets.db"
    command.configure("lite:SQLITE3", lite=f"db={path}")
    command("init")
    os.chown(open_to_all, NOBODY, NOBODY)
    done = run_as_nobody(lambda: cli.main(["sql", "init", "SQLITE3", f"db={path}"]))
    assert done.status == 69
    said = f"{path} belongs to root:root, mode 0640; to give it to this user: chown nobody {path}"
    assert said in done.output


# -- SQLite: check ----------------------------------------------------------------------------------------------------


def test_check_of_our_own_file_before_it_is_there(command: Command, path: Path) -> None:
    command.configure("lite:SQLITE3", lite=f"db={path}")
    output = command("check")
    assert output.startswith(f"[lite] SQLite {path}, table packets\n")
    found = lines_of(output)
    assert set(found) == {"stored", "keys without a column"}
    assert found["stored"][0].startswith(f"{len(own_tables()['packets'])} of the stack's ")
    assert "raw.pkt" in found["keys without a column"][0].split(", ")
    assert "oob.time.sec" not in found["keys without a column"][0].split(", ")
    assert not path.exists()


def test_check_changes_nothing(command: Command, path: Path) -> None:
    execute(path, "CREATE TABLE ulog_pkt (oob_mark INT)")
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    command.configure("lite:SQLITE3", lite=f"db={path}\ntable=ulog_pkt")
    command("check", "lite")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert [file.name for file in path.parent.glob("packets.db*")] == ["packets.db"]


def test_check_of_a_table_of_somebody_elses(command: Command, path: Path) -> None:
    execute(path, "CREATE TABLE t (id INTEGER PRIMARY KEY, oob_mark INT, site TEXT, oob_prefix NUMERIC, ip_saddr INT)")
    command.configure("lite:SQLITE3", lite=f"db={path}\ntable=t")
    found = lines_of(command("check", status=1))
    assert found["stored"][0].startswith("3 of the stack's ")
    assert found["columns without a key"] == ["site"]
    assert found["does not fit"] == ["oob_prefix numeric: oob.prefix is not a number"]
    assert found["note"] == ["ip_saddr bigint: ip.saddr as a number holds IPv4 only; it is empty for IPv6 packets"]
    assert _NO_LEDGER not in found


def test_check_of_a_table_without_any_key(command: Command, path: Path) -> None:
    execute(path, "CREATE TABLE t (site TEXT)")
    command.configure("lite:SQLITE3", lite=f"db={path}\ntable=t")
    assert lines_of(command("check", status=1))["stored"][0].startswith("0 of the stack's")


def test_check_of_the_accounting_table(command: Command, path: Path) -> None:
    command.configure("a:NFACCT,lite:SQLITE3", lite=f"db={path}\ntable=sums")
    found = lines_of(command("check"))
    assert found["stored"][0].startswith("4 of the stack's ")
    assert found["columns without a key"] == ["sum_limit (NFTCOUNTER fills it)"]


_FLOWS = "ct:NFCT,s:IP2STR,n:NAT,c:COMMUNITYID,"
#: Of the keys of that stack, those that our tables have no column for.
_NOT_OF_FLOWS = (
    "reply.ip.protocol, oob.protocol, icmp.id, icmpv6.id, sctp.state, ct.timeout, ct.zone.reply, ct.labels, print"
)


def test_init_and_check_of_the_table_of_flows(command: Command, path: Path) -> None:
    """All that the stack of docs/flows.md says has a column, but for what no table needs."""
    command.configure(f"{_FLOWS}lite:SQLITE3", lite=f"db={path}\ntable=flows")
    assert f"[lite] SQLite {path}: the tables packets, sums, flows and the ledger exist\n" in command("init")
    output = command("check")
    assert output.startswith(f"[lite] SQLite {path}, table flows\n")
    found = lines_of(output)
    assert set(found) == {"stored", "keys without a column", "note"}
    assert found["keys without a column"] == [_NOT_OF_FLOWS]
    assert all("no counter gets that far" in note for note in found["note"])


def test_flows_in_the_table_of_packets(command: Command, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who forgets table=flows is told: rows of packets would have nothing of a flow."""
    command.configure(f"{_FLOWS}lite:SQLITE3", lite=f"db={path}")
    found = lines_of(command("check", status=1))
    assert found["does not fit"] == [
        "table=packets is the table of packets, but flows come: its rows would be empty; write table=flows"
    ]
    (stack,) = build(parse(command.file))
    stack.output.open()
    stack.output.close()
    assert "lite:SQLITE3: table=packets is the table of packets, but flows come" in caplog.text


def test_names_of_columns_do_nothing_to_a_terminal(command: Command, path: Path) -> None:
    execute(path, 'CREATE TABLE packets (oob_prefix TEXT, "x\x1b[2J\x9b\n  stored: all" TEXT)')
    command.configure("lite:SQLITE3", lite=f"db={path}")
    lines = command("check").splitlines()
    assert all(line.isprintable() for line in lines)
    assert r"  columns without a key: x\x1b[2J\x9b\n  stored: all" in lines


def test_check_of_several_stacks_tells_the_worst(command: Command, path: Path, tmp_path: Path) -> None:
    execute(path, "CREATE TABLE t (oob_prefix INT)")
    command.configure(
        "good:SQLITE3 bad:SQLITE3 worst:SQLITE3",
        good=f"db={tmp_path}/good.db",
        bad=f"db={path}\ntable=t",
        worst=f"db={path}\ntable=u",
    )
    output = command("check", status=69)
    assert output.count("[") == 3
    assert "  unavailable: SQLite " in output
    assert "has no table u — create it" in output
    assert command("check", "good").count("[") == 1
    command("check", "bad", status=1)


def test_check_of_a_file_that_cannot_be_written(command: Command) -> None:
    with tempfile.TemporaryDirectory(prefix="nfltest-") as directory:
        os.chmod(directory, 0o755)
        path = Path(directory, "packets.db")
        execute(path, schema("sqlite3.sql") + schema("sqlite3-ledger.sql"))
        config = Path(directory, "ulogd.conf")
        command.configure("lite:SQLITE3", lite=f"db={path}")
        config.write_text(command.file.read_text())
        done = run_as_nobody(lambda: cli.main(["sql", "check", "-c", str(config)]))
    assert done.status == 1, done.output
    assert "readonly database — the file must be writable for user id 65534, and new files allowed" in done.output


def test_check_of_a_locked_file(command: Command, path: Path) -> None:
    command.configure("lite:SQLITE3", lite=f"db={path}\ntimeout=1")
    command("init")
    execute(path, "PRAGMA journal_mode=WAL")
    with Locker(path) as locker:
        found = lines_of(command("check", status=1))
    assert f"process {locker.pid} " in found[_NO_LEDGER][0]


def test_a_configuration_without_an_sql_output(command: Command, path: Path) -> None:
    command.file.write_text("[global]\nstack=g:NFLOG,b:BASE,j:JSON\n[g]\ngroup=1\n[j]\nfile=/nonexistent/x\n")
    for action in ("check", "init"):
        assert command(action, status=78) == f"nflowlevel sql: {command.file}: no stack ends with an SQL output\n"
    command.configure("lite:SQLITE3", lite=f"db={path}")
    assert command("check", "liet", status=78).endswith("unknown SQL output 'liet' — did you mean 'lite'?\n")
    command.file.write_text("[global]\n")
    assert "nothing to do" in command("check", status=78)


def test_long_lists_are_broken_at_the_end_of_the_terminal(command: Command, path: Path) -> None:
    command.configure("lite:SQLITE3", lite=f"db={path}")
    controller, terminal = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "nflowlevel", "sql", "check", "-c", str(command.file)],
            stdout=terminal,
            check=True,
            env={**os.environ, "COLUMNS": "60"},
        )
        shown = os.read(controller, 1 << 16).decode().splitlines()
    finally:
        os.close(controller)
        os.close(terminal)
    assert len(shown) > 5
    assert max(map(len, shown[1:])) <= 60
    assert all(line.startswith("    ") or ": " in line for line in shown[1:])


# -- PostgreSQL and MariaDB -------------------------------------------------------------------------------------------


def section(database: Database, table: str, **more: object) -> tuple[str, str]:
    """Return the plugin and its section for a database of the tests."""
    options = {"db": database.name, "host": database.host, "port": database.port, "user": database.user, **more}
    lines = [f"{name}={value}" for name, value in options.items()]
    plugin = "PGSQL" if isinstance(database, PostgresDatabase) else "MYSQL"
    return plugin, "\n".join([*lines, f'pass="{PASSWORD}"', f"table={table}"])


@pytest.fixture(params=["postgres_db", "mariadb_db"])
def server_db(request: pytest.FixtureRequest) -> PostgresDatabase | MariaDBDatabase:
    """A fresh database of either server."""
    database: PostgresDatabase | MariaDBDatabase = request.getfixturevalue(request.param)
    return database


@pytest.fixture
def configure(command: Command, server_db: Database) -> Callable[..., None]:
    """Returns a function that configures an output into a table of the database."""

    def for_table(table: str, stack: str = _PACKETS, **more: object) -> None:
        plugin, text = section(server_db, table, **more)
        command.configure(f"{stack}db:{plugin}", db=text)

    return for_table


def test_init_and_check_of_our_tables(command: Command, server_db: Any, configure: Callable[..., None]) -> None:
    configure("packets")
    output = command("check", status=69)
    assert "  unavailable: " in output
    assert PASSWORD not in output
    assert "the tables packets, sums, flows and the ledger exist\n" in command("init")
    server_db.execute("insert into packets (oob_prefix) values ('kept')")
    command("init")
    assert server_db.count("packets") == 1
    assert server_db.count("nflowlevel_ledger") == 0
    assert set(lines_of(command("check"))) == {"stored", "keys without a column"}
    assert server_db.count("nflowlevel_ledger") == 0
    configure("sums", "a:NFACCT,")
    assert set(lines_of(command("check"))) == {"stored", "columns without a key"}
    configure("flows", _FLOWS)
    found = lines_of(command("check"))
    assert found["keys without a column"] == [_NOT_OF_FLOWS]
    assert "columns without a key" not in found


def test_init_of_a_server_without_a_configuration(server_db: Any, capsys: pytest.CaptureFixture[str]) -> None:
    plugin, text = section(server_db, "")
    words = [line.replace('"', "") for line in text.splitlines() if not line.startswith("table")]
    assert cli.main(["sql", "init", plugin, *words]) == 0
    assert PASSWORD not in capsys.readouterr().out
    assert (server_db.count("packets"), server_db.count("sums")) == (0, 0)


def test_check_of_ulogd2s_flat_table(command: Command, server_db: Any, configure: Callable[..., None]) -> None:
    server_db.load_shipped("flat")
    configure("ulog2")
    assert _NO_LEDGER in lines_of(command("check", status=1))
    assert "the ledger exists, next to the table ulog2" in command("init")
    found = lines_of(command("check", status=1))
    assert _NO_LEDGER not in found
    narrow = {text.split()[0] for text in found["does not fit"]}
    if isinstance(server_db, PostgresDatabase):
        assert narrow >= {"oob_prefix", "oob_mark", "sctp_csum", "udp_len", "icmp_gateway"}
    else:
        assert narrow >= {"oob_prefix", "oob_protocol"}


def test_print_for_who_may_not_create(command: Command, server_db: Any, configure: Callable[..., None]) -> None:
    configure("packets")
    script = command("init", "-p")
    assert "GRANT SELECT, INSERT, UPDATE ON nflowlevel_ledger TO" in script
    assert PASSWORD not in script
    assert command("check", status=69)
    server_db.load(script)
    command("check")


def test_a_server_that_is_away(command: Command, server_db: Any, configure: Callable[..., None]) -> None:
    configure("packets", port=1)
    output = command("check", status=69)
    assert "  unavailable: " in output
    assert PASSWORD not in output
    assert PASSWORD not in command("init", status=69)


def test_a_schema_of_postgresql(command: Command, postgres_db: PostgresDatabase) -> None:
    postgres_db.execute('create schema "My logs"')
    _, text = section(postgres_db, "packets", schema='"My logs"')
    command.configure("db:PGSQL", db=text)
    assert '\nSET search_path = "My logs", public;\n' in command("init", "-p")
    command("init")
    command("check")
    assert postgres_db.count('"My logs".packets') == 0


def test_check_of_a_function(command: Command, postgres_db: PostgresDatabase) -> None:
    postgres_db.load_shipped("full")
    _, text = section(postgres_db, "ulog", procedure="INSERT_PACKET_FULL")
    command.configure("db:PGSQL", db=text)
    command("init")
    found = lines_of(command("check", status=1))
    assert {text.split()[0] for text in found["does not fit"]} >= {"oob_mark", "sctp_csum"}
    # Those that this stack lacks are null.
    command.file.write_text(command.file.read_text().replace(_PACKETS, "g:NFLOG,b:BASE,"))
    found = lines_of(command("check", status=1))
    assert "ip_saddr_str (IP2STR fills it)" in found["columns without a key"][0].split(", ")
    _, text = section(postgres_db, "ulog", procedure="INSERT_PACKET_FULLY")
    command.configure("db:PGSQL", db=text)
    assert "INSERT_PACKET_FULLY" in command("check", status=69)


def test_a_user_who_may_not_use_the_ledger(command: Command, postgres_db: PostgresDatabase) -> None:
    _, text = section(postgres_db, "packets")
    command.configure("db:PGSQL", db=text)
    command("init")
    with postgres_db.server.admin(postgres_db.name) as connection:
        connection.execute("alter table nflowlevel_ledger owner to postgres")
    found = lines_of(command("check", status=1))
    assert "permission denied" in found[_NO_LEDGER][0]


# -- statements that make it fit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["flat", "full"])
def test_the_statements_make_ulogd2s_tables_fit(command: Command, server_db: Any, which: str) -> None:
    server_db.load_shipped(which)
    more: dict[str, object] = {"procedure": "INSERT_PACKET_FULL"} if which == "full" else {}
    stack = _PACKETS
    if isinstance(server_db, MariaDBDatabase):
        stack += "p:IP2BIN,"
        # Only who has made its routines may see them.
        more |= {"host": server_db.server.socket, "port": 0}
    plugin, text = section(server_db, "ulog", **more)
    command.configure(f"{stack}db:{plugin}", db=text)
    command("init")
    output = command("check", status=1)
    assert (
        "to make it fit, as the owner of the tables, then restart the daemon (--print prints this alone):\n" in output
    )
    script = command("check", "--print")
    assert script.startswith("-- For [db], ")
    # Both print the same statements, the check indented.
    lines = script.rstrip("\n").split("\n")[1:]
    assert "\n".join(f"    {line}" for line in lines) in output
    server_db.load(script)
    found = lines_of(command("check"))
    assert set(found) == {"stored", "keys without a column"}
    assert command("check", "--print").count("\n") == 1


def test_what_no_statement_does_is_said(command: Command, postgres_db: PostgresDatabase) -> None:
    postgres_db.execute("create table t (oob_mark smallint, oob_prefix integer)")
    _, text = section(postgres_db, "t")
    command.configure("db:PGSQL", db=text)
    command("init")
    said = "oob_prefix integer: oob.prefix is not a number: change the column by hand"
    assert f"  not changed by these statements: {said}\n" in command("check", status=1)
    assert f"\n-- {said}\n" in command("check", "--print", status=1)


def test_a_file_of_sqlite_needs_no_statements(command: Command, path: Path) -> None:
    """ulogd2's own table: SQLite holds any number and text in any column."""
    execute(path, "CREATE TABLE ulog_pkt (oob_prefix VARCHAR(64), oob_mark INT UNSIGNED, oob_hook TINYINT UNSIGNED)")
    command.configure("lite:SQLITE3", lite=f"db={path}\ntable=ulog_pkt")
    assert command("check", "--print") == f"-- For [lite], SQLite {path}\n"


def test_statements_of_a_server_that_is_away(command: Command, server_db: Any, configure: Callable[..., None]) -> None:
    configure("packets", port=1)
    assert PASSWORD not in command("check", "--print", status=69)
