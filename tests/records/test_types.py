# SPDX-License-Identifier: GPL-2.0-or-later
"""Kinds of records: names mean what they mean in their own kind, and every way to a value works for any kind."""

from __future__ import annotations

import ipaddress
import json
import random
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from cffi import FFI
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.records.batch import Batch
from nflowlevel.records.fields import fields_of, find_key
from nflowlevel.records.flow import FLOW
from nflowlevel.records.keys import BY_NAME, CATALOGUE, Key, PacketCondition, added_key
from nflowlevel.records.packet import PACKET
from nflowlevel.records.packetrow import Packet
from nflowlevel.records.render import CopyPlan, JSONPlan
from nflowlevel.records.reported import REPORTED
from nflowlevel.records.sums import SUM
from nflowlevel.records.types import RecordType
from tests.corpus import by_name
from tests.fix_decoder import decode
from tests.fix_records import (
    ADDRESSES,
    MEMBERS,
    NUMBERS,
    TEXT_BYTES,
    TEXTS,
    WIDE,
    WideCondition,
    WideRow,
    shown,
    some_records,
    wide_batch,
)
from tests.messages import message_of

_MOST = 2**64 - 1


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    return some_records(301)


@pytest.fixture(scope="module")
def batch(records: list[dict[str, Any]]) -> Batch:
    return wide_batch(records)


def lines_of(batch: Batch, *, timestamp: bool = False) -> list[dict[str, Any]]:
    head, tail = ('{"timestamp": "', '"') if timestamp else ('{"": 0', "")
    plan = JSONPlan(MEMBERS, head=head, tail=tail, timestamp=timestamp, actions=frozenset())
    text = b"".join(bytes(piece) for piece, _ in plan.render(batch.raw, batch.added)).decode()
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    return lines if timestamp else [{name: value for name, value in line.items() if name} for line in lines]


def rows_of(batch: Batch, members: Any = MEMBERS) -> list[list[str]]:
    text = b"".join(piece for piece, _ in CopyPlan(members).render(batch.raw, batch.added)).decode()
    return [line.split("\t") for line in text.splitlines()]


def record(**values: Any) -> dict[str, Any]:
    """Return a record with zeros, empty texts and addresses of zeros but for what is named, `_` for `.`."""
    base = {**dict.fromkeys(NUMBERS, 0), **dict.fromkeys(TEXTS, b"")}
    base |= dict.fromkeys(ADDRESSES, ipaddress.ip_address("0.0.0.0"))
    return base | {(name if name.endswith("_len") else name.replace("_", ".")): value for name, value in values.items()}


# -- the ways to a value ----------------------------------------------------------------------------------------------


def test_every_way_gives_the_same(batch: Batch, records: list[dict[str, Any]]) -> None:
    wanted = [shown(each) for each in records]
    assert batch.to_dicts() == lines_of(batch) == wanted
    for name in WIDE.by_name:
        values = [each.get(name) for each in wanted]
        assert batch.values(name) == values, name
        assert batch.rows(name) == [(value,) for value in values], name
        assert batch.valid(name).tolist() == [value is not None for value in values], name
        assert batch.to_arrow(name).to_pylist() == [{name: value} for value in values], name
        assert [row.get(name) for row in batch] == values, name
    fields = [["\\N" if (value := each.get(name)) is None else str(value) for name in WIDE.by_name] for each in wanted]
    assert rows_of(batch) == fields
    assert batch.rows("n.3", "oob.mark", "n.1") == [(each["n.3"], each["oob.mark"], each["n.1"]) for each in wanted]


def test_rows_are_those_of_the_type(batch: Batch) -> None:
    assert isinstance(batch[0], WideRow)
    assert all(isinstance(row, WideRow) for row in batch)
    assert isinstance(decode([message_of(by_name("udp4"))]).batch[0], Packet)
    assert repr(batch) == "<Batch of 301 wide records>"


def test_columns(batch: Batch, records: list[dict[str, Any]]) -> None:
    column = batch.column("oob.mark")
    assert column.dtype == np.uint64
    assert column.tolist() == [each["oob.mark"] for each in records]
    with pytest.raises(ValueError, match="read-only"):
        column[0] = 1
    assert batch.column("n.14").tolist() == [each["n.14"] or 0 for each in records]
    assert batch.column("t.4").tolist() == [each["t.4"].decode() for each in records]
    assert batch.to_arrow("n.1", "t.1", "a.1").schema.types == [pa.uint64(), pa.string(), pa.string()]


