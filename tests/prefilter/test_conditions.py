# SPDX-License-Identifier: GPL-2.0-or-later
"""A prefilter's options: how they are given and read, and the memory made of them."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.errors import ConfigError
from nflowlevel.options import Value, convert, describe
from nflowlevel.prefilter.conditions import (
    FIXED,
    FlagMask,
    PrefilterOptions,
    compile_networks,
    compile_ports,
    compile_rules,
    options_of,
    ports,
    protocols,
    tcp_flags,
)

# -- options ----------------------------------------------------------------------------------------------------------


def test_sequences_become_texts() -> None:
    options = options_of(
        {
            "ignore": ["10.1.0.0/16", ipaddress.ip_network("fd00::/8")],
            "protocols": ("tcp", 17),
            "dports": [22, "8000-8100"],
            "sports": 53,
            "tcp_flags": "syn",
            "rate": 100,
        }
    )
    assert (options.ignore, options.protocols) == ("10.1.0.0/16,fd00::/8", "tcp,17")
    assert (options.dports, options.sports, options.rate) == ("22,8000-8100", "53", 100)


def test_changes_keep_the_rest() -> None:
    base = options_of({"dports": [22], "sample": 3})
    assert options_of({"sample": 5}, base) == options_of({"dports": "22", "sample": 5})


def test_all_can_be_given_as_they_are() -> None:
    base = options_of({"dports": [22], "top": True, "on_exit": "keep", "first_of_flow": 2.5})
    assert options_of({name: getattr(base, name) for name in base.__struct_fields__}) == base


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ignore": ["10.0.0.0/33"]}, "ignore: '10.0.0.0/33': a prefix has 0 to 32 bits"),
        ({"only": "host"}, "only: 'host' is no address and no network such as 192.0.2.0/24"),
        ({"only_dst": "fd00::1/64"}, "only_dst: 'fd00::1/64' has bits set behind its prefix"),
        ({"protocols": [256]}, "protocols: '256' is no protocol"),
        ({"protocols": "tpc"}, "protocols: 'tpc' is no protocol (0 to 255 or a name) — did you mean 'tcp'?"),
        ({"dports": "80-70"}, "dports: '80-70' is not within 0-65535, or its end comes before its beginning"),
        ({"sports": [65536]}, "sports: '65536' is not within 0-65535"),
        ({"sports": "-5"}, "sports: '-5' is no port and no range such as 8000-8100"),
        ({"tcp_flags": "sny"}, "tcp_flags: 'sny' is no flag (fin, syn, rst, psh, ack, urg, ece, cwr) — did you mean"),
        ({"tcp_flags": "ack,!ack"}, "tcp_flags: 'ack,!ack' asks for ack with and without"),
        ({"tcp_flags": "syn/ack"}, "tcp_flags: 'syn/ack' asks for a flag that is not in its mask"),
        ({"sample": 0}, "sample: Expected `int` >= 1"),
        ({"sample": "x"}, "sample: Expected `int`, got `str`"),
        ({"rate": -1}, "rate: Expected `float` >= 0"),
        ({"rate": 1e-9, "burst": 1000}, "a rate of 1e-09 packets/s with a burst of 1000 takes more than a century"),
        ({"rate_prefix6": 129}, "rate_prefix6: Expected `int` <= 128"),
        ({"on_exit": "stay"}, "on_exit: Invalid enum value 'stay'"),
    ],
)
def test_what_is_wrong(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        options_of(given)
    assert str(caught.value).startswith(message)


def test_a_rule_there_is_none_of() -> None:
    with pytest.raises(TypeError, match="a prefilter has no rule 'dport' — did you mean 'dports'"):
        options_of({"dport": 22})


def test_a_configuration_reads_the_same_options() -> None:
    text = {"ignore": "10.0.0.0/8, fd00::/8", "dports": "22,80-90", "rate": "0.5", "top": "yes", "on_exit": "keep"}
    values = {name: Value(word, 7) for name, word in text.items()}
    options = convert(PrefilterOptions, values, plugin="", instance="prefilter1")
    assert options == options_of(
        {"ignore": "10.0.0.0/8, fd00::/8", "dports": "22,80-90", "rate": 0.5, "top": True, "on_exit": "keep"}
    )
    with pytest.raises(ConfigError, match="dports: 'x' is no port"):
        convert(PrefilterOptions, {"dports": Value("x", 7)}, plugin="", instance="prefilter1")


def test_every_option_is_described() -> None:
    described = describe(PrefilterOptions)
    assert [option.name for option in described] == list(PrefilterOptions.__struct_fields__)
    assert all(option.description.endswith(".") and not option.mandatory for option in described)
    assert set(FIXED) < {option.name for option in described}


# -- texts ------------------------------------------------------------------------------------------------------------


def test_protocols_and_ports() -> None:
    assert protocols("TCP, 17,icmpv6") == {6, 17, 58}
    assert ports("0,5-7,65535") == [range(1), range(5, 8), range(65535, 65536)]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("", None),
        ("syn", FlagMask(0x12, 0x02)),
        ("SYN", FlagMask(0x12, 0x02)),
        ("syn,ack", FlagMask(0x12, 0x12)),
        ("!ack", FlagMask(0x10, 0)),
        ("syn,!ack", FlagMask(0x12, 0x02)),
        ("syn,!rst", FlagMask(0x16, 0x02)),
        ("syn/syn", FlagMask(0x02, 0x02)),
        ("fin,syn,rst,ack/syn", FlagMask(0x17, 0x02)),
        ("fin,psh,urg", FlagMask(0x29, 0x29)),
        ("fin,syn,rst,psh,ack,urg/", FlagMask(0x3F, 0)),
        ("rst", FlagMask(0x04, 0x04)),
    ],
)
def test_tcp_flags(text: str, asked: FlagMask | None) -> None:
    assert tcp_flags(text) == asked


# -- memory -----------------------------------------------------------------------------------------------------------


def compiled(**given: Any) -> Any:
    return ffi.from_buffer("struct nfl_rules *", compile_rules(options_of(given)))


def test_steps_that_are_off_are_no_steps() -> None:
    assert compiled().steps == 0
    assert compiled(sample=1, burst=7, ignore=" , ", sources=5).steps == 0


@pytest.mark.parametrize(
    ("given", "step"),
    [
        ({"ignore": "::/0"}, lib.NFL_STEP_IGNORE_SOURCE),
        ({"only": "::/0"}, lib.NFL_STEP_ONLY_SOURCE),
        ({"ignore_dst": "::/0"}, lib.NFL_STEP_IGNORE_DESTINATION),
        ({"only_dst": "::/0"}, lib.NFL_STEP_ONLY_DESTINATION),
        ({"protocols": "0"}, lib.NFL_STEP_PROTOCOLS),
        ({"sports": "0"}, lib.NFL_STEP_SPORTS),
        ({"dports": "0"}, lib.NFL_STEP_DPORTS),
        ({"tcp_flags": "!ack"}, lib.NFL_STEP_FLAGS),
        ({"sample": 2}, lib.NFL_STEP_SAMPLE),
        ({"rate": 1}, lib.NFL_STEP_RATE | lib.NFL_STEP_COARSE),
        ({"rate": 1000, "burst": 1}, lib.NFL_STEP_RATE),
        ({"rate": 1000, "burst": 100}, lib.NFL_STEP_RATE | lib.NFL_STEP_COARSE),
        ({"rate": 1, "global_rate": 1000}, lib.NFL_STEP_RATE | lib.NFL_STEP_GLOBAL_RATE),
        ({"global_rate": 1}, lib.NFL_STEP_GLOBAL_RATE | lib.NFL_STEP_COARSE),
        ({"first_of_flow": 1}, lib.NFL_STEP_FLOW | lib.NFL_STEP_COARSE),
        ({"first_of_flow": 0.01}, lib.NFL_STEP_FLOW),
        ({"top": True}, lib.NFL_STEP_TOP),
    ],
)
def test_each_step(given: dict[str, Any], step: int) -> None:
    assert compiled(**given).steps == step


def test_numbers() -> None:
    rules = compiled(rate=100, burst=20, global_rate=0.5, global_burst=1, first_of_flow=1.5, sample=9)
    assert (rules.interval_ns, rules.tolerance_ns) == (10_000_000, 190_000_000)
    assert (rules.global_interval_ns, rules.global_tolerance_ns) == (2_000_000_000, 0)
    assert (rules.flow_ns, rules.sample) == (1_500_000_000, 9)


def test_masks_of_sources() -> None:
    rules = compiled(rate_prefix4=20, rate_prefix6=50)
    assert struct.pack("=I", rules.source_mask4) == bytes([255, 255, 0xF0, 0])
    assert struct.pack("=4I", *rules.source_mask6) == bytes([255] * 6 + [0xC0] + [0] * 9)


def test_sets() -> None:
    rules = compiled(protocols="0,63,64,255")
    assert list(rules.protocols) == [1 | 1 << 63, 1, 0, 1 << 63]
    assert compile_ports(options_of({})) == (b"", b"")
    entries = compile_ports(options_of({"sports": "0-64", "dports": "65535"}))
    keys, words = struct.unpack("=2048I", entries.keys), struct.unpack("=2048Q", entries.values)
    assert keys == tuple(range(2048))
    assert {key: word for key, word in zip(keys, words, strict=True) if word} == {0: 2**64 - 1, 1: 1, 2047: 1 << 63}


_SOME = st.lists(
    st.builds(
        lambda address, prefix: str(ipaddress.ip_network((address, prefix), strict=False)),
        st.sampled_from([0x0A000000, 0x0A010000, 0x0A010203, 0x0AFFFFFF, 0xFF000000]),
        st.integers(0, 32),
    ),
    max_size=8,
)


@given(_SOME, _SOME, _SOME, st.sampled_from([0x0A010203, 0x0A010204, 0x0A000001, 0x0AFFFFFF, 0xFF000001, 0]))
def test_the_longest_network_has_the_steps_of_all_around_it(
    ignore: list[str], only: list[str], ignore_dst: list[str], address: int
) -> None:
    given_lists = {"ignore": ignore, "only": only, "ignore_dst": ignore_dst}
    steps = (lib.NFL_STEP_IGNORE_SOURCE, lib.NFL_STEP_ONLY_SOURCE, lib.NFL_STEP_IGNORE_DESTINATION)
    wanted = sum(
        step
        for step, listed in zip(steps, given_lists.values(), strict=True)
        if any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in listed)
    )
    entries4, entries6 = compile_networks(options_of(given_lists))
    assert entries6 == (b"", b"")
    found = (0, 0)
    for at, (value,) in zip(range(0, len(entries4.keys), 8), struct.iter_unpack("=I", entries4.values), strict=True):
        (length,) = struct.unpack_from("=I", entries4.keys, at)
        network = ipaddress.ip_network((entries4.keys[at + 4 : at + 8], length))
        if ipaddress.ip_address(address) in network:
            found = max(found, (length + 1, value))
    assert found[1] == wanted
