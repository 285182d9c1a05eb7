# SPDX-License-Identifier: GPL-2.0-or-later
"""A log that one asks: narrowed step by step, then counted, looked at, or searched by detectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, SupportsIndex

from nflowlevel.analytics import timeline
from nflowlevel.analytics.answer import Answer, written
from nflowlevel.analytics.brief import PACKET_BYTES, Brief
from nflowlevel.analytics.cluster import Spark, session
from nflowlevel.analytics.columns import SYN
from nflowlevel.analytics.conditions import (
    Duration,
    Given,
    Moment,
    conditions,
    during,
    excluding,
    is_address,
    moment,
    seconds,
)
from nflowlevel.analytics.engine import DuckDB, Engine, Held, open_remote
from nflowlevel.analytics.findings import Findings
from nflowlevel.analytics.geo import Place
from nflowlevel.analytics.joins import (
    SSH_PORT,
    Paths,
    alerts_sql,
    events_table,
    first_syns_sql,
    logins_sql,
    logins_table,
    systems_table,
)
from nflowlevel.analytics.listed import Records
from nflowlevel.analytics.numbered import Numbered
from nflowlevel.analytics.placed import TABLE, Placed, checked
from nflowlevel.analytics.registry import find_detector
from nflowlevel.analytics.sources import Repeated
from nflowlevel.analytics.store import Damaged, Store
from nflowlevel.archive.schema import RELATIONS, Relation
from nflowlevel.errors import NotSupported, plural
from nflowlevel.sql.literals import literal

_WITH = re.compile(r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*WITH(\s+RECURSIVE)?\b", re.IGNORECASE | re.DOTALL)


class Log:
    """Records, or some of them: each step returns a new one. `nfl.read` makes the first."""

    def __init__(
        self,
        engine: Engine,
        relation: str = "packets",
        narrowed: Mapping[str, tuple[str, ...]] | None = None,
        placed: Placed | None = None,
    ) -> None:
        self._engine, self._name = engine, relation
        self._placed = placed or Placed((), None)
        self._narrowed = dict(narrowed or {})

    @property
    def _relation(self) -> Relation:
        return RELATIONS[self._name]

    def _with(self, found: Iterable[str], relations: Iterable[str]) -> Log:
        new = tuple(found)
        added = {name: (*self._narrowed.get(name, ()), *new) for name in relations}
        return Log(self._engine, self._name, self._narrowed | added, self._placed)

    def _during(self, first: int | None, behind: int | None) -> Log:
        if first is None and behind is None:
            return self
        found = self._with([during(first, behind)], RELATIONS)
        return Log(self._engine.within(first, behind), self._name, found._narrowed, self._placed)

    # -- which records -----------------------------------------------------------------------------------------------

    @property
    def packets(self) -> Log:
        """The packets."""
        return Log(self._engine, "packets", self._narrowed, self._placed)

    @property
    def flows(self) -> Log:
        """The flows: connections with what they carried."""
        return Log(self._engine, "flows", self._narrowed, self._placed)

    @property
    def sums(self) -> Log:
        """The sums of accounting."""
        return Log(self._engine, "sums", self._narrowed, self._placed)

    @property
    def syn(self) -> Log:
        """The packets that ask for a TCP connection: SYN without ACK and RST."""
        return self.packets._with([SYN], ["packets"])

    def where(self, text: str | None = None, /, **values: Given) -> Log:
        """Return the records for which a filter holds (docs/filters.md), and all of the keywords: column=value.

        A value is a number, a text, an address or network, a `range`, None (no value), or several of those in a list.
        KeyError, with the nearest name, for a column that is none; FilterError, TypeError or ValueError.
        """
        return self._with(conditions(self._relation, text, values), [self._name])

    def placed(self, column: str, /, *, geo: str, value: str | int | None, exclude: bool = False) -> Log:
        """Return the records with an address in a column that is registered there, or all but those.

        `log.placed("src_ip", geo="country", value="CN")`; None: of whom nothing is known. `geo` is as for `count`.
        """
        name, relation = self._relation.find(column).name, self._name
        self._placed_by(name)
        test = f"{checked(geo)} IS NULL" if value is None else f"{checked(geo)} = {literal(value)}"
        found = f"{name} IN (SELECT ip FROM {TABLE} WHERE {test})"
        return self._with([excluding([found]) if exclude else found], [relation])

    def exclude(self, text: str | None = None, /, **values: Given) -> Log:
        """Return the records but those that `where` would return."""
        found = list(conditions(self._relation, text, values))
        return self._with([excluding(found)] if found else [], [self._name])

    def between(self, first: Moment | None = None, behind: Moment | None = None) -> Log:
        """Return the records from a time on and before another: seconds since 1970, a datetime or ISO 8601 (UTC)."""
        return self._during(None if first is None else moment(first), None if behind is None else moment(behind))

    def last(self, duration: Duration, *, until: Moment | None = None) -> Log:
        """Return the records of the last `7d`, `24h`, `30m`, or so many seconds.

        It is counted back from the newest record of the whole log, or from the time `until`.
        """
        length = round(seconds(duration) * 10**6)
        if until is None:
            newest = self.newest
            if newest is None:
                return self._with(["1 = 0"], RELATIONS)
            return self._during(newest - length + 1, newest + 1)
        end = moment(until)
        return self._during(end - length, end)

    @property
    def newest(self) -> int | None:
        """The time of the newest record of the whole log, in microseconds since 1970; None: there is no record."""
        parts = " UNION ALL ".join(f"SELECT MAX(us) AS us FROM {name}" for name in RELATIONS)
        text = f"SELECT MAX(us) AS us FROM ({parts}) AS newest"
        found: int | None
        if self._store and (second := self._store.last_second) is not None:
            # The names of files say which can have it.
            found = Answer(self._engine.whole.within(second * 10**6, None), text).value()
            if found is not None and found >= second * 10**6:
                return found
        found = Answer(self._engine.whole, text).value()
        return found

    # -- questions ---------------------------------------------------------------------------------------------------

    def count(
        self, *names: str, every: Duration | None = None, geo: str | None = None, top: int | None = None
    ) -> Answer:
        """Count the records by columns, the most frequent values first; without a column, all of them.

        every: count for each such span of time, too, such as `"1h"`; the column `time` is its begin, in the order of
            time.
        geo: where the addresses of the first column are registered, in place of the addresses: `country`, `asn` (the
            number of the network that announces them), `organisation` or `network` (of one's own list). `addresses`
            says how many there are.
        top: only so many rows.
        """
        if wrong := [each for each in names if not isinstance(each, str)]:
            raise TypeError(
                f'count takes names of columns, such as count("src_ip", "dest_port", top=10), not {wrong[0]!r}'
            )
        columns = list(dict.fromkeys(self._relation.find(name).name for name in names))
        source, more = self._name, ""
        if geo is not None:
            name = checked(geo)
            source, columns[:1] = self._placed_by(columns[0] if columns else ""), [name]
            more = f", COUNT(DISTINCT {TABLE}.ip) AS addresses"
        order = ["n DESC", *(f"{column} NULLS LAST" for column in columns)]
        grouped, shown = list(columns), list(columns)
        if every is not None:
            bucket = _bucket(every)
            grouped, shown, order = [bucket, *grouped], [f"{bucket} AS time", *shown], ["time", *order]
        if not grouped:
            return self._ask(f"SELECT COUNT(*) AS n FROM {self._name}{self._where}")
        return self._ask(
            f"SELECT {', '.join(shown)}, COUNT(*) AS n{more} FROM {source}{self._where} "
            f"GROUP BY {', '.join(grouped)} ORDER BY {', '.join(order)}{_limit(top)}"
        )

    def _placed_by(self, column: str) -> str:
        """Return the relation with what is known of the addresses in a column."""
        if not is_address(self._relation, column):
            raise ValueError(f"geo= needs a column with addresses first, such as src_ip, not '{column}'")
        if not (self._name == "packets" and self._placed.knows_all(column)):
            self._placed.know(self._engine, f"SELECT DISTINCT {column} FROM {self._name}{self._where}")
        return f"{self._name} LEFT JOIN {TABLE} ON {TABLE}.ip = {column}"

    def records(self, *names: str, limit: int | None = None) -> Answer:
        """Return the records in the order of time: these columns of them, or all.

        Where it is printed, columns without a value in the shown records are left out, and the most telling come first.
        """
        listed = ", ".join(self._relation.find(name).name for name in names) or "*"
        return Records(
            self._engine,
            f"SELECT {listed} FROM {self._name}{self._where} ORDER BY us{_limit(limit)}",
            named=bool(names),
        )

    def held(self, *names: str) -> Log:
        """Return these columns of the records as a log of their own, in memory: for many questions to few records.

        One thread may ask it. A log on Spark, or one that is in memory already, is returned as it is.
        """
        if self._direct is None:
            return self
        listed = ", ".join(dict.fromkeys(self._relation.find(name).name for name in names))
        text = f"SELECT {listed} FROM {self._name}{self._where}"
        return Log(self._direct.held(self._name, text), self._name, placed=self._placed)

    def numbered(self, *names: str) -> Log:
        """Return these columns of the records as a log in memory whose questions are answered twice as fast.

        Addresses are numbers there, in the order of their texts: they can be counted, compared with each other and
        ordered, but not with a text, nor taken apart. Columns `src_ip` and `dest_ip` of an answer's rows have texts
        again. One thread may ask it. A log on Spark, or one that is in memory already, is returned as it is.
        """
        if self._direct is None:
            return self
        listed = list(dict.fromkeys(self._relation.find(name).name for name in names))
        text = f"SELECT {', '.join(listed)} FROM {self._name}{self._where}"
        return Log(Numbered.made(self._direct, self._name, text, listed), self._name, placed=self._placed)

    def places_of(self, addresses: Iterable[str | None]) -> dict[str, Place]:
        """Return what is known of addresses, each once. NotSupported: no table of them is installed. OSError."""
        return self._placed.of(addresses)

    def brief(self, *names: str, pause: Callable[[], None] | None = None) -> Brief | None:
        """Make a table of these columns of all packets of this log's time (`between`, `last`), for `asked`.

        None: on Spark, for records in memory (`held`), or memory has no room for it. It takes as long as some questions
        to all packets, and answers many. `pause` is called now and then in between.
        """
        if self._direct is None:
            return None
        span = self._direct.span
        timed = Log(self._engine.whole, placed=self._placed)._during(*span)
        has_room = timed.count().value() * PACKET_BYTES <= self.memory_bytes // 2
        return Brief(self._direct.store, names, pause, span) if has_room else None

    def asked(self, brief: Brief) -> Log:
        """Return the same packets as a log that asks a brief, for one thread; this one where the brief cannot tell.

        It is as those of `numbered`, with numbers for all texts.
        """
        if self._name != "packets" or self._direct is None:
            return self
        engine = brief.engine(self._narrowed.get("packets", ()), self._direct.span)
        return Log(engine, self._name, placed=self._placed) if engine else self

    def know(self, brief: Brief) -> None:
        """Look up the places of all addresses of a brief: `placed` need not look for them then. Errors: `places_of`."""
        self._placed.know_all(self._engine.whole, brief)

    def interrupt(self) -> None:
        """End the queries that run: who waits for one gets DuckDB's InterruptException."""
        if self._store:
            self._store.interrupt()

    @property
    def memory_bytes(self) -> int:
        """The most memory that queries take, in bytes; 0 for a log on Spark, where it is not this machine's."""
        return self._store.memory_bytes if self._store else 0

    def sql(self, text: str) -> Answer:
        """Ask in SQL: the relations `packets`, `flows` and `sums` have the records of this log."""
        return self._ask(self._within(text.strip().rstrip(";")))

    def find(self, detector: str, /, **parameters: object) -> Findings:
        """Search by a detector (docs/detectors.md): `log.find("scan_then_brute", within="1h")`.

        Only the records of this log are looked at. ValueError, with the nearest name, for an unknown detector;
        TypeError or ValueError for a parameter that it does not take; NotSupported where the log lacks what it needs.
        """
        found = find_detector(detector)
        return Findings(self._engine, self._within(found.sql(**parameters)), found, parameters, self._within)

    @property
    def places(self) -> tuple[str, ...]:
        """What `geo` of `count` can be here, by the databases and the list of names that `nfl.read` was given."""
        return self._placed.known()

    # -- with other logs ---------------------------------------------------------------------------------------------

    def host(
        self,
        address: str,
        *,
        eve: Paths | None = None,
        auth: Paths | None = None,
        every: Duration | None = None,
        year: int | None = None,
    ) -> Answer:
        """Return a host's timeline: what this log, Suricata and sshd say of an address, in the order of time.

        eve: Suricata's EVE, one file or several. auth: sshd's log, or the journal's export (`-o json`, `-o export`).
        every: make one row of what is alike in each such span of time, such as `"1m"`. year: of times without one.
        ValueError: it is no address; OSError: a file cannot be read.
        """
        host = timeline.address(address)
        events = logins = None
        if eve is not None:
            events = events_table(self._engine, eve, only=lambda event: host in (event.src_ip, event.dest_ip))
        if auth is not None:
            logins = logins_table(self._engine, auth, year=year, only=lambda login: login.src_ip == host)
        span = None if every is None else max(1, round(seconds(every)))
        text = timeline.sql(host, events=events, logins=logins, every=span)
        return self._ask(self._within(text))

    def alerts(self, eve: Paths, *, within: Duration = 60) -> Answer:
        """Return Suricata's alerts, each with the packets of its flow at most so far apart in time. OSError."""
        events = events_table(self._engine, eve, only=lambda event: event.kind == "alert")
        return self._ask(self._within(alerts_sql(events, seconds(within))))

    def logins(self, auth: Paths, *, within: Duration = 120, port: int = SSH_PORT, year: int | None = None) -> Answer:
        """Return what sshd said of its peers, each with the SYN that opened the connection: window and TTL. OSError."""
        table = logins_table(self._engine, auth, year=year)
        return self._ask(self._within(logins_sql(table, seconds(within), port)))

    def systems(self, *, sample: int = 20, **values: Given) -> Answer:
        """Return what has sent the SYNs of each source, by its first `sample` ones: systems, and tools (docs/joins.md).

        `values` choose sources or SYNs, as for `where`: `src_ip="192.0.2.0/24"`. Its columns are src_ip, kind, name,
        hops, basis and n, how many of the sample there are.
        """
        chosen = self.syn.where(**values) if values else self.syn
        text = chosen._within(first_syns_sql(sample))
        return self._ask(f"SELECT * FROM {systems_table(self._engine, text)} ORDER BY src_ip, n DESC, kind, name, hops")

    def _ask(self, text: str) -> Answer:
        return Answer(self._engine, text)

    @property
    def _where(self) -> str:
        found = self._narrowed.get(self._name, ())
        return f" WHERE {' AND '.join(found)}" if found else ""

    def _within(self, text: str) -> str:
        """Return a query whose relations are narrowed as the log is."""
        narrowed = [
            f"{name} AS (SELECT * FROM {name} WHERE {' AND '.join(found)})"
            for name, found in self._narrowed.items()
            if found and re.search(rf"\b{name}\b", text, re.IGNORECASE)
        ]
        if not narrowed:
            return text
        begins = _WITH.match(text)
        if not begins:
            return f"WITH {', '.join(narrowed)} {text}"
        return f"WITH{begins[1] or ''} {', '.join(narrowed)}, {text[begins.end() :].lstrip()}"

    # -- what it is --------------------------------------------------------------------------------------------------

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(column.name for column in self._relation)

    @property
    def damaged(self) -> Damaged:
        """What is no record: how many lines and files (`count`), and the first 1,000 of them."""
        return Damaged(*((self._store.damaged, self._store.damaged_lines) if self._store else (0, ())))

    @property
    def repeated(self) -> tuple[Repeated, ...]:
        """What `nfl.read` was given again, by the same name or another one: it was read once."""
        return tuple(self._store.repeated) if self._store else ()

    def close(self) -> None:
        """Forget the records that were read, and remove what was kept of them. It may be called twice."""
        if self._store:
            self._store.close()

    def seal(self) -> None:
        """Let no query read or write another file from now on, nor load an extension. It cannot be taken back."""
        if self._store:
            open_remote(self._store)
            self._store.seal()

    @property
    def directory(self) -> Path | None:
        """The private temporary directory of what was read; None where there is none."""
        return self._store.directory if self._store else None

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- a cluster ---------------------------------------------------------------------------------------------------

    def on(self, spark: Any) -> Log:
        """Return the same log, asked by Spark. The same questions have the same answers there.

        spark: a SparkSession, or the URL of a master such as `spark://host:7077` or `local[4]`. All machines must find
        the archive under the same path.
        NotSupported: the log has more than archives in it, or pyspark is not installed.
        """
        if self._store is None:
            raise NotSupported("asking another Spark", found="a log on Spark", needed="the log that nfl.read returned")
        if self._store.records:
            raise NotSupported(
                "asking a log by Spark",
                found="more than archives in it",
                needed="only archives: nflowlevel compact",
            )
        engine = Spark(session(spark), self._store.archives, self._store.remote)
        return Log(engine, self._name, self._narrowed, self._placed.again())

    @property
    def _direct(self) -> DuckDB | None:
        """The engine that asks the store; None: it is Spark, or has records of its own in memory."""
        return self._engine if isinstance(self._engine, DuckDB) and not isinstance(self._engine, Held) else None

    @property
    def _store(self) -> Store | None:
        return self._engine.store if isinstance(self._engine, DuckDB) else None

    def __repr__(self) -> str:
        newest = self.newest
        until = f", the newest of {written(newest)} UTC" if newest is not None else ""
        damaged = f"; {self.damaged.count:,} damaged: see .damaged" if self.damaged.count else ""
        count = self.count().value()
        return f"<Log: {count:,} {plural(count, self._name.removesuffix('s'))}{until}{damaged}>"


def _bucket(every: Duration) -> str:
    """Return the expression for the begin of the span that a record is in."""
    length = seconds(every)
    if length < 1 or length != int(length):
        raise ValueError(f"every must be whole seconds, at least 1, not {every!r}")
    return f"sec - sec % {int(length)}"


def _limit(rows: int | None) -> str:
    if rows is None:
        return ""
    if not isinstance(rows, SupportsIndex):
        raise TypeError(f"a number of rows must be an int, not {rows!r}")
    if rows < 0:
        raise ValueError(f"a number of rows must be at least 0, not {rows}")
    return f" LIMIT {rows.__index__()}"
