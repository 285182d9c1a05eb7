# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m bench`: ask every question, print one table, keep the raw results."""

from bench import (
    accounting,
    analytics,
    captures,
    clicks,
    compaction,
    detectors,
    flood_loss,
    flows,
    importing,
    ipfix_cpu,
    json_cpu,
    latency,
    library,
    pcap_cpu,
    prefilter,
    records,
    report_page,
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
            "analytics": analytics.ask,
            "clicks": clicks.ask,
            "compaction": compaction.ask,
            "detectors": detectors.ask,
            "importing": importing.ask,
            "prefilter": prefilter.ask,
            "records": records.ask,
            "report_page": report_page.ask,
            "reports": reports.ask,
            "sql": sql.ask,
            "sql_loss": sql_loss.ask,
        }
    )
)
