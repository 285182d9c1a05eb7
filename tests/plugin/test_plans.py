# SPDX-License-Identifier: GPL-2.0-or-later
"""Plans are made once for the members of each stack, and told apart by what those are, not by what they equal."""

from __future__ import annotations

from nflowlevel.plugin.contract import Member
from nflowlevel.plugin.plans import Plans
from nflowlevel.records.keys import added_key


def members(*names: str) -> tuple[Member, ...]:
    return tuple((name, added_key(name, "uint8", "A test's own.")) for name in names)


def test_a_plan_is_made_once_for_the_same_members() -> None:
    made: list[tuple[Member, ...]] = []

    def make(of: tuple[Member, ...]) -> int:
        made.append(of)
        return len(made)

    plans = Plans(make)
    one, two = members("a.b"), members("a.b", "c.d")
    assert [plans.of(each) for each in (one, two, one, two, one)] == [1, 2, 1, 2, 1]
    assert made == [one, two]


def test_members_that_are_gone_give_their_place_to_nobody() -> None:
    """Of temporary members too: another object may come to lie where one was."""
    plans = Plans(len)
    assert [plans.of(members(*["k"] * count)) for count in range(50)] == list(range(50))
