# SPDX-License-Identifier: GPL-2.0-or-later
"""ack_scan: One source sends ACKs without connections to many ports of one host: it maps a firewall's rules.

Found is a source that sends ACKs (no SYN, RST or FIN) to at least `ports` distinct ports of one host in a window of
`within` that slides by its half, with at most `tries` of them a port on average, if no SYN between the two, in either
direction, is in the log: the ACKs of a connection follow a SYN.

Limits: a scanner that opened one connection to the host is not found. If rules log the ACKs of connections but not
their SYNs, all is confused.

Confuses: a log that begins in the middle of many connections between two hosts, such as a NAT gateway's or a load
balancer's to one server: one finding for each such pair, and only for what lies in the beginning of the log.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Sliding, Window, detector, sliding

_ACK = "tcp_ack = 1 AND tcp_syn = 0 AND tcp_rst = 0 AND tcp_fin = 0"


class _Parameters(Sliding, frozen=True, kw_only=True):
    ports: Annotated[Count, Meta(description="At least so many distinct ports of the host.")] = 50
    tries: Annotated[Count, Meta(description="At most so many ACKs a port on average.")] = 2
    within: Annotated[Window, Meta(description="Length of the window.")] = 60


_WINDOWS = sliding(
    "ack_scan",
    "medium",
    by=("src_ip", "dest_ip"),
    distinct="dest_port",
    called="ports",
    where=_ACK,
    having=" AND COUNT(*) <= {tries} * COUNT(DISTINCT dest_port)",
).partition(" ORDER BY ")[0]

# The few pairs first; then the SYNs of these hosts. A pair with a SYN has a row with opened = 1 in the union.
_TEXT = f"""
WITH found AS ({_WINDOWS}),
opened AS (
  SELECT src_ip, dest_ip FROM packets
   WHERE tcp_syn = 1 AND (src_ip IN (SELECT src_ip FROM found) OR dest_ip IN (SELECT src_ip FROM found))),
pairs AS (
  SELECT src_ip, dest_ip FROM (
    SELECT src_ip, dest_ip, 0 AS opened FROM found UNION ALL SELECT src_ip, dest_ip, 1 AS opened FROM opened
     UNION ALL SELECT dest_ip AS src_ip, src_ip AS dest_ip, 1 AS opened FROM opened) AS u
   GROUP BY src_ip, dest_ip HAVING MAX(opened) = 0)
SELECT f.* FROM found AS f JOIN pairs AS p ON p.src_ip = f.src_ip AND p.dest_ip = f.dest_ip
 ORDER BY ports DESC, src_ip, dest_ip"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="medium",
    parameters=_Parameters,
    text=_TEXT,
    behind=f"{_ACK} AND src_ip = {{row.src_ip}} AND dest_ip = {{row.dest_ip}}",
)
