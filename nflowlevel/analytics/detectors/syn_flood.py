# SPDX-License-Identifier: GPL-2.0-or-later
"""syn_flood: One port of one host gets very many SYNs at once, from very many sources.

Time is cut into parts of `within`. Found is a port of a host that gets at least `attempts` SYNs in a part, from so
many distinct sources that they are at least `share` percent of the SYNs: spoofed sources hardly repeat. Each such
part is a row.

Limits: a flood from few true sources is a matter of heavy_hitters; one that straddles two parts may count as half.

Confuses: a service that very many people open at the same moment, such as tickets on sale, behind no proxy: one
finding for each part of time. A NAT gateway, a proxy or a load balancer is one source, so it is not found.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Parameters, Window, detector


class _Parameters(Parameters, frozen=True, kw_only=True):
    attempts: Annotated[Count, Meta(description="At least so many SYNs.")] = 1000
    share: Annotated[int, Meta(ge=1, le=100, description="At least so many sources in a hundred SYNs.")] = 50
    within: Annotated[Window, Meta(description="Length of a part of time.")] = 10


_TEXT = """
WITH busy AS (
  SELECT sec - sec % {within} AS start, dest_ip, dest_port FROM packets WHERE {syn}
   GROUP BY sec - sec % {within}, dest_ip, dest_port HAVING COUNT(*) >= {attempts})
SELECT 'syn_flood' AS finding, 'high' AS severity, NULLIF('', '') AS src_ip, p.dest_ip AS dest_ip,
       p.dest_port AS dest_port, MIN(p.us) AS first, MAX(p.us) AS last, COUNT(*) AS count,
       COUNT(DISTINCT p.src_ip) AS sources
  FROM (SELECT sec - sec % {within} AS start, dest_ip, dest_port, src_ip, us FROM packets WHERE {syn}) AS p
  JOIN busy AS b ON b.start = p.start AND b.dest_ip = p.dest_ip AND b.dest_port = p.dest_port
 GROUP BY p.start, p.dest_ip, p.dest_port HAVING COUNT(DISTINCT p.src_ip) * 100 >= COUNT(*) * {share}
 ORDER BY first, dest_ip, dest_port"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="high",
    parameters=_Parameters,
    text=_TEXT,
    behind="{syn} AND dest_ip = {row.dest_ip} AND dest_port = {row.dest_port}",
)
