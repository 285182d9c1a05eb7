# SPDX-License-Identifier: GPL-2.0-or-later
"""The base of the SQL outputs: rows of COPY text, with those keys that the table has columns for.

A plugin adds its options and its `Database`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from nflowlevel.logs import log
from nflowlevel.plugin.contract import Finding
from nflowlevel.plugin.plans import Plans
from nflowlevel.plugin.spooled import SpooledOutput
from nflowlevel.records.keys import Condition, FlowCondition, PacketCondition, SumCondition
from nflowlevel.records.render import CopyPlan
from nflowlevel.sql.columns import plan_members
from nflowlevel.sql.options import SQLOptions
from nflowlevel.sql.sink import TableSink

if TYPE_CHECKING:
    from nflowlevel.records.batch import Batch
    from nflowlevel.spool.rows import Layout
    from nflowlevel.spool.sink import Sink
    from nflowlevel.sql.database import Database

#: Our own tables, for one kind of records each.
_OWN_TABLES: dict[type[Condition], str] = {PacketCondition: "packets", FlowCondition: "flows", SumCondition: "sums"}

SomeSQL = TypeVar("SomeSQL", bound=SQLOptions)


class SQLOutput(SpooledOutput[SomeSQL]):
    """An output into a database."""

    def __init__(self, instance: str, options: SomeSQL) -> None:
        super().__init__(instance, options)
        self._plans: Plans[dict[Layout, CopyPlan]] = Plans(lambda _: {})

    @abstractmethod
    def database(self) -> Database:
        """Return a connection, not connected yet."""

    def sink(self) -> Sink:
        """Return the table as a sink."""
        return TableSink(self.database(), self.members, self.options)

    def load(self) -> None:
        """Import the driver and read our schema."""
        self.database().load()

    def render(self, batch: Batch, layout: Layout) -> Iterable[tuple[bytes, int]]:
        """Yield the batch's rows: what the layout has of other stacks is null."""
        plans = self._plans.of(self.members)
        plan = plans.get(layout)
        if plan is None:
            plan = plans[layout] = CopyPlan(plan_members(layout, self.members))
        return plan.render(batch.raw, batch.added)

    def completed(self, batch: Batch) -> Batch:
        """Return the batch: the plan knows what it lacks."""
        return batch

    def open(self) -> None:
        """Start, and say of a table for other records that its rows will be empty."""
        super().open()
        for found in self.misplaced():
            log.warning("%s: %s; %s", self, found.text, found.remedy)

    def misplaced(self) -> Iterator[Finding]:
        """Yield that the table is ours for another kind of records: rows of it would be empty."""
        table = self.options.table.lower()
        fitting = {_OWN_TABLES[kind] for _, key in self.members if (kind := type(key.valid)) in _OWN_TABLES}
        if fitting and table in {*_OWN_TABLES.values()} - fitting:
            right = " or ".join(sorted(fitting))
            text = f"table={table} is the table of {table}, but {right} come: its rows would be empty"
            yield Finding("problem", text, f"write table={right}")

    def examine(self) -> Iterator[Finding]:
        """What it needs here; databases have a command of their own, which can do more."""
        yield from self.needs()
        yield from self.misplaced()
        yield Finding("hint", "its database is not checked here", "check it with: nflowlevel sql check -c FILE")
