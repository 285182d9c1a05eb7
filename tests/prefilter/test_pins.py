# SPDX-License-Identifier: GPL-2.0-or-later
"""Directories of prefilters in the BPF file system, without a prefilter."""

from __future__ import annotations

import errno
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nflowlevel.errors import KernelError, NotSupported
from nflowlevel.prefilter import pins
from nflowlevel.prefilter.conditions import options_of
from tests.fix_nobody import run_as_nobody
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
    with pytest.raises(KernelError, match="pinned: none"):
        pins.remove(directory)


def test_it_is_closed_to_others(directory: Path) -> None:
    pins.make(directory)
    assert directory.stat().st_mode & 0o777 == directory.parent.stat().st_mode & 0o777 == 0o700


def test_elsewhere(tmp_path: Path) -> None:
    for use in (pins.make, pins.require, pins.described, pins.remove):
        with pytest.raises(NotSupported, match="no BPF file system"):
            use(tmp_path / pins.DIRECTORY / "some")


# -- what others planted ----------------------------------------------------------------------------------------------


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A BPF file system as the kernel mounts it by default: everybody may make directories in it."""
    mount_point = Path(tempfile.mkdtemp(prefix="nflowlevel-bpf-"))
    mount_point.chmod(0o755)
    subprocess.run(["mount", "-t", "bpf", "-o", "mode=1777", "bpf", mount_point], check=True)
    yield mount_point
    subprocess.run(["umount", mount_point], check=True)
    mount_point.rmdir()


def as_nobody(act: Callable[[], None]) -> None:
    def run() -> int:
        act()
        return 0

    assert run_as_nobody(run).status == 0


def refuses(directory: Path, match: str) -> None:
    """Everything that looks at the directory of a prefilter refuses, and nothing is gone afterwards."""
    for use in (pins.require, pins.described, pins.remove, pins.make):
        with pytest.raises(KernelError, match=match) as refused:
            use(directory)
        assert refused.value.errno == errno.EPERM


def test_a_directory_of_all_prefilters_that_somebody_else_made(everybodys: Path, tmp_path: Path) -> None:
    parent = everybodys / pins.DIRECTORY
    treasure = tmp_path / "prog"
    treasure.write_text("root's")

    def plant() -> None:
        parent.mkdir(mode=0o777)
        (parent / "ssh").symlink_to(tmp_path)

    as_nobody(plant)
    refuses(parent / "ssh", "user 65534 made it or others can write to it")
    with pytest.raises(KernelError, match="user 65534 made it"):
        pins.names(everybodys)
    assert treasure.read_text() == "root's"


def test_a_link_in_the_place_of_the_directory(everybodys: Path, tmp_path: Path) -> None:
    (tmp_path / "ssh").mkdir()
    (tmp_path / "ssh" / "about").write_text("root's")
    as_nobody(lambda: (everybodys / pins.DIRECTORY).symlink_to(tmp_path))
    refuses(everybodys / pins.DIRECTORY / "ssh", "it is not a directory and nflowlevel did not make it")
    assert (tmp_path / "ssh" / "about").read_text() == "root's"


def test_a_link_in_a_directory_of_roots(directory: Path, tmp_path: Path) -> None:
    pins.make(directory)
    other = directory.parent / "other"
    other.symlink_to(tmp_path)
    (tmp_path / "about").write_text("root's")
    with pytest.raises(KernelError, match="it is not a directory and nflowlevel did not make it"):
        pins.remove(other)
    other.unlink()
    assert (tmp_path / "about").read_text() == "root's"


def test_a_directory_that_others_can_write_to(directory: Path) -> None:
    pins.make(directory)
    directory.chmod(0o770)
    with pytest.raises(KernelError, match="others can write to it"):
        pins.remove(directory)
    directory.chmod(0o700)


def test_another_file_system_is_no_place_for_pins(directory: Path) -> None:
    pins.make(directory)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", directory], check=True)
    try:
        with pytest.raises(KernelError, match="another file system is mounted there"):
            pins.remove(directory)
    finally:
        subprocess.run(["umount", directory], check=True)


def test_what_no_prefilter_has_is_left_alone(directory: Path) -> None:
    pins.make(directory)
    pins.describe(directory, options_of({}))
    (directory / "about").rename(directory / "theirs")
    with pytest.raises(KernelError, match="something that nflowlevel did not pin: theirs"):
        pins.remove(directory)
    (directory / "theirs").unlink()
