# SPDX-License-Identifier: GPL-2.0-or-later
"""Types of arguments: what they read, and that a refusal says what is allowed, in every subcommand."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pytest

from nflowlevel import cli
from nflowlevel.cli import arguments
from nflowlevel.cli.arguments import add_netns, add_watch, seconds, whole, words


def refused(read: Callable[[str], Any], text: str) -> str:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        read(text)
    return str(caught.value)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("65535", 65535), ("0x10", 16), ("0XfF", 255), ("010", 10)])
def test_groups(text: str, number: int) -> None:
    assert arguments.group(text) == number


@pytest.mark.parametrize("text", ["65536", "-1", "", "x", "1.5", "1_0", "٣", " 1", "1 ", "9" * 5000, "0x", "+1"])
def test_what_is_no_group(text: str) -> None:
    assert refused(arguments.group, text).startswith("must be 0 to 65535, not '")


def test_limits_are_told() -> None:
    assert refused(whole(1), "0") == "must be at least 1, not '0'"
    assert refused(whole(-5, 5), "-6") == "must be -5 to 5, not '-6'"
    assert whole(-5, 5)("-5") == -5
    assert whole(1)(str(2**64)) == 2**64
    assert refused(arguments.mark, "0x100000000") == "must be 0 to 4294967295, not '0x100000000'"
    assert refused(whole(0), "a\nb") == r"must be at least 0, not 'a\nb'"


@pytest.mark.parametrize(("text", "secs"), [("0.1", 0.1), ("60", 60.0), ("1e1", 10.0)])
def test_seconds(text: str, secs: float) -> None:
    assert seconds(0.1, 60)(text) == secs


@pytest.mark.parametrize("text", ["0", "0.09", "60.1", "-1", "nan", "inf", "x", "", "1s"])
def test_what_is_no_duration(text: str) -> None:
    assert refused(seconds(0.1, 60), text) == f"must be 0.1 to 60 seconds, not '{text}'"


def test_words() -> None:
    assert words("input, output") == ["input", "output"]


def test_arguments_of_several_subcommands() -> None:
    parser = argparse.ArgumentParser()
    add_netns(parser)
    add_watch(parser)
    assert vars(parser.parse_args([])) == {"netns": None, "watch": None, "count": 0}
    found = vars(parser.parse_args(["--netns", "blue", "--watch", "-n", "3"]))
    assert found == {"netns": "blue", "watch": 1.0, "count": 3}
    assert parser.parse_args(["-w", "0.5"]).watch == 0.5


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("tail --group x", "argument -g/--group: must be 0 to 65535, not 'x'"),
        ("tail --group 1 --count=-1", "argument -n/--count: must be at least 1, not '-1'"),
        ("doctor --group 65536", "argument -g/--group: must be 0 to 65535, not '65536'"),
        ("acct list --watch 0", "argument -w/--watch: must be 0.1 to 86400 seconds, not '0'"),
        ("acct list --watch --count x", "argument -n/--count: must be at least 1, not 'x'"),
        ("acct add a --packets=-1", "argument --packets: must be 0 to 18446744073709551615, not '-1'"),
        ("prefilter counters a --watch x", "argument -w/--watch: must be 0.1 to 86400 seconds, not 'x'"),
        ("prefilter counters a --largest x", "argument --largest: must be at least 0, not 'x'"),
        ("prefilter rule a --group x", "argument --group: must be 0 to 65535, not 'x'"),
        ("prefilter load a --attach input --group 70000", "argument --group: must be 0 to 65535, not '70000'"),
        ("prefilter load a --mark 0x1ffffffff", "argument --mark: must be 0 to 4294967295, not '0x1ffffffff'"),
        ("prefilter load a --priority x", "argument --priority: must be -2147483648 to 2147483647, not 'x'"),
        ("prefilter try a --group 65536", "argument --group: must be 0 to 65535, not '65536'"),
        ("prefilter try a --seconds=-1", "argument --seconds: must be 0 to 31536000 seconds, not '-1'"),
    ],
)
def test_refusals_of_subcommands(command: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(command.split())
    assert caught.value.code == 2
    assert capsys.readouterr().err.rstrip().endswith(f"error: {says}")
