# SPDX-License-Identifier: GPL-2.0-or-later
"""FlowBatch: a batch of flows. It is a Batch whose rows are `Flow`s, for type checkers as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nflowlevel.records.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self, overload

    from nflowlevel.records.flowrow import Flow


class FlowBatch(Batch):
    """Flows that were reported or listed together. Iterating and indexing give `Flow`s; all else is as in Batch."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[Flow]: ...  # type: ignore[override]

        @overload  # type: ignore[override]
        def __getitem__(self, index: int) -> Flow: ...
        @overload
        def __getitem__(self, index: slice) -> Self: ...
        def __getitem__(self, index: int | slice) -> Flow | Self: ...
