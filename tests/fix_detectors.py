# SPDX-License-Identifier: GPL-2.0-or-later
"""Logs for detectors: random ones, and an ordinary network of two and a half days with all that looks like an attack.

A record is a dict of columns. A model takes records and returns rows without `finding` and `severity`; it is written
from the detector's docstring, in plain Python, and `agrees` compares it with DuckDB on random logs.
"""

from __future__ import annotations

import functools
import os
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from nflowlevel.analytics.detector import COLUMNS
from nflowlevel.analytics.registry import find_detector

Record = dict[str, Any]
Row = dict[str, Any]
Model = Callable[[list[Record]], list[Row]]

#: Random logs for each detector, at least: `make test-all` asks for more.
_LEAST_EXAMPLES = int(os.environ.get("NFLOWLEVEL_EXAMPLES", "0"))
#: Rounds of them until there is something to find.
_MOST_ROUNDS = 20
#: A Monday at midnight, UTC.
BEGIN = 1_793_577_600
SECOND = 1_000_000
HOUR, DAY = 3600, 86_400
FLAGS = ("syn", "ack", "fin", "rst", "psh", "urg")

PACKETS = pa.schema(
    [
        ("sec", pa.int64()), ("us", pa.int64()), ("src_ip", pa.string()), ("dest_ip", pa.string()),
        ("src_port", pa.uint16()), ("dest_port", pa.uint16()), ("tcp_window", pa.uint16()),
        *((f"tcp_{flag}", pa.uint8()) for flag in FLAGS), ("ip_ttl", pa.uint8()), ("ip_protocol", pa.uint8()),
        ("ip_totlen", pa.uint16()), ("raw_label", pa.uint8()), ("oob_prefix", pa.string()), ("dvc", pa.string()),
    ]
)  # fmt: skip
FLOWS = pa.schema(
    [
        ("sec", pa.int64()), ("us", pa.int64()), ("src_ip", pa.string()), ("dest_ip", pa.string()),
        ("orig_l4_sport", pa.uint16()), ("orig_l4_dport", pa.uint16()), ("orig_ip_protocol", pa.uint8()),
        ("orig_raw_pktlen", pa.uint64()), ("reply_raw_pktlen", pa.uint64()),
    ]
)  # fmt: skip


def packet(at: float, src: str, dest: str, port: int | None, **columns: Any) -> Record:
    """Return a SYN of a stack, `at` seconds after the beginning; `columns` say what is different."""
    us = BEGIN * SECOND + round(at * SECOND)
    record: Record = {
        "sec": us // SECOND, "us": us, "src_ip": src, "dest_ip": dest, "src_port": 40_000, "dest_port": port,
        "tcp_window": 64240, **{f"tcp_{flag}": 0 for flag in FLAGS}, "tcp_syn": 1, "ip_ttl": 63, "ip_protocol": 6,
        "ip_totlen": 60, "raw_label": 1, "oob_prefix": "new ", "dvc": "fw1",
    }  # fmt: skip
    if columns.get("ip_protocol", 6) != 6:
        record |= dict.fromkeys(("tcp_window", *(f"tcp_{flag}" for flag in FLAGS)))
    return record | columns


def udp(at: float, src: str, dest: str, port: int | None, **columns: Any) -> Record:
    """Return a packet of UDP."""
    return packet(at, src, dest, port, ip_protocol=17, **columns)


def flow(at: float, src: str, dest: str, port: int, out: int, back: int) -> Record:
    """Return a flow that ended `at` seconds after the beginning."""
    us = BEGIN * SECOND + round(at * SECOND)
    return {"sec": us // SECOND, "us": us, "src_ip": src, "dest_ip": dest, "orig_l4_sport": 40_000,
            "orig_l4_dport": port, "orig_ip_protocol": 6, "orig_raw_pktlen": out, "reply_raw_pktlen": back}  # fmt: skip


def us(at: float) -> int:
    """Return `at` seconds after the beginning as a time of a record."""
    return BEGIN * SECOND + round(at * SECOND)


# -- running ----------------------------------------------------------------------------------------------------------


@functools.cache
def _connection() -> duckdb.DuckDBPyConnection:
    """Return the connection of all tests: to open one takes longer than most queries."""
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    return connection


