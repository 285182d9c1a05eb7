# SPDX-License-Identifier: GPL-2.0-or-later
"""Compaction: each record is in the archive once, whatever is killed when, and nothing that is no record is lost."""

from __future__ import annotations

import fcntl
import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nflowlevel.archive import compaction
from nflowlevel.archive.compaction import Result, Settings, compact
from nflowlevel.archive.journal import Journal
from nflowlevel.archive.reader import files
from nflowlevel.archive.rows import Rows
from nflowlevel.errors import NflowError
from nflowlevel.records.keys import added_key
from tests.fix_archive import (
    COUNT,
    SECOND,
    Killer,
    damaged,
    exactly_once,
    footers,
    log,
    marks,
    query,
    record,
    sources,
)
from tests.fix_lines import small_disk

NOW = Settings(min_age=0)


def run(archive: Path, *paths: Path, settings: Settings = NOW) -> list[Result]:
    """Compact files."""
    with Journal(str(archive)) as journal:
        return [compact(journal, str(path), settings) for path in paths]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_records_are_in_the_archive_and_the_log_is_gone(tmp_path: Path) -> None:
    path = write(tmp_path / "u.json.1", log(range(10)))
    (result,) = run(tmp_path / "ar", path)
    assert result == Result(str(path), "stored", records=10, files=1, removed=True)
    assert marks(tmp_path / "ar") == list(range(10))
    assert not path.exists()
    row = query(tmp_path / "ar", "SELECT sec, us, dvc, oob_prefix, tcp_window, src_ip FROM packets ORDER BY us")[3]
    assert row == (SECOND, SECOND * 1_000_000 + 3000, "fw", "in: ", 16384, "192.0.2.3")


@pytest.mark.parametrize("compress", [gzip.compress, __import__("bz2").compress, __import__("lzma").compress])
def test_compressed_logs(tmp_path: Path, compress: object) -> None:
    assert callable(compress)
    run(tmp_path / "ar", write(tmp_path / "u.json.1.x", compress(log(range(10)))))
    assert marks(tmp_path / "ar") == list(range(10))


def test_a_log_compressed_by_zstd(tmp_path: Path) -> None:
    plain = write(tmp_path / "u.json.1", log(range(1000)))
    subprocess.run(["zstd", "-q", "--rm", plain], check=True)
    run(tmp_path / "ar", tmp_path / "u.json.1.zst")
    assert marks(tmp_path / "ar") == list(range(1000))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_cut_compressed_log_stays(tmp_path: Path, suffix: str) -> None:
    plain = write(tmp_path / "u.json.1", log(range(3000)))
    subprocess.run(["gzip" if suffix == ".gz" else "zstd", "-q", plain], check=True)
    path = tmp_path / f"u.json.1{suffix}"
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(NflowError, match="the compressed data is cut or damaged"):
        run(tmp_path / "ar", path)
    assert path.exists()
    assert not files(tmp_path / "ar")
    assert sorted(os.listdir(tmp_path / "ar" / ".compact")) == ["lock"]


def test_files_by_kind_firewall_and_day_sorted_by_time(tmp_path: Path) -> None:
    data = log(range(5, 10)) + log(range(5), dvc="other") + log(range(10, 12), **{"oob.time.sec": SECOND + 86_400})
    data += b'{"timestamp": "2026-11-23T00:00:00Z", "sum.name": "http", "sum.pkts": 7}\n'
    run(tmp_path / "ar", write(tmp_path / "u.json.1", data + record(3, **{"oob.mark": 99})))
    found = [os.path.relpath(path, tmp_path / "ar").rpartition("-0-")[0][:-20] for path in files(tmp_path / "ar")]
    assert sorted(found) == [
        "kind=packets/dvc=fw/day=2026-11-23/185444-185444-",
        "kind=packets/dvc=fw/day=2026-11-24/185444-185444-",
        "kind=packets/dvc=other/day=2026-11-23/185444-185444-",
    ]
    assert [row[0] for row in query(tmp_path / "ar", "SELECT oob_mark FROM packets WHERE dvc = 'fw'")] == [
        99, 5, 6, 7, 8, 9, 10, 11
    ]  # fmt: skip
    assert query(tmp_path / "ar", "SELECT dvc, sum_name, sum_pkts FROM sums") == [(os.uname().nodename, "http", 7)]


