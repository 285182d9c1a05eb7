# SPDX-License-Identifier: GPL-2.0-or-later
"""new_services: A host offers a TCP service that it did not offer before.

A service is a host and a port that answers: it sends a SYN with ACK, in the log as a packet from there. It is new if
its first answer lies at least `known` after the beginning of the log (its first record of any kind). Found is each
new service that answered at least `clients` distinct hosts. In the result `dest_ip` and `dest_port` are the service,
`count` its answers, `clients` the hosts that it answered; `src_ip` is empty, or the client if there was one.

Limits: rules have to log the answers. UDP is not seen. What was offered before the log began is unknown; so the first
part of a log finds nothing.

Confuses: a service that is used seldom, when it is used for the first time in this log, and new machines: one finding
for each. Passive FTP and RPC open a port for each task, which `clients` = 2 leaves out.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Known, Parameters, detector


class _Parameters(Parameters, frozen=True, kw_only=True):
    known: Annotated[Known, Meta(description="So long after the log's beginning a service is new.")] = 86400
    clients: Annotated[Count, Meta(description="At least so many distinct clients.")] = 2


_TEXT = """
SELECT 'new_services' AS finding, 'low' AS severity,
       CASE WHEN MIN(p.dest_ip) = MAX(p.dest_ip) THEN MIN(p.dest_ip) ELSE NULLIF('', '') END AS src_ip,
       p.src_ip AS dest_ip, p.src_port AS dest_port, MIN(p.us) AS first, MAX(p.us) AS last, COUNT(*) AS count,
       COUNT(DISTINCT p.dest_ip) AS clients
  FROM (SELECT src_ip, src_port, dest_ip, us FROM packets WHERE tcp_syn = 1 AND tcp_ack = 1 AND tcp_rst = 0) AS p
 CROSS JOIN (SELECT MIN(us) AS begin_us FROM packets) AS l
 GROUP BY p.src_ip, p.src_port, l.begin_us
HAVING MIN(p.us) >= l.begin_us + {known_us} AND COUNT(DISTINCT p.dest_ip) >= {clients}
 ORDER BY first, dest_ip, dest_port"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="low",
    parameters=_Parameters,
    text=_TEXT,
    behind="tcp_syn = 1 AND tcp_ack = 1 AND tcp_rst = 0 AND src_ip = {row.dest_ip} AND src_port = {row.dest_port}",
)
