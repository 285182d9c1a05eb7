# SPDX-License-Identifier: GPL-2.0-or-later
"""fixed_port: A tool with raw sockets sends all its SYNs from one source port.

A stack takes another source port for each connection; a tool that builds packets itself often does not. The SYNs of
one source to one destination port with one TCP window are taken together, as one window is mostly one tool: otherwise
a later brute force of the same host hides its scanner. Found is one source port below `below` that has at least
`share` percent of these SYNs, and at least `attempts` of them. `dest_ip` is empty if there were several hosts;
`hosts` counts them, `total` counts all SYNs of that source, destination port and window.

Limits: tools that change the port or take one from `below` on are not found, nor fewer than `attempts` SYNs to one
destination port: a scan of many ports of a host from one source port is port_scan's.

Confuses: protocols whose clients are bound to one port by rule or by an administrator (rsh, NFS on low ports, some
industrial controllers, BGP speakers with a fixed port): one finding for each such client, destination port and
window. A NAT gateway that keeps source ports does not look like that, as its clients choose different ones.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Parameters, detector


class _Parameters(Parameters, frozen=True, kw_only=True):
    attempts: Annotated[Count, Meta(description="At least so many SYNs from the port.")] = 10
    share: Annotated[int, Meta(ge=51, le=100, description="At least so many percent of the SYNs.")] = 95
    below: Annotated[int, Meta(ge=1, le=65536, description="Only source ports below this one.")] = 32768


# The few groups with a low port first; what is expensive is then counted for their sources only.
_TEXT = """
WITH ports AS (
  SELECT src_ip, src_port, dest_port, tcp_window, COUNT(*) AS n FROM packets WHERE {syn} AND src_port < {below}
   GROUP BY src_ip, src_port, dest_port, tcp_window HAVING COUNT(*) >= {attempts}),
totals AS (
  SELECT src_ip, dest_port, tcp_window, COUNT(*) AS total FROM packets
   WHERE {syn} AND src_ip IN (SELECT src_ip FROM ports) GROUP BY src_ip, dest_port, tcp_window),
odd AS (
  SELECT p.src_ip AS src_ip, p.src_port AS src_port, p.dest_port AS dest_port, p.tcp_window AS tcp_window,
         t.total AS total
    FROM ports AS p
    JOIN totals AS t ON t.src_ip = p.src_ip AND t.dest_port = p.dest_port AND t.tcp_window = p.tcp_window
   WHERE p.n * 100 >= t.total * {share}),
seen AS (
  SELECT src_ip, src_port, dest_port, tcp_window, dest_ip, us FROM packets
   WHERE {syn} AND src_port < {below} AND src_ip IN (SELECT src_ip FROM odd))
SELECT 'fixed_port' AS finding, 'medium' AS severity, o.src_ip AS src_ip,
       CASE WHEN MIN(s.dest_ip) = MAX(s.dest_ip) THEN MIN(s.dest_ip) ELSE NULLIF('', '') END AS dest_ip,
       o.dest_port AS dest_port, MIN(s.us) AS first, MAX(s.us) AS last, COUNT(*) AS count,
       o.src_port AS src_port, o.tcp_window AS tcp_window, o.total AS total, COUNT(DISTINCT s.dest_ip) AS hosts
  FROM odd AS o JOIN seen AS s ON s.src_ip = o.src_ip AND s.src_port = o.src_port AND s.dest_port = o.dest_port
                              AND s.tcp_window = o.tcp_window
 GROUP BY o.src_ip, o.src_port, o.dest_port, o.tcp_window, o.total
 ORDER BY count DESC, src_ip, dest_port, tcp_window"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="medium",
    parameters=_Parameters,
    text=_TEXT,
    behind="{syn} AND src_ip = {row.src_ip} AND src_port = {row.src_port} AND dest_port = {row.dest_port} "
    "AND tcp_window = {row.tcp_window}",
    culprit=True,
)
