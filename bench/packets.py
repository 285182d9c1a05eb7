# SPDX-License-Identifier: GPL-2.0-or-later
"""Millions of logged packets, generated with NumPy: a week before a firewall, with attacks planted in it.

`parts` yields them hour by hour, sorted by time, as Arrow tables with the columns of the relation `packets` that a log
of TCP, UDP and ICMP has; `write_archive` writes Parquet. The same number and seed give the same packets. `PLANTED` says
how many attacks of each kind are in it, whatever the number of packets, by the name of the detector that finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nflowlevel.archive.layout import path_of

Numbers = NDArray[np.int64]

#: Monday, 2 November 2026.
BEGIN = 1_793_577_600
_HOUR = 3600
_SECOND = 1_000_000
_FLAGS = ("syn", "ack", "fin", "rst", "psh", "urg")
_TYPES = {
    "ip_protocol": np.uint8, "ip_ttl": np.uint8, "ip_totlen": np.uint16, "src_port": np.uint16, "dest_port": np.uint16,
    "tcp_window": np.uint16, "raw_label": np.uint8, **{f"tcp_{flag}": np.uint8 for flag in _FLAGS},
}  # fmt: skip
_COLUMNS = ("us", "source", "host", *_TYPES)

#: The detectors, and how many sources (or hosts, for floods) of that kind are planted.
PLANTED = {
    "fixed_port": 60, "port_scan": 40, "sweep": 30, "blocked_sweep": 30, "slow_scan": 8, "brute_force": 75,
    "scan_then_brute": 25, "crafted_rst": 60, "beacon": 10, "dns_beacon": 5, "syn_flood": 1, "stealth_scan": 5,
    "udp_scan": 10, "ack_scan": 5, "protocol_scan": 3, "distributed_brute_force": 2, "first_contact": 4,
    "new_services": 3,
}  # fmt: skip

#: What is planted takes so many packets, and something has to be around it.
LEAST = 60_000

_CLIENTS, _SERVERS = 60_000, 600
_WINDOWS = np.array([64240, 65535, 29200, 8192, 64800, 42340, 14600, 1024])
_WINDOW_SHARES = (0.34, 0.27, 0.12, 0.1, 0.07, 0.05, 0.04, 0.01)
_PORTS = np.array([443, 80, 22, 25, 445, 23, 3389, 8080, 993, 5900, 21, 8443])
_PORT_SHARES = (0.42, 0.14, 0.08, 0.07, 0.07, 0.06, 0.05, 0.04, 0.03, 0.02, 0.01, 0.01)
_LOGINS = (22, 23, 3389)
_TCP, _UDP, _ICMP = 6, 17, 1


@dataclass
class _World:
    """The hosts, by number: clients, then servers, then whoever attacks."""

    random: np.random.Generator
    begin: int
    length: int
    addresses: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        low = self.random.choice(2**24, _CLIENTS, replace=False)
        # 100.64.0.0/10 and 10.0.0.0/8 belong to nobody, so nobody is accused.
        self.addresses = [f"100.{64 + (n >> 16) % 64}.{n >> 8 & 255}.{n & 255}" for n in low.tolist()]
        self.addresses += [f"10.1.{n >> 8}.{n & 255}" for n in range(_SERVERS)]

    def new(self) -> int:
        """Return the number of a new host, an attacker."""
        n = len(self.addresses) - _CLIENTS - _SERVERS
        self.addresses.append(f"198.{18 + (n >> 16)}.{n >> 8 & 255}.{n & 255}")
        return len(self.addresses) - 1

    def servers(self, count: int) -> Numbers:
        """Return different servers."""
        return _CLIENTS + self.random.choice(_SERVERS, count, replace=False)

    def moment(self, longest: float, earliest: float = 0.0) -> int:
        """Return a time in µs after which there are `longest` seconds left; `earliest` is a share of the length."""
        most = max(self.length - longest, 1)
        return self.begin * _SECOND + int(self.random.uniform(min(self.length * earliest, most - 1), most) * _SECOND)


def _packets(count: int, **given: Any) -> dict[str, Numbers]:
    """Return columns of `count` packets: SYNs of a stack, but for what is given."""
    whole: dict[str, Any] = {
        "ip_protocol": _TCP, "ip_ttl": 50, "ip_totlen": 60, "src_port": 40_000, "dest_port": 80, "tcp_window": 64240,
        "raw_label": 0, **{f"tcp_{flag}": 0 for flag in _FLAGS}, "tcp_syn": 1, **given,
    }  # fmt: skip
    return {name: np.broadcast_to(np.asarray(whole[name], np.int64), count) for name in _COLUMNS}


def _ports(random: np.random.Generator, count: int) -> Numbers:
    return random.integers(32768, 61000, count)


def _background(world: _World, count: int, begin: int, secs: int) -> dict[str, Numbers]:
    """Return ordinary packets of an hour: connections opened and answered, connections under way, UDP, ICMP."""
    random = world.random
    # Few clients make most connections. Each has its favourites, as people and programs do.
    source = (_CLIENTS * random.random(count) ** 3).astype(np.int64)
    favourite = random.integers(0, 4, count)
    host = _CLIENTS + (source * 7 + favourite * 131 * (source % 5 + 1)) % _SERVERS
    kind = random.random(count)
    tcp = kind < 0.88
    syn = kind < 0.72
    answer = (kind >= 0.72) & (kind < 0.80)
    reset = (kind >= 0.87) & tcp
    service = _PORTS[np.searchsorted(np.cumsum(_PORT_SHARES), ((source * 13 + favourite) % 1000) / 1000.0)]
    udp = (kind >= 0.88) & (kind < 0.98)
    service = np.where(udp, np.array([53, 123, 443, 161])[(source + favourite) % 4], service)
    # A NAT gateway among ten clients takes ports from 1024 on.
    own = np.where(source % 10 == 0, random.integers(1024, 65536, count), random.integers(32768, 61000, count))
    window = _WINDOWS[np.searchsorted(np.cumsum(_WINDOW_SHARES), (source * 31 % 1000) / 1000.0)]
    icmp = kind >= 0.98
    return {
        "us": begin * _SECOND + np.sort(random.integers(0, secs * _SECOND, count)),
        "source": np.where(answer, host, source),
        "host": np.where(answer, source, host),
        "ip_protocol": np.where(tcp, _TCP, np.where(udp, _UDP, _ICMP)),
        "ip_ttl": 40 + source % 24 + np.where(source % 3 == 0, 64, 0),
        "ip_totlen": np.where(syn, 60, random.integers(40, 1500, count)),
        "src_port": np.where(icmp, 0, np.where(answer, service, own)),
        "dest_port": np.where(icmp, 0, np.where(answer, own, service)),
        "tcp_window": np.where(tcp, window, 0),
        "raw_label": (source + favourite) % 8 != 0,
        "tcp_syn": syn | answer,
        "tcp_ack": tcp & ~syn & ~reset,
        "tcp_fin": (kind >= 0.86) & (kind < 0.87),
        "tcp_rst": reset,
        "tcp_psh": (kind >= 0.83) & (kind < 0.86),
        "tcp_urg": np.zeros(count, np.int64),
    }


# -- attacks ----------------------------------------------------------------------------------------------------------


def _times(world: _World, count: int, every: float, at: int | None = None, earliest: float = 0.0) -> Numbers:
    begin = world.moment(count * every, earliest) if at is None else at
    steps = world.random.uniform(0.8 * every, 1.2 * every, count) * _SECOND
    return begin + np.cumsum(steps).astype(np.int64)


def _raw_scan(world: _World, attacker: int, port: int) -> tuple[dict[str, Numbers], Numbers]:
    """Return the article's scan: window 16384, source port 6000, LEN 40."""
    hosts = world.servers(40)
    times = _times(world, 40, 3.0)
    raw = {"source": attacker, "src_port": 6000, "tcp_window": 16384, "ip_ttl": 105, "ip_totlen": 40, "dest_port": port}
    return _packets(40, us=times, host=hosts, **raw), times


