# SPDX-License-Identifier: GPL-2.0-or-later
"""DuckDB within bounds, and what is said where it is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nflowlevel.archive import engine
from nflowlevel.errors import NotSupported


def test_it_is_bounded_and_loads_nothing(tmp_path: Path) -> None:
    with engine.connect(str(tmp_path), threads=1, memory_bytes=100 << 20) as database:
        names = ("threads", "memory_limit", "temp_directory", "autoinstall_known_extensions", "enable_progress_bar")
        found = [database.execute(f"SELECT current_setting('{name}')").fetchone()[0] for name in names]
    assert found == [1, "100.0 MiB", str(tmp_path / "spill"), False, False]


def test_what_does_not_fit_goes_to_the_directory(tmp_path: Path) -> None:
    with engine.connect(str(tmp_path), memory_bytes=40 << 20) as database:
        database.execute("CREATE TABLE t AS SELECT range AS n, md5(range::VARCHAR) AS text FROM range(2_000_000)")
        assert database.execute("SELECT count(DISTINCT text) FROM t").fetchone() == (2_000_000,)
        assert list((tmp_path / "spill").iterdir())


def test_without_duckdb_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(NotSupported, match=r"pip install 'nflowlevel\[analytics\]'"):
        engine.duckdb()


@pytest.mark.parametrize("version", ["0.10.0", "1.4.4"])
def test_a_version_that_would_lose_rows_is_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr("duckdb.__version__", version)
    with pytest.raises(NotSupported, match=rf"found DuckDB {version}; needed: pip install --upgrade 'duckdb>=1\.5'"):
        engine.duckdb()


@pytest.mark.parametrize("version", ["1.5.0", "1.10.0", "2.1.0.dev3"])
def test_later_versions_are_taken(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr("duckdb.__version__", version)
    assert engine.duckdb().__version__ == version


def test_a_literal_holds_any_text(tmp_path: Path) -> None:
    text = 'it\'s a "text"; -- \\ \n'
    with engine.connect(str(tmp_path)) as database:
        assert database.execute(f"SELECT {engine.literal(text)}").fetchone() == (text,)
