# SPDX-License-Identifier: GPL-2.0-or-later
"""`nfl.read`: many kinds of sources as one log; growing, cut, hostile and repeated ones."""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import shutil
import signal
import sqlite3
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import nflowlevel as nfl
from nflowlevel.analytics.report import make, to_html
from nflowlevel.archive.compaction import Settings, compact
from nflowlevel.archive.journal import Journal
from nflowlevel.archive.reader import is_archive, stored_files
from nflowlevel.errors import NotSupported
from tests.analytics.test_texts import CUT, GOOD
from tests.captures import pcap, udp_packets
from tests.fix_archive import SECOND, Killer, log
from tests.fix_lines import small_disk
from tests.fix_logs import START, hourly_files, lines, log_file, parquet_file, record
from tests.fix_nobody import NOBODY


def test_everything_is_one_log(tmp_path: Path) -> None:
    log_file(tmp_path / "ulogd.json", [record(n) for n in range(5)])
    (tmp_path / "old.json.gz").write_bytes(gzip.compress(lines([record(n) for n in range(4)])))
    (tmp_path / "kern.log").write_text(GOOD * 3)
    (tmp_path / "x.pcap").write_bytes(pcap(udp_packets(2), 101))
    parquet_file(tmp_path / "a.parquet", [record()])
    names = ("ulogd.json", "old.json.gz", "kern.log", "x.pcap", "a.parquet")
    log = nfl.read(*(tmp_path / name for name in names))
    assert log.count().value() == 5 + 4 + 3 + 2 + 1
    assert log.syn.where(src_port=6000, ip_id=256).count("tcp_window").rows() == [(16384, 13)]
    assert log.count("ip_protocol").rows() == [(6, 13), (17, 2)]
    assert log.damaged.count == 0


def test_eventv1_and_what_ulogd2_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(
        '{"@version": 1, "@timestamp": "2026-11-24T09:30:00.000250+0100", "src_ip": "192.0.2.1", "action": "allowed"}\n'
        '{"timestamp": "2026-11-24T08:30:00.000250", "src_ip": "192.0.2.1", "own.member": [1, {"x": 2}]}\n'
    )
    log = nfl.read(path)
    assert log.records("us").rows() == [(START * 10**6 + 250,)] * 2
    assert sorted(log.count("raw_label").rows(), key=str) == [(1, 1), (None, 1)]


def test_only_whole_lines_count(tmp_path: Path) -> None:
    whole = lines([record(n) for n in range(3)])
    path = tmp_path / "ulogd.json"
    # Every end of the last line, also the one that only lacks its newline.
    last = len(whole) - len(lines([record(2)]))
    for end in (*range(last + 1, len(whole), 37), len(whole) - 1):
        path.write_bytes(whole[:end])
        log = nfl.read(path)
        assert log.count().value() == 2
        assert [(line.line, line.reason) for line in log.damaged] == [
            (3, "a line without an end: it is being written, or cut")
        ]
        log.close()


def test_damage_is_counted_and_shown(tmp_path: Path) -> None:
    path = tmp_path / "ulogd.json"
    path.write_bytes(lines([record()]) + b"damaged\n" + lines([record()]))
    (tmp_path / "kern.log").write_text(CUT + GOOD)
    (tmp_path / "x.pcap").write_bytes(pcap(udp_packets(2), 101)[:-3])
    (tmp_path / "old.json.gz").write_bytes(gzip.compress(lines([record()]) * 50)[:-9])
    cut = parquet_file(tmp_path / "cut.parquet", [record()])
    os.truncate(cut, cut.stat().st_size - 2)
    log = nfl.read(path, tmp_path / "kern.log", tmp_path / "x.pcap", tmp_path / "old.json.gz", cut)
    assert log.damaged.count == 5
    assert [Path(line.source).name for line in log.damaged] == [
        "cut.parquet",
        "ulogd.json",
        "kern.log",
        "x.pcap",
        "old.json.gz",
    ]
    assert "ulogd.json:2: " in repr(log.damaged)
    assert log.count("ip_protocol").rows()[1] == (17, 1)