@pytest.mark.parametrize("rows", [[0], [300, 2, 2], list(range(0, 301, 7)), []])
def test_a_selection(batch: Batch, records: list[dict[str, Any]], rows: list[int]) -> None:
    chosen = batch.select(rows)
    wanted = [shown(records[row]) for row in rows]
    assert (chosen.type, len(chosen)) == (WIDE, len(rows))
    assert chosen.to_dicts() == lines_of(chosen) == wanted
    assert chosen.column("n.2").tolist() == [each["n.2"] for each in wanted]
    assert [row[0] for row in rows_of(chosen)] == [str(each["oob.mark"]) for each in wanted]
    assert chosen.select(range(len(rows))[::-1]).values("t.3") == [each["t.3"] for each in wanted[::-1]]


def test_what_is_added_follows_its_rows(batch: Batch) -> None:
    twin = batch.copy()
    twin.add("mine", list(range(len(twin))))
    chosen = twin.select([5, 9])
    mine = ("mine", added_key("mine", "uint32", "A test's."))
    assert [row[-1] for row in rows_of(chosen, (*MEMBERS, mine))] == ["5", "9"]
    assert chosen.rows("mine", "oob.mark") == [(5, chosen.values("oob.mark")[0]), (9, chosen.values("oob.mark")[1])]


def test_an_empty_batch() -> None:
    empty = wide_batch([])
    assert (list(empty), empty.to_dicts(), lines_of(empty), rows_of(empty)) == ([], [], [], [])
    assert empty.column("oob.mark").tolist() == empty.values("t.1") == empty.values("n.14") == []
    assert empty.to_arrow().num_rows == 0


def test_what_is_taken_from_a_batch_outlives_it() -> None:
    records = some_records(50, seed=9)
    kept = wide_batch(records)
    column, chosen, row = kept.column("n.1"), kept.select([3, 4]), kept[7]
    del kept
    for seed in range(20):
        wide_batch(some_records(50, seed))
    assert column.tolist() == [each["n.1"] for each in records]
    assert chosen.values("oob.mark") == [each["oob.mark"] for each in records[3:5]]
    assert row.get("n.2") == records[7]["n.2"]


# -- names ------------------------------------------------------------------------------------------------------------


def test_a_name_means_what_it_means_in_the_type() -> None:
    """The same two names in three types, asked for in turns: nothing that was worked out for one serves another."""
    packets = decode([message_of(by_name("udp4"), mark=7, prefix=b"a packet")]).batch
    wide = wide_batch([record(oob_mark=_MOST, oob_prefix=b"no packet")])
    for _ in range(2):
        for keys, mark, prefix in ((packets, 7, "a packet"), (wide, _MOST, "no packet")):
            assert keys.rows("oob.mark", "oob.prefix") == [(mark, prefix)]
            assert keys.values("oob.mark") == keys.column("oob.mark").tolist() == [mark]
            assert keys.valid("oob.mark").all()
    assert PACKET.offset_of("oob_mark") != WIDE.offset_of("oob_mark")
    assert (packets.column("oob.mark").dtype, wide.column("oob.mark").dtype) == (np.uint32, np.uint64)
    assert fields_of(PACKET).layout_of("oob.mark") != fields_of(WIDE).layout_of("oob.mark")
    assert find_key("oob.mark", WIDE) is WIDE.by_name["oob.mark"]
    assert find_key("oob.mark", SUM) is BY_NAME["oob.mark"]


def test_keys_of_another_type_are_never_read() -> None:
    """A plan made for packets meets records that are none: it writes nothing of them, wherever its fields would lie."""
    wide = wide_batch([record(oob_mark=5)])
    members = [("mark", BY_NAME["oob.mark"]), ("dport", BY_NAME["tcp.dport"]), ("ours", WIDE.by_name["oob.mark"])]
    plan = JSONPlan(members, head='{"": 0', tail="", timestamp=False, actions=frozenset())
    copy = CopyPlan(members)
    packets = decode([message_of(by_name("tcp4-syn"), mark=3)]).batch
    columns = Batch.of_columns({"x": [1]}, time=(1, 2))
    for _ in range(2):
        assert [bytes(piece) for piece, _ in plan.render(wide.raw, wide.added)] == [b'{"": 0, "ours": 5}\n']
        assert [bytes(piece) for piece, _ in plan.render(packets.raw, {})] == [b'{"": 0, "mark": 3, "dport": 80}\n']
        assert [bytes(piece) for piece, _ in plan.render(columns.raw, {})] == [b'{"": 0}\n']
        assert [piece for piece, _ in copy.render(wide.raw, wide.added)] == [b"\\N\t\\N\t5\n"]
        assert [piece for piece, _ in copy.render(packets.raw, {})] == [b"3\t80\t\\N\n"]
        assert [piece for piece, _ in copy.render(columns.raw, columns.added)] == [b"\\N\t\\N\t\\N\n"]


