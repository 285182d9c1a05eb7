# SPDX-License-Identifier: GPL-2.0-or-later
"""MARK: which packets pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nflowlevel.filters.mark import MARK, MARKOptions
from nflowlevel.records.batch import Batch
from tests.corpus import by_name
from tests.fix_daemon import FILTERS, Daemon, config, records
from tests.fix_netns import Pair
from tests.fix_plugins import batch_of
from tests.flows import TCP, flow_batch
from tests.messages import message_of

_MARKS = (None, 0, 1, 2, 3, 0x101, 0xFFFFFFFF)


def passing(**options: int) -> list[int | None]:
    """Return the marks that pass of those above."""
    batch = batch_of(*(message_of(by_name("udp4"), mark=mark, seq=row) for row, mark in enumerate(_MARKS)))
    passed = MARK("m", MARKOptions(**options)).process(batch)
    rows = passed.values("oob.seq.local")
    assert len(passed) == len(rows)
    return [_MARKS[row] for row in rows]


@pytest.mark.parametrize(
    ("options", "marks"),
    [
        ({}, [None, 0]),
        ({"mark": 1}, [1]),
        ({"mark": 1, "mask": 1}, [1, 3, 0x101, 0xFFFFFFFF]),
        ({"mark": 1, "mask": 0xFF}, [1, 0x101]),
        ({"mark": 0, "mask": 1}, [None, 0, 2]),
        ({"mark": 0xFFFFFFFF}, [0xFFFFFFFF]),
        ({"mark": 4, "mask": 3}, []),
        ({"mark": 0, "mask": 0}, list(_MARKS)),
    ],
)
def test_the_masked_mark_must_be_the_given_one(options: dict[str, int], marks: list[int | None]) -> None:
    assert passing(**options) == marks


def test_a_batch_that_passes_whole_is_not_copied() -> None:
    batch = batch_of(count=3)
    assert MARK("m", MARKOptions()).process(batch) is batch


def test_flows_pass_by_their_own_mark() -> None:
    """The mark of the flow, not of a packet: flows have no `oob.mark`."""
    batch = flow_batch(*(replace(TCP, mark=mark, id=mark) for mark in (0, 1, 2, 3, 0xFFFFFFFF)))
    assert MARK("m", MARKOptions(mark=1, mask=1)).process(batch).values("ct.id") == [1, 3, 0xFFFFFFFF]
    assert MARK("m", MARKOptions()).process(batch).values("ct.id") == [0]


def test_nothing_passes_nothing() -> None:
    empty = Batch(None, 0)
    assert len(MARK("m", MARKOptions(mark=1)).process(empty)) == 0


def test_records_without_marks_pass() -> None:
    batch = Batch.of_columns({"sum.name": ["a", "b"], "sum.pkts": [1, 2]}, time=(1, None))
    assert len(MARK("m", MARKOptions(mark=1)).process(batch)) == 2


def test_in_a_stack_beside_another_without_it(pair: Pair, tmp_path: Path) -> None:
    pair.fw.nft(
        "table inet t {\nchain i {\ntype filter hook prerouting priority 0\n"
        "udp sport 1001 meta mark set 0x11\nudp sport 1002 meta mark set 0x12\nudp dport 9 log group 2\n}\n}\n"
    )
    all_, some = tmp_path / "all", tmp_path / "some"
    text = config(
        f"g:NFLOG,{FILTERS},j:JSON", f"g:NFLOG,b:BASE,m:MARK,{FILTERS.removeprefix('b:BASE,')},k:JSON",
        g="group=2", j=f"file={all_}", k=f"file={some}", m="mark = 0x10\nmask = 0xf0",
    )  # fmt: skip
    with Daemon(tmp_path, text, netns=pair.fw):
        for port, count in ((1000, 5), (1001, 7), (1002, 11)):
            pair.send_udp(count, source_port=port)
        assert [record["oob.mark"] for record in records(all_, 23)] == [0] * 5 + [0x11] * 7 + [0x12] * 11
        assert [record["oob.mark"] for record in records(some, 18)] == [0x11] * 7 + [0x12] * 11