def test_hostile_records(tmp_path: Path) -> None:
    text = "'; DROP TABLE packets; -- \\ ${x} \x00\x1b[2J <script> é \u202e"
    path = log_file(tmp_path / 'it\'s; a "log" [x]*.json', [record(oob__prefix=text, src_ip=text)])
    log = nfl.read(path)
    assert log.where(oob_prefix=text).count("oob_prefix", "src_ip").rows() == [(text, text, 1)]
    assert log.exclude(oob_prefix=text).count().value() == 0
    shown = repr(log.count("oob_prefix"))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "<script>" not in log.count("oob_prefix").to_html()


def test_a_million_members_and_deep_ones(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    wide = "{" + ",".join(f'"m{n}": {n}' for n in range(50_000)) + "}\n"
    deep = '{"a":' * 50_000 + "1" + "}" * 50_000 + "\n"
    path.write_text(wide + deep + '{"oob.time.sec": 5, "oob.time.sec": 6}\n' + "\n\n  \n" + lines([record()]).decode())
    log = nfl.read(path)
    assert log.where(sec=START).count().value() == 1
    assert log.count().value() + log.damaged.count == 4


def test_an_archive_and_the_log_that_is_in_it_count_once(tmp_path: Path) -> None:
    archive, path = tmp_path / "archive", log_file(tmp_path / "ulogd.json.1", [record(n) for n in range(7)])
    copy = tmp_path / "copy.json.gz"
    copy.write_bytes(gzip.compress(path.read_bytes()))
    compacted(archive, path)
    assert not path.exists()
    assert nfl.read(archive).count().value() == 7
    assert nfl.read(archive, copy).count().value() == 7
    assert nfl.read(copy).count().value() == 7
    # A log that went on after it was archived.
    copy.write_bytes(gzip.compress(lines([record(n) for n in range(9)])))
    assert nfl.read(archive, copy).count().value() == 9


def compacted(archive: Path, path: Path) -> None:
    """Put a log into an archive."""
    with Journal(str(archive)) as journal:
        compact(journal, str(path), Settings(min_age=0))


@pytest.mark.parametrize(
    ("given", "count", "repeated"),
    [
        (["a.json", "a.json"], 3, 1),
        (["a.json", "link.json"], 3, 1),
        (["hard.json", "a.json"], 3, 1),
        (["folder", "folder/b.json", "folder/../folder"], 2, 2),
        (["folder/b.json", "folder"], 2, 1),
        (["*.json", "a.json"], 3, 3),
        (["archive", "archive"], 4, 1),
        (["archive", "way"], 4, 1),
        (["archive", "archive/kind=packets"], 4, 1),
        (["archive/kind=packets", "archive"], 4, 1),
        (["x.parquet", "./x.parquet"], 1, 1),
        (["x.db", "sqlite:///x.db"], 2, 1),
        (["a.json", "copy", "folder"], 8, 0),
    ],
)
def test_what_is_given_twice_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], count: int, repeated: int
) -> None:
    """By the same name, a link, a folder, a pattern or a URL. A copy is another file."""
    monkeypatch.chdir(tmp_path)
    for name, packets in (("a.json", 3), ("folder/b.json", 2), ("copy", 3), ("c", 4)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        log_file(tmp_path / name, [record(number) for number in range(packets)])
    (tmp_path / "link.json").symlink_to("a.json")
    (tmp_path / "hard.json").hardlink_to("a.json")
    (tmp_path / "way").symlink_to("archive")
    parquet_file(tmp_path / "x.parquet", [record()])
    with Journal("archive") as journal:
        compact(journal, "c", Settings(min_age=0))
    with contextlib.closing(sqlite3.connect("x.db")) as database:
        database.execute("CREATE TABLE ulog (oob_time_sec INT, oob_time_usec INT, ip_saddr_str TEXT)")
        database.execute("INSERT INTO ulog VALUES (1, 2, '192.0.2.1'), (2, 3, '192.0.2.1')")
        database.commit()
    with nfl.read(*(name.replace("sqlite:///", f"sqlite://{tmp_path}/") for name in given)) as log:
        assert (log.count().value(), len(log.repeated), log.damaged.count) == (count, repeated, 0)
        assert all("it is read once" in each.told for each in log.repeated)


def test_what_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name what to read, such as nfl\.read"):
        nfl.read()
    with pytest.raises(FileNotFoundError):
        nfl.read(tmp_path / "absent.json")
    (tmp_path / "x.bin").write_bytes(bytes(100))
    with pytest.raises(ValueError, match="it is neither"):
        nfl.read(tmp_path / "x.bin")


def test_an_empty_log(tmp_path: Path) -> None:
    log = nfl.read(log_file(tmp_path / "x.json", []))
    assert (log.newest, log.count().value(), repr(log)) == (None, 0, "<Log: 0 packets>")
    assert log.last("7d").count().value() == 0


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    path = log_file(tmp_path / "x.json", [record()])
    code = f"import nflowlevel as nfl; log = nfl.read({str(path)!r}); print(log.count().value())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert [each.name for each in tmp_path.iterdir()] == ["x.json"]


def test_a_source_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    (tmp_path / "x.db").write_bytes(b"SQLite format 3\0" + bytes(100))
    with pytest.raises(Exception, match="file is not a database"):
        nfl.read(tmp_path / "x.db")
    assert [*(tmp_path / "t").iterdir()] == []


def test_damaged_rows_of_a_database_are_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflowlevel.analytics.reading.database_lines", lambda url: iter([b"{}\n"]))
    log = nfl.read("postgresql://u:secret@host/logs")
    assert [line.source for line in log.damaged] == ["postgresql://host/logs"]
    with pytest.raises(NotSupported) as caught:
        nfl.read("s3a://KEY:secret@bucket/logs").count().value()
    assert "secret" not in str(caught.value)
    assert "s3a://bucket/logs" in str(caught.value)


@pytest.mark.parametrize("keep", [True, False])
def test_a_compaction_between_two_looks_changes_no_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    """It ends after the archive's files were listed and before the log is read."""
    from nflowlevel.analytics import reading

    archive, path = tmp_path / "archive", log_file(tmp_path / "u.json.1", [record(n) for n in range(5)])
    other = log_file(tmp_path / "u.json", [record(n) for n in range(10, 17)])
    with Journal(str(archive)):
        pass
    listed = reading.files
    done: list[object] = []

    def compacting(*arguments: str) -> list[str]:
        found = listed(*arguments)
        if not done:
            with Journal(str(archive)) as journal:
                done.append(compact(journal, str(path), Settings(min_age=0, keep=keep)))
        return found

    monkeypatch.setattr(reading, "files", compacting)
    assert nfl.read(archive, *([path] if keep else []), other).count().value() == 12


def stopped(directory: Path) -> Iterator[tuple[int, Path, Path]]:
    """Yield archives of 300 records whose compaction was killed before each change of names; the last point first."""
    path, archive = directory / "u.json.1", directory / "ar0"
    whole = log(range(150)) + log(range(150, 300), **{"oob.time.sec": SECOND + 86_400})
    with Killer("os.rename", "os.mkdir", "os.rmdir", "os.remove") as killer:
        path.write_bytes(whole)
        assert killer.compact(archive, [path]) == 0
        for at in range(killer.points(archive), 0, -1):
            path.write_bytes(whole)
            archive = directory / f"ar{at}"
            assert killer.compact(archive, [path], at) == -signal.SIGKILL
            yield at, archive, path


def test_an_archive_whose_compaction_was_killed_anywhere_counts_nothing_twice(tmp_path: Path) -> None:
    seen, states = set(), set()
    for at, archive, path in stopped(tmp_path):
        state = (*sorted(str(each.relative_to(archive)) for each in archive.rglob("*")), path.exists())
        if state in seen or not is_archive(archive):
            continue
        seen.add(state)
        moved = len([*archive.rglob("kind=*/*/*/*.parquet")])
        is_aside = any(archive.glob(".compact/*-0"))
        is_recorded = any(archive.glob(".compact/*-0.json"))
        states.add((is_aside, is_recorded, moved, path.exists()))
        # All of the log or nothing of it; and nothing only as long as the log is there.
        alone = 300 if is_recorded and not is_aside else 0
        assert nfl.read(archive).count().value() == alone, at
        assert len(stored_files(archive)) == (moved if alone else 0), at
        assert alone or path.exists(), at
        if path.exists():
            both = nfl.read(archive, path)
            assert (both.count().value(), both.damaged.count) == (300, 0), at
    # Aside without a record, with one, partly moved, moved, the directory gone.
    assert states >= {
        (True, False, 0, True),
        (True, True, 0, True),
        (True, True, 1, True),
        (True, True, 5, True),
        (False, True, 5, True),
    }


@pytest.mark.parametrize("is_copied", [False, True])
def test_who_may_only_read_an_archive_counts_nothing_twice_after_a_kill(open_to_all: Path, *, is_copied: bool) -> None:
    points = ((archive, path) for _, archive, path in stopped(open_to_all))
    archive, path = next(point for point in points if len([*point[0].rglob("kind=*/*/*/*.parquet")]) == 1)
    aside = next(archive.glob(".compact/*-0"))
    assert stat.S_IMODE(aside.stat().st_mode) == 0o700
    if is_copied:  # to another machine, without what only root can read
        archive = shutil.copytree(archive, open_to_all / "copy", ignore=shutil.ignore_patterns("*.tmp"))

    # What is imported as root need not be readable for others. No fork: DuckDB does not live through one.
    asked = "count = lambda *files: nfl.read(*files).count().value()"
    dropped = f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})"
    code = (
        f"import os; import nflowlevel as nfl; {asked}; count({str(path)!r}); {dropped}; "
        f"print(count({str(archive)!r}), count({str(archive)!r}, {str(path)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0 300\n", "")


