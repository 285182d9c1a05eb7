# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the real ulogd2 in a namespace and returns the JSON it writes: the other side of the parity tests.

with Ulogd2(pair.fw, tmp_path, group=1) as ulogd2:
    pair.send_udp(23)
    records = ulogd2.records(23)
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.fix_netns import Netns
from tests.fix_nflog import bound_groups
from tests.forms import FORMS

Record = dict[str, Any]

_DAEMON = Path("/usr/sbin/ulogd")
_PLUGIN_FILES = {
    "NFLOG": "inppkt_NFLOG",
    "BASE": "raw2packet_BASE",
    "IFINDEX": "filter_IFINDEX",
    "IP2STR": "filter_IP2STR",
    "HWHDR": "filter_HWHDR",
    "MARK": "filter_MARK",
    "PRINTPKT": "filter_PRINTPKT",
    "JSON": "output_JSON",
    "LOGEMU": "output_LOGEMU",
    "SYSLOG": "output_SYSLOG",
    "GPRINT": "output_GPRINT",
    "OPRINT": "output_OPRINT",
    "PCAP": "output_PCAP",
    "XML": "output_XML",
}

#: All that packets can go through on their way to a text output.
FILTERS = ("BASE", "IFINDEX", "IP2STR", "HWHDR")


def missing() -> str:
    """Return a sentence saying what is not installed, or an empty string."""
    if not _DAEMON.exists():
        return "ulogd2 is not installed (Debian: ulogd2)"
    if not _plugin("JSON").exists():
        return "ulogd2's JSON output is not installed (Debian: ulogd2-json)"
    return ""


def _plugin(name: str) -> Path:
    file = f"ulogd_{_PLUGIN_FILES[name]}.so"
    return next(Path("/usr/lib").glob(f"*/ulogd/{file}"), Path("/usr/lib/ulogd", file))


class Ulogd2:
    """ulogd2 in the foreground, reading one group; ready when the `with` block begins, stopped when it ends.

    `options` are further lines of the input's section, `output_options` of the output's. `lines` and `records` wait for
    what is written.
    """

    command: tuple[str, ...] = (str(_DAEMON),)

    def __init__(
        self,
        netns: Netns,
        directory: Path,
        *,
        group: int = 1,
        filters: tuple[str, ...] = FILTERS,
        output: str = "JSON",
        qthreshold: int = 1,
        options: str = "",
        output_options: str = "",
        timezone: str = "UTC",
    ) -> None:
        self._require()
        self._netns, self._group, self._output, self._timezone = netns, group, output, timezone
        self._process: subprocess.Popen[Any] | None = None
        self.config = directory / f"ulogd-{group}.conf"
        self.log = directory / f"ulogd-{group}.log"
        self._file = directory / f"ulogd-{group}.out"
        target = f'file="{self._file}"'
        if output == "XML":
            self._file.mkdir()
            target = f'directory="{self._file}"'
        stack = ",".join(f"i{i}:{name}" for i, name in enumerate(("NFLOG", *filters, output)))
        plugins = "".join(f'plugin="{_plugin(name)}"\n' for name in ("NFLOG", *filters, output))
        # With threshold 1 every packet comes at once; with sync every record is in the file at once.
        self.config.write_text(
            f'[global]\nlogfile="{self.log}"\nloglevel=1\n{plugins}stack={stack}\n'
            f"[i0]\ngroup={group}\nnetlink_qthreshold={qthreshold}\nnetlink_socket_buffer_size=8388608\n"
            f"netlink_socket_buffer_maxsize=16777216\n{options}\n"
            f"[i{len(filters) + 1}]\n{target}\nsync=1\n{output_options}\n"
        )

    def _require(self) -> None:
        if missing():
            pytest.skip(missing())

    def __enter__(self) -> Self:
        self._start()
        self._wait(lambda: self._group in bound_groups(self._netns), f"group {self._group} is bound")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """Run the daemon during the block, without waiting for a group: for a configuration that has none."""
        self._start()
        try:
            yield
        finally:
            self.stop()

    def _start(self) -> None:
        environment = {**os.environ, "TZ": self._timezone}
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = self._netns.popen(*self.command, "-c", str(self.config), env=environment, **quiet)

    def lines(self, count: int) -> list[str]:
        """Return the output's first `count` lines, once they are there."""
        self._wait(lambda: self.text.count("\n") >= count, f"{count} lines are written")
        return self.text.split("\n")[:count]

    def until(self, mark: str, count: int) -> None:
        """Wait until this has been written so often."""
        self._wait(lambda: self.text.count(mark) >= count, f"{mark!r} is written {count} times")

    def records(self, count: int) -> list[Record]:
        """Return the first `count` records, once they are there; of outputs of forms.py, those it reads."""
        if self._output == "JSON":
            return [json.loads(line) for line in self.lines(count)]
        begins, read, _ = FORMS[self._output]
        self.until(begins, count)
        return [*read(self.text)][:count]

    def stop(self) -> list[str]:
        """End the daemon with SIGTERM and return all lines it has written. May be called twice."""
        if self._process is not None:
            self._process.terminate()
            status = self._process.wait(20)
            self._process = None
            assert status == 0, f"{self.command[0]} ended with {status}: {self._messages()}"
        return self.text.removesuffix("\n").split("\n")

    @property
    def output(self) -> Path:
        """The file that is written; of several documents the newest."""
        documents = sorted(self._file.iterdir(), key=lambda path: path.stat().st_mtime) if self._file.is_dir() else []
        return documents[-1] if documents else self._file

    @property
    def text(self) -> str:
        """Return all that is written; bytes that are not UTF-8 become surrogates, so that they are not overlooked."""
        output = self.output
        return output.read_bytes().decode("utf-8", "surrogateescape") if output.is_file() else ""

    def _messages(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else "(no log file)"

    def _wait(self, ready: Any, what: str) -> None:
        deadline = time.monotonic() + 20
        assert self._process is not None
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.command[0]}: not reached: {what}\n{self._messages()}")
            time.sleep(0.005)


class Nflowlevel(Ulogd2):
    """Our daemon, given the same configuration file."""

    command = (sys.executable, "-m", "nflowlevel.daemon.main")

    def _require(self) -> None:
        """Nothing but the package itself is needed; modules that the file names need not exist."""
