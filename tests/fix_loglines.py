# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of LOGEMU, made of packets as our own output writes them."""

from __future__ import annotations

from nflowlevel.filters.printpkt import PRINTPKT
from nflowlevel.plugin.contract import NoOptions
from nflowlevel.records.batch import Batch
from nflowlevel.records.render import LogPlan


def printed(batch: Batch) -> list[str]:
    """Return the lines of a batch's packets, without newlines."""
    batch = PRINTPKT("p", NoOptions()).process(batch)
    text = b"".join(bytes(piece) for piece, _ in LogPlan(after=" fw ").render(batch.raw))
    return text.decode("utf-8", "replace").split("\n")[:-1]
