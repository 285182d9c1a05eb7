# SPDX-License-Identifier: GPL-2.0-or-later
"""port_scan: One source tries many TCP ports of one host in a short time.

Found is a source that sends SYNs to at least `ports` distinct ports of one host in a window of `within` that slides
by its half.

Limits: SYNs only (see ack_scan, stealth_scan, udp_scan, protocol_scan); a slower scan is slow_scan's, one spread over
many sources is not found. A spoofed source can be made to look guilty: a SYN needs no answer.

Confuses: vulnerability scanners of one's own, passive FTP with many small files, and RPC programs that use a port for
each task: one finding for each pair of hosts. Proxies, load balancers and NAT gateways use few ports of a host, so
they are not found.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.columns import SYN
from nflowlevel.analytics.detector import Count, Sliding, Window, detector, sliding


class _Parameters(Sliding, frozen=True, kw_only=True):
    ports: Annotated[Count, Meta(description="At least so many distinct ports of the host.")] = 100
    within: Annotated[Window, Meta(description="Length of the window.")] = 60


DETECTOR = detector(
    __name__,
    __doc__,
    severity="medium",
    parameters=_Parameters,
    text=sliding("port_scan", "medium", by=("src_ip", "dest_ip"), distinct="dest_port", called="ports", where=SYN),
    behind="{syn} AND src_ip = {row.src_ip} AND dest_ip = {row.dest_ip}",
    culprit=True,
)
