# SPDX-License-Identifier: GPL-2.0-or-later
"""Batch: the ways to the same values, what stays readable when all else is gone, and what is refused."""

from __future__ import annotations

import copy as copying
import gc
import os
import pickle
import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import nflowlevel as nfl
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import PACKET_KEYS
from nflowlevel.records.packet import PACKET
from tests.corpus import by_name
from tests.fix_decoder import NAMES, decode, expected
from tests.fix_group import collect, log_udp, packets_in
from tests.fix_netns import Pair
from tests.messages import message_of, sample_messages
from tests.oracle import build_message


@pytest.fixture(scope="module")
def samples() -> Batch:
    """A packet of each corpus frame."""
    return decode(sample_messages()).batch


def few(*names: str, **more: Any) -> Batch:
    return decode([message_of(by_name(name), **more) for name in names]).batch


# -- the ways to a value ----------------------------------------------------------------------------------------------


def test_all_ways_give_the_same(samples: Batch) -> None:
    dicts = samples.to_dicts()
    packets = list(samples)
    for name in PACKET_KEYS:
        values = [bytes(v) if isinstance(v, memoryview) else v for v in samples.values(name)]
        assert values == [keys.get(name) for keys in dicts], name
        assert samples.rows(name) == [(v,) for v in samples.values(name)], name
        assert [packet.get(name) for packet in packets] == samples.values(name), name
        assert [getattr(packet, name.replace(".", "_")) for packet in packets] == samples.values(name), name
        assert samples.valid(name).tolist() == [v is not None for v in values], name
    assert packets[17].to_dict() == dicts[17]


