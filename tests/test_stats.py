# SPDX-License-Identifier: GPL-2.0-or-later
"""Counters know their unit and meaning, count like plain numbers, and read as one line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.binding._lib import ffi
from nflowlevel.readers.reports import ReportStats
from nflowlevel.stats import (
    CaptureStats,
    Counters,
    FlowStats,
    Giver,
    GroupStats,
    OutputStats,
    Turns,
    counter,
    take_over,
)


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


def test_what_another_object_has_counted_is_taken_over() -> None:
    stats = GroupStats()
    stats.gap = 7
    take_over(stats, SimpleNamespace(received=23, overrun=0, fd=5))
    take_over(stats, SimpleNamespace(received=24))
    assert stats.as_dict() == {**dict.fromkeys(GroupStats.declared, 0), "received": 24, "gap": 7}


@pytest.mark.parametrize(
    ("struct", "kind", "others"),
    [
        ("nfl_receiver", GroupStats, ""),
        # What happened is `received` all the same, and the kernel tells nobody what he has not asked for.
        ("nfl_flows", FlowStats, "created updated destroyed unwanted"),
        ("nfl_capture", CaptureStats, ""),
        ("nfl_reports", ReportStats, ""),
    ],
)
def test_what_is_counted_in_c_is_shown(struct: str, kind: type[Counters], others: str) -> None:
    """A counter that is in no status is a loss that nobody sees."""
    fields = {name for name, field in ffi.typeof(f"struct {struct}").fields if field.type.cname == "uint64_t"}
    assert fields - {"valid_any", "valid_all", *others.split()} <= kind.declared.keys()
    assert {"received", "malformed"} <= fields


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


# -- several givers ---------------------------------------------------------------------------------------------------

_STEPS = st.lists(
    st.tuples(st.sampled_from(("add", "cut", "forget")), st.integers(0, 2), st.integers(0, 9)), max_size=60
)


@given(_STEPS)
def test_whose_records_have_which_numbers(steps: list[tuple[str, int, int]]) -> None:
    """As a list with an entry for each record tells it."""
    givers = [Giver() for _ in range(3)]
    turns, whole, gone = Turns(), list[int](), 0
    turns.begin(5)
    for step, who, count in steps:
        if step == "add":
            turns.add(turns.end + count, givers[who])
            whole += [who] * count
        elif step == "cut":
            turns.cut(5 + gone + who, count)
            del whole[gone + who : gone + who + count]
        else:
            gone = min(len(whole), gone + count)
            turns.forget(5 + gone)
        assert turns.end == 5 + len(whole)
        for first in range(gone, len(whole) + 2):
            found = [givers.index(giver) for giver, n in turns.of(5 + first, 4) for _ in range(n)]
            assert found == whole[first : first + 4]


def test_turns_that_are_forgotten_take_no_memory() -> None:
    turns, givers = Turns(), (Giver(), Giver())
    for number in range(10_000):
        turns.add(number + 1, givers[number % 2])
        turns.forget(number - 10)
    assert len(turns._ends) < 64
