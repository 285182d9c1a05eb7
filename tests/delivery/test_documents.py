# SPDX-License-Identifier: GPL-2.0-or-later
"""Documents: each with its beginning and its end, whatever happens between."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.delivery.documents import Documents, finish
from nflowlevel.errors import OutputError
from nflowlevel.logs import Limited
from nflowlevel.stats import OutputStats
from tests.fix_lines import check, no_descriptor_left, small_disk, wait_for

HEAD, FOOT = b"<head>\n", b"</foot>\n"
NAME = re.compile(r"doc-\d{8}-\d{6}(-\d+)?\.xml")

Make = Callable[..., Documents]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Documents] = []

    def make(directory: Path | str, **more: Any) -> Documents:
        stats = OutputStats()
        documents = Documents(
            str(directory), "doc-", head=HEAD, foot=FOOT, stats=stats, limited=Limited(), retry_secs=0.01, **more
        )
        made.append(documents)
        documents.open()
        return documents

    with no_descriptor_left():
        yield make
        for documents in made:
            documents.close(0.0)
            check(documents.stats)


def contents(directory: Path) -> list[bytes]:
    """Return the documents of a directory, in the order in which they were begun."""
    paths = sorted(directory.iterdir(), key=lambda path: (len(path.name), path.name))
    assert all(NAME.fullmatch(path.name) for path in paths), paths
    return [path.read_bytes() for path in paths]


def test_each_opening_is_a_document(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three within a second: none has two beginnings (D-X04)."""
    monkeypatch.setattr(time, "strftime", lambda _: "27112026-090133")
    documents = make(tmp_path)
    documents.write(b"1\n", 1)
    assert contents(tmp_path) == [HEAD + b"1\n"]
    documents.reopen()
    documents.reopen()
    documents.write(b"2\n3\n", 2)
    documents.close(1.0)
    documents.close(1.0)
    assert contents(tmp_path) == [HEAD + b"1\n" + FOOT, HEAD + FOOT, HEAD + b"2\n3\n" + FOOT]
    names = {"doc-27112026-090133.xml", "doc-27112026-090133-1.xml", "doc-27112026-090133-2.xml"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_what_exists_is_neither_opened_nor_followed(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "27112026-090133")
    (tmp_path / "d").mkdir()
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "d/doc-27112026-090133.xml").symlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / "d/doc-27112026-090133-1.xml")
    make(tmp_path / "d").close(1.0)
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert (tmp_path / "d/doc-27112026-090133-2.xml").read_bytes() == HEAD + FOOT


