# SPDX-License-Identifier: GPL-2.0-or-later
"""The prefilters of a daemon: `[prefilter…]` sections. They are loaded before the stacks start and stay while it runs.

    [prefilter1]
    name=ssh
    dports=22
    tcp_flags=syn
    rate=10
    attach=input        # rules of our own in nftables; without it a rule of yours names the pinned program
    group=1

If the daemon's last run left a prefilter pinned under the name, that prefilter gets these rules and keeps counting.
If a prefilter cannot be loaded, the daemon does not start. With `optional=1` it reports the prefilter, leaves it out
and attaches nothing for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

from msgspec import Meta, structs

from nflowlevel.errors import ConfigError, KernelError, NflowError
from nflowlevel.logs import NOTICE, log
from nflowlevel.options import ConfigErrors, convert
from nflowlevel.prefilter.attach import action, checked_hooks
from nflowlevel.prefilter.conditions import PrefilterOptions
from nflowlevel.prefilter.prefilter import Prefilter, PrefilterCounters

if TYPE_CHECKING:
    from nflowlevel.stacks.config import Config

_NAME = "[A-Za-z0-9_-]{0,64}"


class SectionOptions(PrefilterOptions, frozen=True, kw_only=True):
    """Options of a section: the rules, and what becomes of the packets that pass them."""

    name: Annotated[
        str, Meta(pattern=f"^{_NAME}$", description="Name of the prefilter; empty: the name of the section.")
    ] = ""
    optional: Annotated[bool, Meta(description="Start without the prefilter if it cannot be loaded.")] = False
    pin: Annotated[
        bool, Meta(description="Pin it, so that iptables rules and `nflowlevel prefilter` find it by name.")
    ] = True
    attach: Annotated[str, Meta(description="Hooks where our own nftables rules call it: input, forward, output.")] = ""
    group: (
        Annotated[int, Meta(ge=0, le=65535, description="With `attach`: group that gets the packets that match.")]
        | None
    ) = None
    prefix: Annotated[str, Meta(max_length=127, description="With `attach` and `group`: prefix of these packets.")] = ""
    mark: (
        Annotated[
            int, Meta(ge=0, le=2**32 - 1, description="With `attach`, instead of a group: bits to set in the mark.")
        ]
        | None
    ) = None
    mask: (
        Annotated[int, Meta(ge=1, le=2**32 - 1, description="Bits of the mark that change; empty: the bits of `mark`.")]
        | None
    ) = None
    priority: (
        Annotated[int, Meta(ge=-(2**31), le=2**31 - 1, description="With `attach`: priority of the nftables chains.")]
        | None
    ) = None
    network_namespace_path: Annotated[
        str, Meta(description="With `attach`: network namespace, a path or a name; empty: the daemon's own.")
    ] = ""

    def __post_init__(self) -> None:
        """ValueError for hooks without anything to do there, or the other way round."""
        super().__post_init__()
        if self.attach:
            checked_hooks(self.hooks)
            action(self.group, self.mark, self.mask, self.prefix)
        if not self.attach and (self.group is not None or self.mark is not None):
            raise ValueError("group and mark need attach=; without it, your own rules decide where packets go")
        if not self.attach and not self.pin:
            raise ValueError("pin=0 needs attach=; otherwise no rule could use the prefilter")

    @property
    def hooks(self) -> tuple[str, ...]:
        """The hooks of `attach`."""
        return tuple(hook.strip() for hook in self.attach.split(",") if hook.strip())


class Wanted(NamedTuple):
    """A prefilter that the configuration asks for."""

    name: str
    options: SectionOptions


def wanted(config: Config) -> list[Wanted]:
    """Return the prefilters of a configuration; ConfigErrors with everything that is wrong in their sections."""
    found: list[Wanted] = []
    errors: list[ConfigError] = []
    names: dict[str, str] = {}
    for section in config.prefilters:
        try:
            options = convert(
                SectionOptions,
                section.values,
                plugin="prefilter",
                instance=section.name,
                file=config.file,
                line=section.line,
            )
            name = options.name or section.name
            if names.setdefault(name, section.name) != section.name:
                message = f"[{section.name}] prefilter: [{names[name]}] already has the name '{name}'"
                errors.append(ConfigError(message, file=config.file, line=section.line))
            found.append(Wanted(name, options))
        except ConfigErrors as several:
            errors += several.errors
    if errors:
        raise ConfigErrors(errors)
    return found


class Prefilters:
    """The prefilters of one daemon."""

    def __init__(self, configured: Sequence[Wanted]) -> None:
        self._configured = configured
        self._loaded: dict[str, Prefilter] = {}
        #: Why those that are optional and could not be loaded were left out.
        self.missing: dict[str, str] = {}

    def open(self) -> None:
        """Load and attach all; NflowError says which one could not be."""
        for name, options in self._configured:
            try:
                self._loaded[name] = _open(name, options)
                log.log(NOTICE, "prefilter %s: %s", name, _place(self._loaded[name], options))
            except (NflowError, OSError, ValueError) as error:
                if not options.optional:
                    self.close()
                    raise NflowError(f"prefilter {name}: {error}") from error
                self.missing[name] = str(error)
                log.error("prefilter %s: %s; it is optional, so the daemon continues without it", name, error)

    def counters(self) -> dict[str, PrefilterCounters]:
        """Return what each has counted whose counters can be read.

        Before Linux 5.19 that takes CAP_BPF: who has become another user reads none.
        """
        counted = {}
        for name, pre in self._loaded.items():
            with contextlib.suppress(KernelError):
                counted[name] = pre.counters()
        return counted

    def status(self) -> Iterator[str]:
        """Yield a line about each for the log."""
        counted = self.counters()
        for name in self._loaded:
            yield f"prefilter {name}: {counted.get(name, 'its counters cannot be read (is CAP_BPF missing?)')}"
        for name, reason in self.missing.items():
            yield f"prefilter {name}: not loaded ({reason})"

    def close(self) -> None:
        """Let go of all: what their `on_exit` says becomes of them. May be called again."""
        loaded, self._loaded = self._loaded, {}
        for pre in loaded.values():
            pre.close()


def _open(name: str, options: SectionOptions) -> Prefilter:
    rules = {field: getattr(options, field) for field in structs.asdict(PrefilterOptions())}
    pre = Prefilter.take(name, **rules) if options.pin else Prefilter(name, **rules).load()
    try:
        if options.hooks:
            pre.attach(
                hooks=options.hooks,
                group=options.group,
                prefix=options.prefix,
                mark=options.mark,
                mask=options.mask,
                priority=options.priority,
                netns=options.network_namespace_path or None,
            )
    except BaseException:
        pre.close()
        raise
    return pre


def _place(pre: Prefilter, options: SectionOptions) -> str:
    where = f"attached to {', '.join(options.hooks)}" if options.hooks else ""
    return " and ".join(filter(None, (f"pinned at {pre.path}" if options.pin else "", where)))
