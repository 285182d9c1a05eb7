# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of filters that every back end goes through, and what each means, in Python and apart from the parser."""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from nflowlevel.records.batch import Batch
from nflowlevel.records.filters import FilterError
from nflowlevel.records.keys import added_key
from tests.corpus import Frame, frames
from tests.fix_decoder import decode, expected
from tests.messages import message_of


class Row(dict[str, Any]):
    """The keys of a record; one that it lacks is None."""

    def __missing__(self, key: str) -> None:
        return None


class Case(NamedTuple):
    """A filter, and for which records it holds. In `refused_by` are the back ends that cannot have it."""

    text: str
    holds: Callable[[Row], object]
    refused_by: frozenset[str] = frozenset()


def _inside(address: str | None, *networks: str) -> bool:
    """Tell whether an address is in a network of its own version."""
    if address is None:
        return False
    found = ipaddress.ip_address(address)
    return any(found in network for network in map(ipaddress.ip_network, networks) if network.version == found.version)


def _outside(address: str | None, *networks: str) -> bool:
    """Tell whether an address has the version of a network, and is in none."""
    if address is None:
        return False
    versions = {network.version for network in map(ipaddress.ip_network, networks)}
    return ipaddress.ip_address(address).version in versions and not _inside(address, *networks)


def _ip4(address: str | None) -> int | None:
    return None if address is None or ":" in address else int(ipaddress.IPv4Address(address))


def _has(*values: object) -> bool:
    return None not in values


def _port(row: Row, which: str) -> Any:
    return next((row[f"{name}.{which}"] for name in ("tcp", "udp", "sctp") if _has(row[f"{name}.{which}"])), None)


#: What these can have: SQLite computes with no addresses that are texts, and no database does with bytes.
_NO_IP4 = frozenset(("sqlite", "bytes"))
_NO_IP6 = frozenset(("number",))
#: The program of a prefilter knows nothing of what plugins add.
_ONLY_BATCHES = frozenset(("c",))

