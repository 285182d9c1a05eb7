# SPDX-License-Identifier: GPL-2.0-or-later
"""All that the doctor looks at, in order: namespaces, groups, where a configuration's outputs write, prefilters."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from nflowlevel.binding.netns import OWN
from nflowlevel.doctor import counters, flows, prefilters
from nflowlevel.doctor import groups as diagnosis
from nflowlevel.doctor.facts import Facts, gather, other_namespaces
from nflowlevel.errors import ConfigError, KernelError
from nflowlevel.inputs.nflog import NFLOG
from nflowlevel.options import ConfigErrors
from nflowlevel.plugin.contract import Finding, Input, Output
from nflowlevel.stacks.config import Config, parse_all
from nflowlevel.stacks.stack import Stack, build

#: Of so many groups other namespaces are asked.
_MOST_GROUPS = 8


_OF_A_CONFIGURATION = "the groups and counters that its stacks read, where they write, its prefilters"


class Wanted(NamedTuple):
    """A group to look at: in which namespace, and which instance of a configuration reads it ("": none does)."""

    netns: str | None
    group: int
    instance: str = ""


def examine(
    group: int | None, config: str | None, netns: str | None, pins: Callable[[Config], Iterable[str]]
) -> Iterator[Finding]:
    """Yield what is found about a group, or all in use, in a namespace; with a configuration about what that wants.

    `pins` are the names of the prefilters that a configuration pins; those that are pinned are looked at in any case.
    """
    if config is None:
        yield from _namespace(netns, [] if group is None else [Wanted(netns, group)])
        yield from prefilters.check(netns)
        return
    stacks: list[Stack] = []
    pinned: list[str] = []
    yield from _configuration(config, stacks, pinned, pins)
    if not stacks:
        if not _is_readable(config):
            yield Finding("hint", f"not checked, as {config} cannot be read: {_OF_A_CONFIGURATION}", "run as root")
            yield from _namespace(netns, [] if group is None else [Wanted(netns, group)])
        return
    groups = [item for item in _wanted(stacks, netns) if group in (None, item.group)]
    places = dict.fromkeys(item.netns for item in groups)
    of_places = {place: _namespace(place, [item for item in groups if item.netns == place]) for place in places}
    yield from _together(of_places) if len(places) > 1 else itertools.chain(*of_places.values())
    if group is not None and not groups:
        yield Finding("problem", f"{config}: no stack reads group {group}", f"set group={group} in a section of NFLOG")
    yield from counters.check((stack.source.input for stack in stacks), netns)
    yield from flows.check_inputs((stack.source.input for stack in stacks), netns)
    ends: list[Input[Any] | Output[Any]] = [
        *(stack.source.input for stack in stacks),
        *(stack.output for stack in stacks),
    ]
    for instance, plugin in {plugin.instance: plugin for plugin in ends}.items():
        yield from (finding._replace(text=f"[{instance}] {finding.text}") for finding in plugin.examine())
    yield from prefilters.check(netns, pinned)


def _together(of_places: Mapping[str | None, Iterable[Finding]]) -> Iterator[Finding]:
    """Yield what was found in several namespaces: what is the same in some of them once, with their names."""
    same: dict[Finding, list[str]] = {}
    for place, findings in of_places.items():
        for finding in findings:
            same.setdefault(finding, []).append(place or OWN)
    for finding, names in same.items():
        label = "namespace" if len(names) == 1 else "namespaces"
        yield finding._replace(text=f"{label} {diagnosis.few(names)}: {finding.text}")


def _configuration(
    file: str, stacks: list[Stack], pinned: list[str], pins: Callable[[Config], Iterable[str]]
) -> Iterator[Finding]:
    """Check a configuration and fill in its stacks, which stay unopened, and the names of prefilters that it pins."""
    config = None
    try:
        config = parse_all(file)
        stacks += build(config)
        pinned += pins(config)
    except ConfigErrors as several:
        yield from (Finding("problem", str(error)) for error in sorted(several.errors, key=lambda error: error.line))
    except ConfigError as error:
        yield Finding("problem", str(error))
    else:
        yield Finding("ok", f"{file}: no errors; {len(stacks)} {'stack' if len(stacks) == 1 else 'stacks'}")
    if config:
        yield from (Finding("hint", str(warning)) for warning in config.remarks)


def _is_readable(file: str) -> bool:
    """Whether a file that is there can be read by who asks."""
    try:
        os.close(os.open(file, os.O_RDONLY | os.O_NONBLOCK))
    except PermissionError:
        return False
    except OSError:
        pass
    return True


def _wanted(stacks: Iterable[Stack], netns: str | None) -> list[Wanted]:
    """Return the groups that stacks read; a source at the head of several stacks counts once."""
    inputs = {stack.source.input.instance: stack.source.input for stack in stacks}
    return [
        Wanted(each.netns or netns, each.options.group, instance)
        for instance, each in inputs.items()
        if isinstance(each, NFLOG)
    ]


def _namespace(netns: str | None, wanted: list[Wanted]) -> Iterator[Finding]:
    """Judge one namespace: the wanted groups, or all that are in use."""
    try:
        facts = gather(netns)
    except KernelError as error:
        # Whoever may not look has seen no problem.
        denied = error.errno in (errno.EPERM, errno.EACCES)
        yield Finding("hint" if denied else "problem", str(error))
        return
    yield from diagnosis.check_kernel(facts)
    wanted = wanted or [Wanted(netns, group) for group in sorted(facts.groups)]
    if not wanted:
        yield diagnosis.check_no_group(facts)
    used = {item.group for item in wanted if item.instance and facts.ruleset.of_group(item.group)}
    for item in wanted:
        yield from _judge_group(facts, item, used)
    yield from diagnosis.check_other_rules(facts, {item.group for item in wanted})
    yield from _elsewhere(facts, netns, {item.group for item in wanted})


def _judge_group(facts: Facts, item: Wanted, used: Collection[int]) -> Iterator[Finding]:
    """Judge a group; `used` are those with rules that the same configuration reads."""
    yield from diagnosis.check_rules(facts, item.group, beside=used, configured=bool(item.instance))
    if item.group == 0:
        yield from diagnosis.check_own_messages(facts)
    yield from diagnosis.check_reader(facts, item.group)
    reader = (facts.readers or {}).get(item.group)
    if item.instance and reader and not reader.command:
        text = f"[{item.instance}] group {item.group} has a reader: whether that is nflowlevel is not visible"
        yield Finding("hint", text, "run as root")
    elif item.instance and reader and not reader.ours:
        text = f"[{item.instance}] cannot read group {item.group} while {reader} does"
        yield Finding("problem", text, "stop that process, or use another group")


def _elsewhere(facts: Facts, netns: str | None, groups: set[int]) -> Iterator[Finding]:
    """Look into other namespaces for groups that lack something here; for any group where none is in use here."""
    lacking = {group for group in groups if not facts.ruleset.of_group(group) or group not in (facts.readers or {})}
    if groups and not lacking:
        return
    others, closed = other_namespaces(netns)
    looked_at = sorted(lacking or set().union(*(other.ruleset.groups for other in others.values())))
    for group in looked_at[:_MOST_GROUPS]:
        yield from diagnosis.check_elsewhere(facts, others, group)
    if len(looked_at) > _MOST_GROUPS:
        text = f"{len(looked_at) - _MOST_GROUPS} more groups are not looked for in other namespaces"
        yield Finding("hint", text, "ask for one: nflowlevel doctor --group N")
    if closed and any(not facts.ruleset.of_group(group) for group in lacking or {0}):
        yield Finding("hint", f"cannot look into these namespaces: {diagnosis.few(closed)}", "run as root")