def test_flows_and_sums_beside_packets(tmp_path: Path) -> None:
    flow = {"timestamp": "2026-11-23T00:00:00Z", "dvc": "fw", "src_ip": "192.0.2.1", "orig.ip.protocol": 6, "ct.id": 7}
    flow |= {"flow.end.sec": SECOND, "flow.end.usec": 5}
    some = b'{"timestamp": "2026-11-23T00:00:00Z", "sum.name": "http", "sum.pkts": 7}\n'
    data = log(range(3)) + json.dumps(flow).encode() + b"\n" + log(range(3, 5)) + some
    (result,) = run(tmp_path / "ar", write(tmp_path / "u.json.1", data))
    assert (result.records, result.damaged, result.files) == (7, 0, 3)
    assert marks(tmp_path / "ar") == [0, 1, 2, 3, 4]
    assert query(tmp_path / "ar", "SELECT us, src_ip, ct_id FROM flows") == [(SECOND * 1_000_000 + 5, "192.0.2.1", 7)]
    assert query(tmp_path / "ar", "SELECT sum_name FROM sums") == [("http",)]


def test_rows_are_written_as_soon_as_a_file_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FILE_ROWS", 100)
    monkeypatch.setattr(compaction, "BLOCK_BYTES", 1 << 12)
    most = []
    add = Rows.add
    monkeypatch.setattr(Rows, "add", lambda rows, lines: (add(rows, lines), most.append(rows.rows)))
    (result,) = run(tmp_path / "ar", write(tmp_path / "u.json.1", log(range(1000))))
    assert max(most) <= 100
    assert result.files == len(files(tmp_path / "ar")) > 9
    assert marks(tmp_path / "ar") == list(range(1000))


def test_rows_are_written_before_they_take_too_much_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "BLOCK_BYTES", 1 << 14)
    one = b"".join(record(number, **{"oob.prefix": f"{number} " * 500}) for number in range(100))
    held = []
    add = Rows.add
    monkeypatch.setattr(Rows, "add", lambda rows, lines: (add(rows, lines), held.append(rows.held_bytes)))
    run(tmp_path / "one", write(tmp_path / "u.json.1", one))
    # All of them, and what each block takes.
    assert held == sorted(held)
    assert held[-1] > 100_000
    monkeypatch.setattr(compaction, "HELD_BYTES", 5 * held[0])
    held.clear()
    (result,) = run(tmp_path / "ar", write(tmp_path / "u.json.1", one))
    assert max(held) < 7 * held[0]
    assert result.files > 2
    assert marks(tmp_path / "ar") == list(range(100))


def test_a_log_whose_last_line_is_not_taken_stays(tmp_path: Path) -> None:
    path = write(tmp_path / "u.json.1", log(range(3)) + log(range(3, 4)).rstrip(b"\n"))
    settings = Settings(min_age=0, only_whole=True)
    for outcome in ("stored", "known"):
        (result,) = run(tmp_path / "ar", path, settings=settings)
        assert (result.outcome, result.is_growing, result.removed) == (outcome, True, False)
    write(path, path.read_bytes() + b"\n")
    (result,) = run(tmp_path / "ar", path, settings=settings)
    assert (result.records, result.removed, path.exists()) == (1, True, False)
    assert marks(tmp_path / "ar") == list(range(4))


def test_the_name_of_the_firewall(tmp_path: Path) -> None:
    one = write(tmp_path / "u.json.1", log(range(3)))
    two = write(tmp_path / "u.json.2", log(range(3, 6), dvc=None) + log(range(6, 8), dvc=""))
    run(tmp_path / "ar", one, settings=Settings(min_age=0, dvc="../fw 1/ü"))
    run(tmp_path / "ar", two)
    host = os.uname().nodename
    assert query(tmp_path / "ar", "SELECT dvc, count(*) FROM packets GROUP BY dvc ORDER BY 2") == [
        ("../fw 1/ü", 3),
        (host, 5),
    ]
    assert sorted(os.listdir(tmp_path / "ar" / "kind=packets")) == sorted(["dvc=%2E.%2Ffw%201%2F%C3%BC", f"dvc={host}"])


