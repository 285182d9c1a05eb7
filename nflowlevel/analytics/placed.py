# SPDX-License-Identifier: GPL-2.0-or-later
"""Where addresses of a log are registered, as a table `places` that its queries join: each is looked up once."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from nflowlevel.analytics.engine import Engine
from nflowlevel.analytics.geo import Place, Places
from nflowlevel.analytics.networks import NamedNetworks
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
        if self._places is None:
            named = NamedNetworks.read(self.networks) if self.networks is not None else None
            self._places = Places(*self.databases, networks=named)
        found = (row[0] for row in engine.rows(engine.relation(query)))
        new = [address for address in found if address is not None and address not in self._known]
        if new or not self._made:
            rows = [(address, *place) for address, place in self._places.of(new).items()]
            engine.remember(TABLE, {"ip": "VARCHAR", **COLUMNS}, rows)
            self._known.update(new)
            self._made = True


def checked(name: str) -> str:
    """Return the name of something that is known of addresses; ValueError for any other."""
    if name not in COLUMNS:
        raise ValueError(f"unknown geo='{name}'{choice(name, COLUMNS)}")
    return name