_DTYPES = {"u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "addrnumber": np.uint32}


def test_columns_give_the_same_numbers(samples: Batch) -> None:
    for name, key in PACKET_KEYS.items():
        if key.kind in _DTYPES:
            column = samples.column(name)
            assert column.dtype == _DTYPES[key.kind], name
            assert column.tolist() == [value or 0 for value in samples.values(name)], name


def test_rows_of_several_keys(samples: Batch) -> None:
    """Those that always hold take a shorter way; order, repetition and company must not matter."""
    always = ("oob.mark", "raw.label", "oob.time.sec", "oob.family", "raw.pktcount", "oob.protocol", "oob.hook")
    choices = [always, always[::-1], always[:2], ("oob.mark", "oob.mark"), ("oob.family", "tcp.sport", "ip.saddr")]
    rng = random.Random(5)
    choices += [tuple(rng.choices(list(PACKET_KEYS), k=5)) for _ in range(50)]
    for keys in choices:
        assert samples.rows(*keys) == list(zip(*map(samples.values, keys), strict=True)), keys
    assert samples.rows() == [()] * len(samples)


def test_rows_where_all_keys_hold() -> None:
    batch = few("udp4", "udp4-empty", "udp4-odd")
    assert batch.rows("udp.dport", "udp.sport", "ip.ttl") == [(53, 5000, 64)] * 3
    assert batch.rows("udp.len", "raw.pktlen") == [(15, 35), (8, 28), (11, 31)]
    assert batch.rows("ip.saddr", "udp.dport", "ip.daddr") == [("10.77.0.2", 53, "10.77.0.1")] * 3


def test_names_that_keys_share() -> None:
    """`src_port` is the port of whichever protocol the packet has."""
    batch = few("tcp4-syn", "udp6", "sctp4-init", "icmp-echo-reply", "arp-reply")
    assert batch.values("src_port") == [40000, 5000, 36412, None, None]
    assert batch.values("dest_port") == [80, 53, 36412, None, None]
    assert batch.values("src_ip") == ["10.77.0.2", "fd77::2", "10.77.0.2", "10.77.0.2", None]
    assert batch.valid("src_port").tolist() == [True, True, True, False, False]
    assert [packet.sport for packet in batch] == batch.values("src_port")
    assert few("arp-reply").values("src_port") == [None]


def test_packets_by_number(samples: Batch) -> None:
    assert samples[-1].to_dict() == samples[len(samples) - 1].to_dict() == expected(sample_messages()[-1])
    for beyond in (len(samples), -len(samples) - 1):
        with pytest.raises(IndexError):
            samples[beyond]


# -- columns ----------------------------------------------------------------------------------------------------------


def test_a_column_copies_nothing_and_cannot_be_written() -> None:
    batch = few("tcp4-syn", "tcp4-ack", "udp4")
    column, other = batch.column("tcp.window"), batch.column("tcp.sport")
    window, sport = (view.__array_interface__["data"][0] for view in (column, other))
    assert window - sport == PACKET.offset_of("tcp_window") - PACKET.offset_of("tcp_sport")
    assert column.tolist() == [64240, 64240, 0]
    with pytest.raises(ValueError, match="read-only"):
        column[0] = 1
    with pytest.raises(TypeError):
        batch.values("raw.pkt")[0][0] = 1


def test_columns_of_addresses() -> None:
    batch = few("udp4", "udp6", "arp-reply", "icmp-redirect-0")
    saddr = batch.column("ip.saddr")
    assert saddr.shape == (4, 16)
    assert bytes(saddr[0][:4]) == bytes([10, 77, 0, 2])
    assert saddr[1].tobytes() == by_name("udp6").payload[8:24]
    assert not saddr[2].any()
    assert batch.column("arp.saddr").tolist() == [[0] * 4, [0] * 4, [10, 77, 0, 1], [0] * 4]
    assert batch.column("arp.shwaddr").shape == (4, 6)
    assert batch.column("raw.mac.saddr").shape == (4, 8)
    assert batch.column("icmp.gateway")[3].tolist() == [10, 77, 0, 254]


def test_columns_of_texts_are_objects() -> None:
    batch = few("udp4", "udp6", prefix=b"p: ")
    for name in ("oob.prefix", "ip.saddr.str", "oob.in", "mac.str"):
        column = batch.column(name)
        assert column.dtype == object
        assert column.tolist() == batch.values(name)


def test_pieces_of_the_buffer_have_no_column(samples: Batch) -> None:
    for name in ("raw.pkt", "raw.mac", "raw.l2hdr", "ct"):
        with pytest.raises(TypeError, match=rf"use batch.values\('{name}'\)"):
            samples.column(name)


def test_valid_is_a_mask() -> None:
    batch = few("tcp4-urg", "udp4", "tcp4-syn")
    assert batch.column("tcp.dport")[batch.valid("tcp.dport")].tolist() == [80, 80]
    assert batch.valid("tcp.urgp").tolist() == [True, False, False]
    assert batch.valid("oob.mark").all()


# -- other forms ------------------------------------------------------------------------------------------------------


def test_to_dicts_of_some_keys() -> None:
    batch = few("tcp4-syn", "udp4")
    some = batch.to_dicts("tcp.dport", "raw.pktlen", "oob.prefix")
    assert some == [{"tcp.dport": 80, "raw.pktlen": 40}, {"raw.pktlen": 35}]


def test_to_dicts_shares_nothing() -> None:
    (keys,) = few("udp4").to_dicts()
    assert {type(value) for value in keys.values()} == {int, str, bytes}


def test_to_arrow(samples: Batch) -> None:
    table = samples.to_arrow()
    assert table.column_names == list(PACKET_KEYS)
    dicts = samples.to_dicts()
    for name, key in PACKET_KEYS.items():
        column = table.column(name)
        wanted = {"u8": pa.uint8(), "u16": pa.uint16(), "u32": pa.uint32(), "addrnumber": pa.uint32()}.get(
            key.kind, pa.binary() if key.kind in ("bytes", "fixed") else pa.string()
        )
        assert column.type == wanted, name
        assert column.to_pylist() == [keys.get(name) for keys in dicts], name


def test_to_arrow_of_some_keys() -> None:
    batch = few("tcp4-syn", "udp4")
    batch.add("mine", [1, None])
    assert batch.to_arrow("mine", "src_port", "ip.saddr").to_pylist() == [
        {"mine": 1, "src_port": 40000, "ip.saddr": "10.77.0.2"},
        {"mine": None, "src_port": 5000, "ip.saddr": "10.77.0.2"},
    ]


# -- empty ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [lambda: Batch(None, 0), lambda: few("udp4").select([]), lambda: decode([]).batch])
def test_empty_batches(empty: Callable[[], Batch]) -> None:
    batch = empty()
    assert not batch
    assert (len(batch), list(batch), batch.to_dicts(), batch.to_arrow().num_rows) == (0, [], [], 0)
    for name, key in PACKET_KEYS.items():
        assert batch.values(name) == [], name
        assert batch.rows(name, "oob.mark") == [], name
        assert batch.valid(name).tolist() == [], name
        if key.kind != "bytes":
            assert batch.column(name).tolist() == [], name
    assert batch.rows() == []
    with pytest.raises(IndexError):
        batch[0]
    batch.add("mine", [])
    assert batch.values("mine") == batch.column("mine").tolist() == batch.valid("mine").tolist() == []
    assert len(batch.select([])) == 0


# -- selections -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[0], [5, 6, 7], list(range(0, 500, 3)), [521], [9, 3, 3]])
def test_a_selection_has_the_same_packets(samples: Batch, rows: list[int]) -> None:
    chosen, dicts = samples.select(rows), samples.to_dicts()
    wanted = [dicts[row] for row in rows]
    assert chosen.to_dicts() == wanted
    assert [packet.to_dict() for packet in chosen] == wanted
    for name, key in PACKET_KEYS.items():
        values = [keys.get(name) for keys in wanted]
        assert chosen.valid(name).tolist() == [value is not None for value in values], name
        if key.kind in _DTYPES:
            assert chosen.column(name).tolist() == [value or 0 for value in values], name
    assert chosen.to_arrow("ip.saddr", "raw.pkt", "tcp.dport").to_pylist() == [
        {name: keys.get(name) for name in ("ip.saddr", "raw.pkt", "tcp.dport")} for keys in wanted
    ]


def test_a_selection_of_a_selection(samples: Batch) -> None:
    twice = samples.select(range(10, 400, 2)).select([0, 1, 5, -1])
    dicts = samples.to_dicts()
    assert twice.to_dicts() == [dicts[row] for row in (10, 12, 20, 398)]


def test_a_selection_by_numpy(samples: Batch) -> None:
    chosen = samples.select(list(np.flatnonzero(samples.valid("tcp.syn"))))
    assert len(chosen) > 20
    assert None not in chosen.values("tcp.syn")


def test_a_selection_keeps_to_its_batch(samples: Batch) -> None:
    """There is memory behind the last record: it must not be seen."""
    for rows in ([len(samples)], [0, 10**6], [2**32], [-len(samples) - 1]):
        with pytest.raises(IndexError):
            samples.select(rows)
    with pytest.raises(IndexError):
        samples.select([1, 2]).select([2])


def test_rows_from_the_end(samples: Batch) -> None:
    assert samples.select([-1, -2]).to_dicts() == samples.to_dicts()[:-3:-1]


def test_a_slice_is_a_batch(samples: Batch) -> None:
    dicts = samples.to_dicts()
    for piece in (
        slice(0, 64),
        slice(-3, None),
        slice(500, 9999),
        slice(None, None, 100),
        slice(5, 5),
        slice(9, 3, -2),
    ):
        part = samples[piece]
        assert isinstance(part, Batch)
        assert part.to_dicts() == dicts[piece], piece
    assert samples[10:20][2:4].to_dicts() == dicts[12:14]
    assert samples[0:64].group == samples.group


# -- for people --------------------------------------------------------------------------------------------------------


def test_repr() -> None:
    batch = few("udp4", "tcp4-syn")
    assert repr(batch) == "<Batch of 2 packets, group 0>"
    assert repr(batch[:1]) == "<Batch of 1 packet, group 0>"
    assert repr(Batch.of_columns({"sum.name": ["a", "b"]}, time=(5, 6))) == "<Batch of 2 records>"


def test_a_table_for_notebooks() -> None:
    batch = few(*["tcp4-syn"] * 25, prefix=b"<b>&\x1b]0;x\x07")
    html = batch._repr_html_()
    assert html.count("<tr>") == 21
    assert "<caption>&lt;Batch of 25 packets, group 0&gt;, the first 20 of them</caption>" in html
    assert "<td>&lt;b&gt;&amp;\\x1b]0;x\\x07</td>" in html
    assert "<th>tcp.dport</th>" in html
    assert "udp" not in html, "a column without values says nothing"
    assert "\x1b" not in html
    assert "first" not in batch[:20]._repr_html_()
    assert "<th>sum.name</th>" in Batch.of_columns({"sum.name": ["a"]}, time=(5, 6))._repr_html_()
    assert "<tbody></tbody>" in Batch(None, 0)._repr_html_()


# -- all names ---------------------------------------------------------------------------------------------------------


def test_every_name_of_a_key_works_everywhere(samples: Batch) -> None:
    """Key, attribute, term and JSON's name mean the same, however it is asked for."""
    for name in PACKET.names:
        (key, *others), values = PACKET.names.keys_of(name), samples.values(name)
        if not others:
            assert values == samples.values(key), name
        assert samples.rows(name, "mark") == list(zip(values, samples.values("oob.mark"), strict=True)), name
        assert samples.valid(name).tolist() == [value is not None for value in values], name
        kind = PACKET.names.keys[key].kind
        if kind not in ("bytes", "column"):
            assert samples.column(name).tolist() == samples.column(PACKET.names.find(name)).tolist(), name
        some = samples[:30]
        shown = [bytes(v) if isinstance(v, memoryview) else v for v in some.values(name)]
        assert [keys.get(name) for keys in some.to_dicts(name)] == shown, name
        assert [row.get(name) for row in some.to_arrow(name).to_pylist()] == shown, name


def test_numbers_by_their_terms_take_the_short_way() -> None:
    batch = few("udp4", "udp4-empty")
    assert batch.rows("udp_dport", "mark") == batch.rows("udp.dport", "oob.mark") == [(53, 0), (53, 0)]
    assert batch.column("udp_dport").base is not None
    assert batch.column("udp_dport").tolist() == [53, 53]


def test_added_columns_by_all_their_names() -> None:
    batch = few("udp4", "tcp4-syn")
    assert (batch.values("mark"), batch.values("dport"), batch[0].mark) == ([0, 0], [53, 80], 0)
    batch.add("oob.mark", [1, 2])
    batch.add("udp.dport", [54, None])
    batch.add("my.own", [3, None])
    for name in ("oob.mark", "mark", "oob_mark"):
        assert batch.values(name) == batch.column(name).tolist() == [1, 2], name
        assert batch.rows(name, "tcp_dport") == [(1, None), (2, 80)], name
    assert (batch.values("dport"), batch[0].mark, batch[0].dport) == ([54, 80], 1, 54)
    assert batch.values("my_own") == batch.values("my.own") == [3, None]
    with pytest.raises(KeyError, match=r"unknown key 'my\.on' — did you mean 'my\.own'"):
        batch.values("my.on")


# -- columns that are added -------------------------------------------------------------------------------------------


def test_added_columns() -> None:
    batch = few("udp4", "tcp4-syn", "arp-reply")
    batch.add("mine", [1, None, -3])
    assert batch.values("mine") == [1, None, -3]
    assert batch.valid("mine").tolist() == [True, False, True]
    assert batch.column("mine").tolist() == [1, None, -3]
    assert batch.rows("mine", "tcp.dport") == [(1, None), (None, 80), (-3, None)]
    assert [packet.get("mine") for packet in batch] == [1, None, -3]
    assert [keys.get("mine", "none") for keys in batch.to_dicts()] == [1, "none", -3]
    assert batch.to_arrow("mine").to_pylist() == [{"mine": 1}, {"mine": None}, {"mine": -3}]


def test_an_added_column_takes_the_place_of_another() -> None:
    batch = few("udp4", "tcp4-syn")
    assert batch.values("oob.mark") == batch.column("oob.mark").tolist() == [0, 0]
    batch.add("oob.mark", ["a", None])
    assert batch.column("oob.mark").tolist() == ["a", None]
    assert batch.values("oob.mark") == ["a", None]
    assert batch.rows("oob.mark", "oob.hook") == [("a", 1), (None, 1)]
    assert batch.to_dicts("oob.mark") == [{"oob.mark": "a"}, {}]
    batch.add("oob.mark", [3, 4])
    assert batch.values("oob.mark") == [3, 4]
    assert [packet.mark for packet in batch] == [3, 4]


def test_an_added_column_of_a_selection(samples: Batch) -> None:
    chosen = samples.select([2, 4, 8])
    chosen.add("mine", ["two", "four", "eight"])
    assert chosen.values("mine") == ["two", "four", "eight"]
    assert chosen.select([0, 2]).values("mine") == ["two", "eight"]
    assert chosen.select([1]).to_dicts("mine") == [{"mine": "four"}]
    with pytest.raises(KeyError):
        samples.values("mine")


def test_an_added_column_has_a_value_for_each_packet(samples: Batch) -> None:
    with pytest.raises(ValueError, match=f"add mine: there must be a value for each of {len(samples)} packets, not 3"):
        samples.add("mine", [1, 2, 3])


def test_a_copy_is_a_batch_of_its_own() -> None:
    batch = few("udp4", "tcp4-syn")
    batch.add("shared", [1, 2])
    twin = batch.copy()
    twin.add("mine", [3, 4])
    twin.add("shared", [5, 6])
    assert (twin.values("shared"), batch.values("shared")) == ([5, 6], [1, 2])
    assert twin.values("mine") == [3, 4]
    with pytest.raises(KeyError):
        batch.values("mine")
    batch.add("later", [0, 0])
    assert "later" not in twin.added
    assert twin.values("udp.dport") == batch.values("udp.dport")


# -- batches without packets ------------------------------------------------------------------------------------------


def test_a_batch_of_columns() -> None:
    batch = Batch.of_columns({"sum.name": ["a", "b"], "sum.pkts": [1, 2**64 - 1]}, time=(5, 6))
    assert len(batch) == 2
    assert batch.rows("sum.name", "sum.pkts") == [("a", 1), ("b", 2**64 - 1)]
    assert batch.to_dicts() == [{"sum.name": "a", "sum.pkts": 1}, {"sum.name": "b", "sum.pkts": 2**64 - 1}]
    assert batch.to_arrow().to_pylist() == batch.to_dicts()
    assert batch.select([1]).to_dicts() == [{"sum.name": "b", "sum.pkts": 2**64 - 1}]
    assert batch.values("tcp.dport") == [None, None]
    assert batch.valid("tcp.dport").tolist() == [False, False]
    assert batch.column("tcp.dport").tolist() == [0, 0]
    assert few("udp4").values("sum.pkts") == [None]
    with pytest.raises(ValueError, match=r"add sum.pkts: there must be a value for each of 2 packets, not 1"):
        Batch.of_columns({"sum.name": ["a", "b"], "sum.pkts": [1]}, time=(5, 6))


# -- unknown keys -----------------------------------------------------------------------------------------------------


def test_what_a_batch_does_not_have_is_said() -> None:
    batch: Any = few("udp4", "tcp4-syn")
    asked: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: batch[99], IndexError, "there is no packet 99: the batch has 2, 0 to 1"),
        (lambda: batch[-3], IndexError, "there is no packet -3: the batch has 2, 0 to 1"),
        (lambda: batch[:0][0], IndexError, "there is no packet 0: the batch is empty"),
        (lambda: batch.select([1, 7]), IndexError, "there is no packet 7: the batch has 2, 0 to 1"),
        (
            lambda: batch["saddr"],
            TypeError,
            "batch[…] takes a number or a slice, not str; batch.values('saddr') gives a key of all of them",
        ),
        (lambda: batch[1.0], TypeError, "batch[…] takes a number or a slice, not float"),
    ]
    for ask, error, said in asked:
        with pytest.raises(error, match="^" + re.escape(said) + "$"):
            ask()
    assert batch[np.int64(1)].dport == 80


