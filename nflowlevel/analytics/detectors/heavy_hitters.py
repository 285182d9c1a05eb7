# SPDX-License-Identifier: GPL-2.0-or-later
"""heavy_hitters: The sources with the most packets, hour by hour.

For each hour (UTC; `hour` is in seconds since 1970) the `top` sources with most packets, the smaller address (as
text) first where they are equal. `place` is 1 for the first, `bytes` the sum of the packets' lengths (`ip_totlen`;
empty where no packet has one).

Limits: a table to look at; there are always such sources.

Confuses: nothing, as it suspects nobody: always `top` rows for each hour with so many sources.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Parameters, detector


class _Parameters(Parameters, frozen=True, kw_only=True):
    top: Annotated[Count, Meta(description="So many sources an hour.")] = 10


_TEXT = """
SELECT 'heavy_hitters' AS finding, 'info' AS severity, src_ip AS src_ip, NULLIF('', '') AS dest_ip,
       NULLIF(0, 0) AS dest_port, first_us AS first, last_us AS last, n AS count,
       hour AS hour, place AS place, size AS bytes
  FROM (SELECT hour, src_ip, first_us, last_us, n, size,
               ROW_NUMBER() OVER (PARTITION BY hour ORDER BY n DESC, src_ip) AS place
          FROM (SELECT sec - sec % 3600 AS hour, src_ip, MIN(us) AS first_us, MAX(us) AS last_us, COUNT(*) AS n,
                       SUM(ip_totlen) AS size
                  FROM packets WHERE src_ip <> '' GROUP BY sec - sec % 3600, src_ip) AS a) AS b
 WHERE place <= {top} ORDER BY hour, place"""

DETECTOR = detector(
    __name__, __doc__, severity="info", parameters=_Parameters, text=_TEXT, behind="src_ip = {row.src_ip}"
)
