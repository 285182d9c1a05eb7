# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of networks: the longest prefix wins, and every error has its line."""

from __future__ import annotations

import ipaddress
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.analytics.networks import NamedNetworks
from nflowlevel.errors import ConfigError
from nflowlevel.records.networks import Network


def named(tmp_path: Path, text: str) -> NamedNetworks:
    path = tmp_path / "networks.csv"
    path.write_text(text)
    return NamedNetworks.read(path)


def test_a_file(tmp_path: Path) -> None:
    found = named(
        tmp_path,
        'network,name\n# ours\n10.0.0.0/8,office\n\n10.1.2.0/24,"guests, second floor"\n10.1.2.7 , printer\n'
        "2001:db8::/32,six\n"
        "0.0.0.0/0,world\n",
    )
    addresses = ("10.9.9.9", "10.1.2.8", "10.1.2.7", "2001:db8::1", "2001:db9::1", "8.8.8.8")
    assert [found.name(text) for text in addresses] == [
        *("office", "guests, second floor", "printer", "six", None, "world"),
    ]
    assert len(found) == 5


@pytest.mark.parametrize("text", ["", "x", "1.2.3", "1.2.3.4/8", "::1%lo", "1.2.3.4\0"])
def test_what_is_no_address_has_no_name(tmp_path: Path, text: str) -> None:
    assert named(tmp_path, "0.0.0.0/0,world\n::/0,world\n").name(text) is None


def test_every_error_has_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as info:
        named(
            tmp_path,
            "network,name\n10.0.0.0/8\n10.0.0.0/33,x\n10.0.0.1/8,x\n10.0.0.0/8,\n192.0.2.0/24,a\n192.0.2.0/24,b\n",
        )
    path = tmp_path / "networks.csv"
    assert str(info.value).splitlines() == [
        f"{path}:2: must be network,name, not 1 values; a name with a comma needs quotes",
        f"{path}:3: network: '10.0.0.0/33': the prefix length must be 0 to 32",
        f"{path}:4: network: '10.0.0.1/8' has bits set after its prefix",
        f"{path}:5: the name is empty",
        f"{path}:7: 192.0.2.0/24 has a name in line 6 already",
    ]


def test_many_errors_are_told_in_part(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"10 more errors$"):
        named(tmp_path, "x,y\n" * 30)


@pytest.mark.parametrize("text", [b"10.0.0.0/8,\xff\n", b'10.0.0.0/8,"x\n'])
def test_what_is_no_list(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=r"x.csv: it is no"):
        NamedNetworks.read(path)


@given(st.data(), st.lists(st.tuples(st.ip_addresses(), st.integers(0, 128)), min_size=1, max_size=12))
def test_the_longest_prefix_wins(data: st.DataObject, drawn: list[tuple[Any, int]]) -> None:
    nets = {ipaddress.ip_network((a, min(n, a.max_prefixlen)), strict=False) for a, n in drawn}
    found = NamedNetworks((Network(n.version, int(n.network_address), n.prefixlen), str(n)) for n in nets)
    address = data.draw(st.ip_addresses() | st.sampled_from([a for a, _ in drawn]))
    holding = [n for n in nets if n.version == address.version and address in n]
    best = max(holding, key=lambda n: n.prefixlen, default=None)
    assert found.name(str(address)) == (str(best) if best else None)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.csv")
    for path in (tmp_path / "x.csv", tmp_path, Path("/dev/zero")):
        with pytest.raises(ConfigError, match="it is no regular file"):
            NamedNetworks.read(path)


def test_errors_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{'x' * 100_000},y\n" * 300)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=r"280 more errors$") as caught:
            NamedNetworks.read(path)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 10_000


def test_the_mark_that_windows_writes_first_is_none_of_the_text(tmp_path: Path) -> None:
    assert named(tmp_path, "\ufeffnetwork,name\n10.0.0.0/8,office\n").name("10.1.1.1") == "office"
