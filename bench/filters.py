# SPDX-License-Identifier: GPL-2.0-or-later
"""One filter twice, as a prefilter's rules and as rules of nftables, and the flood of SYNs that both judge.

Of each packet all is asked: its source lies among the ignored networks and in none of them, its port and its flags fit;
one in ten is taken, and of each source so many a second.
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
import struct
import subprocess
from typing import Any, NamedTuple

from bench.netns import FW, Field
from bench.programs import program

#: What the packets are sent to.
_PORT = 443
_FW6 = "fd99::1"
_PORTS = "22,80,443,3306,5432,8000-8100"
_NETWORKS, _SOURCES = 10_000, 1024
_SAMPLE, _RATE, _BURST = 10, 100, 20
#: All networks that could be ignored; packets come from those that are not.
_ALL = {4: ("100.64.0.0/10", 24), 6: ("2001:db8::/32", 48)}


class Networks(NamedTuple):
    """Networks that are ignored, and addresses outside of them, by version of IP."""

    ignored: dict[int, list[str]]
    sources: dict[int, list[bytes]]


def networks() -> Networks:
    """Return the same ones each time."""
    chance = random.Random(5)
    ignored, sources = {}, {}
    for version, (around, length) in _ALL.items():
        every = [*ipaddress.ip_network(around).subnets(new_prefix=length)]
        chance.shuffle(every)
        ignored[version] = [str(network) for network in every[:_NETWORKS]]
        sources[version] = [(network.network_address + 7).packed for network in every[_NETWORKS:][:_SOURCES]]
    return Networks(ignored, sources)


def rules(ignored: dict[int, list[str]]) -> dict[str, Any]:
    """Return the filter as a Prefilter takes it."""
    return {
        "ignore": [*ignored[4], *ignored[6]],
        "protocols": "tcp",
        "dports": _PORTS,
        "tcp_flags": "syn",
        "sample": _SAMPLE,
        "rate": _RATE,
        "burst": _BURST,
    }


def native(ignored: dict[int, list[str]]) -> str:
    """Return the filter as nftables' own rules, with a counter for each reason."""
    lines = [
        f"set ignored{version} {{ type ipv{version}_addr; flags interval; elements = {{ {', '.join(some)} }}; }}\n"
        f"set sources{version} {{ type ipv{version}_addr; size 16384; flags dynamic; timeout 1m; }}"
        for version, some in ignored.items()
    ]
    limit = f"limit rate over {_RATE}/second burst {_BURST} packets"
    return "\n".join(
        (
            "table inet native {",
            *lines,
            f"set ports {{ type inet_service; flags interval; elements = {{ {_PORTS} }}; }}",
            "chain c { type filter hook input priority -1; policy accept;",
            "meta l4proto != tcp counter return",
            "tcp dport != @ports counter return",
            "tcp flags & (syn | ack) != syn counter return",
            "ip saddr @ignored4 counter return",
            "ip6 saddr @ignored6 counter return",
            f"numgen inc mod {_SAMPLE} != 0 counter return",
            f"update @sources4 {{ ip saddr {limit} }} counter return",
            f"update @sources6 {{ ip6 saddr {limit} }} counter return",
            "counter",
            "}",
            "}",
        )
    )


class Traffic(NamedTuple):
    """What is sent: packets of one source find all that is asked for in the caches, those of many do not."""

    version: int
    sources: int

    def __str__(self) -> str:
        return f"IPv{self.version}, {self.sources:,} source{'s' * (self.sources > 1)}"


#: All that is measured.
TRAFFIC = tuple(Traffic(version, sources) for version in _ALL for sources in (1, _SOURCES))


class Flood:
    """Sends SYNs of many sources into the field, where all that is not wanted is dropped in the end, and counted."""

    def __init__(self, field: Field, sources: dict[int, list[bytes]]) -> None:
        self._field = field
        field.fw.run("ip", "address", "replace", f"{_FW6}/64", "dev", "va", "nodad")
        link = b"".join(_mac(field, *end) for end in (("fw", "va"), ("peer", "vb")))
        self._frames = {version: [link + _syn(version, each) for each in some] for version, some in sources.items()}

    def send(self, traffic: Traffic, count: int) -> float:
        """Send `count` packets as fast as the machine can; return ns a packet. RuntimeError where one is lost."""
        self._field.fw.run("nft", "-f", "-", text=_END)
        frames = self._frames[traffic.version][: traffic.sources]
        command = [program("inject"), str(count), "vb", str(len(frames[0]))]
        with self._field.peer.enter():
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        os.sched_setaffinity(child.pid, {min(os.sched_getaffinity(0))})
        answer = json.loads(child.communicate(b"".join(frames), timeout=150)[0])
        dropped = self._field.counted()
        if child.returncode or dropped != count:
            raise RuntimeError(f"{answer['sent']} of {count} packets sent, {dropped} passed the rules")
        return float(answer["seconds"] / answer["sent"] * 1e9)

    def close(self) -> None:
        """Leave the field as it was."""
        self._field.fw.run("ip", "address", "del", f"{_FW6}/64", "dev", "va")
        self._field.reset()


#: Nothing answers a SYN, and each that came through is counted.
_END = f"""
table inet bench
delete table inet bench
table inet bench {{
    chain end {{ type filter hook input priority 0; policy accept; tcp dport {_PORT} counter drop; }}
}}
"""


def _mac(field: Field, end: str, link: str) -> bytes:
    answer = json.loads(getattr(field, end).run("ip", "-j", "link", "show", link))
    return bytes.fromhex(answer[0]["address"].replace(":", ""))


def _syn(version: int, source: bytes) -> bytes:
    """Return what follows the hardware addresses: a SYN with the options that a system sends."""
    options = bytes.fromhex("020405b40402080a00000001000000000103030a")
    tcp = struct.pack(">HHIIBBHHH", 40000, _PORT, 1, 0, 0xA0, 0x02, 64240, 0, 0) + options
    if version == 6:
        target = ipaddress.ip_address(_FW6).packed
        return b"\x86\xdd" + struct.pack(">IHBB", 0x60000000, len(tcp), 6, 64) + source + target + tcp
    start = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0)
    header = start + source + ipaddress.ip_address(FW).packed
    return b"\x08\x00" + header[:10] + _checksum(header) + header[12:] + tcp


def _checksum(header: bytes) -> bytes:
    total = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)
