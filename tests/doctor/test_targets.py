# SPDX-License-Identifier: GPL-2.0-or-later
"""Reach: targets that can be written, and those that cannot; none is changed by being looked at."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from nflowlevel.doctor.groups import Finding
from nflowlevel.doctor.targets import check_target
from nflowlevel.outputs.json import JSONOptions
from nflowlevel.plugin.contract import NoOptions
from nflowlevel.sql.options import SQLOptions
from tests.fix_nobody import run_as_nobody


def _check(**options: str) -> Finding:
    (finding,) = check_target("j", JSONOptions(**options))  # type: ignore[arg-type]
    return finding


def test_output_without_target() -> None:
    assert not list(check_target("o", NoOptions()))


def test_standard_output() -> None:
    assert _check(file="-").status == "ok"


def test_file_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("torn li")
    before = file.stat()
    assert _check(file=str(file)) == ("ok", f"[j] file={file} can be written", "")
    after = file.stat()
    assert (before.st_mtime_ns, before.st_size, before.st_ino) == (after.st_mtime_ns, after.st_size, after.st_ino)


def test_file_to_be_created(tmp_path: Path) -> None:
    file = tmp_path / "f"
    assert _check(file=str(file)).text.endswith("does not exist and can be created")
    assert not file.exists()


def test_link_to_nowhere(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "gone" / "f")
    finding = _check(file=str(link))
    assert finding.status == "problem"
    assert f"there is no directory {tmp_path}/gone" in finding.text


def test_missing_directory(tmp_path: Path) -> None:
    gone = f"{tmp_path}/gone"
    text = f"[j] file={gone}/f: there is no directory {gone}"
    assert _check(file=f"{gone}/f") == ("problem", text, f"mkdir -p {gone}")


def test_directory_as_file(tmp_path: Path) -> None:
    assert _check(file=str(tmp_path)).text.endswith("is a directory")


def test_file_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    assert _check(file=f"{tmp_path}/f/g").text.endswith("Not a directory")


def test_fifo_is_not_opened(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert _check(file=str(fifo)).status == "ok"
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


def test_full_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    full = os.statvfs_result((*real[:3], 0, 0, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    assert _check(file=f"{tmp_path}/new").text.endswith("is full")
    (tmp_path / "old").write_text("")
    findings = list(check_target("j", JSONOptions(file=f"{tmp_path}/old")))
    assert [finding.status for finding in findings] == ["ok", "problem"]


@pytest.mark.kernel
def test_file_of_somebody_else() -> None:
    def function() -> int:
        for file in ("/etc/hosts", "/etc/nfltest-new", "/root/nfltest-hidden"):
            print(_check(file=file))
        return 0

    status, output = run_as_nobody(function)
    assert status == 0
    lines = output.splitlines()
    assert [line.startswith("Finding(status='problem'") for line in lines] == [True] * 3
    assert "/etc/hosts may not be written" in lines[0]
    assert "cannot be created: /etc may not be written" in lines[1]


def test_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert _check(mode="tcp", host="127.0.0.1", port=port).status == "ok"
    finding = _check(mode="tcp", host="127.0.0.1", port=port)
    assert finding.status == "problem"
    assert "Connection refused" in finding.text


def test_names_that_are_not_known() -> None:
    assert _check(mode="tcp", host="127.0.0.1", port="no-such-service").status == "problem"
    assert _check(mode="udp", host="no such host", port="1").status == "problem"


def test_udp_only_tells_the_address() -> None:
    finding = _check(mode="udp", host="127.0.0.1", port="9")
    assert finding.status == "ok"
    assert "nothing tells" in finding.text


def test_unix(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    assert "No such file" in _check(mode="unix", file=path).text
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert _check(mode="unix", file=path).status == "ok"
    assert "Connection refused" in _check(mode="unix", file=path).text


def test_a_database_is_for_another_command() -> None:
    found = list(check_target("db1", SQLOptions(table="t")))
    assert [finding.status for finding in found] == ["hint"]
    assert "nflowlevel sql check" in found[0].remedy