CASES: tuple[Case, ...] = (
    # Conditions, and fields that are not there.
    Case("1", lambda r: True),
    Case("!1 || 0x0 || 1 == 2", lambda r: False),
    Case("tcp.dport == 80", lambda r: r["tcp.dport"] == 80),
    Case("tcp.dport != 80", lambda r: r["tcp.dport"] not in (80, None)),
    Case("!(tcp.dport == 80)", lambda r: r["tcp.dport"] != 80),
    Case("!tcp.dport", lambda r: not r["tcp.dport"]),
    Case("!tcp.dport == 1", lambda r: r["tcp.dport"] == 0),
    Case("!(tcp.dport != 80) && ip.ttl", lambda r: r["tcp.dport"] in (80, None) and r["ip.ttl"]),
    Case("tcp.dport == 80 && ip.ttl < 65", lambda r: r["tcp.dport"] == 80 and _has(r["ip.ttl"]) and r["ip.ttl"] < 65),
    Case(
        "tcp.syn && !tcp.ack || tcp.rst || icmp.type == 8 || icmpv6.code > 0",
        lambda r: (r["tcp.syn"] and not r["tcp.ack"]) or r["tcp.rst"] or r["icmp.type"] == 8 or r["icmpv6.code"],
    ),
    Case(
        "!(tcp.dport == 80 || !(ip.ttl >= 64)) && !(udp.sport < udp.dport)",
        lambda r: (
            not (r["tcp.dport"] == 80 or not (_has(r["ip.ttl"]) and r["ip.ttl"] >= 64))
            and not (_has(r["udp.sport"]) and r["udp.sport"] < r["udp.dport"])
        ),
    ),
    Case("(tcp.syn && tcp.ack) == 0", lambda r: not (r["tcp.syn"] and r["tcp.ack"])),
    Case("((tcp.syn && tcp.ack) + ip.ttl) + 1 == 66", lambda r: _has(r["ip.ttl"]) and r["ip.ttl"] + bool(r["tcp.syn"] and r["tcp.ack"]) == 65),
    Case("(tcp.dport == 80) == 0", lambda r: r["tcp.dport"] not in (80, None)),
    Case("(!tcp.ack) + tcp.syn == 2", lambda r: r["tcp.ack"] == 0 and r["tcp.syn"]),
    # Numbers: C's precedence, and nothing wraps.
    Case("tcp.dport & 0xf0 == 80", lambda r: False),
    Case("(tcp.dport & 0xf0) == 0x50 | 0", lambda r: _has(r["tcp.dport"]) and r["tcp.dport"] & 0xF0 == 0x50),
    Case("tcp.sport & ~0xff", lambda r: _has(r["tcp.sport"]) and r["tcp.sport"] > 0xFF),
    Case("1 + 2 * 3 << 1 == 14 && 010 == 8u && 7 ^ 2 == 2 ^ 1", lambda r: True),
    Case("10 - 3 - 2 == 5 && 100 / 5 / 2 == 10 && 7 % 4 == 3 && -7 / 2 == -3 && -7 % 2 == -1", lambda r: True, frozenset(("c",))),
    Case("raw.pktlen - 100 > 0", lambda r: _has(r["raw.pktlen"]) and r["raw.pktlen"] > 100),
    Case("udp.sport - udp.dport < 0", lambda r: _has(r["udp.sport"]) and r["udp.sport"] < r["udp.dport"]),
    Case("raw.pktlen * 0x7fffffff > 0x7fffffff0", lambda r: _has(r["raw.pktlen"]) and r["raw.pktlen"] > 16),
    Case("(raw.pktlen << 31) >> 31 == 40", lambda r: r["raw.pktlen"] == 40),
    Case("-raw.pktlen < -40", lambda r: _has(r["raw.pktlen"]) and r["raw.pktlen"] > 40),
    Case("(tcp.sport ^ tcp.dport) % 16 == 0", lambda r: _has(r["tcp.sport"]) and (r["tcp.sport"] ^ r["tcp.dport"]) % 16 == 0),
    Case("raw.pktlen / tcp.ack >= 40", lambda r: bool(r["tcp.ack"]) and r["raw.pktlen"] >= 40),
    Case("!(raw.pktlen % tcp.ack)", lambda r: True),
    Case("(ip.ttl - 65) / 2 == 0", lambda r: _has(r["ip.ttl"]) and 63 < r["ip.ttl"] < 67, frozenset(("c",))),
    Case("(ip.ttl - 65) % 2 == -1", lambda r: _has(r["ip.ttl"]) and r["ip.ttl"] < 65 and not r["ip.ttl"] % 2, frozenset(("c",))),
    Case("1 << (ip.ttl & 7) == 1", lambda r: _has(r["ip.ttl"]) and not r["ip.ttl"] & 7),
    Case("tcp.seq > 0x7fffffff || tcp.window == 64240", lambda r: _has(r["tcp.seq"]) and (r["tcp.seq"] > 0x7FFFFFFF or r["tcp.window"] == 64240)),
    # Names.
    Case("sport == 40000 || dest_port == 53", lambda r: _port(r, "sport") == 40000 or _port(r, "dport") == 53),
    Case("!(src_port > 1024)", lambda r: not _has(_port(r, "sport")) or _port(r, "sport") <= 1024),
    Case("tcp_dport == 80 && ip_ttl == 64", lambda r: r["tcp.dport"] == 80 and r["ip.ttl"] == 64),
    Case("protocol == 6 && caplen > 40", lambda r: r["ip.protocol"] == 6 and r["raw.pktlen"] > 40),
    # Sets.
    Case("tcp.dport in {22, 80, 8000-8100}", lambda r: r["tcp.dport"] in (22, 80)),
    Case("tcp.dport not in {22, 81 - 90}", lambda r: r["tcp.dport"] not in (22, None)),
    Case("!(dport in {53})", lambda r: _port(r, "dport") != 53),
    Case("(ip.protocol in {6, 17}) == 0", lambda r: r["ip.protocol"] not in (6, 17, None)),
    # Addresses.
    Case("ip.saddr == 10.77.0.2", lambda r: r["ip.saddr"] == "10.77.0.2"),
    Case("saddr != 10.77.0.2", lambda r: _outside(r["ip.saddr"], "10.77.0.2")),
    Case("!(src_ip == 10.77.0.2)", lambda r: r["ip.saddr"] != "10.77.0.2"),
    Case("ip.daddr == 10.77.0.0/30 || ip.daddr == 128.0.0.0/1", lambda r: _inside(r["ip.daddr"], "10.77.0.0/30", "128.0.0.0/1")),
    Case('ip.saddr.str == "10.64.0.0/12"', lambda r: _inside(r["ip.saddr"], "10.64.0.0/12")),
    Case("ip.saddr == 0.0.0.0/0 && ip.daddr != 10.0.0.0/8", lambda r: _inside(r["ip.saddr"], "0.0.0.0/0") and _outside(r["ip.daddr"], "10.0.0.0/8")),
    Case("ip.saddr == fd77::2 || ip.saddr == fe80::/10", lambda r: _inside(r["ip.saddr"], "fd77::2", "fe80::/10"), _NO_IP6),
    Case("ip.daddr != fd77::/64", lambda r: _outside(r["ip.daddr"], "fd77::/64"), _NO_IP6 | {"sqlite", "duckdb"}),
    Case("dest_ip == ff00::/8 || ip.daddr == ::/0 && ip6.hoplimit > 64", lambda r: _inside(r["ip.daddr"], "ff00::/8") or (_inside(r["ip.daddr"], "::/0") and r["ip6.hoplimit"] > 64), _NO_IP6),
    Case("ip.saddr in {10.77.0.0/16, fd00::/8, 192.0.2.1}", lambda r: _inside(r["ip.saddr"], "10.77.0.0/16", "fd00::/8", "192.0.2.1"), _NO_IP6),
    Case("ip.saddr not in {10.77.0.0/25, fc00::/7}", lambda r: _outside(r["ip.saddr"], "10.77.0.0/25", "fc00::/7"), _NO_IP6),
    Case("(ip.saddr == 10.77.0.2) == 0", lambda r: _outside(r["ip.saddr"], "10.77.0.2")),
    Case("ip.saddr - ip.daddr == 1", lambda r: _has(_ip4(r["ip.saddr"])) and _ip4(r["ip.saddr"]) - _ip4(r["ip.daddr"]) == 1, _NO_IP4),  # type: ignore[operator]
    Case("ip.saddr >> 24 != 10 || ip.daddr == 0x0a4d0001", lambda r: _has(_ip4(r["ip.saddr"])) and (_ip4(r["ip.saddr"]) >> 24 != 10 or r["ip.daddr"] == "10.77.0.1"), _NO_IP4),  # type: ignore[operator]
    Case("!ip.saddr", lambda r: not _ip4(r["ip.saddr"]), _NO_IP4),
    Case("arp.saddr == 10.77.0.0/24 || icmp.gateway != 10.77.0.0/31", lambda r: _inside(r["arp.saddr"], "10.77.0.0/24") or _outside(r["icmp.gateway"], "10.77.0.0/31")),
    # Texts.
    Case('oob.prefix == "ssh: "', lambda r: r["oob.prefix"] == "ssh: "),
    Case('prefix != "ssh: "', lambda r: r["oob.prefix"] not in ("ssh: ", None)),
    Case('oob.prefix ~ "ssh*" && !(oob.prefix ~ "*\\"")', lambda r: r["oob.prefix"] in ("ssh: ", "ssh-É 100%_x [1]", "ssh!\n?", "ssh:")),
    Case('oob.prefix ~ "?sh-? 100%_x [1]" || oob.prefix ~ "[s]sh*"', lambda r: r["oob.prefix"] == "ssh-É 100%_x [1]"),
    Case('oob.prefix in {"", "SSH: ", "ssh-É 100%_x [1]"}', lambda r: r["oob.prefix"] in ("", "SSH: ", "ssh-É 100%_x [1]")),
    Case('oob.prefix not in {"SSH: "} && tcp.dport', lambda r: _has(r["oob.prefix"]) and r["oob.prefix"] != "SSH: " and r["tcp.dport"]),
    Case('oob.prefix ~ "ssh!?\\\\*"', lambda r: False),
    Case('oob.in == "va" && oob.mark in {1-3, 0xffffffff}', lambda r: r["oob.in"] == "va" and r["oob.mark"] in (1, 2, 3, 0xFFFFFFFF)),
    Case('mac.saddr.str ~ "02:*"', lambda r: (r["mac.saddr.str"] or "").startswith("02:")),
    # Columns that a filter adds.
    Case('geo.country == "DE" && score < 0', lambda r: r["geo.country"] == "DE" and _has(r["score"]) and r["score"] < 0, _ONLY_BATCHES),
    Case('!(geo_country ~ "?E") || tcp.dport == 80', lambda r: r["geo.country"] not in ("DE", "SE") or r["tcp.dport"] == 80, _ONLY_BATCHES),
    Case("score in {1-300} || !(score >= -300)", lambda r: not _has(r["score"]) or r["score"] > 0, _ONLY_BATCHES),
    Case("-score == 300", lambda r: r["score"] == -300, _ONLY_BATCHES),
    Case("(score + 300) / 100 == 3 && ip.ttl", lambda r: _has(r["score"]) and r["score"] >= 0 and r["score"] < 100 and r["ip.ttl"], _ONLY_BATCHES),
)  # fmt: skip

