# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of flows in C: what records it makes of events and dumps; a model in Python knows what is to come."""

from __future__ import annotations

import random
from typing import Any

import pytest

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.flowtable import ACTIVE, FORCED, FlowTable, Made

NEW, UPDATE, DESTROY = 1, 2, 4
COUNTED, START = 1 << lib.NFL_FLOW_COUNTED, 1 << lib.NFL_FLOW_START
HELPER = 1 << lib.NFL_FLOW_HELPER
_DYING = 0x200


def flow(port: int, packets: int = 0, *, event: int = 0, start: int = 0, id_: int = 7, **fields: Any) -> dict[str, Any]:
    """Return a flow as the kernel tells it; a packet has 100 bytes."""
    made = {
        "valid": 1 | (COUNTED if event in (0, DESTROY) else 0) | (START if start else 0),
        "oob_family": 2,
        "orig_ip_protocol": 17,
        "orig_l4_sport": port,
        "ct_id": id_,
        "start_ns": start,
        "flow_start_sec": start // 10**9,
        "orig_raw_pktcount": packets,
        "orig_raw_pktlen": 100 * packets,
        "reply_raw_pktcount": packets // 2,
        "reply_raw_pktlen": 50 * (packets // 2),
        "ct_event": event,
        "flow_end_reason": 1 if event == DESTROY else 0,
        "flow_last": event == DESTROY,
    }
    return made | fields


def table(capacity: int = 100, *, sees_new: bool = True, ends: int = 64) -> FlowTable:
    return FlowTable(capacity, ends=ends, sees_new=sees_new)


def take(table: FlowTable, *events: dict[str, Any]) -> list[Any]:
    return shown(table.take(ffi.new("struct nfl_flow[]", list(events)), len(events)))


def dump(table: FlowTable, *flows: dict[str, Any], listening_ns: int = 0, **scan: Any) -> list[Any]:
    table.begin()
    found = shown(table.list(ffi.new("struct nfl_flow[]", list(flows)), len(flows), listening_ns=listening_ns))
    table.scan(**{"older_ns": None, "gone": True} | scan)
    more = True
    while more:
        made, more = table.scanned()
        found += shown(made)
    return found


def shown(made: Made) -> list[tuple[int, int, int, int, int, int, int]]:
    """Return port, packets there and back, event, number, last and reason of each record."""
    if not made.records:
        assert made.count == 0
        return []
    records = [made.records.records[n] for n in range(made.count)]
    for f in records:
        assert f.valid & made.valid_all == made.valid_all
        assert f.valid & ~made.valid_any == 0
        assert f.orig_raw_pktlen == 100 * f.orig_raw_pktcount
    return [
        (f.orig_l4_sport, f.orig_raw_pktcount, f.reply_raw_pktcount, f.ct_event, f.flow_number, f.flow_last,
         f.flow_end_reason)
        for f in records
    ]  # fmt: skip


def test_a_flow_is_the_sum_of_its_records() -> None:
    t = table()
    assert take(t, flow(1, event=NEW)) == []
    assert dump(t, flow(1, 10), older_ns=0, idle=True) == [(1, 10, 5, UPDATE, 1, 0, ACTIVE)]
    assert dump(t, flow(1, 10), older_ns=0) == []
    assert dump(t, flow(1, 10), older_ns=0, idle=True) == [(1, 0, 0, UPDATE, 2, 0, ACTIVE)]
    assert dump(t, flow(1, 16), older_ns=0, reason=FORCED) == [(1, 6, 3, UPDATE, 3, 0, FORCED)]
    assert dump(t, flow(1, 20), older_ns=10**12) == []
    assert take(t, flow(1, 30, event=DESTROY)) == [(1, 14, 7, DESTROY, 4, 1, 1)]
    assert len(t) == 0


def test_without_room_each_event_is_a_record() -> None:
    t = table(0)
    assert take(t, flow(1, event=NEW), flow(1, event=UPDATE), flow(1, 4, event=DESTROY)) == [
        (1, 0, 0, NEW, 0, 0, 0),
        (1, 0, 0, UPDATE, 0, 0, 0),
        (1, 4, 2, DESTROY, 0, 1, 1),
    ]
    assert t.counted.unmatched == 0


def ports(made: Made) -> list[int]:
    assert made.records
    return [made.records.records[n].orig_l4_sport for n in range(made.count)]


def test_memory_of_records_is_used_again_when_nobody_looks_into_it() -> None:
    t = table(0)

    def many(first: int) -> Made:
        events = [flow(port, event=DESTROY, start=port) for port in range(first, first + 300)]
        return t.take(ffi.new("struct nfl_flow[]", events), 300)

    def place(made: Made) -> int:
        assert made.records
        return int(ffi.cast("uintptr_t", made.records.records))

    first = many(1)
    assert first.records
    look = first.records.cast("B")  # of one byte of it
    where, first = place(first), many(1001)
    assert place(first) != where
    assert ports(first) == list(range(1001, 1301))
    before = bytes(look)
    other = many(2001)
    assert place(other) not in (where, place(first))
    assert bytes(look) == before
    del look
    assert place(many(3001)) == where
    assert ports(first) == list(range(1001, 1301))


def test_few_records_keep_no_array_from_being_used() -> None:
    t = table(0)
    kept = [t.take(ffi.new("struct nfl_flow[]", [flow(n, event=DESTROY, start=n)]), 1) for n in range(1, 100)]
    assert [ports(each) for each in kept] == [[n] for n in range(1, 100)]
    assert len(t._free) == 1


def test_what_only_the_beginning_tells_is_kept() -> None:
    t = table()
    take(
        t,
        flow(1, event=NEW, valid=1 | START | HELPER, flow_start_sec=5, flow_start_usec=6, ct_helper=b"ftp"),
        flow(1, event=UPDATE, ct_mark=9),
    )
    made = t.take(ffi.new("struct nfl_flow[]", [flow(1, 2, event=DESTROY)]), 1)
    assert made.records is not None
    record = made.records.records[0]
    assert (record.flow_start_sec, record.flow_start_usec, ffi.string(record.ct_helper)) == (5, 6, b"ftp")
    assert record.valid & (START | HELPER | COUNTED) == START | HELPER | COUNTED


def test_an_end_without_a_beginning_is_reported_as_it_is() -> None:
    t = table()
    assert take(t, flow(1, 4, event=DESTROY)) == [(1, 4, 2, DESTROY, 0, 1, 1)]
    assert t.counted.unmatched == 1


def test_what_a_dump_does_not_show_is_gone() -> None:
    t = table()
    assert dump(t, flow(1, 4), flow(2, 6)) == []
    assert dump(t, flow(1, 5)) == [(2, 6, 3, DESTROY, 1, 1, 1)]
    assert t.counted.presumed == 1
    # The kernel's word comes after all, with more.
    assert take(t, flow(2, 8, event=DESTROY)) == [(2, 2, 1, DESTROY, 2, 1, 1)]
    assert t.counted.returned == 1


def test_an_end_that_was_presumed_right_is_not_told_twice() -> None:
    t = table()
    dump(t, flow(2, 6))
    assert dump(t) == [(2, 6, 3, DESTROY, 1, 1, 1)]
    assert take(t, flow(2, 6, event=DESTROY)) == []
    assert len(t) == 0


def test_a_flow_that_a_dump_missed_goes_on() -> None:
    t = table()
    dump(t, flow(2, 6))
    assert dump(t) == [(2, 6, 3, DESTROY, 1, 1, 1)]
    assert dump(t, flow(2, 8), older_ns=0) == [(2, 2, 1, UPDATE, 2, 0, ACTIVE)]


def test_an_incomplete_dump_ends_nothing() -> None:
    t = table()
    dump(t, flow(1, 4), flow(2, 6))
    assert dump(t, flow(1, 8), gone=False, older_ns=0) == [(1, 8, 4, UPDATE, 1, 0, ACTIVE)]


def test_who_listens_reliably_waits_for_the_kernel_s_word() -> None:
    t = table()
    dump(t, flow(1, 4, start=10), flow(2, 4, start=30), listening_ns=20)
    # Of what is older than the listener it may never come.
    assert dump(t, listening_ns=20, wait=True) == [(1, 4, 2, DESTROY, 1, 1, 1)]
    assert take(t, flow(2, 6, event=DESTROY, start=30)) == [(2, 6, 3, DESTROY, 1, 1, 1)]


def test_who_listens_reliably_does_not_wait_where_the_clock_was_set_back() -> None:
    """Of what began before, the kernel may never tell the end, though by its stamp it begins in the future."""
    t = table()
    dump(t, flow(1, 4, start=4 * 10**18), listening_ns=20)
    assert dump(t, listening_ns=20, wait=True) == [(1, 4, 2, DESTROY, 1, 1, 1)]


def test_what_begins_during_a_dump_is_not_gone() -> None:
    t = table()
    t.begin()
    take(t, flow(1, event=NEW))
    t.scan(older_ns=None, gone=True)
    assert shown(t.scanned()[0]) == []
    assert len(t) == 1


def test_d_f09_a_flow_that_is_told_and_listed_is_one() -> None:
    """ulogd2 has a flow twice that begins while the table is loaded at the start."""
    t = table()
    t.begin()
    t.list(ffi.new("struct nfl_flow[]", [flow(1, 4)]), 1, listening_ns=0)
    take(t, flow(1, event=NEW))
    assert len(t) == 1
    assert take(t, flow(1, 6, event=DESTROY)) == [(1, 6, 3, DESTROY, 1, 1, 1)]
    assert dump(t) == []


def test_the_same_tuple_and_number_with_another_beginning_is_another_flow() -> None:
    t = table()
    dump(t, flow(1, 10, start=100))
    assert take(t, flow(1, 3, event=DESTROY, start=200)) == [
        (1, 10, 5, DESTROY, 1, 1, 1),
        (1, 3, 1, DESTROY, 0, 1, 1),
    ]
    assert t.counted.replaced == 1
    dump(t, flow(1, 10, start=300))
    assert dump(t, flow(1, 4, start=400), older_ns=0) == [(1, 10, 5, DESTROY, 1, 1, 1), (1, 4, 2, UPDATE, 1, 0, ACTIVE)]


@pytest.mark.parametrize(
    "other", [{"id_": 8}, {"ct_zone": 3}, {"orig_l4_dport": 1}, {"icmp_id": 5}, {"oob_family": 10}], ids=str
)
def test_what_tells_flows_apart(other: dict[str, Any]) -> None:
    t = table()
    take(t, flow(1, event=NEW), flow(1, event=NEW, **other))
    assert len(t) == 2
    assert take(t, flow(1, 5, event=DESTROY)) == [(1, 5, 2, DESTROY, 1, 1, 1)]
    assert len(t) == 1


def test_an_end_that_is_told_again_is_no_record() -> None:
    t = table(sees_new=False)
    end = flow(1, 4, event=DESTROY, start=9)
    assert len(take(t, end, end, flow(2, 4, event=DESTROY, start=9), end)) == 2
    assert t.counted.repeated == 2
    # Of many that end, the last are remembered.
    for port in range(1000, 1064):
        assert len(take(t, flow(port, 4, event=DESTROY, start=9), end)) == 1


def test_without_room_too_no_end_is_a_record_twice() -> None:
    """More than are looked at together; those that are left out leave no hole."""
    t = table(0, sees_new=False, ends=1000)
    ends = [flow(port, port, event=DESTROY, start=9) for port in range(1, 101)]
    told = [each for number, end in enumerate(ends) for each in (end, *ends[: number + 1 : 7])]
    assert [(port, packets) for port, packets, *_ in take(t, *told)] == [(port, port) for port in range(1, 101)]
    assert t.counted.repeated == len(told) - 100


def test_without_beginnings_and_stamps_nobody_can_tell_a_repetition() -> None:
    t = table(sees_new=False)
    end = flow(1, 4, event=DESTROY)
    assert len(take(t, end, end)) == 2
    t = table(sees_new=True)
    assert len(take(t, end, end)) == 1
    # With a beginning it is another flow, though it is just like the one before.
    assert len(take(t, flow(1, event=NEW), end)) == 1
    assert t.counted.repeated == 1


def test_counters_that_somebody_else_sets_to_zero() -> None:
    t = table()
    dump(t, flow(1, 10), older_ns=0)
    dump(t, flow(1, 14))
    assert dump(t, flow(1, 2), older_ns=0) == [(1, 6, 3, UPDATE, 2, 0, ACTIVE)]
    assert take(t, flow(1, 3, event=DESTROY)) == [(1, 1, 0, DESTROY, 3, 1, 1)]
    assert t.counted.reset == 1


def test_d_f03_more_flows_than_there_is_room_for_are_counted() -> None:
    """ulogd2 says nothing, and reports those beyond hash_max_entries without their beginning."""
    t = table(20)
    take(t, *(flow(port, event=NEW) for port in range(30)))
    assert (len(t), t.counted.untracked) == (20, 10)
    assert len(take(t, *(flow(port, 2, event=DESTROY) for port in range(30)))) == 30
    assert t.counted.unmatched == 10
    # Their places are free again.
    take(t, *(flow(port, event=NEW) for port in range(20)))
    assert (len(t), t.counted.untracked) == (20, 10)


def test_what_is_dying_is_no_news_of_a_dump() -> None:
    t = table()
    take(t, flow(1, event=NEW), flow(1, 4, event=DESTROY, ct_status=_DYING))
    assert dump(t, flow(1, 4, ct_status=_DYING), older_ns=0) == []
    assert len(t) == 0


def test_a_packet_between_the_event_of_an_end_and_a_dump_is_counted_once() -> None:
    """The dump is read first, and has more than the event that waits: that is no reset."""
    t = table()
    dump(t, flow(1, 10), older_ns=0)
    assert dump(t, flow(1, 12, ct_status=_DYING)) == []
    assert take(t, flow(1, 11, event=DESTROY)) == [(1, 2, 1, DESTROY, 2, 1, 1)]
    # Also where its record was made before.
    dump(t, flow(2, 10))
    assert dump(t, flow(2, 12, ct_status=_DYING), older_ns=0) == [(2, 12, 6, UPDATE, 1, 0, ACTIVE)]
    assert take(t, flow(2, 11, event=DESTROY)) == [(2, 0, 0, DESTROY, 2, 1, 1)]
    assert t.counted.reset == 0


def test_all_end() -> None:
    t = table()
    dump(t, flow(1, 4), flow(2, 6))
    assert dump(t, flow(1, 6), ends=True, reason=FORCED) == [
        (1, 6, 3, DESTROY, 1, 1, FORCED),
        (2, 6, 3, DESTROY, 1, 1, 1),
    ]


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_the_sums_are_right(seed: int) -> None:
    """Events as a kernel tells them, some lost, some repeated, and dumps in between: what was told is reported once."""
    chance = random.Random(seed)
    stamps, loses = seed % 2 == 0, seed % 3 == 0
    t = table(2000, ends=4096)
    alive: dict[int, list[int]] = {}  # port: packets, beginning
    told: dict[tuple[int, int], int] = {}  # of a flow: packets that the kernel has told of
    records: list[Any] = []
    ended: list[dict[str, Any]] = []
    for clock in range(1, 1501):
        port = chance.randrange(150)
        what = chance.random()
        if port not in alive:
            alive[port] = [0, clock]
            if not (loses and chance.random() < 0.3):
                records += take(t, flow(port, event=NEW, id_=port if stamps else clock, start=0))
        elif what < 0.6:
            alive[port][0] += chance.randrange(1, 100)
        elif what < 0.9:
            packets, start = alive.pop(port)
            end = flow(port, packets, event=DESTROY, id_=port if stamps else start, start=start if stamps else 0)
            if not (loses and chance.random() < 0.3):
                records += take(t, end)
                told[port, start] = packets
                ended.append(end)
        elif what < 0.95 and ended and stamps:
            assert take(t, chance.choice(ended[-50:])) == []
        else:
            flows = [
                flow(p, packets, id_=p if stamps else start, start=start if stamps else 0)
                for p, (packets, start) in alive.items()
            ]
            records += dump(t, *flows, older_ns=0 if chance.random() < 0.5 else None)
            for p, (packets, start) in alive.items():
                told[p, start] = packets
    records += dump(t)
    assert sum(record[1] for record in records) == sum(told.values())
    assert t.counted.untracked == 0
