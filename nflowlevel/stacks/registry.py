# SPDX-License-Identifier: GPL-2.0-or-later
"""Which plugins there are, by name: those that are built in, and those that packages bring by entry point."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from nflowlevel import filters, inputs, outputs
from nflowlevel.errors import NflowError, choice
from nflowlevel.plugin.contract import AnyPlugin, check_plugin

if TYPE_CHECKING:
    import importlib.metadata

_ROOMS = (inputs, filters, outputs)
_ENTRY_POINTS = "nflowlevel.plugins"

#: The plugins of ulogd2 2.0.8.
ULOGD2_NAMES = (
    *("NFLOG", "NFCT", "NFACCT", "UNIXSOCK", "ULOG"),
    *("BASE", "IFINDEX", "IP2STR", "IP2BIN", "IP2HBIN", "HWHDR", "MARK", "PRINTPKT", "PRINTFLOW", "PWSNIFF"),
    *("JSON", "LOGEMU", "SYSLOG", "OPRINT", "GPRINT", "NACCT", "XML", "PCAP", "GRAPHITE", "IPFIX"),
    *("SQLITE3", "PGSQL", "MYSQL", "DBI"),
)


class UnknownPlugin(NflowError):
    """There is no plugin of that name."""


def builtin_names() -> tuple[str, ...]:
    """Return the names of the plugins that come with nflowlevel."""
    return tuple(name for room in _ROOMS for name in room.NAMES)


def find_plugin(name: str) -> type[AnyPlugin]:
    """Return the plugin class of that name; NflowError with the nearest known name, or with what is wrong with it."""
    for room in _ROOMS:
        if name in room.NAMES:
            # File = name in lower case: the list of a room is all there is to register.
            module = importlib.import_module(f"{room.__name__}.{name.lower()}")
            return getattr(module, name)  # type: ignore[no-any-return]
    others = _entry_points()
    if name not in others:
        known = (*builtin_names(), *others)
        if name in ULOGD2_NAMES:
            raise UnknownPlugin(
                f"nflowlevel does not support ulogd2's plugin '{name}' yet; "
                "comment out this stack (docs/from-ulogd2.md)"
            )
        raise UnknownPlugin(f"unknown plugin '{name}'{choice(name, sorted(known))}")
    try:
        found = others[name].load()
    except Exception as error:
        raise NflowError(f"load plugin '{name}' from entry point {others[name].value}: {error!r}") from error
    check_plugin(found)
    return found  # type: ignore[no-any-return]


def find_in_any_case(name: str) -> type[AnyPlugin]:
    """Return the plugin of that name, or the only one whose name differs from it in capitals alone; NflowError."""
    alike = [each for each in names() if each.lower() == name.lower()]
    return find_plugin(alike[0] if len(alike) == 1 else name)


def names() -> list[str]:
    """Return the names of all plugins there are: those that come with nflowlevel, then those of packages."""
    return [*builtin_names(), *sorted(set(_entry_points()) - set(builtin_names()))]


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    # Late: it reads the metadata of every installed package, and only plugins of third parties need it.
    import importlib.metadata

    return {point.name: point for point in importlib.metadata.entry_points(group=_ENTRY_POINTS)}
