# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of the kernel's numbers: families, hooks, protocols, TCP flags. A module that knows only some takes those."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: NFPROTO_* (linux/netfilter.h). No packet is of family `inet`: what nft's inet rules see is ipv4 or ipv6.
FAMILIES: Mapping[str, int] = MappingProxyType(
    {"unspec": 0, "inet": 1, "ipv4": 2, "arp": 3, "netdev": 5, "bridge": 7, "ipv6": 10}
)
#: How nft calls those that it calls otherwise.
NFT_NAMES: Mapping[str, str] = MappingProxyType({"ipv4": "ip", "ipv6": "ip6"})
#: The families as nft writes them, by number.
NFT_FAMILIES: Mapping[int, str] = MappingProxyType(
    {value: NFT_NAMES.get(name, name) for name, value in FAMILIES.items() if name != "unspec"}
)

#: NF_INET_* (linux/netfilter.h).
HOOKS: Mapping[str, int] = MappingProxyType({"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4})

#: IPPROTO_* (linux/in.h, linux/in6.h).
PROTOCOLS: Mapping[str, int] = MappingProxyType(
    {
        "icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47,
        "esp": 50, "ah": 51, "icmpv6": 58, "sctp": 132, "udplite": 136,
    }
)  # fmt: skip

#: Bits of the flags in a TCP header (RFC 9293), the lowest first.
TCP_FLAGS: Mapping[str, int] = MappingProxyType(
    {name: 1 << bit for bit, name in enumerate(("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"))}
)


def some(table: Mapping[str, int], *names: str) -> dict[str, int]:
    """Return the numbers of these names, in this order."""
    return {name: table[name] for name in names}
