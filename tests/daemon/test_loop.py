# SPDX-License-Identifier: GPL-2.0-or-later
"""The receive loop with plugins of the test's own: what is read when, and what a faulty one must not break."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from nflowlevel.daemon import loop as loop_module
from nflowlevel.daemon.loop import Loop
from nflowlevel.daemon.notify import Notifier
from nflowlevel.errors import StackError
from nflowlevel.logs import log
from nflowlevel.records.batch import Batch
from nflowlevel.stacks.stack import Source, Stack
from tests.fix_daemon import PATIENCE
from tests.fix_plugins import Feed, Memory, Through, batch_of, stack_of

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)


class Manager:
    """Remembers what a service manager would be told."""

    watchdog_secs = 0.0

    def __init__(self, then: Callable[[str], None] = lambda name: None) -> None:
        self.told: list[dict[str, Any]] = []
        self._then = then

    def __call__(self, **state: Any) -> None:
        self.told.append(state)
        for name in state:
            self._then(name)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.DEBUG, "nflowlevel")
    return caplog


def end() -> None:
    """Tell the loop to end, as an administrator does."""
    signal.raise_signal(signal.SIGTERM)


def run(
    *stacks: Stack,
    manager: Manager | None = None,
    status_secs: float = 0,
    reopen_log: Callable[[], None] = lambda: None,
) -> Manager:
    """Run stacks in a loop until something ends it."""
    manager = manager or Manager()
    loop = Loop(list(stacks), notifier=manager, status_secs=status_secs, reopen_log=reopen_log)  # type: ignore[arg-type]
    in_vain = threading.Event()

    def give_up() -> None:
        in_vain.set()
        os.kill(os.getpid(), signal.SIGTERM)

    guard = threading.Timer(PATIENCE, give_up)
    guard.start()
    try:
        loop.install_signals()
        loop.start()
        loop.run()
    finally:
        guard.cancel()
        guard.join()
        loop.close()
    assert not in_vain.is_set(), "what should have ended the loop did not happen"
    return manager


def ends_after(memory: Memory, count: int) -> Memory:
    """Make an output end the loop when it has so many records."""
    memory.then = lambda: end() if len(memory.got) >= count else None
    return memory


def test_all_is_delivered_also_what_comes_at_the_end() -> None:
    feed, memory = Feed(), Memory()
    stack = stack_of(Source(feed), ends_after(memory, 5))
    feed.supply(batch_of(count=2), batch_of(count=3))
    feed.late = [batch_of(count=7)]
    manager = run(stack)
    assert memory.got == [0, 1, 0, 1, 2, 0, 1, 2, 3, 4, 5, 6]
    assert manager.told[0]["READY"] == 1
    assert manager.told[-1]["STOPPING"] == 1
    assert feed.calls[-2:] == ["drain", "close"]
    assert memory.calls[-1] == "close"


def test_what_an_input_holds_is_read_though_its_descriptor_is_silent() -> None:
    """Packets that came while a group was bound, and those behind a batch that was full."""
    feed, memory = Feed(), Memory()
    stack = stack_of(Source(feed), ends_after(memory, 20))
    feed.held.extend(batch_of(count=1) for _ in range(20))  # more than are taken in one turn
    run(stack)
    assert len(memory.got) == 20


def test_a_pause_is_kept_although_the_descriptor_is_readable() -> None:
    feed, memory = Feed(), Memory()
    feed.waits = 0.02
    times: list[float] = []

    def delivered() -> None:
        times.append(time.monotonic())
        if len(times) == 4:
            end()

    memory.then = delivered
    stack = stack_of(Source(feed), memory)
    feed.supply(*(batch_of(count=1) for _ in range(9)))
    run(stack)
    assert min(after - before for before, after in pairwise(times[:4])) >= 0.02
    assert len(memory.got) == 9


def test_a_faulty_input_is_reported_and_asked_again(
    logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "_FAULT_PAUSE_SECS", 0.001)
    feed, memory = Feed(), Memory()
    stack = stack_of(Source(feed), ends_after(memory, 3))
    feed.supply(ValueError("bad input"), batch_of(count=3))
    run(stack)
    assert memory.got == [0, 1, 2]
    assert "feed:FEED: ValueError: bad input" in logged.text


def test_a_faulty_input_does_not_take_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it has a deadline that never passes."""
    monkeypatch.setattr(loop_module, "_FAULT_PAUSE_SECS", 0.02)
    feed, other = Feed("faulty"), Feed("other")
    faulty = stack_of(Source(feed), Memory())
    good = stack_of(Source(other), ends_after(Memory(), 1))
    monkeypatch.setattr(Feed, "deadline", property(lambda self: 0.0 if self is feed else None))
    began = time.monotonic()
    feed.supply(*(ValueError("always") for _ in range(1000)))

    def given(fault: Exception) -> Batch:
        if feed.calls.count("receive") == 3:
            other.supply(batch_of(count=1))
        raise fault

    monkeypatch.setattr(feed, "_given", given)
    run(faulty, good)
    assert feed.calls.count("receive") == 3
    assert time.monotonic() - began >= 0.04


