# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's rsyslog and syslog-ng, unpacked and never installed as they exclude each other, each on its own socket."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fix_debian import archives
from tests.fix_lines import PATIENCE

#: The packages, with the libraries that no other program of a small system needs.
_PACKAGES = {
    "rsyslog": ("rsyslog", "libestr0", "libfastjson4", "liblognorm5"),
    "syslog-ng": ("syslog-ng-core", "libivykis0", "libnet1", "libwrap0", "libjson-c5", "libpcre3", "libglib2.0-0"),
}
#: Each message is in the file before the next one is read, so that a log that is killed has stored what it has read.
_RSYSLOG = """\
global(workDirectory="{directory}")
main_queue(queue.type="Direct")
module(load="{modules}/imuxsock.so" SysSock.Use="off")
input(type="imuxsock" Socket="{log}" CreatePath="off" RateLimit.Interval="0" UseSysTimeStamp="off")
{rules}
template(name="whole" type="string" string="%syslogfacility-text%.%syslogseverity-text% %timestamp:::date-rfc3164% \
%syslogtag%%msg:::drop-last-lf%\\n")
action(type="omfile" file="{out}" template="whole" asyncWriting="off" flushOnTXEnd="on")
"""
_SYSLOG_NG = """\
@version: 3.38
options {{ stats-freq(0); flush-lines(1); keep-timestamp(yes); }};
source s {{ {kind}("{log}"); }};
destination d {{ file("{out}" template("${{FACILITY}}.${{LEVEL}} ${{DATE}} ${{MSGHDR}}${{MSG}}\\n")); }};
log {{ source(s); destination(d); }};
"""


class SystemLog:
    """One of the two, running. `log` is its socket, `out` the file with a line `facility.level time tag: text` each.

    `rules` come before that of `out`, in rsyslog's language.
    """

    def __init__(
        self, name: str, config: pytest.Config, directory: Path, *, kind: str = "unix-dgram", rules: str = ""
    ) -> None:
        tree = directory / "tree"
        for archive in archives(config, *_PACKAGES[name]):
            subprocess.run(["dpkg-deb", "--extract", archive, tree], check=True)
        self.log, self.out = str(directory / "log"), directory / "messages"
        here = f"lib/{platform.machine()}-linux-*"
        libraries = [path for where in (f"usr/{here}", here, "usr/lib/syslog-ng") for path in tree.glob(where)]
        self._environment = {**os.environ, "TZ": "UTC", "LD_LIBRARY_PATH": ":".join(map(str, libraries))}
        file, pid = directory / f"{name}.conf", directory / f"{name}.pid"
        if name == "rsyslog":
            (modules,) = tree.glob("usr/lib/*/rsyslog")
            names = {"modules": modules, "log": self.log, "out": self.out, "directory": directory, "rules": rules}
            file.write_text(_RSYSLOG.format(**names))
            self._command = [str(tree / "usr/sbin/rsyslogd"), "-n", "-f", str(file), "-i", str(pid)]
            self._environment["RSYSLOG_MODDIR"] = str(modules)
        else:
            (modules,) = tree.glob("usr/lib/syslog-ng/3.*")
            file.write_text(_SYSLOG_NG.format(log=self.log, out=self.out, kind=kind))
            self._command = [
                *(str(tree / "usr/sbin/syslog-ng"), "-F", "--no-caps", "-f", str(file), "-p", str(pid)),
                *("-R", str(directory / "persist"), "-c", str(directory / "ctl"), f"--module-path={modules}"),
            ]
        self._is_stream = kind == "unix-stream"
        self._errors = directory / f"{name}.errors"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> SystemLog:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self.end(signal.SIGKILL)

    def start(self) -> None:
        """Start it, and wait until somebody listens at its socket."""
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=errors, stderr=errors)
        end = time.monotonic() + PATIENCE
        while not self._listens():
            assert self._process.poll() is None, self._errors.read_text()
            assert time.monotonic() < end, self._errors.read_text()
            time.sleep(0.01)

    def _listens(self) -> bool:
        kind = socket.SOCK_STREAM if self._is_stream else socket.SOCK_DGRAM
        with socket.socket(socket.AF_UNIX, kind) as probe:
            return not probe.connect_ex(self.log)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process
        self._process.send_signal(number)

    def end(self, number: int) -> None:
        """End it by a signal."""
        assert self._process
        self._process.send_signal(number)
        self._process.wait(PATIENCE)
        self._process = None

    def lines(self) -> list[str]:
        """Return what it has stored, whole lines."""
        text = self.out.read_text(errors="surrogateescape") if self.out.exists() else ""
        return text.split("\n")[:-1]

    @property
    def pid(self) -> Any:
        """Its process id."""
        return self._process and self._process.pid
