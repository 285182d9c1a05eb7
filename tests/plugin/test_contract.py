# SPDX-License-Identifier: GPL-2.0-or-later
"""Refusing classes that could not work as plugins."""

from __future__ import annotations

from typing import Any

import pytest

from nflowlevel.errors import NflowError
from nflowlevel.plugin.contract import Filter, Input, NoOptions, Output, check_plugin
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import added_key
from tests.fix_plugins import Feed, Memory, Through


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


class _Bare(Through):
    adds = ("my.key",)  # type: ignore[assignment]


class _OneKey(Through):
    adds = added_key("my.key", "uint8", "A test's.")  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (_Bare, r"plugin _Bare: adds 'my.key' — `adds` must be a tuple of keys.*write adds = \(added_key\("),
        (_OneKey, r"plugin _OneKey: adds Key\(name='my.key'"),
        (_Misspelt, r"plugin _Misspelt: method 'proces' is never called — did you mean 'process'\?"),
        (_MisspeltOptional, r"method 'reopne' is never called — did you mean 'reopen'\?"),
        (_Lacking, "plugin _Lacking lacks drain, fileno, open, receive, stats"),
        (_Nameless, "plugin _Nameless lacks a name"),
        (Memory("instance"), "is not a plugin: it must be a class"),
        (str, "is not a plugin: it must be a class derived from Input, Filter or Output"),
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
