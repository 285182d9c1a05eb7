# SPDX-License-Identifier: GPL-2.0-or-later
"""DuckDB within bounds, and what is said where it is missing."""

from __future__ import annotations

import os
import subprocess
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


@pytest.mark.parametrize(
    ("group", "limits", "wanted"),
    [
        ("0::/a/b\n", {"a/memory.max": "314572800\n", "a/b/memory.max": "max\n"}, 300 << 20),
        ("0::/\n", {"memory.max": "209715200\n"}, 200 << 20),
        (
            "9:cpu:/a\n4:memory:/a\n",
            {"memory/a/memory.limit_in_bytes": "104857600\n", "a/memory.max": "7"},
            100 << 20,
        ),
        ("4:memory:/a\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ("odd\n", {}, None),
        (None, {}, None),
    ],
)
def test_memory_is_that_of_the_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str | None, limits: dict[str, str], wanted: int | None
) -> None:
    """In a container or a service with less memory than the machine, a part of the machine's would end in a kill."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if group is not None:
        (tmp_path / "cgroup").write_text(group)
    for name, text in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(engine, "_GROUP", str(tmp_path / "cgroup"))
    monkeypatch.setattr(engine, "_GROUPS", str(tmp_path))
    assert engine.memory() == (wanted or machine)
    database = engine.connect(str(tmp_path))
    (limit,) = database.execute("SELECT current_setting('memory_limit')").fetchone()
    assert limit == ("1.0 GiB" if wanted is None else f"{wanted / 2 / (1 << 20):.1f} MiB")


def test_memory_is_that_of_the_process() -> None:
    code = (
        "import resource; from nflowlevel.archive import engine; "
        "resource.setrlimit(resource.RLIMIT_AS, (700 << 20,) * 2); print(engine.memory())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) <= 700 << 20
