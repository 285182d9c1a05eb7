# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel describe`: everything there is to say about a plugin, from the plugin itself."""

from __future__ import annotations

import pytest

from nflowlevel import cli
from nflowlevel.cli.describe import describe_plugin, page
from nflowlevel.keys import published_by
from nflowlevel.options import describe
from nflowlevel.plugin import builtin_names, find_plugin


@pytest.mark.parametrize("name", builtin_names())
def test_every_plugin_tells_its_purpose_options_and_keys(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["describe", name]) == 0
    text = capsys.readouterr().out
    plugin = find_plugin(name)
    assert text.startswith(f"Name: {name}\n{name}: ")
    for option in describe(plugin.Options):
        assert f"\n  {option.name} ({option.type}" in text
        assert option.description in text
    for key in published_by(name):
        assert f"\n  {key.name} ({key.type}): {key.meaning}\n" in text


def test_keys_that_are_read_where_they_are_there() -> None:
    text = describe_plugin("HWHDR")
    assert "Input keys:\n  oob.protocol\n  raw.type (optional)\n" in text
    assert "Options:\n  none\n" in text


def test_ulogds_file_names() -> None:
    assert describe_plugin("ulogd_raw2packet_BASE.so") == describe_plugin("/any/where/ulogd_raw2packet_BASE.so")
    assert describe_plugin("ulogd_raw2packet_BASE.so") == describe_plugin("BASE")


def test_an_unknown_plugin_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["describe", "NFLOGG"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nflowlevel describe: no plugin 'NFLOGG' — did you mean 'NFLOG'?")


def test_the_page_of_a_class_in_a_file_with_others() -> None:
    from tests.fix_plugins import Memory

    assert page(Memory).startswith("Remembers the sequence numbers")
