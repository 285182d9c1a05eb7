# SPDX-License-Identifier: GPL-2.0-or-later
"""first_contact: A host that has been quiet suddenly contacts many hosts and ports that it never contacted before.

A contact of a source is a host and a port to which it sends a SYN; it is new in the hour (UTC) of its first SYN.
Found is a source and an hour with at least `contacts` new contacts, at least `factor` times as many as its earlier
hours had on average, if the first SYN of the source lies at least `known` before the beginning of that hour. The
average is of all hours from the one of its first SYN on, also of those without a SYN. `count` is the new contacts,
`before` those of all earlier hours.

Limits: what came before the log began is not known; so the first day of a log finds nothing. A host that is new
itself is first_seen's.

Confuses: a host that gets a new task, such as a server that is installed anew or a person who begins with an
inventory: one finding for each. Proxies, crawlers and NAT gateways contact new hosts all the time, so their average
is high; monitoring and backup contact the same ones.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Known, Parameters, detector


class _Parameters(Parameters, frozen=True, kw_only=True):
    contacts: Annotated[Count, Meta(description="At least so many new contacts in an hour.")] = 15
    factor: Annotated[Count, Meta(description="At least so many times the average of the hours before.")] = 10
    known: Annotated[Known, Meta(description="The source is known for at least so long.")] = 86400


_TEXT = """
WITH contacts AS (
  SELECT src_ip, dest_ip, dest_port, MIN(us) AS first_us, MIN(sec) - MIN(sec) % 3600 AS hour
    FROM packets WHERE {syn} GROUP BY src_ip, dest_ip, dest_port),
hours AS (
  SELECT src_ip, hour, COUNT(*) AS n, MIN(first_us) AS first_us, MAX(first_us) AS last_us,
         CASE WHEN MIN(dest_ip) = MAX(dest_ip) THEN MIN(dest_ip) ELSE NULLIF('', '') END AS dest_ip,
         CASE WHEN MIN(dest_port) = MAX(dest_port) THEN MIN(dest_port) ELSE NULLIF(0, 0) END AS dest_port
    FROM contacts GROUP BY src_ip, hour),
history AS (
  SELECT src_ip, dest_ip, dest_port, hour, n, first_us, last_us, MIN(first_us) OVER (PARTITION BY src_ip) AS known_us,
         MIN(hour) OVER (PARTITION BY src_ip) AS known_hour,
         SUM(n) OVER (PARTITION BY src_ip ORDER BY hour ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - n AS earlier
    FROM hours)
SELECT 'first_contact' AS finding, 'medium' AS severity, src_ip AS src_ip, dest_ip AS dest_ip, dest_port AS dest_port,
       first_us AS first, last_us AS last, n AS count, earlier AS before
  FROM history
 WHERE n >= {contacts} AND hour * 1000000 - known_us >= {known_us}
   AND n * (hour - known_hour) >= {factor} * earlier * 3600
 ORDER BY count DESC, src_ip, first"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="medium",
    parameters=_Parameters,
    text=_TEXT,
    behind="{syn} AND src_ip = {row.src_ip}",
)
