# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel import`: which files become which rows, what is told, and that nothing comes twice."""

from __future__ import annotations

import bz2
import calendar
import gzip
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard

import nflowlevel as nfl
from nflowlevel.cli import main

_BODY = "IN=eth0 OUT= MAC= SRC=192.0.2.66 DST=10.77.0.1 LEN=40 TOS=0x00 PREC=0x00 TTL=103 ID=256 PROTO=TCP "
_SYN = f"{_BODY}SPT=6000 DPT=1433 WINDOW=16384 RES=0x00 SYN URGP=0 OPT (020405B4) "
_PRINTED = (
    "Nov 27 12:00:01 fw2 pfx  IN=va OUT= MAC= SRC=10.77.0.2 DST=10.77.0.1 LEN=35 TOS=00 PREC=0x00 TTL=64 ID=1 "
    "PROTO=UDP SPT=5000 DPT=53 LEN=15 MARK=0x0 "
)
#: As ulogd2 writes it: a time without a zone, names with dots.
_ULOGD2 = (
    '{"timestamp": "2026-11-27T12:00:02.000007", "dvc": "fw3", "raw.pktlen": 40, "oob.prefix": "x", "ip.protocol": 6, '
    '"src_ip": "192.0.2.1", "dest_ip": "192.0.2.2", "src_port": 1, "dest_port": 2, "tcp.syn": 1}'
)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TZ", "UTC0")
    return tmp_path / "archive"


def write(path: Path, *lines: str, changed: tuple[int, ...] = (2026, 11, 28)) -> Path:
    """Write lines, or add them, and say when that was."""
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    second = calendar.timegm((*changed, 0, 0, 0))
    os.utime(path, (second, second))
    return path


def rows(archive: Path, columns: str) -> list[tuple[Any, ...]]:
    """Return rows of the archive, in order."""
    return duckdb.sql(
        f"SELECT {columns} FROM read_parquet('{archive}/kind=packets/**/*.parquet') ORDER BY us"
    ).fetchall()


