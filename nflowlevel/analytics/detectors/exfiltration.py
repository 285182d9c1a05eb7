# SPDX-License-Identifier: GPL-2.0-or-later
"""exfiltration: A host sends much data to another that it has only begun to talk to.

The flows of one source to one host are a pair. It is new if its first record lies at least `known` after the
beginning of the log (the first flow of all), and young for `young` from its first record on. Found is a new pair
whose source sent, in the flows of its youth, at least `bytes`, and at least `factor` times as much as it got.
`dest_port` is empty if there were several; `count` is the flows, `bytes_out` and `bytes_in` their bytes.

Limits: it needs flows with counters, and each byte reported once (whole flows at their end, or deltas). Slow leaks, and
leaks to a host that is used for other things, are not found.

Confuses: the first upload of a new backup, a new mail server, a video conference or a file sent to a new partner: one
finding for each pair. A backup at fixed times is known after its first day; downloads of proxies come in, they do not
go out.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Known, Parameters, Window, detector


class _Parameters(Parameters, frozen=True, kw_only=True):
    bytes: Annotated[int, Meta(ge=1, le=10**15, description="At least so many bytes sent.")] = 100_000_000
    factor: Annotated[Count, Meta(description="At least so many times what came back.")] = 5
    young: Annotated[Window, Meta(description="A pair of hosts is young for so long.")] = 86400
    known: Annotated[Known, Meta(description="So long after the log's beginning a pair is new.")] = 86400


_TEXT = """
WITH pairs AS (
  SELECT src_ip, dest_ip, MIN(us) AS met_us FROM flows GROUP BY src_ip, dest_ip),
fresh AS (
  SELECT p.src_ip AS src_ip, p.dest_ip AS dest_ip, p.met_us AS met_us
    FROM pairs AS p CROSS JOIN (SELECT MIN(us) AS begin_us FROM flows) AS l
   WHERE p.met_us >= l.begin_us + {known_us})
SELECT 'exfiltration' AS finding, 'high' AS severity, f.src_ip AS src_ip, f.dest_ip AS dest_ip,
       CASE WHEN MIN(f.orig_l4_dport) = MAX(f.orig_l4_dport) THEN MIN(f.orig_l4_dport)
            ELSE NULLIF(0, 0) END AS dest_port,
       MIN(f.us) AS first, MAX(f.us) AS last, COUNT(*) AS count,
       SUM(f.orig_raw_pktlen) AS bytes_out, SUM(f.reply_raw_pktlen) AS bytes_in
  FROM flows AS f JOIN fresh AS n ON n.src_ip = f.src_ip AND n.dest_ip = f.dest_ip
 WHERE f.us <= n.met_us + {young_us}
 GROUP BY f.src_ip, f.dest_ip
HAVING SUM(f.orig_raw_pktlen) >= {bytes}
   AND SUM(f.orig_raw_pktlen) >= {factor} * SUM(f.reply_raw_pktlen)
 ORDER BY bytes_out DESC, src_ip, dest_ip"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="high",
    parameters=_Parameters,
    text=_TEXT,
    behind="src_ip = {row.src_ip} AND dest_ip = {row.dest_ip}",
    relation="flows",
)