#: The columns that a filter adds.
ADDED = (
    added_key("geo.country", "string", "Where the sender is."),
    added_key("score", "int16", "How bad the packet is."),
)

#: Filters that no back end takes for packets, and why.
REFUSED: tuple[tuple[str, str], ...] = (
    ("sum.pkts > 3", "packets do not have 'sum.pkts': it is a key of sums"),
    ('tcp.dport == 22 || sum_name ~ "*"', "packets do not have 'sum_name': it is a key of sums"),
    ("sum.limit", "packets do not have 'sum.limit': it is a key of records of NFTCOUNTER"),
    ("raw.pkt", "'raw.pkt' is bytes, and filters cannot compare bytes"),
    ("tcp.dprt == 22", "unknown field 'tcp.dprt' — did you mean 'tcp.dport'?"),
)

#: Prefixes that rules give, in turn: blanks, case, wildcards of every database.
_PREFIXES = (b"ssh: ", b"SSH: ", "ssh-É 100%_x [1]".encode(), b'ssh"', b"", None, b"ssh!\n?", b"ssh:")
_MARKS = (0, 1, 3, 4, 0xFFFFFFFF)
_INDEVS = (2, 1, None)
_COUNTRIES = ("DE", "SE", None, "", "de", "D", "DE")
_SCORES = (0, -1, 300, None, -300)


