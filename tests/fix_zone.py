# SPDX-License-Identifier: GPL-2.0-or-later
"""The time zone of this process: a test sets it, and it is as before afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

#: A zone with summer time.
BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the time zone of this process; UTC unless the test does."""

    def set_(text: str) -> None:
        monkeypatch.setenv("TZ", text)
        time.tzset()

    set_("UTC0")
    yield set_
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def summer_time(zone: Callable[[str], None]) -> None:
    """A zone with summer time."""
    zone(BERLIN)
