# SPDX-License-Identifier: GPL-2.0-or-later
"""What a prefilter lets through: its options, declared once, and the memory in which its program reads them.

Each condition that is given must hold, and a packet that lacks what a condition looks at does not meet it: with
`dports` no ICMP is logged, with `only` nothing that is no IP. Lists are texts with commas, in Python also sequences.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.errors import nearest
from nflowlevel.options import Options
from nflowlevel.records.networks import BITS, Network, networks
from nflowlevel.records.networks import words as _words

#: How an option may be given in Python: lists also as sequences, of networks of the standard library too.
Given: TypeAlias = str | int | float | Iterable[object]

_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132, "udplite": 136, "gre": 47, "esp": 50, "ah": 51}
_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128}
_SECOND = 1_000_000_000
#: Spans from here on need no better clock than one that moves with the ticks, every 10 ms at most.
_COARSE_NS = 100_000_000
#: The longest that a bucket may take to fill, or a flow to be forgotten: a century; sums of it fit into 64 bits.
_MOST_NS = 100 * 365 * 86400 * _SECOND


class PrefilterOptions(Options, frozen=True, kw_only=True):
    """Which packets a prefilter logs; without any condition, all."""

    ignore: Annotated[str, Meta(description="Networks whose packets are not logged, by source address.")] = ""
    only: Annotated[str, Meta(description="Only packets from these networks are logged.")] = ""
    ignore_dst: Annotated[str, Meta(description="Networks to which packets are not logged.")] = ""
    only_dst: Annotated[str, Meta(description="Only packets to these networks are logged.")] = ""
    protocols: Annotated[str, Meta(description="Only these protocols, by name (tcp, udp, icmp …) or number.")] = ""
    sports: Annotated[str, Meta(description="Only these source ports; a range is written 8000-8100.")] = ""
    dports: Annotated[str, Meta(description="Only these destination ports.")] = ""
    tcp_flags: Annotated[
        str,
        Meta(
            description="Only TCP with these flags; `!` before one: without it. `syn` alone means an attempt to "
            "connect (SYN without ACK); `MASK/FLAGS`: of the flags in MASK exactly FLAGS, as iptables' --tcp-flags."
        ),
    ] = ""
    sample: Annotated[int, Meta(ge=1, le=2**32 - 1, description="One in so many packets, counted on each CPU.")] = 1
    first_of_flow: Annotated[
        float, Meta(ge=0, le=10**6, description="Only the first packet of a flow in so many seconds; 0: all.")
    ] = 0
    rate: Annotated[float, Meta(ge=0, le=10**9, description="Packets/s of each source address; 0: any.")] = 0
    burst: Annotated[int, Meta(ge=1, le=10**6, description="Packets that a source may send at once.")] = 5
    rate_prefix4: Annotated[int, Meta(ge=0, le=32, description="IPv4 addresses with such a prefix are one source.")] = (
        32
    )
    rate_prefix6: Annotated[
        int, Meta(ge=0, le=128, description="IPv6 addresses with such a prefix are one source.")
    ] = 64
    global_rate: Annotated[float, Meta(ge=0, le=10**9, description="Packets/s of all sources together; 0: any.")] = 0
    global_burst: Annotated[int, Meta(ge=1, le=10**6, description="Packets that all may send at once.")] = 5
    top: Annotated[
        bool, Meta(description="Count packets by source and by destination port, before they are thinned.")
    ] = False
    sources: Annotated[int, Meta(ge=1, le=2**24, description="Sources that are remembered.")] = 16384
    flows: Annotated[int, Meta(ge=1, le=2**24, description="Flows that are remembered.")] = 65536
    on_exit: Annotated[
        Literal["no-match", "keep"],
        Meta(description="What rules see when the process has ended: no packet matches, or all goes on as before."),
    ] = "no-match"

    def __post_init__(self) -> None:
        for name in _NETWORKS:
            networks(getattr(self, name), name)
        protocols(self.protocols)
        ports(self.sports, "sports")
        ports(self.dports, "dports")
        tcp_flags(self.tcp_flags)
        _bucket(self.rate, self.burst)
        _bucket(self.global_rate, self.global_burst)


_NETWORKS: dict[str, int] = {
    "ignore": lib.NFL_STEP_IGNORE_SOURCE,
    "only": lib.NFL_STEP_ONLY_SOURCE,
    "ignore_dst": lib.NFL_STEP_IGNORE_DESTINATION,
    "only_dst": lib.NFL_STEP_ONLY_DESTINATION,
}

#: Options that are texts; all of them are lists but the last.
_TEXTS = (*_NETWORKS, "protocols", "sports", "dports", "tcp_flags", "on_exit")

#: What cannot be changed while the prefilter is loaded: the size of its memory, and who keeps it.
FIXED = ("sources", "flows", "on_exit")


def options_of(given: Mapping[str, Given], base: PrefilterOptions | None = None) -> PrefilterOptions:
    """Return options as given in Python, the others as in `base`; TypeError for what is none, ValueError for values."""
    known = PrefilterOptions.__struct_fields__
    for name in given:
        if name not in known:
            raise TypeError(f"a prefilter has no rule {name!r}{nearest(name, known)}")
    values = msgspec.structs.asdict(base) if base else {}
    values |= {name: _as_option(name, value) for name, value in given.items()}
    try:
        return msgspec.convert(values, PrefilterOptions)
    except msgspec.ValidationError as error:
        # msgspec puts the place last: "Expected `int` >= 1 - at `$.sample`".
        what, _, place = str(error).partition(" - at `$")
        raise ValueError(f"{place.strip('.`')}: {what}" if place.strip(".`") else what) from None


def _as_option(name: str, value: Given) -> object:
    """Return a value as the option has it: where that is a text, of a sequence one with commas."""
    if isinstance(value, str) or name not in _TEXTS:
        return value
    return ",".join(map(str, value)) if isinstance(value, Iterable) else str(value)


# -- texts ------------------------------------------------------------------------------------------------------------


def protocols(text: str) -> set[int]:
    """Return the protocols of a list."""
    found = set()
    for word in _words(text):
        if word.isdecimal() and int(word) < 256:
            found.add(int(word))
        elif word.lower() in _PROTOCOLS:
            found.add(_PROTOCOLS[word.lower()])
        else:
            raise ValueError(f"protocols: {word!r} is no protocol (0 to 255 or a name){nearest(word, _PROTOCOLS)}")
    return found


def ports(text: str, name: str = "ports") -> list[range]:
    """Return the ports of a list, as ranges."""
    found = []
    for word in _words(text):
        first, dash, last = word.partition("-")
        if not first.isdecimal() or not (last.isdecimal() if dash else True):
            raise ValueError(f"{name}: {word!r} is no port and no range such as 8000-8100")
        numbers = range(int(first), int(last if dash else first) + 1)
        if not numbers or numbers[-1] > 65535:
            raise ValueError(f"{name}: {word!r} is not within 0-65535, or its end comes before its beginning")
        found.append(numbers)
    return found


class FlagMask(NamedTuple):
    """Of the flags in `mask` exactly `flags` must be set."""

    mask: int
    flags: int


def tcp_flags(text: str) -> FlagMask | None:
    """Return what is asked of the flags, None where nothing is."""
    if not text.strip():
        return None
    mask, slash, flags = text.partition("/")
    if slash:
        asked = FlagMask(sum({_flag(word) for word in _words(mask)}), sum({_flag(word) for word in _words(flags)}))
        if asked.flags & ~asked.mask:
            raise ValueError(f"tcp_flags: {text!r} asks for a flag that is not in its mask")
        return asked
    wanted = {word.lower() for word in _words(text)}
    on, off = {word for word in wanted if word[0] != "!"}, {word[1:] for word in wanted if word[0] == "!"}
    if on & off:
        raise ValueError(f"tcp_flags: {text!r} asks for {min(on & off)} with and without")
    if on == {"syn"}:
        off |= {"ack"}
    return FlagMask(sum(map(_flag, on | off)), sum(map(_flag, on)))


def _flag(word: str) -> int:
    if word.lower() not in _FLAGS:
        raise ValueError(f"tcp_flags: {word!r} is no flag ({', '.join(_FLAGS)}){nearest(word, _FLAGS)}")
    return _FLAGS[word.lower()]


class _Bucket(NamedTuple):
    interval_ns: int
    tolerance_ns: int


def _bucket(rate: float, burst: int) -> _Bucket:
    """Return a token bucket as the program has it; ValueError where it takes too long to fill."""
    if not rate:
        return _Bucket(0, 0)
    interval = max(1, round(_SECOND / rate))
    if interval * burst > _MOST_NS:
        raise ValueError(f"a rate of {rate:g} packets/s with a burst of {burst} takes more than a century to fill up")
    return _Bucket(interval, interval * (burst - 1))


# -- memory -----------------------------------------------------------------------------------------------------------


def compile_rules(options: PrefilterOptions) -> bytes:
    """Return the bytes of `struct nfl_rules`."""
    rules = ffi.new("struct nfl_rules *")
    rules.steps = _steps(options)
    if asked := tcp_flags(options.tcp_flags):
        rules.tcp_mask, rules.tcp_flags = asked
    rules.sample = options.sample
    rules.interval_ns, rules.tolerance_ns = _bucket(options.rate, options.burst)
    rules.global_interval_ns, rules.global_tolerance_ns = _bucket(options.global_rate, options.global_burst)
    rules.flow_ns = round(options.first_of_flow * _SECOND)
    rules.source_mask4 = _words_of(options.rate_prefix4, 1)[0]
    rules.source_mask6 = _words_of(options.rate_prefix6, 4)
    rules.protocols = _bitmap([range(number, number + 1) for number in protocols(options.protocols)], 256)
    for prefixes, version in ((rules.prefixes4, 4), (rules.prefixes6, 6)):
        for prefix, length in zip(prefixes, hashed_lengths(options, version), strict=False):
            words = BITS[version] // 32
            prefix.used, prefix.length = 1, length
            prefix.mask[0:words] = _words_of(length, words)
    return bytes(ffi.buffer(rules))


def _steps(options: PrefilterOptions) -> int:
    steps = {step: getattr(options, name) for name, step in _NETWORKS.items()}
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
    return sum(step for step, on in steps.items() if (any(_words(on)) if isinstance(on, str) else on))


def _may_be_coarse(options: PrefilterOptions) -> bool:
    """Tell whether no bucket fills up, and no flow is forgotten, within a few ticks."""
    buckets = _bucket(options.rate, options.burst), _bucket(options.global_rate, options.global_burst)
    spans = [bucket.interval_ns + bucket.tolerance_ns for bucket in buckets] + [options.first_of_flow * _SECOND]
    return min(filter(None, spans), default=0) >= _COARSE_NS


def _bitmap(ranges: Iterable[range], size: int) -> list[int]:
    bits = 0
    for numbers in ranges:
        bits |= (1 << len(numbers)) - 1 << numbers.start
    return [bits >> at & 2**64 - 1 for at in range(0, size, 64)] if bits else [0] * (size // 64)


def _words_of(prefix: int, words: int) -> tuple[int, ...]:
    """Return a mask with `prefix` bits set as words of 32 bits in network order."""
    bits = words * 32
    mask = ((1 << bits) - 1 ^ (1 << bits - prefix) - 1).to_bytes(bits // 8, "big")
    return struct.unpack(f"={words}I", mask)


def compile_ports(options: PrefilterOptions) -> Entries:
    """Return what the map of port sets holds: source ports, then destination ports; nothing where neither is asked."""
    if not options.sports and not options.dports:
        return Entries(b"", b"")
    words = _bitmap(ports(options.sports), 65536) + _bitmap(ports(options.dports), 65536)
    keys = range(len(words))
    return Entries(struct.pack(f"={len(keys)}I", *keys), struct.pack(f"={len(words)}Q", *words))


class Entries(NamedTuple):
    """Keys and values of a map, without gaps."""

    keys: bytes
    values: bytes


def compile_networks(options: PrefilterOptions) -> tuple[Entries, Entries]:
    """Return what the maps of IPv4 and of IPv6 networks hold.

    The program finds the longest network around an address only, so each also has the steps of those around itself.
    """
    steps: dict[Network, int] = {}
    for name, step in _NETWORKS.items():
        for network in networks(getattr(options, name), name):
            steps[network] = steps.get(network, 0) | step
    return _entries(steps, 4), _entries(steps, 6)


def hashed_lengths(options: PrefilterOptions, version: int) -> list[int]:
    """Return the lengths of the networks of a version, the longest first; none where a trie finds them as fast.

    A look into a hash costs as much as into four nodes of a trie, which has as many on the way as its size has bits.
    """
    all_networks = {
        network
        for name in _NETWORKS
        for network in networks(getattr(options, name), name)
        if network.version == version
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
