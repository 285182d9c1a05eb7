# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets in a database: SQLite, then PostgreSQL by changing one word, which is stopped while packets arrive.

Rule, sender, daemon and a PostgreSQL of the demo's own live in a network namespace and a temporary directory that
vanish with this program: nothing on the machine is touched. An ordinary user can run it too, where the kernel lets
users make namespaces. Every packet goes to another port, so one that is missing or came twice would be seen. Exit
status 0 only if there is exactly one row for each packet that the rule counted.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from running import PATIENCE_SECS, daemon, enter_namespaces, run, say, started_by_root, until

RULE = 'udp dport 1024-65535 counter log prefix "demo" group 1 drop'
RULES = f"""
table inet demo
delete table inet demo
table inet demo {{
    chain logged {{
        type filter hook input priority 0; policy accept;
        {RULE}
    }}
}}
"""
CONFIG = """\
[global]
stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,sql1:SQLITE3
[log1]
group=1
[sql1]
db="packets"
table="packets"
spool_directory="spool"
"""
FIRST_PORT = 1024
RATE = 2_000
SQLITE_SECS = 2
#: The stream into PostgreSQL, and when in it the server is stopped and started again.
STREAM_SECS, STOP_AT, START_AT = 8, 2, 5

_NEWEST = (
    "SELECT oob_time, oob_prefix, ip_saddr_str, udp_sport, ip_daddr_str, udp_dport FROM packets ORDER BY 1 LIMIT 3"
)
_COUNTS = "SELECT count(*), count(DISTINCT udp_dport) FROM packets"
_DATABASE = "packets"


class Rows(NamedTuple):
    """What is in the table."""

    stored: int
    distinct: int
    """How many different packets they are."""


def main() -> int:
    """Run the demo; the result is the exit status."""
    enter_namespaces(__file__)
    run("ip", "link", "set", "lo", "up")
    with tempfile.TemporaryDirectory(prefix="nflowlevel-demo-") as name:
        directory = Path(name)
        config = directory / "ulogd.conf"
        agree = [_sqlite(config)]
        if missing := _missing():
            say(f"PostgreSQL is left out: {missing}")
        else:
            with _Server() as server:
                agree.append(_postgresql(config, server))
    return int(not all(agree))


# -- SQLite -----------------------------------------------------------------------------------------------------------


def _sqlite(config: Path) -> bool:
    say(f"a rule: {RULE}")
    say(f"a configuration:\n\n    {CONFIG.strip().replace(chr(10), chr(10) + '    ')}\n")
    config.write_text(CONFIG)
    _load_rules()
    with daemon(config, config.parent):
        _send(SQLITE_SECS)
        until(lambda: _in_sqlite(config.parent).stored >= _counted(), "the rows are stored")
    with contextlib.closing(sqlite3.connect(config.parent / "packets")) as connection:
        say(f"sqlite3 {_DATABASE} '{_NEWEST}'\n")
        for row in connection.execute(_NEWEST):
            print("   ", *row, sep="  ")
    return _verdict("SQLite", _in_sqlite(config.parent))


def _in_sqlite(directory: Path) -> Rows:
    with contextlib.closing(sqlite3.connect(directory / "packets")) as connection:
        return Rows(*connection.execute(_COUNTS).fetchone())


# -- PostgreSQL -------------------------------------------------------------------------------------------------------


def _postgresql(config: Path, server: _Server) -> bool:
    say("the same with SQLITE3 changed to PGSQL, and a PostgreSQL of its own; where it is libpq's environment says")
    config.write_text(CONFIG.replace("SQLITE3", "PGSQL"))
    os.environ |= {"PGHOST": str(server.directory), "PGUSER": "postgres"}
    run(sys.executable, "-m", "nflowlevel", "sql", "init", "-c", str(config))
    _load_rules()
    with daemon(config, config.parent):
        sender = threading.Thread(target=_send, args=(STREAM_SECS,))
        sender.start()
        _outage(server)
        sender.join()
        until(lambda: server.rows().stored >= _counted(), "the rows are stored")
        _show(server)
    return _verdict("PostgreSQL", server.rows())


