# SPDX-License-Identifier: GPL-2.0-or-later
"""distributed_brute_force: Many sources together guess at a login service of one host, each of them only a few times.

Found is a port in `logins` of one host that gets, in a window of `within` that slides by its quarter, SYNs from at
least `sources` distinct sources of which each has `least` to `most` SYNs in that window. Only these sources count;
`count` is the SYNs of the fullest window, `sources` the sources of the one that has most.

Limits: sources that come once or twice in a window do not count, nor those with more than `most`, which are
brute_force's.

Confuses: a login service that many people use at the same time and come back to, such as a jump host in the morning:
one finding for each such service. Monitoring and backup are a few sources.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Ports, Sliding, Window, detector


class _Parameters(Sliding, frozen=True, kw_only=True):
    hops: ClassVar[int] = 4
    sources: Annotated[Count, Meta(description="At least so many distinct sources.")] = 20
    least: Annotated[Count, Meta(description="At least so many SYNs of each source.")] = 3
    most: Annotated[Count, Meta(description="At most so many SYNs of each source.")] = 19
    logins: Annotated[Ports, Meta(description="Ports where users log in.")] = "21,22,23,3389,5900"
    within: Annotated[Window, Meta(description="Length of the window.")] = 3600


_TEXT = """
SELECT 'distributed_brute_force' AS finding, 'high' AS severity, NULLIF('', '') AS src_ip, dest_ip AS dest_ip,
       dest_port AS dest_port, MIN(first_us) AS first, MAX(last_us) AS last, MAX(n) AS count, MAX(sources) AS sources
  FROM (SELECT start, dest_ip, dest_port, SUM(n) AS n, COUNT(*) AS sources,
               MIN(first_us) AS first_us, MAX(last_us) AS last_us
          FROM (SELECT start, dest_ip, dest_port, src_ip, COUNT(*) AS n, MIN(us) AS first_us, MAX(us) AS last_us
                  FROM (SELECT sec - sec % {hop} - k * {hop} AS start, us, src_ip, dest_ip, dest_port
                          FROM (SELECT sec, us, src_ip, dest_ip, dest_port FROM packets
                                 WHERE {syn} AND dest_port IN ({logins})) AS p CROSS JOIN ({hops}) AS w) AS x
                 GROUP BY start, dest_ip, dest_port, src_ip HAVING COUNT(*) >= {least} AND COUNT(*) <= {most}) AS y
         GROUP BY start, dest_ip, dest_port HAVING COUNT(*) >= {sources}) AS z
 GROUP BY dest_ip, dest_port ORDER BY sources DESC, dest_ip, dest_port"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="high",
    parameters=_Parameters,
    text=_TEXT,
    behind="{syn} AND dest_ip = {row.dest_ip} AND dest_port = {row.dest_port}",
)