def test_columns_of_plugins(tmp_path: Path) -> None:
    settings = Settings(min_age=0, added=(added_key("geo.asn", "uint32", "Number of the network."),))
    run(tmp_path / "ar", write(tmp_path / "u.json.1", log(range(2), **{"geo.asn": 64496})), settings=settings)
    run(tmp_path / "ar", write(tmp_path / "u.json.2", log(range(2, 4))))
    assert query(tmp_path / "ar", "SELECT oob_mark, geo_asn FROM packets ORDER BY 1") == [
        (0, 64496), (1, 64496), (2, None), (3, None)
    ]  # fmt: skip


# -- damaged lines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b'{"timestamp": "2026-11-23T18:5\n',
        b"\0\0\0\0" + record(1),
        b"no JSON\r\n",
        b'"text"\n',
        b"null\n",
        b"7\n",
        b"[]\n",
        b"[" * 100_000 + b"\n",
        record(1)[:-1] + record(2),
        b'{"oob.time.sec": 1, "oob.time.sec": 2}\n',
        b'{"oob.time.sec": 1, "tcp.window": 65536}\n',
        b'{"oob.time.sec": 1, "tcp.window": "wide"}\n',
        b'{"oob.time.sec": 1, "oob.prefix": "\xff"}\n',
        b'{"oob.prefix": "without a time"}\n',
        b'{"timestamp": "yesterday"}\n',
        b'{"timestamp": "1960-01-01T00:00:00"}\n',
        b'{"timestamp": "99999-01-01T00:00:00"}\n',
        b'{"timestamp": {"a": "2026-11-23T00:00:00Z"}}\n',
    ],
)
def test_a_damaged_line_is_kept_apart_and_no_other(tmp_path: Path, line: bytes) -> None:
    path = write(tmp_path / "u.json.1", log(range(50)) + line + log(range(50, 100)))
    (result,) = run(tmp_path / "ar", path)
    assert (result.records, result.damaged, result.removed) == (100, 1, True)
    assert marks(tmp_path / "ar") == list(range(100))
    assert damaged(tmp_path / "ar") == line


def test_many_damaged_lines(tmp_path: Path) -> None:
    lines = [
        record(number) if number % 3 else b'{"oob.time.sec": "%d' % number + b"x" * 50 + b"\n" for number in range(900)
    ]
    (result,) = run(tmp_path / "ar", write(tmp_path / "u.json.1", b"".join(lines)))
    assert (result.records, result.damaged) == (600, 300)
    assert marks(tmp_path / "ar") == [number for number in range(900) if number % 3]
    assert damaged(tmp_path / "ar") == b"".join(lines[::3])


def test_the_last_line_counts_if_it_is_whole(tmp_path: Path) -> None:
    run(tmp_path / "ar", write(tmp_path / "u.json.1", log(range(3))[:-1]))
    run(tmp_path / "ar", write(tmp_path / "u.json.2", log(range(3, 6))[:-2]))
    assert marks(tmp_path / "ar") == [0, 1, 2, 3, 4]
    assert damaged(tmp_path / "ar") == record(5)[:-2]


def test_blank_lines_are_nothing(tmp_path: Path) -> None:
    data = b"\n\n" + log(range(2)) + b"\n   \n" + b"{\n"
    (result,) = run(tmp_path / "ar", write(tmp_path / "u.json.1", data))
    assert (result.records, damaged(tmp_path / "ar")) == (2, b"{\n")


def test_a_line_longer_than_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "BLOCK_BYTES", 1000)
    long = b'{"junk": "' + b"x" * 5000 + b"\n"
    run(tmp_path / "ar", write(tmp_path / "u.json.1", log(range(20)) + long + log(range(20, 40))))
    assert marks(tmp_path / "ar") == list(range(40))
    assert damaged(tmp_path / "ar") == long


