# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian machine for a test: this one's files, in namespaces of its own, with systemd or nothing as first process.

What is written there goes to memory and is gone with it: packages, diversions, users, units, logs. It has its own
processes, network, host name and control groups, and nflowlevel in /opt/nflowlevel, as README.md installs it.

    with Machine(tmp_path, "systemd") as machine:
        machine.run("systemctl", "start", "nflowlevel")
"""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import Literal

from tests.fix_netns import missing

ROOT = Path(__file__).resolve().parent.parent

#: systemd needs some seconds to come up on a busy machine.
PATIENCE = 60.0

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_NAMESPACES = ("--pid", "--mount", "--cgroup", "--net", "--ipc", "--uts")

#: Two systemds in one control group would share the groups of their services: each gets its own. Arguments: where
#: to mount the groups for a moment, and the name of the new one; then the command.
_OWN_GROUP = r"""
set -e
at=$1 name=$2
shift 2
mount -t cgroup2 cgroup2 "$at"
mkdir "$at/$name"
echo 0 > "$at/$name/cgroup.procs"
umount "$at"
exec "$@"
"""

#: Its processes end a moment after the first one.
_REMOVE_GROUP = r"""
mount -t cgroup2 cgroup2 "$1"
until find "$1/$2" -depth -type d -exec rmdir {} + 2>/dev/null; do sleep 0.05; done
"""

#: Arguments: where to mount it, the tree under test, the directory its imports come from, and the version of Python.
_BOOT = r"""
set -e
at=$1 tree=$2 imports=$3 version=$4
mount --make-rprivate /
mount -t tmpfs none "$at"
mkdir "$at/upper" "$at/work" "$at/root" "$at/tree" "$at/treework"
mount -t overlay overlay -o "lowerdir=/,upperdir=$at/upper,workdir=$at/work" "$at/root"
cd "$at/root"
mount -t tmpfs none tmp
mkdir -p opt/nflowlevel.src
mount -t overlay overlay -o "lowerdir=$tree,upperdir=$at/tree,workdir=$at/treework" opt/nflowlevel.src
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 none dev
for device in null zero full random urandom tty; do
	: > "dev/$device"
	mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 none run
