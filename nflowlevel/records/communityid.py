# SPDX-License-Identifier: GPL-2.0-or-later
"""Community IDs: one text for both directions of a flow, the same in Suricata, Zeek and here.

Version 1 of the public specification: SHA-1 over a seed, both addresses, the protocol and both ports, the smaller end
first. An ICMP message has no ports: its type stands for the source port, and the type of its answer for the destination
port, so that a request and its answer share an ID. A type without an answer is one-way: its code stands for the
destination port, and the ends keep their order. Protocols without ports leave the ports out.

Tools agree only where their seeds do (`community-id-seed` of Suricata; 0 everywhere by default).
"""

from __future__ import annotations

import binascii
import hashlib
import socket
from functools import lru_cache

__all__ = ["WITH_PORTS", "community_id", "of_texts"]

#: TCP, UDP, SCTP: whose ports count. UDP-Lite is none of them in the specification, and in no tool either.
WITH_PORTS = frozenset((6, 17, 132))

_ICMP = 1
_ICMPV6 = 58


def _both_ways(*pairs: tuple[int, int]) -> dict[int, int]:
    return dict(pairs) | {answer: request for request, answer in pairs}


#: Types of ICMP and ICMPv6 messages, and the types that answer them.
_ANSWERS = {
    # Echo, router solicitation and advertisement, time stamp, information, mask.
    _ICMP: _both_ways((8, 0), (10, 9), (13, 14), (15, 16), (17, 18)),
    # Echo, listener query and report, router and neighbour discovery, node information, home agent discovery.
    _ICMPV6: _both_ways((128, 129), (130, 131), (133, 134), (135, 136), (139, 140), (144, 145)),
}


def community_id(protocol: int, src: bytes, dest: bytes, first: int = 0, second: int = 0, seed: int = 0) -> str:
    """Return the community ID of a packet or a flow.

    `src` and `dest` are 4 or 16 bytes. `first` and `second` are the source and destination port; for ICMP (1) and
    ICMPv6 (58) they are type and code; for other protocols they do not count. `seed` is 0 to 65535.
    ValueError: addresses of different or wrong lengths; OverflowError: a number out of its range.
    """
    if len(src) != len(dest) or len(src) not in (4, 16):
        raise ValueError(f"community_id: addresses must be 4 or 16 bytes both, not {len(src)} and {len(dest)}")
    ends = b""
    swap = dest < src
    if protocol in WITH_PORTS:
        swap = (dest, second) < (src, first)
    elif (answers := _ANSWERS.get(protocol)) is not None:
        if (answer := answers.get(first)) is None:
            swap = False
        else:
            second = answer
            swap = (dest, second) < (src, first)
    else:
        first = second = -1
    if swap:
        src, dest, first, second = dest, src, second, first
    if first >= 0:
        ends = first.to_bytes(2, "big") + second.to_bytes(2, "big")
    text = seed.to_bytes(2, "big") + src + dest + protocol.to_bytes(1, "big") + b"\0" + ends
    # A checksum, not a seal: systems in FIPS mode refuse SHA-1 without this word.
    digest = hashlib.sha1(text, usedforsecurity=False).digest()
    return "1:" + binascii.b2a_base64(digest, newline=False).decode()


def of_texts(protocol: int, src: str, dest: str, first: int = 0, second: int = 0, seed: int = 0) -> str:
    """Return the community ID of addresses as text; ValueError: one of them is none, or they are of two families."""
    return community_id(protocol, _packed(src), _packed(dest), first, second, seed)


@lru_cache(maxsize=65536)
def _packed(text: str) -> bytes:
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except OSError:
        raise ValueError(f"community_id: {text!r} is not an address") from None