def test_a_file_that_is_no_log_at_all(tmp_path: Path) -> None:
    data = random.Random(7).randbytes(200_000)
    (result,) = run(tmp_path / "ar", write(tmp_path / "u.json.1", data))
    assert result.records == 0
    assert damaged(tmp_path / "ar") == b"".join(line for line in io.BytesIO(data) if line.strip())


# -- closed or not ----------------------------------------------------------------------------------------------------


def test_a_locked_file_is_left(tmp_path: Path) -> None:
    path = write(tmp_path / "u.json.1", log(range(3)))
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        (result,) = run(tmp_path / "ar", path)
    assert (result.outcome, result.reason) == ("left", "it is locked: an output still has it open")
    assert path.exists()


def test_a_file_that_a_process_writes_is_left_but_not_one_that_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "u.json.1", log(range(3)))
    code = "import sys; file = open(sys.argv[1], sys.argv[2]); print(); sys.stdin.read()"
    for mode, outcome in (("a", "left"), ("r", "stored")):
        with subprocess.Popen(
            [sys.executable, "-c", code, path, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout
            process.stdout.readline()
            (result,) = run(tmp_path / "ar", path)
            assert result.outcome == outcome
            if mode == "a":
                assert result.reason == f"it is open for writing in process {process.pid}"
            process.communicate()


def test_a_file_of_a_writer_that_locks_nothing_must_be_old(tmp_path: Path) -> None:
    path = write(tmp_path / "u.json.1", log(range(3)))
    (result,) = run(tmp_path / "ar", path, settings=Settings())
    assert (result.outcome, "wait until it has not changed for 600 s" in result.reason) == ("left", True)
    with Journal(str(tmp_path / "ar")) as journal:
        assert compact(journal, str(path), Settings(keep=True), is_ours=True).outcome == "stored"
    os.utime(path, (0, path.stat().st_mtime - 601))
    assert run(tmp_path / "ar", path, settings=Settings())[0].outcome == "known"


@pytest.mark.parametrize("what", ["symlink", "fifo", "directory", "missing", "hardlink", "owner"])
def test_what_is_no_log_of_ours_is_refused(tmp_path: Path, what: str) -> None:
    path, other = tmp_path / "u.json.1", write(tmp_path / "secret", log(range(3)))
    match what:
        case "symlink":
            path.symlink_to(other)
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "hardlink":
            os.link(other, path)
        case "owner":
            os.chown(write(path, log(range(3))), 65534, 65534)
    with pytest.raises(OSError, match=r"symbolic link|no regular file|No such file|2 names|belongs to nobody"):
        run(tmp_path / "ar", path)
    assert other.exists()
    assert not files(tmp_path / "ar")


def test_files_of_the_daemon_s_user_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "u.json.1", log(range(3)))
    os.chown(path, 65534, 65534)
    path.chmod(0o640)
    run(tmp_path / "ar", path, settings=Settings(min_age=0, owners=(0, 65534)))
    status = os.stat(files(tmp_path / "ar")[0])
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, 65534, 0o640)


def test_an_archive_that_others_can_change_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "ar"
    archive.mkdir()
    os.chown(archive, 65534, 65534)
    with pytest.raises(NflowError, match="others than root can change what is in this directory"):
        run(archive)


@pytest.mark.parametrize(
    "name", ["a b.json.1", "ä'\"*[?]{x}.json.1", "n\nl.json.1", "-o", os.fsdecode(b"\xff\xfe.json.1")]
)
def test_hostile_names(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, log(range(3)) + b"{\n")
    decoy = write(tmp_path / "ä'\"xx{x}.json.1", log(range(90, 93)))
    (result,) = run(tmp_path / "ar", path)
    assert result.removed
    assert decoy.exists()
    assert marks(tmp_path / "ar") == [0, 1, 2]
    assert damaged(tmp_path / "ar") == b"{\n"
    assert [kept.name.isascii() for kept in (tmp_path / "ar" / "damaged").iterdir()] == [True]


