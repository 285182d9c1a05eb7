# SPDX-License-Identifier: GPL-2.0-or-later
"""Counters know their unit and meaning, count like plain numbers, and read as one line."""

from __future__ import annotations

from typing import ClassVar

import pytest

from nflowlevel.stats import Counters, GroupStats, OutputStats, counter


@pytest.mark.parametrize("kind", [GroupStats, OutputStats])
def test_every_counter_is_described(kind: type[Counters]) -> None:
    for name, about in kind.declared.items():
        assert about.unit in ("packets", "records", "bytes", "datagrams", "messages", "events"), name
        assert about.meaning.endswith("."), name
        assert getattr(kind(), name) == 0


def test_instances_count_apart_and_in_plain_numbers() -> None:
    one, other = GroupStats(), GroupStats()
    one.received += 23
    assert (one.received, other.received, int(GroupStats.declared["received"])) == (23, 0, 0)
    assert type(one.received) is int


def test_misspelt_counter_is_an_error() -> None:
    stats = GroupStats()
    with pytest.raises(AttributeError, match="recieved"):
        stats.recieved += 1  # type: ignore[attr-defined]


def test_subclass_inherits_and_adds() -> None:
    class Mine(GroupStats):
        spoons = counter("events", "Spoons seen.", gauge=True)

    assert [*Mine.declared] == [*GroupStats.declared, "spoons"]
    assert Mine.declared["spoons"].gauge
    assert not Mine.declared["received"].gauge
    assert "spoons" not in GroupStats.declared


def test_as_dict_has_every_counter_in_order() -> None:
    stats = GroupStats()
    stats.gap += 3
    assert [*stats.as_dict()] == [*GroupStats.declared]
    assert stats.as_dict()["gap"] == 3


def test_summary_names_what_matters_and_what_happened() -> None:
    stats = GroupStats()
    assert str(stats) == "received 0, gap 0"
    stats.received, stats.overrun = 23, 1
    assert str(stats) == "received 23, gap 0, overrun 1"


def test_output_summary() -> None:
    stats = OutputStats()
    assert str(stats) == "records 0, written 0, pending 0, dropped 0"
    stats.records = 5
    stats.written = 2
    stats.drop("full", 2)
    stats.drop("stop", 1)
    assert str(stats) == "records 5, written 2, pending 0, dropped 3 (full 2, stop 1)"


def test_drops_have_declared_reasons() -> None:
    stats = OutputStats()
    assert stats.as_dict()["dropped"] == dict.fromkeys(OutputStats.reasons, 0)
    with pytest.raises(KeyError):
        stats.drop("mood", 1)


def test_an_output_may_have_reasons_of_its_own() -> None:
    class Mine(OutputStats):
        reasons: ClassVar = {**OutputStats.reasons, "refused": "The table refused the row."}

    stats = Mine()
    stats.drop("refused", 7)
    assert stats.dropped == {"full": 0, "too_long": 0, "stop": 0, "refused": 7}
    assert "refused" not in OutputStats().dropped