def _fixed_port(world: _World) -> Iterator[dict[str, Numbers]]:
    """60 scanners with a crafted RST each; 25 of them come back with another tool."""
    for n in range(PLANTED["fixed_port"]):
        attacker, port = world.new(), _LOGINS[n % len(_LOGINS)]
        scan, times = _raw_scan(world, attacker, port)
        yield scan
        yield {**scan, "us": times + 200_000, "ip_ttl": scan["ip_ttl"] - 60, "tcp_syn": scan["tcp_syn"] * 0,
               "tcp_rst": scan["tcp_syn"]}  # fmt: skip
        if n < PLANTED["scan_then_brute"]:
            yield _brute(world, attacker, int(scan["host"][0]), port, int(times[-1]) + 600 * _SECOND)


def _brute(world: _World, attacker: int, host: int, port: int, at: int | None = None) -> dict[str, Numbers]:
    return _packets(60, us=_times(world, 60, 3.0, at), source=attacker, host=host, dest_port=port,
                    src_port=_ports(world.random, 60), tcp_window=65535, ip_ttl=110)  # fmt: skip


def _brutes(world: _World) -> Iterator[dict[str, Numbers]]:
    for n in range(PLANTED["brute_force"] - PLANTED["scan_then_brute"]):
        yield _brute(world, world.new(), int(world.servers(1)[0]), _LOGINS[n % len(_LOGINS)])
    for _ in range(PLANTED["distributed_brute_force"]):
        host, begin = int(world.servers(1)[0]), world.moment(1800)
        for _ in range(40):
            yield _packets(6, us=_times(world, 6, 200.0, begin), source=world.new(), host=host, dest_port=22,
                           src_port=_ports(world.random, 6))  # fmt: skip


