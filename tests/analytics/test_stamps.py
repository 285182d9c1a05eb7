# SPDX-License-Identifier: GPL-2.0-or-later
"""Times of lines: each form that programs write, years that are missing, and any text."""

from __future__ import annotations

import calendar
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.analytics.stamps import Stamp, Stamps
from tests.fix_zone import summer_time, zone

__all__ = ["summer_time", "zone"]

pytestmark = pytest.mark.usefixtures("summer_time")

_NOON = calendar.timegm((2026, 11, 27, 12, 0, 0))


@pytest.mark.parametrize(
    ("text", "usec"),
    [
        ("Nov 27 13:00:00 x", 0),
        ("<13>Nov 27 13:00:00 x", 0),
        ("Nov 27 2026 13:00:00: x", 0),
        ("Fri Nov 27 13:00:00 2026 x", 0),
        ("[Fri Nov 27 13:00:00 2026] x", 0),
        ("Nov 27 13:00:00.25 x", 250_000),
        ("2026-11-27T13:00:00 x", 0),
        ("2026-11-27 13:00:00,001 x", 1000),
        ("2026-11-27T12:00:00.000001Z x", 1),
        ("2026-11-27T13:00:00+01:00 x", 0),
        ("2026-11-27T07:00:00-0500 x", 0),
        ("<13>1 2026-11-27T12:00:00Z x", 0),
    ],
)
def test_forms(text: str, usec: int) -> None:
    found = Stamps(_NOON).find(text)
    assert found == Stamp(_NOON, usec, text.index("x"), text.startswith("["))


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "Nov 27", "Xyz 27 13:00:00 x", "Nov 00 13:00:00 x", "Feb 30 13:00:00 x", "Nov 27 13:60:00 x"),
        *("2026-13-01T00:00:00Z x", "1969-12-31T23:59:59Z x", "[1.5] x", "Fri Nov 27 13:00:00 x", "Nov 27 13:00:00x"),
    ],
)
def test_what_is_no_time(text: str) -> None:
    assert Stamps(_NOON).find(text) is None


@given(st.datetimes(min_value=datetime(1971, 1, 1)))
def test_every_time_with_a_zone_is_read_back(when: datetime) -> None:
    text = f"{when.isoformat()}+00:00 x"
    found = Stamps(_NOON).find(text)
    assert found is not None
    assert found.sec == calendar.timegm(when.timetuple())
    assert found.usec == when.microsecond


@given(st.text(st.sampled_from("0123456789:-+TZ [].,JanFebNov<>"), max_size=60))
def test_any_text(text: str) -> None:
    found = Stamps(_NOON).find(text)
    assert found is None or (found.sec >= 0 and 0 <= found.usec < 1_000_000 and found.end <= len(text))
