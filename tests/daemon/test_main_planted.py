# SPDX-License-Identifier: GPL-2.0-or-later
"""What a user can put in the daemon's way, at every path that the daemon opens in that user's directory: the user whom
it becomes (`-u`), and one in whose directory it writes as root.

The paths come from strace of a run with all outputs that have files, not from a list. At each of them stands then, when
the daemon is started again, a link to something that is root's alone. It must stay as it was; and nothing may be waited
for.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import cycle, zip_longest
from pathlib import Path

import pytest

from tests.fix_daemon import FILTERS, Daemon, config, log_rule, run, wait_for
from tests.fix_netns import Netns, Pair

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed; type: make setup"),
]

_USER = pwd.getpwnam("nobody")

#: Calls that open, make, change or remove what is at a path.
_CALLS = (
    "open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,truncate,chown,fchownat,unlink,"
    "fcntl"
)
#: Directories whose files have other names each time.
_DIRECTORIES = ("xml", "caps")
#: openat(AT_FDCWD</>, "/a/file", …), openat(5</a>, "file", …), rename("/a/file", "/a/other")
_CALL = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
#: fcntl(5</a>, F_DUPFD_CLOEXEC, 0) = 6</a>, and a file in that directory: /proc/self/fd/6/file.
_DUPLICATE = re.compile(r"F_DUPFD_CLOEXEC, 0\) = (\d+)<([^>]*)>")
_BY_DESCRIPTOR = re.compile(r"/proc/self/fd/(\d+)(?=/)")


class Setting:
    """A directory of the user's with all that the daemon makes there, and one of root's that is not to be touched."""

    def __init__(self, users: Path, roots: Path, pair: Pair, tmp_path: Path, words: tuple[str, ...]) -> None:
        self.users, self.roots, self.pair, self.tmp_path = users, roots, pair, tmp_path
        self.words = words
        self.base, self.saved = tmp_path / "base.json", tmp_path / "saved"
        spool = f"spool_directory={users}/spool"
        self.text = config(
            f"logfile={users}/log",
            f"g:NFLOG,{FILTERS},base:JSON",
            f"g:NFLOG,{FILTERS},j:JSON",
            f"g:NFLOG,{FILTERS},own:SQLITE3",
            f"g:NFLOG,{FILTERS},refused:SQLITE3",
            f"g:NFLOG,{FILTERS},away:PGSQL",
            f"g:NFLOG,{FILTERS},print:PRINTPKT,emu:LOGEMU",
            f"g:NFLOG,{FILTERS},gprint:GPRINT",
            f"g:NFLOG,{FILTERS},oprint:OPRINT",
            f"g:NFLOG,{FILTERS},xml:XML",
            f"g:NFLOG,{FILTERS},pcap:PCAP",
            f"g:NFLOG,{FILTERS},many:PCAP",
            "a:NFACCT,graphite:GRAPHITE",
            g="group=2",
            a="pollinterval=1",
            base=f"file={self.base}",
            j=f"file={users}/out.json\nsync=1",
            own=f"db={users}/own.db\n{spool}",
            refused=f"db={users}/refused.db\ntable=t\n{spool}\ndead_letter_file={users}/letters.jsonl",
            away=f'connstring="host=127.0.0.1 port=1 dbname=none"\ntable=packets\n{spool}',
            graphite="host=127.0.0.1\nport=2003",
            emu=f"file={users}/emu.log",
            gprint=f"file={users}/gprint.log",
            oprint=f"file={users}/oprint.log",
            xml=f"directory={users}/xml",
            pcap=f"file={users}/one.pcap",
            many=f"file={users}/caps/%s.pcap\nrotate_secs=1\nkeep_files=1\ncompress=gzip",
        )
        for name in _DIRECTORIES:
            (users / name).mkdir()
            os.chown(users / name, _USER.pw_uid, _USER.pw_gid)
        with closing(sqlite3.connect(users / "refused.db")) as connection:
            connection.execute("CREATE TABLE t (udp_dport INT CHECK (udp_dport <> 9))")
        os.chown(users / "refused.db", _USER.pw_uid, _USER.pw_gid)

    @property
    def lines(self) -> int:
        """How many records the stack has written whose file nobody touches."""
        return self.base.read_bytes().count(b"\n") if self.base.exists() else 0

    def run(self, *wrapper: str) -> bool:
        """Start the daemon, let packets pass, stop it; whether it ran."""
        before = self.lines
        daemon = Daemon(
            self.tmp_path, self.text, *self.words, "-p", f"{self.users}/pid", netns=self.pair.fw, wrapper=wrapper
        )
        daemon.start()
        try:
            try:
                daemon.expect("READY")
            except AssertionError:
                assert daemon.process.poll() is not None, f"it hangs\n{daemon.stderr}"
                return False
            self.pair.send_udp(3)
            wait_for(lambda: self.lines == before + 3, "the other stack runs", lambda: daemon.stderr)
            # strace passes on no signal; its child is the daemon.
            pid = int(subprocess.check_output(["pgrep", "-P", str(daemon.pid)])) if wrapper else daemon.pid
            os.kill(pid, signal.SIGTERM)
            assert daemon.wait() == 0, daemon.stderr
        finally:
            daemon.close()
        return True

    def attack(self, plants: Mapping[Path, Callable[[Path, Path], None]]) -> bool:
        """Plant something, each with a victim of its own, start the daemon, and compare; whether it ran."""
        for path in (*self.users.iterdir(), *self.roots.iterdir()):
            _removed(path)
        subprocess.run(["cp", "-a", f"{self.saved}/.", self.users], check=True)
        for number, (path, plant) in enumerate(plants.items()):
            there, victims = self.users / path, self.roots / str(number)
            _removed(there)
            victims.mkdir()
            plant(victims, there)
        before = _state(self.roots)
        ran = self.run()
        assert _state(self.roots) == before, {str(path): plant.__name__ for path, plant in plants.items()}
        return ran

    def traced(self) -> set[Path]:
        """Run the daemon twice and return what it opened in the user's directory, as paths below that."""
        found = set()
        for number in range(2):
            trace = self.tmp_path / f"trace{number}"
            ran = self.run("strace", "-f", "-y", "-s", "4096", "-e", f"trace={_CALLS}", "-o", str(trace))
            assert ran, [*self.tmp_path.glob("*.stderr")][-1].read_text()
            held: dict[str, str] = {}

            def named(by: re.Match[str], held: dict[str, str] = held) -> str:
                return held.get(by[1], "")

            for line in trace.read_text().splitlines():
                held.update(_DUPLICATE.findall(line))
                for directory, name in _CALL.findall(line):
                    path = Path(directory or "/", _BY_DESCRIPTOR.sub(named, name))
                    if self.users in path.parents:
                        found.add(path.relative_to(self.users))
        return found


