# SPDX-License-Identifier: GPL-2.0-or-later
"""DuckDB as an engine: rows, frames, tables; several threads at once; what it cannot read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from nflowlevel.analytics.engine import DuckDB
from nflowlevel.analytics.store import Store
from nflowlevel.errors import NotSupported
from tests.fix_logs import lines, record


@pytest.fixture
def engine() -> Iterator[DuckDB]:
    """An engine with a hundred packets."""
    store = Store()
    store.add_lines(lines(record(number) for number in range(100)), "log")
    yield DuckDB(store)
    store.close()


def test_forms_of_an_answer(engine: DuckDB) -> None:
    relation = engine.relation("SELECT sec - sec % 60 AS minute, COUNT(*) AS n FROM packets GROUP BY 1 ORDER BY 1")
    assert engine.columns(relation) == ("minute", "n")
    rows = engine.rows(relation)
    assert [n for _, n in rows] == [60, 40]
    assert engine.rows(relation, 1) == rows[:1]
    assert engine.df(relation)["n"].tolist() == [60, 40]
    assert engine.arrow(relation).column("n").to_pylist() == [60, 40]


def test_threads(engine: DuckDB) -> None:
    def count(number: int) -> int:
        text = f"SELECT COUNT(*) AS n FROM packets WHERE sec % 10 = {number % 10}"
        return int(engine.rows(engine.relation(text))[0][0])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(count, range(40))) == [10] * 40


def test_a_missing_package_is_named(engine: DuckDB, monkeypatch: pytest.MonkeyPatch) -> None:
    relation = engine.relation("SELECT 1 AS a")
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(NotSupported, match="pip install pandas"):
        engine.df(relation)
    with pytest.raises(NotSupported, match=r"pip install 'nflowlevel\[columns\]'"):
        engine.arrow(relation)


def test_what_is_elsewhere(engine: DuckDB) -> None:
    engine.store.remote.append("gs://bucket/archive")
    with pytest.raises(NotSupported, match=r"gs://bucket/archive.*log\.on\(spark\)"):
        engine.relation("SELECT 1")