def _scans(world: _World) -> Iterator[dict[str, Numbers]]:
    random = world.random
    for _ in range(PLANTED["port_scan"]):
        yield _packets(600, us=_times(world, 600, 0.1), source=world.new(), host=world.servers(1)[0],
                       dest_port=1 + random.permutation(2000)[:600], src_port=_ports(random, 600),
                       tcp_window=1024)  # fmt: skip
    for n in range(PLANTED["sweep"]):
        yield _packets(200, us=_times(world, 200, 0.2), source=world.new(), host=world.servers(200),
                       dest_port=(445, 23, 5432)[n % 3], src_port=_ports(random, 200), tcp_window=1024)  # fmt: skip
    for _ in range(PLANTED["slow_scan"]):
        yield _packets(300, us=_times(world, 300, 250.0), source=world.new(), host=world.servers(300),
                       dest_port=1 + random.permutation(5000)[:300], src_port=_ports(random, 300))  # fmt: skip
    for _ in range(PLANTED["udp_scan"]):
        yield _packets(200, us=_times(world, 200, 0.2), source=world.new(), host=world.servers(1)[0], ip_protocol=_UDP,
                       tcp_syn=0, dest_port=1 + random.permutation(2000)[:200], src_port=50_001)  # fmt: skip
    for _ in range(PLANTED["ack_scan"]):
        yield _packets(200, us=_times(world, 200, 0.2), source=world.new(), host=world.servers(1)[0], tcp_syn=0,
                       tcp_ack=1, dest_port=1 + random.permutation(2000)[:200], src_port=50_002)  # fmt: skip
    for n in range(PLANTED["stealth_scan"]):
        flags = ({}, {"tcp_fin": 1}, {"tcp_fin": 1, "tcp_psh": 1, "tcp_urg": 1}, {"tcp_syn": 1, "tcp_fin": 1})[n % 4]
        yield _packets(100, us=_times(world, 100, 0.3), source=world.new(), host=world.servers(1)[0],
                       dest_port=1 + random.permutation(1000)[:100], **{"tcp_syn": 0, **flags})  # fmt: skip
    for _ in range(PLANTED["protocol_scan"]):
        yield _packets(100, us=_times(world, 100, 0.2), source=world.new(), host=world.servers(1)[0], tcp_syn=0,
                       ip_protocol=random.permutation(140)[:100], src_port=0, dest_port=0)  # fmt: skip