# Nothing of this machine starts there.
rm -rf etc/systemd/system/*.wants etc/systemd/system/*.service
rm -f etc/rc?.d/* usr/sbin/policy-rc.d
bin=opt/nflowlevel/bin packages="opt/nflowlevel/lib/python$version/site-packages"
mkdir -p "$bin" "$packages"
printf 'home = /usr/bin\ninclude-system-site-packages = true\n' > opt/nflowlevel/pyvenv.cfg
ln -s /usr/bin/python3 "$bin/python3"
printf '%s\n' /opt/nflowlevel.src $imports > "$packages/nflowlevel.pth"
program() {
	printf '#!/opt/nflowlevel/bin/python3\nimport sys\nfrom %s import main\nsys.exit(main())\n' "$2" > "$bin/$1"
	chmod 755 "$bin/$1"
}
program nflowlevel-daemon nflowlevel.daemon.main
program nflowlevel nflowlevel.cli
mkdir .old
pivot_root . .old
umount -l /.old
ip link set lo up
"""

_numbers = itertools.count()

_UP = "/run/nflowlevel-machine"
_FIRST = {
    "systemd": "exec env -i container=nflowlevel PATH=$PATH /lib/systemd/systemd --system --unit=basic.target",
    # It is to reap what is left to it.
    "none": f": > {_UP}; while :; do sleep 0.1; done",
}


@functools.cache
def why_not() -> str:
    """Return why there can be no such machine here, or an empty string."""
    if missing():
        return missing()
    if not Path("/lib/systemd/systemd").exists():
        return "there is no systemd"
    if not (ROOT / "nflowlevel/daemon/ulogd").exists():
        return "the program ulogd was not built"
    return ""


class Machine:
    """A machine in namespaces; it is up when the `with` block begins, and gone when it ends."""

    def __init__(self, directory: Path, first: Literal["systemd", "none"]) -> None:
        self._at = directory / "machine"
        self._at.mkdir()
        self._log = directory / "machine.log"
        self._first = first
        self._pid = 0
        self._group = f"nfltest-{os.getpid()}-{next(_numbers)}"

    def __enter__(self) -> Machine:
        prefix = Path(sysconfig.get_paths()["purelib"])
        imports = f"/opt/nflowlevel.src/{prefix.relative_to(ROOT)}" if prefix.is_relative_to(ROOT) else str(prefix)
        script = _BOOT + _FIRST[self._first]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *("unshare", "--mount", "sh", "-c", _OWN_GROUP, "sh", self._at, self._group),
                    "unshare",
                    *_NAMESPACES,
                    "--fork",
                    "--kill-child",
                    "sh",
                    "-c",
                    script,
                    "sh",
                    self._at,
                    ROOT,
                    imports,
                    sysconfig.get_python_version(),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": _PATH},
            )
        try:
            self.until(self._is_up, "the machine is up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # --kill-child: its first process ends with it, and all others with that.
        self._process.kill()
        self._process.wait()
        remove = ["unshare", "--mount", "sh", "-c", _REMOVE_GROUP, "sh", str(self._at), self._group]
        subprocess.run(remove, check=True, timeout=PATIENCE)

    def _is_up(self) -> bool:
        assert self._process.poll() is None, f"it did not start: {self._log.read_text()}"
        if not self._pid:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            if not children or not self._is_first(int(children[0])):
                return False
            self._pid = int(children[0])
        return self._first == "none" or self.run("systemctl", "is-active", "basic.target", check=False) == "active\n"

    def _is_first(self, pid: int) -> bool:
        if self._first == "none":
            return Path(f"/proc/{pid}/root{_UP}").exists()
        return Path(f"/proc/{pid}/comm").read_text() == "systemd\n"

    def until(self, condition: object, what: str) -> None:
        """Wait until `condition()` holds."""
        assert callable(condition)
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"waited in vain: {what}\n{self._log.read_text()}\n{self.journal()}"
            time.sleep(0.05)

    def command(self, *command: str) -> list[str]:
        """Return the command that runs `command` there."""
        enter = ("nsenter", f"--target={self._pid}", *_NAMESPACES, "--root", "--wd")
        return [*enter, "--", "env", "-i", f"PATH={_PATH}", "LC_ALL=C.UTF-8", *command]

    def run(self, *command: str, check: bool = True, stdin: str | None = None) -> str:
        """Run a command there and return what it says; fail if it does, unless told otherwise."""
        done = self.tried(*command, stdin=stdin)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{self.journal()}"
        return done.stdout

    def tried(self, *command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command there and return how it ended; its standard error is with its output."""
        return subprocess.run(
            self.command(*command),
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )

    def journal(self) -> str:
        """Return what services have said."""
        if self._first == "none" or not self._pid:
            return ""
        return subprocess.run(
            self.command("journalctl", "--no-pager", "-n", "60", "-o", "cat"), capture_output=True, text=True
        ).stdout

    def path(self, path: str) -> Path:
        """Return the name, out here, of a file there; it must not be reached through an absolute link."""
        return Path(f"/proc/{self._pid}/root{path}")

    def write(self, path: str, text: str) -> None:
        """Write a file there."""
        self.path(path).write_text(text)

    def read(self, path: str) -> str:
        """Read a file there, "" if there is none."""
        at = self.path(path)
        return at.read_text() if at.exists() else ""

    def log_udp(self, group: int) -> None:
        """Load a rule that logs datagrams to port 9."""
        self.run(
            "nft",
            "-f",
            "-",
            stdin=f"table inet t {{ chain i {{ type filter hook input priority 0; "
            f'udp dport 9 log prefix "there" group {group}\n}}\n}}\n',
        )

    def send_udp(self, count: int) -> None:
        """Send datagrams to port 9."""
        program = f"import socket; s=socket.socket(2, 2); [s.sendto(b'x', ('127.0.0.1', 9)) for _ in range({count})]"
        self.run("python3", "-c", program)
