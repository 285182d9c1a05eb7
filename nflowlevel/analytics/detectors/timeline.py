# SPDX-License-Identifier: GPL-2.0-or-later
"""timeline: Minute by minute, what those did that used one TCP window and one source port.

The sources are those with a SYN whose TCP window is `window` and whose source port is `port`. For each minute (UTC;
`minute` is in seconds since 1970) all their SYNs are counted, by source, source port, destination port, TCP window
and TTL. The first `most` rows are shown in the order of source, minute, source port, destination port, window and
TTL. The defaults are the scanner of the article from which this program began.

Limits: a table to look at.

Confuses: nothing, as it suspects nobody: at most `most` rows.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Parameters, detector


class _Parameters(Parameters, frozen=True, kw_only=True):
    window: Annotated[int, Meta(ge=0, le=65535, description="TCP window of the SYNs that choose the sources.")] = 16384
    port: Annotated[int, Meta(ge=0, le=65535, description="Source port of the SYNs that choose the sources.")] = 6000
    most: Annotated[Count, Meta(description="At most so many rows.")] = 200


_KEYS = "src_ip, src_port, dest_port, tcp_window, ip_ttl"
_TEXT = f"""
SELECT 'timeline' AS finding, 'info' AS severity, src_ip AS src_ip,
       CASE WHEN MIN(dest_ip) = MAX(dest_ip) THEN MIN(dest_ip) ELSE NULLIF('', '') END AS dest_ip,
       dest_port AS dest_port,
       MIN(us) AS first, MAX(us) AS last, COUNT(*) AS count, minute AS minute, src_port AS src_port,
       tcp_window AS tcp_window, ip_ttl AS ip_ttl
  FROM (SELECT sec - sec % 60 AS minute, {_KEYS}, dest_ip, us FROM packets
         WHERE {{syn}} AND src_ip IN (SELECT src_ip FROM packets
                                    WHERE {{syn}} AND tcp_window = {{window}} AND src_port = {{port}})) AS p
 GROUP BY minute, {_KEYS} ORDER BY src_ip, minute, src_port, dest_port, tcp_window, ip_ttl LIMIT {{most}}"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="info",
    parameters=_Parameters,
    text=_TEXT,
    behind="{syn} AND src_ip = {row.src_ip} AND src_port = {row.src_port} AND dest_port = {row.dest_port} "
    "AND tcp_window = {row.tcp_window} AND ip_ttl = {row.ip_ttl}",
)
