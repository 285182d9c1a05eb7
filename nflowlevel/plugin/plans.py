# SPDX-License-Identifier: GPL-2.0-or-later
"""What an output makes of the members of each stack that ends in it: made once for each of them, found again at once.

self._plans = Plans(lambda members: JSONPlan(members, ...))

def bind(self, members):
    self._plan = self._plans.of(members)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from nflowlevel.plugin.contract import Member

SomePlan = TypeVar("SomePlan")


class Plans(Generic[SomePlan]):
    """Plans by members: the same members are the same object, as comparing a hundred keys costs more than a batch."""

    def __init__(self, make: Callable[[tuple[Member, ...]], SomePlan]) -> None:
        self._make = make
        self._made: dict[int, tuple[tuple[Member, ...], SomePlan]] = {}

    def of(self, members: tuple[Member, ...]) -> SomePlan:
        """Return the plan for these members."""
        # The members are kept, so no other object gets their number.
        found = self._made.get(id(members))
        if found is None:
            found = self._made[id(members)] = (members, self._make(members))
        return found[1]
