# SPDX-License-Identifier: GPL-2.0-or-later
"""A segment gives back what was written, and what is left of it after a crash or bit rot."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.spool import segment
from nflowlevel.spool.rows import Rows
from nflowlevel.spool.segment import Growing, Segment, find, record, records
from tests.fix_lines import file_size_limit
from tests.fix_rows import form, numbers, rows_of

__all__ = ["form"]


def append(growing: Growing, rows: Rows) -> None:
    growing.append(rows, record(rows))


def written(directory: Path, *parts: Rows) -> Segment:
    """Write a segment and leave it as a kill would."""
    growing = Growing(str(directory), parts[0].first)
    for rows in parts:
        append(growing, rows)
    os.close(growing.fd)
    return growing.segment


def read(segment: Segment) -> list[int]:
    return [number for _, rows in records(segment.read(0, segment.size)) for number in numbers(rows)]


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def test_rows_come_back_with_their_layout(tmp_path: Path) -> None:
    parts = [rows_of(7, 3), rows_of(10, 2, layout=("a\tb", "é", "oob.time")), rows_of(12, 1)]
    segment = written(tmp_path, *parts)
    assert [rows for _, rows in records(segment.read(0, segment.size))] == parts
    assert (segment.first, segment.last, segment.size) == (7, 12, os.stat(segment.path).st_size)
    assert os.stat(segment.path).st_mode & 0o777 == 0o600


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    growing = Growing(str(tmp_path), 1)
    append(growing, rows_of(1, 3))
    size = growing.segment.size
    append(growing, rows_of(4, 3))
    data = growing.segment.read(size, growing.segment.size)
    assert [numbers(rows) for _, rows in records(data)] == [[4, 5, 6]]
    os.close(growing.fd)


def test_a_name_tells_the_numbers(tmp_path: Path) -> None:
    growing = Growing(str(tmp_path), 255)
    assert names(tmp_path) == ["00000000000000ff.rows"]
    append(growing, rows_of(255, 3))
    growing.complete()
    os.close(growing.fd)
    assert names(tmp_path) == ["00000000000000ff-0000000000000101.rows"]
    found = find(str(tmp_path))
    assert [(each.first, each.last, each.size) for each in found] == [(255, 257, growing.segment.size)]
    assert read(found[0]) == [255, 256, 257]


def test_segments_are_found_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for first in (4096, 7, 300):
        written(tmp_path, rows_of(first, 2))
    (tmp_path / "state").touch()
    (tmp_path / "0000000000000001.rows.damaged").touch()
    assert [(each.first, each.last) for each in find(str(tmp_path))] == [(7, 8), (300, 301), (4096, 4097)]
    assert [each.last for each in find(str(tmp_path))] == [8, 301, 4097]


@given(st.data())
def test_any_torn_end_is_cut_off(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    directory = tmp_path_factory.mktemp("torn")
    segment = written(directory, rows_of(1, 3), rows_of(4, 3))
    second = sum(map(len, record(rows_of(4, 3))))
    missing = data.draw(st.integers(1, second))
    os.truncate(segment.path, segment.size - missing)
    if data.draw(st.booleans()):
        os.truncate(segment.path, segment.size)  # a power failure: the size is there, the data is zeros
    (found,) = find(str(directory))
    assert read(found) == [1, 2, 3]
    assert os.stat(found.path).st_size == found.size == segment.size - second


@pytest.mark.parametrize("size", [0, 5, 40, 70])
def test_a_segment_with_nothing_but_a_torn_record_goes(tmp_path: Path, size: int) -> None:
    segment = written(tmp_path, rows_of(1, 3))
    os.truncate(segment.path, size)
    assert find(str(tmp_path)) == []
    assert names(tmp_path) == []


def _heads(size: int) -> bytes:
    """Return heads whose checksums are right, each of a record that takes all the rest, and whose body is not."""
    data = bytearray()
    while len(data) < size // 8:
        rest = struct.pack("<IIIIQ", 0, 2, size - len(data) - 34, 1, 1)
        data += b"NFR1" + zlib.crc32(rest).to_bytes(4, "little") + rest
    return bytes(data).ljust(size, b"x")


@pytest.mark.parametrize("data", [b"NFR1" * (1 << 20), _heads(1 << 20)], ids=["magic", "heads"])
def test_what_only_looks_like_records_is_not_looked_at_for_ever(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0

    def counted(data: bytes, value: int = 0) -> int:
        nonlocal looked_at
        looked_at += len(data)
        return crc32(data, value)

    crc32 = zlib.crc32
    monkeypatch.setattr(zlib, "crc32", counted)
    looks = Mock(wraps=segment._size_at)
    monkeypatch.setattr(segment, "_size_at", looks)
    assert not [*records(data)]
    assert looked_at < 200 << 20
    assert looks.call_count < 200_000


def test_a_segment_of_another_format_is_set_aside(tmp_path: Path) -> None:
    segment = written(tmp_path, rows_of(1, 3))
    Path(segment.path).write_bytes(Path(segment.path).read_bytes().replace(b"NFR1", b"NFR9"))
    assert find(str(tmp_path)) == []
    assert names(tmp_path) == ["0000000000000001.rows.damaged"]


@given(st.data())
def test_a_damaged_byte_costs_one_record(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    directory = tmp_path_factory.mktemp("rot")
    segment = written(directory, rows_of(1, 3), rows_of(4, 3), rows_of(7, 3))
    whole = bytearray(segment.read(0, segment.size))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    hit = place // (len(whole) // 3)
    expected = [n for n in range(1, 10) if (n - 1) // 3 != hit]
    assert [n for _, rows in records(bytes(whole)) for n in numbers(rows)] == expected


@given(st.binary(max_size=300))
def test_anything_may_be_in_a_file(data: bytes) -> None:
    assert list(records(data)) == []
    good = b"".join(record(rows_of(1, 2)))
    assert [numbers(rows) for _, rows in records(data + good)] == [[1, 2]]


def test_what_the_disk_does_not_take_is_taken_back(tmp_path: Path) -> None:
    growing = Growing(str(tmp_path), 1)
    append(growing, rows_of(1, 3))
    size = growing.segment.size
    with file_size_limit(size + 30), pytest.raises(OSError, match="too large"):
        append(growing, rows_of(4, 3))
    assert os.stat(growing.segment.path).st_size == growing.segment.size == size
    assert not growing.torn
    append(growing, rows_of(4, 1))
    assert read(growing.segment) == [1, 2, 3, 4]
    os.close(growing.fd)


def test_what_cannot_be_taken_back_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growing = Growing(str(tmp_path), 1)

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "ftruncate", fail)
    with file_size_limit(30), pytest.raises(OSError, match="too large"):
        append(growing, rows_of(1, 3))
    assert growing.torn
    os.close(growing.fd)


def test_a_deleted_segment_takes_nothing(tmp_path: Path) -> None:
    growing = Growing(str(tmp_path), 1)
    os.unlink(growing.segment.path)
    with pytest.raises(FileNotFoundError, match="deleted while in use"):
        append(growing, rows_of(1, 3))
    os.close(growing.fd)


def test_reading_survives_the_renaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growing = Growing(str(tmp_path), 1)
    append(growing, rows_of(1, 3))
    real = open

    def open_late(*arguments: object, **options: object) -> object:
        monkeypatch.undo()
        growing.complete()
        return real(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("builtins.open", open_late)
    assert read(growing.segment) == [1, 2, 3]
    os.close(growing.fd)


def test_a_segment_that_is_gone_is_an_error(tmp_path: Path) -> None:
    segment = written(tmp_path, rows_of(1, 3))
    os.unlink(segment.path)
    with pytest.raises(FileNotFoundError):
        segment.read(0, segment.size)


def test_rows_between() -> None:
    segment = Segment("", 10, 19, 1)
    assert [segment.rows_between(*span) for span in ((0, 99), (9, 19), (10, 19), (0, 9), (19, 30), (12, 15))] == [
        10,
        10,
        9,
        0,
        0,
        3,
    ]


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return what will have how many bytes are read of each segment."""
    sizes: list[int] = []
    read = Segment.read

    def noting(self: Segment, offset: int, size: int) -> bytes:
        sizes.append(min(size, self.size) - offset)
        return read(self, offset, size)

    monkeypatch.setattr(Segment, "read", noting)
    return sizes


