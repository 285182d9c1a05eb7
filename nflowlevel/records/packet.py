# SPDX-License-Identifier: GPL-2.0-or-later
"""PACKET: the record type of packets, how they lie in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nflowlevel.binding._lib import ffi
from nflowlevel.records.keys import CATALOGUE, PacketCondition
from nflowlevel.records.terms import TERMS
from nflowlevel.records.types import RecordType


def _row() -> Callable[[Any, int], Any]:
    from nflowlevel.records.packetrow import Packet

    return Packet


#: Packets, as nfnetlink_log gives them.
PACKET = RecordType(
    "packet",
    struct=ffi.typeof("struct nfl_record"),
    keys=[key for key in CATALOGUE if isinstance(key.valid, PacketCondition)],
    row=_row,
    six=PacketCondition.IP6,
    time=("oob_time_sec", "oob_time_usec"),
    terms=TERMS,
)
