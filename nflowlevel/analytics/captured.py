# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets of captures as lines of JSON, which C renders as the daemon's output JSON does.

SYNs have a member more, `tcp.options`: the guess of a sender's system stands on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from nflowlevel.analytics.systems import of_packet
from nflowlevel.analytics.wholelines import opened
from nflowlevel.archive.schema import TCP_OPTIONS
from nflowlevel.readers.files import read_pcap
from nflowlevel.records.batch import Batch
from nflowlevel.records.packet import PACKET
from nflowlevel.records.render import JSONPlan

#: What JSON has no form for.
_WITHOUT_FORM = ("raw", "rawstr", "ipaddr")
#: No headers of IP and TCP are longer together.
_MOST_HEADERS = 128


@cache
def _plan() -> JSONPlan:
    members = [(key.cim or key.name, key) for key in PACKET.by_name.values() if key.type not in _WITHOUT_FORM]
    members.append((TCP_OPTIONS.name, TCP_OPTIONS))
    return JSONPlan(members, head='{"@version": 1', tail="", timestamp=False, actions=frozenset())


def capture_lines(path: str, damaged: Callable[[str], None]) -> Iterator[bytes]:
    """Yield the packets of a capture as lines; `damaged` is told why the rest of it cannot be read.

    CaptureError, OSError: the file is no capture, or cannot be opened.
    """
    with opened(path) as file, read_pcap(file, strict=False) as packets:
        for batch in packets.batches():
            batch.add(TCP_OPTIONS, _options(batch))
            for lines, _ in _plan().render(batch.raw, batch.added):
                yield bytes(lines)
        if packets.error is not None:
            damaged(str(packets.error))


def _options(batch: Batch) -> list[str | None]:
    """Return the options of each SYN as hex digits; None: it is none, or its header is cut."""
    found: list[str | None] = []
    for number, is_syn in enumerate(batch.values("tcp.syn")):
        payload = batch[number].payload if is_syn else None
        syn = of_packet(bytes(payload[:_MOST_HEADERS])) if payload is not None else None
        found.append(syn.options.hex() if syn is not None and syn.options is not None else None)
    return found
