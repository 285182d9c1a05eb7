# SPDX-License-Identifier: GPL-2.0-or-later
"""slow_scan: One source tries many TCP ports in a day, however slowly.

Found is a source that sends SYNs to at least `ports` distinct destination ports, of whatever hosts, within one `day`
(UTC, in seconds since 1970; a column of the result). `hosts` counts the hosts. A source is a finding for each such
day.

Limits: a scan around midnight is halved; one of fewer ports a day is not found. A quick scan is found too.

Confuses: clients that use many services, and NAT gateways with hundreds of clients behind them: one finding a day for
each; raise `ports` where such are logged. Proxies, monitoring and load balancers use few ports.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Parameters, detector


class _Parameters(Parameters, frozen=True, kw_only=True):
    ports: Annotated[Count, Meta(description="At least so many distinct ports in a day.")] = 60


_TEXT = """
SELECT 'slow_scan' AS finding, 'low' AS severity, src_ip AS src_ip, NULLIF('', '') AS dest_ip,
       NULLIF(0, 0) AS dest_port,
       MIN(us) AS first, MAX(us) AS last, COUNT(*) AS count, COUNT(DISTINCT dest_port) AS ports,
       COUNT(DISTINCT dest_ip) AS hosts, day AS day
  FROM (SELECT sec - sec % 86400 AS day, src_ip, dest_ip, dest_port, us FROM packets
         WHERE {syn} AND src_ip IN (SELECT src_ip FROM packets WHERE {syn} GROUP BY src_ip
                                    HAVING COUNT(DISTINCT dest_port) >= {ports})) AS p
 GROUP BY day, src_ip HAVING COUNT(DISTINCT dest_port) >= {ports} ORDER BY ports DESC, src_ip, day"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="low",
    parameters=_Parameters,
    text=_TEXT,
    behind="{syn} AND src_ip = {row.src_ip}",
    culprit=True,
)