@pytest.mark.parametrize("way", [pickle.dumps, copying.deepcopy])
def test_a_batch_cannot_be_pickled(way: Callable[[Batch], object]) -> None:
    batch = few("udp4", "tcp4-syn")
    said = r"^a batch cannot be pickled: it holds the receive buffer\. Pickle list\(batch\)"
    with pytest.raises(TypeError, match=said):
        way(batch)
    assert [packet.to_dict() for packet in pickle.loads(pickle.dumps(list(batch)))] == batch.to_dicts()
    twin = copying.copy(batch)
    twin.add("x", [1, 2])
    assert (len(twin), list(batch.added)) == (2, [])


@pytest.mark.parametrize(
    ("name", "hint"), [("tcp.dportt", "'tcp.dport'"), ("tcp_dprt", "'tcp_dport'"), ("OOB.PREFIX", "'oob.prefix'")]
)
def test_unknown_keys(samples: Batch, name: str, hint: str) -> None:
    ways: list[Callable[..., Any]] = [
        samples.values,
        samples.column,
        samples.valid,
        samples.rows,
        samples.to_dicts,
        samples.to_arrow,
        samples[0].get,
        pickle.loads(pickle.dumps(samples[0])).get,
    ]
    for ask in ways:
        with pytest.raises(KeyError) as caught:
            ask(name)
        assert caught.value.args[0] == f"unknown key '{name}' — did you mean {hint}?"


