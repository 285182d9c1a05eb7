# SPDX-License-Identifier: GPL-2.0-or-later
"""scan_then_brute: One source scans with one tool, then guesses passwords with another.

A brute force is, by one source with one TCP window, at least `attempts` SYNs from at least `ports` distinct source
ports to one port in `logins` of one host in a window of 300 s that slides by 60 s; `first`, `last` and `count` are
its (as in brute_force). It is found if the same source sent SYNs with another TCP window to that destination port
before the first of them, at most `within` earlier, that look like a scan: at least `scans` of them, all from one
source port below 32768, or to at least `hosts` distinct hosts. Each such window of a scan is a row: `scan_first`
(µs), `scans` (SYNs), `scan_port` (the least source port), `scan_window`, `brute_window`, and `delay`, the seconds
from the last SYN of the scan to the first of the brute force.

Limits: scan and brute force from different addresses, or with one tool, are not joined. A brute force that was there
before the scan counts from its beginning.

Confuses: an administrator's discovery of hosts that is followed by many logins, such as configuration by ssh, from
one machine with two programs: one finding for each host.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Parameters, Ports, Window, detector


class _Parameters(Parameters, frozen=True, kw_only=True):
    attempts: Annotated[Count, Meta(description="Brute force: at least so many SYNs.")] = 20
    ports: Annotated[Count, Meta(description="Brute force: at least so many distinct source ports.")] = 10
    logins: Annotated[Ports, Meta(description="Ports where users log in.")] = "21,22,23,3389,5900"
    scans: Annotated[Count, Meta(description="Scan: at least so many SYNs from one source port.")] = 3
    hosts: Annotated[Count, Meta(description="Scan: or at least so many distinct hosts.")] = 10
    within: Annotated[Window, Meta(description="The longest time between a SYN of the scan and the brute force.")] = (
        3600
    )


# The keys that have half as many SYNs in some 300 s first: see `detector.busy`.
_TEXT = """
WITH busy AS (
  SELECT src_ip, dest_ip, dest_port FROM (
    SELECT src_ip, dest_ip, dest_port, COUNT(*) AS n FROM packets WHERE {syn} AND dest_port IN ({logins})
     GROUP BY src_ip, dest_ip, dest_port, sec - sec % 300) AS d
   WHERE 2 * n >= {attempts} GROUP BY src_ip, dest_ip, dest_port),
tries AS (
  SELECT p.sec AS sec, p.us AS us, p.src_ip AS src_ip, p.dest_ip AS dest_ip, p.src_port AS src_port,
         p.dest_port AS dest_port, p.tcp_window AS tcp_window
    FROM (SELECT sec, us, src_ip, dest_ip, src_port, dest_port, tcp_window FROM packets
           WHERE {syn} AND dest_port IN ({logins})) AS p
    JOIN busy AS b ON b.src_ip = p.src_ip AND b.dest_ip = p.dest_ip AND b.dest_port = p.dest_port),
brutes AS (
  SELECT src_ip, dest_ip, dest_port, tcp_window, MIN(first_us) AS first_us, MIN(first_sec) AS first_sec,
         MAX(last_us) AS last_us, MAX(n) AS n
    FROM (SELECT start, src_ip, dest_ip, dest_port, tcp_window, COUNT(*) AS n, MIN(us) AS first_us,
                 MIN(sec) AS first_sec, MAX(us) AS last_us
            FROM (SELECT sec - sec % 60 - k * 60 AS start, sec, us, src_ip, dest_ip, src_port, dest_port, tcp_window
                    FROM tries CROSS JOIN (SELECT 0 AS k UNION ALL SELECT 1 AS k UNION ALL SELECT 2 AS k
                                           UNION ALL SELECT 3 AS k UNION ALL SELECT 4 AS k) AS w) AS x
           GROUP BY start, src_ip, dest_ip, dest_port, tcp_window
          HAVING COUNT(*) >= {attempts} AND COUNT(DISTINCT src_port) >= {ports}) AS y
   GROUP BY src_ip, dest_ip, dest_port, tcp_window),
syns AS (
  SELECT src_ip, dest_ip, src_port, dest_port, tcp_window, sec, us FROM packets
   WHERE {syn} AND dest_port IN ({logins}) AND src_ip IN (SELECT src_ip FROM brutes))
SELECT 'scan_then_brute' AS finding, 'high' AS severity, b.src_ip AS src_ip, b.dest_ip AS dest_ip,
       b.dest_port AS dest_port,
       b.first_us AS first, b.last_us AS last, b.n AS count, MIN(s.us) AS scan_first, COUNT(*) AS scans,
       MIN(s.src_port) AS scan_port, s.tcp_window AS scan_window, b.tcp_window AS brute_window,
       b.first_sec - MAX(s.sec) AS delay
  FROM brutes AS b JOIN syns AS s ON s.src_ip = b.src_ip AND s.dest_port = b.dest_port
 WHERE s.tcp_window <> b.tcp_window AND s.us < b.first_us AND s.us >= b.first_us - {within_us}
 GROUP BY b.src_ip, b.dest_ip, b.dest_port, b.tcp_window, b.first_us, b.first_sec, b.last_us, b.n, s.tcp_window
HAVING (COUNT(*) >= {scans} AND MIN(s.src_port) = MAX(s.src_port) AND MAX(s.src_port) < 32768)
    OR COUNT(DISTINCT s.dest_ip) >= {hosts}
 ORDER BY first, src_ip, dest_ip, dest_port, brute_window, scan_window"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="high",
    parameters=_Parameters,
    text=_TEXT,
    behind="{syn} AND src_ip = {row.src_ip} AND dest_port = {row.dest_port} AND us >= {row.scan_first} "
    "AND us <= {row.last}",
    culprit=True,
    keeps_time=False,
)
