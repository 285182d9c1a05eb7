# SPDX-License-Identifier: GPL-2.0-or-later
"""The prefilter's oracle: its decision written again in Python, over the oracle's reading of the packet.

Nothing of nflowlevel/conditions.py is used: rules come as plain values, networks are those of the standard library.
Time stands still in the model, so its rates must be so slow that no token is added while a test runs.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.binding.bpf import Program
from nflowlevel.binding.descriptor import Descriptor
from nflowlevel.prefilter import generation
from nflowlevel.prefilter.prefilter import Prefilter
from nflowlevel.prefilter.users import standing
from tests import oracle
from tests.fix_lines import wait_for
from tests.fix_netns import Netns
from tests.oracle import Keys

#: IPv6 extension headers that the program walks, and so the model.
MOST_EXTENSIONS = 10

_PORTS = {6: "tcp", 17: "udp", 136: "udp", 132: "sctp"}
_CLASSES = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmpv6", 132: "sctp"}
_FLAG_NAMES = ("fin", "syn", "rst", "psh", "ack", "urg")


def missing() -> str:
    """Return what the tests of the kernel's part lack here, or an empty string."""
    if os.geteuid():
        return "loading BPF programs needs root"
    if not generation.OBJECT.exists():
        return "nflowlevel was built without clang"
    return ""


