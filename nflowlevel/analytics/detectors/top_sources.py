# SPDX-License-Identifier: GPL-2.0-or-later
"""top_sources: The sources with the most packets.

The `top` sources by packets, the smaller address (as text) first where they are equal. `hosts` counts the hosts that
they sent to.

Limits: a table to look at; there are always such sources.

Confuses: nothing, as it suspects nobody: at most `top` rows.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Parameters, detector


class _Parameters(Parameters, frozen=True, kw_only=True):
    top: Annotated[Count, Meta(description="So many sources.")] = 20


_TEXT = """
WITH tops AS (
  SELECT src_ip, COUNT(*) AS n FROM packets WHERE src_ip <> '' GROUP BY src_ip ORDER BY n DESC, src_ip LIMIT {top})
SELECT 'top_sources' AS finding, 'info' AS severity, src_ip AS src_ip,
       CASE WHEN MIN(dest_ip) = MAX(dest_ip) THEN MIN(dest_ip) ELSE NULLIF('', '') END AS dest_ip,
       CASE WHEN MIN(dest_port) = MAX(dest_port) THEN MIN(dest_port) ELSE NULLIF(0, 0) END AS dest_port,
       MIN(us) AS first, MAX(us) AS last, COUNT(*) AS count, COUNT(DISTINCT dest_ip) AS hosts
  FROM packets WHERE src_ip IN (SELECT src_ip FROM tops) GROUP BY src_ip ORDER BY count DESC, src_ip"""

DETECTOR = detector(
    __name__, __doc__, severity="info", parameters=_Parameters, text=_TEXT, behind="src_ip = {row.src_ip}"
)
