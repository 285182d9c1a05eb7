# SPDX-License-Identifier: GPL-2.0-or-later
"""protocol_scan: One source tries many IP protocols of one host.

Found is a source that sends packets of at least `protocols` distinct IP protocols (`ip_protocol`) to one host in a
window of `within` that slides by its half.

Limits: extension headers of IPv6 are no protocols here; a scan of fewer protocols a window is not found.

Confuses: hardly anything: two hosts that talk seldom use more than five protocols (TCP, UDP, ICMP, ESP, GRE). Routers
that also speak OSPF, PIM and VRRP to each other have up to eight.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Sliding, Window, detector, sliding


class _Parameters(Sliding, frozen=True, kw_only=True):
    protocols: Annotated[Count, Meta(description="At least so many distinct protocols.")] = 10
    within: Annotated[Window, Meta(description="Length of the window.")] = 60


DETECTOR = detector(
    __name__,
    __doc__,
    severity="medium",
    parameters=_Parameters,
    text=sliding(
        "protocol_scan",
        "medium",
        by=("src_ip", "dest_ip"),
        distinct="ip_protocol",
        called="protocols",
        where="ip_protocol >= 0",
    ),
    behind="src_ip = {row.src_ip} AND dest_ip = {row.dest_ip}",
)
