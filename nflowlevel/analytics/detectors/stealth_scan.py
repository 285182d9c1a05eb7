# SPDX-License-Identifier: GPL-2.0-or-later
"""stealth_scan: Packets with sets of TCP flags that no stack sends, to many ports of one host.

Found is a source that sends packets of one `kind` to at least `ports` distinct ports of one host, however slowly:
`null` (no flag at all), `syn+fin` (both), `xmas` (FIN, PSH and URG without ACK and SYN) or `fin` (FIN without ACK,
SYN and the rest of `xmas`, and without RST).

Limits: it needs the flags FIN, PSH and URG in the log, and rules that log such packets.

Confuses: hardly anything; broken middleboxes make single packets of this kind, not to twenty ports.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Parameters, detector


class _Parameters(Parameters, frozen=True, kw_only=True):
    ports: Annotated[Count, Meta(description="At least so many distinct ports of the host.")] = 20


_KIND = """CASE WHEN tcp_syn + tcp_ack + tcp_fin + tcp_rst + tcp_psh + tcp_urg = 0 THEN 'null'
       WHEN tcp_syn = 1 AND tcp_fin = 1 THEN 'syn+fin'
       WHEN tcp_fin = 1 AND tcp_psh = 1 AND tcp_urg = 1 AND tcp_ack = 0 THEN 'xmas'
       WHEN tcp_fin = 1 AND tcp_ack = 0 AND tcp_rst = 0 THEN 'fin' ELSE 'none' END"""

_TEXT = f"""
SELECT 'stealth_scan' AS finding, 'high' AS severity, src_ip AS src_ip, dest_ip AS dest_ip, NULLIF(0, 0) AS dest_port,
       MIN(us) AS first, MAX(us) AS last, COUNT(*) AS count, COUNT(DISTINCT dest_port) AS ports, kind AS kind
  FROM (SELECT src_ip, dest_ip, dest_port, us, {_KIND} AS kind FROM packets
         WHERE ip_protocol = 6 AND ((tcp_syn = 0 AND tcp_ack = 0 AND tcp_rst = 0) OR tcp_fin = 1)) AS x
 WHERE kind <> 'none' GROUP BY src_ip, dest_ip, kind HAVING COUNT(DISTINCT dest_port) >= {{ports}}
 ORDER BY ports DESC, src_ip, dest_ip, kind"""

DETECTOR = detector(
    __name__,
    __doc__,
    severity="high",
    parameters=_Parameters,
    text=_TEXT,
    behind=f"ip_protocol = 6 AND src_ip = {{row.src_ip}} AND dest_ip = {{row.dest_ip}} AND {_KIND} = {{row.kind}}",
)
