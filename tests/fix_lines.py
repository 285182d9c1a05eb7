# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of line targets share: numbered lines, the counters' invariant, waiting for an event, a small disk."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from nflowlevel.stats import OutputStats

#: Nothing here takes long; a test that waits this long has failed.
PATIENCE = 20.0


def lines(first: int, count: int, pad: int = 0) -> bytes:
    """Return `count` JSON lines numbered from `first`, each with `pad` bytes of text."""
    return b"".join(b'{"n": %d, "pad": "%s"}\n' % (n, b"x" * pad) for n in range(first, first + count))


def numbers(data: bytes) -> list[int]:
    """Return the numbers of the lines; raises if one of them is no JSON object or the last is not complete."""
    assert not data or data.endswith(b"\n"), data[-80:]
    return [json.loads(line)["n"] for line in data.splitlines()]


def check(stats: OutputStats) -> None:
    """Fail unless every record is accounted for."""
    with stats.lock:
        assert stats.records == stats.written + stats.pending + sum(stats.dropped.values()), str(stats)
        assert stats.pending >= 0, str(stats)
        assert stats.pending_bytes >= 0, str(stats)
        assert bool(stats.pending_bytes) >= bool(stats.pending), str(stats)


def wait_for(condition: Callable[[], object], stats: Iterable[OutputStats] = ()) -> None:
    """Wait until something another thread does has happened; the counters must be right at every moment meanwhile."""
    end = time.monotonic() + PATIENCE
    while not condition():
        for each in stats:
            check(each)
        assert time.monotonic() < end, f"waited for in vain; {'; '.join(map(str, stats))}"
        time.sleep(0.001)


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """Mount a tmpfs of `size` at `path`."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "nfltest", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of listdir itself
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Fail if the block leaves descriptors open."""
    before = _descriptors()
    yield
    assert _descriptors() == before


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Let the process open only `count` descriptors more while the block runs, whoever asks: then comes EMFILE."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]
    try:
        # The limit is one of numbers: all below the highest that is in use are filled.
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, _descriptors())) + 1, before[1]))
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in taken:
            os.close(fd)
