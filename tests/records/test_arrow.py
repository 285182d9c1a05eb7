# SPDX-License-Identifier: GPL-2.0-or-later
"""Arrow tables: one schema for a list of keys, whatever a batch holds, so that one Parquet file takes them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import PACKET_KEYS, added_key
from nflowlevel.records.packet import PACKET
from nflowlevel.records.terms import TERMS
from tests.corpus import by_name
from tests.fix_decoder import decode
from tests.fix_group import run_python
from tests.messages import FULL, message_of, sample_messages
from tests.oracle import build_message

KEYS = ("oob.time.sec", "prefix", "saddr", "ip.daddr", "src_ip", "sport", "dest_port", "tcp.syn", "payload", "raw.mac")


def few(*names: str, **more: Any) -> Batch:
    return decode([message_of(by_name(name), **more) for name in names]).batch


def batches() -> dict[str, Batch]:
    """Batches that hold as different things as there are."""
    samples = decode(sample_messages()).batch
    icmp = few("icmp-echo-reply", "icmp-redirect-0")
    nothing = decode([build_message(None, protocol=None)]).batch
    return {
        "all": samples,
        "icmp": icmp,
        "tcp": few("tcp4-all", **FULL),
        "arp": few("arp-reply"),
        "nothing": nothing,
        "selected": samples[5:9],
        "selected none": samples[:0],
        "empty": Batch(None, 0),
        "no datagrams": decode([]).batch,
    }


@pytest.mark.parametrize("keys", [KEYS, (), tuple(TERMS), tuple(PACKET_KEYS), tuple(PACKET.names.joined)])
def test_a_list_of_keys_has_one_schema(keys: tuple[str, ...]) -> None:
    schemas = {name: batch.to_arrow(*keys).schema for name, batch in batches().items()}
    wanted = schemas["all"]
    assert pa.null() not in wanted.types
    assert wanted.names == list(keys or PACKET_KEYS)
    for name, schema in schemas.items():
        assert schema.equals(wanted), name


def test_counters_have_one_schema() -> None:
    keys = ("sum.name", "sum.pkts", "sum_bytes")
    full = Batch.of_columns({"sum.name": ["a"], "sum.pkts": [2**64 - 1], "sum.bytes": [None]}, time=(5, 6))
    none = Batch.of_columns({"sum.name": [], "sum.pkts": [], "sum.bytes": []}, time=(5, 6))
    tables = [full.to_arrow(*keys), none.to_arrow(*keys), full.to_arrow(), none.to_arrow()]
    assert [table.schema.types for table in tables] == [[pa.string(), pa.uint64(), pa.uint64()]] * 4
    assert tables[0].to_pylist() == [{"sum.name": "a", "sum.pkts": 2**64 - 1, "sum_bytes": None}]


@pytest.mark.parametrize("keys", [KEYS, ()])
def test_one_parquet_file_takes_all_batches(keys: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "packets.parquet"
    given = list(batches().values())
    with pq.ParquetWriter(path, given[-2].to_arrow(*keys).schema) as writer:
        for batch in given:
            writer.write_table(batch.to_arrow(*keys))
    read = pq.read_table(path)
    assert read.num_rows == sum(map(len, given))
    names = keys or tuple(PACKET_KEYS)
    wanted = [dict(zip(names, row, strict=True)) for batch in given for row in batch.rows(*names)]
    assert read.to_pylist() == [
        {k: bytes(v) if isinstance(v, memoryview) else v for k, v in row.items()} for row in wanted
    ]


def test_a_column_in_the_place_of_a_key_keeps_its_type() -> None:
    batch = few("udp4", "tcp4-syn")
    batch.add("oob.mark", [5, None])
    table = batch.to_arrow("mark", "oob.mark")
    assert table.schema.types == [pa.uint32()] * 2
    assert table.to_pylist() == [{"mark": 5, "oob.mark": 5}, {"mark": None, "oob.mark": None}]
    batch.add("oob.mark", ["five", None])
    with pytest.raises(TypeError, match=r"mark: the column that was added does not fit the key's type uint32: .*five"):
        batch.to_arrow("mark")


def test_a_column_of_its_own_name_has_its_values_type() -> None:
    batch = few("udp4", "tcp4-syn")
    batch.add("my.text", ["a", None])
    batch.add("label", ["blocked", "allowed"])
    table = batch.to_arrow("my_text", "label", "raw.label")
    assert table.schema.types == [pa.string(), pa.string(), pa.uint8()]
    assert table.to_pylist()[0] == {"my_text": "a", "label": "blocked", "raw.label": 7}


@pytest.mark.parametrize(
    ("type_", "value", "wanted"),
    [
        ("uint16", 3, pa.uint16()),
        ("uint64", 2**64 - 1, pa.uint64()),
        ("int8", -3, pa.int8()),
        ("int64", -(2**63), pa.int64()),
        ("bool", 1, pa.uint8()),
        ("double", 2.5, pa.float64()),
        ("string", "a", pa.string()),
    ],
)
def test_a_column_with_a_key_has_the_keys_type(type_: str, value: Any, wanted: pa.DataType) -> None:
    key = added_key("my.own", type_, "A test's own.")
    for values in ([value, None], [None, None]):
        batch = few("udp4", "tcp4-syn")
        batch.add(key, values)
        for part in (batch, batch[:1], batch[:0], batch.copy()):
            table = part.to_arrow("my_own")
            assert table.schema.types == [wanted]
            assert table.column(0).to_pylist() == part.values("my.own")


def test_without_pyarrow_it_says_what_to_install() -> None:
    code = """if True:
        import sys
        sys.modules["pyarrow"] = None
        from nflowlevel import Batch, NotSupported
        try:
            Batch(None, 0).to_arrow()
        except NotSupported as error:
            print(error)
    """
    done = run_python(code)
    assert "pip install 'nflowlevel[columns]'" in done.stdout, done.stderr
