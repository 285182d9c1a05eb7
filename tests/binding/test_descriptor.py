# SPDX-License-Identifier: GPL-2.0-or-later
"""Descriptors with an owner: closed once, never lost, whatever interrupts Python."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.descriptor import Descriptor, check
from nflowlevel.errors import KernelError
from tests.fix_interrupt import interrupt_everywhere


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_closed_once() -> None:
    before = descriptors()
    owner = Descriptor.event()
    fd = owner.fd
    assert descriptors() == before + 1
    assert owner
    owner.close()
    assert not owner
    assert owner.fd == -1
    # The number is another file's now.
    other = os.open("/dev/null", os.O_RDONLY)
    assert other == fd
    owner.close()
    del owner
    os.fstat(other)
    os.close(other)
    assert descriptors() == before


def test_let_go() -> None:
    before = descriptors()
    owner = Descriptor.event()
    del owner
    assert descriptors() == before


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc")
    with Descriptor.opened(tmp_path / "a", os.O_RDONLY) as file:
        assert os.read(file.fd, 10) == b"abc"
        assert not os.get_inheritable(file.fd)
    with Descriptor.opened(tmp_path, os.O_RDONLY | os.O_DIRECTORY) as directory:
        with Descriptor.opened("a", os.O_RDONLY, within=directory.fd) as file:
            assert os.read(file.fd, 10) == b"abc"
        with pytest.raises(FileNotFoundError, match="'b'"):
            Descriptor.opened("b", os.O_RDONLY, within=directory.fd)


def test_given_away() -> None:
    owner = Descriptor.event()
    fd = owner.detach()
    owner.close()
    os.close(fd)
    owner.take(os.open("/dev/null", os.O_RDONLY))
    before = descriptors()
    owner.close()
    assert descriptors() == before - 1


def test_what_cannot_be_opened() -> None:
    owner = Descriptor()
    assert lib.nfl_descriptor_ioctl(owner.into, 99999, 0x894C) == -errno.EBADF
    assert owner.fd == -1
    assert lib.nfl_namespace_open(owner.into, b"/dev/null") == -errno.EINVAL
    assert lib.nfl_namespace_open(owner.into, b"/no/such") == -errno.ENOENT
    assert lib.nfl_netlink_open(owner.into, 31, -1, ffi.new("int *")) == -errno.EPROTONOSUPPORT
    with pytest.raises(KernelError, match=r"^do it: Operation not permitted — as root$"):
        check(-errno.EPERM, "do it", "as root")


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    """What pretends to be a namespace is not opened."""
    os.mkfifo(tmp_path / "ns")
    assert lib.nfl_namespace_open(Descriptor().into, os.fsencode(tmp_path / "ns")) == -errno.EINVAL


def test_interrupts(tmp_path: Path) -> None:
    def use() -> None:
        Descriptor.event()
        with Descriptor.opened(tmp_path, os.O_RDONLY | os.O_DIRECTORY):
            pass

    interrupt_everywhere(use, least=10)
