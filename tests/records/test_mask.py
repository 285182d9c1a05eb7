# SPDX-License-Identifier: GPL-2.0-or-later
"""Filters over batches and dicts: the table of cases, and random filters against Python."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from nflowlevel.errors import NotSupported
from nflowlevel.records import mask as masks
from nflowlevel.records.batch import Batch
from nflowlevel.records.filters import FilterError, parse
from nflowlevel.records.keys import added_key
from nflowlevel.records.mask import holds, mask, rows, selected
from nflowlevel.records.sums import SUM
from tests.corpus import frames
from tests.fix_decoder import decode
from tests.fix_filters import ADDED, CASES, REFUSED, Case, Maker, Row, meant, packets, refused
from tests.fix_group import run_python
from tests.messages import message_of

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
    assert rows(case.text, batch.to_dicts(), added=ADDED) == meant(case, wanted)


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_what_packets_do_not_have(text: str, reason: str) -> None:
    _, batch, _ = packets()
    asked: list[Callable[[], object]] = [
        lambda: batch.where(text),
        lambda: mask(text, batch),
        lambda: rows(text, batch),
        lambda: rows(text, batch.to_dicts(), added=ADDED),
        lambda: holds(text, {}),
        lambda: Batch(None, 0).where(text),
    ]
    for ask in asked:
        with pytest.raises(FilterError, match=re.escape(reason)):
            ask()


def test_a_filter_is_read_for_the_batch_that_it_meets() -> None:
    """One that was read for packets, as `tail` does it, sees the columns of the batch, and nothing of other records."""
    sums = Batch.of_columns({"sum.pkts": [1, 5]}, time=(0, None), type=SUM)
    assert selected("packets > 3", sums) == rows("sum_pkts > 3", sums) == [1]
    with pytest.raises(FilterError, match=re.escape("sums do not have 'tcp.dport': it is a key of packets")):
        sums.where(parse("tcp.dport == 22"))
    with pytest.raises(FilterError, match=re.escape("records do not have 'sum.pkts'")):
        Batch.of_columns({"x": [1]}, time=(0, None)).where("x && sum.pkts")
    assert holds("sum.bytes > 3", {"sum.bytes": 4}, type=SUM)


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
        # As packets' own these have narrower bounds.
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
    for batch in (decode([]).batch, Batch(None, 0)):
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
    }.items():
        assert rows(text, batch) == found, text
        assert text.startswith("!(") or mask(text, batch).nonzero()[0].tolist() == found, text


# -- dicts ------------------------------------------------------------------------------------------------------------


def test_columns_that_were_added_by_a_name_alone() -> None:
    """Their values say what they are."""
    batch = decode([message_of(frame) for frame in frames()[:6]]).batch
    batch.add("threat.level", [None, -3, 2, 0, np.int64(7), 2**64])
    batch.add("who", ["a", None, "b", "", "a*", "é"])
    batch.add("rate", [0.5, None, 1, 2, 3, 4])
    for text, found in {
        "threat.level > 1": [2, 4, 5],
        "threat_level * 2 == -6": [1],
        "threat.level in {0, 7}": [3, 4],
        'who ~ "a*"': [0, 4],
        'who in {"", "é"}': [3, 5],
        "!(threat.level)": [0, 3],
    }.items():
        assert rows(text, batch) == selected(text, batch) == found, text
        assert batch.where(text).values("who") == [batch.values("who")[row] for row in found]
    with pytest.raises(FilterError, match="'who' is text: compare it with a text in double quotes"):
        batch.where("who == 5")
    with pytest.raises(FilterError, match="'rate' holds values of type float, int; a filter compares whole numbers"):
        batch.where("1 && rate > 1")
    with pytest.raises(FilterError, match=re.escape("unknown field 'threat.levl' — did you mean 'threat.level'?")):
        batch.where("threat.levl > 1")


@pytest.mark.parametrize(
    "text", ["x == 5", 'x == "a"', 'x ~ "a"', "x in {10.0.0.0/8}", "x == fd00::/8", "x - 1", "!!x"]
)
def test_a_column_of_which_nothing_is_known(text: str) -> None:
    """It may be of any type: a loop over batches must not end at the first one in which no packet has a value."""
    batch = decode([message_of(frames()[0])] * 2).batch
    batch.add("x", [None, None])
    for each in (batch, batch[:0]):
        assert rows(text, each) == selected(text, each) == []


def test_declared_columns_are_typed() -> None:
    batch = decode([message_of(frames()[0])] * 2).batch
    batch.add(added_key("rate", "double", "Packets a second."), [0.5, None])
    batch.add(added_key("delta", "int64", "A difference."), [-(2**63), 2**63 - 1])
    batch.add(added_key("when", "uint64", "A time."), [None, None])
    with pytest.raises(FilterError, match="'rate' is a number with a fraction, and filters cannot compare fractions"):
        batch.where("rate > 1")
    with pytest.raises(FilterError, match="'when' is not text"):
        batch.where('when ~ "5"')
    assert selected("delta < -0x7ffffffffffffffe", batch) == [0]
    assert selected("delta > 0x7ffffffffffffffe", batch) == [1]


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
        batch = Batch.of_columns({"sum.bytes": [1, 2], "x": [0, 0]}, time=(0, None))
        assert rows("sum.bytes > 1 && !(x)", batch) == [1]
        assert "numpy" not in sys.modules
    """
    done = run_python(code)
    assert done.returncode == 0, done.stderr
