# SPDX-License-Identifier: GPL-2.0-or-later
"""crafted_rst: A RST that the stack which sent the SYN did not send: its TTL is another.

A tool with raw sockets sends a SYN; its own kernel, which knows of no connection, resets the answer. SYN and RST then
bear TTLs of two programs. A pair is a SYN and a RST without ACK of the same source, host and ports, the RST at most
`within` later, with another TTL. Found is a source with at least `pairs` of them with the same two TTLs (`syn_ttl`,
`rst_ttl`); `quickest` is the shortest time between two, in µs. A RST after two SYNs makes two pairs. `dest_ip` and
`dest_port` are empty if there were several.

Limits: both packets have to be logged; with a load balanced path a TTL may differ by one or two.

Confuses: middleboxes that reset connections in the name of a client (some firewalls and intrusion preventers): one
finding for each pair of TTLs of each of their clients.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Parameters, Window, detector


class _Parameters(Parameters, frozen=True, kw_only=True):
    pairs: Annotated[Count, Meta(description="At least so many pairs.")] = 3
    within: Annotated[Window, Meta(description="The longest time between the two.")] = 2


_TEXT = """
WITH resets AS (
  SELECT src_ip, dest_ip, src_port, dest_port, ip_ttl, us FROM packets
   WHERE tcp_rst = 1 AND tcp_ack = 0 AND tcp_syn = 0),
syns AS (
  SELECT src_ip, dest_ip, src_port, dest_port, ip_ttl, us FROM packets
   WHERE {syn} AND src_ip IN (SELECT src_ip FROM resets))
SELECT 'crafted_rst' AS finding, 'medium' AS severity, s.src_ip AS src_ip,
       CASE WHEN MIN(s.dest_ip) = MAX(s.dest_ip) THEN MIN(s.dest_ip) ELSE NULLIF('', '') END AS dest_ip,
       CASE WHEN MIN(s.dest_port) = MAX(s.dest_port) THEN MIN(s.dest_port) ELSE NULLIF(0, 0) END AS dest_port,
       MIN(s.us) AS first, MAX(r.us) AS last, COUNT(*) AS count, s.ip_ttl AS syn_ttl, r.ip_ttl AS rst_ttl,
       MIN(r.us - s.us) AS quickest
  FROM syns AS s JOIN resets AS r
    ON r.src_ip = s.src_ip AND r.dest_ip = s.dest_ip AND r.src_port = s.src_port AND r.dest_port = s.dest_port
 WHERE r.us > s.us AND r.us <= s.us + {within_us} AND r.ip_ttl <> s.ip_ttl
 GROUP BY s.src_ip, s.ip_ttl, r.ip_ttl HAVING COUNT(*) >= {pairs} ORDER BY count DESC, src_ip, syn_ttl, rst_ttl"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="medium",
    parameters=_Parameters,
    text=_TEXT,
    behind="src_ip = {row.src_ip} AND (({syn} AND ip_ttl = {row.syn_ttl}) OR (tcp_rst = 1 AND tcp_ack = 0 AND "
    "tcp_syn = 0 AND ip_ttl = {row.rst_ttl}))",
    culprit=True,
)
