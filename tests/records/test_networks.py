# SPDX-License-Identifier: GPL-2.0-or-later
"""Networks: which texts are some, and which numbers they are."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.records.networks import Network, networks, words


def test_networks() -> None:
    assert networks(" 10.0.0.0/8 ,, ::/0\n192.0.2.1") == (
        Network(4, 10 << 24, 8),
        Network(6, 0, 0),
        Network(4, 0xC0000201, 32),
    )
    assert networks("") == ()


@given(st.ip_addresses(), st.integers(0, 128))
def test_networks_as_the_standard_library_reads_them(address: Any, prefix: int) -> None:
    wanted = ipaddress.ip_network((address, min(prefix, address.max_prefixlen)), strict=False)
    (network,) = networks(str(wanted))
    assert network == (wanted.version, int(wanted.network_address), wanted.prefixlen)
    assert network.last == int(wanted.broadcast_address)


@pytest.mark.parametrize(
    "text", ["1.2.3", "1.2.3.4/", "1.2.3.4/-1", "1.2.3.4/x", "1.2.3.4/٣", "::1%lo", "/8", "01.2.3.4"]
)
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match="x: "):
        networks(text, "x")


def test_words() -> None:
    assert list(words(" a,b\n\nc d ,")) == ["a", "b", "c d"]