def test_an_input_without_descriptor_is_read_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed()
    os.close(feed.fileno())
    feed._fd = -1
    memory = ends_after(Memory(), 4)
    monkeypatch.setattr(Feed, "deadline", property(lambda self: 0.0))
    given = iter([batch_of(count=1), batch_of(count=3)])
    monkeypatch.setattr(feed, "receive", lambda: next(given))
    run(stack_of(Source(feed), memory))
    assert memory.got == [0, 0, 1, 2]


# -- stacks that do not start -----------------------------------------------------------------------------------------


def test_a_stack_that_fails_is_tried_again(logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "RESTART_SECS", 0.005)
    feed, memory = Feed(), Memory()
    memory.faulty, memory.fault = "open", StackError("no room")
    bad = stack_of(Source(feed), memory)
    good_feed, good = Feed(), Memory("good")
    feed.supply(batch_of(count=2))
    good_feed.supply(batch_of(count=3))
    memory.then = end

    def recover() -> None:
        if memory.calls.count("open") == 3:
            memory.faulty = ""

    monkeypatch.setattr(memory, "_called", _and_then(memory._called, recover))
    run(bad, stack_of(Source(good_feed), good))
    assert good.got == [0, 1, 2]
    assert memory.got == [0, 1]
    assert memory.calls == ["open", "close"] * 3 + ["open", "write", "close"]
    assert "stack=stack-of-memory cannot start: no room" in logged.text
    assert "1 of 2 stacks run; retrying the others every 0.005 s and at SIGHUP" in logged.text


def _and_then(first: Callable[[str], None], then: Callable[[], None]) -> Callable[[str], None]:
    def both(name: str) -> None:
        try:
            first(name)
        finally:
            then()

    return both


def test_start_says_how_many_run(logged: pytest.LogCaptureFixture) -> None:
    memories = [Memory("one"), Memory("two")]
    for memory in memories:
        memory.faulty, memory.fault = "open", RuntimeError("broken plugin")
    loop = Loop(
        [stack_of(Source(Feed()), memory) for memory in memories],
        notifier=Manager(),  # type: ignore[arg-type]
        status_secs=0,
    )
    assert loop.start() == 0
    memories[1].faulty = ""
    assert loop.start() == 1
    loop.close()
    assert "cannot start: RuntimeError: broken plugin" in logged.text


def test_a_shared_input_is_read_for_the_stack_that_runs() -> None:
    feed, bad, good = Feed(), Memory("bad"), Memory("good")
    bad.faulty = "open"
    source = Source(feed)
    stacks = [stack_of(source, bad), stack_of(source, ends_after(good, 3))]
    feed.supply(batch_of(count=3))
    run(*stacks)
    assert good.got == [0, 1, 2]
    assert "write" not in bad.calls
    assert feed.calls.count("open") == 1
    assert feed.calls.count("drain") == 1


class File(Feed):
    """What it holds was recorded earlier."""

    recorded = True


def recorded(*batches: Batch) -> File:
    file = File()
    file.held.extend(batches)
    file.ends = True
    return file


def test_it_ends_when_all_inputs_have(logged: pytest.LogCaptureFixture) -> None:
    """Nobody stops it; at the end of the other one it goes on."""
    file, feed, memory, other = recorded(batch_of(count=2), batch_of(count=3)), Feed(), Memory(), Memory("other")
    feed.supply(batch_of(count=3))
    other.then = lambda: setattr(feed, "ends", True)
    run(stack_of(Source(file), memory), stack_of(Source(feed), other))
    assert memory.got == [0, 1, 0, 1, 2]
    assert other.got == [0, 1, 2]
    assert (file.calls[-1], memory.calls[-1]) == ("close", "close")
    assert "all inputs have ended: stopping" in logged.text


def test_it_does_not_end_while_an_output_holds_something() -> None:
    file, memory = recorded(batch_of(count=2)), Memory()
    memory.then = lambda: setattr(memory.stats, "pending", 2)
    pending: list[int] = []

    def delivered() -> None:
        pending.append(memory.stats.pending)
        memory.stats.pending = 0

    timer = threading.Timer(0.1, delivered)
    timer.start()
    run(stack_of(Source(file), memory))
    assert pending == [2]
    assert memory.got == [0, 1]