@pytest.mark.parametrize("last", [9, None])
def test_large_files_of_zeros_do_not_hold_up_the_start(
    tmp_path: Path, last: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = counting(monkeypatch)
    written(tmp_path, rows_of(70_000, 3))
    for number in range(20):
        first = 1 + 1000 * number
        with (tmp_path / segment._name(first, last and first + last)).open("wb") as file:
            file.truncate(64 << 20)
    told: list[str] = []
    found = find(str(tmp_path), said=lambda path, why: told.append(why))
    assert found[-1].last == 70_002, "the segment of the last run is there"
    assert sum(sizes) <= (256 << 20) + 100 * 64
    assert len(told) == 17, "three files are as much as is looked through besides the segment"
    assert set(told) == {"with all that is damaged here it is too much to look through at one start"}


def test_overlapping_files_are_not_all_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = counting(monkeypatch)
    head = b"".join(record(rows_of(100, 3)))
    for number in range(10):
        with (tmp_path / segment._name(100, 200 + number)).open("wb") as file:
            file.write(head)
            file.truncate(64 << 20)
    find(str(tmp_path))
    assert sum(sizes) <= (256 << 20) + 100 * 64


def test_very_many_foreign_files_keep_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "_MOST_RENAMED", 10)
    written(tmp_path, rows_of(70_000, 3))
    for number in range(50):
        (tmp_path / f"{number}.rows").touch()
        (tmp_path / segment._name(number + 1, number)).write_bytes(b"x" * 99)
    told: list[str] = []
    (found,) = find(str(tmp_path), said=lambda path, why: told.append(why))
    assert (found.first, found.last) == (70_000, 70_002)
    assert len(told) == 100
    assert len([name for name in names(tmp_path) if name.endswith(".damaged")]) == 10
    assert sum("it keeps its name" in why for why in told) == 90