def test_a_full_temporary_directory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = log_file(tmp_path / "x.json", [record(n, community_id=os.urandom(60).hex()) for n in range(20_000)])
    with small_disk(tmp_path / "small", "1M") as disk:
        monkeypatch.setattr("tempfile.tempdir", str(disk))
        with pytest.raises(
            OSError, match=r"No space left on device; make room there, or set TMPDIR .*/small/nflowlevel-"
        ):
            nfl.read(path)
        assert os.listdir(disk) == []


#: Columns of files that are none of ours, with what is said of them; none: all of it is read.
_FOREIGN = {
    "SELECT 'abc' AS sec, 'x' AS us, {'a': 1} AS src_ip, [1] AS dest_port": "whose sec is VARCHAR",
    f"SELECT {START}::BIGINT AS sec, 5::BIGINT AS us, 'ssh' AS dest_port": "whose dest_port is VARCHAR",
    f"SELECT {START}::BIGINT AS sec, 65536 AS dest_port": "whose dest_port is INTEGER",
    f"SELECT {START}::BIGINT AS sec, {{'a': 1}} AS dest_port": "whose dest_port is STRUCT",
    f"SELECT {{'sec': {START}, 'us': 5}} AS inner": "without a column sec",
    f"SELECT {START} AS sec, '22' AS dest_port, {START}::HUGEINT * 1000000 AS us": "",
    f"SELECT {START}::BIGINT AS sec, {{'sec': {{'us': [1, 2]}}}} AS src_ip": "",
    f"SELECT {10**18}::BIGINT AS sec, {9 * 10**18}::BIGINT AS us": "",
    "SELECT " + ", ".join(f"{number} AS c{number}" for number in range(3000)): "without a column sec",
    "SELECT NULL::BIGINT AS sec, NULL::BIGINT AS us, '192.0.2.1' AS src_ip": "",
}


