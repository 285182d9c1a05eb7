# SPDX-License-Identifier: GPL-2.0-or-later
"""Sums: the counters of nfnetlink_acct as records, rendered as they were when Python made columns of them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from nflowlevel.accounting.table import CounterTable
from nflowlevel.binding._lib import ffi
from nflowlevel.binding.nfacct import CounterArray
from nflowlevel.outputs.json import JSON, JSONOptions
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import TIME_KEY, added_key, published_by
from nflowlevel.records.render import CopyPlan
from nflowlevel.records.sums import SUM, Sum

_COUNTED: list[tuple[bytes, int, int]] = [
    (b"http", 0, 0),
    (b"a", 1, 2**64 - 1),
    (b"x" * 31, 2**63, 10**19),
    (b'quote" back\\slash\ttab', 99_999_999, 100_000_000),
    (b"\xff\xfe latin \xe4", 3, 4),
    ("Zähler ☃".encode(), 5, 6),
    (b"\x01\x7f control\n", 7, 8),
]
_NOW = (1_795_460_084, 190_524)


def table(counted: list[tuple[bytes, int, int]] = _COUNTED) -> CounterTable:
    """Return a table as the C part fills it."""
    array = CounterArray(1)
    for name, packets, size in counted:
        array.append(ffi.new("struct nfl_counter *", {"valid": 1, "name": name, "packets": packets, "bytes": size})[0])
    return CounterTable(array)


def columns(timestamp: bool) -> Batch:
    """Return the same as the columns of Python that NFACCT once made."""
    read: dict[str, Any] = {
        "sum.name": [name.decode("utf-8", "surrogateescape") for name, _, _ in _COUNTED],
        "sum.pkts": [packets for _, packets, _ in _COUNTED],
        "sum.bytes": [size for _, _, size in _COUNTED],
    }
    if timestamp:
        read |= {"oob.time.sec": [_NOW[0]] * len(_COUNTED), "oob.time.usec": [_NOW[1]] * len(_COUNTED)}
    return Batch.of_columns(read, time=(_NOW[0], _NOW[1] if timestamp else None))


def sums(timestamp: bool) -> Batch:
    return table().batch((_NOW[0], _NOW[1] if timestamp else None), stamp=timestamp)


def members(timestamp: bool) -> tuple[Any, ...]:
    return tuple((key.name, key) for key in published_by("NFACCT") if timestamp or not key.name.startswith("oob.time"))


def as_json(batch: Batch, options: JSONOptions, timestamp: bool) -> bytes:
    output = JSON("json1", options)
    output.bind(members(timestamp))
    return b"".join(bytes(lines) for lines, _ in output.render(batch))


@pytest.mark.parametrize("timestamp", [False, True])
@pytest.mark.parametrize("options", [JSONOptions(), JSONOptions(timestamp=False), JSONOptions(eventv1=True)])
def test_json_is_that_of_columns(timestamp: bool, options: JSONOptions) -> None:
    made = as_json(sums(timestamp), options, timestamp)
    assert made == as_json(columns(timestamp), options, timestamp)
    assert made.count(b"\n") == len(_COUNTED)
    assert b'"sum.name": "a", "sum.pkts": 1, "sum.bytes": 18446744073709551615' in made


@pytest.mark.parametrize("timestamp", [False, True])
def test_rows_are_those_of_columns(timestamp: bool) -> None:
    plan = CopyPlan([("oob.time", TIME_KEY), *members(timestamp), ("not.there", added_key("not.there", "bool", "No."))])
    made, wanted = ([*plan.render(batch.raw, batch.added)] for batch in (sums(timestamp), columns(timestamp)))
    assert made == wanted
    assert made[0][1] == len(_COUNTED)


@pytest.mark.parametrize("timestamp", [False, True])
def test_values_are_those_of_columns(timestamp: bool) -> None:
    ours, theirs = sums(timestamp), columns(timestamp)
    assert ours.to_dicts() == theirs.to_dicts()
    for name in SUM.by_name:
        assert ours.values(name) == theirs.values(name), name
        assert ours.valid(name).tolist() == theirs.valid(name).tolist(), name
    assert ours.column("sum.bytes").tolist() == theirs.values("sum.bytes")
    some = [4, 1]
    assert ours.select(some).to_dicts() == theirs.select(some).to_dicts()
    assert as_json(ours.select(some), JSONOptions(), timestamp) == as_json(
        theirs.select(some), JSONOptions(), timestamp
    )


def test_a_row() -> None:
    plain, stamped = sums(False)[1], sums(True)[1]
    assert isinstance(plain, Sum)
    assert (plain.name, plain.packets, plain.bytes, plain.timestamp) == ("a", 1, 2**64 - 1, None)
    assert stamped.timestamp == pytest.approx(_NOW[0] + _NOW[1] / 1e6)
    assert plain.to_dict() == {"sum.name": "a", "sum.pkts": 1, "sum.bytes": 2**64 - 1}
    assert stamped.get("oob.time.usec") == _NOW[1]
    assert repr(plain) == f"<Sum 'a' packets 1 bytes {2**64 - 1}>"
    assert [row.name for row in sums(False)] == sums(False).values("sum.name")


def test_the_batch_keeps_the_counters() -> None:
    batch = table().batch(_NOW, stamp=True)
    for number in range(20):
        table([(b"other", number, number)] * 50)
    assert batch.values("sum.pkts") == [packets for _, packets, _ in _COUNTED]


def test_no_counters() -> None:
    empty = table([]).batch(_NOW, stamp=True)
    assert (len(empty), empty.to_dicts(), empty.values("sum.name")) == (0, [], [])
    assert as_json(empty, JSONOptions(), True) == b""


def test_sums_are_copied_as_packets_are() -> None:
    batch = sums(True)
    for record, twin in zip(batch, map(copy.copy, batch), strict=True):
        assert type(twin) is Sum
        assert twin.to_dict() == record.to_dict() == pickle.loads(pickle.dumps(record)).to_dict()
        assert (twin.name, twin.packets, twin.bytes) == (record.name, record.packets, record.bytes)
        assert "sum.pkts" in twin._repr_html_()
    assert batch.values("packets") == batch.values("sum_pkts") == batch.values("sum.pkts")


def test_sums_as_arrow() -> None:
    """Names are bytes of the kernel's: what is no UTF-8 is replaced, so that no table is lost for one name."""
    table = sums(True).to_arrow()
    assert [str(kind) for kind in table.schema.types][:3] == ["string", "uint64", "uint64"]
    assert table.column("sum.name").to_pylist()[:2] == ["http", "a"]
    assert table.column("sum.name").to_pylist()[4] == "?? latin ?"
    assert table.schema == sums(True)[:0].to_arrow().schema
