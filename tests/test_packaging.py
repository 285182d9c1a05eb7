# SPDX-License-Identifier: GPL-2.0-or-later
"""What is built has all that is in the tree: a wheel every module, a source distribution what builds it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "nflowlevel"
_TAKEN = ("LICENSE", "MANIFEST.in", "README.md", "bpf", "nflowlevel", "pyproject.toml", "setup.py")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as a fresh clone has it: nothing built, and nothing of what is built here reaches the checkout."""
    directory = tmp_path_factory.mktemp("tree")
    for name in _TAKEN:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source,
                directory / name,
                symlinks=True,
                ignore=shutil.ignore_patterns("__pycache__", "*.so", "_clib.c", "ulogd"),
            )
        else:
            shutil.copy(source, directory)
    return directory


def modules() -> set[str]:
    """Return all modules there are; `_cdefs` is there to build."""
    return {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py") if path.parent.name != "_cdefs"}


def test_wheel_has_every_module_and_no_sources(copy: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*command, "-w", tmp_path, copy], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("nflowlevel/")}
    assert {name for name in names if name.endswith(".py")} == modules()
    assert "nflowlevel/py.typed" in names
    data = {f"nflowlevel/sql/schema/{path.name}" for path in (PACKAGE / "sql" / "schema").glob("*.sql")}
    # What bcc compiles predicates with; the program itself is an object.
    data |= {f"nflowlevel/bpf/{path.name}" for path in (ROOT / "bpf").glob("*.h")}
    built = {"nflowlevel/prefilter/prefilter.bpf.o", "nflowlevel/daemon/ulogd"}
    assert data | built | {"nflowlevel/bpf/predicate.bcc.c"} <= names
    assert sum(name.endswith(".so") for name in names) == 1
    assert not [name for name in names if "_cdefs" in name]


def test_source_distribution_can_be_built_from(copy: Path, tmp_path: Path) -> None:
    program = f"from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    sources = {
        str(path.relative_to(ROOT))
        for directory in (PACKAGE / "_cdefs", PACKAGE / "sql" / "schema", ROOT / "bpf")
        for path in directory.iterdir()
        if path.is_file()
    }
    sources.add("nflowlevel/daemon/ulogd.c")
    assert {"pyproject.toml", "setup.py", "LICENSE", "README.md", *sources, *modules()} <= names
