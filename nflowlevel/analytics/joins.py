# SPDX-License-Identifier: GPL-2.0-or-later
"""Other logs beside packets: Suricata's alerts and sshd's logins as tables, and the queries that join them.

Both tables are read from files into the engine that asks, so a query over them runs wherever the log's own queries run.

An alert belongs to the packets of its flow: the same protocol, addresses and ports in either direction, at most
`within` seconds apart. That is what an equal community ID says, without a hash for each packet. Only of ICMP does it
say less: all messages between two hosts count as one flow here, whatever their types.

A login belongs to the SYN that opened its connection: the last one from the same address and port, to sshd's port, in
the `within` seconds before sshd's line. The window and the time to live of that SYN say which tool it was. sshd's line
may come late: LoginGraceTime is 120 s by default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, TypeAlias

from nflowlevel.analytics import eve, sshlog, systems
from nflowlevel.analytics.columns import SYN
from nflowlevel.analytics.engine import Engine

Paths: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

#: The columns of a table of Suricata's events, with DuckDB's types.
EVENTS = {
    "us": "BIGINT",
    "kind": "VARCHAR",
    "src_ip": "VARCHAR",
    "src_port": "INTEGER",
    "dest_ip": "VARCHAR",
    "dest_port": "INTEGER",
    "protocol": "INTEGER",
    "community_id": "VARCHAR",
    "signature": "VARCHAR",
    "sid": "BIGINT",
    "category": "VARCHAR",
    "severity": "INTEGER",
    "detail": "VARCHAR",
}
#: The columns of a table of sshd's logins.
LOGINS = {
    "us": "BIGINT",
    "dvc": "VARCHAR",
    "what": "VARCHAR",
    "src_ip": "VARCHAR",
    "src_port": "INTEGER",
    "who": "VARCHAR",
    "known": "INTEGER",
    "method": "VARCHAR",
    "times": "INTEGER",
    "message": "VARCHAR",
}
assert tuple(EVENTS) == eve.Event._fields
assert tuple(LOGINS) == sshlog.Login._fields

SSH_PORT = 22
#: Names of tables in an engine: each call makes one of its own.
_numbers = count(1)


def paths(given: Paths) -> list[str]:
    """Return paths as a list."""
    if isinstance(given, (str, os.PathLike)):
        return [os.fspath(given)]
    return [os.fspath(path) for path in given]


def events_table(engine: Engine, given: Paths, *, only: Callable[[eve.Event], bool] = lambda event: True) -> str:
    """Read files of Suricata's EVE into a table of the engine; return its name. OSError."""
    found = (event for path in paths(given) for event in eve.read(path)[0] if only(event))
    return _remember(engine, "events", EVENTS, found)


def logins_table(
    engine: Engine,
    given: Paths,
    *,
    year: int | None = None,
    only: Callable[[sshlog.Login], bool] = lambda login: True,
) -> str:
    """Read what sshd said in files into a table of the engine; return its name. OSError."""
    found = (login for path in paths(given) for login in sshlog.read(path, year=year)[0] if only(login))
    return _remember(engine, "logins", LOGINS, (_as_numbers(login) for login in found))


def _as_numbers(login: sshlog.Login) -> tuple[Any, ...]:
    return tuple(int(value) if isinstance(value, bool) else value for value in login)


def _remember(engine: Engine, name: str, columns: dict[str, str], rows: Iterable[Sequence[Any]]) -> str:
    table = f"{name}_{next(_numbers)}"
    engine.remember(table, columns, list(rows))
    return table


