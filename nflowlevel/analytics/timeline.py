# SPDX-License-Identifier: GPL-2.0-or-later
"""One host's timeline: what all logs say of an address, in the order of time, as one query.

Its rows are us (microseconds since 1970), source (packets, flows, suricata or sshd), what (SYN, RST, UDP, flow ends, an
alert's signature, failed …), src, dest and detail. A port stands behind its address.

With `every`, rows of the same source, kind and ends within a span of time become one: us and last, how many there were
(n), to how many ports, and the detail of the first by the alphabet. So a scan of a thousand ports is one row. SYNs with
different TCP windows stay apart, as they are of different tools.
"""

from __future__ import annotations

import socket

from nflowlevel.analytics.columns import SYN
from nflowlevel.errors import printable

_COLUMNS = "us, source, what, src_ip, src_port, dest_ip, dest_port, detail, asked"
#: The window of a SYN. Those of other packets change all the time.
_ASKED = f"CASE WHEN {SYN} THEN tcp_window END AS asked"
_NOT_ASKED = "CAST(NULL AS INT) AS asked"
_WHAT = (
    "CASE WHEN tcp_syn = 1 AND tcp_ack = 1 THEN 'SYN ACK' WHEN tcp_syn = 1 AND tcp_rst = 0 THEN 'SYN' "
    "WHEN tcp_rst = 1 THEN 'RST' WHEN tcp_fin = 1 THEN 'FIN' WHEN tcp_window IS NOT NULL THEN 'TCP' "
    "WHEN icmp_type IS NOT NULL THEN 'ICMP ' || CAST(icmp_type AS STRING) "
    "WHEN icmpv6_type IS NOT NULL THEN 'ICMPv6 ' || CAST(icmpv6_type AS STRING) "
    "WHEN ip_protocol = 17 THEN 'UDP' WHEN ip_protocol IS NOT NULL THEN 'protocol ' || CAST(ip_protocol AS STRING) "
    "ELSE 'packet' END"
)
_ENDS = ("src_ip", "dest_ip")
_DETAIL = (
    ("TRIM(oob_prefix)", "''"),
    ("tcp_window", "' window '"),
    ("ip_ttl", "' ttl '"),
    ("ip6_hoplimit", "' ttl '"),
    ("ip_id", "' id '"),
)


def address(text: str) -> str:
    """Return an address as logs have it; ValueError: it is none."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text))
    except (OSError, ValueError):
        raise ValueError(f"'{printable(text)}' is not an address") from None


def sql(ip: str, *, events: str | None = None, logins: str | None = None, every: int | None = None) -> str:
    """Return the query. `events` and `logins` are tables as joins.py makes them; `every` is a number of seconds.

    ValueError: `ip` is no address.
    """
    host = address(ip)
    parts = [_packets(host), _flows(host)]
    if events is not None:
        what = "CASE WHEN signature IS NULL THEN kind ELSE signature END"
        parts.append(
            f"SELECT us, 'suricata' AS source, {what} AS what, src_ip, src_port, dest_ip, dest_port, detail, "
            f"{_NOT_ASKED} FROM {events} WHERE {_of(host)}"
        )
    if logins is not None:
        times = "CASE WHEN times > 1 THEN ', ' || CAST(times AS STRING) || ' times' ELSE '' END"
        parts.append(
            "SELECT us, 'sshd' AS source, what, src_ip, src_port, dvc AS dest_ip, CAST(NULL AS INT) AS dest_port, "
            f"TRIM(COALESCE(method, '') || ' ' || COALESCE(who, '') || {times}) AS detail, "
            f"{_NOT_ASKED} FROM {logins} WHERE src_ip = '{host}'"
        )
    united = " UNION ALL ".join(f"SELECT {_COLUMNS} FROM ({part}) AS part{n}" for n, part in enumerate(parts))
    if every is None:
        return (
            f"SELECT us, source, what, {_end('src')} AS src, {_end('dest')} AS dest, detail "
            f"FROM ({united}) AS timeline ORDER BY us, source, what, src, dest, detail"
        )
    if every < 1:
        raise ValueError(f"every must be at least a second, not {every}")
    span = every * 1_000_000
    # Names of their own within: engines differ on which one of two means an alias.
    renamed = (
        f"SELECT us AS t, source, what, src_ip, dest_ip, dest_port, asked, detail AS said FROM ({united}) AS each_one"
    )
    return (
        "SELECT MIN(t) AS us, MAX(t) AS last, source, what, src_ip AS src, dest_ip AS dest, COUNT(*) AS n, "
        f"COUNT(DISTINCT dest_port) AS ports, MIN(said) AS detail FROM ({renamed}) AS timeline "
        f"GROUP BY t - t % {span}, source, what, src_ip, dest_ip, asked ORDER BY us, source, what, src, dest, detail"
    )


def _of(host: str) -> str:
    return "(" + " OR ".join(f"{name} = '{host}'" for name in _ENDS) + ")"


def _packets(host: str) -> str:
    detail = " || ".join(f"COALESCE({label} || CAST({value} AS STRING), '')" for value, label in _DETAIL)
    return (
        f"SELECT us, 'packets' AS source, {_WHAT} AS what, src_ip, src_port, dest_ip, dest_port, "
        f"TRIM({detail}) AS detail, {_ASKED} FROM packets WHERE {_of(host)}"
    )


def _flows(host: str) -> str:
    """A flow's time is that of its record: of its end, or of its begin where there is no end yet."""
    counted = (
        ("orig_raw_pktcount", "", " packets"),
        ("orig_raw_pktlen", " ", " bytes"),
        ("reply_raw_pktcount", ", answers ", " packets"),
        ("reply_raw_pktlen", " ", " bytes"),
    )
    detail = " || ".join(
        f"COALESCE('{before}' || CAST({name} AS STRING) || '{behind}', '')" for name, before, behind in counted
    )
    what = "CASE WHEN ct_event = 1 THEN 'flow begins' WHEN ct_event = 4 THEN 'flow ends' ELSE 'flow' END"
    ends = (*_ENDS, "reply_ip_saddr_str", "reply_ip_daddr_str")
    met = " OR ".join(f"{name} = '{host}'" for name in ends)
    return (
        f"SELECT us, 'flows' AS source, {what} AS what, src_ip, orig_l4_sport AS src_port, dest_ip, "
        f"orig_l4_dport AS dest_port, {detail} AS detail, {_NOT_ASKED} FROM flows WHERE {met}"
    )


def _end(side: str) -> str:
    ip, port = f"{side}_ip", f"{side}_port"
    return (
        f"CASE WHEN {port} IS NULL THEN {ip} WHEN {ip} LIKE '%:%' THEN '[' || {ip} || ']:' || CAST({port} AS STRING) "
        f"ELSE {ip} || ':' || CAST({port} AS STRING) END"
    )
