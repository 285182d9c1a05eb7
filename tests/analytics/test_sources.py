# SPDX-License-Identifier: GPL-2.0-or-later
"""What paths, directories, patterns and URLs mean, and what a file holds."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sqlite3
from pathlib import Path

import pytest

from nflowlevel.analytics.sources import Source, find, kind_of
from tests.captures import pcap, udp_packets
from tests.fix_logs import lines, log_file, parquet_file, record

KERNEL = b"Nov 24 08:30:00 fw kernel: IN=eth0 OUT= SRC=192.0.2.1 DST=198.51.100.7 LEN=40\n"


def kinds(tmp_path: Path, content: bytes, name: str = "file") -> str:
    path = tmp_path / name
    path.write_bytes(content)
    return kind_of(path)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (lines([record()]), "json"),
        (b'half of a line"}\n' + lines([record()]), "json"),
        (b"", "json"),
        (KERNEL, "text"),
        (b"\x1b[1m" + KERNEL, "text"),
        (pcap(udp_packets(1), 101), "capture"),
        (b"PAR1....", "parquet"),
    ],
)
def test_a_file_is_what_it_begins_with(tmp_path: Path, content: bytes, kind: str) -> None:
    assert kinds(tmp_path, content) == kind
    assert kinds(tmp_path, gzip.compress(content), "x.gz") == kind
    assert kinds(tmp_path, lzma.compress(content), "x") == kind
    assert kinds(tmp_path, bz2.compress(content), "y") == kind


def test_sqlite(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("create table packets (x)")
    connection.close()
    assert kind_of(tmp_path / "x.db") == "sqlite"


@pytest.mark.parametrize("content", [b"\x7fELF\x02\x01\x01\x00", b"\x00" * 100, bytes(range(256))])
def test_what_cannot_be_read_is_said(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match="it is neither lines of JSON"):
        kinds(tmp_path, content)


def test_a_directory_has_what_names_say(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in (
        "a.json",
        "b.json.1",
        "c.json.2.gz",
        "c.json.3.bz2",
        "c.json.xz",
        "d.json-20261127",
        ".e.json",
        "f.json.tmp",
        "g.txt",
        "deep/h.json",
    ):
        log_file(tmp_path / name, [record()])
    log_file(tmp_path / ".hidden" / "i.json", [record()])
    parquet_file(tmp_path / "deep" / "p.parquet", [record()])
    found = {source.name.removeprefix(f"{tmp_path}/"): source.kind for source in find(tmp_path)}
    assert found == {
        "a.json": "json",
        "b.json.1": "json",
        "c.json.2.gz": "json",
        "c.json.3.bz2": "json",
        "c.json.xz": "json",
        "d.json-20261127": "json",
        "deep/h.json": "json",
        "deep/p.parquet": "parquet",
    }


def test_an_archive_is_a_whole(tmp_path: Path) -> None:
    (tmp_path / "kind=packets").mkdir()
    assert [*find(tmp_path)] == [Source("archive", str(tmp_path))]


def test_a_directory_without_a_log(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the directory has no \*\.parquet, \*\.json"):
        [*find(tmp_path)]


def test_patterns(tmp_path: Path) -> None:
    for name in ("u.json", "u.json.1", "v.json"):
        log_file(tmp_path / name, [record()])
    assert [source.name for source in find(f"{tmp_path}/u.json*")] == [f"{tmp_path}/u.json", f"{tmp_path}/u.json.1"]
    # A file of that very name is that file.
    log_file(tmp_path / "[uv].json", [record()])
    assert [source.name for source in find(f"{tmp_path}/[uv].json")] == [f"{tmp_path}/[uv].json"]
    with pytest.raises(FileNotFoundError, match="no file has such a name"):
        [*find(f"{tmp_path}/w*")]
    with pytest.raises(FileNotFoundError, match="nothing"):
        [*find(tmp_path / "nothing")]


@pytest.mark.parametrize(
    ("url", "kind"),
    [("sqlite:///x.db", "database"), ("postgresql://h/d", "database"), ("s3a://bucket/archive", "remote")],
)
def test_urls(url: str, kind: str) -> None:
    assert [*find(url)] == [Source(kind, url)]
