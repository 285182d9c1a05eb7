# SPDX-License-Identifier: GPL-2.0-or-later
"""That the names in a directory are forced to the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nflowlevel.binding.durable import sync_directory


def test_the_directory_itself_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    opened = os.open
    found: list[os.stat_result] = []

    def noted(path: str, flags: int, *, dir_fd: int | None = None) -> int:
        fd = opened(path, flags, dir_fd=dir_fd)
        found.append(os.fstat(fd))
        return fd

    above = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    monkeypatch.setattr(os, "open", noted)
    try:
        sync_directory(str(tmp_path))
        sync_directory(".", above)
    finally:
        os.close(above)
    assert [os.path.samestat(each, tmp_path.stat()) for each in found] == [True, True]
    assert len(synced) == 2
    for fd in synced:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        sync_directory(str(tmp_path / "file"))
