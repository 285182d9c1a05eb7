# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding plugins, the built-in ones and those of others."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest

from nflowlevel.errors import NflowError
from nflowlevel.plugin.contract import check_plugin
from nflowlevel.stacks.registry import builtin_names, find_plugin
from tests.fix_plugins import Memory


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
    with pytest.raises(NflowError, match=r"unknown plugin 'MEMROY' — did you mean 'MEMORY'\?"):
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
