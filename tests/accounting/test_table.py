# SPDX-License-Identifier: GPL-2.0-or-later
"""A table of accounting objects: a sequence of them, and columns."""

from __future__ import annotations

import pytest

import nflowlevel as nfl
from nflowlevel.accounting.objects import Accounting
from tests.fix_acct import accounting, make_objects, sums
from tests.fix_netns import Netns

__all__ = ["accounting"]


def test_a_counter_is_immutable(accounting: Accounting) -> None:
    accounting.create("a")
    with pytest.raises(AttributeError):
        accounting.get("a").packets = 5  # type: ignore[misc]
    assert nfl.Accounting is Accounting


def test_a_table_is_a_sequence(accounting: Accounting) -> None:
    made = make_objects(accounting, 50)
    table = accounting.dump()
    assert len(table) == 50
    assert [*table] == [table[number] for number in range(50)] == table[:]
    assert table[-1] == table[49]
    assert table[3:5] == [table[3], table[4]]
    assert table[7] in table
    with pytest.raises(IndexError, match=r"^there is no accounting object 50: the table has 50$"):
        table[50]
    assert repr(table) == "<CounterTable of 50 accounting objects>"
    assert sums(table) == made
    assert table.uses.tolist() == [1] * 50
    assert [each.quota or 0 for each in table] == table.quotas.tolist()
    assert [each.flags for each in table] == table.flags.tolist()
    assert set(table.flags) == {0, 1}


def test_columns_are_arrays_for_numpy(accounting: Accounting) -> None:
    numpy = pytest.importorskip("numpy")
    make_objects(accounting, 50)
    table = accounting.dump()
    packets = numpy.asarray(table.packets)
    assert packets.dtype == numpy.uint64
    assert int(packets.sum()) == sum(table.packets)
    del table
    assert packets.tolist()


def test_a_table_outlives_its_accounting(netns: Netns) -> None:
    with Accounting(netns.name) as accounting:
        made = make_objects(accounting, 50)
        table = accounting.dump()
    assert sums(table) == made


def test_nothing(accounting: Accounting) -> None:
    for table in (accounting.dump(), accounting.dump_and_zero()):
        assert [*table] == []
        assert table.packets.tolist() == []
    assert accounting.flush() == []
