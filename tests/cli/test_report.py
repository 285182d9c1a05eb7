# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel report`: to a file in one piece, to standard output, as text."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

import nflowlevel as nfl
from nflowlevel import cli
from tests.fix_logs import START, log_file, record


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return log_file(tmp_path / "ulogd.json", [record(number * 3600) for number in range(48)])


def test_a_page(log: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert cli.main(["report", str(log), "-o", str(page)]) == 0
    assert page.read_text().startswith("<!doctype html>")
    assert stat.S_IMODE(page.stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".report")] == []


def test_text(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(log), "--text", "--since", "24h"]) == 0
    assert "24 packets" in capsys.readouterr().out


def test_root_follows_no_directory_of_another_user(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared, ours = tmp_path / "shared", tmp_path / "ours"
    shared.mkdir()
    shared.chmod(0o777)
    ours.mkdir()
    (ours / "kept").write_text("ours")
    (shared / "planted").symlink_to(ours)
    os.lchown(shared / "planted", 65534, 65534)
    assert cli.main(["report", str(log), "-o", str(shared / "planted/kept")]) == 1
    assert "'planted' is a symbolic link that others can change" in capsys.readouterr().err
    assert (ours / "kept").read_text() == "ours"
    assert [path.name for path in ours.iterdir()] == ["kept"]
    (shared / "devices").symlink_to("/dev")
    os.lchown(shared / "devices", 65534, 65534)
    assert cli.main(["report", str(log), "-o", str(shared / "devices/null")]) == 1
    assert stat.S_ISCHR(os.lstat("/dev/null").st_mode)


def test_a_link_is_replaced_and_not_followed(log: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "report.html").symlink_to(victim)
    assert cli.main(["report", str(log), "-o", str(tmp_path / "report.html")]) == 0
    assert victim.read_text() == "mine"
    assert not (tmp_path / "report.html").is_symlink()


def test_a_device_is_written_to_and_not_replaced(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        assert cli.main(["report", str(log), "-o", "/dev/full"]) == 1
        assert "/dev/full: write the report: No space left on device" in capfd.readouterr().err
        assert stat.S_ISCHR(os.lstat("/dev/full").st_mode)
    finally:
        if not stat.S_ISCHR(os.lstat("/dev/full").st_mode):  # the whole machine would lack it
            os.unlink("/dev/full")
            os.mknod("/dev/full", 0o666 | stat.S_IFCHR, os.makedev(1, 7))
            os.chmod("/dev/full", 0o666)


def test_what_this_process_has_open_is_written_to(log: Path) -> None:
    read, write = os.pipe()
    assert cli.main(["report", str(log), "--text", "-o", f"/dev/fd/{write}"]) == 0
    os.close(write)
    with open(read) as pipe:
        assert "48 packets" in pipe.read()


def test_what_cannot_be(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(log), "-o", str(tmp_path / "none" / "report.html")]) == 1
    assert "No such file or directory" in capsys.readouterr().err
    assert cli.main(["report", str(log), "--since", "soon"]) == 2
    assert "soon" in capsys.readouterr().err
    assert START


@pytest.mark.parametrize("form", [[], ["--text"]])
def test_its_heading_has_no_password_and_moves_no_cursor(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: list[str]
) -> None:
    monkeypatch.setattr("nflowlevel.cli.report.opened", lambda options: nfl.read(log))
    assert cli.main(["report", "postgresql://u:secret@host/logs", "evil\x1b[2J.json", *form]) == 0
    shown = capsys.readouterr().out
    assert "secret" not in shown
    assert "\x1b" not in shown
    assert "postgresql://host/logs, evil\\x1b[2J.json" in shown