def test_an_archive_with_a_hostile_name(tmp_path: Path) -> None:
    archive = tmp_path / "a'r [*] ?{x}"
    run(archive, write(tmp_path / "u.json.1", log(range(3))))
    assert marks(archive) == [0, 1, 2]


# -- once -------------------------------------------------------------------------------------------------------------


def test_a_repetition_finds_it_done(tmp_path: Path) -> None:
    path = write(tmp_path / "u.json.1", log(range(10)))
    keep = Settings(min_age=0, keep=True)
    assert [run(tmp_path / "ar", path, settings=keep)[0].outcome for _ in range(3)] == ["stored", "known", "known"]
    # logrotate goes on: the file is renamed, compressed, and at last compaction is to remove it.
    later = path.rename(tmp_path / "u.json.2")
    assert run(tmp_path / "ar", later, settings=keep)[0].outcome == "known"
    subprocess.run(["gzip", "-q", later], check=True)
    (result,) = run(tmp_path / "ar", tmp_path / "u.json.2.gz")
    assert (result.outcome, result.removed) == ("known", True)
    assert marks(tmp_path / "ar") == list(range(10))


def test_a_copy_elsewhere_is_neither_archived_nor_removed(tmp_path: Path) -> None:
    path = write(tmp_path / "u.json.1", log(range(10)))
    (tmp_path / "copies").mkdir()
    copy = Path(shutil.copy(path, tmp_path / "copies"))
    run(tmp_path / "ar", path)
    (result,) = run(tmp_path / "ar", copy)
    assert (result.outcome, result.reason) == ("left", f"it is a copy of {path}, which is archived")
    assert copy.exists()
    assert marks(tmp_path / "ar") == list(range(10))
    # Said to be of another firewall, they are other records.
    run(tmp_path / "ar", copy, settings=Settings(min_age=0, dvc="other"))
    assert query(tmp_path / "ar", "SELECT dvc, count(*) FROM packets GROUP BY dvc ORDER BY dvc") == [
        ("fw", 10),
        ("other", 10),
    ]


@pytest.mark.parametrize("before", [3, 900])
def test_of_a_file_that_has_grown_the_rest_is_archived(tmp_path: Path, before: int) -> None:
    path = write(tmp_path / "u.json.1", log(range(before)))
    keep = Settings(min_age=0, keep=True)
    run(tmp_path / "ar", path, settings=keep)
    with path.open("ab") as file:
        file.write(log(range(before, 1000)))
    (result,) = run(tmp_path / "ar", path, settings=keep)
    assert (result.outcome, result.records) == ("stored", 1000 - before)
    assert run(tmp_path / "ar", path)[0].outcome == "known"
    assert marks(tmp_path / "ar") == list(range(1000))
    assert sorted({found["start"] for found in footers(tmp_path / "ar")}) == [0, len(log(range(before)))]


def test_the_footer_names_the_source(tmp_path: Path) -> None:
    path = write(tmp_path / "u.json.1", log(range(10)))
    status = path.stat()
    run(tmp_path / "ar", path)
    (found,) = footers(tmp_path / "ar")
    assert (found["path"], found["device"], found["inode"]) == (str(path), status.st_dev, status.st_ino)
    assert (found["start"], found["head_bytes"]) == (0, status.st_size)


def test_an_empty_log_is_removed(tmp_path: Path) -> None:
    one, two = write(tmp_path / "u.json.1", b""), write(tmp_path / "u.json.2", b"")
    assert [result.removed for result in run(tmp_path / "ar", one, two)] == [True, True]


@pytest.mark.parametrize("how", ["append", "overwrite", "truncate"])
def test_a_file_that_changes_while_it_is_read_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = write(tmp_path / "u.json.1", log(range(100)))
    os.utime(path, (0, 0))
    add = Rows.add

    def change(rows: Rows, lines: bytes) -> None:
        add(rows, lines)
        if how == "append":
            with path.open("ab") as file:
                file.write(record(100))
        elif how == "overwrite":
            with path.open("r+b") as file:
                file.write(b"!")
        else:
            os.truncate(path, 1000)

    monkeypatch.setattr(Rows, "add", change)
    (result,) = run(tmp_path / "ar", path)
    assert (result.outcome, result.reason) == ("left", "it changed while it was read")
    assert path.exists()
    assert not files(tmp_path / "ar")
    monkeypatch.undo()
    run(tmp_path / "ar", path)
    assert set(marks(tmp_path / "ar")) >= set(range(1, 100 if how != "truncate" else 3))