class Engine:
    """DuckDB with the relations; a new one takes the place of the one before."""

    def __init__(self, packets: Sequence[Record] | pa.Table = (), flows: Sequence[Record] | pa.Table = ()) -> None:
        self._connection = _connection()
        for name, records, schema in (("packets", packets, PACKETS), ("flows", flows, FLOWS)):
            table = records if isinstance(records, pa.Table) else pa.Table.from_pylist(list(records), schema)
            self._connection.register(name, table)

    def rows(self, sql: str) -> list[Row]:
        """Return what a query gives."""
        # A relation would be planned twice.
        answer = self._connection.execute(sql)
        columns = [column[0] for column in answer.description or ()]
        return [dict(zip(columns, row, strict=True)) for row in answer.fetchall()]

    def find(self, name: str, **parameters: object) -> list[Row]:
        """Return the findings of a detector."""
        return self.rows(find_detector(name).sql(**parameters))

    def evidence(self, row: Row, **parameters: object) -> list[Row]:
        """Return the records behind a finding."""
        return self.rows(find_detector(row["finding"]).evidence(row, **parameters))


def find(name: str, records: Sequence[Record], **parameters: object) -> list[Row]:
    """Return the findings of a detector in records."""
    flows = find_detector(name).relation == "flows"
    return Engine(*([], records) if flows else (records,)).find(name, **parameters)


# -- random logs ------------------------------------------------------------------------------------------------------

#: Sets of flags: opened, answered, under way, reset, ended, and what no stack sends.
_FLAG_SETS = ("s", "s", "s", "s", "sa", "a", "a", "r", "ra", "fa", "f", "", "sf", "fpu", "sr", "p")
_OWN = (6000, 53, 40_000, 40_001, 123)
_PORTS = (22, 23, 53, 80, 443, 445, 33434, 5353)


@st.composite
def logs(
    draw: st.DrawFn,
    *,
    span: float = 400.0,
    port: tuple[int, ...] = _PORTS,
    flags: tuple[tuple[str, ...], ...] = (_FLAG_SETS, ("s",), ("s", "r"), ("a",), ("", "f", "sf")),
    most: int = 80,
) -> list[Record]:
    """Return packets in any order. A few numbers say how alike they are; the rest is made of a seed."""
    choose = random.Random(draw(st.integers(0, 2**32)))
    count = draw(st.integers(0, most))
    sources, hosts, ports, own, windows = (draw(st.integers(1, most)) for most in (4, 5, 6, 5, 2))
    secs = draw(st.sampled_from((span, span / 10, span / 40)))
    sets = draw(st.sampled_from(flags))
    protocols = draw(st.sampled_from(((6,), (6, 6, 6, 17, 1), (17,), (*range(1, 9), 17, 17))))
    even = draw(st.booleans())
    records = []
    for n in range(count):
        at = secs * n / count if even else choose.uniform(0, secs)
        at = round(at, choose.choice((0, 1, 6)))
        protocol = choose.choice(protocols)
        given = {"ip_protocol": protocol, "raw_label": choose.choice((0, 0, 1)), "ip_ttl": choose.choice((63, 128)),
                 "ip_totlen": choose.choice((40, 60, 1500, None)),
                 "src_port": choose.choice(_OWN[:own]),
                 "tcp_window": choose.choice((16384, 64240)[:windows])}  # fmt: skip
        if protocol == 6:
            chosen = choose.choice(sets)
            given |= {f"tcp_{flag}": int(flag[0] in chosen) for flag in FLAGS}
        else:
            given["tcp_window"] = None
        if protocol not in (6, 17):
            given["src_port"] = None
        to = choose.choice(port[:ports]) if protocol in (6, 17) else None
        ends = [f"10.0.0.{choose.randrange(sources)}", f"10.0.{choose.choice((0, 1))}.{choose.randrange(hosts)}"]
        # Hosts send, too: answers come from where packets went to.
        choose.shuffle(ends)
        records.append(packet(at, ends[0], ends[1], to, **given))
    return _with_distinct_times(records)


def _with_distinct_times(records: list[Record]) -> list[Record]:
    """Move records of the same µs apart: the order of two of them is nobody's."""
    taken: set[int] = set()
    for record in records:
        while record["us"] in taken:
            record["us"] += 1
        record["sec"] = record["us"] // SECOND
        taken.add(record["us"])
    return records


