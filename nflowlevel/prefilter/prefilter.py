# SPDX-License-Identifier: GPL-2.0-or-later
"""The BPF prefilter: a program that decides in the kernel, in 0.1 µs, which packets a rule logs, and counts the rest.

    with nfl.Prefilter("ssh", ignore=["10.1.0.0/16"], dports=[22], tcp_flags="syn", rate=100, burst=20) as pre:
        pre.pin()                   # pre.path is what iptables' --object-pinned takes
        print(pre.counters())
        pre.update(sample=10)

A firewall's rule names a dispatcher that never changes. Behind it stands a generation: rules, networks and the program
verified with them. `update` loads the next one beside it and puts it in its place by one store, so that each packet
sees the old rules or the new. Counters, and what is known of sources and flows, belong to all generations.

When the last process that has it open ends, the kernel empties the dispatcher's slots and its rules match no packet;
with `on_exit="keep"` the slots are pinned as well, and all goes on. What is pinned stays until `remove()`; before that
no rule of iptables may name it any more, or every later change of that rule's table fails.
"""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import msgspec

from nflowlevel.binding._lib import lib
from nflowlevel.binding.bpf import BPFMap, Program
from nflowlevel.binding.bpffs import MOUNT_POINT, mount_bpffs
from nflowlevel.binding.elf import Code
from nflowlevel.errors import KernelError
from nflowlevel.prefilter import pins
from nflowlevel.prefilter.attach import Attachment, attach
from nflowlevel.prefilter.conditions import FIXED, PrefilterOptions, changed, options_of
from nflowlevel.prefilter.counters import PrefilterCounters, Top, counters, top_ports, top_sources
from nflowlevel.prefilter.generation import SHARED, SLOTS, dispatcher, generation, shared_maps, shipped
from nflowlevel.prefilter.pins import LayoutError
from nflowlevel.prefilter.rules import Rules

__all__ = ["LayoutError", "Prefilter", "PrefilterCounters", "Top", "mount_bpffs"]

_NAME = re.compile("[A-Za-z0-9_-]{1,64}")

#: Of maps with one entry, and the slot that the dispatcher calls.
_FIRST = bytes(4)
#: The slot that a predicate in the first one calls.
_BEHIND = struct.pack("=I", lib.NFL_PREFILTER_BEHIND)