# -- what is kept -----------------------------------------------------------------------------------------------------


def flood(pair: Pair, group: nfl.Group, times: int) -> None:
    """Fill and free receive buffers."""
    for _ in range(times):
        pair.send_udp(100, size=1000)
        collect(group, 100)


def test_a_payload_outlives_everything(pair: Pair) -> None:
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, qthreshold=100) as group:
        pair.send_udp(5, size=64)
        (batch,) = collect(group, 5)
        kept, copies = [], []
        for packet in batch:
            kept.append(packet.payload)
            copies.append(bytes(packet.payload))
        del batch, packet
        flood(pair, group, 30)
    del group
    gc.collect()
    with nfl.open_group(2, netns=pair.fw.path, qthreshold=100) as group:
        flood(pair, group, 10)
    assert [bytes(payload) for payload in kept] == copies
    assert copies[0][28:] == bytes(range(64))
    piece = kept[0][28:92][10:20]
    del kept
    gc.collect()
    assert bytes(piece) == bytes(range(10, 20))


def test_columns_outlive_everything(pair: Pair) -> None:
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, qthreshold=100) as group:
        pair.send_udp(5, source_port=4242)
        (batch,) = collect(group, 5)
        ports, source = batch.column("udp.sport"), batch.column("ip.saddr")[:, 3]
        (part,) = (batch.select([1, 3]).column("udp.sport"),)
        packet, mask = batch[4], batch.valid("udp.sport")
        del batch
        flood(pair, group, 30)
    del group
    gc.collect()
    assert ports.tolist() == [4242] * 5
    assert source.tolist() == [2] * 5
    assert part.tolist() == [4242] * 2
    assert mask.all()
    assert (packet.sport, packet.seq_local) == (4242, 4), "a packet that was never looked at"


