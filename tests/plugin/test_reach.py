# SPDX-License-Identifier: GPL-2.0-or-later
"""Reach: targets that can be written, and those that cannot; none is changed by being looked at."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nflowlevel.delivery.endpoint import Endpoint
from nflowlevel.plugin import reach
from nflowlevel.plugin.contract import Finding
from tests.fix_nobody import run_as_nobody


def _one(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_standard_output() -> None:
    assert _one(reach.file("-")).status == "ok"


def test_file_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("torn li")
    before = file.stat()
    assert _one(reach.file(str(file))) == ("ok", f"file={file} can be written", "")
    after = file.stat()
    assert (before.st_mtime_ns, before.st_size, before.st_ino) == (after.st_mtime_ns, after.st_size, after.st_ino)


def test_file_to_be_created(tmp_path: Path) -> None:
    file = tmp_path / "f"
    assert _one(reach.file(str(file))).text.endswith("does not exist and can be created")
    assert not file.exists()


def test_link_to_nowhere(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "gone" / "f")
    finding = _one(reach.file(str(link)))
    assert finding.status == "problem"
    assert f"no such directory: {tmp_path}/gone" in finding.text


def test_missing_directory(tmp_path: Path) -> None:
    gone = f"{tmp_path}/gone"
    text = f"file={gone}/f: no such directory: {gone}"
    assert _one(reach.file(f"{gone}/f")) == ("problem", text, f"mkdir -p {gone}")


def test_directory_as_file(tmp_path: Path) -> None:
    assert _one(reach.file(str(tmp_path))).text.endswith("is a directory")


def test_file_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    assert _one(reach.file(f"{tmp_path}/f/g")).text.endswith("Not a directory")


def test_fifo_is_not_opened(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert _one(reach.file(str(fifo))).status == "ok"
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


def test_full_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    full = os.statvfs_result((*real[:3], 0, 0, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    assert _one(reach.file(f"{tmp_path}/new")).text.endswith("is full")
    (tmp_path / "old").write_text("")
    findings = list(reach.file(f"{tmp_path}/old"))
    assert [finding.status for finding in findings] == ["ok", "problem"]


@pytest.mark.kernel
def test_file_of_somebody_else() -> None:
    def function() -> int:
        for file in ("/etc/hosts", "/etc/nfltest-new", "/root/nfltest-hidden"):
            print(_one(reach.file(file)))
        return 0

    status, output = run_as_nobody(function)
    assert status == 0
    lines = output.splitlines()
    assert [line.startswith("Finding(status='hint'") for line in lines] == [True] * 3  # the daemon has another user
    assert "/etc/hosts cannot be written, for the user who asks" in lines[0]
    assert "cannot be created: /etc is not writable, for the user who asks" in lines[1]


def test_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert _one(reach.peer("tcp", "127.0.0.1", port)).status == "ok"
    finding = _one(reach.peer("tcp", "127.0.0.1", port))
    assert finding.status == "problem"
    assert "Connection refused" in finding.text


def test_names_that_are_not_known() -> None:
    assert _one(reach.peer("tcp", "127.0.0.1", "no-such-service")).status == "problem"
    assert _one(reach.peer("udp", "no such host", "1")).status == "problem"


def test_udp_only_tells_the_address() -> None:
    finding = _one(reach.peer("udp", "127.0.0.1", "9"))
    assert finding.status == "ok"
    assert "UDP cannot tell" in finding.text


def test_unix(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    assert "No such file" in _one(reach.unix(path)).text
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert _one(reach.unix(path)).status == "ok"
    assert "Connection refused" in _one(reach.unix(path)).text


def test_an_address_that_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert _one(reach.listening("127.0.0.1", port)) == ("ok", f"127.0.0.1 port {port} is free to listen on", "")


def test_an_address_that_somebody_else_has() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        answered = pool.submit(lambda: server.accept()[0].close())
        finding = _one(reach.listening("127.0.0.1", server.getsockname()[1]))
        answered.result()
    assert finding.status == "problem"
    assert "Address already in use" in finding.text
    assert finding.remedy == "use another port"


def test_an_address_that_an_endpoint_of_ours_has() -> None:
    asked: list[str] = []
    endpoint = Endpoint("127.0.0.1", 0, "/metrics", lambda accept: (asked.append(accept) or "text/plain", b""))
    try:
        port = int(endpoint.url.split(":")[2].partition("/")[0])
        assert _one(reach.listening("127.0.0.1", port)).text == f"127.0.0.1 port {port} is served by nflowlevel"
        assert not asked
    finally:
        endpoint.close()


def test_an_address_that_is_not_of_this_machine() -> None:
    finding = _one(reach.listening("192.0.2.1", 9747))
    assert finding.status == "problem"
    assert finding.remedy == "use an address of this machine"
    assert _one(reach.listening("no such host", 9747)).status == "problem"
