# SPDX-License-Identifier: GPL-2.0-or-later
"""Several stacks that end in one section: one output, in the order of arrival, and each stack's losses are its own."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import psycopg
import pymysql
import pytest

from nflowlevel.options import ConfigErrors
from nflowlevel.outputs.graphite import GRAPHITE, GRAPHITEOptions
from nflowlevel.outputs.json import JSON, JSONOptions
from nflowlevel.outputs.prometheus import PROMETHEUS, PROMETHEUSOptions
from nflowlevel.plugin.contract import ANY_KEYS, Member, Output
from nflowlevel.plugin.lines import LineOptions, LineOutput
from nflowlevel.plugin.spooled import SpooledOutput
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import added_key
from nflowlevel.spool.options import SpoolOptions
from nflowlevel.spool.rows import Layout, Rows
from nflowlevel.spool.sink import Refused, Sink, Unavailable
from nflowlevel.stacks import registry
from nflowlevel.stacks.config import parse_text
from nflowlevel.stacks.destination import Destination, Share
from nflowlevel.stacks.stack import build
from tests.fix_alone import unused_port
from tests.fix_daemon import FILTERS, Daemon, config, lines_of, wait_for
from tests.fix_lines import check
from tests.fix_mariadb import MariaDBDatabase, mariadb, mariadb_db
from tests.fix_netns import Pair
from tests.fix_plugins import Feed, Memory, Through, batch_of, stacks_of
from tests.fix_postgres import PostgresDatabase, postgres, postgres_db
from tests.fix_receiver import Receiver
from tests.fix_sqlite import Locker, execute, rows_of
from tests.outputs.test_graphite import sums

__all__ = ["mariadb", "mariadb_db", "postgres", "postgres_db"]

_MINE = added_key("my.key", "uint8", "A test's own.")


class Adder(Through):
    """Adds `my.key`, 7 for each record."""

    name = "ADDER"
    adds = (_MINE,)

    def __init__(self, instance: str, options: object) -> None:
        super().__init__(self._add, instance, adds=type(self).adds)

    @staticmethod
    def _add(batch: Batch) -> Batch:
        batch.add("my.key", [7] * len(batch))
        return batch


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Plugins that other packages bring: name and class."""
    known: dict[str, Any] = {"FEED": Feed, "MEMORY": Memory, "ADDER": Adder}

    def points() -> dict[str, Any]:
        return {name: SimpleNamespace(value=name, load=lambda found=found: found) for name, found in known.items()}

    monkeypatch.setattr(registry, "_entry_points", points)
    return known


def shared(output: Output[Any], count: int = 2) -> tuple[Destination, list[Share]]:
    """Return an output at the end of some stacks."""
    destination = Destination(output)
    shares = [destination.join((), Feed())[0] for _ in range(count)]
    destination.bind()
    return destination, shares


def dropped(share: Share) -> dict[str, int]:
    """Return what was dropped of a stack."""
    return share.counted.dropped


# -- one output -------------------------------------------------------------------------------------------------------


class Noted(Memory):
    """Remembers what it is bound to, and for which stack it writes."""

    name = "NOTED"

    def bind(self, members: tuple[Member, ...]) -> None:
        super().bind(members)
        self.calls.append("bind")

    def write(self, batch: Batch) -> None:
        self.calls.append(f"write {len(self.members)} of {self.input} in {self.netns}")


def test_it_is_open_as_long_as_one_of_its_stacks(third_party: dict[str, Any]) -> None:
    one, two = stacks_of("[global]\nstack=a:FEED,m:MEMORY\nstack=b:FEED,m:MEMORY\n")
    output: Any = one.output
    assert two.output is one.output
    one.open()
    assert one.destination.is_open
    two.open()
    assert output.calls == ["open"]
    one.close()
    one.close()
    two.deliver(batch_of(count=1))
    assert output.calls == ["open", "write"]
    two.close()
    assert output.calls[2:] == ["close"]
    assert not one.destination.is_open
    one.open()
    assert output.calls[3:] == ["open"]
    for stack in (one, two):
        stack.source.close()


