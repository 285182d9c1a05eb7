# SPDX-License-Identifier: GPL-2.0-or-later
"""Row: a record that was copied out of its batch says what it said there, and holds nothing of it."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from nflowlevel.records.batch import Batch
from nflowlevel.records.packet import PACKET
from nflowlevel.records.packetrow import Packet
from nflowlevel.records.row import Kept, shown
from nflowlevel.records.sums import SUM
from tests.corpus import by_name
from tests.fix_decoder import decode
from tests.fix_records import WIDE, WideRow, wide_batch
from tests.messages import FULL, message_of, sample_messages

_COPIES: dict[str, Callable[[Packet], Packet]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda packet: pickle.loads(pickle.dumps(packet)),
    "oldest pickle": lambda packet: pickle.loads(pickle.dumps(packet, 0)),
    "copy of a copy": lambda packet: copy.copy(pickle.loads(pickle.dumps(copy.deepcopy(packet)))),
}
_ATTRIBUTES = [name for name, value in inspect.getmembers(Packet) if isinstance(value, property)]


@pytest.fixture(scope="module")
def samples() -> Batch:
    """A packet of each corpus frame, every third with all that the kernel can say."""
    full = [message_of(by_name(name), **FULL) for name in ("tcp4-all", "udp6", "arp-reply", "icmp-redirect-0")]
    return decode([*sample_messages(), *full]).batch


@pytest.mark.parametrize("way", _COPIES)
def test_a_copy_has_the_same_values(samples: Batch, way: str) -> None:
    for packet in samples:
        twin = _COPIES[way](packet)
        assert type(twin) is Packet
        assert twin.to_dict() == packet.to_dict()
        assert repr(twin) == repr(packet)
        for name in _ATTRIBUTES:
            value = getattr(twin, name)
            assert value == getattr(packet, name), name
            assert type(value) is type(getattr(packet, name)), name


@pytest.mark.parametrize("way", _COPIES)
def test_a_copy_holds_no_buffer(way: str) -> None:
    batch = decode([message_of(by_name("tcp4-syn"))]).batch
    lease = batch._lease
    assert lease is not None
    returned: list[int] = []
    weakref.finalize(lease.data, returned.append, 1)
    twin = _COPIES[way](batch[0])
    payload = twin.payload
    del batch, lease
    gc.collect()
    assert returned == [1], "the receive buffer is free again"
    assert payload is not None
    assert bytes(payload) == by_name("tcp4-syn").payload
    assert (twin.dport, twin.saddr) == (80, "10.77.0.2")


def test_a_copy_knows_the_same_names(samples: Batch) -> None:
    (packet,) = decode([message_of(by_name("tcp4-syn"))]).batch
    twin = copy.copy(packet)
    for name in PACKET.names:
        assert twin.get(name) == packet.get(name), name
    with pytest.raises(KeyError, match=r"unknown key 'tcp\.dprt' — did you mean 'tcp\.dport'"):
        twin.get("tcp.dprt")


def test_a_copy_has_added_columns() -> None:
    batch = decode([message_of(by_name("tcp4-syn")), message_of(by_name("udp4"))]).batch
    batch.add("my.size", [1, None])
    batch.add("tcp.dport", [8080, None])
    first, second = map(copy.copy, batch)
    assert (first.get("my.size"), first.get("my_size"), first.tcp_dport, first.dport) == (1, 1, 8080, 8080)
    assert second.get("tcp.dport") is second.get("my.size") is copy.copy(second).get("my_size") is None
    assert "my.size" not in second.to_dict()
    assert second.dport == 53


def test_another_process_reads_a_pickle(samples: Batch) -> None:
    packets = [samples[0], samples[40]]
    code = "import pickle, sys; [print(p, len(p.payload)) for p in pickle.load(sys.stdin.buffer)]"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(packets), capture_output=True, check=True)
    assert done.stdout.decode() == "".join(f"{p!r} {p.caplen}\n" for p in packets)


def test_a_record_of_counters() -> None:
    batch = Batch.of_columns({"sum.name": ["a", "b"], "sum.pkts": [1, 2**64 - 1]}, time=(5, 6))
    assert pickle.loads(pickle.dumps(batch[1])).to_dict() == {"sum.name": "b", "sum.pkts": 2**64 - 1}


_COPIES_OF_ANY: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, lambda row: pickle.loads(pickle.dumps(row))]


@pytest.mark.parametrize("way", _COPIES_OF_ANY)
def test_a_copy_of_another_record_knows_the_names_of_its_type(way: Callable[[Any], Any]) -> None:
    batch = wide_batch([{"oob.mark": 2**64 - 1, "n.1": 5, "t.1": b"one"}])
    (row,) = batch
    twin = way(row)
    assert type(twin) is WideRow
    for name in WIDE.names:
        assert twin.get(name) == row.get(name), name
    assert twin.get("first") == 5
    assert twin.get("tcp.dport") is None
    with pytest.raises(KeyError, match=r"unknown key 'n\.99' — did you mean 'n\.9'"):
        twin.get("n.99")


@pytest.mark.parametrize("way", _COPIES_OF_ANY)
def test_a_copy_of_a_sum(way: Callable[[Any], Any]) -> None:
    sums = Batch.of_columns({"sum.name": ["a"], "sum.pkts": [3], "sum.bytes": [40]}, time=(5, 6), type=SUM)
    twin = way(sums[0])
    assert (twin.get("packets"), twin.get("sum_pkts"), twin.packets, twin.name) == (3, 3, 3, "a")
    assert twin.get("oob.time.sec") is None
    assert repr(twin) == repr(sums[0]) == "<Sum 'a' packets 3 bytes 40>"
    with pytest.raises(KeyError, match="unknown key 'packet'"):
        twin.get("packet")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (5, "5"),
        ("ssh", "ssh"),
        ("\x1b[31mred\n", "\\x1b[31mred\\n"),
        ("a\u202eb", "a\\u202eb"),
        (b"\x00\xff", "00 ff"),
        (memoryview(bytes(33)), "00 " * 31 + "00 … (33 bytes)"),
    ],
)
def test_values_for_people(value: Any, text: str) -> None:
    assert shown(value) == text


def test_a_table_for_notebooks_is_escaped() -> None:
    (packet,) = decode([message_of(by_name("tcp4-syn"), prefix=b"<script>alert(1)</script>&\x1b")]).batch
    html = packet._repr_html_()
    assert "<script>" not in html
    assert "<td>&lt;script&gt;alert(1)&lt;/script&gt;&amp;\\x1b</td>" in html
    assert "<td>tcp.dport</td><td>80</td>" in html
    assert "\x1b" not in html


def test_kept_values_are_a_row_alone() -> None:
    kept = Kept(PACKET, {"ip.saddr": "10.0.0.1", "raw.pkt": b"ab"})
    assert kept.select([0]).to_dicts() == [{"ip.saddr": "10.0.0.1", "raw.pkt": b"ab"}]
    assert kept.values("saddr") == ["10.0.0.1"]
    assert kept.values("payload") == [memoryview(b"ab")]
    assert kept.values("tcp.dport") == kept.values("dport") == [None]
