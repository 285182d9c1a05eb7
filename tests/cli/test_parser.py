# SPDX-License-Identifier: GPL-2.0-or-later
"""Refusals of the command line: what is allowed, what may have been meant, and no names of functions."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nflowlevel import cli
from nflowlevel.cli.arguments import words
from nflowlevel.cli.parser import Parser


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and those of all its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers(inner)


ALL = {parser.prog: parser for parser in parsers(cli.get_parser())}


def said(capsys: pytest.CaptureFixture[str], *typed: str) -> str:
    """Return the last line of what is said about wrong arguments."""
    with pytest.raises(SystemExit) as caught:
        cli.main(typed)
    assert caught.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    return errors.splitlines()[-1]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("tial", "nflowlevel: error: unknown command 'tial' — did you mean 'tail'?"),
        (
            "prefilter lod x",
            "nflowlevel prefilter: error: unknown action 'lod' — did you mean 'load'?",
        ),
        ("acct lsit", "nflowlevel acct: error: unknown action 'lsit' — did you mean 'list'?"),
        ("tail --grop 1", "nflowlevel tail: error: unknown option '--grop' — did you mean '--group'?"),
        ("tail --grop=1", "nflowlevel tail: error: unknown option '--grop' — did you mean '--group'?"),
        ("doctor --confg x", "nflowlevel doctor: error: unknown option '--confg' — did you mean '--config'?"),
        ("acct list --rest", "nflowlevel acct list: error: unknown option '--rest' — did you mean '--reset'?"),
        ("prefilter rule x --grup 1", "unknown option '--grup' — did you mean '--group'?"),
        ("--versoin", "nflowlevel: error: unknown option '--versoin' — did you mean '--version'?"),
        ("tail 1 -x", "nflowlevel tail: error: unknown option '-x'"),
        ("describe JSON more", "nflowlevel describe: error: unexpected argument 'more'"),
        ("prefilter try tcp.syn --hook imput", "argument --hook: must be one of "),
        ("acct list --only byts-quota", "argument --only: must be one of "),
        ("tail \x1b[2J", r"argument GROUP: must be 0 to 65535, not '\x1b[2J'"),
        ("tail --\x1b[2J", r"unknown option '--\x1b[2J'"),
    ],
)
def test_what_may_have_been_meant(line: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = said(capsys, *line.split(" "))
    assert says in answer
    assert answer.isprintable()


def test_a_choice_has_its_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "prefilter", "try", "x", "--hook", "imput").endswith("not 'imput' — did you mean 'input'?")


@pytest.mark.parametrize("prog", ["nflowlevel", "nflowlevel sql", "nflowlevel prefilter"])
def test_without_a_subcommand_the_help_is_shown(prog: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(prog.split()[1:])
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"usage: {prog} [-h]")
    assert all(name in shown for action in ALL[prog]._actions for name in action.choices or ())
    assert "exit status:" in shown or prog == "nflowlevel sql"


@pytest.mark.parametrize("prog", ALL)
def test_no_refusal_names_a_function(prog: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every argument that is read by a function refuses what that does not understand."""
    for action in ALL[prog]._actions:
        if action.type in (None, Path, words):
            continue
        with pytest.raises(argparse.ArgumentError) as caught:
            ALL[prog]._get_values(action, ["\x1b"])
        assert re.search(r"must be |not understood", str(caught.value)), action
        assert "invalid" not in str(caught.value)


def test_a_function_that_fails_is_not_named(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="p")
    parser.add_argument("--number", type=int)
    with pytest.raises(SystemExit):
        parser.parse_args(["--number", "x"])
    assert capsys.readouterr().err.endswith("p: error: argument --number: 'x' is not understood\n")


@pytest.mark.parametrize("prog", ALL)
def test_every_argument_is_explained(prog: str) -> None:
    text = ALL[prog].format_help()
    assert text.startswith(f"usage: {prog}")
    for action in ALL[prog]._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), action
