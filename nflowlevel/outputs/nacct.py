# SPDX-License-Identifier: GPL-2.0-or-later
"""NACCT: a line for each flow, as the accounting of nacctd has it: eight fields with tabs between them.

    1795460084	17	10.77.0.2	5	10.77.0.1	6	1	30

They are the end of the flow in seconds since 1970, the protocol's number, source address and port, destination address
and port, and packets and bytes of the reply direction. For ICMP, type and code stand in the place of ports. What a flow
does not have is 0. A flow that begins has no line, as nothing is counted yet (ulogd2 writes one with zeros).

The target is a file, a FIFO, standard output or a socket. Lines that cannot be written wait in memory and are sent
later, as with JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nflowlevel.plugin.contract import Member
from nflowlevel.plugin.lines import File, LineOptions, LineOutput
from nflowlevel.records.render import LogPlan

if TYPE_CHECKING:
    from nflowlevel.records.batch import Batch


class NACCTOptions(LineOptions, frozen=True, kw_only=True):
    """Options of NACCT; names as in ulogd.conf."""

    file: File = "/var/log/ulogd_nacct.log"


class NACCT(LineOutput[NACCTOptions]):
    """The NACCT plugin; see the module."""

    name = "NACCT"
    Options = NACCTOptions
    consumes = (
        *("orig.ip.saddr.str", "orig.ip.daddr.str", "orig.ip.protocol", "orig.l4.sport", "orig.l4.dport"),
        *("reply.raw.pktlen", "reply.raw.pktcount", "icmp.code", "icmp.type", "flow.start.sec", "flow.end.sec"),
    )
    accepts = frozenset(("flow",))

    def __init__(self, instance: str, options: NACCTOptions) -> None:
        super().__init__(instance, options)
        self._plan = LogPlan(after="")

    def bind(self, members: tuple[Member, ...]) -> None:
        """Nothing to learn: the fields are always the same."""

    def render(self, batch: Batch) -> Iterator[tuple[memoryview, int]]:
        """Yield the batch's lines and their number, usually at once; the memory is good until the next is asked for."""
        return self._plan.accounts(batch.raw) if batch.type.of_flows else iter(())
