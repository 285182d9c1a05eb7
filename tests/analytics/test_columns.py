# SPDX-License-Identifier: GPL-2.0-or-later
"""Which columns are times: those of every detector and join, and the same ones wherever they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nflowlevel.analytics.answer import Answer, shown
from nflowlevel.analytics.columns import TIMES, per_second
from nflowlevel.analytics.reading import read
from nflowlevel.analytics.registry import names
from nflowlevel.cli.find import written
from tests.fix_logs import START, log_file, record


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("sec", START, 1),
        ("us", START * 10**6, 10**6),
        ("us", 0, 10**6),
        ("hour", 23, None),
        ("day", 31, None),
        ("hour", START, 1),
        ("count", START, None),
        ("us", "x", None),
        ("sec", True, None),
        ("first", None, None),
    ],
)
def test_which_values_are_times(name: str, value: Any, wanted: int | None) -> None:
    assert per_second(name, value) == wanted


@pytest.mark.parametrize("name", sorted(TIMES))
def test_a_time_is_one_wherever_it_is_shown(name: str) -> None:
    value = START * TIMES[name]
    assert shown(name, value) == "2026-11-24 08:30:00"
    assert written(name, value).startswith("2026-11-24T08:30:00")


def test_all_columns_that_hold_times_are_known(tmp_path: Path) -> None:
    """A column of an answer is a time if its values are: those of this log lie within a minute of START."""
    auth = tmp_path / "auth.log"
    auth.write_text("2026-11-24T08:30:09Z fw sshd[7]: Failed password for root from 192.0.2.66 port 6000 ssh2\n")
    packets = [record(n, dest_port=n) for n in range(30)]
    with read(log_file(tmp_path / "a.json", [*packets, record(5)])) as log:
        answers: list[Answer] = [log.find(name) for name in names()]
        answers += [log.logins(auth), log.host("192.0.2.66", every="1m"), log.count("src_ip", every="1h")]
        met = set()
        for answer in answers:
            for column, value in ((column, row[column]) for row in answer.dicts() for column in row):
                if isinstance(value, int) and (
                    value // 10**6 // 86_400 == START // 86_400 or value // 86_400 == START // 86_400
                ):
                    met.add(column)
                    assert per_second(column, value) is not None, (answer.sql, column)
    assert {"us", "first", "last", "opened", "time", "day", "hour"} <= met
