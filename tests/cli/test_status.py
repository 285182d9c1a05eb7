# SPDX-License-Identifier: GPL-2.0-or-later
"""Exit statuses: the same in help and documents, and those that errors lead to."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import pytest

from nflowlevel import cli
from nflowlevel.cli import status
from nflowlevel.daemon.main import EXIT_CONFIG
from nflowlevel.errors import ConfigError, KernelError, NflowError
from nflowlevel.options import ConfigErrors

_PAGE = Path(__file__).parents[2] / "docs/command.md"


def test_numbers_of_sysexits_and_of_the_daemon() -> None:
    assert (status.UNAVAILABLE, status.WRONG_FILE) == (os.EX_UNAVAILABLE, os.EX_CONFIG)
    assert status.WRONG_FILE == EXIT_CONFIG


def test_help_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("prefilter",), ("sql", "check")):
        with pytest.raises(SystemExit):
            cli.main([*words, "--help"])
        assert status.listed() in capsys.readouterr().out


def test_the_document_lists_them() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", _PAGE.read_text(), re.MULTILINE)
    assert [(int(number), meaning) for number, meaning in rows] == [*status.MEANINGS.items()]


@pytest.mark.parametrize(
    ("error", "number", "says"),
    [
        (NflowError("no"), status.FAILED, "nflowlevel describe: no\n"),
        (KernelError("bind", 1), status.FAILED, "nflowlevel describe: bind: Operation not permitted\n"),
        (status.WrongArgument("no"), status.WRONG_ARGUMENTS, "nflowlevel describe: no\n"),
        (ConfigError("no", file="u.conf", line=3), status.WRONG_FILE, "nflowlevel describe: u.conf:3: no\n"),
        (ConfigError("rate=x: a number"), status.WRONG_ARGUMENTS, "nflowlevel describe: rate=x: a number\n"),
        (status.NotAvailable("away"), status.UNAVAILABLE, "nflowlevel describe: away\n"),
        (
            ConfigErrors([ConfigError("a", file="f", line=1), ConfigError("b", file="f", line=2)]),
            status.WRONG_FILE,
            "nflowlevel describe: f:1: a\nnflowlevel describe: f:2: b\n",
        ),
        (FileNotFoundError(2, "No such file or directory", "x"), status.FAILED,
         "nflowlevel describe: x: No such file or directory\n"),
        (KeyboardInterrupt(), status.INTERRUPTED, ""),
    ],
)  # fmt: skip
def test_of_errors(
    error: BaseException, number: int, says: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(options: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr("nflowlevel.cli.describe.run", fail)
    assert cli.main(["describe", "MARK"]) == number
    assert capfd.readouterr().err == says


def test_an_error_that_quotes_others_has_no_line_of_theirs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: argparse.Namespace) -> int:
        raise NflowError("read by x\nnflowlevel describe: all is well\x1b[2J\x9b\n    indented")

    monkeypatch.setattr("nflowlevel.cli.describe.run", fail)
    cli.main(["describe", "MARK"])
    assert capsys.readouterr().err.splitlines() == [
        "nflowlevel describe: read by x",
        r"    nflowlevel describe: all is well\x1b[2J\x9b",
        "    indented",
    ]
