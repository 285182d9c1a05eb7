# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory in which a prefilter's program reads its conditions: `struct nfl_rules`, sets of ports, networks."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.prefilter.conditions import (
    NETWORKS,
    SECOND_NS,
    PrefilterOptions,
    bucket,
    ports,
    protocols,
    tcp_flags,
)
from nflowlevel.records.networks import BITS, Network, networks, words

#: Spans from here on need no better clock than one that moves with the ticks, every 10 ms at most.
_COARSE_NS = 100_000_000


def compile_rules(options: PrefilterOptions) -> bytes:
    """Return the bytes of `struct nfl_rules`."""
    rules = ffi.new("struct nfl_rules *")
    rules.steps = _steps(options)
    if asked := tcp_flags(options.tcp_flags):
        rules.tcp_mask, rules.tcp_flags = asked
    rules.sample = options.sample
    rules.interval_ns, rules.tolerance_ns = bucket(options.rate, options.burst)
    rules.global_interval_ns, rules.global_tolerance_ns = bucket(options.global_rate, options.global_burst)
    rules.flow_ns = round(options.first_of_flow * SECOND_NS)
    rules.source_mask4 = _words_of(options.rate_prefix4, 1)[0]
    rules.source_mask6 = _words_of(options.rate_prefix6, 4)
    rules.protocols = _bitmap([range(number, number + 1) for number in protocols(options.protocols)], 256)
    for prefixes, version in ((rules.prefixes4, 4), (rules.prefixes6, 6)):
        for prefix, length in zip(prefixes, hashed_lengths(options, version), strict=False):
            count = BITS[version] // 32
            prefix.used, prefix.length = 1, length
            prefix.mask[0:count] = _words_of(length, count)
    return bytes(ffi.buffer(rules))


def _steps(options: PrefilterOptions) -> int:
    steps = {step: getattr(options, name) for name, step in NETWORKS.items()}
    steps |= {
        lib.NFL_STEP_PROTOCOLS: options.protocols,
        lib.NFL_STEP_SPORTS: options.sports,
        lib.NFL_STEP_DPORTS: options.dports,
        lib.NFL_STEP_FLAGS: options.tcp_flags,
        lib.NFL_STEP_SAMPLE: options.sample > 1,
        lib.NFL_STEP_RATE: options.rate,
        lib.NFL_STEP_GLOBAL_RATE: options.global_rate,
        lib.NFL_STEP_FLOW: options.first_of_flow,
        lib.NFL_STEP_TOP: options.top,
        lib.NFL_STEP_COARSE: _may_be_coarse(options),
    }
    return sum(step for step, on in steps.items() if (any(words(on)) if isinstance(on, str) else on))


def _may_be_coarse(options: PrefilterOptions) -> bool:
    """Tell whether no bucket fills up, and no flow is forgotten, within a few ticks."""
    buckets = bucket(options.rate, options.burst), bucket(options.global_rate, options.global_burst)
    spans = [bucket.interval_ns + bucket.tolerance_ns for bucket in buckets] + [options.first_of_flow * SECOND_NS]
    return min(filter(None, spans), default=0) >= _COARSE_NS


def _bitmap(ranges: Iterable[range], size: int) -> list[int]:
    bits = 0
    for numbers in ranges:
        bits |= (1 << len(numbers)) - 1 << numbers.start
    return [bits >> at & 2**64 - 1 for at in range(0, size, 64)] if bits else [0] * (size // 64)


def _words_of(prefix: int, count: int) -> tuple[int, ...]:
    """Return a mask with `prefix` bits set as words of 32 bits in network order."""
    bits = count * 32
    mask = ((1 << bits) - 1 ^ (1 << bits - prefix) - 1).to_bytes(bits // 8, "big")
    return struct.unpack(f"={count}I", mask)


def compile_ports(options: PrefilterOptions) -> Entries:
    """Return what the map of port sets holds: source ports, then destination ports; nothing where neither is asked."""
    if not options.sports and not options.dports:
        return Entries(b"", b"")
    bits = _bitmap(ports(options.sports), 65536) + _bitmap(ports(options.dports), 65536)
    keys = range(len(bits))
    return Entries(struct.pack(f"={len(keys)}I", *keys), struct.pack(f"={len(bits)}Q", *bits))


class Entries(NamedTuple):
    """Keys and values of a map, without gaps."""

    keys: bytes
    values: bytes


def compile_networks(options: PrefilterOptions) -> tuple[Entries, Entries]:
    """Return what the maps of IPv4 and of IPv6 networks hold.

    The program finds the longest network around an address only, so each also has the steps of those around itself.
    """
    steps: dict[Network, int] = {}
    for name, step in NETWORKS.items():
        for network in networks(getattr(options, name), name):
            steps[network] = steps.get(network, 0) | step
    return _entries(steps, 4), _entries(steps, 6)


def hashed_lengths(options: PrefilterOptions, version: int) -> list[int]:
    """Return the lengths of the networks of a version, the longest first; none where a trie finds them as fast.

    A look into a hash costs as much as into four nodes of a trie, which has as many on the way as its size has bits.
    """
    all_networks = {
        network for name in NETWORKS for network in networks(getattr(options, name), name) if network.version == version
    }
    lengths = sorted({network.length for network in all_networks}, reverse=True)
    most = min(len(all_networks).bit_length() // 4, lib.NFL_PREFILTER_PREFIXES)
    return lengths if len(lengths) <= most else []


def _entries(steps: dict[Network, int], version: int) -> Entries:
    keys, values = [], []
    around: list[tuple[int, int]] = []  # last address and steps of the networks that hold the present one
    size = BITS[version] // 8
    for network in sorted(network for network in steps if network.version == version):
        while around and around[-1][0] < network.address:
            around.pop()
        value = steps[network] | (around[-1][1] if around else 0)
        around.append((network.last, value))
        keys.append(struct.pack("=I", network.length) + network.address.to_bytes(size, "big"))
        values.append(struct.pack("=I", value))
    return Entries(b"".join(keys), b"".join(values))
