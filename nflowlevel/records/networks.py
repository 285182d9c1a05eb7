# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses and networks as numbers: how they are read from texts."""

from __future__ import annotations

import functools
import socket
from collections.abc import Iterator
from typing import NamedTuple

#: Bits of an address, by version.
BITS = {4: 32, 6: 128}


class Network(NamedTuple):
    """Addresses that begin with the same `length` bits; version 4 or 6. Sorted, a network comes before those in it."""

    version: int
    address: int
    length: int

    @property
    def last(self) -> int:
        """Its last address."""
        return self.address | (1 << BITS[self.version] - self.length) - 1


@functools.lru_cache(maxsize=8)
def networks(text: str, name: str = "networks") -> tuple[Network, ...]:
    """Return the networks of a list; ValueError where one is none."""
    return tuple(_network(word, name) for word in words(text))


def _network(word: str, name: str) -> Network:
    # Ten times as fast as ipaddress: lists may have tens of thousands.
    address, slash, length = word.partition("/")
    version, family = (6, socket.AF_INET6) if ":" in address else (4, socket.AF_INET)
    bits = BITS[version]
    try:
        number = int.from_bytes(socket.inet_pton(family, address), "big")
    except OSError:
        raise ValueError(f"{name}: {word!r} is not an address or a network (example: 192.0.2.0/24)") from None
    if slash and not (length.isdecimal() and int(length) <= bits):
        raise ValueError(f"{name}: {word!r}: the prefix length must be 0 to {bits}")
    network = Network(version, number, int(length) if slash else bits)
    if number & (1 << bits - network.length) - 1:
        raise ValueError(f"{name}: {word!r} has bits set after its prefix")
    return network


def words(text: str) -> Iterator[str]:
    """Yield the words of a list with commas, or with a line for each."""
    return filter(None, (word.strip() for word in text.replace("\n", ",").split(",")))
