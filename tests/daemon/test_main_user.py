# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon that becomes another user: what it keeps, what root goes on opening for it, and what it says.

What that user can put in its way: test_main_planted.py.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import nflowlevel
from nflowlevel.binding._lib import lib
from tests.fix_daemon import FILTERS, Daemon, config, lines_of, log_rule, records, run, wait_for
from tests.fix_netns import Netns, Pair
from tests.fix_nflog import NflogReader
from tests.fix_nobody import NOBODY

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

_USER = pwd.getpwuid(NOBODY)
_ZERO = {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": 0, "CapAmb": 0}


def to_file(out: Path, *lines: str, group: str = "group=2") -> str:
    return config(*lines, f"g:NFLOG,{FILTERS},j:JSON", g=group, j=f"file={out}")


def threads(pid: int) -> Iterator[tuple[str, dict[str, int], dict[str, str]]]:
    """Yield name, capabilities and all else of /proc/PID/status, of each thread of a process."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            lines = (task / "status").read_text().splitlines()
            state = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
            yield state["Name"], {name: int(state[name], 16) for name in _ZERO}, state


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_every_thread_has_what_it_needs_and_no_more(pair: Pair, tmp_path: Path, users: Path) -> None:
    """With all outputs that have threads, and the process that opens what is root's."""
    pair.fw.nft(log_rule(2))
    outputs = {
        "j": ("JSON", f"file={tmp_path}/out.json\nsync=1"),
        "t": ("JSON", "mode=tcp\nhost=127.0.0.1\nport=1"),
        "db": ("SQLITE3", f"db={users}/packets.db\nspool_directory={users}/spool"),
        "p": ("PGSQL", f'connstring="host=127.0.0.1 port=1"\ntable=packets\nspool_directory={users}/spool'),
        "m": ("PROMETHEUS", "host=127.0.0.1\nport=81"),
    }
    text = config(
        *(f"g:NFLOG,{FILTERS},{name}:{plugin}" for name, (plugin, _) in outputs.items()),
        "a:NFACCT,c:GRAPHITE",
        g=f"group=2\nnetwork_namespace_path={pair.fw.path}",
        a="pollinterval=1",
        c="host=127.0.0.1\nport=2003",
        **{name: options for name, (_, options) in outputs.items()},
    )
    with Daemon(tmp_path, text, "-u", "nobody", netns=pair.fw) as daemon:
        assert "6 of 6 stacks run" in daemon.stderr, "a port below 1024 is there at the start"
        pair.send_udp(23)
        records(tmp_path / "out.json", 23)
        # A new thread has to give up first what it inherits.
        wait_for(lambda: sum(any(caps.values()) for _, caps, _ in threads(daemon.pid)) == 1, "only one has any")
        found = [*threads(daemon.pid)]
        assert len(found) >= 6
        for name, capabilities, state in found:
            is_main = state["Pid"] == str(daemon.pid)
            kept = 1 << lib.CAP_NET_ADMIN if is_main else 0
            assert capabilities == {**_ZERO, "CapPrm": kept, "CapEff": kept}, name
            assert state["NoNewPrivs"] == "1"
            assert state["Uid"].split() == [str(NOBODY)] * 4
        (opener,) = children(daemon.pid)
        ((name, capabilities, state),) = threads(opener)
        assert name == "nflowlevel-open"
        kept = sum(
            1 << number for number in (lib.CAP_SYS_ADMIN, lib.CAP_SYS_PTRACE, lib.CAP_NET_ADMIN, lib.CAP_DAC_OVERRIDE)
        )
        assert capabilities == {**_ZERO, "CapPrm": kept, "CapEff": kept}
        assert state["NoNewPrivs"] == "1"
        daemon.stop()
        wait_for(lambda: not os.path.exists(f"/proc/{opener}"), "it ends with the daemon")


def test_there_is_no_second_process_without_need(netns: Netns, tmp_path: Path, users: Path) -> None:
    with Daemon(tmp_path, to_file(users / "out.json"), "-u", "nobody", netns=netns) as daemon:
        assert children(daemon.pid) == []


def test_it_ends_with_a_daemon_that_is_killed(netns: Netns, tmp_path: Path) -> None:
    with Daemon(tmp_path, to_file(tmp_path / "out.json"), "-u", "nobody", netns=netns) as daemon:
        (opener,) = children(daemon.pid)
        daemon.send(signal.SIGKILL)
        daemon.process.wait()
    wait_for(lambda: not os.path.exists(f"/proc/{opener}/exe"), "it is gone")


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_it_goes_on_without_the_process_that_opens(pair: Pair, tmp_path: Path, how: signal.Signals) -> None:
    """Whatever holds that up, such as a file system that hangs: packets go on, the old files, and the end."""
    out, log = tmp_path / "out.json", tmp_path / "log"
    pair.fw.nft(log_rule(2))
    with Daemon(tmp_path, to_file(out, f"logfile={log}"), "-u", "nobody", netns=pair.fw) as daemon:
        (opener,) = children(daemon.pid)
        os.kill(opener, how)
        try:
            for _ in range(3):
                daemon.reload()
                pair.send_udp(7)
            records(out, 21)
            daemon.says("ask the process that opens files for the daemon", log)
            began = time.monotonic()
            daemon.stop()
            assert time.monotonic() - began < 10
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(opener, signal.SIGCONT)
    wait_for(lambda: not os.path.exists(f"/proc/{opener}/exe"), "it is gone")


# -- files ------------------------------------------------------------------------------------------------------------


def test_roots_files_in_roots_directory_go_on(pair: Pair, tmp_path: Path) -> None:
    """As an earlier run as root left them, and again after they were rotated. The user may not even enter this one."""
    out, log = tmp_path / "out.json", tmp_path / "log"
    out.write_text('{"timestamp": "whole"}\n{"timestamp": "torn')
    pair.fw.nft(log_rule(2))
    with Daemon(tmp_path, to_file(out, f"logfile={log}"), "-u", "nobody", netns=pair.fw) as daemon:
        pair.send_udp(23)
        records(out, 24)
        for path in (out, log):
            path.rename(path.with_suffix(".1"))
        daemon.reload()
        daemon.says("SIGHUP: reopening files", log)
        pair.send_udp(6)
        records(out, 6)
        daemon.stop()
    assert "stays in use" not in log.read_text() + log.with_suffix(".1").read_text()
    assert len(lines_of(out.with_suffix(".1"))) == 24
    assert {path.stat().st_uid for path in tmp_path.iterdir()} == {0}, "nothing is given away"


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_a_file_of_the_users_in_roots_directory(pair: Pair, tmp_path: Path, open_to_all: Path, mode: int) -> None:
    open_to_all.chmod(mode)
    out = open_to_all / "out.json"
    out.touch(0o600)
    os.chown(out, NOBODY, NOBODY)
    pair.fw.nft(log_rule(2))
    with Daemon(tmp_path, to_file(out), "-u", "nobody", netns=pair.fw) as daemon:
        pair.send_udp(23)
        records(out, 23, lambda: daemon.stderr)
    assert out.stat().st_uid == NOBODY


def test_files_in_the_users_directory_are_the_users(pair: Pair, tmp_path: Path, users: Path) -> None:
    pair.fw.nft(log_rule(2))
    out, log = users / "out.json", users / "log"
    with Daemon(
        tmp_path, to_file(out, f"logfile={log}"), "-u", "nobody", "-p", f"{users}/pid", netns=pair.fw
    ) as daemon:
        pair.send_udp(23)
        records(out, 23)
        assert {path.name: path.stat().st_uid for path in users.iterdir()} == {
            "out.json": NOBODY,
            "log": NOBODY,
            "pid": 0,
            "pid.last": 0,
        }
        assert (users / "pid").read_text() == f"{daemon.pid}\n"


@pytest.mark.parametrize("name", ["out.json", "log", "pid"])
def test_what_is_roots_in_the_users_directory_is_refused(netns: Netns, tmp_path: Path, users: Path, name: str) -> None:
    """Who can write there can have put it there: it may have been any file of root's."""
    (users / name).write_text("root's")
    (users / name).chmod(0o600)
    if name == "pid":  # that one is always root's; but it had another name
        (users / "other").hardlink_to(users / name)
    file = tmp_path / "my.conf"
    file.write_text(to_file(users / "out.json", f"logfile={users}/log"))
    done = run("-c", str(file), "-u", "nobody", "-p", f"{users}/pid", netns=netns)
    assert done.returncode == (2 if name == "log" else 1)
    denied = "Permission denied — "
    expected = {
        "out.json": f"open {users}/out.json: Permission denied — give the daemon's user write permission for the file "
        "and search permission for its directory; it belongs to root:root, mode 0600",
        "log": f"logfile={users}/log: {denied}it belongs to root:root, mode 0600; give it to the daemon's user",
        "pid": f"pid file {users}/pid: it has 2 names (hard links); remove it, or use another path",
    }[name]
    assert expected in done.stderr
    assert (users / name).read_text() == "root's"


def test_the_spool_of_an_earlier_run_as_root(pair: Pair, tmp_path: Path, open_to_all: Path) -> None:
    """Its rows wait in root's directory. The user gets that directory, and only that."""
    pair.fw.nft(log_rule(2))
    spool = open_to_all / "spool"
    section = f'connstring="host=127.0.0.1 port=1"\ntable=packets\nspool_directory={spool}'
    text = config(f"g:NFLOG,{FILTERS},db:PGSQL", g="group=2", db=section)
    with Daemon(tmp_path, text, netns=pair.fw) as daemon:
        pair.send_udp(23)
        daemon.stop()
    assert {path.stat().st_uid for path in spool.rglob("*")} == {0}
    for count in (23, 23):
        with Daemon(tmp_path, text, "-u", "nobody", netns=pair.fw) as daemon:
            daemon.send(signal.SIGUSR1)
            daemon.says(f"pending {count}")
    assert spool.stat().st_uid == 0
    assert {path.stat().st_uid for path in spool.rglob("*")} == {NOBODY}


def test_a_spool_is_made_in_roots_directory(netns: Netns, tmp_path: Path, open_to_all: Path) -> None:
    section = f'connstring="host=127.0.0.1 port=1"\ntable=packets\nspool_directory={open_to_all}/new/spool'
    text = config(f"g:NFLOG,{FILTERS},db:PGSQL", g="group=2", db=section)
    with Daemon(tmp_path, text, "-u", "nobody", netns=netns):
        pass
    made = open_to_all / "new/spool"
    assert (made.parent.stat().st_uid, made.stat().st_uid, (made / "db").stat().st_uid) == (0, 0, NOBODY)


def test_a_database_in_roots_directory(netns: Netns, tmp_path: Path, open_to_all: Path) -> None:
    """SQLite says of it "disk I/O error", or that it is read-only, and needs more than the file."""
    path = open_to_all / "packets.db"
    section = f"db={path}\nspool_directory={open_to_all}/spool"
    text = config(f"g:NFLOG,{FILTERS},db:SQLITE3", g="group=2", db=section)
    whose = f"; the directory {open_to_all} belongs to root:root, mode 0755"
    expected = {
        False: f"its directory must exist, and user id {NOBODY} may create files in it{whose}",
        True: f"the file must be writable for user id {NOBODY}, and new files allowed in its directory{whose}",
    }
    for is_there in (False, True):
        if is_there:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("CREATE TABLE packets (oob_mark INT)")
            os.chown(path, NOBODY, NOBODY)
        with Daemon(tmp_path, text, "-u", "nobody", netns=netns) as daemon:
            daemon.says(expected[is_there])
            assert "the disk" not in daemon.stderr


def test_databases_can_be_read_by_no_stranger(pair: Pair, tmp_path: Path, users: Path) -> None:
    """Who can read one can lock it, and then nothing is stored."""
    pair.fw.nft(log_rule(2))
    path = users / "packets.db"
    text = config(f"g:NFLOG,{FILTERS},db:SQLITE3", g="group=2", db=f"db={path}\nspool_directory={users}/spool")
    with Daemon(tmp_path, text, "-u", "nobody", netns=pair.fw) as daemon:
        pair.send_udp(23)
        daemon.says("1 of 1 stacks run")
        wait_for(lambda: (users / "packets.db-shm").exists(), "the write-ahead log", lambda: daemon.stderr)
        modes = {file.name: file.stat().st_mode & 0o777 for file in users.glob("packets.db*")}
    assert modes == {"packets.db": 0o640, "packets.db-wal": 0o640, "packets.db-shm": 0o640}


# -- groups and namespaces --------------------------------------------------------------------------------------------


def test_who_has_the_group_is_still_said(netns: Netns, tmp_path: Path) -> None:
    """The user could not see it; and that the stack is tried again as that user."""
    text = config(
        f"g:NFLOG,{FILTERS},j:JSON", f"g2:NFLOG,{FILTERS},k:JSON",
        g="group=2", g2="group=3", j=f"file={tmp_path}/out.json", k=f"file={tmp_path}/other.json",
    )  # fmt: skip
    with NflogReader(netns, 3) as reader, Daemon(tmp_path, text, "-u", "nobody", netns=netns) as daemon:
        assert f"(process {os.getpid()}, " in daemon.stderr
        assert "1 of 2 stacks run" in daemon.stderr
        reader.close()
        daemon.reload()
        assert "2 of 2 stacks run" in daemon.notified[-1]["STATUS"]


def test_an_input_whose_stacks_do_not_run_is_not_kept(netns: Netns, tmp_path: Path, users: Path) -> None:
    """Nobody else could read the group, and what it logs would vanish."""
    text = config(
        f"g:NFLOG,{FILTERS},j:JSON", f"g2:NFLOG,{FILTERS},k:JSON",
        g="group=2", g2="group=3", j=f"file={users}/out.json", k=f"file={users}/missing/out.json",
    )  # fmt: skip
    with Daemon(tmp_path, text, "-u", "nobody", netns=netns) as daemon:
        assert "1 of 2 stacks run" in daemon.stderr
        with NflogReader(netns, 3):
            pass
        (users / "missing").mkdir()
        os.chown(users / "missing", NOBODY, NOBODY)
        daemon.reload()
        assert "2 of 2 stacks run" in daemon.notified[-1]["STATUS"]


def test_a_namespace_is_opened_again(pair: Pair, tmp_path: Path) -> None:
    """The daemon itself may not enter it any more."""
    pair.fw.nft(log_rule(2))
    out, where = tmp_path / "out.json", f"network_namespace_path={pair.fw.path}"
    text = config(
        "c:NFACCT,k:JSON", f"g:NFLOG,{FILTERS},j:JSON",
        c=f"{where}\npollinterval=100", k=f"file={tmp_path}/other.json", g=f"group=2\n{where}", j=f"file={out}",
    )  # fmt: skip
    with NflogReader(pair.fw, 2) as reader, Daemon(tmp_path, text, "-u", "nobody") as daemon:
        assert "1 of 2 stacks run" in daemon.stderr
        reader.close()
        daemon.reload()
        pair.send_udp(23)
        assert {record["oob.in"] for record in records(out, 23, lambda: daemon.stderr)} == {"va"}
        assert "CAP_SYS_ADMIN" not in daemon.stderr


def test_the_programs_own_files_may_be_roots_alone(pair: Pair, tmp_path: Path, users: Path) -> None:
    """As in a checkout in root's home: what is imported and read later is loaded before."""
    pair.fw.nft(log_rule(2))
    shutil.copytree(Path(nflowlevel.__file__).parent, tmp_path / "nflowlevel", symlinks=True)
    assert tmp_path.stat().st_mode & 0o007 == 0
    path = users / "packets.db"
    text = config(f"g:NFLOG,{FILTERS},db:SQLITE3", g="group=2", db=f"db={path}\nspool_directory={users}/spool")
    own = {"PYTHONPATH": str(tmp_path)}
    with Daemon(tmp_path, text, "-u", "nobody", netns=pair.fw, environment=own, cwd=tmp_path) as daemon:
        pair.send_udp(23)
        wait_for(lambda: _count(path) == 23, "23 rows", lambda: daemon.stderr)


def _count(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM packets").fetchone()[0])
        except sqlite3.OperationalError:
            return -1
