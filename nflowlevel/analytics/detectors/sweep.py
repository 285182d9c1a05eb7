# SPDX-License-Identifier: GPL-2.0-or-later
"""sweep: One source tries one TCP port of many hosts in a short time.

Found is a source that sends SYNs to one destination port of at least `hosts` distinct hosts in a window of `within`
that slides by its half, with at most `tries` SYNs a host on average: who uses many servers comes back to them.

Limits: SYNs only; a slow sweep is not found.

Confuses: busy clients that contact many servers at once, such as a proxy, a NAT gateway or a browser on port 443, a
mail server on port 25, and monitoring that checks many hosts: up to one finding for each of them and port. On a busy
network blocked_sweep (only what the firewall refused) and first_contact (only hosts new to the source) are quieter.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.columns import SYN
from nflowlevel.analytics.detector import Count, Sliding, Window, detector, sliding


class _Parameters(Sliding, frozen=True, kw_only=True):
    hosts: Annotated[Count, Meta(description="At least so many distinct hosts.")] = 15
    tries: Annotated[Count, Meta(description="At most so many SYNs a host on average.")] = 2
    within: Annotated[Window, Meta(description="Length of the window.")] = 60


DETECTOR = detector(
    __name__,
    __doc__,
    severity="low",
    parameters=_Parameters,
    text=sliding(
        "sweep",
        "low",
        by=("src_ip", "dest_port"),
        distinct="dest_ip",
        called="hosts",
        where=SYN,
        having=" AND COUNT(*) <= {tries} * COUNT(DISTINCT dest_ip)",
    ),
    behind="{syn} AND src_ip = {row.src_ip} AND dest_port = {row.dest_port}",
    culprit=True,
)
