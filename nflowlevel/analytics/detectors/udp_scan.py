# SPDX-License-Identifier: GPL-2.0-or-later
"""udp_scan: One source tries many UDP ports of one host in a short time.

Found is a source that sends UDP packets to at least `ports` distinct ports below `below` of one host in a window of
`within` that slides by its half. Packets from a port in `services` do not count: they are answers.

Limits: a scan from such a port (53 is a favourite) or of high ports only is not found. Services on other ports that
answer to many low ports need to be added to `services`.

Confuses: programs that open a port below 32768 for each stream, such as some telephone systems: one finding for each
pair of hosts. Traceroute and the answers to resolvers go to high ports or come from a service's port, so they are not
found.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Ports, Sliding, Window, detector, sliding

_CONDITION = "ip_protocol = 17 AND dest_port < {below} AND src_port NOT IN ({services})"


class _Parameters(Sliding, frozen=True, kw_only=True):
    ports: Annotated[Count, Meta(description="At least so many distinct ports of the host.")] = 50
    below: Annotated[int, Meta(ge=1, le=65536, description="Only destination ports below this one.")] = 32768
    services: Annotated[Ports, Meta(description="Source ports whose packets are answers.")] = "53,123,161,443"
    within: Annotated[Window, Meta(description="Length of the window.")] = 60


DETECTOR = detector(
    __name__,
    __doc__,
    severity="medium",
    parameters=_Parameters,
    text=sliding(
        "udp_scan", "medium", by=("src_ip", "dest_ip"), distinct="dest_port", called="ports", where=_CONDITION
    ),
    behind=f"{_CONDITION} AND src_ip = {{row.src_ip}} AND dest_ip = {{row.dest_ip}}",
)
