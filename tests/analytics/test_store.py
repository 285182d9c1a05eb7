# SPDX-License-Identifier: GPL-2.0-or-later
"""The store: what is damaged is told with its place, names of files are only names, and all goes with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nflowlevel.analytics import store as module
from nflowlevel.analytics.store import Damaged, DamagedLine, Store
from tests.fix_logs import lines, parquet_file, record


@pytest.fixture
def store() -> Iterator[Store]:
    """A store that is closed afterwards."""
    made = Store()
    yield made
    made.close()


def ask(store: Store, text: str) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = store.cursor().execute(text).fetchall()
    return found


GOOD = lines([record()])
BAD = [
    b'{"src_ip": "192.0.2.1"',
    b"5",
    b'{"src_ip": "192.0.2.1"}',
    b'{"oob.time.sec": 5, "ip.ttl": "x"}',
    b"\xff\xfe",
    b"[" * 90000,
]


def test_damaged_lines_have_their_numbers(store: Store) -> None:
    assert store.add_lines(GOOD + b"\n" + b"\n".join(BAD) + b"\n" + GOOD, "log", 10) == 2
    assert store.records == 2
    assert (store.damaged, len(store.damaged_lines)) == (6, 6)
    assert [line.line for line in store.damaged_lines] == [12, 13, 14, 15, 16, 17]
    assert {line.source for line in store.damaged_lines} == {"log"}
    assert store.damaged_lines[0].text == BAD[0].decode()
    assert len(store.damaged_lines[5].text) == 500
    assert ask(store, "SELECT COUNT(*) FROM packets") == [(2,)]


def test_equal_damaged_lines_have_different_numbers(store: Store) -> None:
    store.add_lines(b"x\n" + GOOD + b"x\nx\n", "log")
    assert [line.line for line in store.damaged_lines] == [1, 3, 4]


def test_all_damage_is_counted_and_some_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SHOWN", 3)
    store.add_lines(b"x\n" * 100, "log")
    assert (store.damaged, len(store.damaged_lines)) == (100, 3)


def test_each_kind_has_its_relation(store: Store) -> None:
    store.add_lines(GOOD + b'{"oob.time.sec": 5, "sum.name": "web", "sum.pkts": 7}\n', "log")
    assert ask(store, "SELECT us, sum_name, sum_pkts FROM sums") == [(5_000_000, "web", 7)]
    assert ask(store, "SELECT COUNT(*) FROM packets") == [(1,)]


@pytest.mark.parametrize(
    "name", ["it's.parquet", "a*b?[c].parquet", "é\n{}.parquet", "a\\*.parquet", "x'); DROP TABLE packets; --.parquet"]
)
def test_a_name_of_a_file_is_only_a_name(store: Store, tmp_path: Path, name: str) -> None:
    made = parquet_file(tmp_path / "a.parquet", [record()])
    hostile = made.rename(tmp_path / name)
    # What the pattern in the name would mean, too.
    parquet_file(tmp_path / "axb1c.parquet", [record(), record()])
    store.add_archives("packets", [str(hostile)])
    store.make_views()
    assert ask(store, "SELECT COUNT(*), MIN(src_ip) FROM packets") == [(1, "192.0.2.66")]


def test_archives_and_lines_are_one(store: Store, tmp_path: Path) -> None:
    store.add_archives("packets", [str(parquet_file(tmp_path / "a.parquet", [record(5)]))])
    store.add_lines(GOOD, "log")
    store.make_views()
    assert ask(store, "SELECT us FROM packets ORDER BY us DESC")[0] == (1_795_509_005_000_250,)
    assert ask(store, "SELECT COUNT(*) FROM packets") == [(2,)]


def test_columns_that_a_file_lacks_and_columns_of_others(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "old.parquet"
    old = "SELECT 5 AS oob_time_sec, 7 AS oob_time_usec, '192.0.2.1' AS src_ip, 1 AS other"
    store.cursor().execute(f"COPY ({old}) TO '{path}' (FORMAT parquet)")
    store.add_archives("packets", [str(path), str(parquet_file(tmp_path / "a.parquet", [record()]))])
    store.make_views()
    found = ask(store, "SELECT sec, us, src_ip, tcp_window FROM packets ORDER BY us")
    assert found == [(5, 5_000_007, "192.0.2.1", None), (1_795_509_000, 1_795_509_000_000_250, "192.0.2.66", 16384)]


def test_whose_a_file_is(store: Store, tmp_path: Path) -> None:
    packets = parquet_file(tmp_path / "a.parquet", [record()])
    sums = tmp_path / "b.parquet"
    store.cursor().execute(f"COPY (SELECT 'x' AS sum_name, 5::BIGINT AS us) TO '{sums}' (FORMAT parquet)")
    found = store.relations_of([str(packets), str(sums)])
    assert (found["packets"], found["sums"]) == ([str(packets)], [str(sums)])


def test_rows_that_are_remembered(store: Store) -> None:
    columns = {"ip": "VARCHAR", "asn": "BIGINT"}
    store.remember("places", columns, [("192.0.2.1", 5), ("it's", None)])
    store.remember("places", columns, [])
    store.remember("places", columns, [("x", 7)])
    assert ask(store, "SELECT * FROM places ORDER BY ip") == [("192.0.2.1", 5), ("it's", None), ("x", 7)]


def test_nothing_is_left() -> None:
    store = Store()
    directory = store.directory
    assert directory.stat().st_mode & 0o777 == 0o700
    store.add_lines(GOOD, "log")
    store.close()
    assert not directory.exists()
    store.close()


def test_memory_is_bounded() -> None:
    store = Store("64MiB")
    try:
        ((limit,),) = ask(store, "SELECT current_setting('memory_limit')")
        assert limit == "64.0 MiB"
        assert store.memory_bytes == 64 << 20
        ((spill,),) = ask(store, "SELECT current_setting('temp_directory')")
        assert str(spill).startswith(str(store.directory))
    finally:
        store.close()


def test_no_bar_is_drawn_into_a_file(store: Store) -> None:
    """DuckDB would draw one into what `find --json` writes to a file, after two seconds."""
    assert ask(store, "SELECT current_setting('enable_progress_bar')") == [(False,)]


def test_no_extension_comes_from_anywhere(store: Store) -> None:
    ((install, load),) = ask(
        store, "SELECT current_setting('autoinstall_known_extensions'), current_setting('autoload_known_extensions')"
    )
    assert (install, load) == (False, False)


def test_what_is_shown_of_damage() -> None:
    shown = repr(Damaged(30, [DamagedLine("a\x1b.json", 7, "cut", "x\x1b[2J")] * 30))
    assert shown.splitlines()[:2] == ["30 damaged lines or files", "a\\x1b.json:7: cut: x\\x1b[2J"]
    assert len(shown.splitlines()) == 22
    assert repr(Damaged(1, [DamagedLine("a", 0, "cut", "")])).endswith("\na: cut")
    assert len(Damaged(30, [])) == 30
    assert [*Damaged(0, [])] == []