@pytest.fixture(params=[(), ("-u", "nobody")], ids=["root", "user"])
def setting(pair: Pair, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Setting]:
    pair.fw.nft(log_rule(2))
    # pytest's own directories are root's alone.
    with (
        tempfile.TemporaryDirectory(prefix="nfltest-") as users,
        tempfile.TemporaryDirectory(prefix="nfltest-") as roots,
    ):
        os.chown(users, _USER.pw_uid, _USER.pw_gid)
        os.chmod(roots, 0o755)
        yield Setting(Path(users), Path(roots), pair, tmp_path, request.param)


_TEXT = b'{"timestamp": "no newline at the end'


def _a_file(roots: Path) -> Path:
    path = roots / "file"
    path.write_bytes(_TEXT)
    path.chmod(0o600)
    return path


def _symbolic_link(roots: Path, path: Path) -> None:
    path.symlink_to(_a_file(roots))


def _hard_link(roots: Path, path: Path) -> None:
    """Where fs.protected_hardlinks is 0, anybody can."""
    path.hardlink_to(_a_file(roots))


def _dangling_link(roots: Path, path: Path) -> None:
    path.symlink_to(roots / "new")


def _link_to_a_directory(roots: Path, path: Path) -> None:
    inside = roots / "directory"
    inside.mkdir(0o700)
    (inside / "id").write_bytes(_TEXT)
    path.symlink_to(inside)


