# SPDX-License-Identifier: GPL-2.0-or-later
"""blocked_sweep: One source is refused by many hosts on one port, TCP or UDP.

Found is a source of whose TCP or UDP packets to one destination port the firewall blocked those to at least `hosts`
distinct hosts in a window of `within` that slides by its half. Blocked is what has label 0 (`raw_label`, the input's
`numeric_label`), by ulogd2's convention.

Limits: it needs labels. Where blocked packets and others have the same label 0, it sees all packets and confuses what
sweep does; where rules answer for services that are allowed, it sees only the others.

Confuses: a client whose rule is missing, such as monitoring or backup of many hosts that the firewall does not let
through yet: one finding for each of them and port. Broadcasts and multicast are a few addresses, so they are not
found.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Sliding, Window, detector, sliding

_BLOCKED = "raw_label = 0 AND (ip_protocol = 6 OR ip_protocol = 17)"


class _Parameters(Sliding, frozen=True, kw_only=True):
    hosts: Annotated[Count, Meta(description="At least so many distinct hosts.")] = 10
    within: Annotated[Window, Meta(description="Length of the window.")] = 60


DETECTOR = detector(
    __name__,
    __doc__,
    severity="medium",
    parameters=_Parameters,
    text=sliding(
        "blocked_sweep",
        "medium",
        by=("src_ip", "dest_port", "ip_protocol"),
        distinct="dest_ip",
        called="hosts",
        where=_BLOCKED,
    ),
    behind="raw_label = 0 AND ip_protocol = {row.ip_protocol} AND src_ip = {row.src_ip} "
    "AND dest_port = {row.dest_port}",
    culprit=True,
)