def test_a_file_without_columns_is_counted_and_named(tmp_path: Path) -> None:
    archive, other = foreign(tmp_path)
    pq.write_table(pa.table({}), other)
    shutil.copy(other, tmp_path / "alone.parquet")
    with nfl.read(archive, tmp_path / "alone.parquet") as log:
        assert log.count().value() == 5
        assert {line.source for line in log.damaged} == {str(other), str(tmp_path / "alone.parquet")}
        assert all("a Parquet file that cannot be read" in line.reason for line in log.damaged)


@pytest.mark.parametrize(("columns", "said"), _FOREIGN.items())
def test_files_of_others_in_an_archive_break_no_question(tmp_path: Path, columns: str, said: str) -> None:
    archive, other = foreign(tmp_path)
    duckdb.connect().execute(f"COPY ({columns}) TO '{other}' (FORMAT parquet)")
    log = nfl.read(archive)
    assert [said in line.reason and line.source == str(other) for line in log.damaged] == ([True] if said else [])
    assert to_html(make(log))
    assert log.count().value() == 5 + (not said)
    assert log.where(dest_port=22).where(sec=START).count().value() >= 1


def foreign(tmp_path: Path) -> tuple[Path, Path]:
    """Return an archive of a file of ours, and a path for one of others in it."""
    day = tmp_path / "ar/kind=packets/dvc=fw1/day=2026-11-24"
    day.mkdir(parents=True)
    parquet_file(day / "083000-083010-01-0-0.parquet", [record(n) for n in range(5)])
    return tmp_path / "ar", day / "083000-083010-02-0-0.parquet"


