# SPDX-License-Identifier: GPL-2.0-or-later
"""LogSource: blocks of whole lines, heads, and what is known of who writes; the rest is in test_compaction.py."""

from __future__ import annotations

import bz2
import gzip
import lzma
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nflowlevel.archive.source import HEAD_BYTES, LogSource, NotClosed, identity, is_whole, writer_of
from nflowlevel.errors import NflowError
from tests.fix_nobody import run_as_nobody

#: What a packed file begins with; bytes that begin so are unpacked, whatever they are.
_MAGICS = tuple(pack(b"")[:2] for pack in (gzip.compress, bz2.compress, lzma.compress, zstandard.compress))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lines=st.lists(st.binary(max_size=30)), size=st.integers(1, 50), start=st.integers(0, 40))
def test_blocks_are_all_the_bytes_in_whole_lines(
    tmp_path: Path, pack: Callable[[bytes], bytes], lines: list[bytes], size: int, start: int
) -> None:
    data = b"\n".join(lines)
    if data.startswith(_MAGICS):
        return
    (tmp_path / "x").write_bytes(pack(data))
    with LogSource(str(tmp_path / "x"), min_age=0) as source:
        blocks = [bytes(block) for block in source.blocks(start, size)]
        assert b"".join(blocks) == data[start:]
        assert source.count() == len(data)
        assert source.head == data
        assert source.is_compressed == (pack is not bytes)
    # Only lines that are longer than a block are in parts.
    assert all(block.endswith(b"\n") or len(max(data.split(b"\n"), key=len)) >= size for block in blocks[:-1])


def test_the_head_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x\n" * HEAD_BYTES)
    with LogSource(str(tmp_path / "x"), min_age=0) as source:
        assert len(source.head) == HEAD_BYTES


@pytest.mark.parametrize(
    "line",
    [
        b'{"src_ip": "192.0.2.1", "x": {"y": [1, "}"]}, "n": 12}',
        b"Nov 27 12:00:01 fw kernel: x SRC=10.0.0.2 SRC=1 MARK=0x7 IN=va OUT= SRC=10.77.0.2 LEN=35 DPT=53 MARK=0x1f ",
        b"Nov 27 12:00:01 fw pfx IN=va OUT= SRC=10.77.0.2 PROTO=UDP SPT=5000 DPT=53 LEN=15 MARK=0 ",
    ],
)
def test_no_beginning_of_a_line_is_a_whole_one(line: bytes) -> None:
    """Also not one that ends behind a mark in the prefix of a rule."""
    assert is_whole(line)
    assert is_whole(line + b"\r")
    assert [end for end in range(len(line)) if is_whole(line[:end])] == []


@pytest.mark.parametrize(
    "line", [b"", b"7", b"[1]", b"null", b'"x"', b"{" * 100_000, b"IN= OUT= SRC=1 URGP=0 ", b"SRC=1 MARK=0x1 "]
)
def test_of_other_lines_nobody_can_tell(line: bytes) -> None:
    assert not is_whole(line)


def test_the_time_of_a_long_line_grows_with_its_length() -> None:
    """A compressed file of others: with the cube of it, this line would take hours."""
    process = multiprocessing.get_context("fork").Process(target=is_whole, args=(b" OUT= SRC= MARK=" * 10_000 + b"x",))
    process.start()
    process.join(30)
    is_done = process.exitcode == 0
    process.kill()
    process.join()
    assert is_done


def test_a_source_is_named_by_its_head_and_the_firewall() -> None:
    assert identity("", b"x") == identity("", b"x")
    assert len({identity("", b"x"), identity("a", b"x"), identity("", b"y"), identity("x", b"")}) == 4


def test_we_are_no_writer_to_ourselves(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        assert writer_of(file.fileno()) == ""


def test_a_user_reads_own_logs_and_removes_them(open_to_all: Path) -> None:
    (open_to_all / "theirs").mkdir()
    os.chown(open_to_all / "theirs", 65534, 65534)

    def child() -> int:
        path = open_to_all / "theirs" / "u.json.1"
        path.write_bytes(b"x\n")
        with LogSource(str(path), min_age=0) as source:
            removed = source.remove()
        return int(removed and not path.exists())

    assert run_as_nobody(child).status == 1


def test_a_young_file_is_not_closed(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x\n")
    with pytest.raises(NotClosed, match="it changed 0 s ago"):
        LogSource(str(tmp_path / "x"))
    with LogSource(str(tmp_path / "x"), is_ours=True) as source:
        assert source.size == 2
    os.utime(tmp_path / "x", (0, 0))
    LogSource(str(tmp_path / "x")).__exit__()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_several_streams_are_one_file(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "x").write_bytes(pack(b"first\n") + pack(b"") + pack(b"second\n") + bytes(8))
    with LogSource(str(tmp_path / "x"), min_age=0) as source:
        assert b"".join(map(bytes, source.blocks(0, 100))) == b"first\nsecond\n"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("place", [2, -6])
def test_a_damaged_stream_behind_the_first_is_not_the_end(
    tmp_path: Path, pack: Callable[[bytes], bytes], place: int
) -> None:
    # What it holds would be lost: the file is removed when all of it is in the archive.
    second = bytearray(pack(b"second\n"))
    second[place] ^= 0xFF
    (tmp_path / "x").write_bytes(pack(b"first\n") + bytes(second))
    with LogSource(str(tmp_path / "x"), min_age=0) as source, pytest.raises(NflowError, match="cut or damaged"):
        list(source.blocks(0, 100))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_stream_that_is_cut_is_told(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "x").write_bytes(pack(b"first\n") + pack(b"second\n")[:-3])
    with LogSource(str(tmp_path / "x"), min_age=0) as source, pytest.raises(NflowError, match="cut or damaged"):
        list(source.blocks(0, 100))