def test_a_stack_that_cannot_start_leaves_it_to_the_others(third_party: dict[str, Any]) -> None:
    one, two = stacks_of("[global]\nstack=a:FEED,m:MEMORY\nstack=b:FEED,m:MEMORY\n")

    def fails() -> None:
        raise OSError(16, "busy")

    one.open()
    two.source.input.open = fails  # type: ignore[method-assign]
    with pytest.raises(OSError, match="busy"):
        two.open()
    output: Any = one.output
    assert output.calls == ["open"]
    output.faulty = "open"
    one.close()
    with pytest.raises(ValueError, match="fault"):
        one.open()
    assert output.calls == ["open", "close", "open", "close"]
    assert not one.destination.is_open
    for stack in (one, two):
        stack.source.close()


def test_it_learns_what_records_carry_before_they_come(third_party: dict[str, Any]) -> None:
    third_party["NOTED"] = Noted
    one, two, three = stacks_of("[global]\nstack=a:FEED,n:NOTED\nstack=c:FEED,x:ADDER,n:NOTED\nstack=d:FEED,n:NOTED\n")
    two.share.input.netns = "blue"
    output: Any = one.output
    assert [name for name, _ in output.members][-1] == "my.key"  # all that any stack brings
    one.open()
    output.calls.clear()
    for stack in (one, one, three, two, two, three):
        stack.deliver(batch_of(count=1))
    assert output.calls == [
        "bind",
        *["write 0 of a:FEED in None"] * 2,
        "write 0 of d:FEED in None",  # the same members: it is not bound again
        "bind",
        *["write 1 of c:FEED in blue"] * 2,
        "bind",
        "write 0 of d:FEED in None",
    ]
    one.close()
    for stack in (one, two, three):
        stack.source.close()


def test_a_fault_in_bind_costs_that_stack_only(third_party: dict[str, Any]) -> None:
    class Picky(Noted):
        name = "PICKY"

        def bind(self, members: tuple[Member, ...]) -> None:
            if self.calls and members[-1:] == (("my.key", _MINE),):
                raise ValueError("no")
            super().bind(members)

    third_party["PICKY"] = Picky
    one, two = stacks_of("[global]\nstack=a:FEED,n:PICKY\nstack=c:FEED,x:ADDER,n:PICKY\n")
    output: Any = one.output
    for _ in range(2):
        two.deliver(batch_of(count=3))
        one.deliver(batch_of(count=2))
    # At first it is bound to all that any stack brings, which is what the second one does.
    assert (one.dropped, two.dropped) == (0, 3)
    assert sum(call.startswith("write") for call in output.calls) == 3
    for stack in (one, two):
        stack.source.close()


def test_each_stack_has_its_own_lines_in_json(tmp_path: Path, third_party: dict[str, Any]) -> None:
    """As two sections would write them: the same members in the same order, at once in one file."""
    stacks = "stack=a:NFLOG,b:BASE,s:IP2STR,{0}:JSON\nstack=c:NFLOG,b:BASE,x:ADDER,h:HWHDR,{1}:JSON\n"
    sections = "[a]\n[c]\ngroup=1\n[j]\nfile={0}/j\n[k]\nfile={0}/k\n[l]\nfile={0}/l\n"
    for one, two in (("j", "j"), ("k", "l")):
        text = f"[global]\n{stacks.format(one, two)}{sections.format(tmp_path)}"
        made = stacks_of(text)
        for stack in made:
            stack.destination.open(stack.share)
        for number in range(6):
            made[number % 2].deliver(batch_of(count=2))
        for stack in made:
            stack.close()
    lines = (tmp_path / "j").read_bytes().splitlines()
    apart = [(tmp_path / name).read_bytes().splitlines() for name in "kl"]
    assert [line for pair in range(0, 12, 4) for line in lines[pair : pair + 2]] == apart[0]
    assert [line for pair in range(2, 14, 4) for line in lines[pair : pair + 2]] == apart[1]
    assert b'"my.key": 7' in apart[1][0]
    assert b"my.key" not in apart[0][0]


# -- whose losses -----------------------------------------------------------------------------------------------------


