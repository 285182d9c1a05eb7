# SPDX-License-Identifier: GPL-2.0-or-later
"""first_seen: How many sources were seen for the first time, day by day.

For each `day` (UTC, in seconds since 1970) the number of sources whose first record is of that day (`sources`) and
all records of these sources on that day (`count`); `first` and `last` are the first and the last of these.

Limits: a table to look at. The first day counts all sources, as nothing is known before.

Confuses: nothing, as it suspects nobody: at most one row a day.
"""

from __future__ import annotations

from nflowlevel.analytics.detector import detector

_TEXT = """
SELECT 'first_seen' AS finding, 'info' AS severity, NULLIF('', '') AS src_ip, NULLIF('', '') AS dest_ip,
       NULLIF(0, 0) AS dest_port, MIN(first_us) AS first, MAX(last_us) AS last, SUM(n) AS count, COUNT(*) AS sources,
       day AS day
  FROM (SELECT src_ip, day, first_us, last_us, n, ROW_NUMBER() OVER (PARTITION BY src_ip ORDER BY day) AS place
          FROM (SELECT src_ip, sec - sec % 86400 AS day, MIN(us) AS first_us, MAX(us) AS last_us, COUNT(*) AS n
                  FROM packets WHERE src_ip <> '' GROUP BY src_ip, sec - sec % 86400) AS d) AS f
 WHERE place = 1 GROUP BY day ORDER BY day"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="info",
    text=_TEXT,
    behind="src_ip IN (SELECT src_ip FROM packets WHERE src_ip <> '' GROUP BY src_ip "
    "HAVING MIN(sec) - MIN(sec) % 86400 = {row.day}) AND sec - sec % 86400 = {row.day}",
)