def test_lines_of_three_kinds(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write(
        tmp_path / "kern.log", f"Nov 27 12:00:00 fw kernel: DROP {_SYN}", "Nov 27 12:00:00 fw sshd[1]: hello", _PRINTED
    )
    json = write(tmp_path / "ulogd.json", _ULOGD2)
    assert main(["import", str(log), str(json), "-o", str(archive)]) == 0
    noon = calendar.timegm((2026, 11, 27, 12, 0, 0)) * 1_000_000
    assert rows(archive, "us, dvc, oob_prefix, src_ip, dest_port, tcp_window, tcp_syn, ip_protocol") == [
        (noon, "fw", "DROP ", "192.0.2.66", 1433, 16384, 1, 6),
        (noon + 1_000_000, "fw2", "pfx ", "10.77.0.2", 53, None, None, 17),
        (noon + 2_000_007, "fw3", "x", "192.0.2.1", 2, None, 1, 6),
    ]
    assert rows(archive, "tcp_options, us")[0][0] == "020405b4"
    told = capsys.readouterr().out.splitlines()
    assert told == [
        f"{log}: 2 records in 2 files, 1 line of something else",
        f"{json}: 1 record in 1 file",
    ]
    assert log.exists()
    assert json.exists()


def test_nothing_comes_twice(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write(tmp_path / "kern.log", f"Nov 27 12:00:00 fw kernel: DROP {_SYN}", *["nothing"] * 1000)
    for _ in range(2):
        assert main(["import", str(log), "-o", str(archive)]) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"{log}: was imported already"
    packed = tmp_path / "kern.log.1.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert main(["import", str(packed), "-o", str(archive)]) == 0
    assert capsys.readouterr().out == f"{packed}: was imported already\n"
    write(log, _PRINTED)
    assert main(["import", str(log), "-o", str(archive)]) == 0
    assert [row[0] for row in rows(archive, "dvc, us")] == ["fw", "fw2"]


def test_what_is_not_imported_is_told_and_kept(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut, wrong = _SYN[3:], f"Nov 27 12:00:00 fw kernel: {_SYN.replace('1433', '99999')}"
    log = write(tmp_path / "x", f"Nov 27 12:00:00 fw kernel: {_SYN}", cut, f"[1.5] {_SYN}", wrong, "\0\xff")
    assert main(["import", str(log), "-o", str(archive)]) == 0
    assert capsys.readouterr().out == (
        f"{log}: 1 record in 2 files, 1 line of something else; not imported, and kept apart: "
        "1 cut or damaged, 1 without a time, 1 with a number that no packet has, or too long\n"
    )
    (kept,) = (path for path in archive.rglob("*") if path.is_file() and path.suffix not in (".parquet", ".json", ""))
    assert kept.read_text().splitlines() == [cut, f"[1.5] {_SYN}", wrong]


def test_the_year_and_the_name_of_the_firewall(archive: Path, tmp_path: Path) -> None:
    log = write(tmp_path / "x", f"Nov 27 12:00:00 fw kernel: {_SYN}")
    assert main(["import", str(log), "-o", str(archive), "--year", "2014", "--dvc", "gate"]) == 0
    assert rows(archive, "us, dvc") == [(calendar.timegm((2014, 11, 27, 12, 0, 0)) * 1_000_000, "gate")]


def test_one_file_that_fails_keeps_no_other_out(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write(tmp_path / "x", _PRINTED)
    assert main(["import", str(tmp_path / "none"), str(log), "-o", str(archive)]) == 1
    told = capsys.readouterr()
    assert told.err == f"nflowlevel import: {tmp_path / 'none'}: No such file or directory\n"
    assert told.out == f"{log}: 1 record in 1 file\n"


def test_an_open_file_is_left(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write(tmp_path / "x", _PRINTED)
    with log.open("a") as file, subprocess.Popen(["sleep", "60"], stdout=file) as writer:
        try:
            assert main(["import", str(log), "-o", str(archive)]) == 1
        finally:
            writer.kill()
    told = f"{log}: not imported: it is open for writing in process {writer.pid}\n"
    assert capsys.readouterr().out == told


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("line", [f"Nov 27 12:00:00 fw kernel: DROP {_SYN}", _ULOGD2])
def test_a_last_line_that_is_half_written_waits(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, *, is_packed: bool
) -> None:
    log = tmp_path / "x.log"

    def imported(text: str, count: int) -> str:
        data = text.encode()
        log.write_bytes(gzip.compress(data) if is_packed else data)
        os.utime(log, (1_795_910_400, 1_795_910_400))
        assert main(["import", str(log), "-o", str(archive)]) == 0
        assert len(rows(archive, "us") if count else []) == count
        assert not (archive / "damaged").exists()
        return capsys.readouterr().out.removeprefix(f"{log}: ")

    waits = "; its last line has no newline yet, and is left: import the file again when it has\n"
    if is_packed:
        waits = "; its last line has no newline and may be cut: it is left\n"
    assert imported(line[:50], 0) == "0 records in 0 files" + waits
    if not (is_packed and line == _ULOGD2):  # which is proved to be whole: see below
        assert imported(line, 0) == "0 records in 0 files" + waits
    assert imported(f"{line}\n{line[:70]}", 1).endswith(waits)
    if not (is_packed and line == _ULOGD2):
        assert imported(f"{line}\n{line}", 1) == "was imported already" + waits
    assert imported(f"{line}\n{line}\n", 2) == "1 record in 1 file\n"
    assert imported(f"{line}\n{line}\n", 2) == "was imported already\n"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
@pytest.mark.parametrize("line", [_PRINTED, _ULOGD2])
def test_a_last_line_that_is_whole_counts_where_nobody_can_add_to_it(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, pack: Callable[[bytes], bytes]
) -> None:
    """A compressed file is closed: `nfl.read` and `import` take its last line, once, also without its newline."""
    log = tmp_path / "x.packed"
    for text, count, told in (
        (line, 1, "1 record in 1 file"),
        (f"{line}\n{line}", 2, "1 record in 1 file"),
        (f"{line}\n{line}", 2, "was imported already"),
        (f"{line}\n{line}\n", 2, "0 records in 0 files"),
        (f"{line}\n{line}\n{line}", 3, "1 record in 1 file"),
    ):
        log.write_bytes(pack(text.encode()))
        os.utime(log, (1_795_910_400, 1_795_910_400))
        with nfl.read(log) as alone:
            assert (alone.count().value(), alone.damaged.count) == (count, 0)
        assert main(["import", str(log), "-o", str(archive)]) == 0
        assert len(rows(archive, "us")) == count
        assert capsys.readouterr().out.removeprefix(f"{log}: ").startswith(told)
        with nfl.read(archive, log) as both:
            assert (both.count().value(), both.damaged.count) == (count, 0)
    assert not (archive / "damaged").exists()


def _lines(*ports: int) -> list[str]:
    return [
        f"Nov 27 12:{port // 60 % 60:02}:{port % 60:02} fw kernel: DROP {_BODY}SPT=6000 DPT={port} WINDOW=1 SYN URGP=0 "
        for port in ports
    ]


def _replaced(path: Path, lines: list[str], rest: str = "") -> Path:
    """Put a file in the place of a log, as a copy does: it has another inode."""
    new = path.with_name("new")
    new.write_bytes("".join([*(f"{line}\n" for line in lines), rest]).encode())
    os.utime(new, (1_795_910_400, 1_795_910_400))
    os.replace(new, path)
    return path


def _imported(archive: Path, *paths: Path) -> list[int]:
    """Import files, and return the ports of all packets of the archive."""
    main(["import", *map(str, paths), "-o", str(archive)])
    return sorted(port for (port,) in rows(archive, "dest_port"))


def test_a_short_log_that_a_longer_copy_replaces(archive: Path, tmp_path: Path) -> None:
    log, ports = tmp_path / "kern.log", [*range(1, 20)]
    for count in (3, 7, 19):
        assert _imported(archive, _replaced(log, _lines(*ports[:count]))) == ports[:count]


def test_a_half_line_that_a_copy_has_otherwise(archive: Path, tmp_path: Path) -> None:
    log = _replaced(tmp_path / "kern.log", _lines(1, 2, 3), _lines(9)[0][:50])
    assert _imported(archive, log) == [1, 2, 3]
    assert _imported(archive, _replaced(log, _lines(1, 2, 3, 4, 5))) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("count", [1, 12, 29])
def test_a_log_that_has_less_now(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int) -> None:
    log, ports = tmp_path / "kern.log", [*range(1, 31)]
    assert _imported(archive, _replaced(log, _lines(*ports))) == ports
    capsys.readouterr()
    assert _imported(archive, _replaced(log, _lines(*ports[:count]))) == ports
    told = f"{log}: not imported: it begins as {log}, which is archived, but has less\n"
    assert capsys.readouterr().out == told
    with nfl.read(archive, log) as both:
        assert both.count().value() == len(ports)


def test_another_log_that_begins_as_one_that_has_grown(archive: Path, tmp_path: Path) -> None:
    log = write(tmp_path / "kern.log", *_lines(1, 2, 3))
    _imported(archive, log)
    assert _imported(archive, write(log, *_lines(*range(4, 9)))) == [*range(1, 9)]
    other = write(tmp_path / "other.log", *_lines(1, 2, 3, *range(101, 110)))
    assert _imported(archive, other) == [*range(1, 9), *range(101, 110)]


def test_a_log_that_is_copied_and_emptied(archive: Path, tmp_path: Path) -> None:
    log, copy, packed = (tmp_path / name for name in ("kern.log", "kern.log.1", "kern.log.2.gz"))
    _imported(archive, write(log, *_lines(*range(5))))
    write(copy, *_lines(*range(9)))
    packed.write_bytes(gzip.compress(copy.read_bytes()))
    os.truncate(log, 0)
    write(log, *_lines(*range(9, 13)))
    for order in ((packed, log, copy), (copy, packed, log)):
        assert _imported(archive, *order) == [*range(13)]
        with nfl.read(archive, copy, packed, log) as all_of_it:
            assert all_of_it.count().value() == 13


def test_zeros_before_a_log(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A writer that does not append goes on at its old place, behind a hole, when its log is emptied."""
    first, second = tmp_path / "kern.log.2", tmp_path / "kern.log.1"
    first.write_bytes(bytes(70_000) + "".join(f"{line}\n" for line in _lines(*range(1, 30))).encode())
    second.write_bytes(bytes(70_500) + "".join(f"{line}\n" for line in _lines(*range(101, 140))).encode())
    for path in (first, second):
        os.utime(path, (1_795_910_400, 1_795_910_400))
    for _ in range(2):
        assert _imported(archive, first, second) == [*range(1, 30), *range(101, 140)]
    told = [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()]
    assert told == ["29 records in 1 file", "39 records in 1 file", *2 * ["was imported already"]]


def test_two_imports_at_once(archive: Path, tmp_path: Path) -> None:
    log = write(tmp_path / "kern.log", *_lines(*range(3000)))
    command = [sys.executable, "-m", "nflowlevel", "import", str(log), "-o", str(archive)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120)[0] for process in running]
    for text, process in zip(told, running, strict=True):
        assert "another compaction is at work" in text if process.returncode else "nflowlevel import:" not in text
    assert [process.returncode for process in running].count(0) >= 1
    assert sorted(port for (port,) in rows(archive, "dest_port")) == [*range(3000)]
