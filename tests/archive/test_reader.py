# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files answer a span of time, and what breaks no query."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb
import pytest

from nflowlevel.archive.compaction import Settings, compact
from nflowlevel.archive.journal import Journal
from nflowlevel.archive.reader import escape_pattern, files, holds, is_archive, newest, stored_files
from tests.fix_archive import SECOND, log, marks, record

HOUR = 3600


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of ten logs, an hour each, of two firewalls."""
    tmp_path = tmp_path_factory.mktemp("archive")
    with Journal(str(tmp_path / "ar")) as journal:
        for hour in range(10):
            path = tmp_path / f"u.json.{hour}"
            begin = record(hour, **{"oob.time.sec": SECOND + hour * HOUR, "dvc": f"fw{hour % 2}"})
            path.write_bytes(
                begin + record(hour + 100, **{"oob.time.sec": SECOND + hour * HOUR + 60, "dvc": f"fw{hour % 2}"})
            )
            compact(journal, str(path), Settings(min_age=0))
    return tmp_path / "ar"


def hours(archive: Path, **span: object) -> list[int]:
    return [(file.first - SECOND) // HOUR for file in stored_files(archive, **span)]


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (None, None, range(10)),
        (0, 3, range(3)),
        (7, None, range(7, 10)),
        (8, 9, [8]),
        (20, 30, []),
        (6, 6, []),
    ],
)
def test_files_of_a_span_of_time(archive: Path, since: int | None, until: int | None, expected: list[int]) -> None:
    begin, end = (None if hour is None else SECOND + hour * HOUR for hour in (since, until))
    assert hours(archive, since=begin, until=end) == list(expected)


def test_the_edges_of_a_file(archive: Path) -> None:
    assert hours(archive, since=SECOND + 60, until=SECOND + 61) == [0]
    assert hours(archive, since=SECOND + 61, until=SECOND + HOUR) == []
    assert hours(archive, since=SECOND - 9, until=SECOND) == []
    assert hours(archive, since=SECOND - 9, until=SECOND + 1) == [0]


def test_of_one_firewall_and_the_newest(archive: Path) -> None:
    assert hours(archive, dvc="fw1") == [1, 3, 5, 7, 9]
    assert newest(archive) == SECOND + 9 * HOUR + 60
    assert newest(archive, "sums") is None
    assert files(archive, "sums") == []


def test_an_unknown_kind(archive: Path) -> None:
    with pytest.raises(ValueError, match="unknown relation 'packet' — did you mean 'packets'"):
        files(archive, "packet")


def test_what_is_unfinished_breaks_no_query(archive: Path, tmp_path: Path) -> None:
    archive = shutil.copytree(archive, tmp_path / "copy")
    day = Path(files(archive)[0]).parent
    good = Path(files(archive)[0]).read_bytes()
    (day / "185444-185544-0f3c-0-7.parquet.tmp").write_bytes(good[:100])
    (day / "cut.parquet").write_bytes(good[:100])
    (day / "185444-185544-0f3d-0-7.parquet").symlink_to("cut.parquet")
    (archive / ".compact" / "0f3c-0").mkdir()
    (archive / ".compact" / "0f3c-0" / "185444-185544-0f3c-0-7.parquet").write_bytes(b"")
    assert marks(archive) == sorted([*range(10), *range(100, 110)])


def test_whether_a_log_is_in_the_archive(tmp_path: Path) -> None:
    archive, path, data = tmp_path / "ar", tmp_path / "u.json.1", log(range(1000))
    assert not holds(archive, data, len(data))
    path.write_bytes(data)
    with Journal(str(archive)) as journal:
        compact(journal, str(path), Settings(min_age=0, keep=True, dvc="fw9"))
    assert holds(archive, data, len(data))
    assert not holds(archive, data, len(data) + 1)
    assert not holds(archive, log(range(1, 1000)), len(data))
    # Committed, but not at its place yet: who asks now reads the log.
    (name,) = [name for name in os.listdir(archive / ".compact") if name.endswith(".json")]
    (archive / ".compact" / name.removesuffix(".json")).mkdir()
    assert not holds(archive, data, len(data))


def test_what_looks_like_an_archive(archive: Path) -> None:
    assert is_archive(archive)
    assert not is_archive(archive.parent)
    assert not is_archive(archive / "missing")


def test_a_path_is_no_pattern(tmp_path: Path) -> None:
    path = tmp_path / "a[1]*?.parquet"
    duckdb.connect().execute("COPY (SELECT 7 AS n) TO '" + str(path) + "' (FORMAT parquet)")
    assert duckdb.connect().execute("SELECT n FROM read_parquet($1)", [escape_pattern(str(path))]).fetchall() == [(7,)]
