# SPDX-License-Identifier: GPL-2.0-or-later
"""What a prefilter lets through: its options, declared once; memory.py makes of them what its program reads.

Each condition that is given must hold, and a packet that lacks what a condition looks at does not meet it: with
`dports` no ICMP is logged, with `only` nothing that is no IP. Lists are texts with commas, in Python also sequences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from nflowlevel.binding._lib import lib
from nflowlevel.binding.numbers import PROTOCOLS, TCP_FLAGS
from nflowlevel.errors import choice, nearest
from nflowlevel.options import Options, taken
from nflowlevel.records.networks import networks, words

#: Spans are told in these.
SECOND_NS = 1_000_000_000
#: The longest that a bucket may take to fill, or a flow to be forgotten: a century; sums of it fit into 64 bits.
_MOST_NS = 100 * 365 * 86400 * SECOND_NS


class PrefilterOptions(Options, frozen=True, kw_only=True):
    """Which packets a prefilter logs; without any condition, all."""

    ignore: Annotated[str, Meta(description="Do not log packets from these networks.")] = ""
    only: Annotated[str, Meta(description="Log only packets from these networks.")] = ""
    ignore_dst: Annotated[str, Meta(description="Do not log packets to these networks.")] = ""
    only_dst: Annotated[str, Meta(description="Log only packets to these networks.")] = ""
    protocols: Annotated[str, Meta(description="Log only these protocols, by name (tcp, udp, icmp …) or number.")] = ""
    sports: Annotated[str, Meta(description="Log only these source ports; write a range as 8000-8100.")] = ""
    dports: Annotated[str, Meta(description="Log only these destination ports.")] = ""
    tcp_flags: Annotated[
        str,
        Meta(
            description="Log only TCP with these flags; `!` before a flag: without it. `syn` alone means an attempt "
            "to connect (SYN without ACK). `MASK/FLAGS`: exactly FLAGS of those in MASK, as iptables' --tcp-flags."
        ),
    ] = ""
    sample: Annotated[
        int, Meta(ge=1, le=2**32 - 1, description="Log one packet in this many, counted on each CPU.")
    ] = 1
    first_of_flow: Annotated[
        float, Meta(ge=0, le=10**6, description="Log only the first packet of a flow in this many seconds; 0: all.")
    ] = 0
    rate: Annotated[float, Meta(ge=0, le=10**9, description="Most packets/s of each source address; 0: no limit.")] = 0
    burst: Annotated[int, Meta(ge=1, le=10**6, description="Most packets that a source may send at once.")] = 5
    rate_prefix4: Annotated[
        int, Meta(ge=0, le=32, description="Length of the IPv4 prefix that makes addresses one source.")
    ] = 32
    rate_prefix6: Annotated[
        int, Meta(ge=0, le=128, description="Length of the IPv6 prefix that makes addresses one source.")
    ] = 64
    global_rate: Annotated[
        float, Meta(ge=0, le=10**9, description="Most packets/s of all sources together; 0: no limit.")
    ] = 0
    global_burst: Annotated[
        int, Meta(ge=1, le=10**6, description="Most packets that all sources may send at once.")
    ] = 5
    top: Annotated[
        bool, Meta(description="Count packets by source and by destination port, before sampling and rates thin them.")
    ] = False
    sources: Annotated[int, Meta(ge=1, le=2**24, description="Number of sources to remember.")] = 16384
    flows: Annotated[int, Meta(ge=1, le=2**24, description="Number of flows to remember.")] = 65536
    on_exit: Annotated[
        Literal["no-match", "keep"],
        Meta(description="What rules see after the process has ended: no packet matches, or matching goes on."),
    ] = "no-match"

    def __post_init__(self) -> None:
        for name in NETWORKS:
            networks(getattr(self, name), name)
        protocols(self.protocols)
        ports(self.sports, "sports")
        ports(self.dports, "dports")
        tcp_flags(self.tcp_flags)
        bucket(self.rate, self.burst)
        bucket(self.global_rate, self.global_burst)


#: The options that are lists of networks, and their steps.
NETWORKS: dict[str, int] = {
    "ignore": lib.NFL_STEP_IGNORE_SOURCE,
    "only": lib.NFL_STEP_ONLY_SOURCE,
    "ignore_dst": lib.NFL_STEP_IGNORE_DESTINATION,
    "only_dst": lib.NFL_STEP_ONLY_DESTINATION,
}

#: Options that are texts; all of them are lists but the last.
_TEXTS = (*NETWORKS, "protocols", "sports", "dports", "tcp_flags", "on_exit")

#: What cannot be changed while the prefilter is loaded: the size of its memory, and who keeps it.
FIXED = ("sources", "flows", "on_exit")


def options_of(given: Mapping[str, object], base: PrefilterOptions | None = None) -> PrefilterOptions:
    """Return options as given in Python (rules.py), the others as in `base`.

    TypeError for what is none, ValueError for values.
    """
    known = PrefilterOptions.__struct_fields__
    for name in given:
        if name not in known:
            raise TypeError(f"unknown rule '{name}' of a prefilter{choice(name, known)}")
    values = msgspec.structs.asdict(base) if base else {}
    try:
        values |= taken(PrefilterOptions, {name: _as_option(name, value) for name, value in given.items()})
        return PrefilterOptions(**values)
    except TypeError as error:
        raise ValueError(str(error)) from None


def changed(options: PrefilterOptions) -> dict[str, object]:
    """Return the options that differ from their defaults."""
    plain = PrefilterOptions()
    values = {name: getattr(options, name) for name in PrefilterOptions.__struct_fields__}
    return {name: value for name, value in values.items() if value != getattr(plain, name)}


def _as_option(name: str, value: object) -> object:
    """Return a value as the option has it: where that is a text, of a sequence one with commas."""
    if isinstance(value, str) or name not in _TEXTS:
        return value
    # A network of the standard library can be iterated too, for all its addresses.
    if isinstance(value, Iterable) and not hasattr(value, "prefixlen"):
        return ",".join(map(str, value))
    return str(value)


# -- texts ------------------------------------------------------------------------------------------------------------


def protocols(text: str) -> set[int]:
    """Return the protocols of a list."""
    found = set()
    for word in words(text):
        if word.isdecimal() and int(word) < 256:
            found.add(int(word))
        elif word.lower() in PROTOCOLS:
            found.add(PROTOCOLS[word.lower()])
        else:
            raise ValueError(
                f"protocols: unknown protocol {word!r}{nearest(word, PROTOCOLS)}; must be 0 to 255 or a name"
            )
    return found


def ports(text: str, name: str = "ports") -> list[range]:
    """Return the ports of a list, as ranges."""
    found = []
    for word in words(text):
        first, dash, last = word.partition("-")
        if not first.isdecimal() or not (last.isdecimal() if dash else True):
            raise ValueError(f"{name}: {word!r} is not a port or a range (example: 8000-8100)")
        numbers = range(int(first), int(last if dash else first) + 1)
        if not numbers or numbers[-1] > 65535:
            raise ValueError(f"{name}: {word!r}: must be 0 to 65535, and a range must begin with the lower port")
        found.append(numbers)
    return found


class FlagMask(NamedTuple):
    """Exactly `flags` of the flags in `mask` must be set."""

    mask: int
    flags: int


def tcp_flags(text: str) -> FlagMask | None:
    """Return what is asked of the flags, None where nothing is."""
    if not text.strip():
        return None
    mask, slash, flags = text.partition("/")
    if slash:
        asked = FlagMask(sum({_flag(word) for word in words(mask)}), sum({_flag(word) for word in words(flags)}))
        if asked.flags & ~asked.mask:
            raise ValueError(f"tcp_flags: {text!r} asks for a flag that is not in its mask")
        return asked
    wanted = {word.lower() for word in words(text)}
    on, off = {word for word in wanted if word[0] != "!"}, {word[1:] for word in wanted if word[0] == "!"}
    if on & off:
        raise ValueError(f"tcp_flags: {text!r} asks for {min(on & off)} both set and not set")
    if on == {"syn"}:
        off |= {"ack"}
    return FlagMask(sum(map(_flag, on | off)), sum(map(_flag, on)))


def _flag(word: str) -> int:
    if word.lower() not in TCP_FLAGS:
        raise ValueError(f"tcp_flags: unknown flag {word!r}{choice(word, TCP_FLAGS)}")
    return TCP_FLAGS[word.lower()]


class Bucket(NamedTuple):
    """A token bucket: a token in so many ns, and how far ahead of them packets may come."""

    interval_ns: int
    tolerance_ns: int


def bucket(rate: float, burst: int) -> Bucket:
    """Return a token bucket as the program has it; ValueError where it takes too long to fill."""
    if not rate:
        return Bucket(0, 0)
    interval = max(1, round(SECOND_NS / rate))
    if interval * burst > _MOST_NS:
        raise ValueError(f"a rate of {rate:g} packets/s with a burst of {burst} takes more than a century to fill up")
    return Bucket(interval, interval * (burst - 1))