def _more(number: int) -> dict[str, Any]:
    chosen = {"prefix": _PREFIXES[number % 8], "mark": _MARKS[number % 5], "indev": _INDEVS[number % 3]}
    return {name: value for name, value in chosen.items() if value is not None}


@cache
def packets() -> tuple[tuple[Frame, ...], Batch, tuple[Row, ...]]:
    """Return the corpus: frames, the batch that is decoded from them, with columns added, and what the oracle says of
    each."""
    messages = [message_of(frame, **_more(number)) for number, frame in enumerate(frames())]
    found = [expected(message) for message in messages]
    assert None not in found
    batch, rows = decode(messages).batch, tuple(Row(keys) for keys in found if keys is not None)
    for key, values in zip(ADDED, (_COUNTRIES, _SCORES), strict=True):
        batch.add(key, [values[number % len(values)] for number in range(len(batch))])
        for row, value in zip(rows, batch.values(key.name), strict=True):
            row.update({} if value is None else {key.name: value})
    return tuple(frames()), batch, rows


def meant(case: Case, rows: tuple[Row, ...]) -> list[int]:
    """Return the rows for which a case holds."""
    return [number for number, row in enumerate(rows) if case.holds(row)]


# -- random filters ---------------------------------------------------------------------------------------------------

Number = tuple[str, Callable[[Row], int | None]]
Condition = tuple[str, Callable[[Row], bool]]

_NUMBERS = (
    "0",
    "1",
    "2",
    "7",
    "0xff",
    "010",
    "80",
    "255",
    "0xffff",
    "65535",
    "0x7fffffff",
    "0xffffffffu",
    "4294967296",
)


def _c_division(left: int, right: int) -> int:
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


