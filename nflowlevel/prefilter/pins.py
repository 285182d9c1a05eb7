# SPDX-License-Identifier: GPL-2.0-or-later
"""Where prefilters are pinned: a directory each beneath /sys/fs/bpf/nflowlevel, and what says how it is laid out.

prog                                         the dispatcher: what rules name
counters state sources flows ports_seen global     maps of all generations
slots                                        the programs behind the dispatcher, with on_exit=keep
about                                        the layout's number and the rules; pinned last, so that it vouches for all
"""

from __future__ import annotations

import contextlib
import errno
import struct
from pathlib import Path

import msgspec

from nflowlevel.binding import bpffs
from nflowlevel.binding._lib import lib
from nflowlevel.binding.bpf import BPFMap
from nflowlevel.binding.elf import MapDefinition
from nflowlevel.errors import KernelError, NflowError, nearest
from nflowlevel.prefilter.conditions import PrefilterOptions

LAYOUT: int = lib.NFL_PREFILTER_LAYOUT

#: Beneath the BPF file system.
DIRECTORY = "nflowlevel"

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
    with contextlib.suppress(FileNotFoundError):
        return sorted(path.name for path in (mount_point / DIRECTORY).iterdir() if path.is_dir())
    return []


def require(directory: Path) -> None:
    """Raise NotSupported where there is no BPF file system, KernelError ENOENT where nothing of that name is pinned."""
    mount_point = directory.parent.parent
    bpffs.require(mount_point)
    if not directory.is_dir():
        hint = nearest(directory.name, names(mount_point)).removeprefix(" — ")
        hint = hint or f"pinned are: {', '.join(names(mount_point)) or 'none'}"
        raise KernelError(f"open prefilter {directory.name!r}", errno.ENOENT, hint)


def make(directory: Path) -> None:
    """Make the directory of a new prefilter; FileExistsError where there is one of that name."""
    bpffs.require(directory.parent.parent)
    directory.parent.mkdir(mode=0o700, exist_ok=True)
    directory.mkdir(mode=0o700)


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
    """Remove all that is pinned in a directory, of whatever layout."""
    require(directory)
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
