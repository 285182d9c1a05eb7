# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory in which a program reads its conditions: each step, each number, each set."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.prefilter.conditions import options_of
from nflowlevel.prefilter.memory import compile_networks, compile_ports, compile_rules


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