def test_lines_for_which_there_is_no_room(tmp_path: Path) -> None:
    output = JSON("j", JSONOptions(mode="tcp", host="127.0.0.1", port=str(unused_port()), max_pending_bytes=1000))
    destination, (one, two) = shared(output)
    destination.open(one)
    for number in range(40):
        destination.write(two if number % 4 else one, batch_of(count=1))
    check(output.stats)
    assert (one.counted.records, two.counted.records) == (10, 30)
    full, kept = output.stats.dropped["full"], output.stats.pending
    assert full > 4
    assert kept > 4
    # The first ones are kept, in turns of one and three; the last ones are not.
    of_one = sum(not number % 4 for number in range(kept, 40))
    assert (dropped(one), dropped(two)) == ({"full": of_one}, {"full": full - of_one})
    destination.close(one, 0.0)
    assert dropped(one) == {"full": of_one, "stop": 10 - of_one}
    assert dropped(two) == {"full": full - of_one, "stop": 30 - full + of_one}
    check(output.stats)


class Padded(LineOutput[LineOptions]):
    """A third party's lines: a number each, and as much more as the stack's namespace says."""

    name = "PADDED"
    Options = LineOptions
    consumes: ClassVar[tuple[str, ...]] = ANY_KEYS
    accepts = frozenset(("raw", "packet", "flow", "sum"))
    _number = 0

    def bind(self, members: tuple[Member, ...]) -> None:
        self.names = [name for name, _ in members]

    def render(self, batch: Batch) -> Iterator[tuple[bytes, int]]:
        for _ in batch:
            self._number += 1
            line = {"n": self._number, "last": self.names[-1:], "pad": "x" * int(self.netns or 0)}
            yield json.dumps(line).encode() + b"\n", 1


def test_datagrams_that_are_too_long(tmp_path: Path) -> None:
    """The peer's thread finds out: what was sent before them still waits for a refusal, and is another stack's."""
    receiver = Receiver("udp", tmp_path)
    try:
        host, port = receiver.address
        destination, (one, two) = shared(Padded("p", LineOptions(mode="udp", host=host, port=str(port), file="-")))
        stats = destination.output.stats
        two.input.netns = "70000"
        destination.open(one)
        for number in range(12):
            destination.write(two if number % 3 == 1 else one, batch_of(count=1))
        wait_for(lambda: stats.dropped["too_long"] == 4, "four lines that are too long")
        assert (dropped(one), dropped(two)) == ({}, {"too_long": 4})
        wait_for(lambda: stats.written == 8, "the others")
        destination.close(one, 5.0)
    finally:
        receiver.stop()
    assert receiver.seen() == [1, 3, 4, 6, 7, 9, 10, 12]
    check(stats)


class Slow(Memory):
    """A third party's output with a queue and a thread of its own; what it counts it counts as OutputStats says."""

    name = "SLOW"

    def __init__(self) -> None:
        super().__init__("slow")
        self.queue = 0
        self.lock = threading.Lock()

    def write(self, batch: Batch) -> None:
        with self._stats.lock:
            self._stats.records += len(batch)
            room = max(0, 20 - self.queue)
            kept = min(len(batch), room)
            self.queue += kept
            self._stats.pending += kept
            self._stats.drop("full", len(batch) - kept)

    def work(self, written: int, lost: int) -> None:
        with self._stats.lock:
            self.queue -= written + lost
            self._stats.pending -= written
            self._stats.written += written
            self._stats.pending -= lost
            self._stats.drop("stop", lost)


def in_thread(does: Callable[[], None]) -> None:
    thread = threading.Thread(target=does)
    thread.start()
    thread.join()


def test_an_output_with_a_thread_of_its_own() -> None:
    output = Slow()
    destination, (one, two) = shared(output)
    destination.open(one)
    for share, count in ((one, 3), (two, 4), (one, 5)):
        destination.write(share, batch_of(count=count))
    in_thread(lambda: output.work(2, 3))  # one 1, two 2 are lost
    assert (dropped(one), dropped(two)) == ({"stop": 1}, {"stop": 2})
    destination.write(two, batch_of(count=16))  # two 2 and one 5 wait, so there is room for 13
    assert dropped(two) == {"stop": 2, "full": 3}
    in_thread(lambda: output.work(0, 3))
    assert (dropped(one), dropped(two)) == ({"stop": 2}, {"stop": 4, "full": 3})
    in_thread(lambda: output.work(4, 13))
    assert (dropped(one), dropped(two)) == ({"stop": 2}, {"stop": 17, "full": 3})
    check(output.stats)
    assert one.counted.records + two.counted.records == output.stats.records


