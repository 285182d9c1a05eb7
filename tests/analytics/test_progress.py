# SPDX-License-Identifier: GPL-2.0-or-later
"""Progress: a line on a terminal for what takes long, and nothing elsewhere."""

from __future__ import annotations

import io

import pytest

from nflowlevel.analytics import progress
from nflowlevel.analytics.progress import Progress


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE_SECONDS", -1.0)
    monkeypatch.setattr(progress, "_INTERVAL_SECONDS", -1.0)


def test_a_terminal_sees_how_far_it_is_and_then_nothing() -> None:
    stream = Terminal()
    with Progress(200, stream) as shown:
        shown.show("a\x1b[2Jb", 50, 1234)
        assert stream.getvalue() == "\r\x1b[K[######                  ]  25% 1,234 records · a\\x1b[2Jb"
    assert stream.getvalue().endswith("\r\x1b[K")


def test_steps() -> None:
    stream = Terminal()
    with Progress(4, stream) as shown:
        shown.step("beacon", 1)
        assert stream.getvalue() == "\r\x1b[K[######                  ]  25% 2 of 4 · beacon"
        shown.hide()
        assert stream.getvalue().endswith("beacon\r\x1b[K")
        before = stream.getvalue()
    assert stream.getvalue() == before


def test_without_a_total() -> None:
    stream = Terminal()
    with Progress(None, stream) as shown:
        shown.show("x", 50, 1)
    assert "%" not in stream.getvalue()
    assert "1 records · x" in stream.getvalue()


def test_elsewhere_nothing_is_written() -> None:
    stream = io.StringIO()
    with Progress(200, stream) as shown:
        shown.show("x", 50, 1)
    assert stream.getvalue() == ""


def test_what_is_quick_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE_SECONDS", 60.0)
    stream = Terminal()
    with Progress(200, stream) as shown:
        shown.show("x", 50, 1)
    assert stream.getvalue() == ""