def _outage(server: _Server) -> None:
    """Tell each second what is where, and let the server be away for a while."""
    begin = time.monotonic()
    print(f"\n    second   packets      rows   (at {RATE:,} packets a second)")
    for second in range(1, STREAM_SECS + 1):
        time.sleep(max(0.0, begin + second - time.monotonic()))
        _show(server, second)
        if second == STOP_AT:
            server.stop()
        if second == START_AT:
            server.start()


def _show(server: _Server, second: int | None = None) -> None:
    rows = f"{server.rows().stored:9,}" if server.runs else "  stopped"
    print(f"    {second or 'end':>6} {_counted():9,} {rows}", flush=True)


class _Server:
    """A PostgreSQL with nothing but a Unix socket, in a directory of its own, run by an unprivileged user."""

    def __init__(self) -> None:
        self._binaries = _binaries()
        self.directory = Path(tempfile.mkdtemp(prefix="nflowlevel-demo-postgresql-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Server:
        try:
            if started_by_root():
                user = _system_user()
                os.chown(self.directory, user.pw_uid, user.pw_gid)
            self._run("initdb", "--pgdata=data", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync")
            self.start()
            self._run("createdb", f"--host={self.directory}", "--username=postgres", _DATABASE)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.directory)

    @property
    def runs(self) -> bool:
        """Whether it is there."""
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = [f"--unix_socket_directories={self.directory}", "--listen_addresses="]
        with (self.directory / "log").open("ab") as log:
            command = self._command("postgres", "-D", "data", *options)
            self._process = subprocess.Popen(command, cwd=self.directory, stdout=log, stderr=log)
        until(self._answers, "PostgreSQL answers")

    def stop(self) -> None:
        """Stop it; sessions end at once."""
        if self._process:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE_SECS)
            self._process = None

    def rows(self) -> Rows:
        """Count what is in the table."""
        import psycopg

        with psycopg.connect(host=str(self.directory), user="postgres", dbname=_DATABASE) as connection:
            found = connection.execute(_COUNTS).fetchone()
        assert found
        return Rows(*found)

    def _answers(self) -> bool:
        import psycopg

        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(host=str(self.directory), user="postgres", dbname="postgres").close()
            return True
        return False

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            self._command(*command), cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            raise SystemExit(f"demo: {command[0]}: exit status {done.returncode}\n{done.stdout}")

    def _command(self, program: str, *arguments: str) -> list[str]:
        """PostgreSQL refuses to run as root, even of a user namespace."""
        user = _system_user()
        if started_by_root():
            become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        else:
            become = ["unshare", "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}"]
        return [*become, "--", str(self._binaries / program), *arguments]


def _missing() -> str:
    """Return what there is to install, or an empty string."""
    lacking = []
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        lacking.append("the server (Debian: postgresql)")
    if not importlib.util.find_spec("psycopg"):
        lacking.append("psycopg 3 (Debian: python3-psycopg; pip: nflowlevel[pgsql])")
    return f"install {' and '.join(lacking)}" if lacking else ""


def _binaries() -> Path:
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


def _system_user() -> pwd.struct_passwd:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


# -- packets ----------------------------------------------------------------------------------------------------------


def _load_rules() -> None:
    """Load the rule, its counter at zero."""
    subprocess.run(["nft", "-f", "-"], input=RULES, text=True, check=True)


def _send(seconds: int) -> None:
    """Send packets, each to the next port."""
    begin = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for number in range(seconds * RATE):
            if number % 20 == 0:
                time.sleep(max(0.0, begin + number / RATE - time.monotonic()))
            udp.sendto(b"packet %d" % number, ("127.0.0.1", FIRST_PORT + number))


def _counted() -> int:
    """What the rule itself counted."""
    listed = json.loads(run("nft", "-j", "list", "chain", "inet", "demo", "logged"))["nftables"]
    rule = next(item["rule"] for item in listed if "rule" in item)
    return int(next(part["counter"]["packets"] for part in rule["expr"] if "counter" in part))


def _verdict(where: str, rows: Rows) -> bool:
    counted = _counted()
    lost, twice = counted - rows.distinct, rows.stored - rows.distinct
    print(f"\n{where}: counted by the rule {counted:,}, rows {rows.stored:,}, lost {lost:,}, twice {twice:,}\n")
    return counted == rows.stored == rows.distinct


if __name__ == "__main__":
    sys.exit(main())
