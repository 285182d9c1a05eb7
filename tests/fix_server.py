# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests' private database servers share: a directory, an unprivileged user, a process, and its end.

A server's processes are known by their working directory, which lies in the server's own: so all of them can be
stopped, continued and killed, and what a killed test run left behind is found and removed by the next one.
"""

from __future__ import annotations

import contextlib
import glob
import gzip
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.fix_alone import unused_port

#: Starting a server on a busy machine takes seconds; whoever waits this long waits in vain.
PATIENCE = 60.0

#: The one user that tests log in as. The password is odd so that a test can look for it where it must not stand.
USER, PASSWORD = "ulog", "pass-word'of \\tests"

_SHIPPED = Path("/usr/share/doc/ulogd2")
_SEGMENT_LINE = 6
_PAGE = 16_384
_numbers = itertools.count()


class Server(ABC):
    """A server process of the test's own; it listens when `start` returns. `close` ends it and removes all it wrote."""

    kind: str
    """A word for the directory's name."""
    system_user: str
    """The user that the server runs as when the tests run as root, `nobody` where there is none such."""
    ends_at_once: signal.Signals
    """What makes the server end when the test run is killed."""

    def __init__(self, *, fast: bool = False) -> None:
        """`fast`: nothing is synced to disk, for tests that do not ask what survives a crash."""
        remove_stale()
        self.fast = fast
        self.directory = Path(tempfile.mkdtemp(prefix=f"nfltest-{os.getpid()}-{self.kind}-"))
        self.port = unused_port()
        self._log = self.directory / "log"
        self._log_shown = 0
        self._process: subprocess.Popen[bytes] | None = None
        user = _system_user(self.system_user)
        self._setpriv = ["setpriv", f"--pdeathsig={self.ends_at_once.name.removeprefix('SIG')}"]
        if os.geteuid() == 0:
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            self._setpriv += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        try:
            self._create()
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def _create(self) -> None:
        """Make the data directory."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the command line of the server in the foreground."""

    @abstractmethod
    def _prepare(self) -> None:
        """Make the user, once: the server runs for the first time."""

    @abstractmethod
    def ready(self) -> bool:
        """Tell whether it lets the administrator in."""

    # -- the process ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it and wait until it answers. Nothing happens when it runs."""
        if self._process:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._setpriv, "--", *self._command()],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # SIGXFSZ stays ignored, as Python has it: a full disk (`fill`) is an error, not the server's end.
                restore_signals=False,
            )
        self.wait_ready()
        prepared = self.directory / "prepared"
        if not prepared.exists():
            self._prepare()
            prepared.touch()

    def wait_ready(self) -> None:
        """Wait until it answers, after a start or a crash that it recovers from."""
        self.wait_for(self.ready, f"{self.kind} answers")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast` in order, `immediate` without a checkpoint, `kill` all its processes at once."""
        if self._process:
            self.resume()
            if mode == "kill":
                self.signal_all(signal.SIGKILL)
            else:
                self._process.send_signal(self._stop_signal(mode))
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
            self._kill_rest()
            self._process.wait()
            self._process = None

    def _stop_signal(self, mode: str) -> signal.Signals:
        return {"fast": signal.SIGTERM, "immediate": self.ends_at_once}[mode]

    def restart(self, mode: str = "fast") -> None:
        """Stop it and start it again."""
        self.stop(mode)
        self.start()

    def pause(self) -> None:
        """Stop all its processes as they are: the kernel accepts connections for it, and nothing ever answers."""
        self.signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self.signal_all(signal.SIGCONT)

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to each of its processes, also to those it starts meanwhile."""
        signalled: set[int] = set()
        while new := set(processes_in(self.directory)) - signalled:
            for pid in new:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            signalled |= new

    def fill(self, room: int) -> None:
        """Let no file grow beyond `room` bytes, as if the disk were full; PostgreSQL's log alone needs 16 MiB."""
        # A part of a page more: a write that is cut short is what a full disk looks like.
        self._limit_files(str(room // _PAGE * _PAGE + 4096))

    def make_room(self) -> None:
        """The end of `fill`."""
        self._limit_files("unlimited")

    def _limit_files(self, limit: str) -> None:
        for pid in processes_in(self.directory):
            # One that has ended meanwhile has no limits.
            self.run("prlimit", f"--pid={pid}", f"--fsize={limit}:unlimited", check=False)

    def _kill_rest(self) -> None:
        self.wait_for(lambda: not self._kill_all(), f"all processes of {self.kind} have ended", although_ended=True)

    def _kill_all(self) -> list[int]:
        own = self._process.pid if self._process else 0
        if self._process:
            self._process.poll()
        left = [pid for pid in processes_in(self.directory) if pid != own or self._running()]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left

    def _running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def restore(self) -> None:
        """Undo what a test did to it: it runs, answers and lets everyone in."""
        self.resume()
        self.make_room()
        self.wait_for(self._revived, f"{self.kind} answers", although_ended=True)

    def _revived(self) -> bool:
        if not self._running():
            self._process = None
            self.start()
        return self.ready()

    def close(self) -> None:
        """End it, and remove its directory. May be called twice."""
        with contextlib.suppress(AssertionError):
            self.stop("immediate")
        _remove(self.directory)

    def run(self, *command: str, check: bool = True, **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a command as the server's user, in its directory; what it says goes into the failure."""
        done = subprocess.run(
            [*self._setpriv, "--", *command],
            cwd=self.directory,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            **kwargs,
        )
        assert not check or done.returncode == 0, (
            f"{' '.join(command)}\n{done.stdout.decode(errors='replace')}{done.stderr.decode(errors='replace')}"
        )
        return done

    # -- what it says --------------------------------------------------------------------------------------------------

    @property
    def log(self) -> str:
        """All that it has written to its log."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def show_log(self) -> None:
        """Print what it has written since the last time: pytest shows it where a test failed."""
        log = self.log
        print(f"-- log of {self.kind}\n{log[self._log_shown :][-20_000:]}")
        self._log_shown = len(log)

    def wait_for(self, condition: Callable[[], object], what: str, *, although_ended: bool = False) -> None:
        """Ask until `condition` holds; fail with the log when it never does or the server ends before."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"waited in vain: {what}\n{self.log[-4000:]}"
            assert although_ended or not self._process or self._running(), f"{self.kind} has ended\n{self.log[-4000:]}"
            time.sleep(0.02)


class Database(ABC):
    """A fresh database of a server, owned by the user `ulog`: what a test hands to the code under test."""

    def __init__(self, server: Server) -> None:
        self.name = f"test{os.getpid()}_{next(_numbers)}"
        self.host, self.port, self.user, self.password = "127.0.0.1", server.port, USER, PASSWORD

    @abstractmethod
    def rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query, asked by the administrator over a connection of its own."""

    @abstractmethod
    def execute(self, *statements: str) -> None:
        """Execute statements as the user `ulog`, in one transaction where the database can."""

    @abstractmethod
    def load(self, script: str) -> None:
        """Run a script of the database's own command as the user `ulog`; fail at its first error."""

    def value(self, query: str, *arguments: object) -> Any:
        """Return the one value of the one row of a query."""
        ((value,),) = self.rows(query, *arguments)
        return value

    def count(self, table: str) -> int:
        """Return the number of rows of a table, its name written as in SQL."""
        return int(self.value(f"select count(*) from {table}"))


def shipped_schema(name: str) -> str:
    """Return one of ulogd2's own schemas, from the files of its Debian package; skip where they cannot be had."""
    path = _SHIPPED / f"{name}.gz"
    if path.exists():
        return gzip.decompress(path.read_bytes()).decode()
    with tempfile.TemporaryDirectory(prefix="nfltest-deb-") as directory:
        # Minimal machines leave documentation out when they install a package.
        for command in (["apt-get", "download", "ulogd2"], ["dpkg-deb", "-x"]):
            found = glob.glob("*.deb", root_dir=directory)
            arguments = [*command, *([*found, "."] if command[0] == "dpkg-deb" else [])]
            done = subprocess.run(arguments, cwd=directory, capture_output=True, timeout=PATIENCE, check=False)
            if done.returncode:
                pytest.skip(
                    f"ulogd2's {name} is not at {path} (Debian: ulogd2; its documentation may be excluded by dpkg's "
                    f"path-exclude), and {' '.join(command)} failed: {done.stderr.decode(errors='replace').strip()}"
                )
        unpacked = Path(directory, *path.parts[1:])
        if not unpacked.exists():
            pytest.skip(f"the package ulogd2 has no {path}")
        return gzip.decompress(unpacked.read_bytes()).decode()


_S = TypeVar("_S", bound=Server)


def shared(config: pytest.Config, make: type[_S]) -> _S:
    """Return the one server of its kind of this test run, running. It ends with the run."""
    # A session fixture would be made once for each module that imports it.
    servers: dict[type[Server], Server] = config.stash.setdefault(_SERVERS, {})
    server = servers.get(make)
    if not isinstance(server, make):
        server = make()
        servers[make] = server
        config.add_cleanup(server.close)
        server.start()
    return server


_SERVERS = pytest.StashKey[dict[type[Server], Server]]()


def lend(server: _S) -> Iterator[_S]:
    """Lend a server to one test: whole before it, whole after it, with its log where the test fails."""
    server.restore()
    try:
        yield server
    finally:
        server.show_log()
        server.restore()


def processes_in(directory: Path) -> list[int]:
    """Return the processes whose working directory lies in `directory`."""
    return [pid for pid, cwd in _working_directories() if cwd == directory or directory in cwd.parents]


def _working_directories() -> Iterator[tuple[int, Path]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # Those of other users, and those that have just ended, cannot be read.
            with contextlib.suppress(OSError):
                yield int(entry.name), Path(os.readlink(entry / "cwd").removesuffix(" (deleted)"))


def remove_stale() -> None:
    """Remove servers of earlier test runs that were killed before they could clean up."""
    for directory in Path(tempfile.gettempdir()).glob("nfltest-*-*-*"):
        owner = directory.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists():
            _remove(directory)


def _remove(directory: Path) -> None:
    for pid in processes_in(directory):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    # A PostgreSQL that was killed leaves a small segment of shared memory; its lock file names it.
    lock = directory / "data" / "postmaster.pid"
    lines = lock.read_text().splitlines() if lock.exists() else []
    if len(lines) > _SEGMENT_LINE and lines[_SEGMENT_LINE].split():
        segment = lines[_SEGMENT_LINE].split()[1]
        subprocess.run(["ipcrm", "--shmem-id", segment], check=False, capture_output=True)
    shutil.rmtree(directory, ignore_errors=True)


def _system_user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return pwd.getpwnam("nobody")
