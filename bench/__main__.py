# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m bench`: ask every question, print one table, keep the raw results."""

from bench import (
    accounting,
    captures,
    compaction,
    flood_loss,
    flows,
    ipfix_cpu,
    json_cpu,
    latency,
    library,
    pcap_cpu,
    prefilter,
    records,
    reports,
    sql,
    sql_loss,
    start,
    text,
)
from bench.asking import main

raise SystemExit(
    main(
        {
            "json_cpu": json_cpu.ask,
            "text": text.ask,
            "pcap_cpu": pcap_cpu.ask,
            "ipfix_cpu": ipfix_cpu.ask,
            "flood_loss": flood_loss.ask,
            "flows": flows.ask,
            "latency": latency.ask,
            "start": start.ask,
            "library": library.ask,
            "captures": captures.ask,
            "accounting": accounting.ask,
            "compaction": compaction.ask,
            "prefilter": prefilter.ask,
            "records": records.ask,
            "reports": reports.ask,
            "sql": sql.ask,
            "sql_loss": sql_loss.ask,
        }
    )
)