def test_a_recorded_source_waits_for_its_own_records_only() -> None:
    """Where another stack writes without a pause, some record is always pending."""
    output = Slow()
    destination, (one, two) = shared(output)
    for share, count in ((two, 4), (one, 3), (two, 5)):
        destination.write(share, batch_of(count=count))
    assert destination.holds(one)
    output.work(5, 1)
    assert destination.holds(one)
    output.work(1, 0)
    assert not destination.holds(one)
    assert destination.holds(two)
    destination.write(two, batch_of(count=6))
    assert not destination.holds(one)
    alone, (single,) = shared(Slow(), 1)
    alone.write(single, batch_of(count=1))
    assert alone.holds(single)


def test_what_is_lost_while_a_batch_is_being_given() -> None:
    """Another thread drops older records, and some of the new ones, before `write` has returned."""
    output = Slow()
    destination, (one, two) = shared(output)
    destination.write(one, batch_of(count=3))
    write = output.write

    def interrupted(batch: Batch) -> None:
        write(batch)
        in_thread(lambda: output.work(1, 4))

    output.write = interrupted  # type: ignore[method-assign]
    destination.write(two, batch_of(count=5))
    assert (dropped(one), dropped(two)) == ({"stop": 2}, {"stop": 2})
    in_thread(lambda: output.work(0, 3))
    assert (dropped(one), dropped(two)) == ({"stop": 2}, {"stop": 5})
    check(output.stats)


def test_series_and_points_are_counted_for_their_stack() -> None:
    prometheus = PROMETHEUS("p", PROMETHEUSOptions(port=0, max_series=4))
    destination, (one, two) = shared(prometheus)
    two.input.__class__.deltas = property(lambda self: self is two.input)  # type: ignore[assignment,method-assign]
    try:
        destination.write(one, sums({"a": (1, 10), "b": (2, 20)}))
        for _ in range(2):
            destination.write(two, sums({"b": (3, 30), "c": (4, 40)}))
        assert (dropped(one), dropped(two)) == ({}, {"series": 2})
        # The totals of one are the last ones, the counts of two are added up.
        assert [(each.first, each.second) for each in prometheus._objects.values()] == [(1, 10), (8, 80)]
        check(prometheus.stats)
        graphite = GRAPHITE("g", GRAPHITEOptions(port=str(unused_port()), max_pending_bytes=40))
        destination, (one, two) = shared(graphite)
        two.input.__class__.deltas = property(lambda self: self is two.input)  # type: ignore[assignment,method-assign]
        destination.open(one)
        for _ in range(2):
            destination.write(two, sums({"c": (4, 40)}))  # the second is kept for the next
        destination.write(one, sums({"a": (1, 10), "b": (2, 20)}))  # there is no room
        assert (dropped(one), dropped(two)) == ({"full": 2}, {"merged": 1})
        assert graphite._carried == {"c": (4, 40)}  # no counts are lost with what another stack could not send
        destination.close(one, 0.0)
    finally:
        del Feed.deltas
    check(graphite.stats)


# -- rows -------------------------------------------------------------------------------------------------------------


class Shelf:
    """Where rows go; it is away, or refuses rows with an odd number, while the test says so."""

    def __init__(self) -> None:
        self.away = threading.Event()
        self.refuses = False
        self.rows: list[dict[str, Any]] = []


class ShelfSink(Sink):
    """Asks for all that stacks bring, by name."""

    shown = "a shelf"
    into = "shelf"

    def __init__(self, shelf: Shelf, members: Sequence[Member]) -> None:
        self.shelf = shelf
        self.layout = tuple(name for name, _ in members)

    def connect(self) -> None:
        if self.shelf.away.is_set():
            raise Unavailable("it is away")

    def prepare(self) -> None:
        self.connect()

    def fit(self, rows: Rows) -> Rows:
        return rows

    def write(self, rows: Rows, writer: str, before: int | None) -> None:
        self.connect()
        values = list(self.describe(rows))
        if self.shelf.refuses and any(row["oob.seq.local"] % 2 for row in values):
            raise Refused("odd", "odd")
        self.shelf.rows += values

    def describe(self, rows: Rows) -> list[dict[str, Any]]:
        return [dict(zip(rows.layout, json.loads(line), strict=True)) for line in rows.data.splitlines()]

    def abort(self) -> None:
        """There is nothing to break."""

    def close(self) -> None:
        """There is nothing to close."""


