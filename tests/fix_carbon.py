# SPDX-License-Identifier: GPL-2.0-or-later
"""A real carbon-cache (Debian: graphite-carbon) on loopback, with storage of its own, and its whisper files read back.

    with Carbon(tmp_path, netns=pair.fw) as carbon:
        ...
        carbon.wait_for("fw.inet.t.c.pkts", 23)     # the sum of all points

One point a second is kept for an hour, so a sum is the sum of all that was ever sent.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fix_alone import unused_port
from tests.fix_netns import Netns

PATIENCE = 20.0
_PROGRAM = "carbon-cache"
_RETENTION_SECS = 3600

_CONFIG = """\
[cache]
STORAGE_DIR = {root}/storage/
LOCAL_DATA_DIR = {root}/storage/whisper/
CONF_DIR = {root}/
LOG_DIR = {root}/
PID_DIR = {root}/
USER =
MAX_CREATES_PER_MINUTE = inf
MAX_UPDATES_PER_SECOND = inf
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = {line}
ENABLE_UDP_LISTENER = True
UDP_RECEIVER_INTERFACE = 127.0.0.1
UDP_RECEIVER_PORT = {line}
PICKLE_RECEIVER_INTERFACE = 127.0.0.1
PICKLE_RECEIVER_PORT = {pickle}
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = {query}
ENABLE_TAGS = False
CARBON_METRIC_INTERVAL = 0
WHISPER_SPARSE_CREATE = True
WHISPER_FALLOCATE_CREATE = False
"""
_SCHEMAS = f"[all]\npattern = .*\nretentions = 1s:{_RETENTION_SECS}s\n"


def missing() -> str:
    """Return a sentence saying what is not installed, or an empty string."""
    if shutil.which(_PROGRAM) is None:
        return "carbon-cache is not installed (Debian: graphite-carbon)"
    return ""


class Carbon:
    """carbon-cache in the foreground; it takes points when the `with` block begins. `stop`, `start` are an outage."""

    def __init__(self, directory: Path, *, netns: Netns | None = None) -> None:
        if missing():
            pytest.skip(missing())
        self._netns = netns
        self._root = directory / "carbon"
        self._root.mkdir()
        self._whisper = self._root / "storage" / "whisper"
        self.port, self.pickle_port, query = (2003, 2004, 7002) if netns else (unused_port() for _ in range(3))
        ports = {"line": self.port, "pickle": self.pickle_port, "query": query}
        (self._root / "carbon.conf").write_text(_CONFIG.format(root=self._root, **ports))
        (self._root / "storage-schemas.conf").write_text(_SCHEMAS)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [_PROGRAM, "--nodaemon", f"--config={self._root}/carbon.conf", "start"]
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._netns.command(*command) if self._netns else command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        # twistd says "already running" to whoever starts with its pid file there.
        self._until(lambda: self._listens(self.port) and self._listens(self.pickle_port), "carbon-cache listens")

    def stop(self) -> None:
        """End it in order. What it has not written yet it may lose: wait for the points first."""
        if self._process:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

    def __enter__(self) -> Carbon:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def points(self, metric: str) -> dict[int, int]:
        """Return the points of a metric: whole numbers by second."""
        import whisper

        path = self._whisper / (metric.replace(".", "/") + ".wsp")
        if not path.exists():
            return {}
        now = int(time.time())
        # A poll that came too soon after another is given a second that has not come yet.
        try:
            found = whisper.fetch(str(path), now - _RETENTION_SECS + 60, now + 60, now=now + 60)
        except whisper.CorruptWhisperFile:
            return {}  # carbon is creating it this moment; one that stays so never has the total that is waited for
        if found is None:
            return {}
        (start, _, step), values = found
        return {start + step * n: int(value) for n, value in enumerate(values) if value is not None}

    def sum(self, metric: str) -> int:
        """Return the sum of all points of a metric."""
        return sum(self.points(metric).values())

    def metrics(self) -> set[str]:
        """Return the names of all metrics that have been written."""
        return {
            str(path.relative_to(self._whisper))[: -len(".wsp")].replace("/", ".")
            for path in self._whisper.rglob("*.wsp")
        }

    def wait_for(self, metric: str, total: int) -> None:
        """Wait until the points of a metric add up to `total`."""
        self._until(lambda: self.sum(metric) >= total, f"{metric} adds up to {total}", metric)
        assert self.sum(metric) == total, f"{metric}: {self.points(metric)}"

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until something that depends on what is stored has happened."""
        self._until(condition, "what the test waits for")

    def _until(self, condition: Callable[[], object], what: str, metric: str = "") -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            told = (
                f"{self.points(metric) if metric else ''}\n{(self._root / 'log').read_text(errors='replace')[-2000:]}"
            )
            assert self._process is None or self._process.poll() is None, f"carbon-cache has ended\n{told}"
            assert time.monotonic() < end, f"waited in vain: {what}\n{told}"
            time.sleep(0.02)

    def _listens(self, port: int) -> bool:
        with (
            self._netns.enter() if self._netns else contextlib.nullcontext(),
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe,
        ):
            return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def carbon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Carbon]:
    """A carbon-cache for all tests of a module."""
    with Carbon(tmp_path_factory.mktemp("carbon")) as made:
        yield made