def test_keys_that_only_other_types_have() -> None:
    wide, packets = wide_batch([record(), record()]), decode([message_of(by_name("udp4"))]).batch
    assert wide.values("tcp.dport") == wide.values("src_port") == [None, None]
    assert wide.valid("tcp.dport").tolist() == [False, False]
    assert wide.rows("oob.mark", "sum.pkts") == [(0, None), (0, None)]
    assert packets.values("sum.name") == [None]
    assert (wide.has("oob.mark"), wide.has("tcp.dport"), packets.has("tcp.dport")) == (True, False, True)
    with pytest.raises(KeyError, match=r"unknown key 'n\.99' — did you mean 'n\.9'"):
        wide.values("n.99")
    with pytest.raises(KeyError, match=r"unknown key 'n\.1'"):
        packets.values("n.1")


# -- numbers, texts, addresses, time ----------------------------------------------------------------------------------

_NUMBERS = [n for power in range(20) for n in (10**power - 1, 10**power, 10**power + 1) if n <= _MOST]
_NUMBERS += [2**bits - 1 for bits in range(65)] + [2**bits for bits in range(64)]


def test_numbers_of_any_length() -> None:
    chance = random.Random(2)
    numbers = [*_NUMBERS, *(chance.randrange(10 ** (1 + n % 19)) for n in range(5000)), *range(11_000)]
    keys = wide_batch([record(n_3=number) for number in numbers])
    assert keys.values("n.3") == keys.column("n.3").tolist() == numbers
    assert [line["n.3"] for line in lines_of(keys)] == numbers
    at = list(WIDE.by_name).index("n.3")
    assert [row[at] for row in rows_of(keys)] == [str(number) for number in numbers]


def test_the_six_bit_is_the_types_own() -> None:
    """Bit 2 says IPv6 here, where in a packet another does; a number of an address there is only without it."""
    assert WideCondition.SIX.value != PacketCondition.IP6.value
    four, six = ipaddress.ip_address("10.0.0.255"), ipaddress.ip_address("fd00::1:0:0:9")
    keys = wide_batch([record(a_0=four), record(a_0=six), record(a_0=four)])
    assert keys.values("a.0") == [line["a.0"] for line in lines_of(keys)] == [str(four), str(six), str(four)]
    as_number = CopyPlan([("a.0:number", WIDE.by_name["a.0"]), ("a.0", WIDE.by_name["a.0"])])
    (rows,) = [piece for piece, _ in as_number.render(keys.raw, {})]
    assert rows.decode().splitlines() == [f"{int(four)}\t{four}", f"\\N\t{six}", f"{int(four)}\t{four}"]


_HOSTILE = [
    b"",
    b"\0after",
    b"plain",
    b"exactly8",
    b"nine char",
    b'quote"back\\slash',
    b"\t\n\v\f\r\b\x1b\x01",
    b"seven77\n8",
    b"\x7f\x80\xff\xc3\xa4\xe2\x98\x83",
    b"\xed\xa0\x80 \xf0\x9f\x90\xa7",
    b"x" * TEXT_BYTES,
    b"\xff" * TEXT_BYTES,
    b'"' * TEXT_BYTES,
    b"cut \xe2\x98".ljust(TEXT_BYTES, b"\xf0"),
]
_COPY_ESCAPES = str.maketrans(
    {"\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\v": "\\v", "\f": "\\f", "\r": "\\r"}
)