class Shelved(SpooledOutput[SpoolOptions]):
    """A third party's output with a spool, which knows nothing of other stacks."""

    name = "SHELVED"
    Options = SpoolOptions
    accepts = frozenset(("raw", "packet", "flow", "sum"))
    consumes: ClassVar[tuple[str, ...]] = ("oob.seq.local", "[my.key]", "[oob.prefix]")
    shelf: ClassVar[Shelf]

    def sink(self) -> Sink:
        return ShelfSink(self.shelf, self.members)

    def render(self, batch: Batch, layout: Layout) -> Iterator[tuple[bytes, int]]:
        yield "".join(json.dumps(row) + "\n" for row in batch.rows(*layout)).encode(), len(batch)


@pytest.fixture
def shelf(third_party: dict[str, Any]) -> Shelf:
    Shelved.shelf = Shelf()
    third_party["SHELVED"] = Shelved
    return Shelved.shelf


class Shelves:
    """Two stacks that end in one SHELVED; the second brings a column more."""

    def __init__(self, tmp_path: Path, *options: str) -> None:
        stacks = ("a:NFLOG,s:SHELVED", "c:NFLOG,x:ADDER,s:SHELVED")
        section = "\n".join((f"spool_directory={tmp_path}/spool", "reconnect=1", "timeout=5", *options))
        groups = {name: f"group={number}\nseq_local=1" for number, name in enumerate("ac", 1)}
        self.one, self.two = stacks_of(config(*stacks, **groups, s=section))
        self.destination = self.one.destination
        self.stats = self.destination.output.stats
        for stack in (self.one, self.two):
            self.destination.open(stack.share)

    def give(self, *counts: int) -> None:
        """Have the stacks give so many records in turns, the first one first."""
        for turn, count in enumerate(counts):
            (self.two if turn % 2 else self.one).deliver(batch_of(count=count))

    def close(self) -> tuple[dict[str, int], dict[str, int]]:
        """Close the output and return what was dropped of each stack."""
        for stack in (self.one, self.two):
            self.destination.close(stack.share, 0.2)
        stats = self.stats
        assert stats.records == stats.written + stats.pending + sum(stats.dropped.values())
        given = [stack.share.counted.records for stack in (self.one, self.two)]
        assert sum(given) == self.stats.records
        assert (self.one.dropped, self.two.dropped) == (0, 0)
        lost = (dropped(self.one.share), dropped(self.two.share))
        assert sum(sum(each.values()) for each in lost) == sum(self.stats.dropped.values())
        return lost


def test_rows_of_several_stacks_are_one_queue(tmp_path: Path, shelf: Shelf) -> None:
    shelves = Shelves(tmp_path)
    shelves.give(2, 3, 1)
    wait_for(lambda: len(shelf.rows) == 6, "six rows")
    assert [row["my.key"] for row in shelf.rows] == [None, None, 7, 7, 7, None]
    assert [row["oob.seq.local"] for row in shelf.rows] == [0, 1, 0, 1, 2, 0]
    shelf.refuses = True
    shelves.give(5, 3)
    wait_for(lambda: not shelves.stats.pending, "the refused ones")
    assert shelves.close() == ({"refused": 2}, {"refused": 1})


@pytest.mark.parametrize(
    ("options", "counts", "lost"),
    [
        (("when_full=drop_newest",), (4, 4, 5, 6), ({"ring_full": 3, "stop": 6}, {"ring_full": 6, "stop": 4})),
        (("when_full=drop_oldest",), (4, 4, 5, 1), ({"ring_full": 4, "stop": 5}, {"stop": 5})),
        (("when_full=drop_oldest",), (4, 40), ({"ring_full": 4}, {"ring_full": 30, "stop": 10})),
        (("when_full=spool", "spool_max_bytes=1"), (8, 8, 1), ({"spool_full": 9}, {"spool_full": 8})),
        (("when_full=spool",), (8, 8, 9), ({}, {})),
    ],
)
def test_rows_for_which_there_is_no_room(
    tmp_path: Path, shelf: Shelf, options: Sequence[str], counts: Sequence[int], lost: object
) -> None:
    shelf.away.set()
    shelves = Shelves(tmp_path, "ring_buffer_size=10", *options)
    shelves.give(*counts)
    assert shelves.close() == lost


