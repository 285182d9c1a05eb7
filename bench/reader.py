# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that reads a group with one library until SIGTERM, then says what it counted, as JSON.

`python reader.py WAY GROUP [PROFILE]`. It also runs in the peers' own environment, where neither nflowlevel nor the
rest of bench can be imported, so it imports only what its way needs. Each way touches payload and prefix of each
packet, but `arrivals`, which tells when each came, and `access`, which times nflowlevel's ways of access.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

_QTHRESHOLD, _QTIMEOUT_SECS, _SOCKET_BUFFER = 64, 0.1, 16 << 20
_FIVE_NUMBERS = ("oob.time.sec", "oob.mark", "ip.totlen", "udp.sport", "udp.dport")
_FIVE_KEYS = ("oob.time.sec", "ip.saddr", "ip.daddr", "udp.sport", "udp.dport")
_SMALLEST_BATCH, _MOST_BATCHES = 64, 30
#: Timed together: reading the clock takes as long as a few packets, and the first call finds cold caches.
_COPIED_PACKETS = 6400


def _end_with(answer: Callable[[], dict[str, Any]]) -> None:
    """On SIGTERM say what was counted and leave at once, out of whatever call the library is in."""

    def stop(_number: int, _frame: object) -> None:
        os.write(1, (json.dumps(answer()) + "\n").encode())
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)


def nflogr(group: int) -> None:
    """The nflogr package: packets as objects, one by one."""
    import nflogr as library  # type: ignore[import-not-found]

    packets = touched = 0
    _end_with(lambda: {"packets": packets, "touched": touched})
    for packet in library.open(group, timeout=_QTIMEOUT_SECS, qthresh=_QTHRESHOLD, rcvbuf=_SOCKET_BUFFER):
        packets += 1
        touched += len(packet.payload) + len(packet.prefix)


def scapy_nflog(group: int) -> None:
    """The generator scapy-nflog-capture3 is built on, without scapy's own dissection of the packet."""
    from nflog_cffi import NFLOG  # type: ignore[import-not-found]

    source = NFLOG()
    # Its call wrapper compares the pointer this returns with 0, which raises TypeError: take the function as it is.
    source.libnflog_cache["nflog_get_prefix"] = source.libnflog.nflog_get_prefix
    packets = touched = 0
    _end_with(lambda: {"packets": packets, "touched": touched})
    reader = source.generator(
        group, extra_attrs=["prefix"], qthresh=_QTHRESHOLD, timeout=_QTIMEOUT_SECS, nlbufsiz=128 << 10
    )
    next(reader)
    for payload, prefix in reader:
        packets += 1
        touched += len(payload) + len(prefix)


def _ours(group: int, **options: Any) -> Any:
    import nflowlevel as nfl

    settings = {"qthreshold": _QTHRESHOLD, "qtimeout": int(_QTIMEOUT_SECS * 100), **options}
    opened = nfl.open_group(group, **settings)
    signal.signal(signal.SIGTERM, lambda _number, _frame: opened.stop())
    return opened


def packets(group: int) -> None:
    """nflowlevel, packet by packet."""
    count = touched = 0
    with _ours(group) as opened:
        for batch in opened.batches():
            for packet in batch:
                count += 1
                touched += len(packet.payload) + len(packet.prefix)
        print(json.dumps({"packets": count, "touched": touched, "gap": opened.stats.gap}))


def rows(group: int) -> None:
    """nflowlevel, tuples of payload and prefix."""
    count = touched = 0
    with _ours(group) as opened:
        for batch in opened.batches():
            for payload, prefix in batch.rows("raw.pkt", "oob.prefix"):
                count += 1
                touched += len(payload) + len(prefix)
        print(json.dumps({"packets": count, "touched": touched, "gap": opened.stats.gap}))


def columns(group: int) -> None:
    """nflowlevel, whole columns: bytes per packet summed by NumPy."""
    count = touched = 0
    with _ours(group) as opened:
        for batch in opened.batches():
            count += len(batch)
            touched += int(batch.column("raw.pktlen").sum())
        print(json.dumps({"packets": count, "touched": touched, "gap": opened.stats.gap}))


def arrivals(group: int, profile: str) -> None:
    """Tell when each packet came, one line of nanoseconds each."""
    with _ours(group, profile=profile, qthreshold=0, qtimeout=0) as opened:
        for packet in opened:
            if packet.payload is not None:
                print(time.monotonic_ns(), flush=True)


def _one_field(batch: Any) -> None:
    for packet in batch:
        packet.mark  # noqa: B018


def _one_address(batch: Any) -> None:
    for packet in batch:
        packet.saddr  # noqa: B018


def _five_numbers(batch: Any) -> None:
    for _ in batch.rows(*_FIVE_NUMBERS):
        pass


def _five_keys(batch: Any) -> None:
    for _ in batch.rows(*_FIVE_KEYS):
        pass


def _column(batch: Any) -> None:
    batch.column("udp.dport")


def _column_sum(batch: Any) -> None:
    batch.column("udp.dport").sum()


def _to_dicts(batch: Any) -> None:
    batch.to_dicts()


_ACCESSES: tuple[Callable[[Any], None], ...] = (
    _one_field, _one_address, _five_numbers, _five_keys, _column, _column_sum, _to_dicts,
)  # fmt: skip


def access(group: int, profile: str) -> None:
    """Time each way of access on the batches that come, over copies: no value that was made once helps the next."""
    timed: dict[str, list[tuple[int, float]]] = {way.__name__.strip("_"): [] for way in _ACCESSES}
    warm = False
    most = _SMALLEST_BATCH if profile == "latency" else sys.maxsize
    with _ours(group, profile=profile) as opened:
        for batch in opened.batches():
            if len(batch) < _SMALLEST_BATCH or len(timed["column"]) == _MOST_BATCHES:
                continue
            for way in _ACCESSES:
                copies = [_beginning(batch, most) for _ in range(max(2, _COPIED_PACKETS // min(most, len(batch))))]
                if not warm:
                    way(batch)  # pays for imports
                timed[way.__name__.strip("_")].append((len(copies[0]), _nanoseconds(way, copies)))
            warm = True
        print(json.dumps({"timed": timed, "packets": opened.stats.received, "gap": opened.stats.gap}))


def _beginning(batch: Any, most: int) -> Any:
    """A copy of a batch as if only so many packets had come; a selection would be read in other ways."""
    copy = batch.copy()
    copy._count = min(most, len(batch))
    return copy


def _nanoseconds(way: Callable[[Any], None], copies: list[Any]) -> float:
    before = time.perf_counter_ns()
    for batch in copies:
        way(batch)
    return (time.perf_counter_ns() - before) / len(copies)


WAYS: dict[str, Callable[..., None]] = {
    "nflogr": nflogr, "scapy_nflog": scapy_nflog, "packets": packets, "rows": rows, "columns": columns,
    "arrivals": arrivals, "access": access,
}  # fmt: skip

if __name__ == "__main__":
    WAYS[sys.argv[1]](int(sys.argv[2]), *sys.argv[3:])
