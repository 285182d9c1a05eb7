# SPDX-License-Identifier: GPL-2.0-or-later
"""Where addresses are registered: country, number and name of the network that announces them, and one's own names.

Without anything else the country is that of iptocc: the registries' tables, in the package, no request to anybody. It
is the country of the registration, not of the machine. A database of one's own (`.mmdb`, such as GeoLite2-Country,
-City, -ASN or DB-IP's) is asked first for what it has; the first that has an answer counts.

An address is looked up once: `Places.of` for a few, `table` for all that a query of DuckDB's returns.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nflowlevel.analytics.networks import NamedNetworks
from nflowlevel.errors import NflowError, NotSupported, printable

if TYPE_CHECKING:
    import duckdb

_NEEDED = "pip install 'nflowlevel[geo]'"
_PIECE = 50_000
_MOST_ASN = 0xFFFF_FFFF


class Place(NamedTuple):
    """What is known of an address; None: nothing."""

    country: str | None = None
    """Two letters of ISO 3166."""
    asn: int | None = None
    """Number of the autonomous system."""
    organisation: str | None = None
    """Its name."""
    network: str | None = None
    """The name in one's own list of networks."""


class Places:
    """Looks addresses up. `databases` are files in MaxMind's format; `networks` one's own names.

    NotSupported: a package is missing. OSError, NflowError: a database cannot be read. Use it as a context, or `close`
    it.
    """

    def __init__(
        self, *databases: str | os.PathLike[str], networks: NamedNetworks | None = None, registries: bool = True
    ) -> None:
        self._readers: list[tuple[str, Any]] = []
        self._networks = networks
        self._registries = _iptocc() if registries else None
        try:
            for path in databases:
                name = os.fspath(path)
                self._readers.append((name, _open(name)))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the databases. It may be called twice."""
        for _, reader in self._readers:
            reader.close()
        self._readers.clear()

    def __enter__(self) -> Places:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def of(self, addresses: Iterable[str | None]) -> dict[str, Place]:
        """Return what is known of addresses, each once; of what is no address there is an empty `Place`.

        NflowError: a database is damaged where it speaks of one.
        """
        distinct = list(dict.fromkeys(address for address in addresses if address))
        countries = self._registries.country_code(distinct) if self._registries and distinct else [None] * len(distinct)
        if not self._readers and not self._networks:
            return dict(zip(distinct, map(Place, countries), strict=True))
        return {address: self._place(address, country) for address, country in zip(distinct, countries, strict=True)}

    def _place(self, address: str, country: str | None) -> Place:
        found = Place()
        for path, reader in self._readers:
            found = _merged(found, _asked(path, reader, address))
        name = self._networks.name(address) if self._networks else None
        return found._replace(country=found.country or country, network=name)


def table(connection: duckdb.DuckDBPyConnection, query: str, places: Places, *, name: str = "places") -> int:
    """Make the temporary table `name` of DuckDB: a row for each distinct address that `query` returns.

    Its columns are ip, country, asn, organisation and network: join it ON places.ip = src_ip. `query` returns one
    column, such as `SELECT src_ip FROM packets`. Returns the number of rows.
    """
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} "
        "(ip VARCHAR, country VARCHAR, asn BIGINT, organisation VARCHAR, network VARCHAR)"
    )
    cursor = connection.cursor()
    count = 0
    cursor.execute(f"SELECT DISTINCT ip FROM ({query}) AS asked (ip) WHERE ip IS NOT NULL")
    while piece := cursor.fetchmany(_PIECE):
        found = places.of(str(row[0]) for row in piece)
        columns = zip(*((address, *place) for address, place in found.items()), strict=True)
        connection.execute(
            f"INSERT INTO {name} SELECT unnest($1::VARCHAR[]), unnest($2::VARCHAR[]), unnest($3::BIGINT[]), "
            "unnest($4::VARCHAR[]), unnest($5::VARCHAR[])",
            [list(column) for column in columns],
        )
        count += len(found)
    return count


def _merged(found: Place, more: Place) -> Place:
    return Place(
        found.country or more.country,
        more.asn if found.asn is None else found.asn,
        found.organisation or more.organisation,
    )


def _asked(path: str, reader: Any, address: str) -> Place:
    import maxminddb

    try:
        record = reader.get(address)
    except ValueError:  # no address, or IPv6 in a database of IPv4
        return Place()
    except (maxminddb.InvalidDatabaseError, RecursionError) as error:
        raise NflowError(
            f"look up {printable(address, None)} in {printable(path, None)}: the database is damaged "
            f"({printable(str(error), None)}); get it again, or do without it"
        ) from None
    if not isinstance(record, Mapping):
        return Place()
    country = _member(record, "country", "iso_code") or _member(record, "registered_country", "iso_code")
    asn = record.get("autonomous_system_number", record.get("asn"))
    organisation = record.get("autonomous_system_organization", record.get("as_organization"))
    return Place(
        country if isinstance(country, str) else None,
        asn if isinstance(asn, int) and 0 <= asn <= _MOST_ASN else None,
        organisation if isinstance(organisation, str) else None,
    )


def _member(record: Mapping[str, Any], outer: str, inner: str) -> Any:
    found = record.get(outer)
    return found.get(inner) if isinstance(found, Mapping) else None


def _iptocc() -> Any:
    try:
        import iptocc
    except ImportError:
        raise NotSupported("looking up countries", found="no Python module iptocc", needed=_NEEDED) from None
    return iptocc


def _open(path: str) -> Any:
    try:
        import maxminddb
    except ImportError:
        raise NotSupported(
            f"reading {printable(path, None)}", found="no Python module maxminddb", needed=_NEEDED
        ) from None
    if not stat.S_ISREG(os.stat(path).st_mode):  # a FIFO would be waited for
        raise NflowError(f"read {printable(path, None)}: it is no regular file; name a database in MaxMind's format")
    try:
        return maxminddb.open_database(path)
    except maxminddb.InvalidDatabaseError as error:
        raise NflowError(
            f"read {printable(path, None)}: it is no database in MaxMind's format: {printable(str(error), None)}"
        ) from None