def _assert_texts(texts: list[bytes], name: str) -> None:
    keys = wide_batch([record(**{name.replace(".", "_"): text}) for text in texts])
    cut = [text.partition(b"\0")[0] for text in texts]
    assert keys.values(name) == [text.decode("utf-8", "surrogateescape") for text in cut]
    replaced = [text.decode("utf-8", "replace") for text in cut]
    assert [line[name] for line in lines_of(keys)] == replaced
    member = [(name, WIDE.by_name[name])]
    data = b"".join(piece for piece, _ in CopyPlan(member).render(keys.raw, {})).decode()
    assert data.removesuffix("\n").split("\n") == [text.translate(_COPY_ESCAPES) for text in replaced]


@pytest.mark.parametrize("name", ["oob.prefix", "t.5"])
def test_hostile_texts(name: str) -> None:
    _assert_texts(_HOSTILE, name)


@given(texts=st.lists(st.binary(max_size=TEXT_BYTES), min_size=1, max_size=20))
def test_any_text(texts: list[bytes]) -> None:
    _assert_texts(texts, "t.1")
    _assert_texts(texts, "t.3")


def test_lengths_are_not_believed() -> None:
    """No text ends behind its field, whatever its length says; none begins to say more than its length."""
    lengths = {0: "", 3: "abc", TEXT_BYTES: "abcdefgh" * 3, TEXT_BYTES + 1: "abcdefgh" * 3, 0xFFFF: "abcdefgh" * 3}
    keys = wide_batch([record(t_1=b"abcdefgh" * 3, t_2=b"behind", **{"t.1_len": length}) for length in lengths])
    assert keys.values("t.1") == [line["t.1"] for line in lines_of(keys)] == list(lengths.values())
    assert keys.values("t.2") == ["behind"] * len(lengths)


def test_time_in_nanoseconds() -> None:
    times = (0, 999, 1_000, 999_999_999, 1_000_000_000, 1_795_460_084_190_524_999, 4_000_000_000_123_456_789)
    keys = wide_batch([record(ns=ns) for ns in times])
    local = [time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(ns // 10**9)) for ns in times]
    stamps = [line["timestamp"][:26] for line in lines_of(keys, timestamp=True)]
    assert stamps == [f"{second}.{ns // 1000 % 10**6:06}" for second, ns in zip(local, times, strict=True)]
    utc = [time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ns // 10**9)) for ns in times]
    rows = rows_of(keys, [("oob.time", BY_NAME["oob.mark"])])
    assert rows == [[f"{second}.{ns // 1000 % 10**6:06}+00"] for second, ns in zip(utc, times, strict=True)]


# -- declarations -----------------------------------------------------------------------------------------------------


def _struct(text: str) -> Any:
    maker = FFI()
    maker.cdef(f"struct s {{ {text} }};")
    return maker.typeof("struct s")


def _number(field: str, kind: str = "u32", **more: Any) -> Key:
    return Key("a.key", "TEST", "uint32", kind, field, WideCondition.ALWAYS, "A test's.", **more)


@pytest.mark.parametrize(
    ("struct", "key", "said"),
    [
        ("uint32_t n; uint64_t valid;", _number("n"), "begins with uint64_t valid"),
        ("uint32_t valid; uint32_t n;", _number("n"), "begins with uint64_t valid"),
        ("uint64_t valid; uint64_t n;", _number("n"), r"a.key \(u32\) takes 4 bytes, n has 8"),
        ("uint64_t valid; uint64_t n;", _number("m"), "no field 'm'"),
        ("uint64_t valid; uint64_t n;", _number("n", "u64", length="n_len"), "no field 'n_len'"),
        ("uint64_t valid; uint8_t a[16];", _number("a", "addr"), "may be IPv6, so `six` has to say when"),
    ],
)
def test_a_type_that_cannot_be(struct: str, key: Key, said: str) -> None:
    with pytest.raises(ValueError, match=rf"record type wrong: .*{said}"):
        RecordType("wrong", struct=_struct(struct), keys=[key], row=lambda: WideRow)


def test_a_time_that_is_not_there() -> None:
    struct = _struct("uint64_t valid; uint64_t n;")
    with pytest.raises(ValueError, match="no field 'when'"):
        RecordType("wrong", struct=struct, keys=[_number("n", "u64")], row=lambda: WideRow, time=("when",))


def test_each_key_of_the_catalogue_lies_in_one_type_or_in_none() -> None:
    for key in CATALOGUE:
        assert (key in PACKET or key in REPORTED) + (key in FLOW) + (key in SUM) == (key.kind != "column"), key
    assert BY_NAME["oob.mark"] not in WIDE
