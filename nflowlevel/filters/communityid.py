# SPDX-License-Identifier: GPL-2.0-or-later
"""COMMUNITYID: adds `community_id`, by which Suricata, Zeek and others name the same flow (community ID, version 1).

Packets of both directions and the flow that they make have one ID, so a packet that was logged is found in what the
others wrote. Their JSON has it by the same name. `seed` has to be that of the other programs, which is 0
unless you changed it. Fragments have no ports: only the first one has the ID of its flow.

Records without an IP address or a protocol, such as ARP, have none.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Annotated, Any

from msgspec import Meta

from nflowlevel.options import Options
from nflowlevel.plugin.contract import Filter
from nflowlevel.records.batch import Batch
from nflowlevel.records.communityid import WITH_PORTS, of_texts
from nflowlevel.records.keys import COMMUNITY_ID

#: Flows whose IDs are kept: packets come in trains.
_KEPT = 65536

#: Protocols of which ports, or type and code, are part of the ID: ICMP and ICMPv6 besides.
_WITH_ENDS = WITH_PORTS | {1, 58}

_PACKET = ("ip.saddr", "ip.daddr", "ip.protocol")
_FLOW = ("orig.ip.saddr", "orig.ip.daddr", "orig.ip.protocol")


class COMMUNITYIDOptions(Options, frozen=True, kw_only=True):
    """Options of COMMUNITYID."""

    section_optional = True

    seed: Annotated[int, Meta(ge=0, le=0xFFFF, description="Seed of the IDs; that of the other programs.")] = 0


class COMMUNITYID(Filter[COMMUNITYIDOptions]):
    """The COMMUNITYID plugin; see the module."""

    name = "COMMUNITYID"
    Options = COMMUNITYIDOptions
    consumes = tuple(f"[{name}]" for name in (*_PACKET, *_FLOW))

    def __init__(self, instance: str, options: COMMUNITYIDOptions) -> None:
        super().__init__(instance, options)
        self._id = lru_cache(maxsize=_KEPT)(partial(_id_of, options.seed))

    def process(self, batch: Batch) -> Batch:
        """Add the IDs."""
        batch = batch.copy()
        ends = _FLOW if batch.type.of_flows else _PACKET
        ports = ("orig.l4.sport", "orig.l4.dport") if batch.type.of_flows else ("src_port", "dest_port")
        first, second = (
            _either(batch, port, of_icmp, of_icmpv6)
            for port, of_icmp, of_icmpv6 in zip(
                ports, ("icmp.type", "icmp.code"), ("icmpv6.type", "icmpv6.code"), strict=True
            )
        )
        columns = [batch.values(name) for name in ends]
        batch.add(COMMUNITY_ID, list(map(self._id, *columns, first, second)))
        return batch


def _either(batch: Batch, *keys: str) -> list[Any]:
    """Return of each row the one of these keys that it has, or None."""
    columns = [values for values in map(batch.values, keys) if values.count(None) < len(values)]
    if len(columns) == 1:
        return columns[0]
    return [next((value for value in row if value is not None), None) for row in zip(*columns, strict=True)] or (
        [None] * len(batch)
    )


def _id_of(
    seed: int, saddr: str | None, daddr: str | None, protocol: int | None, first: int | None, second: int | None
) -> str | None:
    """Return the ID of a tuple, or None where something is missing that it is made of."""
    if saddr is None or daddr is None or protocol is None or (first is None and protocol in _WITH_ENDS):
        return None
    return of_texts(protocol, saddr, daddr, first or 0, second or 0, seed)
