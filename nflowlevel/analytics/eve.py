# SPDX-License-Identifier: GPL-2.0-or-later
"""Suricata's EVE: lines of JSON with its alerts and what else it saw, as events.

Addresses are written in their short form, as everywhere here: Suricata writes all digits of IPv6. The community ID is
Suricata's own where it says one (`community-id: yes`), and otherwise made of the addresses, the protocol and the ports,
with the seed 0. Texts in an event (of HTTP, DNS, TLS …) are a peer's: whoever shows them must not let a terminal obey.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nflowlevel.analytics.wholelines import WholeLines
from nflowlevel.records.communityid import of_texts

#: Suricata's names of protocols; others are their numbers.
_PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMP": 1, "IPv6-ICMP": 58, "ESP": 50, "AH": 51, "GRE": 47, "IPv6": 41}
_ICMP = (1, 58)
#: As large as Suricata's numbers of a rule are; columns would not hold any.
_MOST_SID, _MOST_SEVERITY = 0xFFFF_FFFF, 0xFF
_NO_PACKETS = frozenset(("stats",))


class Event(NamedTuple):
    """One event."""

    us: int
    """Microseconds since 1970."""
    kind: str
    """Suricata's `event_type`: alert, flow, ssh, dns, http, tls, anomaly …"""
    src_ip: str
    src_port: int | None
    dest_ip: str
    dest_port: int | None
    protocol: int | None
    community_id: str | None
    signature: str | None
    """Of an alert: the rule's `msg`."""
    sid: int | None
    """Of an alert: the number of its rule."""
    category: str | None
    severity: int | None
    """Of an alert: 1 is the gravest."""
    detail: str
    """What else is said, in a few words."""


@dataclass
class Counts:
    """What became of lines."""

    lines: int = 0
    """Lines that were read."""
    events: int = 0
    """Those that became events."""
    other: int = 0
    """Those about no packet, such as `stats`."""
    damaged: int = 0
    """Those that are no JSON object of an event."""


class _Alert(msgspec.Struct):
    signature: str | None = None
    signature_id: int | None = None
    category: str | None = None
    severity: int | None = None


class _Line(msgspec.Struct):
    timestamp: str
    event_type: str
    src_ip: str | None = None
    src_port: int | None = None
    dest_ip: str | None = None
    dest_port: int | None = None
    proto: str | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    community_id: str | None = None
    alert: _Alert | None = None
    ssh: dict[str, Any] | None = None
    dns: dict[str, Any] | None = None
    http: dict[str, Any] | None = None
    tls: dict[str, Any] | None = None
    flow: dict[str, Any] | None = None
    anomaly: dict[str, Any] | None = None


_DECODER = msgspec.json.Decoder(_Line)
#: What is told of an event of each kind: paths of members.
_TOLD: dict[str, tuple[tuple[str, ...], ...]] = {
    "ssh": (("client", "software_version"), ("server", "software_version")),
    "dns": (("type",), ("rrname",), ("rrtype",)),
    "http": (("http_method",), ("hostname",), ("url",), ("http_user_agent",)),
    "tls": (("sni",), ("version",), ("subject",)),
    "flow": (("state",), ("reason",)),
    "anomaly": (("type",), ("event",)),
}
_COUNTED = (("pkts_toserver", "packets to the server"), ("pkts_toclient", "to the client"))


def parse(line: bytes) -> Event | None:
    """Return the event of a line; None: it is about no packet. ValueError: it is no event."""
    try:
        found = _DECODER.decode(line)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if found.event_type in _NO_PACKETS or not found.src_ip or not found.dest_ip:
        return None
    src, dest = _short(found.src_ip), _short(found.dest_ip)
    for port in (found.src_port, found.dest_port):
        if port is not None and not 0 <= port <= 0xFFFF:
            raise ValueError(f"{port} is no port")
    protocol = _protocol(found.proto)
    alert = found.alert or _Alert()
    for number, most in ((alert.signature_id, _MOST_SID), (alert.severity, _MOST_SEVERITY)):
        if number is not None and not 0 <= number <= most:
            raise ValueError(f"{number} is no number of a rule")
    return Event(
        _time(found.timestamp),
        found.event_type,
        src,
        found.src_port,
        dest,
        found.dest_port,
        protocol,
        found.community_id or _community_id(found, src, dest, protocol),
        alert.signature,
        alert.signature_id,
        alert.category,
        alert.severity,
        _detail(found),
    )


def read(path: str | os.PathLike[str]) -> tuple[list[Event], Counts]:
    """Return the events of a file, which may be compressed, and what became of its lines. OSError."""
    counts = Counts()
    with WholeLines(Path(path)) as lines:
        return list(_events(lines, counts)), counts


def _events(lines: WholeLines, counts: Counts) -> Iterator[Event]:
    for chunk in lines.chunks():
        for line in chunk.split(b"\n"):
            if not line:
                continue
            counts.lines += 1
            try:
                event = parse(line)
            except ValueError:
                counts.damaged += 1
                continue
            if event is None:
                counts.other += 1
                continue
            counts.events += 1
            yield event


def _time(text: str) -> int:
    try:
        when = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z")
    except ValueError:
        when = datetime.fromisoformat(text)
        if when.tzinfo is None:
            raise ValueError(f"{text}: a time without a zone") from None
    # A float has not all digits of the microseconds.
    return int(when.replace(microsecond=0).timestamp()) * 1_000_000 + when.microsecond


@lru_cache(maxsize=65_536)
def _short(text: str) -> str:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text))
    except OSError:
        raise ValueError(f"{text!r} is no address") from None


def _protocol(name: str | None) -> int | None:
    if name is None:
        return None
    number = _PROTOCOLS.get(name)
    if number is None and name.isascii() and name.isdecimal() and int(name) <= 0xFF:
        return int(name)
    return number


def _community_id(found: _Line, src: str, dest: str, protocol: int | None) -> str | None:
    if protocol is None:
        return None
    first, second = (found.icmp_type, found.icmp_code) if protocol in _ICMP else (found.src_port, found.dest_port)
    try:
        return of_texts(protocol, src, dest, first or 0, second or 0)
    except (ValueError, OverflowError):
        return None


def _detail(found: _Line) -> str:
    if found.alert is not None:
        alert = found.alert
        return " ".join(filter(None, (alert.signature, f"[{alert.signature_id}]", alert.category)))
    about = getattr(found, found.event_type, None)
    if not isinstance(about, dict):
        return ""
    words = [str(value) for path in _TOLD.get(found.event_type, ()) if (value := _member(about, path)) is not None]
    words += [f"{about[name]} {text}" for name, text in _COUNTED if isinstance(about.get(name), int)]
    return ", ".join(words)


def _member(about: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        about = about.get(name) if isinstance(about, dict) else None
    return about if isinstance(about, (str, int)) else None
