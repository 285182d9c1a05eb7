# SPDX-License-Identifier: GPL-2.0-or-later
"""The thread that syncs: never waited for, except at the end."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nflowlevel.delivery.openfile import OpenFile
from nflowlevel.delivery.syncer import Syncer
from nflowlevel.logs import Limited
from nflowlevel.stats import OutputStats
from tests.fix_lines import PATIENCE, no_descriptor_left, wait_for


@pytest.fixture(autouse=True)
def _descriptors() -> Iterator[None]:
    with no_descriptor_left():
        yield


class SlowDisk:
    """Stands for os.fdatasync: each call waits until it is let go."""

    def __init__(self) -> None:
        self.synced: list[int] = []
        self.entered = threading.Semaphore(0)
        self.let_go = threading.Semaphore(0)

    def __call__(self, fd: int) -> None:
        self.entered.release()
        assert self.let_go.acquire(timeout=PATIENCE)
        os.fsync(fd)
        self.synced.append(fd)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    slow = SlowDisk()
    monkeypatch.setattr(os, "fdatasync", slow)
    return slow


@pytest.fixture
def file(tmp_path: Path) -> Iterator[OpenFile]:
    opened = OpenFile(str(tmp_path / "log"))
    yield opened
    opened.close()


def test_requests_during_a_sync_become_one(file: OpenFile, disk: SlowDisk) -> None:
    syncer = Syncer("log", OutputStats(), Limited())
    syncer.request(file)
    assert disk.entered.acquire(timeout=PATIENCE)
    for _ in range(100):
        syncer.request(file)
    disk.let_go.release(2)
    syncer.close(PATIENCE)
    assert disk.synced == [file.fd] * 2


def test_retired_file_is_synced_and_closed_by_the_thread(tmp_path: Path, file: OpenFile, disk: SlowDisk) -> None:
    old = OpenFile(str(tmp_path / "old"))
    fd = old.fd
    syncer = Syncer("log", OutputStats(), Limited())
    syncer.request(old)
    assert disk.entered.acquire(timeout=PATIENCE)
    syncer.request(old)
    syncer.retire(old)
    assert old.fd == fd, "it is being synced"
    disk.let_go.release(100)
    syncer.request(file)
    syncer.close(PATIENCE)
    assert {*disk.synced} == {fd, file.fd}
    assert old.fd == -1


def test_close_does_not_wait_for_ever(file: OpenFile, disk: SlowDisk, caplog: pytest.LogCaptureFixture) -> None:
    syncer = Syncer("log", OutputStats(), Limited())
    syncer.request(file)
    assert disk.entered.acquire(timeout=PATIENCE)
    syncer.close(0)
    assert "the stop does not wait for it" in caplog.text
    disk.let_go.release()
    syncer.close(PATIENCE)
    syncer.close(0)


def test_close_without_a_request() -> None:
    before = threading.active_count()
    Syncer("log", OutputStats(), Limited()).close(1)
    assert threading.active_count() == before


def test_failure_is_counted_and_logged(
    file: OpenFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fails)
    stats = OutputStats()
    syncer = Syncer("the log", stats, Limited())
    syncer.request(file)
    wait_for(lambda: stats.sync_errors == 1)
    syncer.request(file)
    wait_for(lambda: stats.sync_errors == 2)
    syncer.close(PATIENCE)
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (logging.ERROR, "fdatasync the log: Input/output error — check the disk")
    ]