def alerts_sql(events: str, within: float = 60.0) -> str:
    """Return the query for each alert of a table of events, with the packets of its flow: how many, and when.

    Its columns are us, signature, sid, severity, src_ip, src_port, dest_ip, dest_port, community_id, packets, first and
    last; `packets` is 0 where the log has none of the flow.
    """
    most = round(within * 1_000_000)
    ports = (
        "COALESCE(p.src_port, -1) = COALESCE(e.{0}_port, -1) AND COALESCE(p.dest_port, -1) = COALESCE(e.{1}_port, -1)"
    )
    ends = "(p.src_ip = e.{0}_ip AND p.dest_ip = e.{1}_ip AND " + ports + ")"
    # Two joins by equality: one with OR in it would compare each alert with each packet.
    joined = " UNION ALL ".join(
        f"SELECT e.n AS n, p.us AS us FROM alerts AS e JOIN packets AS p ON {ends.format(*order)} "
        f"AND p.ip_protocol = e.protocol WHERE p.us BETWEEN e.us - {most} AND e.us + {most}{unlike}"
        for order, unlike in (
            (("src", "dest"), ""),
            # The same ends in both directions: counted once.
            (("dest", "src"), f" AND NOT {ends.format('src', 'dest')}"),
        )
    )
    return (
        f"WITH alerts AS (SELECT *, ROW_NUMBER() OVER (ORDER BY us, src_ip, dest_ip, src_port, dest_port, sid) AS n "
        f"FROM {events} WHERE kind = 'alert'), "
        f"found AS ({joined}) "
        "SELECT a.us AS us, a.signature AS signature, a.sid AS sid, a.severity AS severity, a.src_ip AS src_ip, "
        "a.src_port AS src_port, a.dest_ip AS dest_ip, a.dest_port AS dest_port, a.community_id AS community_id, "
        "COUNT(f.us) AS packets, MIN(f.us) AS first, MAX(f.us) AS last "
        "FROM alerts AS a LEFT JOIN found AS f ON f.n = a.n "
        "GROUP BY a.n, a.us, a.signature, a.sid, a.severity, a.src_ip, a.src_port, a.dest_ip, a.dest_port, "
        "a.community_id "
        "ORDER BY us, src_ip, dest_ip, src_port, dest_port, sid"
    )


def logins_sql(logins: str, within: float = 120.0, port: int = SSH_PORT) -> str:
    """Return the query for each login, with the SYN that opened its connection.

    Its columns are those of the table, then opened (the SYN's time), tcp_window and ip_ttl: NULL where the log has
    none.
    """
    most = round(within * 1_000_000)
    names = ", ".join(f"l.{name} AS {name}" for name in LOGINS)
    kept = ", ".join(LOGINS)
    return (
        f"WITH said AS (SELECT *, ROW_NUMBER() OVER (ORDER BY us, src_ip, src_port, message) AS n FROM {logins}), "
        "opened AS (SELECT l.n AS n, p.us AS opened, p.tcp_window AS tcp_window, p.ip_ttl AS ip_ttl, "
        "ROW_NUMBER() OVER (PARTITION BY l.n ORDER BY p.us DESC, p.tcp_window, p.ip_ttl) AS place "
        "FROM said AS l JOIN packets AS p ON p.src_ip = l.src_ip AND p.src_port = l.src_port "
        f"WHERE p.dest_port = {int(port)} AND p.tcp_syn = 1 AND p.tcp_ack = 0 "
        # Lines without a fraction are of the second in which the SYN came.
        f"AND p.us >= l.us - {most} AND p.us < l.us + 1000000) "
        f"SELECT {names}, o.opened AS opened, o.tcp_window AS tcp_window, o.ip_ttl AS ip_ttl "
        f"FROM said AS l LEFT JOIN (SELECT * FROM opened WHERE place = 1) AS o ON o.n = l.n ORDER BY {kept}"
    )


#: What a guess needs of a row of packets.
_OF_SYN = (
    *("src_ip", "ip_ttl", "ip6_hoplimit", "tcp_window", "tcp_syn", "tcp_ack", "tcp_rst", "tcp_offset", "ip_totlen"),
    *("ip_fragoff", "ip_id", "tcp_seq", "tcp_options", "dest_ip", "dest_port"),
)
#: The columns of a table of systems.
SYSTEMS = {
    "src_ip": "VARCHAR",
    "kind": "VARCHAR",
    "name": "VARCHAR",
    "hops": "INTEGER",
    "basis": "VARCHAR",
    "n": "BIGINT",
}


def first_syns_sql(sample: int) -> str:
    """Return the query for the first SYNs of each source, with what a guess of its system needs."""
    if sample < 1:
        raise ValueError(f"sample must be at least 1, not {sample}")
    names = ", ".join(_OF_SYN)
    order = "us, dest_ip, dest_port, tcp_window"
    return (
        f"SELECT {names} FROM (SELECT {names}, ROW_NUMBER() OVER (PARTITION BY src_ip ORDER BY {order}) AS place "
        f"FROM packets WHERE {SYN}) AS numbered WHERE place <= {int(sample)}"
    )


def systems_table(engine: Engine, query: str) -> str:
    """Guess the systems of the SYNs that a query returns; return the name of the table of the engine with them."""
    found = systems.systems(dict(zip(_OF_SYN, row, strict=True)) for row in engine.rows(engine.relation(query)))
    rows = ((source, *system, number) for source, counts in found.items() for system, number in counts.items())
    return _remember(engine, "systems", SYSTEMS, rows)
