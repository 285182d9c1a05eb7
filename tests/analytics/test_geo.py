# SPDX-License-Identifier: GPL-2.0-or-later
"""Where addresses are registered: by the registries' tables, by a database of one's own, and by one's own names."""

from __future__ import annotations

import ipaddress
import os
import struct
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from nflowlevel.analytics.geo import Place, Places, table
from nflowlevel.analytics.networks import NamedNetworks
from nflowlevel.errors import NflowError, NotSupported
from nflowlevel.records.networks import Network


def _encoded(value: Any) -> bytes:
    """Return a value in MaxMind's format."""
    if isinstance(value, str):
        data = value.encode()
        # From 29 bytes on, the length is 29 and what the next byte says.
        size = (2 << 5 | len(data),) if len(data) < 29 else (2 << 5 | 29, len(data) - 29)
        return bytes(size) + data
    if isinstance(value, tuple):  # a number of another size than 32 bits
        bits, number = value
        return (bytes((5 << 5 | 2,)) if bits == 16 else bytes((8, 2))) + number.to_bytes(bits // 8, "big")
    if isinstance(value, int):
        return bytes((6 << 5 | 4,)) + struct.pack(">I", value)
    if isinstance(value, list):
        return bytes((len(value), 4)) + b"".join(map(_encoded, value))
    return bytes((7 << 5 | len(value),)) + b"".join(_encoded(part) for item in value.items() for part in item)


def database(path: Path, networks: dict[str, dict[str, Any]]) -> Path:
    """Write a database of IPv4 networks, 24 bits a record."""
    nodes: list[list[Any]] = [[None, None]]
    data = b""
    for text, record in networks.items():
        network = ipaddress.ip_network(text)
        node = 0
        bits = [int(network.network_address) >> 31 - place & 1 for place in range(network.prefixlen)]
        for bit in bits[:-1]:
            if nodes[node][bit] is None:
                nodes.append([None, None])
                nodes[node][bit] = len(nodes) - 1
            node = nodes[node][bit]
        nodes[node][bits[-1]] = ("data", len(data))
        data += _encoded(record)

    def pointer(entry: Any) -> bytes:
        if entry is None:
            number = len(nodes)
        elif isinstance(entry, tuple):
            number = len(nodes) + 16 + entry[1]
        else:
            number = entry
        return number.to_bytes(3, "big")

    about = {
        "node_count": len(nodes),
        "record_size": (16, 24),
        "ip_version": (16, 4),
        "database_type": "test",
        "languages": ["en"],
        "binary_format_major_version": (16, 2),
        "binary_format_minor_version": (16, 0),
        "build_epoch": (64, 1),
        "description": {"en": "test"},
    }
    tree = b"".join(pointer(entry) for node in nodes for entry in node)
    path.write_bytes(tree + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + _encoded(about))
    return path


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, Path]:
    countries = database(tmp_path / "c.mmdb", {"8.8.8.0/24": {"country": {"iso_code": "XX"}}, "9.0.0.0/8": {"x": "y"}})
    numbers = {"autonomous_system_number": 64500, "autonomous_system_organization": "Example"}
    return countries, database(tmp_path / "a.mmdb", {"8.8.0.0/16": numbers})


def test_countries_of_the_registries() -> None:
    with Places() as places:
        found = places.of(["8.8.8.8", "218.2.0.1", "2001:4860:4860::8888", "10.0.0.1", "x", None, "8.8.8.8"])
    assert found == {
        "8.8.8.8": Place("US"),
        "218.2.0.1": Place("CN"),
        "2001:4860:4860::8888": Place("US"),
        "10.0.0.1": Place(),
        "x": Place(),
    }


def test_databases_of_ones_own_come_first(own: tuple[Path, Path]) -> None:
    names = NamedNetworks([(Network(4, 0x08080800, 24), "resolvers")])
    with Places(*own, networks=names) as places:
        assert places.of(["8.8.8.8", "8.8.4.4", "9.9.9.9", "2001:4860:4860::8888"]) == {
            "8.8.8.8": Place("XX", 64500, "Example", "resolvers"),
            "8.8.4.4": Place("US", 64500, "Example"),
            "9.9.9.9": Place("US"),
            "2001:4860:4860::8888": Place("US"),
        }
    with Places(own[0], registries=False) as places:
        assert places.of(["8.8.8.8", "8.8.4.4", "x"]) == {"8.8.8.8": Place("XX"), "8.8.4.4": Place(), "x": Place()}
    places.close()


def test_a_table_of_distinct_addresses(own: tuple[Path, Path]) -> None:
    connection = duckdb.connect()
    connection.execute("CREATE TABLE packets AS SELECT unnest(['8.8.8.8', '8.8.8.8', '10.0.0.1', NULL]) AS src_ip")
    with Places(*own) as places:
        assert table(connection, "SELECT src_ip FROM packets", places) == 2
        assert table(connection, "SELECT src_ip FROM packets WHERE src_ip = 'none'", places, name="others") == 0
    counted = "SELECT country, COUNT(*) FROM packets LEFT JOIN places ON ip = src_ip GROUP BY country ORDER BY 2, 1"
    assert connection.execute(counted).fetchall() == [("XX", 2), (None, 2)]
    assert connection.execute("SELECT * FROM places WHERE asn IS NOT NULL").fetchall() == [
        ("8.8.8.8", "XX", 64500, "Example", None)
    ]


def test_what_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "x.mmdb"
    path.write_bytes(b"x" * 100)
    with pytest.raises(NflowError, match=r"x.mmdb: it is no database in MaxMind's format"):
        Places(path)
    with pytest.raises(FileNotFoundError):
        Places(tmp_path / "none")


@pytest.mark.parametrize("module", ["iptocc", "maxminddb"])
def test_a_missing_package_is_named(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(NotSupported, match=rf"no Python module {module}; needed: pip install 'nflowlevel\[geo\]'"):
        Places(tmp_path / "x.mmdb", registries=module == "iptocc")


@pytest.mark.parametrize(
    "data",
    [
        b"\x20\x00",  # a pointer to itself
        b"\xe1\x41a\x20\x00",  # an object in itself
        b"\xe1\x41a" * 20_000 + b"\x41x",
        b"\xff\xff\xff\xff",  # sixteen million members
        b"\x5f\xff\xff\xffx",  # a text beyond the end
        b"\x38\xff\xff\xff\xff",  # a pointer beyond the end
    ],
)
def test_a_database_that_is_damaged_inside_is_named(tmp_path: Path, data: bytes) -> None:
    path = database(tmp_path / "x.mmdb", {"8.8.8.0/24": {"x": "y"}})
    path.write_bytes(path.read_bytes().replace(_encoded({"x": "y"}), data))
    with Places(path, registries=False) as places:
        assert places.of(["9.9.9.9"]) == {"9.9.9.9": Place()}
        with pytest.raises(
            NflowError, match=r"look up 8\.8\.8\.8 in .*x\.mmdb: the database is damaged .*get it again"
        ):
            places.of(["8.8.8.8"])


def test_values_of_other_types_are_none(tmp_path: Path) -> None:
    wrong = database(tmp_path / "x.mmdb", {"8.8.8.0/24": {"country": "DE", "autonomous_system_number": (64, 1 << 63)}})
    with Places(wrong, registries=False) as places:
        assert places.of(["8.8.8.8"]) == {"8.8.8.8": Place()}
        assert table(duckdb.connect(), "SELECT '8.8.8.8'", places) == 1


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.mmdb")
    with pytest.raises(NflowError, match=r"x\.mmdb: it is no regular file"):
        Places(tmp_path / "x.mmdb", registries=False)
