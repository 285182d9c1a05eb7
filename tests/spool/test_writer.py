# SPDX-License-Identifier: GPL-2.0-or-later
"""The writer's thread against sinks that do what a test tells them to: every fault at every call.

The sinks are a table of a scripted database, a journal that is none, and a journal without a ledger. Real servers are
met in test_outages.py here and in tests/sql; here the order of calls is what matters.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.spool.deadletter import DeadLetters
from nflowlevel.spool.feed import Feed, SpoolStats
from nflowlevel.spool.ring import Ring
from nflowlevel.spool.sink import Unavailable
from nflowlevel.spool.spool import Spool
from nflowlevel.spool.writer import Writer
from tests.fix_database import Server
from tests.fix_lines import wait_for
from tests.fix_sink import WIDE, BarePlace, LinePlace, Store

AnyPlace = Server | LinePlace

#: What a writer can have before it: sinks with a ledger, and one without.
WITH_LEDGER = ("table", "journal")
SINKS = (*WITH_LEDGER, "bare")

with_ledger = pytest.mark.parametrize("server", WITH_LEDGER, indirect=True)


class Bench:
    """Feed, writer and place together."""

    def __init__(self, directory: Path, server: AnyPlace, *, size: int = 1000, **options: Any) -> None:
        self.directory, self.server = directory, server
        self.stats = SpoolStats()
        self.spool = Spool(directory / "spool", 1 << 30)
        self.feed = Feed(Ring(size, 0), self.spool, "spool", self.stats)
        self.feed.open()
        self.first = self.spool.number(0)
        self.letters = directory / "refused.jsonl"
        sink = server.sink()
        self.writer = Writer(
            sink,
            self.feed,
            server.options(**options),
            runs=self.spool.runs,
            dead_letters=DeadLetters(self.letters, self.spool.runs.own.name, sink.describe),
            stats=self.stats,
        )

    def put(self, *marks: int) -> None:
        self.feed.put(self.server.layout, len(marks), self.server.text(*marks))

    def close(self, timeout: float = 5.0) -> None:
        self.writer.close(timeout)
        self.feed.close()
        values = self.stats.as_dict()
        dropped = values["dropped"]
        assert isinstance(dropped, dict)
        assert values["records"] == values["written"] + values["pending"] + sum(dropped.values())  # type: ignore[operator]

    def is_done(self) -> bool:
        return not self.stats.pending

    def is_done_or_failed(self) -> bool:
        return bool(self.stats.errors) or self.is_done()

    def buried(self) -> list[int]:
        lines = self.letters.read_text().splitlines() if self.letters.exists() else []
        return [self.server.mark_of(json.loads(line)["values"]) for line in lines]


@pytest.fixture(params=SINKS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> AnyPlace:
    if request.param == "table":
        return Server()
    store = Store(tmp_path / "journal.jsonl")
    return LinePlace(store) if request.param == "journal" else BarePlace(store)


@pytest.fixture
def bench(tmp_path: Path, server: AnyPlace) -> Iterator[Bench]:
    made = Bench(tmp_path, server)
    yield made
    made.writer.close(0.0)


def times(count: int, call: str, error: Exception) -> Callable[[str], None]:
    """Return what makes the first `count` of these calls fail."""
    left = [count]

    def before(name: str) -> None:
        if name == call and left[0]:
            left[0] -= 1
            raise error

    return before


def test_rows_arrive_in_order(bench: Bench, server: AnyPlace) -> None:
    bench.writer.open()
    for start in range(0, 900, 30):
        bench.put(*range(start, start + 30))
    bench.close()
    assert server.rows == list(range(900))
    assert bench.stats.written == 900
    assert server.calls[: len(server.opening) + 1] == [*server.opening, "write"]
    assert server.calls.count("tend") == 1, "the next one is for tomorrow"


def test_what_waits_when_it_stops_is_stored_first(bench: Bench, server: AnyPlace) -> None:
    gate = threading.Event()
    server.before = lambda name: (gate.wait(20), None)[1] if name == "write" else None
    bench.writer.open()
    bench.put(1)
    wait_for(lambda: "write" in server.calls)
    bench.put(*range(2, 500))
    threading.Timer(0.1, gate.set).start()
    bench.close()
    assert server.rows == list(range(1, 500))


@pytest.mark.parametrize(
    ("server", "call"),
    [
        (sink, call)
        for sink, opening in zip(SINKS, (Server.opening, LinePlace.opening, BarePlace.opening), strict=True)
        for call in (*opening, "write")
    ],
    indirect=["server"],
)
def test_a_call_that_fails_is_made_again(bench: Bench, server: AnyPlace, call: str) -> None:
    server.before = times(3, call, Unavailable(f"{call}: server closed the connection"))
    bench.writer.open()
    bench.put(1, 2, 3)
    wait_for(lambda: bench.stats.written == 3)
    assert server.rows == [1, 2, 3]
    assert (bench.stats.errors, bench.stats.retries) == (3, 3)
    assert server.calls.count("close") >= 3
    bench.close()


def test_a_fault_of_the_dialect_silences_nothing(bench: Bench, server: AnyPlace) -> None:
    server.before = times(2, "write", ZeroDivisionError("oops"))
    bench.writer.open()
    bench.put(1)
    wait_for(lambda: bench.stats.written == 1)
    bench.close()
    assert server.rows == [1]


@with_ledger
def test_a_commit_whose_answer_was_lost_is_not_repeated(bench: Bench, server: AnyPlace) -> None:
    lost = [Unavailable("connection lost inside COMMIT")]

    def after_commit() -> None:
        if lost:
            raise lost.pop()

    server.after_commit = after_commit
    bench.writer.open()
    bench.put(1, 2, 3)
    bench.put(4)
    wait_for(lambda: bench.stats.written == 4)
    bench.close()
    assert server.rows == [1, 2, 3, 4]


def test_without_a_ledger_it_is_repeated(bench: Bench, server: AnyPlace) -> None:
    server.has_ledger = False
    server.after_commit = iter_of(Unavailable("connection lost inside COMMIT"))
    bench.writer.open()
    bench.put(1)
    wait_for(lambda: bench.stats.written == 1)
    bench.close()
    assert server.rows == [1, 1]


def iter_of(error: Exception) -> Callable[[], None]:
    errors = [error]

    def call() -> None:
        if errors:
            raise errors.pop()

    return call


@with_ledger
def test_an_earlier_transaction_that_arrives_late_is_seen(bench: Bench, server: AnyPlace) -> None:
    def before(name: str) -> None:
        if name == "write" and server.calls.count("write") == 1:
            raise Unavailable("connection lost")
        # After the ledger was read, before the next transaction begins, the old one commits.
        if name == "write" and server.calls.count("write") == 2:
            server.arrive(bench.spool.runs.own.name, bench.first + 1, 1, 2)

    server.before = before
    bench.writer.open()
    bench.put(1, 2)
    wait_for(lambda: bench.stats.written == 2)
    bench.put(3)
    wait_for(lambda: bench.stats.written == 3)
    bench.close()
    assert server.rows == [1, 2, 3]


@pytest.mark.parametrize(
    "bad", [set(), {0}, {96}, {0, 96}, {5, 6, 7}, {48}, set(range(97))], ids=lambda bad: f"{len(bad)} of 97"
)
def test_refused_rows_are_isolated(bench: Bench, server: AnyPlace, bad: set[int]) -> None:
    server.refuses = bad.__contains__
    bench.put(*range(97))
    bench.writer.open()
    wait_for(bench.is_done)
    assert server.rows == [mark for mark in range(97) if mark not in bad]
    assert bench.buried() == sorted(bad)
    assert bench.stats.dropped["refused"] == len(bad)
    bench.put(1000)
    wait_for(bench.is_done)
    assert server.rows[-1] == 1000
    bench.close()


def test_refused_without_a_ledger(bench: Bench, server: AnyPlace) -> None:
    server.has_ledger = False
    server.refuses = {3}.__contains__
    bench.put(1, 2, 3, 4)
    bench.writer.open()
    wait_for(bench.is_done)
    assert (server.rows, bench.buried()) == ([1, 2, 4], [3])
    bench.close()


@with_ledger
def test_a_row_is_buried_once_though_the_ledger_did_not_hear_of_it(bench: Bench, server: AnyPlace) -> None:
    server.refuses = {2}.__contains__
    server.before = times(2, "skip", Unavailable("connection lost"))
    bench.put(1, 2, 3)
    bench.writer.open()
    wait_for(bench.is_done)
    assert (server.rows, bench.buried()) == ([1, 3], [2])
    bench.close()


def test_no_place_for_refused_rows_loses_none(bench: Bench, server: AnyPlace) -> None:
    bench.letters.mkdir()
    server.refuses = {2}.__contains__
    bench.put(1, 2, 3)
    bench.writer.open()
    wait_for(lambda: bench.stats.errors >= 2)
    assert server.rows == [1]
    assert bench.stats.pending == 2
    assert "Is a directory" in bench.writer.state
    bench.letters.rmdir()
    wait_for(bench.is_done)
    assert (server.rows, bench.buried()) == ([1, 3], [2])
    bench.close()


def test_a_restart_goes_on_where_the_ledger_is(tmp_path: Path, server: AnyPlace) -> None:
    server.before = times(10**9, "write", Unavailable("down"))
    first = Bench(tmp_path, server)
    first.writer.open()
    first.put(*range(50))
    wait_for(lambda: first.stats.errors > 0)
    first.close(0.2)
    assert first.stats.pending == 50
    server.before = lambda name: None
    second = Bench(tmp_path, server)
    second.put(50, 51)
    second.writer.open()
    wait_for(second.is_done)
    second.close()
    assert server.rows == list(range(52))


def stopped_in_doubt(directory: Path, server: AnyPlace) -> None:
    """Run a writer whose commit is not answered, and which cannot ask before it stops: 50 rows stay in the spool."""
    server.after_commit = iter_of(Unavailable("connection lost inside COMMIT"))
    first = Bench(directory, server, reconnect=0)
    first.writer.open()
    first.put(*range(50))
    wait_for(lambda: first.stats.errors > 0)
    server.before = times(10**9, "connect", Unavailable("down"))
    first.close(0.2)
    assert first.stats.pending == 50
    server.before = lambda name: None


@with_ledger
def test_a_commit_in_doubt_at_the_stop_is_settled_by_the_next_start(tmp_path: Path, server: AnyPlace) -> None:
    stopped_in_doubt(tmp_path, server)
    second = Bench(tmp_path, server)
    second.writer.open()
    wait_for(second.is_done)
    second.close()
    assert server.rows == list(range(50))


@with_ledger
def test_a_ledger_that_is_ahead_swallows_nothing(bench: Bench, server: AnyPlace) -> None:
    server.arrive(bench.spool.runs.own.name, bench.first + 10**6)
    bench.put(1, 2)
    bench.writer.open()
    wait_for(bench.is_done)
    assert server.rows == [1, 2]
    bench.close()


def test_reconnect_0_waits_for_an_order(tmp_path: Path, server: AnyPlace) -> None:
    server.before = times(1, "connect", Unavailable("refused"))
    bench = Bench(tmp_path, server, reconnect=0)
    bench.put(1)
    bench.writer.open()
    wait_for(lambda: "refused" in bench.writer.state)
    assert server.calls.count("connect") == 1
    bench.writer.reopen()
    wait_for(lambda: bench.stats.written == 1)
    bench.close()


def test_a_hung_call_is_broken_off(bench: Bench, server: AnyPlace) -> None:
    def hangs(name: str) -> None:
        if name == "write" and not server.aborted.is_set():
            assert server.aborted.wait(20)
            raise Unavailable("the connection was shut down")

    server.before = hangs
    bench.put(*range(100))
    bench.writer.open()
    wait_for(lambda: "write" in server.calls)
    assert bench.writer.hung_at is not None
    bench.writer.break_hung(bench.writer.hung_at - 1)
    assert not server.aborted.is_set(), "not yet"
    bench.writer.break_hung(bench.writer.hung_at)
    wait_for(bench.is_done)
    assert server.rows == list(range(100))
    assert server.largest == 50, "perhaps it was too much at once"
    bench.close()


def test_stop_while_it_hangs_keeps_everything(bench: Bench, server: AnyPlace) -> None:
    def hangs(name: str) -> None:
        if name == "write":
            server.aborted.wait(20)
            raise Unavailable("the connection was shut down")

    server.before = hangs
    bench.put(*range(100))
    bench.writer.open()
    wait_for(lambda: "write" in server.calls)
    bench.close(0.2)
    assert bench.stats.pending == bench.stats.spooled == 100


def test_stop_before_the_first_connection(tmp_path: Path, server: AnyPlace) -> None:
    server.before = times(10**9, "connect", Unavailable("refused"))
    bench = Bench(tmp_path, server)
    bench.put(1, 2)
    bench.writer.open()
    wait_for(lambda: bench.stats.errors > 0)
    bench.close(1.0)
    assert bench.stats.spooled == 2


def test_a_backlog_goes_in_pieces(tmp_path: Path, server: AnyPlace) -> None:
    server.before = times(1, "connect", Unavailable("refused"))
    bench = Bench(tmp_path, server, backlog=3_000)
    for start in range(0, 20_000, 100):
        bench.put(*range(start, start + 100))
    bench.writer.open()
    wait_for(bench.is_done)
    assert server.rows == list(range(20_000))
    assert server.largest <= 3_000
    bench.close()


def test_rows_from_before_the_layout_was_known(tmp_path: Path) -> None:
    place = LinePlace(Store(tmp_path / "journal.jsonl"))
    place.before = times(2, "connect", Unavailable("away"))
    bench = Bench(tmp_path, place)
    assert bench.writer.layout == WIDE
    bench.feed.put(WIDE, 2, b'{"mark": 1, "all": 5}\n{"mark": 2, "all": 6}\n')
    bench.writer.open()
    wait_for(lambda: bench.stats.written == 2)
    assert bench.writer.layout == place.layout
    bench.close()
    assert place.store.rows() == [{"mark": 1}, {"mark": 2}]


# -- copies of the spool ----------------------------------------------------------------------------------------------


def left_waiting(directory: Path, server: AnyPlace, *marks: int) -> None:
    """Have a run end with rows that wait in its spool."""
    server.before = times(10**9, "write", Unavailable("down"))
    bench = Bench(directory, server)
    bench.writer.open()
    bench.put(*marks)
    wait_for(lambda: bench.stats.errors > 0)
    bench.close(0.2)
    assert bench.stats.pending == len(marks)
    server.before = lambda name: None


def copies_of(directory: Path, count: int) -> list[Path]:
    found = [directory / f"copy{number}" for number in range(count)]
    for copy in found:
        shutil.copytree(directory / "spool", copy / "spool")
    return found


def drain(benches: list[Bench]) -> int:
    """Wait until nothing waits, stop, and return how many rows they say to have written."""
    wait_for(lambda: not any(bench.stats.pending for bench in benches))
    for bench in benches:
        bench.close()
    return sum(bench.stats.written for bench in benches)


@with_ledger
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "one after another"])
def test_copies_of_a_spool_store_what_they_inherited_once(tmp_path: Path, server: AnyPlace, at_once: bool) -> None:
    left_waiting(tmp_path, server, *range(300))
    copies = copies_of(tmp_path, 3)
    written = 0
    benches = []
    for number, copy in enumerate(copies):
        bench = Bench(copy, server)
        bench.put(*range(1000 * (number + 1), 1000 * (number + 1) + 300))
        if not at_once:
            bench.writer.open()
            written += drain([bench])
        benches.append(bench)
    if at_once:
        for bench in benches:
            bench.writer.open()
        written = drain(benches)
    assert sorted(server.rows) == [mark + begin for begin in (0, 1000, 2000, 3000) for mark in range(300)]
    assert written == len(server.rows)


@with_ledger
def test_a_copy_is_no_danger_after_the_first_connect(tmp_path: Path, server: AnyPlace) -> None:
    Bench(tmp_path, server).close()
    benches = [Bench(copy, server) for copy in copies_of(tmp_path, 3)]
    for bench in benches:
        bench.writer.open()
    wait_for(lambda: server.calls.count("ledger") >= 3)
    for step in range(30):
        for number, bench in enumerate(benches):
            bench.put(1000 * number + step)
    assert drain(benches) == 90
    assert sorted(server.rows) == [1000 * number + step for number in range(3) for step in range(30)]


@with_ledger
def test_another_process_with_the_same_name_is_noticed(
    tmp_path: Path, server: AnyPlace, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = Bench(tmp_path / "one", server), Bench(tmp_path / "other", server)
    assert one.first == other.first
    other.spool.runs.own.name = one.spool.runs.own.name
    other.writer = Writer(
        server.sink(),
        other.feed,
        server.options(),
        runs=other.spool.runs,
        dead_letters=DeadLetters(other.letters, "", server.sink().describe),
        stats=other.stats,
    )
    for bench in (one, other):
        bench.writer.open()
    wait_for(lambda: server.calls.count("ledger") >= 2)
    for step in range(20):
        one.put(step)
        other.put(1000 + step)
        wait_for(lambda: not one.stats.pending and not other.stats.pending)
    assert drain([one, other]) == 40
    assert sorted(server.rows) == [*range(20), *range(1000, 1020)]
    assert "this one takes another name, and its rows are kept" in caplog.text


@with_ledger
@pytest.mark.parametrize("heir_first", [True, False])
def test_a_copy_of_a_spool_in_use(tmp_path: Path, server: AnyPlace, heir_first: bool) -> None:
    live = Bench(tmp_path, server, size=0)
    live.put(*range(50))
    assert live.stats.spooled == 50
    (copy,) = copies_of(tmp_path, 1)
    live.put(*range(50, 80))
    heir = Bench(copy, server)
    heir.put(1000)
    for bench in (heir, live) if heir_first else (live, heir):
        bench.writer.open()
        wait_for(bench.is_done)
    assert drain([live, heir]) == 81
    assert sorted(server.rows) == [*range(80), 1000]


@with_ledger
def test_a_copy_of_a_spool_in_use_that_lacks_rows(
    tmp_path: Path, server: AnyPlace, caplog: pytest.LogCaptureFixture
) -> None:
    live = Bench(tmp_path, server, size=10)
    live.put(*range(10))
    live.put(*range(10, 50))
    assert live.stats.spooled == 40
    (copy,) = copies_of(tmp_path, 1)
    heir = Bench(copy, server)
    heir.writer.open()
    wait_for(heir.is_done)
    live.writer.open()
    assert drain([live, heir]) == 90
    assert sorted(server.rows) == sorted([*range(50), *range(10, 50)]), "none is lost"
    assert "what is in both copies may come twice" in caplog.text


@with_ledger
def test_rows_behind_a_gap_arrive_once_over_restarts(tmp_path: Path, server: AnyPlace) -> None:
    killed = Bench(tmp_path, server, size=10)
    killed.put(*range(10))
    killed.put(*range(10, 50))
    (copy,) = copies_of(tmp_path, 1)
    server.before = iter_calls("write", [None, Unavailable("down")])
    for _ in range(3):
        bench = Bench(copy, server, backlog=8)
        bench.writer.open()
        wait_for(bench.is_done_or_failed)
        bench.close(0.0)
        server.before = iter_calls("write", [None, Unavailable("down")])
    server.before = lambda name: None
    last = Bench(copy, server)
    last.writer.open()
    wait_for(last.is_done)
    last.close()
    assert server.rows == list(range(10, 50))


def iter_calls(call: str, results: list[Exception | None]) -> Callable[[str], None]:
    """Return what lets the calls of a name do as the list says, and fail like the last one after it."""
    left = list(results)

    def before(name: str) -> None:
        if name == call:
            result = left.pop(0) if len(left) > 1 else left[0]
            if result:
                raise result

    return before


@with_ledger
def test_what_was_in_doubt_at_the_stop_is_counted_once(tmp_path: Path, server: AnyPlace) -> None:
    stopped_in_doubt(tmp_path, server)
    copies = [Bench(copy, server) for copy in copies_of(tmp_path, 3)]
    for bench in copies:
        bench.writer.open()
    assert drain(copies) == 50
    assert server.rows == list(range(50))


@with_ledger
def test_a_spool_and_a_ledger_from_before_there_were_runs(tmp_path: Path, server: AnyPlace) -> None:
    left_waiting(tmp_path, server, *range(20))
    (tmp_path / "spool" / "runs").unlink()
    name = (tmp_path / "spool" / "id").read_text().strip()
    first = min(int(path.name[:16], 16) for path in (tmp_path / "spool").glob("*.rows"))
    server.arrive(name, first + 9, *range(10))
    for more in (100, 101):
        bench = Bench(tmp_path, server)
        bench.put(more)
        bench.writer.open()
        drain([bench])
    assert server.rows == [*range(20), 100, 101]