def test_a_file_that_is_replaced_while_it_is_read_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "u.json.1", log(range(100)))
    add = Rows.add

    def replace(rows: Rows, lines: bytes) -> None:
        add(rows, lines)
        path.rename(tmp_path / "u.json.2")
        write(path, log(range(100, 200)))

    monkeypatch.setattr(Rows, "add", replace)
    assert run(tmp_path / "ar", path)[0].removed is False
    monkeypatch.undo()
    # Both are still there, and the first one is known under its new name.
    assert [result.outcome for result in run(tmp_path / "ar", path, tmp_path / "u.json.2")] == ["stored", "known"]
    assert marks(tmp_path / "ar") == list(range(200))
    assert os.listdir(tmp_path) == ["ar"]


def test_two_compactions_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "u.json.1", log(range(10)))
    with Journal(str(tmp_path / "ar")) as journal:
        with pytest.raises(NflowError, match="another compaction is at work"):
            run(tmp_path / "ar", path)
        assert compact(journal, str(path), NOW).records == 10
    assert marks(tmp_path / "ar") == list(range(10))


def test_a_full_disk(tmp_path: Path) -> None:
    path = write(tmp_path / "u.json.1", log(range(20_000), **{"oob.prefix": None}))
    text = b"".join(record(n, **{"oob.prefix": os.urandom(60).hex()}) for n in range(20_000))
    path = write(tmp_path / "u.json.1", text)
    with small_disk(tmp_path / "small", "1M") as disk:
        said = r"write to .*/small/ar: No space left on device; the log stays as it is: make room, then do it again"
        with pytest.raises(NflowError, match=said):
            run(disk / "ar", path)
        assert path.read_bytes() == text
        assert files(disk / "ar") == []
        subprocess.run(["mount", "-o", "remount,size=20M", disk], check=True)
        assert run(disk / "ar", path)[0].records == 20_000
        assert marks(disk / "ar") == list(range(20_000))


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    with Killer() as made:
        yield made


def kill(killer: Killer, tmp_path: Path, chance: random.Random) -> None:
    """Compact with a kill at a random point, sometimes another one in the repetition, then to the end."""
    archive = tmp_path / "ar"
    paths = sources(tmp_path / "logs")
    assert killer.compact(archive, paths) == 0
    exactly_once(archive, paths)
    points = killer.points(archive)
    shutil.rmtree(archive)
    sources(tmp_path / "logs")
    assert killer.compact(archive, paths, chance.randrange(1, points)) == -9
    # Whatever stands in the list can be read, and nothing stands there twice.
    found = marks(archive)
    assert len(found) == len(set(found))
    assert any(path.exists() for path in paths) or len(found) == COUNT
    while chance.random() < 0.5 and killer.compact(archive, paths, chance.randrange(1, points)) == -9:
        pass
    assert killer.compact(archive, paths) == 0
    exactly_once(archive, paths)


@pytest.mark.parametrize("seed", range(4))
def test_kill_9_at_a_random_point(killer: Killer, tmp_path: Path, seed: int) -> None:
    kill(killer, tmp_path, random.Random(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_kill_9_at_a_hundred_random_points(killer: Killer, tmp_path: Path, seed: int) -> None:
    kill(killer, tmp_path, random.Random(seed))


def test_the_journal_says_what_it_made(tmp_path: Path) -> None:
    run(tmp_path / "ar", write(tmp_path / "u.json.1", log(range(10))))
    (name,) = [name for name in os.listdir(tmp_path / "ar" / ".compact") if name != "lock"]
    found = json.loads((tmp_path / "ar" / ".compact" / name).read_text())
    assert (found["start"], found["end"], found["records"]) == (0, len(log(range(10))), 10)