def agrees(
    name: str,
    model: Model,
    *,
    log: st.SearchStrategy[list[Record]] | None = None,
    examples: int = 80,
    **parameters: object,
) -> None:
    """Compare detector and model on random logs. The logs must be such that the model finds something in some of them.

    What hypothesis draws depends on the constants of all modules that are loaded, so a round may have nothing to find:
    then there is another.

    Behind each finding there must be records, as many as it counts unless the count is of something else.
    """
    found = 0

    @settings(
        max_examples=max(examples, _LEAST_EXAMPLES),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(logs() if log is None else log)
    def compare(records: list[Record]) -> None:
        nonlocal found
        detector = find_detector(name)
        engine = Engine(*([], records) if detector.relation == "flows" else (records,))
        rows = engine.find(name, **parameters)
        expected = model(records)
        found += len(expected)
        head = {"finding": name, "severity": detector.severity}
        assert _sorted(rows) == _sorted([head | row for row in expected])
        for row in rows:
            assert tuple(row)[: len(COLUMNS)] == COLUMNS
            behind = engine.evidence(row, **parameters)
            assert len(behind) >= (1 if name in ("crafted_rst", "first_contact", "dns_beacon") else row["count"])
            assert [record["us"] for record in behind] == sorted(record["us"] for record in behind)

    for number in range(_MOST_ROUNDS):
        seed(number)(compare)()
        if found:
            break
    assert found, "the random logs show nothing of this detector"


def _sorted(rows: Iterable[Row]) -> list[list[tuple[str, Any]]]:
    return sorted((sorted(row.items()) for row in rows), key=repr)


# -- what models share ------------------------------------------------------------------------------------------------


def is_syn(record: Record) -> bool:
    """A packet that opens a connection."""
    return record["tcp_syn"] == 1 and record["tcp_ack"] == 0 and record["tcp_rst"] == 0


def grouped(records: Iterable[Record], *names: str) -> dict[tuple[Any, ...], list[Record]]:
    """Return records by the values of columns; those without one of them are left out."""
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in records:
        key = tuple(record[name] for name in names)
        if None not in key:
            groups[key].append(record)
    return groups


def windows(records: list[Record], length: int, parts: int) -> Iterator[list[Record]]:
    """Yield the records of each window: one of `length` begins with each part of time as long as length / parts."""
    step = length // parts
    starts = {record["sec"] // step * step - k * step for record in records for k in range(parts)}
    for start in sorted(starts):
        inside = [record for record in records if start <= record["sec"] < start + length]
        if inside:
            yield inside


def distinct(records: Iterable[Record], name: str) -> int:
    """Count the values of a column."""
    return len({record[name] for record in records if record[name] is not None})


def the_one(records: Iterable[Record], name: str) -> Hashable:
    """Return the value of a column if there is one only, else None."""
    values = {record[name] for record in records if record[name] is not None}
    return values.pop() if len(values) == 1 else None


def row(records: Iterable[Record], *, src: Any = None, dest: Any = None, port: Any = None, **more: Any) -> Row:
    """Return a row about records; `more` are further columns, or others in place of those of all records."""
    times = [record["us"] for record in records]
    return {"src_ip": src, "dest_ip": dest, "dest_port": port, "first": min(times), "last": max(times),
            "count": len(times)} | more  # fmt: skip


def sliding_model(
    records: list[Record],
    by: tuple[str, ...],
    column: str,
    called: str,
    least: int,
    length: int,
    parts: int,
    also: Callable[[list[Record]], bool] = lambda window: True,
) -> list[Row]:
    """Return the rows of a detector that counts values in windows that slide."""
    rows = []
    for key, group in grouped(records, *by).items():
        good = [w for w in windows(group, length, parts) if distinct(w, column) >= least and also(w)]
        if good:
            named = dict(zip(by, key, strict=True))
            more = {name: value for name, value in named.items() if name not in COLUMNS}
            rows.append(
                row(
                    [record for window in good for record in window],
                    src=named.get("src_ip"),
                    dest=named.get("dest_ip"),
                    port=named.get("dest_port"),
                    count=max(map(len, good)),
                    **{called: max(distinct(window, column) for window in good)},
                    **more,
                )
            )
    return rows


# -- an ordinary network ----------------------------------------------------------------------------------------------

LENGTH = 2.5 * DAY
GATEWAY, PROXY, BALANCER = "10.0.0.1", "10.0.0.8", "10.0.0.9"
MONITORING, SMALL_MONITORING, BACKUP, ANSIBLE = "10.0.0.5", "10.0.0.6", "10.0.0.7", "10.0.0.4"
RESOLVER, ROUTER, NFS_CLIENT, TRACER, RESET_CLIENT = "10.0.0.53", "10.0.0.2", "10.0.0.61", "10.0.0.77", "10.0.0.60"
SHOP, SELDOM = "10.0.1.80", "10.0.1.90"


@functools.cache
def ordinary() -> pa.Table:
    """Return the packets of a network in which nothing is wrong."""
    choose = random.Random(1)
    records = [record for part in _PARTS for record in part(choose)]
    return pa.Table.from_pylist(_with_distinct_times(records), PACKETS)


@functools.cache
def ordinary_flows() -> pa.Table:
    """Return its flows."""
    choose = random.Random(2)
    records = []
    for at in range(0, int(LENGTH), 600):
        records.append(flow(at + 5, PROXY, f"203.0.113.{choose.randrange(250)}", 443, 20_000, choose.randrange(10**8)))
    for day in range(3):
        for n in range(10):  # the backup: known since the first night, whatever it sends
            records.append(flow(day * DAY + 2 * HOUR + n * 60, f"10.0.2.{n}", BACKUP, 22, 5 * 10**9, 10**6))
    # A new partner gets a large file.
    records.append(flow(1.8 * DAY, PROXY, "198.51.100.25", 443, 3 * 10**8, 10**5))
    return pa.Table.from_pylist(records, FLOWS)


def findings(name: str, attack: Sequence[Record] = (), **parameters: object) -> list[Row]:
    """Return what a detector finds in the ordinary network, with an attack in it or without."""
    if find_detector(name).relation == "flows":
        return Engine((), pa.concat_tables([ordinary_flows(), pa.Table.from_pylist(list(attack), FLOWS)])).find(
            name, **parameters
        )
    return Engine(pa.concat_tables([ordinary(), pa.Table.from_pylist(list(attack), PACKETS)])).find(name, **parameters)


def accused(name: str, attack: Sequence[Record] = (), column: str = "src_ip") -> list[str]:
    """Return whom a detector accuses, once for each finding, sorted."""
    return sorted(str(found[column]) for found in findings(name, attack))


def _own(choose: random.Random) -> int:
    return choose.randrange(32768, 61000)


def _proxy(choose: random.Random) -> Iterator[Record]:
    """A busy proxy: pages of 25 hosts at once, new hosts all the time."""
    for _ in range(500):
        at = choose.uniform(0, LENGTH - 60)
        for _ in range(25):
            host = int(3000 * choose.random() ** 2)
            server, port = f"203.0.{host // 250}.{host % 250}", choose.choice((443, 443, 80))
            yield packet(at + choose.uniform(0, 8), PROXY, server, port, src_port=_own(choose))


def _gateway(choose: random.Random) -> Iterator[Record]:
    """A NAT gateway: many clients behind one address, source ports from 1024 on, forty services."""
    services = [443, 80, 993, 22, 8443, *range(5000, 5035)]
    for _ in range(12_000):
        host = choose.randrange(150)
        port, own = choose.choice(services[: 5 + host % 36]), choose.randrange(1024, 65536)
        window = choose.choice((64240, 65535, 29200))
        yield packet(choose.uniform(0, LENGTH), GATEWAY, f"203.1.0.{host}", port, src_port=own, tcp_window=window)


def _balancer(choose: random.Random) -> Iterator[Record]:
    """A load balancer: three servers behind it, each asked for its health every minute on a port of its own."""
    for n in range(3):
        server = f"10.0.3.{n}"
        for minute in range(int(LENGTH) // 60):
            yield packet(60 * minute + 7 * n + choose.uniform(0, 0.1), BALANCER, server, 8081, src_port=_own(choose))
    for _ in range(6000):
        yield packet(choose.uniform(0, LENGTH), BALANCER, f"10.0.3.{choose.randrange(3)}", 8080, src_port=_own(choose))


def _monitoring(choose: random.Random) -> Iterator[Record]:
    """Monitoring: twelve login services every two minutes; and a small one with two services every five."""
    for at in range(0, int(LENGTH), 120):
        for n in range(12):
            yield packet(at + n * 0.1 + choose.uniform(0, 0.05), MONITORING, f"10.0.2.{n}", 22, src_port=_own(choose))
    for at in range(0, int(LENGTH), 300):
        for n in range(2):
            yield packet(at + 20 + n, SMALL_MONITORING, f"10.0.2.{n}", 443, src_port=_own(choose))


def _backup(choose: random.Random) -> Iterator[Record]:
    """A backup every night at two: it connects to twenty servers at once."""
    for day in range(3):
        for n in range(20):
            yield packet(day * DAY + 2 * HOUR + n * 0.5, BACKUP, f"10.0.2.{n}", 22, src_port=_own(choose))


def _configuration(choose: random.Random) -> Iterator[Record]:
    """Configuration by ssh: once thirty connections to one server in two minutes."""
    for n in range(30):
        yield packet(1.2 * DAY + 4 * n, ANSIBLE, "10.0.2.3", 22, src_port=_own(choose))


def _people(choose: random.Random) -> Iterator[Record]:
    """People: each has a few servers, and some log in on a jump host in the morning. Servers' answers are logged."""
    for person in range(60):
        client = f"10.0.4.{person}"
        for _ in range(120):
            at, own = choose.uniform(0, LENGTH), _own(choose)
            server, port = f"10.0.1.{choose.randrange(6) + person % 3}", choose.choice((443, 443, 80, 445))
            yield packet(at, client, server, port, src_port=own)
            yield packet(at + 0.01, server, client, own, src_port=port, tcp_ack=1)
            for n in range(2):
                yield packet(at + 0.1 + n, server, client, own, src_port=port, tcp_syn=0, tcp_ack=1)
        for day in range(3 if person < 18 else 0):
            for _ in range(4):
                at = day * DAY + 8 * HOUR + choose.uniform(0, HOUR)
                yield packet(at, client, "10.0.1.22", 22, src_port=_own(choose))


def _names(choose: random.Random) -> Iterator[Record]:
    """Look-ups at the resolver all use, with answers to random ports; a router with a resolver of its own; clocks."""
    for _ in range(3000):
        at, client, own = choose.uniform(0, LENGTH), f"10.0.4.{choose.randrange(60)}", choose.randrange(1024, 65536)
        yield udp(at, client, RESOLVER, 53, src_port=own)
        yield udp(at + 0.02, RESOLVER, client, own, src_port=53)
    for _ in range(60):  # one of them asks for a whole page
        yield udp(3000 + choose.uniform(0, 20), RESOLVER, "10.0.4.1", choose.randrange(1024, 32000), src_port=53)
    for at in range(0, int(LENGTH), 300):
        yield udp(at + choose.uniform(0, 1), ROUTER, "9.9.9.9", 53, src_port=_own(choose))
        yield udp(at + 90, ROUTER, "192.0.2.123", 123, src_port=123)


def _odd(choose: random.Random) -> Iterator[Record]:
    """What is rare and right: traceroute, a client bound to one port, resets by a middlebox, a sale, a rare service."""
    for n in range(90):
        yield udp(5000 + n * 0.2, TRACER, "203.0.113.9", 33434 + n, src_port=45_000, ip_ttl=1 + n // 3)
    for _ in range(40):
        yield packet(choose.uniform(0, LENGTH), NFS_CLIENT, "10.0.1.20", 2049, src_port=700)
    for n in range(12):
        at, own = 1000.0 * n, _own(choose)
        yield packet(at, RESET_CLIENT, "203.0.113.70", 443, src_port=own)
        yield packet(at + 0.3, RESET_CLIENT, "203.0.113.70", 443, src_port=own, tcp_syn=0, tcp_rst=1, ip_ttl=250)
    for n in range(1500):
        yield packet(1.5 * DAY + 10 * choose.random(), f"198.51.{n // 250}.{n % 250}", SHOP, 443, src_port=_own(choose))
    for n in range(3):
        yield packet(2.1 * DAY + n, SELDOM, f"10.0.4.{n}", _own(choose), src_port=9100, tcp_ack=1)
    for n in range(30):  # a new rule is missing: the inventory is refused
        yield packet(2.2 * DAY + n, "10.0.0.44", f"10.0.5.{n}", 161, ip_protocol=17, raw_label=0)


_PARTS = (_proxy, _gateway, _balancer, _monitoring, _backup, _configuration, _people, _names, _odd)