def _fifo(roots: Path, path: Path) -> None:
    os.mkfifo(path, 0o666)
    os.chown(path, _USER.pw_uid, _USER.pw_gid)


def _state(directory: Path) -> dict[str, tuple[int, ...] | bytes]:
    """Return all that can be seen of a directory's files, but not when they were read."""
    found: dict[str, tuple[int, ...] | bytes] = {}
    for path in (directory, *sorted(directory.rglob("*"))):
        status = path.lstat()
        found[str(path)] = status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns
        if path.is_file():
            found[f"{path}:"] = path.read_bytes()
    return found


def _together(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """Yield paths that can be tried in one run: of each output one. Without pid file or log there is no run at all."""
    units: dict[str, list[Path]] = {}
    for path in sorted(paths):
        name = path.parts[1] if path.parts[0] == "spool" and len(path.parts) > 1 else path.parts[0].split(".")[0]
        name = "refused" if name == "letters" else name
        if name in ("pid", "log", "spool"):
            yield [path]
        else:
            units.setdefault(name, []).append(path)
    for some in zip_longest(*units.values()):
        yield [path for path in some if path]


def _removed(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


#: What is planted in turns. Each kind at each path would take minutes: so each file has its turn with all.
_KINDS = {
    "symbolic links": (_symbolic_link,),
    "others": (_hard_link, _dangling_link, _link_to_a_directory, _fifo, _link_to_a_directory),
}


@pytest.mark.parametrize("kinds", _KINDS)
def test_what_is_roots_stays_as_it_is(setting: Setting, kinds: str) -> None:
    paths = setting.traced()
    names = {re.sub(r"[0-9a-f-]{16,}", "N", str(path)) for path in paths}
    # Nobody can plant anything at a name that is drawn each time.
    paths = {
        path for path in paths if path.parts[0] not in _DIRECTORIES and not re.search("^pid.*[0-9a-f]{16}", str(path))
    }
    paths |= {Path(name) for name in _DIRECTORIES}
    assert names >= {
        "pid", "log", "out.json", "own.db", "own.db-wal", "own.db-shm", "refused.db", "letters.jsonl", "spool/own/lock",
        "spool/own/id", "spool/own/id.new", "spool/own/numbers", "spool/away/position", "spool/away/N.rows",
        "emu.log", "gprint.log", "oprint.log", "one.pcap",
    }, names  # fmt: skip
    subprocess.run(["cp", "-a", setting.users, setting.saved], check=True)
    ran, turns = 0, cycle(_KINDS[kinds])
    for some in _together(paths):
        ran += setting.attack({path: next(turns) for path in some})
    assert ran > 5


#: How long the user plants things while the daemon runs; 40 s were tried.
_LIVE_SECS = float(os.environ.get("NFL_TEST_LIVE_SECS", "4"))


def _keep_planting(users: Path, roots: Path, names: Sequence[str], end: float) -> None:
    """As the user: put links, FIFOs, directories and files in the places of these names, and take them away again."""
    draw = random.Random(3)
    file, directory = next(roots.glob("*/file")), next(roots.glob("*/directory"))
    plants: list[Callable[[Path], object]] = [
        lambda path: path.symlink_to(file), lambda path: path.symlink_to(directory), os.mkfifo, Path.mkdir,
        lambda path: path.symlink_to(roots / "new"), lambda path: path.write_bytes(_TEXT), lambda path: None,
    ]  # fmt: skip
    number = 0
    while time.time() < end:
        path, number = users / draw.choice(names), number + 1
        moved = path.with_name(f"moved{number}")
        with contextlib.suppress(OSError):
            path.rename(moved)
        with contextlib.suppress(OSError):
            draw.choice(plants)(path)
        time.sleep(draw.random() / 20)
        with contextlib.suppress(OSError):
            _removed(path)
        if moved.is_dir() or draw.random() < 0.5:
            with contextlib.suppress(OSError):
                moved.rename(path)


def test_what_is_roots_stays_as_it_is_while_the_daemon_runs(setting: Setting) -> None:
    """With new files each second, with SIGHUP, and with a kill; the other stack loses nothing."""
    (setting.roots / "1").mkdir()
    _link_to_a_directory(setting.roots / "1", setting.roots / "1/link")
    _a_file(setting.roots / "1")
    before = _state(setting.roots)
    names = ("out.json", "emu.log", "gprint.log", "oprint.log", "one.pcap", "own.db", "xml", "caps", "spool", "log")
    end = time.time() + _LIVE_SECS
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setresgid(_USER.pw_gid, _USER.pw_gid, _USER.pw_gid)
            os.setresuid(_USER.pw_uid, _USER.pw_uid, _USER.pw_uid)
            _keep_planting(setting.users, setting.roots, names, end)
        finally:
            os._exit(0)
    draw, killed = random.Random(5), False
    daemon = None
    while time.time() < end:
        if daemon is None:
            daemon, sent, had = (
                Daemon(setting.tmp_path, setting.text, *setting.words, netns=setting.pair.fw),
                0,
                setting.lines,
            )
            daemon.start()
            try:
                daemon.expect("READY")
            except AssertionError:  # its log was planted: that is refused
                assert daemon.process.poll() == 2, daemon.stderr
                daemon.close()
                daemon = None
                continue
        count = draw.randrange(1, 30)
        setting.pair.send_udp(count)
        sent += count
        assert daemon.process.poll() is None, daemon.stderr
        if draw.random() < 0.3:
            daemon.send(signal.SIGHUP)
        if not killed and time.time() > end - _LIVE_SECS / 2:
            killed = True
            daemon.process.kill()
            daemon.process.wait()
            daemon.close()
            daemon = None
        time.sleep(draw.random() / 20)
    os.waitpid(pid, 0)
    if daemon:
        daemon.stop()
        daemon.close()
        assert setting.lines == had + sent, daemon.stderr
    assert _state(setting.roots) == before


@pytest.mark.parametrize(
    ("chain", "options"),
    [
        (f"{FILTERS},o:JSON", "file={}"),
        (f"{FILTERS},p:PRINTPKT,o:LOGEMU", "file={}"),
        (f"{FILTERS},o:GPRINT", "file={}"),
        (f"{FILTERS},o:OPRINT", "file={}"),
        (f"{FILTERS},o:PCAP", "file={}"),
        (f"{FILTERS},o:PCAP", "file={}/%s.pcap\nrotate_secs=60"),
        (f"{FILTERS},o:XML", "directory={}"),
        (f"{FILTERS},o:SQLITE3", "db={}"),
        (f"{FILTERS},o:SQLITE3", "db={}.db\nspool_directory={}"),
    ],
)
def test_a_check_and_the_doctor_say_what_the_daemon_will_do(
    netns: Netns, open_to_all: Path, users: Path, tmp_path: Path, chain: str, options: str
) -> None:
    """Of a link that a user made in their own directory: root does not follow it, that user does."""
    victim = open_to_all / "victim"
    if "/" in options or "directory" in options:
        victim.mkdir(0o755)
        os.chown(victim, _USER.pw_uid, _USER.pw_gid)
    else:
        victim.touch(0o600)
    os.symlink(victim, users / "out")
    text = config(f"g:NFLOG,{chain}", g="group=2", o=options.replace("{}", f"{users}/out"))
    file = tmp_path / "u.conf"
    file.write_text(text)
    said = "'out' is a symbolic link that others can change"
    check = run("-c", str(file), "--check-config")
    assert said in check.stderr, check.stderr
    assert "or start the daemon with -u USER" in check.stderr
    assert said not in run("-c", str(file), "--check-config", "-u", "nobody").stderr
    if "db" not in options:
        doctor = netns.run(sys.executable, "-m", "nflowlevel", "doctor", "-c", str(file), check=False)
        assert said in doctor.stdout, doctor.stdout
    done = run("-c", str(file), "-l", "3", netns=netns) if "db" not in options else None
    if done:
        assert done.returncode == 1
        assert f"{said} — name what it leads to, or start the daemon with -u USER" in done.stderr, done.stderr
    assert victim.is_dir() or not victim.stat().st_size
    assert not victim.is_dir() or not any(victim.iterdir())
