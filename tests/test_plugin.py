# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding plugins, the built-in ones and those of others, and refusing classes that could not work."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest

from nflowlevel.batch import Batch
from nflowlevel.errors import NflowError
from nflowlevel.plugin import Filter, Input, NoOptions, Output, builtin_names, check_plugin, find_plugin
from tests.fix_plugins import Feed, Memory, Through


class Point:
    """An entry point as importlib.metadata gives it."""

    def __init__(self, name: str, found: Any) -> None:
        self.name, self.value, self._found = name, f"somewhere:{name}", found

    def load(self) -> Any:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> list[Point]:
    """What other packages announce."""
    found: list[Point] = []
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: found)
    return found


@pytest.mark.parametrize("name", builtin_names())
def test_every_name_of_the_lists_is_a_plugin_of_that_name(name: str) -> None:
    found = find_plugin(name)
    assert found.name == name
    check_plugin(found)


def test_unknown_names_are_told_with_the_nearest(points: list[Point]) -> None:
    points.append(Point("MEMORY", Memory))
    with pytest.raises(NflowError, match=r"no plugin 'MEMROY' — did you mean 'MEMORY'\?; there are BASE, "):
        find_plugin("MEMROY")


def test_a_plugin_of_a_third_party(points: list[Point]) -> None:
    points.append(Point("MEMORY", Memory))
    assert find_plugin("MEMORY") is Memory


def test_a_built_in_name_cannot_be_taken(points: list[Point]) -> None:
    points.append(Point("JSON", Memory))
    assert find_plugin("JSON") is not Memory


def test_a_plugin_that_cannot_be_imported(points: list[Point]) -> None:
    points.append(Point("OTHER", ImportError("no module named libfoo")))
    with pytest.raises(NflowError, match=r"load plugin 'OTHER' from entry point somewhere:OTHER: ImportError"):
        find_plugin("OTHER")


class _Misspelt(Filter[NoOptions]):
    name = "MISSPELT"

    def proces(self, batch: Batch) -> Batch:
        return batch


class _MisspeltOptional(Through):
    name = "MISSPELTOPTIONAL"

    def reopne(self) -> None:
        """Never called."""


class _Lacking(Input[NoOptions]):
    name = "LACKING"
    provides = "raw"


class _Nameless(Output[NoOptions]):
    bind = write = Memory.write  # type: ignore[assignment]
    open = Memory.open
    stats = Memory.stats


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (_Misspelt, r"plugin _Misspelt: method 'proces' is never called — did you mean 'process'\?"),
        (_MisspeltOptional, r"method 'reopne' is never called — did you mean 'reopen'\?"),
        (_Lacking, "plugin _Lacking lacks drain, fileno, open, receive, stats"),
        (_Nameless, "plugin _Nameless lacks a name"),
        (Memory("instance"), "is no plugin: it must be a class"),
        (str, "is no plugin: it must be a class derived from Input, Filter or Output"),
    ],
)
def test_classes_that_cannot_work_are_refused(plugin: Any, said: str) -> None:
    with pytest.raises(NflowError, match=said):
        check_plugin(plugin)


@pytest.mark.parametrize("plugin", [Feed, Memory, Through])
def test_classes_that_work_are_taken(plugin: Any) -> None:
    check_plugin(plugin)


def test_a_plugin_shows_its_instance_and_name() -> None:
    assert repr(Memory("json1")) == "json1:MEMORY"