def test_it_does_not_end_while_a_stack_waits_for_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "RESTART_SECS", 0.05)
    file, memory, late = recorded(), Memory(), Memory("late")
    late.faulty, tries = "open", []

    def recover() -> None:
        tries.append(late.calls[-1])
        if tries.count("open") == 3:
            late.faulty = ""

    monkeypatch.setattr(late, "_called", _and_then(late._called, recover))
    run(stack_of(Source(file), memory), stack_of(Source(recorded(batch_of(count=1))), late))
    assert late.got == [0]


def test_what_was_recorded_waits_for_its_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch at a time; a group is read all the same."""
    file, slow, quick = recorded(*(batch_of(count=1) for _ in range(20))), Memory("slow"), Memory("quick")
    feed, live = Feed(), Memory("live")
    feed.held.extend(batch_of(count=1) for _ in range(20))
    live.then = lambda: setattr(live.stats, "pending", 1)
    seen: list[tuple[int, int]] = []

    def deliver() -> None:
        seen.append((len(slow.got), len(quick.got)))
        slow.stats.pending = 0

    def hold() -> None:
        assert not slow.stats.pending, "it was given more than one batch"
        slow.stats.pending = 1
        threading.Timer(0.02, deliver).start()
        if len(slow.got) == 20:
            end()

    slow.then = hold
    source = Source(file)
    run(stack_of(source, slow), stack_of(source, quick), stack_of(Source(feed), live))
    assert len(live.got) == 20
    assert len(slow.got) == len(quick.got) == 20
    assert seen[:19] == [(n, n) for n in range(1, 20)]


def test_what_was_recorded_waits_for_all_its_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "RESTART_SECS", 0.05)
    file, late, memory = recorded(batch_of(count=3)), Memory("late"), Memory()
    late.faulty = "open"
    monkeypatch.setattr(late, "_called", _and_then(late._called, lambda: setattr(late, "faulty", "")))
    source = Source(file)
    run(stack_of(source, late), stack_of(source, memory))
    assert late.got == memory.got == [0, 1, 2]


# -- signals ----------------------------------------------------------------------------------------------------------


def test_hangup_reopens_everything_and_starts_what_failed(logged: pytest.LogCaptureFixture) -> None:
    feed, faulty_feed = Feed(), Feed("faulty")
    memory, faulty, late = Memory(), Memory("faulty"), Memory("late")
    faulty.faulty, late.faulty = "reopen", "open"
    through = Through(lambda batch: batch)
    stacks = [
        stack_of(Source(faulty_feed), faulty),
        stack_of(Source(feed), through, memory),
        stack_of(Source(Feed("of late")), late),
    ]
    reopened: list[str] = []

    def told(name: str) -> None:
        if name == "READY" and not reopened:
            late.faulty = ""
            signal.raise_signal(signal.SIGHUP)
        elif name == "READY":
            end()

    manager = run(*stacks, manager=Manager(told), reopen_log=lambda: reopened.append("log"))
    assert reopened == ["log"]
    assert "reopen" in feed.calls
    assert "reopen" in through.calls
    assert "reopen" in memory.calls
    assert late.calls == ["open", "close", "open", "close"]
    assert "faulty:MEMORY: ValueError: a fault of the test's" in logged.text
    told_states = [set(state) for state in manager.told]
    assert {"RELOADING", "MONOTONIC_USEC"} in told_states
    assert manager.told[-2]["STATUS"].startswith("3 of 3 stacks run")


def test_user_signals(logged: pytest.LogCaptureFixture) -> None:
    feed, memory = Feed(), Memory()

    def told(name: str) -> None:
        if name == "READY":
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGTERM):
                signal.raise_signal(number)

    run(stack_of(Source(feed), memory), manager=Manager(told))
    assert feed.calls.count("poll_now") == 1
    assert logged.text.count("feed:FEED: received 0, gap 0") == 2  # asked for, and at the end
    assert "memory:MEMORY of stack stack-of-memory: records 0" in logged.text


# -- targets ----------------------------------------------------------------------------------------------------------


def test_targets_are_tried_again_when_they_want_it() -> None:
    feed, memory = Feed(), Memory()
    memory.due = time.monotonic() + 0.005
    stack = stack_of(Source(feed), memory)
    memory_of_faulty = Memory("faulty")
    memory_of_faulty.due = 0.0
    memory_of_faulty.faulty = "retry"
    original = memory.retry

    def retry() -> None:
        original()
        end()

    memory.retry = retry  # type: ignore[method-assign]
    run(stack_of(Source(Feed("other")), memory_of_faulty), stack)
    assert memory.calls.count("retry") == 1
    assert memory_of_faulty.calls.count("retry") == 1


def test_a_stack_that_does_not_run_has_no_deadline() -> None:
    bad, good = Memory("bad"), ends_after(Memory("good"), 1)
    bad.faulty, bad.due = "open", 0.0
    feed = Feed()
    feed.supply(batch_of(count=1))
    run(stack_of(Source(Feed("of bad")), bad), stack_of(Source(feed), good))
    assert "retry" not in bad.calls


# -- the end ----------------------------------------------------------------------------------------------------------


def test_faults_at_the_end_cost_nobody_else_anything(logged: pytest.LogCaptureFixture) -> None:
    bad_feed, good_feed = Feed("bad"), Feed("good")
    bad_feed.late = [ValueError("cannot unbind")]
    good_feed.late = [batch_of(count=3)]
    bad, good = Memory("bad"), Memory("good")
    bad.faulty = "close"
    stacks = [stack_of(Source(bad_feed), bad), stack_of(Source(good_feed), good)]
    run(*stacks, manager=Manager(lambda name: end() if name == "READY" else None))
    assert good.got == [0, 1, 2]
    assert good.calls[-1] == "close"
    assert [bad_feed.calls[-1], good_feed.calls[-1]] == ["close", "close"]
    assert "bad:FEED: ValueError: cannot unbind; packets the kernel still held may be lost" in logged.text
    assert "close bad:MEMORY of stack stack-of-bad: ValueError" in logged.text


def test_outputs_that_wait_for_nothing_are_closed_first() -> None:
    order: list[str] = []
    slow, quick = Memory("slow"), Memory("quick")
    slow.stats.pending = 5
    for memory in (slow, quick):
        memory.close = lambda timeout=1.0, name=memory.instance: order.append(name)  # type: ignore[method-assign, misc]
    run(
        stack_of(Source(Feed()), slow),
        stack_of(Source(Feed()), quick),
        manager=Manager(lambda name: end() if name == "READY" else None),
    )
    assert order == ["quick", "slow"]


# -- what is told -----------------------------------------------------------------------------------------------------


def test_status_says_what_runs_what_waits_and_what_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "_NOTIFY_SECS", 0.001)
    feed, memory = Feed(), Memory()
    memory.faulty = "write"
    memory.stats.pending = 4
    stack = stack_of(Source(feed), memory)
    feed.supply(batch_of(count=3))
    seen: list[str] = []
    manager = Manager()

    def told(name: str) -> None:
        if name == "STATUS":
            seen.append(manager.told[-1]["STATUS"])
            if "because a plugin failed" in seen[-1]:
                end()

    manager._then = told
    run(stack, manager=manager)
    last = next(text for text in seen if "lost" in text)
    assert last == (
        "1 of 1 stacks run; feed: received 3, gap 0; memory: remembering; memory: 3 lost because a plugin failed"
    )


def test_the_watchdog_and_the_log_have_their_times(logged: pytest.LogCaptureFixture) -> None:
    manager = Manager()
    manager.watchdog_secs = 0.001

    def told(name: str) -> None:
        if name == "WATCHDOG" and logged.text.count("feed:FEED: received") >= 2:
            end()

    manager._then = told
    run(stack_of(Source(Feed()), Memory()), manager=manager, status_secs=0.002)
    assert sum("WATCHDOG" in state for state in manager.told) >= 1


def test_without_a_manager_nobody_is_woken_in_vain() -> None:
    class Nobody(Manager):
        def __bool__(self) -> bool:
            return False

    feed = Feed()
    loop = Loop([stack_of(Source(feed), Memory())], notifier=Nobody(), status_secs=0)  # type: ignore[arg-type]
    loop.start()
    loop._on_deadlines(time.monotonic())  # the first read, which every source gets
    assert loop._patience() is None
    loop.close()
    feed.close()


def test_descriptors_are_given_back() -> None:
    before = set(os.listdir("/proc/self/fd"))
    feed = Feed()
    run(stack_of(Source(feed), Memory()), manager=Manager(lambda name: end() if name == "READY" else None))
    assert set(os.listdir("/proc/self/fd")) == before
    assert select.select([], [], [], 0) == ([], [], [])


def test_signals_of_a_kind_that_come_together_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand SIGHUPs must not hold up the packets, nor the SIGTERM behind them, for a thousand reopenings."""
    loop, reopened = Loop([], notifier=Notifier(), status_secs=0), 0

    def reopen() -> None:
        nonlocal reopened
        reopened += 1

    monkeypatch.setattr(loop, "_reopen", reopen)
    try:
        os.write(loop._wake_write, bytes([signal.SIGHUP] * 1000 + [signal.SIGTERM]))
        loop._on_signals()
        assert reopened == 1
        assert loop._stop
    finally:
        loop.close()