def test_threads_read_what_was_kept(pair: Pair) -> None:
    """While this thread receives into buffers given back, each of the others reads what it keeps, and lets go of it."""
    log_udp(pair)
    stop, wrong = threading.Event(), list[str]()
    kept: list[list[tuple[memoryview, bytes]]] = [[] for _ in range(3)]

    def read(mine: list[tuple[memoryview, bytes]], seed: int) -> None:
        rng = random.Random(seed)
        while not stop.is_set():
            for view, copy in list(mine):
                if bytes(view) != copy:
                    wrong.append(f"{bytes(view).hex()} was {copy.hex()}")
            if len(mine) > 10:
                del mine[: rng.randrange(5)]
            stop.wait(0.001)

    threads = [threading.Thread(target=read, args=(mine, seed)) for seed, mine in enumerate(kept)]
    for thread in threads:
        thread.start()
    with nfl.open_group(2, netns=pair.fw.path, qthreshold=23) as group:
        for turn in range(60):
            pair.send_udp(23, size=turn + 1, source_port=2000 + turn)
            batches = collect(group, 23)
            payloads = batches[0].values("raw.pkt")
            for mine in kept:
                mine.append((payloads[0], bytes(payloads[0])))
            del batches, payloads
    stop.set()
    for thread in threads:
        thread.join(10)
    assert not wrong


