# SPDX-License-Identifier: GPL-2.0-or-later
"""The built-in outputs, one file per plugin, with its name in lower case.

An output of lines derives from `LineOutput` (`plugin/lines.py`). An output that must not lose a row while its target is
down, such as a database or a broker (Kafka), derives from `SpooledOutput` (`plugin/spooled.py`).
"""

NAMES = (
    "JSON",
    "LOGEMU",
    "SYSLOG",
    "GPRINT",
    "OPRINT",
    "NACCT",
    "XML",
    "PCAP",
    "GRAPHITE",
    "IPFIX",
    "PROMETHEUS",
    "PGSQL",
    "MYSQL",
    "SQLITE3",
    "DBI",
)
