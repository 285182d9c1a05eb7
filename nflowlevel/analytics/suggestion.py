# SPDX-License-Identifier: GPL-2.0-or-later
"""Findings as a suggestion to nft: a table of its own with the addresses, as text. Nothing here talks to the kernel.

Only those detectors count whose source is whom one would block: the source of a flood is spoofed, and that of a beacon
is one's own machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from nflowlevel.analytics.detector import SEVERITIES
from nflowlevel.analytics.registry import find_detector

#: The table; whoever loads it can remove it with all that is in it.
TABLE = "nflowlevel_suggested"
_LEAST = SEVERITIES.index("medium")
_SETS = {4: ("blocked4", "ipv4_addr", "ip"), 6: ("blocked6", "ipv6_addr", "ip6")}
_HEAD = f"""\
# A suggestion, made of findings; nothing was applied. Look at each address: it may be spoofed, a customer, or you.
# nft -c -f FILE checks it, nft -f FILE loads it, nft delete table inet {TABLE} takes it back.
"""


def suggestion(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return commands for `nft -f` that drop what comes from the sources of findings, a comment behind each address.

    The `evidence` of these findings, if they have it, stands below as comments.

    Left out are findings of a severity below medium, those whose source is nobody to block, and addresses that cannot
    be a sender from elsewhere (unspecified, loopback, multicast, link-local).
    """
    reasons: dict[Any, dict[str, None]] = {}
    behind = []
    for row in rows:
        address = _address(row["src_ip"])
        if address and find_detector(row["finding"]).culprit and SEVERITIES.index(row["severity"]) >= _LEAST:
            reasons.setdefault(address, {})[row["finding"]] = None
            if evidence := row.get("evidence"):
                behind.append(f"# {row['finding']}, {address}: {' '.join(evidence.split())}")
    if not reasons:
        return "# No finding names a source to block.\n"
    lines = [f"table inet {TABLE} {{"]
    rules = []
    for version, (name, type_, family) in _SETS.items():
        of_version = sorted(address for address in reasons if address.version == version)
        if of_version:
            lines += [f"\tset {name} {{", f"\t\ttype {type_}", "\t\telements = {"]
            lines += [f"\t\t\t{address}, # {', '.join(reasons[address])}" for address in of_version]
            lines += ["\t\t}", "\t}"]
            rules.append(f"\t\t{family} saddr @{name} counter drop")
    hook = "\t\ttype filter hook prerouting priority -150; policy accept;"
    return _HEAD + "\n".join([*lines, "\tchain suggested {", hook, *rules, "\t}", "}", *behind, ""])


def _address(text: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address that may be blocked; a log's text may be anything."""
    try:
        found = ipaddress.ip_address(str(text))
    except ValueError:
        return None
    if found.version == 6 and found.scope_id:
        return None
    local = found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local
    return None if local else found
