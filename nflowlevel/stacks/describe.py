# SPDX-License-Identifier: GPL-2.0-or-later
"""A plugin described for people: its purpose, options and keys, from the plugin itself."""

from __future__ import annotations

import inspect
import re
import sys

from nflowlevel.errors import NflowError
from nflowlevel.options import describe
from nflowlevel.plugin.contract import AnyPlugin
from nflowlevel.stacks.registry import find_in_any_case, find_plugin, names

_ULOGD_FILE = re.compile(r"(?:.*/)?ulogd_[a-z0-9]+_(.+)\.so")


def describe_plugin(name: str) -> str:
    """Return the description of a plugin, named as in a stack (in any case) or by ulogd's file; NflowError."""
    match = _ULOGD_FILE.fullmatch(name)
    plugin = find_in_any_case(match[1] if match else name)
    return "\n".join((f"Name: {plugin.name}", page(plugin), "", *_options(plugin), *_keys(plugin)))


def list_plugins() -> str:
    """Return a line for each plugin: its name, and what it is for. One that cannot be loaded says why."""
    known = names()
    width = max(map(len, known))
    return "\n".join(f"{name:{width}}  {_purpose(name)}" for name in known)


def _purpose(name: str) -> str:
    try:
        text = page(find_plugin(name))
    except NflowError as error:
        return str(error)
    sentence = " ".join(text.split("\n\n")[0].split()).removeprefix(f"{name}: ")
    return sentence.partition(". ")[0].rstrip(".")


def page(plugin: type[AnyPlugin]) -> str:
    """Return a plugin's manual page: the docstring of its file, or of its class where the file has several."""
    module = sys.modules[plugin.__module__]
    text = inspect.getdoc(module) or ""
    return text if text.startswith(f"{plugin.name}:") else inspect.getdoc(plugin) or ""


def _options(plugin: type[AnyPlugin]) -> list[str]:
    rows = [
        f"  {option.name} ({option.type}{', mandatory' if option.mandatory else f', default {option.default!r}'})"
        f"{f', {option.allowed}' if option.allowed else ''}: {option.description}"
        for option in describe(plugin.Options)
    ]
    return ["Options:", *(rows or ["  none"])]


def _keys(plugin: type[AnyPlugin]) -> list[str]:
    from nflowlevel.records.keys import published_by

    taken = [f"  {name.strip('[]')}{' (optional)' if name.startswith('[') else ''}" for name in plugin.consumes]
    keys = (*published_by(plugin.name), *plugin.adds)
    given = [f"  {key.name} ({key.type}): {key.meaning}" for key in keys]
    return ["Input keys:", *(taken or ["  none"]), "Output keys:", *(given or ["  none"])]
