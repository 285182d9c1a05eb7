# SPDX-License-Identifier: GPL-2.0-or-later
"""Logs as a firewall writes them, of as many records as wanted, drawn by NumPy: SYN packets of seven days.

What compresses badly in real logs is random here too: checksums, sequence numbers, ports, microseconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

#: 2026-11-23T00:00:00Z.
SECOND = 1_795_392_000
SECONDS = 7 * 86_400

_PIECE = 100_000
_SOURCES = 65_536
_LINE = (
    '{"timestamp": "2026-11-%02dT%02d:%02d:%02d.%06d+0000", "dvc": "Netfilter", "raw.pktlen": %d, "raw.pktcount": 1, '
    '"oob.prefix": "%s", "oob.time.sec": %d, "oob.time.usec": %d, "oob.mark": 0, "oob.ifindex_in": 2, "oob.hook": 1, '
    '"raw.mac_len": 14, "oob.family": 2, "oob.protocol": 2048, "raw.label": 0, "raw.type": 1, "raw.mac.addrlen": 6, '
    '"ip.protocol": 6, "ip.tos": 0, "ip.ttl": %d, "ip.totlen": %d, "ip.ihl": 5, "ip.csum": %d, "ip.id": %d, '
    '"ip.fragoff": 16384, "src_port": %d, "dest_port": %d, "tcp.seq": %d, "tcp.ackseq": 0, "tcp.window": %d, '
    '"tcp.offset": 10, "tcp.reserved": 0, "tcp.urg": 0, "tcp.ack": 0, "tcp.psh": 0, "tcp.rst": 0, "tcp.syn": 1, '
    '"tcp.fin": 0, "tcp.res1": 0, "tcp.res2": 0, "tcp.csum": %d, "oob.in": "eth0", "oob.out": "", "src_ip": "%s", '
    '"dest_ip": "10.0.0.%d", "mac.saddr.str": "00:11:22:33:44:55", "mac.daddr.str": "66:77:88:99:aa:bb", '
    '"mac.str": "66:77:88:99:aa:bb:00:11:22:33:44:55:08:00"}\n'
)


def write_log(path: Path, first: int, count: int, total: int) -> int:
    """Write the records from `first` on of a log of `total` ones as JSON lines; return the bytes of the file."""
    with path.open("w") as file:
        for at in range(first, first + count, _PIECE):
            file.write(_lines(at, min(_PIECE, first + count - at), total))
    return path.stat().st_size


def _lines(first: int, count: int, total: int) -> str:
    draw = np.random.default_rng(first)
    step = SECONDS * 1_000_000 / total
    # In the order of time, at uneven distances.
    us = ((np.arange(first, first + count) + draw.random(count)) * step).astype(np.int64)
    second = us // 1_000_000
    port = draw.choice([22, 23, 25, 80, 443, 445, 3389, 5900, 8080], count)
    source = [f"198.{18 + (n >> 16)}.{n >> 8 & 255}.{n & 255}" for n in (draw.zipf(1.3, count) % _SOURCES).tolist()]
    columns = (
        23 + second // 86_400,
        second // 3600 % 24,
        second // 60 % 60,
        second % 60,
        us % 1_000_000,
        draw.integers(40, 1500, count),
        draw.choice(["drop in: ", "accept: ", "ssh: "], count),
        SECOND + second,
        us % 1_000_000,
        draw.choice([49, 57, 117, 240], count),
        draw.integers(40, 64, count),
        draw.integers(0, 65_536, count),
        draw.integers(0, 65_536, count),
        draw.integers(1024, 65_536, count),
        port,
        draw.integers(0, 1 << 32, count),
        draw.choice([64_240, 65_535, 29_200, 16_384, 1024], count),
        draw.integers(0, 65_536, count),
        source,
        draw.integers(1, 30, count),
    )
    listed = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns]
    return "".join(map(_LINE.__mod__, zip(*listed, strict=True)))
