# SPDX-License-Identifier: GPL-2.0-or-later
"""Directories of prefilters in the BPF file system, without a prefilter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nflowlevel.errors import KernelError, NotSupported
from nflowlevel.prefilter import pins
from nflowlevel.prefilter.conditions import options_of
from tests.fix_prefilter import bpffs, needs_bpf

__all__ = ["bpffs"]

pytestmark = [pytest.mark.kernel, needs_bpf]


@pytest.fixture
def directory(bpffs: Path) -> Iterator[Path]:
    made = bpffs / pins.DIRECTORY / "some"
    yield made
    if made.is_dir():
        pins.remove(made)


def test_described(directory: Path) -> None:
    pins.make(directory)
    for rules in (options_of({}), options_of({"ignore": [f"10.{n >> 8}.{n & 255}.0/24" for n in range(20_000)]})):
        pins.describe(directory, rules)
        assert pins.described(directory) == rules
        assert [path.name for path in directory.iterdir()] == ["about"]


def test_a_description_that_was_not_finished_is_replaced(directory: Path) -> None:
    pins.make(directory)
    pins.describe(directory, options_of({}))
    (directory / "about").rename(directory / "about-new")
    pins.describe(directory, options_of({"sample": 2}))
    assert pins.described(directory).sample == 2


def test_names(directory: Path, bpffs: Path) -> None:
    assert pins.names(bpffs / "nowhere") == []
    pins.make(directory)
    assert pins.names(bpffs) == ["some"]
    with pytest.raises(FileExistsError):
        pins.make(directory)
    pins.remove(directory)
    assert pins.names(bpffs) == []
    with pytest.raises(KernelError, match="pinned are: none"):
        pins.remove(directory)


def test_it_is_closed_to_others(directory: Path) -> None:
    pins.make(directory)
    assert directory.stat().st_mode & 0o777 == directory.parent.stat().st_mode & 0o777 == 0o700


def test_elsewhere(tmp_path: Path) -> None:
    for use in (pins.make, pins.require, pins.described, pins.remove):
        with pytest.raises(NotSupported, match="no BPF file system"):
            use(tmp_path / pins.DIRECTORY / "some")
