# SPDX-License-Identifier: GPL-2.0-or-later
"""Journal: what counts is finished, what does not is removed, and a damaged record stops everything."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from nflowlevel.archive.journal import Journal, make_directory
from nflowlevel.errors import NflowError
from tests.fix_nobody import NOBODY

ABOUT = {
    "source": "0f3c",
    "path": "/u.json.1",
    "device": 1,
    "inode": 2,
    "head_bytes": 3,
    "start": 0,
    "end": 4,
    "dvc": "",
    "records": 5,
    "damaged": 0,
}


def commit(archive: Path, monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Commit a source of one file; with `monkeypatch`, as if killed before the file is moved."""
    with Journal(str(archive)) as journal:
        if monkeypatch:
            monkeypatch.setattr(Journal, "move", lambda self, record: None)
        with journal.transaction("0f3c-0") as transaction:
            with transaction.file("a/b/x.parquet", 0o644, 0) as fd:
                os.write(fd, b"x")
            transaction.commit(**ABOUT)
        if monkeypatch:
            monkeypatch.undo()


def test_what_is_committed_is_at_its_place(tmp_path: Path) -> None:
    commit(tmp_path / "ar")
    assert (tmp_path / "ar/a/b/x.parquet").read_bytes() == b"x"
    assert sorted(os.listdir(tmp_path / "ar/.compact")) == ["0f3c-0.json", "lock"]


def test_what_a_kill_left_undone_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(tmp_path / "ar", monkeypatch)
    assert not (tmp_path / "ar/a").exists()
    with Journal(str(tmp_path / "ar")) as journal:
        assert [record.records for record in journal.records] == [5]
    assert (tmp_path / "ar/a/b/x.parquet").read_bytes() == b"x"
    assert sorted(os.listdir(tmp_path / "ar/.compact")) == ["0f3c-0.json", "lock"]


def test_what_was_not_committed_is_removed(tmp_path: Path) -> None:
    with Journal(str(tmp_path / "ar")) as journal:
        with journal.transaction("0f3c-0") as transaction, transaction.file("x.parquet", 0o644, 0) as fd:
            os.write(fd, b"x")
        assert os.listdir(journal.directory) == ["lock"]
    left = tmp_path / "ar/.compact/0f3c-0"
    (left / "spill").mkdir(parents=True)
    (tmp_path / "ar/.compact/stray").write_text("")
    (tmp_path / "ar/.compact/link").symlink_to(tmp_path)
    with Journal(str(tmp_path / "ar")):
        assert os.listdir(tmp_path / "ar/.compact") == ["lock"]


def test_everything_is_on_the_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(fd: int) -> None:
        done.append("sync " + os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path / "ar"))
        fsync(fd)

    def renamed(old: str, new: str) -> None:
        done.append("name " + os.path.relpath(new, tmp_path / "ar"))
        rename(old, new)

    with Journal(str(tmp_path / "ar")):
        pass
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    commit(tmp_path / "ar")
    assert done == [
        "sync .compact",
        "sync .compact/0f3c-0/0.tmp",
        "sync .compact/0f3c-0",
        "sync .compact/0f3c-0/record.tmp",
        "name .compact/0f3c-0.json",
        "sync .compact",
        "sync .",
        "sync a",
        "name a/b/x.parquet",
        "sync a/b",
        "sync .compact",
    ]


def test_a_damaged_record_stops_everything(tmp_path: Path) -> None:
    commit(tmp_path / "ar")
    (tmp_path / "ar/.compact/0f3c-0.json").write_text('{"source": 7}')
    with pytest.raises(NflowError, match=r"0f3c-0\.json is no record of a source .*: restore or remove it"):
        commit(tmp_path / "ar")


def test_only_root_can_change_what_is_unfinished(tmp_path: Path) -> None:
    with Journal(str(tmp_path / "ar")) as journal, journal.transaction("0f3c-0") as transaction:
        assert stat.S_IMODE(os.stat(transaction.directory).st_mode) == 0o700


def test_directories_are_made_with_those_above_them(tmp_path: Path) -> None:
    make_directory(str(tmp_path / "a/b/c"))
    make_directory(str(tmp_path / "a/b/c"))
    assert (tmp_path / "a/b/c").is_dir()


@pytest.mark.parametrize(
    "changed",
    [
        {"files": [("0.tmp", "../outside")]},
        {"files": [("0.tmp", "/outside")]},
        {"files": [("0.tmp", "a//x")]},
        {"files": [("0.tmp", ".compact/lock")]},
        {"files": [("../../outside", "a/x")]},
        {"source": "../x"},
        {"start": 7},
    ],
)
def test_a_record_that_leads_out_of_the_archive_is_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    # Where several may write to an archive, it may be anybody's.
    (tmp_path / "outside").write_text("mine")
    commit(tmp_path / "ar")
    (tmp_path / "ar/.compact/0f3c-0").mkdir()
    (tmp_path / "ar/.compact/0f3c-0/0.tmp").write_text("theirs")
    (tmp_path / "ar/.compact/0f3c-0.json").write_text(json.dumps(ABOUT | {"files": []} | changed))
    with pytest.raises(NflowError, match=r"0f3c-0\.json is no record of a source"):
        commit(tmp_path / "ar")
    assert (tmp_path / "outside").read_text() == "mine"


def test_a_record_is_a_regular_file(tmp_path: Path) -> None:
    commit(tmp_path / "ar")
    os.mkfifo(tmp_path / "ar/.compact/aa-0.json")
    with pytest.raises(OSError, match="no regular file"):
        commit(tmp_path / "ar")


@pytest.mark.parametrize("name", [".compact", "kind=packets", "kind=packets/dvc=fw", "damaged"])
def test_a_directory_of_an_archive_is_no_link(tmp_path: Path, name: str) -> None:
    # Readers follow none: what is written behind one would be seen by nobody.
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "ar" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NflowError, match=f"{name}: it is no directory"):
        commit(tmp_path / "ar")
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("name", [".compact", "kind=packets", "kind=packets/dvc=fw", "damaged"])
def test_root_works_in_no_directory_of_others(open_to_all: Path, name: str) -> None:
    # Somebody gave root the archive, but not what is in it.
    os.chmod(open_to_all, 0o755)
    directory = open_to_all / "ar" / name
    directory.mkdir(parents=True)
    os.chown(directory, NOBODY, NOBODY)
    with pytest.raises(NflowError, match=f"{name}: others than root can change"):
        commit(open_to_all / "ar")


def test_root_makes_no_directory_behind_a_link_of_others(open_to_all: Path, tmp_path: Path) -> None:
    os.chmod(open_to_all, 0o755)
    (open_to_all / "theirs").mkdir()
    (open_to_all / "theirs/link").symlink_to(tmp_path)
    os.chown(open_to_all / "theirs", NOBODY, NOBODY)
    os.chown(open_to_all / "theirs/link", NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(OSError, match="symbolic link that others can change"):
        commit(open_to_all / "theirs/link/ar")
    with pytest.raises(NflowError, match="others than root can change"):
        commit(open_to_all / "theirs/ar")
    assert (os.listdir(tmp_path), os.listdir(open_to_all / "theirs")) == ([], ["link"])
