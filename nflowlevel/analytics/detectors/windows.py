# SPDX-License-Identifier: GPL-2.0-or-later
"""windows: The TCP windows of SYNs, the most frequent first: where an odd one begins an investigation.

For each of the `top` TCP windows with most SYNs (the smaller one first where they are equal) its SYNs (`count`) and
how many `sources` sent it. Systems of one kind open with few windows; a value with many SYNs of few sources, or one
that no system of today uses, is a tool. `dest_port` is empty if there were several.

Limits: a table to look at.

Confuses: nothing, as it suspects nobody: at most `top` rows.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Parameters, detector


class _Parameters(Parameters, frozen=True, kw_only=True):
    top: Annotated[Count, Meta(description="So many windows.")] = 20


_TEXT = """
WITH tops AS (
  SELECT tcp_window, COUNT(*) AS n FROM packets WHERE {syn} AND tcp_window >= 0
   GROUP BY tcp_window ORDER BY n DESC, tcp_window LIMIT {top})
SELECT 'windows' AS finding, 'info' AS severity, NULLIF('', '') AS src_ip, NULLIF('', '') AS dest_ip,
       CASE WHEN MIN(dest_port) = MAX(dest_port) THEN MIN(dest_port) ELSE NULLIF(0, 0) END AS dest_port,
       MIN(us) AS first, MAX(us) AS last, COUNT(*) AS count, tcp_window AS tcp_window, COUNT(DISTINCT src_ip) AS sources
  FROM packets WHERE {syn} AND tcp_window IN (SELECT tcp_window FROM tops)
 GROUP BY tcp_window ORDER BY count DESC, tcp_window"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="info",
    parameters=_Parameters,
    text=_TEXT,
    behind="{syn} AND tcp_window = {row.tcp_window}",
)
