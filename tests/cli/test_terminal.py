# SPDX-License-Identifier: GPL-2.0-or-later
"""What subcommands show: tables, pages that fit, and readings at intervals that do not drift."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

import pytest

from nflowlevel.cli import terminal


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen_of(monkeypatch: pytest.MonkeyPatch) -> Tty:
    """Make standard output a terminal of 6 lines and 40 columns; pytest has its own until a test begins."""
    made = Tty()
    monkeypatch.setattr(sys, "stdout", made)
    monkeypatch.setattr(terminal.shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((40, 6)))
    return made


def test_tables() -> None:
    rows = [("name", "packets", "b"), ("a", "5", "12345"), ("long name", "", "1")]
    assert terminal.table(rows) == [
        "name       packets      b",
        "a                5  12345",
        "long name               1",
    ]
    assert terminal.table(rows[:2], left=2) == ["name  packets      b", "a     5        12345"]
    assert terminal.table([("a", "")]) == ["a"]


def test_a_page_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = screen_of(monkeypatch)
    lines = [str(number) for number in range(9)]
    terminal.show_page(lines[:5])
    assert screen.getvalue() == "\x1b[H\x1b[2J0\n1\n2\n3\n4\n"
    screen.truncate(0)
    screen.seek(0)
    terminal.show_page(lines)
    assert screen.getvalue() == "\x1b[H\x1b[2J0\n1\n2\n3\n4\n"
    screen.truncate(0)
    screen.seek(0)
    terminal.show_page(lines, lambda count: f"and {count} more")
    assert screen.getvalue() == "\x1b[H\x1b[2J0\n1\n2\n3\nand 5 more\n"


def test_pages_in_a_pipe_follow_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_page(["a", "b"], lambda count: "not said")
    terminal.show_page(["c"])
    assert capsys.readouterr().out == "a\nb\n\nc\n\n"


def test_width(monkeypatch: pytest.MonkeyPatch) -> None:
    screen_of(monkeypatch)
    assert terminal.width() == 40
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert terminal.width() is None


def test_what_cannot_be_shown_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    terminal.tolerate()
    print("ü\udcff", end="", flush=True)
    terminal.tolerate("utf-8")
    print("ü\udcff", end="", flush=True)
    assert raw.getvalue() == rb"\xfc\udcff" + "ü".encode() + rb"\udcff"


class Clock:
    """Time that passes while somebody sleeps, and while something is read or shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, costs: float) -> None:
        self.now, self.costs, self.readings = 100.0, costs, 0
        self.slept: list[float] = []
        monkeypatch.setattr(terminal.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(terminal.time, "sleep", self.sleep)

    def sleep(self, secs: float) -> None:
        self.slept.append(secs)
        self.now += secs

    def read(self) -> int:
        self.readings += 1
        return self.readings

    def shown(self) -> tuple[list[tuple[int, int, float]], Callable[[int, int, float], None]]:
        rounds: list[tuple[int, int, float]] = []

        def show(before: int, now: int, secs: float) -> None:
            rounds.append((before, now, secs))
            self.now += self.costs

        return rounds, show


def test_readings_do_not_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, costs=0.25)
    rounds, show = clock.shown()
    terminal.watch(clock.read, show, 1.0, 3)
    assert rounds == [(1, 2, 1.0), (2, 3, 1.0), (3, 4, 1.0)]
    assert clock.slept == [1.0, 0.75, 0.75]


def test_what_takes_longer_than_the_interval_is_not_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, costs=2.5)
    rounds, show = clock.shown()
    terminal.watch(clock.read, show, 1.0, 3)
    assert [secs for _, _, secs in rounds] == [1.0, 2.5, 2.5]
    assert clock.slept == [1.0, 0.0, 0.0]


def test_it_goes_on_without_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, costs=0)
    rounds: list[int] = []

    def show(before: int, now: int, secs: float) -> None:
        rounds.append(now)
        if now == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        terminal.watch(clock.read, show, 0.1)
    assert len(rounds) == 49


# -- lines that fit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colours(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], wanted: bool) -> None:
    screen_of(monkeypatch)
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert terminal.colours() is wanted
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert not terminal.colours()


def test_what_a_terminal_obeys_is_shown_in_a_pipe_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert terminal.shown("a\x1b\x9b\n") == "a\x1b\x9b\n"
    screen_of(monkeypatch)
    assert terminal.shown("a\x1b\x9b\n") == "a\\x1b\\x9b\n"


def test_paragraphs_flow_and_indented_lines_hang() -> None:
    text = (
        "X: a sentence that was broken\nat another width than this\n\n- one item of a list, which is long enough\n"
        "- another\n\nOptions:\n  name (int): what it is for, in so many words\nKeys:\n  none"
    )
    assert terminal.reflowed(text, None) == text
    assert terminal.reflowed(text, 40).split("\n") == [
        "X: a sentence that was broken at another",
        "width than this",
        "",
        "- one item of a list, which is long",
        "  enough",
        "- another",
        "",
        "Options:",
        "  name (int): what it is for, in so many",
        "      words",
        "Keys:",
        "  none",
    ]