def test_rows_that_cannot_be_read_back(tmp_path: Path, shelf: Shelf) -> None:
    shelf.away.set()
    shelves = Shelves(tmp_path, "ring_buffer_size=1")
    shelves.give(1, 5, 3, 2)
    (segment,) = (tmp_path / "spool" / "s").glob("*.rows")
    data = bytearray(segment.read_bytes())
    place = data.find(b"7")  # the first row of the second stack
    data[place] ^= 1
    segment.write_bytes(data)
    shelf.away.clear()
    wait_for(lambda: not shelves.stats.pending, "the others", lambda: str(shelves.stats))
    assert len(shelf.rows) == 6
    assert shelves.close() == ({}, {"spool_error": 5})


def test_rows_of_an_earlier_run_are_no_stacks(tmp_path: Path, shelf: Shelf) -> None:
    shelf.away.set()
    first = Shelves(tmp_path)
    first.give(2, 2)
    assert first.close() == ({}, {})
    shelf.away.clear()
    shelf.refuses = True
    second = Shelves(tmp_path)
    second.give(2, 4)
    wait_for(lambda: not second.stats.pending, "all", lambda: str(second.stats))
    assert second.stats.dropped["refused"] == 2 + 3
    assert (dropped(second.one.share), dropped(second.two.share)) == ({"refused": 1}, {"refused": 2})
    assert [row["my.key"] for row in shelf.rows] == [None, 7, None, 7, 7]
    for stack in (second.one, second.two):
        second.destination.close(stack.share, 0.2)


# -- refused ----------------------------------------------------------------------------------------------------------


def test_stacks_whose_columns_disagree_are_refused_by_name(third_party: dict[str, Any], shelf: Shelf) -> None:
    class Words(Adder):
        name = "WORDS"
        adds = (added_key("my.key", "string", "A word."),)

    third_party["WORDS"] = Words
    text = (
        "[global]\nstack=a:NFLOG,b:BASE,x:ADDER,s:{0}\nstack=a:NFLOG,b:BASE,y:WORDS,s:{0}\nstack=a:NFLOG,b:BASE,s:{0}\n"
        "[a]\nseq_local=1\n[s]\n{1}\n"
    )
    for plugin, options in (("SHELVED", ""), ("SQLITE3", "db=/x"), ("PGSQL", "table=t"), ("MYSQL", "table=t\ndb=x")):
        with pytest.raises(ConfigErrors) as info:
            build(parse_text(text.format(plugin, options), "u.conf"))
        (message,) = str(info.value).split("\n")
        assert message == (
            f"u.conf:3: stack=a:NFLOG,b:BASE,y:WORDS,s:{plugin}: s:{plugin} gets my.key as string here, "
            "but as uint8 from another stack; end this stack in a section of its own"
        )
    stacks_of(text.format("JSON", ""))  # a line may have what it likes
    wider = added_key("my.key", "uint64", "A number.")
    Words.adds = (wider,)
    stacks = stacks_of(text.format("SHELVED", ""))
    assert dict(stacks[0].output.members)["my.key"] == wider  # type: ignore[attr-defined]  # what a column must hold


# -- on the kernel ----------------------------------------------------------------------------------------------------

_RULES = (
    "table inet t {\ncounter c {}\nchain i {\ntype filter hook input priority 0\n"
    'udp dport 9 counter name c log prefix "one: " group 1 log prefix "two: " group 2\n}\n}\n'
)


@pytest.fixture
def logging(pair: Pair) -> Pair:
    """Packets from `peer` to port 9 of `fw` are logged to the groups 1 and 2, each with a prefix of its own."""
    pair.fw.nft(_RULES)
    return pair