class Prefilter:
    """A prefilter by name. Call `load()`, or use it as a context manager, which loads it and closes it at the end."""

    def __init__(self, name: str, *, bpffs: str | os.PathLike[str] = MOUNT_POINT, **rules: Unpack[Rules]) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"prefilter name {name!r}: must be 1 to 64 letters, digits, '_' and '-'")
        self.name = name
        #: Where it is pinned, or would be.
        self.directory = Path(bpffs) / pins.DIRECTORY / name
        self.rules = options_of(rules)
        self._dispatcher: Program | None = None
        self._maps: dict[str, BPFMap] = {}
        self._attachments: list[Attachment] = []
        self._predicate: Code | None = None

    def __repr__(self) -> str:
        rules = ", ".join(f"{name} {value}" for name, value in changed(self.rules).items())
        state = "not loaded" if self._dispatcher is None else "loaded"
        return f"<Prefilter {self.name!r}, {state}: {rules or 'all packets'}>"

    # -- life ---------------------------------------------------------------------------------------------------------

    def load(self) -> Self:
        """Load it into the kernel, so that it can be attached; NotSupported or KernelError if this is not possible."""
        if self._dispatcher is not None:
            return self
        try:
            self._maps = shared_maps(self.rules)
            self._exchange(self.rules)
            self._dispatcher = dispatcher(self._maps)
            if self._predicate is not None:
                with Program.load("nfl_predicate", self._predicate, self.maps, shipped().license) as program:
                    self.set_predicate(program)
        except BaseException:
            self.close()
            raise
        return self

    def pin(self) -> None:
        """Give it its name in the BPF file system, where rules and other processes find it.

        Raises KernelError EEXIST if the name is taken (see `open` and `take`), LayoutError if another version took it.
        """
        dispatcher = self._loaded()
        try:
            pins.make(self.directory)
        except FileExistsError:
            pins.described(self.directory)
            hint = f"Prefilter.open({self.name!r}) opens it, nflowlevel prefilter remove {self.name} removes it"
            raise KernelError(f"pin prefilter {self.name!r}", errno.EEXIST, hint) from None
        try:
            for name in (*SHARED, *((SLOTS,) if self.rules.on_exit == "keep" else ())):
                self._maps[name].pin(self.directory / name)
            dispatcher.pin(self.directory / "prog")
            pins.describe(self.directory, self.rules)
        except BaseException:
            pins.remove(self.directory)
            raise

    def update(self, **changes: Unpack[Rules]) -> None:
        """Change rules, all at once: each packet sees either all old rules or all new ones.

        Without changes, it restores the program that the end of another process removed.
        """
        self._loaded()
        rules = options_of(changes, self.rules)
        for name in FIXED:
            if getattr(rules, name) != getattr(self.rules, name):
                raise ValueError(f"{name} of prefilter {self.name!r} cannot change while it is loaded")
        self._exchange(rules, _BEHIND if self._slots.lookup(_BEHIND) else _FIRST)
        self.rules = rules
        if self.is_pinned:
            pins.describe(self.directory, rules)

    def set_predicate(self, program: Program | None) -> None:
        """Let your own program see each packet first; None removes it.

        The program calls slot NFL_PREFILTER_BEHIND of the map `slots` to accept a packet. Otherwise it counts it as
        NFL_FILTERED_PREDICATE in `counters` and returns 0: see bpf/README.md.
        """
        self._loaded()
        if program is None:
            self._exchange(self.rules, _FIRST)
            self._slots.delete(_BEHIND)
        else:
            self._exchange(self.rules, _BEHIND)
            self._slots.update(_FIRST, struct.pack("=i", program.fd))

    def close(self) -> None:
        """Close the descriptors; pins stay, and so do attached rules if `on_exit` is keep. May be called again."""
        while self._attachments:
            self._attachments.pop().release()
        maps, self._maps = self._maps, {}
        dispatcher, self._dispatcher = self._dispatcher, None
        for owner in (dispatcher, *maps.values()):
            if owner is not None:
                owner.close()

    def remove(self) -> None:
        """Remove the pins, and close."""
        pins.remove(self.directory)
        self.close()

    def __enter__(self) -> Self:
        return self.load()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- in the firewall ----------------------------------------------------------------------------------------------

    def attach(
        self,
        *,
        hooks: Collection[str] = ("input",),
        group: int | None = None,
        prefix: str = "",
        snaplen: int = 0,
        queue_threshold: int = 0,
        mark: int | None = None,
        mask: int | None = None,
        priority: int | None = None,
        netns: str | None = None,
    ) -> Attachment:
        """Log packets that match at these hooks to `group`, or set `mark`, by our own nftables rules: see attach.py."""
        attachment = attach(
            self.prog_fd,
            self.name,
            hooks=hooks,
            group=group,
            prefix=prefix,
            snaplen=snaplen,
            queue_threshold=queue_threshold,
            mark=mark,
            mask=mask,
            priority=priority,
            on_exit=self.rules.on_exit,
            netns=netns,
        )
        self._attachments.append(attachment)
        return attachment

    def detach(self) -> None:
        """Remove the rules that `attach` made; may be called again."""
        while self._attachments:
            self._attachments.pop().detach()

    # -- finding it again ---------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, name: str, *, bpffs: str | os.PathLike[str] = MOUNT_POINT) -> Self:
        """Open the prefilter pinned under a name, with its rules; this changes nothing."""
        pre = cls(name, bpffs=bpffs)
        pre.rules = pins.described(pre.directory)
        try:
            pre._dispatcher = Program.pinned(pre.directory / "prog")
            for shared in SHARED:
                pre._maps[shared] = BPFMap.pinned(pre.directory / shared)
        except BaseException:
            pre.close()
            raise
        return pre

    @classmethod
    def take(cls, name: str, *, bpffs: str | os.PathLike[str] = MOUNT_POINT, **rules: Unpack[Rules]) -> Self:
        """Load and pin a prefilter, or give these rules to the one already pinned under this name, as after a restart.

        ValueError if it is pinned with another `on_exit` or other sizes, which cannot change.
        """
        wanted = cls(name, bpffs=bpffs, **rules)
        pre = cls.open(name, bpffs=bpffs) if wanted.directory.is_dir() else wanted
        try:
            if pre is wanted:
                pre.load().pin()
            else:
                pre.update(**msgspec.structs.asdict(wanted.rules))
        except BaseException:
            pre.close()
            raise
        return pre

    @staticmethod
    def pinned(*, bpffs: str | os.PathLike[str] = MOUNT_POINT) -> list[str]:
        """Return the names that are pinned, in any layout."""
        return pins.names(Path(bpffs))

    # -- what it has --------------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The path for iptables' `-m bpf --object-pinned`, once it is pinned."""
        return str(self.directory / "prog")

    @property
    def prog_fd(self) -> int:
        """The descriptor of the dispatcher, the program that rules hold."""
        return self._loaded().fd

    @property
    def is_pinned(self) -> bool:
        """Whether this prefilter is pinned, and not another one of its name."""
        if not os.path.exists(self.path):
            return False
        with Program.pinned(Path(self.path)) as other:
            return other.info.id == self._loaded().info.id

    @property
    def active(self) -> bool:
        """Whether the dispatcher has a program to call; without one, no packet matches."""
        return self._slots.lookup(_FIRST) is not None

    def counters(self) -> PrefilterCounters:
        """Return the counts since it was loaded, over all CPUs and all rules it has had."""
        self._loaded()
        return counters(self._maps["counters"].items())

    def top(self, count: int = 10) -> Top:
        """Return the largest senders and destination ports; empty if the rules never had `top`."""
        self._loaded()
        prefixes = self.rules.rate_prefix4, self.rules.rate_prefix6
        with self._maps["ports_seen"].memory() as ports:
            return Top(top_sources(self._maps["sources"].items(), count, *prefixes), top_ports(ports[:], count))

    # -- generations --------------------------------------------------------------------------------------------------

    def _exchange(self, rules: PrefilterOptions, slot: bytes = _FIRST) -> None:
        """Load a generation and put it into a slot."""
        with generation(rules, self._maps) as program:
            self._slots.update(slot, struct.pack("=i", program.fd))

    @property
    def _slots(self) -> BPFMap:
        """The programs behind the dispatcher: made here, pinned with `keep`, or found by what the dispatcher uses."""
        if SLOTS not in self._maps:
            dispatcher = self._loaded()
            keep = self.rules.on_exit == "keep"
            self._maps[SLOTS] = (
                BPFMap.pinned(self.directory / SLOTS) if keep else BPFMap.by_id(dispatcher.info.map_ids[0])
            )
        return self._maps[SLOTS]

    @property
    def maps(self) -> Mapping[str, BPFMap]:
        """The maps of all generations and the slots, by name, for programs that share them."""
        self._loaded()
        return {**self._maps, SLOTS: self._slots}

    def _loaded(self) -> Program:
        if self._dispatcher is None:
            raise ValueError(f"prefilter {self.name!r} is not loaded")
        return self._dispatcher

    # -- with a predicate of your own ---------------------------------------------------------------------------------

    @classmethod
    def from_source(
        cls,
        predicate: str,
        *,
        name: str = "predicate",
        bpffs: str | os.PathLike[str] = MOUNT_POINT,
        **rules: Unpack[Rules],
    ) -> Self:
        """Compile your own condition, such as `tcp.dport == 22 && ip.ttl < 40`, which is checked before the rules.

        bcc compiles it, in a process that then ends. docs/filters.md describes the language, and PredicateError says
        what is wrong. NotSupported if bcc or kernel headers are missing. A process that opens the prefilter later
        cannot restore the predicate; only the `slots`, pinned with `on_exit="keep"`, keep it.
        """
        from nflowlevel.prefilter.compiling import compile_predicate  # what runs other programs is wanted only here

        pre = cls(name, bpffs=bpffs, **rules)
        pre._predicate = compile_predicate(predicate)
        return pre