def test_no_directory(make: Make, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory — create the directory"):
        make(tmp_path / "no")


def test_a_full_disk_leaves_whole_lines(make: Make, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "16k") as disk:
        documents = make(disk)
        lines = [b"%d %s\n" % (number, b"x" * 500) for number in range(60)]
        for line in lines:
            documents.write(line, 1)
        (found,) = contents(disk)
        assert found.endswith(b"\n")
        written = documents.stats.written
        assert found == HEAD + b"".join(lines[:written])
        assert 0 < written < 60
        # The new document does not find room for its beginning, and the old one stays in use; no others are made.
        for _ in range(3):
            documents.reopen()
            documents.retry()
        assert len(list(disk.iterdir())) <= 2
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        wait_for(lambda: documents.retry() or not documents.stats.pending)
        documents.close(1.0)
        found = contents(disk)
        assert all(each.startswith(HEAD) and each.endswith(FOOT) for each in found)
        assert b"".join(each.removeprefix(HEAD).removesuffix(FOOT) for each in found) == b"".join(lines)


def test_a_document_that_was_deleted(make: Make, tmp_path: Path) -> None:
    documents = make(tmp_path)
    documents.write(b"1\n", 1)
    next(tmp_path.iterdir()).unlink()
    documents.write(b"2\n", 1)
    documents.close(1.0)
    assert contents(tmp_path) == [HEAD + b"2\n" + FOOT]


def test_standard_output_is_one_document() -> None:
    program = """
from nflowlevel.delivery.documents import Documents
from nflowlevel.logs import Limited
from nflowlevel.stats import OutputStats
documents = Documents("-", "doc-", head=b"<head>\\n", foot=b"</foot>\\n", stats=OutputStats(), limited=Limited())
documents.open()
documents.write(b"1\\n", 1)
documents.reopen()
documents.write(b"2\\n", 1)
documents.close(1.0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == HEAD + b"1\n2\n" + FOOT


def test_a_stalled_reader_of_standard_output_gets_no_end_behind_a_torn_line(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    stdout = os.dup(1)
    os.dup2(writer, 1)
    try:
        documents = make("-")
        documents.write(b"x" * (4 << 20) + b"\n", 1)
        documents.close(0.1)
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(writer)
    read = b""
    while data := os.read(reader, 1 << 20):
        read += data
    os.close(reader)
    assert read == HEAD + b"x" * (len(read) - len(HEAD))
    assert documents.stats.dropped["stop"] == 1


# -- what a killed process left ---------------------------------------------------------------------------------------


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A document of an earlier process."""
    return tmp_path / "doc-26112026-000000.xml"


@pytest.mark.parametrize(
    ("rest", "whole"),
    [
        (b"", b""),
        (b"<a>1</a>\n", b"<a>1</a>\n"),
        (b"<a>1</a>\n<a>2</", b"<a>1</a>\n"),
        (b"<a>", b""),
        (b"<a>1</a>\n</foo", b"<a>1</a>\n"),
        (b"<a>1</a>\n<a>" + b"x" * 200_000, b"<a>1</a>\n"),
        (b"<a>1</a>\n" + bytes(5000), b"<a>1</a>\n"),
    ],
)
def test_the_end_is_added(make: Make, left: Path, rest: bytes, whole: bytes, caplog: pytest.LogCaptureFixture) -> None:
    left.write_bytes(HEAD + rest)
    make(left.parent)
    assert left.read_bytes() == HEAD + whole + FOOT
    assert f"{left} had no end (a crash?)" in caplog.text
    assert ("cut off" in caplog.text) == (rest != whole)
    again = left.stat().st_mtime_ns
    make(left.parent)
    assert left.stat().st_mtime_ns == again


@pytest.mark.parametrize("size", range(len(HEAD)))
def test_a_document_without_its_beginning_is_made_whole(make: Make, left: Path, size: int) -> None:
    """A kill can come between the two, or a full disk."""
    left.write_bytes(HEAD[:size])
    make(left.parent)
    assert left.read_bytes() == HEAD + FOOT


@pytest.mark.parametrize("content", [b"\n", b"<other>\n<a>", HEAD + b"<a>1</a>\n" + FOOT, HEAD + b"no element"])
def test_other_files_are_left_alone(make: Make, left: Path, content: bytes) -> None:
    left.write_bytes(content)
    make(left.parent)
    assert left.read_bytes() == content


def test_links_and_fifos_are_left_alone(make: Make, left: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(HEAD)
    left.symlink_to(other)
    os.link(other, tmp_path / "doc-25112026-000000.xml")
    os.mkfifo(tmp_path / "doc-24112026-000000.xml")
    make(tmp_path)
    assert other.read_bytes() == HEAD


def test_a_document_that_somebody_writes_is_left_alone(make: Make, left: Path) -> None:
    """Also one of ulogd2, which locks nothing: the documents of both look the same."""
    with left.open("wb") as writer:
        writer.write(HEAD + b"<a>")
        writer.flush()
        make(left.parent)
        assert left.read_bytes() == HEAD + b"<a>"
    with left.open("rb"):  # a reader is no reason
        make(left.parent)
    assert left.read_bytes() == HEAD + FOOT


def test_two_at_once_leave_each_other_s_documents_alone(make: Make, tmp_path: Path) -> None:
    first = make(tmp_path)
    first.write(b"1\n", 1)
    second = make(tmp_path)
    second.write(b"2\n", 1)
    first.close(1.0)
    second.close(1.0)
    assert contents(tmp_path) == [HEAD + b"1\n" + FOOT, HEAD + b"2\n" + FOOT]


def test_others_documents_are_left_alone(left: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving a file away needs root")
    left.write_bytes(HEAD)
    os.chown(left, 65534, 65534)
    finish(str(left.parent), "doc-", HEAD, FOOT, owners=(0,))
    assert left.read_bytes() == HEAD


def test_what_others_can_change_is_left_alone_where_that_is_asked(left: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a directory of another user needs root")
    left.write_bytes(HEAD)
    os.chown(left.parent, 65534, 65534)
    finish(str(left.parent), "doc-", HEAD, FOOT, owners=(0,), only_roots=True)
    assert left.read_bytes() == HEAD
    os.chown(left.parent, 0, 0)
    finish(str(left.parent), "doc-", HEAD, FOOT, owners=(0,))
    assert left.read_bytes() == HEAD + FOOT


def test_the_newest_are_looked_at(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / f"doc-{number:02}.xml"
        path.write_bytes(HEAD)
        os.utime(path, (1000 + number, 1000 + number))
    finish(str(tmp_path), "doc-", HEAD, FOOT, owners=(os.geteuid(),))
    done = [path.name for path in sorted(tmp_path.iterdir()) if path.read_bytes() == HEAD + FOOT]
    assert done == [f"doc-{number:02}.xml" for number in range(4, 20)]


def test_a_killed_process(make: Make, tmp_path: Path) -> None:
    program = f"""
from nflowlevel.delivery.documents import Documents
from nflowlevel.logs import Limited
from nflowlevel.stats import OutputStats
documents = Documents({str(tmp_path)!r}, "doc-", head=b"<head>\\n", foot=b"</foot>\\n", stats=OutputStats(),
                      limited=Limited())
documents.open()
data = b"".join(b"<a>%d</a>\\n" % number for number in range(100_000))
while True:
    documents.write(data, 100_000)
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    wait_for(lambda: any(path.stat().st_size > 10_000_000 for path in tmp_path.iterdir()))
    process.send_signal(signal.SIGKILL)
    process.wait()
    make(tmp_path).close(1.0)
    first, second = contents(tmp_path)
    assert first.startswith(HEAD)
    assert first.endswith(b"</a>\n" + FOOT)
    assert second == HEAD + FOOT
