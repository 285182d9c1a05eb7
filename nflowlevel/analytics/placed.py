# SPDX-License-Identifier: GPL-2.0-or-later
"""Where addresses of a log are registered, as a table `places` that its queries join: each is looked up once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from nflowlevel.analytics.brief import Brief
from nflowlevel.analytics.engine import Engine
from nflowlevel.analytics.geo import Place, Places
from nflowlevel.analytics.networks import NamedNetworks
from nflowlevel.analytics.numbered import ADDRESSES
from nflowlevel.errors import choice

TABLE = "places"
#: What is known of an address, with DuckDB's types.
COLUMNS = {"country": "VARCHAR", "asn": "BIGINT", "organisation": "VARCHAR", "network": "VARCHAR"}
assert tuple(COLUMNS) == Place._fields


class Placed:
    """Places of addresses, for one engine."""

    def __init__(self, databases: Sequence[str], networks: str | None) -> None:
        self.databases, self.networks = tuple(databases), networks
        self._places: Places | None = None
        self._known: set[str] = set()
        self._made = False
        self._brief: Brief | None = None
        self._lock = threading.Lock()

    def again(self) -> Placed:
        """Return the same for another engine."""
        return Placed(self.databases, self.networks)

    def known(self) -> tuple[str, ...]:
        """Return what can be known of addresses: countries where there is a table of them, more by what was given."""
        found = ["country"] if self.databases or find_spec("iptocc") else []
        found += ["asn", "organisation"] if self.databases else []
        return (*found, *(["network"] if self.networks is not None else []))

    def know(self, engine: Engine, query: str) -> None:
        """Have in the table `places` what is known of the addresses that a query returns.

        NotSupported, OSError, NflowError: a package is missing, or a database cannot be read.
        """
        with self._lock:
            found = (row[0] for row in engine.rows(engine.relation(query)))
            new = [address for address in found if address is not None and address not in self._known]
            if new or not self._made:
                rows = [(address, *place) for address, place in self.of(new).items()]
                engine.remember(TABLE, {"ip": "VARCHAR", **COLUMNS}, rows)
                self._known.update(new)
                self._made = True

    def know_all(self, engine: Engine, brief: Brief) -> None:
        """Have there what is known of all addresses of a brief of all times; errors as above."""
        if self._brief is not brief:
            for name in ADDRESSES:
                if name in brief.texts:
                    self.know(engine, f"SELECT text FROM {brief.texts[name]}")
            self._brief = brief

    def knows_all(self, column: str) -> bool:
        """Whether all addresses are known that packets have in a column."""
        return (
            self._brief is not None and column in ADDRESSES and column in self._brief.texts and self._brief.is_current
        )

    def of(self, addresses: Iterable[str | None]) -> dict[str, Place]:
        """Return what is known of addresses; errors as above."""
        if self._places is None:
            named = NamedNetworks.read(self.networks) if self.networks is not None else None
            self._places = Places(*self.databases, networks=named)
        return self._places.of(addresses)


def by_place(
    sources: Iterable[tuple[Any, ...]], places: Mapping[str, Place], geo: str, top: int
) -> list[tuple[Any, int]]:
    """Return rows of addresses and their counts as `count(geo=…)` would: by what is known of them, the most first."""
    found: Counter[Any] = Counter()
    for address, count in sources:
        place = places.get(address)
        found[getattr(place, geo) if place else None] += int(count)
    return most_first(found)[:top]


def most_first(counts: Mapping[Any, int]) -> list[tuple[Any, int]]:
    """Return values and their counts in the order of `count`: the most frequent first, no value behind all values."""
    return sorted(counts.items(), key=lambda each: (-each[1], each[0] is None, 0 if each[0] is None else each[0]))


def checked(name: str) -> str:
    """Return the name of something that is known of addresses; ValueError for any other."""
    if name not in COLUMNS:
        raise ValueError(f"unknown geo='{name}'{choice(name, COLUMNS)}")
    return name
