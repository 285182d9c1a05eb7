# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel describe`: everything there is to say about a plugin, from the plugin itself."""

from __future__ import annotations

import pytest

from nflowlevel import cli
from nflowlevel.cli import terminal
from nflowlevel.options import describe
from nflowlevel.records.keys import published_by
from nflowlevel.stacks.registry import builtin_names, find_plugin


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


def test_an_unknown_plugin_is_a_wrong_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["describe", "NFLOGG"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nflowlevel describe: unknown plugin 'NFLOGG' — did you mean 'NFLOG'?")


@pytest.mark.parametrize("name", ["json", "Json", "/usr/lib/ulogd/ulogd_output_json.so"])
def test_names_in_any_case(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["describe", name]) == 0
    assert capsys.readouterr().out.startswith("Name: JSON\n")


def test_without_a_name_it_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["describe"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(builtin_names())
    assert all(len(line.split()) > 3 for line in lines)
    assert {line.index(line.split()[1]) for line in lines} == {max(map(len, builtin_names())) + 2}


def test_on_a_terminal_it_fits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(terminal, "width", lambda: 60)
    assert cli.main(["describe", "JSON"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[0] == "Name: JSON"
    assert "  file (string, default '/var/log/ulogd.json'), at least 1" in lines
    assert lines[lines.index("Input keys:") + 1] == "  *"
