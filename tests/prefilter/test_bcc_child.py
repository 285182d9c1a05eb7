# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the child finds kernel headers; what it does with them, and its answers, are test_compiling.py's."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import pytest

from nflowlevel.prefilter import bcc_child
from nflowlevel.prefilter.bcc_child import Missing, find_headers

VARIABLE = "BCC_KERNEL_SOURCE"


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    directory = tmp_path / "scratch"
    directory.mkdir()
    return directory


def tree(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(root / name))
    return root


def kernel(modules: Path, release: str) -> Path:
    """Headers as Debian splits them."""
    tree(modules / release / "build", "include/generated/a.h", "arch/x86/include/generated/b.h")
    tree(modules / release / "source", "include/linux/c.h", "arch/x86/include/asm/d.h", "arch/x86/boot/e.h")
    return modules / release


def test_it_needs_nothing_but_the_standard_library() -> None:
    nodes = list(ast.walk(ast.parse(Path(bcc_child.__file__).read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert names <= sys.stdlib_module_names


def test_the_running_kernels_are_left_to_bcc(tmp_path: Path, scratch: Path) -> None:
    kernel(tmp_path, os.uname().release)
    kernel(tmp_path, "99.1.0-amd64")
    find_headers(scratch, tmp_path)
    assert os.environ[VARIABLE] == ""
    assert not any(scratch.iterdir())


def test_the_newest_of_another_kernel_are_put_together(tmp_path: Path, scratch: Path) -> None:
    for release in ("6.1.0-9-amd64", "6.1.0-56-amd64", "6.1.0-7-amd64"):
        kernel(tmp_path, release)
    (tmp_path / "7.0.0-empty").mkdir()  # a kernel without headers
    find_headers(scratch, tmp_path)
    assert os.environ[VARIABLE] == str(scratch)
    for part, name in (
        ("build", "include/generated/a.h"),
        ("build", "arch/x86/include/generated/b.h"),
        ("source", "include/linux/c.h"),
        ("source", "arch/x86/include/asm/d.h"),
    ):
        assert (scratch / name).read_text() == str(tmp_path / "6.1.0-56-amd64" / part / name)
    assert not (scratch / "arch/x86/boot").exists()


def test_headers_in_one_tree(tmp_path: Path, scratch: Path) -> None:
    one = tree(tmp_path / "headers", "include/linux/a.h", "include/generated/b.h")
    modules = tmp_path / "modules"
    (modules / "6.6.0").mkdir(parents=True)
    (modules / "6.6.0" / "build").symlink_to(one)
    find_headers(scratch, modules)
    assert (scratch / "include/linux/a.h").read_text() == str(one / "include/linux/a.h")
    assert (scratch / "include/generated/b.h").exists()


def test_none(tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "6.6.0").mkdir()
    (tmp_path / "6.6.0" / "build").symlink_to(tmp_path / "gone")
    with pytest.raises(Missing) as caught:
        find_headers(scratch, tmp_path)
    assert caught.value.what == "headers"
    assert caught.value.found == f"no {tmp_path}/{os.uname().release}/build, and no build directory of another kernel"


def test_the_users_own_choice(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(tmp_path, "99.1.0-amd64")
    monkeypatch.setenv(VARIABLE, str(scratch))
    find_headers(tmp_path / "unused", tmp_path)
    assert os.environ[VARIABLE] == str(scratch)
    monkeypatch.setenv(VARIABLE, "/none")
    with pytest.raises(Missing, match="headers"):
        find_headers(scratch, tmp_path)
