# SPDX-License-Identifier: GPL-2.0-or-later
"""REPORTED: the record type of packets that programs report (UNIXSOCK), with what these say of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nflowlevel.binding._lib import ffi
from nflowlevel.records.keys import CATALOGUE, PacketCondition, ReportedCondition, published_by
from nflowlevel.records.terms import TERMS
from nflowlevel.records.types import RecordType


def _row() -> Callable[[Any, int], Any]:
    from nflowlevel.records.packetrow import Packet

    return Packet


_OWN = published_by("UNIXSOCK")

#: They begin as packets do, so plugins find what they read of packets in the same places. A name that UNIXSOCK and
#: another plugin publish means UNIXSOCK's key.
REPORTED = RecordType(
    "reported packet",
    struct=ffi.typeof("struct nfl_reported"),
    begins=ffi.typeof("struct nfl_record"),
    keys=[*_OWN, *(key for key in CATALOGUE if isinstance(key.valid, PacketCondition) and key not in _OWN)],
    row=_row,
    six=PacketCondition.IP6,
    time=("oob_time_sec", "oob_time_usec"),
    whole_seconds=ReportedCondition.SECONDS,
    terms=TERMS,
)
