# SPDX-License-Identifier: GPL-2.0-or-later
"""Networks against addresses as text, in SQLite and DuckDB, compared with the standard library."""

from __future__ import annotations

import ipaddress
import random
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from nflowlevel.records.networks import Network
from nflowlevel.sql.addresstext import number_in_duckdb, text_of, within

#: Groups that addresses are made of: zero often, and of every number of digits.
GROUPS = (0, 0, 0, 0, 1, 0xF, 0x10, 0xDB8, 0x1000, 0x2001, 0xFD00, 0xFE80, 0xFFFF)
BITS = {4: 32, 6: 128}

Ask = Callable[[str, tuple[Any, ...]], list[int]]


def addresses(rng: random.Random) -> list[tuple[int, int]]:
    """Return addresses as version and number."""
    groups = [[rng.choice(GROUPS).to_bytes(2, "big") for _ in range(8)] for _ in range(400)]
    six = [(6, int.from_bytes(b"".join(each), "big")) for each in groups]
    four = [(4, rng.getrandbits(32)) for _ in range(100)] + [(4, 0x0A010000 | rng.getrandbits(8)) for _ in range(50)]
    return six + four + [(6, 0xFFFF << 32 | 7), (6, 1), (6, 0), (4, 0), (4, 2**32 - 1)]


def text(version: int, number: int) -> str:
    family, size = (socket.AF_INET, 4) if version == 4 else (socket.AF_INET6, 16)
    return socket.inet_ntop(family, number.to_bytes(size, "big"))


def compare(rows: list[tuple[int, int]], ask: Ask, rng: random.Random, *, duckdb: bool, count: int) -> tuple[int, int]:
    """Compare networks around some of the addresses; return how many were asked, and how many refused."""
    asked = refused = 0
    for _ in range(count):
        version, number = rng.choice(rows)
        bits = BITS[version]
        behind = bits - rng.choice((rng.randint(0, bits), bits // 8, bits // 4, bits // 2))
        network = Network(version, number >> behind << behind, bits - behind)
        try:
            fragment = within("address", network, duckdb=duckdb)
        except ValueError as error:
            assert "depends on how many groups its '::' stands for" in str(error)  # noqa: PT017 - most do not raise
            assert version == 6
            refused += 1
            continue
        wanted = [row for row, (v, n) in enumerate(rows) if v == version and network.address <= n <= network.last]
        assert ask(fragment.text.replace("\0", "?"), fragment.parameters) == wanted, text_of(network)
        asked += 1
    return asked, refused


def test_sqlite() -> None:
    rng = random.Random(11)
    rows = addresses(rng)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("create table a (number integer, address text)")
        connection.executemany("insert into a values (?, ?)", [(row, text(*each)) for row, each in enumerate(rows)])

        def ask(condition: str, parameters: tuple[Any, ...]) -> list[int]:
            found = connection.execute(f"select number from a where {condition} order by 1", parameters)
            return [number for (number,) in found]

        asked, refused = compare(rows, ask, rng, duckdb=False, count=3000)
    assert asked > refused > 0


def test_duckdb() -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed (pip install duckdb)")
    rng = random.Random(12)
    rows = addresses(rng)
    with closing(duckdb.connect()) as connection:
        connection.execute("create table a (number integer, address text)")
        connection.executemany("insert into a values (?, ?)", [[row, text(*each)] for row, each in enumerate(rows)])

        def ask(condition: str, parameters: tuple[Any, ...]) -> list[int]:
            found = connection.execute(f"select number from a where {condition} order by 1", parameters)
            return [number for (number,) in found.fetchall()]

        asked, refused = compare(rows, ask, rng, duckdb=True, count=400)
        numbers = connection.execute(f"select {number_in_duckdb('address')} from a order by number").fetchall()
    assert asked > refused > 0
    assert [number for (number,) in numbers] == [number if version == 4 else None for version, number in rows]


USUAL = """
    10.0.0.0/8 172.16.0.0/12 fd00::/8 fc00::/7 fe80::/10 2000::/3 2001:db8::/32 2001:db8::/48 2001:db8::/64
    2001:db8:0:5::/64 2001:db8:1::/49 64:ff9b::/64 ff02::1 ::1 ::/0 ::/8
"""


@pytest.mark.parametrize("network", USUAL.split())
def test_the_usual_networks_can_be_asked(network: str) -> None:
    found = ipaddress.ip_network(network)
    asked = Network(found.version, int(found.network_address), found.prefixlen)
    assert within("a", asked, duckdb=False).text
    assert text_of(asked) == network