def test_damaged_files_in_an_archive_break_no_question(tmp_path: Path) -> None:
    archive, other = foreign(tmp_path)
    (good,) = other.parent.iterdir()
    data = good.read_bytes()
    size = len(data)
    random.seed(5)
    flipped = bytearray(data)
    for _ in range(20):
        flipped[random.randrange(size - 900, size - 8)] ^= 255
    for cut in (
        data[: size // 2],
        data[: size // 2] + data[-200:],
        b"PAR1" + bytes(100) + struct.pack("<I", 0x7FFFFFFF) + b"PAR1",
        b"PAR1" + b"\xff" * 100 + struct.pack("<I", 100) + b"PAR1",
        b"PAR1" + b"\x15" * 100 + struct.pack("<I", 0) + b"PAR1",
        bytes(flipped),
        b"",
    ):
        other.write_bytes(cut)
        log = nfl.read(archive)
        assert [line.source for line in log.damaged] == [str(other)]
        assert log.count("dest_port").rows() == [(22, 5)]
        assert nfl.read(other.parent).damaged.count == 1


def test_what_others_plant_in_directories_is_neither_followed_nor_waited_for(tmp_path: Path) -> None:
    archive, other = foreign(tmp_path)
    outside = parquet_file(tmp_path / "outside.parquet", [record()])
    for make_it in (lambda: other.symlink_to(outside), lambda: os.mkfifo(other), other.mkdir):
        make_it()
        assert nfl.read(archive).count().value() == 5
        other.rmdir() if other.is_dir() else other.unlink()
    os.mkfifo(other)
    assert nfl.read(other.parent).count().value() == 5
    log = nfl.read(archive, other)
    assert ([line.reason for line in log.damaged], log.count().value()) == (["no regular file"], 5)


@pytest.mark.parametrize("is_alone", [True, False])
def test_long_values_of_a_file_of_others_take_no_memory(tmp_path: Path, is_alone: bool) -> None:
    """DuckDB counts no memory of the texts that it sorts: some took nine gigabytes, whatever its limit was."""
    archive, other = foreign(tmp_path)
    rows = "SELECT {0} AS sec, {0}::BIGINT * 1000000 AS us, range || repeat('x', {1}) AS oob_prefix FROM range({2})"
    long, many = rows.format(START, 24 << 20, 40), rows.format(START, 1_000_000, 40)
    for text, is_left_out in ((long, True), (many, False)):
        options = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 2048"
        with duckdb.connect() as database:
            database.execute(f"COPY ({text}) TO '{other}' ({options})")
        program = (
            "import re, sys\nimport nflowlevel as nfl\n"
            "log = nfl.read(sys.argv[1], memory_limit='300MB')\n"
            "print(log.count().value(), [line.reason for line in log.damaged])\n"
            "print(len(log.records('sec', 'oob_prefix', limit=30).rows()))\n"
            "print(int(re.search('VmHWM: *\\t *([0-9]+)', open('/proc/self/status').read())[1]) >> 10)\n"
        )
        source = other if is_alone else archive
        found = subprocess.run([sys.executable, "-c", program, str(source)], capture_output=True, text=True, check=True)
        told, records, memory = found.stdout.splitlines()
        wanted = 0 if is_alone else 5
        if is_left_out:
            assert told.startswith(f'{wanted} ["a Parquet file with longer values of oob_prefix than any line has: ')
            assert int(records) == wanted
            assert int(memory) < 800
        else:
            assert told == f"{wanted + 40} []"
            assert int(records) == 30


KINDS = ("json", "log", "pcap", "sqlite", "parquet")


def _of_kind(directory: Path, kind: str) -> Path:
    """Make a file with a packet in it, in a directory of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"secret.{kind}"
    if kind == "json":
        log_file(path, [record()])
    elif kind == "log":
        path.write_text(f"{GOOD}\n")
    elif kind == "pcap":
        path.write_bytes(pcap(udp_packets(1), 101))
    elif kind == "sqlite":
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE ulog (oob_time_sec INTEGER, oob_time_usec INTEGER, ip_ttl INTEGER)")
            database.execute(f"INSERT INTO ulog VALUES ({START}, 1, 64)")
    else:
        parquet_file(path, [record()])
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_root_reads_by_no_link_of_others(open_to_all: Path, users: Path, kind: str) -> None:
    secret = _of_kind(open_to_all / "root", kind)
    secret.chmod(0o600)
    assert nfl.read(secret).count().value() == 1
    link = users / secret.name
    link.symlink_to(secret)
    sources = [link] if kind in ("log", "sqlite") else [link, users]
    for source in sources:
        with pytest.raises(OSError, match="others can change a symbolic link there; name the file"):
            nfl.read(source)
    (users / "above").symlink_to(secret.parent)
    with pytest.raises(OSError, match="others can change a symbolic link there"):
        nfl.read(users / "above" / secret.name)
    link.unlink()
    os.link(secret, link)
    for source in sources:
        with pytest.raises(OSError, match="several names"):
            nfl.read(source)
    theirs = _of_kind(users / "own", kind)
    for path in (theirs.parent, theirs):
        os.chown(path, NOBODY, NOBODY)
    assert nfl.read(theirs).count().value() == 1
    (open_to_all / "link").symlink_to(secret)
    assert nfl.read(open_to_all / "link").count().value() == 1, "a link of root's"


@pytest.mark.parametrize("is_sealed", [False, True])
def test_root_reads_the_parquet_files_that_it_has_looked_at(open_to_all: Path, users: Path, is_sealed: bool) -> None:
    """Others swap them, for what is root's, between that look and DuckDB's."""
    secret = _of_kind(open_to_all / "root", "parquet")
    archive = users / "archive"
    stored = hourly_files(archive)
    for path in (*archive.rglob("*"), archive):
        os.chown(path, NOBODY, NOBODY)
    log = nfl.read(archive, parquet_file(users / "alone.parquet", [record(), record()]))
    log.seal() if is_sealed else None
    assert log.count().value() == 8
    for path in (*stored, users / "alone.parquet"):
        path.rename(path.with_suffix(".old")) if not is_sealed else path.unlink()
        path.symlink_to(secret)
    assert log.count().value() == 8
    assert log.between(START + 3600, START + 7200).count().value() == 2
    assert _held(users)
    log.close()
    assert not _held(users)


def _held(directory: Path) -> set[str]:
    """Return what this process has open of a directory."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return {path for path in found if path.startswith(str(directory))}


def test_root_holds_no_more_files_than_are_allowed(users: Path) -> None:
    stored = hourly_files(users / "archive")
    program = (
        "import resource, sys\nimport nflowlevel as nfl\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[3])))\n"
        "print(nfl.read(sys.argv[1]).count().value(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )

    def read(soft: int, hard: int) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-c", program, str(users / "archive"), str(soft), str(hard)]
        return subprocess.run(arguments, capture_output=True, text=True, check=False)

    assert read(100, 4096).stdout == f"6 {2 * (512 + 1)}\n"
    failed = read(100, 200)
    assert "root holds each one open" in failed.stderr
    assert "read them as the user" in failed.stderr
    for path in (*(users / "archive").rglob("*"), users / "archive", *stored):
        os.chown(path, 0, 0)
    users.chmod(0o755)
    os.chown(users, 0, 0)
    assert read(100, 200).stdout == "6 100\n", "those of root's own are not held"


def _compacted(directory: Path, count: int = 5) -> tuple[Path, Path, Path]:
    """Return an archive of one log, that log, and the name of the directory in which its files were aside."""
    archive, path = directory / "archive", log_file(directory / "u.json.1", [record(n) for n in range(count)])
    with Journal(str(archive)) as journal:
        compact(journal, str(path), Settings(min_age=0, keep=True))
    (name,) = (archive / ".compact").glob("*.json")
    return archive, path, name.with_suffix("")


def test_files_that_are_left_out_are_told(tmp_path: Path) -> None:
    """A copy may leave a directory behind, or somebody make one, that says that they are being moved."""
    archive, path, aside = _compacted(tmp_path)
    aside.mkdir()
    with nfl.read(archive) as log:
        assert log.count().value() == 0
        (line,) = log.damaged
        assert line.source == str(aside)
        assert line.reason.startswith("1 file of the archive is left out: they are being moved")
        assert line.reason.endswith("end it by 'nflowlevel compact'")
    for sources in ((archive, path), (path, archive)):
        with nfl.read(*sources) as log:
            assert (log.count().value(), log.damaged.count) == (5, 0)
    with Journal(str(archive)):
        pass
    with nfl.read(archive) as log:
        assert (log.count().value(), log.damaged.count) == (5, 0)


@pytest.mark.parametrize("kind", ["file", "link", "fifo", "loop"])
def test_what_is_no_directory_hides_no_file(tmp_path: Path, kind: str) -> None:
    archive, _, aside = _compacted(tmp_path)
    if kind == "file":
        aside.touch()
    elif kind == "fifo":
        os.mkfifo(aside)
    else:
        aside.symlink_to(tmp_path if kind == "link" else aside)
    with nfl.read(archive) as log:
        assert (log.count().value(), log.damaged.count) == (5, 0)


def test_a_pipe_beside_an_archive_loses_nothing(tmp_path: Path) -> None:
    archive, path, _ = _compacted(tmp_path)
    reading, writing = os.pipe()

    def feed() -> None:
        with open(writing, "wb") as file:
            file.write(lines([record(n) for n in range(100, 1100)]))

    feeding = threading.Thread(target=feed)
    feeding.start()
    with open(reading, "rb"), nfl.read(archive, path, f"/dev/fd/{reading}") as log:
        assert log.count().value() == 1005
    feeding.join()


def test_too_many_files_that_root_holds_are_said(tmp_path: Path) -> None:
    """Their descriptors are closed once: a second time, it would be another file's."""
    if os.geteuid():
        pytest.skip("only root holds the files of directories that others can change")
    pq.write_table(pa.table({"sec": [1], "src_ip": ["10.0.0.1"]}), tmp_path / "a.parquet")
    tmp_path.chmod(0o777)
    text = (
        "import os, resource, sys\n"
        "import nflowlevel as nfl, nflowlevel.analytics.store\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (500, 500))\n"
        "try:\n    nfl.read(sys.argv[1])\n"
        "except OSError as error:\n    print(error.filename, error.strerror)\n"
    )
    command = [sys.executable, "-W", "error", "-c", text, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(f"{tmp_path}/a.parquet others can change these files"), done.stdout
