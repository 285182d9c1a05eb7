# SPDX-License-Identifier: GPL-2.0-or-later
"""top_talkers: The pairs of hosts that sent the most bytes.

The `top` pairs of source and host by the sum of the lengths of their packets (`ip_totlen`), the smaller addresses (as
text) first where they are equal. Packets without a length do not count. `bytes` is the sum.

Limits: a table to look at. If rules log only the first packet of a connection, these are the pairs with most
connections.

Confuses: nothing, as it suspects nobody: at most `top` rows.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Parameters, detector


class _Parameters(Parameters, frozen=True, kw_only=True):
    top: Annotated[Count, Meta(description="So many pairs.")] = 20


_TEXT = """
SELECT 'top_talkers' AS finding, 'info' AS severity, src_ip AS src_ip, dest_ip AS dest_ip, NULLIF(0, 0) AS dest_port,
       MIN(us) AS first, MAX(us) AS last, COUNT(*) AS count, SUM(ip_totlen) AS bytes
  FROM packets WHERE ip_totlen >= 0 AND src_ip <> '' AND dest_ip <> '' GROUP BY src_ip, dest_ip
 ORDER BY bytes DESC, src_ip, dest_ip LIMIT {top}"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="info",
    parameters=_Parameters,
    text=_TEXT,
    behind="ip_totlen >= 0 AND src_ip = {row.src_ip} AND dest_ip = {row.dest_ip}",
)
