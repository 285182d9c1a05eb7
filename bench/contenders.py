# SPDX-License-Identifier: GPL-2.0-or-later
"""Who logs a group as JSON lines: nflowlevel's daemon, ulogd2, and the floor in C that only receives and writes.

The two daemons read the same configuration file. A run gives CPU time per packet from "ready" until everything has
come through, and the loss: the rule's counter less the lines in the file.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.netns import GROUP, Field
from bench.programs import program
from bench.running import running

#: Packets before those that are measured.
WARM_UP = 1_000
#: What a reader of many packets sets: no contender shall lose in a comparison of CPU.
LARGE_BUFFER = {"netlink_socket_buffer_size": 16 << 20, "netlink_socket_buffer_maxsize": 64 << 20}
#: nlbufsiz of the floor: what nflowlevel asks for, where the kernel gathers packets at all.
_NLBUFSIZ = 128 << 10
_MAIN = "from nflowlevel.daemon import main; raise SystemExit(main())"
_PLUGINS = (
    "inppkt_NFLOG", "raw2packet_BASE", "filter_IFINDEX", "filter_IP2STR", "filter_HWHDR", "output_JSON",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One contender, one round. `packets` is what the rule counted; times are of the process."""

    contender: str
    setting: str
    packets: int
    lines: int
    lost: int
    cpu_us: float
    sent_rate: float
    rss_kb: int
    peak_kb: int
    line_bytes: float


class JsonDaemon:
    """nflowlevel-daemon or ulogd2, NFLOG to JSON. `options` go into the section of NFLOG."""

    def __init__(self, name: str, setting: str, options: Mapping[str, int], *, sync: bool = False) -> None:
        self.name, self.setting, self._options, self._sync = name, setting, options, sync
        # The kernel flushes a batch after the time the reader asked for, 1 s by default.
        self.quiet_secs = options.get("netlink_qtimeout", 100) / 100 + 0.3

    def command(self, directory: Path) -> list[str]:
        """Write the configuration and return the command line."""
        file = directory / "ulogd.conf"
        file.write_text(self._configuration(directory))
        return [*daemon(self.name), "-c", str(file)]

    def _configuration(self, directory: Path) -> str:
        options = "".join(f"{name}={value}\n" for name, value in self._options.items())
        return (
            f'[global]\nlogfile="{directory}/daemon.log"\nloglevel=5\n'
            + "".join(f'plugin="{path}"\n' for path in plugin_files())
            + "stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,mac1:HWHDR,json1:JSON\n\n"
            f"[log1]\ngroup={GROUP}\nnumeric_label=1\n{options}\n"
            f'[json1]\nfile="{directory}/out.json"\nsync={int(self._sync)}\ndevice="bench"\nboolean_label=1\n'
        )

    def lines(self, directory: Path, _output: str) -> int:
        """Count the lines written; the last must be whole."""
        return _count_lines(directory / "out.json")


class Floor:
    """The C program `floor`: receives, and with `line_bytes` writes so many bytes per packet."""

    def __init__(self, setting: str, qthreshold: int, line_bytes: float = 0) -> None:
        self.name = "floor: receive and write" if line_bytes else "floor: receive"
        self.setting, self._qthreshold, self._line_bytes = setting, qthreshold, line_bytes
        self.quiet_secs = 0.4

    def command(self, directory: Path) -> list[str]:
        """Return the command line."""
        nlbufsiz = _NLBUFSIZ if self._qthreshold > 1 else 0
        numbers = (GROUP, self._qthreshold, 10, nlbufsiz, LARGE_BUFFER["netlink_socket_buffer_size"])
        out = [str(directory / "out.json"), str(round(self._line_bytes))] if self._line_bytes else []
        return [program("floor"), *map(str, numbers), *out]

    def lines(self, _directory: Path, output: str) -> int:
        """Return the packets it says it received; its own reckoning of the gap must agree with silence."""
        answer = json.loads(output)
        if answer["truncated"]:
            raise RuntimeError(f"floor met truncated datagrams: {answer}")
        return int(answer["packets"])


class Contender(Protocol):
    """Who logs a group."""

    name: str
    setting: str
    quiet_secs: float

    def command(self, directory: Path) -> list[str]:
        """Prepare what it needs in a directory and return the command line."""

    def lines(self, directory: Path, output: str) -> int:
        """Return how many packets it logged, once it has ended; `output` is what it printed."""


def measure(field: Field, contender: Contender, count: int, rate: int, warm_up: int = 0) -> Run:
    """Send `count` packets at `rate` a second, after some to warm up, and return what it cost and what was lost."""
    with tempfile.TemporaryDirectory(prefix="nflbench-") as name:
        directory = Path(name)
        field.reset()
        with running(field, contender.command(directory), contender.quiet_secs) as process:
            spent, sent_rate = process.cost(count, rate, warm_up)
            rss, peak = process.memory_kb()
        packets = field.counted()
        lines = contender.lines(directory, process.output)
        out = directory / "out.json"
        size = out.stat().st_size if out.exists() else 0
    if not packets:
        raise RuntimeError("the rule counted no packet")
    return Run(
        contender=contender.name,
        setting=contender.setting,
        packets=packets,
        lines=lines,
        lost=packets - lines,
        cpu_us=spent / 1000 / max(lines - warm_up, 1),
        sent_rate=sent_rate,
        rss_kb=rss,
        peak_kb=peak,
        line_bytes=size / max(lines, 1),
    )


def daemon(name: str) -> list[str]:
    """Return the command that runs a daemon, without arguments."""
    if name == "ulogd2":
        return [shutil.which("ulogd", path="/usr/sbin:/usr/local/sbin:/usr/bin") or "ulogd"]
    script = Path(sys.executable).parent / "nflowlevel-daemon"
    return [str(script)] if script.exists() else [sys.executable, "-c", _MAIN]


def ulogd2_missing() -> str:
    """Return why ulogd2 cannot take part, or an empty string."""
    if not Path(daemon("ulogd2")[0]).exists():
        return "ulogd2 is not installed (Debian package ulogd2)"
    if not any(path.endswith("output_JSON.so") for path in plugin_files()):
        return "ulogd2 lacks its JSON output (Debian package ulogd2-json)"
    return ""


def ulogd2_version() -> str:
    """Return the version of ulogd2, as `2.0.8`."""
    if ulogd2_missing():
        return "missing"
    output = subprocess.run([*daemon("ulogd2"), "-V"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"[0-9]+\.[0-9]+\.[0-9]+", output)
    return found[0] if found else "unknown"


def plugin_files(plugins: Sequence[str] = _PLUGINS) -> list[str]:
    """Return the files of these plugins of ulogd2, of those that are installed."""
    directories = [*Path("/usr/lib").glob("*/ulogd"), Path("/usr/lib/ulogd"), Path("/usr/local/lib/ulogd")]
    files = (directory / f"ulogd_{name}.so" for directory in directories for name in plugins)
    return [str(file) for file in files if file.exists()]


def _count_lines(path: Path) -> int:
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            count += chunk.count(b"\n")
            last = chunk[-1:]
    if last != b"\n":
        raise RuntimeError(f"the last line of {path} is torn")
    return count
