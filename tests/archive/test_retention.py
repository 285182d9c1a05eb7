# SPDX-License-Identifier: GPL-2.0-or-later
"""Retention: by days and by bytes, the oldest first; nothing else is touched, and nothing is archived again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nflowlevel.archive.compaction import Settings, compact
from nflowlevel.archive.journal import Journal
from nflowlevel.archive.reader import files
from nflowlevel.archive.retention import retain
from tests.fix_archive import SECOND, marks, record

DAY = 86_400
DAYS = 5


def fill(tmp_path: Path, *, keep: bool = False) -> Path:
    """Archive a log of a day each."""
    with Journal(str(tmp_path / "ar")) as journal:
        for day in range(DAYS):
            path = tmp_path / f"u.json.{day}"
            path.write_bytes(record(day, **{"oob.time.sec": SECOND + day * DAY}) + b"{\n")
            compact(journal, str(path), Settings(min_age=0, keep=keep))
            os.utime(next((tmp_path / "ar" / "damaged").glob(f"*.{day}-*")), (0, SECOND + day * DAY))
    return tmp_path / "ar"


def journal_of(archive: Path) -> list[str]:
    return [name for name in os.listdir(archive / ".compact") if name != "lock"]


@pytest.mark.parametrize("keep", [1, 3, 5, 100])
def test_days(tmp_path: Path, keep: int) -> None:
    archive = fill(tmp_path)
    for gone in (max(0, DAYS - keep), 0):
        with Journal(str(archive)) as journal:
            # A packet and a damaged line of each day.
            assert retain(journal, keep_days=keep, now=SECOND + (DAYS - 1) * DAY).files == 2 * gone
    left = min(keep, DAYS)
    assert marks(archive) == list(range(DAYS - left, DAYS))
    assert len(list((archive / "kind=packets" / "dvc=fw").iterdir())) == left
    assert len(journal_of(archive)) == left


def test_bytes(tmp_path: Path) -> None:
    archive = fill(tmp_path)
    total = sum(os.path.getsize(path) for path in files(archive))
    with Journal(str(archive)) as journal:
        assert retain(journal, keep_bytes=total + 2 * DAYS).files == 0
        # The damaged line of the first day has two bytes.
        assert retain(journal, keep_bytes=total + 2 * DAYS - 3).files == 2
        assert marks(archive) == list(range(1, DAYS))
        retain(journal, keep_bytes=0)
    assert files(archive) == []
    assert journal_of(archive) == []
    assert os.listdir(archive) == [".compact"]


def test_nothing_else_is_removed(tmp_path: Path) -> None:
    archive = fill(tmp_path)
    day = Path(files(archive)[0]).parent
    secret = tmp_path / "secret"
    secret.write_text("x")
    (day / "notes.txt").write_text("x")
    (day / "185444-185544-0f3d-0-7.parquet").symlink_to(secret)
    (archive / "damaged" / "link.damaged").symlink_to(secret)
    with Journal(str(archive)) as journal:
        retain(journal, keep_bytes=0)
    assert sorted(path.name for path in day.iterdir()) == ["185444-185544-0f3d-0-7.parquet", "notes.txt"]
    assert secret.exists()


def test_a_log_that_is_still_there_is_not_archived_again(tmp_path: Path) -> None:
    archive = fill(tmp_path, keep=True)
    with Journal(str(archive)) as journal:
        retain(journal, keep_bytes=0)
        results = [compact(journal, str(tmp_path / f"u.json.{n}"), Settings(min_age=0, keep=True)) for n in range(DAYS)]
    assert [result.outcome for result in results] == ["known"] * DAYS
    assert files(archive) == []
