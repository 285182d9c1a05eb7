# SPDX-License-Identifier: GPL-2.0-or-later
"""Plugins of old configurations that cannot exist any more, and what to write instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING

from nflowlevel.errors import printable

if TYPE_CHECKING:
    from nflowlevel.stacks.config import Config, StackItem, StackLine

#: `nlgroup` of ulogd2's plugin where its section has none.
_ULOG_GROUP = "32"


def _instead_of_ulog(config: Config, stack: StackLine, ulog: StackItem) -> str:
    section = config.sections.get(ulog.instance)
    nlgroup = section.values.get("nlgroup") if section else None
    group = printable(nlgroup.text if nlgroup else _ULOG_GROUP)
    whose = "its nlgroup" if nlgroup else "ULOG's default"
    return (
        f"write stack={printable(_with_nflog(config, stack, ulog), None)} and group={group} ({whose}) in "
        f"[{printable(ulog.instance)}], and in the rules -j NFLOG --nflog-group {group} "
        f"in place of -j ULOG --ulog-nlgroup {group}"
    )


def _with_nflog(config: Config, stack: StackLine, ulog: StackItem) -> str:
    """Return the stack with NFLOG, and with IFINDEX: ULOG gave names of interfaces, NFLOG gives their numbers."""
    items = [(item.instance, "NFLOG" if item == ulog else item.plugin) for item in stack.items]
    plugins = [plugin for _, plugin in items]
    if "BASE" in plugins and "IFINDEX" not in plugins:
        taken = {*config.sections, *(item.instance for line in config.stacks for item in line.items)}
        name = next(name for number in count(1) if (name := f"ifi{number}") not in taken)
        items.insert(plugins.index("BASE") + 1, (name, "IFINDEX"))
    return ",".join(f"{instance}:{plugin}" for instance, plugin in items)


def _without(config: Config, stack: StackLine, removed: StackItem) -> str:
    items = (f"{item.instance}:{item.plugin}" for item in stack.items if item != removed)
    return f"write stack={printable(','.join(items), None)}"


#: Name of the plugin: why there is none, and what finds out what to write.
_REMOVED: Mapping[str, tuple[str, Callable[[Config, StackLine, StackItem], str]]] = {
    "ULOG": ("Linux has no ULOG target since 3.17, so no packet would ever come", _instead_of_ulog),
    "LOCAL": ("no ulogd2 was ever built with LOCAL", _without),
}


def instead(config: Config, stack: StackLine, item: StackItem) -> str:
    """Return why the plugin of an item cannot exist, and what to write; empty for one that may."""
    if item.plugin not in _REMOVED:
        return ""
    why, advise = _REMOVED[item.plugin]
    return f"{why}; {advise(config, stack, item)}"


def loaded(plugin: str) -> str:
    """Return what to tell of a `plugin=` line that loads such a plugin; empty for one that may exist."""
    return f"{_REMOVED[plugin][0]}; remove this line" if plugin in _REMOVED else ""