def test_batches_leave_nothing_behind(pair: Pair) -> None:
    """Neither descriptors nor memory: a buffer that were lost at each of 1000 batches would be 5 GiB."""
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, profile="latency") as group:
        for batch in islice(_single_batches(pair, group), 50):
            _look_at(batch)
        gc.collect()
        before = _descriptors(), _virtual_bytes()
        for batch in islice(_single_batches(pair, group), 1000):
            _look_at(batch)
        del batch
        gc.collect()
        assert not group.receive(), "this takes back the buffers of the last cycles"
        assert _descriptors() == before[0]
        assert _virtual_bytes() - before[1] < 64 << 20


def _single_batches(pair: Pair, group: nfl.Group) -> Iterator[Batch]:
    with pair.peer.enter():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        while True:
            sender.sendto(b"x", (pair.FW4, 9))
            yield next(group.batches(timeout=10))


def _look_at(batch: Batch) -> None:
    """Use it as people do, and make a reference cycle."""
    assert len(batch) == 1
    packet = batch[0]
    assert (packet.payload[20:22], packet.dport, batch.column("udp.dport")[0]) == (packet.payload[20:22], 9, 9)
    cycle: list[Any] = [packet, batch, batch.column("ip.saddr"), packet.payload]
    cycle.append(cycle)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _virtual_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def test_opening_and_closing_leaves_nothing_behind(pair: Pair) -> None:
    log_udp(pair)

    def once() -> None:
        with nfl.open_group(2, netns=pair.fw.path, qthreshold=3) as group:
            pair.send_udp(3)
            (batch,) = collect(group, 3)
            assert batch.values("oob.in") == ["va"] * 3

    once()
    gc.collect()
    before = _descriptors()
    for _ in range(100):
        once()
    assert _descriptors() == before


def test_a_group_that_is_forgotten_gives_its_socket_back(pair: Pair) -> None:
    log_udp(pair)
    for _ in range(3):
        group = nfl.open_group(2, netns=pair.fw.path)
        pair.send_udp(1)
        assert packets_in(collect(group, 1)) == 1
        del group
        gc.collect()


# -- names of interfaces ----------------------------------------------------------------------------------------------


def test_names_are_those_of_the_batch() -> None:
    batch = decode([build_message(b"", indev=2, outdev=3), build_message(b"", indev=99, physindev=1)]).batch
    assert batch.rows("oob.in", "oob.out") == [("va", NAMES[3].replace("\udcff", "\ufffd")), ("", "")]
    assert batch.values("oob.physin") == [None, "lo"]
