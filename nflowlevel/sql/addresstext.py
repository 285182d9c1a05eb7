# SPDX-License-Identifier: GPL-2.0-or-later
"""Networks compared with addresses that are stored as text, for databases that know no addresses: DuckDB and SQLite.

An address is written as inet_ntop does: the groups of an IPv6 address in lower case without leading zeros, and `::`
for the first of the longest runs of two zero groups or more. So a network is a small set of beginnings, unless it
depends on how many groups a `::` stands for.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import pairwise

from nflowlevel.records.networks import BITS, Network
from nflowlevel.sql.fragment import Fragment, joined


def text_of(network: Network) -> str:
    """Return a network as text; an address without its length."""
    bits = BITS[network.version]
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    text = socket.inet_ntop(family, network.address.to_bytes(bits // 8, "big"))
    return text if network.length == bits else f"{text}/{network.length}"


def number_in_duckdb(column: str) -> str:
    """Return an IPv4 address as a number in DuckDB's SQL; NULL for others."""
    octets = [f"TRY_CAST(split_part({column}, '.', {number}) AS BIGINT)" for number in (1, 2, 3, 4)]
    terms = " + ".join(f"{octet} * {1 << shift}" for octet, shift in zip(octets, (24, 16, 8, 0), strict=True))
    return f"CASE WHEN instr({column}, ':') = 0 THEN {terms} END"


def within(column: str, network: Network, *, duckdb: bool) -> Fragment:
    """Return the test of a column against a network; ValueError where texts do not tell."""
    if network.length == BITS[network.version]:
        return Fragment(f"{column} = \0", (text_of(network),))
    if network.length == 0:
        return Fragment(f"instr({column}, ':') {'=' if network.version == 4 else '>'} 0")
    if network.version == 4:
        return _within4(column, network, duckdb)
    return joined(" OR ", _within6(column, network)).bracketed()


def _begins(column: str, text: str) -> Fragment:
    """Return the test of a beginning, as a range: that is what indexes and statistics of columns serve."""
    behind = text[:-1] + chr(ord(text[-1]) + 1)
    return Fragment(f"({column} >= \0 AND {column} < \0)", (text, behind))


def _within4(column: str, network: Network, duckdb: bool) -> Fragment:
    whole, rest = divmod(network.length, 8)
    octets = network.address.to_bytes(4, "big")
    begin = "".join(f"{octet}." for octet in octets[:whole])
    tests = [_begins(column, begin) if begin else Fragment(f"instr({column}, ':') = 0")]
    if rest:
        # SQLite reads the digits at the beginning of a text, and stops at the dot.
        octet = (
            f"TRY_CAST(split_part({column}, '.', {whole + 1}) AS INTEGER)"
            if duckdb
            else f"CAST(substr({column}, {len(begin) + 1}) AS INTEGER)"
        )
        last = octets[whole] | (0xFF >> rest)
        tests.append(Fragment(f"{octet} BETWEEN \0 AND \0", (octets[whole], last)))
    return joined(" AND ", tests).bracketed()


def _within6(column: str, network: Network) -> Iterator[Fragment]:
    """Yield tests for the ways in which addresses of a network begin."""
    whole, rest = divmod(network.length, 16)
    groups = [network.address >> 112 - 16 * number & 0xFFFF for number in range(8)]
    fixed = groups[:whole]
    zeros = len(fixed) - len(_stripped(fixed))
    low, high = (groups[whole], groups[whole] | 0xFFFF >> rest) if rest else (0, 0xFFFF)
    may_be_zero = rest > 0 and low == 0
    if zeros + may_be_zero > 2 or (zeros == 2 and low > 0 and rest) or _has_zeros(_stripped(fixed)):
        raise ValueError(f"whether an address is in {text_of(network)} depends on how many groups its '::' stands for")
    begin = "".join(f"{group:x}:" for group in fixed)
    if rest:
        yield from _group_between(column, begin, low, high)
    else:
        yield _begins(column, begin)
    if may_be_zero or (zeros and not rest):
        # `::` stands for two groups at least, and so for all that have to be zero.
        yield _begins(column, "".join(f"{group:x}:" for group in _stripped(fixed)) + ":" if _stripped(fixed) else "::")


def _group_between(column: str, begin: str, low: int, high: int) -> Iterator[Fragment]:
    """Yield tests whether the group behind a beginning is a number from `low` to `high`, by how many digits it has."""
    rest = f"substr({column}, {len(begin) + 1})" if begin else column
    group = f"substr({rest}, 1, instr({rest} || ':', ':') - 1)"
    for digits in range(1, 5):
        first, last = max(low, 16 ** (digits - 1) if digits > 1 else 0), min(high, 16**digits - 1)
        if first <= last:
            between = Fragment(f"length({group}) = {digits} AND {group} BETWEEN \0 AND \0", (f"{first:x}", f"{last:x}"))
            yield joined(" AND ", [_begins(column, begin), between] if begin else [between]).bracketed()


def _stripped(groups: list[int]) -> list[int]:
    """Return groups without the zero groups at their end."""
    end = len(groups)
    while end and not groups[end - 1]:
        end -= 1
    return groups[:end]


def _has_zeros(groups: list[int]) -> bool:
    """Tell whether two groups beside one another are zero."""
    return any(not first and not second for first, second in pairwise(groups))