needs_bpf = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="session")
def bpffs() -> Iterator[Path]:
    """A BPF file system of the tests' own, where other users may look in."""
    directory = Path(tempfile.mkdtemp(prefix="nflowlevel-bpf-"))
    directory.chmod(0o755)
    subprocess.run(["mount", "-t", "bpf", "bpf", directory], check=True)
    yield directory
    subprocess.run(["umount", directory], check=True)
    directory.rmdir()


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """Stay on one CPU: sampling counts on each."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def dispatcher(pre: Prefilter) -> Program:
    """Return the program that rules would hold, to be run by hand."""
    copy = Descriptor()
    copy.take(os.dup(pre.prog_fd))
    return Program(copy)


# -- the packet -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Packet:
    """What the program should know of a frame."""

    saddr: bytes = b""
    daddr: bytes = b""
    sport: int | None = None
    dport: int | None = None
    protocol: int | None = None
    flags: int | None = None
    ttl: int | None = None
    icmp: tuple[int, int] | None = None
    length: int = 0

    @property
    def kind(self) -> str:
        """What it is counted as."""
        return "unknown" if self.protocol is None else _CLASSES.get(self.protocol, "other")


def packet_of(frame: bytes) -> Packet:
    """Read a frame as the kernel shows it to a socket filter: what follows its Ethernet header."""
    payload, ethertype = frame[14:], oracle.be16(frame, 12)
    keys = oracle.decode(oracle.build_message(payload, family=oracle.BRIDGE, protocol=ethertype))
    assert keys is not None
    _, network, _ = oracle.network(oracle.BRIDGE, {"raw.pkt": payload, "oob.protocol": ethertype})
    return from_keys(keys, len(network) if "ip.saddr" in keys else len(payload))


def from_keys(keys: Keys, length: int) -> Packet:
    """Choose what the program reads from what the decoders know."""
    found: dict[str, Any] = {"length": length}
    if "ip.saddr" not in keys:
        return Packet(**found)
    found |= {"saddr": keys["ip.saddr"], "daddr": keys["ip.daddr"]}
    found["ttl"] = keys["ip.ttl"] if "ip.ttl" in keys else keys["ip6.hoplimit"]
    protocol = keys.get("ip.protocol")
    if not isinstance(protocol, int):
        return Packet(**found)
    found["protocol"] = protocol
    name = _PORTS.get(protocol, "")
    if f"{name}.sport" in keys:
        found |= {"sport": keys[f"{name}.sport"], "dport": keys[f"{name}.dport"]}
    if "tcp.syn" in keys:
        found["flags"] = sum(int(keys[f"tcp.{flag}"]) << bit for bit, flag in enumerate(_FLAG_NAMES))
        found["flags"] |= int(keys["tcp.res2"]) << 6
    for name in ("icmp", "icmpv6"):
        if f"{name}.type" in keys:
            found["icmp"] = keys[f"{name}.type"], keys[f"{name}.code"]
    return Packet(**found)


# -- the decision -----------------------------------------------------------------------------------------------------


@dataclass
class Rules:
    """Rules as plain values, and how they are given to a Prefilter."""

    ignore: list[str] = field(default_factory=list)
    only: list[str] = field(default_factory=list)
    ignore_dst: list[str] = field(default_factory=list)
    only_dst: list[str] = field(default_factory=list)
    protocols: list[int] = field(default_factory=list)
    sports: list[tuple[int, int]] = field(default_factory=list)
    dports: list[tuple[int, int]] = field(default_factory=list)
    tcp_flags: tuple[int, int] | None = None
    """Mask, and what must be set of it."""
    sample: int = 1
    rate: float = 0
    burst: int = 5
    rate_prefix4: int = 32
    rate_prefix6: int = 64
    global_rate: float = 0
    global_burst: int = 5
    first_of_flow: float = 0
    top: bool = False

    def arguments(self) -> dict[str, Any]:
        """Return what `Prefilter` takes."""
        given = dict(vars(self))
        for name in ("sports", "dports"):
            given[name] = [f"{first}-{last}" if last > first else first for first, last in given[name]]
        given["tcp_flags"] = ""
        if self.tcp_flags is not None:
            names = (*_FLAG_NAMES, "ece", "cwr")
            mask, on = (",".join(name for bit, name in enumerate(names) if bits >> bit & 1) for bits in self.tcp_flags)
            given["tcp_flags"] = f"{mask}/{on}"
        return given


class Model:
    """Decides packet after packet, and counts, as the program should on one CPU."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.counts: Counter[tuple[str, str]] = Counter()
        self.bytes: Counter[tuple[str, str]] = Counter()
        self.sources: Counter[str] = Counter()
        self.ports: Counter[tuple[str, int]] = Counter()
        self._ticks = 0
        self._spent: Counter[str] = Counter()
        self._all_spent = 0
        self._flows: set[tuple[object, ...]] = set()

    def decide(self, packet: Packet) -> str:
        """Return the reason, and count it."""
        reason = self._fits(packet) or self._thin(packet)
        self.counts[reason, packet.kind] += 1
        self.bytes[reason, packet.kind] += packet.length
        return reason

    def _fits(self, packet: Packet) -> str:
        rules = self.rules
        if rules.protocols and packet.protocol not in rules.protocols:
            return "protocol"
        for wanted, port in ((rules.dports, packet.dport), (rules.sports, packet.sport)):
            if wanted and (port is None or not any(first <= port <= last for first, last in wanted)):
                return "port"
        if rules.tcp_flags is not None:
            mask, on = rules.tcp_flags
            if packet.flags is None or packet.flags & mask != on:
                return "tcp_flags"
        if _within(packet.saddr, rules.ignore) or _within(packet.daddr, rules.ignore_dst):
            return "ignored"
        if rules.only and not _within(packet.saddr, rules.only):
            return "outside"
        if rules.only_dst and not _within(packet.daddr, rules.only_dst):
            return "outside"
        return ""

    def _thin(self, packet: Packet) -> str:
        rules = self.rules
        source = self._source(packet)
        if rules.top:
            self.sources[source] += 1
            if packet.dport is not None and packet.protocol in (6, 17, 132):
                self.ports[_PORTS[packet.protocol], packet.dport] += 1
        if rules.sample > 1:
            self._ticks += 1
            if (self._ticks - 1) % rules.sample:
                return "sampled_out"
        flow = (packet.saddr, packet.daddr, packet.sport or 0, packet.dport or 0, packet.protocol or 0)
        if rules.first_of_flow and flow in self._flows:
            return "first_of_flow"
        if rules.rate:
            if self._spent[source] >= rules.burst:
                return "rate"
            self._spent[source] += 1
        if rules.global_rate:
            if self._all_spent >= rules.global_burst:
                return "global_rate"
            self._all_spent += 1
        self._flows.add(flow)
        return "logged"

    def _source(self, packet: Packet) -> str:
        if not packet.saddr:
            return "::/" + str(self.rules.rate_prefix6) if self.rules.rate_prefix6 < 128 else "::"
        prefix = self.rules.rate_prefix4 if len(packet.saddr) == 4 else self.rules.rate_prefix6
        network = ipaddress.ip_network((packet.saddr, prefix), strict=False)
        return str(network) if prefix < network.max_prefixlen else str(network.network_address)


def _within(address: bytes, networks: Iterable[str]) -> bool:
    if not address:
        return False
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in networks)


def load(bpffs: Path, name: str = "ssh", **rules: str) -> None:
    """Load and pin one, and forget it."""
    with Prefilter(name, bpffs=bpffs, **rules) as pre:
        pre.pin()
    if pre.rules.on_exit == "no-match":
        # The kernel empties it a little later.
        wait_for(lambda: standing(name, bpffs).state == "empty")


def ask(netns: Netns, path: str, variant: str = "legacy") -> None:
    """Put a rule into a namespace that asks what is pinned at `path`."""
    rule = f"INPUT -m bpf --object-pinned {path} -j NFLOG --nflog-group 7"
    netns.run(f"iptables-{variant}", "-w", "60", "-A", *rule.split())
