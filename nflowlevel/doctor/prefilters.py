# SPDX-License-Identifier: GPL-2.0-or-later
"""What somebody should know of prefilters: of those pinned or configured, and of rules that name a pin."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path

from nflowlevel.binding import bpf, bpffs
from nflowlevel.errors import KernelError, NotSupported
from nflowlevel.plugin.contract import Finding
from nflowlevel.prefilter import pins
from nflowlevel.prefilter.generation import shipped
from nflowlevel.prefilter.prefilter import Prefilter
from nflowlevel.prefilter.users import Users, standing, users, uses


def check(
    netns: str | None = None, configured: Collection[str] = (), mount_point: Path = bpffs.MOUNT_POINT
) -> Iterator[Finding]:
    """Judge what is pinned, what a configuration wants to pin, and rules of a namespace that name pins."""
    try:
        pinned = Prefilter.pinned(bpffs=mount_point)
    except PermissionError:
        # Who may not look mostly has none; a configuration makes it worth a line.
        if configured:
            yield Finding("hint", f"cannot see what is pinned below {mount_point}", "run as root")
        return
    except KernelError as error:
        yield Finding("problem", str(error))
        return
    if pinned or configured:
        yield from _check_machine(mount_point)
    for name in pinned:
        yield from _check_one(name, mount_point)
    for name in sorted({*configured} - {*pinned}):
        yield Finding("hint", f"prefilter {name} is not loaded", "the daemon loads it when it starts")
    yield from _check_names(netns, mount_point)


def _check_machine(mount_point: Path) -> Iterator[Finding]:
    """Judge what each prefilter needs."""
    if obstacle := bpf.obstacle():
        # It keeps whoever asks from loading them, which says nothing of a daemon that others have started.
        yield Finding("hint", f"cannot load prefilters: {obstacle}", "run as root, or with CAP_BPF")
    if netns := bpffs.hiding_netns(mount_point):
        yield Finding("hint", f"cannot see what is pinned: `ip netns exec {netns}` hides it", _outside(netns))
    elif not bpffs.is_mounted(mount_point):
        text = f"cannot pin prefilters: no BPF file system at {mount_point}"
        yield Finding("problem", text, "nflowlevel prefilter mount")
    try:
        shipped()
    except NotSupported as missing:
        yield Finding("problem", f"cannot load prefilters: {missing.found}", missing.needed)
    if slowness := bpf.slowness():
        remedy = "sysctl -w net.core.bpf_jit_enable=1, then reload them" if bpf.jit_is_on() is False else ""
        yield Finding("hint", f"prefilters are slower than they could be: {slowness}", remedy or "run as root")


def _outside(netns: str) -> str:
    return f"ask outside of it: nflowlevel doctor --netns {netns}"


def _check_one(name: str, mount_point: Path) -> Iterator[Finding]:
    try:
        found = standing(name, mount_point)
    except KernelError as error:
        yield Finding("problem", str(error))
        return
    if found.state == "other layout":
        text, _, remedy = found.told.partition(" — ")
        yield Finding("problem", text, remedy)
    elif found.state == "empty" and (asked := _few(users(name, mount_point))):
        text = f"prefilter {name} is empty, its process has ended: no packet matches, but {asked} asks it"
        remedy = "start the daemon that loads it, or remove it and load it with on_exit=keep"
        yield Finding("problem", text, remedy)


def _few(all_users: Users) -> str:
    """Return one of them, and how many more there are; "" where there is none."""
    asked = [user.partition(": -A ")[0] for user in all_users]
    return asked[0] + (f" and {len(asked) - 1} more" if len(asked) > 1 else "") if asked else ""


def _check_names(netns: str | None, mount_point: Path) -> Iterator[Finding]:
    """Find rules that name a pin which is not there, or cannot be seen."""
    directory = mount_point / pins.DIRECTORY
    for rule in _rules_naming(directory, netns):
        place, _, words = rule.partition(": ")
        path = _pin(words)
        if os.path.exists(path):
            continue
        if bpffs.is_mounted(mount_point):
            text = (
                f"{place} names {path}, where nothing is pinned: its table cannot be restored, nor a legacy one changed"
            )
            name = Path(path).relative_to(directory).parts[0]
            yield Finding(
                "problem", text, f"nflowlevel prefilter load {name}, with its rules; or delete that rule by its number"
            )
        else:
            text = f"{place} names {path}, and no BPF file system shows here whether that is pinned"
            hiding = bpffs.hiding_netns(mount_point)
            yield Finding("hint", text, _outside(hiding) if hiding else "mount it: nflowlevel prefilter mount")


def _rules_naming(directory: Path, netns: str | None) -> tuple[str, ...]:
    """Return the rules that name a pin of any prefilter; none of a namespace that cannot be entered."""
    try:
        # The directory of all prefilters stands for that of one; no table of ours has such a name.
        return uses("-", str(directory), netns=netns).rules
    except KernelError:
        return ()


def _pin(rule: str) -> str:
    words = shlex.split(rule)
    return words[words.index("--object-pinned") + 1]