def _config(plugin: str, section: str, pair: Pair, *more: str, **sections: str) -> str:
    source = f"seq_local=1\nnetwork_namespace_path={pair.fw.path}"
    stacks = (f"a:NFLOG,{FILTERS},o:{plugin}", f"c:NFLOG,b:BASE,o:{plugin}", *more)
    return config(*stacks, a=f"group=1\n{source}", c=f"group=2\n{source}", o=section, **sections)


class Table:
    """A table of a database that is away for a while when a test wants that."""

    def __init__(
        self, plugin: str, section: str, rows: Callable[[str], list[tuple[Any, ...]]], admit: Any, refuse: Any
    ):
        self.plugin, self.section, self.rows, self.admit, self.refuse = plugin, section, rows, admit, refuse

    def count(self) -> int:
        try:
            return int(self.rows("select count(*) from log")[0][0])
        except (sqlite3.OperationalError, psycopg.OperationalError, pymysql.OperationalError, ConnectionRefusedError):
            return -1


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Table:
    columns = "(oob_seq_local bigint not null, oob_prefix varchar(40), udp_dport integer, oob_in varchar(20))"
    spool = f"spool_directory={tmp_path}/spool\nreconnect=1\ntable=log"
    if request.param == "sqlite":
        path = tmp_path / "log.db"
        execute(path, f"create table log {columns}; pragma journal_mode=wal")
        locks: list[Locker] = []
        return Table(
            "SQLITE3",
            f"db={path}\ntimeout=1\n{spool}",
            lambda query: rows_of(path, query),
            lambda: locks.pop().release(),
            lambda: locks.append(Locker(path)),
        )
    postgres = request.param == "postgresql"
    server = request.getfixturevalue("postgres" if postgres else "mariadb")
    database: PostgresDatabase | MariaDBDatabase
    database = request.getfixturevalue("postgres_db" if postgres else "mariadb_db")
    database.execute(f"create table log {columns}")
    access = (f"db={database.name}", f"host={database.host}", f"port={database.port}", f"user={database.user}")
    section = "\n".join((*access, f'pass="{database.password}"', spool))
    return Table("PGSQL" if postgres else "MYSQL", section, database.rows, server.start, server.stop)


def test_two_groups_in_one_table(table: Table, logging: Pair, tmp_path: Path) -> None:
    """Through a reload, an outage, and a restart during it with rows in the spool."""
    text = _config(table.plugin, table.section, logging)
    with Daemon(tmp_path, text) as daemon:
        assert "process" not in daemon.stderr  # … uses it: the first stack was in the way of the second
        logging.send_udp(23)
        wait_for(lambda: table.count() == 46, "46 rows", lambda: daemon.stderr)
        daemon.reload()
        logging.send_udp(29)
        wait_for(lambda: table.count() == 104, "104 rows", lambda: daemon.stderr)
        table.refuse()
        logging.send_udp(31)
        daemon.send(signal.SIGUSR1)
        daemon.says("of 2 stacks: records ")
    (spool,) = (tmp_path / "spool").iterdir()
    assert list(spool.glob("*.rows"))
    with Daemon(tmp_path, text) as daemon:
        logging.send_udp(37)
        daemon.says("rows waiting")
        table.admit()
        wait_for(lambda: table.count() == 240, "240 rows", lambda: daemon.stderr)
        daemon.send(signal.SIGUSR1)
        daemon.says("records 37, dropped 0")
    whole = [*range(23 + 29 + 31), *range(37)]
    for prefix, interface in (("one: ", "va"), ("two: ", None)):
        rows = table.rows(f"select oob_seq_local, udp_dport, oob_in from log where oob_prefix = '{prefix}'")
        assert sorted(number for number, _, _ in rows) == sorted(whole)
        # Each row has what its own stack brings: the second has no IFINDEX.
        assert {(port, name) for _, port, name in rows} == {(9, interface)}
    assert "dropped 0" in daemon.stderr


