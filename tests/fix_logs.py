# SPDX-License-Identifier: GPL-2.0-or-later
"""Logs for the tests of analytics: records as dicts, as lines of JSON, and as archives."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

#: The time of the first record.
START = 1_795_509_000


def record(number: int = 0, **members: Any) -> dict[str, Any]:
    """Return a SYN as JSON says it, `number` seconds after the first; members have `_` for each dot behind `__`."""
    given = {name.replace("__", "."): value for name, value in members.items()}
    return {
        "timestamp": "2026-11-24T08:30:00.000000+0000",
        "dvc": "fw1",
        "oob.prefix": "DROP in: ",
        "oob.time.sec": START + number,
        "oob.time.usec": 250,
        "raw.label": 0,
        "oob.in": "eth0",
        "ip.protocol": 6,
        "ip.ttl": 64,
        "ip.totlen": 40,
        "ip.id": 256,
        "src_ip": "192.0.2.66",
        "dest_ip": "198.51.100.7",
        "src_port": 6000,
        "dest_port": 22,
        "tcp.window": 16384,
        "tcp.syn": 1,
        "tcp.ack": 0,
        "tcp.rst": 0,
        "tcp.fin": 0,
    } | given


def lines(records: Iterable[dict[str, Any]]) -> bytes:
    """Return records as lines of JSON."""
    return b"".join(json.dumps(each).encode() + b"\n" for each in records)


def log_file(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    """Write records to a file, and return its path."""
    path.write_bytes(lines(records))
    return path


def parquet_file(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    """Write packets to a Parquet file, as archives have them, and return its path."""
    import duckdb

    from nflowlevel.archive.schema import PACKETS, json_columns

    with TemporaryDirectory(prefix="parquet-") as directory, duckdb.connect() as connection:
        source, made = log_file(Path(directory) / "x.json", records), Path(directory) / "x.parquet"
        rows = f"read_json('{source}', format = 'newline_delimited', columns = {json_columns(PACKETS)})"
        connection.execute(f"COPY (SELECT {PACKETS.select()} FROM {rows}) TO '{made}' (FORMAT parquet)")
        path.write_bytes(made.read_bytes())
    return path


def hourly_files(directory: Path, last: Iterable[int] = (60, 3660, 7260)) -> list[Path]:
    """Make an archive of a file an hour, each of two packets, the second one a minute later, and return their paths.

    `last` are the seconds after START of the newest packet, as the names of the files say.
    """
    from nflowlevel.archive.layout import path_of

    paths = []
    for hour, newest in enumerate(last):
        first = 3600 * hour
        place = directory / path_of("packets", "fw", START + first, START + newest, "0a", hour, 0)
        place.parent.mkdir(parents=True, exist_ok=True)
        paths.append(parquet_file(place, [record(first), record(first + 60)]))
    return paths
