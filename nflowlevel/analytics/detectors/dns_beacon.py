# SPDX-License-Identifier: GPL-2.0-or-later
"""dns_beacon: One host asks a name server that hardly anyone else uses, at regular intervals.

A look-up is one or several UDP packets to a port in `services`, so packets that follow another of the same source,
host and port by less than `pause` belong to the look-up before. Found are look-ups of one source to one port of one
host with at least `gaps` gaps from the beginning of one to that of the next, with a mean of at least `every` and a
standard deviation (of a sample) of at most `jitter` percent of it, if at most `sources` sources send to that port of
the host. `count` is the look-ups, `mean_secs` the mean gap, `jitter` the deviation in percent, `packets` all packets.

Limits: the names that are asked for are not in the log. What goes through the resolver that all use is not found, and
is what most malware does where port 53 is closed.

Confuses: a server or a router that asks a resolver of its own every minute, such as monitoring of that resolver: one
finding for each such pair. Clocks (port 123) are not in `services`.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Duration, Parameters, Ports, detector


class _Parameters(Parameters, frozen=True, kw_only=True):
    gaps: Annotated[int, Meta(ge=2, le=10**9, description="At least so many gaps.")] = 100
    every: Annotated[Duration, Meta(description="At least so long is the mean gap.")] = 5
    jitter: Annotated[int, Meta(ge=0, le=100, description="At most so many percent of the mean gap.")] = 10
    pause: Annotated[Duration, Meta(description="So much silence ends a look-up.")] = 2
    sources: Annotated[Count, Meta(description="At most so many sources use the server.")] = 3
    services: Annotated[Ports, Meta(description="Ports of name servers.")] = "53,5353"


_TEXT = """
WITH servers AS (
  SELECT dest_ip, dest_port FROM packets WHERE ip_protocol = 17 AND dest_port IN ({services})
   GROUP BY dest_ip, dest_port HAVING COUNT(DISTINCT src_ip) <= {sources}),
placed AS (
  SELECT p.src_ip AS src_ip, p.dest_ip AS dest_ip, p.dest_port AS dest_port, p.us AS us,
         p.us - LAG(p.us) OVER (PARTITION BY p.src_ip, p.dest_ip, p.dest_port ORDER BY p.us) AS silence,
         ROW_NUMBER() OVER (PARTITION BY p.src_ip, p.dest_ip, p.dest_port ORDER BY p.us) AS place,
         COUNT(*) OVER (PARTITION BY p.src_ip, p.dest_ip, p.dest_port) AS packets,
         MAX(p.us) OVER (PARTITION BY p.src_ip, p.dest_ip, p.dest_port) AS last_us
    FROM (SELECT src_ip, dest_ip, dest_port, us FROM packets WHERE ip_protocol = 17 AND dest_port IN ({services})) AS p
    JOIN servers AS s ON s.dest_ip = p.dest_ip AND s.dest_port = p.dest_port),
lookups AS (
  SELECT src_ip, dest_ip, dest_port, us, packets, last_us,
         us - LAG(us) OVER (PARTITION BY src_ip, dest_ip, dest_port ORDER BY us, place) AS gap,
         ROW_NUMBER() OVER (PARTITION BY src_ip, dest_ip, dest_port ORDER BY us, place) AS number
    FROM placed WHERE place = 1 OR silence >= {pause_us}),
regular AS (
  SELECT src_ip, dest_ip, dest_port, packets, last_us, MIN(us - gap) AS first_us, COUNT(*) + 1 AS n,
         AVG(gap * 1e-6) AS mean_gap, STDDEV_SAMP(gap * 1e-6) AS deviation
    FROM lookups WHERE number > 1 GROUP BY src_ip, dest_ip, dest_port, packets, last_us HAVING COUNT(*) >= {gaps})
SELECT 'dns_beacon' AS finding, 'medium' AS severity, src_ip AS src_ip, dest_ip AS dest_ip, dest_port AS dest_port,
       first_us AS first, last_us AS last, n AS count, ROUND(mean_gap, 3) AS mean_secs,
       ROUND(100 * deviation / mean_gap, 2) AS jitter, packets AS packets
  FROM regular WHERE mean_gap >= {every} AND deviation * 100 <= mean_gap * {jitter}
 ORDER BY count DESC, src_ip, dest_ip, dest_port"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="medium",
    parameters=_Parameters,
    text=_TEXT,
    behind="ip_protocol = 17 AND src_ip = {row.src_ip} AND dest_ip = {row.dest_ip} AND dest_port = {row.dest_port}",
)