def test_two_groups_in_one_file(logging: Pair, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    text = _config("JSON", f"file={out}", logging)
    with Daemon(tmp_path, text, netns=logging.fw) as daemon:
        logging.send_udp(23)
        wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") == 46, "46 lines", lambda: daemon.stderr)
        daemon.says("2 of 2 stacks run")
        held = [path for path in Path(f"/proc/{daemon.pid}/fd").iterdir() if path.exists() and path.samefile(out)]
        assert len(held) == 1
        out.rename(tmp_path / "old.json")
        daemon.reload()
        logging.send_udp(29)
        wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") == 58, "58 lines", lambda: daemon.stderr)
    lines = [*lines_of(tmp_path / "old.json"), *lines_of(out)]
    for prefix, interface in (("one: ", "va"), ("two: ", None)):
        own = [line for line in lines if line["oob.prefix"] == prefix]
        assert [line["oob.seq.local"] for line in own] == list(range(52))
        assert {line.get("oob.in") for line in own} == {interface}
    # ulogd2's order: each packet goes to the newest stack first only where stacks share a source.
    assert "of 2 stacks: records 104, written 104, pending 0" in daemon.stderr


def test_two_groups_to_one_peer(logging: Pair, tmp_path: Path) -> None:
    receiver = Receiver("unix", tmp_path)
    tcp = Receiver("tcp", tmp_path)
    try:
        host, port = tcp.address
        stacks = ("a:NFLOG,b:BASE,t:JSON", "c:NFLOG,b:BASE,t:JSON")
        peer = f"mode=tcp\nhost={host}\nport={port}"
        text = _config("JSON", f"mode=unix\nfile={receiver.address}", logging, *stacks, t=peer)
        with Daemon(tmp_path, text) as daemon:
            for sent in (23, 29):
                logging.send_udp(sent)
                daemon.reload()
            for each in (receiver, tcp):
                wait_for(lambda each=each: each.data.count(b"\n") >= 104, "104 lines", lambda: daemon.stderr)  # type: ignore[misc]
    finally:
        receiver.stop()
        tcp.stop()
    for each in (receiver, tcp):
        # One connection at a time, a second one after each SIGHUP: not one for each stack.
        assert 1 <= len(each.connections) <= 3
        lines = [json.loads(line) for data in each.connections for line in bytes(data).splitlines()]
        for prefix in ("one: ", "two: "):
            assert [line["oob.seq.local"] for line in lines if line["oob.prefix"] == prefix] == list(range(52))


def test_two_stacks_at_one_endpoint(logging: Pair, tmp_path: Path) -> None:
    logging.fw.nft("table inet acct {\ncounter mine { packets 5 bytes 500 }\n}\n")
    port = unused_port()
    counters = f"pollinterval=1\nnetwork_namespace_path={logging.fw.path}"
    own = tmp_path / "own.json"
    more = ("n:NFTCOUNTER,o:PROMETHEUS", f"a:NFLOG,{FILTERS},j:JSON", f"c:NFLOG,{FILTERS},j:JSON")
    text = _config("PROMETHEUS", f"port={port}", logging, *more, n=counters, j=f"file={own}")
    with Daemon(tmp_path, text) as daemon:
        daemon.says("5 of 5 stacks run")
        logging.send_udp(23)
        wait_for(lambda: own.exists() and own.read_bytes().count(b"\n") == 46, "46 lines", lambda: daemon.stderr)

        def scraped() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
                return str(response.read().decode())

        series = 'nflowlevel_accounting_packets_total{name="inet.acct.mine"} '
        wait_for(lambda: series in scraped(), "a poll", scraped)
        metrics = scraped()
        for group, prefix in (("a", "one"), ("c", "two")):
            labels = f'output="j",plugin="JSON",stack="{group}:NFLOG,{FILTERS},j:JSON"'
            assert f"nflowlevel_output_records_total{{{labels}}} 23.0" in metrics, prefix
            lost = labels.replace(",stack", ',reason="full",stack')
            assert f"nflowlevel_output_dropped_records_total{{{lost}}} 0.0" in metrics
        whole = 'output="j",plugin="JSON",stack=""'
        assert f"nflowlevel_output_records_total{{{whole}}} 0.0" in metrics
        assert f"nflowlevel_output_written_records_total{{{whole}}} 46.0" in metrics
        assert 'nflowlevel_output_dropped_records_total{output="j",plugin="JSON",reason="full",stack=""} 0.0' in metrics
        daemon.reload()
        assert "Address already in use" not in daemon.stderr
        assert scraped()
