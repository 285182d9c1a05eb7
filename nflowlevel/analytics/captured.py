# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets of captures as lines of JSON, which C renders as the daemon's output JSON does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from nflowlevel.readers.files import read_pcap
from nflowlevel.records.packet import PACKET
from nflowlevel.records.render import JSONPlan

#: What JSON has no form for.
_WITHOUT_FORM = ("raw", "rawstr", "ipaddr")


@cache
def _plan() -> JSONPlan:
    members = [(key.cim or key.name, key) for key in PACKET.by_name.values() if key.type not in _WITHOUT_FORM]
    return JSONPlan(members, head='{"@version": 1', tail="", timestamp=False, actions=frozenset())


def capture_lines(path: str, damaged: Callable[[str], None]) -> Iterator[bytes]:
    """Yield the packets of a capture as lines; `damaged` is told why the rest of it cannot be read.

    CaptureError, OSError: the file is no capture, or cannot be opened.
    """
    with read_pcap(path, strict=False) as packets:
        for batch in packets.batches():
            for lines, _ in _plan().render(batch.raw, batch.added):
                yield bytes(lines)
        if packets.error is not None:
            damaged(str(packets.error))
