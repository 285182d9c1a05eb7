# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of numbers says what the system's headers say."""

from __future__ import annotations

import socket

import pytest

from nflowlevel.binding import numbers
from nflowlevel.binding.numbers import FAMILIES, HOOKS, NFT_FAMILIES, PROTOCOLS, TCP_FLAGS, some


def test_families() -> None:
    assert (FAMILIES["ipv4"], FAMILIES["ipv6"], FAMILIES["bridge"]) == (socket.AF_INET, socket.AF_INET6, 7)
    assert NFT_FAMILIES == {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}


def test_hooks() -> None:
    assert list(HOOKS) == ["prerouting", "input", "forward", "output", "postrouting"]
    assert list(HOOKS.values()) == list(range(5))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocols(name: str) -> None:
    # Python does not know DCCP.
    assert PROTOCOLS[name] == (33 if name == "dccp" else getattr(socket, f"IPPROTO_{name.upper()}"))


def test_flags() -> None:
    assert TCP_FLAGS == {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128}


def test_tables_cannot_be_changed() -> None:
    for table in (FAMILIES, HOOKS, NFT_FAMILIES, PROTOCOLS, TCP_FLAGS, numbers.NFT_NAMES):
        with pytest.raises(TypeError):
            table["x"] = 1  # type: ignore[index]


def test_some() -> None:
    assert some(HOOKS, "output", "input") == {"output": 3, "input": 1}
    with pytest.raises(KeyError):
        some(HOOKS, "outputs")
