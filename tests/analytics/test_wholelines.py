# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole lines of files: cut at every byte, compressed, growing, without an end."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path

import pytest

from nflowlevel.analytics import wholelines
from nflowlevel.analytics.wholelines import WholeLines

LINES = b"".join(b'{"n": %d, "text": "%s"}\n' % (number, b"x" * (number % 7)) for number in range(50))


def read(path: Path, behind: int = 0) -> tuple[bytes, bytes, str]:
    """Return the whole lines, what stands behind them, and what went wrong."""
    with WholeLines(path) as lines:
        chunks = list(lines.chunks(behind))
        assert all(chunk.endswith(b"\n") for chunk in chunks)
        return b"".join(chunks), lines.rest, lines.fault


@pytest.fixture(params=[1 << 20, 100])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in pieces of the usual size, and in small ones."""
    monkeypatch.setattr(wholelines, "CHUNK_BYTES", request.param)
    monkeypatch.setattr(wholelines, "PIECE_BYTES", max(1, request.param // 30))


@pytest.mark.usefixtures("sizes")
def test_a_file_that_is_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for end in range(0, len(LINES), 13):
        path.write_bytes(LINES[:end])
        whole, newline, rest = LINES[:end].rpartition(b"\n")
        assert read(path) == (whole + newline, rest, "")


@pytest.mark.usefixtures("sizes")
def test_compressed_and_cut_in_its_middle(tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(LINES))
    assert read(path) == (LINES, b"", "")
    path.write_bytes(gzip.compress(LINES)[:-20])
    whole, rest, fault = read(path)
    assert LINES.startswith(whole + rest)
    assert fault == "the compressed data ends too early"


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("end", range(1, 28, 2))
def test_the_last_line_of_a_compressed_file(tmp_path: Path, end: int) -> None:
    """It counts without its newline if it is whole, but not where compressed data is missing behind it."""
    path, data = tmp_path / "log.gz", LINES[:-end]
    path.write_bytes(gzip.compress(data))
    whole, newline, rest = data.rpartition(b"\n")
    is_whole = data.endswith(b"}")
    assert read(path) == ((data + b"\n", b"", "") if is_whole else (whole + newline, rest, ""))
    path.write_bytes(gzip.compress(data)[:-8])
    assert read(path)[1:] == (rest, "the compressed data ends too early")


@pytest.mark.usefixtures("sizes")
def test_lines_behind_what_was_read_before(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LINES)
    half = LINES.index(b"\n", len(LINES) // 2) + 1
    assert read(path, half)[0] == LINES[half:]
    assert read(path, len(LINES)) == (b"", b"", "")


def test_what_is_written_later_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LINES + b"half of a li")
    with WholeLines(path) as lines:
        with path.open("ab") as more:
            more.write(b"ne\n" + LINES)
        assert b"".join(lines.chunks()) == LINES
        assert lines.rest == b"half of a li"
        assert lines.position == lines.size


def test_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(LINES,))
    writer.start()
    assert read(path) == (LINES, b"", "")
    writer.join()


def test_a_line_without_an_end_does_not_fill_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wholelines, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(wholelines, "PIECE_BYTES", 100)
    monkeypatch.setattr(wholelines, "MOST_LINE_BYTES", 200)
    path = tmp_path / "log"
    path.write_bytes(b"a\n" + b"x" * 100_000 + b"\nb\n" + b"y" * 300 + b"\nc\n")
    with WholeLines(path) as lines:
        found = list(lines.chunks())
    assert max(map(len, found)) < 3000
    got = b"".join(found).split(b"\n")
    assert [got[0], got[2], got[4]] == [b"a", b"b", b"c"]
    # Nobody takes the beginning for a line: it holds a byte that no JSON has.
    assert [len(got[1]) <= 200, got[1][-1], len(got[3]), got[3][-1]] == [True, 2, 200, 2]


def test_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(LINES))
    with WholeLines(path) as lines:
        assert lines.begin(100) == LINES[:100]
    path.write_bytes(b"")
    with WholeLines(path) as lines:
        assert lines.begin() == b""