_OPERATORS: dict[str, Callable[[int, int], int | None]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: _c_division(a, b) if b else None,
    "%": lambda a, b: a - b * _c_division(a, b) if b else None,
    "<<": lambda a, b: a << b,
    ">>": lambda a, b: a >> b,
    "&": lambda a, b: a & b,
    "^": lambda a, b: a ^ b,
    "|": lambda a, b: a | b,
}
_COMPARISONS: dict[str, Callable[[int, int], int | None]] = {
    "==": lambda a, b: int(a == b),
    "!=": lambda a, b: int(a != b),
    "<": lambda a, b: int(a < b),
    "<=": lambda a, b: int(a <= b),
    ">": lambda a, b: int(a > b),
    ">=": lambda a, b: int(a >= b),
}
_SIGNS: dict[str, Callable[[int], int]] = {
    "-": lambda a: -a,
    "~": lambda a: ~a,
    "+": lambda a: a,
    "!": lambda a: int(not a),
}


class Maker:
    """Makes filters at random over fields that are numbers, and beside each what it means, without the parser."""

    def __init__(self, rng: random.Random, fields: Sequence[str]) -> None:
        self._rng, self._fields = rng, fields

    def condition(self, depth: int = 3) -> Condition:
        """Return a condition."""
        kind = self._rng.randrange(5) if depth else 4
        if kind == 0:
            text, holds = self.condition(depth - 1)
            return f"!({text})", lambda row: not holds(row)
        if kind < 3:
            several = [self.condition(depth - 1) for _ in range(self._rng.randint(2, 3))]
            sign, connect = (("&&", all), ("||", any))[kind - 1]
            text = f" {sign} ".join(f"({text})" if self._rng.random() < 0.9 else f"(({text}))" for text, _ in several)
            return f"({text})", lambda row: connect(holds(row) for _, holds in several)
        text, value = self._operation(_COMPARISONS, max(depth - 1, 0)) if kind == 3 else self.number(depth)
        # Alone, what begins with ! is a condition, which holds for records without the field.
        return text + " + 0" * text.startswith("(!"), lambda row: bool(value(row))

    def number(self, depth: int) -> Number:
        """Return a number that may stand anywhere; None where it has no value."""
        kind = self._rng.randrange(8) if depth else self._rng.randrange(2)
        if kind == 0:
            text = self._rng.choice(_NUMBERS)
            digits = text.rstrip("u")
            value = int(digits, 8) if digits[0] == "0" and digits.isdecimal() else int(digits, 0)
            return text, lambda row: value
        if kind == 1:
            name = self._rng.choice(self._fields)
            return name, lambda row: row[name]
        if kind == 2:
            sign, (text, inner) = self._rng.choice(list(_SIGNS)), self.number(depth - 1)
            return f"({sign}{text})", lambda row: None if (v := inner(row)) is None else _SIGNS[sign](v)
        if kind == 3:
            first, second = self.condition(depth - 1), self.condition(depth - 1)
            return f"(({first[0]}) && ({second[0]}))", lambda row: int(first[1](row) and second[1](row))
        if kind == 4:
            return self._set()
        text, inner = self._operation(_COMPARISONS if kind == 5 else _OPERATORS, depth - 1)
        return f"({text})", inner

    def _operation(self, operators: dict[str, Callable[[int, int], int | None]], depth: int) -> Number:
        sign, (left, a), (right, b) = self._rng.choice(list(operators)), self.number(depth), self.number(depth)

        def value(row: Row) -> int | None:
            x, y = a(row), b(row)
            return None if x is None or y is None else operators[sign](x, y)

        return f"{left} {sign} {right}", value

    def _set(self) -> Number:
        name, negated = self._rng.choice(self._fields), self._rng.random() < 0.5
        ranges = [
            (low, low + self._rng.choice((0, 0, 5, 1000))) for low in self._rng.choices((0, 1, 6, 64, 80, 40000), k=3)
        ]
        items = ", ".join(f"{low}-{high}" if high > low else str(low) for low, high in ranges)

        def value(row: Row) -> int | None:
            found = row[name]
            return None if found is None else int(any(low <= found <= high for low, high in ranges) != negated)

        return f"({name} {'not ' * negated}in {{{items}}})", value


def refused(error: FilterError) -> bool:
    """Tell whether a filter was refused because of its numbers, as many random ones are."""
    return re.search("64 bits|must be 0 to 63|may be negative|division by 0", error.reason) is not None
