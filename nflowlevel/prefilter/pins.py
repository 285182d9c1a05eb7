# SPDX-License-Identifier: GPL-2.0-or-later
"""Where prefilters are pinned: a directory each beneath /sys/fs/bpf/nflowlevel, and what says how it is laid out.

prog                                         the dispatcher: what rules name
counters state sources flows ports_seen global     maps of all generations
slots                                        the programs behind the dispatcher, with on_exit=keep
about                                        the layout's number and the rules; pinned last, so that it vouches for all

The kernel lets everybody create directories in a BPF file system that is mounted with the default mode, 1777. So a
directory counts only if it belongs to root, or to the user of this process, and nobody else can write to it. Only the
names above are ever removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nflowlevel.binding import bpffs
from nflowlevel.binding._lib import lib
from nflowlevel.binding.bpf import BPFMap
from nflowlevel.binding.descriptor import Descriptor
from nflowlevel.binding.elf import MapDefinition
from nflowlevel.errors import KernelError, NflowError, nearest
from nflowlevel.prefilter.conditions import PrefilterOptions
from nflowlevel.prefilter.generation import SHARED, SLOTS

LAYOUT: int = lib.NFL_PREFILTER_LAYOUT

#: Beneath the BPF file system.
DIRECTORY = "nflowlevel"

#: Everything that is ever pinned in the directory of a prefilter, in the order of its removal: what vouches goes first.
_NAMES = ("about", "about-new", "prog", SLOTS, *SHARED)

_KEY = bytes(4)
_HEAD = struct.Struct("=II")


class LayoutError(NflowError):
    """What is pinned under a name was made by a version of nflowlevel that arranges it in another way."""

    def __init__(self, name: str, found: int) -> None:
        self.found = found
        told = f"with layout {found}" if found else "without a description: it was not finished"
        super().__init__(
            f"prefilter {name!r} is pinned {told}, and this version has layout {LAYOUT} — take the rules that name it "
            f"out, then: nflowlevel prefilter remove {name}"
        )


def names(mount_point: Path) -> list[str]:
    """Return the names of all that are pinned, of whatever layout."""
    with contextlib.suppress(FileNotFoundError), _opened(mount_point / DIRECTORY) as parent:
        return sorted(entry.name for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False))
    return []


def require(directory: Path) -> None:
    """Raise NotSupported where there is no BPF file system, KernelError ENOENT where nothing of that name is pinned,
    KernelError EPERM where somebody else made the directory."""
    with _of_prefilter(directory):
        pass


@contextlib.contextmanager
def _of_prefilter(directory: Path) -> Iterator[int]:
    """Open the directory of a prefilter; errors as `require`."""
    mount_point = directory.parent.parent
    bpffs.require(mount_point)
    with contextlib.ExitStack() as stack:
        try:
            parent = stack.enter_context(_opened(directory.parent))
            yield stack.enter_context(_opened(directory, within=parent))
        except FileNotFoundError:
            hint = nearest(directory.name, names(mount_point)).removeprefix(" — ")
            hint = hint or f"pinned: {', '.join(names(mount_point)) or 'none'}"
            raise KernelError(f"open prefilter {directory.name!r}", errno.ENOENT, hint) from None


@contextlib.contextmanager
def _opened(directory: Path, *, within: int | None = None) -> Iterator[int]:
    """Open a directory that nobody else can have planted; KernelError EPERM where somebody can.

    `within` is the open directory above it, else that is the root of the BPF file system.
    """
    tried = f"open {directory}"
    with contextlib.ExitStack() as stack:
        if within is None:
            above = Descriptor.opened(directory.parent, os.O_PATH | os.O_DIRECTORY)
            within = stack.enter_context(above).fd
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            opened = stack.enter_context(Descriptor.opened(directory.name, flags, within=within))
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            hint = f"it is not a directory and nflowlevel did not make it: look at it, then rm {directory}"
            raise KernelError(tried, errno.EPERM, hint) from None
        found = os.fstat(opened.fd)
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            hint = f"user {found.st_uid} made it or others can write to it: look at what is in it, then remove it"
            raise KernelError(tried, errno.EPERM, hint)
        if found.st_dev != os.fstat(within).st_dev:
            raise KernelError(tried, errno.EPERM, "another file system is mounted there: unmount it")
        yield opened.fd


def make(directory: Path) -> None:
    """Make the directory of a new prefilter; FileExistsError where there is one of that name."""
    bpffs.require(directory.parent.parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory.parent, 0o700)
    with _opened(directory.parent) as parent:
        os.mkdir(directory.name, 0o700, dir_fd=parent)


def describe(directory: Path, rules: PrefilterOptions) -> None:
    """Say what is pinned in a directory; replaces what was said before in one step."""
    text = msgspec.json.encode(rules)
    value = _HEAD.pack(LAYOUT, len(text)) + text
    fresh = directory / "about-new"
    fresh.unlink(missing_ok=True)
    with BPFMap.create("about", MapDefinition(lib.BPF_MAP_TYPE_ARRAY, 4, len(value), 1, 0)) as about:
        about.update(_KEY, value)
        about.pin(fresh)
    fresh.rename(directory / "about")


def described(directory: Path) -> PrefilterOptions:
    """Return the rules of what is pinned; LayoutError where it is of another version."""
    require(directory)
    if not (directory / "about").exists():
        raise LayoutError(directory.name, 0)
    with BPFMap.pinned(directory / "about") as about:
        value = about.lookup(_KEY) or bytes(_HEAD.size)
    layout, size = _HEAD.unpack_from(value)
    if layout != LAYOUT:
        raise LayoutError(directory.name, layout)
    return msgspec.json.decode(value[_HEAD.size : _HEAD.size + size], type=PrefilterOptions)


def remove(directory: Path) -> None:
    """Remove what is pinned in the directory of a prefilter, of whatever layout.

    KernelError ENOTEMPTY where something is left that no prefilter has.
    """
    with _of_prefilter(directory) as fd:
        for name in _NAMES:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)
        left = sorted(os.listdir(fd))
    if left:
        hint = f"it holds something that nflowlevel did not pin: {', '.join(left)}"
        raise KernelError(f"remove {directory}", errno.ENOTEMPTY, hint)
    with _opened(directory.parent) as parent:
        os.rmdir(directory.name, dir_fd=parent)
