# SPDX-License-Identifier: GPL-2.0-or-later
"""Filters over batches and dicts: the table of cases, and random filters against Python."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from nflowlevel.errors import NotSupported
from nflowlevel.records import mask as masks
from nflowlevel.records.batch import Batch
from nflowlevel.records.filters import FilterError, parse
from nflowlevel.records.mask import holds, mask, rows, selected
from tests.fix_decoder import decode
from tests.fix_filters import CASES, Case, Maker, Row, meant, packets, refused
from tests.fix_group import run_python

FIELDS = (
    "tcp.dport",
    "tcp_sport",
    "ip.ttl",
    "raw.pktlen",
    "tcp.ack",
    "udp.dport",
    "oob.mark",
    "ip.protocol",
    "icmp.type",
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text)
def test_cases(case: Case) -> None:
    _, batch, wanted = packets()
    assert mask(case.text, batch).nonzero()[0].tolist() == meant(case, wanted)
    assert rows(case.text, batch) == meant(case, wanted)
    assert rows(case.text, batch.to_dicts()) == meant(case, wanted)


def test_the_table_tells_packets_apart() -> None:
    """Most cases hold for some packets and not for others, so that a back end can be wrong."""
    _, batch, wanted = packets()
    telling = [case for case in CASES if 0 < len(meant(case, wanted)) < len(batch)]
    assert len(telling) > 0.85 * len(CASES)


@given(st.randoms(use_true_random=False))
def test_random_filters(rng: random.Random) -> None:
    _, batch, wanted = packets()
    text, meaning = Maker(rng, FIELDS).condition()
    try:
        parsed = parse(text)
    except FilterError as error:
        if not refused(error):
            raise
        reject()
    known = [Row(row) for row in wanted]
    for row in known:
        row["tcp_sport"] = row["tcp.sport"]
    right = [number for number, row in enumerate(known) if meaning(row)]
    assert rows(parsed, batch) == right
    assert mask(parsed, batch).nonzero()[0].tolist() == right


@given(st.randoms(use_true_random=False), st.integers(0, 5))
def test_random_filters_over_added_columns(rng: random.Random, count: int) -> None:
    def value() -> Any:
        return rng.choice((None, None, 0, 1, 80, 255))

    table = [Row({name: found for name in FIELDS if (found := value()) is not None}) for _ in range(count)]
    batch = Batch.of_columns({name: [row[name] for row in table] for name in FIELDS}, time=(0, None))
    text, meaning = Maker(rng, [name for name in FIELDS if "_" not in name]).condition()
    try:
        parsed = parse(text)
    except FilterError as error:
        if not refused(error):
            raise
        reject()
    right = [number for number, row in enumerate(table) if meaning(row)]
    assert rows(parsed, batch) == rows(parsed, table) == mask(parsed, batch).nonzero()[0].tolist() == right


# -- batches ----------------------------------------------------------------------------------------------------------


def test_where() -> None:
    _, batch, wanted = packets()
    found = batch.where("tcp.dport == 80 && ip.ttl < 65")
    assert 0 < len(found) < len(batch)
    assert {(packet.tcp_dport, packet.ip_ttl) for packet in found} == {(80, 64)}
    again = found.where("!tcp.ack").where("tcp.syn")
    numbers = [n for n, row in enumerate(wanted) if row["tcp.dport"] == 80 and row["tcp.syn"] and row["tcp.ack"] == 0]
    assert again.to_dicts() == [dict(wanted[n]) for n in numbers if wanted[n]["ip.ttl"] is not None]
    assert len(found.where("ip.saddr == 10.77.0.0/24")) == len(found)
    assert not found.where("udp.dport")


def test_where_of_an_empty_batch() -> None:
    for batch in (decode([]).batch, Batch.of_columns({}, time=(0, None))):
        for text in ("1", "!(tcp.dport == 1)", "saddr == 10.0.0.0/8", 'prefix ~ "*"', "sport / dport", "saddr"):
            assert len(batch.where(text)) == 0
            assert mask(text, batch).dtype == np.bool_


def test_where_refuses() -> None:
    with pytest.raises(FilterError, match=r"did you mean 'tcp\.dport'"):
        packets()[1].where("tcp.dprt == 22")


def test_columns_that_were_added() -> None:
    times = {
        "sum.name": ["a", "b", None],
        "sum.bytes": [2**63 - 1, 2**64 - 1, None],
        "ip.saddr": ["::1", "10.0.0.1", None],
    }
    batch = Batch.of_columns(times, time=(0, None))
    for text, found in {
        'sum.name ~ "?"': [0, 1],
        "sum.bytes > 0x7ffffffffffffffe": [0, 1],
        "!(sum.bytes * 8 < 5)": [0, 1, 2],
        "ip.saddr == ::/0": [0],
        "ip.saddr == 0x0a000001": [1],
        "ip.saddr != 10.0.0.2": [1],
        "tcp.dport": [],
    }.items():
        assert rows(text, batch) == found, text
        assert text.startswith("!(") or mask(text, batch).nonzero()[0].tolist() == found, text


# -- dicts ------------------------------------------------------------------------------------------------------------


def test_a_line_of_json() -> None:
    line = json.loads(
        '{"src_ip": "10.1.2.3", "dest_ip": "fd00::1", "dest_port": 22, "oob.prefix": "x", "ip.ttl": null}'
    )
    assert holds('saddr == 10.0.0.0/8 && daddr == fd00::/8 && dport in {22} && prefix == "x" && !tcp.syn', line)
    assert not holds("tcp.dport == 22", line)  # it does not say of which protocol the port is
    assert holds("ip.saddr.str == 10.1.2.3", {"ip.saddr": "10.1.2.3"})


def test_a_packet_as_a_dict() -> None:
    packet = packets()[1].where("tcp.syn && ip.ttl")[0]
    assert holds("tcp.syn && raw.pktlen >= 40", packet.to_dict())


# -- without NumPy ----------------------------------------------------------------------------------------------------


def test_without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise NotSupported("NumPy", found="none", needed="one")

    _, batch, _ = packets()
    wanted = selected("tcp.dport == 80", batch)
    monkeypatch.setattr(masks, "numpy", missing)
    assert selected("tcp.dport == 80", batch) == wanted
    assert len(batch.where("tcp.dport == 80")) == len(wanted) > 0
    with pytest.raises(NotSupported):
        mask("tcp.dport == 80", batch)


def test_rows_do_not_import_numpy() -> None:
    code = """if True:
        import sys
        from nflowlevel.records.batch import Batch
        assert not [name for name in sys.modules if name.startswith("nflowlevel.records.filters")]
        from nflowlevel.records.mask import rows
        assert rows("sum.bytes > 1 && !(tcp.dport)", Batch.of_columns({"sum.bytes": [1, 2]}, time=(0, None))) == [1]
        assert "numpy" not in sys.modules
    """
    done = run_python(code)
    assert done.returncode == 0, done.stderr
