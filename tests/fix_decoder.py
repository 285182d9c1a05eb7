# SPDX-License-Identifier: GPL-2.0-or-later
"""The decoder in C fed with bytes of the test's own, and what its batch must then say according to the oracle.

Before it decodes, the memory is filled with a pattern: a field the decoder forgets, or a byte it reads past the end of
a message, shows as a wrong value.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.buffers import DATA_BYTES, RECORD_BYTES, ROOM_RECORDS, BufferPool
from nflowlevel.binding.interfaces import NameTable
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import Key
from nflowlevel.records.render import JSONPlan
from tests import oracle

NOW = (1_700_000_000, 123_456)
LABEL = 7
NAMES = {1: "lo", 2: "va", 3: "Ä-\udcff", 70_000: "last"}

_POISON = 0xA5
_ADDRESSES = frozenset(("ip.saddr", "ip.daddr", "icmp.gateway", "arp.saddr", "arp.daddr"))


@dataclass
class Decoded:
    """What became of the datagrams: one batch with all records, how many each gave, and the receiver's state."""

    batch: Batch
    counts: list[int]
    state: Any


def decode(datagrams: Iterable[bytes], *, now: tuple[int, int] = NOW, label: int = LABEL) -> Decoded:
    """Decode datagrams, each as if it had been received alone."""
    pool = BufferPool()
    slot = pool.take()
    state = ffi.new("struct nfl_receiver *", {"fd": -1, "label": label, "valid_all": 2**64 - 1})
    counts: list[int] = []
    used = total = 0
    for datagram in datagrams:
        assert used + len(datagram) <= DATA_BYTES, "too many datagrams for one slot"
        ffi.memmove(slot.data + used, datagram, len(datagram))
        after = min(64, DATA_BYTES - used - len(datagram))
        ffi.memmove(slot.data + used + len(datagram), bytes([_POISON]) * after, after)
        room = min(ROOM_RECORDS - total, len(datagram) // lib.NFL_MESSAGE_MIN + 1)
        ffi.memmove(slot.records + total, bytes([_POISON]) * (room * RECORD_BYTES), room * RECORD_BYTES)
        counts.append(lib.nfl_decode(state, slot.data, used, len(datagram), *now, slot.records + total, room))
        total += counts[-1]
        used += (len(datagram) + 3) & ~3
    lease = pool.lease(slot, used)
    batch = Batch(lease, total, valid_any=state.valid_any, valid_all=state.valid_all if total else 0)
    batch.names = NameTable(NAMES)
    return Decoded(batch, counts, state)


def chunks(datagrams: Iterable[bytes], count: int = 1000) -> Iterator[list[bytes]]:
    """Cut a long series into pieces that `decode` can take at once."""
    rest = iter(datagrams)
    while piece := list(islice(rest, count)):
        yield piece


def expected(message: bytes, *, now: tuple[int, int] = NOW, label: int = LABEL) -> dict[str, Any] | None:
    """Return what `Batch.to_dicts` must say of a message; None where it must refuse it."""
    keys = oracle.decode(message, now=now, label=label)
    if keys is None:
        return None
    added = oracle.derive(keys, NAMES)
    for direction in ("in", "out"):
        if index := keys.get(f"oob.phys{direction}dev"):
            added[f"oob.phys{direction}"] = NAMES.get(int(index), "")
    return {name: _shown(name, value) for name, value in (keys | added).items() if not name.startswith("HWHDR:")}


def _shown(name: str, value: oracle.Value) -> oracle.Value:
    """Return a value of the oracle as a batch shows it: addresses and texts are str."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, bytes) and name in _ADDRESSES:
        return socket.inet_ntop(socket.AF_INET if len(value) == 4 else socket.AF_INET6, value)
    if isinstance(value, bytes) and name == "oob.prefix":
        return value.decode("utf-8", "replace")
    return value


def assert_same(datagrams: Sequence[bytes]) -> Decoded:
    """Decode datagrams in C and by the oracle; every record and every key must be the same."""
    decoded = decode(datagrams)
    wanted = [[keys for m in oracle.split(d) if (keys := expected(m)) is not None] for d in datagrams]
    assert decoded.counts == [len(keys) for keys in wanted], _first_difference(datagrams, decoded.counts, wanted)
    flat = [keys for several in wanted for keys in several]
    for number, (got, want) in enumerate(zip(decoded.batch.to_dicts(), flat, strict=True)):
        datagram = _datagram_of(number, datagrams, decoded) if got != want else b""
        assert got == want, f"record {number}: {difference(got, want)}\n{datagram.hex()}"
    return decoded


def difference(got: Mapping[str, Any], want: Mapping[str, Any]) -> str:
    """Name the keys that differ."""
    return ", ".join(
        f"{name}: got {got.get(name)!r}, want {want.get(name)!r}"
        for name in sorted(got.keys() | want.keys())
        if got.get(name) != want.get(name)
    )


def _first_difference(datagrams: Sequence[bytes], counts: list[int], wanted: list[list[dict[str, Any]]]) -> str:
    for datagram, got, keys in zip(datagrams, counts, wanted, strict=True):
        if got != len(keys):
            return f"{got} records instead of {len(keys)} from {datagram.hex()}"
    return ""


def _datagram_of(record: int, datagrams: Sequence[bytes], decoded: Decoded) -> bytes:
    for datagram, count in zip(datagrams, decoded.counts, strict=True):
        record -= count
        if record < 0:
            return datagram
    raise AssertionError("there are fewer records")


def shown(batch: Batch, keys: Iterable[Key]) -> list[dict[str, Any]]:
    """Return what a stack with these keys would show of each packet, by the keys' own names."""
    plan = JSONPlan([(key.name, key) for key in keys], head='{"": 0', tail="", timestamp=False, actions=frozenset())
    lines = b"".join(bytes(piece) for piece, _ in plan.render(batch.raw, batch.added)).splitlines()
    return [{name: value for name, value in json.loads(line).items() if name} for line in lines]
