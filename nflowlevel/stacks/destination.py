# SPDX-License-Identifier: GPL-2.0-or-later
"""A destination: an output and the stacks that end in it, as a `Source` is an input and the stacks that begin with it.

One section is one output: one file, one connection, one endpoint, one queue in which records stand in the order of
their arrival. It is open as long as one of its stacks is. Before a stack's batch is written, the output is told what
the records of that stack carry, unless those before carried the same. What a stack gave, and what the output dropped
of that, is counted for each stack.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nflowlevel.plugin.contract import Input, Member, Output
from nflowlevel.stats import Giver

if TYPE_CHECKING:
    from nflowlevel.records.batch import Batch


class Share:
    """One stack's part of a destination: what its records carry, where they come from, what became of them."""

    def __init__(self, members: tuple[Member, ...], input_: Input[Any]) -> None:
        self.members = members
        self.input = input_
        self.counted = Giver()


class Destination:
    """An output and its shares, a share for each stack that ends in it."""

    def __init__(self, output: Output[Any]) -> None:
        self.output = output
        self.shares: list[Share] = []
        self._open_for: set[Share] = set()
        #: Those that carry the same are one object: changing from one to the other costs nothing. With the objections.
        self._distinct: dict[tuple[Member, ...], tuple[tuple[Member, ...], str]] = {}
        #: All that any stack brings; of keys of the same name the one with the larger values.
        self._all: dict[str, Member] = {}
        self._bound: tuple[Member, ...] | None = None
        self._turn: Share | None = None

    @property
    def is_shared(self) -> bool:
        """Whether several stacks end in it."""
        return len(self.shares) > 1

    @property
    def is_open(self) -> bool:
        """Whether one of its stacks is open."""
        return bool(self._open_for)

    def join(self, members: tuple[Member, ...], input_: Input[Any]) -> tuple[Share, str]:
        """Add a stack whose records carry `members`; the text says why that cannot be, and is empty where it can."""
        objection = ""
        if self.shares:
            # Most outputs end one stack, and need none of this.
            self._learn(self.shares[0].members)
            members, objection = self._learn(members)
        share = Share(members, input_)
        if not objection:
            self.shares.append(share)
        return share, objection

    def _learn(self, members: tuple[Member, ...]) -> tuple[tuple[Member, ...], str]:
        """Take in what a stack brings; return the one object for it, and why it cannot be brought."""
        if members not in self._distinct:
            self._distinct[members] = members, next(self._objections(members), "")
            for name, key in members:
                self._all[name] = name, max(key, self._all.get(name, (name, key))[1], key=lambda each: each.most or 0)
        return self._distinct[members]

    def _objections(self, members: tuple[Member, ...]) -> Iterator[str]:
        for name, key in members:
            known = self._all.get(name, (name, key))[1]
            if not self.output.agrees(known, key):
                yield (
                    f"{self.output} gets {name} as {key.type} here, but as {known.type} from another stack; "
                    "end this stack in a section of its own"
                )

    def bind(self) -> None:
        """Tell the output of all that any of its stacks brings; called when all of them have joined."""
        first = self.shares[0]
        self._turn = None
        self.output.input, self.output.netns = first.input, first.input.netns
        everything = tuple(self._all.values()) if len(self._distinct) > 1 else first.members
        self._carries(self._distinct.setdefault(everything, (everything, ""))[0] if self.is_shared else everything)

    def open(self, share: Share) -> None:
        """Open the output, unless another stack has it open."""
        if not self._open_for:
            if self.is_shared:
                self.bind()
            self.output.open()
        self._open_for.add(share)

    def close(self, share: Share, timeout: float) -> None:
        """Close the output, unless another stack still needs it."""
        self._open_for.discard(share)
        if not self._open_for:
            self.output.close(timeout)

    def write(self, share: Share, batch: Batch) -> None:
        """Have the output take a batch of one of its stacks."""
        output = self.output
        if not self.is_shared:
            output.write(batch)
            return
        if self._turn is not share:
            output.input, output.netns = share.input, share.input.netns
            self._carries(share.members)
            self._turn = share
        stats = output.stats
        stats.begin(share.counted)
        try:
            output.write(batch)
        finally:
            stats.end()

    def _carries(self, members: tuple[Member, ...]) -> None:
        if members is not self._bound:
            self.output.bind(members)
            self._bound = members
