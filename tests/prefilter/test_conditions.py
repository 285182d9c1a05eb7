# SPDX-License-Identifier: GPL-2.0-or-later
"""A prefilter's options: how they are given and read."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from nflowlevel.errors import ConfigError
from nflowlevel.options import Value, convert, describe
from nflowlevel.prefilter.conditions import (
    FIXED,
    FlagMask,
    PrefilterOptions,
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
        ({"ignore": ["10.0.0.0/33"]}, "ignore: '10.0.0.0/33': the prefix length must be 0 to 32"),
        ({"only": "host"}, "only: 'host' is not an address or a network (example: 192.0.2.0/24)"),
        ({"only_dst": "fd00::1/64"}, "only_dst: 'fd00::1/64' has bits set after its prefix"),
        ({"protocols": [256]}, "protocols: unknown protocol '256'"),
        ({"protocols": "tpc"}, "protocols: unknown protocol 'tpc' — did you mean 'tcp'?; must be 0 to 255 or a name"),
        ({"dports": "80-70"}, "dports: '80-70': must be 0 to 65535, and a range must begin with the lower port"),
        ({"sports": [65536]}, "sports: '65536': must be 0 to 65535"),
        ({"sports": "-5"}, "sports: '-5' is not a port or a range (example: 8000-8100)"),
        ({"tcp_flags": "sny"}, "tcp_flags: unknown flag 'sny' — did you mean 'syn'?"),
        ({"tcp_flags": "ack,!ack"}, "tcp_flags: 'ack,!ack' asks for ack both set and not set"),
        ({"tcp_flags": "syn/ack"}, "tcp_flags: 'syn/ack' asks for a flag that is not in its mask"),
        ({"sample": 0}, "sample must be 1 to 4294967295, not 0"),
        ({"sample": "x"}, "sample must be 1 to 4294967295, not 'x'"),
        ({"rate": -1}, "rate must be 0 to 1000000000, not -1"),
        ({"rate": 1e-9, "burst": 1000}, "a rate of 1e-09 packets/s with a burst of 1000 takes more than a century"),
        ({"rate_prefix6": 129}, "rate_prefix6 must be 0 to 128, not 129"),
        ({"on_exit": "stay"}, "unknown on_exit 'stay'; available: keep, no-match"),
    ],
)
def test_what_is_wrong(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        options_of(given)
    assert str(caught.value).startswith(message)


def test_a_rule_there_is_none_of() -> None:
    with pytest.raises(TypeError, match="unknown rule 'dport' of a prefilter — did you mean 'dports'"):
        options_of({"dport": 22})


def test_a_configuration_reads_the_same_options() -> None:
    text = {"ignore": "10.0.0.0/8, fd00::/8", "dports": "22,80-90", "rate": "0.5", "top": "yes", "on_exit": "keep"}
    values = {name: Value(word, 7) for name, word in text.items()}
    options = convert(PrefilterOptions, values, plugin="", instance="prefilter1")
    assert options == options_of(
        {"ignore": "10.0.0.0/8, fd00::/8", "dports": "22,80-90", "rate": 0.5, "top": True, "on_exit": "keep"}
    )
    with pytest.raises(ConfigError, match="dports: 'x' is not a port"):
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
