# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the BPF file system is mounted, and mounting it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nflowlevel
from nflowlevel.binding.bpffs import hiding_netns, is_mounted, mount_bpffs, require
from nflowlevel.errors import KernelError, NotSupported
from tests.fix_netns import Netns
from tests.fix_nobody import run_as_nobody
from tests.fix_prefilter import bpffs, needs_bpf

__all__ = ["bpffs"]

pytestmark = [pytest.mark.kernel, needs_bpf]


def test_is_mounted(bpffs: Path) -> None:
    below = bpffs / "below"
    below.mkdir()
    assert is_mounted(bpffs)
    assert is_mounted(below)
    assert not is_mounted(bpffs.parent)
    assert not is_mounted(Path("/proc"))
    assert not is_mounted(Path(f"{bpffs}-longer"))
    below.rmdir()


def test_mount_and_again(tmp_path: Path) -> None:
    directory = tmp_path / "with a space"
    directory.mkdir()
    with pytest.raises(NotSupported, match="no BPF file system at"):
        require(directory)
    try:
        mount_bpffs(directory)
        require(directory)
        mount_bpffs(directory)
        assert (directory.stat().st_mode & 0o777) == 0o700
        assert subprocess.run(["grep", "-c", str(tmp_path), "/proc/self/mounts"], capture_output=True).stdout == b"1\n"
    finally:
        subprocess.run(["umount", directory], check=True)
    assert not is_mounted(directory)


def test_what_covers_it(tmp_path: Path) -> None:
    """`ip netns exec` mounts another sysfs over /sys: what was below is hidden."""
    mount_bpffs(tmp_path)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    try:
        assert not is_mounted(tmp_path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
        assert is_mounted(tmp_path)
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("name", ["\udcff", "\x0b\x85\u2028", "\u2003 \\ \n"])
def test_what_others_have_mounted_may_have_any_name(tmp_path: Path, name: str) -> None:
    """Ordinary users mount, too, by fusermount."""
    directory = tmp_path / name
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", name.replace("\n", ""), directory], check=True)
    try:
        below = directory / "é"
        below.mkdir()
        assert not is_mounted(below)
        mount_bpffs(below)
        try:
            assert is_mounted(below)
        finally:
            subprocess.run(["umount", below], check=True)
    finally:
        subprocess.run(["umount", directory], check=True)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="No such file or directory — there is no such directory"):
        mount_bpffs(tmp_path / "nowhere")

    def use() -> int:
        try:
            mount_bpffs("/mnt")
        except KernelError as error:
            print(error)
        return 0

    expected = "mount the BPF file system at /mnt: Operation not permitted — CAP_SYS_ADMIN is missing; run as root\n"
    assert run_as_nobody(use).output == expected


def test_ip_netns_exec_is_named(netns: Netns) -> None:
    """It hides what is mounted below /sys, and takes along what is mounted there."""
    code = """if True:
        from nflowlevel.binding import bpffs
        from nflowlevel.errors import NotSupported
        print(bpffs.hiding_netns())
        try:
            bpffs.require()
        except NotSupported as error:
            print(error)
        bpffs.mount_bpffs()
        print(repr(bpffs.hiding_netns()))
    """
    words = ["ip", "netns", "exec", netns.name, sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(Path(nflowlevel.__file__).parents[1])}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == [
        netns.name,
        f"pinning is not available: found no BPF file system at /sys/fs/bpf, which `ip netns exec {netns.name}` hides; "
        f"needed: the same command outside of it; where it needs the namespace, with --netns {netns.name}",
        "''",
    ]
    assert hiding_netns() == ""
