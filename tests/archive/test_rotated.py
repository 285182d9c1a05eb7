# SPDX-License-Identifier: GPL-2.0-or-later
"""Names that logs are rotated to, and whether somebody has locked the present one."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from nflowlevel.archive.rotated import is_locked, rotated
from nflowlevel.delivery.captureform import CaptureForm
from nflowlevel.delivery.openfile import OpenFile


def test_rotated_names_the_oldest_first(tmp_path: Path) -> None:
    names = [
        "u.json.2.gz",
        "u.json.1",
        "u.json-20261127.zst",
        "u.json-20261127-1764201600",
        "u-20261127.json",
        "u.1.json",
    ]
    names += ["u-2026-11-27T12:00.json.xz", "u.json.10.bz2"]
    others = [
        "u.json",
        "u.json.gz",
        "u.json.bak",
        "u.json.1~",
        "xu.json.1",
        "u.json.1.damaged",
        "v.json.1",
        "u.json.tmp",
    ]
    for number, name in enumerate(names + others):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (0, 1000 - number))
    (tmp_path / "u.json.7").symlink_to("u.json.1")
    (tmp_path / "u.json.8").mkdir()
    assert [os.path.basename(path) for path in rotated(str(tmp_path / "u.json"))] == names[::-1]


def test_a_name_without_extension(tmp_path: Path) -> None:
    for name in ("packets", "packets.1", "packets-1.json"):
        (tmp_path / name).write_text("")
    assert rotated(str(tmp_path / "packets")) == [str(tmp_path / "packets.1")]


def test_a_lock_is_seen_and_not_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "u.json"
    assert not is_locked(str(path))
    with path.open("w") as file:
        assert not is_locked(str(path))
        fcntl.flock(file, fcntl.LOCK_SH)
        assert is_locked(str(path))
    assert not is_locked(str(path))


def test_a_capture_that_a_reader_had_locked_at_its_opening_is_seen_to_be_written(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    form = CaptureForm("pcap", "raw", has_one_writer=True)
    OpenFile(str(path), form=form).close()
    with path.open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_EX)
        writer = OpenFile(str(path), form=form)
    assert is_locked(str(path))
    writer.close()
    assert not is_locked(str(path))
