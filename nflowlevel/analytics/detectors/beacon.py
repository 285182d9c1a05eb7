# SPDX-License-Identifier: GPL-2.0-or-later
"""beacon: One host opens a connection to another again and again, at regular intervals.

The SYNs from one source to one port of one host, in the order of time, have gaps. Found are at least `gaps` of them
with a mean of at least `every` and a standard deviation (of a sample) of at most `jitter` percent of the mean. A
source that is regular to more than `targets` hosts and ports is monitoring, and is left out. `mean_secs` is the mean
gap, `jitter` the deviation in percent of it.

Limits: programs that wait a random time (more than `jitter`) or pause at night are not found. SYNs that are sent
again make short gaps, so a beacon whose server is down may not be found.

Confuses: clients that ask regularly by design (updates, mail, clocks over TCP, monitoring of at most `targets`
services, the health checks of a small load balancer): one finding for each host and port that they ask. A backup once
a day has too few gaps in a week; busy proxies and NAT gateways are irregular.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Duration, Parameters, detector


class _Parameters(Parameters, frozen=True, kw_only=True):
    gaps: Annotated[int, Meta(ge=2, le=10**9, description="At least so many gaps.")] = 100
    every: Annotated[Duration, Meta(description="At least so long is the mean gap.")] = 10
    jitter: Annotated[int, Meta(ge=0, le=100, description="At most so many percent of the mean gap.")] = 5
    targets: Annotated[Count, Meta(description="At most so many regular hosts and ports of one source.")] = 5


_TEXT = """
WITH many AS (
  SELECT src_ip, dest_ip, dest_port FROM packets WHERE {syn} GROUP BY src_ip, dest_ip, dest_port
  HAVING COUNT(*) > {gaps} AND MAX(us) - MIN(us) >= (COUNT(*) - 1) * {every_us}),
placed AS (
  SELECT p.src_ip AS src_ip, p.dest_ip AS dest_ip, p.dest_port AS dest_port, p.us AS us,
         p.us - LAG(p.us) OVER (PARTITION BY p.src_ip, p.dest_ip, p.dest_port ORDER BY p.us) AS gap,
         ROW_NUMBER() OVER (PARTITION BY p.src_ip, p.dest_ip, p.dest_port ORDER BY p.us) AS place
    FROM (SELECT src_ip, dest_ip, dest_port, us FROM packets WHERE {syn}) AS p
    JOIN many AS m ON m.src_ip = p.src_ip AND m.dest_ip = p.dest_ip AND m.dest_port = p.dest_port),
regular AS (
  SELECT src_ip, dest_ip, dest_port, MIN(us - gap) AS first_us, MAX(us) AS last_us, COUNT(*) + 1 AS n,
         AVG(gap * 1e-6) AS mean_gap, STDDEV_SAMP(gap * 1e-6) AS deviation
    FROM placed WHERE place > 1 GROUP BY src_ip, dest_ip, dest_port),
found AS (
  SELECT src_ip, dest_ip, dest_port, first_us, last_us, n, mean_gap, deviation,
         COUNT(*) OVER (PARTITION BY src_ip) AS targets
    FROM regular WHERE deviation * 100 <= mean_gap * {jitter})
SELECT 'beacon' AS finding, 'medium' AS severity, src_ip AS src_ip, dest_ip AS dest_ip, dest_port AS dest_port,
       first_us AS first, last_us AS last, n AS count, ROUND(mean_gap, 3) AS mean_secs,
       ROUND(100 * deviation / mean_gap, 2) AS jitter
  FROM found WHERE targets <= {targets} ORDER BY count DESC, src_ip, dest_ip, dest_port"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="medium",
    parameters=_Parameters,
    text=_TEXT,
    behind="{syn} AND src_ip = {row.src_ip} AND dest_ip = {row.dest_ip} AND dest_port = {row.dest_port}",
)
