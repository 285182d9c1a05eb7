# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets over time, for pictures: how many were allowed, blocked, or neither, in spans of a good length."""

from __future__ import annotations

from nflowlevel.analytics.log import Log

#: A bar of a picture is one of these, so that there are at most so many.
_STEPS = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10_800, 43_200, 86_400, 604_800)
_MOST_BARS = 200
#: Beyond these: so many seconds, and ten times as many, and so on. One wrong clock makes a log last for decades.
_LONG_STEP = 30 * 86_400


def step_of(first: int | None, last: int | None) -> int:
    """Return how many seconds a bar is, so that there are not too many from the first to the last second."""
    span = 0 if first is None or last is None else last - first
    longest = _LONG_STEP
    while span // longest >= _MOST_BARS:
        longest *= 10
    return next((step for step in _STEPS if span // step < _MOST_BARS), longest)


def traffic(log: Log, step: int) -> list[tuple[int, int, int, int]]:
    """Return the packets of each `step` seconds: second, allowed, blocked, neither."""
    # Counted twice, and not one by one with a sum for each column: that takes twice as long.
    rows = log.packets.sql(
        f"SELECT sec - sec % {step} AS time, COUNT(*) AS n, COUNT(raw_label) AS labelled, "
        f"COUNT(CASE WHEN raw_label = 0 THEN 1 END) AS blocked "
        f"FROM packets WHERE sec IS NOT NULL GROUP BY sec - sec % {step} ORDER BY time"
    ).rows()
    return [(int(time), labelled - blocked, blocked, n - labelled) for time, n, labelled, blocked in rows]