def _others(world: _World) -> Iterator[dict[str, Numbers]]:
    random = world.random
    for n in range(PLANTED["beacon"] + PLANTED["dns_beacon"]):
        dns = n >= PLANTED["beacon"]
        every = float(max(world.length // 400, 10))
        begin = world.begin * _SECOND + (n + 1) * 7 * _SECOND
        times = begin + (np.arange(350) * every * _SECOND + random.normal(0, every * 0.01 * _SECOND, 350)).astype(
            np.int64
        )
        kind = {"ip_protocol": _UDP, "tcp_syn": 0, "dest_port": 53} if dns else {"dest_port": 443}
        yield _packets(
            350, us=np.sort(times), source=world.new(), host=world.new(), src_port=_ports(random, 350), **kind
        )
    for _ in range(PLANTED["syn_flood"]):
        sources = np.array([world.new() for _ in range(4000)])
        yield _packets(4000, us=_times(world, 4000, 0.001), source=sources, host=world.servers(1)[0], dest_port=443,
                       src_port=_ports(random, 4000))  # fmt: skip
    for _ in range(PLANTED["first_contact"]):
        insider, usual = world.new(), world.servers(2)
        yield _packets(200, us=_times(world, 200, world.length / 250, world.begin * _SECOND), source=insider,
                       host=usual[random.integers(0, 2, 200)], dest_port=443, src_port=_ports(random, 200))  # fmt: skip
        yield _packets(60, us=_times(world, 60, 5.0, earliest=0.6), source=insider, host=world.servers(60),
                       dest_port=445, src_port=_ports(random, 60))  # fmt: skip
    for _ in range(PLANTED["new_services"]):
        clients = random.choice(_CLIENTS, 50, replace=False)
        yield _packets(50, us=_times(world, 50, 60.0, earliest=0.6), source=world.servers(1)[0], host=clients,
                       tcp_ack=1, src_port=31337, dest_port=_ports(random, 50))  # fmt: skip


_ATTACKS: tuple[Callable[[_World], Iterator[dict[str, Numbers]]], ...] = (_fixed_port, _brutes, _scans, _others)


# -- all of it --------------------------------------------------------------------------------------------------------


def parts(records: int, days: float = 7.0, *, seed: int = 1, begin: int = BEGIN) -> Iterator[tuple[int, Any]]:
    """Yield the hours: when each begins, and a table of its packets. In all they are `records`, sorted by time."""
    import pyarrow as pa

    hours = max(1, round(days * 24))
    world = _World(np.random.default_rng(seed), begin, hours * _HOUR)
    attacks = [part for attack in _ATTACKS for part in attack(world)]
    planted = {name: np.concatenate([part[name] for part in attacks]) for name in _COLUMNS}
    inside = (planted["us"] >= begin * _SECOND) & (planted["us"] < (begin + world.length) * _SECOND)
    order = np.argsort(planted["us"][inside], kind="stable")
    planted = {name: values[inside][order] for name, values in planted.items()}
    places = np.searchsorted(planted["us"], (begin + np.arange(hours + 1) * _HOUR) * _SECOND)
    left = records - len(order)
    if left < 0:
        raise ValueError(f"{len(order)} packets are planted, so there must be at least as many, not {records}")
    # More by day than by night.
    weights = 1.0 + 0.6 * np.sin((np.arange(hours) - 8) * np.pi / 12)
    edges = np.round(np.concatenate([[0.0], np.cumsum(weights)]) / weights.sum() * left).astype(np.int64)
    addresses = pa.array(world.addresses)
    for hour in range(hours):
        start = begin + hour * _HOUR
        ordinary = _background(world, int(edges[hour + 1] - edges[hour]), start, _HOUR)
        chosen = slice(places[hour], places[hour + 1])
        yield (
            start,
            _table(pa, addresses, {name: np.concatenate([ordinary[name], planted[name][chosen]]) for name in _COLUMNS}),
        )


def _table(pa: Any, addresses: Any, columns: dict[str, Numbers]) -> Any:
    order = np.argsort(columns["us"], kind="stable")
    columns = {name: values[order] for name, values in columns.items()}
    tcp = columns["ip_protocol"] == _TCP
    without_ports = ~tcp & (columns["ip_protocol"] != _UDP)
    made: dict[str, Any] = {
        "sec": pa.array(columns["us"] // _SECOND),
        "us": pa.array(columns["us"]),
        "src_ip": addresses.take(pa.array(columns["source"])),
        "dest_ip": addresses.take(pa.array(columns["host"])),
        "oob_prefix": pa.array(np.where(columns["raw_label"] == 0, "blocked ", "new ")),
    }
    for name, type_ in _TYPES.items():
        lacking = ~tcp if name.startswith("tcp_") else without_ports if name.endswith("_port") else None
        made[name] = pa.array(columns[name].astype(type_), mask=lacking)
    return pa.table(made)


def write_archive(directory: Path, records: int, days: float = 7.0, *, seed: int = 1, dvc: str = "fw1") -> int:
    """Write Parquet files below a directory as an archive has them, one an hour; return their bytes."""
    import pyarrow.parquet as pq

    size = 0
    for start, table in parts(records, days, seed=seed):
        if not len(table):
            continue
        first, last = table["sec"][0].as_py(), table["sec"][-1].as_py()
        path = directory / path_of("packets", dvc, first, last, f"{seed:08x}", start, 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, compression="zstd", row_group_size=500_000)
        size += path.stat().st_size
    return size


def write_flows(directory: Path, records: int, days: float = 7.0, *, seed: int = 1, dvc: str = "fw1") -> None:
    """Write flows beside the packets of `write_archive`: connections that ended, and one theft on the last day."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    random, secs = np.random.default_rng(seed), round(days * 86_400)
    source = (_CLIENTS * random.random(records) ** 3).astype(np.int64)
    host = (source * 7 + random.integers(0, 4, records) * 131) % _SERVERS
    times = BEGIN * _SECOND + np.sort(random.integers(0, secs * _SECOND, records))
    stolen = np.arange(records - 20, records)
    source[stolen], host[stolen] = _CLIENTS, _SERVERS
    clients = pa.array([f"100.64.{n >> 8}.{n & 255}" for n in range(_CLIENTS)] + ["10.0.4.7"])
    servers = pa.array([f"10.1.{n >> 8}.{n & 255}" for n in range(_SERVERS)] + ["198.18.0.1"])
    sent, got = random.integers(200, 10**6, records), random.integers(200, 10**7, records)
    sent[stolen], got[stolen] = 10**9, 10**4
    table = pa.table(
        {
            "sec": times // _SECOND, "us": times, "src_ip": clients.take(pa.array(source)),
            "dest_ip": servers.take(pa.array(host)), "orig_l4_dport": np.full(records, 443, np.uint16),
            "orig_raw_pktlen": sent.astype(np.uint64), "reply_raw_pktlen": got.astype(np.uint64),
        }
    )  # fmt: skip
    day = 86_400
    for begin in range(BEGIN, BEGIN + secs, day):
        low, high = np.searchsorted(times, (begin * _SECOND, (begin + day) * _SECOND))
        if high > low:
            first, last = int(times[low]) // _SECOND, int(times[high - 1]) // _SECOND
            path = directory / path_of("flows", dvc, first, last, f"{seed:08x}", begin, 0)
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table.slice(low, high - low), path, compression="zstd", row_group_size=500_000)
